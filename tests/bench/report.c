/* bench/report_*.c on a report made by hand: every writer, its escapes, the unknowns, the baseline.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/report.h"

static struct report_cell cells[4];
static struct report_noise noise[1];
static struct report report;
static char directory[] = "/tmp/weir-report-XXXXXX";

static struct report_cell measured(const char *engine, double rps, double cpu)
{
    return (struct report_cell){
        .engine = engine,
        .conns = 100,
        .features = "multishot_recv,buffer_ring",
        .measured = true,
        .requests = 1234567,
        .seconds = 10,
        .verified = true,
        .rps = {rps, rps * 0.99, rps * 1.01},
        .server_cpu_us = {cpu, cpu * 0.99, cpu * 1.01},
        .elapsed_ms = weir__interval_unknown(),
        .latency = {100, 200, 300, 400, 500},
        .rss_peak = 3 << 20,
        .rss_idle = 2 << 20,
        .per_conn = weir__memory_unknown(),
        .has_ratio = true,
        .rps_ratio = {rps / 100000, rps / 101000, rps / 99000},
        .cpu_ratio = {cpu / 5, cpu / 5.05, cpu / 4.95},
        .verdict = rps > 105000 ? VERDICT_FASTER : VERDICT_WITHIN_NOISE,
    };
}

static void setup(void)
{
    struct interval quiet = {1, 0.99, 1.01};

    cells[0] = measured("uring", 120000, 4.2);
    cells[1] = measured("epoll", 100000, 5);
    cells[1].is_reference = true;
    cells[1].has_ratio = false;
    cells[2] = (struct report_cell){
        .engine = "a\"b,c<d>|e", .conns = 100, .skipped = "io_uring: EPERM, \"forbidden\" <here>"};
    cells[3] = measured("poll", 99500, 5.01);
    noise[0] = (struct report_noise){100, quiet, quiet};
    report = (struct report){
        .tool = "compare",
        .workload = "echo",
        .shape = {.kind = SHAPE_CLOSED},
        .size = 100,
        .rounds = 40,
        .slice_s = 0.25,
        .reference = "epoll",
        .seed = 42,
        .cells = cells,
        .cell_count = 4,
        .noise = noise,
        .noise_count = 1,
    };
    strcpy(directory, "/tmp/weir-report-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
}

static void teardown(void)
{
    cr_assert_eq(rmdir(directory), 0, "a test left files behind");
}

TestSuite(report, .init = setup, .fini = teardown);

static char *written(int (*write)(FILE *, const struct report *))
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);

    cr_assert_eq(write(out, &report), 0);
    fclose(out);
    return text;
}

static int write_table(FILE *out, const struct report *of)
{
    weir__report_table(out, of, false);
    return 0;
}

static unsigned count_of(const char *text, const char *what)
{
    unsigned count = 0;

    for (const char *at = text; (at = strstr(at, what)) != NULL; at += strlen(what))
        count++;
    return count;
}

/* The line of `text` that holds `what`, copied. */
static const char *line_with(const char *text, const char *what)
{
    static char line[1024];
    const char *at = strstr(text, what);

    cr_assert_not_null(at, "no '%s' in:\n%s", what, text);
    while (at > text && at[-1] != '\n')
        at--;
    snprintf(line, sizeof line, "%.*s", (int)strcspn(at, "\n"), at);
    return line;
}

Test(report, the_best_of_a_column_is_marked_and_a_tie_is_shared)
{
    cr_assert(weir__report_is_best(&report, &cells[0], FIGURE_RPS));
    cr_assert_not(weir__report_is_best(&report, &cells[1], FIGURE_RPS));
    cr_assert_not(weir__report_is_best(&report, &cells[2], FIGURE_RPS));
    cells[0].measured = false;
    cr_assert(weir__report_is_best(&report, &cells[1], FIGURE_RPS));
    cr_assert(weir__report_is_best(&report, &cells[3], FIGURE_RPS), "within noise of the best");
}

