/*
 * The proactor's inside, shared by the files of uring/ and nobody else.
 *
 *   engine.c  the ops table, open and close          setup.c    probing, tiers, features
 *   submit.c  ops become SQEs, cancel                explain.c  why open() failed, and the cure
 *   reap.c    CQEs become results of ops             wake.c     messages from other threads
 *   wait.c    the one system call                    bufring.c  the provided-buffer ring
 *   rest.c    receives that wait cheaply             direct.c   descriptors of the ring's own
 *   gather.c  how much a wait asks for               file.c     requests on files
 */
#ifndef WEIR_URING_INTERNAL_H
#define WEIR_URING_INTERNAL_H

#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "uring/compat.h"
#include "uring/uring.h"

/*
 * A completion's user_data, the token: where it belongs and which submission it answers.
 *
 *   63      56 55                         3 2  0
 *   generation | address of the op / 8      | tag
 *
 * An op's memory stays until its final completion, which the kernel posts exactly once, so a late
 * completion cannot meet another op. The generation is there to notice if that ever failed: each
 * submission gets the next one, and a completion that answers another is dropped and counted.
 */
enum weir__uring_tag {
    WEIR__URING_TAG_OP,
    WEIR__URING_TAG_NOBODY, /* of a cancel, a quiet close, a probe: nobody waits for it */
    WEIR__URING_TAG_WAKE,
    WEIR__URING_TAG_EVENTFD, /* the armed read of the fallback for wake() */
    WEIR__URING_TAG_INSTALL, /* a descriptor that process_fd() asked for and did not get to see */
    WEIR__URING_TAG_MASK = 7
};
enum { WEIR__URING_GENERATION_SHIFT = 56 };
#define WEIR__URING_ADDRESS                                                                        \
    ((UINT64_C(1) << WEIR__URING_GENERATION_SHIFT) - 1 - WEIR__URING_TAG_MASK)

/* op->engine_bits while the op is held. */
enum weir__uring_op_bits {
    WEIR__URING_GENERATION = 0x0f, /* low bits of the counter of submissions */
    WEIR__URING_QUIET = 0x10,      /* of a send: in `quiet` or `settling` */
    WEIR__URING_RESTING = 0x10,    /* of a receive: cancelled by us, to be armed again as a poll */
    WEIR__URING_IN_KERNEL = 0x20,  /* an SQE was filled and its final CQE has not come */
    WEIR__URING_POLLING = 0x40,    /* that SQE polls; the op's own follows */
    WEIR__URING_PENDED = 0x80,     /* in `pended`: wants an SQE, for itself or to be cancelled */
};

enum { WEIR__URING_IOVECS = 16 };

/* What core knows as descriptor WEIR__URING_DIRECT_FD + n is slot n of the ring's table; no process
 * can have so many of its own. */
enum { WEIR__URING_DIRECT_FD = WEIR__ENGINE_FDS };
static inline int weir__uring_is_direct(int32_t fd)
{
    return fd >= WEIR__URING_DIRECT_FD;
}
static inline uint32_t weir__uring_slot(int32_t fd)
{
    return (uint32_t)(fd - WEIR__URING_DIRECT_FD);
}

/* One beside each SQE. The kernel is done with it once it has taken the SQE (SUBMIT_STABLE), which
 * is when the SQE's own slot is free again. */
struct weir__uring_message {
    struct msghdr header;
    struct iovec iovecs[WEIR__URING_IOVECS];
};

/* How wake() works; uring/wake.c. */
struct weir__uring_wake {
    atomic_int sent; /* a wake is under way and not reaped: another would tell nothing new */
    int eventfd;     /* the last resort; -1 where messages work */
    uint64_t eventfd_value;
    int eventfd_armed;
    atomic_int sender; /* enum sender_state; guards sender_ring */
    struct io_uring sender_ring;
};

/* A FIFO through op->next. */
struct weir__uring_ops {
    struct weir__op *head;
    struct weir__op **tail;
};

struct weir__uring_gather_clocks {
    uint64_t cpu_ns; /* that the loop's thread has used */
    uint64_t wall_ns;
};

/* What the load has been like of late; see gather.c. */
struct weir__uring_gather {
    uint32_t recent;    /* completions that a wait brought, in units of 1/RECENT_ONE */
    uint32_t bound;     /* the largest batch that leaves the peers busy */
    uint32_t until_try; /* weighings */
    bool trying;        /* the next wait that gathers tries whether a larger one does so, too */
    uint64_t cost_ns;   /* CPU for one completion, what follows from it included */
    uint64_t pace_ns;   /* from one completion to the next */
    struct weir__uring_gather_clocks weighed;
    uint32_t waits, completions; /* since then */
};

struct weir__uring {
    struct weir__engine base;
    struct io_uring ring;
    int enter_fd;
    unsigned enter_flags; /* added to every enter */
    int hurry;            /* the next wait() must not block */
    int broken;           /* -errno once the ring cannot go on */
    uint32_t held;        /* ops taken and not given back; helper threads' not counted */
    uint8_t generation;
    struct weir__uring_gather gather;
    uint64_t features;
    struct weir__uring_message *messages; /* [ring.sq.ring_entries] */

