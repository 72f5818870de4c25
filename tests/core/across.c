/* Tasks of several loops, each on a thread of its own, that wait for each other: every wait may end
 * by a deadline or a cancel at any time, and nothing is lost and nothing given twice. For
 * ThreadSanitizer, above all. */
#include <criterion/criterion.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <weir/weir.h>

#define check(condition) ((condition) ? (void)0 : failed(#condition, __LINE__))

/* Criterion's assertions are for its own thread. */
static void failed(const char *what, int line)
{
    fprintf(stderr, "across.c:%d: %s\n", line, what);
    abort();
}

enum { LOOPS = 3, WORKERS = 4, ROUNDS = 250, TOTAL = LOOPS * WORKERS * ROUNDS };

struct worker {
    struct side *side;
    struct weir_scope *scope; /* in which it waits now, or NULL */
    unsigned index, seed;
    uint64_t deadline_ns; /* of this attempt */
};

struct side {
    const char *engine;
    void (*work)(struct worker *worker);
    struct worker workers[WORKERS];
    unsigned working;
    unsigned seed;
    pthread_t thread;
};

/* ---- loops, workers, and who disturbs them ----------------------------------------------------
 */

static void worker_main(void *argument)
{
    struct worker *worker = argument;
    worker->side->work(worker);
    worker->side->working--;
}

/* Cancels whatever waits, again and again. */
static void cancel_main(void *argument)
{
    struct side *side = argument;
    while (side->working) {
        struct worker *worker = &side->workers[(unsigned)rand_r(&side->seed) % WORKERS];
        if (worker->scope)
            weir_scope_cancel(worker->scope);
        weir_sleep_until(weir_now_ns() + 50000);
    }
}

static void *side_main(void *argument)
{
    struct side *side = argument;
    struct weir_loop_options options = {.engine = side->engine, .bufs = 16, .buf_bytes = 4096};
    struct weir_loop *loop;
    char why[256];
    check(weir_loop_new(&loop, &options, why, sizeof why) == 0);
    for (unsigned i = 0; i < WORKERS; i++)
        check(weir_spawn(loop, NULL, worker_main, &side->workers[i]) == 0);
    side->working = WORKERS;
    check(weir_spawn(loop, NULL, cancel_main, side) == 0);
    check(weir_loop_run(loop) == 0);
    weir_loop_free(loop);
    return NULL;
}

static struct side sides[LOOPS];

static void start_sides(void (*work)(struct worker *worker))
{
    for (unsigned i = 0; i < LOOPS; i++) {
        sides[i] = (struct side){.engine = i == 1 ? "epoll" : "auto", .work = work, .seed = 77 + i};
        for (unsigned k = 0; k < WORKERS; k++) {
            unsigned index = i * WORKERS + k;
            sides[i].workers[k] =
                (struct worker){.side = &sides[i], .index = index, .seed = 1000 + index};
        }
        check(pthread_create(&sides[i].thread, NULL, side_main, &sides[i]) == 0);
    }
}

static void join_sides(void)
{
    for (unsigned i = 0; i < LOOPS; i++)
        check(pthread_join(sides[i].thread, NULL) == 0);
}

static void run_sides(void (*work)(struct worker *worker))
{
    start_sides(work);
    join_sides();
}

/* Begins an attempt: one that may be cancelled and whose deadline, the scope's or its own, may be
 * long past, soon, or never. */
static void attempt(struct worker *worker, struct weir_scope *scope)
{
    uint64_t deadlines_ns[4] = {0, weir_now_ns() + (unsigned)rand_r(&worker->seed) % 200000,
                                WEIR_FOREVER, WEIR_FOREVER};
    worker->deadline_ns = deadlines_ns[rand_r(&worker->seed) % 4];
    weir_scope_open(scope, deadlines_ns[rand_r(&worker->seed) % 3 + 1], 0);
    worker->scope = scope;
}

static void attempted(struct worker *worker, struct weir_scope *scope)
{
    worker->scope = NULL;
    weir_scope_close(scope);
}

