/*
 * The command line of `weir-bench compare`: reads it, checks every value and every pair of values
 * that must agree, and hands `struct compare_options` to compare.c. Starts nothing; a mistake exits
 * with EXIT_USAGE and says what would be right.
 */
#include "bench/compare.h"

#include "bench/ablate.h"
#include "bench/shape_cli.h"
#include <weir/workload.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define ENGINES_DEFAULT  "uring,epoll,poll"
#define CONNS_DEFAULT    "100,200,1000"
#define SIZE_MAX_BYTES   (16u << 20)
#define BUDGET_DEFAULT_S 60 /* of an ablation: for each column */
#define READY_TIMEOUT_S  15

enum {
    KEY_ENGINES = 256,
    KEY_ABLATE,
    KEY_REFERENCE,
    KEY_WORKLOAD,
    KEY_CONNS,
    KEY_SIZE,
    KEY_MAX_FRAME,
    KEY_BUDGET,
    KEY_ROUNDS,
    KEY_SLICE,
    KEY_SEED,
    KEY_SERVER_CPUS,
    KEY_DRIVER_CPUS,
    KEY_DRIVER_THREADS,
    KEY_WORKERS,
    KEY_SERVER_COMMAND,
    KEY_READY_TIMEOUT,
    KEY_JSON,
    KEY_CSV,
    KEY_HTML,
    KEY_MARKDOWN,
    KEY_BASELINE,
    KEY_FAIL_IF_SLOWER,
    KEY_BASELINE_RATIO,
};

static const struct argp_option options_table[] = {
    {.doc = "What is compared:", .group = 1},
    {.name = "engines",
     .key = KEY_ENGINES,
     .arg = "LIST",
     .doc = "Engines, comma-separated, options behind a colon, or groups: coroutines, reactors, "
            "blocking, all. Default: " ENGINES_DEFAULT},
    {.name = "ablate",
     .key = KEY_ABLATE,
     .arg = "ENGINE",
     .doc = "Instead of engines, the features of one: each that it is granted switched off, each "
            "other switched on, against the engine as it comes. What each is worth in five kinds "
            "of work (1 and 1000 connections, 16 KiB, pipeline, churn), or in the one that "
            "--shape, --conns or --size give"},
    {.name = "reference",
     .key = KEY_REFERENCE,
     .arg = "NAME",
     .doc = "The row the others are compared with. Default: epoll, else the first"},
    {.name = "server-command",
     .key = KEY_SERVER_COMMAND,
     .arg = "NAME=CMD",
     .doc = "Add NAME to the engines: any server that listens on $WEIR_LISTEN and prints 'ready "
            "listen=ADDRESS:PORT' (see also $WEIR_WORKLOAD, $WEIR_WORKERS). May be repeated"},
    {.doc = "The work:", .group = 2},
    {.name = "workload", .key = KEY_WORKLOAD, .arg = "NAME", .doc = "echo or frame. Default: echo"},
    {.name = "conns",
     .key = KEY_CONNS,
     .arg = "LIST",
     .doc = "Connections at once, one group of cells for each. Default: " CONNS_DEFAULT},
    {.name = "size",
     .key = KEY_SIZE,
     .arg = "BYTES",
     .doc = "Payload of a request, 1 to 16m. Default: 100, in a stream 64k"},
    {.name = "max-frame",
     .key = KEY_MAX_FRAME,
     .arg = "BYTES",
     .doc = "frame: longest body the servers take. Default: 1m"},
    {.doc = "How long:", .group = 3},
    {.name = "budget",
     .key = KEY_BUDGET,
     .arg = "SECONDS",
     .doc = "About how long the whole run may take. Default: 60; with --ablate 60 for each column, "
            "300 in all: about fifty slices of each feature in each, which tell differences of one "
            "or two percent from noise"},
    {.name = "rounds",
     .key = KEY_ROUNDS,
     .arg = "N",
     .doc = "Slices of each server, instead of a budget; intervals need 8 or more"},
    {.name = "slice",
     .key = KEY_SLICE,
     .arg = "SECONDS",
     .doc = "Length of one slice. Default: from the budget; 0.1 with --rounds"},
    {.name = "seed",
     .key = KEY_SEED,
     .arg = "N",
     .doc = "Order of the slices, payloads, resampling. Default: random, and printed"},
    {.doc = "Where:", .group = 4},
    {.name = "server-cpus",
     .key = KEY_SERVER_CPUS,
     .arg = "LIST",
     .doc = "CPUs of the servers, as 0-3,6. Default: half of what there is"},
    {.name = "driver-cpus",
     .key = KEY_DRIVER_CPUS,
     .arg = "LIST",
     .doc = "CPUs of the load driver. Default: the other half"},
    {.name = "driver-threads",
     .key = KEY_DRIVER_THREADS,
     .arg = "N",
     .doc = "Threads of the load driver. Default: one for each of its CPUs"},
    {.name = "workers",
     .key = KEY_WORKERS,
     .arg = "N",
     .doc = "Threads or processes of servers that have a pool. Default: the CPUs of the servers"},
    {.name = "ready-timeout",
     .key = KEY_READY_TIMEOUT,
     .arg = "SECONDS",
     .doc = "How long a server may take to start. Default: 15"},
    {.doc = "Results (FILE - is standard output; the table then goes to standard error):",
     .group = 5},
    {.name = "json", .key = KEY_JSON, .arg = "FILE", .doc = "Write the results as JSON"},
    {.name = "csv", .key = KEY_CSV, .arg = "FILE", .doc = "Write the results as CSV"},
    {.name = "html", .key = KEY_HTML, .arg = "FILE", .doc = "Write the results as one HTML page"},
    {.name = "markdown",
     .key = KEY_MARKDOWN,
     .arg = "FILE",
     .doc = "Write the results as a Markdown table"},
    {.name = "baseline",
     .key = KEY_BASELINE,
     .arg = "FILE",
     .doc = "Hold the results against the JSON of an earlier run"},
    {.name = "fail-if-slower",
     .key = KEY_FAIL_IF_SLOWER,
     .arg = "PERCENT",
     .doc = "Exit 4 where a cell is slower than the baseline by more, beyond both intervals"},
    {.name = "baseline-ratio",
     .key = KEY_BASELINE_RATIO,
     .doc = "Hold ratios over the reference against the baseline's, not requests/s: holds between "
            "machines of different speed, and cannot judge the reference"},
    {0},
};

