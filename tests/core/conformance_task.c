/* Conformance: tasks. Spawn, join, yield, sleep, and when weir_loop_run() has nothing left to do.
 */
#include "conformance.h"

static int steps[64];
static unsigned step_count;

static void step(int number)
{
    check_int(step_count, <, 64);
    steps[step_count++] = number;
}

/* ---- spawn and join -------------------------------------------------------------------------- */

static void add_step(void *argument)
{
    step(*(int *)argument);
}

static void spawn_and_join(void *argument)
{
    struct weir_loop *loop = weir_loop_self();
    struct weir_task *tasks[3];
    int numbers[3] = {1, 2, 3};
    check(weir_task_self(), "a task is running");
    for (int i = 0; i < 3; i++)
        check_int(weir_spawn(loop, &tasks[i], add_step, &numbers[i]), ==, 0);
    check_int(step_count, ==, 0); /* it runs from the loop's next step */
    for (int i = 2; i >= 0; i--)
        check_int(weir_join(tasks[i], WEIR_FOREVER), ==, 0);
    check_int(step_count, ==, 3);
    for (int i = 0; i < 3; i++)
        check_int(steps[i], ==, i + 1);
}

CONFORMANCE(spawned_tasks_run_in_order_and_after_the_call)
{
    check(weir_task_self() == NULL, "no task runs here");
    check(weir_loop_self() == NULL, "no loop runs here");
    conf_run(NULL, spawn_and_join, NULL);
    check(weir_loop_self() == NULL, "no loop runs any more");
}

static void join_the_ended(void *argument)
{
    struct weir_task *task;
    int number = 5;
    check_int(weir_spawn(weir_loop_self(), &task, add_step, &number), ==, 0);
    conf_settle();
    check_int(step_count, ==, 1);
    weir_task_cancel(task); /* too late to matter */
    check_int(weir_join(task, 0), ==, 0);
}

CONFORMANCE(a_task_that_has_ended_is_joined_at_once)
{
    conf_run(NULL, join_the_ended, NULL);
}

struct child {
    struct weir_task *self;
    bool go;
};

static void wait_for_go(void *argument)
{
    struct child *child = argument;
    child->self = weir_task_self();
    while (!child->go)
        if (weir_yield() < 0)
            return;
}

static void join_with_deadline(void *argument)
{
    struct child child = {0};
    struct weir_task *task;
    check_int(weir_spawn(weir_loop_self(), &task, wait_for_go, &child), ==, 0);
    check_int(weir_join(task, 0), ==, -ETIME);
    uint64_t deadline_ns = weir_now_ns() + 2000000;
    check_int(weir_join(task, deadline_ns), ==, -ETIME);
    check_int(weir_now_ns(), >=, deadline_ns);
    check(child.self == task && task != weir_task_self(), "another task");
    child.go = true;
    check_int(weir_join(task, WEIR_FOREVER), ==, 0);
}

CONFORMANCE(join_past_its_deadline_leaves_the_task_to_be_joined)
{
    conf_run(NULL, join_with_deadline, NULL);
}

static unsigned detached_runs;

static void run_detached(void *argument)
{
    check_int(weir_yield(), ==, 0);
    detached_runs++;
    unsigned *generations = argument;
    if (--*generations > 0)
        check_int(weir_spawn(weir_loop_self(), NULL, run_detached, generations), ==, 0);
}

static void spawn_detached(void *argument)
{
    static unsigned generations[100];
    for (int i = 0; i < 100; i++) {
        generations[i] = 5;
        check_int(weir_spawn(weir_loop_self(), NULL, run_detached, &generations[i]), ==, 0);
    }
    struct weir_loop_stats stats;
    weir_loop_stats(weir_loop_self(), &stats);
    check_int(stats.tasks, ==, 101);
}

CONFORMANCE(detached_tasks_outlive_their_parent_and_the_loop_waits_for_them)
{
    conf_run(NULL, spawn_detached, NULL);
    check_int(detached_runs, ==, 500);
}

static void count_one(void *argument)
{
    ++*(unsigned *)argument;
}