static void may_have_ended(int res)
{
    check(res == 0 || res == -ETIME || res == -ECANCELED);
}

/* Now and then, with something in hand. */
static void dawdle(struct worker *worker)
{
    if (rand_r(&worker->seed) % 4 == 0)
        weir_yield();
    if (rand_r(&worker->seed) % 64 == 0)
        weir_sleep_until(weir_now_ns() + 100000);
}

/* ---- mutex ----------------------------------------------------------------------------------- */

static struct weir_mutex mutex;
static unsigned inside, entered; /* not atomic: the mutex guards them */
static atomic_uint locked;

static void lock_and_count(struct worker *worker)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct weir_scope scope;
        attempt(worker, &scope);
        int res = weir_mutex_lock(&mutex, worker->deadline_ns);
        may_have_ended(res);
        if (res == 0) {
            check(inside++ == 0);
            entered++;
            dawdle(worker);
            check(--inside == 0);
            weir_mutex_unlock(&mutex);
            atomic_fetch_add(&locked, 1);
        }
        attempted(worker, &scope);
    }
}

Test(across, a_mutex_is_held_by_one_task_of_all_loops)
{
    weir_mutex_init(&mutex, WEIR_ACROSS);
    run_sides(lock_and_count);
    weir_mutex_deinit(&mutex); /* asserts that it is free */
    cr_assert_eq(entered, locked);
    cr_assert_gt(entered, TOTAL / 8);
}

/* ---- condition ------------------------------------------------------------------------------- */

static struct weir_cond cond;
static unsigned stock;

/* Each puts ROUNDS into stock and takes as many out. The last attempts have no other end than a
 * signal, so one that is lost hangs. */
static void put_and_take(struct worker *worker)
{
    for (unsigned put = 0, took = 0; took < ROUNDS;) {
        struct weir_scope scope;
        int res = 0;
        attempt(worker, &scope);
        if (weir_mutex_lock(&mutex, WEIR_FOREVER) == 0) {
            check(inside++ == 0);
            if (put < ROUNDS && put <= took + (unsigned)rand_r(&worker->seed) % 4) {
                stock++;
                put++;
                weir_cond_signal(&cond);
            }
            while (!stock && !res && put == ROUNDS) {
                inside--;
                res = weir_cond_wait(&cond, worker->deadline_ns);
                check(inside++ == 0);
                may_have_ended(res);
            }
            if (stock) {
                stock--;
                took++;
            }
            inside--;
            if (rand_r(&worker->seed) % 50 == 0)
                weir_cond_broadcast(&cond);
            weir_mutex_unlock(&mutex);
        }
        attempted(worker, &scope);
    }
}

Test(across, a_condition_loses_no_signal)
{
    weir_mutex_init(&mutex, WEIR_ACROSS);
    weir_cond_init(&cond, &mutex);
    run_sides(put_and_take);
    weir_cond_deinit(&cond);
    weir_mutex_deinit(&mutex);
    cr_assert_eq(stock, 0);
}

/* ---- read-write lock ------------------------------------------------------------------------- */

static struct weir_rwlock rwlock;
static atomic_int reading, writing;
static unsigned written; /* guarded by it */
static atomic_uint writes, reads;

static void read_or_write(struct worker *worker)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct weir_scope scope;
        bool write = rand_r(&worker->seed) % 3 == 0;
        attempt(worker, &scope);
        int res = write ? weir_rwlock_write_lock(&rwlock, worker->deadline_ns)
                        : weir_rwlock_read_lock(&rwlock, worker->deadline_ns);
        may_have_ended(res);
        if (res == 0 && write) {
            check(atomic_fetch_add(&writing, 1) == 0 && atomic_load(&reading) == 0);
            written++;
            dawdle(worker);
            atomic_fetch_sub(&writing, 1);
            atomic_fetch_add(&writes, 1);
            weir_rwlock_write_unlock(&rwlock);
        } else if (res == 0) {
            atomic_fetch_add(&reading, 1);
            check(atomic_load(&writing) == 0);
            dawdle(worker);
            atomic_fetch_sub(&reading, 1);
            atomic_fetch_add(&reads, 1);
            weir_rwlock_read_unlock(&rwlock);
        }
        attempted(worker, &scope);
    }
}

