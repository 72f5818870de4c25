/*
 * Connections: slots, numbers, and how they close.
 *
 * Closing is a few steps, each begun when the one before has ended (close(2) cancels nothing, so a
 * descriptor is closed only when the engine holds no op on it, and the slot is free only then):
 *   1. no more user code; the receive is cancelled, received buffers go back, and tasks that wait
 *      on it are woken;
 *   2. what was handed over is sent (or, aborting, cancelled and dropped);
 *   3. the descriptor is closed, with the receive's op, idle by now;
 *   4. the slot may be another connection's, which takes the next generation.
 */
#include "core/loop.h"

#include <errno.h>
#include <sys/socket.h>

enum { LINGER_NS = 1000000000 /* how often lingering connections are looked at */ };

static bool has_state(const struct weir_listener *listener)
{
    return listener && listener->state_bytes;
}

static int take_state(struct weir_listener *listener, uint32_t *index)
{
    if (!has_state(listener))
        return 0;
    void *state = weir__slab_get(&listener->states, index);
    if (!state)
        return -ENOMEM;
    __builtin_memset(state, 0, listener->state_bytes);
    return 0;
}

/* Written by the loop's thread alone; an acceptor on another one reads it (handover.c). */
static void count_conns(struct weir_loop *loop, int more)
{
    __atomic_store_n(&loop->conn_count, loop->conn_count + (uint32_t)more, __ATOMIC_RELAXED);
}

struct weir_conn *weir__conn_new(struct weir_loop *loop, struct weir_listener *listener, int fd)
{
    uint32_t index, state_index = 0;
    struct weir_conn *conn = weir__slab_get(&loop->conn_slab, &index);

    if (!conn)
        return NULL;
    if (take_state(listener, &state_index)) {
        weir__slab_put(&loop->conn_slab, index);
        return NULL;
    }
    /* From 1 on, so that no connection has the number 0, which users may take for "none". */
    uint32_t generation = conn->generation == UINT32_MAX ? 1 : conn->generation + 1;
    *conn = (struct weir_conn){
        .loop = loop,
        .flags = CONN_OPEN,
        .index = index,
        .generation = generation,
        .rx = {.kind = WEIR__OP_RECV, .fd = fd, .owner = listener, .owner_index = state_index},
    };
    count_conns(loop, 1);
    if (listener)
        listener->conns++;
    return conn;
}

static void put_slot(struct weir_conn *conn)
{
    struct weir_loop *loop = conn->loop;
    struct weir_listener *listener = weir__conn_listener(conn);

    if (has_state(listener))
        weir__slab_put(&listener->states, conn->rx.owner_index);
    conn->flags = 0;
    count_conns(loop, -1);
    weir__slab_put(&loop->conn_slab, conn->index);
    if (listener)
        weir__listener_conn_gone(listener);
}

void weir__conn_discard(struct weir_conn *conn)
{
    conn->loop->ops->drop_fd(conn->loop->engine, conn->rx.fd);
    put_slot(conn);
}

static void tell_closed(struct weir_conn *conn)
{
    const struct weir_listener *listener = weir__conn_listener(conn);

    if (listener && listener->closed)
        listener->closed(conn, listener->argument);
}

static void conn_free(struct weir_conn *conn)
{
    struct weir_loop *loop = conn->loop;

    assert(!conn->rx_head && !conn->tx_head && !conn->tx_flight && !conn->waiters);
    tell_closed(conn);
    loop->stats.closed++;
    put_slot(conn);
    weir__listeners_resume(loop);
}

static void close_done(struct weir__op *op)
{
    conn_free(weir__container(op, struct weir_conn, rx));
}

void weir__reset_at_close(int fd)
{
    struct linger reset = {.l_onoff = 1};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
}

enum { QUIET_RESET = WEIR__OP_QUIET | WEIR__OP_RESET };

static void close_descriptor(struct weir_conn *conn)
{
    conn->rx = (struct weir__op){.kind = WEIR__OP_CLOSE,
                                 .flags = conn->flags & CONN_ABORT ? QUIET_RESET : WEIR__OP_QUIET,
                                 .fd = conn->rx.fd,
                                 .owner = conn->rx.owner,
                                 .owner_index = conn->rx.owner_index,
                                 .done = close_done};
    if (weir__submit(conn->loop, &conn->rx) == WEIR__DONE)
        conn_free(conn);
}

static void linger(struct weir_conn *conn)
{
    struct weir_loop *loop = conn->loop;

    if (conn->flags & CONN_LINGERING)
        return;
    conn->flags |= CONN_LINGERING;
    conn->budget = 0;
    loop->lingering++;
    if (!weir__timer_armed(&loop->linger_timer))
        weir__timer_arm(&loop->wheel, &loop->linger_timer, weir_now_ns() + LINGER_NS);
}

void weir__conn_close_step(struct weir_conn *conn)
{
    assert(conn->flags & CONN_CLOSING);
    if (conn->rx.kind == WEIR__OP_CLOSE)
        return;
    if (conn->loop->cut && weir__conn_unsent(conn))
        conn->flags |= CONN_ABORT;
    if (conn->flags & CONN_ABORT || conn->error)
        weir__conn_drop_unsent(conn);
    if (weir__conn_unsent(conn)) {
        linger(conn);
        return;
    }
    /* Queues of the loop hold it by index: they drop it when they come to it. Tasks that were woken
     * leave it when they run. */
    unsigned listed = CONN_TX_LISTED | CONN_READY | CONN_STARVED;
    if (conn->rx.state != WEIR__OP_IDLE || conn->flags & listed || conn->waiters)
        return;
    if (conn->flags & CONN_LINGERING)
        conn->loop->lingering--;
    close_descriptor(conn);
}