Test(report, what_failed_wins_nothing)
{
    cells[0].failed = "wrong bytes came back";
    cr_assert_not(weir__report_is_best(&report, &cells[0], FIGURE_RPS));
    cr_assert(weir__report_is_best(&report, &cells[1], FIGURE_RPS));
    char *text = written(write_table);
    cr_assert_null(strstr(text, "120,000*"), "%s", text);
    cr_assert_null(strstr(text, "uring serves best"), "%s", text);
    free(text);
}

Test(report, the_table_has_a_row_for_each_cell_and_says_why_one_is_missing)
{
    cells[3].failed = "killed by signal 11";
    char *text = written(write_table);

    cr_assert_not_null(strstr(line_with(text, "uring "), "120,000*"), "%s", text);
    cr_assert_not_null(strstr(line_with(text, "uring "), "faster"));
    cr_assert_not_null(strstr(text, "skipped: io_uring: EPERM"));
    cr_assert_not_null(strstr(text, "FAILED: killed by signal 11"));
    cr_assert_not_null(strstr(text, "epoll (A/A)"));
    cr_assert_null(strchr(text, '\033'), "no colours were asked for");
    free(text);
}

Test(report, the_columns_of_the_table_stand_under_each_other)
{
    char *text = written(write_table);
    char header[1024];

    snprintf(header, sizeof header, "%s", line_with(text, "requests/s "));
    size_t end = (size_t)(strstr(header, "requests/s") - header) + strlen("requests/s");
    const char *row = line_with(text, "120,000");
    cr_assert_eq((size_t)(strstr(row, "120,000") - row) + strlen("120,000"), end, "%s", text);
    free(text);
}

static unsigned against(double factor, double percent, bool by_ratio);

/* The summary line of the table's footer. */
static void expect_summary(const char *want)
{
    char *text = written(write_table);

    cr_assert_str_eq(line_with(text, "at 100 "), want);
    free(text);
}

Test(report, the_summary_names_the_best_engine_and_how_sure_that_is)
{
    expect_summary(
        "at 100       uring serves best: 20.0 % more requests/s than epoll (95 %: 18.8 to "
        "21.2); no different from epoll: poll");
    cells[0].verdict = VERDICT_SLOWER;
    expect_summary("at 100       a tie: nothing is faster than epoll beyond noise; no different "
                   "from epoll: poll; slower than epoll: uring");
    cells[3].verdict = VERDICT_SLOWER;
    expect_summary("at 100       epoll serves best: every other is slower; slower than epoll: "
                   "uring, poll");
    cells[3].verdict = cells[0].verdict = VERDICT_FASTER;
    cells[3].driver_bound = cells[0].driver_bound = true;
    expect_summary(
        "at 100       uring serves best: 16.0 % less CPU per request than epoll (95 %: 15.2 to "
        "16.8); also faster than epoll: poll");
}

Test(report, the_summary_calls_level_what_the_best_does_not_beat_beyond_noise)
{
    cells[3].verdict = VERDICT_FASTER;
    cells[3].rps_ratio = (struct interval){1.19, 1.17, 1.21};
    expect_summary(
        "at 100       uring serves best: 20.0 % more requests/s than epoll (95 %: 18.8 to "
        "21.2); level with it: poll");
    cells[3].rps_ratio = (struct interval){1.12, 1.11, 1.13};
    expect_summary(
        "at 100       uring serves best: 20.0 % more requests/s than epoll (95 %: 18.8 to "
        "21.2); also faster than epoll: poll");
}

Test(report, churn_is_told_in_connections_and_judged_by_cpu)
{
    report.shape.kind = SHAPE_CHURN;
    expect_summary(
        "at 100       uring serves best: 16.0 % less CPU per connection than epoll (95 %: 15.2 to "
        "16.8); no different from epoll: poll");
    char *text = written(write_table);
    cr_assert_not_null(strstr(line_with(text, "conns  engine"), "connections/s"));
    cr_assert_not_null(strstr(line_with(text, "conns  engine"), "conn/s vs epoll"));
    cr_assert_not_null(strstr(line_with(text, "conns  engine"), "CPU us/conn"));
    cr_assert_not_null(strstr(line_with(text, "uring "), "faster (cpu)"));
    cr_assert_null(strstr(text, "request/"));
    free(text);
    text = written(weir__report_write_html);
    cr_assert_not_null(strstr(text, "connections/s (more is better)"));
    cr_assert_not_null(strstr(text, "microseconds per connection"));
    free(text);
    cr_assert_eq(against(1.2, 5, false), 0, "its connections a second regress nothing");
}

