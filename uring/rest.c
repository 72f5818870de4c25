/*
 * Receives that wait cheaply. An armed receive takes an io_kiocb, the state of its message and that
 * of its poll: 870 bytes of kernel memory; a poll alone takes 260 (both measured, Linux 6.18). So a
 * receive that has been quiet for long is cancelled and waits as a poll, after which a receive
 * fetches what came. Called by core as a hint, and by reap.c when the cancel has been answered.
 *
 * Nothing is lost between the two: a receive takes bytes only to complete with them, and a poll
 * sees what is there already.
 */
#include "uring/internal.h"

#include <errno.h>

/* The kernel finds what is to be cancelled by walking one of at most 256 lists, from the newest to
 * the oldest: half a microsecond where few receives are armed, 600 for the oldest of a million. So
 * what an enter may take of it is measured. */
enum { RESTS_MOST = 256, RESTS_NS = 1000000 /* an enter may take so much longer */ };

int weir__uring_rest(struct weir__engine *engine, struct weir__op *op)
{
    struct weir__uring *uring = (struct weir__uring *)engine;
    assert(op->kind == WEIR__OP_RECV && op->state == WEIR__OP_HELD);
    if (!weir__uring_has(uring, WEIR__URING_BIT(REST)))
        return -EOPNOTSUPP;
    if (!(op->engine_bits & (WEIR__URING_POLLING | WEIR__URING_RESTING))) {
        struct io_uring_sqe *sqe = NULL;
        if (!(op->engine_bits & WEIR__URING_PENDED) && uring->rests_queued <= uring->rests_most)
            sqe = weir__uring_get_sqe(uring);
        if (!sqe)
            return 0;
        weir__uring_fill_cancel(uring, op, sqe);
        op->engine_bits |= WEIR__URING_RESTING;
        uring->rests_queued++;
        uring->hurry = 1; /* so that the enter takes as long as the cancels do, and no longer */
    }
    op->flags = (uint8_t)((op->flags & ~WEIR__OP_MULTISHOT) | WEIR__OP_REST);
    return 1;
}

void weir__uring_rests_taken(struct weir__uring *uring, uint64_t ns)
{
    uint64_t most = RESTS_NS * (uint64_t)uring->rests_queued / (ns + 1);
    uring->rests_most = (unsigned)(most < RESTS_MOST ? most : RESTS_MOST);
    uring->rests_queued = 0;
}

int weir__uring_rest_taken(struct weir__uring *uring, struct weir__op *op, int32_t res)
{
    op->engine_bits &= (uint8_t)~WEIR__URING_RESTING;
    if (res != -ECANCELED || op->state != WEIR__OP_HELD)
        return 0;
    uring->more_counters.rests++;
    weir__uring_resubmit_when_ready(uring, op);
    return 1;
}
