/* The loop above an engine that refuses ops by plan (epoll's, wrapped), and its limits: what no
 * engine does at a wish, and the conformance suite therefore cannot ask for. */
#include <criterion/criterion.h>

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "core/loop.h"

static const struct weir__engine_ops *real;
static struct weir__engine_ops wrapped;
static struct weir_loop *loop;
static unsigned refused_kind, refusals; /* that kind of op, that many times more */
static unsigned refused, quiet_refused, quiet_taken;

static int submit_or_refuse(struct weir__engine *engine, struct weir__op *op)
{
    bool quiet = op->flags & WEIR__OP_QUIET;

    if (op->kind != refused_kind)
        return real->submit(engine, op);
    if (refusals > 0) {
        refusals--;
        refused++;
        quiet_refused += quiet;
        return -EBUSY;
    }
    quiet_taken += quiet;
    return real->submit(engine, op);
}

static void open_loop(const struct weir_loop_options *options)
{
    struct weir_loop_options mine = options ? *options : (struct weir_loop_options){0};
    char why[256] = "";

    mine.engine = "epoll";
    cr_assert_eq(weir_loop_new(&loop, &mine, why, sizeof why), 0, "%s", why);
    real = loop->ops;
    wrapped = *real;
    wrapped.submit = submit_or_refuse;
    loop->ops = &wrapped;
}

static void run(weir_task_fn *fn)
{
    struct weir_loop_stats stats;

    cr_assert_eq(weir_spawn(loop, NULL, fn, NULL), 0);
    cr_assert_eq(weir_loop_run(loop), 0);
    weir_loop_stats(loop, &stats);
    cr_assert_eq(stats.conns, 0);
    cr_assert_eq(stats.bufs_free, stats.bufs);
    weir_loop_free(loop);
}

static void refuse(enum weir__op_kind kind, unsigned times)
{
    refused_kind = kind;
    refusals = times;
}

struct pair {
    struct weir_conn *conn;
    int peer;
};

static struct pair pair_open(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    struct pair pair;
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert(bind(listening, (struct sockaddr *)&address, bytes) == 0);
    assert(listen(listening, 1) == 0);
    assert(getsockname(listening, (struct sockaddr *)&address, &bytes) == 0);
    assert(weir_connect(loop, &pair.conn, (struct sockaddr *)&address, bytes, WEIR_FOREVER) == 0);
    pair.peer = accept(listening, NULL, NULL);
    assert(pair.peer >= 0);
    close(listening);
    return pair;
}

static void hand_over(struct weir_conn *conn, const char *text)
{
    struct weir_buf buf = {0};

    assert(weir_buf_get(loop, &buf, WEIR_FOREVER) == 0);
    buf.len = (uint32_t)strlen(text);
    memcpy(buf.data, text, buf.len);
    assert(weir_send(conn, &buf) == (int)strlen(text));
}

static void expect(int peer, const char *text)
{
    char got[64] = "";

    for (size_t at = 0; at < strlen(text);) {
        assert(weir_poll(loop, peer, POLLIN, WEIR_FOREVER) > 0);
        ssize_t n = read(peer, got + at, sizeof got - at);
        assert(n > 0);
        at += (size_t)n;
    }
    assert(strcmp(got, text) == 0);
}

TestSuite(loop, .timeout = 30);

/* ---- no room in the engine ------------------------------------------------------------------- */

static void send_refused(void *argument)
{
    struct pair pair = pair_open();

    refuse(WEIR__OP_SEND_BUFS, 3);
    hand_over(pair.conn, "one");
    expect(pair.peer, "one");
    hand_over(pair.conn, "two");
    expect(pair.peer, "two");
    weir_conn_close(pair.conn);
    close(pair.peer);
}

Test(loop, a_quiet_send_that_was_refused_goes_out_and_is_no_longer_quiet)
{
    open_loop(NULL);
    run(send_refused);
    cr_assert_eq(refused, 3);
    cr_assert_eq(quiet_refused, 1, "someone may wait for its end by the second try");
    cr_assert_eq(quiet_taken, 1, "the second send only");
}

static void close_while_the_receive_is_refused(void *argument)
{
    struct pair pair = pair_open();
    struct weir_buf buf = {0};

    refuse(WEIR__OP_RECV, UINT_MAX);
    assert(weir_recv_until(pair.conn, &buf, weir_now_ns()) == -ETIME);
    assert(refused > 0 && pair.conn->rx.engine_bits == WEIR__REFUSED);
    weir_conn_close(pair.conn);
    close(pair.peer);
}

Test(loop, a_connection_closes_while_its_receive_is_refused)
{
    open_loop(NULL);
    run(close_while_the_receive_is_refused);
}

