/*
 * One driving thread for the time of a slice: an edge-triggered epoll loop that sends a request on
 * each of its connections, compares what comes back with what was sent, and sends the next.
 *
 * Per request it makes one recv, one send, one clock reading and its share of an epoll_wait, so
 * that a server which does as much or more is the bottleneck. Nothing is allocated, and nothing is
 * copied: a response is compared in the buffer it was received into, which all connections share.
 *
 * Called by driver_target.c; never knows of other workers.
 */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <unistd.h>

#include "bench/driver_load.h"

#define EVENTS_MAX 256
/* Requests sent at the start of a slice, or connects of a burst, before answers are looked for
 * again. */
#define START_BATCH 64u
/* A SYN is sent again after a second: a connect that took longer is worth asking TCP_INFO about. */
#define CONNECT_SLOW_NS 900000000u

/* Gives the connection up, counts it, and keeps the text if it is the first of the slice. */
__attribute__((format(printf, 3, 4))) static void
conn_fail(struct drive_worker *worker, struct drive_conn *conn, const char *format, ...)
{
    struct driver_slice *out = &worker->out;
    if (out->first_error[0] == '\0') {
        va_list args;
        va_start(args, format);
        int n = snprintf(out->first_error, sizeof(out->first_error), "connection %u request %llu",
                         conn->id, (unsigned long long)conn->seq);
        vsnprintf(out->first_error + n, sizeof(out->first_error) - (size_t)n, format, args);
        va_end(args);
    }
    out->errors++;
    close(conn->fd);
    conn->fd = -1;
    conn->phase = CONN_GONE;
    worker->active--;
}

/* One send of what is left of the request; a frame's header goes out with its body. */
static ssize_t send_rest(const struct drive_target *target, const struct drive_conn *conn)
{
    uint8_t *body =
        (uint8_t *)weir__drive_payload_at(&target->payload, conn->id, conn->seq); /* not written */
    if (conn->sent >= target->header_bytes) {
        uint32_t at = conn->sent - target->header_bytes;
        return send(conn->fd, body + at, target->wire_bytes - conn->sent, MSG_NOSIGNAL);
    }
    struct iovec iov[2] = {
        {(uint8_t *)target->header + conn->sent, target->header_bytes - conn->sent},
        {body, target->spec.size_bytes},
    };
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
    return sendmsg(conn->fd, &msg, MSG_NOSIGNAL);
}

static void conn_send(struct drive_worker *worker, struct drive_conn *conn)
{
    const struct drive_target *target = worker->target;
    while (conn->sent < target->wire_bytes) {
        ssize_t n = send_rest(target, conn);
        if (n < 0 && errno == EAGAIN)
            return; /* an EPOLLOUT edge follows */
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            conn_fail(worker, conn, ": send: %s", strerror(errno));
            return;
        }
        conn->sent += (uint32_t)n;
    }
}

static void conn_ask(struct drive_worker *worker, struct drive_conn *conn, uint64_t now_ns)
{
    conn->phase = CONN_ASKING;
    conn->sent = 0;
    conn->received = 0;
    conn->since_ns = now_ns;
    conn_send(worker, conn);
}

/* Says where `got` first differs; `at` is its place within the response. */
static void conn_fail_bytes(struct drive_worker *worker, struct drive_conn *conn,
                            const uint8_t *want, const uint8_t *got, uint32_t at)
{
    uint32_t i = 0;
    while (want[i] == got[i])
        i++;
    worker->out.wrong++;
    conn_fail(worker, conn, " byte %u: want 0x%02x, got 0x%02x", at + i, want[i], got[i]);
}

