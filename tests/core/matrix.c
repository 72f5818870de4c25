/*
 * The matrix's frame; see matrix.h. An outcome is two words of data: who ends the wait, and when.
 *
 * A cell has three tasks: the driver, which is this file's; the waiter, in a scope `outer` of the
 * driver's, where it opens `inner` and calls; and whoever cuts the wait short: the driver, a task
 * that runs in the turn in which the wait begins, or a message that finds the waiter woken but not
 * yet run, which is "after".
 */
#include "matrix.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>

#include "core/loop.h"

enum by {
    BY_NOTHING,
    BY_TASK,
    BY_SCOPE,
    BY_OUTER,
    BY_SIBLING,
    BY_STOP,
    BY_DEADLINE,
    BY_SCOPES_DEADLINE
};

enum when {
    NEVER,        /* it completes, or fails */
    BEFORE,       /* it begins */
    BEFORE_READY, /* the same, and its result is there */
    AT_ONCE,      /* in the turn in which it begins */
    DURING,       /* while the engine has it */
    WITH,         /* its completion, before the loop has seen that */
    AFTER,        /* it was woken with its result, before it runs */
    SHIELDED,     /* while it waits, but in a scope that nothing reaches */
};

enum { AHEAD_NS = 700000, TICK_NS = 1 << WEIR__TICK_SHIFT };

struct cell {
    struct matrix_cell seen; /* first: what the row sees */
    const struct matrix_row *row;
    enum by by;
    enum when when;
    bool failing;
    struct weir_loop *loop;
    struct weir_task *waiter;
    struct weir_scope outer, inner;
    struct weir_post post;
    uint64_t deadline_ns, until_ns;
    bool ended, cut, cut_in_time, posted;
    int next; /* what the wait after it got */
};

static struct matrix_row *rows;

void matrix_add(struct matrix_row *row)
{
    row->next = rows;
    rows = row;
}

static bool by_time(const struct cell *cell)
{
    return cell->by == BY_DEADLINE || cell->by == BY_SCOPES_DEADLINE;
}

/* ---- cutting a wait short -------------------------------------------------------------------- */

static int fails_as_a_sibling(void *argument)
{
    return -EIO;
}

static void cut(struct cell *cell)
{
    cell->cut = true;
    /* A sibling runs behind who was woken before. */
    cell->cut_in_time = !cell->ended && (cell->by != BY_SIBLING || cell->when != WITH);
    switch (cell->by) {
    case BY_TASK:
        weir_task_cancel(cell->waiter);
        break;
    case BY_SCOPE:
        if (cell->inner.owner)
            weir_scope_cancel(&cell->inner);
        break;
    case BY_OUTER:
        weir_scope_cancel(&cell->outer);
        break;
    case BY_SIBLING:
        check_int(weir_scope_spawn(&cell->outer, fails_as_a_sibling, NULL), ==, 0);
        break;
    case BY_STOP:
        weir_loop_stop(cell->loop);
        weir_loop_stop_now(cell->loop);
        break;
    default: /* a deadline comes by itself */
        break;
    }
}

static void cut_at_once(void *argument)
{
    cut(argument);
}

/* What the engine completes is seen by a message: those run first in a turn. */
static void cut_when_woken(struct weir_post *post)
{
    struct cell *cell = weir__container(post, struct cell, post);

    cell->posted = false;
    if (cell->ended)
        return;
    check(weir_now_ns() < cell->until_ns, "it does not complete");
    cell->posted = cell->waiter->wait;
    if (!cell->posted)
        cut(cell);
    else
        check_int(weir_post(cell->loop, post), ==, 0);
}

/* And what other tasks do, by one that runs behind them. */
static void cut_if_woken(void *argument)
{
    struct cell *cell = argument;

    cell->post.fn = cut_when_woken;
    cut_when_woken(&cell->post);
}

static void complete(struct cell *cell)
{
    cell->seen.completed = true;
    cell->row->complete();
}

/* ---- the waiter ------------------------------------------------------------------------------ */

