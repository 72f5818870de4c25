/*
 * Runs an ablation (ablate.h): asks servers what they are granted, runs compare for each column,
 * with the rows as its engines, and makes one report of all. Where the machine cannot hold all
 * servers' connections at once, the rows of a column are divided, each part with a reference and an
 * A/A copy of its own.
 */
#include "bench/ablate.h"

#include "bench/compare_group.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    /* A row's ratio has two neighbours of the reference in it: near in time, and not so many that
     * they are most of what is measured. About the root of the number of rows is best (Dunnett). */
    REFERENCE_EVERY = 4,
    LIST_BYTES = 64 * CLI_ENGINES_MAX,
};

/* One run of compare: a column, or a part of its rows. */
struct ablation_run {
    struct compare_options options;
    struct compare *compare;
    size_t first; /* of the measured rows */
    size_t count;
};

/* What a column's report points to. */
struct merged {
    struct report_cell *cells;
    struct report_noise *noise;
    const char **notes;
};

struct ablation {
    struct compare_options *options;
    struct engine_catalog catalog; /* the one engine, for the lists of its rows */
    const char *base;              /* its name, with its options */
    struct ablation_row rows[ABLATION_ROWS_MAX];
    size_t row_count;
    const struct ablation_row *measured[ABLATION_ROWS_MAX];
    size_t measured_count;
    char granted[ABLATION_NAMES_BYTES];
    bool runs_here;    /* and `granted` is known */
    bool probe_failed; /* a server that should have started did not */
    struct ablation_work work[ABLATION_COLUMNS_MAX];
    struct ablation_column columns[ABLATION_COLUMNS_MAX];
    struct merged merged[ABLATION_COLUMNS_MAX];
    size_t column_count;
    size_t columns_begun;
    size_t batches[ABLATION_COLUMNS_MAX]; /* rows of each of a column's runs */
    struct ablation_run *runs;
    size_t run_count; /* begun */
    size_t run_total;
    struct report_files files;
    struct progress progress;
};

/* The options of one run: the user's, with the column's work and these engines. */
static int make_options(struct ablation *ablation, const struct ablation_work *work,
                        const char *engines, struct compare_options *options)
{
    char error[CLI_TEXT_BYTES];

    *options = *ablation->options;
    options->shape = work->shape;
    options->size_bytes = work->size_bytes;
    options->conns[0] = work->conns;
    options->conns_count = 1;
    options->reference = ablation->base;
    options->reference_every = REFERENCE_EVERY;
    memset(&options->engines, 0, sizeof options->engines);
    int result = weir__engine_list_parse(&options->engines, engines, &ablation->catalog, error,
                                         sizeof error);
    if (result < 0)
        weir__compare_complain("--ablate %s: %s", ablation->base, error);
    return result;
}

static void list_rows(const struct ablation_row *const *rows, size_t count, const char *first,
                      char *text, size_t bytes)
{
    size_t used = (size_t)snprintf(text, bytes, "%s", first);

    for (size_t i = 0; i < count && used < bytes; i++)
        used +=
            (size_t)snprintf(text + used, bytes - used, "%s%s", used > 0 ? "," : "", rows[i]->spec);
}

/* What each of `engines` is granted: starts them all, and stops them. `take` is called for each. */
static int probe(struct ablation *ablation, const char *engines,
                 void (*take)(struct ablation *ablation, size_t index,
                              const struct contender *contender))
{
    struct compare_options options;
    struct group group = {.options = &options};
    int result = make_options(ablation, &ablation->work[0], engines, &options);
    struct lineup *lineup = NULL;

    if (result == 0) {
        lineup = weir__group_line_up(&options, options.conns[0], NULL);
        result = lineup != NULL ? 0 : -ENOMEM;
    }
    if (result == 0) {
        group.lineup = lineup;
        group.lineup_count = options.engines.count;
        result = weir__group_start_servers(&group);
        weir__group_stop_servers(&group);
        for (size_t i = 0; i < options.engines.count && result == 0; i++)
            take(ablation, i, &group.contenders[i]);
        weir__group_deinit(&group);
    }
    free(lineup);
    weir__engine_list_deinit(&options.engines);
    return result;
}

static void take_plain(struct ablation *ablation, size_t index, const struct contender *contender)
{
    (void)index;
    ablation->runs_here = !contender->skipped && !contender->failed;
    snprintf(ablation->granted, sizeof ablation->granted, "%s", contender->server.features);
}

