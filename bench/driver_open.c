/*
 * The open shape: requests leave on a plan, whatever became of those before, and latency is from
 * the planned time. So a server that stands still for a while is charged with every request that
 * should have left meanwhile, and not, as in a closed loop, with the one that happened to wait.
 *
 * The plan is even: of `rate` requests a second one is due each 1/rate, and the connections take
 * turns, so that each has its share and their requests are staggered. It is the same in every run
 * and makes no queues of its own, as a random (Poisson) one would: what a latency shows is the
 * server's. It goes on from slice to slice, so that at low rates all connections have their turn.
 *
 * A connection has one request in flight. While its response is late its planned requests wait, and
 * leave as soon as they may, each measured from its own planned time. Past the end of the plan what
 * is overdue is still sent and answered, for as long as an answer may take; the rest is given up:
 * planned, and not made.
 *
 * The thread sleeps until the next request is due, to the microsecond or so (driver_worker.c), and
 * looks at the plan after each answer. A request that leaves more than LATE_NS behind the plan
 * though its connection was free counts as the driver's own lateness (driver_slice.late).
 */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <sys/epoll.h>

#include "bench/driver_load.h"

/* Below that, a plan is kept. */
#define LATE_NS 1000000u

/* When request `turn` of the plan is due. */
static uint64_t due_ns(const struct drive_plan *plan, uint64_t turn)
{
    return plan->began_ns + (uint64_t)((double)turn * plan->interval_ns);
}

static uint64_t turn_of(const struct drive_worker *worker, const struct drive_conn *conn)
{
    return conn->seq * worker->count + (uint64_t)(conn - worker->conns);
}

static void conn_ask(struct drive_worker *worker, struct drive_conn *conn, uint64_t now_ns)
{
    conn->phase = CONN_ASKING;
    conn->sent = conn->received = 0;
    conn->since_ns = now_ns;
    weir__drive_send(worker, conn);
}

/* Sends what is due by now. */
static void follow_plan(struct drive_worker *worker, uint64_t now_ns)
{
    struct drive_plan *plan = &worker->plan;
    while (plan->next < plan->end && now_ns >= plan->next_ns) {
        struct drive_conn *conn = &worker->conns[plan->next % worker->count];
        worker->out.planned++;
        plan->next++;
        if (conn->phase == CONN_IDLE) {
            worker->out.late += now_ns - plan->next_ns > LATE_NS;
            worker->active++;
            conn_ask(worker, conn, now_ns);
        }
        plan->next_ns = due_ns(plan, plan->next);
    }
}

/* The connection's next request, where one is overdue; else it is free. */
static void conn_go_on(struct drive_worker *worker, struct drive_conn *conn, uint64_t now_ns)
{
    conn->phase = CONN_IDLE;
    if (turn_of(worker, conn) < worker->plan.next && now_ns < worker->plan.give_up_ns)
        conn_ask(worker, conn, now_ns);
    else
        worker->active--;
}

/* False: the connection is given up. */
static bool conn_take(struct drive_worker *worker, struct drive_conn *conn, uint32_t len,
                      uint64_t now_ns)
{
    uint32_t asked = conn->phase == CONN_ASKING ? conn->sent - conn->received : 0;
    worker->out.bytes += len;
    if (len > asked) {
        weir__drive_fail_extra(worker, conn, len - asked);
        return false;
    }
    if (!weir__drive_verify(worker, conn, worker->buffer, len))
        return false;
    if (conn->received < worker->target->wire_bytes)
        return true;
    weir__histogram_add(&worker->out.latency,
                        now_ns - due_ns(&worker->plan, turn_of(worker, conn)));
    worker->out.requests++;
    worker->last_ns = now_ns;
    conn->seq++;
    conn_go_on(worker, conn, now_ns);
    return true;
}

/* Reads all there is. */
static void conn_receive(struct drive_worker *worker, struct drive_conn *conn, uint32_t events)
{
    const bool ends = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    ssize_t n;
    do {
        n = weir__drive_receive(worker, conn);
        if (n < 0 && errno == EAGAIN)
            return;
        if (conn->phase == CONN_IDLE)
            worker->active++; /* giving it up takes one away */
        if (n <= 0) {
            weir__drive_fail_lost(worker, conn, n < 0 ? errno : 0);
            return;
        }
        if (!conn_take(worker, conn, (uint32_t)n, weir__drive_now_ns()))
            return;
    } while ((n == WEIR__DRIVE_BUFFER_BYTES || ends) && conn->phase >= CONN_IDLE);
}

static void conn_event(struct drive_worker *worker, struct drive_conn *conn, uint32_t events)
{
    if (conn->phase == CONN_ASKING && conn->sent < worker->target->wire_bytes)
        weir__drive_send(worker, conn);
    if (conn->phase == CONN_ASKING || (conn->phase == CONN_IDLE && events != EPOLLOUT))
        conn_receive(worker, conn, events);
    follow_plan(worker, worker->last_ns);
}

void weir__drive_plan_prepare(struct drive_worker *worker, unsigned index, uint64_t duration_ns)
{
    const struct driver_target *spec = &worker->target->spec;
    struct drive_plan *plan = &worker->plan;
    double each_ns = 1e9 / spec->shape.rate;
    plan->duration_ns = duration_ns;
    plan->interval_ns = worker->count > 0 ? each_ns * spec->conns / worker->count : 0;
    plan->offset_ns = (uint64_t)(each_ns * index);
}

/* The requests that are due from `passed_ns` of the plan on have this turn, or a later one. */
static uint64_t turn_at(const struct drive_plan *plan, uint64_t passed_ns)
{
    return passed_ns <= plan->offset_ns
               ? 0
               : (uint64_t)ceil((double)(passed_ns - plan->offset_ns) / plan->interval_ns);
}

static void plan_begin(struct drive_worker *worker)
{
    struct drive_plan *plan = &worker->plan;
    const uint64_t now_ns = worker->first_ns;
    plan->began_ns = now_ns + plan->offset_ns - plan->passed_ns;
    plan->over_ns = now_ns + plan->duration_ns;
    plan->give_up_ns = plan->over_ns + worker->target->spec.answer_timeout_ns;
    plan->next = worker->count > 0 ? turn_at(plan, plan->passed_ns) : 0;
    plan->passed_ns += plan->duration_ns;
    plan->end = worker->count > 0 ? turn_at(plan, plan->passed_ns) : 0;
    plan->next_ns = due_ns(plan, plan->next);
    /* What was planned earlier and never made is not made up for. */
    for (uint32_t i = 0; i < worker->count; i++) {
        uint64_t seq = (plan->next + worker->count - 1 - i) / worker->count;
        assert(worker->conns[i].seq <= seq);
        worker->conns[i].seq = seq;
    }
    weir__drive_more(worker, true); /* the slice lasts as long as the plan */
}

static uint64_t plan_tick(struct drive_worker *worker, uint64_t now_ns)
{
    struct drive_plan *plan = &worker->plan;
    follow_plan(worker, now_ns);
    if (plan->next < plan->end)
        return plan->next_ns;
    if (now_ns < plan->over_ns)
        return plan->over_ns;
    weir__drive_more(worker, false);
    return UINT64_MAX;
}

const struct drive_machine weir__drive_open = {
    .begin = plan_begin,
    .event = conn_event,
    .tick = plan_tick,
};
