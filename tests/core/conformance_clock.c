/* Conformance: ticks, times of the wall clock, signals. */
#include "conformance.h"

#include <signal.h>
#include <stdio.h>
#include <time.h>

enum { PERIOD_NS = 500000 };

/* ---- ticks ----------------------------------------------------------------------------------- */

static void tick(void *argument)
{
    struct weir_ticker ticker;
    uint64_t begin_ns = weir_now_ns(), ticks = 0;
    weir_ticker_start(&ticker, PERIOD_NS);
    uint64_t first_ns = ticker.next_ns;
    for (int i = 0; i < 5; i++) {
        int64_t more = weir_ticker_wait(&ticker);
        check_int(more, >=, 1);
        ticks += (uint64_t)more;
        check_int(weir_now_ns() - begin_ns, >=, ticks * PERIOD_NS);
    }
    while (weir_now_ns() < ticker.next_ns + 2 * PERIOD_NS + PERIOD_NS / 2)
        ; /* late */
    check_int(weir_ticker_wait(&ticker), >=, 3);
    check_int((ticker.next_ns - first_ns) % PERIOD_NS, ==, 0);
    uint64_t next_ns = ticker.next_ns;
    weir_task_cancel(weir_task_self());
    check_int(weir_ticker_wait(&ticker), ==, -ECANCELED);
    check_int(ticker.next_ns, ==, next_ns);
}

CONFORMANCE(ticks_come_at_whole_periods_and_missed_ones_are_counted)
{
    conf_run(NULL, tick, NULL);
}

/* ---- wall clock ------------------------------------------------------------------------------ */

static struct timespec wall_in(int64_t ns)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t at = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec + ns;
    return (struct timespec){.tv_sec = at / 1000000000, .tv_nsec = at % 1000000000};
}

static void sleep_too_long(void *argument)
{
    check_int(weir_sleep_until_wall(wall_in(3600000000000)), ==, -ECANCELED);
    check_int(weir_sleep_until_wall(wall_in(-1000)), ==, -ECANCELED);
}

static void sleep_by_the_wall(void *argument)
{
    struct weir_task *sleeper;
    struct timespec until = wall_in(2000000), now;
    check_int(weir_sleep_until_wall(until), ==, 0);
    clock_gettime(CLOCK_REALTIME, &now);
    check(now.tv_sec > until.tv_sec ||
          (now.tv_sec == until.tv_sec && now.tv_nsec >= until.tv_nsec));
    check_int(weir_sleep_until_wall(until), ==, 0);
    check_int(weir_sleep_until_wall((struct timespec){0}), ==, 0);
    check_int(weir_sleep_until_wall((struct timespec){.tv_nsec = -1}), ==, -EINVAL);
    check_int(weir_spawn(weir_loop_self(), &sleeper, sleep_too_long, NULL), ==, 0);
    conf_settle();
    weir_task_cancel(sleeper);
    check_int(weir_join(sleeper, WEIR_FOREVER), ==, 0);
}

CONFORMANCE(a_time_of_the_wall_clock_is_waited_for)
{
    conf_run(NULL, sleep_by_the_wall, NULL);
}

/* ---- signals --------------------------------------------------------------------------------- */

static sigset_t user_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    return set;
}

static bool is_blocked(int number)
{
    sigset_t now;
    check_int(pthread_sigmask(SIG_BLOCK, NULL, &now), ==, 0);
    return sigismember(&now, number);
}

