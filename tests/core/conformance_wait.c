/* Conformance: the waits that are not on connections of a listener: connect, poll, calls. */
#include "conformance.h"

#include <fcntl.h>
#include <poll.h>

/* ---- connect --------------------------------------------------------------------------------- */

enum { CLIENTS = 20 };

struct client {
    struct conf_server *server;
    unsigned number;
};

static _Atomic unsigned clients_done;

/* Sends a pattern in lent buffers and reads it back, as a server's handler would. */
static void echo_as_client(void *argument)
{
    struct client *client = argument;
    struct weir_loop *loop = weir_loop_self();
    struct weir_conn *conn;
    check_int(weir_connect(loop, &conn, (struct sockaddr *)&client->server->address,
                           client->server->address_bytes, WEIR_FOREVER),
              ==, 0);
    check(weir_conn_find(loop, weir_conn_id(conn)) == conn, "not found by its number");
    uint64_t number = weir_conn_id(conn), at = 0;
    for (unsigned i = 0; i < 30; i++) {
        struct weir_buf buf = {0};
        check_int(weir_buf_get(loop, &buf, WEIR_FOREVER), ==, 0);
        buf.len = 500;
        pattern_fill(buf.data, 500, client->number, i * 500);
        check_int(weir_send(conn, &buf), ==, 500);
        while (at < (i + 1) * 500) {
            int got = weir_recv(conn, &buf);
            check_int(got, >, 0);
            pattern_check(buf.data, buf.len, client->number, at);
            at += (uint64_t)got;
        }
        weir_buf_put(loop, &buf);
    }
    weir_conn_close(conn);
    check(weir_conn_find(loop, number) == NULL, "found after it was closed");
    clients_done++;
}

static void spawn_clients(struct conf_server *server)
{
    static struct client clients[CLIENTS];
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){server, i};
        check_int(weir_spawn(server->loop, NULL, echo_as_client, &clients[i]), ==, 0);
    }
}

CONFORMANCE(clients_and_their_server_live_in_one_loop)
{
    struct conf_server server = {.listen.handler = conf_echo, .setup = spawn_clients};
    conf_start(&server);
    struct weir_loop_stats stats;
    do
        conf_stats(&server, &stats);
    while (clients_done < CLIENTS || stats.conns > 0);
    conf_stop(&server);
    check_int(server.stats.accepted, ==, CLIENTS);
}

static void connect_in_vain(void *argument)
{
    struct sockaddr_storage address;
    socklen_t address_bytes;
    struct weir_conn *conn;
    int fd = peer_listen(&address, &address_bytes, 1, 0);
    peer_close(fd); /* nobody listens there now */
    for (int i = 0; i < 20; i++)
        check_int(weir_connect(weir_loop_self(), &conn, (struct sockaddr *)&address, address_bytes,
                               WEIR_FOREVER),
                  ==, -ECONNREFUSED);
}

CONFORMANCE(a_refused_connect_says_so)
{
    conf_run(NULL, connect_in_vain, NULL);
}

static void connect_too_long(void *argument)
{
    struct peer_full full;
    struct weir_conn *conn;
    peer_fill(&full);
    uint64_t deadline_ns = weir_now_ns() + 3000000;
    check_int(weir_connect(weir_loop_self(), &conn, (struct sockaddr *)&full.address,
                           full.address_bytes, deadline_ns),
              ==, -ETIME);
    check_int(weir_now_ns(), >=, deadline_ns);
    check_int(weir_connect(weir_loop_self(), &conn, (struct sockaddr *)&full.address,
                           full.address_bytes, 0),
              ==, -ETIME);
    peer_unfill(&full);
}

CONFORMANCE(connect_ends_at_its_deadline)
{
    conf_run(NULL, connect_too_long, NULL);
}

static void cancelled_connect(void *argument)
{
    struct peer_full *full = argument;
    struct weir_conn *conn;
    check_int(weir_connect(weir_loop_self(), &conn, (struct sockaddr *)&full->address,
                           full->address_bytes, WEIR_FOREVER),
              ==, -ECANCELED);
}

