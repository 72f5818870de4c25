/* Mutex, condition and read-write lock; see weir/sync.h. */
#include "core/park.h"

/* ---- mutex ----------------------------------------------------------------------------------- */

void weir_mutex_init(struct weir_mutex *mutex, unsigned flags)
{
    *mutex = (struct weir_mutex){0};
    weir__sync_init(&mutex->sync, flags);
}

void weir_mutex_deinit(struct weir_mutex *mutex)
{
    weir__sync_lock(&mutex->sync);
    assert(!mutex->owner && "weir_mutex_deinit: a task holds it");
    assert(!mutex->waiters.head && "weir_mutex_deinit: a task waits for it");
    weir__sync_unlock(&mutex->sync);
    weir__sync_deinit(&mutex->sync);
}

static __attribute__((noinline)) int lock_or_wait(struct weir_mutex *mutex, struct weir_task *task,
                                                  uint64_t deadline_ns)
{
    struct weir__waiter waiter = {.task = task};

    weir__sync_enter(&mutex->sync);
    assert(mutex->owner != task && "weir_mutex_lock: the task holds it already");
    int res = mutex->owner ? weir__task_check(task) : 0;
    if (res || !mutex->owner) {
        if (!res)
            mutex->owner = task;
        weir__sync_unlock(&mutex->sync);
        return res;
    }
    weir__queue_push(&mutex->waiters, &mutex->sync, &waiter);
    return weir__park(&waiter, WEIR__PARK_MUTEX, deadline_ns);
}

int weir_mutex_lock(struct weir_mutex *mutex, uint64_t deadline_ns)
{
    struct weir_loop *loop = weir__running_loop;

    if (weir__likely(loop && mutex->sync.loop == loop && loop->task && !mutex->owner)) {
        mutex->owner = loop->task;
        return 0;
    }
    return lock_or_wait(mutex, weir__task_needed("weir_mutex_lock"), deadline_ns);
}

int weir_mutex_try_lock(struct weir_mutex *mutex)
{
    struct weir_task *task = weir__task_needed("weir_mutex_try_lock");

    weir__sync_enter(&mutex->sync);
    bool is_free = !mutex->owner;
    if (is_free)
        mutex->owner = task;
    weir__sync_unlock(&mutex->sync);
    return is_free ? 0 : -EBUSY;
}

/* Nobody holds it: the first in line does, and ends its wait with what that is to end with. */
static void pass_on(struct weir_mutex *mutex, struct weir__grants *grants)
{
    struct weir__waiter *waiter = weir__queue_take(&mutex->waiters);

    mutex->owner = waiter ? waiter->task : NULL;
    if (waiter)
        weir__grant(grants, waiter, waiter->res);
}

static __attribute__((noinline)) void unlock_and_wake(struct weir_mutex *mutex,
                                                      struct weir_task *task)
{
    struct weir__grants grants = {0};

    weir__sync_enter(&mutex->sync);
    assert(mutex->owner == task && "weir_mutex_unlock: the task does not hold it");
    pass_on(mutex, &grants);
    weir__sync_leave(&mutex->sync, &grants);
}

void weir_mutex_unlock(struct weir_mutex *mutex)
{
    const struct weir_loop *loop = mutex->sync.loop;

    /* Of one loop, on its thread, by the task that runs and holds it, and nobody waits. */
    if (weir__likely(loop && loop == weir__running_loop && mutex->owner &&
                     mutex->owner == loop->task && !mutex->waiters.head))
        mutex->owner = NULL;
    else
        unlock_and_wake(mutex, weir__task_needed("weir_mutex_unlock"));
}

/* ---- condition ------------------------------------------------------------------------------- */

void weir_cond_init(struct weir_cond *cond, struct weir_mutex *mutex)
{
    *cond = (struct weir_cond){.mutex = mutex};
}

