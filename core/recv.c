/*
 * Receiving: a connection's armed multishot receive fills its queue of lent buffers; a handler
 * takes them one by one. Here is also what runs handlers: a coroutine of their own
 * (per=connection), or the burst runner, one coroutine that serves all ready connections of a turn,
 * one after another, without a switch between them. If a handler waits, it keeps the runner's
 * coroutine and the next connection gets a new one; a runner that never waited stays for the next
 * turn.
 */
#include "core/park.h"

#include <errno.h>

#include "core/message.h"

enum { STACKS_NS = 10000000 /* until the next try when out of stacks */ };

static struct weir_conn *take_ready(struct weir_loop *loop)
{
    struct weir_conn *conn = weir__conn_at(loop, loop->ready.head - 1);

    loop->ready.head = conn->next_ready;
    if (!loop->ready.head)
        loop->ready.tail = 0;
    loop->ready.count--;
    return conn;
}

static void make_ready(struct weir_conn *conn)
{
    struct weir_loop *loop = conn->loop;
    uint32_t id = conn->index + 1;

    conn->flags |= CONN_READY;
    conn->next_ready = 0;
    if (loop->ready.tail)
        weir__conn_at(loop, loop->ready.tail - 1)->next_ready = id;
    else
        loop->ready.head = id;
    loop->ready.tail = id;
    loop->ready.count++;
}

static void recv_unwait(struct weir_task *task, int why)
{
    struct weir_conn *conn = task->object;

    conn->flags &= (uint16_t) ~(CONN_RECEIVING | CONN_QUIET);
    weir__task_wake(task, why);
}

const struct weir__wait weir__recv_wait = {"for input", recv_unwait};

void weir__conn_wake_receiver(struct weir_conn *conn, int res)
{
    struct weir_task *task = weir__conn_waiters(conn);

    while (task && task->wait != &weir__recv_wait && !weir__task_selects(task))
        task = task->waits_next;
    if (task && task->wait == &weir__recv_wait) {
        recv_unwait(task, res);
        return;
    }
    conn->flags &= (uint16_t) ~(CONN_RECEIVING | CONN_QUIET);
    if (task) /* else it has selected something else, and did not run yet */
        weir__select_input(task);
}

void weir__conn_notify(struct weir_conn *conn)
{
    if (conn->error && conn->flags & CONN_DRAINING)
        weir__conn_wake_senders(conn, conn->error);
    if (conn->flags & CONN_RECEIVING)
        weir__conn_wake_receiver(conn, 0);
    else if (!(conn->flags & (CONN_RUNNING | CONN_READY | CONN_CLOSING)))
        make_ready(conn);
}

/* ---- filling the queue ----------------------------------------------------------------------- */

static void push_received(struct weir_conn *conn, struct weir__buf *buf, uint32_t bytes)
{
    struct weir_loop *loop = conn->loop;

    assert(buf->lent && bytes <= loop->bufs.buf_bytes);
    loop->stats.bytes_in += bytes;
    if (conn->flags & CONN_CLOSING) {
        weir__buf_put(&loop->bufs, buf);
        return;
    }
    loop->bufs_out++;
    buf->len = bytes;
    weir__buf_queue(&loop->bufs, &conn->rx_head, buf);
    conn->rx_bufs++;
}

/* No buffer was left. */
static void starve(struct weir_conn *conn)
{
    struct weir_loop *loop = conn->loop;

    conn->flags |= CONN_STARVED;
    loop->stats.starved++;
    weir__op_queue_push(&loop->starved, &conn->rx);
}

/* Takes a completion of the receive into the connection's state. */
static void take_result(struct weir_conn *conn)
{
    int res = conn->rx.res;

    if (res > 0)
        push_received(conn, conn->rx.buf, (uint32_t)res);
    else if (res == 0)
        conn->flags |= CONN_EOF;
    else if (res == -ENOBUFS && conn->rx.state == WEIR__OP_IDLE && !(conn->flags & CONN_CLOSING))
        starve(conn);
    else if (res != -ECANCELED && res != -ENOBUFS && !conn->error)
        conn->error = (int16_t)res;
}

/* Descriptors that came wait with their bytes, and what comes after these in the kernel: so a
 * connection holds those of one message. The receive being idle then, pop_received() looks. */
static bool holds_fds(const struct weir_conn *conn)
{
    const struct weir__buf *bufs = conn->loop->bufs.bufs;

    return conn->rx.kind == WEIR__OP_RECVMSG && conn->rx_head && bufs[conn->rx_head].last->fds;
}

