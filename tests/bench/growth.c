/* The lines through the points of --growth, from points made up here. */
#include "bench/growth.h"

#include <criterion/criterion.h>
#include <math.h>

static const struct interval quiet = {1, 0.99, 1.01};

static struct interval around(double value, double error)
{
    return (struct interval){value, value * (1 - error), value * (1 + error)};
}

/* CPU per request `growth` times that at the base; `ns` for each idle connection. */
static struct growth_point point(unsigned conns, double growth, double ns, bool base)
{
    unsigned idle = conns / 2;
    double alone_us = 10 * growth;

    return (struct growth_point){
        .cell = {.conns = conns,
                 .measured = true,
                 .has_ratio = !base,
                 .is_reference = base,
                 .cpu_ratio = around(growth, 0.01)},
        .idle = idle,
        .alone_us = alone_us,
        .idle_ratio = around(1 + ns * idle / (alone_us * 1000), 0.01),
    };
}

static void expect_about(struct interval value, double wanted)
{
    cr_assert(weir__interval_bounded(value));
    cr_assert(value.lo < wanted && wanted < value.hi, "%g not in %g to %g", wanted, value.lo,
              value.hi);
}

Test(growth, the_base_is_the_largest_of_a_hundred_or_less_else_the_smallest)
{
    const unsigned usual[] = {1, 10, 100, 1000}, around_it[] = {10000, 90, 20, 200},
                   large[] = {5000, 200, 1000};

    cr_assert_eq(weir__growth_base(usual, 4), 2);
    cr_assert_eq(weir__growth_base(around_it, 4), 1);
    cr_assert_eq(weir__growth_base(large, 3), 1);
}

Test(growth, what_does_not_grow_has_an_exponent_of_nothing_and_idle_that_cost_nothing)
{
    struct growth_point points[] = {point(10, 1, 0, false), point(100, 1, 0, true),
                                    point(1000, 1, 0, false), point(10000, 1, 0, false)};
    struct growth_fit fit = weir__growth_fit(points, 4, 1, quiet);

    expect_about(fit.exponent, 0);
    expect_about(fit.ns_per_idle, 0);
    cr_assert_lt(fit.exponent.hi, 0.02);
    cr_assert_eq(fit.idle, VERDICT_WITHIN_NOISE);
}

Test(growth, a_root_and_two_nanoseconds_are_found)
{
    struct growth_point points[] = {point(1, 5, 2, false), point(100, 1, 2, true),
                                    point(400, 2, 2, false), point(10000, 10, 2, false)};
    struct growth_fit fit = weir__growth_fit(points, 4, 1, quiet);

    expect_about(fit.exponent, 0.5);
    expect_about(fit.ns_per_idle, 2);
    cr_assert_gt(fit.ns_per_idle.lo, 0);
    cr_assert_eq(fit.idle, VERDICT_SLOWER);
}

Test(growth, points_far_from_a_line_make_its_interval_wider)
{
    struct growth_point near[] = {point(100, 1, 2, true), point(1000, 3, 2, false),
                                  point(10000, 9, 2, false)};
    struct growth_point far[] = {point(100, 1, 2, true), point(1000, 6, 5, false),
                                 point(10000, 9, 2, false)};
    struct growth_fit narrow = weir__growth_fit(near, 3, 0, quiet);
    struct growth_fit wide = weir__growth_fit(far, 3, 0, quiet);

    cr_assert_gt(wide.exponent.hi - wide.exponent.lo,
                 3 * (narrow.exponent.hi - narrow.exponent.lo));
}

Test(growth, the_verdict_on_the_idle_is_that_of_the_largest_number)
{
    struct growth_point points[] = {point(10000, 1, 1, false), point(100, 1, 0, true),
                                    point(1000, 1, 0, false)};

    cr_assert_eq(weir__growth_fit(points, 3, 1, quiet).idle, VERDICT_SLOWER);
    struct interval loud = {1, 0.2, 1.9};
    cr_assert_eq(weir__growth_fit(points, 3, 1, loud).idle, VERDICT_WITHIN_NOISE);
}

Test(growth, too_few_points_and_failed_ones_are_no_line)
{
    struct growth_point points[] = {point(100, 1, 0, true), point(1000, 2, 3, false)};

    points[1].cell.failed = "it died";
    points[0].idle_ratio = weir__interval_unknown();
    struct growth_fit fit = weir__growth_fit(points, 2, 0, quiet);
    cr_assert_not(weir__interval_bounded(fit.exponent));
    cr_assert_not(weir__interval_bounded(fit.ns_per_idle));
    cr_assert_eq(fit.idle, VERDICT_UNKNOWN);
}
