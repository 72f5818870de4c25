/* Conformance: the end. Stop while idle, under load, from a signal, with handlers that hang. */
#include "conformance.h"

#include <signal.h>
#include <stdio.h>

#define HOURS_NS 7200000000000u

CONFORMANCE(stop_ends_an_idle_loop_and_its_idle_connections)
{
    struct conf_server server = {.options.drain_ns = HOURS_NS, .listen.handler = conf_echo};
    conf_start(&server);
    int fds[10];
    for (int i = 0; i < 10; i++) {
        fds[i] = peer_connect(&server);
        if (i % 2)
            peer_echo(fds[i], 100, 1);
    }
    conf_await_conns(&server, 10);
    weir_loop_stop(server.loop);
    weir_loop_stop(server.loop);
    for (int i = 0; i < 10; i++) {
        check_int(peer_end(fds[i], NULL), ==, 0);
        peer_close(fds[i]);
    }
    conf_join(&server);
    int late = peer_socket(AF_INET);
    check_int(connect(late, (struct sockaddr *)&server.address, server.address_bytes), ==, -1);
    peer_close(late);
}

static void stop_now(struct conf_server *server)
{
    weir_loop_stop(server->loop);
}

static void peer_sees_the_end(struct conf_server *server)
{
    check_int(peer_end(*(int *)server->argument, NULL), ==, 0);
}

CONFORMANCE(connections_are_closed_when_the_loop_returns)
{
    int fd;
    struct conf_server server = {
        .listen.handler = conf_echo, .ended = peer_sees_the_end, .argument = &fd};
    conf_start(&server);
    fd = peer_connect(&server);
    peer_echo(fd, 100, 1);
    conf_stop(&server);
    peer_close(fd);
}

CONFORMANCE(a_loop_stopped_before_it_runs_returns_at_once)
{
    struct conf_server server = {
        .options.drain_ns = HOURS_NS, .listen.handler = conf_echo, .setup = stop_now};
    conf_start(&server);
    conf_join(&server);
}

/* ---- under load ------------------------------------------------------------------------------ */

enum { CLIENTS = 12, REPLY_PIECES = 4, PIECE_BYTES = 500 };

/* A request is a byte; its reply leaves in pieces, with waits in between. */
static void reply_in_pieces(struct weir_conn *conn, void *argument)
{
    struct weir_loop *loop = weir_conn_loop(conn);
    struct weir_buf buf = {0}, piece = {0};
    while (weir_recv(conn, &buf) > 0)
        for (uint32_t i = 0; i < buf.len; i++)
            for (uint64_t part = 0; part < REPLY_PIECES; part++) {
                check_int(weir_sleep_until(weir_now_ns() + 50000), ==, 0);
                check_int(weir_buf_get(loop, &piece, WEIR_FOREVER), ==, 0);
                piece.len = PIECE_BYTES;
                pattern_fill(piece.data, PIECE_BYTES, 1, part * PIECE_BYTES);
                check_int(weir_send(conn, &piece), ==, PIECE_BYTES);
            }
}

struct load_client {
    struct conf_server *server;
    pthread_t thread;
    _Atomic unsigned replies;
};

/* Asks again and again until the server ends; a reply that was begun must be whole. */
static void *load_main(void *argument)
{
    struct load_client *client = argument;
    int fd = peer_connect(client->server);
    char reply[REPLY_PIECES * PIECE_BYTES];
    for (;;) {
        ssize_t sent = send(fd, "?", 1, MSG_NOSIGNAL);
        size_t at = 0;
        ssize_t got = 0;
        while (at < sizeof reply && (got = recv(fd, reply + at, sizeof reply - at, 0)) > 0)
            at += (size_t)got;
        if (at < sizeof reply) {
            check(got == 0 || errno == ECONNRESET || sent < 0, "recv: errno %d", errno);
            check_int(at, ==, 0);
            break;
        }
        pattern_check(reply, sizeof reply, 1, 0);
        client->replies++;
    }
    peer_close(fd);
    return NULL;
}

