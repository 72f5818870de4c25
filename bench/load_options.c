/*
 * The command line of `weir-bench load`. Everything that is wrong with it is said here, before
 * anything starts, and ends the process with exit code 2.
 */
#include "bench/load.h"

#include <argp.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "bench/cli.h"
#include "bench/preflight.h"
#include "bench/workloads/workloads.h"

enum {
    OPTION_CONNECT = 256,
    OPTION_WORKLOAD,
    OPTION_SHAPE,
    OPTION_CONNS,
    OPTION_SIZE,
    OPTION_SECONDS,
    OPTION_SLICE,
    OPTION_REQUESTS,
    OPTION_BURSTS,
    OPTION_TIMEOUT,
    OPTION_SEED,
    OPTION_ENGINE,
    OPTION_PIDS,
    OPTION_SERVER_CPUS,
    OPTION_DRIVER_CPUS,
    OPTION_THREADS,
    OPTION_JSON,
    OPTION_CSV,
    OPTION_MARKDOWN,
    OPTION_HTML,
};

static const struct argp_option option_table[] = {
    {NULL, 0, NULL, 0, "The load:", 1},
    {"connect", OPTION_CONNECT, "HOST:PORT", 0, "the server to load (required)", 0},
    {"workload", OPTION_WORKLOAD, "NAME", 0, "echo or frame (default echo)", 0},
    {"shape", OPTION_SHAPE, "NAME", 0,
     "closed: connections with one request in flight each, for a time; burst: clients that connect "
     "at once, ask, and close (default closed)",
     0},
    {"conns", OPTION_CONNS, "N", 0, "connections, or clients of a burst (default 100)", 0},
    {"size", OPTION_SIZE, "BYTES", 0, "payload of a request, up to 16m (default 100)", 0},
    {"seconds", OPTION_SECONDS, "S", 0, "how long to go on (default 10)", 0},
    {"slice", OPTION_SLICE, "S", 0, "length of one measurement, closed (default 0.25)", 0},
    {"requests-per-conn", OPTION_REQUESTS, "K", 0, "of each client of a burst (default 100)", 0},
    {"bursts", OPTION_BURSTS, "N", 0, "this many, instead of as many as --seconds has room for", 0},
    {"timeout", OPTION_TIMEOUT, "S", 0,
     "give a connection up that has waited so long for a response (default 10)", 0},
    {"seed", OPTION_SEED, "N", 0, "picks the bytes that are sent (default 1)", 0},
    {NULL, 0, NULL, 0, "The server and the driver:", 2},
    {"engine", OPTION_ENGINE, "NAME", 0, "what to call the server (default: HOST:PORT)", 0},
    {"server-pid", OPTION_PIDS, "PID,...", 0,
     "its processes on this machine, to measure their CPU time and memory", 0},
    {"server-cpus", OPTION_SERVER_CPUS, "LIST", 0,
     "the CPUs it may use, to judge who the bottleneck was (default: one)", 0},
    {"driver-cpus", OPTION_DRIVER_CPUS, "LIST", 0,
     "where the load driver runs, such as 1 or 2-3,6 (default: anywhere)", 0},
    {"driver-threads", OPTION_THREADS, "N", 0, "(default: one for each of --driver-cpus)", 0},
    {NULL, 0, NULL, 0, "The report (the table goes to standard output):", 3},
    {"json", OPTION_JSON, "FILE", 0, "also as JSON; - is standard output", 0},
    {"csv", OPTION_CSV, "FILE", 0, "also as CSV", 0},
    {"markdown", OPTION_MARKDOWN, "FILE", 0, "also as Markdown", 0},
    {"html", OPTION_HTML, "FILE", 0, "also as HTML", 0},
    {0},
};

static void read_number(struct argp_state *state, const char *name, const char *text, bool binary,
                        uint64_t min, uint64_t max, uint64_t *value)
{
    if (weir__parse_count(text, binary, min, max, value) < 0)
        argp_error(state, "--%s %s: a whole number from %llu to %llu is wanted", name, text,
                   (unsigned long long)min, (unsigned long long)max);
}

static uint32_t read_u32(struct argp_state *state, const char *name, const char *text, bool binary,
                         uint32_t max)
{
    uint64_t value = 1;
    read_number(state, name, text, binary, 1, max, &value);
    return (uint32_t)value;
}

static double read_seconds(struct argp_state *state, const char *name, const char *text)
{
    double value = 1;
    if (weir__parse_real(text, 0.001, 86400, &value) < 0)
        argp_error(state, "--%s %s: seconds from 0.001 to 86400 are wanted", name, text);
    return value;
}

static void read_cpus(struct argp_state *state, const char *name, const char *text, cpu_set_t *cpus)
{
    if (weir__driver_cpus_parse(text, cpus) < 0)
        argp_error(state, "--%s %s: a list of CPUs such as 1 or 2-3,6 is wanted", name, text);
}

static void read_workload(struct argp_state *state, const char *text, struct load_options *options)
{
    char names[128];
    weir__workload_names(names, sizeof(names));
    if (strcmp(text, "echo") == 0)
        options->target.workload = DRIVER_ECHO;
    else if (strcmp(text, "frame") == 0)
        options->target.workload = DRIVER_FRAME;
    else
        argp_error(state, "no workload is called '%s'; there are: %s", text, names);
}

