/* bench/ablate_plan.c: features into rows, ratios into what they are worth. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/ablate.h"

static const char *const features[] = {"ring", "shots", "skip", "poll", NULL};
static const char plain[] = "ring,shots,skip";
static struct ablation_row rows[8];
static int count;

static void setup(void)
{
    count = weir__ablate_rows("e", features, plain, rows, 8);
}

static void teardown(void)
{
    for (int i = 0; i < count; i++)
        free(rows[i].spec);
}

TestSuite(ablate_plan, .init = setup, .fini = teardown);

Test(ablate_plan, what_is_granted_is_switched_off_and_the_rest_on)
{
    static const char *const want[] = {"e:features=-ring", "e:features=-shots", "e:features=-skip",
                                       "e:features=+poll"};

    cr_assert_eq(count, 4);
    for (int i = 0; i < 4; i++) {
        cr_assert_str_eq(rows[i].spec, want[i]);
        cr_assert_eq(rows[i].on, i == 3);
    }
}

Test(ablate_plan, an_engine_with_options_keeps_them)
{
    struct ablation_row one[1];

    cr_assert_eq(weir__ablate_rows("e:per=connection", features, plain, one, 1), 1);
    cr_assert_str_eq(one[0].spec, "e:per=connection,features=-ring");
    free(one[0].spec);
}

Test(ablate_plan, a_name_is_not_found_in_a_longer_one)
{
    cr_assert(weir__ablate_holds("a,bc,d", "bc"));
    cr_assert(weir__ablate_holds("a,bc,d", "d"));
    cr_assert_not(weir__ablate_holds("a,bc,d", "b"));
    cr_assert_not(weir__ablate_holds("a,bc,d", "bcd"));
    cr_assert_not(weir__ablate_holds("", "a"));
}

Test(ablate_plan, what_a_switch_takes_along_and_what_comes_instead_is_told)
{
    weir__ablate_take_granted(rows, 0, plain, "skip,slow");
    cr_assert_eq(rows[0].state, ABLATION_MEASURED);
    cr_assert_str_eq(rows[0].also_off, "shots");
    cr_assert_str_eq(rows[0].also_on, "slow");
}

Test(ablate_plan, a_switch_alone_takes_nothing_along)
{
    weir__ablate_take_granted(rows, 3, plain, "ring,shots,skip,poll");
    cr_assert_eq(rows[3].state, ABLATION_MEASURED);
    cr_assert_str_eq(rows[3].also_off, "");
    cr_assert_str_eq(rows[3].also_on, "");
}

Test(ablate_plan, what_changes_nothing_is_not_measured)
{
    weir__ablate_take_granted(rows, 0, plain, "skip,shots,ring");
    cr_assert_eq(rows[0].state, ABLATION_SAME);
    cr_assert_str_eq(rows[0].why, "it changes nothing here");
}

Test(ablate_plan, what_is_the_same_as_an_earlier_row_is_not_measured_twice)
{
    weir__ablate_take_granted(rows, 0, plain, "poll,skip");
    weir__ablate_take_granted(rows, 1, plain, "ring,skip");
    weir__ablate_take_granted(rows, 2, plain, "ring,shots");
    weir__ablate_take_granted(rows, 3, plain, "skip,poll");
    cr_assert_eq(rows[2].state, ABLATION_MEASURED);
    cr_assert_eq(rows[3].state, ABLATION_SAME);
    cr_assert_str_eq(rows[3].why, "the same as without ring");
}

static struct report_cell cell(double lo, double median, double hi)
{
    return (struct report_cell){.measured = true, .has_ratio = true, .cpu_ratio = {median, lo, hi}};
}

static const struct interval quiet = {1, 0.99, 1.01};

Test(ablate_plan, a_feature_without_which_the_server_needs_more_cpu_pays)
{
    struct report_cell more = cell(1.1, 1.2, 1.3);
    struct report_cell less = cell(0.8, 0.85, 0.9);

    cr_assert_eq(weir__ablate_worth(&more, quiet, false).verdict, WORTH_PAYS);
    cr_assert_eq(weir__ablate_worth(&less, quiet, false).verdict, WORTH_COSTS);
}

Test(ablate_plan, a_feature_that_was_switched_on_is_told_without_over_with_as_well)
{
    struct report_cell doubled = cell(1.6, 2, 2.5);
    struct ablation_worth worth = weir__ablate_worth(&doubled, quiet, true);

    cr_assert_eq(worth.verdict, WORTH_COSTS);
    cr_assert_float_eq(worth.ratio.median, 0.5, 1e-12);
    cr_assert_float_eq(worth.ratio.lo, 0.4, 1e-12);
    cr_assert_float_eq(worth.ratio.hi, 0.625, 1e-12);
}

Test(ablate_plan, what_lies_within_the_noise_makes_no_difference)
{
    struct report_cell close = cell(1.005, 1.02, 1.03);
    struct interval loud = {1, 0.9, 1.05};

    cr_assert_eq(weir__ablate_worth(&close, loud, false).verdict, WORTH_NOTHING);
    cr_assert_eq(weir__ablate_worth(&close, weir__interval_unknown(), false).verdict,
                 WORTH_UNKNOWN);
}

Test(ablate_plan, a_server_that_failed_is_worth_nothing_known)
{
    struct report_cell failed = cell(1.1, 1.2, 1.3);

    failed.failed = "it died";
    cr_assert_eq(weir__ablate_worth(&failed, quiet, false).verdict, WORTH_UNKNOWN);
    cr_assert(isnan(weir__ablate_worth(&failed, quiet, false).ratio.median));
}

Test(ablate_plan, without_a_word_there_are_five_kinds_of_work)
{
    struct compare_options options = {.size_bytes = 100};
    struct ablation_work work[ABLATION_COLUMNS_MAX];

    cr_assert_eq(weir__ablate_work(&options, work), 5);
    cr_assert_eq(work[1].conns, 1000);
    cr_assert_eq(work[2].size_bytes, 16384);
    cr_assert_eq(work[3].shape.depth, 16);
    cr_assert_eq(work[4].shape.kind, SHAPE_CHURN);
}

Test(ablate_plan, with_a_word_there_is_a_column_for_each_number_of_connections)
{
    struct compare_options options = {
        .shape.kind = SHAPE_IDLE, .size_bytes = 200, .conns = {7, 70}, .conns_count = 2};
    struct ablation_work work[ABLATION_COLUMNS_MAX];

    cr_assert_eq(weir__ablate_work(&options, work), 2);
    cr_assert_eq(work[1].conns, 70);
    cr_assert_eq(work[1].size_bytes, 200);
    cr_assert_eq(work[1].shape.kind, SHAPE_IDLE);
}

Test(ablate_plan, rows_that_the_driver_cannot_hold_at_once_are_divided_evenly)
{
    struct compare_options options = {.conns = {1}, .conns_count = 1};
    char text[CLI_TEXT_BYTES];
    size_t most = WEIR__DRIVER_TARGETS_MAX - 2;

    cr_assert_eq(weir__compare_batch(&options, most, text, sizeof text), most);
    cr_assert_eq(weir__compare_batch(&options, most + 2, text, sizeof text), most / 2 + 1);
}

Test(ablate_plan, where_not_even_one_row_fits_it_says_why)
{
    struct compare_options options = {.conns = {1000000000}, .conns_count = 1};
    char text[CLI_TEXT_BYTES] = "";

    cr_assert_eq(weir__compare_batch(&options, 5, text, sizeof text), 0);
    cr_assert_neq(text[0], 0);
}
