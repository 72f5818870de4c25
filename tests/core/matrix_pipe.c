/* The matrix: pipes, child processes, clocks and signals. See matrix.h. */
#include "matrix.h"

#include <fcntl.h>
#include <signal.h>
#include <time.h>

#include <weir/clock.h>
#include <weir/pipe.h>
#include <weir/process.h>

/* ---- pipes ----------------------------------------------------------------------------------- */

enum { PAGE = 4096 };

static int ends[2]; /* to read, to write */
static int fd;      /* that the call is on */
static char page[PAGE];

static void read_set_up(const struct matrix_cell *cell)
{
    check_int(weir_pipe(ends), ==, 0);
    fd = ends[cell->fails];
}

static void ends_close(void)
{
    close(ends[0]);
    close(ends[1]);
}

static int64_t read_call(uint64_t deadline_ns)
{
    static char data[16];
    int64_t got = weir_fd_read(fd, data, sizeof data, deadline_ns);
    if (got > 0)
        check(memcmp(data, "hello", (size_t)got) == 0, "%.5s", data);
    return got;
}

static void hello(void)
{
    check_int(write(ends[1], "hello", 5), ==, 5);
}

static void nothing(void) {}

static void read_after(const struct matrix_cell *cell)
{
    fd = ends[0];
    if (!cell->completed || cell->result > 0)
        hello();
    check_int(read_call(WEIR_FOREVER), ==, 5);
}

MATRIX_ROW(fd_read) = {
    .name = "weir_fd_read",
    .set_up = read_set_up,
    .call = read_call,
    .complete = hello,
    .result = 5,
    .fail = nothing,
    .error = -EBADF,
    .after = read_after,
    .tear_down = ends_close,
};

static void write_set_up(const struct matrix_cell *cell)
{
    check_int(weir_pipe(ends), ==, 0);
    check_int(fcntl(ends[1], F_SETPIPE_SZ, PAGE), ==, PAGE);
    check_int(write(ends[1], page, PAGE), ==, PAGE);
}

static int64_t write_call(uint64_t deadline_ns)
{
    return weir_fd_write(ends[1], "hello", 5, deadline_ns);
}

static int64_t write_all_call(uint64_t deadline_ns)
{
    return weir_fd_write_all(ends[1], "hello", 5, deadline_ns);
}

static void make_room(void)
{
    check_int(read(ends[0], page, PAGE), ==, PAGE);
}

static void close_reader(void)
{
    close(ends[0]);
    ends[0] = dup(ends[1]); /* to be closed */
}

static void write_after(const struct matrix_cell *cell)
{
    char data[16];
    if (cell->fails)
        return;
    if (!cell->completed)
        make_room();
    if (cell->result < 0)
        check_int(write_call(WEIR_FOREVER), ==, 5);
    check_int(read(ends[0], data, sizeof data), ==, 5);
}

MATRIX_ROW(fd_write) = {
    .name = "weir_fd_write",
    .set_up = write_set_up,
    .call = write_call,
    .complete = make_room,
    .result = 5,
    .fail = close_reader,
    .error = -EPIPE,
    .after = write_after,
    .tear_down = ends_close,
};

MATRIX_ROW(fd_write_all) = {
    .name = "weir_fd_write_all",
    .set_up = write_set_up,
    .call = write_all_call,
    .complete = make_room,
    .result = 5,
    .fail = close_reader,
    .error = -EPIPE,
    .after = write_after,
    .tear_down = ends_close,
};

/* ---- child processes ------------------------------------------------------------------------- */

static struct weir_process cat;

static void process_set_up(const struct matrix_cell *cell)
{
    static const char *const arguments[] = {"cat", NULL};
    struct weir_process_options options = {.arguments = arguments, .input.kind = WEIR_STDIO_PIPE};
    check_int(weir_process_spawn(&cat, &options), ==, 0);
}

static int64_t process_call(uint64_t deadline_ns)
{
    int status = -1;
    int result = weir_process_wait(&cat, &status, deadline_ns);
    check_int(status, ==, result == 0 ? 0 : -1);
    return result;
}

static void process_complete(void)
{
    weir_process_close_input(&cat);
}

