/* Conformance: the life of connections. Identity, state, `closed`, many at once, and the limits. */
#include "conformance.h"

#include <fcntl.h>
#include <sys/resource.h>

/* ---- identity and state ---------------------------------------------------------------------- */

enum { STATE_BYTES = 200, IDS_MAX = 8192 };

static uint64_t ids[IDS_MAX]; /* the loop's thread writes, the test reads after conf_join() */
static unsigned ids_count, closed_count;

struct state {
    uint64_t id;
    uint8_t marked, rest[STATE_BYTES - sizeof(uint64_t) - 1];
};

/* At its first input a connection finds zeroed, aligned state, and leaves it full of other bytes.
 */
static void mark_state(struct weir_conn *conn, void *argument)
{
    struct state *state = weir_conn_state(conn);
    check(state && (uintptr_t)state % _Alignof(max_align_t) == 0, "%p", (void *)state);
    if (!state->marked) {
        check_int(state->id, ==, 0);
        for (size_t i = 0; i < sizeof state->rest; i++)
            check_int(state->rest[i], ==, 0);
        memset(state, 0xff, sizeof *state);
        state->id = weir_conn_id(conn);
        check(state->id != 0, "0 is no connection's number");
        check_int(ids_count, <, IDS_MAX);
        ids[ids_count++] = state->id;
    }
    check(state->id == weir_conn_id(conn), "the number of an open connection changed");
    check(weir_conn_find(weir_conn_loop(conn), state->id) == conn, "not found by its number");
    check_int(fcntl(weir_conn_fd(conn), F_GETFD), >=, 0);
    conf_echo(conn, argument);
}

static void ask_for_descriptor(struct weir_conn *conn, void *argument)
{
    struct sockaddr_storage own, peer;
    socklen_t own_bytes = sizeof own, peer_bytes = sizeof peer;
    int fd = weir_conn_fd(conn);
    check_int(fd, >=, 0);
    check_int(fcntl(fd, F_GETFD), ==, FD_CLOEXEC);
    check_int(getpeername(fd, (struct sockaddr *)&peer, &peer_bytes), ==, 0);
    check_int(getsockname(*(_Atomic int *)argument, (struct sockaddr *)&own, &own_bytes), ==, 0);
    check_int(peer_bytes, ==, own_bytes);
    check(memcmp(&peer, &own, own_bytes) == 0, "another connection's");
    check_int(weir_conn_fd(conn), ==, fd);
    conf_echo(conn, argument);
}

CONFORMANCE(the_descriptor_of_a_connection_is_its_own_and_ends_with_it)
{
    _Atomic int fd;
    struct conf_server server = {
        .listen = {.handler = ask_for_descriptor, .argument = (void *)&fd}};
    conf_start(&server);
    for (int i = 0; i < 3; i++) {
        fd = peer_socket(AF_INET); /* known before the handler runs */
        peer_connect_fd(fd, &server);
        peer_echo(fd, 100, (uint64_t)i);
        peer_echo(fd, 100, (uint64_t)i);
        peer_shutdown(fd);
        check_int(peer_end(fd, NULL), ==, 0);
        peer_close(fd);
    }
    conf_stop(&server);
}

static void count_closed(struct weir_conn *conn, void *argument)
{
    struct state *state = weir_conn_state(conn);
    check_int(*(int *)argument, ==, 42);
    if (state->marked) {
        check_int(state->rest[0], ==, 0xff);
        check(state->id == weir_conn_id(conn), "state of another connection");
        state->rest[0] = 0; /* a second call would find that */
    }
    closed_count++;
}

static void find_none(void *argument)
{
    struct weir_loop *loop = weir_loop_self();
    for (unsigned i = 0; i < ids_count; i++)
        check(weir_conn_find(loop, ids[i]) == NULL, "a closed connection is found");
    check(weir_conn_find(loop, UINT64_MAX) == NULL, "UINT64_MAX");
    check(weir_conn_find(loop, 0) == NULL, "0");
}

static int compare_ids(const void *one, const void *two)
{
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)two;
    return (a > b) - (a < b);
}

CONFORMANCE(churn_reuses_slots_but_no_number_and_no_state)
{
    static int argument = 42;
    struct conf_server server = {.options.conns_max = 16,
                                 .listen = {.handler = mark_state,
                                            .state_bytes = sizeof(struct state),
                                            .closed = count_closed,
                                            .argument = &argument}};
    conf_start(&server);
    unsigned rounds = conf_scale(800);
    for (unsigned round = 0; round < rounds; round++) {
        int fds[3];
        for (int i = 0; i < 3; i++)
            fds[i] = peer_connect(&server);
        for (int i = 0; i < 3; i++)
            peer_echo(fds[i], 100, round);
        if (round % 3 == 0)
            peer_reset(fds[0]);
        else
            peer_close(fds[0]);
        peer_shutdown(fds[1]);
        check_int(peer_end(fds[1], NULL), ==, 0);
        peer_close(fds[1]);
        peer_close(fds[2]);
    }
    conf_await_conns(&server, 0);
    conf_call(&server, find_none, NULL);
    conf_stop(&server);
    check_int(server.stats.accepted, ==, rounds * 3);
    check_int(ids_count, ==, rounds * 3);
    check_int(closed_count, ==, rounds * 3);
    qsort(ids, ids_count, sizeof *ids, compare_ids);
    for (unsigned i = 1; i < ids_count; i++)
        check(ids[i] != ids[i - 1], "a number was given twice");
}

