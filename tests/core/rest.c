/* Which connections rest, and when nobody looks any more: above epoll's engine with a rest() made
 * up here; then what comes back from connections that rest and wake, above io_uring. */
#include <criterion/criterion.h>

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/loop.h"

enum { ROUND_NS = 2000000, HOUR_NS_SHIFT = 42, PATIENCE_MS = 15000, MS = 1000000 };

static const struct weir__engine_ops *real;
static struct weir__engine_ops wrapped;
static struct weir_loop *loop;
static struct weir_listener *listener;
static struct sockaddr_storage address;
static socklen_t address_bytes;

static int (*answer)(void);          /* what rest() says */
static unsigned rests_asked, recvs;  /* calls of rest(), and of submit() with a receive */
static uint8_t recv_flags;           /* of the last one */
static struct weir__op *asked_about; /* the last */

static int submit_and_note(struct weir__engine *engine, struct weir__op *op)
{
    if (op->kind == WEIR__OP_RECV) {
        recvs++;
        recv_flags = op->flags;
    }
    return real->submit(engine, op);
}

static int rest_as_planned(struct weir__engine *engine, struct weir__op *op)
{
    (void)engine;
    rests_asked++;
    asked_about = op;
    return answer();
}

static int yes(void)
{
    return 1;
}

static int never(void)
{
    return -EOPNOTSUPP;
}

static int not_before_the_third_time(void)
{
    return rests_asked >= 3;
}

static void echo(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};

    (void)argument;
    while (weir_recv(conn, &buf) > 0)
        weir_send(conn, &buf);
}

static bool open_loop(const char *engine)
{
    struct weir_loop_options options = {.engine = engine};
    struct weir_listen_options listen = {.handler = echo};
    char why[256] = "";
    int error = weir_loop_new(&loop, &options, why, sizeof why);

    if (error && getenv("WEIR_TEST_MAY_SKIP"))
        return false;
    cr_assert_eq(error, 0, "%s", why);
    cr_assert_eq(weir_listen(loop, &listener, &listen, why, sizeof why), 0, "%s", why);
    cr_assert_eq(weir_listener_address(listener, &address, &address_bytes), 0);
    loop->rest.round_ns = ROUND_NS;
    return true;
}

static void open_wrapped(int (*what)(void))
{
    cr_assert(open_loop("epoll"));
    answer = what;
    real = loop->ops;
    wrapped = *real;
    wrapped.submit = submit_and_note;
    wrapped.rest = rest_as_planned;
    loop->ops = &wrapped;
}

static void run(weir_task_fn *fn)
{
    cr_assert_eq(weir_spawn(loop, NULL, fn, NULL), 0);
    cr_assert_eq(weir_loop_run(loop), 0);
    weir_loop_free(loop);
}

static int dial(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    cr_assert_geq(fd, 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, address_bytes), 0);
    return fd;
}

/* In a task: lets the loop turn until it holds. */
#define AWAIT(condition)                                                                           \
    do {                                                                                           \
        for (int tries_ = 0; !(condition) && tries_ < PATIENCE_MS; tries_++)                       \
            weir_sleep_until(weir_now_ns() + MS);                                                  \
        cr_assert(condition);                                                                      \
    } while (0)

static void ask(int fd)
{
    char byte = 'x';

    cr_assert_eq(send(fd, &byte, 1, 0), 1);
    AWAIT(recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 1);
    cr_assert_eq(recv(fd, &byte, 1, 0), 1);
}

static bool is_looking(void)
{
    return loop->rest.timer.state != WEIR__OP_IDLE;
}

static void hang_up(int fd)
{
    close(fd);
    AWAIT(loop->conn_count == 0);
    weir_listener_close(listener);
}

static void rest_and_wake(void *argument)
{
    int fd = dial();

    (void)argument;
    AWAIT(rests_asked == 1);
    AWAIT(!is_looking());
    cr_assert_eq(rests_asked, 1, "one at rest is left in peace");
    cr_assert_eq(loop->stats.rests, 1);
    ask(fd);
    ask(fd);
    hang_up(fd);
}

Test(rest, a_quiet_connection_rests_and_then_nobody_looks_any_more)
{
    open_wrapped(yes);
    run(rest_and_wake);
}

static void wake_rarely_then_twice(void *argument)
{
    int fd = dial();

    (void)argument;
    AWAIT(rests_asked == 1);
    AWAIT(!is_looking());
    struct weir_conn *conn = weir__container(asked_about, struct weir_conn, rx);
    /* epoll holds it as it was: the next one it takes is what we look at. */
    loop->rest.round_ns = UINT64_C(1) << HOUR_NS_SHIFT;
    loop->ops->cancel(loop->engine, &conn->rx);
    conn->rested = (uint8_t)(weir__rest_round(loop) % UINT8_MAX + 1); /* another round */
    AWAIT(conn->rx.state == WEIR__OP_HELD);
    cr_assert_eq(recv_flags, WEIR__OP_REST, "woken once in this round");
    ask(fd);
    AWAIT(conn->rx.state == WEIR__OP_HELD);
    cr_assert_eq(recv_flags, WEIR__OP_MULTISHOT, "twice");
    cr_assert_eq(conn->rested, 0);
    cr_assert(is_looking());
    hang_up(fd);
}

