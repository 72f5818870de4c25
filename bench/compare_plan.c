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
#define OPEN_REQUESTS    10.0   /* of a slice, at least */
#define START_S          0.2    /* servers up and down again */
#define CONNECT_S        60e-6  /* one connection, both ends */
#define SLICE_DEFAULT_S  0.1    /* with --rounds alone */
#define BUDGET_DEFAULT_S 60
#define BURST_CONN_S     60e-6 /* a client of a burst, beside its requests */
#define BURST_REQUEST_S  15e-6 /* one of these */
#define BURST_MUCH_S     3.0   /* a burst so long is made once, */
#define BURST_LITTLE_S   0.5   /* and one so short as often as an interval needs */
#define BURST_FEW        3     /* in between */
/* A cell may take this many times its share of the budget, and no less than: */
#define CELL_SHARES    2.0
#define CELL_MIN_S     1.0
#define CELL_PATIENT_S 10.0 /* where the budget is ours */

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

double weir__plan_least_slice_s(unsigned conns)
{
    return fmin(fmax(SLICE_MIN_S, conns * SLICE_PER_CONN_S), SLICE_LIMIT_S);
}

static double choose_slice(double group_s, unsigned conns, size_t slices, const struct shape *shape)
{
    double per_conn_s = shape->kind == SHAPE_CHURN ? CHURN_PER_CONN_S : SLICE_PER_CONN_S;
    double wanted = group_s / ((double)slices * (ROUNDS_WANTED + 1.0));
    double least = fmin(fmax(SLICE_MIN_S, conns * per_conn_s), SLICE_LIMIT_S);

    if (shape->kind == SHAPE_OPEN) /* some requests in each */
        least = fmin(fmax(least, OPEN_REQUESTS / shape->rate), SLICE_LIMIT_S);
    return fmin(fmax(wanted, least), fmax(SLICE_MAX_S, least));
}

static double burst_s(const struct compare_options *options, unsigned conns)
{
    return conns * (BURST_CONN_S + options->shape.requests * BURST_REQUEST_S);
}

/* What the bursts of one server at `conns` take, where nobody said how long it may be. */
static double bursts_s(const struct compare_options *options, unsigned conns)
{
    double once_s = burst_s(options, conns);

    if (once_s >= BURST_MUCH_S)
        return once_s;
    return once_s * (once_s > BURST_LITTLE_S ? BURST_FEW : STATS_SAMPLES_MIN + 1);
}

static double all_bursts_s(const struct compare_options *options)
{
    double sum_s = 0;

    for (size_t i = 0; i < options->conns_count; i++)
        sum_s += bursts_s(options, options->conns[i]);
    return sum_s;
}

double weir__plan_default_s(const struct compare_options *options)
{
    if (options->shape.kind != SHAPE_BURST)
        return BUDGET_DEFAULT_S;
    return fmax(BUDGET_DEFAULT_S, (double)(options->engines.count + 1) * all_bursts_s(options));
}

double weir__plan_share_s(const struct compare_options *options, size_t index)
{
    if (options->shape.kind != SHAPE_BURST)
        return options->budget_s / (double)options->conns_count;
    return options->budget_s * bursts_s(options, options->conns[index]) / all_bursts_s(options);
}

/* The most that a cell of this plan may take. What is asked for by --rounds is done. */
static double cell_budget(const struct compare_options *options, const struct plan *plan,
                          unsigned conns, unsigned contenders)
{
    double slices_s = options->shape.kind == SHAPE_BURST ? 0 : plan->slice_s * STATS_SAMPLES_MIN;
    double least_s = options->budget_given ? CELL_MIN_S : CELL_PATIENT_S;

    if (options->shape.kind == SHAPE_BURST) /* what is no slower than usual ends its first */
        least_s = fmax(least_s, CELL_SHARES * burst_s(options, conns));

    if (options->cell_budget_s > 0 || plan->rounds_fixed)
        return options->cell_budget_s;
    return fmax(CELL_SHARES * plan->group_s / fmax(contenders, 1), 2 * slices_s + least_s);
}

struct plan weir__plan_group(const struct compare_options *options, unsigned conns,
                             unsigned contenders, double group_s)
{
    struct plan plan = {.slice_s = options->slice_s, .warms_up = true};

    if (options->rounds > 0) {
        plan.rounds = options->rounds;
        plan.rounds_fixed = true;
        if (plan.slice_s <= 0)
            plan.slice_s = SLICE_DEFAULT_S;
        plan.cell_s = cell_budget(options, &plan, conns, contenders);
        return plan;
    }
    plan.group_s = group_s;
    double fixed_s = weir__plan_overhead_s(conns, contenders, 0);
    double left_s = fmax(plan.group_s - fixed_s, 0);

    size_t slices = weir__plan_slices(contenders, options->reference_every);

    if (plan.slice_s <= 0)
        plan.slice_s = choose_slice(left_s, conns, slices, &options->shape);
    double rounds = left_s / ((double)slices * plan.slice_s) - 1; /* one is the warm-up */
    plan.rounds = rounds > STATS_SAMPLES_MIN ? (unsigned)rounds : STATS_SAMPLES_MIN;
    plan.cell_s = cell_budget(options, &plan, conns, contenders);
    if (options->shape.kind == SHAPE_BURST) {
        double bursts = group_s / (contenders * burst_s(options, conns));
        plan.warms_up = bursts > 2; /* else it would be half of all */
        plan.rounds = (unsigned)fmax(bursts - plan.warms_up, 1);
    }
    return plan;
}
