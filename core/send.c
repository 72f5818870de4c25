/*
 * Sending. A buffer handed over joins the connection's queue, and the connection the loop's list;
 * at the end of the turn each listed connection gives the engine its whole queue as one send, whose
 * op lies in the first buffer's record, so a send in flight needs no memory of the connection. One
 * send at a time is in flight, which keeps the order.
 */
#include "core/loop.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "core/message.h"

static struct weir__buf *buf_at(struct weir_loop *loop, uint32_t index)
{
    return &loop->bufs.bufs[index];
}

static void list_for_flush(struct weir_conn *conn)
{
    struct weir_loop *loop = conn->loop;

    if (conn->flags & (CONN_TX_LISTED | CONN_SENDING) || conn->tx_flight || !conn->tx_head)
        return;
    conn->flags |= CONN_TX_LISTED;
    conn->next_tx = 0;
    if (loop->tx_conns.tail)
        weir__conn_at(loop, loop->tx_conns.tail - 1)->next_tx = conn->index + 1;
    else
        loop->tx_conns.head = conn->index + 1;
    loop->tx_conns.tail = conn->index + 1;
}

/* Returns a chain to the pool; how many bytes it had. */
static uint32_t put_chain(struct weir_conn *conn, uint32_t head)
{
    struct weir_loop *loop = conn->loop;
    struct weir__buf *buf = buf_at(loop, head), *next;
    uint32_t bytes = 0;

    for (; buf; buf = next) {
        next = buf->next;
        bytes += buf->len;
        conn->tx_bufs--;
        loop->bufs_out--;
        weir__buf_put(&loop->bufs, buf);
    }
    conn->unsent -= bytes;
    return bytes;
}

void weir__conn_drop_unsent(struct weir_conn *conn)
{
    struct weir_loop *loop = conn->loop;

    if (conn->tx_head)
        put_chain(conn, conn->tx_head);
    conn->tx_head = 0;
    if (conn->tx_flight && buf_at(loop, conn->tx_flight)->tx.state == WEIR__OP_HELD)
        weir__cancel(loop, &buf_at(loop, conn->tx_flight)->tx);
}

void weir__conn_fail(struct weir_conn *conn, int error)
{
    if (!conn->error)
        conn->error = (int16_t)error;
    conn->loop->stats.send_errors++;
    weir__conn_drop_unsent(conn);
}

static void drain_unwait(struct weir_task *task, int why)
{
    weir__task_wake(task, why);
}

const struct weir__wait weir__drain_wait = {"for what is unsent to leave", drain_unwait};

void weir__conn_wake_senders(struct weir_conn *conn, int res)
{
    conn->flags &= (uint16_t)~CONN_DRAINING;
    for (struct weir_task *task = weir__conn_waiters(conn); task; task = task->waits_next)
        if (task->wait == &weir__drain_wait)
            weir__task_wake(task, res);
}

static bool drained(const struct weir_conn *conn)
{
    return conn->unsent <= conn->loop->unsent_max / 2 &&
           conn->tx_bufs <= conn->loop->tx_bufs_max / 2;
}

/* The chain in flight has ended with `res`. */
static void sent(struct weir_conn *conn, int res)
{
    uint32_t head = conn->tx_flight;

    conn->tx_flight = 0;
    uint32_t bytes = put_chain(conn, head);
    if (res >= 0)
        conn->loop->stats.bytes_out += bytes;
    else if (!(conn->flags & CONN_ABORT))
        weir__conn_fail(conn, res);
    list_for_flush(conn);
    if (conn->flags & CONN_CLOSING) {
        conn->budget = 0; /* it moved: see weir__conns_linger() */
        weir__conn_close_step(conn);
    } else if (conn->error) {
        weir__conn_notify(conn);
    } else if (conn->flags & CONN_DRAINING && drained(conn)) {
        weir__conn_wake_senders(conn, 0);
    }
}

static void tx_done(struct weir__op *op)
{
    sent(weir__container(op, struct weir__buf, tx)->owner, op->res);
}

/* Whether something goes on only when the connection's send has ended: its close, its handler, or
 * whoever lacks the buffers it holds. */
static bool someone_waits(const struct weir_conn *conn)
{
    const struct weir_loop *loop = conn->loop;

    return conn->flags & (CONN_CLOSING | CONN_DRAINING) || loop->buf_waiters ||
           (loop->starved.head && weir__bufs_to_receive(loop) == 0);
}

