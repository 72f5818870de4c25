/* Conformance: the bytes of one connection, their order, both of its ends, and how it fails. */
#include "conformance.h"

CONFORMANCE(echo_returns_what_was_sent)
{
    struct conf_server server = {.listen.handler = conf_echo};
    conf_start(&server);
    int fd = peer_connect(&server);
    for (unsigned i = 0; i < 50; i++)
        peer_echo(fd, 1 + i * 37, i);
    peer_close(fd);
    conf_stop(&server);
    check_int(server.stats.bytes_in, ==, server.stats.bytes_out);
}

CONFORMANCE(pipelined_bytes_come_back_in_order)
{
    struct conf_server server = {.listen.handler = conf_echo};
    conf_start(&server);
    int fd = peer_connect(&server);
    for (uint64_t at = 0; at < 1000; at++)
        peer_send_pattern(fd, 64, 7, at * 64);
    peer_recv_pattern(fd, 64000, 7, 0);
    peer_close(fd);
    conf_stop(&server);
}

CONFORMANCE(many_small_writes_come_back_in_order)
{
    struct conf_server server = {.listen.handler = conf_echo};
    conf_start(&server);
    int fd = peer_connect(&server);
    struct peer_pump pump = {.fd = fd, .bytes = conf_scale(40000), .piece_bytes = 3, .seed = 3};
    peer_pump_start(&pump);
    peer_recv_pattern(fd, pump.bytes, 3, 0);
    peer_pump_join(&pump);
    peer_close(fd);
    conf_stop(&server);
}

CONFORMANCE(bytes_that_come_one_by_one_are_answered_one_by_one)
{
    struct conf_server server = {.listen.handler = conf_echo};
    conf_start(&server);
    int fd = peer_connect(&server);
    for (unsigned i = 0; i < 300; i++) {
        peer_send_pattern(fd, 1, 5, i);
        peer_recv_pattern(fd, 1, 5, i);
    }
    peer_close(fd);
    conf_stop(&server);
}

CONFORMANCE(send_all_answers_like_send)
{
    struct conf_server server = {.listen.handler = conf_echo_copying};
    conf_start(&server);
    int fd = peer_connect(&server);
    struct peer_pump pump = {.fd = fd, .bytes = 1 << 20, .seed = 11, .shutdown = true};
    peer_pump_start(&pump);
    peer_recv_pattern(fd, pump.bytes, 11, 0);
    peer_pump_join(&pump);
    uint64_t more;
    check_int(peer_end(fd, &more), ==, 0);
    check_int(more, ==, 0);
    peer_close(fd);
    conf_stop(&server);
}

/* ---- ends ------------------------------------------------------------------------------------ */

CONFORMANCE(after_half_close_every_reply_comes_then_eof)
{
    struct conf_server server = {.listen.handler = conf_echo};
    conf_start(&server);
    int fd = peer_connect(&server);
    peer_send_pattern(fd, 100000, 1, 0);
    peer_shutdown(fd);
    peer_recv_pattern(fd, 100000, 1, 0);
    uint64_t more;
    check_int(peer_end(fd, &more), ==, 0);
    check_int(more, ==, 0);
    peer_close(fd);
    conf_stop(&server);
}

CONFORMANCE(half_close_of_an_idle_connection_closes_it)
{
    struct conf_server server = {.listen.handler = conf_echo};
    conf_start(&server);
    int silent = peer_connect(&server), spoken = peer_connect(&server);
    peer_echo(spoken, 10, 1);
    peer_shutdown(silent);
    peer_shutdown(spoken);
    check_int(peer_end(silent, NULL), ==, 0);
    check_int(peer_end(spoken, NULL), ==, 0);
    conf_await_conns(&server, 0);
    peer_close(silent);
    peer_close(spoken);
    conf_stop(&server);
    check_int(server.stats.accepted, ==, 2);
    check_int(server.stats.closed, ==, 2);
}

/* Adds up what comes, and answers once, after EOF. */
static void count_until_eof(struct weir_conn *conn, void *argument)
{
    uint64_t *total = weir_conn_state(conn);
    struct weir_buf buf = {0};
    int got;
    while ((got = weir_recv(conn, &buf)) > 0)
        *total += (uint64_t)got;
    if (got == 0)
        check_int(weir_send_all(conn, total, sizeof *total), ==, sizeof *total);
}