Test(report, a_stream_is_told_in_mebibytes)
{
    report.shape = (struct shape){.kind = SHAPE_STREAM, .direction = SHAPE_IN};
    report.size = 1 << 18;
    expect_summary(
        "at 100       uring serves best: 16.0 % less CPU per MiB than epoll (95 %: 15.2 to "
        "16.8); no different from epoll: poll");
    char *text = written(write_table);
    cr_assert_not_null(strstr(line_with(text, "uring "), "30,000*"), "%s", text);
    cr_assert_not_null(strstr(line_with(text, "uring "), "16.8*"), "%s", text);
    cr_assert_null(strstr(text, "p99"), "it has no latency");
    free(text);
    json_t *document = weir__report_json(&report);
    json_t *cell = json_array_get(json_object_get(document, "cells"), 0);
    cr_assert_float_eq(
        json_number_value(json_object_get(json_object_get(cell, "mib_per_s"), "median")), 30000,
        1e-6);
    json_decref(document);
    text = written(weir__report_write_html);
    cr_assert_not_null(strstr(text, "microseconds per MiB"));
    cr_assert_not_null(strstr(text, "<span>30000</span>"), "%s", text);
    free(text);
}

static struct memory_per_conn weighed(void)
{
    return (struct memory_per_conn){.user = 133.4,
                                    .kernel = 9412.2,
                                    .kernel_uncertainty = 130.1,
                                    .io_uring = 768,
                                    .files = 8644.2,
                                    .grown = {{"TCP", 5030, 0}, {"io_kiocb", 256, 0}},
                                    .grown_count = 2};
}

Test(report, the_idle_shape_tells_what_a_connection_costs_and_how_sure_that_is)
{
    report.shape = (struct shape){.kind = SHAPE_IDLE, .active = 10};
    cells[0].per_conn = weighed();
    cells[1].per_conn = (struct memory_per_conn){.user = 4374,
                                                 .kernel = 8188,
                                                 .kernel_uncertainty = 20,
                                                 .sockets = NAN,
                                                 .io_uring = NAN,
                                                 .files = NAN};
    char *text = written(write_table);
    cr_assert_not_null(strstr(line_with(text, "9,412"), "uring "), "%s", text);
    cr_assert_not_null(
        strstr(line_with(text, "9,412"), "133*      768    8,644      0  9,412 ±130"), "%s", text);
    cr_assert_not_null(strstr(line_with(text, "4,374"), "epoll "), "%s", text);
    cr_assert_not_null(strstr(line_with(text, "4,374"), "-        -      -  8,188 ±20"), "%s",
                       text);
    cr_assert_not_null(strstr(text, "uring at 100: TCP 5,030, io_kiocb 256\n"), "%s", text);
    cr_assert_not_null(strstr(text, "both ends of a connection together"));
    free(text);
    json_t *document = weir__report_json(&report);
    json_t *memory =
        json_object_get(json_array_get(json_object_get(document, "cells"), 1), "memory");
    cr_assert_eq(json_integer_value(json_object_get(memory, "kernel_per_conn")), 8188);
    cr_assert_eq(json_integer_value(json_object_get(memory, "user_per_conn")), 4374);
    cr_assert(json_is_null(json_object_get(memory, "io_uring_per_conn")));
    cr_assert(json_is_null(json_object_get(memory, "caches_per_conn")));
    memory = json_object_get(json_array_get(json_object_get(document, "cells"), 0), "memory");
    cr_assert_eq(json_integer_value(json_object_get(memory, "io_uring_per_conn")), 768);
    cr_assert_eq(json_integer_value(json_object_get(memory, "files_per_conn")), 8644);
    json_t *caches = json_object_get(memory, "caches_per_conn");
    cr_assert_eq(json_object_size(caches), 2);
    cr_assert_eq(json_integer_value(json_object_get(caches, "TCP")), 5030);
    json_decref(document);
}

