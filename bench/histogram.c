/*
 * The log-bucket histogram of bench/histogram.h: index arithmetic and nearest-rank percentiles.
 * Called by the driving threads on every response, so an add is a count-leading-zeros, a shift and
 * an increment. It never allocates and never looks at a clock.
 */
#include "bench/histogram.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define SUB_COUNT (1u << WEIR__HISTOGRAM_SUB_BITS)

static unsigned bucket_of(uint64_t value)
{
    if (value < SUB_COUNT)
        return (unsigned)value;
    unsigned top_bit = 63 - (unsigned)__builtin_clzll(value);
    if (top_bit >= WEIR__HISTOGRAM_MAX_BITS)
        return WEIR__HISTOGRAM_BUCKETS - 1;
    unsigned shift = top_bit - WEIR__HISTOGRAM_SUB_BITS;
    return (shift << WEIR__HISTOGRAM_SUB_BITS) + (unsigned)(value >> shift);
}

/* The middle of a bucket, which stands for all the values in it. */
static uint64_t value_of(unsigned bucket)
{
    if (bucket < 2 * SUB_COUNT)
        return bucket;
    unsigned shift = (bucket >> WEIR__HISTOGRAM_SUB_BITS) - 1;
    uint64_t low = (uint64_t)(SUB_COUNT + (bucket & (SUB_COUNT - 1))) << shift;
    return low + ((UINT64_C(1) << shift) >> 1);
}

void weir__histogram_reset(struct histogram *h)
{
    memset(h, 0, sizeof(*h));
}

void weir__histogram_add(struct histogram *h, uint64_t value_ns)
{
    if (h->count == 0 || value_ns < h->min_ns)
        h->min_ns = value_ns;
    if (value_ns > h->max_ns)
        h->max_ns = value_ns;
    h->count++;
    h->sum_ns += value_ns;
    h->bucket[bucket_of(value_ns)]++;
}

void weir__histogram_merge(struct histogram *into, const struct histogram *from)
{
    if (from->count == 0)
        return;
    if (into->count == 0 || from->min_ns < into->min_ns)
        into->min_ns = from->min_ns;
    if (from->max_ns > into->max_ns)
        into->max_ns = from->max_ns;
    into->count += from->count;
    into->sum_ns += from->sum_ns;
    for (unsigned i = 0; i < WEIR__HISTOGRAM_BUCKETS; i++)
        into->bucket[i] += from->bucket[i];
}

uint64_t weir__histogram_percentile(const struct histogram *h, double percent)
{
    assert(percent > 0 && percent <= 100);
    if (h->count == 0)
        return 0;
    uint64_t rank = (uint64_t)ceil(percent * (double)h->count / 100 - 1e-6);
    if (rank >= h->count)
        return h->max_ns;
    uint64_t seen = 0;
    unsigned i = 0;
    while (i < WEIR__HISTOGRAM_BUCKETS - 1 && (seen += h->bucket[i]) < rank)
        i++;
    uint64_t value = value_of(i);
    if (value < h->min_ns)
        return h->min_ns;
    return value < h->max_ns ? value : h->max_ns;
}

double weir__histogram_mean(const struct histogram *h)
{
    return h->count > 0 ? (double)h->sum_ns / (double)h->count : 0;
}
