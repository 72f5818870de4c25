/* Runs --growth: one engine's servers after the other's (growth.h). */
#include "bench/growth.h"

#include "bench/compare_notes.h"
#include "bench/host.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GROWTH_SLICE_S 0.05 /* and no less */

enum { SERVERS_MAX = 2 * CLI_COUNTS_MAX };

struct growth {
    struct compare_options *options;
    struct host host;
    struct driver *driver;
    struct progress progress;
    struct rng rng;
    struct notes notes;
    struct report_files files;
    struct group groups[CLI_ENGINES_MAX]; /* one for each engine */
    struct growth_row rows[CLI_ENGINES_MAX];
    size_t row_count; /* begun */
    size_t base;      /* of options->conns */
    size_t
        alone[CLI_COUNTS_MAX]; /* in the line-up: the server without the idle; 0: there are none */
    bool something_failed;
    int failure; /* of all: -errno */
    char server_cpus[256], driver_cpus[256];
};

static unsigned active_of(unsigned conns, const struct shape *shape)
{
    unsigned active = 0;

    for (unsigned id = 0; id < conns; id++)
        active += weir__shape_is_active(shape, id);
    return active;
}

/* Connections of all servers of one engine, the base's copy included. */
static uint64_t conns_of_all(const struct compare_options *options, size_t *servers)
{
    size_t base = weir__growth_base(options->conns, options->conns_count);
    uint64_t sum = options->conns[base];

    *servers = 1;
    for (size_t i = 0; i < options->conns_count; i++) {
        unsigned active = active_of(options->conns[i], &options->shape);
        bool idle = active < options->conns[i];
        sum += options->conns[i] + (idle ? active : 0);
        *servers += 1 + idle;
    }
    return sum;
}

/* Before anything starts. What was not asked for by name and does not fit is left out, the largest
 * first. An exit code. */
static int check(struct growth *growth)
{
    struct compare_options *options = growth->options;
    char text[CLI_TEXT_BYTES];

    for (;;) {
        size_t servers;
        uint64_t all = conns_of_all(options, &servers);
        int result = weir__compare_fits_conns(options, servers, all, text, sizeof text);
        if (result == 0)
            break;
        if (!options->conns_usual || options->conns_count <= 2) {
            weir__compare_complain("--growth: %s (all servers of an engine are connected at once)",
                                   text);
            return EXIT_USAGE;
        }
        weir__note(&growth->notes, "%u connections are left out: %s",
                   options->conns[--options->conns_count], text);
    }
    growth->base = weir__growth_base(options->conns, options->conns_count);
    return weir__report_files_open(&growth->files, options->files, "weir-bench compare") < 0
               ? EXIT_USAGE
               : EXIT_DONE;
}

/* As long as its connections need: what they all took of the largest would leave few rounds. */
static double slice_s(const struct compare_options *options, unsigned conns)
{
    return options->slice_s > 0 ? options->slice_s
                                : fmax(GROWTH_SLICE_S, weir__plan_least_slice_s(conns));
}

/* The servers with idle connections first, in the order of the connections; then those without. */
static size_t line_up(struct growth *growth, const struct engine_choice *choice,
                      struct lineup *lineup)
{
    const struct compare_options *options = growth->options;
    size_t count = options->conns_count;

    for (size_t i = 0; i < options->conns_count; i++) {
        unsigned active = active_of(options->conns[i], &options->shape);

        lineup[i] = (struct lineup){choice, options->conns[i], options->shape, i == growth->base,
                                    slice_s(options, options->conns[i])};
        growth->alone[i] = 0;
        if (active == options->conns[i])
            continue;
        growth->alone[i] = count;
        lineup[count] = (struct lineup){choice, active, options->shape, false,
                                        slice_s(options, options->conns[i])};
        lineup[count++].shape.active = 100;
    }
    return count;
}

static void take_point(struct growth *growth, const struct group *group, size_t i,
                       struct growth_point *point)
{
    const struct contender *contender = &group->contenders[i];
    const struct contender *alone = &group->contenders[growth->alone[i]];
    uint64_t seed = growth->options->seed;

    weir__group_fill_cell(group, contender, &point->cell);
    point->idle_ratio = weir__interval_unknown();
    point->alone_us = NAN;
    growth->something_failed |= contender->failed;
    if (!point->cell.measured && !contender->failed && !contender->skipped)
        point->cell.skipped =
            weir__compare_interrupted ? "the run was interrupted" : "no slice was measured";
    if (growth->alone[i] == 0)
        return;
    growth->something_failed |= alone->failed;
    point->idle = contender->conns - alone->conns;
    if (contender->failed || alone->failed)
        return;
    point->idle_ratio = weir__contender_ratio(contender, alone, SLICE_CPU, seed);
    point->alone_us =
        weir__slices_interval(alone->slices, alone->slice_count, SLICE_CPU, seed).median;
}

static void take_row(struct growth *growth, const struct group *group, struct growth_row *row)
{
    for (size_t i = 0; i < growth->options->conns_count; i++)
        take_point(growth, group, i, &row->points[i]);
    row->count = growth->options->conns_count;
    row->noise = weir__group_noise(group);
    row->rounds = group->rounds;
    row->fit = weir__growth_fit(row->points, row->count, growth->base, row->noise.cpu_ratio);
    if (row->rounds > 0 && row->rounds < STATS_SAMPLES_MIN)
        weir__note(&growth->notes, "%s had time for %u rounds; intervals need %d: raise --budget",
                   row->engine, row->rounds, STATS_SAMPLES_MIN);
}

