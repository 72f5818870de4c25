/*
 * The statistics of a comparison: medians, quantiles and bootstrap intervals of slices, and the
 * seeded generator that both the bootstrap and the order of the slices draw from. compare.c and the
 * reports call it. It never reads a clock and never draws from anything but its seed, so the same
 * slices and the same seed always give the same interval.
 */
#ifndef WEIR_BENCH_STATS_H
#define WEIR_BENCH_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A figure with its 95 % interval. NAN is "not known": no slice, or too few of them to bound. */
struct interval {
    double median;
    double lo;
    double hi;
};

/* xoshiro256** (Blackman and Vigna, 2018), seeded through splitmix64. */
struct rng {
    uint64_t state[4];
};

enum {
    /* Below this there are too few blocks to draw from (see weir__stats_bootstrap): the interval is
     * then unknown rather than flattering. */
    STATS_SAMPLES_MIN = 8,
    STATS_RESAMPLES = 2000,
    /* Slices drawn together: ratios share a reference slice with the round before and the one after
     * at most, and neighbours see the same moods of the machine. */
    STATS_BLOCK = 3,
};

/* Starts `rng` from `seed`; every seed, 0 included, is a good one. */
void weir__rng_init(struct rng *rng, uint64_t seed);

/* The next 64 random bits. */
uint64_t weir__rng_next(struct rng *rng);

/* A number in [0, bound), unbiased; `bound` must not be 0. */
uint64_t weir__rng_below(struct rng *rng, uint64_t bound);

/* Puts the `count` numbers of `order` into a random order (Fisher-Yates). */
void weir__rng_shuffle(struct rng *rng, unsigned *order, size_t count);

/* The interval of which nothing is known. */
struct interval weir__interval_unknown(void);

/* True where lo and hi are known too, not only the median. */
bool weir__interval_bounded(struct interval value);

/* The median of `values`, which is left as it was; NAN where count is 0. -ENOMEM is not an outcome:
 * up to 1 << 20 values are expected, and a failed allocation aborts with a message. */
double weir__stats_median(const double *values, size_t count);

/*
 * The median of `values`, all above 0 and in the order in which they were measured, with the 95 %
 * percentile bootstrap interval of that median. Blocks of `block` neighbours are drawn together
 * (circular block bootstrap, Politis and Romano 1992), because neighbouring ratios share a
 * reference slice and so are not independent; 1 is the plain bootstrap. Few blocks make the
 * interval wider, as Student's t does: by 12 % for 50 values in blocks of 3, threefold for 8. Fewer
 * than STATS_SAMPLES_MIN values have a median but no bounds.
 */
struct interval weir__stats_bootstrap(const double *values, size_t count, size_t block,
                                      uint64_t seed);

/* What a paired comparison amounts to. */
enum verdict {
    VERDICT_UNKNOWN, /* no interval on one of the two sides */
    VERDICT_WITHIN_NOISE,
    VERDICT_FASTER,
    VERDICT_SLOWER,
};

/* The farthest that the A/A interval `noise` strays from 1, as a fraction; 0 where it is unknown.
 */
double weir__stats_noise_floor(struct interval noise);

/*
 * The verdict on `ratio` (this engine over the reference), given the A/A interval `noise`: the
 * whole interval must lie beyond 1 by more than the noise floor, or it is a tie. `higher_is_better`
 * is true for requests per second, false for CPU per request.
 */
enum verdict weir__stats_verdict(struct interval ratio, struct interval noise,
                                 bool higher_is_better);

/* "faster", "slower", "within-noise"; NULL where unknown. */
const char *weir__stats_verdict_name(enum verdict verdict);

#endif
