/* The matrix: poll, files, blocking calls, buffers. See matrix.h. */
#include "matrix.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>

/* ---- a pipe's ends ----------------------------------------------------------------------------
 */

static int ends[2]; /* to read, to write */
static int fd;      /* that the call is on */

static void pipe_set_up(const struct matrix_cell *cell)
{
    check_int(pipe2(ends, O_CLOEXEC), ==, 0);
}

static void pipe_tear_down(void)
{
    close(ends[0]);
    close(ends[1]);
}

static void hello(void)
{
    check_int(write(ends[1], "hello", 5), ==, 5);
}

static void nothing(void) {}

/* ---- poll -------------------------------------------------------------------------------------
 */

static void poll_set_up(const struct matrix_cell *cell)
{
    pipe_set_up(cell);
    fd = cell->fails ? -1 : ends[0];
}

static int64_t poll_call(uint64_t deadline_ns)
{
    return weir_poll(weir_loop_self(), fd, POLLIN, deadline_ns);
}

static void poll_after(const struct matrix_cell *cell)
{
    if (!cell->completed)
        hello();
    fd = ends[0];
    check_int(poll_call(WEIR_FOREVER), ==, POLLIN);
}

MATRIX_ROW(poll) = {
    .name = "weir_poll",
    .set_up = poll_set_up,
    .call = poll_call,
    .complete = hello,
    .result = POLLIN,
    .fail = nothing,
    .error = -EBADF,
    .after = poll_after,
    .tear_down = pipe_tear_down,
};

/* ---- files ------------------------------------------------------------------------------------
 */

/* A pipe stands for a file that takes its time. */
static void read_set_up(const struct matrix_cell *cell)
{
    pipe_set_up(cell);
    fd = ends[cell->fails];
}

static int64_t read_call(uint64_t deadline_ns)
{
    static char data[16];
    int64_t got = weir_file_read(fd, data, sizeof data, -1);
    if (got > 0)
        check(memcmp(data, "hello", (size_t)got) == 0, "%.5s", data);
    return got;
}

static void read_after(const struct matrix_cell *cell)
{
    fd = ends[0];
    if (!cell->completed || cell->result > 0)
        hello();
    check_int(read_call(WEIR_FOREVER), ==, 5);
}

MATRIX_ROW(file_read) = {
    .name = "weir_file_read",
    .flags = MATRIX_NO_DEADLINE | MATRIX_MAY_FINISH,
    .set_up = read_set_up,
    .call = read_call,
    .complete = hello,
    .result = 5,
    .fail = nothing,
    .error = -EBADF,
    .after = read_after,
    .tear_down = pipe_tear_down,
};

enum { PAGE = 4096 };
static char page[PAGE];

static void write_set_up(const struct matrix_cell *cell)
{
    pipe_set_up(cell);
    fd = ends[!cell->fails];
    check_int(fcntl(ends[1], F_SETPIPE_SZ, PAGE), ==, PAGE);
    check_int(write(ends[1], page, PAGE), ==, PAGE);
}

static int64_t write_call(uint64_t deadline_ns)
{
    return weir_file_write(fd, "hello", 5, -1);
}

static void make_room(void)
{
    check_int(read(ends[0], page, PAGE), ==, PAGE);
}

static void write_after(const struct matrix_cell *cell)
{
    static char data[16];
    fd = ends[1];
    if (!cell->completed)
        make_room();
    if (cell->result < 0)
        check_int(write_call(WEIR_FOREVER), ==, 5);
    check_int(read(ends[0], data, sizeof data), ==, 5);
}

MATRIX_ROW(file_write) = {
    .name = "weir_file_write",
    .flags = MATRIX_NO_DEADLINE | MATRIX_MAY_FINISH,
    .set_up = write_set_up,
    .call = write_call,
    .complete = make_room,
    .result = 5,
    .fail = nothing,
    .error = -EBADF,
    .after = write_after,
    .tear_down = pipe_tear_down,
};