CONFORMANCE(a_descriptor_closed_with_input_pending_bothers_no_successor)
{
    /* Late completions of a closed connection must not reach the next one on its descriptor. */
    struct conf_server server = {.options.conns_max = 4, .listen.handler = conf_echo};
    conf_start(&server);
    for (unsigned round = 0; round < conf_scale(800); round++) {
        int fd = peer_connect(&server);
        peer_send_pattern(fd, 3000, round, 0);
        peer_recv_pattern(fd, 1, round, 0);
        peer_reset(fd);
        fd = peer_connect(&server);
        peer_echo(fd, 1000, round + 1000);
        peer_close(fd);
    }
    conf_await_conns(&server, 0);
    conf_stop(&server);
}

static void no_state(struct weir_conn *conn, void *argument)
{
    check(weir_conn_state(conn) == NULL, "state_bytes was 0");
    check(weir_conn_loop(conn) == weir_loop_self(), "another loop");
    conf_echo(conn, argument);
}

CONFORMANCE(without_state_bytes_there_is_no_state)
{
    struct conf_server server = {.listen.handler = no_state};
    conf_start(&server);
    int fd = peer_connect(&server);
    peer_echo(fd, 10, 1);
    peer_close(fd);
    conf_stop(&server);
}

static _Atomic unsigned handler_runs;

static void count_runs(struct weir_conn *conn, void *argument)
{
    handler_runs++;
    conf_echo(conn, argument);
}

CONFORMANCE(an_idle_connection_has_a_task_only_per_connection)
{
    struct conf_server server = {.listen.handler = count_runs};
    conf_start(&server);
    enum { CONNS = 50, ROUNDS = 4 };
    int fds[CONNS];
    for (int i = 0; i < CONNS; i++)
        fds[i] = peer_connect(&server);
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < CONNS; i++)
            peer_echo(fds[i], 100, 1);
    conf_await_conns(&server, CONNS);
    struct weir_loop_stats stats;
    conf_stats(&server, &stats);
    if (server.per_burst) {
        check_int(stats.tasks, ==, 0);
        check_int(stats.bursts, >=, CONNS * ROUNDS);
        check_int(handler_runs, ==, stats.bursts);
    } else {
        check_int(stats.tasks, ==, CONNS);
        check_int(handler_runs, ==, CONNS);
    }
    for (int i = 0; i < CONNS; i++)
        peer_close(fds[i]);
    conf_await_conns(&server, 0);
    conf_stop(&server);
}

/* ---- many ------------------------------------------------------------------------------------ */

CONFORMANCE(thousands_of_connections_are_all_served)
{
    struct rlimit limit;
    check_int(getrlimit(RLIMIT_NOFILE, &limit), ==, 0);
    limit.rlim_cur = limit.rlim_max;
    check_int(setrlimit(RLIMIT_NOFILE, &limit), ==, 0);
    unsigned count = conf_scale(4000);
    if (limit.rlim_cur < 2 * count + 100)
        count = ((unsigned)limit.rlim_cur - 100) / 2;
    struct conf_server server = {.options = {.conns_max = count + 1, .bufs = 64},
                                 .listen.handler = conf_echo};
    conf_start(&server);
    int *fds = calloc(count, sizeof *fds);
    check(fds);
    for (unsigned i = 0; i < count; i++)
        fds[i] = peer_connect(&server);
    conf_await_conns(&server, count);
    for (int round = 0; round < 2; round++) {
        for (unsigned i = 0; i < count; i++)
            peer_send_pattern(fds[i], 64, i, 0);
        for (unsigned i = count; i-- > 0;)
            peer_recv_pattern(fds[i], 64, i, 0);
    }
    for (unsigned i = 0; i < count; i++)
        peer_close(fds[i]);
    conf_await_conns(&server, 0);
    free(fds);
    conf_stop(&server);
    check_int(server.stats.accepted, ==, count);
    check_int(server.stats.bytes_in, ==, count * 2ull * 64);
}

/* ---- limits ---------------------------------------------------------------------------------- */

enum { WAITING = 24 };