Test(rest, one_that_wakes_stays_at_rest_until_it_wakes_twice_in_a_round)
{
    open_wrapped(yes);
    run(wake_rarely_then_twice);
}

static void lose_the_mark(void *argument)
{
    int fd = dial();

    (void)argument;
    loop->rest.round_ns = UINT64_C(1) << HOUR_NS_SHIFT;
    ask(fd);
    struct weir_conn *conn = weir__conn_at(loop, 0);
    conn->flags |= CONN_QUIET;
    ask(fd);
    cr_assert(!(conn->flags & CONN_QUIET));
    hang_up(fd);
}

Test(rest, a_connection_that_is_asked_loses_its_mark)
{
    open_wrapped(yes);
    run(lose_the_mark);
}

static void ask_until_it_may(void *argument)
{
    int fd = dial();

    (void)argument;
    AWAIT(loop->stats.rests == 1);
    cr_assert_eq(rests_asked, 3);
    hang_up(fd);
}

Test(rest, an_engine_that_cannot_now_is_asked_again)
{
    open_wrapped(not_before_the_third_time);
    run(ask_until_it_may);
}

static void be_refused(void *argument)
{
    int fd = dial();

    (void)argument;
    AWAIT(rests_asked == 1);
    AWAIT(!is_looking());
    int other = dial();
    ask(other);
    cr_assert(!is_looking());
    cr_assert_eq(rests_asked, 1);
    close(other);
    hang_up(fd);
}

Test(rest, an_engine_that_never_can_is_asked_once)
{
    open_wrapped(never);
    run(be_refused);
}

/* ---- io_uring -------------------------------------------------------------------------------- */

static sem_t ready;
static struct weir_loop_stats stats;
static bool granted;

/* A loop lives on one thread, from its making to its end. */
static void *loop_main(void *argument)
{
    bool open = open_loop(argument);

    sem_post(&ready);
    if (!open)
        return NULL;
    cr_assert_eq(weir_loop_run(loop), 0);
    weir_loop_stats(loop, &stats);
    granted = strstr(weir_loop_features(loop), "rest");
    weir_loop_free(loop);
    return NULL;
}

static void exchange(int fd, unsigned *random)
{
    char out[100], in[100];
    size_t bytes = (size_t)rand_r(random) % sizeof out + 1;

    memset(out, rand_r(random), bytes);
    cr_assert_eq(send(fd, out, bytes, 0), (ssize_t)bytes);
    cr_assert_eq(recv(fd, in, bytes, MSG_WAITALL), (ssize_t)bytes);
    cr_assert_eq(memcmp(in, out, bytes), 0);
}

static int dial_patiently(void)
{
    struct timeval patience = {.tv_sec = 20};
    int fd = dial();

    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    return fd;
}

static void rest_and_wake_at_random(const char *engine)
{
    enum { CONNS = 48, STEPS = 1500 };
    unsigned random = 7;
    int fds[CONNS];
    pthread_t thread;

    sem_init(&ready, 0, 0);
    cr_assert_eq(pthread_create(&thread, NULL, loop_main, (void *)(uintptr_t)engine), 0);
    sem_wait(&ready);
    if (!loop)
        cr_skip("io_uring is refused here");
    for (int i = 0; i < CONNS; i++)
        fds[i] = dial_patiently();
    for (int i = 0; i < STEPS; i++) {
        int which = rand_r(&random) % CONNS;
        exchange(fds[which], &random);
        if (i % 8 == 0)
            usleep((useconds_t)(rand_r(&random) % (ROUND_NS / 1000)));
        if (i % 100 == 0) { /* a new one, the old one perhaps on its way to rest */
            close(fds[which]);
            fds[which] = dial_patiently();
        }
    }
    for (int i = 0; i < CONNS; i++)
        close(fds[i]);
    weir_loop_stop(loop);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert(!granted || stats.rests > 0);
}

Test(rest, who_rests_and_wakes_gets_right_answers)
{
    if (weir_engine_summary("uring"))
        rest_and_wake_at_random("uring");
    else
        rest_and_wake_at_random("epoll");
}

Test(rest, who_rests_and_wakes_gets_right_answers_with_a_coroutine_each)
{
    if (weir_engine_summary("uring"))
        rest_and_wake_at_random("uring:per=connection");
    else
        rest_and_wake_at_random("epoll:per=connection");
}
