/*
 * The driver's sockets: their options, the loopback address they come from, and opening many in
 * bounded time. Used by driver_target.c before a slice, and by the shapes that connect during one.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "bench/driver_load.h"

/* Connects under way at once when opening: below the accept queue of any server worth the name,
 * for a SYN that finds it full is repeated after a second. */
#define CONNECTING_MAX 64u

/* Source addresses that bursts take in turn: the TIME_WAIT sockets of one are gone or out of the
 * way when its turn comes again. */
#define BURST_SOURCES 256u

/* Source addresses that the connections of churn take in turn. A TIME_WAIT socket lasts a minute:
 * at 14,000 fast ports each these are good for 60,000 connections a second. */
#define CHURN_SOURCES 256u

static bool is_loopback4(const struct driver_target *spec)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)&spec->addr;
    return spec->addr.ss_family == AF_INET && ntohl(in->sin_addr.s_addr) >> 24 == 127;
}

uint32_t weir__drive_source(const struct drive_target *target, uint32_t id, bool burst)
{
    if (!is_loopback4(&target->spec))
        return 0;
    uint32_t own = id / WEIR__DRIVE_SOURCE_CONNS;
    if (!burst)
        return own;
    uint32_t each = (target->spec.conns - 1) / WEIR__DRIVE_SOURCE_CONNS + 1;
    return 1 + each * (1 + target->bursts % BURST_SOURCES) + own;
}

uint32_t weir__drive_churn_source(const struct drive_target *target, uint64_t made)
{
    return is_loopback4(&target->spec) ? 1 + (uint32_t)(made % CHURN_SOURCES) : 0;
}

uint64_t weir__drive_sources(const struct drive_target *target)
{
    uint64_t each = (target->spec.conns - 1) / WEIR__DRIVE_SOURCE_CONNS + 1;
    if (!is_loopback4(&target->spec))
        return 1;
    return target->spec.shape.kind == SHAPE_CHURN ? CHURN_SOURCES : BURST_SOURCES * each;
}

static int bind_source(int fd, uint32_t source)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK + source);
    /* The port is picked at connect, when the whole four-tuple is known to be free (ip(7)). */
    int on = 1;
    if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on)) < 0)
        return -errno;
    return bind(fd, (struct sockaddr *)&in, sizeof(in)) < 0 ? -errno : 0;
}

/* The options both ends of every model set, so that the machine's defaults favour nobody. */
static int set_options(int fd)
{
    int on = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0)
        return -errno;
    if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5) < 0 &&
        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4) < 0)
        return -errno;
    return 0;
}

int weir__drive_socket(const struct drive_target *target, uint32_t source, char *error)
{
    int fd = socket(target->spec.addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const char *what = "socket";
    int rc = fd < 0 ? -errno : 0;
    if (rc == 0) {
        what = "TCP_NODELAY or TCP_CONGESTION";
        rc = set_options(fd);
    }
    if (rc == 0 && source > 0) {
        what = "bind to a loopback source address";
        rc = bind_source(fd, source);
    }
    if (rc == 0)
        return fd;
    snprintf(error, WEIR__DRIVER_TEXT_BYTES, "%s: %s%s", what, strerror(-rc),
             rc == -EMFILE ? ": raise ulimit -n, or use fewer connections" : "");
    if (fd >= 0)
        close(fd);
    return rc;
}

void weir__drive_reset(struct drive_conn *conn)
{
    struct linger reset = {.l_onoff = 1};
    if (conn->fd >= 0) {
        setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
        close(conn->fd);
    }
    conn->fd = -1;
    conn->phase = CONN_GONE;
}

int weir__drive_watch(struct drive_worker *worker, struct drive_conn *conn)
{
    /* Edge-triggered, both ways, once and for all: no epoll_ctl per request, and EPOLLOUT says
     * nothing until a send found the socket full. */
    struct epoll_event event = {
        .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
        .data.ptr = conn,
    };
    return epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, conn->fd, &event) < 0 ? -errno : 0;
}

const char *weir__drive_connect_cure(int rc)
{
    if (rc == -ECONNREFUSED)
        return ": nothing listens there";
    if (rc == -EADDRNOTAVAIL)
        return ": out of ports, open or in TIME_WAIT: widen net.ipv4.ip_local_port_range, use "
               "fewer connections, or wait a minute";
    if (rc == -ETIMEDOUT)
        return ": the server does not accept, or its backlog is too short";
    return "";
}