/* Compares the next `len` bytes of a response. False: they differ; the connection is given up. */
static bool conn_verify(struct drive_worker *worker, struct drive_conn *conn, const uint8_t *got,
                        uint32_t len)
{
    const struct drive_target *target = worker->target;
    uint32_t left = target->wire_bytes - conn->received;
    uint32_t extra = len > left ? len - left : 0;
    len -= extra;
    if (conn->received < target->header_bytes && len > 0) {
        uint32_t head = target->header_bytes - conn->received;
        head = head < len ? head : len;
        const uint8_t *want = target->header + conn->received;
        if (memcmp(want, got, head) != 0) {
            conn_fail_bytes(worker, conn, want, got, conn->received);
            return false;
        }
        conn->received += head;
        got += head;
        len -= head;
    }
    if (len > 0) {
        const uint8_t *want = weir__drive_payload_at(&target->payload, conn->id, conn->seq) +
                              (conn->received - target->header_bytes);
        if (memcmp(want, got, len) != 0) {
            conn_fail_bytes(worker, conn, want, got, conn->received);
            return false;
        }
        conn->received += len;
    }
    if (extra > 0 || conn->received > conn->sent) {
        worker->out.wrong++;
        conn_fail(worker, conn, ": %u bytes more than were sent",
                  extra > 0 ? extra : conn->received - conn->sent);
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
    uint32_t wire_bytes = worker->target->wire_bytes;
    if (conn->phase == CONN_CLOSING && (failure == 0 || failure == ECONNRESET))
        conn_finish(worker, conn);
    else if (failure == 0)
        conn_fail(worker, conn, ": closed by the server after %u of %u bytes", conn->received,
                  wire_bytes);
    else
        conn_fail(worker, conn, ": %s after %u of %u bytes", strerror(failure), conn->received,
                  wire_bytes);
}

/* Reads all there is. Returns once the socket is known to be empty, or the connection is done. */
static void conn_receive(struct drive_worker *worker, struct drive_conn *conn, uint32_t events)
{
    const bool ends = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    ssize_t n;
    do {
        n = recv(conn->fd, worker->buffer, WEIR__DRIVE_BUFFER_BYTES, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            conn_lost(worker, conn, n < 0 ? errno : 0);
            return;
        }
        worker->out.bytes += (uint64_t)n;
        if (conn->phase != CONN_ASKING) {
            worker->out.wrong++;
            conn_fail(worker, conn, ": %zd bytes more than were sent", n);
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
        conn_fail(worker, conn, ": connect: %s", strerror(failure));
        return;
    }
    uint64_t now_ns = weir__drive_now_ns();
    if (now_ns - conn->since_ns > CONNECT_SLOW_NS) {
        struct tcp_info info = {0};
        len = sizeof(info);
        if (getsockopt(conn->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0)
            worker->out.connect_retries += info.tcpi_total_retrans;
    }
    conn_ask(worker, conn, now_ns);
}

static void conn_event(struct drive_worker *worker, struct drive_conn *conn, uint32_t events)
{
    switch (conn->phase) {
    case CONN_CONNECTING:
        conn_connected(worker, conn);
        break;
    case CONN_ASKING:
        if (conn->sent < worker->target->wire_bytes)
            conn_send(worker, conn);
        if (conn->phase == CONN_ASKING)
            conn_receive(worker, conn, events);
        break;
    case CONN_CLOSING:
        conn_receive(worker, conn, events);
        break;
    case CONN_IDLE: /* the first EPOLLOUT; an end is noticed when it is asked next */
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
        conn_fail(worker, conn, ": connect: %s", strerror(-rc));
}

static void give_up_silent(struct drive_worker *worker, uint64_t now_ns)
{
    const struct driver_target *spec = &worker->target->spec;
    for (uint32_t i = 0; i < worker->count; i++) {
        struct drive_conn *conn = &worker->conns[i];
        uint64_t limit_ns =
            conn->phase == CONN_CONNECTING ? spec->connect_timeout_ns : spec->answer_timeout_ns;
        if (conn->phase < CONN_CONNECTING || conn->phase == CONN_IDLE ||
            now_ns - conn->since_ns < limit_ns)
            continue;
        double seconds = (double)limit_ns / 1e9;
        if (conn->phase == CONN_CONNECTING)
            conn_fail(worker, conn, ": not connected within %g s", seconds);
        else if (conn->phase == CONN_CLOSING)
            conn_fail(worker, conn, ": the server did not close within %g s", seconds);
        else
            conn_fail(worker, conn, ": no answer within %g s (%u of %u bytes)", seconds,
                      conn->received, worker->target->wire_bytes);
    }
}

/* How often to look for silent connections: often enough to be an eighth late at most. */
static uint64_t check_interval_ns(const struct driver_target *spec)
{
    uint64_t least = spec->answer_timeout_ns < spec->connect_timeout_ns ? spec->answer_timeout_ns
                                                                        : spec->connect_timeout_ns;
    return least / 8 + 1;
}

static void turn(struct drive_worker *worker, bool wait)
{
    struct epoll_event events[EVENTS_MAX];
    uint64_t interval_ns = check_interval_ns(&worker->target->spec);
    int timeout_ms = wait ? (int)(interval_ns / 1000000) + 1 : 0;
    int n = epoll_wait(worker->epoll_fd, events, EVENTS_MAX, timeout_ms);
    assert(n >= 0 || errno == EINTR);
    for (int i = 0; i < n; i++)
        conn_event(worker, events[i].data.ptr, events[i].events);
    uint64_t now_ns = weir__drive_now_ns();
    if (now_ns < worker->check_ns)
        return;
    give_up_silent(worker, now_ns);
    worker->check_ns = now_ns + interval_ns;
}

static uint64_t thread_cpu_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void weir__drive_worker_run(struct drive_worker *worker)
{
    assert(worker->active == 0);
    uint64_t cpu_before_ns = thread_cpu_ns();
    memset(&worker->out, 0, sizeof(worker->out));
    worker->first_ns = worker->last_ns = weir__drive_now_ns();
    worker->check_ns = worker->first_ns + check_interval_ns(&worker->target->spec);
    uint32_t started = 0;
    for (uint32_t i = 0; i < worker->count; i++) {
        if (worker->conns[i].phase != CONN_IDLE)
            continue;
        conn_start(worker, &worker->conns[i]);
        if (++started % START_BATCH == 0)
            turn(worker, false);
    }
    while (worker->active > 0)
        turn(worker, true);
    worker->end_ns = weir__drive_now_ns();
    worker->cpu_ns = thread_cpu_ns() - cpu_before_ns;
}