static void take_row(struct ablation *ablation, size_t index, const struct contender *contender)
{
    struct ablation_row *row = &ablation->rows[index];

    if (!contender->skipped && !contender->failed) {
        weir__ablate_take_granted(ablation->rows, index, ablation->granted,
                                  contender->server.features);
        return;
    }
    row->state = contender->skipped ? ABLATION_NOT_GRANTED : ABLATION_FAILED;
    ablation->probe_failed |= contender->failed;
    snprintf(row->why, sizeof row->why, "%s", contender->why);
}

/* Finds the rows. An engine that cannot run here has none; its columns then say why. */
static int find_rows(struct ablation *ablation)
{
    const struct engine_choice *engine = &ablation->options->engines.items[0];
    const struct ablation_row *all[ABLATION_ROWS_MAX];
    char list[LIST_BYTES];

    weir__progress_show(&ablation->progress, "asking %s what it is granted", ablation->base);
    int result = probe(ablation, ablation->base, take_plain);
    if (result < 0 || !ablation->runs_here)
        return result;
    result = weir__ablate_rows(ablation->base, engine->entry->features, ablation->granted,
                               ablation->rows, ABLATION_ROWS_MAX);
    if (result < 0)
        return result;
    ablation->row_count = (size_t)result;
    for (size_t i = 0; i < ablation->row_count; i++)
        all[i] = &ablation->rows[i];
    list_rows(all, ablation->row_count, "", list, sizeof list);
    result = probe(ablation, list, take_row);
    for (size_t i = 0; i < ablation->row_count && result == 0; i++) {
        if (ablation->rows[i].state == ABLATION_MEASURED)
            ablation->measured[ablation->measured_count++] = &ablation->rows[i];
    }
    return result;
}

/* Whether a column can be measured here, in parts if need be; else `text` says why not. */
static bool fits(const struct ablation *ablation, const struct ablation_work *work, char *text,
                 size_t bytes)
{
    struct compare_options options = *ablation->options;

    options.shape = work->shape;
    options.conns[0] = work->conns;
    options.conns_count = 1;
    return weir__compare_batch(&options, 1, text, bytes) > 0;
}

/* Everything that can be refused before a server starts. What the user named has to fit; of the
 * usual columns, those that do not are left out. */
static int check_columns(struct ablation *ablation)
{
    struct ablation_work *work = ablation->work;
    size_t wanted = weir__ablate_work(ablation->options, work);
    char text[CLI_TEXT_BYTES];

    for (size_t i = 0; i < wanted; i++) {
        bool usual = work[i].name != NULL;

        if (fits(ablation, &work[i], text, sizeof text)) {
            work[ablation->column_count++] = work[i];
            continue;
        }
        weir__compare_complain("%s%s%s", usual ? work[i].name : "", usual ? " is left out: " : "",
                               text);
        if (!usual)
            return EXIT_USAGE;
    }
    if (ablation->column_count == 0 ||
        weir__report_files_open(&ablation->files, ablation->options->files, "weir-bench compare") <
            0)
        return EXIT_USAGE;
    return EXIT_DONE;
}

/* How many runs a column takes; one even where there is no row: it says why. */
static size_t runs_of(const struct ablation *ablation, size_t column)
{
    size_t batch = ablation->batches[column];
    size_t runs = (ablation->measured_count + batch - 1) / batch;

    return runs > 0 ? runs : 1;
}

static int plan_runs(struct ablation *ablation)
{
    char text[CLI_TEXT_BYTES];
    struct compare_options options = *ablation->options;

    for (size_t i = 0; i < ablation->column_count; i++) {
        options.shape = ablation->work[i].shape;
        options.conns[0] = ablation->work[i].conns;
        options.conns_count = 1;
        size_t batch = weir__compare_batch(&options, ablation->measured_count, text, sizeof text);
        ablation->batches[i] = batch > 0 ? batch : 1;
        ablation->run_total += runs_of(ablation, i);
    }
    ablation->runs = calloc(ablation->run_total, sizeof *ablation->runs);
    return ablation->runs != NULL ? 0 : -ENOMEM;
}

/* One run of a column: `count` of the measured rows, from `first` on. An exit code. */
static int run_part(struct ablation *ablation, size_t column, size_t first, size_t count)
{
    struct ablation_run *run = &ablation->runs[ablation->run_count];
    char list[LIST_BYTES];

    run->first = first;
    run->count = count;
    list_rows(ablation->measured + first, count, ablation->base, list, sizeof list);
    if (make_options(ablation, &ablation->work[column], list, &run->options) < 0)
        return EXIT_FAILED;
    run->options.budget_s /= (double)(ablation->column_count * runs_of(ablation, column));
    run->options.runs_before = (unsigned)ablation->run_count;
    run->options.runs_after = (unsigned)(ablation->run_total - ablation->run_count - 1);
    ablation->run_count++;
    int code = weir__compare_new(&run->compare, &run->options);
    return code == EXIT_DONE ? weir__compare_measure(run->compare) : code;
}