static int waiter_main(void *argument)
{
    struct cell *cell = argument;
    bool by_scope =
        cell->by == BY_SCOPES_DEADLINE || cell->row->flags & (MATRIX_NO_DEADLINE | MATRIX_UNCUT);

    weir_scope_open(&cell->inner, by_scope ? cell->deadline_ns : WEIR_FOREVER,
                    cell->when == SHIELDED ? WEIR_SHIELD : 0);
    if (cell->by == BY_SCOPE && (cell->when == BEFORE || cell->when == BEFORE_READY))
        cut(cell);
    cell->seen.result = cell->row->call(by_scope ? WEIR_FOREVER : cell->deadline_ns);
    cell->ended = true;
    cell->next = weir_yield();
    weir_scope_close(&cell->inner);
    return 0;
}

/* Lets the loop go on until it waits, and some turns more. */
static void await_waiting(struct cell *cell)
{
    for (unsigned more = 3; !cell->ended && more > 0;) {
        check(weir_now_ns() < cell->until_ns, "it does not begin to wait");
        check_int(weir_yield(), ==, 0);
        more -= cell->waiter->wait != NULL;
    }
}

/* What may go on after a cut, or must, is completed when it has had a chance to end by it. */
static void finish(struct cell *cell)
{
    if (!(cell->row->flags & (MATRIX_MAY_FINISH | MATRIX_UNCUT)) || cell->seen.completed)
        return;
    if (cell->when == BEFORE && !by_time(cell) && !(cell->row->flags & MATRIX_UNCUT))
        return; /* it must not even begin */
    for (int i = 0; i < 3 && !cell->ended && weir_yield() == 0; i++)
        ;
    if (!cell->ended)
        complete(cell);
}

static void set_deadline(struct cell *cell)
{
    cell->deadline_ns = WEIR_FOREVER;
    if (!by_time(cell))
        return;
    if (cell->when == BEFORE || cell->when == BEFORE_READY)
        cell->deadline_ns = 1;
    else
        cell->deadline_ns = weir_now_ns() + (cell->when == AFTER ? 3600 * WEIR_SECOND : AHEAD_NS);
}

static void pass_deadline(const struct cell *cell)
{
    while (cell->deadline_ns != WEIR_FOREVER && weir_now_ns() < cell->deadline_ns + 2 * TICK_NS)
        ;
}

/* ---- a cell ---------------------------------------------------------------------------------- */

static void start(struct cell *cell)
{
    bool before = cell->when == BEFORE || cell->when == BEFORE_READY;

    if (cell->when == BEFORE_READY)
        complete(cell);
    weir_scope_open(&cell->outer, WEIR_FOREVER, 0);
    set_deadline(cell);
    if (before && cell->by == BY_SIBLING)
        cut(cell);
    check_int(weir_scope_spawn_at(&cell->outer, &cell->waiter, waiter_main, cell, "waiter",
                                  WEIR_CORO_PLACE),
              ==, 0);
    if (before && cell->by != BY_SIBLING && cell->by != BY_SCOPE)
        cut(cell);
    if (cell->when == AT_ONCE)
        check_int(weir_spawn(cell->loop, NULL, cut_at_once, cell), ==, 0);
}

static void happen(struct cell *cell)
{
    switch (cell->when) {
    case NEVER:
        await_waiting(cell);
        if (cell->failing)
            cell->row->fail();
        else
            complete(cell);
        break;
    case DURING:
        await_waiting(cell);
        if (by_time(cell))
            check_int(weir_sleep_until(cell->deadline_ns + 2 * TICK_NS), ==, 0);
        cut(cell);
        break;
    case WITH:
        await_waiting(cell);
        complete(cell);
        cut(cell);
        pass_deadline(cell);
        break;
    case AFTER:
        await_waiting(cell);
        complete(cell);
        if (!cell->ended && !cell->waiter->wait)
            cut(cell);
        else
            check_int(weir_spawn(cell->loop, NULL, cut_if_woken, cell), ==, 0);
        break;
    case SHIELDED:
        await_waiting(cell);
        weir_task_cancel(cell->waiter);
        for (int i = 0; i < 3; i++)
            check_int(weir_yield(), ==, 0);
        weir_scope_cancel(&cell->outer);
        complete(cell);
        break;
    default:
        break;
    }
}

static int64_t reason(const struct cell *cell)
{
    return by_time(cell) ? -ETIME : -ECANCELED;
}

