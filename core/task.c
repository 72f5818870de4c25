/* Tasks: coroutines the loop runs, how they wait, and how a wait is cut short. */
#include "core/loop.h"

#include <errno.h>

void weir__task_runnable(struct weir_task *task)
{
    struct weir_loop *loop = task->loop;

    task->next = NULL;
    if (loop->run_tail)
        loop->run_tail->next = task;
    else
        loop->run_head = task;
    loop->run_tail = task;
}

void weir__task_wake(struct weir_task *task, int res)
{
    assert(task->wait);
    task->wait = NULL;
    task->wait_res = res;
    if (weir__timer_armed(&task->deadline))
        weir__timer_disarm(&task->loop->wheel, &task->deadline);
    weir__task_runnable(task);
}

void weir__task_interrupt(struct weir_task *task, int why)
{
    if (!task->wait || task->interrupted)
        return;
    task->interrupted = why;
    task->wait->unwait(task, why);
}

static void deadline_passed(struct weir__timer *timer)
{
    weir__task_interrupt(weir__container(timer, struct weir_task, deadline), -ETIME);
}

int weir__task_wait(struct weir_task *task, const struct weir__wait *wait, void *object,
                    uint64_t deadline_ns)
{
    assert(task == task->loop->task && !task->wait && wait);
    task->wait = wait;
    task->object = object;
    task->wait_since_ns = task->loop->now_ns;
    task->interrupted = 0;
    task->moved = true;
    task->unwaited = 0;
    weir__trace_task_wait(task, wait->name, object);
    if (deadline_ns != WEIR_FOREVER)
        weir__timer_arm(&task->loop->wheel, &task->deadline, deadline_ns);
    weir_coro_yield(NULL);
    assert(!task->wait);
    return task->wait_res;
}

/* ---- waiting for an op ----------------------------------------------------------------------- */

static void op_unwait(struct weir_task *task, int why)
{
    (void)why; /* op_done() reads task->interrupted */
    weir__cancel(task->loop, task->object);
}

const struct weir__wait weir__op_wait = {"for an op", op_unwait};

/* An op that a task waits for has the task behind it. */
struct waited_op {
    struct weir__op op;
    struct weir_task *task;
};

static void op_done(struct weir__op *op)
{
    struct weir_task *task = weir__container(op, struct waited_op, op)->task;
    int res = op->res;

    assert(!(op->flags & WEIR__OP_MORE));
    if (res == -ECANCELED && task->interrupted)
        res = task->interrupted;
    weir__task_wake(task, res);
}

static int submit_and_wait(struct weir_task *task, const struct weir__op *op,
                           const struct weir__wait *wait, uint64_t deadline_ns)
{
    struct waited_op waited = {.op = *op, .task = task};

    waited.op.done = op_done;
    if (weir__submit(task->loop, &waited.op) == WEIR__DONE) {
        weir__task_unwaited(task);
        return waited.op.res;
    }
    int res = weir__task_wait(task, wait, &waited.op, deadline_ns);
    assert(waited.op.state == WEIR__OP_IDLE);
    return res;
}

int weir__task_op(struct weir_task *task, struct weir__op *op, uint64_t deadline_ns)
{
    int res = weir__task_check(task);

    return res ? res : submit_and_wait(task, op, &weir__op_wait, deadline_ns);
}

void weir__goes_on_waiting(struct weir_task *task, int why)
{
    (void)task;
    (void)why;
}

const struct weir__wait weir__op_through_wait = {"for an op", weir__goes_on_waiting};

