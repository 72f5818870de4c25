/* Conformance: what is scarce. Buffers, unsent bytes, a turn's time: bounded, shared, and no loss.
 */
#include "conformance.h"

#include <fcntl.h>
#include <poll.h>

enum { SOCKET_BYTES = 65536 };

/* A server whose accepted sockets have small buffers, so that pressure builds up soon. */
static void start_narrow(struct conf_server *server, int receive_bytes)
{
    server->listen.fd = peer_listen(&server->address, &server->address_bytes, 128, receive_bytes);
    conf_start(server);
}

CONFORMANCE(a_client_that_does_not_read_is_waited_for_and_loses_nothing)
{
    struct conf_server server = {
        .options = {.bufs = 256, .buf_bytes = 4096, .unsent_max = SOCKET_BYTES},
        .listen.handler = conf_echo};
    start_narrow(&server, SOCKET_BYTES);
    int deaf = peer_connect_sized(&server, SOCKET_BYTES, SOCKET_BYTES);
    int other = peer_connect(&server);
    struct peer_pump pump = {.fd = deaf, .bytes = 8 << 20, .seed = 8};
    peer_pump_start(&pump);
    /* The others are served, and it stalls: nothing moves over a hundred turns. */
    struct weir_loop_stats stats;
    uint64_t others = 0;
    for (unsigned still = 0, i = 0; still < 100; i++) {
        size_t sent = pump.sent;
        peer_echo(other, 100, i);
        others += 100;
        usleep(200);
        still = sent == pump.sent ? still + 1 : 0;
    }
    check_int(pump.sent, <, pump.bytes);
    conf_stats(&server, &stats);
    check_int(stats.bytes_in - stats.bytes_out, <=, 256 * 4096); /* the pool, and no more */
    peer_recv_pattern(deaf, pump.bytes, 8, 0);
    peer_pump_join(&pump);
    conf_stats(&server, &stats);
    check_int(stats.bytes_in, ==, pump.bytes + others);
    peer_close(deaf);
    peer_close(other);
    conf_stop(&server);
}

CONFORMANCE(large_messages_on_many_connections_all_come_back)
{
    enum { PEERS = 24, BYTES = 1 << 20 };
    struct conf_server server = {.listen.handler = conf_echo};
    struct peer_pump pumps[PEERS];
    conf_start(&server);
    for (size_t i = 0; i < PEERS; i++) {
        pumps[i] = (struct peer_pump){.fd = peer_connect(&server), .bytes = BYTES, .seed = i};
        peer_pump_start(&pumps[i]);
    }
    for (size_t i = 0; i < PEERS; i++) {
        peer_recv_pattern(pumps[i].fd, BYTES, i, 0);
        peer_pump_join(&pumps[i]);
        peer_close(pumps[i].fd);
    }
    conf_stop(&server);
}

CONFORMANCE(clients_that_do_not_read_leave_when_they_reset)
{
    struct conf_server server = {
        .options = {.bufs = 256, .buf_bytes = 4096, .unsent_max = SOCKET_BYTES},
        .listen.handler = conf_echo};
    start_narrow(&server, SOCKET_BYTES);
    int deaf[4];
    for (int i = 0; i < 4; i++) {
        deaf[i] = peer_connect_sized(&server, SOCKET_BYTES, SOCKET_BYTES);
        fcntl(deaf[i], F_SETFL, O_NONBLOCK);
    }
    char data[8192] = {0};
    for (int round = 0; round < 200; round++)
        for (int i = 0; i < 4; i++)
            while (send(deaf[i], data, sizeof data, MSG_NOSIGNAL) > 0)
                ;
    for (int i = 0; i < 4; i++)
        peer_reset(deaf[i]);
    conf_await_conns(&server, 0);
    int fd = peer_connect(&server);
    peer_echo(fd, 1000, 1);
    peer_close(fd);
    conf_stop(&server);
}

static _Atomic unsigned all_handed_over;

