/* Shards: loops side by side, on engines of a few kinds (WEIR_TEST_ENGINE). The harness is that of
 * the conformance suite; here the tests of threads beside each other, which TSan runs, too. */
#include "shards.h"

#include <arpa/inet.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "tests/uring/seccomp.h"

struct fleet fleet;

static void take_stats(void)
{
    for (unsigned i = 0; i < SHARDS; i++) {
        struct weir_loop_stats *stats = &fleet.stats[i];
        weir_loop_stats(weir_shards_loop(fleet.shards, i), stats);
        fleet.sum.accepted += stats->accepted;
        fleet.sum.closed += stats->closed;
        fleet.sum.conns += stats->conns;
        fleet.sum.tasks += stats->tasks;
        fleet.sum.bytes_in += stats->bytes_in;
        fleet.sum.accept_drops += stats->accept_drops;
    }
}

static void *fleet_main(void *argument)
{
    char why[512] = "";
    int result = weir_shards_new(&fleet.shards, &fleet.options, why, sizeof why);
    check(result == 0, "weir_shards_new: %s", why);
    if (fleet.listen.listen.handler) {
        result = weir_shards_listen(fleet.shards, &fleet.listen, &fleet.address.address, why,
                                    sizeof why);
        check(result == 0, "weir_shards_listen: %s", why);
        fleet.address.address_bytes = sizeof(struct sockaddr_in);
    }
    sem_post(&fleet.ready);
    fleet.result = weir_shards_run(fleet.shards);
    take_stats();
    weir_shards_free(fleet.shards);
    return NULL;
}

void fleet_start(void)
{
    fleet.loop.engine = conf_spec();
    fleet.options.loop = &fleet.loop;
    fleet.options.count = SHARDS;
    sem_init(&fleet.ready, 0, 0);
    check_int(pthread_create(&fleet.thread, NULL, fleet_main, NULL), ==, 0);
    sem_wait(&fleet.ready);
}

void fleet_join(int result)
{
    pthread_join(fleet.thread, NULL);
    check_int(fleet.result, ==, result);
    if (result == 0) {
        check_int(fleet.sum.conns, ==, 0);
        check_int(fleet.sum.tasks, ==, 0);
        check_int(fleet.sum.closed, ==, fleet.sum.accepted);
    }
}

void fleet_stop(void)
{
    weir_shards_stop(fleet.shards);
    fleet_join(0);
}

void fleet_peers(unsigned conns, unsigned rounds)
{
    int fds[256];

    check_int(conns, <=, 256);
    for (unsigned i = 0; i < conns; i++)
        fds[i] = peer_connect(&fleet.address);
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned i = 0; i < conns; i++)
            peer_send_pattern(fds[i], 100, i, round * 100);
        for (unsigned i = 0; i < conns; i++)
            peer_recv_pattern(fds[i], 100, i, round * 100);
    }
    for (unsigned i = 0; i < conns; i++)
        peer_close(fds[i]);
}

/* ---- one port together ----------------------------------------------------------------------- */

CONFORMANCE(shards_serve_one_port_and_their_counters_add_up)
{
    fleet.listen.listen.handler = conf_echo;
    fleet_start();
    fleet_peers(64, 10);
    fleet_stop();
    check_int(fleet.sum.accepted, ==, 64);
    check_int(fleet.sum.bytes_in, ==, 64 * 10 * 100);
    /* That all 64 meet one shard happens once in 3^63. */
    for (unsigned i = 0; i < SHARDS; i++)
        check_int(fleet.stats[i].accepted, <, 64);
}

static struct {
    unsigned handled; /* by this shard's thread alone */
    char apart[60];
} own[SHARDS];

static void echo_and_count(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    while (weir_recv(conn, &buf) > 0) {
        own[*(unsigned *)argument].handled += buf.len;
        check(weir_conn_loop(conn) == weir_shards_loop(fleet.shards, *(unsigned *)argument));
        weir_send(conn, &buf);
    }
}