static unsigned most(const struct compare_options *options)
{
    unsigned conns = 0;

    for (size_t i = 0; i < options->conns_count; i++)
        conns = options->conns[i] > conns ? options->conns[i] : conns;
    return conns;
}

static void run_engine(struct growth *growth, size_t index)
{
    const struct compare_options *options = growth->options;
    const struct engine_choice *choice = &options->engines.items[index];
    struct lineup lineup[SERVERS_MAX];
    struct group *group = &growth->groups[index];

    *group = (struct group){
        .options = options,
        .driver = growth->driver,
        .progress = &growth->progress,
        .rng = &growth->rng,
        .lineup = lineup,
        .lineup_count = line_up(growth, choice, lineup),
        .conns = most(options),
        .index = index,
        .total = options->engines.count,
        .budget_s = options->budget_s / (double)options->engines.count,
        .reference_fixed = true,
    };
    snprintf(group->title, sizeof group->title, "%s, growth to %u connections", choice->name,
             group->conns);
    growth->rows[index].engine = choice->name;
    growth->row_count = index + 1;
    growth->failure = weir__group_run(group);
    group->lineup = NULL;
    if (growth->failure < 0 && growth->failure != -EINVAL)
        weir__note(&growth->notes, "the run ended at %s: %s", choice->name,
                   growth->failure == -EPIPE ? weir__driver_error(growth->driver)
                                             : strerror(-growth->failure));
    if (group->contenders != NULL)
        take_row(growth, group, &growth->rows[index]);
    if (growth->failure == 0 && !weir__compare_interrupted)
        weir__progress_say(&growth->progress, "%s: %u rounds done", choice->name, group->rounds);
}

static int exit_code(const struct growth *growth)
{
    bool measured = false;

    if (weir__compare_interrupted)
        return EXIT_INTERRUPTED;
    if (growth->failure == -EINVAL)
        return EXIT_USAGE;
    if (growth->failure < 0 || growth->something_failed)
        return EXIT_FAILED;
    for (size_t i = 0; i < growth->row_count; i++)
        for (size_t k = 0; k < growth->rows[i].count; k++)
            measured |= growth->rows[i].points[k].cell.measured;
    return measured ? EXIT_DONE : EXIT_NOTHING_RAN;
}

static int finish(struct growth *growth)
{
    const struct compare_options *options = growth->options;
    FILE *out = weir__report_files_table(&growth->files);
    struct growth_report report = {
        .head = {.host = &growth->host,
                 .tool = "compare",
                 .workload = options->workload,
                 .shape = options->shape,
                 .size = options->size_bytes,
                 .rounds = growth->rows[0].rounds,
                 .slice_s = NAN, /* each its own */
                 .seed = options->seed,
                 .server_cpus = growth->server_cpus,
                 .driver_cpus = growth->driver_cpus,
                 .cpus_shared = weir__cpus_overlap(&options->server_cpus, &options->driver_cpus),
                 .congestion = weir__host_congestion(),
                 .interrupted = weir__compare_interrupted != 0,
                 .notes = (const char *const *)growth->notes.items,
                 .note_count = growth->notes.count},
        .base = options->conns[growth->base],
        .rows = growth->rows,
        .row_count = growth->row_count,
    };

    weir__progress_clear(&growth->progress);
    weir__growth_table(out, &report, weir__colour_wanted(out));
    int written = weir__report_files_write_with(&growth->files, weir__growth_write, &report,
                                                "weir-bench compare");
    fflush(out);
    int code = exit_code(growth);
    return written < 0 && code == EXIT_DONE ? EXIT_FAILED : code;
}

static int run_all(struct growth *growth)
{
    struct compare_options *options = growth->options;
    struct host_ticks ticks;

    weir__compare_catch_signals();
    if (weir__host_ticks(&ticks) < 0)
        ticks = (struct host_ticks){0};
    if (weir__compare_driver(options, &growth->driver) < 0)
        return EXIT_FAILED;
    for (size_t i = 0; i < options->engines.count; i++) {
        if (growth->failure == 0 && !weir__compare_interrupted)
            run_engine(growth, i);
    }
    weir__notes_neighbours(&growth->notes, &growth->host, &ticks, true);
    return growth->failure == -EINVAL ? EXIT_USAGE : finish(growth);
}

static void deinit(struct growth *growth)
{
    for (size_t i = 0; i < growth->row_count; i++)
        weir__group_deinit(&growth->groups[i]);
    weir__driver_free(growth->driver);
    weir__report_files_discard(&growth->files);
    weir__notes_deinit(&growth->notes);
    weir__host_deinit(&growth->host);
    free(growth);
}

int weir__growth_run(struct compare_options *options)
{
    struct growth *growth = calloc(1, sizeof *growth);

    if (growth == NULL) {
        weir__compare_complain("out of memory");
        return EXIT_FAILED;
    }
    growth->options = options;
    weir__host_read(&growth->host);
    weir__cpus_format(&options->server_cpus, growth->server_cpus, sizeof growth->server_cpus);
    weir__cpus_format(&options->driver_cpus, growth->driver_cpus, sizeof growth->driver_cpus);
    weir__progress_init(&growth->progress);
    weir__rng_init(&growth->rng, options->seed);
    int code = check(growth);
    if (code == EXIT_DONE)
        code = run_all(growth);
    deinit(growth);
    return code;
}
