/* bench/report_ablation.c and report_ablation_files.c on an ablation made by hand. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/report_ablation.h"

enum { ROWS = 5, COLUMNS = 2 };

static struct ablation_row rows[ROWS];
static struct report_cell cells[COLUMNS][ROWS + 1];
static struct report_noise noise[1];
static struct ablation_column columns[COLUMNS];
static struct ablation_report report;

static struct ablation_row row(const char *feature, bool on, enum ablation_state state)
{
    return (struct ablation_row){
        .feature = feature, .on = on, .spec = (char *)feature, .state = state};
}

static void fill_column(size_t index, const char *name, enum shape_kind kind)
{
    for (size_t i = 0; i <= ROWS; i++)
        cells[index][i] = (struct report_cell){
            .engine = i == 0 ? "uring" : rows[i - 1].spec,
            .conns = 10,
            .measured = i == 0 || rows[i - 1].state == ABLATION_MEASURED,
            .skipped = i == 0 || rows[i - 1].state == ABLATION_MEASURED ? NULL : rows[i - 1].why,
            .per_conn = {.user = 132, .kernel = NAN, .kernel_uncertainty = NAN, .sockets = NAN},
            .rps = {1000, 990, 1010},
            .server_cpu_us = {5, 4.9, 5.1},
            .elapsed_ms = weir__interval_unknown(),
            .is_reference = i == 0,
        };
    columns[index].report = (struct report){
        .tool = "compare",
        .workload = "echo",
        .shape = {.kind = kind, .active = kind == SHAPE_IDLE ? 10 : 0},
        .size = 100,
        .rounds = 50,
        .slice_s = 0.05,
        .reference = "uring",
        .cells = cells[index],
        .cell_count = ROWS + 1,
        .noise = noise,
        .noise_count = 1,
    };
    snprintf(columns[index].name, sizeof columns[index].name, "%s", name);
    for (size_t i = 0; i < ROWS; i++)
        columns[index].worth[i].ratio = weir__interval_unknown();
}

static struct ablation_worth worth(double median, double half, enum ablation_verdict verdict)
{
    return (struct ablation_worth){{median, median - half, median + half}, verdict};
}

static void setup(void)
{
    noise[0] = (struct report_noise){10, {1, 0.99, 1.012}, {1, 0.99, 1.01}};
    rows[0] = row("buffer_ring", false, ABLATION_MEASURED);
    strcpy(rows[0].also_off, "multishot_recv,bundles");
    rows[1] = row("cqe_skip", false, ABLATION_MEASURED);
    rows[2] = row("no_sqarray", true, ABLATION_NOT_GRANTED);
    strcpy(rows[2].why, "built with an old <liburing>");
    rows[3] = row("coop_taskrun", true, ABLATION_SAME);
    strcpy(rows[3].why, "the same as without defer_taskrun");
    rows[4] = row("sqpoll", true, ABLATION_MEASURED);
    fill_column(0, "1 conn", SHAPE_CLOSED);
    fill_column(1, "churn", SHAPE_CHURN);
    columns[0].worth[0] = worth(1.312, 0.021, WORTH_PAYS);
    columns[1].worth[0] = worth(1.004, 0.01, WORTH_NOTHING);
    columns[0].worth[1] = worth(1.001, 0.01, WORTH_NOTHING);
    columns[1].worth[1] = worth(0.999, 0.01, WORTH_NOTHING);
    columns[0].worth[4] = worth(1.2, 0.05, WORTH_PAYS);
    columns[1].worth[4] = worth(0.457, 0.1, WORTH_COSTS);
    report = (struct ablation_report){
        .engine = "uring",
        .granted = "buffer_ring,cqe_skip,multishot_recv",
        .rows = rows,
        .row_count = ROWS,
        .columns = columns,
        .column_count = COLUMNS,
    };
}

TestSuite(report_ablation, .init = setup);

static char *table(bool colour)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);

    weir__ablation_table(out, &report, colour);
    fclose(out);
    return text;
}

static char *file(enum report_kind kind)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);

    cr_assert_eq(weir__ablation_write(kind, out, &report), 0);
    fclose(out);
    return text;
}

static void expect(const char *text, const char *part)
{
    cr_assert_not_null(strstr(text, part), "no '%s' in:\n%s", part, text);
}

static void expect_not(const char *text, const char *part)
{
    cr_assert_null(strstr(text, part), "'%s' in:\n%s", part, text);
}

Test(report_ablation, a_ratio_beyond_noise_is_marked_and_one_within_is_not)
{
    char *text = table(false);

    expect(text, "  buffer_ring   1.312±.021* 1.004±.010\n");
    expect(text, "  cqe_skip      1.001±.010  0.999±.010\n");
    expect(text, "  sqpoll        1.200±.050* 0.457±.100*\n");
    free(text);
}

Test(report_ablation, the_copy_of_the_engine_itself_is_the_last_row)
{
    char *text = table(false);

    expect(text, "A/A             1.000±.012  1.000±.012\n");
    free(text);
}

Test(report_ablation, rows_are_told_apart_by_which_way_they_were_switched)
{
    char *text = table(false);
    const char *without = strstr(text, "\nwithout\n");
    const char *with = strstr(text, "\nwith\n");

    cr_assert(without != NULL && with != NULL && without < with, "%s", text);
    cr_assert_lt(strstr(text, "  cqe_skip"), with);
    cr_assert_gt(strstr(text, "  sqpoll"), with);
    free(text);
}

Test(report_ablation, what_a_switch_takes_along_stands_under_its_row)
{
    char *text = table(false);

    expect(text, "1.004±.010\n                also off: multishot_recv, bundles\n");
    free(text);
}

Test(report_ablation, a_row_that_was_not_measured_says_why)
{
    char *text = table(false);

    expect(text, "  no_sqarray    not granted here\n");
    expect(text, "  coop_taskrun  the same as without defer_taskrun\n");
    expect(text, "not granted  no_sqarray: built with an old <liburing>\n");
    free(text);
}

Test(report_ablation, the_words_say_what_pays_where_what_costs_and_what_does_not_matter)
{
    char *text = table(false);

    expect(text, "pays         buffer_ring (also off: multishot_recv, bundles): 1.312 at 1 conn\n");
    expect(text, "pays         sqpoll: 1.200 at 1 conn\n");
    expect(text, "costs        sqpoll: 0.457 at churn\n");
    expect(text, "no matter    no difference beyond noise in any column: cqe_skip\n");
    free(text);
}

Test(report_ablation, too_few_slices_are_not_called_a_tie)
{
    struct interval open = weir__interval_unknown();

    open.median = 1.1;
    for (size_t i = 0; i < COLUMNS; i++)
        columns[i].worth[1] = (struct ablation_worth){open, WORTH_UNKNOWN};
    char *text = table(false);

    expect(text, "  cqe_skip         1.100±?     1.100±?\n");
    expect(text, "unknown      too few slices");
    expect_not(text, "no matter");
    free(text);
}

Test(report_ablation, a_server_that_failed_is_seen_in_its_column_and_told)
{
    cells[1][2].failed = "killed by signal 6";
    columns[1].worth[1] = (struct ablation_worth){weir__interval_unknown(), WORTH_UNKNOWN};
    char *text = table(false);

    expect(text, "  cqe_skip      1.001±.010      failed*\n");
    expect(text, "FAILED       cqe_skip at churn: killed by signal 6\n");
    free(text);
}

Test(report_ablation, idle_connections_are_told_in_bytes_too)
{
    fill_column(1, "70 conns", SHAPE_IDLE);
    char *text = table(false);

    expect(text, "70 conns  user B/conn\n");
    expect(text, "-          132\n");
    free(text);
}

Test(report_ablation, the_table_of_the_usual_columns_fits_eighty)
{
    struct ablation_column five[5];

    for (size_t i = 0; i < 5; i++)
        five[i] = columns[0];
    strcpy(five[1].name, "1000 conns");
    report.columns = five;
    report.column_count = 5;
    rows[0].feature = "multishot_accept";
    rows[1].feature = "direct_descriptors";
    char *text = table(false);

    for (const char *line = text; *line != '\0';) {
        size_t columns_wide = 0;
        size_t length = strcspn(line, "\n");

        for (size_t i = 0; i < length; i++)
            columns_wide += ((unsigned char)line[i] & 0xc0) != 0x80;
        cr_assert_leq(columns_wide, 81, "%.*s", (int)length, line);
        line += length + (line[length] == '\n');
    }
    free(text);
}

Test(report_ablation, colours_are_only_where_they_are_asked_for)
{
    char *plain = table(false);
    char *coloured = table(true);

    expect_not(plain, "\033");
    expect(coloured, "\033[1;32m1.312±.021\033[0m*");
    expect(coloured, "\033[31m0.457±.100\033[0m*");
    free(plain);
    free(coloured);
}

Test(report_ablation, the_json_has_the_features_and_the_cells_of_each_column)
{
    char *text = file(REPORT_JSON);
    json_t *document = json_loads(text, 0, NULL);
    const char *feature, *switched, *state, *column, *verdict, *name, *along;
    double median;
    int conns;

    cr_assert_not_null(document);
    json_t *ablation = json_object_get(document, "ablation");
    cr_assert_eq(json_array_size(json_object_get(ablation, "features")), ROWS);
    cr_assert_eq(json_unpack(json_array_get(json_object_get(ablation, "features"), 0),
                             "{s:s, s:s, s:s, s:[s], s:[{s:s, s:s, s:f}]}", "feature", &feature,
                             "switched", &switched, "state", &state, "also_off", &along,
                             "cpu_without_over_with", "column", &column, "verdict", &verdict,
                             "median", &median),
                 0);
    cr_assert_str_eq(feature, "buffer_ring");
    cr_assert_str_eq(switched, "off");
    cr_assert_str_eq(state, "measured");
    cr_assert_str_eq(along, "multishot_recv");
    cr_assert_str_eq(column, "1 conn");
    cr_assert_str_eq(verdict, "pays");
    cr_assert_float_eq(median, 1.312, 1e-9);
    cr_assert_eq(json_unpack(json_array_get(json_object_get(document, "columns"), 1),
                             "{s:s, s:{s:s}, s:[{s:s, s:i}]}", "name", &name, "run", "shape",
                             &feature, "cells", "engine", &column, "conns", &conns),
                 0);
    cr_assert_str_eq(name, "churn");
    cr_assert_str_eq(feature, "churn");
    cr_assert_str_eq(column, "uring");
    cr_assert_eq(conns, 10);
    json_decref(document);
    free(text);
}

Test(report_ablation, the_csv_has_one_header_and_every_row_of_every_column)
{
    char *text = file(REPORT_CSV);
    size_t lines = 0;

    for (const char *at = text; *at != '\0'; at++)
        lines += *at == '\n';
    cr_assert_eq(lines, 1 + COLUMNS * (ROWS + 1), "%s", text);
    expect(text, "\necho,churn,100,sqpoll,10,");
    free(text);
}

Test(report_ablation, the_markdown_has_the_table_in_full_and_the_cells_of_each_column)
{
    char *text = file(REPORT_MARKDOWN);

    expect(text, "| without buffer\\_ring | **1.312 [1.291, 1.333]** | 1.004 [0.994, 1.014] |\n");
    expect(text, "| with sqpoll | **1.200 ");
    expect(text, "\n### churn\n\n| conns | engine |");
    free(text);
}

Test(report_ablation, the_page_escapes_what_comes_from_outside)
{
    char *text = file(REPORT_HTML);

    expect(text, "<td class=\"l  \">without buffer_ring</td>");
    expect(text, "old &lt;liburing&gt;");
    expect_not(text, "<liburing>");
    expect(text, "</html>\n");
    free(text);
}