int weir__task_op_through(struct weir_task *task, struct weir__op *op)
{
    return submit_and_wait(task, op, &weir__op_through_wait, WEIR_FOREVER);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void task_main(void *argument)
{
    struct weir_task *task = argument;

    if (task->home) {
        int res = task->child(task->argument);
        if (task->locals_set)
            weir__locals_end(task);
        assert(task->scope == task->home && "a task ended with a scope open: close it first");
        weir__scope_left(task, res);
    } else {
        task->fn(task->argument);
        if (task->locals_set)
            weir__locals_end(task);
        assert(!task->scope && "a task ended with a scope open: close it first");
    }
    task->done = true;
}

static void task_free(struct weir_task *task)
{
    struct weir_loop *loop = task->loop;

    assert(task->done && !task->joiner);
    task->detached = true; /* who still has its handle, and joins again, is told so */
    weir__slab_put(&loop->task_slab, task->index);
}

static void task_ended(struct weir_task *task)
{
    struct weir_loop *loop = task->loop;

    if (task->newer)
        task->newer->older = task->older;
    else
        loop->tasks = task->older;
    if (task->older)
        task->older->newer = task->newer;
    loop->task_count--;
    if (task->joiner)
        weir__task_wake(task->joiner, 0);
    else if (task->detached)
        task_free(task);
}

bool weir__task_resume(struct weir_task *task)
{
    struct weir_loop *loop = task->loop;
    struct weir_task *before = loop->task;

    __atomic_store_n(&loop->task, task, __ATOMIC_RELAXED);
    weir__count(&loop->stats.resumes);
    weir__trace_task_resume(task);
    weir_coro_resume(task->coro, NULL);
    __atomic_store_n(&loop->task, before, __ATOMIC_RELAXED);
    if (!task->done) {
        weir__trace_task_suspend(task);
        return false;
    }
    weir__trace_task_end(task);
    task_ended(task);
    return true;
}

struct weir_task *weir__task_new(struct weir_loop *loop, weir_task_fn *fn, void *argument,
                                 const char *name, const char *place)
{
    uint32_t index;
    struct weir_task *task = weir__slab_get(&loop->task_slab, &index);

    if (!task)
        return NULL;
    /* Not all of it: a new record is zeroed, and one that was used is as a task that ended left it;
     * to clear the whole takes as long as a switch. */
    task->index = index;
    task->loop = loop;
    task->fn = fn;
    task->argument = argument;
    task->cut = loop->cut ? -ECANCELED : 0;
    task->cancelled = loop->cut;
    task->detached = true;
    task->done = task->moved = false;
    task->joiner = NULL;
    task->scope = task->home = NULL;
    task->deadline.fire = deadline_passed;
    assert(!task->wait && !weir__timer_armed(&task->deadline));
    if (weir_coro_new_at(loop->coros, &task->coro, task_main, task, name, place)) {
        weir__slab_put(&loop->task_slab, index);
        return NULL;
    }
    task->newer = NULL;
    task->older = loop->tasks;
    if (loop->tasks)
        loop->tasks->newer = task;
    loop->tasks = task;
    loop->task_count++;
    weir__trace_task_spawn(task, name, place);
    return task;
}

int weir_spawn_at(struct weir_loop *loop, struct weir_task **task_out, weir_task_fn *fn,
                  void *argument, const char *name, const char *place)
{
    assert(fn && "weir_spawn: no function");
    assert(weir__loop_here(loop) && "weir_spawn: a foreign thread; see weir_post()");
    if (loop->ended || loop->cut)
        return -ECANCELED;
    struct weir_task *task = weir__task_new(loop, fn, argument, name, place);
    if (!task)
        return -EAGAIN;
    task->detached = !task_out;
    if (task_out)
        *task_out = task;
    weir__task_runnable(task);
    return 0;
}

static void join_unwait(struct weir_task *task, int why)
{
    struct weir_task *joined = task->object;

    joined->joiner = NULL;
    weir__task_wake(task, why);
}

const struct weir__wait weir__join_wait = {"for a task to end", join_unwait};

int weir_join(struct weir_task *joined, uint64_t deadline_ns)
{
    struct weir_task *task = weir__task_here();

    assert(task && "weir_join: not in a task");
    assert(task->loop == joined->loop && "weir_join: a task of another loop");
    assert(task != joined && "weir_join: a task joins itself");
    assert(!joined->joiner && "weir_join: another task joins it");
    assert((joined->home || !joined->detached) && "weir_join: it is detached, or was joined");
    assert(!joined->home && "weir_join: a task of a scope ends with that");
    if (!joined->done) {
        int res = weir__task_check(task);
        if (res)
            return res;
        joined->joiner = task;
        res = weir__task_wait(task, &weir__join_wait, joined, deadline_ns);
        if (res)
            return res;
        joined->joiner = NULL;
    }
    task_free(joined);
    return 0;
}

void weir_task_cancel(struct weir_task *task)
{
    assert(weir__loop_here(task->loop) && "weir_task_cancel: a foreign thread; see weir_post()");
    if (task->done || task->cancelled)
        return;
    task->cancelled = true;
    task->moved = true; /* a burst runner that cancels itself: the others' handlers are not meant */
    weir__scope_reach(task);
}

void weir__tasks_cut(struct weir_loop *loop)
{
    for (struct weir_task *task = loop->tasks; task; task = task->older) {
        task->cancelled = true;
        task->moved = true;
        task->cut = -ECANCELED;
        weir__task_interrupt(task, -ECANCELED);
    }
}

struct weir_task *weir_task_self(void)
{
    return weir__task_here();
}

/* ---- waits for nothing but time -------------------------------------------------------------- */

static void sleep_unwait(struct weir_task *task, int why)
{
    weir__task_wake(task, why == -ETIME && !task->cut ? 0 : why);
}

static const struct weir__wait sleep_wait = {"for a time", sleep_unwait};

int weir_sleep_until(uint64_t deadline_ns)
{
    struct weir_task *task = weir__task_here();

    assert(task && "weir_sleep_until: not in a task");
    int res = weir__task_check(task);
    return res ? res : weir__task_wait(task, &sleep_wait, NULL, deadline_ns);
}

/* Not until the next turn, so that whoever yields in a loop leaves time for input, too. */
static void yielded(struct weir_task *task)
{
    struct weir_loop *loop = task->loop;

    task->next = NULL;
    if (loop->yielded_tail)
        loop->yielded_tail->next = task;
    else
        loop->yielded_head = task;
    loop->yielded_tail = task;
}

int weir_yield(void)
{
    struct weir_task *task = weir__task_here();

    assert(task && "weir_yield: not in a task");
    int res = weir__task_check(task);
    if (res)
        return res;
    task->moved = true;
    task->unwaited = 0;
    yielded(task);
    weir_coro_yield(NULL);
    return 0;
}

void weir__task_unwaited(struct weir_task *task)
{
    enum { IN_A_ROW = 64 };

    if (++task->unwaited >= IN_A_ROW)
        weir_yield(); /* cancelled or not: the call has its result */
}