/* Hands over more than the sockets hold, so that some of it is unsent whatever the peer does. */
static void hand_over_too_much(struct weir_conn *conn, void *argument)
{
    struct weir_loop *loop = weir_conn_loop(conn);
    struct weir_buf buf = {0};
    if (weir_recv(conn, &buf) <= 0)
        return;
    int small = 4096;
    check_int(setsockopt(weir_conn_fd(conn), SOL_SOCKET, SO_SNDBUF, &small, sizeof small), ==, 0);
    for (int i = 0; i < 64; i++) {
        weir_buf_put(loop, &buf);
        check_int(weir_buf_get(loop, &buf, WEIR_FOREVER), ==, 0);
        buf.len = 16384;
        memset(buf.data, 'f', buf.len);
        check_int(weir_send(conn, &buf), ==, 16384);
    }
    all_handed_over++;
    /* 0 where the kernel told a send of the reset first: to a receive it is the end, then. */
    check_int(weir_recv_until(conn, &buf, WEIR_FOREVER), <=, 0);
}

CONFORMANCE(a_connection_that_fails_with_bytes_unsent_is_one_send_error)
{
    struct conf_server server = {
        .options = {.bufs = 256, .buf_bytes = 16384, .unsent_max = 64 * 16384},
        .listen.handler = hand_over_too_much};
    conf_start(&server);
    for (unsigned i = 1; i <= 10; i++) {
        int fd = peer_connect_sized(&server, 4096, 0);
        peer_send(fd, "x", 1);
        while (all_handed_over < i)
            usleep(200);
        peer_reset(fd);
        conf_await_conns(&server, 0);
    }
    conf_stop(&server);
    check_int(server.stats.send_errors, ==, 10);
}

/* ---- a loop that stands still ------------------------------------------------------------------
 */

static sem_t gate_closed, gate;

static void wait_at_the_gate(struct weir_post *post)
{
    sem_post(&gate_closed);
    sem_wait(&gate);
}

static void hold_the_loop(struct conf_server *server)
{
    static struct weir_post post = {.fn = wait_at_the_gate};
    sem_init(&gate_closed, 0, 0);
    sem_init(&gate, 0, 0);
    check_int(weir_post(server->loop, &post), ==, 0);
    sem_wait(&gate_closed);
}

static void let_the_loop_go(void)
{
    sem_post(&gate);
}

/* ---- few buffers ----------------------------------------------------------------------------- */

enum { MANY = 48, REQUEST_BYTES = 20000 };

static void everyone_asks(struct conf_server *server, struct peer_pump *pumps)
{
    for (unsigned i = 0; i < MANY; i++) {
        pumps[i] =
            (struct peer_pump){.fd = peer_connect(server), .bytes = REQUEST_BYTES, .seed = i};
        peer_pump_start(&pumps[i]);
    }
}

static void everyone_is_served(struct peer_pump *pumps)
{
    for (unsigned i = MANY; i-- > 0;) {
        peer_recv_pattern(pumps[i].fd, REQUEST_BYTES, i, 0);
        peer_pump_join(&pumps[i]);
        peer_close(pumps[i].fd);
    }
}

CONFORMANCE(four_buffers_serve_many_connections)
{
    struct conf_server server = {.options = {.bufs = 4, .buf_bytes = 1024},
                                 .listen.handler = conf_echo};
    struct peer_pump pumps[MANY];
    conf_start(&server);
    everyone_asks(&server, pumps);
    everyone_is_served(pumps);
    conf_stop(&server);
    check_int(server.stats.bytes_in, ==, MANY * REQUEST_BYTES);
    check_int(server.stats.bytes_out, ==, MANY * REQUEST_BYTES);
}

static void echo_lazily(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    while (weir_recv(conn, &buf) > 0) {
        for (int i = 0; i < 3; i++)
            weir_yield(); /* with the buffer in its hands */
        weir_send(conn, &buf);
    }
}

CONFORMANCE(a_pool_that_runs_out_is_counted_and_everyone_is_served)
{
    struct conf_server server = {.options = {.bufs = 4, .buf_bytes = 1024},
                                 .listen.handler = echo_lazily};
    struct peer_pump pumps[MANY];
    conf_start(&server);
    /* The loop stands still until all that is asked is there, so they all want buffers at once. */
    hold_the_loop(&server);
    everyone_asks(&server, pumps);
    for (unsigned i = 0; i < MANY; i++)
        while (pumps[i].sent < REQUEST_BYTES)
            usleep(200);
    let_the_loop_go();
    everyone_is_served(pumps);
    conf_stop(&server);
    check_int(server.stats.bytes_in, ==, MANY * REQUEST_BYTES);
    check_int(server.stats.starved + server.stats.enobufs, >, 0);
}

