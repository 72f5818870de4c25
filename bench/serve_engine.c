/*
 * The counters of a shard. They are printed by a task of its loop, so that a server with one shard
 * is a process with one thread: with two, every system call would pay for a shared descriptor
 * table.
 */
#include "bench/serve_shard.h"

#include "bench/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define SECOND_NS         1000000000ull
#define PRINT_STACK_BYTES (64u << 10)

/* --- counters -----------------------------------------------------------------------------------
 */

static void print_coroutine(const struct weir_task_info *info, void *argument)
{
    FILE *out = argument;
    static const char *const names[] = {
        [WEIR_TASK_RUNNING] = "running",
        [WEIR_TASK_RUNNABLE] = "runnable",
        [WEIR_TASK_WAITING] = "waiting",
        [WEIR_TASK_IDLE] = "idle",
    };
    uint64_t now_ns = weir_now_ns();
    uint64_t waited_ns = info->waits[0] && now_ns > info->since_ns ? now_ns - info->since_ns : 0;

    fprintf(out,
            "{\"coroutine\":\"%s\",\"place\":\"%s\",\"status\":\"%s\",\"waits\":\"%s\","
            "\"waited_s\":%.3f,\"stack_used\":%zu,\"stack_bytes\":%zu}\n",
            info->name, info->place, names[info->state], info->waits,
            (double)waited_ns / (double)SECOND_NS, info->stack_used, info->stack_bytes);
}

static void print_loop_counters(const struct shard *shard, FILE *out)
{
    struct weir_loop_stats s;

    weir_loop_stats(shard->loop, &s);
    fprintf(out,
            "\"conns\":%" PRIu64 ",\"accepted\":%" PRIu64 ",\"closed\":%" PRIu64
            ",\"requests\":%" PRIu64 ",\"refused\":%" PRIu64 ",\"bytes_in\":%" PRIu64
            ",\"bytes_out\":%" PRIu64 ",\"turns\":%" PRIu64 ",\"waits\":%" PRIu64
            ",\"syscalls\":%" PRIu64 ",\"completions\":%" PRIu64 ",\"resumes\":%" PRIu64
            ",\"bursts\":%" PRIu64 ",\"tasks\":%" PRIu64 ",\"ops\":%" PRIu64
            ",\"runnable\":%" PRIu64 ",\"run_peak\":%" PRIu64,
            s.conns, s.accepted, s.closed, shard->requests, shard->refused, s.bytes_in, s.bytes_out,
            s.turns, s.waits, s.syscalls, s.completions, s.resumes, s.bursts, s.tasks, s.ops,
            s.runnable, s.run_peak);
    fprintf(out,
            ",\"rearms\":%" PRIu64 ",\"enobufs\":%" PRIu64 ",\"overflows\":%" PRIu64
            ",\"wakes\":%" PRIu64 ",\"starved\":%" PRIu64 ",\"accept_pauses\":%" PRIu64
            ",\"accept_drops\":%" PRIu64 ",\"send_errors\":%" PRIu64 ",\"bufs_free\":%" PRIu64
            ",\"bufs\":%" PRIu64 ",\"timers\":%" PRIu64 ",\"calls\":%" PRIu64 ",\"rests\":%" PRIu64,
            s.rearms, s.enobufs, s.overflows, s.wakes, s.starved, s.accept_pauses, s.accept_drops,
            s.send_errors, s.bufs_free, s.bufs, s.timers, s.calls, s.rests);
}

/* One JSON line. */
static void print_counters(const struct shard *shard, FILE *out)
{
    struct weir_coro_stats c;

    weir_coro_pool_stats(weir_loop_coros(shard->loop), &c);
    fprintf(out, "{\"uptime_s\":%.1f,\"engine\":\"%s\",",
            (double)(weir_now_ns() - shard->started_ns) / (double)SECOND_NS,
            weir_loop_engine(shard->loop));
    if (shard->shares_port)
        fprintf(out, "\"shard\":%u,", shard->index);
    print_loop_counters(shard, out);
    fprintf(out,
            ",\"stacks_live\":%" PRIu64 ",\"stacks_idle\":%" PRIu64 ",\"stacks_released\":%" PRIu64
            ",\"stacks_resident_bytes\":%" PRIu64 ",\"stacks_trimmed\":%" PRIu64
            ",\"trim_target\":%" PRIu64 "}\n",
            c.live, c.idle, c.released, c.resident_bytes, c.trimmed, c.trim_target);
}

/* Needs no deep stack. */
void weir__shard_tell_unprinted(int error)
{
    static char what[] = "weir-bench serve: the counters could not be printed: ";
    char *why = strerror(-error);
    const struct iovec line[] = {
        {.iov_base = what, .iov_len = sizeof what - 1},
        {.iov_base = why, .iov_len = strlen(why)},
        {.iov_base = "\n", .iov_len = 1},
    };

    if (writev(STDERR_FILENO, line, 3) < 0)
        return; /* there is nobody to be told */
}

static int write_all(const char *text, size_t bytes)
{
    while (bytes > 0) {
        ssize_t written = write(STDERR_FILENO, text, bytes);

        if (written < 0 && errno != EINTR)
            return -errno;
        text += written > 0 ? written : 0;
        bytes -= written > 0 ? (size_t)written : 0;
    }
    return 0;
}

/* Runs on a deep stack: printf takes more than a coroutine has. In one write, for no lines of
 * another shard, which may be another process, are to come between these. */
static void print(void *argument)
{
    struct shard *shard = argument;
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);

    shard->print_result = out == NULL ? -errno : 0;
    if (out == NULL)
        return;
    print_counters(shard, out);
    if (shard->print_all)
        weir_tasks_each(shard->loop, print_coroutine, out);
    if (fclose(out) < 0)
        shard->print_result = -errno;
    else
        shard->print_result = write_all(text, bytes);
    free(text);
}

void weir__shard_print(struct shard *shard, bool all)
{
    shard->print_all = all;
    int result = weir_coro_call_deep(PRINT_STACK_BYTES, print, shard);

    if (result == 0)
        result = shard->print_result;
    if (result < 0)
        weir__shard_tell_unprinted(result);
}

static void print_asked(void *argument)
{
    struct shard *shard = argument;

    weir__shard_print(shard, atomic_exchange(&shard->print_asked, PRINT_NOTHING) == PRINT_ALL);
}

static void spawn_print(struct weir_post *post)
{
    struct shard *shard = (struct shard *)((char *)post - offsetof(struct shard, print));
    int result = weir_spawn(shard->loop, NULL, print_asked, shard);

    if (result < 0) {
        weir__shard_tell_unprinted(result);
        atomic_store(&shard->print_asked, PRINT_NOTHING);
    }
}

/* What is asked for before the last was printed comes with that. */
void weir__shard_ask_print(struct shard *shard, bool all)
{
    if (atomic_fetch_or(&shard->print_asked, all ? PRINT_ALL : PRINT_COUNTERS) != PRINT_NOTHING)
        return;
    shard->print.fn = spawn_print;
    if (weir_post(shard->loop, &shard->print) < 0)
        atomic_store(&shard->print_asked, PRINT_NOTHING); /* it has ended */
}
