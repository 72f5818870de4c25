/* coro/pool.c, guard.c and tick.c: what is lent, what is guarded, what is given back and when. */
#include "internal.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <weir/coro.h>

#define MS ((uint64_t)1000 * 1000)

TestSuite(pool, .timeout = 120);

static struct weir_coro_pool *new_pool(const struct weir_coro_options *options)
{
    struct weir_coro_pool *pool;
    int rc = weir_coro_pool_new(&pool, options);
    cr_assert_eq(rc, 0, "weir_coro_pool_new: %s", strerror(-rc));
    return pool;
}

static struct weir_coro_stats stats_of(const struct weir_coro_pool *pool)
{
    struct weir_coro_stats s;
    weir_coro_pool_stats(pool, &s);
    return s;
}

static void yield_once(void *arg)
{
    weir_coro_yield(NULL);
}

static __attribute__((noinline)) void dirty(volatile char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i += 64)
        bytes[i] = 1;
}

static void dirty_its_stack(void *arg)
{
    char bytes[5000];
    dirty(bytes, sizeof bytes);
    weir_coro_yield(NULL);
}

/* Has `n` coroutines live at once, and lets all of them return. */
static void storm(struct weir_coro_pool *pool, struct weir_coro **co, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int rc = weir_coro_new(pool, &co[i], dirty_its_stack, NULL);
        cr_assert_eq(rc, 0, "coroutine %zu: %s", i, strerror(-rc));
        weir_coro_resume(co[i], NULL);
    }
    for (size_t i = 0; i < n; i++)
        weir_coro_resume(co[i], NULL);
}

/* --- options --------------------------------------------------------------------------------- */

Test(pool, numbers_out_of_range_are_refused)
{
    static const struct weir_coro_options bad[] = {
        {.stack_bytes = 100},    {.stack_bytes = (size_t)1 << 40},
        {.max_coros = 1 << 25},  {.guard = (enum weir_coro_guard)9},
        {.colours = 1000},       {.colours = 1u << 26},
        {.trim_window = 100000}, {.trim_percentile = 101},
        {.trim_percentile = -1},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct weir_coro_pool *pool = NULL;
        cr_expect_eq(weir_coro_pool_new(&pool, &bad[i]), -EINVAL, "options %zu", i);
        cr_expect_null(pool);
    }
}

static void count_itself(void *arg)
{
    ++*(int *)arg;
}

Test(pool, the_smallest_stack_needs_no_other_option)
{
    enum { COROS = 20 }; /* of every colour */
    struct weir_coro_pool *pool;
    struct weir_coro *co[COROS];
    int count = 0;
    cr_assert_eq(weir_coro_pool_new(&pool, &(struct weir_coro_options){.stack_bytes = 2048}), 0);
    for (int i = 0; i < COROS; i++)
        cr_assert_eq(weir_coro_new(pool, &co[i], count_itself, &count), 0);
    for (int i = 0; i < COROS; i++)
        weir_coro_resume(co[i], NULL);
    cr_expect_eq(count, COROS);
    weir_coro_pool_free(pool);
}

Test(pool, more_than_max_coros_get_eagain_until_one_ends)
{
    struct weir_coro_pool *pool = new_pool(&(struct weir_coro_options){.max_coros = 3});
    struct weir_coro *co[4];
    for (int i = 0; i < 3; i++)
        cr_assert_eq(weir_coro_new(pool, &co[i], yield_once, NULL), 0);
    cr_expect_eq(weir_coro_new(pool, &co[3], yield_once, NULL), -EAGAIN);
    weir_coro_free(co[1]);
    cr_expect_eq(weir_coro_new(pool, &co[3], yield_once, NULL), 0);
    cr_expect_eq(weir_coro_new(pool, &co[1], yield_once, NULL), -EAGAIN);
    weir_coro_pool_free(pool);
}

/* --- lending --------------------------------------------------------------------------------- */

Test(pool, the_stack_returned_last_is_lent_first)
{
    enum { N = 100 };
    struct weir_coro_pool *pool = new_pool(NULL);
    struct weir_coro *co[N], *again;
    for (int i = 0; i < N; i++)
        weir_coro_new(pool, &co[i], yield_once, NULL);
    for (int i = 0; i < N; i++)
        weir_coro_free(co[i]);
    for (int i = N - 1; i >= 0; i--) {
        weir_coro_new(pool, &again, yield_once, NULL);
        cr_expect_eq(again, co[i]);
    }
    weir_coro_pool_free(pool);
}

