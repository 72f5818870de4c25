/* The matrix: waits for time and for other tasks. See matrix.h. */
#include "matrix.h"

/* ---- sleep ----------------------------------------------------------------------------------- */

static uint64_t wake_ns;

static void sleep_set_up(const struct matrix_cell *cell)
{
    wake_ns = weir_now_ns() + (cell->completes ? 1 : 3600 * 1000) * WEIR_MILLISECOND;
}

static int64_t sleep_call(uint64_t deadline_ns)
{
    int result = weir_sleep_until(wake_ns);
    if (result == 0)
        check_int(weir_now_ns(), >=, wake_ns);
    return result;
}

static void sleep_complete(void)
{
    while (weir_now_ns() < wake_ns)
        ;
}

MATRIX_ROW(sleep) = {
    .name = "weir_sleep_until",
    .flags = MATRIX_NO_DEADLINE,
    .set_up = sleep_set_up,
    .call = sleep_call,
    .complete = sleep_complete,
    .cannot_fail = "time passes",
};

/* ---- join ------------------------------------------------------------------------------------ */

static struct weir_task *joined;

static void sleep_for_ever(void *argument)
{
    check_int(weir_sleep_until(WEIR_FOREVER), ==, -ECANCELED);
}

static void join_set_up(const struct matrix_cell *cell)
{
    check_int(weir_spawn(weir_loop_self(), &joined, sleep_for_ever, NULL), ==, 0);
}

static int64_t join_call(uint64_t deadline_ns)
{
    return weir_join(joined, deadline_ns);
}

static void join_complete(void)
{
    weir_task_cancel(joined);
}

/* What was not joined is not freed: it can be joined again. */
static void join_after(const struct matrix_cell *cell)
{
    if (cell->result == 0)
        return;
    weir_task_cancel(joined);
    check_int(weir_join(joined, WEIR_FOREVER), ==, 0);
}

MATRIX_ROW(join) = {
    .name = "weir_join",
    .flags = MATRIX_ENDS_WITH_LOOP, /* for the other task ends by it, too */
    .set_up = join_set_up,
    .call = join_call,
    .complete = join_complete,
    .cannot_fail = "a task of the loop's own has no result",
    .after = join_after,
};

/* ---- yield ----------------------------------------------------------------------------------- */

static void yield_set_up(const struct matrix_cell *cell) {}

static int64_t yield_call(uint64_t deadline_ns)
{
    return weir_yield();
}

static void yield_complete(void) {}

MATRIX_ROW(yield) = {
    .name = "weir_yield",
    .flags = MATRIX_NO_DEADLINE | MATRIX_MAY_FINISH,
    .set_up = yield_set_up,
    .call = yield_call,
    .complete = yield_complete,
    .cannot_fail = "nothing is asked for",
};

/* ---- closing a scope ------------------------------------------------------------------------- */

/* What the scope's task has to return, and not yet. */
static int child_result;
static bool child_may_end;

static void close_set_up(const struct matrix_cell *cell)
{
    child_may_end = false;
    child_result = 0;
}

static int shielded_child(void *argument)
{
    struct weir_scope shield;
    weir_scope_open(&shield, WEIR_FOREVER, WEIR_SHIELD);
    while (!child_may_end && weir_yield() == 0)
        ;
    weir_scope_close(&shield);
    return child_result;
}

static int64_t close_call(uint64_t deadline_ns)
{
    struct weir_scope scope;
    weir_scope_open(&scope, WEIR_FOREVER, 0);
    weir_scope_spawn(&scope, shielded_child, NULL); /* not where it was cancelled before */
    return weir_scope_close(&scope);
}

static void close_complete(void)
{
    child_may_end = true;
}

static void close_fail(void)
{
    child_may_end = true;
    child_result = -EIO;
}

MATRIX_ROW(scope_close) = {
    .name = "weir_scope_close",
    .flags = MATRIX_NO_DEADLINE | MATRIX_UNCUT,
    .set_up = close_set_up,
    .call = close_call,
    .complete = close_complete,
    .fail = close_fail,
    .error = -EIO,
};
