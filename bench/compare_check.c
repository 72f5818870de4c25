/*
 * Whether compare's options fit together, before anything starts (compare_cli.h). A mistake exits
 * with EXIT_USAGE and says what would be right.
 */
#include "bench/compare_cli.h"

#include "bench/ablate.h"
#include "bench/growth.h"
#include "bench/shape_cli.h"

#include <weir/model.h>
#include <weir/workload.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One engine that has features, and no option that means another comparison. */
static void check_ablation(struct argp_state *state, struct reading *reading)
{
    struct compare_options *options = reading->options;
    const struct engine_choice *engine = &options->engines.items[0];
    char error[CLI_TEXT_BYTES * 2];
    size_t used = 0;

    if (reading->engines != NULL)
        argp_error(state, "--ablate compares one engine with itself; leave out --engines");
    if (options->reference != NULL)
        argp_error(state, "with --ablate the engine as it comes is the reference; leave out "
                          "--reference");
    if (options->baseline != NULL)
        argp_error(state, "--baseline holds engines against an earlier run; --ablate has none");
    if (weir__engine_list_parse(&options->engines, reading->ablate, &reading->catalog, error,
                                sizeof error) < 0)
        argp_error(state, "--ablate: %s", error);
    if (options->engines.count != 1 || engine->from_group)
        argp_error(state, "--ablate %s: one engine at a time", reading->ablate);
    if ((engine->entry->features != NULL && engine->entry->features[0] != NULL) ||
        engine->entry->missing != NULL)
        return;
    for (size_t i = 0; i < reading->catalog.count && used < sizeof error; i++) {
        if (reading->catalog.entries[i].features != NULL)
            used += (size_t)snprintf(error + used, sizeof error - used, "%s%s",
                                     used > 0 ? ", " : "", reading->catalog.entries[i].name);
    }
    argp_error(state, "--ablate %s: it has no features to switch; these have: %s", reading->ablate,
               error);
}

/* The shape it has, and no option that means another comparison. */
static void check_growth(struct argp_state *state, struct compare_options *options)
{
    if (options->ablate || options->reference != NULL || options->baseline != NULL ||
        options->seed_names || options->seed_figures)
        argp_error(state, "--growth holds each engine against itself: leave out --ablate, "
                          "--reference, --baseline and the seeds");
    if (options->shape.given && options->shape.kind != SHAPE_IDLE)
        argp_error(state, "--growth is of --shape idle, not %s",
                   weir__shape_words(options->shape.kind)->name);
    if (!options->shape.given)
        options->shape = (struct shape){.kind = SHAPE_IDLE, .active = GROWTH_ACTIVE_DEFAULT};
}

static bool is_among(const struct engine_list *list, const struct engine_entry *entry)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->items[i].entry == entry)
            return true;
    }
    return false;
}

/* `engines`, and behind them the commands that it does not name. */
static void parse_engines(struct argp_state *state, struct reading *reading, const char *engines)
{
    struct engine_list *list = &reading->options->engines;
    char error[CLI_TEXT_BYTES * 2];

    if (weir__engine_list_parse(list, engines, &reading->catalog, error, sizeof error) < 0)
        argp_error(state, "--engines: %s", error);
    for (size_t i = 0; i < reading->catalog.count; i++) {
        const struct engine_entry *entry = &reading->catalog.entries[i];
        char *longer;

        if (entry->command == NULL || is_among(list, entry))
            continue;
        if (asprintf(&longer, "%s,%s", engines, entry->name) < 0)
            argp_failure(state, EXIT_FAILED, 0, "out of memory");
        weir__engine_list_deinit(list);
        parse_engines(state, reading, longer);
        free(longer);
        return;
    }
}

/* What stands behind a model's colon. */
static void check_choices(struct argp_state *state, const struct engine_list *list)
{
    char why[CLI_TEXT_BYTES];

    for (size_t i = 0; i < list->count; i++) {
        const struct engine_choice *choice = &list->items[i];
        const struct weir_model *model = choice->entry->model;

        if (model != NULL && weir_model_check(model, choice->options, why, sizeof why) < 0)
            argp_error(state, "--engines %s: %s", choice->name, why);
    }
}

static void check_engines(struct argp_state *state, struct reading *reading)
{
    struct compare_options *options = reading->options;
    char error[CLI_TEXT_BYTES * 2];

    parse_engines(state, reading,
                  reading->engines != NULL ? reading->engines : COMPARE_ENGINES_DEFAULT);
    check_choices(state, &options->engines);
    if (options->reference == NULL ||
        weir__engine_list_find(&options->engines, options->reference) >= 0)
        return;
    size_t used = 0;
    for (size_t i = 0; i < options->engines.count && used < sizeof error; i++)
        used += (size_t)snprintf(error + used, sizeof error - used, "%s%s", i > 0 ? ", " : "",
                                 options->engines.items[i].name);
    argp_error(state, "--reference %s is not among the engines; valid: %s", options->reference,
               error);
}