Test(across, a_read_write_lock_keeps_writers_alone)
{
    weir_rwlock_init(&rwlock, WEIR_ACROSS);
    run_sides(read_or_write);
    weir_rwlock_deinit(&rwlock);
    cr_assert_eq(written, writes);
    cr_assert(writes > 0 && reads > 0);
}

/* ---- semaphore and wait group ---------------------------------------------------------------- */

enum { TOKENS = 3 };
static struct weir_sem sem;
static struct weir_wait_group group;
static atomic_int held;

static void take_and_give(struct worker *worker)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct weir_scope scope;
        attempt(worker, &scope);
        int res = weir_sem_wait(&sem, worker->deadline_ns);
        may_have_ended(res);
        if (res == 0) {
            check(atomic_fetch_add(&held, 1) < TOKENS);
            dawdle(worker);
            atomic_fetch_sub(&held, 1);
            weir_sem_post(&sem, 1);
        }
        attempted(worker, &scope);
    }
    weir_wait_group_done(&group);
    check(weir_wait_group_wait(&group, WEIR_FOREVER) == 0);
    check(atomic_load(&held) == 0); /* all are through */
}

Test(across, a_semaphore_keeps_its_tokens_and_a_group_waits_for_all)
{
    weir_sem_init(&sem, TOKENS, WEIR_ACROSS);
    weir_wait_group_init(&group, WEIR_ACROSS);
    weir_wait_group_add(&group, LOOPS * WORKERS);
    run_sides(take_and_give);
    for (int i = 0; i < TOKENS; i++)
        cr_assert_eq(weir_sem_try_wait(&sem), 0);
    cr_assert_eq(weir_sem_try_wait(&sem), -EAGAIN);
    weir_sem_deinit(&sem);
    weir_wait_group_deinit(&group);
}

/* ---- once and single-flight ------------------------------------------------------------------ */

static struct weir_once once;
static struct weir_flight flight;
static unsigned once_runs; /* guarded by once */
static atomic_int flying;

static int once_fn(void *argument)
{
    struct worker *worker = argument;
    check(inside++ == 0);
    int res = weir_sleep_until(weir_now_ns() + (unsigned)rand_r(&worker->seed) % 100000);
    check(--inside == 0);
    if (!res)
        once_runs++;
    return res ? res : 42;
}

static int flight_fn(void *argument)
{
    struct worker *worker = argument;
    check(atomic_fetch_add(&flying, 1) == 0);
    int res = weir_sleep_until(weir_now_ns() + (unsigned)rand_r(&worker->seed) % 100000);
    atomic_fetch_sub(&flying, 1);
    return res ? res : 43;
}

static void run_shared(struct worker *worker)
{
    for (unsigned i = 0; i < ROUNDS / 8; i++) {
        struct weir_scope scope;
        attempt(worker, &scope);
        int res = weir_once_run(&once, once_fn, worker, worker->deadline_ns);
        check(res == 42 || res == -ETIME || res == -ECANCELED);
        res = weir_flight_run(&flight, flight_fn, worker, worker->deadline_ns);
        check(res == 43 || res == -ETIME || res == -ECANCELED);
        attempted(worker, &scope);
    }
    check(weir_once_run(&once, once_fn, worker, WEIR_FOREVER) == 42);
}

Test(across, what_is_shared_runs_one_at_a_time_and_once_succeeds_once)
{
    weir_once_init(&once, WEIR_ACROSS);
    weir_flight_init(&flight, WEIR_ACROSS);
    run_sides(run_shared);
    weir_once_deinit(&once);
    weir_flight_deinit(&flight);
    cr_assert_eq(once_runs, 1);
}

/* ---- channels -------------------------------------------------------------------------------- */

struct message {
    unsigned sender, number;
};

static struct weir_channel channel;
static atomic_uint sent, got;
static atomic_ullong sent_sum, got_sum;