CONFORMANCE(a_handler_may_answer_after_eof)
{
    struct conf_server server = {
        .listen = {.handler = count_until_eof, .state_bytes = sizeof(uint64_t)}};
    conf_start(&server);
    int fd = peer_connect(&server);
    peer_send_pattern(fd, 300001, 1, 0);
    peer_shutdown(fd);
    peer_expect(fd, &(uint64_t){300001}, sizeof(uint64_t));
    check_int(peer_end(fd, NULL), ==, 0);
    peer_close(fd);
    conf_stop(&server);
}

struct farewell {
    bool said;
    uint64_t after;
};

static _Atomic uint64_t farewell_after;

static void say_bye_and_listen(struct weir_conn *conn, void *argument)
{
    struct farewell *farewell = weir_conn_state(conn);
    struct weir_buf buf = {0};
    while (weir_recv(conn, &buf) > 0) {
        if (farewell->said) {
            farewell->after += buf.len;
            continue;
        }
        farewell->said = true;
        check_int(weir_send(conn, &buf), ==, 5);
        check_int(weir_send_all(conn, "bye", 3), ==, 3);
        check_int(weir_conn_shutdown(conn), ==, 0);
    }
    farewell_after = farewell->after;
}

CONFORMANCE(shutdown_sends_fin_after_the_replies_and_receiving_goes_on)
{
    struct conf_server server = {
        .listen = {.handler = say_bye_and_listen, .state_bytes = sizeof(struct farewell)}};
    conf_start(&server);
    int fd = peer_connect(&server);
    peer_send(fd, "hello", 5);
    peer_expect(fd, "hellobye", 8);
    check_int(peer_end(fd, NULL), ==, 0);
    peer_send_pattern(fd, 50000, 1, 0);
    peer_shutdown(fd);
    conf_await_conns(&server, 0);
    check_int(farewell_after, ==, 50000);
    peer_close(fd);
    conf_stop(&server);
}

static void hand_over_much_and_close(struct weir_conn *conn, void *argument)
{
    struct weir_loop *loop = weir_conn_loop(conn);
    struct weir_buf buf = {0};
    if (weir_recv(conn, &buf) <= 0)
        return;
    for (uint64_t at = 0; at < 64; at++) {
        weir_buf_put(loop, &buf);
        check_int(weir_buf_get(loop, &buf, WEIR_FOREVER), ==, 0);
        buf.len = 4096;
        pattern_fill(buf.data, buf.len, 9, at * 4096);
        check_int(weir_send(conn, &buf), ==, 4096);
        check(buf.data == NULL || buf.len == 0 || buf.id == 0, "the buffer was not taken");
    }
    weir_conn_close(conn);
    check_int(weir_send_all(conn, "late", 4), ==, -ESHUTDOWN);
    check_int(weir_recv(conn, &buf), ==, -ESHUTDOWN);
}

CONFORMANCE(close_sends_what_was_handed_over_and_ends_later_calls)
{
    struct conf_server server = {.listen.handler = hand_over_much_and_close};
    conf_start(&server);
    int fd = peer_connect(&server);
    peer_send(fd, "go", 2);
    peer_recv_pattern(fd, 64 * 4096, 9, 0);
    uint64_t more;
    check_int(peer_end(fd, &more), ==, 0);
    check_int(more, ==, 0);
    peer_close(fd);
    conf_stop(&server);
}

static void abort_at_input(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    if (weir_recv(conn, &buf) > 0)
        weir_conn_abort(conn);
    weir_buf_put(weir_conn_loop(conn), &buf);
}

CONFORMANCE(abort_resets_the_peer)
{
    struct conf_server server = {.listen.handler = abort_at_input};
    conf_start(&server);
    int fd = peer_connect(&server);
    peer_send(fd, "x", 1);
    check_int(peer_end(fd, NULL), ==, -ECONNRESET);
    peer_close(fd);
    conf_await_conns(&server, 0);
    conf_stop(&server);
    check_int(server.stats.closed, ==, 1);
}

/* ---- failures -------------------------------------------------------------------------------- */

static _Atomic int last_result;
static _Atomic int closed_count;

static void remember_result(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    int got;
    while ((got = weir_recv(conn, &buf)) > 0)
        weir_send(conn, &buf);
    if (got != -EAGAIN)
        last_result = got;
}