/* A row's cell in a run's report; NULL: it was not come to. */
static const struct report_cell *find_cell(const struct report *report, const char *spec)
{
    for (size_t i = 0; i < report->cell_count; i++) {
        if (strcmp(report->cells[i].engine, spec) == 0)
            return &report->cells[i];
    }
    return NULL;
}

/* What stands in the place of a row that no run had. */
static struct report_cell missing_cell(const char *spec, unsigned conns, bool failed,
                                       const char *why)
{
    return (struct report_cell){
        .engine = spec,
        .conns = conns,
        .per_conn = weir__memory_unknown(),
        .failed = failed ? why : NULL,
        .skipped = failed ? NULL : why,
    };
}

static int make_merged(struct ablation *ablation, size_t index, size_t first_run, size_t runs)
{
    struct merged *merged = &ablation->merged[index];
    unsigned conns = ablation->work[index].conns;
    const char *interrupted = "the run was interrupted";
    size_t notes = 0;

    for (size_t i = 0; i < runs; i++)
        notes += weir__compare_report(ablation->runs[first_run + i].compare).note_count;
    merged->cells = calloc(ablation->row_count + 1, sizeof *merged->cells);
    merged->noise = calloc(runs, sizeof *merged->noise);
    merged->notes = calloc(notes + 1, sizeof *merged->notes);
    if (merged->cells == NULL || merged->noise == NULL || merged->notes == NULL)
        return -ENOMEM;
    merged->cells[0] = missing_cell(ablation->base, conns, false, interrupted);
    for (size_t i = 0; i < ablation->row_count; i++) {
        const struct ablation_row *row = &ablation->rows[i];
        merged->cells[i + 1] = missing_cell(row->spec, conns, row->state == ABLATION_FAILED,
                                            row->why[0] != '\0' ? row->why : interrupted);
    }
    return 0;
}

/* Takes one run's report into its column's. */
static void merge_run(struct ablation *ablation, size_t index, const struct ablation_run *run,
                      const struct report *part)
{
    struct merged *merged = &ablation->merged[index];
    struct ablation_column *column = &ablation->columns[index];
    struct report *report = &column->report;
    const struct report_cell *reference = find_cell(part, ablation->base);
    struct interval noise =
        part->noise_count > 0 ? part->noise[0].cpu_ratio : weir__interval_unknown();

    if (reference != NULL && !merged->cells[0].measured)
        merged->cells[0] = *reference;
    for (size_t i = run->first; i < run->first + run->count; i++) {
        const struct ablation_row *row = ablation->measured[i];
        const struct report_cell *cell = find_cell(part, row->spec);
        size_t at = (size_t)(row - ablation->rows);

        if (cell == NULL)
            continue;
        merged->cells[at + 1] = *cell;
        column->worth[at] = weir__ablate_worth(cell, noise, row->on);
    }
    if (part->noise_count > 0)
        merged->noise[report->noise_count++] = part->noise[0];
    for (size_t i = 0; i < part->note_count; i++)
        merged->notes[report->note_count++] = part->notes[i];
    report->rounds = part->rounds < report->rounds ? part->rounds : report->rounds;
}

static int merge_column(struct ablation *ablation, size_t index, size_t first_run, size_t runs)
{
    struct ablation_column *column = &ablation->columns[index];
    const struct merged *merged = &ablation->merged[index];
    int result = make_merged(ablation, index, first_run, runs);

    if (result < 0)
        return result;
    column->report = weir__compare_report(ablation->runs[first_run].compare);
    column->report.cells = merged->cells;
    column->report.cell_count = ablation->row_count + 1;
    column->report.noise = merged->noise;
    column->report.noise_count = 0;
    column->report.notes = merged->notes;
    column->report.note_count = 0;
    if (runs > 1)
        merged->notes[column->report.note_count++] =
            "this machine does not hold the connections of all rows at once: they were divided, "
            "each part with a reference and an A/A copy of its own";
    for (size_t i = 0; i < runs; i++) {
        const struct ablation_run *run = &ablation->runs[first_run + i];
        struct report part = weir__compare_report(run->compare);

        merge_run(ablation, index, run, &part);
    }
    return 0;
}

static void name_column(struct ablation *ablation, size_t index)
{
    struct ablation_column *column = &ablation->columns[index];
    const struct ablation_work *work = &ablation->work[index];

    if (work->name != NULL)
        snprintf(column->name, sizeof column->name, "%s", work->name);
    else
        snprintf(column->name, sizeof column->name, "%u conn%s", work->conns,
                 work->conns == 1 ? "" : "s");
    weir__progress_say(&ablation->progress, "column %zu of %zu: %s", index + 1,
                       ablation->column_count, column->name);
}

