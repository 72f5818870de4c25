/* Conformance: tasks of one loop that wait for each other: mutex, condition, read-write lock,
 * semaphore, wait group, once, single-flight. What crosses threads is in across.c. */
#include "conformance.h"

/* ---- a task that makes one call and notes what it gave and when -------------------------------
 */

struct call {
    int (*fn)(struct call *call);
    uint64_t deadline_ns;
    struct weir_task *task;
    int res;
    unsigned turn; /* the how many-th to be through; 0: not yet */
    bool go;       /* for calls that hold something */
};

static unsigned turns;
static struct weir_mutex mutex;
static struct weir_cond cond;
static struct weir_rwlock rwlock;
static struct weir_sem sem;
static struct weir_wait_group group;
static struct weir_once once;
static struct weir_flight flight;

static void call_main(void *argument)
{
    struct call *call = argument;
    call->res = call->fn(call);
    if (!call->turn)
        call->turn = ++turns;
}

/* Starts it and lets it get to where it waits. */
static void start(struct call *call, int (*fn)(struct call *call), uint64_t deadline_ns)
{
    *call = (struct call){.fn = fn, .deadline_ns = deadline_ns};
    check_int(weir_spawn(weir_loop_self(), &call->task, call_main, call), ==, 0);
    check_int(weir_yield(), ==, 0);
}

static void finish(struct call *call, int res)
{
    check_int(weir_join(call->task, WEIR_FOREVER), ==, 0);
    check_int(call->res, ==, res);
}

static uint64_t soon_ns(void)
{
    return weir_now_ns() + 2000000;
}

/* ---- mutex ----------------------------------------------------------------------------------- */

static int lock_it(struct call *call)
{
    int res = weir_mutex_lock(&mutex, call->deadline_ns);
    if (res == 0) {
        call->turn = ++turns;
        weir_mutex_unlock(&mutex);
    }
    return res;
}

static void lock_in_line(void *argument)
{
    struct call calls[4];
    weir_mutex_init(&mutex, 0);
    check_int(weir_mutex_try_lock(&mutex), ==, 0);
    check_int(weir_mutex_try_lock(&mutex), ==, -EBUSY);
    for (int i = 0; i < 4; i++)
        start(&calls[i], lock_it, i == 1 ? soon_ns() : WEIR_FOREVER);
    weir_task_cancel(calls[2].task);
    finish(&calls[2], -ECANCELED);
    finish(&calls[1], -ETIME);
    weir_mutex_unlock(&mutex);
    check_int(weir_mutex_try_lock(&mutex), ==, -EBUSY); /* it is that of the first in line */
    finish(&calls[0], 0);
    finish(&calls[3], 0);
    check_int(calls[0].turn, <, calls[3].turn);
    check_int(weir_mutex_lock(&mutex, 0), ==, 0);
    weir_mutex_unlock(&mutex);
    weir_mutex_deinit(&mutex);
}

CONFORMANCE(a_mutex_goes_to_those_that_still_wait_first_come_first_served)
{
    conf_run(NULL, lock_in_line, NULL);
}

static void lock_and_be_cancelled(void *argument)
{
    struct call call;
    weir_mutex_init(&mutex, 0);
    check_int(weir_mutex_lock(&mutex, WEIR_FOREVER), ==, 0);
    start(&call, lock_it, WEIR_FOREVER);
    weir_mutex_unlock(&mutex); /* it has the lock, and does not run yet */
    weir_task_cancel(call.task);
    finish(&call, 0);
    check_int(weir_mutex_try_lock(&mutex), ==, 0);
    weir_mutex_unlock(&mutex);
    weir_mutex_deinit(&mutex);
}

CONFORMANCE(a_lock_that_was_granted_is_had_though_a_cancel_follows)
{
    conf_run(NULL, lock_and_be_cancelled, NULL);
}

/* ---- condition ------------------------------------------------------------------------------- */

static int wait_for_cond(struct call *call)
{
    check_int(weir_mutex_lock(&mutex, WEIR_FOREVER), ==, 0);
    int res = weir_cond_wait(&cond, call->deadline_ns);
    call->turn = ++turns;
    check_int(weir_mutex_try_lock(&mutex), ==, -EBUSY); /* held, whatever is returned */
    weir_mutex_unlock(&mutex);
    return res;
}