static void count_closed(struct weir_conn *conn, void *argument)
{
    closed_count++;
}

CONFORMANCE(a_reset_while_idle_closes_the_connection)
{
    struct conf_server server = {.listen = {.handler = remember_result, .closed = count_closed}};
    conf_start(&server);
    last_result = -EAGAIN;
    int silent = peer_connect(&server), spoken = peer_connect(&server);
    peer_echo(spoken, 10, 1);
    conf_await_conns(&server, 2);
    peer_reset(silent);
    conf_await_conns(&server, 1);
    check(last_result == -ECONNRESET || (server.per_burst && last_result == -EAGAIN), "%d",
          last_result);
    last_result = -EAGAIN;
    peer_reset(spoken);
    conf_await_conns(&server, 0);
    check(last_result == -ECONNRESET || (server.per_burst && last_result == -EAGAIN), "%d",
          last_result);
    conf_stop(&server);
    check_int(closed_count, ==, 2);
}

static bool is_broken(int result)
{
    return result == -ECONNRESET || result == -EPIPE;
}

/* Sends until that fails; then every further call must fail, too. */
static void flood(struct weir_conn *conn, void *argument)
{
    struct weir_loop *loop = weir_conn_loop(conn);
    struct weir_buf buf = {0};
    if (weir_recv(conn, &buf) <= 0)
        return;
    int result = 0;
    while (result >= 0) {
        weir_buf_put(loop, &buf);
        check_int(weir_buf_get(loop, &buf, WEIR_FOREVER), ==, 0);
        buf.len = weir_buf_bytes(loop);
        memset(buf.data, 'f', buf.len);
        result = weir_send(conn, &buf);
    }
    int all = weir_send_all(conn, "x", 1), receive = weir_recv(conn, &buf);
    check(is_broken(result), "weir_send: %d", result);
    check(is_broken(all), "weir_send_all: %d", all);
    check(is_broken(receive), "weir_recv: %d", receive);
    last_result = result;
}

CONFORMANCE(a_reset_while_the_handler_sends_fails_its_calls)
{
    struct conf_server server = {.listen = {.handler = flood, .closed = count_closed}};
    conf_start(&server);
    for (int i = 1; i <= 10; i++) {
        int fd = peer_connect(&server);
        peer_send(fd, "x", 1);
        char data[10000];
        check_int(peer_recv(fd, data, sizeof data), ==, sizeof data);
        peer_reset(fd);
        conf_await_conns(&server, 0);
        check(is_broken(last_result), "%d", last_result);
        check_int(closed_count, ==, i);
    }
    conf_stop(&server);
}

static void flood_all(struct weir_conn *conn, void *argument)
{
    static char data[100000];
    struct weir_buf buf = {0};
    if (weir_recv(conn, &buf) <= 0)
        return;
    weir_buf_put(weir_conn_loop(conn), &buf);
    int result;
    while ((result = weir_send_all(conn, data, sizeof data)) > 0)
        check_int(result, ==, sizeof data);
    last_result = result;
}

CONFORMANCE(a_reset_while_send_all_waits_ends_it)
{
    struct conf_server server = {.listen.handler = flood_all};
    conf_start(&server);
    for (int i = 0; i < 10; i++) {
        int fd = peer_connect(&server);
        peer_send(fd, "x", 1);
        char data[10000];
        check_int(peer_recv(fd, data, sizeof data), ==, sizeof data);
        peer_reset(fd);
        conf_await_conns(&server, 0);
        check(is_broken(last_result), "%d", last_result);
    }
    conf_stop(&server);
}

static sem_t peer_is_gone, handler_has_begun;

/* Answers a peer that is gone by then: the first send may be taken, a later call must say it. */
static void answer_the_dead(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    if (weir_recv(conn, &buf) <= 0)
        return;
    sem_post(&handler_has_begun);
    while (sem_trywait(&peer_is_gone))
        check_int(weir_yield(), ==, 0);
    int result = weir_send(conn, &buf);
    for (int i = 0; i < 1000 && result >= 0; i++) {
        check_int(weir_sleep_until(weir_now_ns() + 1000000), ==, 0);
        result = weir_send_all(conn, "again", 5);
    }
    last_result = result;
}