void weir_cond_deinit(struct weir_cond *cond)
{
    weir__sync_lock(&cond->mutex->sync);
    assert(!cond->waiters.head && "weir_cond_deinit: a task waits for it");
    weir__sync_unlock(&cond->mutex->sync);
}

/* Its wait for the condition is over, with `res`, and the one for the mutex begins. So a broadcast
 * wakes one task at a time, each when it has the mutex. */
static void wants_mutex(struct weir_mutex *mutex, struct weir__waiter *waiter, int res,
                        struct weir__grants *grants)
{
    waiter->res = res;
    weir__queue_push(&mutex->waiters, &mutex->sync, waiter);
    if (!mutex->owner)
        pass_on(mutex, grants);
}

void weir__cond_unwait(struct weir_task *task, int why)
{
    struct weir__waiter *waiter = task->object;
    struct weir_mutex *mutex = weir__container(waiter->sync, struct weir_mutex, sync);
    struct weir__grants grants = {0};

    weir__sync_lock(&mutex->sync);
    bool granted = !waiter->queue, signalled = waiter->queue == &mutex->waiters;
    if (!granted && (!signalled || task->loop->failed))
        weir__queue_remove(waiter);
    if (!granted && !signalled && !task->loop->failed)
        wants_mutex(mutex, waiter, why, &grants);
    weir__sync_leave(&mutex->sync, &grants);
}

int weir_cond_wait(struct weir_cond *cond, uint64_t deadline_ns)
{
    struct weir_task *task = weir__task_needed("weir_cond_wait");
    struct weir_mutex *mutex = cond->mutex;
    struct weir__waiter waiter = {.task = task};
    struct weir__grants grants = {0};
    int res = weir__task_check(task);

    weir__sync_enter(&mutex->sync);
    assert(mutex->owner == task && "weir_cond_wait: the task does not hold the mutex");
    if (res) {
        weir__sync_unlock(&mutex->sync);
        return res;
    }
    weir__queue_push(&cond->waiters, &mutex->sync, &waiter);
    pass_on(mutex, &grants);
    weir__sync_leave(&mutex->sync, &grants);
    return weir__park_unguarded(task, &waiter, WEIR__PARK_COND, deadline_ns);
}

void weir_cond_signal(struct weir_cond *cond)
{
    struct weir_mutex *mutex = cond->mutex;
    struct weir__grants grants = {0};

    weir__sync_enter(&mutex->sync);
    struct weir__waiter *waiter = weir__queue_take(&cond->waiters);
    if (waiter)
        wants_mutex(mutex, waiter, 0, &grants);
    weir__sync_leave(&mutex->sync, &grants);
}

void weir_cond_broadcast(struct weir_cond *cond)
{
    struct weir_mutex *mutex = cond->mutex;
    struct weir__grants grants = {0};
    struct weir__waiter *waiter;

    weir__sync_enter(&mutex->sync);
    while ((waiter = weir__queue_take(&cond->waiters)))
        wants_mutex(mutex, waiter, 0, &grants);
    weir__sync_leave(&mutex->sync, &grants);
}

/* ---- read-write lock ------------------------------------------------------------------------- */

void weir_rwlock_init(struct weir_rwlock *lock, unsigned flags)
{
    *lock = (struct weir_rwlock){0};
    weir__sync_init(&lock->sync, flags);
}

void weir_rwlock_deinit(struct weir_rwlock *lock)
{
    weir__sync_lock(&lock->sync);
    assert(!lock->readers && !lock->writer && "weir_rwlock_deinit: a task holds it");
    assert(!lock->waiters.head && "weir_rwlock_deinit: a task waits for it");
    weir__sync_unlock(&lock->sync);
    weir__sync_deinit(&lock->sync);
}

static bool may_have(const struct weir_rwlock *lock, bool to_write)
{
    return !lock->writer && !(to_write && lock->readers);
}