static void flush(struct weir_conn *conn)
{
    struct weir_loop *loop = conn->loop;
    struct weir__buf *head;

    conn->flags &= (uint16_t)~CONN_TX_LISTED;
    if (!conn->tx_head || conn->tx_flight) {
        if (conn->flags & CONN_CLOSING)
            weir__conn_close_step(conn);
        return;
    }
    head = buf_at(loop, conn->tx_head);
    head->owner = conn;
    head->tx = (struct weir__op){.kind = WEIR__OP_SEND_BUFS,
                                 .flags = someone_waits(conn) ? 0 : WEIR__OP_QUIET,
                                 .fd = conn->rx.fd,
                                 .buf = head,
                                 .done = tx_done};
    conn->tx_flight = conn->tx_head;
    conn->tx_head = 0;
    if (weir__submit(loop, &head->tx) == WEIR__DONE)
        sent(conn, head->tx.res);
}

/* Gives the engine what was handed over in this turn. */
void weir__conns_flush(struct weir_loop *loop)
{
    uint32_t next = loop->tx_conns.head;

    /* Taken whole: a send that completes at once may list its connection for the next turn. */
    loop->tx_conns = (struct weir__conn_queue){0};
    while (next) {
        struct weir_conn *conn = weir__conn_at(loop, next - 1);
        next = conn->next_tx;
        flush(conn);
    }
}

/* ---- public ---------------------------------------------------------------------------------- */

static int may_send(const struct weir_conn *conn)
{
    assert(conn->loop->task && "weir_send: not in a task");
    assert((conn->flags & (CONN_OPEN | CONN_CLOSING)) == CONN_OPEN &&
           "weir_send: the connection is gone");
    if (conn->error)
        return conn->error;
    return conn->flags & CONN_ENDED ? -ESHUTDOWN : 0;
}

/* 0: it goes on, and may be sent to. Else the connection may be gone when this returns. */
static int wait_drained(struct weir_conn *conn, uint64_t deadline_ns)
{
    struct weir_task *task = conn->loop->task;
    int res = weir__task_check(task);

    if (res)
        return res;
    weir__conn_enter(conn, task);
    conn->flags |= CONN_DRAINING;
    res = weir__task_wait(task, &weir__drain_wait, conn, deadline_ns);
    if (!res)
        res = conn->flags & CONN_CLOSING ? -ESHUTDOWN : may_send(conn);
    weir__conn_leave(conn, task);
    return res;
}

static bool has_too_much(const struct weir_conn *conn)
{
    const struct weir_loop *loop = conn->loop;

    return conn->unsent > loop->unsent_max || conn->tx_bufs >= loop->tx_bufs_max;
}

/* Not inline, and the last thing weir_send() does, so that only who waits pays for it. */
__attribute__((noinline)) static int send_when_drained(struct weir_conn *conn,
                                                       struct weir_buf *handle)
{
    struct weir_loop *loop = conn->loop;
    int res = wait_drained(conn, WEIR_FOREVER);

    if (!res)
        return weir_send(conn, handle);
    weir_buf_put(loop, handle);
    return res;
}

static void hand_over(struct weir_conn *conn, struct weir__buf *buf)
{
    weir__buf_queue(&conn->loop->bufs, &conn->tx_head, buf);
    conn->tx_bufs++;
    conn->unsent += buf->len;
    list_for_flush(conn);
}

int weir_send(struct weir_conn *conn, struct weir_buf *handle)
{
    struct weir_loop *loop = conn->loop;
    struct weir__buf *buf = buf_at(loop, handle->id);
    uint32_t bytes = handle->len;
    int res = may_send(conn);

    assert(handle->id && buf->lent && handle->data >= buf->base &&
           handle->data + bytes <= buf->base + loop->bufs.buf_bytes &&
           "weir_send: not (a part of) a buffer that is held");
    if (res || !bytes) {
        weir_buf_put(loop, handle);
        return res;
    }
    if (has_too_much(conn))
        return send_when_drained(conn, handle);
    buf->data = handle->data;
    buf->len = bytes;
    *handle = (struct weir_buf){0};
    hand_over(conn, buf);
    return (int)bytes;
}

/* The record of a buffer carries memory of others here; its own bytes are not touched. Half of them
 * are for that at most, lest peers that do not read stop the receives of all others: beyond, and
 * where the chain would become too long, the send is an op of the task's own. */
