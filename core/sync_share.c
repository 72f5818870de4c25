/* Once and single-flight: one task runs, the others wait for what comes of it; see weir/sync.h. */
#include "core/park.h"

enum once_state { NOT_YET, RUNNING, DONE };

/* The next in line is to run its own: its `element` says so. */
static struct weir_task *next_turn(struct weir__queue *waiters, struct weir__grants *grants)
{
    struct weir__waiter *waiter = weir__queue_take(waiters);

    if (!waiter)
        return NULL;
    struct weir_task *task = waiter->task;
    waiter->element = waiter;
    weir__grant(grants, waiter, 0);
    return task;
}

static void share(struct weir__queue *waiters, int result, struct weir__grants *grants)
{
    struct weir__waiter *waiter;

    while ((waiter = weir__queue_take(waiters)))
        weir__grant(grants, waiter, result);
}

/* Waits behind the runner. 1: it is the task's turn; 0: *result is what it gets. Ends the call's
 * weir__sync_enter(). */
static int wait_in_line(struct weir__sync *sync, struct weir__queue *waiters,
                        enum weir__park_kind kind, uint64_t deadline_ns, int *result)
{
    struct weir_task *task = weir_task_self();
    struct weir__waiter waiter = {.task = task};

    *result = weir__task_check(task);
    if (*result) {
        weir__sync_unlock(sync);
        return 0;
    }
    weir__queue_push(waiters, sync, &waiter);
    *result = weir__park(&waiter, kind, deadline_ns);
    return waiter.element != NULL;
}

/* ---- once ------------------------------------------------------------------------------------ */

void weir_once_init(struct weir_once *once, unsigned flags)
{
    *once = (struct weir_once){.state = NOT_YET};
    weir__sync_init(&once->sync, flags);
}

void weir_once_deinit(struct weir_once *once)
{
    weir__sync_lock(&once->sync);
    assert(once->state != RUNNING && "weir_once_deinit: a task runs it");
    weir__sync_unlock(&once->sync);
    weir__sync_deinit(&once->sync);
}

static int once_ran(struct weir_once *once, int result)
{
    struct weir__grants grants = {0};

    weir__sync_enter(&once->sync);
    if (result >= 0) {
        once->result = result;
        once->runner = NULL;
        __atomic_store_n(&once->state, DONE, __ATOMIC_RELEASE);
        share(&once->waiters, result, &grants);
    } else {
        once->runner = next_turn(&once->waiters, &grants);
        if (!once->runner)
            __atomic_store_n(&once->state, NOT_YET, __ATOMIC_RELAXED);
    }
    weir__sync_leave(&once->sync, &grants);
    return result;
}

int weir_once_run(struct weir_once *once, weir_once_fn *fn, void *argument, uint64_t deadline_ns)
{
    struct weir_task *task = weir__task_needed("weir_once_run");
    int result;

    assert(fn);
    if (once->sync.across && __atomic_load_n(&once->state, __ATOMIC_ACQUIRE) == DONE)
        return once->result;
    weir__sync_enter(&once->sync);
    assert(once->runner != task && "weir_once_run: from within what it runs");
    if (once->state == DONE) {
        weir__sync_unlock(&once->sync);
        return once->result;
    }
    if (once->state == RUNNING) {
        if (!wait_in_line(&once->sync, &once->waiters, WEIR__PARK_ONCE, deadline_ns, &result))
            return result;
    } else {
        __atomic_store_n(&once->state, RUNNING, __ATOMIC_RELAXED);
        once->runner = task;
        weir__sync_unlock(&once->sync);
    }
    return once_ran(once, fn(argument));
}

/* ---- single-flight --------------------------------------------------------------------------- */

void weir_flight_init(struct weir_flight *flight, unsigned flags)
{
    *flight = (struct weir_flight){0};
    weir__sync_init(&flight->sync, flags);
}

void weir_flight_deinit(struct weir_flight *flight)
{
    weir__sync_lock(&flight->sync);
    assert(!flight->runner && "weir_flight_deinit: a task runs it");
    weir__sync_unlock(&flight->sync);
    weir__sync_deinit(&flight->sync);
}

static int flight_ran(struct weir_flight *flight, const struct weir_task *task, int result)
{
    struct weir__grants grants = {0};

    weir__sync_enter(&flight->sync);
    if (result < 0 && weir__task_check(task)) {
        flight->runner = next_turn(&flight->waiters, &grants);
    } else {
        flight->runner = NULL;
        share(&flight->waiters, result, &grants);
    }
    weir__sync_leave(&flight->sync, &grants);
    return result;
}

int weir_flight_run(struct weir_flight *flight, weir_once_fn *fn, void *argument,
                    uint64_t deadline_ns)
{
    struct weir_task *task = weir__task_needed("weir_flight_run");
    int result;

    assert(fn);
    weir__sync_enter(&flight->sync);
    assert(flight->runner != task && "weir_flight_run: from within what it runs");
    if (flight->runner) {
        if (!wait_in_line(&flight->sync, &flight->waiters, WEIR__PARK_FLIGHT, deadline_ns, &result))
            return result;
    } else {
        flight->runner = task;
        weir__sync_unlock(&flight->sync);
    }
    return flight_ran(flight, task, fn(argument));
}
