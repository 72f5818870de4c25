/* The small table of bursts, from reports made up here. */
#include "bench/report_pivot.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct report_cell cells[8];
static struct report_noise noise[2];
static struct report report;
static struct pivot pivot;

static struct report_cell cell(const char *engine, unsigned conns, double ms, double ratio)
{
    return (struct report_cell){
        .engine = engine,
        .conns = conns,
        .measured = true,
        .slices = 50,
        .requests = 100,
        .seconds = 1.5,
        .elapsed_ms = {ms, ms, ms},
        .has_ratio = ratio != 1,
        .is_reference = ratio == 1,
        .rps_ratio = {ratio, ratio - 0.01, ratio + 0.01},
    };
}

static void setup(void)
{
    struct interval quiet = {1, 0.99, 1.01};

    cells[0] = cell("swift", 10, 10, 2);
    cells[1] = cell("plain", 10, 20, 1);
    cells[2] = cell("twin", 10, 10.1, 1.99);
    cells[3] = cell("swift", 300, 3000, 0.5);
    cells[4] = cell("plain", 300, 1500, 1);
    cells[5] = cell("twin", 300, 4000, 0.4);
    cells[0].seed_name = cells[3].seed_name = "threadpool";
    for (unsigned i = 0; i < 2; i++)
        noise[i] = (struct report_noise){i == 0 ? 10 : 300, quiet, quiet};
    report = (struct report){
        .tool = "compare",
        .workload = "echo",
        .shape = {.kind = SHAPE_BURST, .requests = 7},
        .reference = "plain",
        .slice_s = NAN,
        .cells = cells,
        .cell_count = 6,
        .noise = noise,
        .noise_count = 2,
    };
}

static void teardown(void)
{
    weir__pivot_deinit(&pivot);
}

TestSuite(pivot, .init = setup, .fini = teardown);

static const struct grid_row *row_of(const char *engine)
{
    for (size_t i = 0; i < pivot.grid.row_count; i++) {
        if (strcmp(pivot.grid.rows[i].text[0], engine) == 0)
            return &pivot.grid.rows[i];
    }
    cr_assert_fail("no row of %s", engine);
    return NULL;
}

static void make(void)
{
    cr_assert(weir__pivot_wanted(&report));
    cr_assert_eq(weir__pivot_init(&pivot, &report), 0);
}

Test(pivot, has_a_row_for_each_engine_and_a_column_for_each_number_of_clients)
{
    make();
    cr_assert_eq(pivot.grid.row_count, 3);
    cr_assert_eq(pivot.grid.column_count, 3);
    cr_assert_str_eq(pivot.grid.headers[1], "10");
    cr_assert_str_eq(pivot.grid.headers[2], "300");
    cr_assert_str_eq(row_of("plain")->text[1], "20.0");
    cr_assert_str_eq(row_of("plain")->text[2], "1,500");
}

Test(pivot, marks_the_fastest_of_each_column_and_what_is_level_with_it)
{
    make();
    cr_assert(row_of("swift")->best[1] && !row_of("swift")->level[1]);
    cr_assert(row_of("twin")->level[1] && !row_of("twin")->best[1]);
    cr_assert_not(row_of("plain")->best[1] || row_of("plain")->level[1]);
    cr_assert(row_of("plain")->best[2]);
    cr_assert_not(row_of("swift")->best[2] || row_of("swift")->level[2]);
}

Test(pivot, without_intervals_what_the_reference_s_copy_differed_by_is_level)
{
    for (size_t i = 0; i < 6; i++)
        cells[i].slices = 1, cells[i].rps_ratio = weir__interval_unknown();
    cells[1].elapsed_ms.median = 11.5;
    noise[0].rps_ratio = (struct interval){1.2, NAN, NAN};
    make();
    cr_assert(row_of("plain")->level[1], "15 %% slower, and two copies differed by 20 %%");
    weir__pivot_deinit(&pivot);
    noise[0].rps_ratio.median = 1;
    make();
    cr_assert_not(row_of("plain")->level[1]);
    cr_assert(row_of("twin")->level[1]);
}

Test(pivot, gives_each_reason_one_number)
{
    static const char *const why = "swift: backlog 4 < 10";

    cells[0].measured = cells[3].measured = false;
    cells[0].skipped = cells[3].skipped = why;
    cells[5].failed = "it died";
    make();
    cr_assert_eq(pivot.notes.count, 2);
    cr_assert_str_eq(row_of("swift")->text[1], "— [1]");
    cr_assert_str_eq(row_of("swift")->text[2], "— [1]");
    cr_assert_str_eq(pivot.notes.items[0], why);
    cr_assert_str_eq(row_of("twin")->text[2], "— [2]");
    cr_assert_str_eq(pivot.notes.items[1], "twin: FAILED: it died");
    cr_assert(row_of("twin")->best[1], "what is left of the column has a fastest");
}

Test(pivot, tells_how_far_a_burst_was_that_was_cut)
{
    cells[3].cut = true;
    cells[3].elapsed_ms = weir__interval_unknown();
    make();
    cr_assert_str_eq(row_of("swift")->text[2], ">1,500 [1]");
    cr_assert_eq(strncmp(pivot.notes.items[0], "swift at 300: 100 of 2100 requests", 34), 0, "%s",
                 pivot.notes.items[0]);
    cr_assert_not(row_of("swift")->best[2]);
}

Test(pivot, has_the_seeds_names_and_figures_where_they_are_asked_for)
{
    report.seed_names = report.seed_figures = true;
    make();
    cr_assert_eq(pivot.grid.column_count, 2 + 2 + 3);
    cr_assert_str_eq(row_of("swift")->text[1], "threadpool");
    cr_assert_str_eq(pivot.grid.headers[4], "seeds' 100");
    cr_assert_str_eq(row_of("swift")->text[4], "357");
    cr_assert_str_eq(row_of("swift")->text[6], "458,326");
    cr_assert_str_eq(row_of("plain")->text[4], "");
}

Test(pivot, shows_what_did_not_finish_in_the_seeds_as_that)
{
    report.seed_figures = true;
    cells[0].seed_name = "singleprocess";
    make();
    cr_assert_str_eq(row_of("swift")->text[5], "—");
}

Test(pivot, is_of_bursts_at_several_numbers_of_clients)
{
    report.shape.kind = SHAPE_CLOSED;
    cr_assert_not(weir__pivot_wanted(&report));
    report.shape.kind = SHAPE_BURST;
    report.cell_count = 3;
    cr_assert_not(weir__pivot_wanted(&report));
    report.seed_names = true;
    make();
}

Test(pivot, stands_in_the_table_for_people_and_in_markdown)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);

    weir__report_table(out, &report, false);
    cr_assert_eq(weir__report_write_markdown(out, &report), 0);
    fclose(out);
    const char *table = strstr(text, "elapsed ms, by clients at once\n");
    cr_assert_not_null(table);
    cr_assert_not_null(strstr(table, "10.0*"));
    cr_assert_not_null(strstr(table, "10.1≈"));
    cr_assert_not_null(strstr(table, "elapsed ms, by clients at once:\n\n| engine | 10 | 300 |"));
    free(text);
    make();
}
