/*
 * Waits of tasks for each other: what sync_*.c, channel.c and select.c are made of.
 *
 * A task that waits has a record on its own stack, and that is in the queue of what it waits for.
 * Who has something to give takes the first record out of the queue, under the guard if tasks of
 * several loops are concerned: from then on that task has it. A cancel or a deadline takes the
 * record out in the same way, so the first of the two wins and nothing is lost or given twice. A
 * task of another thread's loop is woken by a message to its loop, which lies in the record, too.
 *
 * What a task waited for may be gone as soon as it was granted something, before it runs: whoever
 * closes a channel may free it. So between tasks of several loops the two first agree, by `taken`
 * or a select's claim, and the task touches only what its record is still in the queue of.
 */
#ifndef WEIR_CORE_PARK_H
#define WEIR_CORE_PARK_H

#include "core/loop.h"

struct weir__select;

struct weir__waiter {
    struct weir__waiter *next, *before; /* in the queue; `next` alone: of those granted */
    struct weir__queue *queue;          /* NULL: not in it (any more) */
    struct weir__sync *sync;            /* whose queue that is */
    struct weir_task *task;
    struct weir__select *select; /* NULL, or the wait that this is a part of */
    void *element;               /* a channel's: from where or to where */
    struct weir_post post;       /* to the task's loop */
    int res;                     /* of the wait, once granted */
    atomic_bool taken; /* across: by who grants it, or by its task, which then leaves the queue */
    bool across;       /* as of `sync` */
    bool writes;       /* a read-write lock's */
};

/* Those to be woken on other threads once the guard is free. */
struct weir__grants {
    struct weir__waiter *head, *tail;
};

void weir__sync_init(struct weir__sync *sync, unsigned flags);
void weir__sync_deinit(struct weir__sync *sync);
/* Binds what belongs to one loop to the one that runs, or asserts that it is that. */
void weir__sync_bind(struct weir__sync *sync);

static inline void weir__sync_lock(struct weir__sync *sync)
{
    if (sync->across)
        pthread_mutex_lock(&sync->guard);
}

static inline void weir__sync_unlock(struct weir__sync *sync)
{
    if (sync->across)
        pthread_mutex_unlock(&sync->guard);
}

/* Whether it belongs to the loop that runs: then there is nothing to lock. */
static inline bool weir__sync_is_here(const struct weir__sync *sync)
{
    return weir__likely(sync->loop == weir__running_loop && sync->loop);
}

/* Begins every call of a primitive; weir__sync_unlock() or weir__sync_leave() ends it. */
static inline void weir__sync_enter(struct weir__sync *sync)
{
    if (sync->across)
        pthread_mutex_lock(&sync->guard);
    else if (!weir__sync_is_here(sync))
        weir__sync_bind(sync);
}

void weir__grants_wake(struct weir__grants *grants);

static inline void weir__sync_leave(struct weir__sync *sync, struct weir__grants *grants)
{
    weir__sync_unlock(sync);
    if (weir__unlikely(grants->head))
        weir__grants_wake(grants);
}

/* Puts the record at the end of the queue: before weir__park(). */
static inline void weir__queue_push(struct weir__queue *queue, struct weir__sync *sync,
                                    struct weir__waiter *waiter)
{
    assert(!waiter->queue);
    waiter->queue = queue;
    waiter->sync = sync;
    waiter->across = sync->across;
    atomic_store_explicit(&waiter->taken, false, memory_order_relaxed);
    waiter->next = NULL;
    waiter->before = queue->tail;
    if (queue->tail)
        queue->tail->next = waiter;
    else
        queue->head = waiter;
    queue->tail = waiter;
}

static inline void weir__queue_remove(struct weir__waiter *waiter)
{
    struct weir__queue *queue = waiter->queue;

    assert(queue);
    if (waiter->before)
        waiter->before->next = waiter->next;
    else
        queue->head = waiter->next;
    if (waiter->next)
        waiter->next->before = waiter->before;
    else
        queue->tail = waiter->before;
    waiter->queue = NULL;
}

/* Takes the first out that waits still, or NULL: it is to be granted then. One that does not, and
 * is another thread's, is left for that to remove. */
struct weir__waiter *weir__queue_take(struct weir__queue *queue);
/* Ends its wait with `res`: at once, or where it is another thread's by weir__sync_leave(). */
void weir__grant(struct weir__grants *grants, struct weir__waiter *waiter, int res);

/* What tasks wait for; the names are core/park.c's. */
enum weir__park_kind {
    WEIR__PARK_MUTEX,
    WEIR__PARK_COND,
    WEIR__PARK_RWLOCK,
    WEIR__PARK_SEM,
    WEIR__PARK_WAIT_GROUP,
    WEIR__PARK_ONCE,
    WEIR__PARK_FLIGHT,
    WEIR__PARK_SEND,
    WEIR__PARK_RECV,
    WEIR__PARK_SELECT,
    WEIR__PARK_KINDS
};

/* Ends weir__sync_enter(), and waits in the task until the record, which is queued, is granted. */
int weir__park(struct weir__waiter *waiter, enum weir__park_kind kind, uint64_t deadline_ns);
/* The same where no guard is held; `object` is for the kind's unwait. */
int weir__park_unguarded(struct weir_task *task, void *object, enum weir__park_kind kind,
                         uint64_t deadline_ns);
/* The running task, for a call that may wait; asserts with its name that there is one. */
#define weir__task_needed(name)                                                                    \
    ({                                                                                             \
        struct weir_loop *loop_ = weir__running_loop;                                              \
        struct weir_task *task_ = loop_ ? loop_->task : NULL;                                      \
        assert(task_ &&name ": not in a task");                                                    \
        task_;                                                                                     \
    })

/* For weir__wait.unwait, of those kinds that need more than to leave the queue. */
void weir__cond_unwait(struct weir_task *task, int why);
void weir__rwlock_unwait(struct weir_task *task, int why);
void weir__select_unwait(struct weir_task *task, int why);
/* Whether the record, which weir__queue_take() found, is still to be had. */
bool weir__select_claim(struct weir__waiter *waiter);
bool weir__task_selects(const struct weir_task *task);
/* There is input on the connection the task waits for among others. */
void weir__select_input(struct weir_task *task);
/* The task does not run again: takes it out of the lines of channels. */
void weir__select_abandon(struct weir__select *select);

/* recv.c. weir_recv_until() would not wait. */
bool weir__conn_has_input(const struct weir_conn *conn);
/* Asserts that the task may wait for input. */
void weir__conn_check_watch(const struct weir_conn *conn, const struct weir_task *task);
/* From now on input calls weir__select_input(), once; unless it is there: false. */
bool weir__conn_watch(struct weir_conn *conn, struct weir_task *task);
/* -ESHUTDOWN: it has closed, and is not to be touched any more. */
int weir__conn_unwatch(struct weir_conn *conn, struct weir_task *task);

/* The loop's engine broke, and none of its tasks runs again: other loops must not reach them. */
void weir__parked_abandon(struct weir_loop *loop);

#endif