static void took(struct message message, unsigned *last)
{
    check(message.number > last[message.sender]); /* each sender's in order, none twice */
    last[message.sender] = message.number;
    atomic_fetch_add(&got, 1);
    atomic_fetch_add(&got_sum, message.number * 100ull + message.sender);
}

static void try_to_send(struct worker *worker, unsigned number)
{
    struct message message = {worker->index, number};
    int res = weir_channel_send(&channel, &message, worker->deadline_ns);
    may_have_ended(res);
    if (res == 0) {
        atomic_fetch_add(&sent, 1);
        atomic_fetch_add(&sent_sum, number * 100ull + worker->index);
    }
}

/* Some send, some receive, until all that is sent has been. */
static void send_or_receive(struct worker *worker)
{
    unsigned last[LOOPS * WORKERS + 1] = {0};
    for (unsigned i = 1;; i++) {
        struct weir_scope scope;
        struct message message;
        int res = 0;
        if (worker->index % 2 && i > ROUNDS)
            break;
        attempt(worker, &scope);
        if (worker->index % 2)
            try_to_send(worker, i);
        else if ((res = weir_channel_recv(&channel, &message, worker->deadline_ns)) == 0)
            took(message, last);
        attempted(worker, &scope);
        if (res == -EPIPE)
            break;
        may_have_ended(res);
    }
    if (worker->index % 2)
        weir_wait_group_done(&group);
    if (worker->index == 1) {
        check(weir_wait_group_wait(&group, WEIR_FOREVER) == 0);
        weir_channel_close(&channel);
    }
}

static void exchange(size_t capacity)
{
    check(weir_channel_init(&channel, sizeof(struct message), capacity, NULL, WEIR_ACROSS) == 0);
    weir_wait_group_init(&group, WEIR_ACROSS);
    weir_wait_group_add(&group, LOOPS * WORKERS / 2 + 1);
    start_sides(send_or_receive);
    for (unsigned i = 1; i <= ROUNDS; i++) { /* from a thread that has no loop */
        struct message message = {LOOPS * WORKERS, i};
        while (weir_channel_try_send(&channel, &message) == -EAGAIN)
            sched_yield();
        atomic_fetch_add(&sent, 1);
        atomic_fetch_add(&sent_sum, i * 100ull + LOOPS * WORKERS);
    }
    weir_wait_group_done(&group);
    join_sides();
    weir_channel_deinit(&channel);
    weir_wait_group_deinit(&group);
    cr_assert_eq(sent, got);
    cr_assert_eq(sent_sum, got_sum);
    cr_assert_gt(sent, ROUNDS);
}

Test(across, a_channel_loses_and_doubles_no_message)
{
    exchange(5);
}

Test(across, a_channel_without_room_loses_and_doubles_no_message)
{
    exchange(0);
}

/* ---- one of several channels ----------------------------------------------------------------- */

enum { CHANNELS = 3 };
static struct weir_channel channels[CHANNELS];
static atomic_bool arrived[LOOPS * WORKERS][ROUNDS];
static atomic_uint senders;

/* Sends its number on any channel, and receives what others send on any. */
static void take_part(struct worker *worker, struct weir_case *cases, unsigned count,
                      struct message *incoming, unsigned *number, bool *ended)
{
    struct weir_scope scope;
    attempt(worker, &scope);
    int which = weir_select(cases, count, worker->deadline_ns);
    attempted(worker, &scope);
    if (which < 0) {
        may_have_ended(which);
    } else if (cases[which].kind == WEIR_CASE_SEND) {
        check(cases[which].res == 0);
        ++*number;
        atomic_fetch_add(&sent, 1);
    } else if (cases[which].res == 0) {
        check(!atomic_exchange(&arrived[incoming->sender][incoming->number], true));
        atomic_fetch_add(&got, 1);
    } else {
        check(cases[which].res == -EPIPE);
        ended[(struct weir_channel *)cases[which].of - channels] = true;
    }
}

