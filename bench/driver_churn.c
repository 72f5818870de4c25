/*
 * The churn shape: each client connects, sends one request, takes the response, half-closes, waits
 * for the server to close too, and begins again, until the deadline. So a server never holds more
 * connections than there are clients, no end is a reset, and a server that keeps what it should
 * have closed is found out. A connection counts as one request; its latency is from connect to the
 * last byte of the response.
 *
 * The request is tried right behind connect: over loopback the handshake is over by then, and the
 * driver, which does more for a connection than a server, is spared one turn of its loop.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "bench/driver_load.h"

static void client_send(struct drive_worker *worker, struct drive_conn *conn)
{
    weir__drive_send(worker, conn);
    if (conn->phase == CONN_CONNECTING && conn->sent > 0)
        conn->phase = CONN_ASKING;
}

/* No port is left to connect from: the slice ends for this client, who has done nothing wrong. */
static void client_rests(struct drive_worker *worker)
{
    worker->out.out_of_ports = true;
    worker->ports_left = 0;
    worker->active--;
    worker->out.conns_alive++;
}

static void client_connect(struct drive_worker *worker, struct drive_conn *conn)
{
    int rc = -EADDRNOTAVAIL;
    if (worker->ports_left > 0) {
        uint32_t source = weir__drive_churn_source(worker->target, worker->made++);
        worker->ports_left--;
        rc = weir__drive_connect(worker, conn, source);
    }
    if (rc == 0)
        client_send(worker, conn);
    else if (rc == -EADDRNOTAVAIL)
        client_rests(worker);
}

static void client_start(struct drive_worker *worker, struct drive_conn *conn)
{
    worker->active++;
    client_connect(worker, conn);
}

/* The response is complete and right: half-closes. */
static void client_answered(struct drive_worker *worker, struct drive_conn *conn)
{
    uint64_t now_ns = weir__drive_now_ns();
    weir__histogram_add(&worker->out.latency, now_ns - conn->since_ns);
    worker->out.requests++;
    weir__drive_count_retries(worker, conn, now_ns);
    conn->seq++;
    conn->since_ns = now_ns;
    conn->phase = CONN_CLOSING;
    shutdown(conn->fd, SHUT_WR);
}

/* The server has closed too: begins again, unless the time is up. */
static void client_closed(struct drive_worker *worker, struct drive_conn *conn)
{
    close(conn->fd);
    conn->fd = -1;
    conn->phase = CONN_GONE;
    worker->last_ns = weir__drive_now_ns();
    if (worker->last_ns < worker->deadline_ns) {
        client_connect(worker, conn);
        return;
    }
    worker->active--;
    worker->out.conns_alive++;
}

/* False: the connection is over, or given up. */
static bool client_take(struct drive_worker *worker, struct drive_conn *conn, uint32_t len)
{
    uint32_t left = conn->phase == CONN_CLOSING ? 0 : conn->sent - conn->received;
    worker->out.bytes += len;
    if (len > left) {
        weir__drive_fail_extra(worker, conn, len - left);
        return false;
    }
    if (!weir__drive_verify(worker, conn, worker->buffer, len))
        return false;
    if (conn->received == worker->target->wire_bytes)
        client_answered(worker, conn);
    return true;
}

/* Reads all there is, the server's end included. */
static void client_receive(struct drive_worker *worker, struct drive_conn *conn, uint32_t events)
{
    const bool ends = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    ssize_t n;
    do {
        n = weir__drive_receive(worker, conn);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0 && conn->phase == CONN_CLOSING && (n == 0 || errno == ECONNRESET)) {
            client_closed(worker, conn);
            return;
        }
        if (n <= 0) {
            weir__drive_fail_lost(worker, conn, n < 0 ? errno : 0);
            return;
        }
        if (!client_take(worker, conn, (uint32_t)n))
            return;
    } while (n == WEIR__DRIVE_BUFFER_BYTES || ends); /* see driver_closed.c */
}

static void client_event(struct drive_worker *worker, struct drive_conn *conn, uint32_t events)
{
    if (conn->phase == CONN_CONNECTING ||
        (conn->phase == CONN_ASKING && conn->sent < worker->target->wire_bytes))
        client_send(worker, conn);
    if (conn->phase == CONN_ASKING || conn->phase == CONN_CLOSING)
        client_receive(worker, conn, events);
}

const struct drive_machine weir__drive_churn = {
    .start = client_start,
    .event = client_event,
};