static void cancel_connect(void *argument)
{
    struct peer_full full;
    struct weir_task *before, *during;
    peer_fill(&full);
    check_int(weir_spawn(weir_loop_self(), &before, cancelled_connect, &full), ==, 0);
    weir_task_cancel(before);
    check_int(weir_join(before, WEIR_FOREVER), ==, 0);
    check_int(weir_spawn(weir_loop_self(), &during, cancelled_connect, &full), ==, 0);
    conf_settle();
    weir_task_cancel(during);
    weir_task_cancel(during);
    check_int(weir_join(during, WEIR_FOREVER), ==, 0);
    peer_unfill(&full);
}

CONFORMANCE(a_task_in_connect_is_cancelled)
{
    conf_run(NULL, cancel_connect, NULL);
}

/* ---- poll ------------------------------------------------------------------------------------ */

static void write_soon(void *argument)
{
    check_int(weir_sleep_until(weir_now_ns() + 1000000), ==, 0);
    check_int(write(*(int *)argument, "x", 1), ==, 1);
}

static void poll_a_pipe(void *argument)
{
    struct weir_loop *loop = weir_loop_self();
    int ends[2];
    check_int(pipe2(ends, O_CLOEXEC), ==, 0);
    check_int(weir_poll(loop, ends[1], POLLOUT, WEIR_FOREVER) & POLLOUT, ==, POLLOUT);
    uint64_t deadline_ns = weir_now_ns() + 1000000;
    check_int(weir_poll(loop, ends[0], POLLIN, deadline_ns), ==, -ETIME);
    check_int(weir_now_ns(), >=, deadline_ns);
    for (int i = 0; i < 3; i++) {
        char byte;
        check_int(weir_spawn(loop, NULL, write_soon, &ends[1]), ==, 0);
        check_int(weir_poll(loop, ends[0], POLLIN, WEIR_FOREVER) & POLLIN, ==, POLLIN);
        check_int(weir_poll(loop, ends[0], POLLIN, WEIR_FOREVER) & POLLIN, ==, POLLIN);
        check_int(read(ends[0], &byte, 1), ==, 1);
    }
    close(ends[1]);
    check_int(weir_poll(loop, ends[0], POLLIN, WEIR_FOREVER) & POLLHUP, ==, POLLHUP);
    close(ends[0]);
}

CONFORMANCE(poll_waits_for_a_descriptor_of_the_caller)
{
    conf_run(NULL, poll_a_pipe, NULL);
}

static void poll_in_and_out(void *argument)
{
    int *ends = argument;
    struct weir_loop *loop = weir_loop_self();
    check_int(weir_poll(loop, ends[0], POLLIN, WEIR_FOREVER) & POLLIN, ==, POLLIN);
    ends[2]++;
}

static void poll_both_ways(void *argument)
{
    /* One task waits for input, another for room, on the same descriptor. */
    int ends[3] = {0};
    check_int(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), ==, 0);
    static char data[65536];
    while (write(ends[0], data, sizeof data) > 0)
        ;
    struct weir_task *reader;
    check_int(weir_spawn(weir_loop_self(), &reader, poll_in_and_out, ends), ==, 0);
    check_int(weir_poll(weir_loop_self(), ends[0], POLLOUT, weir_now_ns() + 1000000), ==, -ETIME);
    check_int(write(ends[1], "x", 1), ==, 1);
    check_int(weir_join(reader, WEIR_FOREVER), ==, 0);
    check_int(ends[2], ==, 1);
    while (read(ends[1], data, sizeof data) > 0)
        ;
    check_int(weir_poll(weir_loop_self(), ends[0], POLLOUT, WEIR_FOREVER) & POLLOUT, ==, POLLOUT);
    close(ends[0]);
    close(ends[1]);
}

CONFORMANCE(input_and_output_of_one_descriptor_are_polled_apart)
{
    conf_run(NULL, poll_both_ways, NULL);
}

static void poll_nothing(void *argument)
{
    int ends[2];
    check_int(pipe2(ends, O_CLOEXEC), ==, 0);
    close(ends[0]);
    close(ends[1]);
    int result = weir_poll(weir_loop_self(), ends[0], POLLIN, WEIR_FOREVER);
    check(result == -EBADF || result == POLLNVAL, "%d", result);
}

CONFORMANCE(poll_of_a_bad_descriptor_says_so)
{
    conf_run(NULL, poll_nothing, NULL);
}

/* ---- blocking calls -------------------------------------------------------------------------- */

static pthread_barrier_t barrier;
static sem_t let_go, is_running;
static _Atomic int calls_run, calls_running, calls_at_once;