int weir__drive_connect(struct drive_worker *worker, struct drive_conn *conn, uint32_t source)
{
    const struct driver_target *spec = &worker->target->spec;
    char error[WEIR__DRIVER_TEXT_BYTES];
    conn->since_ns = weir__drive_now_ns();
    conn->sent = conn->received = 0;
    conn->phase = CONN_CONNECTING;
    conn->fd = weir__drive_socket(worker->target, source, error);
    if (conn->fd < 0) {
        int failure = conn->fd;
        weir__drive_fail(worker, conn, ": %s", error);
        return failure;
    }
    int rc = 0;
    if (connect(conn->fd, (const struct sockaddr *)&spec->addr, spec->addr_len) < 0 &&
        errno != EINPROGRESS)
        rc = -errno;
    else
        rc = weir__drive_watch(worker, conn);
    if (rc == -EADDRNOTAVAIL)
        weir__drive_reset(conn);
    else if (rc < 0)
        weir__drive_fail(worker, conn, ": connect: %s%s", strerror(-rc),
                         weir__drive_connect_cure(rc));
    return rc;
}

static int connect_failed(const struct drive_conn *conn, int rc, char *error)
{
    snprintf(error, WEIR__DRIVER_TEXT_BYTES, "connection %u: connect: %s%s", conn->id,
             strerror(-rc), weir__drive_connect_cure(rc));
    return rc;
}

/* Starts one connect, watched by `epoll` for its end. */
static int connect_start(struct drive_worker *worker, struct drive_conn *conn, int epoll,
                         char *error)
{
    struct drive_target *target = worker->target;
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = conn};
    int fd = weir__drive_socket(target, weir__drive_source(target, conn->id, false), error);
    if (fd < 0)
        return fd;
    conn->fd = fd;
    conn->phase = CONN_CONNECTING;
    if (connect(fd, (struct sockaddr *)&target->spec.addr, target->spec.addr_len) < 0 &&
        errno != EINPROGRESS)
        return connect_failed(conn, -errno, error);
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? connect_failed(conn, -errno, error)
                                                           : 0;
}

static int connect_finish(struct drive_worker *worker, struct drive_conn *conn, int epoll,
                          char *error)
{
    int failure = 0;
    socklen_t len = sizeof(failure);
    if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &failure, &len) < 0)
        failure = errno;
    if (failure == 0 && epoll_ctl(epoll, EPOLL_CTL_DEL, conn->fd, NULL) < 0)
        failure = errno;
    if (failure != 0)
        return connect_failed(conn, -failure, error);
    conn->phase = CONN_IDLE;
    int rc = weir__drive_watch(worker, conn);
    return rc < 0 ? connect_failed(conn, rc, error) : 0;
}

static int connect_timed_out(struct drive_worker *worker, char *error)
{
    uint32_t i = 0;
    while (i + 1 < worker->count && worker->conns[i].phase == CONN_IDLE)
        i++;
    return connect_failed(&worker->conns[i], -ETIMEDOUT, error);
}

static int connect_loop(struct drive_worker *worker, int epoll, uint64_t deadline_ns, char *error)
{
    struct epoll_event events[CONNECTING_MAX];
    uint32_t started = 0, finished = 0;
    while (finished < worker->count) {
        int rc = 0;
        while (rc == 0 && started < worker->count && started - finished < CONNECTING_MAX)
            rc = connect_start(worker, &worker->conns[started++], epoll, error);
        if (rc < 0)
            return rc;
        uint64_t now = weir__drive_now_ns();
        if (now >= deadline_ns)
            return connect_timed_out(worker, error);
        int n = epoll_wait(epoll, events, CONNECTING_MAX, (int)((deadline_ns - now) / 1000000 + 1));
        for (int i = 0; i < n && rc == 0; i++)
            rc = connect_finish(worker, events[i].data.ptr, epoll, error);
        if (rc < 0)
            return rc;
        finished += n > 0 ? (uint32_t)n : 0;
    }
    return 0;
}

int weir__drive_connect_all(struct drive_worker *worker, uint64_t deadline_ns, char *error)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) {
        int rc = -errno;
        snprintf(error, WEIR__DRIVER_TEXT_BYTES, "epoll_create1: %s", strerror(-rc));
        return rc;
    }
    int rc = connect_loop(worker, epoll, deadline_ns, error);
    close(epoll);
    return rc;
}
