/*
 * `weir-bench serve`: reads the command line, checks what can be checked, and hands over to an
 * engine (serve_engine.c) or a model (serve_model.c). The signal handlers and the ready line, which
 * both share, live here.
 */
#include "bench/serve.h"

#include "bench/cli.h"
#include "bench/compare.h"
#include "bench/driver.h"
#include "bench/host.h"
#include "bench/preflight.h"
#include "bench/workloads/workloads.h"

#include <weir/model.h>

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LISTEN_DEFAULT  "127.0.0.1:7000"
#define DRAIN_DEFAULT_S 5

volatile sig_atomic_t weir__serve_stopping;
volatile sig_atomic_t weir__serve_asked;

static struct serve_signals caught;

static void wake(void)
{
    uint64_t one = 1;
    int saved = errno;

    /* It can only fail for being full, and then it is readable already. */
    if (write(caught.event_fd, &one, sizeof one) < 0)
        errno = saved;
    errno = saved;
}

static void on_stop(int number)
{
    (void)number;
    weir__serve_stopping = 1;
    if (caught.stop != NULL)
        caught.stop();
    wake();
}

static void on_usr1(int number)
{
    (void)number;
    weir__serve_asked = 1;
    if (caught.report != NULL)
        caught.report();
    if (caught.wake_on_usr1)
        wake();
}

void weir__serve_catch(const struct serve_signals *signals)
{
    /* A second SIGINT or SIGTERM ends the process: someone is tired of waiting for the drain.
     * SA_ONSTACK, because a signal may meet a coroutine on its small stack. */
    struct sigaction stop = {.sa_handler = on_stop, .sa_flags = (int)SA_RESETHAND | SA_ONSTACK};
    struct sigaction usr1 = {.sa_handler = on_usr1, .sa_flags = SA_RESTART | SA_ONSTACK};

    caught = *signals;
    sigemptyset(&stop.sa_mask);
    sigemptyset(&usr1.sa_mask);
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGUSR1, &usr1, NULL);
    signal(SIGPIPE, SIG_IGN);
}

void weir__serve_ready(const struct serve_options *options, const char *engine,
                       const struct sockaddr *addr, socklen_t addr_len, const char *features)
{
    char host[NI_MAXHOST] = "?";
    char port[NI_MAXSERV] = "?";
    bool v6 = addr->sa_family == AF_INET6;

    getnameinfo(addr, addr_len, host, sizeof host, port, sizeof port,
                NI_NUMERICHOST | NI_NUMERICSERV);
    printf("ready engine=%s workload=%s listen=%s%s%s:%s features=%s\n", engine,
           options->workload->name, v6 ? "[" : "", host, v6 ? "]" : "", port, features);
    fflush(stdout);
}

enum {
    KEY_ENGINE = 256,
    KEY_WORKLOAD,
    KEY_LISTEN,
    KEY_WORKERS,
    KEY_CPUS,
    KEY_DRAIN,
    KEY_STATS,
    KEY_MAX_FRAME,
    KEY_BACKLOG,
    KEY_BUFS,
    KEY_BUF_BYTES,
    KEY_STACK_BYTES,
};

static const struct argp_option options_table[] = {
    {.name = "engine",
     .key = KEY_ENGINE,
     .arg = "NAME[:OPTION=VALUE,...]",
     .doc = "The I/O model that serves, or auto: the best that works. Default: auto"},
    {.name = "workload",
     .key = KEY_WORKLOAD,
     .arg = "NAME",
     .doc = "echo, frame, sink or source. Default: echo"},
    {.name = "listen",
     .key = KEY_LISTEN,
     .arg = "ADDRESS:PORT",
     .doc = "Where to listen; port 0 takes a free one. Default: " LISTEN_DEFAULT},
    {.name = "workers",
     .key = KEY_WORKERS,
     .arg = "N",
     .doc = "Threads or processes, of models that have a pool. Default: the CPUs it may use"},
    {.name = "cpus",
     .key = KEY_CPUS,
     .arg = "LIST",
     .doc = "CPUs to run on, as 0-3,6. Default: all"},
    {.name = "drain",
     .key = KEY_DRAIN,
     .arg = "SECONDS",
     .doc = "After SIGTERM or SIGINT, how long what is in flight may take. Default: 5"},
    {.name = "stats",
     .key = KEY_STATS,
     .doc = "Print counters as a JSON line on standard error each second (SIGUSR1: once, with the "
            "list of "
            "coroutines)"},
    {.name = "max-frame",
     .key = KEY_MAX_FRAME,
     .arg = "BYTES",
     .doc = "frame: longest body taken; a longer one closes that connection. Default: 1m"},
    {.name = "backlog",
     .key = KEY_BACKLOG,
     .arg = "N",
     .doc = "Of listen(2), connections. Default: the most there is, net.core.somaxconn"},
    {.name = "bufs",
     .key = KEY_BUFS,
     .arg = "N",
     .doc = "Buffers the engine lends, at most 32767. Default: 1024"},
    {.name = "buf-bytes",
     .key = KEY_BUF_BYTES,
     .arg = "BYTES",
     .doc = "Size of each lent buffer. Default: 64k"},
    {.name = "stack-bytes",
     .key = KEY_STACK_BYTES,
     .arg = "BYTES",
     .doc = "Of a coroutine. Default: 8k"},
    {0},
};

