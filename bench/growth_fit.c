/* The lines through the points of --growth (growth.h). Arithmetic only. */
#include "bench/growth.h"

#include <math.h>

#define Z95 1.959964

struct sample {
    double x, y, error; /* one standard error of y */
};

/* y = slope x, or with a constant beside it where `shifted`. */
static struct interval slope_of(const struct sample *samples, size_t count, bool shifted)
{
    double w = 0, wx = 0, wy = 0;

    for (size_t i = 0; i < count; i++) {
        double weight = 1 / (samples[i].error * samples[i].error);
        w += weight;
        wx += weight * samples[i].x;
        wy += weight * samples[i].y;
    }
    double x0 = shifted && w > 0 ? wx / w : 0, y0 = shifted && w > 0 ? wy / w : 0;
    double xx = 0, xy = 0, misfit = 0;
    for (size_t i = 0; i < count; i++) {
        double weight = 1 / (samples[i].error * samples[i].error), x = samples[i].x - x0;
        xx += weight * x * x;
        xy += weight * x * (samples[i].y - y0);
    }
    size_t known = shifted ? 2 : 1;
    if (count < known || !(xx > 0))
        return weir__interval_unknown();
    double slope = xy / xx;
    for (size_t i = 0; i < count; i++) {
        double off = (samples[i].y - y0 - slope * (samples[i].x - x0)) / samples[i].error;
        misfit += off * off;
    }
    double spread = count > known ? sqrt(misfit / (double)(count - known)) : 1;
    double error = Z95 * fmax(spread, 1) / sqrt(xx);

    return (struct interval){slope, slope - error, slope + error};
}

/* The standard error that an interval of 95 % stands for. */
static double error_of(double lo, double hi)
{
    return fmax((hi - lo) / (2 * Z95), 1e-9);
}

size_t weir__growth_base(const unsigned *conns, size_t count)
{
    size_t base = 0;

    for (size_t i = 1; i < count; i++) {
        bool fits = conns[i] <= GROWTH_BASE;
        if (fits ? conns[base] > GROWTH_BASE || conns[i] > conns[base] : conns[i] < conns[base])
            base = i;
    }
    return base;
}

static bool is_known(const struct growth_point *point, struct interval ratio)
{
    return point->cell.measured && point->cell.failed == NULL && weir__interval_bounded(ratio);
}

struct growth_fit weir__growth_fit(const struct growth_point *points, size_t count, size_t base,
                                   struct interval noise)
{
    struct sample growth[CLI_COUNTS_MAX] = {0}, idle[CLI_COUNTS_MAX] = {0};
    const struct growth_point *largest = NULL;
    struct growth_fit fit = {.idle = VERDICT_UNKNOWN};
    size_t growths = 0, idles = 0;

    for (size_t i = 0; i < count; i++) {
        const struct growth_point *point = &points[i];
        struct interval total =
            point->cell.has_ratio ? point->cell.cpu_ratio : weir__interval_unknown();
        struct interval more = point->idle_ratio;

        if (i == base && point->cell.measured) /* the others' intervals hold its error, too */
            total = weir__interval_bounded(noise)
                        ? (struct interval){1, noise.lo / noise.median, noise.hi / noise.median}
                        : weir__interval_unknown();
        if (point->cell.conns >= points[base].cell.conns && is_known(point, total))
            growth[growths++] = (struct sample){log(point->cell.conns), log(total.median),
                                                error_of(log(total.lo), log(total.hi))};
        if (point->idle == 0 || !is_known(point, more))
            continue;
        double ns = point->alone_us * 1e3;
        idle[idles++] = (struct sample){point->idle, (more.median - 1) * ns,
                                        error_of(more.lo * ns, more.hi * ns)};
        if (largest == NULL || point->cell.conns > largest->cell.conns)
            largest = point;
    }
    fit.exponent = slope_of(growth, growths, true);
    fit.ns_per_idle = slope_of(idle, idles, false);
    if (largest != NULL)
        fit.idle = weir__stats_verdict(largest->idle_ratio, noise, false);
    return fit;
}
