/*
 * What the runtime's own steps cost, without a network: tasks, scopes, cancelling. Rounds of all
 * rows are interleaved; a row shows the median of its rounds. The engine may be named: `runtime
 * epoll`.
 */
#include <weir/weir.h>

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "bench/micro/micro.h"

enum { TIMES = 2000, CHILDREN = 1000 };

static int return_at_once(void *argument)
{
    (void)argument;
    return 0;
}

static void end_at_once(void *argument)
{
    (void)argument;
}

/* ---- a row: what is done, `times` times; the nanoseconds of one ------------------------------ */

static void spawn_and_join(unsigned times)
{
    struct weir_loop *loop = weir_loop_self();
    struct weir_task *task;

    while (times-- > 0) {
        int res = weir_spawn(loop, &task, end_at_once, NULL);
        assert(!res);
        res = weir_join(task, WEIR_FOREVER);
        assert(!res);
        (void)res;
    }
}

static void scope_of_one(unsigned times)
{
    while (times-- > 0) {
        weir_scope_auto(scope, WEIR_FOREVER);
        int res = weir_scope_spawn(&scope, return_at_once, NULL);
        assert(!res);
        (void)res;
    }
}

static void scope_of_many(unsigned times)
{
    for (; times > 0; times -= CHILDREN) {
        weir_scope_auto(scope, WEIR_FOREVER);
        for (int i = 0; i < CHILDREN; i++) {
            int res = weir_scope_spawn(&scope, return_at_once, NULL);
            assert(!res);
            (void)res;
        }
    }
}

static void spawns_of_many(unsigned times)
{
    struct weir_loop *loop = weir_loop_self();
    static struct weir_task *tasks[CHILDREN];

    for (; times > 0; times -= CHILDREN) {
        for (int i = 0; i < CHILDREN; i++) {
            int res = weir_spawn(loop, &tasks[i], end_at_once, NULL);
            assert(!res);
            (void)res;
        }
        for (int i = 0; i < CHILDREN; i++)
            weir_join(tasks[i], WEIR_FOREVER);
    }
}

static void empty_scope(unsigned times)
{
    while (times-- > 0) {
        weir_scope_auto(scope, WEIR_FOREVER);
    }
}

static void turn_of_the_loop(unsigned times)
{
    while (times-- > 0)
        weir_yield();
}

/* A connection to a listener of this loop, on which nothing ever comes; and a pipe. */
static struct weir_conn *quiet;
static int quiet_fd;

static int receive(void *argument)
{
    struct weir_buf buf = {0};
    int res = weir_recv_until(quiet, &buf, WEIR_FOREVER);

    (void)argument;
    assert(res == -ECANCELED);
    return res;
}

static int await_descriptor(void *argument)
{
    int res = weir_poll(weir_loop_self(), quiet_fd, POLLIN, WEIR_FOREVER);

    (void)argument;
    assert(res == -ECANCELED);
    return res;
}

/* Spawned, waiting, cancelled, ended; the turns between are part of it. */
static void cancel_a_wait(unsigned times, weir_child_fn *wait)
{
    while (times-- > 0) {
        weir_scope_auto(scope, WEIR_FOREVER);
        int res = weir_scope_spawn(&scope, wait, NULL);
        assert(!res);
        (void)res;
        weir_yield(); /* it waits now, and the kernel knows */
        weir_scope_cancel(&scope);
    }
}

static void cancel_a_receive(unsigned times)
{
    cancel_a_wait(times, receive);
}

static void cancel_an_op(unsigned times)
{
    cancel_a_wait(times, await_descriptor);
}

static struct row {
    const char *name;
    void (*run)(unsigned times);
    double rounds[MICRO_ROUNDS];
} rows[] = {
    {"spawn + join", spawn_and_join, {0}},
    {"scope opened and closed", empty_scope, {0}},
    {"scope of one task", scope_of_one, {0}},
    {"scope of 1000 tasks, each", scope_of_many, {0}},
    {"1000 spawns and joins, each", spawns_of_many, {0}},
    {"turn of the loop (yield)", turn_of_the_loop, {0}},
    {"spawn, wait to receive, cancel, end", cancel_a_receive, {0}},
    {"spawn, op with the kernel, cancel, end", cancel_an_op, {0}},
};
enum { ROWS = sizeof rows / sizeof *rows };

/* ---- the run --------------------------------------------------------------------------------- */

static void serve_nothing(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};

    (void)argument;
    while (weir_recv(conn, &buf) > 0) {
    }
}

static void open_quiet(struct weir_loop *loop)
{
    struct weir_listen_options options = {.handler = serve_nothing};
    struct weir_listener *listener;
    struct sockaddr_storage address;
    socklen_t address_bytes = sizeof address;
    char why[256];
    int pipe_fds[2];

    if (weir_listen(loop, &listener, &options, why, sizeof why) < 0 ||
        weir_listener_address(listener, &address, &address_bytes) < 0 ||
        weir_connect(loop, &quiet, (struct sockaddr *)&address, address_bytes, WEIR_FOREVER) < 0 ||
        pipe(pipe_fds) < 0) {
        fprintf(stderr, "runtime: cannot make a quiet connection\n");
        exit(1);
    }
    quiet_fd = pipe_fds[0]; /* nobody writes to the other end */
}

static void measure(void *argument)
{
    struct weir_loop *loop = argument;

    open_quiet(loop);
    for (unsigned round = 0; round < MICRO_ROUNDS; round++)
        for (unsigned i = 0; i < ROWS; i++) {
            rows[i].run(TIMES / 2); /* its memory is warm then */
            uint64_t start_ns = micro_now_ns();
            rows[i].run(TIMES);
            rows[i].rounds[round] = (double)(micro_now_ns() - start_ns) / TIMES;
        }
    weir_conn_close(quiet);
    weir_loop_stop(loop);
}

int main(int argc, char **argv)
{
    struct weir_loop_options options = {.engine = argc > 1 ? argv[1] : NULL};
    struct weir_loop *loop;
    char why[256];

    if (weir_loop_new(&loop, &options, why, sizeof why) < 0) {
        fprintf(stderr, "runtime: %s\n", why);
        return 1;
    }
    int res = weir_spawn(loop, NULL, measure, loop);
    if (!res)
        res = weir_loop_run(loop);
    printf("engine: %s\n", weir_loop_engine(loop));
    weir_loop_free(loop);
    for (unsigned i = 0; i < ROWS && !res; i++)
        micro_print(rows[i].name, "ns", rows[i].rounds);
    return res < 0;
}
