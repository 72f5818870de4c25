/*
 * What the P99 trim is worth, beside keeping every stack, giving back what the last turn did not
 * use, and an idle timeout. All are settings of the one policy. A load of some hundred coroutines
 * a turn with a storm every few seconds runs on a virtual clock; time per turn is measured. It
 * prints figures and judges nothing.
 */
#include <weir/coro.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MS          ((uint64_t)1000000)
#define TURNS       20000 /* of a virtual millisecond each */
#define STORM_EVERY 4000
#define STORM       5000
#define KIB         1024.0

struct policy {
    const char *name;
    struct weir_coro_options options;
};

static const struct policy policies[] = {
    {"P99 (default)", {.trim_step = 25}},
    {"keep all", {.trim_off = true}},
    {"free after a turn",
     {.trim_window = 1, .trim_percentile = 100, .trim_sample_ns = MS, .trim_step = 100000}},
    {"idle timeout, 10 s", {.trim_percentile = 100, .trim_step = 100000}},
};
#define POLICIES (sizeof policies / sizeof *policies)

struct run {
    struct weir_coro_pool *pool;
    uint64_t random;
    uint64_t resident_sum; /* of idle and live stacks, over the turns */
    double turn_us[TURNS];
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* A handler: some stack, one wait. */
static void handle(void *arg)
{
    volatile char frame[1500];
    frame[0] = frame[sizeof frame - 1] = 1;
    weir_coro_yield(NULL);
    frame[0]++;
}

static void turn(struct run *run, int number)
{
    static struct weir_coro *co[STORM + 400];
    run->random = run->random * 6364136223846793005 + 1442695040888963407;
    size_t n = 100 + (run->random >> 33) % 200;
    if (number % STORM_EVERY == 500)
        n += STORM;
    for (size_t i = 0; i < n; i++) {
        if (weir_coro_new(run->pool, &co[i], handle, NULL) < 0)
            abort();
        weir_coro_resume(co[i], NULL);
    }
    for (size_t i = 0; i < n; i++)
        weir_coro_resume(co[i], NULL);
    weir_coro_pool_tick(run->pool, ((uint64_t)number + 1) * MS);
}

static int measure(struct run *run, const struct policy *policy)
{
    struct weir_coro_stats stats;
    memset(run, 0, sizeof *run);
    int rc = weir_coro_pool_new(&run->pool, &policy->options);
    if (rc < 0)
        return rc;
    for (int i = 0; i < TURNS; i++) {
        uint64_t from = now_ns();
        turn(run, i);
        run->turn_us[i] = (double)(now_ns() - from) / 1000;
        weir_coro_pool_stats(run->pool, &stats);
        run->resident_sum += stats.resident_bytes;
    }
    qsort(run->turn_us, TURNS, sizeof *run->turn_us, compare);
    printf("%-20s %12.0f %12.0f %12lu %12lu %9.1f %9.1f %9.1f\n", policy->name,
           (double)run->resident_sum / TURNS / KIB, (double)stats.resident_bytes / KIB,
           (unsigned long)stats.cold_starts, (unsigned long)stats.trimmed, run->turn_us[TURNS / 2],
           run->turn_us[TURNS * 99 / 100], run->turn_us[TURNS * 999 / 1000]);
    weir_coro_pool_free(run->pool);
    return 0;
}

int main(void)
{
    static struct run run;
    printf("%-20s %12s %12s %12s %12s %9s %9s %9s\n", "", "mean KiB", "KiB at end", "cold starts",
           "given back", "p50 us", "p99 us", "p99.9 us");
    for (size_t i = 0; i < POLICIES; i++) {
        int rc = measure(&run, &policies[i]);
        if (rc < 0) {
            fprintf(stderr, "%s: %s\n", policies[i].name, strerror(-rc));
            return EXIT_FAILURE;
        }
    }
    return EXIT_SUCCESS;
}
