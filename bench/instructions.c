/*
 * `weir-bench instructions`: how many instructions a server executes in user space for one 100-byte
 * echo. The server runs one instruction at a time (PTRACE_SINGLESTEP), so the count is exact, and
 * it needs neither hardware counters nor Valgrind, which cannot run io_uring. It says nothing of
 * the time they take, and nothing of the kernel, where most of a request's time goes.
 *
 * All connections ask at once, and ask again when all have their answer. A server that is stepped
 * is slow, so it finds them all ready: the batches are as large as the load allows.
 *
 * Work that a server does by the clock (the trim's samples, the sweep for quiet connections) is
 * counted, too, and there is more of it for each request than at full speed. Stepped, one request
 * takes some 17 ms: of uring's 1,720 instructions at one connection about 280 are such work.
 */
#include "bench/instructions.h"

#include "bench/cli.h"
#include "bench/clock.h"
#include "bench/compare.h"
#include "bench/servers.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    REQUEST_BYTES = 100,
    WARM_ROUNDS = 3,
    CONNS_MOST = 4096,
    REQUESTS_DEFAULT = 300,
    START_TIMEOUT_S = 10,
    ANSWER_TIMEOUT_S = 60, /* a stepped server takes microseconds for each instruction */
};

struct asked {
    struct engine_catalog catalog;
    struct engine_list engines;
    unsigned conns[CLI_COUNTS_MAX];
    size_t conns_count;
    uint64_t requests;
};

enum phase { WARMING, COUNTING, OVER };

/* One server and the thread that asks it. */
struct run {
    struct server server;
    unsigned conns;
    uint64_t rounds;
    atomic_int phase;
    int fds[CONNS_MOST];
    int error; /* -errno of the asking; -EPROTO: wrong bytes */
    uint64_t steps;
};

/* ---- asking ---------------------------------------------------------------------------------- */

