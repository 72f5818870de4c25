/*
 * Runs a comparison from checked options to the reports and the exit code (compare.h). All that can
 * be refused is refused before the first server starts: files, baseline, limits.
 */
#include "bench/compare.h"

#include "bench/compare_group.h"
#include "bench/host.h"
#include "bench/preflight.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NOTES_MAX = 32 };

volatile sig_atomic_t weir__compare_interrupted;

struct compare {
    struct compare_options *options;
    struct host host;
    struct driver *driver;
    struct progress progress;
    struct rng rng;
    struct group groups[CLI_COUNTS_MAX];
    size_t group_count; /* begun */
    struct report_cell *cells;
    size_t cell_count;
    struct report_noise noise[CLI_COUNTS_MAX];
    char *notes[NOTES_MAX];
    size_t note_count;
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

static void note(struct compare *compare, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void note(struct compare *compare, const char *format, ...)
{
    va_list args;
    char *text;

    va_start(args, format);
    int length = vasprintf(&text, format, args);
    va_end(args);
    if (length < 0)
        return;
    if (compare->note_count == NOTES_MAX) {
        free(text);
        return;
    }
    compare->notes[compare->note_count++] = text;
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
    const struct group *first = &compare->groups[0];
    bool timed = options->shape.kind != SHAPE_BURST;
    struct report report = {
        .host = &compare->host,
        .tool = "compare",
        .workload = options->workload,
        .shape = options->shape,
        .size = options->size_bytes,
        .slice_s = timed && compare->group_count > 0 ? first->plan.slice_s : NAN,
        .seed = options->seed,
        .server_cpus = compare->server_cpus,
        .driver_cpus = compare->driver_cpus,
        .cpus_shared = weir__cpus_overlap(&options->server_cpus, &options->driver_cpus),
        .congestion = weir__host_congestion(),
        .interrupted = weir__compare_interrupted != 0,
        .cells = compare->cells,
        .cell_count = compare->cell_count,
        .noise = compare->noise,
        .noise_count = compare->group_count,
        .notes = (const char *const *)compare->notes,
        .note_count = compare->note_count,
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

int weir__compare_fits(const struct compare_options *options, uint64_t servers, char *text,
                       size_t bytes)
{
    unsigned most = 0;

    for (size_t i = 0; i < options->conns_count; i++)
        most = options->conns[i] > most ? options->conns[i] : most;
    bool held = weir__shape_holds_conns(options->shape.kind);
    struct limits_need need = {
        .driver_conns = held ? most * servers : most,
        .server_conns = most,
        .conns_per_addr = most,
        .connect_burst = held ? 0 : most,
        .loopback = true,
    };

    if (servers > WEIR__DRIVER_TARGETS_MAX) {
        snprintf(text, bytes, "%" PRIu64 " servers at once; the driver holds %d", servers,
                 WEIR__DRIVER_TARGETS_MAX);
        return -E2BIG;
    }
    if (weir__limits_require(&need, text, bytes) < 0) {
        size_t used = strlen(text);
        if (held)
            snprintf(text + used, bytes - used,
                     " (all %" PRIu64 " servers, the A/A copy included, are connected at once)",
                     servers);
        return -ERANGE;
    }
    return 0;
}

/* What compare itself does between slices is kept off the servers' CPUs. */
static void keep_off_server_cpus(const struct compare_options *options)
{
    if (sched_setaffinity(0, sizeof options->driver_cpus, &options->driver_cpus) < 0)
        weir__compare_complain("cannot move to the driver's CPUs: %s; going on", strerror(errno));
}

static int start_driver(struct compare *compare)
{
    struct driver_options options = {
        .cpus = &compare->options->driver_cpus,
        .threads = compare->options->driver_threads,
        .interrupted = &weir__compare_interrupted,
    };
    int result = weir__driver_new(&compare->driver, &options);

    if (result < 0)
        weir__compare_complain("cannot start the load driver on CPUs %s: %s (%s)",
                               compare->driver_cpus, strerror(-result),
                               compare->driver != NULL ? weir__driver_error(compare->driver) : "");
    return result;
}

static void note_group(struct compare *compare, struct group *group, const char *wanted)
{
    struct contender *twin = weir__group_twin(group);

    if (weir__compare_interrupted && group->rounds == 0)
        return;
    if (group->reference == NULL)
        note(compare, "at %u connections the reference did not run: no ratios and no verdicts",
             group->conns);
    else if (wanted != NULL && strcmp(wanted, group->reference) != 0)
        note(compare, "at %u connections %s could not run; the reference is %s instead",
             group->conns, wanted, group->reference);
    if (group->rounds > 0 && group->rounds < STATS_SAMPLES_MIN)
        note(
            compare,
            "at %u connections there was time for %u rounds; intervals and verdicts need %d: raise "
            "--budget, or give --rounds",
            group->conns, group->rounds, STATS_SAMPLES_MIN);
    if (twin != NULL && (twin->failed || twin->skipped)) {
        note(compare, "at %u connections the reference's second copy failed: %s", group->conns,
             twin->why);
        compare->something_failed = true;
    }
}

static void collect_cells(struct compare *compare, const struct group *group)
{
    for (size_t i = 0; i < group->count; i++) {
        const struct contender *contender = &group->contenders[i];

        if (contender->is_twin)
            continue;
        struct report_cell *cell = &compare->cells[compare->cell_count++];
        weir__group_fill_cell(group, contender, cell);
        if (contender->failed)
            compare->something_failed = true;
        if (!cell->measured && !contender->failed && !contender->skipped) {
            cell->skipped =
                weir__compare_interrupted ? "the run was interrupted" : "no slice was measured";
        } else if (cell->measured && !cell->verified && !contender->failed) {
            cell->failed = "it did not serve the same connections and bytes as the others";
            compare->something_failed = true;
        }
    }
}

/* What could not be done at all; -EINVAL has been told already. */
static void note_failure(struct compare *compare, const struct group *group, int result)
{
    compare->driver_lost = group->driver_lost;
    compare->misused = result == -EINVAL;
    compare->something_failed = true;
    note(compare, "the run ended at %u connections: %s", group->conns,
         group->driver_lost ? weir__driver_error(compare->driver) : strerror(-result));
}

static void run_group(struct compare *compare, size_t index)
{
    struct compare_options *options = compare->options;
    struct group *group = &compare->groups[index];
    const char *wanted = options->reference;

    if (wanted == NULL && weir__engine_list_find(&options->engines, "epoll") >= 0)
        wanted = "epoll";
    *group = (struct group){
        .options = options,
        .driver = compare->driver,
        .progress = &compare->progress,
        .rng = &compare->rng,
        .conns = options->conns[index],
        .index = index,
        .reference = wanted,
        .reference_fixed = options->reference != NULL,
    };
    compare->group_count = index + 1;
    int result = weir__group_run(group);
    if (result < 0)
        note_failure(compare, group, result);
    note_group(compare, group, wanted);
    collect_cells(compare, group);
    compare->noise[index] = weir__group_noise(group);
    if (result == 0 && !weir__compare_interrupted)
        weir__progress_say(&compare->progress, "%u connections: %u rounds done", group->conns,
                           group->rounds);
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

/* What others did to the machine meanwhile is part of the result. */
static void note_neighbours(struct compare *compare)
{
    struct host_ticks now;
    double load = compare->host.load_average;

    /* Later runs of one command would find the load of the earlier. */
    if (compare->options->runs_before == 0 && load > compare->host.cores * 0.5)
        note(compare,
             "the load average was %.1f on %d CPUs before the run: other programs are at work, and "
             "the figures are noisier for it",
             load, compare->host.cores);
    if (compare->ticks.all == 0 || weir__host_ticks(&now) < 0 || now.all <= compare->ticks.all)
        return;
    double stolen =
        (double)(now.stolen - compare->ticks.stolen) / (double)(now.all - compare->ticks.all);
    if (stolen > 0.01)
        note(compare, "the hypervisor gave %.1f %% of the CPU time to others during the run",
             100 * stolen);
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

int weir__compare_new(struct compare **made, struct compare_options *options)
{
    struct compare *compare = calloc(1, sizeof *compare);
    char text[CLI_TEXT_BYTES];

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
    if (weir__compare_fits(options, options->engines.count + 1, text, sizeof text) < 0) {
        weir__compare_complain("%s", text);
        return EXIT_USAGE;
    }
    return EXIT_DONE;
}

void weir__compare_free(struct compare *compare)
{
    if (compare == NULL)
        return;
    for (size_t i = 0; i < compare->group_count; i++)
        weir__group_deinit(&compare->groups[i]);
    weir__driver_free(compare->driver);
    weir__report_files_discard(&compare->files);
    for (size_t i = 0; i < compare->note_count; i++)
        free(compare->notes[i]);
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
    keep_off_server_cpus(options);
    if (start_driver(compare) < 0)
        return EXIT_FAILED;
    for (size_t i = 0; i < options->conns_count && may_go_on(compare); i++)
        run_group(compare, i);
    note_neighbours(compare);
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
