/*
 * Tasks that wait for each other: mutex, condition, read-write lock, semaphore, wait group, once
 * and single-flight. Channels are in weir/channel.h.
 *
 *     struct weir_mutex mutex;
 *     weir_mutex_init(&mutex, 0);
 *     if (weir_mutex_lock(&mutex, weir_now_ns() + WEIR_SECOND) == 0) {
 *         ...                                        // may wait for other things meanwhile
 *         weir_mutex_unlock(&mutex);
 *     }
 *
 * All are memory of the caller, whose fields are weir's own. `flags` is 0 for what belongs to one
 * loop, the one that uses it first: then nothing is locked, and using it on another thread asserts.
 * With WEIR_ACROSS tasks of any loop may share it.
 *
 * Calls with a deadline (absolute, of weir_now_ns(); WEIR_FOREVER is none) wait, in a task only.
 * They give 0, -ETIME past the deadline, -ECANCELED when cancelled, and then have had no effect.
 * Where there is nothing to wait for they give 0, cancelled or not. They allocate nothing: who
 * waits is queued by a record on its own stack. A lock or token that was granted is had, though a
 * cancel or the deadline comes before its task runs. The other calls never wait; those of what is
 * WEIR_ACROSS are for any thread, in a task or not, but for those of locks: these are for tasks.
 *
 * Their memory may be used otherwise once no task waits, which the deinits assert: who was granted
 * something does not touch it any more, though its call has not returned yet. (A weir_select() is
 * in the lines of its other channels until its task runs.)
 *
 * Fairness: first come, first served, and what is given back goes to the first in line at once,
 * before any newcomer ("hand-off"). The other way, to let whoever runs take it ("barging"), is for
 * kernel threads, where a hand-off means a context switch in which the lock lies idle (Pizlo,
 * "Locking in WebKit", 2016); here the next in line is a run queue away, and no wait is longer than
 * the line. Across loops a hand-off does wake another thread: keep such sections short, or give the
 * data to one loop and send it messages.
 *
 * A loop whose engine broke runs no task any more: those that wait are out of the line, and what
 * its tasks held stays held.
 */
#ifndef WEIR_SYNC_H
#define WEIR_SYNC_H

#include <stdbool.h>
#include <stdint.h>

#include <weir/private.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct weir_task;

enum weir_sync_flags {
    WEIR_ACROSS = 1, /* tasks of several loops use it */
};

/* ---- mutex ----------------------------------------------------------------------------------- */

struct weir_mutex {
    struct weir__sync sync;
    struct weir_task *owner;
    struct weir__queue waiters;
};

void weir_mutex_init(struct weir_mutex *mutex, unsigned flags);
/* Asserts that nobody holds it or waits for it; as the other deinits do. */
void weir_mutex_deinit(struct weir_mutex *mutex);
/* Asserts that the task does not hold it already. 0, -ETIME, -ECANCELED. */
int weir_mutex_lock(struct weir_mutex *mutex, uint64_t deadline_ns);
/* 0, or -EBUSY. In a task. */
int weir_mutex_try_lock(struct weir_mutex *mutex);
/* By the task that holds it. */
void weir_mutex_unlock(struct weir_mutex *mutex);

/* ---- condition ------------------------------------------------------------------------------- */

/* Belongs to one mutex from the beginning. */
struct weir_cond {
    struct weir_mutex *mutex;
    struct weir__queue waiters;
};

void weir_cond_init(struct weir_cond *cond, struct weir_mutex *mutex);
void weir_cond_deinit(struct weir_cond *cond);
/* Unlocks the mutex, which the task holds, waits for a signal, and locks it again: it is held
 * whatever is returned. For that lock it waits as long as it takes, also past the deadline and when
 * cancelled. 0 after a signal: look at what you wait for, another task may have been first; there
 * are no wakes without one. -ETIME, -ECANCELED: no signal was used up. */
int weir_cond_wait(struct weir_cond *cond, uint64_t deadline_ns);
/* Wakes the first that waits, or all of them; nobody: no effect. The mutex need not be held. */
void weir_cond_signal(struct weir_cond *cond);
void weir_cond_broadcast(struct weir_cond *cond);

/* ---- read-write lock ------------------------------------------------------------------------- */

