/*
 * The stream shape towards the server: each connection sends messages without a pause, and at the
 * deadline, when the message under way is whole, asks for an acknowledgement and waits for it (the
 * wire format stands in workloads/sink.c). Messages count when the server has acknowledged all
 * their bytes, so everything counted is known to have arrived. What streams from the server is a
 * pipeline of short requests with long answers: driver_pipeline.c.
 *
 * The sockets are watched level-triggered here, and an event is worth one send: so all connections
 * have their turn, however fast the server takes what one of them sends.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>

#include "bench/driver_load.h"

/* Sent at once, at least, where messages are shorter. */
#define SEND_BYTES 262144u
#define PIECES_MAX 64u

enum { ACK_BYTES = 8, END_BYTES = WEIR__DRIVE_HEADER_BYTES };

/* Watches for input, and for room to send if that is `wanted`. False: the connection is given up.
 */
static bool conn_watch(struct drive_worker *worker, struct drive_conn *conn, uint32_t wanted)
{
    struct epoll_event event = {.events = EPOLLIN | wanted, .data.ptr = conn};
    if (epoll_ctl(worker->epoll_fd, EPOLL_CTL_MOD, conn->fd, &event) == 0)
        return true;
    weir__drive_fail(worker, conn, ": epoll_ctl: %s", strerror(errno));
    return false;
}

/* Adds what is left of the message under way, and whole ones behind it while the time is not up. */
static unsigned gather(const struct drive_worker *worker, const struct drive_conn *conn, bool over,
                       struct iovec iov[PIECES_MAX])
{
    const struct drive_target *target = worker->target;
    uint32_t from = conn->sent;
    unsigned pieces = 0;
    size_t bytes = 0;
    for (uint64_t seq = conn->seq; bytes < SEND_BYTES && pieces + 2 <= PIECES_MAX; seq++) {
        if (over && from == 0)
            break;
        pieces += weir__drive_gather(target, conn->id, seq, from, &iov[pieces]);
        bytes += target->ask_bytes - from;
        from = 0;
    }
    return pieces;
}

/* Asks for the acknowledgement: a message of no bytes. */
static ssize_t send_end(struct drive_conn *conn)
{
    static const uint8_t end[END_BYTES];
    return send(conn->fd, end + conn->sent, END_BYTES - conn->sent, MSG_NOSIGNAL);
}

/* One send. The connection streams (CONN_ASKING), and ends its stream (CONN_ENDING). */
static void conn_send(struct drive_worker *worker, struct drive_conn *conn)
{
    const uint32_t ask_bytes = worker->target->ask_bytes;
    struct iovec iov[PIECES_MAX];
    struct msghdr msg = {.msg_iov = iov};
    uint64_t now_ns = weir__drive_now_ns();
    /* One message at least: a connection that was late to begin has its part too. */
    bool over = now_ns >= worker->deadline_ns && conn->ahead > 0;
    if (conn->phase == CONN_ASKING && over && conn->sent == 0)
        conn->phase = CONN_ENDING;
    if (conn->phase == CONN_ASKING)
        msg.msg_iovlen = gather(worker, conn, over, iov);
    ssize_t n = conn->phase == CONN_ENDING ? send_end(conn) : sendmsg(conn->fd, &msg, MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) {
        weir__drive_fail(worker, conn, ": send: %s", strerror(errno));
        return;
    }
    conn->since_ns = now_ns;
    uint64_t sent = conn->sent + (uint64_t)n;
    if (conn->phase == CONN_ENDING) {
        conn->sent = (uint32_t)sent;
        if (sent == END_BYTES)
            conn_watch(worker, conn, 0);
        return;
    }
    conn->ahead += (uint32_t)(sent / ask_bytes);
    conn->seq += sent / ask_bytes;
    conn->sent = (uint32_t)(sent % ask_bytes);
}

/* All bytes have arrived: the messages count. */
static void conn_acknowledged(struct drive_worker *worker, struct drive_conn *conn)
{
    worker->last_ns = weir__drive_now_ns();
    worker->out.requests += conn->ahead;
    worker->out.bytes += (uint64_t)conn->ahead * worker->target->spec.size_bytes;
    conn->phase = CONN_IDLE;
    worker->active--;
}

static void conn_take(struct drive_worker *worker, struct drive_conn *conn, const uint8_t *got,
                      uint32_t len)
{
    uint64_t taken = (uint64_t)conn->ahead * worker->target->spec.size_bytes;
    bool asked = conn->phase == CONN_ENDING && conn->sent == END_BYTES;
    if (!asked || conn->received + len > ACK_BYTES) {
        weir__drive_fail_extra(worker, conn, len);
        return;
    }
    for (uint32_t i = 0; i < len; i++, conn->received++) {
        uint8_t want = (uint8_t)(taken >> (56 - 8 * conn->received));
        if (got[i] == want)
            continue;
        worker->out.wrong++;
        weir__drive_fail(worker, conn,
                         " byte %u of the acknowledgement of %llu bytes: want 0x%02x, got 0x%02x",
                         conn->received, (unsigned long long)taken, want, got[i]);
        return;
    }
    if (conn->received == ACK_BYTES)
        conn_acknowledged(worker, conn);
}

static void conn_receive(struct drive_worker *worker, struct drive_conn *conn)
{
    ssize_t n = recv(conn->fd, worker->buffer, WEIR__DRIVE_BUFFER_BYTES, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0)
        conn_take(worker, conn, worker->buffer, (uint32_t)n);
    else
        weir__drive_fail(worker, conn, ": %s before it acknowledged the stream",
                         n == 0 ? "closed by the server" : strerror(errno));
}

static void conn_start(struct drive_worker *worker, struct drive_conn *conn)
{
    worker->active++;
    conn->phase = CONN_ASKING;
    conn->sent = conn->received = conn->ahead = 0;
    conn->since_ns = weir__drive_now_ns();
    if (conn_watch(worker, conn, EPOLLOUT))
        conn_send(worker, conn);
}

static void conn_event(struct drive_worker *worker, struct drive_conn *conn, uint32_t events)
{
    if (conn->phase != CONN_ASKING && conn->phase != CONN_ENDING)
        return;
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        conn_receive(worker, conn);
    if (events & EPOLLOUT && conn->phase >= CONN_ASKING)
        conn_send(worker, conn);
}

const struct drive_machine weir__drive_sink = {
    .start = conn_start,
    .event = conn_event,
};
