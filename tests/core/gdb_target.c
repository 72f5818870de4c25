/* What tests/core/gdb.py looks at: tasks that wait for good, each in a way of its own. Small, for
 * it becomes a core file. With an argument, stacks have guards that gdb's own core files stand. */
#include <poll.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <weir/weir.h>

static int first_pipe[2], second_pipe[2];
static struct weir_task *sleeper;

static __attribute__((noinline)) void polls_here(void *argument)
{
    int kept_in_frame = 4711;

    __asm__ volatile("" : "+m"(kept_in_frame));
    weir_poll(weir_loop_self(), *(int *)argument, POLLIN, WEIR_FOREVER);
    __asm__ volatile("" : "+m"(kept_in_frame));
}

static void polls(void *argument)
{
    polls_here(argument);
    __asm__ volatile("");
}

static void dives(void *argument)
{
    weir_coro_call_deep(65536, polls_here, argument);
    __asm__ volatile("");
}

static void sleeps(void *argument)
{
    weir_sleep_until(WEIR_FOREVER);
    __asm__ volatile("");
}

static void joins(void *argument)
{
    weir_join(sleeper, WEIR_FOREVER);
    __asm__ volatile("");
}

static void ends(void *argument)
{
    weir_yield();
}

static void tells(void *argument)
{
    weir_yield();
    weir_yield();
    if (write(STDOUT_FILENO, "ready\n", 6) != 6)
        weir_loop_stop(weir_loop_self());
}

int main(int argc, char **argv)
{
    char why[256];
    struct weir_coro_options coro = {.max_coros = 64,
                                     .guard = argc > 1 ? WEIR_CORO_GUARD_MPROTECT : 0};
    struct weir_loop_options options = {
        .engine = "epoll", .bufs = 16, .buf_bytes = 4096, .coro = &coro};
    struct weir_loop *loop;

    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0); /* not a child of gdb's */
    if (pipe(first_pipe) < 0 || pipe(second_pipe) < 0 ||
        weir_loop_new(&loop, &options, why, sizeof why) < 0)
        return 1;
    weir_spawn(loop, NULL, polls, &first_pipe[0]);
    weir_spawn(loop, NULL, ends, NULL);
    weir_spawn(loop, NULL, dives, &second_pipe[0]);
    weir_spawn(loop, &sleeper, sleeps, NULL);
    weir_spawn(loop, NULL, joins, NULL);
    weir_spawn(loop, NULL, tells, NULL);
    weir_loop_run(loop);
    weir_loop_free(loop);
    return 0;
}
