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
#include "bench/shape_cli.h"

enum {
    OPTION_CONNECT = 256,
    OPTION_WORKLOAD,
    OPTION_CONNS,
    OPTION_SIZE,
    OPTION_SECONDS,
    OPTION_SLICE,
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
    {"connect", OPTION_CONNECT, "HOST:PORT", 0, "The server to load; must be given", 0},
    {"workload", OPTION_WORKLOAD, "NAME", 0, "echo or frame. Default: echo", 0},
    {"conns", OPTION_CONNS, "N", 0, "Connections, or clients. Default: 100", 0},
    {"size", OPTION_SIZE, "BYTES", 0,
     "Payload of a request, 1 to 16m. Default: 100, in a stream 64k", 0},
    {"seconds", OPTION_SECONDS, "SECONDS", 0, "How long to go on. Default: 10", 0},
    {"slice", OPTION_SLICE, "SECONDS", 0,
     "Length of one measurement; a burst has its own, and a ramp is held as long. Default: 0.25",
     0},
    {"bursts", OPTION_BURSTS, "N", 0, "burst: how many. Default: as many as --seconds has room for",
     0},
    {"timeout", OPTION_TIMEOUT, "SECONDS", 0,
     "Give a connection up that has waited so long for a response; one that was never answered, "
     "when the server has answered nobody for so long. Default: 10",
     0},
    {"seed", OPTION_SEED, "N", 0, "Picks the bytes that are sent. Default: 1", 0},
    {NULL, 0, NULL, 0, "The server and the driver:", 2},
    {"engine", OPTION_ENGINE, "NAME", 0, "What to call the server. Default: HOST:PORT", 0},
    {"server-pid", OPTION_PIDS, "PID,...", 0,
     "Its processes on this machine, to measure their CPU time (that of their descendants, too) "
     "and "
     "memory",
     0},
    {"server-cpus", OPTION_SERVER_CPUS, "LIST", 0,
     "The CPUs it may use, as 0-3,6, to judge who the bottleneck was. Default: one", 0},
    {"driver-cpus", OPTION_DRIVER_CPUS, "LIST", 0, "CPUs of the load driver. Default: any", 0},
    {"driver-threads", OPTION_THREADS, "N", 0,
     "Threads of the load driver. Default: one for each of --driver-cpus", 0},
    {NULL, 0, NULL, 0,
     "Results (FILE - is standard output; the table then goes to standard error):", 3},
    {"json", OPTION_JSON, "FILE", 0, "Write the results as JSON", 0},
    {"csv", OPTION_CSV, "FILE", 0, "Write the results as CSV", 0},
    {"markdown", OPTION_MARKDOWN, "FILE", 0, "Write the results as a Markdown table", 0},
    {"html", OPTION_HTML, "FILE", 0, "Write the results as one HTML page", 0},
    {0},
};

static uint32_t read_u32(struct argp_state *state, const char *name, const char *text, bool binary,
                         uint32_t max)
{
    return (uint32_t)weir__cli_count(state, name, text, binary, 1, max);
}

static double read_seconds(struct argp_state *state, const char *name, const char *text)
{
    return weir__cli_seconds(state, name, text, 0.001, 86400);
}

static void read_pids(struct argp_state *state, const char *text, struct driver_target *target)
{
    char *copy = strdup(text), *rest = copy;
    for (char *token; rest && (token = strsep(&rest, ",")) != NULL;) {
        if (target->pid_count == WEIR__DRIVER_PIDS_MAX)
            argp_error(state, "--server-pid: more than %d processes", WEIR__DRIVER_PIDS_MAX);
        target->server_pids[target->pid_count++] =
            (pid_t)weir__cli_count(state, "server-pid", token, false, 1, INT32_MAX);
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
        options->workload = arg;
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
    case OPTION_BURSTS:
        options->bursts = weir__cli_count(state, "bursts", arg, false, 1, 1000000);
        return 0;
    case OPTION_TIMEOUT:
        target->answer_timeout_ns = (uint64_t)(read_seconds(state, "timeout", arg) * 1e9);
        return 0;
    case OPTION_SEED:
        target->seed = weir__cli_count(state, "seed", arg, false, 0, 1ull << 53);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct load_options *options = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->target.shape;
        return 0;
    case OPTION_ENGINE:
        options->engine = arg;
        return 0;
    case OPTION_PIDS:
        read_pids(state, arg, &options->target);
        return 0;
    case OPTION_SERVER_CPUS:
        weir__cli_cpus(state, "server-cpus", arg, false, &options->server_cpus);
        options->server_cpus_known = true;
        options->target.server_cpus = (unsigned)CPU_COUNT(&options->server_cpus);
        return 0;
    case OPTION_DRIVER_CPUS:
        weir__cli_cpus(state, "driver-cpus", arg, true, &options->driver_cpus);
        options->driver_pinned = true;
        return 0;
    case OPTION_THREADS:
        options->threads = read_u32(state, "driver-threads", arg, false, CPU_SETSIZE);
        return 0;
    case OPTION_JSON:
        options->files[REPORT_JSON] = arg;
        return 0;
    case OPTION_CSV:
        options->files[REPORT_CSV] = arg;
        return 0;
    case OPTION_MARKDOWN:
        options->files[REPORT_MARKDOWN] = arg;
        return 0;
    case OPTION_HTML:
        options->files[REPORT_HTML] = arg;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument '%s'", arg);
        return 0;
    case ARGP_KEY_END:
        options->workload =
            weir__shape_check_workload(state, &options->target.shape, options->workload,
                                       &options->target.workload, &options->target.size_bytes);
        if (!options->connect)
            argp_error(state, "--connect HOST:PORT is missing");
        return 0;
    default:
        return parse_load(key, arg, state);
    }
}

/* Some requests in each. */
static double default_slice(const struct shape *shape)
{
    bool slow = shape->kind == SHAPE_OPEN && shape->rate < 40;
    return slow ? 10.0 / shape->rate : 0.25;
}

static const char doc[] =
    "Load a server of the protocol, ours or any other, compare every byte that comes back, and "
    "print what `compare` prints for one cell.\v"
    "Exit status: 0 done; 1 the server failed, or wrong bytes came back; 2 bad usage, or a limit "
    "of this machine is in the way; 3 the server could not be reached; 130 interrupted.";

void weir__load_options_read(struct load_options *options, int argc, char **argv)
{
    static const struct argp_child children[] = {
        {&weir__shape_argp, 0, "How the connections are used:", 1},
        {0},
    };
    static const struct argp argp = {option_table, parse_option, NULL, doc, children, NULL, NULL};
    memset(options, 0, sizeof(*options));
    options->seconds = 10;
    options->target.conns = 100;
    options->target.seed = 1;
    weir__cli_parse(&argp, argc, argv, options);
    if (options->slice_s <= 0)
        options->slice_s = default_slice(&options->target.shape);
    if (!options->engine)
        options->engine = options->connect;
}