static void sync_set_up(const struct matrix_cell *cell)
{
    pipe_set_up(cell);
    fd = cell->fails ? ends[0] : memfd_create("matrix", MFD_CLOEXEC);
    check(fd >= 0, "errno %d", errno);
}

static int64_t sync_call(uint64_t deadline_ns)
{
    return weir_file_sync(fd, 0);
}

static void sync_tear_down(void)
{
    if (fd != ends[0])
        close(fd);
    pipe_tear_down();
}

MATRIX_ROW(file_sync) = {
    .name = "weir_file_sync",
    .flags = MATRIX_NO_DEADLINE | MATRIX_MAY_FINISH,
    .set_up = sync_set_up,
    .call = sync_call,
    .complete = nothing,
    .fail = nothing,
    .error = -EINVAL,
    .tear_down = sync_tear_down,
};

/* ---- calls that block -------------------------------------------------------------------------
 */

static sem_t may_return;
static _Atomic int runs, returns;

static void blocking_set_up(const struct matrix_cell *cell)
{
    sem_init(&may_return, 0, 0);
    runs = 0;
    returns = 7;
}

static int blocks(void *argument)
{
    runs++;
    while (sem_wait(&may_return) && errno == EINTR)
        ;
    return returns;
}

static int64_t blocking_call(uint64_t deadline_ns)
{
    return weir_blocking(blocks, NULL, deadline_ns);
}

static void blocking_complete(void)
{
    sem_post(&may_return);
}

static void blocking_fail(void)
{
    returns = -EIO;
    sem_post(&may_return);
}

/* It ran to its end, or not at all. */
static void blocking_after(const struct matrix_cell *cell)
{
    check_int(runs, ==, cell->result == 7 || cell->fails);
    returns = 7;
    blocking_complete();
    check_int(blocking_call(WEIR_FOREVER), ==, 7);
}

static void blocking_tear_down(void)
{
    sem_destroy(&may_return);
}

MATRIX_ROW(blocking) = {
    .name = "weir_blocking",
    .flags = MATRIX_MAY_FINISH,
    .set_up = blocking_set_up,
    .call = blocking_call,
    .complete = blocking_complete,
    .result = 7,
    .fail = blocking_fail,
    .error = -EIO,
    .after = blocking_after,
    .tear_down = blocking_tear_down,
};

/* ---- buffers ----------------------------------------------------------------------------------
 */

static struct weir_buf held[MATRIX_BUFS + 1];
static struct weir_buf got;

static void buf_set_up(const struct matrix_cell *cell)
{
    int i = 0;
    while (weir_buf_get(weir_loop_self(), &held[i], 1) == 0)
        i++;
    check(i > 1, "%d buffers", i);
}

static int64_t buf_call(uint64_t deadline_ns)
{
    int result = weir_buf_get(weir_loop_self(), &got, deadline_ns);
    check((result == 0) == (got.id != 0), "%d and buffer %u", result, got.id);
    return result;
}

static void buf_complete(void)
{
    weir_buf_put(weir_loop_self(), &held[0]);
}

static void buf_after(const struct matrix_cell *cell)
{
    weir_buf_put(weir_loop_self(), &got);
    weir_buf_put(weir_loop_self(), &held[0]);
    check_int(buf_call(WEIR_FOREVER), ==, 0);
}

static void buf_tear_down(void)
{
    weir_buf_put(weir_loop_self(), &got);
    for (int i = 0; i < MATRIX_BUFS; i++)
        weir_buf_put(weir_loop_self(), &held[i]);
}

MATRIX_ROW(buf_get) = {
    .name = "weir_buf_get",
    .set_up = buf_set_up,
    .call = buf_call,
    .complete = buf_complete,
    .cannot_fail = "the pool's memory is there from the start",
    .after = buf_after,
    .tear_down = buf_tear_down,
};
