/* The matrix: splices and sendfile. See matrix.h. */
#include "matrix.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <weir/pipe.h>
#include <weir/splice.h>

static struct matrix_pair pair;
static struct weir_splice moving;
static int ends[2]; /* of a pipe: to read, to write */

static int64_t splice_call(uint64_t deadline_ns)
{
    int64_t moved = weir_splice(&moving, SIZE_MAX, deadline_ns);
    return moved == -EPIPE ? -ECONNRESET : moved;
}

static void pair_fail(void)
{
    peer_reset(pair.peer);
    pair.peer = peer_socket(AF_INET); /* to be closed */
}

static void ends_close(void)
{
    close(ends[0]);
    close(ends[1]);
}

static void splice_tear_down(void)
{
    weir_splice_close(&moving);
    matrix_pair_close(&pair);
    ends_close();
}

static void pipe_has_hello(void)
{
    char data[16];
    check_int(read(ends[0], data, sizeof data), ==, 5);
    check(!memcmp(data, "hello", 5), "%.5s", data);
}

/* ---- which waits for input ------------------------------------------------------------------- */

static void in_set_up(const struct matrix_cell *cell)
{
    matrix_pair_open(&pair);
    check_int(weir_pipe(ends), ==, 0);
    check_int(weir_splice_open(&moving, weir_end_conn(pair.conn), weir_end_fd(ends[1])), ==, 0);
}

static void in_complete(void)
{
    peer_send(pair.peer, "hello", 5);
}

static void in_after(const struct matrix_cell *cell)
{
    if (cell->fails)
        return;
    if (!cell->completed)
        in_complete();
    if (cell->result < 0)
        check_int(splice_call(WEIR_FOREVER), ==, 5);
    pipe_has_hello();
}

MATRIX_ROW(splice_in) = {
    .name = "weir_splice (for input)",
    .set_up = in_set_up,
    .call = splice_call,
    .complete = in_complete,
    .result = 5,
    .fail = pair_fail,
    .error = -ECONNRESET,
    .after = in_after,
    .tear_down = splice_tear_down,
};

/* ---- which waits for room -------------------------------------------------------------------- */

static size_t filled, arrived;

static void out_set_up(const struct matrix_cell *cell)
{
    matrix_pair_open(&pair);
    filled = matrix_pair_fill(&pair);
    arrived = 0;
    check_int(weir_pipe(ends), ==, 0);
    check_int(write(ends[1], "hello", 5), ==, 5);
    check_int(weir_splice_open(&moving, weir_end_fd(ends[0]), weir_end_conn(pair.conn)), ==, 0);
}

static char last[5]; /* bytes that arrived */

static void out_complete(void)
{
    static char data[4096];
    ssize_t got;
    while ((got = recv(pair.peer, data, sizeof data, MSG_DONTWAIT)) > 0) {
        arrived += (size_t)got;
        for (ssize_t i = 0; i < got; i++) {
            memmove(last, last + 1, sizeof last - 1);
            last[sizeof last - 1] = data[i];
        }
    }
    check(got < 0 && errno == EAGAIN, "the connection ended");
}

/* What it took and did not send goes with the next call. */
static void out_after(const struct matrix_cell *cell)
{
    if (cell->fails)
        return;
    out_complete();
    if (cell->result < 0)
        check_int(splice_call(WEIR_FOREVER), ==, 5);
    check_int(moving.moved, ==, 5);
    while (arrived < filled + 5) {
        out_complete();
        check_int(weir_yield(), ==, 0);
    }
    check_int(arrived, ==, filled + 5);
    check(!memcmp(last, "hello", 5), "%.5s", last);
}

MATRIX_ROW(splice_out) = {
    .name = "weir_splice (for room)",
    .set_up = out_set_up,
    .call = splice_call,
    .complete = out_complete,
    .result = 5,
    .fail = pair_fail,
    .error = -ECONNRESET,
    .after = out_after,
    .tear_down = splice_tear_down,
};

/* ---- a file, to a pipe that is full ---------------------------------------------------------- */

enum { PAGE = 4096 };
static char page[PAGE];
static int file;

static void sendfile_set_up(const struct matrix_cell *cell)
{
    file = memfd_create("matrix", MFD_CLOEXEC);
    check_int(write(file, "hello", 5), ==, 5);
    check_int(weir_pipe(ends), ==, 0);
    check_int(fcntl(ends[1], F_SETPIPE_SZ, PAGE), ==, PAGE);
    check_int(write(ends[1], page, PAGE), ==, PAGE);
}

static int64_t sendfile_call(uint64_t deadline_ns)
{
    int64_t offset = 0;
    int64_t sent = weir_sendfile(weir_end_fd(ends[1]), file, &offset, 5, deadline_ns);
    check_int(offset, ==, sent > 0 ? sent : 0);
    return sent;
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

static void sendfile_after(const struct matrix_cell *cell)
{
    if (cell->fails)
        return;
    if (!cell->completed)
        make_room();
    if (cell->result < 0)
        check_int(sendfile_call(WEIR_FOREVER), ==, 5);
    pipe_has_hello();
}

static void sendfile_tear_down(void)
{
    close(file);
    ends_close();
}

MATRIX_ROW(sendfile) = {
    .name = "weir_sendfile",
    .set_up = sendfile_set_up,
    .call = sendfile_call,
    .complete = make_room,
    .result = 5,
    .fail = close_reader,
    .error = -EPIPE,
    .after = sendfile_after,
    .tear_down = sendfile_tear_down,
};
