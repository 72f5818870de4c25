/* What a loop says of its tasks: state, wait, place, scope, and the calls they are in. What differs
 * by engine is in conformance_inspect.c. */
#include <criterion/criterion.h>

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/backtrace.h"
#include "core/loop.h"

static char text[1 << 20];
static size_t text_bytes;
static struct weir_loop *loop;

static void keep_text(const char *piece, size_t bytes, void *argument)
{
    cr_assert(bytes > 0 && piece[bytes - 1] == '\n', "a piece that is not whole lines");
    cr_assert(text_bytes + bytes < sizeof text);
    memcpy(text + text_bytes, piece, bytes);
    text_bytes += bytes;
    text[text_bytes] = '\0';
}

static void dump(unsigned flags)
{
    text_bytes = 0;
    cr_assert_eq(weir_dump_to(loop, keep_text, NULL, flags), 0);
}

/* The dump's line of the task that runs the function of that name, and what follows. */
static const char *task_line(const char *name)
{
    char key[64];

    snprintf(key, sizeof key, " %s (", name);
    const char *at = strstr(text, key);
    cr_assert(at, "no task %s in:\n%s", name, text);
    while (at > text && at[-1] != '\n')
        at--;
    return at;
}

static bool says(const char *line, const char *words)
{
    const char *end = strchr(line, '\n');
    const char *at = strstr(line, words);

    return at && at < end;
}

static void run(weir_task_fn *fn, const char *name)
{
    static const struct weir_loop_options options = {.engine = "epoll"};
    char why[256] = "";

    cr_assert_eq(weir_loop_new(&loop, &options, why, sizeof why), 0, "%s", why);
    cr_assert_eq(weir_spawn_at(loop, NULL, fn, NULL, name, "here"), 0);
    cr_assert_eq(weir_loop_run(loop), 0);
    weir_loop_free(loop);
}

/* ---- states ---------------------------------------------------------------------------------- */

static void sleeps(void *argument)
{
    weir_sleep_until(*(uint64_t *)argument);
}

static void joins(void *argument)
{
    cr_assert_eq(weir_join(argument, WEIR_FOREVER), 0);
}

static void looks_at_states(void *argument)
{
    uint64_t deadline_ns = weir_now_ns() + 3600 * WEIR_SECOND;
    struct weir_task *sleeper, *joiner;

    cr_assert_eq(weir_spawn(loop, &sleeper, sleeps, &deadline_ns), 0);
    cr_assert_eq(weir_spawn(loop, &joiner, joins, sleeper), 0);
    dump(WEIR_DUMP_BRIEF);
    cr_assert(says(text, "loop of epoll; tasks: 3, connections: 0, runnable: 2"), "%s", text);
    cr_assert(says(task_line("sleeps"), "runnable"));
    weir_yield();
    dump(WEIR_DUMP_BRIEF);
    cr_assert(says(task_line("looks_at_states"), ": running; stack "), "%s", text);
    const char *line = task_line("sleeps");
    cr_assert(says(line, " s for a time, for 3"), "%s", text);
    cr_assert(says(line, "inspect.c:"), "%s", text);
    cr_assert(says(line, "joined by task "), "%s", text);
    cr_assert(!says(line, "cancelled"), "%s", text);
    char waits[64];
    snprintf(waits, sizeof waits, "for task %u to end;", sleeper->index + 1);
    cr_assert(says(task_line("joins"), waits), "%s", text);
    cr_assert_null(strstr(text, "#0"), "frames in a brief dump");
    weir_task_cancel(sleeper);
    dump(WEIR_DUMP_BRIEF);
    cr_assert(says(task_line("sleeps"), "cancelled"), "%s", text);
    cr_assert_eq(weir_join(joiner, WEIR_FOREVER), 0);
}

Test(inspect, a_dump_says_what_each_task_waits_for)
{
    run(looks_at_states, "looks_at_states");
}

static int child(void *argument)
{
    return weir_sleep_until(WEIR_FOREVER);
}

static void looks_at_children(void *argument)
{
    struct weir_scope scope;
    char parent[64];

    weir_scope_open(&scope, WEIR_FOREVER, 0);
    cr_assert_eq(weir_scope_spawn(&scope, child, NULL), 0);
    weir_yield();
    dump(WEIR_DUMP_BRIEF);
    snprintf(parent, sizeof parent, "in a scope of task %u\n", weir_task_self()->index + 1);
    cr_assert(says(task_line("child"), "in a scope of task "), "%s", text);
    cr_assert(strstr(task_line("child"), parent), "%s", text);
    weir_scope_cancel(&scope);
    cr_assert_eq(weir_scope_close(&scope), -ECANCELED);
}

Test(inspect, a_dump_says_whose_scope_a_task_is_in)
{
    run(looks_at_children, "looks_at_children");
}

/* ---- back-traces ----------------------------------------------------------------------------- */

static __attribute__((noinline)) int waits_in_here(uint64_t deadline_ns)
{
    int res = weir_sleep_until(deadline_ns);

    __asm__ volatile(""); /* no tail call: the frame is to be seen */
    return res;
}

static __attribute__((noinline)) void has_called(void *argument)
{
    cr_assert_eq(waits_in_here(WEIR_FOREVER), -ECANCELED);
    __asm__ volatile("");
}