static int double_it(void *argument)
{
    int now = ++calls_running, most = calls_at_once;
    while (now > most && !atomic_compare_exchange_weak(&calls_at_once, &most, now))
        ;
    calls_run++;
    calls_running--;
    return *(int *)argument * 2;
}

static void block_for_results(void *argument)
{
    int number = 21, negative = -EIO;
    check_int(weir_blocking(double_it, &number, WEIR_FOREVER), ==, 42);
    negative /= 2;
    check_int(weir_blocking(double_it, &negative, WEIR_FOREVER), ==, negative * 2);
    for (int i = 0; i < 300; i++)
        check_int(weir_blocking(double_it, &i, WEIR_FOREVER), ==, 2 * i);
    struct weir_loop_stats stats;
    weir_loop_stats(weir_loop_self(), &stats);
    check_int(stats.calls, >=, 302);
}

CONFORMANCE(blocking_calls_give_their_result)
{
    conf_run(NULL, block_for_results, NULL);
    check_int(calls_run, ==, 302);
}

static int meet(void *argument)
{
    pthread_barrier_wait(&barrier); /* four must be here at once, or nobody leaves */
    return 1;
}

static void block_to_meet(void *argument)
{
    check_int(weir_blocking(meet, NULL, WEIR_FOREVER), ==, 1);
    ++*(int *)argument;
}

static void block_in_parallel(void *argument)
{
    for (int i = 0; i < 12; i++)
        check_int(weir_spawn(weir_loop_self(), NULL, block_to_meet, argument), ==, 0);
}

CONFORMANCE(blocking_calls_run_beside_each_other)
{
    int met = 0;
    pthread_barrier_init(&barrier, NULL, 4);
    conf_run(&(struct weir_loop_options){.helpers_max = 4}, block_in_parallel, &met);
    check_int(met, ==, 12);
}

static void block_one(void *argument)
{
    int number = 4;
    check_int(weir_blocking(double_it, &number, WEIR_FOREVER), ==, 8);
}

static void block_beyond_the_queue(void *argument)
{
    for (int i = 0; i < 100; i++)
        check_int(weir_spawn(weir_loop_self(), NULL, block_one, NULL), ==, 0);
}

CONFORMANCE(callers_beyond_the_queue_wait_in_line)
{
    conf_run(&(struct weir_loop_options){.helpers_max = 2, .calls_max = 3}, block_beyond_the_queue,
             NULL);
    check_int(calls_run, ==, 100);
    check_int(calls_at_once, <=, 2);
}

static int hold_helper(void *argument)
{
    sem_post(&is_running);
    sem_wait(&let_go);
    return 7;
}

struct holder {
    int expected, result;
};

static void occupy_helper(void *argument)
{
    struct holder *holder = argument;
    holder->result = weir_blocking(hold_helper, NULL, WEIR_FOREVER);
}

static void queue_behind(void *argument)
{
    struct holder *holder = argument;
    holder->result = weir_blocking(double_it, &holder->expected, WEIR_FOREVER);
}

static void cancel_blocking(void *argument)
{
    struct weir_loop *loop = weir_loop_self();
    struct weir_task *running, *queued, *early;
    struct holder held = {0}, waits = {0}, never = {0};
    check_int(weir_spawn(loop, &running, occupy_helper, &held), ==, 0);
    while (sem_trywait(&is_running))
        check_int(weir_yield(), ==, 0); /* the loop goes on while the call blocks */
    check_int(weir_spawn(loop, &queued, queue_behind, &waits), ==, 0);
    conf_settle();
    check_int(weir_blocking(double_it, &held, weir_now_ns() + 1000000), ==, -ETIME);
    weir_task_cancel(queued);
    check_int(weir_join(queued, WEIR_FOREVER), ==, 0);
    check_int(waits.result, ==, -ECANCELED);
    check_int(weir_spawn(loop, &early, queue_behind, &never), ==, 0);
    weir_task_cancel(early);
    check_int(weir_join(early, WEIR_FOREVER), ==, 0);
    check_int(never.result, ==, -ECANCELED);

    weir_task_cancel(running); /* it has begun: it is waited for, and its result counts */
    check_int(weir_join(running, weir_now_ns() + 3000000), ==, -ETIME);
    sem_post(&let_go);
    check_int(weir_join(running, WEIR_FOREVER), ==, 0);
    check_int(held.result, ==, 7);
    check_int(calls_run, ==, 0);
}

