/* A wait for one of several things; see weir/channel.h.
 *
 * All channels concerned are guarded together while the task looks at them and gets into their
 * queues, in the order of their addresses, as Go's select does. From then on whoever has something
 * for it claims the whole: the first does, and for the others its records are not there any more.
 * What else the task waits for (descriptors, input) is of its own loop, and claims in the same way.
 */
#include "core/channel.h"

struct weir__select {
    atomic_bool claimed;
    bool collecting; /* the ops of those that did not happen */
    unsigned held;   /* ops with the engine */
    struct weir_task *task;
    struct weir_case *won; /* NULL: none, it was cut short */
    struct weir_case *input;
    struct weir_case *cases;
    unsigned count;
    struct weir__sync *guards[WEIR_CASES_MAX]; /* WEIR_ACROSS, ascending, each once */
    unsigned guard_count;
};

/* What a case has of its own. */
union part {
    struct weir__waiter waiter;
    struct {
        struct weir__op op;
        struct weir__select *select;
    };
};
static_assert(sizeof(union part) <= sizeof((struct weir_case){0}.own), "its memory is public");

static union part *part_of(struct weir_case *one)
{
    return (union part *)one->own;
}

static struct weir_case *case_of(void *part)
{
    return weir__container(part, struct weir_case, own);
}

static bool is_channel(const struct weir_case *one)
{
    return one->kind == WEIR_CASE_RECV || one->kind == WEIR_CASE_SEND;
}

/* ---- who is first ---------------------------------------------------------------------------- */

static bool claim(struct weir__select *select, struct weir_case *won)
{
    if (atomic_exchange(&select->claimed, true))
        return false;
    select->won = won;
    return true;
}

bool weir__select_claim(struct weir__waiter *waiter)
{
    return claim(waiter->select, case_of(waiter));
}

void weir__select_unwait(struct weir_task *task, int why)
{
    struct weir__select *select = task->object;

    if (claim(select, why == -ESHUTDOWN ? select->input : NULL))
        weir__task_wake(task, why);
}

void weir__select_input(struct weir_task *task)
{
    struct weir__select *select = task->object;

    if (claim(select, select->input))
        weir__task_wake(task, 0);
}

static void poll_done(struct weir__op *op)
{
    union part *part = weir__container(op, union part, op);
    struct weir__select *select = part->select;

    select->held--;
    if (select->collecting ? !select->held : claim(select, case_of(part)))
        weir__task_wake(select->task, op->res);
}

/* ---- wrong cases ----------------------------------------------------------------------------- */

static void check_cases(const struct weir__select *select)
{
    unsigned inputs = 0;

    for (unsigned i = 0; i < select->count; i++) {
        if (select->cases[i].kind != WEIR_CASE_INPUT)
            continue;
        weir__conn_check_watch(select->cases[i].of, select->task);
        inputs++;
    }
    assert(inputs <= 1 && "weir_select: the input of more than one connection");
}

/* ---- guards ---------------------------------------------------------------------------------- */

static void add_guard(struct weir__select *select, struct weir__sync *sync)
{
    struct weir__sync **guards = select->guards;
    unsigned at = select->guard_count;

    while (at > 0 && guards[at - 1] > sync)
        at--;
    if (at > 0 && guards[at - 1] == sync)
        return;
    for (unsigned i = select->guard_count++; i > at; i--)
        guards[i] = guards[i - 1];
    guards[at] = sync;
}

static void lock_all(struct weir__select *select)
{
    for (unsigned i = 0; i < select->count; i++) {
        struct weir_channel *channel = select->cases[i].of;
        if (!is_channel(&select->cases[i]))
            continue;
        if (channel->sync.across)
            add_guard(select, &channel->sync);
        else
            weir__sync_enter(&channel->sync);
    }
    for (unsigned i = 0; i < select->guard_count; i++)
        weir__sync_lock(select->guards[i]);
}

static void unlock_all(struct weir__select *select)
{
    for (unsigned i = 0; i < select->guard_count; i++)
        weir__sync_unlock(select->guards[i]);
}

/* ---- what can happen at once ----------------------------------------------------------------- */

/* Whether it happened, now; its res is set then. */
static bool happens(struct weir_case *one, struct weir__grants *grants)
{
    switch (one->kind) {
    case WEIR_CASE_RECV:
        one->res = weir__channel_get(one->of, one->element, grants);
        return one->res != -EAGAIN;
    case WEIR_CASE_SEND:
        one->res = weir__channel_put(one->of, one->element, grants);
        return one->res != -EAGAIN;
    case WEIR_CASE_POLL: /* the engine says so, later */
        return false;
    default:
        one->res = 0;
        return weir__conn_has_input(one->of);
    }
}

