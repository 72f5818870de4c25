/* Conformance: handing over memory that is no buffer's. */
#include "conformance.h"

enum { PIECE_BYTES = 4096, PIECES = 100, UNSENT_MAX = 4 * PIECE_BYTES, BUFS = 64 };

static uint8_t lasting[PIECES * PIECE_BYTES]; /* written before a loop runs */

static struct weir_loop_stats stats_of(const struct weir_loop *loop)
{
    struct weir_loop_stats stats;
    weir_loop_stats(loop, &stats);
    return stats;
}

/* ---- order ----------------------------------------------------------------------------------- */

/* Every kind of send in turn, of 1, 2, 3 ... bytes; and static ones too large to be handed over. */
static void send_all_ways(struct weir_conn *conn, void *argument)
{
    struct weir_loop *loop = weir_conn_loop(conn);
    struct weir_buf buf = {0};
    uint64_t at = 0;
    if (weir_recv(conn, &buf) <= 0)
        return;
    for (uint32_t bytes = 1; at + 3 * bytes + 2 * UNSENT_MAX <= sizeof lasting; bytes++) {
        check_int(weir_buf_get(loop, &buf, WEIR_FOREVER), ==, 0);
        buf.len = bytes;
        memcpy(buf.data, lasting + at, bytes);
        check_int(weir_send(conn, &buf), ==, bytes);
        at += bytes;
        check_int(weir_send_static(conn, lasting + at, bytes), ==, bytes);
        at += bytes;
        if (bytes % 16 == 0) {
            check_int(weir_send_all(conn, lasting + at, bytes), ==, bytes);
            at += bytes;
        }
        if (bytes % 64 == 0) {
            check_int(weir_send_static(conn, lasting + at, 2 * UNSENT_MAX), ==, 2 * UNSENT_MAX);
            at += 2 * UNSENT_MAX;
            check_int(stats_of(loop).bytes_out, ==, at); /* it waited for its bytes */
        }
        check_int(weir_send_static(conn, lasting + at, 0), ==, 0);
    }
    *(uint64_t *)argument = at;
    weir_conn_close(conn);
}

CONFORMANCE(static_sends_keep_their_place_among_the_others)
{
    static uint8_t got[sizeof lasting];
    uint64_t sent = 0;
    struct conf_server server = {.options = {.unsent_max = UNSENT_MAX},
                                 .listen = {.handler = send_all_ways, .argument = &sent}};
    pattern_fill(lasting, sizeof lasting, 1, 0);
    conf_start(&server);
    int fd = peer_connect(&server);
    peer_send(fd, "x", 1);
    size_t bytes = peer_recv(fd, got, sizeof got);
    peer_close(fd);
    conf_stop(&server);
    check_int(bytes, ==, sent);
    check_int(bytes, >, 64 * 64 * 2 + 2 * UNSENT_MAX);
    pattern_check(got, bytes, 1, 0);
    check_int(server.stats.bytes_out, ==, bytes);
}

/* ---- handing over ---------------------------------------------------------------------------- */

/* The handler answers one request with so much of what lasts, and closes. */
static void expect_what_lasts(weir_handler_fn *handler, size_t bytes)
{
    struct conf_server server = {.options = {.unsent_max = UNSENT_MAX, .bufs = BUFS},
                                 .listen.handler = handler};
    pattern_fill(lasting, sizeof lasting, 1, 0);
    conf_start(&server);
    int fd = peer_connect(&server);
    peer_send(fd, "x", 1);
    peer_recv_pattern(fd, bytes, 1, 0);
    check_int(peer_end(fd, NULL), ==, 0);
    peer_close(fd);
    conf_stop(&server);
}

static void send_four_in_a_turn(struct weir_conn *conn, void *argument)
{
    struct weir_loop *loop = weir_conn_loop(conn);
    struct weir_buf buf = {0};
    if (weir_recv(conn, &buf) <= 0)
        return;
    weir_buf_put(loop, &buf);
    uint64_t turns = stats_of(loop).turns;
    for (int i = 0; i < 4; i++)
        check_int(weir_send_static(conn, lasting + i * PIECE_BYTES, PIECE_BYTES), ==, PIECE_BYTES);
    check_int(stats_of(loop).turns, ==, turns);
    weir_conn_close(conn);
}