static const char documentation[] =
    "Compare I/O models under one load driver.\vEach server is its own process. All are up at once "
    "and are driven "
    "in turn, in short slices in random order; each slice is paired with the neighbouring slices "
    "of the "
    "reference, and a second copy of the reference (A/A) shows what chance alone does. A verdict "
    "needs the 95 % "
    "interval of the ratio to lie beyond that.\n\n"
    "  weir-bench compare --engines uring,epoll,poll\n"
    "  weir-bench compare --engines uring,uring:features=-multishot_recv,-cqe_skip\n"
    "  weir-bench compare --shape burst --conns 100,1000 --json r.json\n"
    "  weir-bench compare --shape pipeline --depth 32 --conns 10\n"
    "  weir-bench compare --ablate uring\n"
    "  weir-bench compare --ablate uring --shape idle --conns 1000\n\n"
    "Exit status: 0 done; 1 a server failed or bytes came back wrong; 2 bad usage, or a limit is "
    "in the way; "
    "3 nothing could run; 4 slower than the baseline; 130 interrupted.";

/* The command line while it is being read. */
struct reading {
    struct compare_options *options;
    struct engine_catalog catalog;
    const char *engines; /* NULL, as the next two: not said */
    const char *ablate;
    const char *conns;
    bool budget_given, server_cpus_given, driver_cpus_given, percent_given;
};

static unsigned read_unsigned(struct argp_state *state, const char *option, const char *text,
                              unsigned max)
{
    return (unsigned)weir__cli_count(state, option, text, false, 1, max);
}

/* NAME=COMMAND; `text` is argv's and lives as long as the program. */
static void add_command(struct argp_state *state, char *text, struct engine_catalog *catalog)
{
    char *equals = strchr(text, '=');

    if (equals == NULL || equals == text || equals[1] == '\0')
        argp_error(state, "--server-command %s: want NAME=COMMAND", text);
    *equals = '\0';
    if (strpbrk(text, ":,+-= ") == text || strpbrk(text, ":,= ") != NULL)
        argp_error(state,
                   "--server-command: the name '%s' may not begin with + or - nor hold any "
                   "of ':,= '",
                   text);
    struct engine_entry entry = {
        .name = text, .summary = "--server-command", .command = equals + 1};
    int result = weir__catalog_add(catalog, &entry);
    if (result < 0)
        argp_error(state, "--server-command: %s",
                   result == -EEXIST ? "there is an engine of that name" : "too many engines");
}

static void read_percent(struct argp_state *state, const char *text, struct reading *reading)
{
    double *percent = &reading->options->rule.percent;

    if (weir__parse_real(text, 0, 1000, percent) < 0)
        argp_error(state, "--fail-if-slower %s: want a percentage from 0 to 1000", text);
    reading->percent_given = true;
}