CONFORMANCE(each_shard_gets_an_argument_of_its_own)
{
    static unsigned indexes[SHARDS] = {0, 1, 2};
    static void *const arguments[SHARDS] = {&indexes[0], &indexes[1], &indexes[2]};

    fleet.listen.listen.handler = echo_and_count;
    fleet.listen.arguments = arguments;
    fleet_start();
    fleet_peers(30, 1);
    fleet_stop();
    check_int(own[0].handled + own[1].handled + own[2].handled, ==, 30 * 100);
}

CONFORMANCE(shards_listen_on_all_or_none)
{
    struct weir_loop_options loop = {.engine = conf_spec()};
    struct weir_shards_options options = {.count = SHARDS, .loop = &loop};
    struct weir_shards_listen_options listen = {.listen.handler = conf_echo};
    struct sockaddr_storage address;
    socklen_t bytes;
    struct weir_shards *shards;
    char why[512] = "";

    check_int(weir_shards_new(&shards, &options, why, sizeof why), ==, 0);
    int taken = peer_listen(&address, &bytes, 1, 0);
    listen.listen.port = ntohs(((struct sockaddr_in *)&address)->sin_port);
    check_int(weir_shards_listen(shards, &listen, NULL, why, sizeof why), ==, -EADDRINUSE);
    check(strstr(why, "127.0.0.1"), "%s", why);
    peer_close(taken);
    listen.listen.fd = peer_listen(&address, &bytes, 1, 0);
    check_int(weir_shards_listen(shards, &listen, NULL, why, sizeof why), ==, -EINVAL);
    listen.listen.fd = 0;
    listen.listen.address = "nowhere";
    listen.mode = WEIR_SHARDS_ACCEPTOR;
    check_int(weir_shards_listen(shards, &listen, NULL, why, sizeof why), ==, -EINVAL);
    check(strstr(why, "nowhere"), "%s", why);
    weir_shards_free(shards); /* that were never run */
}

/* ---- messages -------------------------------------------------------------------------------- */

enum { ROUNDS = 3000, MESSAGES = 16 };

struct message {
    struct weir_post post;
    unsigned at, hops;
};

static atomic_uint messages_left;

/* From shard to shard; the last message that has gone all its way ends them. */
static void pass_on(struct weir_post *post)
{
    struct message *message = (struct message *)post;

    check(weir_loop_self() == weir_shards_loop(fleet.shards, message->at));
    if (++message->hops == conf_scale(ROUNDS)) {
        if (--messages_left == 0)
            weir_shards_stop(fleet.shards);
        return;
    }
    message->at = (message->at + 1) % SHARDS;
    check_int(weir_post(weir_shards_loop(fleet.shards, message->at), post), ==, 0);
}

CONFORMANCE(messages_go_from_shard_to_shard)
{
    static struct message messages[MESSAGES];

    fleet_start();
    messages_left = MESSAGES;
    for (unsigned i = 0; i < MESSAGES; i++) {
        messages[i].post.fn = pass_on;
        messages[i].at = i % SHARDS;
        check_int(weir_post(weir_shards_loop(fleet.shards, i % SHARDS), &messages[i].post), ==, 0);
    }
    fleet_join(0);
}

/* ---- starting -------------------------------------------------------------------------------- */

static unsigned set_up, ended;

static int fail_on_the_last(struct weir_loop *loop, unsigned index, void *argument)
{
    set_up++;
    return index == SHARDS - 1 ? -ENOANO : 0;
}

static void count_ended(struct weir_loop *loop, unsigned index, void *argument)
{
    __atomic_add_fetch(&ended, 1, __ATOMIC_RELAXED);
}

static int try_new(const struct weir_shards_options *options, char *why, size_t why_bytes)
{
    struct weir_shards *shards = (void *)&why;
    int result = weir_shards_new(&shards, options, why, why_bytes);

    check(result < 0 && !shards && *why, "%s", why);
    return result;
}

