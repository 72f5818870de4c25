/*
 * Slices into figures and paired ratios (compare.h). Arithmetic only: no clock, no process, no
 * output.
 */
#include "bench/compare.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static double known(double value)
{
    return value > 0 ? value : NAN;
}

double weir__slice_figure(const struct slice *slice, enum slice_figure figure)
{
    if (!(slice->requests > 0) || !(slice->elapsed_s > 0))
        return NAN;
    switch (figure) {
    case SLICE_RPS:
        return slice->requests / slice->elapsed_s;
    case SLICE_CPU:
        return slice->cpu_s > 0 ? slice->cpu_s * 1e6 / slice->requests : NAN;
    case SLICE_ELAPSED:
        return slice->cut ? NAN : slice->elapsed_s * 1e3;
    case SLICE_RAMP:
        return known(slice->ramp.median_ms);
    case SLICE_RAMP_FIRST:
        return known(slice->ramp.first_ms);
    case SLICE_RAMP_LAST:
        return known(slice->ramp.last_ms);
    }
    return NAN;
}

static double *allocate_values(size_t count)
{
    double *values = calloc(count > 0 ? count : 1, sizeof *values);

    if (values == NULL) {
        fprintf(stderr, "weir-bench: out of memory for %zu slices\n", count);
        abort();
    }
    return values;
}

struct interval weir__slices_interval(const struct slice *slices, size_t count,
                                      enum slice_figure figure, uint64_t seed)
{
    double *values = allocate_values(count);
    size_t known = 0;

    for (size_t i = 0; i < count; i++) {
        double value = weir__slice_figure(&slices[i], figure);
        if (!isnan(value))
            values[known++] = value;
    }
    struct interval result = weir__stats_bootstrap(values, known, STATS_BLOCK, seed);
    free(values);
    return result;
}

/* The next slice at or after `from`, in the given direction, whose figure is known. */
static double nearest(const struct slice *slices, size_t count, size_t from, int step,
                      enum slice_figure figure)
{
    for (size_t i = from; i < count; i += (size_t)step) { /* below 0 it wraps past count */
        double value = weir__slice_figure(&slices[i], figure);
        if (!isnan(value))
            return value;
    }
    return NAN;
}

static double neighbours_mean(const struct slice *reference, size_t count, size_t after,
                              enum slice_figure figure)
{
    double later = nearest(reference, count, after, 1, figure);
    double earlier = after > 0 ? nearest(reference, count, after - 1, -1, figure) : NAN;

    if (isnan(earlier))
        return later;
    return isnan(later) ? earlier : (earlier + later) / 2;
}

struct interval weir__pairs_interval(const struct slice *subject, size_t subject_count,
                                     const struct slice *reference, size_t reference_count,
                                     enum slice_figure figure, uint64_t seed)
{
    double *ratios = allocate_values(subject_count);
    size_t known = 0;
    size_t after = 0; /* the first reference slice that is later than the subject's */

    for (size_t i = 0; i < subject_count; i++) {
        while (after < reference_count && reference[after].middle_s <= subject[i].middle_s)
            after++;
        double ratio = weir__slice_figure(&subject[i], figure) /
                       neighbours_mean(reference, reference_count, after, figure);
        if (!isnan(ratio) && !isinf(ratio))
            ratios[known++] = ratio;
    }
    struct interval result = weir__stats_bootstrap(ratios, known, STATS_BLOCK, seed);
    free(ratios);
    return result;
}