static void spawn_many(void *argument)
{
    enum { MANY = 2000 };
    static struct weir_task *tasks[MANY];
    unsigned count = 0;
    for (int i = 0; i < MANY; i++)
        check_int(weir_spawn(weir_loop_self(), &tasks[i], count_one, &count), ==, 0);
    for (int i = 0; i < MANY; i++)
        check_int(weir_join(tasks[i], WEIR_FOREVER), ==, 0);
    check_int(count, ==, MANY);
}

CONFORMANCE(thousands_of_tasks_live_at_once)
{
    conf_run(NULL, spawn_many, NULL);
}

/* ---- yield ----------------------------------------------------------------------------------- */

enum { RUNNERS = 10, LAPS = 1000 };

static unsigned laps[RUNNERS];

static void run_laps(void *argument)
{
    unsigned *mine = argument;
    for (int i = 0; i < LAPS; i++) {
        ++*mine;
        for (int other = 0; other < RUNNERS; other++)
            check_int(laps[other] + 1, >=, *mine); /* nobody is a lap behind */
        check_int(weir_yield(), ==, 0);
    }
}

static void start_race(void *argument)
{
    for (int i = 0; i < RUNNERS; i++)
        check_int(weir_spawn(weir_loop_self(), NULL, run_laps, &laps[i]), ==, 0);
}

CONFORMANCE(yield_gives_every_task_its_turn)
{
    conf_run(NULL, start_race, NULL);
    for (int i = 0; i < RUNNERS; i++)
        check_int(laps[i], ==, LAPS);
}

static bool stop_spinning;
static unsigned slept;

static void spin(void *argument)
{
    while (!stop_spinning)
        check_int(weir_yield(), ==, 0);
}

static void sleep_beside_the_spinner(void *argument)
{
    for (int i = 0; i < 5; i++)
        check_int(weir_sleep_until(weir_now_ns() + 1000000), ==, 0);
    slept = 5;
}

static void spawn_spinner(struct conf_server *server)
{
    check_int(weir_spawn(server->loop, NULL, spin, NULL), ==, 0);
    check_int(weir_spawn(server->loop, NULL, sleep_beside_the_spinner, NULL), ==, 0);
}

static void end_spinner(void *argument)
{
    stop_spinning = true;
}

CONFORMANCE(a_task_that_yields_forever_leaves_time_for_connections_timers_and_posts)
{
    struct conf_server server = {.listen.handler = conf_echo, .setup = spawn_spinner};
    conf_start(&server);
    int fd = peer_connect(&server);
    for (unsigned i = 0; i < 20; i++)
        peer_echo(fd, 100, i);
    struct weir_loop_stats stats;
    do
        conf_stats(&server, &stats);
    while (stats.tasks > 1u + !server.per_burst); /* the sleeper has ended */
    conf_call(&server, end_spinner, NULL);
    peer_close(fd);
    conf_stop(&server);
    check_int(slept, ==, 5);
}

/* ---- sleep ----------------------------------------------------------------------------------- */

enum { SLEEPERS = 32 };

struct sleeper {
    uint64_t deadline_ns, turn;
    int number;
};

static struct sleeper woken[SLEEPERS];

static void sleep_and_step(void *argument)
{
    struct sleeper *sleeper = argument;
    struct weir_loop_stats stats;
    check_int(weir_sleep_until(sleeper->deadline_ns), ==, 0);
    check_int(weir_now_ns(), >=, sleeper->deadline_ns);
    weir_loop_stats(weir_loop_self(), &stats);
    sleeper->turn = stats.turns;
    woken[step_count++] = *sleeper;
}

static bool armed_in_time;

/* Spawned behind the sleepers: they all sleep by now. */
static void look_at_the_clock(void *argument)
{
    armed_in_time = weir_now_ns() < *(uint64_t *)argument;
}

static void sleep_in_disorder(void *argument)
{
    static struct sleeper sleepers[SLEEPERS];
    static uint64_t base_ns;
    base_ns = weir_now_ns() + *(uint64_t *)argument;
    for (int i = 0; i < SLEEPERS; i++) {
        int number = i * 13 % SLEEPERS; /* 13 and 32 share no factor: every number once */
        sleepers[i] =
            (struct sleeper){.deadline_ns = base_ns + (uint64_t)number * 1500000, .number = number};
        check_int(weir_spawn(weir_loop_self(), NULL, sleep_and_step, &sleepers[i]), ==, 0);
    }
    check_int(weir_spawn(weir_loop_self(), NULL, look_at_the_clock, &base_ns), ==, 0);
}