CONFORMANCE(one_buffer_is_enough)
{
    struct conf_server server = {.options = {.bufs = 1, .buf_bytes = 512},
                                 .listen.handler = echo_lazily};
    conf_start(&server);
    int one = peer_connect(&server), two = peer_connect(&server);
    peer_send_pattern(one, 5000, 1, 0);
    peer_send_pattern(two, 5000, 2, 0);
    peer_recv_pattern(two, 5000, 2, 0);
    peer_recv_pattern(one, 5000, 1, 0);
    peer_close(one);
    peer_close(two);
    conf_stop(&server);
}

static void receive_without_returning(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    uint64_t *total = weir_conn_state(conn);
    while (weir_recv(conn, &buf) > 0) { /* it returns the last one itself */
        *total += buf.len;
        if (*total == 100000)
            check_int(weir_send_all(conn, "all", 3), ==, 3);
    }
}

CONFORMANCE(receiving_again_returns_the_buffer_before)
{
    struct conf_server server = {
        .options = {.bufs = 2, .buf_bytes = 512},
        .listen = {.handler = receive_without_returning, .state_bytes = sizeof(uint64_t)}};
    conf_start(&server);
    int fd = peer_connect(&server);
    peer_send_pattern(fd, 100000, 1, 0);
    peer_expect(fd, "all", 3);
    peer_close(fd);
    conf_stop(&server);
}

/* ---- weir_buf_get() -------------------------------------------------------------------------- */

struct getter {
    struct weir_task *task;
    int result;
};

static void get_one(void *argument)
{
    struct getter *getter = argument;
    struct weir_loop *loop = weir_loop_self();
    struct weir_buf buf = {0};
    getter->result = weir_buf_get(loop, &buf, WEIR_FOREVER);
    if (getter->result == 0) {
        check_int(weir_yield(), ==, 0);
        weir_buf_put(loop, &buf);
        check(buf.id == 0, "a returned buffer is still held");
    }
}

/* How many of the 4 a task can have at once is the engine's affair: the kernel may hold some. */
static unsigned get_all(struct weir_buf *held)
{
    struct weir_loop *loop = weir_loop_self();
    unsigned count = 0;
    for (;;) {
        struct weir_buf buf = {0};
        uint64_t deadline_ns = weir_now_ns() + 2000000;
        int result = weir_buf_get(loop, &buf, deadline_ns);
        if (result == -ETIME) {
            check_int(weir_now_ns(), >=, deadline_ns);
            check(buf.id == 0, "a failed weir_buf_get() gave a buffer");
            return count;
        }
        check_int(result, ==, 0);
        check_int(count, <, 4);
        memset(buf.data, 0xee, 2048);
        held[count++] = buf;
    }
}

static void get_all_then_return(void *argument)
{
    struct weir_loop *loop = weir_loop_self();
    struct weir_buf held[4] = {{0}}, one_more = {0};
    check_int(weir_buf_bytes(loop), ==, 2048);
    unsigned count = get_all(held);
    check_int(count, >=, 1);
    check_int(weir_buf_get(loop, &one_more, 0), ==, -ETIME);

    struct getter getters[3];
    for (int i = 0; i < 3; i++) {
        getters[i].result = 1;
        check_int(weir_spawn(loop, &getters[i].task, get_one, &getters[i]), ==, 0);
    }
    conf_settle();
    for (int i = 0; i < 3; i++)
        check_int(getters[i].result, ==, 1);
    weir_buf_put(loop, &held[0]);
    for (int i = 0; i < 3; i++) {
        check_int(weir_join(getters[i].task, WEIR_FOREVER), ==, 0);
        check_int(getters[i].result, ==, 0);
    }
    for (unsigned i = 1; i < count; i++)
        weir_buf_put(loop, &held[i]);
    weir_buf_put(loop, &one_more); /* holds none: allowed */
}

CONFORMANCE(buf_get_waits_while_all_are_lent)
{
    conf_run(&(struct weir_loop_options){.bufs = 4, .buf_bytes = 2048}, get_all_then_return, NULL);
}

enum { FLOODS = 16, RESERVE_BUFS = 16 };