static void load_start(struct load_client *clients, struct conf_server *server)
{
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = (struct load_client){.server = server};
        check_int(pthread_create(&clients[i].thread, NULL, load_main, &clients[i]), ==, 0);
    }
    for (int i = 0; i < CLIENTS; i++)
        while (clients[i].replies < 3)
            usleep(100);
}

static void load_join(struct load_client *clients)
{
    for (int i = 0; i < CLIENTS; i++)
        check_int(pthread_join(clients[i].thread, NULL), ==, 0);
}

CONFORMANCE(stop_under_load_finishes_what_was_begun)
{
    struct conf_server server = {.options.drain_ns = HOURS_NS, .listen.handler = reply_in_pieces};
    struct load_client clients[CLIENTS];
    conf_start(&server);
    load_start(clients, &server);
    weir_loop_stop(server.loop);
    load_join(clients);
    conf_join(&server);
}

static struct weir_loop *signalled_loop;
static atomic_bool signal_handled;

static void on_signal(int number)
{
    if (!atomic_exchange(&signal_handled, true)) /* once: the loop may be gone the next time */
        weir_loop_stop(signalled_loop);
}

/* Interrupts the loop itself, until the handler has run: ThreadSanitizer holds a signal back until
 * the thread's next call that it knows. A system call that the engine makes itself is none, and
 * what was held back on a coroutine that ends then is lost. */
static void signal_the_loop(struct conf_server *server)
{
    do {
        int error = pthread_kill(server->thread, SIGUSR2);
        check(error == 0 || error == ESRCH, "%d", error);
        for (int i = 0; i < 100 && !signal_handled; i++)
            usleep(100);
    } while (!signal_handled);
}

static void stop_by_signal(bool load)
{
    struct conf_server server = {.options.drain_ns = HOURS_NS, .listen.handler = reply_in_pieces};
    struct load_client clients[CLIENTS];
    conf_start(&server);
    signalled_loop = server.loop;
    struct sigaction action = {.sa_handler = on_signal};
    check_int(sigaction(SIGUSR2, &action, NULL), ==, 0);
    if (load)
        load_start(clients, &server);
    else
        usleep(2000);
    signal_the_loop(&server);
    if (load)
        load_join(clients);
    conf_join(&server);
}

CONFORMANCE(stop_from_a_signal_handler_ends_a_sleeping_loop)
{
    stop_by_signal(false);
}

CONFORMANCE(stop_from_a_signal_handler_ends_a_busy_loop)
{
    stop_by_signal(true);
}

static void ignore_signal(int number) {}

CONFORMANCE(signals_that_interrupt_the_wait_change_nothing)
{
    struct conf_server server = {.listen.handler = conf_echo};
    conf_start(&server);
    struct sigaction action = {.sa_handler = ignore_signal};
    check_int(sigaction(SIGUSR2, &action, NULL), ==, 0);
    int fd = peer_connect(&server);
    for (unsigned i = 0; i < 100; i++) {
        check_int(pthread_kill(server.thread, SIGUSR2), ==, 0);
        peer_echo(fd, 300, i);
    }
    peer_close(fd);
    conf_stop(&server);
}

/* ---- what does not end by itself ------------------------------------------------------------- */

static _Atomic int stuck_result, stuck_runs;

static void hang_asleep(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    if (weir_recv(conn, &buf) <= 0)
        return;
    stuck_runs++;
    stuck_result = weir_sleep_until(WEIR_FOREVER);
    weir_buf_put(weir_conn_loop(conn), &buf);
}

static void hang_sending(struct weir_conn *conn, void *argument)
{
    static char data[1 << 20];
    struct weir_buf buf = {0};
    if (weir_recv(conn, &buf) <= 0)
        return;
    stuck_runs++;
    int result;
    while ((result = weir_send_all(conn, data, sizeof data)) > 0)
        ;
    stuck_result = result;
    weir_buf_put(weir_conn_loop(conn), &buf);
}

