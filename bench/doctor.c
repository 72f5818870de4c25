/*
 * `weir-bench doctor`: every limit between here and N connections, with value, need, verdict and
 * cure. What the limits are is known to preflight*.c; this tries io_uring and prints them all.
 */
#include "bench/doctor.h"

#include "config.h"

#include "bench/compare.h"
#include "bench/preflight.h"
#include "bench/progress.h"
#include "bench/report.h"

#include <weir/model.h>
#include <weir/weir.h>

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define CONNS_DEFAULT   1000
#define SERVERS_DEFAULT 4 /* the default set of compare, and the A/A copy */

enum {
    VERDICT_COLUMNS = 8,
    CURE_COLUMN = 64,
    CURE_WIDTH_MIN = 30, /* on narrower terminals the cure is not set in */
};

struct reading {
    uint64_t conns;
    uint64_t servers;
    uint64_t workers;
    const char *json;
    const struct engine_entry *engine; /* NULL: any */
    struct engine_catalog catalog;
};

/* What was found. */
struct findings {
    const struct reading *reading;
    struct limit list[WEIR__LIMITS_MAX];
    size_t count;
    size_t missing;
    size_t slow;
    char nature[CLI_TEXT_BYTES]; /* why the model itself cannot; "": it can */
};

enum {
    KEY_CONNS = 256,
    KEY_SERVERS,
    KEY_ENGINE,
    KEY_WORKERS,
    KEY_JSON,
};

static const struct argp_option options_table[] = {
    {.name = "conns",
     .key = KEY_CONNS,
     .arg = "N",
     .doc = "Connections wanted to each server. Default: 1000"},
    {.name = "servers",
     .key = KEY_SERVERS,
     .arg = "N",
     .doc = "Servers connected at once, as compare has them: the engines and the A/A copy. "
            "Default: 4"},
    {.name = "engine",
     .key = KEY_ENGINE,
     .arg = "NAME",
     .doc = "Also what this model's workers need, or io_uring itself. Default: any model"},
    {.name = "workers",
     .key = KEY_WORKERS,
     .arg = "N",
     .doc = "Threads or processes of --engine, where it has a pool. Default: the CPUs it may use"},
    {.name = "json",
     .key = KEY_JSON,
     .arg = "FILE",
     .doc = "Write the list as JSON, too (-: standard output, in the list's place)"},
    {0},
};