static void read_shape(struct argp_state *state, const char *text, struct load_options *options)
{
    options->burst = strcmp(text, "burst") == 0;
    if (!options->burst && strcmp(text, "closed") != 0)
        argp_error(state, "no shape is called '%s'; there are: closed, burst", text);
}

static void read_pids(struct argp_state *state, const char *text, struct driver_target *target)
{
    char *copy = strdup(text), *rest = copy;
    for (char *token; rest && (token = strsep(&rest, ",")) != NULL;) {
        uint64_t pid = 0;
        if (target->pid_count == WEIR__DRIVER_PIDS_MAX)
            argp_error(state, "--server-pid: more than %d processes", WEIR__DRIVER_PIDS_MAX);
        read_number(state, "server-pid", token, false, 1, INT32_MAX, &pid);
        target->server_pids[target->pid_count++] = (pid_t)pid;
    }
    free(copy);
}

static void read_address(struct argp_state *state, const char *text, struct load_options *options)
{
    char error[CLI_TEXT_BYTES];
    struct driver_target *target = &options->target;
    options->connect = text;
    if (weir__limits_address(text, &target->addr, &target->addr_len, error, sizeof(error)) < 0)
        argp_error(state, "--connect: %s", error);
    const struct sockaddr_in *in = (const struct sockaddr_in *)&target->addr;
    options->loopback =
        in->sin_family == AF_INET && ntohl(in->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

/* The options that say what load to make. */
static error_t parse_load(int key, char *arg, struct argp_state *state)
{
    struct load_options *options = state->input;
    struct driver_target *target = &options->target;
    switch (key) {
    case OPTION_CONNECT:
        read_address(state, arg, options);
        return 0;
    case OPTION_WORKLOAD:
        read_workload(state, arg, options);
        return 0;
    case OPTION_SHAPE:
        read_shape(state, arg, options);
        return 0;
    case OPTION_CONNS:
        target->conns = read_u32(state, "conns", arg, false, 16000000);
        return 0;
    case OPTION_SIZE:
        target->size_bytes = read_u32(state, "size", arg, true, 16u << 20);
        return 0;
    case OPTION_SECONDS:
        options->seconds = read_seconds(state, "seconds", arg);
        return 0;
    case OPTION_SLICE:
        options->slice_s = read_seconds(state, "slice", arg);
        return 0;
    case OPTION_REQUESTS:
        target->requests_per_conn = read_u32(state, "requests-per-conn", arg, false, 1000000000);
        return 0;
    case OPTION_BURSTS:
        read_number(state, "bursts", arg, false, 1, 1000000, &options->bursts);
        return 0;
    case OPTION_TIMEOUT:
        target->answer_timeout_ns = (uint64_t)(read_seconds(state, "timeout", arg) * 1e9);
        return 0;
    case OPTION_SEED:
        read_number(state, "seed", arg, false, 0, UINT64_MAX, &target->seed);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct load_options *options = state->input;
    switch (key) {
    case OPTION_ENGINE:
        options->engine = arg;
        return 0;
    case OPTION_PIDS:
        read_pids(state, arg, &options->target);
        return 0;
    case OPTION_SERVER_CPUS:
        read_cpus(state, "server-cpus", arg, &options->server_cpus);
        options->server_cpus_known = true;
        options->target.server_cpus = (unsigned)CPU_COUNT(&options->server_cpus);
        return 0;
    case OPTION_DRIVER_CPUS:
        read_cpus(state, "driver-cpus", arg, &options->driver_cpus);
        options->driver_pinned = true;
        return 0;
    case OPTION_THREADS:
        options->threads = read_u32(state, "driver-threads", arg, false, CPU_SETSIZE);
        return 0;
    case OPTION_JSON:
        options->json = arg;
        return 0;
    case OPTION_CSV:
        options->csv = arg;
        return 0;
    case OPTION_MARKDOWN:
        options->markdown = arg;
        return 0;
    case OPTION_HTML:
        options->html = arg;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s' is not an option", arg);
        return 0;
    case ARGP_KEY_END:
        if (!options->connect)
            argp_error(state, "--connect HOST:PORT is missing");
        return 0;
    default:
        return parse_load(key, arg, state);
    }
}

static const char doc[] =
    "Loads a server of the protocol, ours or any other, compares every byte that comes back, and "
    "prints what `compare` prints for one cell.\v"
    "Exit status: 0 done; 1 the server failed, or wrong bytes came back; 2 bad usage, or a limit "
    "of this machine is in the way; 3 the server could not be reached; 130 interrupted.";

void weir__load_options_read(struct load_options *options, int argc, char **argv)
{
    static const struct argp argp = {option_table, parse_option, NULL, doc, NULL, NULL, NULL};
    memset(options, 0, sizeof(*options));
    options->seconds = 10;
    options->slice_s = 0.25;
    options->target.conns = 100;
    options->target.size_bytes = 100;
    options->target.seed = 1;
    argp_err_exit_status = EXIT_USAGE;
    int rc = argp_parse(&argp, argc, argv, 0, NULL, options);
    if (rc != 0)
        exit(EXIT_USAGE);
    options->target.no_connections = options->burst;
    if (!options->engine)
        options->engine = options->connect;
}