static void hang_handing_over(struct weir_conn *conn, void *argument)
{
    struct weir_loop *loop = weir_conn_loop(conn);
    struct weir_buf buf = {0};
    if (weir_recv(conn, &buf) <= 0)
        return;
    stuck_runs++;
    int result = 0;
    while (result >= 0) {
        weir_buf_put(loop, &buf);
        result = weir_buf_get(loop, &buf, WEIR_FOREVER);
        if (result < 0)
            break;
        buf.len = weir_buf_bytes(loop);
        memset(buf.data, 'h', buf.len);
        result = weir_send(conn, &buf);
    }
    stuck_result = result;
}

static void drain_ends(weir_handler_fn *handler)
{
    struct conf_server server = {.options = {.drain_ns = 30000000}, .listen.handler = handler};
    conf_start(&server);
    int fd = peer_connect_sized(&server, 4096, 0);
    peer_send(fd, "x", 1);
    while (!stuck_runs)
        usleep(200);
    uint64_t stop_ns = weir_now_ns();
    conf_stop(&server);
    check_int(weir_now_ns(), >=, stop_ns + 30000000);
    check_int(stuck_result, ==, -ECANCELED);
    peer_close(fd);
}

CONFORMANCE(a_handler_that_sleeps_on_is_cancelled_when_the_drain_is_over)
{
    drain_ends(hang_asleep);
}

CONFORMANCE(a_handler_that_sends_on_is_cancelled_when_the_drain_is_over)
{
    drain_ends(hang_sending);
}

CONFORMANCE(a_handler_that_hands_over_on_is_cancelled_when_the_drain_is_over)
{
    drain_ends(hang_handing_over);
}

static void hang_receiving(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    if (weir_recv(conn, &buf) <= 0)
        return;
    stuck_runs++;
    stuck_result = weir_recv_until(conn, &buf, WEIR_FOREVER);
}

CONFORMANCE(a_handler_that_waits_for_input_is_cancelled_at_once)
{
    struct conf_server server = {.options.drain_ns = HOURS_NS, .listen.handler = hang_receiving};
    conf_start(&server);
    int fd = peer_connect(&server);
    peer_send(fd, "x", 1);
    while (!stuck_runs)
        usleep(200);
    conf_stop(&server);
    check_int(stuck_result, ==, -ECANCELED);
    check_int(peer_end(fd, NULL), ==, 0);
    peer_close(fd);
}

static void sleep_then_receive(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    if (weir_recv(conn, &buf) <= 0)
        return;
    stuck_runs++;
    check_int(weir_sleep_until(WEIR_FOREVER), ==, -ECANCELED);
    stuck_result = weir_recv(conn, &buf);
    weir_buf_put(weir_conn_loop(conn), &buf);
}

CONFORMANCE(what_a_peer_sends_past_the_drain_is_not_received)
{
    struct conf_server server = {.options = {.drain_ns = 30000000},
                                 .listen.handler = sleep_then_receive};
    conf_start(&server);
    int fd = peer_connect(&server);
    peer_send(fd, "x", 1);
    while (!stuck_runs)
        usleep(200);
    peer_send(fd, "more", 4);
    struct weir_loop_stats stats;
    do
        conf_stats(&server, &stats);
    while (stats.bytes_in < 5);
    conf_stop(&server);
    check_int(stuck_result, ==, -ECANCELED);
    peer_close(fd);
}

static void cancel_everything(void *argument)
{
    weir_loop_stop_now(argument);
}

CONFORMANCE(stop_now_does_not_wait_for_the_drain)
{
    struct conf_server server = {.options.drain_ns = HOURS_NS, .listen.handler = hang_asleep};
    conf_start(&server);
    int fd = peer_connect(&server);
    peer_send(fd, "x", 1);
    while (!stuck_runs)
        usleep(200);
    weir_loop_stop(server.loop);
    conf_call(&server, cancel_everything, server.loop);
    conf_join(&server);
    check_int(stuck_result, ==, -ECANCELED);
    peer_close(fd);
}

