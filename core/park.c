/* How tasks wait for each other; see core/park.h. */
#include "core/park.h"

void weir__sync_init(struct weir__sync *sync, unsigned flags)
{
    assert(!(flags & ~(unsigned)WEIR_ACROSS) && "init of a mutex, channel…: unknown flags");
    *sync = (struct weir__sync){.across = flags & WEIR_ACROSS};
    if (sync->across)
        pthread_mutex_init(&sync->guard, NULL);
}

void weir__sync_deinit(struct weir__sync *sync)
{
    if (sync->across)
        pthread_mutex_destroy(&sync->guard);
}

void weir__sync_bind(struct weir__sync *sync)
{
    if (!sync->loop) /* also where no loop runs yet: then it is not bound */
        sync->loop = weir__running_loop;
    assert(sync->loop == weir__running_loop &&
           "a mutex, channel… of one loop is used on another thread: it wants WEIR_ACROSS");
}

/* ---- the queue ------------------------------------------------------------------------------- */

/* Whether the caller is the first: who grants it, or its task. */
static bool claim(struct weir__waiter *waiter)
{
    if (waiter->select)
        return weir__select_claim(waiter);
    return !waiter->across || !atomic_exchange(&waiter->taken, true);
}

struct weir__waiter *weir__queue_take(struct weir__queue *queue)
{
    struct weir__waiter *waiter, *next;

    for (waiter = queue->head; waiter; waiter = next) {
        bool claimed = claim(waiter);
        next = waiter->next;
        if (claimed || !waiter->across)
            weir__queue_remove(waiter);
        if (claimed)
            break;
    }
    return waiter;
}

/* ---- granting -------------------------------------------------------------------------------- */

static void granted(struct weir_post *post)
{
    struct weir__waiter *waiter = weir__container(post, struct weir__waiter, post);

    weir__task_wake(waiter->task, waiter->res);
}

void weir__grant(struct weir__grants *grants, struct weir__waiter *waiter, int res)
{
    struct weir_loop *loop = waiter->task->loop;

    waiter->res = res;
    if (!waiter->sync->across || loop == weir__running_loop) {
        weir__task_wake(waiter->task, res);
        return;
    }
    /* It waits until it gets the message, and its loop for that; but a loop whose engine broke is
     * freed without. */
    atomic_fetch_add(&loop->callers, 1);
    waiter->next = NULL;
    if (grants->tail)
        grants->tail->next = waiter;
    else
        grants->head = waiter;
    grants->tail = waiter;
}

void weir__grants_wake(struct weir__grants *grants)
{
    struct weir__waiter *waiter, *next;

    for (waiter = grants->head; waiter; waiter = next) {
        struct weir_loop *loop = waiter->task->loop;
        next = waiter->next; /* the record may be gone with the message */
        waiter->post.fn = granted;
        weir_post(loop, &waiter->post); /* -ESHUTDOWN: its engine broke, see weir/sync.h */
        atomic_fetch_sub(&loop->callers, 1);
    }
}

/* ---- waiting --------------------------------------------------------------------------------- */

static void leave_queue(struct weir_task *task, int why)
{
    struct weir__waiter *waiter = task->object;
    struct weir__sync *sync = waiter->sync;

    if (!claim(waiter))
        return;
    weir__sync_lock(sync);
    weir__queue_remove(waiter);
    weir__sync_unlock(sync);
    weir__task_wake(task, why);
}

static const struct weir__wait kinds[WEIR__PARK_KINDS] = {
    [WEIR__PARK_MUTEX] = {"for a mutex", leave_queue},
    [WEIR__PARK_COND] = {"for a condition", weir__cond_unwait},
    [WEIR__PARK_RWLOCK] = {"for a read-write lock", weir__rwlock_unwait},
    [WEIR__PARK_SEM] = {"for a semaphore", leave_queue},
    [WEIR__PARK_WAIT_GROUP] = {"for a wait group", leave_queue},
    [WEIR__PARK_ONCE] = {"for what is done once", leave_queue},
    [WEIR__PARK_FLIGHT] = {"for what another task fetches", leave_queue},
    [WEIR__PARK_SEND] = {"for room in a channel", leave_queue},
    [WEIR__PARK_RECV] = {"for a message of a channel", leave_queue},
    [WEIR__PARK_SELECT] = {"for one of several", weir__select_unwait},
};

int weir__park_unguarded(struct weir_task *task, void *object, enum weir__park_kind kind,
                         uint64_t deadline_ns)
{
    return weir__task_wait(task, &kinds[kind], object, deadline_ns);
}

int weir__park(struct weir__waiter *waiter, enum weir__park_kind kind, uint64_t deadline_ns)
{
    weir__sync_unlock(waiter->sync);
    return weir__park_unguarded(waiter->task, waiter, kind, deadline_ns);
}

bool weir__task_selects(const struct weir_task *task)
{
    return task->wait == &kinds[WEIR__PARK_SELECT];
}

void weir__parked_abandon(struct weir_loop *loop)
{
    for (struct weir_task *task = loop->tasks; task; task = task->older) {
        if (task->select)
            weir__select_abandon(task->select);
        if (task->wait >= kinds && task->wait < kinds + WEIR__PARK_KINDS)
            task->wait->unwait(task, -ECANCELED);
    }
}
