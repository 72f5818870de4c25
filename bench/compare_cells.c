/*
 * What a contender's slices come to: its figures, its ratios over the reference, and the cell that
 * the reports print (compare_group.h). Arithmetic only.
 */
#include "bench/compare_group.h"

#include <weir/model.h>

#include <math.h>

static uint32_t frame_bytes(const struct compare_options *options)
{
    return options->size_bytes + (options->driver_workload == DRIVER_FRAME ? 4 : 0);
}

struct interval weir__contender_ratio(const struct contender *contender,
                                      const struct contender *other, enum slice_figure figure,
                                      uint64_t seed)
{
    return weir__pairs_interval(contender->slices, contender->slice_count, other->slices,
                                other->slice_count, figure, seed);
}

static double latency_us(const struct contender *contender, double percent)
{
    if (contender->latency.count == 0)
        return NAN;
    return (double)weir__histogram_percentile(&contender->latency, percent) / 1000;
}

/* A ramp that did not come as far as it was to. */
static bool fell_short(const struct contender *contender)
{
    return contender->shape.kind == SHAPE_RAMP && contender->reached < contender->conns;
}

static void fill_ratios(const struct group *group, const struct contender *contender,
                        struct report_cell *cell)
{
    const struct contender *reference = weir__group_reference(group);

    cell->is_reference = reference == contender;
    if (reference == NULL || reference == contender || reference->slice_count == 0 ||
        contender->failed || fell_short(contender) || fell_short(reference))
        return; /* what died, or lied, or did less, is not faster than anything */
    uint64_t seed = group->options->seed;
    struct report_noise noise = weir__group_noise(group);

    cell->has_ratio = true;
    cell->cpu_ratio = weir__contender_ratio(contender, reference, SLICE_CPU, seed);
    cell->rps_ratio = weir__contender_ratio(contender, reference, SLICE_RPS, seed);
    bool by_cpu = cell->driver_bound || weir__shape_words(group->options->shape.kind)->by_cpu;
    cell->verdict = by_cpu ? weir__stats_verdict(cell->cpu_ratio, noise.cpu_ratio, false)
                           : weir__stats_verdict(cell->rps_ratio, noise.rps_ratio, true);
}

struct report_noise weir__group_noise(const struct group *group)
{
    const struct contender *reference = weir__group_reference(group);
    const struct contender *twin = weir__group_twin(group);
    struct report_noise noise = {
        .conns = group->conns,
        .cpu_ratio = weir__interval_unknown(),
        .rps_ratio = weir__interval_unknown(),
    };

    if (reference == NULL || twin == NULL)
        return noise;
    noise.cpu_ratio = weir__contender_ratio(twin, reference, SLICE_CPU, group->options->seed);
    noise.rps_ratio = weir__contender_ratio(twin, reference, SLICE_RPS, group->options->seed);
    return noise;
}

/* Every byte was counted; of a burst that was cut, also those of responses that were not whole. */
static bool bytes_match(const struct group *group, const struct contender *contender)
{
    uint64_t frame = frame_bytes(group->options);
    uint64_t beyond = contender->bytes - contender->requests * frame;

    return contender->cut ? beyond < contender->conns * frame : beyond == 0;
}

void weir__group_fill_cell(const struct group *group, const struct contender *contender,
                           struct report_cell *cell)
{
    const struct slice *slices = contender->slices;
    size_t count = contender->slice_count;
    uint64_t seed = group->options->seed;

    *cell = (struct report_cell){
        .engine = contender->choice->name,
        .conns = contender->conns,
        .features = contender->server.has_features ? contender->server.features : NULL,
        .measured = count > 0 && contender->requests > 0,
        .requests = contender->requests,
        .seconds = contender->seconds,
        .errors = contender->errors,
        .rps = weir__slices_interval(slices, count, SLICE_RPS, seed),
        .server_cpu_us = weir__slices_interval(slices, count, SLICE_CPU, seed),
        .elapsed_ms = weir__interval_unknown(),
        .latency = {latency_us(contender, 50), latency_us(contender, 90), latency_us(contender, 99),
                    latency_us(contender, 99.9), latency_us(contender, 100)},
        .rss_peak = contender->rss_peak,
        .rss_idle = contender->rss_idle,
        .per_conn = contender->per_conn,
        .driver_bound = contender->driver_bound_count * 2 > count,
        .seed_name = contender->choice->entry->seed_name,
        .slices = (unsigned)count,
        .over_budget = contender->over_budget,
        .cut = contender->cut,
        .spins = contender->choice->entry->traits & WEIR_MODEL_SPINS,
        .skipped = contender->skipped ? contender->why : NULL,
        .failed = contender->failed ? contender->why : NULL,
    };
    /* Parity: answers came, all right, for every connection, and every byte of them was counted. */
    cell->verified = contender->requests > 0 && contender->errors == 0 && !contender->failed &&
                     contender->conns_served && bytes_match(group, contender);
    if (group->options->shape.kind == SHAPE_BURST)
        cell->elapsed_ms = weir__slices_interval(slices, count, SLICE_ELAPSED, seed);
    cell->plan.planned = contender->planned;
    cell->plan.late = contender->late;
    cell->ramp.ms = weir__slices_interval(slices, count, SLICE_RAMP, seed);
    cell->ramp.first_ms = weir__slices_interval(slices, count, SLICE_RAMP_FIRST, seed).median;
    cell->ramp.last_ms = weir__slices_interval(slices, count, SLICE_RAMP_LAST, seed).median;
    cell->ramp.reached = contender->reached;
    if (cell->measured)
        fill_ratios(group, contender, cell);
}