static void select_all(struct worker *worker)
{
    bool ended[CHANNELS] = {false};
    for (unsigned number = 0, left = CHANNELS; left;) {
        struct message incoming, outgoing = {worker->index, number};
        struct weir_case cases[2 * CHANNELS];
        unsigned before = number, count = 0;
        for (unsigned i = 0; i < CHANNELS; i++) {
            if (!ended[i])
                cases[count++] = weir_case_recv(&channels[i], &incoming);
            if (number < ROUNDS)
                cases[count++] = weir_case_send(&channels[i], &outgoing);
        }
        take_part(worker, cases, count, &incoming, &number, ended);
        if (number > before && number == ROUNDS && atomic_fetch_sub(&senders, 1) == 1)
            for (unsigned i = 0; i < CHANNELS; i++)
                weir_channel_close(&channels[i]);
        left = 0;
        for (unsigned i = 0; i < CHANNELS; i++)
            left += !ended[i];
    }
}

Test(across, of_several_channels_each_message_takes_one)
{
    for (unsigned i = 0; i < CHANNELS; i++)
        check(weir_channel_init(&channels[i], sizeof(struct message), i, NULL, WEIR_ACROSS) == 0);
    senders = LOOPS * WORKERS;
    run_sides(select_all);
    for (unsigned i = 0; i < CHANNELS; i++)
        weir_channel_deinit(&channels[i]);
    cr_assert_eq(sent, TOTAL);
    cr_assert_eq(got, TOTAL);
}

/* ---- what a task waited for is freed before it runs again ------------------------------------ */

static struct {
    struct weir_channel *channel; /* a mapping: touched when it has gone, it kills */
    sem_t waits, gone;
    struct weir_task *receiver;
    int got, res;
} late;

static void receives(void *argument)
{
    late.res = weir_channel_recv(late.channel, &late.got, WEIR_FOREVER);
}

static void selects(void *argument)
{
    struct weir_case one = weir_case_recv(late.channel, &late.got);
    check(weir_select(&one, 1, WEIR_FOREVER) == 0);
    late.res = one.res;
}

/* Holds the loop, so that no message gets in, until the channel has gone. */
static void cancel_too_late(void *argument)
{
    sem_post(&late.waits);
    while (sem_wait(&late.gone))
        ;
    weir_task_cancel(late.receiver);
    check(weir_join(late.receiver, WEIR_FOREVER) == 0);
}

static void *late_main(void *receiver)
{
    struct weir_loop *loop;
    char why[256];

    check(weir_loop_new(&loop, NULL, why, sizeof why) == 0);
    check(weir_spawn(loop, &late.receiver, *(weir_task_fn **)receiver, NULL) == 0);
    check(weir_spawn(loop, NULL, cancel_too_late, NULL) == 0);
    check(weir_loop_run(loop) == 0);
    weir_loop_free(loop);
    return NULL;
}

static void expect_untouched(weir_task_fn *receiver, int message, int res)
{
    pthread_t thread;

    late.channel = mmap(NULL, sizeof *late.channel, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(late.channel != MAP_FAILED);
    check(weir_channel_init(late.channel, sizeof(int), 0, NULL, WEIR_ACROSS) == 0);
    sem_init(&late.waits, 0, 0);
    sem_init(&late.gone, 0, 0);
    check(pthread_create(&thread, NULL, late_main, &receiver) == 0);
    while (sem_wait(&late.waits))
        ;
    if (message)
        check(weir_channel_try_send(late.channel, &message) == 0);
    else
        weir_channel_close(late.channel);
    weir_channel_deinit(late.channel);
    munmap(late.channel, sizeof *late.channel);
    sem_post(&late.gone);
    check(pthread_join(thread, NULL) == 0);
    check(late.res == res && late.got == message);
}

Test(across, a_channel_may_go_when_it_is_closed_though_a_receiver_has_not_run, .timeout = 60)
{
    expect_untouched(receives, 0, -EPIPE);
}

Test(across, a_channel_may_go_when_a_receiver_has_its_message, .timeout = 60)
{
    expect_untouched(receives, 5, 0);
}

Test(across, a_channel_may_go_when_a_task_that_selects_has_its_message, .timeout = 60)
{
    expect_untouched(selects, 5, 0);
}
