/*
 * What it costs that tasks wait for each other: locks, channels, select, within a loop and across
 * two. Rounds of all rows are interleaved; a row shows the median of its rounds. The engine may be
 * named: `sync epoll`.
 */
#include <weir/weir.h>

#include <assert.h>
#include <pthread.h>

#include "bench/micro/micro.h"

enum { TIMES = 20000, SLOW_TIMES = 500, CHANNELS = 4 };

static struct weir_mutex local_mutex, across_mutex;
static struct weir_sem sem;
static struct weir_channel ring, there, back; /* of one loop */
static struct weir_channel across_there, across_back;
static struct weir_channel several[CHANNELS];
static volatile uintptr_t plain;

/* ---- a row: what is done, `times` times --------------------------------------------------------
 */

static void store(unsigned times)
{
    while (times-- > 0)
        plain = 1;
}

static void lock_and_unlock(struct weir_mutex *mutex, unsigned times)
{
    while (times-- > 0) {
        weir_mutex_lock(mutex, WEIR_FOREVER);
        plain = 1;
        weir_mutex_unlock(mutex);
    }
}

static void lock_local(unsigned times)
{
    lock_and_unlock(&local_mutex, times);
}

static void lock_across(unsigned times)
{
    lock_and_unlock(&across_mutex, times);
}

static void wait_and_post(unsigned times)
{
    while (times-- > 0) {
        weir_sem_wait(&sem, WEIR_FOREVER);
        weir_sem_post(&sem, 1);
    }
}

static void through_the_ring(unsigned times)
{
    void *message = NULL;

    while (times-- > 0) {
        weir_channel_send(&ring, &message, WEIR_FOREVER);
        weir_channel_recv(&ring, &message, WEIR_FOREVER);
    }
}

/* There and back is two of them, each with a task that waits for it. */
static void hand_over(unsigned times)
{
    void *message = NULL;

    for (; times > 0; times -= 2) {
        weir_channel_send(&there, &message, WEIR_FOREVER);
        weir_channel_recv(&back, &message, WEIR_FOREVER);
    }
}

static void select_ready(unsigned times)
{
    void *message = NULL;
    struct weir_case cases[CHANNELS];

    for (int i = 0; i < CHANNELS; i++)
        cases[i] = weir_case_recv(&several[i], &message);
    for (; times > 0; times--) {
        weir_channel_try_send(&several[times % CHANNELS], &message);
        weir_select(cases, CHANNELS, WEIR_FOREVER);
    }
}

/* The other task sends to one of them when it is told to. */
static void select_waiting(unsigned times)
{
    void *message = NULL;
    struct weir_case cases[CHANNELS];

    for (int i = 0; i < CHANNELS - 1; i++)
        cases[i] = weir_case_recv(&several[i], &message);
    cases[CHANNELS - 1] = weir_case_recv(&back, &message);
    for (; times > 0; times -= 2) {
        weir_channel_send(&there, &message, WEIR_FOREVER);
        weir_select(cases, CHANNELS, WEIR_FOREVER);
    }
}

static void across_round_trip(unsigned times)
{
    void *message = NULL;

    while (times-- > 0) {
        weir_channel_send(&across_there, &message, WEIR_FOREVER);
        weir_channel_recv(&across_back, &message, WEIR_FOREVER);
    }
}

static struct row {
    const char *name;
    void (*run)(unsigned times);
    unsigned times;
    double rounds[MICRO_ROUNDS];
} rows[] = {
    {"a plain store", store, TIMES, {0}},
    {"mutex: lock, store, unlock", lock_local, TIMES, {0}},
    {"mutex across loops: lock, store, unlock", lock_across, TIMES, {0}},
    {"semaphore: wait, post", wait_and_post, TIMES, {0}},
    {"channel: send, receive, nobody waits", through_the_ring, TIMES, {0}},
    {"channel: hand-over to a waiting task", hand_over, TIMES, {0}},
    {"select of 4 channels, one is ready", select_ready, TIMES, {0}},
    {"hand-over to a select of 4 channels, and back", select_waiting, TIMES, {0}},
    {"channels across two loops: there and back", across_round_trip, SLOW_TIMES, {0}},
};
enum { ROWS = sizeof rows / sizeof *rows };

/* ---- the run --------------------------------------------------------------------------------- */

static void echo(struct weir_channel *from, struct weir_channel *to)
{
    void *message;

    while (!weir_channel_recv(from, &message, WEIR_FOREVER))
        weir_channel_send(to, &message, WEIR_FOREVER);
}

static void echo_local(void *argument)
{
    (void)argument;
    echo(&there, &back);
}

static void echo_across(void *argument)
{
    (void)argument;
    echo(&across_there, &across_back);
}

static void measure(void *argument)
{
    (void)argument;
    for (unsigned round = 0; round < MICRO_ROUNDS; round++)
        for (unsigned i = 0; i < ROWS; i++) {
            rows[i].run(rows[i].times / 10); /* its memory is warm then */
            uint64_t start_ns = micro_now_ns();
            rows[i].run(rows[i].times);
            rows[i].rounds[round] = (double)(micro_now_ns() - start_ns) / rows[i].times;
        }
    weir_channel_close(&there);
    weir_channel_close(&across_there);
}

static void init(void)
{
    int res = 0;

    weir_mutex_init(&local_mutex, 0);
    weir_mutex_init(&across_mutex, WEIR_ACROSS);
    weir_sem_init(&sem, 1, 0);
    res |= weir_channel_init(&ring, sizeof(void *), 16, NULL, 0);
    res |= weir_channel_init(&there, sizeof(void *), 1, NULL, 0);
    res |= weir_channel_init(&back, sizeof(void *), 1, NULL, 0);
    res |= weir_channel_init(&across_there, sizeof(void *), 1, NULL, WEIR_ACROSS);
    res |= weir_channel_init(&across_back, sizeof(void *), 1, NULL, WEIR_ACROSS);
    for (int i = 0; i < CHANNELS; i++)
        res |= weir_channel_init(&several[i], sizeof(void *), 1, NULL, 0);
    assert(!res);
    (void)res;
}

static const char *engine;

static void *run(void *first)
{
    struct weir_loop_options options = {.engine = engine};
    struct weir_loop *loop;
    char why[256];
    int res = weir_loop_new(&loop, &options, why, sizeof why);

    if (res < 0) {
        fprintf(stderr, "sync: %s\n", why);
        exit(1);
    }
    if (first) {
        printf("engine: %s\n", weir_loop_engine(loop));
        res |= weir_spawn(loop, NULL, echo_local, NULL);
        res |= weir_spawn(loop, NULL, measure, NULL);
    } else {
        res |= weir_spawn(loop, NULL, echo_across, NULL);
    }
    res |= weir_loop_run(loop);
    assert(!res);
    weir_loop_free(loop);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t other;

    engine = argc > 1 ? argv[1] : NULL;
    init();
    if (pthread_create(&other, NULL, run, NULL))
        return 1;
    run(&other);
    pthread_join(other, NULL);
    for (unsigned i = 0; i < ROWS; i++)
        micro_print(rows[i].name, "ns", rows[i].rounds);
    return 0;
}