CONFORMANCE(a_setup_that_fails_ends_all)
{
    struct weir_loop_options loop = {.engine = conf_spec()};
    struct weir_shards_options options = {
        .count = SHARDS, .loop = &loop, .setup = fail_on_the_last, .ended = count_ended};
    char why[512] = "";

    check_int(try_new(&options, why, sizeof why), ==, -ENOANO);
    check(strstr(why, "shard 2"), "%s", why);
    check_int(set_up, ==, SHARDS);
    check_int(ended, ==, 0);
}

CONFORMANCE(a_shard_that_cannot_open_ends_the_others)
{
    struct weir_loop_options loop = {.engine = conf_spec()};
    struct weir_shards_options options = {
        .count = 64, .loop = &loop, .setup = fail_on_the_last, .ended = count_ended};
    int free_fd = dup(0);
    struct rlimit limit, few;
    char why[512] = "";

    close(free_fd);
    check_int(getrlimit(RLIMIT_NOFILE, &limit), ==, 0);
    few = (struct rlimit){.rlim_cur = (rlim_t)free_fd + 12, .rlim_max = limit.rlim_max};
    check_int(setrlimit(RLIMIT_NOFILE, &few), ==, 0);
    int result = try_new(&options, why, sizeof why);
    check_int(setrlimit(RLIMIT_NOFILE, &limit), ==, 0);
    check(result == -EMFILE || result == -ENFILE, "%d: %s", result, why);
    check_int(set_up, ==, 0);
}

CONFORMANCE(an_engine_that_there_is_not_is_named_once)
{
    struct weir_loop_options loop = {.engine = "steam"};
    struct weir_shards_options options = {.count = SHARDS, .loop = &loop};
    char why[512] = "";

    check_int(try_new(&options, why, sizeof why), ==, -EINVAL);
    check(strstr(why, "steam"), "%s", why);
}

static int look_at_thread(struct weir_loop *loop, unsigned index, void *argument)
{
    sigset_t blocked;
    cpu_set_t cpus;

    check_int(pthread_sigmask(SIG_BLOCK, NULL, &blocked), ==, 0);
    check_int(sigismember(&blocked, SIGTERM), ==, index > 0);
    check_int(sched_getaffinity(0, sizeof cpus, &cpus), ==, 0);
    check_int(CPU_COUNT(&cpus), ==, 1);
    check(CPU_ISSET(*(unsigned *)argument, &cpus));
    set_up++;
    return 0;
}

static unsigned a_cpu(const cpu_set_t *cpus)
{
    unsigned cpu = 0;

    while (!CPU_ISSET(cpu, cpus))
        cpu++;
    return cpu;
}

CONFORMANCE(shards_stay_on_their_cpus_and_signals_are_the_first_one_s)
{
    cpu_set_t before, after;
    check_int(sched_getaffinity(0, sizeof before, &before), ==, 0);
    unsigned cpu = a_cpu(&before);
    struct weir_loop_options loop = {.engine = conf_spec()};
    struct weir_shards_options options = {.count = SHARDS,
                                          .loop = &loop,
                                          .cpus = &cpu,
                                          .cpu_count = 1,
                                          .setup = look_at_thread,
                                          .argument = &cpu};
    struct weir_shards *shards;
    char why[512] = "";

    check_int(weir_shards_new(&shards, &options, why, sizeof why), ==, 0);
    check_int(set_up, ==, SHARDS);
    weir_shards_free(shards);
    check_int(sched_getaffinity(0, sizeof after, &after), ==, 0);
    check(CPU_EQUAL(&before, &after));
    cpu = CPU_SETSIZE - 1;
    if (!CPU_ISSET(cpu, &before))
        check_int(try_new(&options, why, sizeof why), ==, -EINVAL);
}

