/*
 * The closed shape, the idle one and the burst: one request in flight on each connection. It sends
 * a request, compares what comes back with what was sent, and sends the next; a client of a burst
 * connects first and closes after its last.
 *
 * Per request it makes one recv, one send, one clock reading and its share of an epoll_wait, so
 * that a server which does as much or more is the bottleneck. Nothing is allocated, and nothing is
 * copied: a response is compared in the buffer it was received into, which all connections share.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "bench/driver_load.h"

static void conn_ask(struct drive_worker *worker, struct drive_conn *conn, uint64_t now_ns)
{
    conn->phase = CONN_ASKING;
    conn->sent = 0;
    conn->received = 0;
    conn->since_ns = now_ns;
    weir__drive_send(worker, conn);
}

/* Compares the next `len` bytes of a response. False: they differ; the connection is given up. */
static bool conn_verify(struct drive_worker *worker, struct drive_conn *conn, const uint8_t *got,
                        uint32_t len)
{
    uint32_t left = worker->target->wire_bytes - conn->received;
    uint32_t extra = len > left ? len - left : 0;
    if (!weir__drive_verify(worker, conn, got, len - extra))
        return false;
    if (extra > 0 || conn->received > conn->sent) {
        weir__drive_fail_extra(worker, conn, extra > 0 ? extra : conn->received - conn->sent);
        return false;
    }
    return true;
}

/* A response is complete and right: count it, and ask again unless it was the last. */
static void conn_answered(struct drive_worker *worker, struct drive_conn *conn, uint64_t now_ns)
{
    weir__histogram_add(&worker->out.latency, now_ns - conn->since_ns);
    worker->out.requests++;
    worker->last_ns = now_ns;
    conn->seq++;
    if (worker->requests > 0 ? conn->seq < worker->requests : now_ns < worker->deadline_ns) {
        conn_ask(worker, conn, now_ns);
    } else if (worker->requests > 0) {
        conn->phase = CONN_CLOSING;
        conn->since_ns = now_ns;
        shutdown(conn->fd, SHUT_WR);
    } else {
        conn->phase = CONN_IDLE;
        worker->active--;
    }
}

/* The end of a burst's client: the server has closed too. */
static void conn_finish(struct drive_worker *worker, struct drive_conn *conn)
{
    close(conn->fd);
    conn->fd = -1;
    conn->phase = CONN_GONE;
    worker->active--;
    worker->out.conns_alive++;
    worker->last_ns = weir__drive_now_ns();
}

static void conn_lost(struct drive_worker *worker, struct drive_conn *conn, int failure)
{
    if (conn->phase == CONN_CLOSING && (failure == 0 || failure == ECONNRESET))
        conn_finish(worker, conn);
    else
        weir__drive_fail_lost(worker, conn, failure);
}

/* Reads all there is. Returns once the socket is known to be empty, or the connection is done. */
static void conn_receive(struct drive_worker *worker, struct drive_conn *conn, uint32_t events)
{
    const bool ends = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    ssize_t n;
    do {
        n = weir__drive_receive(worker, conn);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            conn_lost(worker, conn, n < 0 ? errno : 0);
            return;
        }
        worker->out.bytes += (uint64_t)n;
        if (conn->phase != CONN_ASKING) {
            weir__drive_fail_extra(worker, conn, (uint64_t)n);
            return;
        }
        bool last = conn->received + (uint64_t)n >= worker->target->wire_bytes;
        uint64_t now_ns = last ? weir__drive_now_ns() : 0;
        if (!conn_verify(worker, conn, worker->buffer, (uint32_t)n))
            return;
        if (last)
            conn_answered(worker, conn, now_ns);
        /* A short read empties a stream socket (epoll(7)), and what comes later is a new edge; but
         * an end that had come already is part of this one. */
    } while ((n == WEIR__DRIVE_BUFFER_BYTES || ends) && conn->phase >= CONN_ASKING);
}

static void conn_connected(struct drive_worker *worker, struct drive_conn *conn)
{
    int failure = 0;
    socklen_t len = sizeof(failure);
    if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &failure, &len) < 0)
        failure = errno;
    if (failure != 0) {
        weir__drive_fail(worker, conn, ": connect: %s", strerror(failure));
        return;
    }
    uint64_t now_ns = weir__drive_now_ns();
    weir__drive_count_retries(worker, conn, now_ns);
    conn_ask(worker, conn, now_ns);
}

static void conn_lost_idle(struct drive_worker *worker, struct drive_conn *conn)
{
    worker->active++; /* it had no part in the slice; giving it up takes one away */
    weir__drive_fail(worker, conn, ": closed by the server while it was idle");
}

static void conn_event(struct drive_worker *worker, struct drive_conn *conn, uint32_t events)
{
    switch (conn->phase) {
    case CONN_CONNECTING:
        conn_connected(worker, conn);
        break;
    case CONN_ASKING:
        if (conn->sent < worker->target->wire_bytes)
            weir__drive_send(worker, conn);
        if (conn->phase == CONN_ASKING)
            conn_receive(worker, conn, events);
        break;
    case CONN_CLOSING:
        conn_receive(worker, conn, events);
        break;
    case CONN_IDLE: /* the first EPOLLOUT; an end is noticed when it is asked next, if ever it is */
        if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR) &&
            worker->target->spec.shape.kind == SHAPE_IDLE)
            conn_lost_idle(worker, conn);
        break;
    case CONN_ENDING:
    case CONN_GONE:
        break;
    }
}

/* Starts a connection's part of the slice. */
static void conn_start(struct drive_worker *worker, struct drive_conn *conn)
{
    const struct driver_target *spec = &worker->target->spec;
    uint64_t now_ns = weir__drive_now_ns();
    worker->active++;
    if (worker->requests == 0) {
        conn_ask(worker, conn, now_ns);
        return;
    }
    conn->phase = CONN_CONNECTING;
    conn->since_ns = now_ns;
    int rc = 0;
    if (connect(conn->fd, (const struct sockaddr *)&spec->addr, spec->addr_len) < 0 &&
        errno != EINPROGRESS)
        rc = -errno;
    else
        rc = weir__drive_watch(worker, conn);
    if (rc < 0)
        weir__drive_fail(worker, conn, ": connect: %s%s", strerror(-rc),
                         weir__drive_connect_cure(rc));
}

const struct drive_machine weir__drive_closed = {
    .start = conn_start,
    .event = conn_event,
};