/* The command line while it is being read. */
struct reading {
    struct serve_options options;
    struct engine_catalog catalog;
    const struct weir_model *model; /* NULL: an engine of the runtime */
};

static void read_workload(struct argp_state *state, const char *name, struct serve_options *options)
{
    char names[256];

    options->workload = weir__workload_find(name);
    if (options->workload != NULL)
        return;
    weir__workload_names(names, sizeof names);
    argp_error(state, "unknown workload '%s'; valid: %s", name, names);
}

static void pin(struct argp_state *state, const char *text)
{
    cpu_set_t cpus;

    weir__cli_cpus(state, "cpus", text, true, &cpus);
    if (sched_setaffinity(0, sizeof cpus, &cpus) < 0)
        argp_failure(state, EXIT_USAGE, errno, "--cpus %s", text);
}

/* Exits where the machine cannot start its pool. */
static void check_pool(const struct engine_entry *entry, const struct serve_options *options)
{
    char why[CLI_TEXT_BYTES];
    const struct limits_cell cell = {
        .engine = entry->name,
        .traits = entry->traits,
        .workers = options->workers,
    };

    if (weir__limits_cell(&cell, why, sizeof why) < 0) {
        fprintf(stderr, "weir-bench serve: %s\n", why);
        exit(EXIT_NOTHING_RAN);
    }
}

/* The name before the colon decides: a model, an engine, or neither. */
static void find_engine(struct argp_state *state, struct reading *reading)
{
    char names[CLI_TEXT_BYTES];
    char base[64];
    const char *engine = reading->options.engine;

    snprintf(base, sizeof base, "%.*s", (int)strcspn(engine, ":"), engine);
    const struct engine_entry *entry = weir__catalog_find(&reading->catalog, base);
    if (entry == NULL && strcmp(base, "auto") != 0) {
        weir__catalog_names(&reading->catalog, names, sizeof names);
        *strchrnul(names, ';') = '\0'; /* groups are for lists */
        argp_error(state, "unknown engine '%s'; valid: auto, %s", base, names);
    }
    if (entry != NULL && entry->missing != NULL) {
        fprintf(stderr, "weir-bench serve: %s: %s\n", base, entry->missing);
        exit(EXIT_NOTHING_RAN);
    }
    for (size_t i = 0; weir_models[i] != NULL; i++) {
        if (strcmp(weir_models[i]->name, base) == 0)
            reading->model = weir_models[i];
    }
    if (entry != NULL)
        check_pool(entry, &reading->options);
}

static void check_listen(struct argp_state *state, struct serve_options *options)
{
    char why[CLI_TEXT_BYTES];

    if (weir__limits_address(options->listen, &options->addr, &options->addr_len, why, sizeof why) <
        0)
        argp_error(state, "--listen %s: %s", options->listen, why);
    if (weir__limits_listen(&options->addr, options->addr_len, why, sizeof why) < 0) {
        fprintf(stderr, "weir-bench serve: %s\n", why);
        exit(EXIT_USAGE);
    }
}

