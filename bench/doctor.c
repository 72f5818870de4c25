/*
 * `weir-bench doctor`: every limit between here and N connections, with value, need, verdict and
 * cure. What the limits are is known to preflight.c; this prints them.
 */
#include "bench/doctor.h"

#include "bench/cli.h"
#include "bench/preflight.h"
#include "bench/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define CONNS_DEFAULT   1000
#define SERVERS_DEFAULT 4 /* the default set of compare, and the A/A copy */

struct reading {
    uint64_t conns;
    uint64_t servers;
};

enum {
    KEY_CONNS = 256,
    KEY_SERVERS,
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
    {0},
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct reading *reading = state->input;

    switch (key) {
    case KEY_CONNS:
        if (weir__parse_count(arg, false, 1, 16 * 1000 * 1000, &reading->conns) < 0)
            argp_error(state, "--conns %s: want a whole number from 1 to 16m", arg);
        return 0;
    case KEY_SERVERS:
        if (weir__parse_count(arg, false, 1, CLI_ENGINES_MAX + 1, &reading->servers) < 0)
            argp_error(state, "--servers %s: want a whole number from 1 to %d", arg,
                       CLI_ENGINES_MAX + 1);
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument '%s'", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

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

/* The name, what there is, what is needed, the verdict, then the cure or what else is to know. */
static void print_limit(const struct limit *limit, bool colour)
{
    char have[32], need[32];
    const char *ansi = "";
    const char *verdict = verdict_name(limit->verdict);

    if (colour && limit->verdict != LIMIT_UNKNOWN)
        ansi = limit->verdict == LIMIT_OK     ? "\033[32m"
               : limit->verdict == LIMIT_WARN ? "\033[33m"
                                              : "\033[1;31m";
    weir__limit_have(limit, have, sizeof have);
    weir__limit_need(limit, need, sizeof need);
    printf("%-30s %12s %12s  %s%s%s", limit->name, have, need, ansi, verdict,
           ansi[0] != '\0' ? "\033[0m" : "");
    if (limit->cure[0] != '\0' || limit->note[0] != '\0')
        printf("%*s%s%s%s%s%s", 9 - (int)strlen(verdict), "", limit->cure,
               limit->cure[0] != '\0' && limit->note[0] != '\0' ? " " : "",
               limit->note[0] != '\0' ? "(" : "", limit->note, limit->note[0] != '\0' ? ")" : "");
    putchar('\n');
}

int weir_bench_doctor(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options_table,
        .parser = parse_option,
        .doc = "List every limit between here and N connections.\v"
               "Exit status: 0 all hold; 1 one does not; 2 bad usage.",
    };
    struct reading reading = {.conns = CONNS_DEFAULT, .servers = SERVERS_DEFAULT};
    struct limit list[WEIR__LIMITS_MAX];
    size_t missing = 0;
    size_t slow = 0;

    weir__cli_parse(&argp, argc, argv, &reading);
    struct limits_need need = {
        .driver_conns = reading.conns * reading.servers,
        .server_conns = reading.conns,
        .conns_per_addr = reading.conns,
        .connect_burst = reading.conns,
        .loopback = true,
    };
    size_t count = weir__limits_check(&need, list);

    printf("%-30s %12s %12s  %-8s %s\n", "limit", "have", "need", "verdict", "cure");
    for (size_t i = 0; i < count; i++) {
        print_limit(&list[i], weir__colour_wanted(stdout));
        missing += list[i].verdict == LIMIT_MISSING;
        slow += list[i].verdict == LIMIT_WARN;
    }
    printf("%s for %" PRIu64 " connections to each of %" PRIu64 " server%s%s\n",
           missing > 0 ? "Not enough" : "Enough", reading.conns, reading.servers,
           reading.servers == 1 ? "" : "s",
           slow > 0 ? "; what is called slow works, but slower" : "");
    return missing > 0 ? EXIT_FAILED : EXIT_DONE;
}
