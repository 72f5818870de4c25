/*
 * The seam: what the runtime asks of an I/O engine. It is completion-shaped; a reactor rises to it
 * by performing the call when the socket is ready, the proactor is never lowered to readiness.
 *
 * Threads: everything but wake() is called on the loop's own thread. Nothing here runs user code:
 * completions go to op->done(), which is core's and only marks things runnable.
 *
 * To add an engine: implement struct weir__engine_ops, name it in core/engine_list.h, and run
 * the conformance suite (tests/core/conformance*.c), which takes engines from that table.
 */
#ifndef WEIR_CORE_ENGINE_H
#define WEIR_CORE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

#include "core/buf.h"
#include "core/op.h"

#define WEIR__FOREVER UINT64_MAX

/* An engine embeds this as its first member. */
struct weir__engine {
    const struct weir__engine_ops *ops;
    struct weir__engine_env *env;
    uint32_t recv_most; /* receives that find a buffer in one wait(); 0: as many as the pool has */
};

/* What core lends an engine; outlives it. */
struct weir__engine_env {
    struct weir__buf_pool *bufs;
    /* Perform an op for helpers on a helper thread (weir__op_perform(op) there) and complete it on
     * the loop's thread. How reactors do file ops: the op passes through as it is. Returns, and
     * sets the op's state, like submit(). */
    int (*call_submit)(struct weir__engine_env *env, struct weir__op *op);
    /* 1: it never ran and will complete with -ECANCELED; 0: too late, it completes by itself. */
    int (*call_cancel)(struct weir__engine_env *env, struct weir__op *op);
};

/* Features are bits; bit i has the name ops->feature_names[i]. */
struct weir__engine_options {
    uint64_t features_off; /* forced off: features=-name */
    uint64_t features_on;  /* forced on: features=+name; open() fails where it cannot be had */
    uint32_t conns_max;    /* how many descriptors at most, to size rings and tables */
    uint32_t ring_bufs;    /* provided-buffer ring entries; 0: the engine's default */
};

enum weir__submit_result {
    WEIR__DONE = 0,   /* finished at once: op->res is set, done() is NOT called, state is IDLE */
    WEIR__QUEUED = 1, /* state is HELD; done() will be called */
    /* or -EBUSY: not taken, state is IDLE, try again after the next wait() */
};

/* Counters for --stats and tests; an engine adds to those it has. */
struct weir__engine_counters {
    uint64_t waits;       /* wait() calls that entered the kernel */
    uint64_t syscalls;    /* all system calls the engine made, waits included */
    uint64_t completions; /* calls of op->done() */
    uint64_t rearms;      /* multishot ops ended by the kernel that the engine armed again itself */
    uint64_t enobufs;     /* receives that found no buffer */
    uint64_t overflows;   /* completion queue overflows met */
    uint64_t wakes;
};

struct weir__engine_ops {
    const char *name;
    const char *summary; /* one line for --help */
    /* NULL-terminated; bit i of the features masks; may be NULL */
    const char *const *feature_names;

    /* Opens. On failure returns -errno and writes what failed, why and the cure to `why`
     * (one line, no newline). Must leave nothing behind then. */
    int (*open)(struct weir__engine **engine, struct weir__engine_env *env,
                const struct weir__engine_options *options, char *why, size_t why_bytes);
    /* No op may be held, unless wait() has failed: then those are dropped, but the descriptor
     * of a CLOSE is closed all the same. Also gives back every buffer the engine keeps (a ring). */
    void (*close)(struct weir__engine *engine);

    /* Takes the op until its final completion. enum weir__submit_result or -EBUSY. One RECV-like
     * (ACCEPT, RECV, RECVMSG, POLL for input) and one SEND-like (CONNECT, SEND…) op per descriptor.
     * A bad descriptor or argument is a completion (res = -EBADF), never a return value. The
     * proactor may only queue it: the system call is wait(). */
    int (*submit)(struct weir__engine *engine, struct weir__op *op);
    /* A hint: a HELD multishot RECV has been quiet for long, and may be held as one submitted with
     * REST would be. It goes on, and nothing it receives is lost. 1: it is now; 0: not at present;
     * -EOPNOTSUPP: this engine, as it was opened, holds all receives alike. */
    int (*rest)(struct weir__engine *engine, struct weir__op *op);
    /* Asks for an early end of a HELD op. The op still completes, once, with -ECANCELED or its
     * real result; never from inside this call. A second cancel of the same op is allowed. */
    void (*cancel)(struct weir__engine *engine, struct weir__op *op);
    /* Flushes submissions, blocks until a completion, a wake() or the deadline (CLOCK_MONOTONIC
     * ns; 0: do not block; WEIR__FOREVER), then reaps: ONE system call where the kernel allows.
     * Returns completions delivered, or -errno when the engine is broken for good. EINTR is 0. */
    int (*wait)(struct weir__engine *engine, uint64_t deadline_ns);
    /* The process's own descriptor for one that ACCEPT gave (any other is its own); it stays the
     * engine's and lasts until CLOSE. Or -errno (-EMFILE, -EBUSY: try again after the next wait).
     */
    int (*process_fd)(struct weir__engine *engine, int32_t fd);
    /* Closes what ACCEPT gave and no op will ever be submitted for; also when wait() has failed. */
    void (*drop_fd)(struct weir__engine *engine, int32_t fd);
    /* Any thread: makes a current or the next wait() return. Async-signal-safe. 0 or -errno. */
    int (*wake)(struct weir__engine *engine);

    /* What was granted, as bits of feature_names. */
    uint64_t (*features)(const struct weir__engine *engine);
    void (*counters)(const struct weir__engine *engine, struct weir__engine_counters *counters);
};

/* The one table (core/engine_table.c), best first; the order `auto` tries. NULL-terminated. */
extern const struct weir__engine_ops *const weir__engine_table[];

#endif
