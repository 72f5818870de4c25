/* The pool of worker processes: deaths and successors, signals, and the end. The workers tell what
 * they do in memory that all share. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <weir/procs.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LIMIT_S = 20, WORKERS = 3 };

/* Shared by the workers and the test. */
struct shared {
    atomic_int begun[WORKERS]; /* how often */
    atomic_int pids[WORKERS];  /* of the last */
    atomic_int masks[WORKERS];
    atomic_int ended; /* told to, they came to the end of work() */
    uint64_t deaths;
};

static struct shared *shared;
static int died[WORKERS];
static atomic_bool told;
static bool deaf;

static void set_up(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    cr_assert(ne(ptr, shared, MAP_FAILED));
}

static void stop(void)
{
    told = !deaf;
}

static int work(void *argument, unsigned index)
{
    (void)argument;
    shared->pids[index] = getpid();
    shared->begun[index]++;
    while (!told)
        usleep(1000);
    shared->ended++;
    return 0;
}

static void note_death(void *argument, unsigned index)
{
    (void)argument;
    died[index]++;
}

static struct weir_procs_options options(void)
{
    return (struct weir_procs_options){
        .workers = WORKERS,
        .drain_ns = LIMIT_S * 1000000000ull,
        .work = work,
        .stop = stop,
        .died = note_death,
        .deaths = &shared->deaths,
    };
}

static struct weir_procs *open_pool(const struct weir_procs_options *with)
{
    struct weir_procs *procs;
    cr_assert(eq(int, weir_procs_open(&procs, with), 0));
    return procs;
}

static int tend(struct weir_procs *procs, int timeout_ms)
{
    struct pollfd news = {.fd = weir_procs_fd(procs), .events = POLLIN};
    poll(&news, 1, timeout_ms);
    return weir_procs_tend(procs);
}

/* Tends until worker `index` has begun so often. */
static void await_begun(struct weir_procs *procs, unsigned index, int times)
{
    for (int i = 0; i < LIMIT_S * 100 && shared->begun[index] < times; i++)
        tend(procs, 10);
    cr_assert(eq(int, shared->begun[index], times));
}

static void await_all(struct weir_procs *procs)
{
    for (unsigned i = 0; i < WORKERS; i++)
        await_begun(procs, i, 1);
}

static void expect_no_child(void)
{
    cr_assert(eq(int, waitpid(-1, NULL, WNOHANG), -1));
    cr_assert(eq(int, errno, ECHILD));
}

TestSuite(procs, .init = set_up, .timeout = 60);

Test(procs, all_workers_run_and_end_when_told)
{
    struct weir_procs_options with = options();
    struct weir_procs *procs = open_pool(&with);
    await_all(procs);
    cr_assert(eq(int, weir_procs_tend(procs), -1), "it wants to be called though nobody died");
    cr_assert(eq(uint, weir_procs_close(procs), 0));
    cr_assert(eq(int, shared->ended, WORKERS));
    cr_assert(eq(u64, shared->deaths, 0));
    expect_no_child();
}

Test(procs, a_stop_right_after_the_start_is_not_missed)
{
    struct weir_procs_options with = options();
    for (int i = 0; i < 20; i++)
        cr_assert(eq(uint, weir_procs_close(open_pool(&with)), 0));
    cr_assert(eq(int, shared->ended, 20 * WORKERS));
}

Test(procs, a_killed_worker_has_a_successor_and_the_others_live_on)
{
    struct weir_procs_options with = options();
    struct weir_procs *procs = open_pool(&with);
    await_all(procs);
    int first = shared->pids[1];
    cr_assert(eq(int, kill(first, SIGKILL), 0));
    await_begun(procs, 1, 2);
    cr_assert(ne(int, shared->pids[1], first));
    cr_assert(eq(int, shared->begun[0], 1));
    cr_assert(eq(int, shared->begun[2], 1));
    cr_assert(eq(int, died[1], 1));
    cr_assert(eq(u64, shared->deaths, 1));
    cr_assert(eq(uint, weir_procs_close(procs), 0));
    expect_no_child();
}