static int parse_sizes(int key, char *arg, struct argp_state *state, struct serve_options *options)
{
    switch (key) {
    case KEY_WORKERS:
        options->workers = (unsigned)weir__cli_count(state, "workers", arg, false, 1, 1024);
        return 0;
    case KEY_MAX_FRAME:
        options->workload_options.frame_limit_bytes =
            (uint32_t)weir__cli_count(state, "max-frame", arg, true, 1, 1u << 30);
        return 0;
    case KEY_BACKLOG:
        options->backlog = (unsigned)weir__cli_count(state, "backlog", arg, false, 1, 1u << 20);
        return 0;
    case KEY_BUFS:
        options->bufs = (uint32_t)weir__cli_count(state, "bufs", arg, false, 1, 32767);
        return 0;
    case KEY_BUF_BYTES:
        options->buf_bytes =
            (uint32_t)weir__cli_count(state, "buf-bytes", arg, true, 64, 16u << 20);
        return 0;
    case KEY_STACK_BYTES:
        options->stack_bytes =
            (uint32_t)weir__cli_count(state, "stack-bytes", arg, true, 4096, 8u << 20);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct reading *reading = state->input;
    struct serve_options *options = &reading->options;
    double seconds;

    switch (key) {
    case KEY_ENGINE:
        options->engine = arg;
        return 0;
    case KEY_WORKLOAD:
        read_workload(state, arg, options);
        return 0;
    case KEY_LISTEN:
        options->listen = arg;
        return 0;
    case KEY_CPUS:
        pin(state, arg);
        return 0;
    case KEY_DRAIN:
        seconds = weir__cli_seconds(state, "drain", arg, 0, 86400);
        /* The loop's 0 is its default; one nanosecond is as good as none. */
        options->drain_ns = seconds > 0 ? (uint64_t)(seconds * 1e9) : 1;
        return 0;
    case KEY_STATS:
        options->stats = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument '%s'", arg);
        return 0;
    case ARGP_KEY_END:
        find_engine(state, reading);
        if (options->backlog == 0) /* SOMAXCONN is the default of the sysctl, and no more */
            options->backlog = (unsigned)weir__limits_backlog();
        check_listen(state, options);
        return 0;
    default:
        return parse_sizes(key, arg, state, options);
    }
}

static const char documentation[] =
    "Serve one workload with one I/O model.\vPrints, once it accepts connections:\n"
    "  ready engine=uring workload=echo listen=127.0.0.1:7000 features=...\n\n"
    "SIGTERM or SIGINT: stop accepting, finish what is in flight, exit 0.\n\n"
    "Exit status: 0 stopped; 1 failed while serving; 2 bad usage, or the address cannot "
    "be had; "
    "3 this model cannot run here.";

/* "uring-shards:per=connection": the engine "uring:per=connection", as many times as there are
 * workers. */
static int serve_engine(const struct serve_options *options)
{
    const char *name = options->engine;
    size_t base = strcspn(name, ":");
    const char *dash = memrchr(name, '-', base);
    char engine[CLI_OPTIONS_BYTES + 64];
    char shown[64];
    cpu_set_t cpus;
    bool shards = dash != NULL && strncmp(dash, "-shards", base - (size_t)(dash - name)) == 0;
    bool prefork = dash != NULL && strncmp(dash, "-prefork", base - (size_t)(dash - name)) == 0;

    if (!shards && !prefork)
        return weir__serve_engine(options, name, NULL, 1);
    snprintf(engine, sizeof engine, "%.*s%s", (int)(dash - name), name, name + base);
    snprintf(shown, sizeof shown, "%.*s", (int)base, name);
    unsigned count = options->workers;
    if (count == 0)
        count = sched_getaffinity(0, sizeof cpus, &cpus) < 0 ? 1 : (unsigned)CPU_COUNT(&cpus);
    return shards ? weir__serve_engine(options, engine, shown, count)
                  : weir__serve_prefork(options, engine, shown, count);
}

int weir_bench_serve(int argc, char **argv)
{
    struct reading reading = {
        .options =
            {
                .engine = "auto",
                .listen = LISTEN_DEFAULT,
                .drain_ns = DRAIN_DEFAULT_S * 1000000000ull,
                .congestion = weir__host_congestion(),
                .workload = weir__workload_find("echo"),
            },
    };

    weir__catalog_build(&reading.catalog);
    char *help = weir__catalog_help(&reading.catalog, documentation);
    struct argp argp = {
        .options = options_table,
        .parser = parse_option,
        .doc = help != NULL ? help : documentation,
    };
    weir__cli_parse(&argp, argc, argv, &reading);
    free(help);
    int result = weir__limits_raise_nofile();
    if (result < 0)
        fprintf(stderr, "weir-bench serve: raising the descriptor limit: %s\n", strerror(-result));
    if (reading.model != NULL)
        return weir__serve_model(&reading.options, reading.model);
    return serve_engine(&reading.options);
}
