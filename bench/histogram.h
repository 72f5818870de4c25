/*
 * A log-bucket histogram of durations: fixed size, no allocation, one add is a shift and an
 * increment.
 *
 * Values below 64 ns have a bucket each; above, every power of two is cut into 64 buckets, so a
 * bucket is at most 1/64 of its value wide and its middle is within 0.8 % of everything in it.
 * From 2^40 ns (18 minutes) on all values share the last bucket. The least, the largest and the
 * sum are kept exactly. (Same idea as Gil Tene's HdrHistogram, which Debian 12 does not package
 * for C.)
 *
 * Used by the load driver, one per thread, merged afterwards. Not thread-safe.
 */
#ifndef WEIR_BENCH_HISTOGRAM_H
#define WEIR_BENCH_HISTOGRAM_H

#include <stdint.h>

#define WEIR__HISTOGRAM_SUB_BITS 6  /* 2^6 buckets in each power of two */
#define WEIR__HISTOGRAM_MAX_BITS 40 /* values of 2^40 and more share the last bucket */
#define WEIR__HISTOGRAM_BUCKETS                                                                    \
    ((WEIR__HISTOGRAM_MAX_BITS - WEIR__HISTOGRAM_SUB_BITS + 1) << WEIR__HISTOGRAM_SUB_BITS)

/* About 18 KiB. All zero is a valid empty histogram, and a flat copy is a copy. */
struct histogram {
    uint64_t count;
    uint64_t sum_ns; /* exact; wraps after 584 years of waiting */
    uint64_t max_ns; /* exact; 0 while empty */
    uint64_t min_ns; /* exact; 0 while empty */
    uint64_t bucket[WEIR__HISTOGRAM_BUCKETS];
};

/* Empties `h`. */
void weir__histogram_reset(struct histogram *h);

/* Adds one value. */
void weir__histogram_add(struct histogram *h, uint64_t value_ns);

/* Adds all of `from` to `into`; the same as having added every value to `into`. */
void weir__histogram_merge(struct histogram *into, const struct histogram *from);

/*
 * The value at `percent` (0 < percent <= 100) by nearest rank: the smallest recorded value that at
 * least that share of the values does not exceed, within 0.8 %. 100 gives the exact maximum, and
 * no result lies outside [min_ns, max_ns]. 0 while empty: ask `count` first, and print unknown as
 * unknown.
 */
uint64_t weir__histogram_percentile(const struct histogram *h, double percent);

/* The exact mean in nanoseconds; 0 while empty. */
double weir__histogram_mean(const struct histogram *h);

#endif