CONFORMANCE(one_shard_is_no_thread_and_none_said_is_one_for_each_cpu)
{
    struct weir_loop_options loop = {.engine = conf_spec()};
    struct weir_shards_options options = {.count = 1, .loop = &loop};
    struct conf_process before = conf_process_look();
    struct weir_shards *shards;
    cpu_set_t cpus;
    char why[512] = "";

    check_int(weir_shards_new(&shards, &options, why, sizeof why), ==, 0);
    check_int(conf_process_look().threads, ==, before.threads);
    weir_shards_free(shards);
    options.count = 0;
    check_int(weir_shards_new(&shards, &options, why, sizeof why), ==, 0);
    check_int(sched_getaffinity(0, sizeof cpus, &cpus), ==, 0);
    check_int(weir_shards_count(shards), ==, CPU_COUNT(&cpus));
    weir_shards_free(shards);
}

/* ---- stopping -------------------------------------------------------------------------------- */

CONFORMANCE(shards_that_were_stopped_before_they_ran_end_at_once)
{
    struct weir_loop_options loop = {.engine = conf_spec()};
    struct weir_shards_options options = {.count = SHARDS, .loop = &loop, .ended = count_ended};
    struct weir_shards *shards;
    char why[512] = "";

    check_int(weir_shards_new(&shards, &options, why, sizeof why), ==, 0);
    weir_shards_stop(shards);
    check_int(weir_shards_run(shards), ==, 0);
    check_int(ended, ==, SHARDS);
    weir_shards_free(shards);
}

static struct weir_shards *volatile half_open;

static void stop_half_open(int number)
{
    if (half_open)
        weir_shards_stop(half_open);
}

CONFORMANCE(shards_may_be_stopped_by_a_signal_as_soon_as_they_are_known)
{
    enum { MANY = 16 };
    struct weir_loop_options loop = {.engine = conf_spec()};
    struct weir_shards_options options = {.count = MANY, .loop = &loop};
    struct sigaction action = {.sa_handler = stop_half_open, .sa_flags = SA_RESTART | SA_ONSTACK};
    struct itimerval often = {{0, 100}, {0, 100}}, never = {0};
    char why[512] = "";

    check_int(sigaction(SIGALRM, &action, NULL), ==, 0);
    check_int(setitimer(ITIMER_REAL, &often, NULL), ==, 0);
    int result = weir_shards_new((struct weir_shards **)&half_open, &options, why, sizeof why);
    check(result == 0, "%s", why);
    weir_shards_stop(half_open);
    check_int(weir_shards_run(half_open), ==, 0);
    check_int(setitimer(ITIMER_REAL, &never, NULL), ==, 0);
    weir_shards_free(half_open);
}

static atomic_uint asked;
static atomic_bool released;

/* Answers when the test says so: a request under way. */
static void answer_late(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    while (weir_recv(conn, &buf) > 0) {
        asked++;
        while (!released)
            weir_sleep_until(weir_now_ns() + WEIR_MILLISECOND);
        weir_send(conn, &buf);
    }
}

static void stop_by_signal(int number)
{
    weir_shards_stop(fleet.shards);
}

static void expect_drained(enum weir_shards_mode mode)
{
    int fds[32];

    fleet.listen.mode = mode;

    fleet.loop.drain_ns = PEER_SECONDS * WEIR_SECOND;
    fleet.listen.listen.handler = answer_late;
    fleet_start();
    for (int i = 0; i < 32; i++) {
        fds[i] = peer_connect(&fleet.address);
        peer_send_pattern(fds[i], 1000, (uint64_t)i, 0);
    }
    while (asked < 32)
        usleep(1000);
    struct sigaction action = {.sa_handler = stop_by_signal};
    check_int(sigaction(SIGUSR2, &action, NULL), ==, 0);
    check_int(pthread_kill(fleet.thread, SIGUSR2), ==, 0);
    released = true;
    for (int i = 0; i < 32; i++) {
        peer_recv_pattern(fds[i], 1000, (uint64_t)i, 0);
        check_int(peer_end(fds[i], NULL), ==, 0);
        peer_close(fds[i]);
    }
    fleet_join(0);
    check_int(fleet.sum.accepted, ==, 32);
}

CONFORMANCE(a_stop_by_a_signal_drains_all_shards)
{
    expect_drained(WEIR_SHARDS_REUSEPORT);
}

