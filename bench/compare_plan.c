/*
 * Turns a budget into slices and rounds. The aim is about fifty slices of each server: that many,
 * paired, are good to about one percent, and a slice must be long enough for every connection to be
 * served a few times.
 */
#include "bench/compare.h"

#include <assert.h>
#include <math.h>

#define ROUNDS_WANTED    50
#define SLICE_MIN_S      0.03
#define SLICE_MAX_S      0.25
#define SLICE_LIMIT_S    1.0
#define SLICE_PER_CONN_S 40e-6  /* a slow request, some times over */
#define CHURN_PER_CONN_S 400e-6 /* the same of a whole connection */
#define START_S          0.2    /* servers up and down again */
#define CONNECT_S        60e-6  /* one connection, both ends */
#define SLICE_DEFAULT_S  0.1    /* with --rounds alone */

size_t weir__plan_slices(size_t contenders, unsigned reference_every)
{
    if (reference_every == 0 || contenders == 0)
        return contenders;
    size_t others = contenders - 1;

    return others > 0 ? others + (others - 1) / reference_every + 1 : 1;
}

size_t weir__plan_round(struct rng *rng, size_t contenders, size_t reference,
                        unsigned reference_every, unsigned *order)
{
    unsigned others[CLI_ENGINES_MAX + 1];
    size_t count = 0;
    size_t used = 0;

    assert(contenders <= CLI_ENGINES_MAX + 1);
    for (size_t i = 0; i < contenders; i++) {
        if (reference_every == 0 || i != reference)
            others[count++] = (unsigned)i;
    }
    weir__rng_shuffle(rng, others, count);
    for (size_t i = 0; i < count; i++) {
        if (reference_every > 0 && i % reference_every == 0)
            order[used++] = (unsigned)reference;
        order[used++] = others[i];
    }
    if (count == 0 && contenders > 0)
        order[used++] = (unsigned)reference;
    return used;
}

double weir__plan_overhead_s(unsigned conns, unsigned contenders, double slice_s)
{
    return START_S + contenders * (conns * CONNECT_S + slice_s);
}

static double choose_slice(double group_s, unsigned conns, size_t slices, enum shape_kind kind)
{
    double per_conn_s = kind == SHAPE_CHURN ? CHURN_PER_CONN_S : SLICE_PER_CONN_S;
    double wanted = group_s / ((double)slices * (ROUNDS_WANTED + 1.0));
    double least = fmin(fmax(SLICE_MIN_S, conns * per_conn_s), SLICE_LIMIT_S);

    return fmin(fmax(wanted, least), fmax(SLICE_MAX_S, least));
}

struct plan weir__plan_group(const struct compare_options *options, unsigned conns,
                             unsigned contenders)
{
    struct plan plan = {.slice_s = options->slice_s};

    if (options->rounds > 0) {
        plan.rounds = options->rounds;
        plan.rounds_fixed = true;
        if (plan.slice_s <= 0)
            plan.slice_s = SLICE_DEFAULT_S;
        return plan;
    }
    plan.group_s = options->budget_s / (double)options->conns_count;
    double fixed_s = weir__plan_overhead_s(conns, contenders, 0);
    double left_s = fmax(plan.group_s - fixed_s, 0);

    size_t slices = weir__plan_slices(contenders, options->reference_every);

    if (plan.slice_s <= 0)
        plan.slice_s = choose_slice(left_s, conns, slices, options->shape.kind);
    double rounds = left_s / ((double)slices * plan.slice_s) - 1; /* one is the warm-up */
    plan.rounds = rounds > STATS_SAMPLES_MIN ? (unsigned)rounds : STATS_SAMPLES_MIN;
    return plan;
}