/* Many may read at a time, or one may write. Who wants to read waits behind who wanted to write
 * before: nobody starves, and a task that reads must not ask again, to read or to write: it would
 * wait for itself. */
struct weir_rwlock {
    struct weir__sync sync;
    uint32_t readers;
    struct weir_task *writer;
    struct weir__queue waiters;
};

void weir_rwlock_init(struct weir_rwlock *lock, unsigned flags);
void weir_rwlock_deinit(struct weir_rwlock *lock);
int weir_rwlock_read_lock(struct weir_rwlock *lock, uint64_t deadline_ns);
int weir_rwlock_write_lock(struct weir_rwlock *lock, uint64_t deadline_ns);
/* 0, or -EBUSY. In a task. */
int weir_rwlock_try_read_lock(struct weir_rwlock *lock);
int weir_rwlock_try_write_lock(struct weir_rwlock *lock);
/* Asserts that somebody reads; that it was not the caller goes unseen. */
void weir_rwlock_read_unlock(struct weir_rwlock *lock);
/* By the task that writes. */
void weir_rwlock_write_unlock(struct weir_rwlock *lock);

/* ---- semaphore ------------------------------------------------------------------------------- */

struct weir_sem {
    struct weir__sync sync;
    uint32_t count;
    struct weir__queue waiters;
};

void weir_sem_init(struct weir_sem *sem, uint32_t count, unsigned flags);
void weir_sem_deinit(struct weir_sem *sem);
/* Takes one: 0, -ETIME, -ECANCELED. */
int weir_sem_wait(struct weir_sem *sem, uint64_t deadline_ns);
/* 0, or -EAGAIN. */
int weir_sem_try_wait(struct weir_sem *sem);
/* Adds `count`; the sum must stay below 2^32, which is asserted. */
void weir_sem_post(struct weir_sem *sem, uint32_t count);

/* ---- wait group ------------------------------------------------------------------------------ */

/* Waits until a number of things are done. For tasks of one loop a scope (weir/scope.h) does that
 * and more. */
struct weir_wait_group {
    struct weir__sync sync;
    uint32_t count;
    struct weir__queue waiters;
};

void weir_wait_group_init(struct weir_wait_group *group, unsigned flags);
/* Also asserts that all is done. */
void weir_wait_group_deinit(struct weir_wait_group *group);
/* `count` more to wait for: before what is to be done begins. */
void weir_wait_group_add(struct weir_wait_group *group, uint32_t count);
/* One is done; more than were added asserts. The last wakes all that wait. */
void weir_wait_group_done(struct weir_wait_group *group);
int weir_wait_group_wait(struct weir_wait_group *group, uint64_t deadline_ns);

/* ---- once and single-flight ------------------------------------------------------------------ */

/* In a task: >= 0, or -errno. */
typedef int weir_once_fn(void *argument);

/* What is to be done once. */
struct weir_once {
    struct weir__sync sync;
    int state;
    int result;
    struct weir_task *runner; /* the task that runs it */
    struct weir__queue waiters;
};

void weir_once_init(struct weir_once *once, unsigned flags);
void weir_once_deinit(struct weir_once *once);
/* The first caller runs fn(argument), in its own task; who comes meanwhile waits. Once it gave
 * >= 0, all callers get that, now and later. Where it failed, and a cancel is one way to, its
 * caller gets the error, and the next in line runs its own fn. The deadline is for waiting in line:
 * what `fn` does has its own. Calling it from within `fn` asserts. */
int weir_once_run(struct weir_once *once, weir_once_fn *fn, void *argument, uint64_t deadline_ns);

/* What many want and one is to fetch: one of it for each key, for instance in the entry of a
 * cache. */
struct weir_flight {
    struct weir__sync sync;
    struct weir_task *runner;
    struct weir__queue waiters;
};

void weir_flight_init(struct weir_flight *flight, unsigned flags);
void weir_flight_deinit(struct weir_flight *flight);
/* Runs fn(argument) in the caller's task, unless a call of another task is under way: then it waits
 * for that and shares its result, an error, too. But where the task that runs it was itself
 * cancelled, or its scope has ended, no other shares that fate: the next in line runs its own fn.
 * A waiting caller that is cancelled leaves the line. The deadline is for waiting in line. */
int weir_flight_run(struct weir_flight *flight, weir_once_fn *fn, void *argument,
                    uint64_t deadline_ns);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