static int connect_one(const struct server *server)
{
    int fd = socket(server->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    struct timeval timeout = {.tv_sec = ANSWER_TIMEOUT_S};

    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) ||
        connect(fd, (const struct sockaddr *)&server->addr, server->addr_len)) {
        int error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

static int ask_all(struct run *run, uint64_t round)
{
    char out[REQUEST_BYTES], in[REQUEST_BYTES];

    for (unsigned i = 0; i < run->conns; i++) {
        memset(out, (int)(round + i), sizeof out);
        ssize_t n = send(run->fds[i], out, sizeof out, MSG_NOSIGNAL);
        if (n != sizeof out)
            return n < 0 ? -errno : -EIO;
    }
    for (unsigned i = 0; i < run->conns; i++) {
        ssize_t n = recv(run->fds[i], in, sizeof in, MSG_WAITALL);
        if (n != sizeof in)
            return n < 0 ? -errno : -ECONNRESET;
        memset(out, (int)(round + i), sizeof out);
        if (memcmp(in, out, sizeof in) != 0)
            return -EPROTO;
    }
    return 0;
}

static int ask_in_rounds(struct run *run)
{
    int error = 0;

    for (unsigned i = 0; i < run->conns && !error; i++) {
        run->fds[i] = connect_one(&run->server);
        error = run->fds[i] < 0 ? run->fds[i] : 0;
    }
    for (uint64_t round = 0; round < WARM_ROUNDS + run->rounds && !error; round++) {
        if (round == WARM_ROUNDS)
            atomic_store(&run->phase, COUNTING);
        error = ask_all(run, round);
    }
    return error;
}

static void *ask(void *argument)
{
    struct run *run = argument;

    run->error = ask_in_rounds(run);
    /* Ignored by every server, but a stop for the one who traces it: it may sleep in the kernel. */
    if (atomic_exchange(&run->phase, OVER) != OVER)
        syscall(SYS_tgkill, run->server.pid, run->server.pid, SIGURG);
    return NULL;
}

/* ---- stepping -------------------------------------------------------------------------------- */

/* Waits until the server stops: by which signal, or -ECHILD if it ended instead. */
static int wait_for_stop(struct run *run)
{
    int status;

    while (waitpid(run->server.pid, &status, __WALL) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFSTOPPED(status) ? WSTOPSIG(status) : -ECHILD;
}

/* One instruction, or one wait in the kernel, and what stopped the server after it. */
static int step(struct run *run, int deliver)
{
    if (ptrace(PTRACE_SINGLESTEP, run->server.pid, NULL, (void *)(intptr_t)deliver) < 0 &&
        errno != ESRCH) /* it was killed, as the wait tells */
        return -errno;
    return wait_for_stop(run);
}

/* Steps the server, which is stopped, until the asking is over. 0, or -ECHILD if it ended. */
static int step_until_over(struct run *run)
{
    int phase, deliver = 0;

    do {
        int stopped_by = step(run, deliver);
        if (stopped_by < 0) {
            atomic_store(&run->phase, OVER);
            return stopped_by;
        }
        deliver = stopped_by == SIGTRAP || stopped_by == SIGURG ? 0 : stopped_by;
        phase = atomic_load(&run->phase);
        run->steps += phase == COUNTING && stopped_by == SIGTRAP;
    } while (phase != OVER);
    return 0;
}

static int trace(struct run *run)
{
    pthread_t thread;

    if (ptrace(PTRACE_SEIZE, run->server.pid, NULL, NULL) < 0 ||
        ptrace(PTRACE_INTERRUPT, run->server.pid, NULL, NULL) < 0)
        return -errno;
    int error = wait_for_stop(run);
    if (error >= 0)
        error = -pthread_create(&thread, NULL, ask, run);
    if (!error) {
        error = step_until_over(run);
        pthread_join(thread, NULL);
    }
    if (error == -ECHILD)
        run->server.pid = 0; /* it has been waited for */
    else if (ptrace(PTRACE_DETACH, run->server.pid, NULL, NULL) < 0)
        error = -ECHILD; /* no longer stopped: killed, which the asker saw first */
    return error ? error : run->error;
}

/* ---- one row --------------------------------------------------------------------------------- */

static int start(struct run *run, const struct engine_choice *choice)
{
    char *argv[] = {"/proc/self/exe", "serve",    "--engine",    choice->name, "--workload",
                    "echo",           "--listen", "127.0.0.1:0", NULL};
    struct server_spec spec = {
        .name = choice->name,
        .argv = argv,
        .engine = choice->base,
        .workload = "echo",
        .listen = "127.0.0.1:0",
        .workers = 1,
    };
    int error = weir__server_start(&run->server, &spec);

    while (!error && run->server.state == SERVER_STARTING)
        weir__server_wait_ready(&run->server, weir__clock_ns() + START_TIMEOUT_S * NS_PER_S);
    return run->server.state == SERVER_READY ? 0 : -ECHILD;
}

static const char *reason(const struct run *run, int error)
{
    if (run->server.state != SERVER_READY)
        return run->server.how;
    if (error == -EPERM)
        return "ptrace is not permitted here: see kernel.yama.ptrace_scope, or run as root";
    if (error == -EPROTO)
        return "the bytes that came back were not those sent";
    if (error == -ECHILD)
        return "the server ended while it was counted";
    return strerror(-error);
}

/* 0 counted, 1 skipped, -1 failed. */
static int count(struct run *run, const struct engine_choice *choice, unsigned conns,
                 uint64_t requests)
{
    pid_t pids[SERVER_PIDS_MAX];
    int error = 0;

    memset(run, 0, sizeof *run);
    for (unsigned i = 0; i < conns; i++)
        run->fds[i] = -1;
    run->conns = conns;
    run->rounds = (requests + conns - 1) / conns;
    if (choice->entry->missing) {
        printf("%-32s %6u  skipped: %s\n", choice->name, conns, choice->entry->missing);
        return 1;
    }
    error = start(run, choice);
    bool alone = !error && weir__server_pids(&run->server, pids) == 1 &&
                 weir__server_parallelism(&run->server, 2) == 1;
    if (!error && alone)
        error = trace(run);
    bool skipped = run->server.state == SERVER_SKIPPED || (!error && !alone);
    if (!error && alone)
        printf("%-32s %6u %24.1f\n", choice->name, conns,
               (double)run->steps / (double)(run->rounds * conns));
    else
        printf("%-32s %6u  %s: %s\n", choice->name, conns, skipped ? "skipped" : "failed",
               error ? reason(run, error) : "only servers of one thread can be counted");
    fflush(stdout);
    for (unsigned i = 0; i < conns; i++)
        if (run->fds[i] >= 0)
            close(run->fds[i]);
    if (run->server.state == SERVER_READY) {
        weir__server_terminate(&run->server);
        weir__server_reap(&run->server, weir__clock_ns() + START_TIMEOUT_S * NS_PER_S);
    }
    weir__server_deinit(&run->server);
    return skipped ? 1 : error ? -1 : 0;
}

/* ---- the command ----------------------------------------------------------------------------- */

enum { KEY_ENGINES = 256, KEY_CONNS, KEY_REQUESTS };

static const struct argp_option options_table[] = {
    {.name = "engines",
     .key = KEY_ENGINES,
     .arg = "LIST",
     .doc = "Engines, as compare takes them. Default: uring,bare-uring,epoll,bare-epoll"},
    {.name = "conns", .key = KEY_CONNS, .arg = "LIST", .doc = "Connections. Default: 1,50"},
    {.name = "requests",
     .key = KEY_REQUESTS,
     .arg = "N",
     .doc = "Requests to count, at least. Default: 300"},
    {0},
};

static void read_engines(struct argp_state *state, struct asked *asked, const char *text)
{
    char error[CLI_TEXT_BYTES];

    weir__engine_list_deinit(&asked->engines);
    if (weir__engine_list_parse(&asked->engines, text, &asked->catalog, error, sizeof error) < 0)
        argp_error(state, "%s", error);
}

static void read_conns(struct argp_state *state, struct asked *asked, const char *text)
{
    char error[CLI_TEXT_BYTES];
    int n = weir__parse_counts(text, asked->conns, CLI_COUNTS_MAX, error, sizeof error);

    if (n < 0)
        argp_error(state, "--conns %s: %s", text, error);
    asked->conns_count = (size_t)n;
    for (int i = 0; i < n; i++)
        if (asked->conns[i] > CONNS_MOST)
            argp_error(state, "--conns %s: at most %d", text, CONNS_MOST);
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct asked *asked = state->input;

    switch (key) {
    case KEY_ENGINES:
        read_engines(state, asked, arg);
        return 0;
    case KEY_CONNS:
        read_conns(state, asked, arg);
        return 0;
    case KEY_REQUESTS:
        asked->requests = weir__cli_count(state, "requests", arg, false, 1, 1000000);
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument '%s'", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int weir_bench_instructions(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options_table,
        .parser = parse_option,
        .doc = "Count the instructions that each server executes in user space for one 100-byte "
               "echo, by stepping through them.\v"
               "A few seconds for each row. Exit status: 0 done; 1 a server failed; 2 bad usage; "
               "3 none could be counted.",
    };
    static struct asked asked = {.requests = REQUESTS_DEFAULT};
    static struct run run;
    char error[CLI_TEXT_BYTES];
    unsigned counted = 0, failed = 0;

    weir__catalog_build(&asked.catalog);
    weir__cli_parse(&argp, argc, argv, &asked);
    if (asked.engines.count == 0)
        weir__engine_list_parse(&asked.engines, "uring,bare-uring,epoll,bare-epoll", &asked.catalog,
                                error, sizeof error);
    if (asked.conns_count == 0)
        asked.conns_count =
            (size_t)weir__parse_counts("1,50", asked.conns, CLI_COUNTS_MAX, error, sizeof error);
    printf("%-32s %6s %24s\n", "engine", "conns", "user instr./request");
    for (size_t i = 0; i < asked.engines.count; i++) {
        for (size_t k = 0; k < asked.conns_count; k++) {
            int result = count(&run, &asked.engines.items[i], asked.conns[k], asked.requests);
            counted += result == 0;
            failed += result < 0;
        }
    }
    weir__engine_list_deinit(&asked.engines);
    return failed ? EXIT_FAILED : counted ? EXIT_DONE : EXIT_NOTHING_RAN;
}
