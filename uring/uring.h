/*
 * What only the proactor has, for its own tests and for labelled benchmark rows: the bits of its
 * features, ring sizes, counters beyond the common ones, and the reasons for a failed open.
 *
 * Common code never includes this; it reaches the engine through core/engine.h.
 */
#ifndef WEIR_URING_URING_H
#define WEIR_URING_URING_H

#include <stdint.h>
#include <stddef.h>

#include "core/engine.h"

extern const struct weir__engine_ops weir__engine_uring;

/* Bits of the features masks, in the order of feature_names. */
enum weir__uring_feature {
    WEIR__URING_DEFER_TASKRUN,    /* completions are finished only inside our own wait()    6.1  */
    WEIR__URING_COOP_TASKRUN,     /* no interrupt to finish a completion                    5.19 */
    WEIR__URING_SINGLE_ISSUER,    /* one thread submits                                     6.0  */
    WEIR__URING_SUBMIT_ALL,       /* a bad request does not stop the batch                  5.18 */
    WEIR__URING_NO_SQARRAY,       /* no index array; needs liburing 2.5                     6.6  */
    WEIR__URING_REGISTERED_RING,  /* the ring's descriptor is not looked up for each enter  5.18 */
    WEIR__URING_MULTISHOT_ACCEPT, /*                                                        5.19 */
    WEIR__URING_MULTISHOT_RECV,   /* needs buffer_ring                                      6.0  */
    WEIR__URING_BUFFER_RING,      /*                                                        5.19 */
    WEIR__URING_DIRECT,           /* accepted descriptors live in the ring's own table      6.8  */
    WEIR__URING_CQE_SKIP,         /* cancels that worked say nothing                        5.17 */
    WEIR__URING_QUIET_SENDS,      /* a send gone whole at once says nothing; not 5.19, 6.0  5.17 */
    WEIR__URING_ABS_TIMER,        /* deadlines go to the kernel as they are                 6.12 */
    WEIR__URING_MIN_WAIT,         /* under load, waits gather completions; see gather.c      6.12 */
    WEIR__URING_NO_IOWAIT,        /* waiting is not accounted as I/O wait                   6.15 */
    WEIR__URING_MSG_RING_SYNC,    /* wake() by a message sent without a ring                6.13 */
    WEIR__URING_MSG_RING,         /* wake() by a message from a small ring of its own       5.18 */
    WEIR__URING_REST,             /* quiet receives wait as polls, which take less memory        */
    WEIR__URING_FILE_OPS, /* opening, renaming… too; MKDIR 5.15, TRUNCATE 6.9             */
    WEIR__URING_SEND_ZC,  /* sends from the caller's memory, where that is asked for 6.0  */
    WEIR__URING_SQPOLL,   /* a kernel thread submits; off unless asked for               */
    WEIR__URING_FEATURES
};
#define WEIR__URING_BIT(feature) (UINT64_C(1) << WEIR__URING_##feature)

/* Sizes that follow from the options, unless a test gives them; 0: as the options say. */
struct weir__uring_tuning {
    uint32_t sq_entries;
    uint32_t cq_entries;
};

int weir__uring_open_tuned(struct weir__engine **engine, struct weir__engine_env *env,
                           const struct weir__engine_options *options,
                           const struct weir__uring_tuning *tuning, char *why, size_t why_bytes);

struct weir__uring_counters {
    uint64_t strays;        /* completions whose op was no longer held: dropped */
    uint64_t short_sends;   /* sends that went on with their remainder */
    uint64_t polls;         /* ops that had to wait for readiness first */
    uint64_t early_flushes; /* the submission queue was full before wait() */
    uint64_t pended;        /* ops or cancels that waited for room in it */
    uint64_t short_memory;  /* enters refused with EAGAIN or ENOMEM, tried again */
    uint64_t rests;         /* held receives that were turned into polls */
};
void weir__uring_counters(const struct weir__engine *engine, struct weir__uring_counters *counters);

/* For the test of late completions: makes the kernel complete, with `res` 0, the token that a
 * former submission of `op` had, `generations` submissions ago. */
void weir__uring_inject_stray(struct weir__engine *engine, struct weir__op *op,
                              unsigned generations);

/* What decides whether io_uring may be used here. Unknown numbers are -1. */
struct weir__uring_host {
    long disabled;    /* kernel.io_uring_disabled: 0, 1 (a group may), 2 */
    long group;       /* kernel.io_uring_group; -1 is also its "none" */
    long seccomp;     /* 2: this process runs under a filter */
    uint64_t memlock; /* RLIMIT_MEMLOCK, bytes; UINT64_MAX: unlimited */
    uint64_t nofile;  /* RLIMIT_NOFILE */
    char release[65]; /* uname -r */
};
/* `proc` is "/proc", or a directory of a test. */
void weir__uring_host_read(struct weir__uring_host *host, const char *proc);
/* One line: what failed, why, the cure. `error` is the -errno of io_uring_setup. */
void weir__uring_explain(int error, const struct weir__uring_host *host, char *why,
                         size_t why_bytes);

#endif