static void check_cpus(struct argp_state *state, struct reading *reading)
{
    struct compare_options *options = reading->options;
    cpu_set_t *given = reading->server_cpus_given ? &options->server_cpus : &options->driver_cpus;
    cpu_set_t *other = reading->server_cpus_given ? &options->driver_cpus : &options->server_cpus;
    cpu_set_t all;

    if (reading->server_cpus_given && reading->driver_cpus_given)
        return;
    if (!reading->server_cpus_given && !reading->driver_cpus_given) {
        int result = weir__cpus_split(&options->server_cpus, &options->driver_cpus);
        if (result < 0)
            argp_failure(state, EXIT_USAGE, -result, "sched_getaffinity");
        return;
    }
    /* The other side gets what is left, or the same where nothing is. */
    if (sched_getaffinity(0, sizeof all, &all) < 0)
        argp_failure(state, EXIT_USAGE, errno, "sched_getaffinity");
    CPU_XOR(other, &all, given);
    if (CPU_COUNT(other) == 0)
        *other = *given;
}

/* How many comparisons it is. */
static double columns_of(const struct compare_options *options)
{
    struct ablation_work work[ABLATION_COLUMNS_MAX];

    return options->ablate ? (double)weir__ablate_work(options, work) : 1;
}

static uint32_t largest_size(const struct compare_options *options)
{
    struct ablation_work work[ABLATION_COLUMNS_MAX];
    uint32_t largest = options->size_bytes;

    for (size_t i = options->ablate ? weir__ablate_work(options, work) : 0; i-- > 0;)
        largest = work[i].size_bytes > largest ? work[i].size_bytes : largest;
    return largest;
}

static void check_together(struct argp_state *state, struct reading *reading)
{
    struct compare_options *options = reading->options;
    uint64_t frame_limit =
        options->frame_limit_bytes > 0 ? options->frame_limit_bytes : WEIR_FRAME_LIMIT_BYTES;

    if ((options->seed_names || options->seed_figures) && options->shape.kind != SHAPE_BURST)
        argp_error(state, "--seed-names and --with-seed-figures are for --shape burst, which the "
                          "seeds' figures are of");
    if (options->rounds > 0 && options->budget_given)
        argp_error(state, "--rounds and --budget both say how long; give one of them");
    if (reading->percent_given && options->baseline == NULL)
        argp_error(state, "--fail-if-slower needs --baseline FILE");
    if (options->rule.by_ratio && options->baseline == NULL)
        argp_error(state, "--baseline-ratio needs --baseline FILE");
    if (reading->percent_given && options->rounds > 0 && options->rounds < STATS_SAMPLES_MIN)
        argp_error(state, "--fail-if-slower needs intervals, and they need --rounds %d or more",
                   STATS_SAMPLES_MIN);
    if (options->driver_workload == DRIVER_FRAME && largest_size(options) > frame_limit)
        argp_error(state,
                   "requests of %u bytes (--size) are longer than the longest frame, %llu bytes; "
                   "raise --max-frame",
                   largest_size(options), (unsigned long long)frame_limit);
}

void weir__compare_check(struct argp_state *state, struct reading *reading)
{
    struct compare_options *options = reading->options;
    char error[CLI_TEXT_BYTES];

    options->ablate = reading->ablate != NULL;
    bool usual = options->ablate && reading->conns == NULL && !options->shape.given &&
                 options->size_bytes == 0;
    if (!usual) {
        const char *otherwise = options->growth ? GROWTH_CONNS_DEFAULT : COMPARE_CONNS_DEFAULT;
        options->conns_usual = reading->conns == NULL;
        int count = weir__parse_counts(
            reading->conns != NULL ? reading->conns : otherwise, options->conns,
            options->ablate ? ABLATION_COLUMNS_MAX : CLI_COUNTS_MAX, error, sizeof error);
        if (count < 0)
            argp_error(state, "--conns: %s", error);
        options->conns_count = (size_t)count;
    }
    if (options->growth)
        check_growth(state, options);
    if (options->ablate)
        check_ablation(state, reading);
    else
        check_engines(state, reading);
    options->workload = weir__shape_check_workload(state, &options->shape, options->workload,
                                                   &options->driver_workload, &options->size_bytes);
    if (!options->budget_given)
        options->budget_s = weir__plan_default_s(options) * columns_of(options);
    if (!options->budget_given && options->growth)
        options->budget_s *= (double)options->engines.count;
    check_cpus(state, reading);
    check_together(state, reading);
}
