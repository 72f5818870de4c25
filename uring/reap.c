/*
 * Completions become results of ops. Called by wait() alone; runs no user code: op->done() is
 * core's and only marks things runnable, though it may submit and cancel.
 *
 * What ends an op is the kernel's final CQE, the one without F_MORE, and nothing else: a request
 * to cancel is only a request, and what comes before its answer is delivered as what it is.
 */
#include "uring/internal.h"

#include <unistd.h>

#include "core/message.h"

/* Ops lie in connection slots, so a turn over a thousand connections misses the cache a thousand
 * times unless the slots of the next completions are on their way. */
enum { PREFETCH_AHEAD = 4 };

static int complete(struct weir__uring *uring, struct weir__op *op, int32_t res, int more)
{
    if (!more && op->engine_bits & WEIR__URING_PENDED)
        weir__uring_unpend(uring, op); /* it wanted to be cancelled */
    return weir__uring_complete(uring, op, res, more);
}

/* io_uring waits for a socket even where it is non-blocking, but takes O_NONBLOCK at its word for
 * pipes and the like, and on some kernels for sockets; and MSG_DONTWAIT everywhere. */
static int wait_for_readiness(struct weir__uring *uring, struct weir__op *op)
{
    if (op->state == WEIR__OP_CANCELLING)
        return complete(uring, op, -ECANCELED, 0);
    weir__uring_resubmit_when_ready(uring, op);
    return 0;
}

static int finish_sent(struct weir__uring *uring, struct weir__op *op, int32_t res, uint64_t all)
{
    if (res == -EAGAIN)
        return wait_for_readiness(uring, op);
    if (res < 0)
        return complete(uring, op, res, 0);
    op->offset += (uint32_t)res;
    assert(op->offset <= all);
    if (op->offset == all)
        return complete(uring, op, (int32_t)all, 0);
    if (op->state == WEIR__OP_CANCELLING)
        return complete(uring, op, -ECANCELED, 0);
    uring->more_counters.short_sends++;
    weir__uring_resubmit(uring, op);
    return 0;
}

/* Two completions: how much the kernel took, and then that it is done with the memory. */
static int finish_zero_copy(struct weir__uring *uring, struct weir__op *op, int32_t res,
                            uint32_t flags)
{
    if (flags & IORING_CQE_F_MORE) {
        op->res = res;
        if (res > 0 && op->state == WEIR__OP_CANCELLING && !(op->engine_bits & WEIR__URING_PENDED))
            weir__uring_end(uring, op);
        return 0;
    }
    if (flags & IORING_CQE_F_NOTIF)
        res = op->res;
    bool copies = res == -EOPNOTSUPP || res == -ENOBUFS || res == -ENOMEM;
    if (!copies || op->state == WEIR__OP_CANCELLING)
        return finish_sent(uring, op, res, op->len);
    op->flags &= (uint8_t)~WEIR__OP_ZERO_COPY; /* not this socket, or no memory to pin */
    weir__uring_resubmit(uring, op);
    return 0;
}

static int finish_recv_from_ring(struct weir__uring *uring, struct weir__op *op, int32_t res,
                                 uint32_t flags)
{
    int more = (flags & IORING_CQE_F_MORE) != 0;
    op->buf = NULL;
    if (flags & IORING_CQE_F_BUFFER) {
        struct weir__buf *buf = weir__uring_buf_taken(uring, flags);
        if (res > 0) {
            uring->buf_ring_received += (uint32_t)res;
            buf->len = (uint32_t)res;
            op->buf = buf;
        } else {
            weir__buf_put(uring->base.env->bufs, buf);
        }
    }
    if (res == -EAGAIN && !more)
        return wait_for_readiness(uring, op);
    uring->counters.enobufs += res == -ENOBUFS;
    return complete(uring, op, res, more);
}

/* Without a buffer ring the op takes a buffer only once the socket is ready. */
static int finish_recv_own(struct weir__uring *uring, struct weir__op *op, int32_t res)
{
    if (res > 0) {
        op->buf->len = (uint32_t)res;
        return complete(uring, op, res, 0);
    }
    weir__buf_put(uring->base.env->bufs, op->buf);
    op->buf = NULL;
    return res == -EAGAIN ? wait_for_readiness(uring, op) : complete(uring, op, res, 0);
}

static int finish_accept(struct weir__uring *uring, struct weir__op *op, int32_t res, int more)
{
    if (res == -EAGAIN && !more)
        return wait_for_readiness(uring, op);
    if (op->offset && res >= 0)
        return complete(uring, op, WEIR__URING_DIRECT_FD + res, more);
    if (op->offset && res == -ENFILE && !more && op->state == WEIR__OP_HELD) {
        op->offset = 0; /* the ring's table is full, or the machine's: the process's own, then */
        uring->counters.rearms++;
        weir__uring_resubmit(uring, op);
        return 0;
    }
    return complete(uring, op, res, more);
}

/* The socket is ready: now a buffer, and the call itself. (One that came through the ring would
 * have its layout only as a multishot, and on a kernel that has those this is for the few
 * connections that receive descriptors.) */