/* Other tasks may wait on it: none of them outlives it unawares. */
static void interrupt_waiters(struct weir_conn *conn)
{
    for (struct weir_task *task = weir__conn_waiters(conn); task; task = task->waits_next)
        weir__task_interrupt(task, -ESHUTDOWN);
}

void weir__conn_left(struct weir_conn *conn, struct weir_task *task)
{
    struct weir_task *before = weir__conn_waiters(conn);

    if (before == task) {
        conn->waiters = task->waits_next ? task->waits_next->index + 1 : 0;
    } else {
        while (before->waits_next != task)
            before = before->waits_next;
        before->waits_next = task->waits_next;
    }
    if (conn->flags & CONN_CLOSING)
        weir__conn_close_step(conn);
}

void weir__conn_close(struct weir_conn *conn)
{
    assert(!(conn->flags & CONN_CLOSING));
    conn->flags = (uint16_t)((conn->flags & ~CONN_RUNNING) | CONN_CLOSING);
    interrupt_waiters(conn);
    weir__conn_drop_received(conn);
    if (conn->rx.state == WEIR__OP_HELD)
        weir__cancel(conn->loop, &conn->rx);
    weir__conn_close_step(conn);
}

void weir__conns_linger(struct weir_loop *loop, bool all)
{
    uint32_t size = weir__slab_size(&loop->conn_slab);

    for (uint32_t i = 0; i < size && loop->lingering; i++) {
        struct weir_conn *conn = weir__conn_at(loop, i);
        if (!(conn->flags & CONN_OPEN) || !(conn->flags & CONN_LINGERING))
            continue;
        /* Given up when it has finished no send in so many looks. */
        bool stuck = conn->budget == WEIR__LINGER_LOOKS;
        if (!all && !stuck) {
            conn->budget++;
            continue;
        }
        conn->flags |= CONN_ABORT;
        weir__conn_close_step(conn);
    }
    if (loop->lingering && !weir__timer_armed(&loop->linger_timer))
        weir__timer_arm(&loop->wheel, &loop->linger_timer, weir_now_ns() + LINGER_NS);
}

/* Connections of weir_connect() that no task is left to close. */
void weir__conns_close_orphans(struct weir_loop *loop)
{
    for (uint32_t i = 0; i < weir__slab_size(&loop->conn_slab) && loop->owned; i++) {
        struct weir_conn *conn = weir__conn_at(loop, i);
        if ((conn->flags & (CONN_OPEN | CONN_OWNED | CONN_CLOSING)) == (CONN_OPEN | CONN_OWNED))
            weir_conn_abort(conn);
    }
}

void weir__conns_abandon(struct weir_loop *loop)
{
    for (uint32_t i = 0; i < weir__slab_size(&loop->conn_slab); i++) {
        struct weir_conn *conn = weir__conn_at(loop, i);
        if (!(conn->flags & CONN_OPEN))
            continue;
        tell_closed(conn);
        weir__conn_drop_received(conn);
        /* A close that the engine has is the engine's to make, and the descriptor may be someone
         * else's by now. */
        if (conn->rx.kind != WEIR__OP_CLOSE || conn->rx.engine_bits == WEIR__REFUSED)
            loop->ops->drop_fd(loop->engine, conn->rx.fd);
    }
}

void weir__conn_stop(struct weir_conn *conn)
{
    if (conn->flags & (CONN_CLOSING | CONN_READY))
        return;
    if (conn->flags & CONN_RECEIVING)
        weir__conn_wake_receiver(conn, -ECANCELED);
    else if (!(conn->flags & CONN_RUNNING))
        weir__conn_close(conn);
}

/* ---- public ---------------------------------------------------------------------------------- */

void weir_conn_close(struct weir_conn *conn)
{
    assert(weir__loop_here(conn->loop) && "weir_conn_close: a foreign thread");
    assert((conn->flags & (CONN_OPEN | CONN_CLOSING)) == CONN_OPEN &&
           "weir_conn_close: the connection is gone");
    if (conn->flags & CONN_OWNED) {
        conn->loop->owned--;
        weir__conn_close(conn);
    } else {
        conn->flags |= CONN_FINISHED | CONN_ENDED;
        weir__conn_notify(conn); /* no effect inside its own handler */
    }
}

void weir_conn_abort(struct weir_conn *conn)
{
    assert((conn->flags & (CONN_OPEN | CONN_CLOSING)) == CONN_OPEN &&
           "weir_conn_abort: the connection is gone");
    conn->flags |= CONN_ABORT;
    interrupt_waiters(conn);
    weir_conn_close(conn);
}

void *weir_conn_state(struct weir_conn *conn)
{
    struct weir_listener *listener = weir__conn_listener(conn);

    if (!has_state(listener))
        return NULL;
    return weir__slab_at(&listener->states, conn->rx.owner_index, listener->states.object_bytes);
}

int weir_conn_fd(const struct weir_conn *conn)
{
    return conn->loop->ops->process_fd(conn->loop->engine, conn->rx.fd);
}

struct weir_loop *weir_conn_loop(const struct weir_conn *conn)
{
    return conn->loop;
}

uint64_t weir_conn_id(const struct weir_conn *conn)
{
    return (uint64_t)conn->generation << 32 | conn->index;
}

struct weir_conn *weir_conn_find(struct weir_loop *loop, uint64_t id)
{
    uint32_t index = (uint32_t)id;

    if (index >= weir__slab_size(&loop->conn_slab))
        return NULL;
    struct weir_conn *conn = weir__conn_at(loop, index);
    bool open = (conn->flags & (CONN_OPEN | CONN_CLOSING)) == CONN_OPEN;
    return open && conn->generation == id >> 32 ? conn : NULL;
}