CONFORMANCE(a_failed_hand_over_shows_at_a_later_call)
{
    sem_init(&peer_is_gone, 0, 0);
    sem_init(&handler_has_begun, 0, 0);
    struct conf_server server = {.listen.handler = answer_the_dead};
    conf_start(&server);
    int fd = peer_connect(&server);
    peer_send(fd, "x", 1);
    sem_wait(&handler_has_begun);
    peer_reset(fd);
    sem_post(&peer_is_gone);
    conf_await_conns(&server, 0);
    check(is_broken(last_result), "%d", last_result);
    conf_stop(&server);
}

/* ---- order and parts ------------------------------------------------------------------------- */

static void alternate_sends(struct weir_conn *conn, void *argument)
{
    struct weir_loop *loop = weir_conn_loop(conn);
    struct weir_buf buf = {0};
    if (weir_recv(conn, &buf) <= 0)
        return;
    weir_buf_put(loop, &buf);
    for (uint64_t at = 0; at < 300 * 1000; at += 1000) {
        check_int(weir_buf_get(loop, &buf, WEIR_FOREVER), ==, 0);
        buf.len = 700;
        pattern_fill(buf.data, 700, 4, at);
        check_int(weir_send(conn, &buf), ==, 700);
        char rest[300];
        pattern_fill(rest, 300, 4, at + 700);
        check_int(weir_send_all(conn, rest, 300), ==, 300);
    }
    weir_conn_close(conn);
}

CONFORMANCE(send_all_keeps_its_place_after_handed_over_sends)
{
    struct conf_server server = {.listen.handler = alternate_sends};
    conf_start(&server);
    int fd = peer_connect(&server);
    peer_send(fd, "x", 1);
    peer_recv_pattern(fd, 300 * 1000, 4, 0);
    check_int(peer_end(fd, NULL), ==, 0);
    peer_close(fd);
    conf_stop(&server);
}

static void send_without_brackets(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    while (weir_recv(conn, &buf) > 0) {
        if (buf.len < 2) {
            weir_conn_close(conn);
            break;
        }
        uint32_t len = buf.len - 2;
        buf.data++;
        buf.len = len;
        check_int(weir_send(conn, &buf), ==, len);
    }
    weir_buf_put(weir_conn_loop(conn), &buf);
}

CONFORMANCE(a_narrowed_buffer_sends_its_part_alone)
{
    /* As many turns as there are buffers, and more: a part must not shrink the buffer for good. */
    struct conf_server server = {.options = {.bufs = 8, .buf_bytes = 1024},
                                 .listen.handler = send_without_brackets};
    conf_start(&server);
    int fd = peer_connect(&server);
    char data[1024];
    for (uint64_t i = 0; i < 40; i++) {
        memset(data, '[', sizeof data);
        pattern_fill(data + 1, 1000, i, 0);
        data[1001] = ']';
        peer_send(fd, data, 1002);
        peer_recv_pattern(fd, 1000, i, 0);
    }
    peer_close(fd);
    conf_stop(&server);
}

/* Two bytes of length, then the body; a request is answered when it is whole, with its sum. */
struct framing {
    uint32_t have, sum;
    uint16_t length;
};

static void frame_step(struct weir_conn *conn, struct framing *frame, uint8_t byte)
{
    if (frame->have < 2)
        frame->length = (uint16_t)(frame->length << 8 | byte);
    else
        frame->sum += byte;
    if (++frame->have < 2u + frame->length || frame->have < 2)
        return;
    check_int(weir_send_all(conn, &frame->sum, 4), ==, 4);
    *frame = (struct framing){0};
}

static void serve_frames(struct weir_conn *conn, void *argument)
{
    struct framing *frame = weir_conn_state(conn);
    struct weir_buf buf = {0};
    while (weir_recv(conn, &buf) > 0)
        for (uint32_t i = 0; i < buf.len; i++)
            frame_step(conn, frame, buf.data[i]);
}

CONFORMANCE(a_request_in_pieces_goes_on_where_it_was)
{
    struct conf_server server = {
        .listen = {.handler = serve_frames, .state_bytes = sizeof(struct framing)}};
    conf_start(&server);
    int fd = peer_connect(&server);
    for (unsigned length = 0; length < 60; length++) {
        uint8_t request[64] = {0, (uint8_t)length};
        uint32_t sum = 0;
        for (unsigned i = 0; i < length; i++)
            sum += request[2 + i] = (uint8_t)(i * 7 + length);
        for (unsigned at = 0; at < length + 2; at += 1 + length / 4) {
            unsigned part = length + 2 - at < 1 + length / 4 ? length + 2 - at : 1 + length / 4;
            peer_send(fd, request + at, part);
        }
        peer_expect(fd, &sum, 4);
    }
    peer_close(fd);
    conf_stop(&server);
}

