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
