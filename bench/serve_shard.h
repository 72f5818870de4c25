/*
 * A shard: one loop of the runtime that serves a workload, on one thread. `weir-bench serve` runs
 * one, or several side by side (serve_shards.c). Private to the serve_*.c that run engines.
 */
#ifndef WEIR_BENCH_SERVE_SHARD_H
#define WEIR_BENCH_SERVE_SHARD_H

#include "bench/serve.h"

#include <weir/weir.h>

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>

enum print_asked { PRINT_NOTHING, PRINT_COUNTERS = 1, PRINT_ALL = 3 };

struct shard {
    const struct serve_options *options;
    unsigned index;   /* among its neighbours */
    bool shares_port; /* with them */
    struct weir_loop *loop;
    uint64_t started_ns;
    uint64_t requests;
    uint64_t refused;        /* connections closed because the peer broke the protocol */
    struct weir_post print;  /* counters were asked for, */
    atomic_uint print_asked; /* enum print_asked, and are not printed yet */
    bool print_all;          /* of the print under way: the coroutines as well */
    int print_result;        /* 0, or why it failed */
    /* Where feed() puts a reply that is not the input: one thread, and no wait between feed() and
     * the copy. */
    alignas(64) uint8_t reply_room[WEIR_WORKLOAD_OUT_BYTES];
};

/* Prints the counters as a JSON line on standard error, and a line for each coroutine where `all`.
 * From a task of the shard; or from any other thread, then later. */
void weir__shard_print(struct shard *shard, bool all);
void weir__shard_ask_print(struct shard *shard, bool all);
/* Says on standard error that they could not be. Any thread or task. */
void weir__shard_tell_unprinted(int error);

/* The shards of one process (serve_shards.c). */
struct shards {
    const struct serve_options *options;
    const char *engine; /* of the runtime, with its options */
    const char *name;   /* in the ready line, where they share a port */
    unsigned count;     /* of this process, the first on its own thread */
    unsigned first_index;
    bool shares_port; /* SO_REUSEPORT */
    const struct sockaddr *addr;
    socklen_t addr_len;
    int event_fd;    /* becomes readable when signals ask for something */
    bool event_asks; /* it does so for counters only */
    /* All listen, at `addr`. `stop` ends them, and is async-signal-safe. */
    void (*ready)(const struct shards *shards, const struct shard *first,
                  const struct sockaddr *addr, void (*stop)(void));
};

/* Opens them, serves until stopped. An exit code; what failed has been told. */
int weir__shards_serve(const struct shards *shards);

/* The handler of its connections (serve_handler.c). */
void weir__shard_handle(struct weir_conn *conn, void *shard);
/* What the workload knows of one connection, in weir_conn_state(): its bytes; 0: nothing. */
size_t weir__shard_state_bytes(const struct weir_workload *workload);

#endif