static bool wants_input(const struct weir_conn *conn)
{
    unsigned not = CONN_EOF | CONN_CLOSING | CONN_STARVED;

    return !(conn->flags & not ) && !conn->error && conn->rx_bufs < conn->loop->rx_bufs_max &&
           !holds_fds(conn) && !(conn->rx.flags & WEIR__OP_TAKEN);
}

static void arm(struct weir_conn *conn);

/* Whether a handler would find something: bytes, or an end of some kind. */
static bool has_news(const struct weir_conn *conn)
{
    return conn->rx_head || conn->flags & CONN_EOF || conn->error;
}

static void wake_taker(struct weir_conn *conn);

static void rx_done(struct weir__op *op)
{
    struct weir_conn *conn = weir__container(op, struct weir_conn, rx);

    take_result(conn);
    if (weir__unlikely(op->flags & WEIR__OP_TAKEN) && op->state == WEIR__OP_IDLE)
        wake_taker(conn);
    if (conn->flags & CONN_CLOSING) {
        if (op->state == WEIR__OP_IDLE)
            weir__conn_close_step(conn);
        return;
    }
    if (op->state == WEIR__OP_IDLE)
        arm(conn);
    else if (op->state == WEIR__OP_HELD && conn->rx_bufs >= conn->loop->rx_bufs_max)
        weir__cancel(conn->loop, op);
    if (has_news(conn))
        weir__conn_notify(conn);
}

/* Of a connection that may receive descriptors: a message becomes bytes, as they come to others. */
static void message_done(struct weir__op *op)
{
    struct weir_conn *conn = weir__container(op, struct weir_conn, rx);

    if (op->res > 0) {
        struct weir__buf *buf = op->buf;
        weir__message_open(buf, (uint32_t)op->res, op->flags);
        op->res = (int32_t)buf->len;
        if (!buf->len || conn->flags & CONN_CLOSING)
            weir__message_drop_fds(buf);
        if (!buf->len)
            weir__buf_put(&conn->loop->bufs, buf);
    }
    rx_done(op);
}

/* How it is to wait: at rest as long as it wakes less than twice in a round of rest.c. */
static uint8_t how_to_wait(struct weir_conn *conn)
{
    struct weir_loop *loop = conn->loop;

    if (weir__unlikely(conn->rested)) {
        if (conn->rested == WEIR__ONE_BY_ONE)
            return conn->rx.kind == WEIR__OP_RECVMSG ? WEIR__OP_FDS : 0;
        uint8_t now = weir__rest_round(loop);
        if (conn->rested != now) {
            conn->rested = now;
            return WEIR__OP_REST;
        }
        conn->rested = 0;
    }
    loop->rest.awake = true; /* also where the sweep is past its slot in this round */
    if (loop->rest.timer.state == WEIR__OP_IDLE)
        weir__rest_begin(loop);
    return WEIR__OP_MULTISHOT;
}

static void arm(struct weir_conn *conn)
{
    while (conn->rx.state == WEIR__OP_IDLE && wants_input(conn)) {
        conn->rx.flags = how_to_wait(conn);
        conn->rx.done = conn->rx.kind == WEIR__OP_RECV ? rx_done : message_done;
        if (weir__submit(conn->loop, &conn->rx) == WEIR__QUEUED)
            return;
        take_result(conn);
    }
}

/* For a connection whose handler does not run: it learns of a receive that ended at once. */
static void arm_and_tell(struct weir_conn *conn)
{
    arm(conn);
    if (has_news(conn))
        weir__conn_notify(conn);
}

/* Re-arms connections that found no buffer, as many as there are buffers that nobody holds, and no
 * more than the engine has for one turn. Those that come back do not tell it: the kernel says
 * ENOBUFS also where no bytes wait, and such a receive, armed again, takes none, so that the others
 * would wait for ever beside a full pool. */
void weir__conns_feed(struct weir_loop *loop)
{
    uint32_t spare = weir__bufs_to_receive(loop), most = loop->engine->recv_most;

    if (most && spare > most)
        spare = most;
    for (; spare > 0 && loop->starved.head; spare--) {
        struct weir__op *op = weir__op_queue_pop(&loop->starved);
        if (weir__dgram_fed(op))
            continue;
        struct weir_conn *conn = weir__container(op, struct weir_conn, rx);
        conn->flags &= (uint16_t)~CONN_STARVED;
        if (conn->flags & CONN_CLOSING)
            weir__conn_close_step(conn);
        else
            arm_and_tell(conn);
    }
}