/* Columns of the longest line. */
static size_t widest(const char *from, const char *to)
{
    size_t most = 0, width = 0;

    for (; from < to; from++) {
        width = *from == '\n' ? 0 : width + (((unsigned char)*from & 0xc0) != 0x80);
        most = width > most ? width : most;
    }
    return most;
}

Test(report, the_idle_shape_needs_no_more_than_80_columns)
{
    report.shape = (struct shape){.kind = SHAPE_IDLE, .active = 10};
    struct memory_per_conn each = weighed();
    for (each.grown_count = 0; each.grown_count < MEMORY_GROWN; each.grown_count++)
        each.grown[each.grown_count] = (struct memory_cache){"a_cache_of_a_long_name", 1234, 0};
    each.kernel = 109412;
    each.kernel_uncertainty = 1234;
    cells[0].per_conn = each;
    char *text = written(write_table);
    const char *table = strstr(text, "conns  engine"), *marks = strstr(text, "* best of");
    const char *memory = strstr(text, "bytes of one connection"),
               *footer = strstr(text, "\nat 100");
    cr_assert(table && marks && memory && footer);
    cr_assert_leq(widest(table, marks), 80, "%s", text);
    cr_assert_leq(widest(memory, footer), 80, "%s", text);
    free(text);
}

Test(report, without_a_verdict_there_is_no_summary)
{
    cells[0].verdict = cells[3].verdict = VERDICT_UNKNOWN;
    char *text = written(write_table);

    cr_assert_null(strstr(text, "at 100 "));
    free(text);
}

Test(report, colour_is_used_only_where_asked_for)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);

    weir__report_table(out, &report, true);
    fclose(out);
    cr_assert_not_null(strstr(text, "\033[1;32m"));
    free(text);
}

Test(report, json_has_null_where_nothing_is_known)
{
    json_t *document = weir__report_json(&report);
    json_t *array = json_object_get(document, "cells");
    json_t *first = json_array_get(array, 0);
    json_t *skipped = json_array_get(array, 2);

    cr_assert_eq(json_array_size(array), 4);
    cr_assert(json_is_null(json_object_get(document, "host")));
    cr_assert(json_is_null(json_object_get(json_object_get(first, "memory"), "kernel_per_conn")));
    cr_assert(json_is_null(json_object_get(first, "elapsed_ms")));
    cr_assert(json_is_null(json_object_get(first, "skipped")));
    cr_assert_eq(json_integer_value(json_object_get(first, "requests")), 1234567);
    cr_assert_eq(json_array_size(json_object_get(first, "features")), 2);
    cr_assert(json_is_null(json_object_get(skipped, "requests")));
    cr_assert(json_is_null(json_object_get(skipped, "verified")));
    cr_assert_str_eq(json_string_value(json_object_get(skipped, "skipped")),
                     "io_uring: EPERM, \"forbidden\" <here>");
    cr_assert(json_is_null(json_object_get(json_array_get(array, 1), "vs_reference")));
    json_decref(document);
}

Test(report, csv_has_as_many_fields_in_each_line_as_in_its_header)
{
    cells[2].engine = "ab";
    cells[2].skipped = "plain";
    cells[0].features = cells[1].features = cells[3].features = NULL;
    char *text = written(weir__report_write_csv);
    unsigned commas = 0;

    cr_assert_eq(count_of(text, "\n"), 5);
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        commas = commas ? commas : count_of(line, ",");
        cr_assert_eq(count_of(line, ","), commas, "%s", line);
    }
    free(text);
}

Test(report, csv_quotes_what_has_commas_and_doubles_quotes)
{
    char *text = written(weir__report_write_csv);

    cr_assert_not_null(strstr(text, ",\"a\"\"b,c<d>|e\",100,"), "%s", text);
    free(text);
}

