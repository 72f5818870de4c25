/* coro/trim.c against a model that sorts the whole window each time. */
#include "trim.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_MOST 300

TestSuite(trim, .timeout = 60);

struct model {
    uint64_t values[WINDOW_MOST];
    uint32_t n, window;
    double percentile;
};

static void model_sample(struct model *m, uint64_t value)
{
    if (m->n == m->window)
        memmove(m->values, m->values + 1, --m->n * sizeof *m->values);
    m->values[m->n++] = value;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The smallest sample that at least `percentile` of all samples are at or under. */
static uint64_t model_target(const struct model *m)
{
    uint64_t sorted[WINDOW_MOST];
    memcpy(sorted, m->values, m->n * sizeof *sorted);
    qsort(sorted, m->n, sizeof *sorted, compare);
    for (uint32_t i = 0; i < m->n; i++)
        if ((double)(i + 1) * 100 >= m->percentile * m->n)
            return sorted[i];
    return m->n == 0 ? 0 : sorted[m->n - 1];
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Small counts, storms, drifts and plateaus, each for a while. */
static uint64_t next_value(uint64_t *state, uint64_t last)
{
    uint64_t r = next_random(state);
    switch (r >> 60) {
    case 0:
        return r % 1000000;
    case 1:
        return 0;
    case 2:
    case 3:
        return r % 100;
    case 4:
        return r % 5000;
    case 5:
    case 6:
        return last + r % 50;
    case 7:
        return last / 2;
    default:
        return last;
    }
}

static void run_against_model(uint32_t window, double percentile, uint64_t seed)
{
    struct weir__trim trim;
    struct model model = {.window = window, .percentile = percentile};
    cr_assert_eq(weir__trim_init(&trim, window, percentile), 0);
    cr_expect_eq(weir__trim_target(&trim), 0);
    uint64_t value = 0;
    for (int step = 0; step < 3000; step++) {
        value = next_value(&seed, value);
        uint64_t times = seed % 50 == 0 ? seed / 50 % (2 * window) : 1;
        weir__trim_sample(&trim, value, times);
        for (uint64_t i = 0; i < times; i++)
            model_sample(&model, value);
        uint64_t exact = model_target(&model), got = weir__trim_target(&trim);
        cr_assert_eq(got, weir__trim_round(exact), "window %u p%g step %d: want %lu, got %lu",
                     window, percentile, step, (unsigned long)exact, (unsigned long)got);
        cr_assert(got >= exact && got <= exact + exact / 64);
    }
    weir__trim_deinit(&trim);
}

Test(trim, every_answer_is_that_of_a_sorted_window)
{
    static const uint32_t windows[] = {1, 2, 3, 10, 64, 100, 299};
    static const double percentiles[] = {0.1, 1, 33.3, 50, 90, 99, 99.9, 100};
    for (size_t w = 0; w < sizeof windows / sizeof *windows; w++)
        for (size_t p = 0; p < sizeof percentiles / sizeof *percentiles; p++)
            run_against_model(windows[w], percentiles[p], 0x9e3779b97f4a7c15 * (1 + w * 8 + p));
}

Test(trim, small_counts_are_exact_and_large_ones_within_a_64th)
{
    for (uint64_t v = 0; v < 1000000; v++) {
        uint64_t got = weir__trim_round(v);
        cr_assert(got >= v && got <= v + v / 64, "%lu became %lu", (unsigned long)v,
                  (unsigned long)got);
        cr_assert(v >= 128 || got == v);
    }
}

Test(trim, counts_beyond_the_last_bucket_read_as_the_last)
{
    cr_expect_eq(weir__trim_round(UINT64_MAX), (UINT64_C(1) << 24) - 1);
    cr_expect_eq(weir__trim_round(UINT64_C(1) << 24), (UINT64_C(1) << 24) - 1);
}

Test(trim, one_storm_in_a_hundred_samples_is_forgotten_and_two_are_not)
{
    struct weir__trim trim;
    cr_assert_eq(weir__trim_init(&trim, 1000, 99), 0);
    weir__trim_sample(&trim, 20000, 1);
    weir__trim_sample(&trim, 5, 99);
    cr_expect_eq(weir__trim_target(&trim), 5);
    weir__trim_sample(&trim, 20000, 1);
    cr_expect_geq(weir__trim_target(&trim), 20000);
    weir__trim_deinit(&trim);
}

Test(trim, windows_and_percentiles_out_of_range_are_refused)
{
    struct weir__trim trim;
    cr_expect_eq(weir__trim_init(&trim, 0, 99), -EINVAL);
    cr_expect_eq(weir__trim_init(&trim, WEIR__TRIM_WINDOW_MAX + 1, 99), -EINVAL);
    cr_expect_eq(weir__trim_init(&trim, 10, 0), -EINVAL);
    cr_expect_eq(weir__trim_init(&trim, 10, 100.5), -EINVAL);
    cr_expect_eq(weir__trim_init(&trim, 10, -1), -EINVAL);
    cr_expect_eq(weir__trim_init(&trim, 10, 0.0 / 0.0), -EINVAL);
}