Test(procs, deaths_that_come_together_are_each_made_good)
{
    struct weir_procs_options with = options();
    struct weir_procs *procs = open_pool(&with);
    await_all(procs);
    for (unsigned i = 0; i < WORKERS; i++)
        kill(shared->pids[i], SIGKILL);
    for (unsigned i = 0; i < WORKERS; i++)
        await_begun(procs, i, 2);
    cr_assert(eq(u64, shared->deaths, WORKERS));
    weir_procs_close(procs);
}

static int die_at_once(void *argument, unsigned index)
{
    (void)argument;
    shared->begun[index]++;
    return 1;
}

Test(procs, the_pause_before_a_successor_grows_where_each_dies_at_once_and_is_bounded)
{
    struct weir_procs_options with = options();
    with.workers = 1;
    with.work = die_at_once;
    struct weir_procs *procs = open_pool(&with);
    int pauses[9], count = 0, timeout_ms = -1;
    while (count < 9) {
        int before = died[0];
        timeout_ms = tend(procs, timeout_ms < 0 ? LIMIT_S * 1000 : timeout_ms);
        if (died[0] > before)
            pauses[count++] = timeout_ms;
    }
    cr_assert(ge(int, pauses[0], 1));
    cr_assert(ge(int, pauses[6], 4 * pauses[0]));
    cr_assert(gt(int, pauses[8], 500));
    cr_assert(le(int, pauses[8], 1001));
    cr_assert(eq(int, shared->begun[0], 9), "one was started in a pause");
    weir_procs_close(procs);
}

/* Root is above RLIMIT_NPROC: becomes somebody who has no other process. */
static void allow_processes(rlim_t most)
{
    struct rlimit limit;
    if (getuid() == 0 && setresuid(54321, 54321, 54321) < 0)
        cr_skip_test("root cannot become anybody else here");
    cr_assert(eq(int, getrlimit(RLIMIT_NPROC, &limit), 0));
    limit.rlim_cur = most < limit.rlim_max ? most : limit.rlim_max;
    cr_assert(eq(int, setrlimit(RLIMIT_NPROC, &limit), 0));
}

Test(procs, where_no_process_may_be_made_it_says_so_and_none_is_left)
{
    struct weir_procs_options with = options();
    struct weir_procs *procs;
    allow_processes(getuid() == 0 ? 3 : 1);
    cr_assert(eq(int, weir_procs_open(&procs, &with), -EAGAIN));
    expect_no_child();
}

Test(procs, a_successor_that_cannot_be_forked_is_tried_again)
{
    struct weir_procs_options with = options();
    allow_processes(RLIM_INFINITY);
    struct weir_procs *procs = open_pool(&with);
    await_all(procs);
    allow_processes(1);
    cr_assert(eq(int, kill(shared->pids[0], SIGKILL), 0));
    int timeout_ms = tend(procs, LIMIT_S * 1000);
    for (int tries = 0; tries < 4; tries++) {
        cr_assert(ge(int, timeout_ms, 1));
        timeout_ms = tend(procs, timeout_ms);
    }
    cr_assert(eq(int, shared->begun[0], 1));
    allow_processes(RLIM_INFINITY);
    await_begun(procs, 0, 2);
    cr_assert(eq(u64, shared->deaths, 1), "a fork that failed was counted as a death");
    weir_procs_close(procs);
}

Test(procs, a_worker_that_will_not_end_is_killed_once_the_drain_is_over)
{
    struct weir_procs_options with = options();
    with.drain_ns = 1;
    deaf = true;
    struct weir_procs *procs = open_pool(&with);
    await_all(procs);
    cr_assert(eq(uint, weir_procs_close(procs), WORKERS));
    cr_assert(eq(int, shared->ended, 0));
    expect_no_child();
}

Test(procs, what_reaches_the_whole_group_ends_no_worker)
{
    static const int numbers[] = {SIGINT, SIGUSR1, SIGALRM};
    struct weir_procs_options with = options();
    struct weir_procs *procs = open_pool(&with);
    await_all(procs);
    for (unsigned i = 0; i < WORKERS; i++)
        for (unsigned k = 0; k < 3; k++)
            kill(shared->pids[i], numbers[k]);
    cr_assert(eq(uint, weir_procs_close(procs), 0));
    cr_assert(eq(int, shared->ended, WORKERS));
}