static void signal_and_broadcast(void *argument)
{
    struct call calls[5];
    weir_mutex_init(&mutex, 0);
    weir_cond_init(&cond, &mutex);
    weir_cond_signal(&cond); /* nobody: no effect */
    for (int i = 0; i < 5; i++)
        start(&calls[i], wait_for_cond, i == 1 ? soon_ns() : WEIR_FOREVER);
    weir_cond_signal(&cond);
    finish(&calls[0], 0);
    finish(&calls[1], -ETIME);
    check_int(turns, ==, 2);
    check_int(weir_mutex_lock(&mutex, WEIR_FOREVER), ==, 0);
    weir_task_cancel(calls[2].task);
    conf_settle();
    check_int(calls[2].turn, ==, 0); /* it waits for the mutex */
    weir_cond_broadcast(&cond);
    weir_mutex_unlock(&mutex);
    finish(&calls[2], -ECANCELED);
    finish(&calls[3], 0);
    finish(&calls[4], 0);
    check_int(calls[3].turn, <, calls[4].turn);
    weir_cond_deinit(&cond);
    weir_mutex_deinit(&mutex);
}

CONFORMANCE(a_condition_wakes_one_or_all_and_each_has_the_mutex)
{
    conf_run(NULL, signal_and_broadcast, NULL);
}

/* ---- read-write lock ------------------------------------------------------------------------- */

static int read_it(struct call *call)
{
    int res = weir_rwlock_read_lock(&rwlock, call->deadline_ns);
    if (res)
        return res;
    call->turn = ++turns;
    while (!call->go)
        check_int(weir_yield(), ==, 0);
    weir_rwlock_read_unlock(&rwlock);
    return 0;
}

static int write_it(struct call *call)
{
    int res = weir_rwlock_write_lock(&rwlock, call->deadline_ns);
    if (res)
        return res;
    call->turn = ++turns;
    check_int(weir_rwlock_try_read_lock(&rwlock), ==, -EBUSY);
    weir_rwlock_write_unlock(&rwlock);
    return 0;
}

static void read_and_write(void *argument)
{
    struct call readers[3], writer;
    weir_rwlock_init(&rwlock, 0);
    start(&readers[0], read_it, WEIR_FOREVER);
    start(&readers[1], read_it, WEIR_FOREVER);
    check_int(turns, ==, 2); /* both at a time */
    start(&writer, write_it, WEIR_FOREVER);
    start(&readers[2], read_it, WEIR_FOREVER);
    check_int(turns, ==, 2); /* in line behind who wants to write */
    readers[0].go = true;
    finish(&readers[0], 0);
    check_int(turns, ==, 2);
    readers[1].go = true;
    finish(&readers[1], 0);
    finish(&writer, 0);
    check_int(writer.turn, ==, 3);
    readers[2].go = true;
    finish(&readers[2], 0);
    check_int(weir_rwlock_try_write_lock(&rwlock), ==, 0);
    check_int(weir_rwlock_try_read_lock(&rwlock), ==, -EBUSY);
    weir_rwlock_write_unlock(&rwlock);
    weir_rwlock_deinit(&rwlock);
}

CONFORMANCE(readers_share_a_lock_and_wait_behind_a_writer)
{
    conf_run(NULL, read_and_write, NULL);
}

static void writer_gives_up(void *argument)
{
    struct call readers[2], writers[2];
    weir_rwlock_init(&rwlock, 0);
    start(&readers[0], read_it, WEIR_FOREVER);
    start(&writers[0], write_it, WEIR_FOREVER);
    start(&readers[1], read_it, WEIR_FOREVER);
    weir_task_cancel(writers[0].task);
    finish(&writers[0], -ECANCELED);
    check_int(weir_yield(), ==, 0);
    check_int(readers[1].turn, >, 0); /* who waited behind it reads now */
    start(&writers[1], write_it, soon_ns());
    finish(&writers[1], -ETIME);
    readers[0].go = readers[1].go = true;
    finish(&readers[0], 0);
    finish(&readers[1], 0);
    weir_rwlock_deinit(&rwlock);
}

CONFORMANCE(a_writer_that_gives_up_lets_those_behind_it_read)
{
    conf_run(NULL, writer_gives_up, NULL);
}

/* ---- semaphore and wait group ---------------------------------------------------------------- */

static int take_one(struct call *call)
{
    return weir_sem_wait(&sem, call->deadline_ns);
}

static void count_down_and_up(void *argument)
{
    struct call calls[5];
    weir_sem_init(&sem, 1, 0);
    check_int(weir_sem_wait(&sem, 0), ==, 0);
    check_int(weir_sem_try_wait(&sem), ==, -EAGAIN);
    for (int i = 0; i < 5; i++)
        start(&calls[i], take_one, i == 1 ? soon_ns() : WEIR_FOREVER);
    finish(&calls[1], -ETIME);
    weir_task_cancel(calls[0].task);
    finish(&calls[0], -ECANCELED);
    weir_sem_post(&sem, 2);
    weir_task_cancel(calls[3].task); /* too late: it has one */
    finish(&calls[2], 0);
    finish(&calls[3], 0);
    check_int(calls[4].turn, ==, 0);
    weir_sem_post(&sem, 3);
    finish(&calls[4], 0);
    check_int(weir_sem_try_wait(&sem), ==, 0);
    check_int(weir_sem_try_wait(&sem), ==, 0);
    check_int(weir_sem_try_wait(&sem), ==, -EAGAIN);
    weir_sem_deinit(&sem);
}