static void sleep_on(void *argument)
{
    stuck_result = weir_sleep_until(WEIR_FOREVER);
    stuck_runs++;
    check_int(weir_spawn(weir_loop_self(), NULL, sleep_on, NULL), ==, -ECANCELED);
    check_int(weir_yield(), ==, -ECANCELED); /* and so does every wait to come */
}

static void spawn_sleeper(struct conf_server *server)
{
    for (int i = 0; i < 5; i++)
        check_int(weir_spawn(server->loop, NULL, sleep_on, NULL), ==, 0);
}

CONFORMANCE(spawned_tasks_are_cancelled_when_the_drain_is_over)
{
    struct conf_server server = {.options.drain_ns = 20000000, .setup = spawn_sleeper};
    conf_start(&server);
    usleep(2000);
    conf_stop(&server);
    check_int(stuck_runs, ==, 5);
    check_int(stuck_result, ==, -ECANCELED);
}

/* ---- handed-over bytes at the end ------------------------------------------------------------ */

static void hand_over_half_a_mebibyte(struct weir_conn *conn, void *argument)
{
    struct weir_loop *loop = weir_conn_loop(conn);
    struct weir_buf buf = {0}, piece = {0};
    while (weir_recv(conn, &buf) > 0) {
        for (uint64_t at = 0; at < 512 * 1024; at += 4096) {
            check_int(weir_buf_get(loop, &piece, WEIR_FOREVER), ==, 0);
            piece.len = 4096;
            pattern_fill(piece.data, 4096, 5, at);
            check_int(weir_send(conn, &piece), ==, 4096);
        }
        stuck_runs++;
    }
}

CONFORMANCE(bytes_handed_over_before_the_stop_still_arrive)
{
    struct conf_server server = {.options = {.drain_ns = HOURS_NS, .unsent_max = 1 << 20},
                                 .listen.handler = hand_over_half_a_mebibyte};
    conf_start(&server);
    int fd = peer_connect_sized(&server, 8192, 0);
    peer_send(fd, "x", 1);
    while (!stuck_runs)
        usleep(200);
    weir_loop_stop(server.loop);
    peer_recv_pattern(fd, 512 * 1024, 5, 0);
    check_int(peer_end(fd, NULL), ==, 0);
    peer_close(fd);
    conf_join(&server);
}

/* ---- what has come by then ------------------------------------------------------------------- */

struct pause {
    sem_t begun, over;
};

static void hold_the_loop(void *argument)
{
    struct pause *pause = argument;
    sem_post(&pause->begun);
    while (sem_wait(&pause->over) < 0) {
    }
}

struct holder {
    struct conf_server *server;
    struct pause *pause;
    pthread_t thread;
};

static void *hold(void *argument)
{
    struct holder *holder = argument;
    conf_call(holder->server, hold_the_loop, holder->pause);
    return NULL;
}

CONFORMANCE(what_has_come_into_the_sockets_before_the_stop_is_answered)
{
    enum { CONNS = 20 };
    struct conf_server server = {.listen.handler = conf_echo};
    struct pause pause;
    struct holder holder = {.server = &server, .pause = &pause};
    int fds[CONNS];
    sem_init(&pause.begun, 0, 0);
    sem_init(&pause.over, 0, 0);
    conf_start(&server);
    for (int i = 0; i < CONNS; i++) {
        fds[i] = peer_connect(&server);
        peer_echo(fds[i], 10, (uint64_t)i);
    }
    check_int(pthread_create(&holder.thread, NULL, hold, &holder), ==, 0);
    while (sem_wait(&pause.begun) < 0) {
    }
    for (int i = 0; i < CONNS; i++)
        peer_send(fds[i], "last", 4);
    for (int i = 0; i < CONNS; i++)
        peer_await_arrival(fds[i]);
    weir_loop_stop(server.loop);
    sem_post(&pause.over);
    pthread_join(holder.thread, NULL);
    conf_join(&server);
    for (int i = 0; i < CONNS; i++) {
        peer_expect(fds[i], "last", 4);
        check_int(peer_end(fds[i], NULL), ==, 0);
        peer_close(fds[i]);
    }
}
