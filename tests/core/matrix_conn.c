/* The matrix: connecting and receiving. See matrix.h. */
#include "matrix.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include <linux/sockios.h>

#include <weir/dial.h>

enum { SMALL = 8192 };

void matrix_pair_open(struct matrix_pair *pair)
{
    static struct sockaddr_storage address;
    socklen_t address_bytes;
    int size = SMALL, listening = peer_listen(&address, &address_bytes, 1, SMALL);
    check_int(weir_connect(weir_loop_self(), &pair->conn, (struct sockaddr *)&address,
                           address_bytes, WEIR_FOREVER),
              ==, 0);
    pair->peer = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    check(pair->peer >= 0, "accept: errno %d", errno);
    check_int(setsockopt(weir_conn_fd(pair->conn), SOL_SOCKET, SO_SNDBUF, &size, sizeof size), ==,
              0);
    peer_close(listening);
}

void matrix_pair_close(struct matrix_pair *pair)
{
    weir_conn_abort(pair->conn);
    peer_reset(pair->peer);
}

/* What has left one socket has arrived in the other, which lets no more come. A busy machine takes
 * its time over that, and it makes room again in the first. */
static bool pair_settled(const struct matrix_pair *pair)
{
    int unsent = 0, unacknowledged = 0, now = 1;
    check_int(setsockopt(pair->peer, IPPROTO_TCP, TCP_QUICKACK, &now, sizeof now), ==, 0);
    check_int(ioctl(weir_conn_fd(pair->conn), SIOCOUTQ, &unacknowledged), ==, 0);
    check_int(ioctl(weir_conn_fd(pair->conn), SIOCOUTQNSD, &unsent), ==, 0);
    return unsent > 0 && unacknowledged == unsent;
}

size_t matrix_pair_fill(const struct matrix_pair *pair)
{
    static uint8_t data[1024];
    size_t bytes = 0;
    for (bool settled = false;;) {
        pattern_fill(data, sizeof data, 1, bytes);
        ssize_t sent = send(weir_conn_fd(pair->conn), data, sizeof data, MSG_DONTWAIT);
        if (sent > 0)
            bytes += (size_t)sent;
        else if (settled)
            return bytes;
        settled = sent < 0 && pair_settled(pair);
    }
}

static struct matrix_pair pair;

static void pair_set_up(const struct matrix_cell *cell)
{
    matrix_pair_open(&pair);
}

static void pair_tear_down(void)
{
    matrix_pair_close(&pair);
}

/* ---- receiving ------------------------------------------------------------------------------- */

static struct weir_buf received;

static int64_t recv_call(uint64_t deadline_ns)
{
    int got = weir_recv_until(pair.conn, &received, deadline_ns);
    if (got > 0)
        check(memcmp(received.data, "hello", (size_t)got) == 0, "%.5s", (char *)received.data);
    else
        check(received.id == 0, "a buffer without bytes");
    weir_buf_put(weir_loop_self(), &received);
    return got;
}

static void recv_complete(void)
{
    peer_send(pair.peer, "hello", 5);
}

static void recv_fail(void)
{
    peer_reset(pair.peer);
    pair.peer = peer_socket(AF_INET); /* to be closed */
}

static void recv_after(const struct matrix_cell *cell)
{
    if (cell->fails)
        return;
    if (cell->result < 0 && cell->completed)
        check_int(recv_call(WEIR_FOREVER), ==, 5);
    recv_complete();
    check_int(recv_call(WEIR_FOREVER), ==, 5);
}

MATRIX_ROW(recv) = {
    .name = "weir_recv_until",
    .flags = MATRIX_ENDS_WITH_LOOP, /* which drops what has come and was not received */
    .set_up = pair_set_up,
    .call = recv_call,
    .complete = recv_complete,
    .result = 5,
    .fail = recv_fail,
    .error = -ECONNRESET,
    .after = recv_after,
    .tear_down = pair_tear_down,
};

/* ---- connect --------------------------------------------------------------------------------- */

/* A listener that answers at once; or whose backlog is full, so that it never does; or one that has
 * gone, so that its host refuses. */
static struct sockaddr_storage there;
static socklen_t there_bytes;
static int listening, filling;

static void connect_set_up(const struct matrix_cell *cell)
{
    struct tcp_info info = {0};
    socklen_t bytes = sizeof info;
    listening = peer_listen(&there, &there_bytes, cell->completes ? 8 : 0, 0);
    filling = -1;
    if (cell->fails) {
        peer_close(listening);
        listening = -1;
    }
    if (cell->completes || cell->fails)
        return;
    filling = peer_socket(AF_INET);
    peer_connect_address(filling, &there, there_bytes);
    do /* of a listening socket these are the length of its backlog, and the most */
        check_int(getsockopt(listening, IPPROTO_TCP, TCP_INFO, &info, &bytes), ==, 0);
    while (info.tcpi_unacked <= info.tcpi_sacked);
}

static int64_t connect_call(uint64_t deadline_ns)
{
    struct weir_conn *conn = NULL;
    int result =
        weir_connect(weir_loop_self(), &conn, (struct sockaddr *)&there, there_bytes, deadline_ns);
    check((result == 0) == (conn != NULL), "%d and %p", result, (void *)conn);
    if (conn)
        weir_conn_abort(conn);
    return result;
}

static int64_t dial_call(uint64_t deadline_ns)
{
    struct weir_conn *conn = NULL;
    int result =
        weir_dial(&conn, "127.0.0.1", ntohs(((struct sockaddr_in *)&there)->sin_port), deadline_ns);
    check((result == 0) == (conn != NULL), "%d and %p", result, (void *)conn);
    if (conn)
        weir_conn_abort(conn);
    return result;
}

static void connect_completes_by_itself(void) {}

/* It works again, as soon as there is room. */
static void connect_after(const struct matrix_cell *cell)
{
    if (cell->fails)
        return;
    if (filling >= 0) {
        int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
        check(fd >= 0, "accept: errno %d", errno);
        peer_close(fd);
    }
    check_int(connect_call(WEIR_FOREVER), ==, 0);
}

static void connect_tear_down(void)
{
    if (listening >= 0)
        peer_close(listening);
    if (filling >= 0)
        peer_close(filling);
}

MATRIX_ROW(connect) = {
    .name = "weir_connect",
    .set_up = connect_set_up,
    .call = connect_call,
    .complete = connect_completes_by_itself,
    .fail = connect_completes_by_itself,
    .error = -ECONNREFUSED,
    .after = connect_after,
    .tear_down = connect_tear_down,
};

MATRIX_ROW(dial) = {
    .name = "weir_dial",
    .set_up = connect_set_up,
    .call = dial_call,
    .complete = connect_completes_by_itself,
    .fail = connect_completes_by_itself,
    .error = -ECONNREFUSED,
    .after = connect_after,
    .tear_down = connect_tear_down,
};