Test(pool, tops_of_neighbours_are_on_different_cache_sets)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (unsigned colours = 1; colours <= 16; colours *= 4) {
        struct weir_coro_pool *pool = new_pool(&(struct weir_coro_options){.colours = colours});
        bool seen[64] = {false};
        unsigned different = 0;
        for (int i = 0; i < 64; i++) {
            struct weir_coro *co;
            weir_coro_new(pool, &co, yield_once, NULL);
            size_t line = (uintptr_t)co % page / 64 % 64;
            different += !seen[line];
            seen[line] = true;
        }
        cr_expect_eq(different, colours);
        weir_coro_pool_free(pool);
    }
}

static size_t count_maps(void)
{
    FILE *file = fopen("/proc/self/maps", "r");
    size_t lines = 0;
    for (int c = getc(file); c != EOF; c = getc(file))
        lines += c == '\n';
    fclose(file);
    return lines;
}

#define LIVE_MOST (COSTLY ? 1000 : 200000)

static void live_at_once(const struct weir_coro_options *options)
{
    static struct weir_coro *co[LIVE_MOST];
    const size_t n = weir__valgrind_runs() ? 1000 : LIVE_MOST;
    struct weir_coro_pool *pool = new_pool(options);
    for (size_t i = 0; i < n; i++) {
        int rc = weir_coro_new(pool, &co[i], yield_once, NULL);
        cr_assert_eq(rc, 0, "coroutine %zu: %s", i, strerror(-rc));
        weir_coro_resume(co[i], NULL);
    }
    cr_expect_eq(stats_of(pool).live, n);
    cr_expect_lt(count_maps(), 65530);
    for (size_t i = 0; i < n; i++) {
        weir_coro_resume(co[i], NULL);
        cr_assert_eq(weir_coro_status(co[i]), WEIR_CORO_DONE);
    }
    cr_expect_eq(stats_of(pool).live, 0);
    cr_expect_eq(stats_of(pool).live_peak, n);
    weir_coro_pool_free(pool);
}

Test(pool, two_hundred_thousand_live_at_once_on_a_stock_kernel)
{
    live_at_once(NULL);
}

Test(pool, two_hundred_thousand_live_at_once_on_an_older_kernel)
{
    live_at_once(&(struct weir_coro_options){.guard = WEIR_CORO_GUARD_MPROTECT});
}

/* --- guards ---------------------------------------------------------------------------------- */

static struct weir_coro_stats guards_after(const struct weir_coro_options *options, size_t n)
{
    struct weir_coro_pool *pool = new_pool(options);
    for (size_t i = 0; i < n; i++) {
        struct weir_coro *co;
        cr_assert_eq(weir_coro_new(pool, &co, yield_once, NULL), 0);
    }
    struct weir_coro_stats s = stats_of(pool);
    weir_coro_pool_free(pool);
    return s;
}

Test(pool, mprotect_guards_stop_at_the_budget_and_canaries_take_over)
{
    struct weir_coro_options options = {.guard = WEIR_CORO_GUARD_MPROTECT, .guard_maps = 100};
    for (int round = 0; round < 2; round++) { /* a pool that is freed gives its share back */
        struct weir_coro_stats s = guards_after(&options, 80);
        cr_expect_eq(s.guards_madvise, 0);
        cr_expect_eq(s.guards_mprotect, 50);
        cr_expect_eq(s.guards_canary, 30);
    }
}

Test(pool, the_budget_is_shared_by_all_pools)
{
    struct weir_coro_options options = {.guard = WEIR_CORO_GUARD_MPROTECT, .guard_maps = 100};
    struct weir_coro_pool *first = new_pool(&options);
    for (int i = 0; i < 40; i++) {
        struct weir_coro *co;
        weir_coro_new(first, &co, yield_once, NULL);
    }
    cr_expect_eq(guards_after(&options, 80).guards_mprotect, 10);
    weir_coro_pool_free(first);
}

Test(pool, mprotect_guards_cost_mappings_and_the_others_do_not)
{
    if (LIVE_MOST < 200000)
        cr_skip_test("ThreadSanitizer maps a shadow of every stack");
    static const struct {
        enum weir_coro_guard guard;
        bool costs;
    } tiers[] = {
        {WEIR_CORO_GUARD_MADVISE, false},
        {WEIR_CORO_GUARD_MPROTECT, true},
        {WEIR_CORO_GUARD_CANARY, false},
    };
    for (int t = 0; t < 3; t++) {
        struct weir_coro_pool *pool;
        int rc = weir_coro_pool_new(&pool, &(struct weir_coro_options){.guard = tiers[t].guard});
        if (rc == -ENOTSUP && tiers[t].guard == WEIR_CORO_GUARD_MADVISE)
            continue; /* a kernel before 6.13 */
        cr_assert_eq(rc, 0);
        size_t before = count_maps();
        for (int i = 0; i < 1000; i++) {
            struct weir_coro *co;
            weir_coro_new(pool, &co, yield_once, NULL);
        }
        size_t cost = count_maps() - before;
        if (tiers[t].costs)
            cr_expect(cost >= 1000 && cost <= 2010, "%zu mappings", cost);
        else
            cr_expect_leq(cost, 20, "%zu mappings", cost);
        weir_coro_pool_free(pool);
    }
}

