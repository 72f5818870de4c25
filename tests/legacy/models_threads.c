/*
 * The threads of a model and how they end, with connections that are socket pairs. What each model
 * makes of them is tested in models.c.
 */
#include "legacy/models/stop.h"
#include "legacy/models/threads.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

static void init_state(void *state, const struct weir_workload_options *options) {}

static int feed(void *state, const uint8_t *in, size_t bytes, struct weir_workload_io *io)
{
    io->consumed = io->reply_len = bytes;
    io->reply = in;
    io->reply_is_input = true;
    io->reply_is_static = false;
    io->requests = 1;
    return WEIR_WORKLOAD_CONTINUE;
}

static const struct weir_workload echo = {.name = "echo", .init = init_state, .feed = feed};

static struct weir_model_options options = {.workload = &echo, .listen_fd = -1};
static struct weir_model_stats stats;
static atomic_uint bodies;

static void serve_one(void *argument)
{
    struct weir__blocking *blocking =
        aligned_alloc(alignof(struct weir__blocking), sizeof *blocking);
    blocking->options = &options;
    blocking->counters = &stats.slots[0];
    atomic_fetch_add(&bodies, 1);
    weir__threads_serve(blocking, *(int *)argument);
    free(blocking);
}

static void count_only(void *argument)
{
    atomic_fetch_add(&bodies, 1);
}

static void fail(void *argument)
{
    weir__threads_fail(-ENOTSOCK);
}

static void *nothing(void *argument)
{
    return argument;
}

static void begin(void (*body)(void *argument), uint64_t drain_ns)
{
    /* With the first thread comes one of ThreadSanitizer's own, which stays. */
    pthread_t first;
    cr_assert_eq(pthread_create(&first, NULL, nothing, NULL), 0);
    cr_assert_eq(pthread_join(first, NULL), 0);
    options.stop_fd = eventfd(0, EFD_CLOEXEC);
    options.drain_ns = drain_ns;
    cr_assert_eq(weir__threads_init(&options, body), 0);
    weir__stop_init(&options);
}

/* ends[0] is served by a thread. */
static void connect_thread(int ends[2])
{
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    cr_assert_eq(weir__threads_start(&ends[0]), 0);
}

static void expect_echo(int fd)
{
    char back[5];
    cr_assert_eq(send(fd, "hello", 5, MSG_NOSIGNAL), 5);
    cr_assert_eq(recv(fd, back, 5, MSG_WAITALL), 5);
    cr_assert_arr_eq(back, "hello", 5);
}

static void await_bodies(unsigned count)
{
    while (atomic_load(&bodies) < count)
        usleep(1000);
}

static unsigned tasks(void)
{
    unsigned count = 0;
    DIR *directory = opendir("/proc/self/task");
    while (readdir(directory))
        count++;
    closedir(directory);
    return count - 2;
}

static unsigned mappings(void)
{
    unsigned count = 0;
    FILE *file = fopen("/proc/self/maps", "re");
    for (int c; (c = fgetc(file)) != EOF;)
        count += c == '\n';
    fclose(file);
    return count;
}

/* Sends until neither the thread nor this side can. */
static void fill(int fd)
{
    char bytes[4096] = "";
    for (int still = 0; still < 50; still++, usleep(1000))
        while (send(fd, bytes, sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
            still = 0;
}

#define HOUR_NS 3600000000000u

Test(models_threads, a_thread_that_waits_for_input_ends_at_the_stop)
{
    int ends[2];
    char byte;
    begin(serve_one, HOUR_NS);
    connect_thread(ends);
    expect_echo(ends[1]);
    weir__threads_finish();
    cr_assert_eq(recv(ends[1], &byte, 1, 0), 0);
    cr_assert_eq(stats.slots[0].closed, 1);
    cr_assert_eq(stats.slots[0].errors, 0);
}

Test(models_threads, a_thread_whose_peer_does_not_read_is_cut_when_the_drain_is_over)
{
    int ends[2];
    begin(serve_one, 10000000);
    connect_thread(ends);
    fill(ends[1]);
    weir__threads_finish();
    cr_assert_eq(stats.slots[0].closed, 1);
    cr_assert_eq(stats.slots[0].errors, 1);
}

Test(models_threads, of_threads_that_come_and_go_no_stack_is_left)
{
    enum { THREADS = 200 };
    begin(count_only, HOUR_NS);
    unsigned tasks_before = tasks(), mappings_before = mappings();
    for (unsigned i = 0; i < THREADS; i++) {
        cr_assert_eq(weir__threads_start(NULL), 0);
        await_bodies(i + 1);
        while (tasks() > tasks_before)
            usleep(100);
    }
    cr_assert_lt(mappings(), mappings_before + THREADS);
    weir__threads_finish();
}

Test(models_threads, no_thread_is_left_at_the_end)
{
    enum { THREADS = 200 };
    int ends[THREADS][2];
    begin(serve_one, HOUR_NS);
    unsigned before = tasks();
    for (unsigned i = 0; i < THREADS; i++)
        connect_thread(ends[i]);
    await_bodies(THREADS);
    weir__threads_finish();
    cr_assert_eq(stats.slots[0].closed, THREADS);
    for (int tries = 0; tries < 1000 && tasks() > before; tries++)
        usleep(1000); /* pthread_join returns a moment before the kernel forgets a task */
    cr_assert_eq(tasks(), before);
}

Test(models_threads, one_that_cannot_go_on_wakes_the_main_thread)
{
    begin(fail, HOUR_NS);
    cr_assert_eq(weir__threads_start(NULL), 0);
    cr_assert_eq(weir__threads_watch(), -ENOTSOCK);
    weir__threads_finish();
}

Test(models_threads, the_stop_descriptor_wakes_the_main_thread)
{
    begin(count_only, HOUR_NS);
    cr_assert_eq(eventfd_write(options.stop_fd, 1), 0);
    cr_assert_eq(weir__threads_watch(), 0);
    weir__threads_finish();
}