static void hold(struct weir_rwlock *lock, struct weir_task *task, bool to_write)
{
    if (to_write)
        lock->writer = task;
    else
        lock->readers++;
}

/* To those in line who may have it, up to the first who may not. */
static void rwlock_pass_on(struct weir_rwlock *lock, struct weir__grants *grants)
{
    struct weir__waiter *waiter;

    while ((waiter = lock->waiters.head) && may_have(lock, waiter->writes)) {
        weir__queue_remove(waiter);
        hold(lock, waiter->task, waiter->writes);
        weir__grant(grants, waiter, 0);
    }
}

/* A writer that leaves the line lets those behind it read. */
void weir__rwlock_unwait(struct weir_task *task, int why)
{
    struct weir__waiter *waiter = task->object;
    struct weir_rwlock *lock = weir__container(waiter->sync, struct weir_rwlock, sync);
    struct weir__grants grants = {0};

    weir__sync_lock(&lock->sync);
    if (waiter->queue) {
        weir__queue_remove(waiter);
        weir__task_wake(task, why);
        rwlock_pass_on(lock, &grants);
    }
    weir__sync_leave(&lock->sync, &grants);
}

static int rwlock_try(struct weir_rwlock *lock, struct weir_task *task, bool to_write)
{
    if (lock->waiters.head || !may_have(lock, to_write))
        return -EBUSY;
    hold(lock, task, to_write);
    return 0;
}

static int rwlock_lock(struct weir_rwlock *lock, bool to_write, uint64_t deadline_ns)
{
    struct weir_task *task = weir__task_needed("weir_rwlock_*_lock");
    struct weir__waiter waiter = {.task = task, .writes = to_write};

    weir__sync_enter(&lock->sync);
    assert(lock->writer != task && "weir_rwlock_*_lock: the task writes already");
    int res = rwlock_try(lock, task, to_write);
    if (res && !weir__task_check(task)) {
        weir__queue_push(&lock->waiters, &lock->sync, &waiter);
        return weir__park(&waiter, WEIR__PARK_RWLOCK, deadline_ns);
    }
    weir__sync_unlock(&lock->sync);
    return res ? weir__task_check(task) : 0;
}

static int rwlock_try_lock(struct weir_rwlock *lock, bool to_write)
{
    struct weir_task *task = weir__task_needed("weir_rwlock_try_*_lock");

    weir__sync_enter(&lock->sync);
    int res = rwlock_try(lock, task, to_write);
    weir__sync_unlock(&lock->sync);
    return res;
}

int weir_rwlock_read_lock(struct weir_rwlock *lock, uint64_t deadline_ns)
{
    return rwlock_lock(lock, false, deadline_ns);
}

int weir_rwlock_write_lock(struct weir_rwlock *lock, uint64_t deadline_ns)
{
    return rwlock_lock(lock, true, deadline_ns);
}

int weir_rwlock_try_read_lock(struct weir_rwlock *lock)
{
    return rwlock_try_lock(lock, false);
}

int weir_rwlock_try_write_lock(struct weir_rwlock *lock)
{
    return rwlock_try_lock(lock, true);
}

void weir_rwlock_read_unlock(struct weir_rwlock *lock)
{
    struct weir__grants grants = {0};

    weir__sync_enter(&lock->sync);
    assert(lock->readers && "weir_rwlock_read_unlock: nobody reads");
    if (--lock->readers == 0)
        rwlock_pass_on(lock, &grants);
    weir__sync_leave(&lock->sync, &grants);
}

void weir_rwlock_write_unlock(struct weir_rwlock *lock)
{
    struct weir_task *task = weir__task_needed("weir_rwlock_write_unlock");
    struct weir__grants grants = {0};

    weir__sync_enter(&lock->sync);
    assert(lock->writer == task && "weir_rwlock_write_unlock: the task does not write");
    lock->writer = NULL;
    rwlock_pass_on(lock, &grants);
    weir__sync_leave(&lock->sync, &grants);
}
