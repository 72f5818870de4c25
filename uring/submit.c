/*
 * Ops become SQEs. Nothing here enters the kernel unless the submission queue is full; the system
 * call is wait(). Called by core through the ops table, and by reap.c for an op's next step.
 *
 * An op has at most one SQE of its own in the kernel at any time, so its address is enough to
 * cancel it.
 */
#include "uring/internal.h"

#include <unistd.h>

#include "core/message.h"

void weir__uring_ops_init(struct weir__uring_ops *ops)
{
    ops->head = NULL;
    ops->tail = &ops->head;
}

void weir__uring_ops_push(struct weir__uring_ops *ops, struct weir__op *op)
{
    op->next = NULL;
    *ops->tail = op;
    ops->tail = &op->next;
}

void weir__uring_ops_remove(struct weir__uring_ops *ops, struct weir__op *op)
{
    struct weir__op **link = &ops->head;
    while (*link != op)
        link = &(*link)->next;
    *link = op->next;
    if (ops->tail == &op->next)
        ops->tail = link;
}

static void fill_accept(struct weir__uring *uring, struct weir__op *op, struct io_uring_sqe *sqe)
{
    sqe->opcode = IORING_OP_ACCEPT;
    if (op->offset)
        sqe->file_index = IORING_FILE_INDEX_ALLOC; /* not inherited anyway, and CLOEXEC is EINVAL */
    else
        sqe->accept_flags = SOCK_CLOEXEC;
    if (op->flags & WEIR__OP_MULTISHOT && weir__uring_has(uring, WEIR__URING_BIT(MULTISHOT_ACCEPT)))
        sqe->ioprio = IORING_ACCEPT_MULTISHOT;
}

static void fill_connect(struct weir__uring *uring, struct weir__op *op, struct io_uring_sqe *sqe)
{
    sqe->opcode = IORING_OP_CONNECT;
    sqe->addr = (uint64_t)(uintptr_t)op->data;
    sqe->off = op->len;
}

/* Trap: on Unix sockets a multishot receive can miss the end of the stream where it was already
 * there together with the last bytes (liburing issue 1549; seen on 6.18 without DEFER_TASKRUN,
 * never over TCP). Whoever receives from one leaves WEIR__OP_MULTISHOT out. */
static void fill_recv(struct weir__uring *uring, struct weir__op *op, struct io_uring_sqe *sqe)
{
    sqe->opcode = IORING_OP_RECV;
    if (!uring->buf_ring) { /* reap.c saw the socket ready and took a buffer */
        sqe->addr = (uint64_t)(uintptr_t)op->buf->base;
        sqe->len = uring->base.env->bufs->buf_bytes;
        sqe->msg_flags = MSG_DONTWAIT;
        return;
    }
    sqe->flags |= IOSQE_BUFFER_SELECT;
    if (op->flags & WEIR__OP_MULTISHOT && weir__uring_has(uring, WEIR__URING_BIT(MULTISHOT_RECV)))
        sqe->ioprio = IORING_RECV_MULTISHOT;
}

/* Where the sender's address and the control messages lie in a buffer; the kernel only reads it. */
static struct msghdr rooms = {.msg_namelen = WEIR__NAME_ROOM},
                     rooms_fds = {.msg_namelen = WEIR__NAME_ROOM,
                                  .msg_controllen = WEIR__CONTROL_ROOM};

/* The one with buffers of the ring: messages that come one by one are taken by reap.c. */
static void fill_recvmsg(struct weir__uring *uring, struct weir__op *op, struct io_uring_sqe *sqe)
{
    assert(weir__uring_recvmsg_stays(uring, op));
    sqe->opcode = IORING_OP_RECVMSG;
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->ioprio = IORING_RECV_MULTISHOT;
    sqe->addr = (uint64_t)(uintptr_t)(op->flags & WEIR__OP_FDS ? &rooms_fds : &rooms);
    sqe->len = 1;
    sqe->msg_flags = MSG_TRUNC | MSG_CMSG_CLOEXEC;
}

static void fill_sendmsg(struct weir__uring *uring, struct weir__op *op, struct io_uring_sqe *sqe)
{
    sqe->opcode = IORING_OP_SENDMSG;
    sqe->addr = (uint64_t)(uintptr_t)op->data;
    sqe->len = 1;
    sqe->msg_flags = MSG_NOSIGNAL;
}

