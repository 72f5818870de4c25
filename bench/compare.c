/*
 * Runs a comparison from checked options to the reports and the exit code (compare.h). All that can
 * be refused is refused before the first server starts: files, baseline, limits.
 */
#include "bench/compare.h"

#include "bench/compare_batch.h"
#include "bench/compare_notes.h"
#include "bench/host.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

volatile sig_atomic_t weir__compare_interrupted;

struct compare {
    struct compare_options *options;
    struct host host;
    struct driver *driver;
    struct progress progress;
    struct rng rng;
    struct compare_part *parts;
    size_t part_count;
    struct group *groups; /* one for each part */
    size_t group_count;   /* begun */
    struct report_cell *cells;
    size_t cell_count;
    struct report_noise noise[CLI_COUNTS_MAX];
    struct notes notes;
    struct report_files files;
    json_t *baseline;
    struct host_ticks ticks; /* when the run began */
    bool something_failed;
    bool driver_lost;
    bool misused; /* an engine's options are wrong */
    char server_cpus[256];
    char driver_cpus[256];
};

void weir__compare_complain(const char *format, ...)
{
    va_list args;

    fputs("weir-bench compare: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

static void on_signal(int number)
{
    (void)number;
    weir__compare_interrupted = 1;
}

void weir__compare_catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART: waits end early */

    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* The report's head; cells as far as there are any. */
struct report weir__compare_report(const struct compare *compare)
{
    const struct compare_options *options = compare->options;
    bool timed = options->shape.kind != SHAPE_BURST;
    struct report report = {
        .host = &compare->host,
        .tool = "compare",
        .workload = options->workload,
        .shape = options->shape,
        .size = options->size_bytes,
        .slice_s = timed && compare->group_count > 0 ? compare->groups[0].plan.slice_s : NAN,
        .seed = options->seed,
        .server_cpus = compare->server_cpus,
        .driver_cpus = compare->driver_cpus,
        .cpus_shared = weir__cpus_overlap(&options->server_cpus, &options->driver_cpus),
        .congestion = weir__host_congestion(),
        .interrupted = weir__compare_interrupted != 0,
        .cells = compare->cells,
        .cell_count = compare->cell_count,
        .noise = compare->noise,
        .noise_count =
            compare->group_count > 0 ? compare->parts[compare->group_count - 1].conns_index + 1 : 0,
        .seed_names = options->seed_names,
        .seed_figures = options->seed_figures,
        .notes = (const char *const *)compare->notes.items,
        .note_count = compare->notes.count,
    };

    for (size_t i = 0; i < compare->group_count; i++) {
        const struct group *group = &compare->groups[i];
        if (i == 0 || group->rounds < report.rounds)
            report.rounds = group->rounds;
        if (report.reference == NULL)
            report.reference = group->reference;
    }
    return report;
}

/* The cells that are to come, for the baseline to be checked against before anything runs. */
static int plan_cells(struct compare *compare)
{
    const struct compare_options *options = compare->options;
    size_t capacity = options->engines.count * options->conns_count;

    compare->cells = calloc(capacity, sizeof *compare->cells);
    if (compare->cells == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < capacity; i++) {
        compare->cells[i].engine = options->engines.items[i % options->engines.count].name;
        compare->cells[i].conns = options->conns[i / options->engines.count];
    }
    compare->cell_count = capacity;
    return 0;
}

static int load_baseline(struct compare *compare)
{
    char error[CLI_TEXT_BYTES];

    if (compare->options->baseline == NULL)
        return 0;
    struct report plan = weir__compare_report(compare);

    compare->baseline = weir__baseline_load(compare->options->baseline, &plan, error, sizeof error);
    if (compare->baseline == NULL) {
        weir__compare_complain("%s", error);
        return -EINVAL;
    }
    return 0;
}

int weir__compare_driver(const struct compare_options *options, struct driver **driver)
{
    struct driver_options wanted = {
        .cpus = &options->driver_cpus,
        .threads = options->driver_threads,
        .interrupted = &weir__compare_interrupted,
    };
    char cpus[256];

    if (sched_setaffinity(0, sizeof options->driver_cpus, &options->driver_cpus) < 0)
        weir__compare_complain("cannot move to the driver's CPUs: %s; going on", strerror(errno));
    int result = weir__driver_new(driver, &wanted);
    if (result < 0) {
        weir__cpus_format(&options->driver_cpus, cpus, sizeof cpus);
        weir__compare_complain("cannot start the load driver on CPUs %s: %s (%s)", cpus,
                               strerror(-result),
                               *driver != NULL ? weir__driver_error(*driver) : "");
    }
    return result;
}

/* The name that the others are to be held against; NULL: nobody asked for one. */
static const char *wanted_reference(const struct compare_options *options)
{
    if (options->reference != NULL)
        return options->reference;
    return weir__engine_list_find(&options->engines, "epoll") >= 0 ? "epoll" : NULL;
}

/* The cells of a number of connections, before any of its groups has run. */
static void begin_cells(struct compare *compare, size_t conns_index)
{
    const struct engine_list *engines = &compare->options->engines;

    for (size_t i = 0; i < engines->count; i++)
        compare->cells[conns_index * engines->count + i] = (struct report_cell){
            .engine = engines->items[i].name,
            .conns = compare->options->conns[conns_index],
            .per_conn = weir__memory_unknown(),
            .seed_name = engines->items[i].entry->seed_name,
            .skipped = "the run was interrupted",
        };
    compare->cell_count = (conns_index + 1) * engines->count;
}

/* What a contender was found to be. Of the reference of several groups the first is told. */
static void collect_cell(struct compare *compare, const struct group *group,
                         const struct contender *contender, size_t conns_index)
{
    const struct engine_list *engines = &compare->options->engines;
    size_t at = (size_t)(contender->choice - engines->items);
    struct report_cell *cell = &compare->cells[conns_index * engines->count + at];

    if (contender->failed)
        compare->something_failed = true;
    if (cell->measured)
        return;
    weir__group_fill_cell(group, contender, cell);
    if (!cell->measured && !contender->failed && !contender->skipped) {
        cell->skipped =
            weir__compare_interrupted ? "the run was interrupted" : "no slice was measured";
    } else if (cell->measured && !cell->verified && !contender->failed) {
        cell->failed = "it did not serve the same connections and bytes as the others";
        compare->something_failed = true;
    }
}

/* What could not be done at all; -EINVAL has been told already. */
static void note_failure(struct compare *compare, const struct group *group, int result)
{
    compare->driver_lost = group->driver_lost;
    compare->misused = result == -EINVAL;
    compare->something_failed = true;
    weir__note(&compare->notes, "the run ended at %u connections: %s", group->conns,
               group->driver_lost ? weir__driver_error(compare->driver) : strerror(-result));
}

/* The place of the reference among the engines: in each part of a number of connections it is the
 * one that was found in the first. */
static size_t place_of_reference(const struct compare *compare, size_t index)
{
    const struct compare_options *options = compare->options;
    const char *name = wanted_reference(options);

    if (index > 0 && compare->parts[index].first > 0 &&
        compare->groups[index - 1].reference != NULL)
        name = compare->groups[index - 1].reference;
    int at = name != NULL ? weir__engine_list_find(&options->engines, name) : 0;
    return at > 0 ? (size_t)at : 0;
}

static void init_group(struct compare *compare, size_t index)
{
    struct compare_options *options = compare->options;
    const struct compare_part *part = &compare->parts[index];
    struct group *group = &compare->groups[index];
    char batch[48] = "";

    *group = (struct group){
        .options = options,
        .driver = compare->driver,
        .progress = &compare->progress,
        .rng = &compare->rng,
        .conns = options->conns[part->conns_index],
        .index = index,
        .total = compare->part_count,
        .budget_s = part->budget_s,
        .reference_fixed = options->reference != NULL,
    };
    if (part->of > 1)
        snprintf(batch, sizeof batch, ", batch %zu of %zu", part->first / part->count + 1,
                 part->of);
    snprintf(group->title, sizeof group->title, "%u connections%s", group->conns, batch);
}

static void end_group(struct compare *compare, const struct compare_part *part, struct group *group)
{
    const struct compare_options *options = compare->options;
    struct report_noise noise[2] = {compare->noise[part->conns_index], weir__group_noise(group)};

    const struct contender *twin = weir__group_twin(group);

    weir__notes_group(&compare->notes, group, wanted_reference(options));
    compare->something_failed |= twin != NULL && (twin->failed || twin->skipped);
    for (size_t i = 0; i < group->count; i++) {
        if (!group->contenders[i].is_twin)
            collect_cell(compare, group, &group->contenders[i], part->conns_index);
    }
    compare->noise[part->conns_index] = weir__report_noise_widest(noise, 2);
    compare->noise[part->conns_index].conns = group->conns;
    if (part->of == 1 || part->first / part->count + 1 == part->of)
        weir__notes_cells(&compare->notes,
                          &compare->cells[part->conns_index * options->engines.count],
                          options->engines.count, &options->shape);
    if (!weir__compare_interrupted)
        weir__progress_say(&compare->progress, "%s: %u rounds done", group->title, group->rounds);
}

static void run_group(struct compare *compare, size_t index)
{
    struct compare_options *options = compare->options;
    const struct compare_part *part = &compare->parts[index];
    struct group *group = &compare->groups[index];
    size_t reference = place_of_reference(compare, index);

    init_group(compare, index);
    compare->group_count = index + 1;
    if (part->first == 0)
        begin_cells(compare, part->conns_index);
    if (part->first == 0 && part->of > 1)
        weir__notes_batches(&compare->notes, options, part);
    struct lineup *lineup =
        weir__group_line_up(options, group->conns, options->engines.items[reference].name);
    int result = -ENOMEM;
    if (lineup != NULL) {
        group->lineup = lineup;
        group->lineup_count = weir__compare_part_lineup(options, part, reference, lineup);
        result = weir__group_run(group);
        group->lineup = NULL;
    }
    free(lineup);
    if (result < 0)
        note_failure(compare, group, result);
    end_group(compare, part, group);
}

int weir__compare_code(const struct compare *compare)
{
    size_t measured = 0;

    for (size_t i = 0; i < compare->cell_count; i++)
        measured += compare->cells[i].measured;
    if (weir__compare_interrupted)
        return EXIT_INTERRUPTED;
    if (compare->something_failed)
        return EXIT_FAILED;
    if (measured == 0)
        return EXIT_NOTHING_RAN;
    return EXIT_DONE;
}

static int finish(struct compare *compare)
{
    FILE *out = weir__report_files_table(&compare->files);

    struct report report = weir__compare_report(compare);
    unsigned regressions = 0;

    weir__progress_clear(&compare->progress);
    weir__report_table(out, &report, weir__colour_wanted(out));
    int written = weir__report_files_write(&compare->files, &report, "weir-bench compare");
    if (compare->baseline != NULL)
        regressions =
            weir__baseline_compare(&report, compare->baseline, &compare->options->rule, out);
    if (regressions > 0)
        fprintf(out, "%u cell%s slower than the baseline by more than %g %%\n", regressions,
                regressions == 1 ? " is" : "s are", compare->options->rule.percent);
    fflush(out);
    int code = weir__compare_code(compare);
    if (code == EXIT_DONE && regressions > 0)
        code = EXIT_SLOWER;
    return written < 0 && code == EXIT_DONE ? EXIT_FAILED : code;
}

static int plan_parts(struct compare *compare)
{
    char text[CLI_TEXT_BYTES];
    int result = weir__compare_parts(compare->options, &compare->parts, &compare->part_count, text,
                                     sizeof text);

    if (result == -ERANGE) {
        weir__compare_complain("%s", text);
        return EXIT_USAGE;
    }
    if (result == 0)
        compare->groups = calloc(compare->part_count, sizeof *compare->groups);
    if (compare->groups == NULL) {
        weir__compare_complain("out of memory");
        return EXIT_FAILED;
    }
    for (size_t i = 0; i < CLI_COUNTS_MAX; i++)
        compare->noise[i] = weir__report_noise_widest(NULL, 0);
    return EXIT_DONE;
}

int weir__compare_new(struct compare **made, struct compare_options *options)
{
    struct compare *compare = calloc(1, sizeof *compare);

    *made = compare;
    if (compare == NULL) {
        weir__compare_complain("out of memory");
        return EXIT_FAILED;
    }
    compare->options = options;
    weir__host_read(&compare->host);
    weir__cpus_format(&options->server_cpus, compare->server_cpus, sizeof compare->server_cpus);
    weir__cpus_format(&options->driver_cpus, compare->driver_cpus, sizeof compare->driver_cpus);
    weir__progress_init(&compare->progress);
    weir__rng_init(&compare->rng, options->seed);
    if (plan_cells(compare) < 0) {
        weir__compare_complain("out of memory");
        return EXIT_FAILED;
    }
    return plan_parts(compare);
}

void weir__compare_free(struct compare *compare)
{
    if (compare == NULL)
        return;
    for (size_t i = 0; i < compare->group_count; i++)
        weir__group_deinit(&compare->groups[i]);
    weir__driver_free(compare->driver);
    weir__report_files_discard(&compare->files);
    weir__notes_deinit(&compare->notes);
    free(compare->groups);
    free(compare->parts);
    free(compare->cells);
    json_decref(compare->baseline);
    weir__host_deinit(&compare->host);
    free(compare);
}

static bool may_go_on(const struct compare *compare)
{
    return !weir__compare_interrupted && !compare->driver_lost && !compare->misused;
}

int weir__compare_measure(struct compare *compare)
{
    const struct compare_options *options = compare->options;

    compare->cell_count = 0; /* the planned ones give way to those measured */
    weir__compare_catch_signals();
    if (weir__host_ticks(&compare->ticks) < 0)
        compare->ticks = (struct host_ticks){0};
    if (weir__compare_driver(options, &compare->driver) < 0)
        return EXIT_FAILED;
    for (size_t i = 0; i < compare->part_count && may_go_on(compare); i++)
        run_group(compare, i);
    weir__notes_neighbours(&compare->notes, &compare->host, &compare->ticks,
                           options->runs_before == 0);
    weir__progress_clear(&compare->progress);
    weir__driver_free(compare->driver);
    compare->driver = NULL;
    return compare->misused ? EXIT_USAGE : EXIT_DONE;
}

/* What is beside the measuring and can be refused as well. */
static int open_files(struct compare *compare)
{
    const struct compare_options *options = compare->options;

    if (load_baseline(compare) < 0 ||
        weir__report_files_open(&compare->files, options->files, "weir-bench compare") < 0)
        return EXIT_USAGE;
    return EXIT_DONE;
}

int weir__compare_run(struct compare_options *options)
{
    struct compare *compare;
    int code = weir__compare_new(&compare, options);

    if (code == EXIT_DONE)
        code = open_files(compare);
    if (code == EXIT_DONE) {
        weir__progress_say(
            &compare->progress,
            "comparing %zu engine%s, servers on CPUs %s, driver on %s, seed %" PRIu64,
            options->engines.count, options->engines.count == 1 ? "" : "s", compare->server_cpus,
            compare->driver_cpus, options->seed);
        code = weir__compare_measure(compare);
    }
    if (code == EXIT_DONE)
        code = finish(compare);
    weir__compare_free(compare);
    return code;
}