static void judge(const struct cell *cell)
{
    int64_t got = cell->seen.result, why = reason(cell);
    bool cut_is_right = cell->when != NEVER && cell->when != AFTER && cell->when != SHIELDED;
    if (cell->row->flags & MATRIX_UNCUT)
        cut_is_right = false;
    bool result_is_right = !cut_is_right || cell->seen.completed;
    if (cell->row->flags & MATRIX_MAY_FINISH && (cell->when != BEFORE || by_time(cell)))
        result_is_right = true; /* it may also complete by itself */
    if (cell->when == AFTER && cell->row->flags & MATRIX_STEPS)
        cut_is_right = true;
    if (cell->by == BY_STOP && cell->row->flags & MATRIX_ENDS_WITH_LOOP)
        cut_is_right = result_is_right = true;
    check(cell->ended, "it did not return");
    if (cell->failing)
        check_int(got, ==, cell->row->error);
    else
        check((cut_is_right && got == why) || (result_is_right && got == cell->row->result),
              "%lld, not%s%s", (long long)got, cut_is_right ? " why it was cut" : "",
              result_is_right ? " its result" : "");
    /* Level-triggered: who was cancelled is told so at every wait. */
    if (cell->cut_in_time && cell->when != SHIELDED && !by_time(cell))
        check_int(cell->next, ==, -ECANCELED);
    if (cell->when == NEVER || cell->when == SHIELDED)
        check_int(cell->next, ==, 0);
}

/* Descriptors, beside the one that rest.c keeps once it has it. On a borrowed stack. */
static void count_descriptors(void *count)
{
    DIR *directory = opendir("/proc/self/fd");
    check(directory);
    for (struct dirent *entry; (entry = readdir(directory));)
        *(int *)count += entry->d_name[0] != '.';
    closedir(directory);
    *(int *)count -= weir_loop_self()->rest.timer.fd >= 0;
}

struct left {
    int fds;
    uint32_t tasks, conns, bufs, timers;
};

static struct left look(struct weir_loop *loop)
{
    struct left left = {0, loop->task_count, loop->conn_count, loop->bufs_out, loop->wheel.armed};
    check_int(weir_coro_call_deep(65536, count_descriptors, &left.fds), ==, 0);
    return left;
}

static void nothing_is_left(struct cell *cell, struct left before)
{
    for (;;) {
        struct left now = look(cell->loop);
        if (memcmp(&now, &before, sizeof now) == 0)
            return;
        check(weir_now_ns() < cell->until_ns,
              "left: %d descriptors, %d tasks, %d connections, %d buffers, %d timers",
              now.fds - before.fds, (int)(now.tasks - before.tasks),
              (int)(now.conns - before.conns), (int)(now.bufs - before.bufs),
              (int)(now.timers - before.timers));
        check_int(weir_yield(), ==, 0);
    }
}

static void run_cell(struct cell *cell)
{
    struct left before = look(cell->loop);
    unsigned when = 1u << cell->when;

    cell->until_ns = weir_now_ns() + PEER_SECONDS / 4 * WEIR_SECOND;
    cell->seen.fails = cell->failing;
    cell->seen.completes = !cell->failing && when & (1u << NEVER | 1u << BEFORE_READY | 1u << WITH |
                                                     1u << AFTER | 1u << SHIELDED);
    cell->row->set_up(&cell->seen);
    start(cell);
    happen(cell);
    finish(cell);
    int result = weir_scope_close(&cell->outer);
    bool outer_ended = cell->cut && (cell->by == BY_OUTER || cell->by == BY_SIBLING);
    check_int(result, ==,
              !outer_ended             ? cell->when == SHIELDED ? -ECANCELED : 0
              : cell->by == BY_SIBLING ? -EIO
                                       : -ECANCELED);
    while (cell->posted && weir_yield() == 0)
        ;
    judge(cell);
    if (cell->row->after && cell->by != BY_STOP)
        cell->row->after(&cell->seen);
    if (cell->row->tear_down)
        cell->row->tear_down();
    if (cell->by != BY_STOP)
        nothing_is_left(cell, before);
}

/* ---- outcomes -------------------------------------------------------------------------------- */

