/*
 * The proactor as core sees it: the ops table, open and close. One ring per thread, shared with
 * nobody; the thread that opens it is the one that uses it (SINGLE_ISSUER).
 *
 * uring/internal.h tells what lies where.
 */
#include "uring/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void release(struct weir__uring *uring)
{
    if (uring->ring.ring_fd >= 0) {
        weir__uring_bufs_close(uring);
        io_uring_queue_exit(&uring->ring);
    }
    weir__uring_direct_close(uring);
    free(uring->messages);
    free(uring);
}

/* The kernel never came to these closes, for the ring is broken, or the last wait() found no
 * memory; and their owner may be long gone, for a quiet one is done when it is queued. Direct
 * descriptors end with the ring. */
static void close_what_was_not_taken(struct weir__uring *uring)
{
    const struct io_uring_sq *sq = &uring->ring.sq;
    for (unsigned at = io_uring_smp_load_acquire(sq->khead); at != sq->sqe_tail; at++) {
        const struct io_uring_sqe *sqe = &sq->sqes[at & sq->ring_mask];
        if (sqe->opcode == IORING_OP_CLOSE && sqe->file_index == 0)
            close(sqe->fd);
    }
}

static void engine_close(struct weir__engine *engine)
{
    struct weir__uring *uring = (struct weir__uring *)engine;
    /* From a broken ring nothing comes back. */
    assert(uring->broken || uring->held == 0);
    assert(uring->broken || !(uring->pended.head || uring->quiet.head || uring->settling.head));
    weir__uring_wake_close(uring);
    close_what_was_not_taken(uring);
    release(uring);
}

static int out_of_memory(char *why, size_t why_bytes)
{
    snprintf(why, why_bytes, "io_uring: out of memory");
    return -ENOMEM;
}

int weir__uring_open_tuned(struct weir__engine **engine, struct weir__engine_env *env,
                           const struct weir__engine_options *options,
                           const struct weir__uring_tuning *tuning, char *why, size_t why_bytes)
{
    struct weir__uring *uring = calloc(1, sizeof *uring);
    if (!uring)
        return out_of_memory(why, why_bytes);
    uring->base = (struct weir__engine){.ops = &weir__engine_uring, .env = env};
    uring->ring.ring_fd = -1;
    uring->wake.eventfd = uring->wake.sender_ring.ring_fd = -1;
    weir__uring_ops_init(&uring->pended);
    weir__uring_ops_init(&uring->quiet);
    weir__uring_ops_init(&uring->settling);
    int error = weir__uring_setup(uring, options, tuning, why, why_bytes);
    if (error == 0) {
        uring->messages = calloc(uring->ring.sq.ring_entries, sizeof *uring->messages);
        if (!uring->messages)
            error = out_of_memory(why, why_bytes);
    }
    if (error < 0) {
        weir__uring_wake_close(uring);
        release(uring);
        return error;
    }
    weir__uring_wait(&uring->base, 0); /* what the probes left */
    weir__uring_gather_init(&uring->gather);
    uring->counters = (struct weir__engine_counters){0};
    uring->more_counters = (struct weir__uring_counters){0};
    *engine = &uring->base;
    return 0;
}

static int engine_open(struct weir__engine **engine, struct weir__engine_env *env,
                       const struct weir__engine_options *options, char *why, size_t why_bytes)
{
    return weir__uring_open_tuned(engine, env, options, NULL, why, why_bytes);
}

static uint64_t engine_features(const struct weir__engine *engine)
{
    return ((const struct weir__uring *)engine)->features;
}

static void engine_counters(const struct weir__engine *engine,
                            struct weir__engine_counters *counters)
{
    *counters = ((const struct weir__uring *)engine)->counters;
}

void weir__uring_counters(const struct weir__engine *engine, struct weir__uring_counters *counters)
{
    *counters = ((const struct weir__uring *)engine)->more_counters;
}

void weir__uring_inject_stray(struct weir__engine *engine, struct weir__op *op,
                              unsigned generations)
{
    struct weir__uring *uring = (struct weir__uring *)engine;
    struct io_uring_sqe *sqe = weir__uring_get_sqe(uring);
    uint8_t bits = op->engine_bits;
    assert(sqe);
    op->engine_bits = (uint8_t)(bits - generations) & WEIR__URING_GENERATION;
    sqe->opcode = IORING_OP_NOP;
    sqe->user_data = weir__uring_token(op);
    op->engine_bits = bits;
}

const struct weir__engine_ops weir__engine_uring = {
    .name = "uring",
    .summary = "proactor on io_uring",
    .feature_names = weir__uring_feature_names,
    .open = engine_open,
    .close = engine_close,
    .submit = weir__uring_submit,
    .rest = weir__uring_rest,
    .cancel = weir__uring_cancel,
    .process_fd = weir__uring_process_fd,
    .drop_fd = weir__uring_drop_fd,
    .wait = weir__uring_wait,
    .wake = weir__uring_wake,
    .features = engine_features,
    .counters = engine_counters,
};