    struct weir__uring_ops pended;
    struct weir__uring_ops quiet;    /* quiet sends in the submission queue */
    struct weir__uring_ops settling; /* taken by the kernel: done, unless a completion says other */
    struct weir__op **settling_at;   /* where the next such complaint is looked for */

    uint32_t file_codes; /* bit n: the kernel has a request for enum weir__file_code n */

    uint32_t direct_slots; /* in the ring's table of descriptors */
    int *process_fds;      /* by slot, one more than the descriptor that process_fd() made, or 0;
                              NULL until the first of them */
    uint64_t installs;     /* requests for those */

    struct io_uring_buf_ring *buf_ring;
    size_t buf_ring_bytes;
    uint32_t buf_ring_entries; /* a power of two */
    uint32_t buf_ring_target;  /* how many are kept there now, from least to most */
    uint32_t buf_ring_least, buf_ring_most;
    uint32_t buf_ring_cap;  /* no more for the present, as receives are large */
    uint32_t buf_ring_peak; /* most wanted in a turn, of the last buf_ring_turns */
    uint32_t buf_ring_turns;
    uint32_t buf_ring_taken; /* of late: buffers, and the bytes received into them */
    uint64_t buf_ring_received;
    uint64_t buf_ring_enobufs; /* counters.enobufs a turn ago */
    uint32_t buf_ring_filled;

    unsigned rests_queued; /* cancels of rest() in the submission queue */
    unsigned rests_most;   /* that an enter may take, less one; see rest.c */

    struct weir__uring_wake wake;
    struct weir__engine_counters counters;
    struct weir__uring_counters more_counters;
};

static inline int weir__uring_has(const struct weir__uring *uring, uint64_t bits)
{
    return (uring->features & bits) == bits;
}

/* Whether a RECVMSG is held as a multishot one; else each of its messages begins with a poll. */
static inline bool weir__uring_recvmsg_stays(const struct weir__uring *uring,
                                             const struct weir__op *op)
{
    return op->flags & WEIR__OP_MULTISHOT &&
           weir__uring_has(uring, WEIR__URING_BIT(MULTISHOT_RECV));
}

static inline uint64_t weir__uring_token(const struct weir__op *op)
{
    return (uint64_t)(op->engine_bits & WEIR__URING_GENERATION) << WEIR__URING_GENERATION_SHIFT |
           (uint64_t)(uintptr_t)op;
}

/* Every completion leaves through here. Returns 1, the completions delivered. */
static inline int weir__uring_complete(struct weir__uring *uring, struct weir__op *op, int32_t res,
                                       int more)
{
    assert(more || uring->held > 0);
    uring->held -= !more;
    uring->counters.completions++;
    weir__op_complete(op, res, more);
    return 1;
}

/* setup.c */
extern const char *const weir__uring_feature_names[];
int weir__uring_setup(struct weir__uring *uring, const struct weir__engine_options *options,
                      const struct weir__uring_tuning *tuning, char *why, size_t why_bytes);
/* Whether a send that may not wait tells of the bytes that went before it would have had to. */
int weir__uring_counts_partial_sends(const struct io_uring_probe *probe);

/* A send without a copy whose bytes the kernel has taken (op->res, until its last completion), and
 * may still read. */
static inline bool weir__uring_unacknowledged(const struct weir__op *op)
{
    return op->kind == WEIR__OP_SEND && op->flags & WEIR__OP_ZERO_COPY &&
           op->engine_bits & WEIR__URING_IN_KERNEL && op->res > 0;
}

/* submit.c */
int weir__uring_submit(struct weir__engine *engine, struct weir__op *op);
void weir__uring_cancel(struct weir__engine *engine, struct weir__op *op);
/* Has the kernel end what it has of an op. */
void weir__uring_end(struct weir__uring *uring, struct weir__op *op);
/* Gives a held op its next SQE, or remembers that it wants one. */
void weir__uring_resubmit(struct weir__uring *uring, struct weir__op *op);
/* The same, once the descriptor is ready. */
void weir__uring_resubmit_when_ready(struct weir__uring *uring, struct weir__op *op);
/* Serves `pended`; returns completions delivered (ops cancelled before the kernel saw them). */
int weir__uring_drain_pended(struct weir__uring *uring);
void weir__uring_unpend(struct weir__uring *uring, struct weir__op *op);
/* A blank SQE, flushing the queue if it is full; NULL if that did not help. */
struct io_uring_sqe *weir__uring_get_sqe(struct weir__uring *uring);

static inline uint64_t weir__uring_chain_bytes(const struct weir__buf *buf)
{
    uint64_t bytes = 0;
    for (; buf; buf = buf->next)
        bytes += buf->len;
    return bytes;
}

/* SQEs published and not yet taken by the kernel. */
static inline unsigned weir__uring_sq_left(struct weir__uring *uring)
{
    struct io_uring_sq *sq = &uring->ring.sq;
    return sq->sqe_tail - io_uring_smp_load_acquire(sq->khead);
}

