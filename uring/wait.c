/*
 * The one system call of a turn: io_uring_enter submits what was queued, runs the kernel's
 * deferred completion work, and waits. Also the paths for everything it can answer.
 *
 * liburing's own submit calls are not used: they read the clock, or enter twice, in cases that a
 * loop meets at every turn. The queue's layout is public (struct io_uring), see io_uring(7).
 */
#include "uring/internal.h"

#include <time.h>

enum {
    NS_PER_S = 1000000000,
    BACK_OFF_NS = 1000000,
    NEVER_S = 1 << 30, /* 34 years: a deadline that does not come */
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* Publishes the queued SQEs. Returns how many the kernel has not taken yet. */
static unsigned publish(struct weir__uring *uring)
{
    struct io_uring_sq *sq = &uring->ring.sq;
    if (sq->sqe_head != sq->sqe_tail) {
        sq->sqe_head = sq->sqe_tail;
        io_uring_smp_store_release(sq->ktail, sq->sqe_tail);
    }
    return weir__uring_sq_left(uring);
}

/* With a kernel thread submitting, entering is needed only to wake it, or to wait. */
static unsigned sqpoll_flags(struct weir__uring *uring)
{
    __sync_synchronize(); /* a fence of stdatomic.h makes ThreadSanitizer warn */
    unsigned flags = IO_URING_READ_ONCE(*uring->ring.sq.kflags);
    return flags & IORING_SQ_NEED_WAKEUP ? IORING_ENTER_SQ_WAKEUP : 0;
}

/* When a wait ends, if nothing comes; the flag that says what it is measured from. */
static unsigned set_timeout(const struct weir__uring *uring, uint64_t deadline_ns,
                            struct __kernel_timespec *timeout)
{
    unsigned flags = 0;
    uint64_t ns = deadline_ns;
    if (deadline_ns == WEIR__FOREVER) {
        *timeout = (struct __kernel_timespec){.tv_sec = NEVER_S};
        return 0;
    }
    if (weir__uring_has(uring, WEIR__URING_BIT(ABS_TIMER))) {
        flags = WEIR__ENTER_ABS_TIMER;
    } else {
        uint64_t now = now_ns();
        ns = deadline_ns > now ? deadline_ns - now : 0;
    }
    timeout->tv_sec = (int64_t)(ns / NS_PER_S);
    timeout->tv_nsec = (int64_t)(ns % NS_PER_S);
    return flags;
}

/* Trap: without a timeout beside it, the kernel ends a gathering wait with nothing, so that an idle
 * server would spin: hence one that never comes. */
static int enter(struct weir__uring *uring, unsigned to_submit, unsigned wait_for, unsigned flags,
                 uint64_t deadline_ns)
{
    struct __kernel_timespec timeout;
    struct io_uring_getevents_arg argument = {.ts = (uint64_t)(uintptr_t)&timeout};
    flags |= uring->enter_flags;
    uring->counters.syscalls++;
    if (wait_for == 0 || (deadline_ns == WEIR__FOREVER && wait_for == 1))
        return io_uring_enter2((unsigned)uring->enter_fd, to_submit, wait_for, flags, NULL,
                               _NSIG / 8);
    if (wait_for > 1)
        argument.WEIR__MIN_WAIT_USEC = weir__uring_gather_us(&uring->gather, wait_for);
    flags |= set_timeout(uring, deadline_ns, &timeout) | IORING_ENTER_EXT_ARG;
    return io_uring_enter2((unsigned)uring->enter_fd, to_submit, wait_for, flags, (void *)&argument,
                           sizeof argument);
}

/* What an enter answered: 0 if the ring goes on, or -errno for good. */
static int judge(struct weir__uring *uring, int answer)
{
    if (answer >= 0)
        return 0;
    switch (-answer) {
    case EINTR:
    case ETIME:
        return 0;
    case EBUSY: /* older kernels submit nothing while completions wait for room: reaping makes it */
        return 0;
    case EAGAIN:
    case ENOMEM: /* no memory for a request; the SQEs stay queued */
        uring->more_counters.short_memory++;
        return 0;
    default: /* EBADR: completions were lost for want of memory; else the ring is not usable */
        uring->broken = answer;
        return answer;
    }
}

void weir__uring_flush(struct weir__uring *uring)
{
    unsigned to_submit = publish(uring), flags = 0;
    if (weir__uring_has(uring, WEIR__URING_BIT(SQPOLL)))
        flags = sqpoll_flags(uring) | IORING_ENTER_SQ_WAIT;
    if (to_submit > 0)
        judge(uring, enter(uring, to_submit, 0, flags, 0));
}

static int overflowed(const struct weir__uring *uring)
{
    return (IO_URING_READ_ONCE(*uring->ring.sq.kflags) & IORING_SQ_CQ_OVERFLOW) != 0;
}

/* Nothing came and nothing could be submitted for want of memory: do not spin on it. */
static void back_off(struct weir__uring *uring, uint64_t deadline_ns)
{
    uint64_t until = now_ns() + BACK_OFF_NS;
    judge(uring,
          enter(uring, 0, 1, IORING_ENTER_GETEVENTS, deadline_ns < until ? deadline_ns : until));
}

static unsigned completions_to_wait_for(const struct weir__uring *uring)
{
    return weir__uring_has(uring, WEIR__URING_BIT(MIN_WAIT))
               ? weir__uring_gather_wanted(&uring->gather)
               : 1;
}

int weir__uring_wait(struct weir__engine *engine, uint64_t deadline_ns)
{
    struct weir__uring *uring = (struct weir__uring *)engine;
    if (uring->broken)
        return uring->broken;
    weir__uring_bufs_refill(uring);
    int delivered = weir__uring_drain_pended(uring);
    unsigned to_submit = publish(uring), visible = io_uring_cq_ready(&uring->ring);
    unsigned flags = IORING_ENTER_GETEVENTS, asked = 0;
    if (weir__uring_has(uring, WEIR__URING_BIT(SQPOLL))) {
        unsigned wakeup = to_submit > 0 ? sqpoll_flags(uring) : 0;
        to_submit = wakeup ? to_submit : 0;
        flags |= wakeup;
    }
    if (overflowed(uring))
        uring->counters.overflows++;
    if (to_submit > 0 || visible == 0 || overflowed(uring)) {
        /* Quiet sends that could not settle wait for completions that overflowed, what is pended
         * for room that this enter makes: not for new completions. */
        int may_block = visible == 0 && delivered == 0 && deadline_ns != 0 && !uring->hurry &&
                        !uring->settling.head && !uring->pended.head;
        uring->hurry = 0;
        uring->counters.waits++;
        uint64_t began_ns = weir__unlikely(uring->rests_queued) ? now_ns() : 0;
        asked = may_block ? completions_to_wait_for(uring) : 0;
        int answer = enter(uring, to_submit, asked, flags, deadline_ns);
        if (weir__unlikely(began_ns))
            weir__uring_rests_taken(uring, now_ns() - began_ns);
        judge(uring, answer);
        if (answer == -EINTR)
            asked = 0; /* it says nothing of the peers */
        if ((answer == -EAGAIN || answer == -ENOMEM) && visible == 0 && deadline_ns != 0)
            back_off(uring, deadline_ns);
    }
    /* Reap even from a broken ring: what came is true. */
    weir__uring_quiet_taken(uring);
    if (weir__uring_has(uring, WEIR__URING_BIT(MIN_WAIT)) &&
        weir__uring_gather_learn(&uring->gather, asked, io_uring_cq_ready(&uring->ring)))
        weir__uring_gather_weigh(&uring->gather, weir__uring_gather_read_clocks());
    delivered += weir__uring_reap(uring);
    if (uring->settling.head && !overflowed(uring))
        delivered += weir__uring_quiet_settle(uring);
    return uring->broken && delivered == 0 ? uring->broken : delivered;
}
