/* Scopes, and whom a cancel reaches; see weir/scope.h.
 *
 * Scopes and tasks are one tree: a task has the scopes it opened, innermost first, up to its home,
 * the scope it was spawned in; a scope has its tasks. Whether a task may wait is asked at every
 * wait, so the answer (`cut`) lies in the task, and whatever changes it walks the tree below. */
#include "core/loop.h"

/* What a wait that begins in `scope`, one of the task's or its home, ends with: the nearest reason
 * outward, as far as the next shield. */
static int cut_from(const struct weir_scope *scope, const struct weir_task *task)
{
    if (task->loop->cut)
        return -ECANCELED;
    for (;; task = scope->owner) {
        for (; scope != task->home; scope = scope->outer) {
            if (scope->cut)
                return scope->cut;
            if (scope->shield)
                return 0;
        }
        if (task->cancelled)
            return -ECANCELED;
        if (!scope)
            return 0;
    }
}

/* Lists the task's scopes up to `end`, whose tasks are to be looked at, too. */
static void look_at(struct weir_task *task, const struct weir_scope *end, struct weir_scope **list)
{
    task->cut = (int16_t)cut_from(task->scope, task);
    if (task->cut)
        weir__task_interrupt(task, task->cut);
    for (struct weir_scope *scope = task->scope; scope != end; scope = scope->outer) {
        if (scope->listed)
            continue;
        scope->listed = true;
        scope->reached = *list;
        *list = scope;
    }
}

/* A list and no recursion: the tree may be deep, and the stack is a coroutine's. */
static void reach(struct weir_task *task, const struct weir_scope *end)
{
    struct weir_scope *list = NULL;

    look_at(task, end, &list);
    while (list) {
        struct weir_scope *scope = list;
        list = scope->reached;
        scope->listed = false;
        for (struct weir_task *child = scope->children; child; child = child->sibling_next)
            if (!child->done)
                look_at(child, child->home, &list);
    }
}

void weir__scope_reach(struct weir_task *task)
{
    reach(task, task->home);
}

static void end_early(struct weir_scope *scope, int cut, int result)
{
    if (scope->cut)
        return;
    weir__trace_scope_cancel(scope, result);
    scope->cut = (int16_t)cut;
    scope->result = result;
    reach(scope->owner, scope->outer);
}

static void deadline_passed(struct weir__timer *timer)
{
    end_early(weir__container(timer, struct weir_scope, deadline), -ETIME, -ETIME);
}

void weir_scope_cancel(struct weir_scope *scope)
{
    assert(scope->owner && "weir_scope_cancel: the scope is not open");
    assert(weir__running_loop == scope->owner->loop && "weir_scope_cancel: a foreign thread");
    end_early(scope, -ECANCELED, -ECANCELED);
}

/* ---- open and close -------------------------------------------------------------------------- */

void weir_scope_open(struct weir_scope *scope, uint64_t deadline_ns, unsigned flags)
{
    struct weir_task *task = weir__task_here();

    assert(task && "weir_scope_open: not in a task");
    assert(!(flags & ~(unsigned)WEIR_SHIELD) && "weir_scope_open: unknown flags");
    /* One by one: to clear it first takes longer than all the rest. */
    scope->outer = task->scope;
    scope->owner = task;
    scope->children = NULL;
    scope->deadline.next = NULL;
    scope->deadline.fire = deadline_passed;
    scope->live = 0;
    scope->cut = 0;
    scope->shield = flags & WEIR_SHIELD;
    scope->listed = false;
    scope->result = 0;
    task->scope = scope;
    if (scope->shield)
        task->cut = (int16_t)cut_from(scope, task);
    if (deadline_ns != WEIR_FOREVER)
        weir__timer_arm(&task->loop->wheel, &scope->deadline, deadline_ns);
}

static const struct weir__wait children_wait = {"for the tasks of its scope",
                                                weir__goes_on_waiting};

/* Those whose handle somebody may hold. */
static void free_ended(struct weir_scope *scope)
{
    struct weir_task *child;

    while ((child = scope->children)) {
        assert(child->done);
        scope->children = child->sibling_next;
        weir__slab_put(&child->loop->task_slab, child->index);
    }
}

int weir_scope_close(struct weir_scope *scope)
{
    struct weir_task *task = scope->owner;

    assert(task && "weir_scope_close: the scope is not open");
    assert(task == weir__task_here() && "weir_scope_close: another task opened it");
    assert(task->scope == scope && "weir_scope_close: one opened after it is still open");
    while (scope->live)
        weir__task_wait(task, &children_wait, scope, WEIR_FOREVER);
    free_ended(scope);
    weir__timer_disarm(&task->loop->wheel, &scope->deadline);
    scope->owner = NULL;
    task->scope = scope->outer;
    if (scope->cut || scope->shield)
        task->cut = (int16_t)cut_from(task->scope, task);
    return scope->result;
}

void weir_scope_leave(struct weir_scope *scope)
{
    if (scope->owner)
        weir_scope_close(scope);
}

/* ---- its tasks ------------------------------------------------------------------------------- */

static void unlink_child(struct weir_scope *scope, struct weir_task *child)
{
    if (child->sibling_before)
        child->sibling_before->sibling_next = child->sibling_next;
    else
        scope->children = child->sibling_next;
    if (child->sibling_next)
        child->sibling_next->sibling_before = child->sibling_before;
}

/* Called by the child, as the last thing it does. */
void weir__scope_left(struct weir_task *child, int res)
{
    struct weir_scope *scope = child->home;
    struct weir_task *owner = scope->owner;

    assert(scope->live > 0);
    if (child->detached)
        unlink_child(scope, child);
    child->done = true; /* what it returns is not for itself */
    if (res < 0)
        end_early(scope, -ECANCELED, res);
    if (--scope->live == 0 && owner->wait == &children_wait && owner->object == scope)
        weir__task_wake(owner, 0);
}

int weir_scope_spawn_at(struct weir_scope *scope, struct weir_task **task_out, weir_child_fn *fn,
                        void *argument, const char *name, const char *place)
{
    struct weir_task *owner = scope->owner;

    assert(owner && "weir_scope_spawn: the scope is not open");
    assert(weir__running_loop == owner->loop && "weir_scope_spawn: a foreign thread");
    assert(fn);
    int cut = cut_from(scope, owner);
    if (cut)
        return cut;
    struct weir_task *child = weir__task_new(owner->loop, NULL, argument, name, place);
    if (!child)
        return -EAGAIN;
    child->detached = !task_out;
    child->home = child->scope = scope;
    child->child = fn;
    child->sibling_before = NULL;
    child->sibling_next = scope->children;
    if (scope->children)
        scope->children->sibling_before = child;
    scope->children = child;
    scope->live++;
    if (task_out)
        *task_out = child;
    weir__task_runnable(child);
    return 0;
}