/* Waits until accepting has paused, or nobody is left to accept. */
static void await_limit(struct conf_server *server)
{
    uint64_t until_ns = weir_now_ns() + PEER_SECONDS * 1000000000ull;
    struct weir_loop_stats stats;
    for (;;) {
        conf_stats(server, &stats);
        if (stats.accept_pauses > 0 || stats.accepted == WAITING)
            return;
        check(weir_now_ns() < until_ns, "%llu connections, and accepting goes on",
              (unsigned long long)stats.conns);
        usleep(1000);
    }
}

/* Every client asks; the first leaves only when the limit has been met; as those that are answered
 * leave, the others get in. */
static void serve_in_portions(struct conf_server *server, int *fds)
{
    for (int i = 0; i < WAITING; i++) {
        peer_connect_fd(fds[i], server);
        peer_send_pattern(fds[i], 100, (uint64_t)i, 0);
    }
    await_limit(server);
    for (int i = 0; i < WAITING; i++) {
        peer_recv_pattern(fds[i], 100, (uint64_t)i, 0);
        peer_close(fds[i]);
    }
    conf_await_conns(server, 0);
}

CONFORMANCE(at_conns_max_further_connections_wait)
{
    struct conf_server server = {.options.conns_max = 4, .listen.handler = conf_echo};
    conf_start(&server);
    int fds[WAITING];
    for (int i = 0; i < WAITING; i++)
        fds[i] = peer_socket(AF_INET);
    serve_in_portions(&server, fds);
    conf_stop(&server);
    check_int(server.stats.accepted, ==, WAITING);
    check_int(server.stats.accept_pauses, >, 0);
}

/* Takes descriptors until there are no more, and gives `left` of them back. How many it holds. */
static int hog_descriptors(int *hogged, int most, int left)
{
    int count = 0;
    while (count < most && (hogged[count] = dup(STDERR_FILENO)) >= 0)
        count++;
    check(count < most && count >= left, "%d descriptors", count);
    while (left-- > 0)
        close(hogged[--count]);
    return count;
}

CONFORMANCE(at_the_descriptor_limit_further_connections_wait)
{
    struct conf_server server = {.options.conns_max = 100, .listen.handler = conf_echo};
    int fds[WAITING], hogged[200];
    for (int i = 0; i < WAITING; i++)
        fds[i] = peer_socket(AF_INET);
    /* Lowered before anything is armed: io_uring looks at the limit when an accept is prepared. */
    struct rlimit limit, before;
    check_int(getrlimit(RLIMIT_NOFILE, &before), ==, 0);
    limit = before;
    limit.rlim_cur = (rlim_t)fds[WAITING - 1] + 150;
    check_int(setrlimit(RLIMIT_NOFILE, &limit), ==, 0);
    conf_start(&server);
    bool needs_them = !strstr(weir_loop_features(server.loop), "direct_descriptors");
    int hogs = hog_descriptors(hogged, 200, 3);
    serve_in_portions(&server, fds);
    while (hogs > 0)
        close(hogged[--hogs]);
    conf_stop(&server);
    check_int(setrlimit(RLIMIT_NOFILE, &before), ==, 0);
    check_int(server.stats.accepted, ==, WAITING);
    check_int(server.stats.accept_pauses > 0, ==, needs_them);
}

enum { STACKS = 3 };

static const struct weir_coro_options few_stacks = {.max_coros = STACKS};

CONFORMANCE(without_a_stack_for_its_handler_a_peer_is_dropped_and_accepting_pauses)
{
    struct conf_server server = {.options.coro = &few_stacks, .listen.handler = conf_echo};
    conf_start(&server);
    int fds[STACKS + 1];
    for (int i = 0; i < STACKS; i++) {
        fds[i] = peer_connect(&server);
        peer_echo(fds[i], 100, 1);
    }
    fds[STACKS] = peer_connect(&server);
    if (server.per_burst)
        peer_echo(fds[STACKS], 100, 1); /* handlers that do not wait share a stack */
    else
        check(peer_end(fds[STACKS], NULL) <= 0, "it ends, or is reset");
    peer_close(fds[STACKS]);
    peer_close(fds[0]);
    conf_await_conns(&server, STACKS - 1);
    fds[0] = peer_connect(&server);
    peer_echo(fds[0], 100, 1);
    for (int i = 0; i < STACKS; i++)
        peer_close(fds[i]);
    conf_stop(&server);
    check_int(server.stats.accept_drops > 0, ==, !server.per_burst);
    check_int(server.stats.accept_pauses > 0, ==, !server.per_burst);
}

static _Atomic bool released;
static _Atomic unsigned waiting;

static void wait_for_release(struct weir_conn *conn, void *argument)
{
    waiting++;
    while (!released)
        check_int(weir_sleep_until(weir_now_ns() + 150000000), ==, 0);
    conf_echo(conn, argument);
}

