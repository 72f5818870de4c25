/* The matrix: tasks that wait for each other: weir/sync.h and weir/channel.h. See matrix.h. */
#include "matrix.h"

/* ---- mutex ----------------------------------------------------------------------------------- */

static struct weir_mutex mutex;

static void mutex_set_up(const struct matrix_cell *cell)
{
    weir_mutex_init(&mutex, 0);
    check_int(weir_mutex_lock(&mutex, WEIR_FOREVER), ==, 0);
}

static int64_t mutex_call(uint64_t deadline_ns)
{
    int result = weir_mutex_lock(&mutex, deadline_ns);
    if (result == 0)
        weir_mutex_unlock(&mutex);
    return result;
}

static void mutex_complete(void)
{
    weir_mutex_unlock(&mutex);
}

static void mutex_after(const struct matrix_cell *cell)
{
    if (!cell->completed)
        mutex_complete();
    check_int(mutex_call(WEIR_FOREVER), ==, 0);
    weir_mutex_deinit(&mutex);
}

MATRIX_ROW(mutex) = {
    .name = "weir_mutex_lock",
    .set_up = mutex_set_up,
    .call = mutex_call,
    .complete = mutex_complete,
    .cannot_fail = "a lock has no other end",
    .after = mutex_after,
};

/* ---- condition ------------------------------------------------------------------------------- */

static struct weir_cond cond;

static void cond_set_up(const struct matrix_cell *cell)
{
    weir_mutex_init(&mutex, 0);
    weir_cond_init(&cond, &mutex);
}

static int64_t cond_call(uint64_t deadline_ns)
{
    check_int(weir_mutex_lock(&mutex, WEIR_FOREVER), ==, 0);
    int result = weir_cond_wait(&cond, deadline_ns);
    weir_mutex_unlock(&mutex); /* it is held, whatever was the result */
    return result;
}

static void cond_complete(void)
{
    weir_cond_signal(&cond);
}

static void cond_after(const struct matrix_cell *cell)
{
    check_int(weir_mutex_try_lock(&mutex), ==, 0);
    weir_mutex_unlock(&mutex);
    check_int(cond_call(weir_now_ns() + 1000), ==, -ETIME); /* no signal is kept */
    weir_cond_deinit(&cond);
    weir_mutex_deinit(&mutex);
}

MATRIX_ROW(cond) = {
    .name = "weir_cond_wait",
    .set_up = cond_set_up,
    .call = cond_call,
    .complete = cond_complete,
    .cannot_fail = "a condition has no other end",
    .after = cond_after,
};

/* ---- read-write lock ------------------------------------------------------------------------- */

static struct weir_rwlock rwlock;

static void rwlock_set_up(const struct matrix_cell *cell)
{
    weir_rwlock_init(&rwlock, 0);
    check_int(weir_rwlock_write_lock(&rwlock, WEIR_FOREVER), ==, 0);
}

static void rwlock_complete(void)
{
    weir_rwlock_write_unlock(&rwlock);
}

static int64_t read_lock_call(uint64_t deadline_ns)
{
    int result = weir_rwlock_read_lock(&rwlock, deadline_ns);
    if (result == 0)
        weir_rwlock_read_unlock(&rwlock);
    return result;
}

static int64_t write_lock_call(uint64_t deadline_ns)
{
    int result = weir_rwlock_write_lock(&rwlock, deadline_ns);
    if (result == 0)
        weir_rwlock_write_unlock(&rwlock);
    return result;
}

static void rwlock_after(const struct matrix_cell *cell)
{
    if (!cell->completed)
        rwlock_complete();
    check_int(write_lock_call(WEIR_FOREVER), ==, 0);
    check_int(read_lock_call(WEIR_FOREVER), ==, 0);
    weir_rwlock_deinit(&rwlock);
}

MATRIX_ROW(read_lock) = {
    .name = "weir_rwlock_read_lock",
    .set_up = rwlock_set_up,
    .call = read_lock_call,
    .complete = rwlock_complete,
    .cannot_fail = "a lock has no other end",
    .after = rwlock_after,
};

MATRIX_ROW(write_lock) = {
    .name = "weir_rwlock_write_lock",
    .set_up = rwlock_set_up,
    .call = write_lock_call,
    .complete = rwlock_complete,
    .cannot_fail = "a lock has no other end",
    .after = rwlock_after,
};

/* ---- semaphore ------------------------------------------------------------------------------- */