static void fill_send(struct weir__uring *uring, struct weir__op *op, struct io_uring_sqe *sqe)
{
    sqe->opcode = IORING_OP_SEND;
    sqe->addr = (uint64_t)(uintptr_t)op->data + op->offset;
    sqe->len = op->len - (uint32_t)op->offset;
    sqe->msg_flags = MSG_WAITALL | MSG_NOSIGNAL;
    if (op->flags & WEIR__OP_ZERO_COPY) {
        sqe->opcode = IORING_OP_SEND_ZC;
        op->res = 0;
    }
}

/*
 * Quiet sends. Most sends are done the moment the kernel sees them, and a completion that says so
 * would end the wait for nothing. So a quiet one may not block (MSG_DONTWAIT) and says nothing when
 * all is sent (CQE_SKIP_SUCCESS): such a request is carried out inside the enter that takes it, so
 * when that enter has returned, the send is done, unless a completion says otherwise. One that
 * could not go whole goes on as an ordinary send.
 */
static void be_quiet_if_asked(struct weir__uring *uring, struct weir__op *op,
                              struct io_uring_sqe *sqe)
{
    if (!(op->flags & WEIR__OP_QUIET) || op->offset > 0 ||
        !weir__uring_has(uring, WEIR__URING_BIT(QUIET_SENDS)))
        return;
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->msg_flags |= MSG_DONTWAIT;
    op->engine_bits |= WEIR__URING_QUIET;
    weir__uring_ops_push(&uring->quiet, op);
}

/* The chain's unsent rest. One buffer needs no message header; of a long chain the first
 * WEIR__URING_IOVECS go now, the rest when they are through. */
static void fill_send_bufs(struct weir__uring *uring, struct weir__op *op, struct io_uring_sqe *sqe)
{
    struct weir__uring_message *message = &uring->messages[sqe - uring->ring.sq.sqes];
    const struct weir__buf *buf = op->buf;
    uint64_t skip = op->offset;
    size_t count = 0;
    while (buf->next && skip >= buf->len) {
        skip -= buf->len;
        buf = buf->next;
    }
    sqe->msg_flags = MSG_WAITALL | MSG_NOSIGNAL;
    if (!buf->next) {
        sqe->opcode = IORING_OP_SEND;
        sqe->addr = (uint64_t)(uintptr_t)buf->data + skip;
        sqe->len = buf->len - (uint32_t)skip;
        be_quiet_if_asked(uring, op, sqe);
        return;
    }
    for (; buf && count < WEIR__URING_IOVECS; buf = buf->next, skip = 0)
        message->iovecs[count++] = (struct iovec){buf->data + skip, buf->len - skip};
    message->header = (struct msghdr){.msg_iov = message->iovecs, .msg_iovlen = count};
    sqe->opcode = IORING_OP_SENDMSG;
    sqe->addr = (uint64_t)(uintptr_t)&message->header;
    sqe->len = 1;
    if (!buf) /* only a request for the whole chain may end it in silence */
        be_quiet_if_asked(uring, op, sqe);
}

static void fill_poll_events(struct io_uring_sqe *sqe, unsigned events)
{
    sqe->opcode = IORING_OP_POLL_ADD;
    sqe->poll32_events =
        __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? events << 16 | events >> 16 : events;
}

static void fill_poll(struct weir__uring *uring, struct weir__op *op, struct io_uring_sqe *sqe)
{
    fill_poll_events(sqe, op->len);
}

static void fill_close(struct weir__uring *uring, struct weir__op *op, struct io_uring_sqe *sqe)
{
    sqe->opcode = IORING_OP_CLOSE;
    if (weir__uring_is_direct(op->fd)) {
        sqe->fd = 0;
        sqe->flags = 0; /* IOSQE_FIXED_FILE is for what uses it, and EBADF here */
        sqe->file_index = weir__uring_slot(op->fd) + 1;
    }
}

static void fill_shutdown(struct weir__uring *uring, struct weir__op *op, struct io_uring_sqe *sqe)
{
    sqe->opcode = IORING_OP_SHUTDOWN;
    sqe->len = op->len;
}