CONFORMANCE(a_stop_by_a_signal_drains_those_that_were_handed_over)
{
    expect_drained(WEIR_SHARDS_ACCEPTOR);
}

static void stop_this_one(struct weir_post *post)
{
    weir_loop_stop(weir_loop_self());
}

CONFORMANCE(a_shard_that_is_stopped_alone_ends_all)
{
    static struct weir_post post = {.fn = stop_this_one};

    fleet.options.ended = count_ended;
    fleet_start();
    check_int(weir_post(weir_shards_loop(fleet.shards, 1), &post), ==, 0);
    fleet_join(0);
    check_int(ended, ==, SHARDS);
}

/* What engines wait by. Some architectures have only the newer ones. */
static const long waits[] = {
#ifdef __NR_epoll_wait
    __NR_epoll_wait,
#endif
#ifdef __NR_poll
    __NR_poll,
#endif
#ifdef __NR_select
    __NR_select,
#endif
    __NR_epoll_pwait, __NR_epoll_pwait2, __NR_ppoll, __NR_pselect6, __NR_io_uring_enter,
};

/* Of this thread alone. */
static void break_engine(struct weir_post *post)
{
    for (size_t i = 0; i < sizeof waits / sizeof *waits; i++)
        seccomp_fail(waits[i], EPERM, SECCOMP_ANY, 0);
}

static void expect_end_when_broken(enum weir_shards_mode mode, unsigned broken)
{
    static struct weir_post post = {.fn = break_engine};

    fleet.options.ended = count_ended;
    fleet.listen.mode = mode;
    fleet.listen.listen.handler = conf_echo;
    fleet_start();
    int fds[16];
    for (int i = 0; i < 16; i++) {
        fds[i] = peer_connect(&fleet.address);
        peer_echo(fds[i], 100, (uint64_t)i);
    }
    check_int(weir_post(weir_shards_loop(fleet.shards, broken), &post), ==, 0);
    for (int i = 0; i < 16; i++) {
        check_int(peer_end(fds[i], NULL), <=, 0);
        peer_close(fds[i]);
    }
    fleet_join(-EPERM);
    check_int(ended, ==, SHARDS);
}

CONFORMANCE(a_shard_whose_engine_breaks_ends_all)
{
    expect_end_when_broken(WEIR_SHARDS_REUSEPORT, 1);
}

CONFORMANCE(an_acceptor_whose_engine_breaks_ends_all)
{
    expect_end_when_broken(WEIR_SHARDS_ACCEPTOR, 0);
}

CONFORMANCE(a_taker_whose_engine_breaks_ends_all)
{
    expect_end_when_broken(WEIR_SHARDS_ACCEPTOR, 2);
}

/* ---- seen from outside ----------------------------------------------------------------------- */

static atomic_uint accused;
static char accused_name[64];

static void keep_name(const struct weir_hold *hold, void *argument)
{
    snprintf(accused_name, sizeof accused_name, "%s", hold->name);
    accused++;
}

static void holds_its_shard(void *argument)
{
    uint64_t until_ns = weir_now_ns() + PEER_SECONDS * WEIR_SECOND;

    while (!accused && weir_now_ns() < until_ns)
        ;
    weir_shards_stop(fleet.shards);
}

static int hold_the_last(struct weir_loop *loop, unsigned index, void *argument)
{
    if (index < SHARDS - 1)
        return 0;
    return weir_spawn_at(loop, NULL, holds_its_shard, NULL, "the_holder", "here");
}

/* Not CONFORMANCE(): libunwind keeps two descriptors open. */
Test(conformance, who_holds_a_shard_that_is_not_the_first_is_named)
{
    struct weir_watchdog_options dog = {.limit_ns = 20 * WEIR_MILLISECOND, .fn = keep_name};

    check_int(weir_watchdog_start(&dog), ==, 0);
    fleet.options.setup = hold_the_last;
    fleet_start();
    fleet_join(0);
    weir_watchdog_stop();
    check_int(accused, ==, 1);
    check(strcmp(accused_name, "the_holder") == 0, "%s", accused_name);
}