static struct weir_sem sem;

static void sem_set_up(const struct matrix_cell *cell)
{
    weir_sem_init(&sem, 0, 0);
}

static int64_t sem_call(uint64_t deadline_ns)
{
    return weir_sem_wait(&sem, deadline_ns);
}

static void sem_complete(void)
{
    weir_sem_post(&sem, 1);
}

/* A token that was posted and not taken is there, and no second one. */
static void sem_after(const struct matrix_cell *cell)
{
    int kept = cell->completed && cell->result < 0;
    check_int(weir_sem_try_wait(&sem), ==, kept ? 0 : -EAGAIN);
    sem_complete();
    check_int(sem_call(WEIR_FOREVER), ==, 0);
    check_int(weir_sem_try_wait(&sem), ==, -EAGAIN);
    weir_sem_deinit(&sem);
}

MATRIX_ROW(sem) = {
    .name = "weir_sem_wait",
    .set_up = sem_set_up,
    .call = sem_call,
    .complete = sem_complete,
    .cannot_fail = "a token has no other end",
    .after = sem_after,
};

/* ---- wait group ------------------------------------------------------------------------------ */

static struct weir_wait_group group;
static bool group_done;

static void group_set_up(const struct matrix_cell *cell)
{
    weir_wait_group_init(&group, 0);
    weir_wait_group_add(&group, 1);
    group_done = false;
}

static int64_t group_call(uint64_t deadline_ns)
{
    return weir_wait_group_wait(&group, deadline_ns);
}

static void group_complete(void)
{
    weir_wait_group_done(&group);
    group_done = true;
}

static void group_after(const struct matrix_cell *cell)
{
    if (!group_done)
        group_complete();
    check_int(group_call(WEIR_FOREVER), ==, 0);
    weir_wait_group_deinit(&group);
}

MATRIX_ROW(wait_group) = {
    .name = "weir_wait_group_wait",
    .set_up = group_set_up,
    .call = group_call,
    .complete = group_complete,
    .cannot_fail = "it has no other end",
    .after = group_after,
};

/* ---- once, single-flight --------------------------------------------------------------------- */

/* The one that runs first is a task of its own, which ends when it is told to. */
static struct weir_task *holder;
static bool told;
static int runs;

static void holder_start(weir_task_fn *fn)
{
    told = false;
    runs = 0;
    check_int(weir_spawn(weir_loop_self(), &holder, fn, NULL), ==, 0);
    check_int(weir_yield(), ==, 0);
}

static void tell_holder(void)
{
    told = true;
}

static void holder_end(void)
{
    told = true;
    check_int(weir_join(holder, WEIR_FOREVER), ==, 0);
}

static struct weir_once once;
static struct weir_flight flight;

/* What the holder runs, and whoever waits in line for it if that fails. */
static int runs_until_told(void *argument)
{
    runs++;
    while (!told && weir_yield() == 0)
        ;
    return told ? 7 : -ECANCELED;
}

static void run_once(void *argument)
{
    weir_once_run(&once, runs_until_told, NULL, WEIR_FOREVER);
}

static void run_flight(void *argument)
{
    weir_flight_run(&flight, runs_until_told, NULL, WEIR_FOREVER);
}

static void once_set_up(const struct matrix_cell *cell)
{
    weir_once_init(&once, 0);
    holder_start(run_once);
}

static int64_t once_call(uint64_t deadline_ns)
{
    return weir_once_run(&once, runs_until_told, NULL, deadline_ns);
}

static void once_after(const struct matrix_cell *cell)
{
    holder_end();
    check_int(once_call(WEIR_FOREVER), ==, 7);
    check_int(runs, ==, 1);
    weir_once_deinit(&once);
}

MATRIX_ROW(once) = {
    .name = "weir_once_run",
    .flags = MATRIX_ENDS_WITH_LOOP,
    .set_up = once_set_up,
    .call = once_call,
    .complete = tell_holder,
    .result = 7,
    .cannot_fail = "where what runs fails, the next in line runs its own",
    .after = once_after,
};

static void flight_set_up(const struct matrix_cell *cell)
{
    weir_flight_init(&flight, 0);
    holder_start(run_flight);
}

static int64_t flight_call(uint64_t deadline_ns)
{
    return weir_flight_run(&flight, runs_until_told, NULL, deadline_ns);
}

