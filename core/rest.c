/*
 * Connections at rest. An engine may be able to hold a receive that takes less memory while it
 * waits and more time to wake (weir__engine_ops.rest). So a clock sweep goes over the slots, a
 * bounded number in each step: it marks a connection, and one that it finds marked when it comes
 * round again has been quiet for that long, and rests. Running its handler takes the mark away,
 * which costs a request nothing (CONN_QUIET goes with other flags).
 *
 * One at rest that wakes stays so, receive by receive, unless it wakes twice within a round: then
 * it is armed like any other. Called by recv.c whenever it arms a receive, never for each request.
 *
 * Steps come from a timer of the kernel's with a poll on it, not from the wheel: no wait needs a
 * deadline for it. There are none while all rest.
 */
#include "core/loop.h"

#include <sys/timerfd.h>
#include <unistd.h>

enum {
    SLOTS = 4096,        /* in one step */
    PAUSE_NS = 10000000, /* until the engine may take more */
    NS_PER_S = 1000000000,
};
#define ROUND_NS UINT64_C(4000000000)

void weir__rest_init(struct weir__rest *rest)
{
    *rest = (struct weir__rest){.timer.fd = -1, .round_ns = ROUND_NS};
}

void weir__rest_deinit(struct weir__rest *rest)
{
    if (rest->timer.fd >= 0)
        close(rest->timer.fd);
}

/* Where there is no descriptor for the timer, nothing rests. */
static bool set_timer(struct weir__rest *rest, uint64_t ns)
{
    struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)}};

    if (rest->timer.fd < 0)
        rest->timer.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    return rest->timer.fd >= 0 && timerfd_settime(rest->timer.fd, 0, &when, NULL) == 0;
}

/* False: the engine takes no more for now. */
static bool visit(struct weir_loop *loop, struct weir_conn *conn)
{
    if (!(conn->flags & CONN_OPEN) || conn->flags & CONN_CLOSING || conn->rested)
        return true;
    loop->rest.awake = true;
    if (!(conn->flags & CONN_QUIET)) {
        conn->flags |= CONN_QUIET;
        return true;
    }
    if (conn->rx.state != WEIR__OP_HELD || conn->rx.engine_bits == WEIR__REFUSED)
        return true;
    int res = loop->ops->rest(loop->engine, &conn->rx);
    if (res > 0) {
        conn->rested = weir__rest_round(loop);
        loop->stats.rests++;
    }
    loop->rest.off = res < 0;
    return res > 0;
}

/* Returns when to go on, in ns from now; 0: all rest. */
static uint64_t sweep(struct weir_loop *loop)
{
    struct weir__rest *rest = &loop->rest;
    uint32_t size = weir__slab_size(&loop->conn_slab), visited = 0;

    for (; visited < SLOTS && rest->cursor < size; visited++, rest->cursor++)
        if (!visit(loop, weir__conn_at(loop, rest->cursor)))
            return rest->off ? 0 : PAUSE_NS;
    if (rest->cursor >= size) {
        rest->cursor = 0;
        if (!rest->awake)
            return 0;
        rest->awake = false;
    }
    return rest->round_ns * visited / size + 1;
}

static uint64_t sweep_if_fired(struct weir_loop *loop)
{
    return loop->rest.timer.res < 0 || loop->stopping ? 0 : sweep(loop);
}

static void step(struct weir__op *op);

/* The next steps, the first in `ns` from now; 0: none. */
static void go_on(struct weir_loop *loop, uint64_t ns)
{
    struct weir__op *op = &loop->rest.timer;

    while (ns) {
        loop->rest.off = !set_timer(&loop->rest, ns);
        if (loop->rest.off)
            return;
        op->kind = WEIR__OP_POLL;
        op->len = WEIR__POLL_IN;
        op->done = step;
        if (weir__submit(loop, op) == WEIR__QUEUED)
            return;
        ns = sweep_if_fired(loop);
    }
}

static void step(struct weir__op *op)
{
    struct weir_loop *loop = weir__container(op, struct weir_loop, rest.timer);

    go_on(loop, sweep_if_fired(loop));
}

void weir__rest_begin(struct weir_loop *loop)
{
    if (loop->ops->rest && !loop->rest.off && !loop->stopping)
        go_on(loop, loop->rest.round_ns);
}

bool weir__rest_end(struct weir_loop *loop)
{
    weir__cancel(loop, &loop->rest.timer);
    return loop->rest.timer.state == WEIR__OP_IDLE;
}