CONFORMANCE(a_semaphore_loses_no_token_to_those_that_give_up)
{
    conf_run(NULL, count_down_and_up, NULL);
}

static int await_group(struct call *call)
{
    return weir_wait_group_wait(&group, call->deadline_ns);
}

static void done_one_by_one(void *argument)
{
    struct call calls[4];
    weir_wait_group_init(&group, 0);
    check_int(weir_wait_group_wait(&group, 0), ==, 0);
    weir_wait_group_add(&group, 2);
    for (int i = 0; i < 4; i++)
        start(&calls[i], await_group, i == 1 ? soon_ns() : WEIR_FOREVER);
    finish(&calls[1], -ETIME);
    weir_task_cancel(calls[2].task);
    finish(&calls[2], -ECANCELED);
    weir_wait_group_done(&group);
    conf_settle();
    check_int(calls[0].turn, ==, 0);
    weir_wait_group_done(&group);
    finish(&calls[0], 0);
    finish(&calls[3], 0);
    weir_wait_group_deinit(&group);
}

CONFORMANCE(a_wait_group_ends_for_all_that_wait_when_the_last_is_done)
{
    conf_run(NULL, done_one_by_one, NULL);
}

/* ---- once and single-flight ------------------------------------------------------------------ */

static unsigned runs;

/* Waits for the call's `go`, and gives how many there were before. */
static int run_slowly(void *argument)
{
    struct call *call = argument;
    int run = (int)runs++;
    while (!call->go) {
        int res = weir_sleep_until(soon_ns());
        if (res)
            return res;
    }
    return run;
}

static int fail(void *argument)
{
    runs++;
    check_int(weir_yield(), ==, 0);
    check_int(weir_yield(), ==, 0);
    return -EIO;
}

static int run_once(struct call *call)
{
    return weir_once_run(&once, run_slowly, call, call->deadline_ns);
}

static void once_fails_first(void *argument)
{
    struct call calls[4];
    weir_once_init(&once, 0);
    for (int i = 0; i < 4; i++)
        start(&calls[i], run_once, i == 1 ? soon_ns() : WEIR_FOREVER);
    finish(&calls[1], -ETIME);
    check_int(runs, ==, 1);
    weir_task_cancel(calls[0].task);
    finish(&calls[0], -ECANCELED);
    calls[2].go = true;
    finish(&calls[2], 1); /* the second run was through */
    finish(&calls[3], 1);
    check_int(weir_once_run(&once, fail, NULL, 0), ==, 1);
    check_int(runs, ==, 2);
    weir_once_deinit(&once);
}

CONFORMANCE(what_is_done_once_is_tried_again_by_the_next_in_line_until_it_succeeds)
{
    conf_run(NULL, once_fails_first, NULL);
}

static int fly(struct call *call)
{
    return weir_flight_run(&flight, run_slowly, call, call->deadline_ns);
}

static int fly_and_fail(struct call *call)
{
    return weir_flight_run(&flight, fail, call, call->deadline_ns);
}

static void fly_together(void *argument)
{
    struct call calls[4];
    weir_flight_init(&flight, 0);
    for (int i = 0; i < 4; i++)
        start(&calls[i], fly, WEIR_FOREVER);
    weir_task_cancel(calls[1].task); /* leaves the line alone */
    finish(&calls[1], -ECANCELED);
    check_int(runs, ==, 1);
    weir_task_cancel(calls[0].task); /* the others do not share this */
    finish(&calls[0], -ECANCELED);
    calls[2].go = true;
    finish(&calls[2], 1);
    finish(&calls[3], 1);
    check_int(runs, ==, 2);
    start(&calls[0], fly_and_fail, WEIR_FOREVER);
    start(&calls[1], fly_and_fail, WEIR_FOREVER);
    finish(&calls[0], -EIO);
    finish(&calls[1], -EIO);
    check_int(runs, ==, 3); /* an error is shared, and the next call runs anew */
    weir_flight_deinit(&flight);
}

CONFORMANCE(calls_of_one_flight_share_what_comes_of_it_but_not_a_cancel)
{
    conf_run(NULL, fly_together, NULL);
}
