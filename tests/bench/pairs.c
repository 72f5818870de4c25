/* bench/compare_pairs.c and compare_plan.c: slices into ratios, budgets into rounds. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "bench/compare.h"

enum { ROUNDS = 40 };

static struct slice subject[ROUNDS];
static struct slice reference[ROUNDS];

/* A machine whose speed wanders by a factor of two, and a subject that is `factor` as fast as the
 * reference. */
static void fill(double factor)
{
    for (size_t i = 0; i < ROUNDS; i++) {
        double speed = 1 + 0.5 * sin((double)i / 6);

        reference[i] = (struct slice){
            .middle_s = (double)i, .elapsed_s = 0.1, .requests = 10000 * speed, .cpu_s = 0.05};
        subject[i] = (struct slice){.middle_s = (double)i + 0.5,
                                    .elapsed_s = 0.1,
                                    .requests = 10000 * speed * factor,
                                    .cpu_s = 0.05};
    }
}

Test(pairs, a_figure_of_an_empty_slice_is_unknown)
{
    struct slice empty = {.elapsed_s = 0.1};
    struct slice no_cpu = {.elapsed_s = 0.1, .requests = 100, .cpu_s = NAN};

    cr_assert(isnan(weir__slice_figure(&empty, SLICE_RPS)));
    cr_assert(isnan(weir__slice_figure(&no_cpu, SLICE_CPU)));
    cr_assert_float_eq(weir__slice_figure(&no_cpu, SLICE_RPS), 1000, 1e-9);
    cr_assert_float_eq(weir__slice_figure(&no_cpu, SLICE_ELAPSED), 100, 1e-9);
    no_cpu.cpu_s = 0.05;
    cr_assert_float_eq(weir__slice_figure(&no_cpu, SLICE_CPU), 500, 1e-9);
}

Test(pairs, pairing_cancels_a_drift_of_the_machine)
{
    fill(1.1);
    struct interval ratio = weir__pairs_interval(subject, ROUNDS, reference, ROUNDS, SLICE_RPS, 1);
    struct interval absolute = weir__slices_interval(subject, ROUNDS, SLICE_RPS, 1);

    cr_assert_float_eq(ratio.median, 1.1, 0.02);
    cr_assert_gt(ratio.lo, 1.05);
    cr_assert_lt(ratio.hi, 1.15);
    cr_assert_gt((absolute.hi - absolute.lo) / absolute.median, 0.15, "the drift itself is large");
}

Test(pairs, cpu_per_request_is_the_inverse_of_the_speed)
{
    fill(2);
    struct interval ratio = weir__pairs_interval(subject, ROUNDS, reference, ROUNDS, SLICE_CPU, 1);

    cr_assert_float_eq(ratio.median, 0.5, 0.01);
}

Test(pairs, a_slice_at_the_end_has_one_neighbour_and_one_between_has_two)
{
    struct slice first = {.middle_s = 0, .elapsed_s = 1, .requests = 100};
    struct slice refs[] = {
        {.middle_s = 1, .elapsed_s = 1, .requests = 50},
        {.middle_s = 3, .elapsed_s = 1, .requests = 150},
    };

    cr_assert_eq(weir__pairs_interval(&first, 1, refs, 2, SLICE_RPS, 1).median, 2);
    first.middle_s = 2;
    cr_assert_eq(weir__pairs_interval(&first, 1, refs, 2, SLICE_RPS, 1).median, 1);
    first.middle_s = 4;
    cr_assert_float_eq(weir__pairs_interval(&first, 1, refs, 2, SLICE_RPS, 1).median, 100.0 / 150,
                       1e-12);
}

Test(pairs, a_reference_slice_without_answers_is_passed_over)
{
    struct slice mine = {.middle_s = 2, .elapsed_s = 1, .requests = 100};
    struct slice refs[] = {
        {.middle_s = 0, .elapsed_s = 1, .requests = 50},
        {.middle_s = 1, .elapsed_s = 1, .requests = 0},
    };

    cr_assert_eq(weir__pairs_interval(&mine, 1, refs, 2, SLICE_RPS, 1).median, 2);
    cr_assert(isnan(weir__pairs_interval(&mine, 1, refs + 1, 1, SLICE_RPS, 1).median));
    cr_assert(isnan(weir__pairs_interval(&mine, 1, refs, 0, SLICE_RPS, 1).median));
}

static struct compare_options options(double budget_s, unsigned rounds, double slice_s)
{
    return (struct compare_options){
        .budget_s = budget_s, .rounds = rounds, .slice_s = slice_s, .conns_count = 3};
}

static struct plan plan_group(const struct compare_options *o, unsigned conns, unsigned contenders)
{
    return weir__plan_group(o, conns, contenders, weir__plan_share_s(o, 0));
}

Test(plan, the_default_budget_gives_about_fifty_rounds)
{
    struct compare_options o = options(60, 0, 0);
    struct plan plan = plan_group(&o, 200, 4);

    cr_assert_not(plan.rounds_fixed);
    cr_assert(plan.rounds >= 40 && plan.rounds <= 60, "%u", plan.rounds);
    cr_assert_leq(plan.rounds * plan.slice_s * 4, plan.group_s);
    cr_assert_float_eq(plan.group_s, 20, 1e-9);
}

Test(plan, a_small_budget_keeps_slices_long_enough_and_the_rounds_that_bounds_need)
{
    struct compare_options o = options(1, 0, 0);
    struct plan plan = plan_group(&o, 10, 3);

    cr_assert_geq(plan.slice_s, 0.03);
    cr_assert_geq(plan.rounds, STATS_SAMPLES_MIN);
}