static void abort_while_the_send_is_refused(void *argument)
{
    struct pair pair = pair_open();

    refuse(WEIR__OP_SEND_BUFS, UINT_MAX);
    hand_over(pair.conn, "lost");
    while (!refused)
        assert(weir_yield() == 0);
    hand_over(pair.conn, "lost, too");
    weir_conn_abort(pair.conn);
    close(pair.peer);
}

Test(loop, a_connection_is_aborted_while_its_send_is_refused)
{
    open_loop(NULL);
    run(abort_while_the_send_is_refused);
}

static void poll_while_refused(void *argument)
{
    refuse(WEIR__OP_POLL, UINT_MAX);
    assert(weir_poll(loop, STDIN_FILENO, POLLIN, weir_now_ns() + 1000000) == -ETIME);
    refuse(WEIR__OP_NONE, 0);
    assert(weir_poll(loop, -1, POLLIN, WEIR_FOREVER) == -EBADF);
}

Test(loop, a_wait_that_is_refused_expires)
{
    open_loop(NULL);
    run(poll_while_refused);
    cr_assert_gt(refused, 0);
}

static int kept_peer;

static int wait_or_break(struct weir__engine *engine, uint64_t deadline_ns)
{
    return refused > 0 ? -EPERM : real->wait(engine, deadline_ns);
}

static void close_refused(void *argument)
{
    struct pair pair = pair_open();

    kept_peer = pair.peer;
    refuse(WEIR__OP_CLOSE, UINT_MAX);
    weir_conn_close(pair.conn);
}

Test(loop, a_connection_whose_close_was_refused_is_closed_when_the_engine_breaks)
{
    struct pollfd peer = {.events = POLLIN};
    char byte;

    open_loop(NULL);
    wrapped.wait = wait_or_break;
    cr_assert_eq(weir_spawn(loop, NULL, close_refused, NULL), 0);
    cr_assert_eq(weir_loop_run(loop), -EPERM);
    cr_assert_gt(refused, 0);
    weir_loop_free(loop);
    peer.fd = kept_peer;
    cr_assert_eq(poll(&peer, 1, 5000), 1, "it is open still");
    cr_assert_eq(read(kept_peer, &byte, 1), 0);
    close(kept_peer);
}

/* ---- no buffer ------------------------------------------------------------------------------- */

static void close_starved(void *argument)
{
    struct pair pair = pair_open();
    struct weir_buf held[4] = {{0}}, buf = {0};

    for (int i = 0; i < 4; i++)
        assert(weir_buf_get(loop, &held[i], WEIR_FOREVER) == 0);
    assert(write(pair.peer, "unread", 6) == 6);
    assert(weir_recv_until(pair.conn, &buf, 0) == -ETIME); /* which arms it */
    while (!(pair.conn->flags & CONN_STARVED))
        assert(weir_sleep_until(weir_now_ns() + 1000000) == 0);
    weir_conn_close(pair.conn);
    for (int i = 0; i < 3; i++)
        assert(weir_yield() == 0);
    assert(loop->conn_count == 1 && pair.conn->flags & CONN_OPEN); /* a queue knows its slot */
    for (int i = 0; i < 4; i++)
        weir_buf_put(loop, &held[i]);
    while (loop->conn_count)
        assert(weir_yield() == 0);
    close(pair.peer);
}

Test(loop, a_starved_connection_that_closes_keeps_its_slot_until_it_is_in_no_queue)
{
    open_loop(&(struct weir_loop_options){.bufs = 4, .buf_bytes = 512});
    run(close_starved);
}

/* ---- limits ---------------------------------------------------------------------------------- */

Test(loop, unsent_bytes_of_a_connection_stay_below_what_a_send_can_return)
{
    static const uint32_t sizes[] = {64, 16384, 1 << 26};

    for (int i = 0; i < 3; i++) {
        open_loop(&(struct weir_loop_options){
            .bufs = 2, .buf_bytes = sizes[i], .unsent_max = UINT32_MAX});
        /* A sender waits once more than unsent_max is unsent: a buffer, or as much static memory
         * again, may be on its way. */
        cr_assert_leq((uint64_t)loop->unsent_max + sizes[i], INT32_MAX);
        cr_assert_leq((uint64_t)loop->unsent_max * 2, INT32_MAX);
        cr_assert_geq(2 * ((uint64_t)loop->unsent_max + sizes[i]), INT32_MAX - 1);
        weir_loop_free(loop);
    }
    open_loop(&(struct weir_loop_options){.unsent_max = 12345});
    cr_assert_eq(loop->unsent_max, 12345);
    weir_loop_free(loop);
}