void weir__conn_drop_received(struct weir_conn *conn)
{
    struct weir__buf *bufs = conn->loop->bufs.bufs;

    while (conn->rx_head) {
        struct weir__buf *buf = &bufs[conn->rx_head];
        conn->rx_head = buf->next ? (uint16_t)buf->next->index : 0;
        conn->loop->bufs_out--;
        weir__message_drop_fds(buf);
        weir__buf_put(&conn->loop->bufs, buf);
    }
    conn->rx_bufs = 0;
}

/* ---- taking from it -------------------------------------------------------------------------- */

/* Not at once when it had been stopped for having enough: half of it first. Descriptors that nobody
 * asked for are closed. */
static __attribute__((noinline)) uint32_t armed_again(struct weir_conn *conn, struct weir__buf *buf)
{
    weir__message_drop_fds(buf);
    if (conn->rx_bufs <= conn->loop->rx_bufs_max / 2)
        arm(conn);
    return buf->len;
}

/* The first of the queue. */
static void unlink_received(struct weir_conn *conn, const struct weir__buf *buf)
{
    conn->rx_head = 0;
    if (buf->next) {
        buf->next->last = buf->last;
        conn->rx_head = (uint16_t)buf->next->index;
    }
    conn->rx_bufs--;
}

static uint32_t pop_received(struct weir_conn *conn, struct weir_buf *out)
{
    struct weir_loop *loop = conn->loop;
    struct weir__buf *buf = &loop->bufs.bufs[conn->rx_head];

    unlink_received(conn, buf);
    conn->budget--;
    *out = (struct weir_buf){.data = buf->data, .len = buf->len, .id = buf->index};
    if (weir__unlikely(conn->rx.state == WEIR__OP_IDLE))
        return armed_again(conn, buf);
    return buf->len;
}

/* What a handler gets when no bytes are there: an end of some kind, or 1: it may wait. */
static int end_of_input(struct weir_conn *conn, const struct weir_task *task)
{
    int res = 1;

    if (conn->error)
        res = conn->error;
    else if (conn->flags & CONN_EOF)
        res = 0;
    else if ((task->cut && task->cancelled) || conn->loop->stopping)
        res = -ECANCELED; /* in a shield the cancel has not come yet */
    if (res <= 0)
        conn->flags |= CONN_FINISHED;
    else if (task->cut)
        return task->cut;
    return res;
}

/* Waits until there may be more; a connection that has had its share of this turn, until the others
 * have had theirs. -ESHUTDOWN: it closed meanwhile, and is not to be touched any more. Not inline:
 * what must survive a wait is saved here, and not by every receive. */
__attribute__((noinline)) static int wait_for_input(struct weir_conn *conn, struct weir_task *task,
                                                    uint64_t deadline_ns)
{
    int res = 0;

    assert(!(conn->rx.flags & WEIR__OP_TAKEN) && "weir_recv: a splice reads this connection");
    arm(conn);
    weir__conn_enter(conn, task);
    if (conn->rx_head) {
        weir_yield();
    } else if (!has_news(conn)) {
        conn->flags |= CONN_RECEIVING;
        res = weir__task_wait(task, &weir__recv_wait, conn, deadline_ns);
    }
    if (conn->flags & CONN_CLOSING)
        res = -ESHUTDOWN;
    else
        conn->budget = WEIR__BURST_BUDGET;
    weir__conn_leave(conn, task);
    return res;
}

/* What weir_recv() leaves to receive(). */
enum { UNUSUAL = CONN_EOF | CONN_ENDED | CONN_CLOSING | CONN_RECEIVING };

static __attribute__((noinline)) int receive(struct weir_conn *conn, struct weir_buf *buf,
                                             uint64_t deadline_ns, bool may_end,
                                             struct weir_fds *fds)
{
    struct weir_loop *loop = conn->loop;
    struct weir_task *task = loop->task;

    assert(task && "weir_recv: not in a task");
    assert(weir__loop_here(loop) && "weir_recv: a foreign thread");
    assert((conn->flags & (CONN_OPEN | CONN_CLOSING)) == CONN_OPEN &&
           "weir_recv: the connection is gone");
    assert(!(conn->flags & CONN_RECEIVING) && "weir_recv: another task receives");
    weir_buf_put(loop, buf);
    for (;;) {
        /* Past its own close, or past the time to drain, what still comes is nobody's. */
        if (conn->flags & CONN_ENDED || (loop->cut && conn->rx_head)) {
            weir__conn_drop_received(conn);
            conn->flags |= CONN_FINISHED;
            return conn->flags & CONN_ENDED ? -ESHUTDOWN : -ECANCELED;
        }
        if (conn->rx_head && conn->budget > 0) {
            if (fds)
                weir__message_take_fds(&loop->bufs.bufs[conn->rx_head], fds);
            return (int)pop_received(conn, buf);
        }
        if (!conn->rx_head) {
            int res = end_of_input(conn, task);
            if (res <= 0)
                return res;
        }
        if (may_end)
            return -EAGAIN;
        int res = wait_for_input(conn, task, deadline_ns);
        if (res == -ETIME || res == -ESHUTDOWN)
            return res;
    }
}

