/* Conformance: an engine that breaks. The system call it waits by fails from some turn on, as when
 * a filter is put on a running process; the loop ends with that error and can be freed. */
#include "conformance.h"

#include <sys/syscall.h>

#include "tests/uring/seccomp.h"

/* What engines wait by. Some architectures have only the newer ones. */
static const long waits[] = {
#ifdef __NR_epoll_wait
    __NR_epoll_wait,
#endif
#ifdef __NR_poll
    __NR_poll,
#endif
#ifdef __NR_select
    __NR_select,
#endif
    __NR_epoll_pwait, __NR_epoll_pwait2, __NR_ppoll, __NR_pselect6, __NR_io_uring_enter,
};

enum { CONNS = 4 };

static unsigned closed_count, posts_run, calls_ended, ends_seen;
static sem_t began, broken;

static void break_engine(void)
{
    for (size_t i = 0; i < sizeof waits / sizeof *waits; i++)
        seccomp_fail(waits[i], EPERM, SECCOMP_ANY, 0);
}

static void break_by_post(struct weir_post *post)
{
    break_engine();
    posts_run++;
    sem_post(&broken);
}

static int slow_call(void *argument)
{
    sem_post(&began);
    sem_wait(&broken);
    usleep(20000); /* it most likely ends after the loop has */
    calls_ended++;
    return 0;
}

/* Its first byte says how a handler is to be found: with a buffer in its hands, in a wait. */
static void wait_somehow(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    static char data[8 << 20];
    if (weir_recv(conn, &buf) <= 0)
        return;
    sem_post(&began);
    switch (buf.data[0]) {
    case '0':
        weir_sleep_until(WEIR_FOREVER);
        break;
    case '1':
        weir_send_all(conn, data, sizeof data);
        break;
    case '2':
        weir_blocking(slow_call, NULL, WEIR_FOREVER);
        break;
    default:
        weir_recv_until(conn, &buf, WEIR_FOREVER);
    }
    check(false, "a task ran on after its engine had broken");
}

/* The first that sees its peer's end breaks the engine, in the turn that closes the others, too. */
static void break_at_the_end(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    if (weir_recv(conn, &buf) == 0 && ends_seen++ == 0)
        break_engine();
}

static void count_closed(struct weir_conn *conn, void *argument)
{
    closed_count++;
}

static struct conf_server server = {
    .listen = {.closed = count_closed},
    .address_bytes = sizeof server.address,
};

/* On a thread of its own, for the filter is for good. */
static void *loop_main(void *argument)
{
    struct weir_loop_options options = {.engine = conf_spec()};
    struct weir_post late = {.fn = break_by_post};
    char why[512] = "";

    check(weir_loop_new(&server.loop, &options, why, sizeof why) == 0, "%s", why);
    check(weir_listen(server.loop, &server.listener, &server.listen, why, sizeof why) == 0, "%s",
          why);
    check_int(weir_listener_address(server.listener, &server.address, &server.address_bytes), ==,
              0);
    sem_post(&server.ready);
    check_int(weir_loop_run(server.loop), ==, -EPERM);
    check_int(weir_post(server.loop, &late), ==, -ESHUTDOWN);
    weir_loop_stats(server.loop, &server.stats);
    weir_loop_free(server.loop);
    return NULL;
}

static void start(weir_handler_fn *handler)
{
    if (syscall(SYS_seccomp, -1, 0, NULL) < 0 && errno == ENOSYS) /* as under Valgrind 3.19 */
        cr_skip("there is no seccomp() here");
    server.listen.handler = handler;
    sem_init(&began, 0, 0);
    sem_init(&broken, 0, 0);
    sem_init(&server.ready, 0, 0);
    check_int(pthread_create(&server.thread, NULL, loop_main, NULL), ==, 0);
    sem_wait(&server.ready);
}

static void expect_closed(const int *fds)
{
    check_int(closed_count, ==, CONNS);
    for (int i = 0; i < CONNS; i++) {
        check(peer_end(fds[i], NULL) <= 0, "the socket is closed");
        peer_close(fds[i]);
    }
}

CONFORMANCE(a_loop_whose_engine_breaks_returns_the_error_and_is_freed)
{
    static struct weir_post post = {.fn = break_by_post};
    int fds[CONNS];

    start(wait_somehow);
    for (int i = 0; i < CONNS; i++) {
        fds[i] = peer_connect(&server);
        peer_send(fds[i], &(char){(char)('0' + i)}, 1);
    }
    for (int i = 0; i < CONNS + 1; i++) /* each handler, and the call */
        sem_wait(&began);
    check_int(weir_post(server.loop, &post), ==, 0);
    check_int(pthread_join(server.thread, NULL), ==, 0);
    check_int(posts_run, ==, 1);
    check_int(server.stats.conns, ==, CONNS);
    check_int(calls_ended, ==, 1);
    expect_closed(fds);
}

static void end_all(void *argument)
{
    const int *fds = argument;
    for (int i = 0; i < CONNS; i++)
        peer_shutdown(fds[i]);
}

CONFORMANCE(connections_that_close_as_the_engine_breaks_are_closed)
{
    int fds[CONNS];

    start(break_at_the_end);
    for (int i = 0; i < CONNS; i++)
        fds[i] = peer_connect(&server);
    conf_await_conns(&server, CONNS);
    conf_call(&server, end_all, fds);
    check_int(pthread_join(server.thread, NULL), ==, 0);
    check_int(ends_seen, >, 0);
    expect_closed(fds);
}