static struct weir__buf *record_for(struct weir_loop *loop, size_t bytes)
{
    if (bytes > loop->unsent_max || loop->bufs_out >= loop->bufs.count / 2)
        return NULL;
    return weir__buf_get_to_receive(&loop->bufs);
}

int weir_send_static(struct weir_conn *conn, const void *data, size_t bytes)
{
    struct weir_loop *loop = conn->loop;
    struct weir__buf *buf;
    int res = may_send(conn);

    while (!res && bytes && has_too_much(conn))
        res = wait_drained(conn, WEIR_FOREVER);
    if (res || !bytes)
        return res;
    buf = record_for(loop, bytes);
    if (!buf)
        return weir_send_all(conn, data, bytes);
    loop->bufs_out++;
    buf->data = (uint8_t *)(uintptr_t)data;
    buf->len = (uint32_t)bytes;
    hand_over(conn, buf);
    return (int)bytes;
}

/* Waits until nothing handed over, and nothing of another task, is on its way. */
static int wait_for_turn(struct weir_conn *conn, uint64_t deadline_ns)
{
    int res = may_send(conn);

    while (!res && (weir__conn_unsent(conn) || conn->flags & CONN_SENDING))
        res = wait_drained(conn, deadline_ns);
    return res ? res : weir__task_check(conn->loop->task);
}

/* Of a message, descriptors have gone with the first byte: what a stream did not take of the bytes
 * follows as a send, before anyone else's. */
static int run_op(struct weir_conn *conn, struct weir__op *op, uint64_t deadline_ns)
{
    struct weir_task *task = conn->loop->task;
    int res = weir__task_op(task, op, deadline_ns);

    if (op->kind != WEIR__OP_SENDMSG || res < 0)
        return res;
    struct iovec all = *((const struct msghdr *)op->data)->msg_iov;
    if ((size_t)res == all.iov_len || conn->flags & CONN_CLOSING)
        return res;
    *op = (struct weir__op){.kind = WEIR__OP_SEND,
                            .fd = op->fd,
                            .data = (char *)all.iov_base + res,
                            .len = (uint32_t)(all.iov_len - (size_t)res)};
    int rest = weir__task_op(task, op, deadline_ns);
    return rest < 0 ? rest : (int)all.iov_len;
}

int weir__conn_send_begin(struct weir_conn *conn, uint64_t deadline_ns)
{
    int res = wait_for_turn(conn, deadline_ns);

    if (res)
        return res;
    weir__conn_enter(conn, conn->loop->task);
    conn->flags |= CONN_SENDING;
    return 0;
}

int weir__conn_send_end(struct weir_conn *conn)
{
    conn->flags &= (uint16_t)~CONN_SENDING;
    list_for_flush(conn);
    if (conn->flags & CONN_DRAINING)
        weir__conn_wake_senders(conn, conn->error);
    int res = conn->flags & CONN_CLOSING ? -ESHUTDOWN : 0;
    weir__conn_leave(conn, conn->loop->task);
    return res;
}

/* A send or a shutdown of the running task, when it is its turn. -ESHUTDOWN if the connection
 * closed meanwhile, even if all was sent: whoever is told of success may go on with the connection.
 */
static int perform(struct weir_conn *conn, struct weir__op *op, uint64_t deadline_ns)
{
    assert(weir__loop_here(conn->loop) && "weir_send_all: a foreign thread");
    int res = weir__conn_send_begin(conn, deadline_ns);

    if (res)
        return res;
    res = run_op(conn, op, deadline_ns);
    if (res > 0)
        conn->loop->stats.bytes_out += (uint64_t)res;
    if (res < 0 && op->kind == WEIR__OP_SEND && !conn->error) {
        conn->error = (int16_t)res; /* an unknown part has gone: nothing may follow it */
        weir__conn_drop_unsent(conn);
        weir__conn_notify(conn);
    }
    int closed = weir__conn_send_end(conn);
    return closed ? closed : res;
}

static int send_memory(struct weir_conn *conn, const void *data, size_t bytes, uint8_t flags,
                       uint64_t deadline_ns)
{
    struct weir__op op = {.kind = WEIR__OP_SEND,
                          .flags = flags,
                          .fd = conn->rx.fd,
                          .data = (void *)(uintptr_t)data,
                          .len = (uint32_t)bytes};

    assert(bytes <= INT32_MAX && "weir_send_all: at most INT32_MAX bytes");
    return bytes ? perform(conn, &op, deadline_ns) : wait_for_turn(conn, deadline_ns);
}