int weir_recv(struct weir_conn *conn, struct weir_buf *buf)
{
    struct weir_loop *loop = conn->loop;
    bool may_end = loop->per_burst && !(conn->flags & CONN_OWNED);

    /* The two answers that a request gets, its bytes and then "no more now"; receive() says the
     * same, slower. */
    if (!buf->id && loop->task && (conn->flags & (UNUSUAL | CONN_OPEN)) == CONN_OPEN) {
        if (conn->rx_head && conn->budget > 0 && !loop->cut)
            return (int)pop_received(conn, buf);
        if (!conn->rx_head && may_end && !conn->error && !loop->task->cut && !loop->stopping)
            return -EAGAIN;
    }
    return receive(conn, buf, WEIR_FOREVER, may_end, NULL);
}

int weir_recv_until(struct weir_conn *conn, struct weir_buf *buf, uint64_t deadline_ns)
{
    return receive(conn, buf, deadline_ns, false, NULL);
}

int weir_conn_recv_fds(struct weir_conn *conn, struct weir_buf *buf, struct weir_fds *fds,
                       uint64_t deadline_ns)
{
    *fds = (struct weir_fds){0};
    return receive(conn, buf, deadline_ns, false, fds);
}

void weir_conn_take_fds(struct weir_conn *conn)
{
    assert(conn->flags & CONN_OWNED && conn->rested == WEIR__ONE_BY_ONE &&
           "weir_conn_take_fds: not a Unix connection of weir_connect()");
    assert(conn->rx.state == WEIR__OP_IDLE && !conn->rx_head &&
           "weir_conn_take_fds: it has received already");
    assert(conn->loop->bufs.buf_bytes >= WEIR__MESSAGE_ROOM &&
           "weir_conn_take_fds: the loop's buf_bytes is below 512");
    conn->rx.kind = WEIR__OP_RECVMSG;
}

/* ---- input among other things that a task waits for: select.c ----------------------------------
 */

bool weir__conn_has_input(const struct weir_conn *conn)
{
    return has_news(conn) || conn->flags & CONN_ENDED || conn->loop->stopping;
}

void weir__conn_check_watch(const struct weir_conn *conn, const struct weir_task *task)
{
    assert(conn->loop == task->loop && "weir_select: a connection of another loop");
    assert((conn->flags & (CONN_OPEN | CONN_CLOSING)) == CONN_OPEN &&
           "weir_select: the connection is gone");
    assert(!(conn->flags & CONN_RECEIVING) && "weir_select: another task receives");
    assert(!(conn->rx.flags & WEIR__OP_TAKEN) && "weir_select: a splice reads this connection");
}

bool weir__conn_watch(struct weir_conn *conn, struct weir_task *task)
{
    arm(conn);
    if (weir__conn_has_input(conn))
        return false;
    weir__conn_enter(conn, task);
    conn->flags |= CONN_RECEIVING;
    return true;
}

int weir__conn_unwatch(struct weir_conn *conn, struct weir_task *task)
{
    int res = conn->flags & CONN_CLOSING ? -ESHUTDOWN : 0;

    conn->flags &= (uint16_t)~CONN_RECEIVING;
    conn->budget = res ? conn->budget : WEIR__BURST_BUDGET;
    weir__conn_leave(conn, task);
    return res;
}

/* ---- for those that read the descriptor themselves ------------------------------------------- */

static const struct weir__wait take_wait = {"for a receive to be stopped", weir__goes_on_waiting};

static void wake_taker(struct weir_conn *conn)
{
    for (struct weir_task *task = weir__conn_waiters(conn); task; task = task->waits_next)
        if (task->wait == &take_wait)
            weir__task_wake(task, 0);
}