static _Atomic bool may_read;

static void read_late(struct weir_conn *conn, void *argument)
{
    while (!may_read)
        check_int(weir_sleep_until(weir_now_ns() + 1000000), ==, 0);
    conf_discard(conn, argument);
}

static void get_beside_a_flood(void *argument)
{
    struct weir_buf buf = {0};
    *(int *)argument =
        weir_buf_get(weir_loop_self(), &buf, weir_now_ns() + PEER_SECONDS / 2 * 1000000000ull);
    weir_buf_put(weir_loop_self(), &buf);
    may_read = true;
}

static void spawn_getter(void *argument)
{
    check_int(weir_spawn(weir_loop_self(), NULL, get_beside_a_flood, argument), ==, 0);
}

CONFORMANCE(unread_input_leaves_buffers_to_handlers)
{
    struct conf_server server = {.options = {.bufs = RESERVE_BUFS, .buf_bytes = 512},
                                 .listen.handler = read_late};
    conf_start(&server);
    int fds[FLOODS], result = 1;
    static const char data[8192];
    for (int i = 0; i < FLOODS; i++) {
        fds[i] = peer_connect(&server);
        peer_send(fds[i], data, sizeof data);
    }
    struct weir_loop_stats stats;
    do /* until someone finds none */
        conf_stats(&server, &stats);
    while (!stats.starved);
    conf_call(&server, spawn_getter, &result);
    for (int i = 0; i < FLOODS; i++) {
        peer_shutdown(fds[i]);
        check_int(peer_end(fds[i], NULL), ==, 0);
        peer_close(fds[i]);
    }
    conf_stop(&server);
    check_int(result, ==, 0);
}

/* ---- fairness -------------------------------------------------------------------------------- */

enum { QUIET = 8 };

static _Atomic unsigned loud_messages; /* received since the gate opened */
static _Atomic unsigned quiet_seen[QUIET + 1];
static _Atomic bool gate_open;

/* The first byte of a message says who sends it: 0 is the loud one, who gets no answers. */
static void loud_or_quiet(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    while (weir_recv(conn, &buf) > 0) {
        uint8_t who = buf.data[0];
        if (who == 0 && gate_open) {
            loud_messages++;
        } else {
            if (gate_open)
                quiet_seen[who] = loud_messages + 1;
            weir_send(conn, &buf);
        }
    }
}

CONFORMANCE(a_loud_peer_leaves_the_quiet_ones_their_turns)
{
    struct conf_server server = {.options = {.bufs = 64, .buf_bytes = 512},
                                 .listen.handler = loud_or_quiet};
    start_narrow(&server, 1 << 20);
    int loud = peer_connect_sized(&server, 0, 1 << 20), quiet[QUIET];
    char data[4096] = {0};
    peer_send(loud, data, 1);
    peer_expect(loud, data, 1);
    for (int i = 0; i < QUIET; i++) {
        quiet[i] = peer_connect(&server);
        peer_send(quiet[i], &(char){(char)(i + 1)}, 1);
        peer_expect(quiet[i], &(char){(char)(i + 1)}, 1);
    }
    /* While the loop stands still, the loud peer fills its socket and every quiet one asks. */
    hold_the_loop(&server);
    size_t queued = 0;
    for (ssize_t sent; (sent = send(loud, data, sizeof data, MSG_DONTWAIT)) > 0;)
        queued += (size_t)sent;
    for (int i = 0; i < QUIET; i++)
        peer_send(quiet[i], &(char){(char)(i + 1)}, 1);
    for (int i = 0; i < QUIET; i++)
        peer_await_arrival(quiet[i]);
    gate_open = true;
    let_the_loop_go();
    for (int i = 0; i < QUIET; i++)
        peer_expect(quiet[i], &(char){(char)(i + 1)}, 1);
    unsigned messages = (unsigned)(queued / 512);
    check_int(messages, >=, 200);
    for (int i = 1; i <= QUIET; i++)
        check(quiet_seen[i] - 1 <= messages / 2, "quiet %d came after %u of %u loud messages", i,
              quiet_seen[i] - 1, messages);
    peer_close(loud);
    for (int i = 0; i < QUIET; i++)
        peer_close(quiet[i]);
    conf_await_conns(&server, 0);
    conf_stop(&server);
}
