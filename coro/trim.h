/*
 * The trim policy, pure: which percentile of the last samples of "how many stacks were in use"?
 * It knows no clock, no stack and no system call; pool.c feeds and obeys it.
 *
 * A counting histogram over a sliding window. Values up to 127 have a bucket each, larger ones
 * share 64 to a power of two, and a bucket answers with its upper edge, so the answer is exact
 * or up to 1/64 too many. A sample costs a few counts, and a walk of the cursor from the old
 * percentile to the new one, never more than all buckets.
 */
#ifndef WEIR__CORO_TRIM_H
#define WEIR__CORO_TRIM_H

#include <stdint.h>

#define WEIR__TRIM_BUCKETS    1216 /* values up to 2^24 - 1 */
#define WEIR__TRIM_WINDOW_MAX 65536

struct weir__trim {
    uint16_t *ring; /* the buckets of the samples in the window; owned */
    uint32_t window;
    uint32_t n;    /* samples in the window */
    uint32_t next; /* where in the ring the next goes */
    double percentile;
    uint32_t counts[WEIR__TRIM_BUCKETS];
    uint32_t cursor; /* the percentile's bucket */
    uint32_t under;  /* samples in buckets below the cursor */
};

/* An empty window of `window` samples. Returns 0, -EINVAL or -ENOMEM. */
int weir__trim_init(struct weir__trim *t, uint32_t window, double percentile);
void weir__trim_deinit(struct weir__trim *t);

/* Adds `times` samples of the same `active`; the oldest fall out of a full window. */
void weir__trim_sample(struct weir__trim *t, uint64_t active, uint64_t times);

/* The percentile (nearest rank) of the window, 0 when it is empty. */
uint64_t weir__trim_target(const struct weir__trim *t);

/* The largest value that shares a bucket with `active`: what a target of it would read. */
uint64_t weir__trim_round(uint64_t active);

#endif
