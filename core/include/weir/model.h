/*
 * Server models that are not engines: they own their whole loop, and serve a workload (or, the bare
 * ones, only a few) to be measured against the runtime. For the benchmark and the tests; not
 * installed. One server to a process.
 */
#ifndef WEIR_MODEL_H
#define WEIR_MODEL_H

#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>

struct weir_workload;
struct weir_workload_options;

struct weir_model_options {
    int listen_fd;    /* listening, blocking, with SO_REUSEPORT where the model's traits say so; NOT
                         consumed, but it may be shut down when serve() returns */
    int stop_fd;      /* becomes readable when the model is to stop; NOT consumed */
    unsigned workers; /* threads or processes of a pool; 0: the CPUs that may be used */
    unsigned backlog; /* of further listening sockets; 0: SOMAXCONN */
    uint64_t drain_ns;   /* how long what is in flight may take after stop */
    const char *choices; /* "reply=io": what stood behind the name's colon; NULL: nothing. Has been
                            through weir_model_check() */
    const struct weir_workload *workload;                 /* NULL: echo, which the bare ones know */
    const struct weir_workload_options *workload_options; /* NULL: all defaults */
};

/* Counts of one worker, in cache lines of its own. */
struct weir_model_counters {
    alignas(64) uint64_t accepted;
    uint64_t closed;
    uint64_t bytes_in;
    uint64_t bytes_out;
    uint64_t requests;
    uint64_t refused; /* connections closed because the peer broke the protocol */
    uint64_t errors;
    uint64_t deaths; /* workers that died and were replaced */
};

#define WEIR_MODEL_SLOTS 64

/* Zeroed, and in shared memory where the workers are processes. A worker adds to a slot of its own,
 * or, where there are more than slots, atomically to one that it shares. */
struct weir_model_stats {
    struct weir_model_counters slots[WEIR_MODEL_SLOTS];
    char features[256]; /* comma list of what was granted; "" if nothing is worth saying */
};

/* The sum of all slots. Async-signal-safe; may be called while the model counts. */
struct weir_model_counters weir_model_sum(const struct weir_model_stats *stats);

enum weir_model_trait {
    WEIR_MODEL_BLOCKING = 1,      /* serves by blocking calls: the group `blocking` */
    WEIR_MODEL_REACTOR = 2,       /* readiness says who may be served: the group `reactors` */
    WEIR_MODEL_POOL = 4,          /* `workers` counts; without: as many as its nature says */
    WEIR_MODEL_PROCESSES = 8,     /* its workers are processes, else threads */
    WEIR_MODEL_HOLDS_WORKER = 16, /* a connection keeps its worker until it ends: so many are served
                                    at once as there are workers, without POOL one */
    WEIR_MODEL_WORKER_PER_CONN = 32, /* makes a worker for each connection */
    WEIR_MODEL_REUSEPORT = 64,       /* its listening sockets share a port */
    WEIR_MODEL_SPINS = 128,          /* takes all of its CPU also when nothing happens */
};

/*
 * The stack of a worker that is a thread. The default, RLIMIT_STACK, is mostly 8 MiB: 10,000 of
 * them are 78 GiB of address space, and where huge pages are always given, one of 2 MiB for a
 * thread that needs two small ones. The buffers are on the heap; what is left are the frames of
 * libc and a workload (together under 8 KiB), thread-local storage, and a signal's frame (up to
 * 11 KiB with AMX).
 */
#define WEIR_MODEL_STACK_BYTES (64u << 10)

/* One `key=value` that a model takes behind its name and a colon. */
struct weir_model_choice {
    const char *key;
    const char *const *values; /* the default first, NULL at the end */
};

struct weir_model {
    const char *name;
    const char *summary;
    const char *seed_name; /* in the measurement that the project began with; NULL: not there */
    unsigned traits;       /* enum weir_model_trait */
    const struct weir_model_choice *choices; /* a NULL key ends them; NULL: none */
    const char *const *workloads;            /* those it serves, NULL at the end; NULL: any */
    /* Serves until stop_fd is readable. `ready` is called once, when connections are accepted, with
     * what was granted. 0, or -errno with what failed, why and the cure in `why`. */
    int (*serve)(const struct weir_model_options *options, struct weir_model_stats *stats,
                 void (*ready)(void *argument, const char *features), void *argument, char *why,
                 size_t why_bytes);
    /* To be called once stop_fd has become readable, in the process of serve(), from a signal
     * handler: for a model that cannot watch it while it is in a blocking call. NULL: needless. */
    void (*stop)(void);
};

/* NULL-terminated (core/model_table.c). */
extern const struct weir_model *const weir_models[];

/* Whether the model takes `choices` ("reply=io,…"; NULL: nothing). 0, or -EINVAL with what is valid
 * in `why`. */
int weir_model_check(const struct weir_model *model, const char *choices, char *why,
                     size_t why_bytes);
/* The value chosen for `key`, or its default: static storage. */
const char *weir_model_chosen(const struct weir_model *model, const char *choices, const char *key);

#endif
