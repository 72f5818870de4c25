/*
 * The reactor that rises to completions: it holds at most one input and one output op for each
 * descriptor, performs the calls when its poller says so, and completes the ops. Everything that
 * select, poll and epoll share is here; the engines differ in their poller alone.
 *
 * The functions that follow the seam's names fill struct weir__engine_ops; the others are for the
 * pollers.
 */
#ifndef WEIR_LEGACY_REACTOR_H
#define WEIR_LEGACY_REACTOR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "core/engine.h"
#include "legacy/poller.h"
#include "legacy/watch.h"

/* Ready descriptors served in one turn. Each may take a buffer, and the handlers run only after the
 * turn: so this bounds how many buffers are in use at once, LIFO, and with a few lines of each
 * touched (payload, buffer record, op) 64 stay within a first-level cache. One wait costs about
 * half a microsecond, so that more than 64 would save less than 1 % of a request. */
enum { WEIR__TURN_EVENTS = 64 };
/* Buffers one connection may fill in a turn of an edge-triggered poller. */
enum { WEIR__TURN_RECVS = 4 };

struct weir__reactor {
    struct weir__engine engine; /* first: the seam */
    const struct weir__poller_ops *poller;
    struct weir__watch_table watches;
    struct weir__op *cancelled; /* they complete in the next wait() */
    struct weir__op **cancelled_end;
    struct weir__engine_counters counters;
    uint64_t features; /* granted */
    uint64_t turn;     /* counts wait() */
    int fd_limit;      /* descriptors from here on cannot be watched */
    int wake_fd;       /* an eventfd */
    bool broken;       /* a wait has failed: close() drops what is held */
    atomic_int wake_pending;
};

/* The engines of this folder, which core/engine_table.c names. */
extern const struct weir__engine_ops weir__engine_epoll;    /* epoll.c */
extern const struct weir__engine_ops weir__engine_epoll_et; /* epoll.c */
extern const struct weir__engine_ops weir__engine_poll;     /* poll.c */
extern const struct weir__engine_ops weir__engine_select;   /* select.c */

/* --- the seam ------------------------------------------------------------------------------- */

int weir__reactor_submit(struct weir__engine *engine, struct weir__op *op);
void weir__reactor_cancel(struct weir__engine *engine, struct weir__op *op);
int weir__reactor_process_fd(struct weir__engine *engine, int32_t fd);
void weir__reactor_drop_fd(struct weir__engine *engine, int32_t fd);
int weir__reactor_wait(struct weir__engine *engine, uint64_t deadline_ns);
int weir__reactor_wake(struct weir__engine *engine);
void weir__reactor_close(struct weir__engine *engine);
uint64_t weir__reactor_features(const struct weir__engine *engine);
void weir__reactor_counters(const struct weir__engine *engine,
                            struct weir__engine_counters *counters);

/* What all reactors have in common in their struct weir__engine_ops. */
#define WEIR__REACTOR_OPS                                                                          \
    .close = weir__reactor_close, .submit = weir__reactor_submit, .cancel = weir__reactor_cancel,  \
    .process_fd = weir__reactor_process_fd, .drop_fd = weir__reactor_drop_fd,                      \
    .wait = weir__reactor_wait, .wake = weir__reactor_wake, .features = weir__reactor_features,    \
    .counters = weir__reactor_counters

/* --- for pollers ---------------------------------------------------------------------------- */

/* Allocates `bytes`, of which the reactor is the first member, zeroed, with its wake descriptor,
 * and `features` less those forced off granted. 0, or -errno with a line in `why`, also where a
 * feature forced on is not in `features`. Undone by weir__reactor_close(), or by
 * weir__reactor_abandon() while the poller has nothing yet. */
int weir__reactor_open(struct weir__reactor **reactor, size_t bytes,
                       const struct weir__engine_ops *ops, const struct weir__poller_ops *poller,
                       struct weir__engine_env *env, const struct weir__engine_options *options,
                       uint64_t features, char *why, size_t why_bytes);
void weir__reactor_abandon(struct weir__reactor *reactor);

/* Serves a descriptor ready in `events` (WEIR__IN, …; an error or hang-up counts as both).
 * Completes ops: any record may change meanwhile, and this one may have become another
 * descriptor's. */
void weir__reactor_deliver(struct weir__reactor *reactor, int fd, struct weir__watch *watch,
                           unsigned events);
/* The descriptor is not open: its ops complete with `error` (-EBADF), its record starts anew. */
void weir__reactor_fail(struct weir__reactor *reactor, int fd, struct weir__watch *watch,
                        int error);
/* The wake descriptor was seen ready; `drain`: it must be read to become quiet. */
void weir__reactor_woken(struct weir__reactor *reactor, bool drain);

/* Descriptors to serve in this turn: no more than there are buffers for, so that what is ready
 * waits in the kernel for the next turn instead of completing with -ENOBUFS. At least 1. */
static inline int weir__reactor_turn_events(const struct weir__reactor *reactor)
{
    const struct weir__buf_pool *bufs = reactor->engine.env->bufs;
    uint32_t spare = bufs->free_count > bufs->reserve ? bufs->free_count - bufs->reserve : 0;
    return spare && spare < WEIR__TURN_EVENTS ? (int)spare : WEIR__TURN_EVENTS;
}

/* Time left until the deadline, never negative; NULL for WEIR__FOREVER. */
const struct timespec *weir__reactor_time_left(uint64_t deadline_ns, struct timespec *left);

/* --- between reactor.c and perform.c ---------------------------------------------------------- */

/* Try an op of this kind without blocking. True when it is finished, with op->res set; false when
 * the descriptor is not ready. */
bool weir__perform_send(struct weir__reactor *reactor, struct weir__op *op);
bool weir__perform_connect(struct weir__op *op);
bool weir__perform_connect_ready(struct weir__op *op);
bool weir__perform_poll(struct weir__op *op);
/* Forgets the op and completes it, without MORE. */
void weir__reactor_finish(struct weir__reactor *reactor, struct weir__watch *watch,
                          struct weir__op *op, int32_t res);
/* Serve the record's input op, which is ready. */
void weir__perform_recv(struct weir__reactor *reactor, struct weir__watch *watch,
                        struct weir__op *op);
void weir__perform_recvmsg(struct weir__reactor *reactor, struct weir__watch *watch,
                           struct weir__op *op);
void weir__perform_accept(struct weir__reactor *reactor, struct weir__watch *watch,
                          struct weir__op *op);

#endif