static void run_row(void *argument)
{
    static struct cell cell; /* where its loop stops, a message comes when it has ended */

    cell = *(struct cell *)argument;
    cell.loop = weir_loop_self();
    conf_about = cell.row->name;
    run_cell(&cell);
    conf_about = NULL;
}

static bool is_missing(const struct matrix_row *row)
{
    return row->missing && row->missing();
}

static void tell_missing(void)
{
    for (const struct matrix_row *row = rows; row; row = row->next)
        if (is_missing(row))
            fprintf(stderr, "%s: skipped: %s\n", row->name, row->missing());
}

static void run_rows(void *argument)
{
    struct cell *cell = argument;

    for (cell->row = rows; cell->row; cell->row = cell->row->next)
        if ((cell->row->fail || !cell->failing) && !is_missing(cell->row))
            run_row(cell);
}

static const struct weir_loop_options options = {
    .bufs = MATRIX_BUFS, .buf_bytes = 4096, .unsent_max = 8192};

static void hangs(int number)
{
    conf_fail("matrix.c", "it ends", " a turn of the loop, or its sleep, does not end");
}

static void outcome(struct cell cell)
{
    struct sigaction act = {.sa_handler = hangs, .sa_flags = SA_ONSTACK};

    tell_missing();
    check_int(sigaction(SIGALRM, &act, NULL), ==, 0);
    alarm(PEER_SECONDS);
    if (cell.by == BY_STOP) /* of which each needs a loop of its own */
        for (cell.row = rows; cell.row; cell.row = cell.row->next) {
            if (!is_missing(cell.row))
                conf_run(&options, run_row, &cell);
        }
    else
        conf_run(&options, run_rows, &cell);
    alarm(0);
}

#define OUTCOME(name, ...)                                                                         \
    CONFORMANCE(every_wait_##name)                                                                 \
    {                                                                                              \
        outcome((struct cell){__VA_ARGS__});                                                       \
    }

OUTCOME(completes, .when = NEVER)
OUTCOME(fails, .when = NEVER, .failing = true)

#define CANCELS(who, whom)                                                                         \
    OUTCOME(is_cancelled_by_##who##_before_it_begins, .by = whom, .when = BEFORE)                  \
    OUTCOME(is_cancelled_by_##who##_before_it_takes_what_is_there, .by = whom,                     \
            .when = BEFORE_READY)                                                                  \
    OUTCOME(is_cancelled_by_##who##_as_it_begins, .by = whom, .when = AT_ONCE)                     \
    OUTCOME(is_cancelled_by_##who##_while_it_waits, .by = whom, .when = DURING)                    \
    OUTCOME(is_cancelled_by_##who##_as_it_completes, .by = whom, .when = WITH)                     \
    OUTCOME(keeps_the_result_it_has_when_cancelled_by_##who, .by = whom, .when = AFTER)

CANCELS(its_task, BY_TASK)
CANCELS(its_scope, BY_SCOPE)
CANCELS(an_outer_scope, BY_OUTER)
CANCELS(the_end_of_the_loop, BY_STOP)
OUTCOME(is_cancelled_by_a_sibling_before_it_begins, .by = BY_SIBLING, .when = BEFORE)
OUTCOME(is_cancelled_by_a_sibling_while_it_waits, .by = BY_SIBLING, .when = DURING)
OUTCOME(is_cancelled_by_a_sibling_as_it_completes, .by = BY_SIBLING, .when = WITH)
OUTCOME(is_not_cancelled_behind_a_shield, .when = SHIELDED)

#define EXPIRES(whose, by_whose)                                                                   \
    OUTCOME(is_past_##whose##_before_it_begins, .by = by_whose, .when = BEFORE)                    \
    OUTCOME(is_past_##whose##_before_it_takes_what_is_there, .by = by_whose, .when = BEFORE_READY) \
    OUTCOME(meets_##whose##_while_it_waits, .by = by_whose, .when = DURING)                        \
    OUTCOME(meets_##whose##_as_it_completes, .by = by_whose, .when = WITH)                         \
    OUTCOME(completes_before_##whose, .by = by_whose, .when = AFTER)

EXPIRES(its_deadline, BY_DEADLINE)
EXPIRES(its_scopes_deadline, BY_SCOPES_DEADLINE)