static void (*const fill[WEIR__OP_KINDS])(struct weir__uring *, struct weir__op *,
                                          struct io_uring_sqe *) = {
    [WEIR__OP_ACCEPT] = fill_accept,
    [WEIR__OP_CONNECT] = fill_connect,
    [WEIR__OP_RECV] = fill_recv,
    [WEIR__OP_SEND] = fill_send,
    [WEIR__OP_SEND_BUFS] = fill_send_bufs,
    [WEIR__OP_POLL] = fill_poll,
    [WEIR__OP_READ] = weir__uring_fill_transfer,
    [WEIR__OP_WRITE] = weir__uring_fill_transfer,
    [WEIR__OP_FSYNC] = weir__uring_fill_fsync,
    [WEIR__OP_FILE] = weir__uring_fill_file,
    [WEIR__OP_CLOSE] = fill_close,
    [WEIR__OP_SHUTDOWN] = fill_shutdown,
    [WEIR__OP_RECVMSG] = fill_recvmsg,
    [WEIR__OP_SENDMSG] = fill_sendmsg,
};

/* What readiness means to the kinds that may have to wait for it. */
static unsigned events_of(const struct weir__op *op)
{
    int input = op->kind == WEIR__OP_RECV || op->kind == WEIR__OP_ACCEPT ||
                op->kind == WEIR__OP_READ || op->kind == WEIR__OP_RECVMSG;
    return input ? WEIR__POLL_IN : WEIR__POLL_OUT;
}

static struct io_uring_sqe *next_sqe(struct weir__uring *uring)
{
    struct io_uring_sq *sq = &uring->ring.sq;
    if (weir__unlikely(sq->sqe_tail - io_uring_smp_load_acquire(sq->khead) >= sq->ring_entries))
        return NULL;
    return &sq->sqes[sq->sqe_tail++ & sq->ring_mask];
}

static __attribute__((noinline)) struct io_uring_sqe *sqe_after_flush(struct weir__uring *uring)
{
    uring->more_counters.early_flushes++;
    weir__uring_flush(uring);
    return next_sqe(uring);
}

struct io_uring_sqe *weir__uring_get_sqe(struct weir__uring *uring)
{
    struct io_uring_sqe *sqe = next_sqe(uring);
    if (weir__unlikely(!sqe)) {
        sqe = sqe_after_flush(uring);
        if (!sqe)
            return NULL;
    }
    *sqe = (struct io_uring_sqe){0};
    return sqe;
}

void weir__uring_quiet_taken(struct weir__uring *uring)
{
    uring->settling_at = &uring->settling.head;
    if (!uring->quiet.head)
        return;
    if (weir__uring_sq_left(uring) > 0) {
        uring->hurry = 1; /* by the next enter someone may wait for their end */
        return;
    }
    *uring->settling.tail = uring->quiet.head;
    uring->settling.tail = uring->quiet.tail;
    weir__uring_ops_init(&uring->quiet);
}

static struct weir__op **find(struct weir__op **link, const struct weir__op *op)
{
    while (*link && *link != op)
        link = &(*link)->next;
    return link;
}

/* Complaints come in the order of submission: each search goes on where the last one ended. */
void weir__uring_quiet_ended(struct weir__uring *uring, struct weir__op *op)
{
    struct weir__op **link = find(uring->settling_at, op);
    if (*link) {
        uring->settling_at = link;
        *link = op->next;
        if (uring->settling.tail == &op->next)
            uring->settling.tail = link;
    } else if (*find(&uring->settling.head, op)) {
        weir__uring_ops_remove(&uring->settling, op);
        uring->settling_at = &uring->settling.head;
    } else {
        weir__uring_ops_remove(&uring->quiet, op); /* its enter did not take all there was */
    }
    op->engine_bits &= (uint8_t)~WEIR__URING_QUIET;
    op->flags &= (uint8_t)~WEIR__OP_QUIET;
}

int weir__uring_quiet_settle(struct weir__uring *uring)
{
    struct weir__op *op = uring->settling.head, *next;
    int delivered = 0;

    weir__uring_ops_init(&uring->settling);
    for (; op; op = next) {
        next = op->next;
        op->engine_bits = 0;
        delivered += weir__uring_complete(uring, op, (int32_t)weir__uring_chain_bytes(op->buf), 0);
    }
    return delivered;
}

static void aim(const struct weir__op *op, struct io_uring_sqe *sqe)
{
    sqe->fd = op->fd;
    if (weir__uring_is_direct(op->fd)) {
        sqe->fd = (int32_t)weir__uring_slot(op->fd);
        sqe->flags = IOSQE_FIXED_FILE;
    }
}

static void fill_sqe(struct weir__uring *uring, struct weir__op *op, struct io_uring_sqe *sqe)
{
    uring->generation = (uring->generation + 1) & WEIR__URING_GENERATION;
    op->engine_bits =
        (op->engine_bits & WEIR__URING_POLLING) | WEIR__URING_IN_KERNEL | uring->generation;
    aim(op, sqe);
    sqe->user_data = weir__uring_token(op);
    if (op->engine_bits & WEIR__URING_POLLING)
        fill_poll_events(sqe, events_of(op));
    else
        fill[op->kind](uring, op, sqe);
}

