/* bench/stats.c: exact medians, intervals that cover as often as they say, verdicts that call a tie
 * a tie. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "bench/stats.h"

/* A normal deviate by Box and Muller, from the generator under test. */
static double normal(struct rng *rng)
{
    double u = ((double)(weir__rng_next(rng) >> 11) + 1) / 9007199254740993.0;
    double v = (double)(weir__rng_next(rng) >> 11) / 9007199254740992.0;

    return sqrt(-2 * log(u)) * cos(2 * M_PI * v);
}

Test(stats, the_median_of_nothing_is_unknown)
{
    cr_assert(isnan(weir__stats_median(NULL, 0)));
    struct interval none = weir__stats_bootstrap(NULL, 0, 1, 1);
    cr_assert(isnan(none.median) && isnan(none.lo) && isnan(none.hi));
    cr_assert_not(weir__interval_bounded(none));
}

Test(stats, the_median_is_the_middle_or_the_mean_of_the_two_middles)
{
    double odd[] = {9, 1, 5};
    double even[] = {9, 1, 5, 6};

    cr_assert_eq(weir__stats_median(odd, 3), 5);
    cr_assert_eq(weir__stats_median(even, 4), 5.5);
    cr_assert_eq(odd[0], 9, "the values are left as they were");
}

Test(stats, one_sample_has_a_median_and_no_bounds)
{
    double one = 1.25;
    struct interval result = weir__stats_bootstrap(&one, 1, 3, 7);

    cr_assert_eq(result.median, 1.25);
    cr_assert(isnan(result.lo) && isnan(result.hi));
}

Test(stats, bounds_begin_at_the_least_number_of_samples)
{
    double values[STATS_SAMPLES_MIN] = {1, 2, 3, 4, 5, 6, 7, 8};

    cr_assert_not(
        weir__interval_bounded(weir__stats_bootstrap(values, STATS_SAMPLES_MIN - 1, 1, 7)));
    cr_assert(weir__interval_bounded(weir__stats_bootstrap(values, STATS_SAMPLES_MIN, 1, 7)));
}

Test(stats, equal_samples_have_an_interval_of_no_width)
{
    double values[40];

    for (size_t i = 0; i < 40; i++)
        values[i] = 0.87;
    struct interval result = weir__stats_bootstrap(values, 40, 3, 7);
    cr_assert_eq(result.median, 0.87);
    cr_assert_eq(result.lo, 0.87);
    cr_assert_eq(result.hi, 0.87);
}

Test(stats, the_same_seed_gives_the_same_interval)
{
    double values[50];
    struct rng rng;

    weir__rng_init(&rng, 3);
    for (size_t i = 0; i < 50; i++)
        values[i] = exp(normal(&rng));
    struct interval a = weir__stats_bootstrap(values, 50, 3, 99);
    struct interval b = weir__stats_bootstrap(values, 50, 3, 99);
    cr_assert_eq(memcmp(&a, &b, sizeof a), 0);
    cr_assert_leq(a.lo, a.median);
    cr_assert_geq(a.hi, a.median);
}

/* The share of 400 intervals, each of `count` skewed samples, that hold the true median. */
static double coverage(size_t count, size_t block, double correlation)
{
    enum { TRIALS = 400 };
    double values[200];
    unsigned held = 0;
    struct rng rng;

    weir__rng_init(&rng, 12345);
    for (unsigned trial = 0; trial < TRIALS; trial++) {
        double last = normal(&rng);
        for (size_t i = 0; i < count; i++) {
            /* A moving average, as a shared reference slice makes it; exp keeps the median at 1. */
            double fresh = normal(&rng);
            values[i] = exp(fresh + correlation * last);
            last = fresh;
        }
        struct interval result = weir__stats_bootstrap(values, count, block, trial);
        held += result.lo <= 1 && result.hi >= 1;
    }
    return (double)held / TRIALS;
}

Test(stats, an_interval_holds_the_true_median_about_95_times_of_100, .timeout = 60)
{
    double plain = coverage(41, 1, 0);

    cr_assert(plain > 0.91 && plain <= 0.99, "covered %.3f", plain);
    double even = coverage(60, 3, 0);
    cr_assert(even > 0.89 && even <= 0.99, "covered %.3f", even);
}