Test(plan, slices_grow_with_the_connections)
{
    struct compare_options o = options(60, 0, 0);

    cr_assert_gt(plan_group(&o, 10000, 4).slice_s, plan_group(&o, 100, 4).slice_s);
}

Test(plan, slices_of_churn_have_room_for_whole_connections)
{
    struct compare_options closed = options(60, 0, 0), churn = closed;

    churn.shape.kind = SHAPE_CHURN;
    cr_assert_gt(plan_group(&churn, 1000, 4).slice_s, plan_group(&closed, 1000, 4).slice_s);
}

static struct compare_options bursts(unsigned requests)
{
    return (struct compare_options){.shape = {.kind = SHAPE_BURST, .requests = requests},
                                    .conns = {100, 1000, 10000},
                                    .conns_count = 3,
                                    .engines.count = 3};
}

Test(plan, a_budget_is_shared_by_bursts_as_long_as_they_take)
{
    struct compare_options o = bursts(100);

    o.budget_s = weir__plan_default_s(&o);
    cr_assert_gt(o.budget_s, 60);
    cr_assert_gt(weir__plan_share_s(&o, 2), 2 * weir__plan_share_s(&o, 1));
    cr_assert_float_eq(weir__plan_share_s(&o, 0) + weir__plan_share_s(&o, 1) +
                           weir__plan_share_s(&o, 2),
                       o.budget_s, 1e-6);
    o.shape.kind = SHAPE_CLOSED;
    cr_assert_eq(weir__plan_default_s(&o), 60);
}

Test(plan, a_burst_that_takes_all_of_its_share_is_not_warmed_up)
{
    struct compare_options o = bursts(100);

    o.budget_s = weir__plan_default_s(&o);
    cr_assert(weir__plan_group(&o, 100, 4, weir__plan_share_s(&o, 0)).warms_up);
    cr_assert_not(weir__plan_group(&o, 10000, 4, weir__plan_share_s(&o, 2)).warms_up);
}

Test(plan, a_cell_may_take_twice_its_share_but_time_enough_for_an_interval)
{
    struct compare_options o = options(60, 0, 0);

    o.budget_given = true;
    cr_assert_float_eq(plan_group(&o, 100, 4).cell_s, 2 * 20 / 4.0, 1e-9);
    struct plan many = plan_group(&o, 10000, 100);
    cr_assert_gt(many.cell_s, STATS_SAMPLES_MIN * many.slice_s);
    o.cell_budget_s = 3;
    cr_assert_eq(plan_group(&o, 100, 4).cell_s, 3);
}

Test(plan, with_rounds_a_cell_may_take_any_time)
{
    struct compare_options o = options(0, 12, 0);

    cr_assert_eq(plan_group(&o, 100, 4).cell_s, 0);
}

Test(plan, given_rounds_and_slices_are_kept)
{
    struct compare_options o = options(60, 12, 0.05);
    struct plan plan = plan_group(&o, 100, 4);

    cr_assert(plan.rounds_fixed);
    cr_assert_eq(plan.rounds, 12);
    cr_assert_eq(plan.slice_s, 0.05);
    o.slice_s = 0;
    cr_assert_gt(plan_group(&o, 100, 4).slice_s, 0);
}

Test(plan, a_round_takes_every_contender_once_and_in_another_order_each_time)
{
    struct rng rng;
    unsigned order[20];
    unsigned before[20] = {0};
    unsigned changed = 0;

    weir__rng_init(&rng, 1);
    for (unsigned round = 0; round < 10; round++) {
        unsigned seen = 0;

        cr_assert_eq(weir__plan_round(&rng, 10, 3, 0, order), 10);
        for (size_t i = 0; i < 10; i++)
            seen |= 1u << order[i];
        cr_assert_eq(seen, (1u << 10) - 1);
        changed += memcmp(order, before, sizeof order[0] * 10) != 0;
        memcpy(before, order, sizeof order);
    }
    cr_assert_gt(changed, 5);
}

Test(plan, the_reference_comes_before_each_few_of_the_others)
{
    struct rng rng;
    unsigned order[40];
    unsigned times[18] = {0};

    weir__rng_init(&rng, 1);
    size_t count = weir__plan_round(&rng, 18, 0, 4, order);
    cr_assert_eq(count, 17 + 5);
    cr_assert_eq(count, weir__plan_slices(18, 4));
    for (size_t i = 0; i < count; i++) {
        times[order[i]]++;
        cr_assert_eq(order[i] == 0, i % 5 == 0, "slice %zu is of %u", i, order[i]);
    }
    for (size_t i = 1; i < 18; i++)
        cr_assert_eq(times[i], 1, "%zu", i);
}

Test(plan, a_reference_that_is_alone_still_has_its_slice)
{
    struct rng rng;
    unsigned order[2] = {7, 7};

    weir__rng_init(&rng, 1);
    cr_assert_eq(weir__plan_round(&rng, 1, 0, 4, order), 1);
    cr_assert_eq(order[0], 0);
    cr_assert_eq(weir__plan_slices(1, 4), 1);
}

Test(plan, more_slices_of_the_reference_leave_fewer_rounds_in_the_same_budget)
{
    struct compare_options o = options(60, 0, 0.05);
    unsigned once = plan_group(&o, 100, 18).rounds;

    o.reference_every = 1;
    unsigned often = plan_group(&o, 100, 18).rounds;
    cr_assert(often < once && often > once / 3, "%u and %u", once, often);
}