CONFORMANCE(static_sends_are_handed_over_without_a_wait)
{
    expect_what_lasts(send_four_in_a_turn, 4 * PIECE_BYTES);
}

/* Nothing leaves before it waits, so half of the buffers would be out by then if it never did. */
static void send_much(struct weir_conn *conn, void *argument)
{
    struct weir_loop *loop = weir_conn_loop(conn);
    struct weir_buf buf = {0};
    if (weir_recv(conn, &buf) <= 0)
        return;
    weir_buf_put(loop, &buf);
    for (int i = 0; i < PIECES; i++) {
        check_int(weir_send_static(conn, lasting + i * PIECE_BYTES, PIECE_BYTES), ==, PIECE_BYTES);
        check_int(stats_of(loop).bufs_free, >=, BUFS * 5 / 8);
    }
    weir_conn_close(conn);
}

CONFORMANCE(static_sends_wait_while_too_much_is_unsent)
{
    expect_what_lasts(send_much, sizeof lasting);
}

static void send_with_the_last_buffer_held(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    while (weir_recv(conn, &buf) > 0)
        check_int(weir_send_static(conn, lasting, PIECE_BYTES), ==, PIECE_BYTES);
}

CONFORMANCE(static_sends_need_no_free_buffer)
{
    struct conf_server server = {.options = {.bufs = 1, .buf_bytes = 512},
                                 .listen.handler = send_with_the_last_buffer_held};
    pattern_fill(lasting, sizeof lasting, 1, 0);
    conf_start(&server);
    int fd = peer_connect(&server);
    for (int i = 0; i < 3; i++) {
        peer_send(fd, "x", 1);
        peer_recv_pattern(fd, PIECE_BYTES, 1, 0);
    }
    peer_close(fd);
    conf_stop(&server);
}

/* Asked with an 'x', more than a peer takes that does not read. Else an echo. */
static void flood_or_echo(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    while (weir_recv(conn, &buf) > 0) {
        if (buf.data[0] != 'x') {
            check_int(weir_send(conn, &buf), ==, 1);
            continue;
        }
        weir_buf_put(weir_conn_loop(conn), &buf);
        while (weir_send_static(conn, lasting, PIECE_BYTES) > 0)
            ;
    }
}

CONFORMANCE(static_sends_to_peers_that_do_not_read_stop_no_other_peer)
{
    enum { IDLERS = 2 * BUFS * PIECE_BYTES / UNSENT_MAX, ECHOES = 30 };
    struct conf_server server = {.options = {.unsent_max = UNSENT_MAX, .bufs = BUFS},
                                 .listen.handler = flood_or_echo};
    int idlers[IDLERS];
    char got;
    conf_start(&server);
    for (int i = 0; i < IDLERS; i++) {
        idlers[i] = peer_connect(&server);
        peer_send(idlers[i], "x", 1);
    }
    int fd = peer_connect(&server);
    for (int i = 0; i < ECHOES; i++) {
        peer_send(fd, "e", 1);
        check_int(peer_recv(fd, &got, 1), ==, 1);
        usleep(5000); /* until all of them are stuck, some time on the way */
    }
    peer_close(fd);
    for (int i = 0; i < IDLERS; i++)
        peer_close(idlers[i]);
    conf_stop(&server);
}

static _Atomic int late_result;

static void send_after_close(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    if (weir_recv(conn, &buf) <= 0)
        return;
    weir_buf_put(weir_conn_loop(conn), &buf);
    weir_conn_close(conn);
    late_result = weir_send_static(conn, lasting, 4);
}

CONFORMANCE(a_static_send_after_close_is_refused)
{
    struct conf_server server = {.listen.handler = send_after_close};
    conf_start(&server);
    int fd = peer_connect(&server);
    uint64_t bytes;
    peer_send(fd, "x", 1);
    check_int(peer_end(fd, &bytes), ==, 0);
    check_int(bytes, ==, 0);
    peer_close(fd);
    conf_stop(&server);
    check_int(late_result, ==, -ESHUTDOWN);
}