Test(stats, few_slices_give_a_wide_interval_rather_than_a_flattering_one, .timeout = 60)
{
    static const size_t counts[] = {STATS_SAMPLES_MIN, 12, 20};

    for (size_t i = 0; i < 3; i++) {
        double covered = coverage(counts[i], 3, 0.2);
        cr_assert(covered > 0.92, "%zu slices covered %.3f", counts[i], covered);
    }
}

Test(stats, blocks_keep_the_coverage_of_correlated_slices, .timeout = 60)
{
    double plain = coverage(60, 1, 0.8);
    double blocks = coverage(60, 3, 0.8);

    cr_assert_gt(blocks, plain, "blocks %.3f, plain %.3f", blocks, plain);
    cr_assert_gt(blocks, 0.87, "covered %.3f", blocks);
}

Test(stats, more_slices_narrow_the_interval)
{
    double values[200];
    struct rng rng;

    weir__rng_init(&rng, 5);
    for (size_t i = 0; i < 200; i++)
        values[i] = 1 + 0.05 * normal(&rng);
    struct interval few = weir__stats_bootstrap(values, 20, 1, 1);
    struct interval many = weir__stats_bootstrap(values, 200, 1, 1);
    cr_assert_lt(many.hi - many.lo, few.hi - few.lo);
}

Test(stats, below_is_within_its_bound_and_reaches_all_of_it)
{
    unsigned seen[7] = {0};
    struct rng rng;

    weir__rng_init(&rng, 0);
    for (size_t i = 0; i < 7000; i++) {
        uint64_t value = weir__rng_below(&rng, 7);
        cr_assert_lt(value, 7);
        seen[value]++;
    }
    for (size_t i = 0; i < 7; i++)
        cr_assert(seen[i] > 850 && seen[i] < 1150, "%zu came %u times", i, seen[i]);
}

Test(stats, a_shuffle_is_a_permutation_in_which_each_place_is_likely)
{
    unsigned firsts[5] = {0};
    struct rng rng;

    weir__rng_init(&rng, 11);
    for (size_t round = 0; round < 5000; round++) {
        unsigned order[5] = {0, 1, 2, 3, 4};
        unsigned sum = 0;
        weir__rng_shuffle(&rng, order, 5);
        for (size_t i = 0; i < 5; i++)
            sum |= 1u << order[i];
        cr_assert_eq(sum, 31);
        firsts[order[0]]++;
    }
    for (size_t i = 0; i < 5; i++)
        cr_assert(firsts[i] > 850 && firsts[i] < 1150, "%zu was first %u times", i, firsts[i]);
}

Test(stats, a_verdict_needs_the_whole_interval_beyond_the_noise)
{
    struct interval noise = {1.00, 0.98, 1.01}; /* a floor of 2 % */
    struct interval clear = {1.10, 1.05, 1.15};
    struct interval near = {1.03, 1.015, 1.05};
    struct interval across = {1.01, 0.97, 1.05};
    struct interval below = {0.90, 0.88, 0.95};

    cr_assert_float_eq(weir__stats_noise_floor(noise), 0.02, 1e-12);
    cr_assert_eq(weir__stats_verdict(clear, noise, true), VERDICT_FASTER);
    cr_assert_eq(weir__stats_verdict(clear, noise, false), VERDICT_SLOWER, "more CPU is slower");
    cr_assert_eq(weir__stats_verdict(near, noise, true), VERDICT_WITHIN_NOISE);
    cr_assert_eq(weir__stats_verdict(across, noise, true), VERDICT_WITHIN_NOISE);
    cr_assert_eq(weir__stats_verdict(below, noise, true), VERDICT_SLOWER);
    cr_assert_eq(weir__stats_verdict(below, noise, false), VERDICT_FASTER);
}

Test(stats, without_bounds_there_is_no_verdict)
{
    struct interval noise = {1.00, 0.98, 1.01};
    struct interval loose = {1.50, NAN, NAN};

    cr_assert_eq(weir__stats_verdict(loose, noise, true), VERDICT_UNKNOWN);
    cr_assert_eq(weir__stats_verdict(noise, loose, true), VERDICT_UNKNOWN);
    cr_assert_null(weir__stats_verdict_name(VERDICT_UNKNOWN));
    cr_assert_str_eq(weir__stats_verdict_name(VERDICT_WITHIN_NOISE), "within-noise");
}