/* --- trim ------------------------------------------------------------------------------------ */

static size_t resident_pages(const struct weir_coro *co)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t bytes = weir_coro_stack_bytes(co);
    uintptr_t end = ((uintptr_t)co | (page - 1)) + 1;
    unsigned char present[64];
    cr_assert_eq(mincore((void *)(end - bytes), bytes, present), 0);
    size_t n = 0;
    for (size_t i = 0; i < bytes / page; i++)
        n += present[i] & 1;
    return n;
}

/* Ticks at each time asked for until nothing is left to trim; returns how often. */
static size_t tick_until_done(struct weir_coro_pool *pool, uint64_t *now_ns)
{
    size_t ticks = 0;
    uint64_t due = weir_coro_pool_tick(pool, *now_ns);
    while (due != UINT64_MAX) {
        cr_assert_gt(due, *now_ns, "it must not ask for the present");
        cr_assert_lt(++ticks, 100000);
        uint64_t trimmed = stats_of(pool).trimmed;
        *now_ns = due;
        due = weir_coro_pool_tick(pool, *now_ns);
        cr_assert_leq(stats_of(pool).trimmed - trimmed, 25, "at most 25 a step");
    }
    return ticks;
}

Test(pool, the_coldest_are_released_first_and_the_hottest_are_kept)
{
    enum { N = 200 };
    struct weir_coro *co[N];
    struct weir_coro_pool *pool = new_pool(&(struct weir_coro_options){.trim_window = 10});
    storm(pool, co, N); /* co[N - 1] returned last */
    uint64_t now = 1000 * MS;
    while (stats_of(pool).trimmed < 50)
        now = weir_coro_pool_tick(pool, now);
    uint64_t gone = stats_of(pool).released;
    cr_assert_lt(gone, N);
    /* A released record reads as zero: there is nothing there to ask for its size. */
    for (uint64_t i = gone; i < N; i++)
        cr_expect_gt(resident_pages(co[i]), 0, "the hotter ones are still there");
    for (uint64_t i = 0; i < gone; i++)
        cr_expect_eq(weir_coro_status(co[i]), WEIR_CORO_DONE);
    struct weir_coro *next;
    weir_coro_new(pool, &next, yield_once, NULL);
    cr_expect_eq(next, co[N - 1]);
    weir_coro_pool_free(pool);
}

Test(pool, a_released_stack_is_lent_again_like_a_new_one)
{
    static struct weir_coro *co[500];
    static const enum weir_coro_guard guards[] = {WEIR_CORO_GUARD_AUTO, WEIR_CORO_GUARD_CANARY};
    for (int g = 0; g < 2; g++) {
        struct weir_coro_pool *pool = new_pool(&(struct weir_coro_options){.guard = guards[g]});
        uint64_t now = 0;
        for (int round = 0; round < 3; round++) {
            storm(pool, co, 500);
            tick_until_done(pool, &now);
            cr_expect_eq(stats_of(pool).idle, 16);
            cr_expect_eq(stats_of(pool).released, 484);
        }
        cr_expect_eq(stats_of(pool).stacks, 500);
        cr_expect_eq(stats_of(pool).cold_starts, 500 + 2 * 484);
        cr_expect_eq(stats_of(pool).trimmed, 3 * 484);
        weir_coro_pool_free(pool);
    }
}

Test(pool, nothing_is_trimmed_while_the_percentile_asks_for_it)
{
    static struct weir_coro *co[100];
    struct weir_coro_pool *pool = new_pool(&(struct weir_coro_options){.trim_window = 50});
    uint64_t now = 0;
    for (int i = 0; i < 100; i++) { /* a burst in each sample: gone again before the tick */
        storm(pool, co, 100);
        now += 10 * MS;
        weir_coro_pool_tick(pool, now);
    }
    cr_expect_eq(stats_of(pool).trimmed, 0);
    cr_expect_eq(stats_of(pool).stacks, 100);
    cr_expect_eq(stats_of(pool).cold_starts, 100);
    cr_expect_eq(stats_of(pool).trim_target, 100);
    weir_coro_pool_free(pool);
}

