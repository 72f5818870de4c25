/* bench/histogram.c against a sorted array of the same values. */
#include <criterion/criterion.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bench/histogram.h"

#define VALUES 20000

static uint64_t values[VALUES];
static struct histogram h, other, both;

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Values whose logarithm is spread evenly from 1 ns to `bits` bits. */
static void fill_log_uniform(uint64_t seed, unsigned bits)
{
    uint64_t state = seed;
    for (size_t i = 0; i < VALUES; i++) {
        unsigned shift = (unsigned)(random_next(&state) % bits);
        values[i] = (random_next(&state) >> 11) % (UINT64_C(2) << shift);
    }
}

static void expect_within_bound(const struct histogram *histogram, double percent, uint64_t want)
{
    uint64_t got = weir__histogram_percentile(histogram, percent);
    double error = got > want ? (double)(got - want) : (double)(want - got);
    cr_expect(error <= 0.008 * (double)want, "p%g: want %lu, got %lu", percent, (unsigned long)want,
              (unsigned long)got);
}

Test(histogram, percentiles_are_within_0_8_percent_of_the_sorted_values)
{
    static const double percents[] = {0.001, 1, 10, 50, 90, 99, 99.9, 99.99, 100};
    for (uint64_t seed = 1; seed <= 20; seed++) {
        fill_log_uniform(seed * 0x9e3779b97f4a7c15, 8 + (unsigned)seed);
        weir__histogram_reset(&h);
        for (size_t i = 0; i < VALUES; i++)
            weir__histogram_add(&h, values[i]);
        qsort(values, VALUES, sizeof(values[0]), compare_u64);
        for (size_t p = 0; p < sizeof(percents) / sizeof(percents[0]); p++) {
            size_t rank = (size_t)(percents[p] * VALUES / 100);
            if ((double)rank < percents[p] * VALUES / 100 - 1e-6)
                rank++;
            expect_within_bound(&h, percents[p], values[rank - 1]);
        }
    }
}

Test(histogram, every_bucket_edge_is_within_0_8_percent)
{
    for (unsigned bit = 0; bit < WEIR__HISTOGRAM_MAX_BITS; bit++) {
        for (int off = -1; off <= 1; off++) {
            uint64_t value = (UINT64_C(1) << bit) + (uint64_t)(int64_t)off;
            if (value == 0 || value >> WEIR__HISTOGRAM_MAX_BITS)
                continue;
            weir__histogram_reset(&h);
            weir__histogram_add(&h, value);
            weir__histogram_add(&h, UINT64_MAX >> 1); /* so that the maximum does not clamp it */
            expect_within_bound(&h, 50, value);
        }
    }
}

Test(histogram, min_max_and_mean_are_exact)
{
    static const uint64_t some[] = {1234567, 7, 987654321, 42};
    weir__histogram_reset(&h);
    for (size_t i = 0; i < 4; i++)
        weir__histogram_add(&h, some[i]);
    cr_assert_eq(h.count, 4);
    cr_assert_eq(h.min_ns, 7);
    cr_assert_eq(h.max_ns, 987654321);
    cr_assert_eq(h.sum_ns, 1234567 + 7 + 987654321 + 42);
    cr_assert_float_eq(weir__histogram_mean(&h), 247222234.25, 1e-6);
    cr_assert_eq(weir__histogram_percentile(&h, 100), 987654321);
    cr_assert_eq(weir__histogram_percentile(&h, 1), 7);
}

Test(histogram, merged_halves_equal_the_whole)
{
    fill_log_uniform(99, 33);
    weir__histogram_reset(&h);
    weir__histogram_reset(&other);
    weir__histogram_reset(&both);
    for (size_t i = 0; i < VALUES; i++) {
        weir__histogram_add(i % 3 == 0 ? &h : &other, values[i]);
        weir__histogram_add(&both, values[i]);
    }
    weir__histogram_merge(&h, &other);
    cr_assert_eq(memcmp(&h, &both, sizeof(h)), 0);
}

Test(histogram, merging_an_empty_one_changes_nothing)
{
    weir__histogram_reset(&h);
    weir__histogram_reset(&other);
    weir__histogram_add(&h, 5);
    both = h;
    weir__histogram_merge(&h, &other);
    cr_assert_eq(memcmp(&h, &both, sizeof(h)), 0);
    weir__histogram_merge(&other, &h);
    cr_assert_eq(memcmp(&other, &both, sizeof(h)), 0);
}

Test(histogram, an_empty_one_answers_zero)
{
    weir__histogram_reset(&h);
    cr_assert_eq(weir__histogram_percentile(&h, 50), 0);
    cr_assert_eq(weir__histogram_percentile(&h, 100), 0);
    cr_assert_float_eq(weir__histogram_mean(&h), 0, 0);
}

Test(histogram, values_past_the_last_bucket_are_counted_and_keep_the_maximum)
{
    weir__histogram_reset(&h);
    weir__histogram_add(&h, 1000);
    weir__histogram_add(&h, UINT64_C(1) << 50);
    weir__histogram_add(&h, UINT64_MAX);
    cr_assert_eq(h.count, 3);
    cr_assert_eq(h.bucket[WEIR__HISTOGRAM_BUCKETS - 1], 2);
    cr_assert_eq(weir__histogram_percentile(&h, 100), UINT64_MAX);
}