static void read_engine(struct argp_state *state, struct reading *reading, const char *name)
{
    char names[CLI_TEXT_BYTES];
    char base[64];

    snprintf(base, sizeof base, "%.*s", (int)strcspn(name, ":"), name);
    weir__catalog_build(&reading->catalog);
    reading->engine = weir__catalog_find(&reading->catalog, base);
    if (reading->engine != NULL)
        return;
    weir__catalog_names(&reading->catalog, names, sizeof names);
    *strchrnul(names, ';') = '\0'; /* groups are for lists */
    argp_error(state, "unknown engine '%s'; valid: %s", base, names);
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct reading *reading = state->input;

    switch (key) {
    case KEY_CONNS:
        reading->conns = weir__cli_count(state, "conns", arg, false, 1, 16 * 1000 * 1000);
        return 0;
    case KEY_SERVERS:
        reading->servers = weir__cli_count(state, "servers", arg, false, 1, CLI_ENGINES_MAX + 1);
        return 0;
    case KEY_ENGINE:
        read_engine(state, reading, arg);
        return 0;
    case KEY_WORKERS:
        reading->workers = weir__cli_count(state, "workers", arg, false, 1, 1024);
        return 0;
    case KEY_JSON:
        reading->json = arg;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument '%s'", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* --- finding out -------------------------------------------------------------------------------
 */

/* Copies a comma list with a blank behind each comma, so that it can be wrapped. */
static void spread(const char *list, char *text, size_t bytes)
{
    size_t used = 0;

    for (; *list != '\0' && used + 2 < bytes; list++) {
        text[used++] = *list;
        if (*list == ',')
            text[used++] = ' ';
    }
    text[used] = '\0';
}

/* Opens a loop on io_uring, as a server would, and closes it. */
static void try_uring(const struct reading *reading, struct limits_uring *uring)
{
    const struct weir_loop_options options = {.engine = "uring"};
    struct weir_loop *loop;
    char why[CLI_TEXT_BYTES] = "";

    memset(uring, 0, sizeof *uring);
    uring->needed = reading->engine != NULL && strstr(reading->engine->name, "uring") != NULL;
    if (weir_engine_summary("uring") == NULL) {
        uring->result = -ENOSYS;
        snprintf(why, sizeof why, "build with liburing >= 2.3: this build has none");
    } else {
        uring->result = weir_loop_new(&loop, &options, why, sizeof why);
    }
    if (uring->result < 0)
        snprintf(uring->text, sizeof uring->text, "%.*s", (int)sizeof uring->text - 1, why);
    else
        spread(weir_loop_features(loop), uring->text, sizeof uring->text);
    if (uring->result == 0)
        weir_loop_free(loop);
}

static unsigned count_cpus(void)
{
    cpu_set_t cpus;

    return sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? (unsigned)CPU_COUNT(&cpus) : 1;
}

static void find_out(struct findings *findings)
{
    const struct reading *reading = findings->reading;
    struct limits_uring uring;
    struct limits_need need = {
        .driver_conns = reading->conns * reading->servers,
        .server_conns = reading->conns,
        .conns_per_addr = reading->conns,
        .connect_burst = reading->conns,
        .loopback = true,
        .uring = &uring,
    };

    try_uring(reading, &uring);
    if (reading->engine != NULL) {
        const struct limits_cell cell = {
            .engine = reading->engine->name,
            .traits = reading->engine->traits,
            .workers = reading->workers > 0 ? (unsigned)reading->workers : count_cpus(),
            .shape = SHAPE_CLOSED,
            .conns = reading->conns,
        };
        weir__limits_workers(&cell, &need);
        weir__limits_nature_at("", &cell, findings->nature, sizeof findings->nature);
    }
    findings->count = weir__limits_check(&need, findings->list);
    for (size_t i = 0; i < findings->count; i++) {
        findings->missing += findings->list[i].verdict == LIMIT_MISSING;
        findings->slow += findings->list[i].verdict == LIMIT_WARN;
    }
}

static bool holds(const struct findings *findings)
{
    return findings->missing == 0 && findings->nature[0] == '\0';
}

/* --- printing ----------------------------------------------------------------------------------
 */

static const char *verdict_name(enum limit_verdict verdict)
{
    static const char *const names[] = {
        [LIMIT_OK] = "ok",
        [LIMIT_WARN] = "slow",
        [LIMIT_MISSING] = "MISSING",
        [LIMIT_UNKNOWN] = "unknown",
    };

    return names[verdict];
}

/* Columns of the terminal that `out` is; 0: it is none. */
static unsigned terminal_width(FILE *out)
{
    struct winsize size;

    return ioctl(fileno(out), TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

/* The name, what there is, what is needed, the verdict, then the cure and what else is to know. */
static void print_limit(FILE *out, const struct limit *limit, bool colour, unsigned width)
{
    char have[32], need[32];
    char text[sizeof limit->cure + sizeof limit->note + 4] = "";
    const char *verdict = verdict_name(limit->verdict);
    const char *ansi = "";

    if (colour && limit->verdict != LIMIT_UNKNOWN)
        ansi = limit->verdict == LIMIT_OK     ? "\033[32m"
               : limit->verdict == LIMIT_WARN ? "\033[33m"
                                              : "\033[1;31m";
    weir__limit_have(limit, have, sizeof have);
    weir__limit_need(limit, need, sizeof need);
    if (limit->note[0] != '\0')
        snprintf(text, sizeof text, "%s%s(%s)", limit->cure, limit->cure[0] != '\0' ? " " : "",
                 limit->note);
    else
        snprintf(text, sizeof text, "%s", limit->cure);
    fprintf(out, "%-30s %11s %11s  %s%s%s", limit->name, have, need, ansi, verdict,
            ansi[0] != '\0' ? "\033[0m" : "");
    if (text[0] != '\0')
        fprintf(out, "%*s", (int)(VERDICT_COLUMNS - strlen(verdict)), "");
    weir__cli_wrap(out, CURE_COLUMN, width >= CURE_COLUMN + CURE_WIDTH_MIN ? width : UINT32_MAX,
                   text);
}

static void print(FILE *out, const struct findings *findings)
{
    const struct reading *reading = findings->reading;

    fprintf(out, "%-30s %11s %11s  %-8s cure\n", "limit", "have", "need", "verdict");
    for (size_t i = 0; i < findings->count; i++)
        print_limit(out, &findings->list[i], weir__colour_wanted(out), terminal_width(out));
    if (findings->nature[0] != '\0')
        fprintf(out, "%s\n", findings->nature);
    fprintf(out, "%s for %" PRIu64 " connections to each of %" PRIu64 " server%s%s\n",
            holds(findings) ? "Enough" : "Not enough", reading->conns, reading->servers,
            reading->servers == 1 ? "" : "s",
            findings->slow > 0 ? "; what is called slow works, but slower" : "");
}

/* Unlimited is null, too: `unlimited` tells it. */
static json_t *json_value(const struct limit *limit, const char *word, uint64_t number)
{
    if (limit->unit == LIMIT_WORD)
        return word != NULL ? json_string(word) : json_null();
    return number != UINT64_MAX ? json_integer((json_int_t)number) : json_null();
}

static json_t *json_of(const struct limit *limit)
{
    static const char *const verdicts[] = {
        [LIMIT_OK] = "ok",
        [LIMIT_WARN] = "slow",
        [LIMIT_MISSING] = "missing",
        [LIMIT_UNKNOWN] = "unknown",
    };
    bool known = limit->verdict != LIMIT_UNKNOWN;
    bool unlimited = known && limit->have == UINT64_MAX;

    return json_pack("{s:s, s:o, s:b, s:o, s:s, s:s, s:s}", "name", limit->name, "have",
                     known ? json_value(limit, limit->have_word, limit->have) : json_null(),
                     "unlimited", unlimited, "need",
                     json_value(limit, limit->need_word, limit->need), "verdict",
                     verdicts[limit->verdict], "cure", limit->cure, "note", limit->note);
}

static int write_json(enum report_kind kind, FILE *out, const void *what)
{
    const struct findings *findings = what;
    const struct reading *reading = findings->reading;
    json_t *limits = json_array();

    for (size_t i = 0; i < findings->count; i++)
        json_array_append_new(limits, json_of(&findings->list[i]));
    json_t *document = json_pack(
        "{s:s, s:I, s:I, s:s?, s:b, s:s?, s:o}", "weir", WEIR_VERSION, "conns",
        (json_int_t)reading->conns, "servers", (json_int_t)reading->servers, "engine",
        reading->engine != NULL ? reading->engine->name : NULL, "holds", holds(findings), "reason",
        findings->nature[0] != '\0' ? findings->nature : NULL, "limits", limits);
    return weir__json_dump(out, document);
}

int weir_bench_doctor(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options_table,
        .parser = parse_option,
        .doc =
            "List every limit between here and N connections, with what is needed and its cure.\v"
            "MISSING: it would fail; slow: it works, but slower.\n\n"
            "Exit status: 0 all hold; 1 one does not; 2 bad usage.",
    };
    struct reading reading = {.conns = CONNS_DEFAULT, .servers = SERVERS_DEFAULT};
    struct findings findings = {.reading = &reading};
    struct report_files files = {0};

    weir__cli_parse(&argp, argc, argv, &reading);
    const char *const paths[REPORT_KINDS] = {[REPORT_JSON] = reading.json};
    if (weir__report_files_open(&files, paths, "weir-bench doctor") < 0)
        return EXIT_USAGE;
    find_out(&findings);
    print(weir__report_files_table(&files), &findings);
    if (weir__report_files_write_with(&files, write_json, &findings, "weir-bench doctor") < 0)
        return EXIT_FAILED;
    return holds(&findings) ? EXIT_DONE : EXIT_FAILED;
}