/* Bit 0: a signal that the pool blocks meanwhile is blocked; bit 1: the test's own is. */
static int tell_mask(void *argument, unsigned index)
{
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    int pools = sigismember(&mask, SIGCHLD) | sigismember(&mask, SIGTERM);
    shared->masks[index] = pools | sigismember(&mask, SIGUSR2) << 1;
    return work(argument, index);
}

Test(procs, signals_are_as_they_were_before_in_the_workers_and_afterwards)
{
    struct weir_procs_options with = options();
    struct sigaction action;
    sigset_t before, after;
    sigemptyset(&before);
    sigaddset(&before, SIGUSR2);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    signal(SIGCHLD, SIG_IGN);
    with.work = tell_mask;
    struct weir_procs *procs = open_pool(&with);
    await_all(procs);
    for (unsigned i = 0; i < WORKERS; i++)
        cr_assert(eq(int, shared->masks[i], 2));
    weir_procs_close(procs);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    cr_assert(eq(int, sigismember(&after, SIGUSR2), 1));
    cr_assert(eq(int, sigismember(&after, SIGCHLD), 0));
    sigaction(SIGCHLD, NULL, &action);
    cr_assert(eq(ptr, (void *)action.sa_handler, (void *)SIG_IGN));
}

static int64_t spent_us(int who)
{
    struct rusage usage;
    cr_assert(eq(int, getrusage(who, &usage), 0));
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000ll + usage.ru_utime.tv_usec +
           usage.ru_stime.tv_usec;
}

static int spend_and_wait(void *argument, unsigned index)
{
    while (spent_us(RUSAGE_SELF) < 20000)
        ;
    return work(argument, index);
}

Test(procs, the_time_of_dead_workers_is_their_parents_though_it_was_started_with_sigchld_ignored)
{
    struct weir_procs_options with = options();
    with.work = spend_and_wait;
    signal(SIGCHLD, SIG_IGN);
    struct weir_procs *procs = open_pool(&with);
    await_all(procs);
    weir_procs_close(procs);
    cr_assert(ge(i64, spent_us(RUSAGE_CHILDREN), WORKERS * 20000));
}

Test(procs, no_worker_outlives_a_parent_that_is_killed)
{
    int alive[2];
    cr_assert(eq(int, pipe(alive), 0));
    pid_t parent = fork();
    if (parent == 0) {
        struct weir_procs_options with = options();
        struct weir_procs *procs;
        if (weir_procs_open(&procs, &with) == 0)
            weir_procs_run(procs, eventfd(0, 0));
        _exit(1);
    }
    close(alive[1]);
    for (unsigned i = 0; i < WORKERS; i++)
        for (int k = 0; k < LIMIT_S * 1000 && shared->begun[i] == 0; k++)
            usleep(1000);
    cr_assert(eq(int, shared->begun[WORKERS - 1], 1));
    kill(parent, SIGKILL);
    struct pollfd end = {.fd = alive[0]};
    cr_assert(eq(int, poll(&end, 1, LIMIT_S * 1000), 1), "somebody has the pipe open still");
    waitpid(parent, NULL, 0);
}

Test(procs, run_tends_until_it_is_told_to_stop)
{
    struct weir_procs_options with = options();
    int stop_fd = eventfd(0, EFD_NONBLOCK);
    struct weir_procs *procs = open_pool(&with);
    await_all(procs);
    pid_t assistant = fork();
    if (assistant == 0) {
        kill(shared->pids[2], SIGKILL);
        for (int i = 0; i < LIMIT_S * 1000 && shared->begun[2] < 2; i++)
            usleep(1000);
        eventfd_write(stop_fd, 1);
        _exit(0);
    }
    cr_assert(eq(int, weir_procs_run(procs, stop_fd), 0));
    cr_assert(eq(int, shared->begun[2], 2));
    weir_procs_close(procs);
    waitpid(assistant, NULL, 0);
    close(stop_fd);
}