Test(pool, between_samples_a_tick_changes_nothing_but_says_when)
{
    static struct weir_coro *co[100];
    struct weir_coro_pool *pool = new_pool(NULL);
    cr_expect_eq(weir_coro_pool_tick(pool, 5 * MS), UINT64_MAX, "nothing is idle");
    storm(pool, co, 100);
    cr_expect_eq(weir_coro_pool_tick(pool, 6 * MS), 15 * MS, "now a sleeping loop must come back");
    cr_expect_eq(weir_coro_pool_tick(pool, 14 * MS), 15 * MS);
    cr_expect_eq(stats_of(pool).trimmed, 0);
    cr_expect_lt(weir_coro_pool_tick(pool, 15 * MS), UINT64_MAX);
    weir_coro_pool_free(pool);
}

Test(pool, a_long_sleep_counts_as_the_samples_it_missed)
{
    static struct weir_coro *co[100];
    struct weir_coro_pool *pool = new_pool(NULL);
    struct weir_coro *sleeper[50];
    weir_coro_pool_tick(pool, 5 * MS);
    storm(pool, co, 100);
    for (int i = 0; i < 50; i++)
        weir_coro_new(pool, &sleeper[i], yield_once, NULL);
    weir_coro_pool_tick(pool, 6 * MS); /* and the loop sleeps for two hundred samples */
    weir_coro_pool_tick(pool, 2005 * MS);
    cr_expect_eq(stats_of(pool).trim_target, 66, "the 50 that slept, and the 16 kept");
    cr_expect_eq(stats_of(pool).trimmed, 25, "one step, however late");
    weir_coro_pool_free(pool);
}

Test(pool, trim_off_keeps_every_stack)
{
    static struct weir_coro *co[100];
    struct weir_coro_pool *pool = new_pool(&(struct weir_coro_options){.trim_off = true});
    storm(pool, co, 100);
    for (uint64_t now = 0; now < 30000 * MS; now += 10 * MS)
        cr_assert_eq(weir_coro_pool_tick(pool, now), UINT64_MAX);
    cr_expect_eq(stats_of(pool).idle, 100);
    weir_coro_pool_free(pool);
}

static void borrow(void *arg)
{
    cr_expect_eq(weir_coro_call_deep(65536, yield_once, NULL), 0);
}

Test(pool, stacks_of_every_size_are_trimmed)
{
    static struct weir_coro *co[100];
    struct weir_coro_pool *pool = new_pool(NULL);
    for (int i = 0; i < 100; i++) {
        weir_coro_new(pool, &co[i], borrow, NULL);
        weir_coro_resume(co[i], NULL);
    }
    cr_expect_eq(stats_of(pool).borrowed, 100);
    for (int i = 0; i < 100; i++)
        weir_coro_resume(co[i], NULL);
    uint64_t now = 0;
    tick_until_done(pool, &now);
    cr_expect_eq(stats_of(pool).released, 2 * 84);
    weir_coro_pool_free(pool);
}

static uint64_t resident_kib(void)
{
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    char line[256];
    uint64_t kib = 0;
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "Rss: %lu", &kib) == 1)
            break;
    fclose(file);
    cr_assert_gt(kib, 0);
    return kib;
}

#define STORM 20000

Test(pool, after_a_storm_of_20000_resident_memory_comes_back)
{
    if (getenv("WEIR_TEST_EMULATED") != NULL)
        cr_skip_test("the resident memory is an emulator's, too");
    if (WEIR__HOOKS_STACK_SCALE > 1 || weir__valgrind_runs() || EMULATED)
        cr_skip_test("the tool's own memory counts, too");
    static struct weir_coro *co[STORM];
    memset(co, 1, sizeof co); /* so that the test's own memory is there before */
    struct weir_coro_pool *pool = new_pool(NULL);
    storm(pool, co, 100);
    uint64_t now = 0;
    weir_coro_pool_tick(pool, now);
    (void)resident_kib(); /* what stdio needs is part of `before` */
    uint64_t before = resident_kib();
    storm(pool, co, STORM);
    uint64_t during = resident_kib();
    size_t ticks = tick_until_done(pool, &now);
    uint64_t after = resident_kib();
    cr_expect_gt(during, before + STORM * 8 - 1000, "before %lu KiB, during %lu", before, during);
    cr_expect_leq(after * 10, before * 11, "before %lu KiB, during %lu, after %lu", before, during,
                  after);
    cr_expect_geq(ticks, (STORM - 100) / 25, "it took %zu steps", ticks);
    cr_expect_lt(now, 20000 * MS, "the window's ten seconds, and eight to give back");
    cr_expect_eq(weir_coro_pool_tick(pool, now + 1), UINT64_MAX, "and the timer is at rest");
    weir_coro_pool_free(pool);
}