/* Not cut short: a cancelled receive ends soon. */
int weir__conn_take(struct weir_conn *conn)
{
    struct weir_task *task = conn->loop->task;
    int res = 0;

    assert(!(conn->flags & (CONN_RECEIVING | CONN_CLOSING)) && "another task receives");
    assert(!(conn->rx.flags & WEIR__OP_TAKEN) && "another splice reads this connection");
    conn->rx.flags |= WEIR__OP_TAKEN;
    if (conn->rx.state == WEIR__OP_IDLE)
        return 0;
    if (conn->rx.state == WEIR__OP_HELD)
        weir__cancel(conn->loop, &conn->rx);
    weir__conn_enter(conn, task);
    weir__task_wait(task, &take_wait, conn, WEIR_FOREVER);
    if (conn->flags & CONN_CLOSING)
        res = -ESHUTDOWN;
    weir__conn_leave(conn, task);
    return res;
}

void weir__conn_give_back(struct weir_conn *conn)
{
    conn->rx.flags &= (uint8_t)~WEIR__OP_TAKEN;
    arm(conn);
}

struct weir__buf *weir__conn_received(const struct weir_conn *conn)
{
    return conn->rx_head ? &conn->loop->bufs.bufs[conn->rx_head] : NULL;
}

void weir__conn_consume(struct weir_conn *conn, uint32_t bytes)
{
    struct weir_loop *loop = conn->loop;
    struct weir__buf *buf = weir__conn_received(conn);

    assert(bytes <= buf->len);
    buf->data += bytes;
    buf->len -= bytes;
    if (buf->len)
        return;
    unlink_received(conn, buf);
    loop->bufs_out--;
    weir__buf_put(&loop->bufs, buf);
}

/* ---- running handlers ------------------------------------------------------------------------ */

/* Calls the handler, and does what its return means. */
static void run_handler(struct weir_conn *conn)
{
    struct weir_listener *listener = weir__conn_listener(conn);

    conn->flags |= CONN_RUNNING;
    conn->budget = WEIR__BURST_BUDGET;
    conn->loop->task->unwaited = 0;
    listener->handler(conn, listener->argument);
    conn->flags &= (uint16_t) ~(CONN_RUNNING | CONN_QUIET);
    if (conn->flags & CONN_FINISHED || !conn->loop->per_burst) {
        weir__conn_close(conn);
        return;
    }
    arm(conn);
    if (has_news(conn))
        make_ready(conn);
    else if (conn->loop->stopping)
        weir__conn_close(conn);
}

static void connection_main(void *argument)
{
    run_handler(argument);
}

static void serve_next(struct weir_loop *loop)
{
    struct weir_conn *conn = take_ready(loop);

    loop->ready_budget--;
    conn->flags &= (uint16_t)~CONN_READY;
    if (conn->flags & CONN_CLOSING) {
        weir__conn_close_step(conn);
    } else {
        weir__count(&loop->stats.bursts);
        run_handler(conn);
        if (loop->task->locals_set)
            weir__locals_end(loop->task);
        assert(!loop->task->scope && "a handler returned with a scope open: close it first");
    }
}

/* A runner whose handlers never waited stays for the next turn. */
static void burst_main(void *argument)
{
    struct weir_loop *loop = argument;
    struct weir_task *task = loop->task;

    for (;;) {
        do
            serve_next(loop);
        while (loop->ready_budget > 0 && !task->moved);
        if (task->moved)
            return;
        weir_coro_yield(NULL);
    }
}

/* Serves the connections that are ready now; those that become so meanwhile wait for the next turn.
 */
void weir__conns_run(struct weir_loop *loop)
{
    loop->ready_budget = loop->ready.count;
    while (loop->ready_budget > 0) {
        struct weir_task *runner = loop->runner;
        if (runner)
            loop->task_count++;
        else
            runner = weir__task_new(loop, burst_main, loop, "burst", "weir");
        if (!runner) {
            /* They stay ready. A task that ends gives a stack back just before we come here again;
             * where it was memory that lacked, nobody tells when there is more. */
            if (!weir__timer_armed(&loop->stacks_timer))
                weir__timer_arm(&loop->wheel, &loop->stacks_timer, weir_now_ns() + STACKS_NS);
            return;
        }
        loop->runner = NULL;
        if (!weir__task_resume(runner) && !runner->moved) {
            loop->runner = runner;
            loop->task_count--; /* it is nobody's work */
        }
    }
}

bool weir__conn_serve(struct weir_conn *conn)
{
    struct weir_loop *loop = conn->loop;

    conn->budget = WEIR__BURST_BUDGET;
    if (!loop->per_burst) {
        struct weir_task *task =
            weir__task_new(loop, connection_main, conn, "connection", "weir_listen");
        if (!task)
            return false;
        conn->flags |= CONN_RUNNING;
        weir__task_runnable(task);
    }
    arm_and_tell(conn);
    return true;
}