void weir__uring_fill_cancel(struct weir__uring *uring, struct weir__op *op,
                             struct io_uring_sqe *sqe)
{
    sqe->opcode = IORING_OP_ASYNC_CANCEL;
    sqe->fd = -1;
    sqe->addr = weir__uring_token(op);
    sqe->user_data = WEIR__URING_TAG_NOBODY;
    if (weir__uring_has(uring, WEIR__URING_BIT(CQE_SKIP)))
        sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
}

/* Of a send without a copy that was answered the kernel only waits for the peer to acknowledge,
 * which nothing cancels: a socket that is disconnected lets go of what it has. */
static void fill_disconnect(struct weir__uring *uring, struct weir__op *op,
                            struct io_uring_sqe *sqe)
{
    static const struct sockaddr nowhere = {.sa_family = AF_UNSPEC};

    op->res = -ECANCELED; /* what was taken may be lost now */
    sqe->opcode = IORING_OP_CONNECT;
    aim(op, sqe);
    sqe->addr = (uint64_t)(uintptr_t)&nowhere;
    sqe->off = sizeof nowhere;
    sqe->user_data = WEIR__URING_TAG_NOBODY;
    if (weir__uring_has(uring, WEIR__URING_BIT(CQE_SKIP)))
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
}

static void fill_end(struct weir__uring *uring, struct weir__op *op, struct io_uring_sqe *sqe)
{
    if (weir__uring_unacknowledged(op))
        fill_disconnect(uring, op, sqe);
    else
        weir__uring_fill_cancel(uring, op, sqe);
}

static void pend(struct weir__uring *uring, struct weir__op *op)
{
    assert(!(op->engine_bits & WEIR__URING_PENDED));
    uring->more_counters.pended++;
    op->engine_bits |= WEIR__URING_PENDED;
    weir__uring_ops_push(&uring->pended, op);
}

void weir__uring_unpend(struct weir__uring *uring, struct weir__op *op)
{
    weir__uring_ops_remove(&uring->pended, op);
    op->engine_bits &= (uint8_t)~WEIR__URING_PENDED;
}

/* A close is carried out inside the enter that takes it and fails only by someone's bug; to be told
 * of it would end that enter's wait with nothing to do. What no enter takes, engine.c closes. */
static int can_close_unheard(const struct weir__uring *uring, const struct weir__op *op)
{
    return op->kind == WEIR__OP_CLOSE && op->flags & WEIR__OP_QUIET &&
           weir__uring_has(uring, WEIR__URING_BIT(CQE_SKIP));
}

static int close_unheard(struct weir__uring *uring, struct weir__op *op, struct io_uring_sqe *sqe)
{
    sqe->fd = op->fd;
    fill_close(uring, op, sqe);
    sqe->user_data = WEIR__URING_TAG_NOBODY;
    sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
    op->res = 0;
    return WEIR__DONE;
}

/* With a kernel thread that submits nobody knows what it has taken when the ring breaks, and a
 * descriptor of the process must then be closed neither twice nor never. */
static int must_close_here(const struct weir__uring *uring)
{
    return weir__uring_has(uring, WEIR__URING_BIT(SQPOLL)); /* which is without direct ones */
}

static int close_here(struct weir__op *op)
{
    op->res = close(op->fd) < 0 ? -errno : 0;
    return WEIR__DONE;
}

/* What no request can do, and what this kernel's cannot. */
static int is_for_helpers(const struct weir__uring *uring, const struct weir__op *op)
{
    return op->kind == WEIR__OP_CALL ||
           (op->kind == WEIR__OP_FILE && !(uring->file_codes >> op->len & 1));
}