CONFORMANCE(a_queued_call_is_cancelled_and_a_begun_one_waited_for)
{
    sem_init(&let_go, 0, 0);
    sem_init(&is_running, 0, 0);
    conf_run(&(struct weir_loop_options){.helpers_max = 1}, cancel_blocking, NULL);
}

static void poll_beside_refused_calls(void *argument)
{
    struct weir_loop *loop = weir_loop_self();
    struct weir_task *callers[3];
    struct holder held[3] = {{0}};
    int ends[2];
    check_int(pipe(ends), ==, 0);
    check_int(write(ends[1], "x", 1), ==, 1);
    for (int i = 0; i < 3; i++)
        check_int(weir_spawn(loop, &callers[i], occupy_helper, &held[i]), ==, 0);
    while (sem_trywait(&is_running))
        check_int(weir_yield(), ==, 0);
    conf_settle();
    uint64_t deadline_ns = weir_now_ns() + UINT64_C(20000000000);
    check_int(weir_poll(loop, ends[0], POLLIN, deadline_ns), ==, POLLIN);
    for (int i = 0; i < 3; i++)
        sem_post(&let_go);
    for (int i = 0; i < 3; i++) {
        check_int(weir_join(callers[i], WEIR_FOREVER), ==, 0);
        check_int(held[i].result, ==, 7);
    }
    close(ends[0]);
    close(ends[1]);
}

/* One call runs, one is queued, the third is refused: who waits for the engine goes past it. */
CONFORMANCE(a_call_that_waits_in_line_holds_up_nothing_else)
{
    sem_init(&let_go, 0, 0);
    sem_init(&is_running, 0, 0);
    conf_run(&(struct weir_loop_options){.helpers_max = 1, .calls_max = 1},
             poll_beside_refused_calls, NULL);
}

static void cancel_the_only_refused(void *argument)
{
    struct weir_loop *loop = weir_loop_self();
    struct weir_task *callers[3];
    struct holder held[3] = {{0}};
    for (int i = 0; i < 3; i++)
        check_int(weir_spawn(loop, &callers[i], occupy_helper, &held[i]), ==, 0);
    while (sem_trywait(&is_running))
        check_int(weir_yield(), ==, 0);
    conf_settle();
    weir_task_cancel(callers[2]);
    check_int(weir_join(callers[2], weir_now_ns() + UINT64_C(20000000000)), ==, 0);
    check_int(held[2].result, ==, -ECANCELED);
    for (int i = 0; i < 2; i++) {
        sem_post(&let_go);
        check_int(weir_join(callers[i], WEIR_FOREVER), ==, 0);
        check_int(held[i].result, ==, 7);
    }
}

CONFORMANCE(the_only_call_in_line_is_cancelled_while_the_others_hold_the_helpers)
{
    sem_init(&let_go, 0, 0);
    sem_init(&is_running, 0, 0);
    conf_run(&(struct weir_loop_options){.helpers_max = 1, .calls_max = 1}, cancel_the_only_refused,
             NULL);
}

/* ---- deep code ------------------------------------------------------------------------------- */

static int sum_deeply(void *argument)
{
    volatile uint8_t deep[200000];
    int sum = 0;
    memset((void *)deep, 3, sizeof deep);
    if (weir_task_self() && weir_yield() < 0)
        return -ECANCELED;
    for (size_t i = 0; i < sizeof deep; i += 1000)
        sum += deep[i];
    return sum + *(int *)argument;
}

static void go_deep(void *argument)
{
    int number = 11;
    check_int(weir_on_big_stack(sum_deeply, &number, 256 * 1024), ==, 611);
    check_int(weir_on_big_stack(sum_deeply, &number, 1024 * 1024 + 1), ==, -E2BIG);
    weir_task_cancel(weir_task_self());
    check_int(weir_on_big_stack(sum_deeply, &number, 256 * 1024), ==, -ECANCELED);
    ++*(int *)argument;
}

CONFORMANCE(deep_code_runs_on_a_borrowed_stack_and_may_wait)
{
    int number = 1, done = 0;
    check_int(weir_on_big_stack(sum_deeply, &number, 1), ==, 601); /* no task: a plain call */
    conf_run(NULL, go_deep, &done);
    check_int(done, ==, 1);
}