/* FIFOs of ops; `remove` takes one that is in it. */
void weir__uring_ops_init(struct weir__uring_ops *ops);
void weir__uring_ops_push(struct weir__uring_ops *ops, struct weir__op *op);
void weir__uring_ops_remove(struct weir__uring_ops *ops, struct weir__op *op);

/* Around the reaping that follows an enter: what the kernel took of the quiet sends, and then,
 * their completion; see submit.c. */
void weir__uring_quiet_taken(struct weir__uring *uring);
int weir__uring_quiet_settle(struct weir__uring *uring);
/* A quiet send has something to say: it failed, or did not go whole. It is an ordinary one now. */
void weir__uring_quiet_ended(struct weir__uring *uring, struct weir__op *op);

/* A cancel that nobody hears of. */
void weir__uring_fill_cancel(struct weir__uring *uring, struct weir__op *op,
                             struct io_uring_sqe *sqe);

/* rest.c */
int weir__uring_rest(struct weir__engine *engine, struct weir__op *op);
/* An enter took what rest() had queued, in so much time. */
void weir__uring_rests_taken(struct weir__uring *uring, uint64_t ns);
/* The receive's last completion has come: 1 if it was for us, and the poll follows. */
int weir__uring_rest_taken(struct weir__uring *uring, struct weir__op *op, int32_t res);

/* reap.c: takes what the completion queue shows; returns completions delivered. */
int weir__uring_reap(struct weir__uring *uring);

/* gather.c */
enum { WEIR__URING_RECENT_ONE = 16, WEIR__URING_GATHER_MOST = 32 };
void weir__uring_gather_init(struct weir__uring_gather *gather);
/* A wait asked for so many completions, or did not wait, and so many came. Returns whether it is
 * time to weigh() what the waits since the last time have cost. */
bool weir__uring_gather_learn(struct weir__uring_gather *gather, unsigned asked, uint32_t came);
void weir__uring_gather_weigh(struct weir__uring_gather *gather,
                              struct weir__uring_gather_clocks now);
struct weir__uring_gather_clocks weir__uring_gather_read_clocks(void);
/* How many completions the next wait is to ask for; 1: it ends with the first. */
unsigned weir__uring_gather_wanted(const struct weir__uring_gather *gather);
/* How long it may last for them, once it could end. */
unsigned weir__uring_gather_us(const struct weir__uring_gather *gather, unsigned wanted);

/* wait.c */
int weir__uring_wait(struct weir__engine *engine, uint64_t deadline_ns);
/* Hands queued SQEs to the kernel, without waiting. */
void weir__uring_flush(struct weir__uring *uring);

/* file.c */
/* Those that the kernel has requests for, as a mask. */
uint32_t weir__uring_file_codes(const struct io_uring_probe *probe);
void weir__uring_fill_transfer(struct weir__uring *uring, struct weir__op *op,
                               struct io_uring_sqe *sqe);
void weir__uring_fill_fsync(struct weir__uring *uring, struct weir__op *op,
                            struct io_uring_sqe *sqe);
void weir__uring_fill_file(struct weir__uring *uring, struct weir__op *op,
                           struct io_uring_sqe *sqe);

/* What a request on a file came to, interrupted ones included. */
int32_t weir__uring_file_result(const struct weir__op *op, int32_t res);

/* bufring.c */
/* `fixed`: keep it filled with `target` buffers; else with as few as serve, at most `target`. */
int weir__uring_bufs_open(struct weir__uring *uring, uint32_t target, int fixed);
void weir__uring_bufs_close(struct weir__uring *uring);
void weir__uring_bufs_refill(struct weir__uring *uring);
static inline struct weir__buf *weir__uring_buf_taken(struct weir__uring *uring, uint32_t cqe_flags)
{
    struct weir__buf_pool *pool = uring->base.env->bufs;
    uint32_t index = cqe_flags >> IORING_CQE_BUFFER_SHIFT;
    assert(index > 0 && index <= pool->count && uring->buf_ring_filled > 0);
    uring->buf_ring_filled--;
    return &pool->bufs[index];
}

/* direct.c */
int weir__uring_direct_open(struct weir__uring *uring, const struct weir__engine_options *options);
void weir__uring_direct_close(struct weir__uring *uring);
int weir__uring_process_fd(struct weir__engine *engine, int32_t fd);
void weir__uring_drop_fd(struct weir__engine *engine, int32_t fd);
/* What comes before the request that closes: 0, or -EBUSY. */
int weir__uring_before_close(struct weir__uring *uring, const struct weir__op *op);

/* wake.c */
int weir__uring_wake_open(struct weir__uring *uring, uint64_t features_off);
void weir__uring_wake_close(struct weir__uring *uring);
int weir__uring_wake(struct weir__engine *engine);
void weir__uring_wake_arm(struct weir__uring *uring);
void weir__uring_wake_reaped(struct weir__uring *uring, int tag);

#endif
