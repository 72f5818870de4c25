/*
 * `weir-bench serve`: one server process, on an engine of the runtime or on a model of its own.
 * serve.c reads the command line; serve_engine.c runs a loop, serve_model.c a model. Private to
 * these files.
 */
#ifndef WEIR_BENCH_SERVE_H
#define WEIR_BENCH_SERVE_H

#include <weir/workload.h>

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct weir_model;

struct serve_options {
    const char *engine; /* as typed: "uring:per=connection" */
    const struct weir_workload *workload;
    struct weir_workload_options workload_options;
    const char *listen; /* as typed */
    struct sockaddr_storage addr;
    socklen_t addr_len;
    const char *congestion; /* of every socket */
    unsigned workers;       /* of a model's pool; 0: the model's default */
    uint64_t drain_ns;
    bool stats; /* counters each second */
    unsigned backlog;
    uint32_t bufs;      /* of the loop; 0: its default */
    uint32_t buf_bytes; /* the same */
    uint32_t stack_bytes;
};

/* Set by SIGTERM and SIGINT. */
extern volatile sig_atomic_t weir__serve_stopping;
/* Set by SIGUSR1, and by SIGALRM where a model's counters are due. */
extern volatile sig_atomic_t weir__serve_asked;

/*
 * Installs the handlers. SIGTERM and SIGINT set the flag above, write to `event_fd` and call `stop`
 * where it is not NULL (async-signal-safe: weir_loop_stop); a second one ends the process. SIGUSR1
 * sets its flag, writes to `event_fd` where `wake_on_usr1`, and calls `report` where it is not
 * NULL.
 */
struct serve_signals {
    int event_fd;
    bool wake_on_usr1;
    void (*stop)(void);
    void (*report)(void);
};
void weir__serve_catch(const struct serve_signals *signals);

/* Prints the ready line of CLI.md and flushes it. `features` may be empty. */
void weir__serve_ready(const struct serve_options *options, const char *engine,
                       const struct sockaddr *addr, socklen_t addr_len, const char *features);

/*
 * Each returns an exit code once the server has stopped. `engine` is the runtime's, with its
 * options. `count` shards of it serve under `name`, each on a thread of its own; NULL: one alone,
 * under the engine's own name.
 */
int weir__serve_engine(const struct serve_options *options, const char *engine, const char *name,
                       unsigned count);
/* The same, each in a process of its own. */
int weir__serve_prefork(const struct serve_options *options, const char *engine, const char *name,
                        unsigned count);
int weir__serve_model(const struct serve_options *options, const struct weir_model *model);

/* The subcommand: `weir-bench serve …`. */
int weir_bench_serve(int argc, char **argv);

#endif
