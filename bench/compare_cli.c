/*
 * The command line of `weir-bench compare`: reads it, has compare_check.c see whether it fits
 * together, and hands `struct compare_options` to compare.c. Starts nothing; a mistake exits with
 * EXIT_USAGE and says what would be right.
 */
#include "bench/compare_cli.h"

#include "bench/ablate.h"
#include "bench/growth.h"
#include "bench/shape_cli.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define SIZE_MAX_BYTES  (16u << 20)
#define READY_TIMEOUT_S 15

enum {
    KEY_ENGINES = 256,
    KEY_ABLATE,
    KEY_GROWTH,
    KEY_REFERENCE,
    KEY_WORKLOAD,
    KEY_CONNS,
    KEY_SIZE,
    KEY_MAX_FRAME,
    KEY_BUDGET,
    KEY_CELL_BUDGET,
    KEY_ROUNDS,
    KEY_SLICE,
    KEY_SEED,
    KEY_SERVER_CPUS,
    KEY_DRIVER_CPUS,
    KEY_DRIVER_THREADS,
    KEY_WORKERS,
    KEY_SERVER_COMMAND,
    KEY_READY_TIMEOUT,
    KEY_SEED_NAMES,
    KEY_SEED_FIGURES,
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
            "blocking, all. Default: " COMPARE_ENGINES_DEFAULT},
    {.name = "ablate",
     .key = KEY_ABLATE,
     .arg = "ENGINE",
     .doc = "Instead of engines, the features of one: each that it is granted switched off, each "
            "other switched on, against the engine as it comes. What each is worth in five kinds "
            "of work (1 and 1000 connections, 16 KiB, pipeline, churn), or in the one that "
            "--shape, --conns or --size give"},
    {.name = "growth",
     .key = KEY_GROWTH,
     .doc = "Instead of engines, numbers of connections: what a request costs each engine at 1 to "
            "10,000 of them, half of them idle (--shape idle --active P for another share), over "
            "the same at 100; and what the idle ones add, over servers that have only the active"},
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
     .doc = "Connections at once, one group of cells for each. Default: " COMPARE_CONNS_DEFAULT},
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
     .doc = "About how long the whole run may take. Default: 60, and of bursts, whose length is "
            "given, as long as a few of each should take, which is said first; with --growth 60 "
            "for each engine; with --ablate 60 for each column, 300 in all: about fifty slices of "
            "each feature in each, which tell "
            "differences of one or two percent from noise"},
    {.name = "cell-budget",
     .key = KEY_CELL_BUDGET,
     .arg = "SECONDS",
     .doc = "How long one server may be driven for at one number of connections. A burst is ended "
            "there, and what was done by then is told. Default: twice an equal share of the "
            "budget, with --rounds any"},
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
    {.name = "seed-names",
     .key = KEY_SEED_NAMES,
     .doc = "burst: beside each name the one that the measurement this project began with has"},
    {.name = "with-seed-figures",
     .key = KEY_SEED_FIGURES,
     .doc = "burst: beside ours its figures, which are another machine's"},
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
    "  weir-bench compare --engines all --shape burst --workload frame "
    "--conns 100,200,1000,10000\n"
    "  weir-bench compare --shape pipeline --depth 32 --conns 10\n"
    "  weir-bench compare --growth --engines uring,epoll,poll,select\n"
    "  weir-bench compare --ablate uring\n"
    "  weir-bench compare --ablate uring --shape idle --conns 1000\n\n"
    "Exit status: 0 done; 1 a server failed or bytes came back wrong; 2 bad usage, or a limit is "
    "in the way; "
    "3 nothing could run; 4 slower than the baseline; 130 interrupted.";

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
    case KEY_CELL_BUDGET:
        options->cell_budget_s = weir__cli_seconds(state, "cell-budget", arg, 0.05, 1e6);
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
    case KEY_SEED_NAMES:
        options->seed_names = true;
        return 0;
    case KEY_SEED_FIGURES:
        options->seed_figures = true;
        return 0;
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
    case KEY_GROWTH:
        options->growth = true;
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
        options->budget_given = true;
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
        weir__compare_check(state, reading);
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
    int code = options.ablate   ? weir__ablate_run(&options)
               : options.growth ? weir__growth_run(&options)
                                : weir__compare_run(&options);
    weir__engine_list_deinit(&options.engines);
    return code;
}