static void flight_after(const struct matrix_cell *cell)
{
    holder_end();
    check_int(flight_call(WEIR_FOREVER), ==, 7);
    weir_flight_deinit(&flight);
}

MATRIX_ROW(flight) = {
    .name = "weir_flight_run",
    .flags = MATRIX_ENDS_WITH_LOOP,
    .set_up = flight_set_up,
    .call = flight_call,
    .complete = tell_holder,
    .result = 7,
    .cannot_fail = "it shares what another's gave",
    .after = flight_after,
};

/* ---- channels -------------------------------------------------------------------------------- */

static struct weir_channel channel;
static int storage[1], message;

static void receive_set_up(const struct matrix_cell *cell)
{
    check_int(weir_channel_init(&channel, sizeof message, 1, storage, 0), ==, 0);
}

static int64_t channel_recv_call(uint64_t deadline_ns)
{
    message = 0;
    int result = weir_channel_recv(&channel, &message, deadline_ns);
    check_int(message, ==, result == 0 ? 7 : 0);
    return result;
}

static void put_message(void)
{
    check_int(weir_channel_try_send(&channel, &(int){7}), ==, 0);
}

static void channel_fail(void)
{
    weir_channel_close(&channel);
}

/* A message that was sent and not received is there, and no second one. */
static void channel_recv_after(const struct matrix_cell *cell)
{
    if (!cell->fails) {
        int kept = cell->completed && cell->result < 0;
        check_int(weir_channel_try_recv(&channel, &message), ==, kept ? 0 : -EAGAIN);
        put_message();
        check_int(channel_recv_call(WEIR_FOREVER), ==, 0);
        check_int(weir_channel_count(&channel), ==, 0);
    }
    weir_channel_deinit(&channel);
}

MATRIX_ROW(channel_recv) = {
    .name = "weir_channel_recv",
    .set_up = receive_set_up,
    .call = channel_recv_call,
    .complete = put_message,
    .fail = channel_fail,
    .error = -EPIPE,
    .after = channel_recv_after,
};

static void send_set_up(const struct matrix_cell *cell)
{
    receive_set_up(cell);
    put_message();
}

static int64_t channel_send_call(uint64_t deadline_ns)
{
    return weir_channel_send(&channel, &(int){8}, deadline_ns);
}

static void take_message(void)
{
    check_int(weir_channel_try_recv(&channel, &message), ==, 0);
    check_int(message, ==, 7);
}

/* What was sent is there once; what gave an error was not sent. */
static void channel_send_after(const struct matrix_cell *cell)
{
    if (!cell->fails) {
        if (!cell->completed)
            take_message();
        check_int(weir_channel_count(&channel), ==, cell->result == 0);
        if (cell->result < 0)
            check_int(channel_send_call(WEIR_FOREVER), ==, 0);
        check_int(weir_channel_try_recv(&channel, &message), ==, 0);
        check_int(message, ==, 8);
    }
    weir_channel_deinit(&channel);
}

MATRIX_ROW(channel_send) = {
    .name = "weir_channel_send",
    .set_up = send_set_up,
    .call = channel_send_call,
    .complete = take_message,
    .fail = channel_fail,
    .error = -EPIPE,
    .after = channel_send_after,
};

/* ---- one of several -------------------------------------------------------------------------- */

static struct weir_channel second;
static int second_storage[1];

static void select_set_up(const struct matrix_cell *cell)
{
    receive_set_up(cell);
    check_int(weir_channel_init(&second, sizeof message, 1, second_storage, 0), ==, 0);
}

/* The row of channel_recv, with another channel beside it from which nothing comes. */
static int64_t select_call(uint64_t deadline_ns)
{
    struct weir_case cases[] = {weir_case_recv(&channel, &message),
                                weir_case_recv(&second, &message)};
    message = 0;
    int result = weir_select(cases, 2, deadline_ns);
    check(result <= 0, "case %d of nothing", result);
    if (result == 0)
        result = cases[0].res;
    check_int(message, ==, result == 0 ? 7 : 0);
    return result;
}

static void select_after(const struct matrix_cell *cell)
{
    check_int(weir_channel_count(&second), ==, 0);
    weir_channel_deinit(&second); /* nobody waits there any more */
    channel_recv_after(cell);
}

MATRIX_ROW(select) = {
    .name = "weir_select",
    .set_up = select_set_up,
    .call = select_call,
    .complete = put_message,
    .fail = channel_fail,
    .error = -EPIPE,
    .after = select_after,
};