CONFORMANCE(out_of_stacks_a_loop_does_not_spin)
{
    struct conf_server server = {.options.coro = &few_stacks, .listen.handler = wait_for_release};
    conf_start(&server);
    int fds[STACKS + 1];
    int count = STACKS + server.per_burst; /* per connection, it would be dropped */
    for (int i = 0; i < count; i++) {
        fds[i] = peer_connect(&server);
        peer_send_pattern(fds[i], 100, 1, 0);
        while (waiting < STACKS && (int)waiting <= i)
            usleep(200);
    }
    struct weir_loop_stats before, after;
    conf_await_conns(&server, (uint64_t)count);
    conf_stats(&server, &before);
    uint64_t begin_ns = weir_now_ns();
    usleep(100000);
    conf_stats(&server, &after);
    /* Every wake-up, sleep and retry of that time is a turn or two. */
    uint64_t most = 20 + (weir_now_ns() - begin_ns) / 1000000;
    check_int(after.turns - before.turns, <=, most);
    released = true;
    for (int i = 0; i < count; i++) {
        peer_recv_pattern(fds[i], 100, 1, 0);
        peer_close(fds[i]);
    }
    conf_stop(&server);
}

static _Atomic unsigned cancelled_bursts;

/* Whoever asks for it cancels the task it runs on. */
static void cancel_itself(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    while (weir_recv(conn, &buf) > 0) {
        if (buf.data[0] == '!') {
            weir_task_cancel(weir_task_self());
            cancelled_bursts++;
        }
        weir_send(conn, &buf);
    }
}

static sem_t held, go_on;

static void hold_loop(struct weir_post *post)
{
    sem_post(&held);
    sem_wait(&go_on);
}

CONFORMANCE(a_handler_that_cancels_itself_ends_no_other)
{
    sem_init(&held, 0, 0);
    sem_init(&go_on, 0, 0);
    struct conf_server server = {.listen.handler = cancel_itself};
    conf_start(&server);
    int fds[4];
    for (int i = 0; i < 4; i++) {
        fds[i] = peer_connect(&server);
        peer_echo(fds[i], 1, 1);
    }
    /* All four ask while the loop stands still, so that one turn serves them. */
    struct weir_post post = {.fn = hold_loop};
    check_int(weir_post(server.loop, &post), ==, 0);
    sem_wait(&held);
    for (int i = 0; i < 4; i++)
        peer_send(fds[i], i == 0 ? "!" : "?", 1);
    sem_post(&go_on);
    peer_expect(fds[0], "!", 1);
    check_int(peer_end(fds[0], NULL), ==, 0);
    peer_close(fds[0]);
    for (int i = 1; i < 4; i++) {
        peer_expect(fds[i], "?", 1);
        peer_echo(fds[i], 100, 2);
        peer_close(fds[i]);
    }
    conf_stop(&server);
    check_int(cancelled_bursts, ==, 1);
}

static struct weir_conn *idle_conn;
static int after_close;

/* Answers, and waits for more; what it is told when another task closed is kept. */
static void answer_and_wait(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    int res;
    idle_conn = conn;
    while ((res = weir_recv(conn, &buf)) > 0)
        weir_send(conn, &buf);
    if (res != -EAGAIN)
        after_close = res;
}

static void close_from_outside(void *argument)
{
    weir_conn_close(idle_conn);
}

CONFORMANCE(a_connection_closed_by_another_task_tells_its_handler)
{
    static int argument = 42;
    struct conf_server server = {.listen = {.handler = answer_and_wait, .argument = &argument}};
    conf_start(&server);
    int fd = peer_connect(&server);
    peer_echo(fd, 100, 1);
    conf_call(&server, close_from_outside, NULL);
    check_int(peer_end(fd, NULL), ==, 0);
    peer_close(fd);
    conf_await_conns(&server, 0);
    conf_stop(&server);
    check_int(after_close, ==, -ESHUTDOWN);
}

static unsigned taken_after_close;

static void close_then_receive(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    if (weir_recv_until(conn, &buf, WEIR_FOREVER) <= 0)
        return;
    weir_sleep_until(weir_now_ns() + 30000000); /* more is most likely there by now */
    weir_conn_close(conn);
    while (weir_recv(conn, &buf) > 0)
        taken_after_close++;
}

CONFORMANCE(after_its_own_close_a_handler_receives_nothing)
{
    static int argument = 42;
    struct conf_server server = {.listen = {.handler = close_then_receive, .argument = &argument}};
    conf_start(&server);
    int fd = peer_connect(&server);
    peer_send(fd, "quit", 4);
    usleep(10000);
    peer_send(fd, "and more", 8);
    check(peer_end(fd, NULL) <= 0, "it ends, or is reset with what was unread");
    peer_close(fd);
    conf_await_conns(&server, 0);
    conf_stop(&server);
    check_int(taken_after_close, ==, 0);
}