/* A wait that was cut short left it alone. */
static void process_after(const struct matrix_cell *cell)
{
    process_complete();
    check_int(process_call(WEIR_FOREVER), ==, 0);
}

static void process_tear_down(void)
{
    weir_process_close(&cat); /* no cancel cuts it short */
}

MATRIX_ROW(process_wait) = {
    .name = "weir_process_wait",
    .missing = conf_no_children,
    .set_up = process_set_up,
    .call = process_call,
    .complete = process_complete,
    .cannot_fail = "a child that is ours ends",
    .after = process_after,
    .tear_down = process_tear_down,
};

/* ---- clocks ---------------------------------------------------------------------------------- */

static struct timespec wake;
static struct weir_ticker ticker;
static uint64_t tick_ns;

static struct timespec wall(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now;
}

static bool earlier(struct timespec a, struct timespec b)
{
    return a.tv_sec < b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec < b.tv_nsec);
}

static void wall_set_up(const struct matrix_cell *cell)
{
    wake = wall();
    if (!cell->completes)
        wake.tv_sec += 3600;
    else if (wake.tv_nsec < 998000000)
        wake.tv_nsec += 1000000;
}

static int64_t wall_call(uint64_t deadline_ns)
{
    int result = weir_sleep_until_wall(wake);
    if (result == 0)
        check(!earlier(wall(), wake), "it woke early");
    return result;
}

static void wall_complete(void)
{
    while (earlier(wall(), wake))
        ;
}

MATRIX_ROW(sleep_until_wall) = {
    .name = "weir_sleep_until_wall",
    .flags = MATRIX_NO_DEADLINE | MATRIX_STEPS,
    .set_up = wall_set_up,
    .call = wall_call,
    .complete = wall_complete,
    .cannot_fail = "time passes",
};

static void ticker_set_up(const struct matrix_cell *cell)
{
    uint64_t period_ns = (cell->completes ? 1 : 3600 * 1000) * WEIR_MILLISECOND;
    weir_ticker_start(&ticker, period_ns);
    tick_ns = weir_now_ns() + period_ns;
}

static int64_t ticker_call(uint64_t deadline_ns)
{
    int64_t ticks = weir_ticker_wait(&ticker);
    return ticks > 0 ? 1 : ticks;
}

static void ticker_complete(void)
{
    while (weir_now_ns() < tick_ns)
        ;
}

MATRIX_ROW(ticker) = {
    .name = "weir_ticker_wait",
    .flags = MATRIX_NO_DEADLINE,
    .set_up = ticker_set_up,
    .call = ticker_call,
    .complete = ticker_complete,
    .result = 1,
    .cannot_fail = "time passes",
};

/* ---- signals --------------------------------------------------------------------------------- */

static struct weir_signals signals;

static void not_delivered(int number) {}

static void signals_set_up(const struct matrix_cell *cell)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    signal(SIGUSR1, not_delivered); /* what is pending at the close takes its effect */
    check_int(weir_signals_open(&signals, &set), ==, 0);
}

static int64_t signal_call(uint64_t deadline_ns)
{
    struct weir_signal got = {0};
    int result = weir_signal_wait(&signals, &got, deadline_ns);
    check_int(got.number, ==, result == 0 ? SIGUSR1 : 0);
    return result;
}

static void signal_complete(void)
{
    check_int(pthread_kill(pthread_self(), SIGUSR1), ==, 0);
}

/* One that was sent and not taken is still to be had. */
static void signal_after(const struct matrix_cell *cell)
{
    if (!cell->completed || cell->result == 0)
        signal_complete();
    check_int(signal_call(WEIR_FOREVER), ==, 0);
    check_int(signal_call(1), ==, -ETIME);
}

static void signals_tear_down(void)
{
    weir_signals_close(&signals);
}

MATRIX_ROW(signal_wait) = {
    .name = "weir_signal_wait",
    .set_up = signals_set_up,
    .call = signal_call,
    .complete = signal_complete,
    .cannot_fail = "what ends it early, a close, waits for those that wait",
    .after = signal_after,
    .tear_down = signals_tear_down,
};
