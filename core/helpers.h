/*
 * Helper threads: a bounded pool, started on demand, that runs what would block the loop: the
 * user's blocking calls, and file ops of the reactors. Results come back to the loop as one
 * message.
 *
 * The loop's thread calls all of this; only the pool's own threads run elsewhere. Calls queue
 * beyond the threads, at most calls_max of them: then submit refuses with -EBUSY, and the runtime
 * tries again later.
 */
#ifndef WEIR_CORE_HELPERS_H
#define WEIR_CORE_HELPERS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/op.h"

struct weir__helpers {
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct weir__op *queue_head, *queue_tail; /* not begun */
    struct weir__op *done_head, *done_tail;   /* finished or taken back, not reaped */
    uint32_t queued, threads, idle, threads_max, queued_max;
    uint32_t held; /* submitted and not reaped; loop's thread only */
    bool ending;
    int (*notify)(void *argument); /* any thread: there is something to reap */
    void *argument;
    pthread_t *ids;
};

int weir__helpers_init(struct weir__helpers *helpers, uint32_t threads_max, uint32_t queued_max,
                       int (*notify)(void *argument), void *argument);
/* Joins the threads, when they have ended the calls that have begun. What is held still is not
 * reaped any more. */
void weir__helpers_deinit(struct weir__helpers *helpers);
/* An op for helpers. WEIR__QUEUED, -EBUSY when the queue is full, -EAGAIN when no thread
 * at all could be started. */
int weir__helpers_submit(struct weir__helpers *helpers, struct weir__op *op);
/* 1: it never ran and will be reaped with -ECANCELED; 0: too late. */
int weir__helpers_cancel(struct weir__helpers *helpers, struct weir__op *op);
/* Whether submit would refuse now. */
bool weir__helpers_full(struct weir__helpers *helpers);
/* Whether there is something to reap. */
bool weir__helpers_finished(struct weir__helpers *helpers);
/* Completes what has finished, on the loop's thread. How many. */
unsigned weir__helpers_reap(struct weir__helpers *helpers);

#endif
