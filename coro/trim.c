/*
 * The trim policy: see trim.h. Called by pool.c at each sample, and by its tests.
 */
#include "trim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define EXACT     128 /* values below have a bucket each */
#define SUB_BITS  6   /* larger ones 2^6 buckets to a power of two */
#define VALUE_MAX ((UINT64_C(1) << 24) - 1)

_Static_assert(EXACT + (24 - 7) * (1 << SUB_BITS) == WEIR__TRIM_BUCKETS,
               "a bucket for every value");

static uint32_t bucket_of(uint64_t value)
{
    if (value > VALUE_MAX)
        value = VALUE_MAX;
    if (value < EXACT)
        return (uint32_t)value;
    unsigned exponent = 63 - (unsigned)__builtin_clzll(value); /* 7 .. 23 */
    unsigned shift = exponent - SUB_BITS;
    return EXACT + ((exponent - 7) << SUB_BITS) + ((uint32_t)(value >> shift) & 63);
}

static uint64_t upper_edge(uint32_t bucket)
{
    if (bucket < EXACT)
        return bucket;
    unsigned exponent = 7 + ((bucket - EXACT) >> SUB_BITS);
    uint64_t step = UINT64_C(1) << (exponent - SUB_BITS);
    return ((64 + ((bucket - EXACT) & 63) + 1) * step) - 1;
}

uint64_t weir__trim_round(uint64_t active)
{
    return upper_edge(bucket_of(active));
}

int weir__trim_init(struct weir__trim *t, uint32_t window, double percentile)
{
    if (window == 0 || window > WEIR__TRIM_WINDOW_MAX || !(percentile > 0 && percentile <= 100))
        return -EINVAL;
    memset(t, 0, sizeof *t);
    t->ring = calloc(window, sizeof *t->ring);
    if (t->ring == NULL)
        return -ENOMEM;
    t->window = window;
    t->percentile = percentile;
    return 0;
}

void weir__trim_deinit(struct weir__trim *t)
{
    free(t->ring);
    t->ring = NULL;
}

/* How many of the n samples have to be at or under the percentile: nearest rank, at least one. */
static uint32_t rank(const struct weir__trim *t)
{
    double exact = t->percentile * t->n / 100;
    uint32_t whole = (uint32_t)exact;
    return whole < exact || whole == 0 ? whole + 1 : whole;
}

/* Moves the cursor to the lowest bucket at or under which `rank` samples lie. */
static void settle(struct weir__trim *t)
{
    uint32_t need = rank(t);
    while (t->under >= need)
        t->under -= t->counts[--t->cursor];
    while (t->under + t->counts[t->cursor] < need)
        t->under += t->counts[t->cursor++];
}

static void push(struct weir__trim *t, uint32_t bucket)
{
    if (t->n == t->window) {
        uint32_t oldest = t->ring[t->next];
        t->counts[oldest]--;
        t->under -= oldest < t->cursor;
    } else {
        t->n++;
    }
    t->ring[t->next] = (uint16_t)bucket;
    t->next = t->next + 1 == t->window ? 0 : t->next + 1;
    t->counts[bucket]++;
    t->under += bucket < t->cursor;
}

void weir__trim_sample(struct weir__trim *t, uint64_t active, uint64_t times)
{
    if (times == 0)
        return;
    if (times > t->window)
        times = t->window;
    uint32_t bucket = bucket_of(active);
    for (uint64_t i = 0; i < times; i++)
        push(t, bucket);
    settle(t);
}

uint64_t weir__trim_target(const struct weir__trim *t)
{
    return t->n == 0 ? 0 : upper_edge(t->cursor);
}