Test(report, html_stands_alone_and_escapes_what_came_from_outside)
{
    char *text = written(weir__report_write_html);

    cr_assert_null(strstr(text, "http"), "nothing is fetched");
    cr_assert_null(strstr(text, "<script"));
    cr_assert_null(strstr(text, "<d>"));
    cr_assert_not_null(strstr(text, "a&quot;b,c&lt;d&gt;|e"));
    cr_assert_not_null(strstr(text, "prefers-color-scheme:dark"));
    cr_assert_eq(count_of(text, "<tr"), count_of(text, "</tr>"));
    cr_assert_eq(count_of(text, "<td"), count_of(text, "</td>"));
    cr_assert_eq(count_of(text, "<div"), count_of(text, "</div>"));
    cr_assert_not_null(strstr(text, "width:100.0%"), "the longest bar is full");
    free(text);
}

Test(report, markdown_rows_have_the_columns_of_the_header)
{
    char *text = written(weir__report_write_markdown);
    unsigned bars = count_of(line_with(text, "| conns"), "|");

    cr_assert_eq(count_of(line_with(text, "| uring"), "|"), bars);
    cr_assert_not_null(strstr(text, "**120,000**"));
    /* The bar inside the name is escaped, and a message fills the rest of its row with empty cells.
     */
    cr_assert_eq(count_of(line_with(text, "skipped: "), "|"), bars + 1, "%s", text);
    free(text);
}

Test(report, the_noise_of_all_groups_is_the_widest)
{
    struct report_noise two[] = {
        {100, {1, 0.99, 1.01}, {1, 0.97, 1.00}},
        {200, {1.02, 1.00, 1.03}, {1, 0.99, 1.02}},
    };

    report.noise = two;
    report.noise_count = 2;
    struct report_noise all = weir__report_noise_all(&report);
    cr_assert_eq(all.cpu_ratio.lo, 0.99);
    cr_assert_eq(all.cpu_ratio.hi, 1.03);
    cr_assert_eq(all.cpu_ratio.median, 1.02);
    cr_assert_eq(all.rps_ratio.lo, 0.97);
    cr_assert_eq(all.rps_ratio.hi, 1.02);
}

Test(report, a_file_appears_whole_when_committed_and_not_before)
{
    struct report_file file;
    char path[64];
    struct stat stat_now;

    snprintf(path, sizeof path, "%s/out", directory);
    cr_assert_eq(weir__report_file_open(&file, path), 0);
    fputs("text", file.stream);
    cr_assert_lt(stat(path, &stat_now), 0, "it is not there yet");
    cr_assert_eq(weir__report_file_commit(&file), 0);
    cr_assert_eq(stat(path, &stat_now), 0);
    cr_assert_eq(stat_now.st_size, 4);
    cr_assert_eq(unlink(path), 0);
}

Test(report, a_discarded_file_leaves_the_old_one_as_it_was)
{
    struct report_file file;
    char path[64];
    char text[8] = "";

    snprintf(path, sizeof path, "%s/out", directory);
    FILE *old = fopen(path, "w");
    fputs("old", old);
    fclose(old);
    cr_assert_eq(weir__report_file_open(&file, path), 0);
    fputs("new", file.stream);
    weir__report_file_discard(&file);
    old = fopen(path, "r");
    cr_assert_not_null(fgets(text, sizeof text, old));
    fclose(old);
    cr_assert_str_eq(text, "old");
    cr_assert_eq(unlink(path), 0);
}

Test(report, a_file_that_cannot_be_written_is_told_at_the_opening)
{
    struct report_file file;

    cr_assert_eq(weir__report_file_open(&file, "/nonexistent/out"), -ENOENT);
    cr_assert_eq(weir__report_file_open(&file, directory), -EISDIR);
    weir__report_file_discard(&file);
}