static void waits_deep(void *argument)
{
    cr_assert_eq(weir_coro_call_deep(65536, has_called, NULL), 0);
    __asm__ volatile("");
}

static bool in_order(const char *at, const char *const *words)
{
    const char *end = strstr(at, "\ntask ");

    for (; *words; words++) {
        at = strstr(at, *words);
        if (!at || (end && at > end))
            return false;
    }
    return true;
}

static void looks_at_frames(void *argument)
{
    static const char *const shallow[] = {"    #0 ",   "waits_in_here",    "has_called",
                                          "task_main", "weir__coro_start", NULL};
    static const char *const deep[] = {
        "waits_in_here",    "has_called", "weir__coro_start", "waits_deep", "task_main",
        "weir__coro_start", NULL};
    static const char *const self[] = {"weir_dump_to", "looks_at_frames", "task_main", NULL};
    struct weir_task *first, *second;

    cr_assert_eq(weir_spawn(loop, &first, has_called, NULL), 0);
    cr_assert_eq(weir_spawn(loop, &second, waits_deep, NULL), 0);
    dump(0);
    cr_assert(strstr(task_line("has_called"), "it has not begun\n"), "%s", text);
    weir_yield();
    dump(0);
    cr_assert(in_order(strchr(task_line("has_called"), '\n'), shallow), "%s", text);
    cr_assert(in_order(strchr(task_line("waits_deep"), '\n'), deep), "%s", text);
    cr_assert(in_order(strchr(task_line("looks_at_frames"), '\n'), self), "%s", text);
    weir_task_cancel(first);
    weir_task_cancel(second);
    cr_assert_eq(weir_join(first, WEIR_FOREVER), 0);
    cr_assert_eq(weir_join(second, WEIR_FOREVER), 0);
}

static void looks_for_the_lack(void *argument)
{
    dump(0);
    cr_assert(strstr(text, weir__backtrace_lacks), "%s", text);
}

Test(inspect, a_dump_has_the_calls_each_task_is_in_or_says_why_not)
{
    run(weir__backtrace_lacks ? looks_for_the_lack : looks_at_frames, "looks_at_frames");
}

/* ---- much, and on demand --------------------------------------------------------------------- */

enum { MANY = 400 };

static void looks_at_many(void *argument)
{
    struct weir_scope scope;
    unsigned lines = 0;

    weir_scope_open(&scope, WEIR_FOREVER, 0);
    for (int i = 0; i < MANY; i++)
        cr_assert_eq(weir_scope_spawn(&scope, child, NULL), 0);
    weir_yield();
    dump(WEIR_DUMP_BRIEF);
    for (const char *at = text; (at = strstr(at, " child (")); at++)
        lines++;
    cr_assert_eq(lines, MANY);
    weir_scope_cancel(&scope);
    weir_scope_close(&scope);
}

Test(inspect, a_large_dump_comes_in_pieces_of_whole_lines)
{
    run(looks_at_many, "looks_at_many");
}

static int to_close;

static void asks_and_reads(void *argument)
{
    int pipe_fds[2], before = dup(STDERR_FILENO);

    cr_assert_eq(pipe2(pipe_fds, O_NONBLOCK), 0);
    cr_assert_eq(dup2(pipe_fds[1], STDERR_FILENO), STDERR_FILENO);
    cr_assert_eq(weir_dump_request(loop), 0);
    cr_assert_eq(weir_dump_request(loop), 0);
    cr_assert_lt(read(pipe_fds[0], text, sizeof text), 0, "not from within the call");
    cr_assert_eq(weir_poll(loop, pipe_fds[0], POLLIN, weir_now_ns() + 30 * WEIR_SECOND), POLLIN);
    dup2(before, STDERR_FILENO);
    ssize_t got = read(pipe_fds[0], text, sizeof text - 1);
    cr_assert_gt(got, 0);
    text[got] = '\0';
    cr_assert(says(task_line("asks_and_reads"), "for poll on descriptor "), "%s", text);
    const char *again = strstr(text + 1, "weir: loop");
    cr_assert_null(again, "asked twice before it came, it comes once");
    cr_assert_eq(weir_dump_request(loop), 0);
    close(before);
    close(pipe_fds[1]);
    to_close = pipe_fds[0];
}

Test(inspect, a_dump_may_be_asked_for_at_any_moment)
{
    run(asks_and_reads, "asks_and_reads");
    close(to_close);
}

static void stops(void *argument)
{
    weir_loop_stop(loop);
    weir_yield(); /* it stops in the next turn */
}

Test(inspect, a_loop_that_has_ended_is_asked_in_vain)
{
    static const struct weir_loop_options options = {.engine = "epoll"};
    char why[256] = "";

    cr_assert_eq(weir_loop_new(&loop, &options, why, sizeof why), 0, "%s", why);
    cr_assert_eq(weir_spawn(loop, NULL, stops, NULL), 0);
    cr_assert_eq(weir_loop_run(loop), 0);
    cr_assert_eq(weir_dump_request(loop), -ESHUTDOWN);
    cr_assert_eq(weir_dump_request(loop), -ESHUTDOWN);
    weir_loop_free(loop);
}