static int parse_work(int key, char *arg, struct argp_state *state, struct compare_options *options)
{
    switch (key) {
    case KEY_WORKLOAD:
        options->workload = arg;
        return 0;
    case KEY_SIZE:
        options->size_bytes =
            (uint32_t)weir__cli_count(state, "size", arg, true, 1, SIZE_MAX_BYTES);
        return 0;
    case KEY_MAX_FRAME:
        options->frame_limit_bytes = weir__cli_count(state, "max-frame", arg, true, 1, 1u << 30);
        return 0;
    case KEY_ROUNDS:
        options->rounds = read_unsigned(state, "rounds", arg, 1000000);
        return 0;
    case KEY_SLICE:
        options->slice_s = weir__cli_seconds(state, "slice", arg, 0.001, 3600);
        return 0;
    case KEY_SEED:
        options->seed = weir__cli_count(state, "seed", arg, false, 0, 1ull << 53);
        return 0;
    case KEY_READY_TIMEOUT:
        options->ready_timeout_s = weir__cli_seconds(state, "ready-timeout", arg, 0.1, 3600);
        return 0;
    case KEY_WORKERS:
        options->workers = read_unsigned(state, "workers", arg, 1024);
        return 0;
    case KEY_DRIVER_THREADS:
        options->driver_threads = read_unsigned(state, "driver-threads", arg, 1024);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static int parse_results(int key, char *arg, struct argp_state *state, struct reading *reading)
{
    struct compare_options *options = reading->options;

    switch (key) {
    case KEY_JSON:
        options->files[REPORT_JSON] = arg;
        return 0;
    case KEY_CSV:
        options->files[REPORT_CSV] = arg;
        return 0;
    case KEY_HTML:
        options->files[REPORT_HTML] = arg;
        return 0;
    case KEY_MARKDOWN:
        options->files[REPORT_MARKDOWN] = arg;
        return 0;
    case KEY_BASELINE:
        options->baseline = arg;
        return 0;
    case KEY_FAIL_IF_SLOWER:
        read_percent(state, arg, reading);
        return 0;
    case KEY_BASELINE_RATIO:
        options->rule.by_ratio = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

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

static void check_engines(struct argp_state *state, struct reading *reading)
{
    struct compare_options *options = reading->options;
    char error[CLI_TEXT_BYTES * 2];

    parse_engines(state, reading, reading->engines != NULL ? reading->engines : ENGINES_DEFAULT);
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

    if (options->rounds > 0 && reading->budget_given)
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

static void check_all(struct argp_state *state, struct reading *reading)
{
    struct compare_options *options = reading->options;
    char error[CLI_TEXT_BYTES];

    options->ablate = reading->ablate != NULL;
    bool usual = options->ablate && reading->conns == NULL && !options->shape.given &&
                 options->size_bytes == 0;
    if (!usual) {
        int count = weir__parse_counts(
            reading->conns != NULL ? reading->conns : CONNS_DEFAULT, options->conns,
            options->ablate ? ABLATION_COLUMNS_MAX : CLI_COUNTS_MAX, error, sizeof error);
        if (count < 0)
            argp_error(state, "--conns: %s", error);
        options->conns_count = (size_t)count;
    }
    if (options->ablate)
        check_ablation(state, reading);
    else
        check_engines(state, reading);
    options->workload = weir__shape_check_workload(state, &options->shape, options->workload,
                                                   &options->driver_workload, &options->size_bytes);
    if (!reading->budget_given)
        options->budget_s = BUDGET_DEFAULT_S * columns_of(options);
    check_cpus(state, reading);
    check_together(state, reading);
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct reading *reading = state->input;
    struct compare_options *options = reading->options;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->shape;
        return 0;
    case KEY_ENGINES:
        reading->engines = arg;
        return 0;
    case KEY_ABLATE:
        reading->ablate = arg;
        return 0;
    case KEY_REFERENCE:
        options->reference = arg;
        return 0;
    case KEY_SERVER_COMMAND:
        add_command(state, arg, &reading->catalog);
        return 0;
    case KEY_CONNS:
        reading->conns = arg;
        return 0;
    case KEY_BUDGET:
        options->budget_s = weir__cli_seconds(state, "budget", arg, 0.1, 1e6);
        reading->budget_given = true;
        return 0;
    case KEY_SERVER_CPUS:
        weir__cli_cpus(state, "server-cpus", arg, true, &options->server_cpus);
        reading->server_cpus_given = true;
        return 0;
    case KEY_DRIVER_CPUS:
        weir__cli_cpus(state, "driver-cpus", arg, true, &options->driver_cpus);
        reading->driver_cpus_given = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument '%s': engines go behind --engines", arg);
        return 0;
    case ARGP_KEY_END:
        check_all(state, reading);
        return 0;
    default:
        break;
    }
    if (parse_work(key, arg, state, options) == 0)
        return 0;
    return parse_results(key, arg, state, reading);
}

int weir_bench_compare(int argc, char **argv)
{
    struct compare_options options = {
        .ready_timeout_s = READY_TIMEOUT_S,
        .rule = {.percent = NAN},
    };
    struct reading reading = {
        .options = &options,
    };
    uint32_t seed = 1;

    if (getrandom(&seed, sizeof seed, 0) < 0)
        seed = 1; /* printed like any other */
    options.seed = seed;
    weir__catalog_build(&reading.catalog);
    char *help = weir__catalog_help(&reading.catalog, documentation);
    static const struct argp_child children[] = {
        {&weir__shape_argp, 0, "How the connections are used:", 2},
        {0},
    };
    struct argp argp = {
        .options = options_table,
        .parser = parse_option,
        .doc = help != NULL ? help : documentation,
        .children = children,
    };
    weir__cli_parse(&argp, argc, argv, &reading);
    free(help);
    int code = options.ablate ? weir__ablate_run(&options) : weir__compare_run(&options);
    weir__engine_list_deinit(&options.engines);
    return code;
}