static void be_signalled(void *argument)
{
    struct weir_signals signals;
    struct weir_signal signal;
    struct weir_process process;
    char script[64];
    const char *const arguments[] = {"sh", "-c", script, NULL};
    sigset_t set = user_signals(), usr2;
    sigemptyset(&usr2);
    sigaddset(&usr2, SIGUSR2);
    check_int(pthread_sigmask(SIG_BLOCK, &usr2, NULL), ==, 0);
    check_int(weir_signals_open(&signals, &set), ==, 0);
    check_int(weir_signal_wait(&signals, &signal, weir_now_ns() + 1000000), ==, -ETIME);

    snprintf(script, sizeof script, "kill -USR1 %d; read forever", (int)getpid());
    struct weir_process_options options = {.arguments = arguments, .input.kind = WEIR_STDIO_PIPE};
    check_int(weir_process_spawn(&process, &options), ==, 0);
    check_int(weir_signal_wait(&signals, &signal, WEIR_FOREVER), ==, 0);
    check_int(signal.number, ==, SIGUSR1);
    check_int(signal.pid, ==, process.pid);
    check_int(signal.uid, ==, getuid());
    check_int(signal.code, ==, SI_USER);
    weir_process_close(&process);

    check_int(pthread_sigqueue(pthread_self(), SIGUSR2, (union sigval){.sival_ptr = &set}), ==, 0);
    check_int(weir_signal_wait(&signals, &signal, WEIR_FOREVER), ==, 0);
    check_int(signal.number, ==, SIGUSR2);
    check_int(signal.value, ==, (intptr_t)&set);
    check(is_blocked(SIGUSR1));
    weir_signals_close(&signals);
    check(!is_blocked(SIGUSR1));
    check(is_blocked(SIGUSR2), "it was before");
    check_int(pthread_sigmask(SIG_UNBLOCK, &usr2, NULL), ==, 0);
}

CONFORMANCE(a_signal_is_waited_for_and_tells_its_sender)
{
    if (conf_no_children())
        cr_skip("%s", conf_no_children());
    conf_run(NULL, be_signalled, NULL);
}

struct listener {
    struct weir_signals *signals;
    struct weir_task *task;
    int result, number;
};

static void listen_for_one(void *argument)
{
    struct listener *listener = argument;
    struct weir_signal signal = {0};
    listener->result = weir_signal_wait(listener->signals, &signal, WEIR_FOREVER);
    listener->number = signal.number;
}

static void signal_several(void *argument)
{
    enum { TASKS = 5 };
    struct weir_signals signals;
    struct listener listeners[TASKS];
    sigset_t set = user_signals();
    check_int(weir_signals_open(&signals, &set), ==, 0);
    for (int i = 0; i < TASKS; i++) {
        listeners[i] = (struct listener){.signals = &signals, .result = 1};
        check_int(weir_spawn(weir_loop_self(), &listeners[i].task, listen_for_one, &listeners[i]),
                  ==, 0);
    }
    conf_settle();
    check_int(weir_signal_wait(&signals, &(struct weir_signal){0}, 0), ==, -ETIME); /* in line */
    weir_task_cancel(listeners[0].task); /* the one in front, and one of the line */
    weir_task_cancel(listeners[2].task);
    check_int(weir_join(listeners[0].task, WEIR_FOREVER), ==, 0);
    check_int(weir_join(listeners[2].task, WEIR_FOREVER), ==, 0);
    check_int(listeners[0].result, ==, -ECANCELED);
    check_int(listeners[2].result, ==, -ECANCELED);

    check_int(pthread_kill(pthread_self(), SIGUSR2), ==, 0);
    check_int(weir_join(listeners[1].task, WEIR_FOREVER), ==, 0);
    check_int(listeners[1].result, ==, 0);
    check_int(listeners[1].number, ==, SIGUSR2);
    check_int(listeners[3].result, ==, 1);
    check_int(listeners[4].result, ==, 1);
    weir_signals_close(&signals);
    check_int(weir_join(listeners[3].task, WEIR_FOREVER), ==, 0);
    check_int(weir_join(listeners[4].task, WEIR_FOREVER), ==, 0);
    check_int(listeners[3].result, ==, -ESHUTDOWN);
    check_int(listeners[4].result, ==, -ESHUTDOWN);
}

CONFORMANCE(each_signal_goes_to_the_task_that_waited_longest_and_closing_wakes_all)
{
    conf_run(NULL, signal_several, NULL);
}