static _Atomic int waits_begun;

static void receive_then_wait(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    while (weir_recv(conn, &buf) > 0) {
        char first = (char)buf.data[0]; /* on the stack, over the wait */
        waits_begun++;
        uint64_t deadline_ns = weir_now_ns() + (first == 'w' ? 40000000000u : 3000000u);
        int got = weir_recv_until(conn, &buf, deadline_ns);
        if (got == -ETIME) {
            check_int(weir_now_ns(), >=, deadline_ns);
            check_int(weir_send_all(conn, "late", 4), ==, 4);
            continue;
        }
        if (got <= 0)
            break;
        char both[2] = {first, (char)buf.data[0]};
        check_int(weir_send_all(conn, both, 2), ==, 2);
    }
}

CONFORMANCE(recv_until_waits_in_both_modes_and_keeps_the_stack)
{
    struct conf_server server = {.listen.handler = receive_then_wait};
    conf_start(&server);
    int fd = peer_connect(&server);
    for (int i = 1; i <= 20; i++) {
        peer_send(fd, "w", 1);
        while (waits_begun < i)
            usleep(100);
        peer_send(fd, "z", 1);
        peer_expect(fd, "wz", 2);
    }
    peer_send(fd, "t", 1);
    peer_expect(fd, "late", 4);
    peer_send(fd, "t", 1);
    peer_expect(fd, "late", 4);
    peer_close(fd);
    conf_stop(&server);
}

/* ---- much ------------------------------------------------------------------------------------ */

CONFORMANCE(sixty_four_mebibytes_pass_through_one_connection)
{
    struct conf_server server = {.listen.handler = conf_echo};
    conf_start(&server);
    int fd = peer_connect(&server);
    struct peer_pump pump = {.fd = fd, .bytes = 64u << 20, .seed = 64, .shutdown = true};
    peer_pump_start(&pump);
    peer_recv_pattern(fd, pump.bytes, 64, 0);
    uint64_t more;
    check_int(peer_end(fd, &more), ==, 0);
    check_int(more, ==, 0);
    peer_pump_join(&pump);
    peer_close(fd);
    conf_stop(&server);
    check_int(server.stats.bytes_in, ==, 64u << 20);
    check_int(server.stats.bytes_out, ==, 64u << 20);
}

static void send_a_mebibyte(struct weir_conn *conn, void *argument)
{
    struct weir_loop *loop = weir_conn_loop(conn);
    struct weir_buf buf = {0};
    if (weir_recv(conn, &buf) <= 0)
        return;
    bool copying = buf.data[0] == 'c';
    uint32_t piece = weir_buf_bytes(loop);
    for (uint64_t at = 0; at < 1 << 20; at += piece) {
        weir_buf_put(loop, &buf);
        check_int(weir_buf_get(loop, &buf, WEIR_FOREVER), ==, 0);
        buf.len = piece;
        pattern_fill(buf.data, piece, 2, at);
        int sent = copying ? weir_send_all(conn, buf.data, piece) : weir_send(conn, &buf);
        check_int(sent, ==, piece);
    }
    weir_buf_put(loop, &buf);
    weir_conn_close(conn);
}

/* A small window makes every send of the server a short one. */
static void read_slowly(const char *how)
{
    struct conf_server server = {.options = {.unsent_max = 65536},
                                 .listen.handler = send_a_mebibyte};
    conf_start(&server);
    int fd = peer_connect_sized(&server, 16384, 0);
    peer_send(fd, how, 1);
    for (uint64_t at = 0; at < 1 << 20;) {
        size_t part = at + 997 < 1 << 20 ? 997 : (1 << 20) - at;
        peer_recv_pattern(fd, part, 2, at);
        at += part;
    }
    check_int(peer_end(fd, NULL), ==, 0);
    peer_close(fd);
    conf_stop(&server);
}

CONFORMANCE(a_slow_reader_gets_every_handed_over_byte)
{
    read_slowly("h");
}

CONFORMANCE(a_slow_reader_gets_every_byte_of_send_all)
{
    read_slowly("c");
}