int weir_send_all_until(struct weir_conn *conn, const void *data, size_t bytes,
                        uint64_t deadline_ns)
{
    return send_memory(conn, data, bytes, 0, deadline_ns);
}

int weir_send_zero_copy(struct weir_conn *conn, const void *data, size_t bytes,
                        uint64_t deadline_ns)
{
    return send_memory(conn, data, bytes, WEIR__OP_ZERO_COPY, deadline_ns);
}

int weir_conn_send_fds(struct weir_conn *conn, const void *data, size_t bytes, const int *fds,
                       unsigned count, uint64_t deadline_ns)
{
    struct iovec all = {.iov_base = (void *)(uintptr_t)data, .iov_len = bytes};
    struct msghdr message = {.msg_iov = &all, .msg_iovlen = 1};
    struct weir__op op = {.kind = WEIR__OP_SENDMSG, .fd = conn->rx.fd, .data = &message};
    struct weir__rights rights;

    assert(bytes > 0 && bytes <= INT32_MAX && "weir_conn_send_fds: they go with a byte at least");
    weir__rights_add(&message, &rights, fds, count);
    return perform(conn, &op, deadline_ns);
}

int weir_send_all(struct weir_conn *conn, const void *data, size_t bytes)
{
    return weir_send_all_until(conn, data, bytes, WEIR_FOREVER);
}

int weir_conn_shutdown(struct weir_conn *conn)
{
    struct weir__op op = {.kind = WEIR__OP_SHUTDOWN, .fd = conn->rx.fd, .len = SHUT_WR};

    return perform(conn, &op, WEIR_FOREVER);
}

/* ---- buffers for the handler to fill --------------------------------------------------------- */

static void buf_unwait(struct weir_task *task, int why)
{
    struct weir_loop *loop = task->loop;
    struct weir_task **link = &loop->buf_waiters, *before = NULL;

    while (*link != task) {
        before = *link;
        link = &before->next;
    }
    *link = task->next;
    if (loop->buf_waiters_tail == task)
        loop->buf_waiters_tail = before;
    weir__task_wake(task, why);
}

static const struct weir__wait buf_wait = {"for a buffer", buf_unwait};

static int wait_for_buf(struct weir_loop *loop, uint64_t deadline_ns)
{
    struct weir_task *task = loop->task;
    int res = weir__task_check(task);

    if (res)
        return res;
    task->next = NULL;
    if (loop->buf_waiters_tail)
        loop->buf_waiters_tail->next = task;
    else
        loop->buf_waiters = task;
    loop->buf_waiters_tail = task;
    return weir__task_wait(task, &buf_wait, NULL, deadline_ns);
}

/* Wakes as many of those that wait for a buffer as there are free ones. */
void weir__bufs_feed(struct weir_loop *loop)
{
    for (uint32_t n = loop->bufs.free_count; n > 0 && loop->buf_waiters; n--) {
        struct weir_task *task = loop->buf_waiters;
        loop->buf_waiters = task->next;
        if (!loop->buf_waiters)
            loop->buf_waiters_tail = NULL;
        weir__task_wake(task, 0);
    }
}

int weir_buf_get(struct weir_loop *loop, struct weir_buf *handle, uint64_t deadline_ns)
{
    struct weir__buf *buf;

    assert(loop == weir__running_loop && loop->task && "weir_buf_get: not in a task");
    weir_buf_put(loop, handle);
    while (!(buf = weir__buf_get(&loop->bufs))) {
        int res = wait_for_buf(loop, deadline_ns);
        if (res)
            return res;
    }
    loop->bufs_out++;
    *handle = (struct weir_buf){.data = buf->base, .len = loop->bufs.buf_bytes, .id = buf->index};
    return 0;
}

void weir_buf_put(struct weir_loop *loop, struct weir_buf *handle)
{
    if (handle->id) {
        assert(buf_at(loop, handle->id)->lent && "weir_buf_put: the buffer went back before");
        loop->bufs_out--;
        weir__buf_put(&loop->bufs, buf_at(loop, handle->id));
    }
    *handle = (struct weir_buf){0};
}

uint32_t weir_buf_bytes(const struct weir_loop *loop)
{
    return loop->bufs.buf_bytes;
}
