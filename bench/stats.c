/*
 * Medians, bootstrap intervals and verdicts (stats.h says what for). The bootstrap never sorts a
 * resample: values are ranked once, and a resample is a count per rank, walked to its middle.
 */
#include "bench/stats.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t splitmix64(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static uint64_t rotate_left(uint64_t value, unsigned bits)
{
    return (value << bits) | (value >> (64 - bits));
}

void weir__rng_init(struct rng *rng, uint64_t seed)
{
    for (size_t i = 0; i < 4; i++)
        rng->state[i] = splitmix64(&seed);
}

uint64_t weir__rng_next(struct rng *rng)
{
    uint64_t *s = rng->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t shifted = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t weir__rng_below(struct rng *rng, uint64_t bound)
{
    assert(bound > 0);
    /* Values below this threshold would make the low remainders likelier. */
    uint64_t threshold = (0 - bound) % bound;
    uint64_t value;

    do
        value = weir__rng_next(rng);
    while (value < threshold);
    return value % bound;
}

void weir__rng_shuffle(struct rng *rng, unsigned *order, size_t count)
{
    for (size_t left = count; left > 1; left--) {
        size_t pick = weir__rng_below(rng, left);
        unsigned taken = order[pick];

        order[pick] = order[left - 1];
        order[left - 1] = taken;
    }
}

struct interval weir__interval_unknown(void)
{
    return (struct interval){.median = NAN, .lo = NAN, .hi = NAN};
}

bool weir__interval_bounded(struct interval value)
{
    return !isnan(value.median) && !isnan(value.lo) && !isnan(value.hi);
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);

    if (memory == NULL) {
        fprintf(stderr, "weir-bench: out of memory for %zu samples\n", count);
        abort();
    }
    return memory;
}

static int compare_doubles(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;

    return (left > right) - (left < right);
}

static double *sorted_copy(const double *values, size_t count)
{
    double *sorted = allocate(count, sizeof *sorted);

    memcpy(sorted, values, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare_doubles);
    return sorted;
}

static double middle_of_sorted(const double *sorted, size_t count)
{
    return (sorted[(count - 1) / 2] + sorted[count / 2]) / 2;
}

double weir__stats_median(const double *values, size_t count)
{
    if (count == 0)
        return NAN;
    double *sorted = sorted_copy(values, count);
    double median = middle_of_sorted(sorted, count);

    free(sorted);
    return median;
}

/* The value at position `position` (from 0) of a resample given as a count per rank. */
static double value_at(const double *sorted, const unsigned *counts, size_t position)
{
    size_t seen = 0;
    size_t rank = 0;

    while ((seen += counts[rank]) <= position)
        rank++;
    return sorted[rank];
}

/* ranks[i] is where values[i] stands in `sorted`; equal values may share a rank, which is as good.
 */
static size_t *rank_values(const double *values, const double *sorted, size_t count)
{
    size_t *ranks = allocate(count, sizeof *ranks);

    for (size_t i = 0; i < count; i++) {
        const double *at = bsearch(&values[i], sorted, count, sizeof *sorted, compare_doubles);
        assert(at != NULL);
        ranks[i] = (size_t)(at - sorted);
    }
    return ranks;
}

static void draw_resample(struct rng *rng, const size_t *ranks, unsigned *counts, size_t count,
                          size_t block)
{
    memset(counts, 0, count * sizeof *counts);
    for (size_t drawn = 0; drawn < count;) {
        size_t at = weir__rng_below(rng, count);

        for (size_t i = 0; i < block && drawn < count; i++, drawn++) {
            counts[ranks[at]]++;
            at = at + 1 == count ? 0 : at + 1;
        }
    }
}

/*
 * How much wider than the resamples' percentiles an interval has to be. K blocks vary by (K - 1)/K
 * of what they were drawn from, and of that spread they know no more than K - 1 degrees of freedom
 * do: without this, intervals of 8 slices held the true ratio 76 times of 100, and those of 20
 * slices 88 times. Student's point is by the expansion of Cornish and Fisher (Abramowitz and
 * Stegun, 26.7.5), which is good enough from one and a half degrees on.
 */
static double widening(size_t count, size_t block)
{
    const double z = 1.959964;
    double blocks = fmax((double)count / (double)block, 2.5);
    double v = blocks - 1;
    double t = z + (pow(z, 3) + z) / (4 * v) +
               (5 * pow(z, 5) + 16 * pow(z, 3) + 3 * z) / (96 * v * v) +
               (3 * pow(z, 7) + 19 * pow(z, 5) + 17 * pow(z, 3) - 15 * z) / (384 * v * v * v);

    return sqrt(blocks / v) * t / z;
}

/* The distance of `bound` from `median`, as a factor, `times` over: it stays positive. */
static double move_out(double bound, double median, double times)
{
    return median * pow(bound / median, times);
}

struct interval weir__stats_bootstrap(const double *values, size_t count, size_t block,
                                      uint64_t seed)
{
    struct interval result = weir__interval_unknown();

    assert(block > 0);
    if (count == 0)
        return result;
    double *sorted = sorted_copy(values, count);

    assert(sorted[0] > 0);
    result.median = middle_of_sorted(sorted, count);
    if (count < STATS_SAMPLES_MIN) {
        free(sorted);
        return result;
    }
    size_t *ranks = rank_values(values, sorted, count);
    unsigned *counts = allocate(count, sizeof *counts);
    double *medians = allocate(STATS_RESAMPLES, sizeof *medians);
    struct rng rng;

    weir__rng_init(&rng, seed);
    for (size_t i = 0; i < STATS_RESAMPLES; i++) {
        draw_resample(&rng, ranks, counts, count, block);
        medians[i] =
            (value_at(sorted, counts, (count - 1) / 2) + value_at(sorted, counts, count / 2)) / 2;
    }
    qsort(medians, STATS_RESAMPLES, sizeof *medians, compare_doubles);
    double wider = widening(count, block);
    result.lo = move_out(medians[STATS_RESAMPLES * 25 / 1000], result.median, wider);
    result.hi = move_out(medians[STATS_RESAMPLES * 975 / 1000 - 1], result.median, wider);
    free(medians);
    free(counts);
    free(ranks);
    free(sorted);
    return result;
}

double weir__stats_noise_floor(struct interval noise)
{
    if (!weir__interval_bounded(noise))
        return 0;
    return fmax(fabs(noise.lo - 1), fabs(noise.hi - 1));
}

enum verdict weir__stats_verdict(struct interval ratio, struct interval noise,
                                 bool higher_is_better)
{
    if (!weir__interval_bounded(ratio) || !weir__interval_bounded(noise))
        return VERDICT_UNKNOWN;
    double floor = weir__stats_noise_floor(noise);

    if (ratio.lo > 1 + floor)
        return higher_is_better ? VERDICT_FASTER : VERDICT_SLOWER;
    if (ratio.hi < 1 - floor)
        return higher_is_better ? VERDICT_SLOWER : VERDICT_FASTER;
    return VERDICT_WITHIN_NOISE;
}

const char *weir__stats_verdict_name(enum verdict verdict)
{
    switch (verdict) {
    case VERDICT_FASTER:
        return "faster";
    case VERDICT_SLOWER:
        return "slower";
    case VERDICT_WITHIN_NOISE:
        return "within-noise";
    case VERDICT_UNKNOWN:
        break;
    }
    return NULL;
}