static int finish_recvmsg_ready(struct weir__uring *uring, struct weir__op *op)
{
    struct weir__buf_pool *pool = uring->base.env->bufs;
    op->buf = weir__buf_get_to_receive(pool);
    if (!op->buf) {
        uring->counters.enobufs++;
        return complete(uring, op, -ENOBUFS, 0);
    }
    uring->counters.syscalls++;
    int32_t n = weir__message_receive(op->fd, op->buf->base, pool->buf_bytes, op->flags);
    if (n < 0) {
        weir__buf_put(pool, op->buf);
        op->buf = NULL;
    }
    return n == -EAGAIN ? wait_for_readiness(uring, op) : complete(uring, op, n, 0);
}

/* The poll that came before an op has answered: now the op itself. */
static int finish_polling(struct weir__uring *uring, struct weir__op *op, int32_t res)
{
    op->engine_bits &= (uint8_t)~WEIR__URING_POLLING;
    if (op->state == WEIR__OP_CANCELLING)
        return complete(uring, op, -ECANCELED, 0);
    if (res < 0)
        return complete(uring, op, res, 0);
    if (op->kind == WEIR__OP_RECV && !uring->buf_ring) {
        op->buf = weir__buf_get_to_receive(uring->base.env->bufs);
        if (!op->buf) {
            uring->counters.enobufs++;
            return complete(uring, op, -ENOBUFS, 0);
        }
    }
    if (op->kind == WEIR__OP_RECVMSG && !weir__uring_recvmsg_stays(uring, op))
        return finish_recvmsg_ready(uring, op);
    weir__uring_resubmit(uring, op);
    return 0;
}

static int finish_op(struct weir__uring *uring, struct weir__op *op, int32_t res, uint32_t flags)
{
    int more = (flags & IORING_CQE_F_MORE) != 0;
    if (!more)
        op->engine_bits &= (uint8_t)~WEIR__URING_IN_KERNEL;
    if (weir__unlikely(op->engine_bits & WEIR__URING_QUIET)) {
        if (op->kind != WEIR__OP_RECV)
            weir__uring_quiet_ended(uring, op);
        else if (!more && weir__uring_rest_taken(uring, op, res))
            return 0;
    }
    if (op->engine_bits & WEIR__URING_POLLING)
        return finish_polling(uring, op, res);
    switch ((enum weir__op_kind)op->kind) {
    case WEIR__OP_RECV:
        return uring->buf_ring ? finish_recv_from_ring(uring, op, res, flags)
                               : finish_recv_own(uring, op, res);
    case WEIR__OP_RECVMSG:
        return finish_recv_from_ring(uring, op, res, flags);
    case WEIR__OP_SEND:
        if (op->flags & WEIR__OP_ZERO_COPY)
            return finish_zero_copy(uring, op, res, flags);
        return finish_sent(uring, op, res, op->len);
    case WEIR__OP_SEND_BUFS:
        return finish_sent(uring, op, res, weir__uring_chain_bytes(op->buf));
    case WEIR__OP_ACCEPT:
        return finish_accept(uring, op, res, more);
    case WEIR__OP_SENDMSG:
    case WEIR__OP_READ:
    case WEIR__OP_WRITE:
        if (res == -EAGAIN && !more)
            return wait_for_readiness(uring, op);
        return complete(uring, op, weir__uring_file_result(op, res), more);
    case WEIR__OP_FSYNC:
    case WEIR__OP_FILE:
        return complete(uring, op, weir__uring_file_result(op, res), more);
    default:
        return complete(uring, op, res, more);
    }
}

/* Nobody waits for it any more. Its buffer must not be lost all the same. */
static void drop_stray(struct weir__uring *uring, uint32_t flags)
{
    uring->more_counters.strays++;
    if (flags & IORING_CQE_F_BUFFER)
        weir__buf_put(uring->base.env->bufs, weir__uring_buf_taken(uring, flags));
}

static int finish(struct weir__uring *uring, uint64_t token, int32_t res, uint32_t flags)
{
    int tag = (int)(token & WEIR__URING_TAG_MASK);
    if (tag == WEIR__URING_TAG_OP) {
        struct weir__op *op = (struct weir__op *)(uintptr_t)(token & WEIR__URING_ADDRESS);
        if ((op->engine_bits & WEIR__URING_IN_KERNEL) && weir__uring_token(op) == token)
            return finish_op(uring, op, res, flags);
        drop_stray(uring, flags);
    } else if (tag == WEIR__URING_TAG_INSTALL) {
        if (res >= 0)
            close(res);
    } else if (tag != WEIR__URING_TAG_NOBODY) {
        weir__uring_wake_reaped(uring, tag);
    }
    return 0;
}

int weir__uring_reap(struct weir__uring *uring)
{
    struct io_uring_cq *cq = &uring->ring.cq;
    unsigned head = *cq->khead, ready = io_uring_cq_ready(&uring->ring);
    int delivered = 0;
    for (unsigned i = 0; i < ready; i++) {
        const struct io_uring_cqe *cqe = &cq->cqes[(head + i) & cq->ring_mask];
        const struct io_uring_cqe *ahead = &cq->cqes[(head + i + PREFETCH_AHEAD) & cq->ring_mask];
        uintptr_t op = (uintptr_t)(ahead->user_data & WEIR__URING_ADDRESS);
        __builtin_prefetch((const void *)op, 1);
        __builtin_prefetch((const void *)(op + 64), 1); /* of a slot, which the op begins */
        delivered += finish(uring, cqe->user_data, cqe->res, cqe->flags);
    }
    io_uring_cq_advance(&uring->ring, ready);
    weir__uring_wake_arm(uring);
    return delivered;
}
