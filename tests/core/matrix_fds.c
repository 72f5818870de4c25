/* The matrix: descriptors over a Unix stream. See matrix.h. */
#include "matrix.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/un.h>

static struct weir_conn *conn;
static int peer;
static int ends[2]; /* of a pipe, of which the one to write is what is sent */

static void stream_open(void)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int listening = peer_socket(AF_UNIX);
    int bytes = snprintf(at.sun_path + 1, sizeof at.sun_path - 1, "weir-matrix-%d", (int)getpid());
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)bytes);
    check_int(bind(listening, (struct sockaddr *)&at, size), ==, 0);
    check_int(listen(listening, 1), ==, 0);
    check_int(weir_connect(weir_loop_self(), &conn, (struct sockaddr *)&at, size, WEIR_FOREVER), ==,
              0);
    peer = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
    peer_close(listening);
    weir_conn_take_fds(conn);
    check_int(pipe2(ends, O_CLOEXEC | O_NONBLOCK), ==, 0);
}

static void stream_tear_down(void)
{
    weir_conn_abort(conn);
    peer_close(peer);
    close(ends[0]);
    if (ends[1] >= 0)
        close(ends[1]);
}

/* Nobody has one of those that were sent: the pipe has ended. */
static void all_are_closed(void)
{
    char byte;
    peer_close(ends[1]);
    ends[1] = -1;
    check_int(read(ends[0], &byte, 1), ==, 0);
}

/* With something unread, which makes it a reset. */
static void fail(void)
{
    peer_close(peer);
    peer = peer_socket(AF_UNIX); /* to be closed */
}

/* ---- receiving ------------------------------------------------------------------------------- */

static void recv_set_up(const struct matrix_cell *cell)
{
    stream_open();
    if (cell->fails)
        check_int(send(weir_conn_fd(conn), "unread", 6, MSG_DONTWAIT), ==, 6);
}

static int64_t recv_call(uint64_t deadline_ns)
{
    static struct weir_buf buf;
    struct weir_fds fds = {0};
    int got = weir_conn_recv_fds(conn, &buf, &fds, deadline_ns);
    if (got > 0)
        check(memcmp(buf.data, "hello", (size_t)got) == 0, "%.5s", (char *)buf.data);
    check_int(fds.count, ==, got > 0);
    weir_fds_close(&fds);
    weir_buf_put(weir_loop_self(), &buf);
    return got;
}

static void recv_complete(void)
{
    peer_send_fds(peer, "hello", 5, &ends[1], 1);
}

static void recv_after(const struct matrix_cell *cell)
{
    if (cell->fails)
        return;
    if (cell->result < 0 && cell->completed)
        check_int(recv_call(WEIR_FOREVER), ==, 5);
    recv_complete();
    check_int(recv_call(WEIR_FOREVER), ==, 5);
    all_are_closed();
}

MATRIX_ROW(recv_fds) = {
    .name = "weir_conn_recv_fds",
    .flags = MATRIX_ENDS_WITH_LOOP, /* which drops what has come and was not received */
    .set_up = recv_set_up,
    .call = recv_call,
    .complete = recv_complete,
    .result = 5,
    .fail = fail,
    .error = -ECONNRESET,
    .after = recv_after,
    .tear_down = stream_tear_down,
};

/* ---- sending, where there is no room --------------------------------------------------------- */

static size_t expected, arrived;

static void send_set_up(const struct matrix_cell *cell)
{
    static char data[1024];
    ssize_t sent;
    stream_open();
    arrived = expected = 0;
    while ((sent = send(weir_conn_fd(conn), data, sizeof data, MSG_DONTWAIT)) > 0)
        expected += (size_t)sent;
    check_int(errno, ==, EAGAIN);
}

static int64_t send_call(uint64_t deadline_ns)
{
    int sent = weir_conn_send_fds(conn, "hello", 5, &ends[1], 1, deadline_ns);
    if (sent > 0)
        expected += (size_t)sent;
    return sent == -EPIPE ? -ECONNRESET : sent;
}

/* Takes all there is; the kernel closes the descriptors, as it does not ask for them. */
static void send_complete(void)
{
    static char data[4096];
    ssize_t got;
    while ((got = recv(peer, data, sizeof data, MSG_DONTWAIT)) > 0)
        arrived += (size_t)got;
    check_int(errno, ==, EAGAIN);
}

/* What was cut short has sent nothing, and goes the next time. */
static void send_after(const struct matrix_cell *cell)
{
    if (cell->fails)
        return;
    send_complete();
    check_int(arrived, ==, expected);
    check_int(send_call(WEIR_FOREVER), ==, 5);
    send_complete();
    check_int(arrived, ==, expected);
    all_are_closed();
}

MATRIX_ROW(send_fds) = {
    .name = "weir_conn_send_fds",
    .set_up = send_set_up,
    .call = send_call,
    .complete = send_complete,
    .result = 5,
    .fail = fail,
    .error = -ECONNRESET,
    .after = send_after,
    .tear_down = stream_tear_down,
};
