/* The watchdog: who holds a loop is named, once, with the calls it is in; who waits is not. */
#include <criterion/criterion.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "core/backtrace.h"
#include "core/loop.h"

/* What it interrupts there is often the sanitizer's own code, which cannot be unwound. */
#if defined(__SANITIZE_THREAD__)
enum { CALLS_ARE_SEEN = 0 };
#else
enum { CALLS_ARE_SEEN = 1 };
#endif

static struct weir_loop *loop;
static atomic_uint accusations;
static char name[128], place[128], trace[16384];
static uint64_t held_ns;

static void keep(const struct weir_hold *hold, void *argument)
{
    snprintf(name, sizeof name, "%s", hold->name);
    snprintf(place, sizeof place, "%s", hold->place);
    snprintf(trace, sizeof trace, "%s", hold->trace);
    held_ns = hold->held_ns;
    atomic_fetch_add((atomic_uint *)argument, 1);
}

static void watch(uint64_t limit_ns)
{
    const struct weir_watchdog_options options = {
        .limit_ns = limit_ns, .fn = keep, .argument = &accusations};

    cr_assert_eq(weir_watchdog_start(&options), 0);
}

static void run(weir_task_fn *fn, void *argument)
{
    static const struct weir_loop_options options = {.engine = "epoll"};
    char why[256] = "";

    cr_assert_eq(weir_loop_new(&loop, &options, why, sizeof why), 0, "%s", why);
    cr_assert_eq(weir_spawn_at(loop, NULL, fn, argument, "the_task", "the:place"), 0);
    cr_assert_eq(weir_loop_run(loop), 0);
    weir_loop_free(loop);
}

static __attribute__((noinline)) void spins_until(unsigned count, uint64_t at_least_ns)
{
    uint64_t begun_ns = weir_now_ns(), now_ns = begun_ns;

    while ((atomic_load(&accusations) < count || now_ns < begun_ns + at_least_ns) &&
           now_ns < begun_ns + 30 * WEIR_SECOND)
        now_ns = weir_now_ns();
}

static void holds(void *argument)
{
    spins_until(1, 100 * WEIR_MILLISECOND);
    __asm__ volatile("");
}

Test(watchdog, who_holds_its_loop_is_named_once, .timeout = 60)
{
    watch(5 * WEIR_MILLISECOND);
    run(holds, NULL);
    weir_watchdog_stop();
    cr_assert_eq(atomic_load(&accusations), 1);
    cr_assert_str_eq(name, "the_task");
    cr_assert_str_eq(place, "the:place");
    cr_assert_geq(held_ns, 5 * WEIR_MILLISECOND);
    if (weir__backtrace_lacks) {
        cr_assert(strstr(trace, weir__backtrace_lacks), "%s", trace);
        return;
    }
    if (!CALLS_ARE_SEEN)
        return;
    const char *spinning = strstr(trace, "spins_until");
    cr_assert(spinning && strstr(spinning, "holds"), "%s", trace);
    cr_assert(strstr(spinning, "task_main"), "%s", trace);
}

static void holds_twice(void *argument)
{
    spins_until(1, 0);
    weir_yield();
    spins_until(2, 0);
}

Test(watchdog, who_holds_its_loop_again_is_named_again, .timeout = 60)
{
    watch(5 * WEIR_MILLISECOND);
    run(holds_twice, NULL);
    weir_watchdog_stop();
    cr_assert_eq(atomic_load(&accusations), 2);
}

static void sleeps(void *argument)
{
    cr_assert_eq(weir_sleep_until(weir_now_ns() + 500 * WEIR_MILLISECOND), 0);
}

Test(watchdog, a_loop_that_waits_is_not_accused, .timeout = 60)
{
    watch(100 * WEIR_MILLISECOND);
    run(sleeps, NULL);
    weir_watchdog_stop();
    cr_assert_eq(atomic_load(&accusations), 0);
}

Test(watchdog, a_thread_that_blocks_the_signal_is_told_of_without_a_name, .timeout = 60)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGURG);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    watch(5 * WEIR_MILLISECOND);
    run(holds, NULL);
    weir_watchdog_stop();
    cr_assert_eq(atomic_load(&accusations), 1);
    cr_assert_str_eq(name, "?");
    cr_assert(strstr(trace, "blocks signal"), "%s", trace);
}

static void handle(int number) {}

Test(watchdog, there_is_one_and_it_takes_no_signal_from_others, .timeout = 60)
{
    struct weir_watchdog_options options = {.limit_ns = WEIR_SECOND};

    signal(SIGUSR2, handle);
    options.signal_number = SIGUSR2;
    cr_assert_eq(weir_watchdog_start(&options), -EBUSY);
    options.signal_number = 0;
    cr_assert_eq(weir_watchdog_start(&options), 0);
    cr_assert_eq(weir_watchdog_start(&options), -EBUSY);
    weir_watchdog_stop();
    weir_watchdog_stop();
    cr_assert_eq(weir_watchdog_start(&options), 0);
    weir_watchdog_stop();
}

static void stop_it(const struct weir_hold *hold, void *argument)
{
    weir_watchdog_stop();
}

Test(watchdog, it_is_not_stopped_by_its_own_call, .timeout = 60, .signal = SIGABRT)
{
    const struct weir_watchdog_options options = {.limit_ns = WEIR_MILLISECOND, .fn = stop_it};

    cr_assert_eq(weir_watchdog_start(&options), 0);
    run(holds, NULL);
}