int weir__uring_submit(struct weir__engine *engine, struct weir__op *op)
{
    struct weir__uring *uring = (struct weir__uring *)engine;
    assert(op->state == WEIR__OP_IDLE && op->done);
    assert(((uintptr_t)op & ~WEIR__URING_ADDRESS) == 0);
    if (is_for_helpers(uring, op))
        return engine->env->call_submit(engine->env, op);
    assert(op->kind < WEIR__OP_KINDS && fill[op->kind]);
    if (op->kind == WEIR__OP_CLOSE) {
        if (weir__uring_before_close(uring, op) < 0)
            return -EBUSY;
        if (must_close_here(uring))
            return close_here(op);
    }
    struct io_uring_sqe *sqe = weir__uring_get_sqe(uring);
    if (!sqe)
        return -EBUSY;
    if (can_close_unheard(uring, op))
        return close_unheard(uring, op, sqe);
    weir__op_set_state(op, WEIR__OP_HELD);
    uring->held++;
    op->engine_bits = 0;
    if (op->kind == WEIR__OP_SEND || op->kind == WEIR__OP_SEND_BUFS)
        op->offset = 0; /* bytes sent */
    if (op->kind == WEIR__OP_SEND && !weir__uring_has(uring, WEIR__URING_BIT(SEND_ZC)))
        op->flags &= (uint8_t)~WEIR__OP_ZERO_COPY;
    if (op->kind == WEIR__OP_ACCEPT)
        op->offset = weir__uring_has(uring, WEIR__URING_BIT(DIRECT)) && !(op->flags & WEIR__OP_FDS);
    if (op->kind == WEIR__OP_RECV) {
        op->buf = NULL;
        if (!uring->buf_ring ||
            (op->flags & WEIR__OP_REST && weir__uring_has(uring, WEIR__URING_BIT(REST))))
            op->engine_bits = WEIR__URING_POLLING;
    }
    if (op->kind == WEIR__OP_RECVMSG) {
        assert(!weir__uring_is_direct(op->fd));
        op->buf = NULL;
        if (!weir__uring_recvmsg_stays(uring, op))
            op->engine_bits = WEIR__URING_POLLING;
    }
    fill_sqe(uring, op, sqe);
    return WEIR__QUEUED;
}

void weir__uring_resubmit(struct weir__uring *uring, struct weir__op *op)
{
    struct io_uring_sqe *sqe = weir__uring_get_sqe(uring);
    assert(op->state == WEIR__OP_HELD && !(op->engine_bits & WEIR__URING_IN_KERNEL));
    if (sqe)
        fill_sqe(uring, op, sqe);
    else
        pend(uring, op);
}

void weir__uring_resubmit_when_ready(struct weir__uring *uring, struct weir__op *op)
{
    uring->more_counters.polls++;
    op->engine_bits |= WEIR__URING_POLLING;
    weir__uring_resubmit(uring, op);
}

void weir__uring_end(struct weir__uring *uring, struct weir__op *op)
{
    struct io_uring_sqe *sqe = weir__uring_get_sqe(uring);
    if (sqe)
        fill_end(uring, op, sqe);
    else
        pend(uring, op);
}

void weir__uring_cancel(struct weir__engine *engine, struct weir__op *op)
{
    struct weir__uring *uring = (struct weir__uring *)engine;
    assert(op->state != WEIR__OP_IDLE);
    if (op->state == WEIR__OP_CANCELLING)
        return;
    weir__op_set_state(op, WEIR__OP_CANCELLING);
    if (is_for_helpers(uring, op)) {
        engine->env->call_cancel(engine->env, op);
        return;
    }
    if (op->engine_bits & WEIR__URING_PENDED)
        return; /* not in the kernel: the next wait() completes it */
    if (op->engine_bits & (WEIR__URING_QUIET | WEIR__URING_RESTING)) {
        /* Done, failed or cancelled by the next enter, which must not wait for others. */
        uring->hurry = 1;
        return;
    }
    weir__uring_end(uring, op);
}

/* The kernel has nothing of it. */
static int complete_cancelled(struct weir__uring *uring, struct weir__op *op)
{
    if (op->kind == WEIR__OP_RECV && op->buf) { /* taken when the socket was ready */
        weir__buf_put(uring->base.env->bufs, op->buf);
        op->buf = NULL;
    }
    return weir__uring_complete(uring, op, -ECANCELED, 0);
}

int weir__uring_drain_pended(struct weir__uring *uring)
{
    int delivered = 0;
    while (uring->pended.head) {
        struct weir__op *op = uring->pended.head;
        if (op->state == WEIR__OP_CANCELLING && !(op->engine_bits & WEIR__URING_IN_KERNEL)) {
            weir__uring_unpend(uring, op);
            delivered += complete_cancelled(uring, op);
            continue;
        }
        struct io_uring_sqe *sqe = weir__uring_get_sqe(uring);
        if (!sqe)
            break;
        weir__uring_unpend(uring, op);
        if (op->state == WEIR__OP_CANCELLING)
            fill_end(uring, op, sqe);
        else
            fill_sqe(uring, op, sqe);
    }
    return delivered;
}