/* The baseline is this same report, its requests/s multiplied, written and read again. */
static unsigned against(double factor, double percent, bool by_ratio)
{
    struct baseline_rule rule = {percent, by_ratio};
    struct interval now = cells[0].rps;
    char path[64];
    char error[256];
    struct report_file file;

    cells[0].rps = (struct interval){now.median * factor, now.lo * factor, now.hi * factor};
    snprintf(path, sizeof path, "%s/base.json", directory);
    cr_assert_eq(weir__report_file_open(&file, path), 0);
    cr_assert_eq(weir__report_write_json(file.stream, &report), 0);
    cr_assert_eq(weir__report_file_commit(&file), 0);
    cells[0].rps = now;
    json_t *baseline = weir__baseline_load(path, &report, error, sizeof error);
    cr_assert_not_null(baseline, "%s", error);
    FILE *nowhere = fopen("/dev/null", "w");
    unsigned regressions = weir__baseline_compare(&report, baseline, &rule, nowhere);
    fclose(nowhere);
    json_decref(baseline);
    cr_assert_eq(unlink(path), 0);
    return regressions;
}

Test(report, only_what_is_slower_by_more_and_beyond_the_interval_regresses)
{
    cr_assert_eq(against(1, 5, false), 0);
    cr_assert_eq(against(1.2, 5, false), 1);
    cr_assert_eq(against(1.2, 50, false), 0, "slower, but by less than asked for");
    cr_assert_eq(against(1.015, 0.5, false), 0, "slower by more, but within the intervals");
    cr_assert_eq(against(0.5, 5, false), 0, "faster");
    cr_assert_eq(against(1.2, NAN, false), 0, "only reported");
    cr_assert_eq(against(1.2, 5, true), 0, "the ratio over the reference is as it was");
}

Test(report, ratios_over_another_reference_are_not_judged)
{
    struct baseline_rule rule = {5, true};
    json_t *baseline = weir__report_json(&report);
    char *text = NULL;
    size_t bytes = 0;

    cells[0].rps_ratio = (struct interval){0.5, 0.49, 0.51};
    FILE *out = open_memstream(&text, &bytes);
    cr_assert_eq(weir__baseline_compare(&report, baseline, &rule, out), 1);
    report.reference = "poll";
    cr_assert_eq(weir__baseline_compare(&report, baseline, &rule, out), 0);
    fclose(out);
    cr_assert_not_null(strstr(text, "not judged: its ratios are over epoll, this run's over poll"));
    free(text);
    json_decref(baseline);
}

Test(report, a_driver_bound_cell_is_held_by_its_cpu)
{
    cells[0].driver_bound = true;
    cr_assert_eq(against(1.2, 5, false), 0);
}

static void expect_refused(const char *text, const char *why)
{
    char path[64];
    char error[512] = "";

    snprintf(path, sizeof path, "%s/base.json", directory);
    FILE *out = fopen(path, "w");
    fputs(text, out);
    fclose(out);
    cr_assert_null(weir__baseline_load(path, &report, error, sizeof error));
    cr_assert_not_null(strstr(error, why), "%s", error);
    cr_assert_eq(unlink(path), 0);
}

Test(report, a_baseline_of_another_depth_is_refused)
{
    report.shape = (struct shape){.kind = SHAPE_PIPELINE, .depth = 8};
    expect_refused("{\"cells\": [], \"run\": {\"workload\": \"echo\", \"shape\": "
                   "\"pipeline\", \"size\": 100, \"depth\": 4}}",
                   "its depth is 4, this run's is 8");
}

Test(report, a_baseline_that_says_nothing_about_this_run_is_refused)
{
    char error[512];

    expect_refused("{", "line 1");
    expect_refused("{\"a\": 1}", "not the JSON");
    expect_refused("{\"cells\": [], \"run\": {\"workload\": \"frame\"}}", "workload");
    expect_refused("{\"cells\": [], \"run\": {\"workload\": \"echo\", \"shape\": \"closed\", "
                   "\"size\": 5}}",
                   "size");
    expect_refused("{\"cells\": [], \"run\": {\"workload\": \"echo\", \"shape\": \"closed\", "
                   "\"size\": 100, \"burst_requests\": 5}}",
                   "its burst_requests is 5, this run's is 0");
    expect_refused("{\"cells\": [], \"run\": {\"workload\": \"echo\", \"shape\": \"closed\", "
                   "\"size\": 100}}",
                   "none of this run's cells");
    cr_assert_null(weir__baseline_load("/nonexistent", &report, error, sizeof error));
    cr_assert_not_null(strstr(error, "/nonexistent"), "%s", error);
}