/* An exit code; not EXIT_DONE: nothing more can be done, and why has been told. */
static int run_column(struct ablation *ablation, size_t index)
{
    size_t first_run = ablation->run_count;
    size_t batch = ablation->batches[index];
    size_t left = ablation->measured_count;
    int code = EXIT_DONE;

    name_column(ablation, index);
    do {
        size_t count = left < batch ? left : batch;

        code = run_part(ablation, index, ablation->measured_count - left, count);
        left -= count;
    } while (left > 0 && code == EXIT_DONE && !weir__compare_interrupted);
    if (code != EXIT_DONE)
        return code;
    ablation->columns_begun = index + 1;
    if (merge_column(ablation, index, first_run, ablation->run_count - first_run) < 0) {
        weir__compare_complain("out of memory");
        return EXIT_FAILED;
    }
    return EXIT_DONE;
}

/* The worst of all runs'; nothing measured in one column is no failure if another has figures. */
static int exit_code(const struct ablation *ablation)
{
    bool measured = false;

    if (weir__compare_interrupted)
        return EXIT_INTERRUPTED;
    if (ablation->probe_failed)
        return EXIT_FAILED;
    for (size_t i = 0; i < ablation->run_count; i++) {
        int code = weir__compare_code(ablation->runs[i].compare);

        if (code != EXIT_DONE && code != EXIT_NOTHING_RAN)
            return code;
        measured |= code == EXIT_DONE;
    }
    return measured ? EXIT_DONE : EXIT_NOTHING_RAN;
}

static int finish(struct ablation *ablation)
{
    FILE *out = weir__report_files_table(&ablation->files);
    struct ablation_report report = {
        .engine = ablation->base,
        .granted = ablation->runs_here ? ablation->granted : NULL,
        .rows = ablation->rows,
        .row_count = ablation->row_count,
        .columns = ablation->columns,
        .column_count = ablation->columns_begun,
        .interrupted = weir__compare_interrupted != 0,
    };

    weir__progress_clear(&ablation->progress);
    weir__ablation_table(out, &report, weir__colour_wanted(out));
    int written = weir__report_files_write_with(&ablation->files, weir__ablation_write, &report,
                                                "weir-bench compare");
    fflush(out);
    int code = exit_code(ablation);
    return written < 0 && code == EXIT_DONE ? EXIT_FAILED : code;
}

static int run_all(struct ablation *ablation)
{
    int code = EXIT_DONE;

    if (ablation->runs_here)
        weir__progress_say(
            &ablation->progress, "%s: %zu of its %zu features can be switched here, seed %" PRIu64,
            ablation->base, ablation->measured_count, ablation->row_count, ablation->options->seed);
    for (size_t i = 0;
         i < ablation->column_count && code == EXIT_DONE && !weir__compare_interrupted; i++)
        code = run_column(ablation, i);
    return code == EXIT_DONE ? finish(ablation) : code;
}

static void deinit(struct ablation *ablation)
{
    for (size_t i = 0; i < ablation->run_count; i++) {
        weir__compare_free(ablation->runs[i].compare);
        weir__engine_list_deinit(&ablation->runs[i].options.engines);
    }
    for (size_t i = 0; i < ablation->column_count; i++) {
        free(ablation->merged[i].cells);
        free(ablation->merged[i].noise);
        free(ablation->merged[i].notes);
    }
    for (size_t i = 0; i < ablation->row_count; i++)
        free(ablation->rows[i].spec);
    free(ablation->runs);
    weir__report_files_discard(&ablation->files);
    free(ablation);
}

int weir__ablate_run(struct compare_options *options)
{
    struct ablation *ablation = calloc(1, sizeof *ablation);

    if (ablation == NULL) {
        weir__compare_complain("out of memory");
        return EXIT_FAILED;
    }
    ablation->options = options;
    ablation->base = options->engines.items[0].name;
    weir__catalog_add(&ablation->catalog, options->engines.items[0].entry);
    weir__progress_init(&ablation->progress);
    weir__compare_catch_signals();
    int code = check_columns(ablation);
    if (code == EXIT_DONE) {
        int result = find_rows(ablation);

        if (result == 0)
            result = plan_runs(ablation);
        if (result == -ENOMEM)
            weir__compare_complain("out of memory");
        code = result == 0         ? run_all(ablation)
               : result == -EINTR  ? EXIT_INTERRUPTED
               : result == -EINVAL ? EXIT_USAGE
                                   : EXIT_FAILED;
    }
    deinit(ablation);
    return code;
}
