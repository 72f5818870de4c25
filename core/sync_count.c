/* Semaphore and wait group; see weir/sync.h. */
#include "core/park.h"

/* ---- semaphore: tasks wait only while the count is 0 ------------------------------------------
 */

void weir_sem_init(struct weir_sem *sem, uint32_t count, unsigned flags)
{
    *sem = (struct weir_sem){.count = count};
    weir__sync_init(&sem->sync, flags);
}

void weir_sem_deinit(struct weir_sem *sem)
{
    weir__sync_lock(&sem->sync);
    assert(!sem->waiters.head && "weir_sem_deinit: a task waits for it");
    weir__sync_unlock(&sem->sync);
    weir__sync_deinit(&sem->sync);
}

int weir_sem_wait(struct weir_sem *sem, uint64_t deadline_ns)
{
    struct weir_task *task = weir__task_needed("weir_sem_wait");
    struct weir__waiter waiter = {.task = task};

    weir__sync_enter(&sem->sync);
    int res = sem->count ? 0 : weir__task_check(task);
    if (sem->count || res) {
        sem->count -= !res;
        weir__sync_unlock(&sem->sync);
        return res;
    }
    weir__queue_push(&sem->waiters, &sem->sync, &waiter);
    return weir__park(&waiter, WEIR__PARK_SEM, deadline_ns);
}

int weir_sem_try_wait(struct weir_sem *sem)
{
    weir__sync_enter(&sem->sync);
    int res = sem->count ? 0 : -EAGAIN;
    sem->count -= !res;
    weir__sync_unlock(&sem->sync);
    return res;
}

void weir_sem_post(struct weir_sem *sem, uint32_t count)
{
    struct weir__grants grants = {0};
    struct weir__waiter *waiter;

    weir__sync_enter(&sem->sync);
    assert(count <= UINT32_MAX - sem->count && "weir_sem_post: more than 2^32 - 1");
    for (; count && (waiter = weir__queue_take(&sem->waiters)); count--)
        weir__grant(&grants, waiter, 0);
    sem->count += count;
    weir__sync_leave(&sem->sync, &grants);
}

/* ---- wait group ------------------------------------------------------------------------------ */

void weir_wait_group_init(struct weir_wait_group *group, unsigned flags)
{
    *group = (struct weir_wait_group){0};
    weir__sync_init(&group->sync, flags);
}

void weir_wait_group_deinit(struct weir_wait_group *group)
{
    weir__sync_lock(&group->sync);
    assert(!group->count && "weir_wait_group_deinit: not all is done");
    weir__sync_unlock(&group->sync);
    weir__sync_deinit(&group->sync);
}

void weir_wait_group_add(struct weir_wait_group *group, uint32_t count)
{
    weir__sync_enter(&group->sync);
    assert(count <= UINT32_MAX - group->count && "weir_wait_group_add: more than 2^32 - 1");
    group->count += count;
    weir__sync_unlock(&group->sync);
}

void weir_wait_group_done(struct weir_wait_group *group)
{
    struct weir__grants grants = {0};
    struct weir__waiter *waiter;

    weir__sync_enter(&group->sync);
    assert(group->count && "weir_wait_group_done: more than were added");
    if (--group->count == 0)
        while ((waiter = weir__queue_take(&group->waiters)))
            weir__grant(&grants, waiter, 0);
    weir__sync_leave(&group->sync, &grants);
}

int weir_wait_group_wait(struct weir_wait_group *group, uint64_t deadline_ns)
{
    struct weir_task *task = weir__task_needed("weir_wait_group_wait");
    struct weir__waiter waiter = {.task = task};

    weir__sync_enter(&group->sync);
    int res = group->count ? weir__task_check(task) : 0;
    if (!group->count || res) {
        weir__sync_unlock(&group->sync);
        return res;
    }
    weir__queue_push(&group->waiters, &group->sync, &waiter);
    return weir__park(&waiter, WEIR__PARK_WAIT_GROUP, deadline_ns);
}
