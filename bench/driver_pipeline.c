/*
 * The pipeline shape: up to `depth` requests in flight on each connection. What may be sent leaves
 * in one gathered send, what has come is received in large reads, and each response is compared in
 * the order of the requests.
 *
 * A stream from the server is the same with short requests: each asks for a long answer (the wire
 * format stands in workloads/source.c).
 *
 * Whatever the size and the depth, nothing can lock up: a send never waits, and a connection whose
 * send found the socket full still reads all that comes, which makes room at the other end.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>

#include "bench/driver_load.h"

/* Pieces of one send: 32 frames, or 64 requests without a header. More leave in the next. */
#define PIECES_MAX 64u

static uint64_t *begun_at(const struct drive_worker *worker, const struct drive_conn *conn,
                          uint64_t seq)
{
    uint32_t depth = worker->target->spec.shape.depth;
    return &worker->begun_ns[(size_t)(conn - worker->conns) * depth + seq % depth];
}

/* Gathers requests until `limit` are in flight. `*bytes` is their sum. Returns the pieces. */
static unsigned gather(const struct drive_worker *worker, const struct drive_conn *conn,
                       uint32_t limit, uint64_t now_ns, struct iovec iov[PIECES_MAX], size_t *bytes)
{
    const struct drive_target *target = worker->target;
    unsigned pieces = 0;
    uint32_t from = conn->sent;
    *bytes = 0;
    for (uint32_t i = conn->ahead; i < limit && pieces + 2 <= PIECES_MAX; i++) {
        if (from == 0)
            *begun_at(worker, conn, conn->seq + i) = now_ns;
        pieces += weir__drive_gather(target, conn->id, conn->seq + i, from, &iov[pieces]);
        *bytes += target->ask_bytes - from;
        from = 0;
    }
    return pieces;
}

/* Sends until `limit` requests are in flight, or the socket is full. */
static void conn_send(struct drive_worker *worker, struct drive_conn *conn, uint32_t limit)
{
    const uint32_t ask_bytes = worker->target->ask_bytes;
    const uint64_t now_ns = weir__drive_now_ns();
    struct iovec iov[PIECES_MAX];
    size_t bytes;
    for (;;) {
        struct msghdr msg = {.msg_iov = iov};
        msg.msg_iovlen = gather(worker, conn, limit, now_ns, iov, &bytes);
        if (msg.msg_iovlen == 0)
            return;
        ssize_t n = sendmsg(conn->fd, &msg, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
            return; /* an EPOLLOUT edge follows */
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            weir__drive_fail(worker, conn, ": send: %s", strerror(errno));
            return;
        }
        uint64_t sent = conn->sent + (uint64_t)n;
        conn->ahead += (uint32_t)(sent / ask_bytes);
        conn->sent = (uint32_t)(sent % ask_bytes);
        assert(conn->ahead <= worker->target->spec.shape.depth);
        if ((size_t)n < bytes)
            return; /* full: the same edge follows (epoll(7)) */
    }
}

/* A response is complete and right. */
static void conn_answered(struct drive_worker *worker, struct drive_conn *conn, uint64_t now_ns)
{
    weir__histogram_add(&worker->out.latency, now_ns - *begun_at(worker, conn, conn->seq));
    worker->out.requests++;
    worker->last_ns = now_ns;
    conn->seq++;
    conn->ahead--;
    conn->received = 0;
}

/* Takes received bytes apart into responses. False: the connection is given up. */
static bool conn_take(struct drive_worker *worker, struct drive_conn *conn, const uint8_t *got,
                      uint32_t len, uint64_t now_ns)
{
    const uint32_t wire_bytes = worker->target->wire_bytes;
    while (len > 0) {
        /* An echo may run behind the request that is still being sent, and never overtake it. */
        uint32_t may = (conn->ahead > 0 ? wire_bytes : conn->sent) - conn->received;
        uint32_t piece = len < may ? len : may;
        if (piece == 0) {
            weir__drive_fail_extra(worker, conn, len);
            return false;
        }
        if (!weir__drive_verify(worker, conn, got, piece))
            return false;
        got += piece;
        len -= piece;
        if (conn->received == wire_bytes)
            conn_answered(worker, conn, now_ns);
    }
    return true;
}

/* Reads all there is. False: the connection is given up. */
static bool conn_receive(struct drive_worker *worker, struct drive_conn *conn, uint32_t events)
{
    const bool ends = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    ssize_t n;
    do {
        n = weir__drive_receive(worker, conn);
        if (n < 0 && errno == EAGAIN)
            return true;
        if (n <= 0) {
            weir__drive_fail_lost(worker, conn, n < 0 ? errno : 0);
            return false;
        }
        worker->out.bytes += (uint64_t)n;
        conn->since_ns = weir__drive_now_ns();
        if (!conn_take(worker, conn, worker->buffer, (uint32_t)n, conn->since_ns))
            return false;
    } while (n == WEIR__DRIVE_BUFFER_BYTES || ends); /* see driver_closed.c */
    return true;
}

/* Sends what the responses made room for; after the deadline only the rest of what is begun. The
 * connection's part ends when all are answered. */
static void conn_go_on(struct drive_worker *worker, struct drive_conn *conn)
{
    uint32_t begun = conn->ahead + (conn->sent > 0);
    bool over = weir__drive_now_ns() >= worker->deadline_ns;
    if (over && begun == 0) {
        conn->phase = CONN_IDLE;
        worker->active--;
        return;
    }
    conn_send(worker, conn, over ? begun : worker->target->spec.shape.depth);
}

static void conn_start(struct drive_worker *worker, struct drive_conn *conn)
{
    worker->active++;
    conn->phase = CONN_ASKING;
    conn->since_ns = weir__drive_now_ns();
    conn->sent = conn->received = conn->ahead = 0;
    conn_send(worker, conn, worker->target->spec.shape.depth);
}

static void conn_event(struct drive_worker *worker, struct drive_conn *conn, uint32_t events)
{
    if (conn->phase == CONN_ASKING && conn_receive(worker, conn, events))
        conn_go_on(worker, conn);
}

const struct drive_machine weir__drive_pipeline = {
    .start = conn_start,
    .event = conn_event,
};