CONFORMANCE(sleepers_wake_in_the_order_of_their_deadlines)
{
    /* Those that find their deadline past do not sleep: then there is no order, and once more. */
    for (uint64_t lead_ns = 1000000; !armed_in_time; lead_ns *= 2) {
        step_count = 0;
        conf_run(NULL, sleep_in_disorder, &lead_ns);
        check_int(step_count, ==, SLEEPERS);
    }
    for (int i = 1; i < SLEEPERS;
         i++) /* those that are late together wake in one turn, in any order */
        check(woken[i].number > woken[i - 1].number || woken[i].turn == woken[i - 1].turn,
              "%d after %d", woken[i].number, woken[i - 1].number);
}

static void sleep_into_the_past(void *argument)
{
    check_int(weir_sleep_until(0), ==, 0);
    check_int(weir_sleep_until(weir_now_ns()), ==, 0);
    check_int(weir_sleep_until(weir_now_ns() - 1), ==, 0);
    struct weir_loop_stats stats;
    weir_loop_stats(weir_loop_self(), &stats);
    check_int(stats.tasks, ==, 1);
}

CONFORMANCE(sleep_until_the_past_returns)
{
    conf_run(NULL, sleep_into_the_past, NULL);
}

static void sleep_often(void *argument)
{
    for (int i = 0; i < 50; i++)
        check_int(weir_sleep_until(weir_now_ns() + 20000), ==, 0);
    ++*(unsigned *)argument;
}

static void many_sleepers(void *argument)
{
    for (int i = 0; i < 200; i++)
        check_int(weir_spawn(weir_loop_self(), NULL, sleep_often, argument), ==, 0);
}

CONFORMANCE(many_short_sleeps_all_end)
{
    unsigned ended = 0;
    conf_run(NULL, many_sleepers, &ended);
    check_int(ended, ==, 200);
}

/* ---- the end of the loop --------------------------------------------------------------------- */

CONFORMANCE(a_loop_with_nothing_to_do_returns)
{
    struct conf_server server = {0};
    conf_start(&server);
    conf_join(&server);
    check_int(server.stats.resumes, ==, 0);
}

CONFORMANCE(a_loop_may_be_freed_without_having_run)
{
    struct weir_loop *loop;
    char why[256];
    struct weir_loop_options options = {.engine = conf_spec()};
    check_int(weir_loop_new(&loop, &options, why, sizeof why), ==, 0);
    check(weir_loop_engine(loop)[0], "no engine");
    check(weir_loop_coros(loop), "no stacks");
    weir_loop_free(loop);
}

CONFORMANCE(a_listening_loop_may_be_freed_without_having_run)
{
    struct weir_loop *loop;
    struct weir_listener *listener;
    char why[256];
    struct weir_loop_options options = {.engine = conf_spec()};
    check_int(weir_loop_new(&loop, &options, why, sizeof why), ==, 0);
    struct weir_listen_options listen = {.handler = conf_echo};
    check_int(weir_listen(loop, &listener, &listen, why, sizeof why), ==, 0);
    weir_loop_free(loop);
}

static void new_loop_in_task(void *argument)
{
    /* Spawned before and while running: both count as things that can happen. */
    add_step(argument);
    static int two = 2;
    check_int(weir_spawn(weir_loop_self(), NULL, add_step, &two), ==, 0);
}

static void spawn_before_run(struct conf_server *server)
{
    static int one = 1;
    check_int(weir_spawn(server->loop, NULL, new_loop_in_task, &one), ==, 0);
    check_int(step_count, ==, 0);
}

CONFORMANCE(tasks_spawned_before_run_are_run)
{
    struct conf_server server = {.setup = spawn_before_run};
    conf_start(&server);
    conf_join(&server);
    check_int(step_count, ==, 2);
    check_int(steps[0], ==, 1);
    check_int(steps[1], ==, 2);
}
