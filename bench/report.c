/*
 * What the report writers share: figures by name, the best of a group, the noise over all groups.
 * Reads a struct report; decides nothing about it.
 */
#include "bench/report.h"

#include <math.h>

static struct interval widest(struct interval a, struct interval b)
{
    if (!weir__interval_bounded(a))
        return isnan(b.median) ? a : b;
    if (!weir__interval_bounded(b))
        return a;
    bool farther = fabs(b.median - 1) > fabs(a.median - 1);

    return (struct interval){
        .median = farther ? b.median : a.median,
        .lo = fmin(a.lo, b.lo),
        .hi = fmax(a.hi, b.hi),
    };
}

struct report_noise weir__report_noise_widest(const struct report_noise *noise, size_t count)
{
    struct report_noise all = {
        .cpu_ratio = weir__interval_unknown(),
        .rps_ratio = weir__interval_unknown(),
    };

    for (size_t i = 0; i < count; i++) {
        all.cpu_ratio = widest(all.cpu_ratio, noise[i].cpu_ratio);
        all.rps_ratio = widest(all.rps_ratio, noise[i].rps_ratio);
    }
    return all;
}

struct report_noise weir__report_noise_all(const struct report *report)
{
    return weir__report_noise_widest(report->noise, report->noise_count);
}

bool weir__report_by_cpu(const struct report *report, const struct report_cell *cell)
{
    return cell->driver_bound || weir__shape_words(report->shape.kind)->by_cpu;
}

double weir__report_figure(const struct report_cell *cell, enum report_figure figure)
{
    if (!cell->measured)
        return NAN;
    switch (figure) {
    case FIGURE_RPS:
        return cell->rps.median;
    case FIGURE_CPU:
        return cell->server_cpu_us.median;
    case FIGURE_ELAPSED:
        return cell->elapsed_ms.median;
    case FIGURE_P50:
        return cell->latency.p50;
    case FIGURE_P99:
        return cell->latency.p99;
    case FIGURE_P999:
        return cell->latency.p999;
    case FIGURE_RSS:
        return cell->rss_peak;
    case FIGURE_USER_PER_CONN:
        return cell->per_conn.user;
    case FIGURE_MAX:
        return cell->latency.max;
    case FIGURE_RAMP:
        return cell->ramp.ms.median;
    case FIGURE_COUNT:
        break;
    }
    return NAN;
}

double weir__report_unit(const struct report *report)
{
    bool by_bytes = weir__shape_words(report->shape.kind)->by_bytes;

    return by_bytes ? (double)report->size / (1 << 20) : 1;
}

double weir__report_shown(const struct report *report, const struct report_cell *cell,
                          enum report_figure figure)
{
    double value = weir__report_figure(cell, figure);

    if (figure == FIGURE_RPS)
        return value * weir__report_unit(report);
    return figure == FIGURE_CPU ? value / weir__report_unit(report) : value;
}

/* How much better `value` is than `other` as a factor: above 1 is better. */
static double advantage(double value, double other, enum report_figure figure)
{
    return figure == FIGURE_RPS ? value / other : other / value;
}

/* The paired ratio that stands behind a figure; unknown for the reference itself and for others. */
static struct interval ratio_behind(const struct report_cell *cell, enum report_figure figure)
{
    if (cell->is_reference)
        return (struct interval){1, 1, 1};
    if (!cell->has_ratio)
        return weir__interval_unknown();
    if (figure == FIGURE_CPU)
        return cell->cpu_ratio;
    return figure == FIGURE_RPS || figure == FIGURE_ELAPSED ? cell->rps_ratio
                                                            : weir__interval_unknown();
}

bool weir__report_ties(const struct report *report, const struct report_cell *cell,
                       const struct report_cell *best, enum report_figure figure)
{
    struct interval a = ratio_behind(cell, figure);
    struct interval b = ratio_behind(best, figure);

    if (!weir__interval_bounded(a) || !weir__interval_bounded(b))
        return advantage(weir__report_figure(best, figure), weir__report_figure(cell, figure),
                         figure) < 1.01;
    double floor = 0;
    for (size_t i = 0; i < report->noise_count; i++) {
        const struct report_noise *noise = &report->noise[i];
        if (noise->conns == cell->conns)
            floor =
                weir__stats_noise_floor(figure == FIGURE_CPU ? noise->cpu_ratio : noise->rps_ratio);
    }
    return a.lo <= b.hi + floor && b.lo <= a.hi + floor;
}

/* A server that died or lied, or held fewer connections than the others, has figures to look at,
 * but wins nothing. */
static bool competes(const struct report *report, const struct report_cell *cell,
                     enum report_figure figure)
{
    if (report->shape.kind == SHAPE_RAMP && cell->ramp.reached < cell->conns)
        return false;
    return cell->failed == NULL && !isnan(weir__report_figure(cell, figure));
}

bool weir__report_is_best(const struct report *report, const struct report_cell *cell,
                          enum report_figure figure)
{
    const struct report_cell *best = NULL;
    unsigned rivals = 0;

    if (!competes(report, cell, figure))
        return false;
    for (size_t i = 0; i < report->cell_count; i++) {
        const struct report_cell *other = &report->cells[i];
        double value = weir__report_figure(other, figure);

        if (other->conns != cell->conns || !competes(report, other, figure))
            continue;
        rivals++;
        if (best == NULL || advantage(value, weir__report_figure(best, figure), figure) > 1)
            best = other;
    }
    return rivals > 1 && (best == cell || weir__report_ties(report, cell, best, figure));
}