/* From a case by chance, so that none is always before another. Knuth's linear congruence. */
static struct weir_case *first_that_happens(struct weir__select *select,
                                            struct weir__grants *grants)
{
    static __thread uint32_t chance;
    unsigned at =
        (unsigned)((uint64_t)(chance = chance * 1664525 + 1013904223) * select->count >> 32);

    for (unsigned i = 0; i < select->count; i++) {
        if (happens(&select->cases[at], grants))
            return &select->cases[at];
        if (++at == select->count)
            at = 0;
    }
    return NULL;
}

/* ---- waiting --------------------------------------------------------------------------------- */

static void get_in_line(struct weir__select *select)
{
    for (unsigned i = 0; i < select->count; i++) {
        struct weir_case *one = &select->cases[i];
        struct weir_channel *channel = one->of;
        if (!is_channel(one))
            continue;
        struct weir__waiter *waiter = &part_of(one)->waiter;
        *waiter =
            (struct weir__waiter){.task = select->task, .select = select, .element = one->element};
        weir__queue_push(one->kind == WEIR_CASE_SEND ? &channel->senders : &channel->receivers,
                         &channel->sync, waiter);
    }
}

/* Has the loop watch the rest. True: one of these happened at once. */
static bool watch(struct weir__select *select)
{
    for (unsigned i = 0; i < select->count; i++) {
        struct weir_case *one = &select->cases[i];
        if (one->kind == WEIR_CASE_POLL) {
            union part *part = part_of(one);
            part->select = select;
            part->op = (struct weir__op){.kind = WEIR__OP_POLL,
                                         .fd = one->fd,
                                         .len = (uint16_t)one->events,
                                         .done = poll_done};
            if (weir__submit(select->task->loop, &part->op) == WEIR__QUEUED) {
                select->held++;
                continue;
            }
            one->res = part->op.res;
        } else if (one->kind == WEIR_CASE_INPUT) {
            one->res = 0;
            if (weir__conn_watch(one->of, select->task)) {
                select->input = one;
                continue;
            }
        } else {
            continue;
        }
        if (claim(select, one))
            return true;
    }
    return false;
}

/* But for the one of `won`, that is out of its line, and whose channel may be gone; as may be any
 * of this loop that took a record out because another case had won. */
static void leave_lines(struct weir__select *select, const struct weir_case *won)
{
    for (unsigned i = 0; i < select->count; i++) {
        if (!is_channel(&select->cases[i]) || &select->cases[i] == won)
            continue;
        struct weir__waiter *waiter = &part_of(&select->cases[i])->waiter;
        if (!waiter->across && !waiter->queue)
            continue;
        weir__sync_lock(waiter->sync);
        if (waiter->queue)
            weir__queue_remove(waiter);
        weir__sync_unlock(waiter->sync);
    }
}

void weir__select_abandon(struct weir__select *select)
{
    leave_lines(select, NULL);
}

static const struct weir__wait collect_wait = {"for polls that it cancelled",
                                               weir__goes_on_waiting};

/* They lie in the caller's memory. */
static void collect_ops(struct weir__select *select)
{
    select->collecting = true;
    if (!select->held)
        return;
    for (unsigned i = 0; i < select->count; i++) {
        struct weir__op *op = &part_of(&select->cases[i])->op;
        if (select->cases[i].kind == WEIR_CASE_POLL && op->state == WEIR__OP_HELD)
            weir__cancel(select->task->loop, op);
    }
    while (select->held)
        weir__task_wait(select->task, &collect_wait, select, WEIR_FOREVER);
}

static int wait_for_one(struct weir__select *select, uint64_t deadline_ns)
{
    struct weir_task *task = select->task;
    int res;

    task->select = select;
    if (watch(select))
        res = select->won->res;
    else
        res = weir__park_unguarded(task, select, WEIR__PARK_SELECT, deadline_ns);
    leave_lines(select, select->won);
    task->select = NULL;
    struct weir_case *input = select->input;
    if (input && weir__conn_unwatch(input->of, task) && select->won == input)
        res = -ESHUTDOWN;
    collect_ops(select);
    if (!select->won)
        return res;
    select->won->res = res;
    return (int)(select->won - select->cases);
}

int weir_select(struct weir_case *cases, unsigned count, uint64_t deadline_ns)
{
    struct weir__select select = {
        .task = weir__task_needed("weir_select"), .cases = cases, .count = count};
    struct weir__grants grants = {0};

    assert(count > 0 && count <= WEIR_CASES_MAX && "weir_select: 1 to WEIR_CASES_MAX cases");
    check_cases(&select);
    lock_all(&select);
    struct weir_case *one = first_that_happens(&select, &grants);
    int res = one ? 0 : weir__task_check(select.task);
    if (!one && !res)
        get_in_line(&select);
    unlock_all(&select);
    weir__grants_wake(&grants);
    if (one)
        return (int)(one - cases);
    return res ? res : wait_for_one(&select, deadline_ns);
}
