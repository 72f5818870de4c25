/* See wrong_server.h. Blocking calls, a thread per connection: none of what is tested is used. */
#include "tests/bench/wrong_server.h"

#include <assert.h>
#include <arpa/inet.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

struct wrong_conn {
    struct wrong_server *server;
    int fd, other_fd; /* other_fd: FAULT_SWAP, else -1 */
    uint32_t id;
    uint8_t *request, *previous;
};

static bool read_all(int fd, uint8_t *at, size_t len)
{
    while (len > 0) {
        ssize_t n = recv(fd, at, len, 0);
        if (n <= 0)
            return false;
        at += n;
        len -= (size_t)n;
    }
    return true;
}

static void write_all(int fd, const uint8_t *at, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        at += n;
        len -= (size_t)n;
    }
}

static void reset(int fd)
{
    struct linger linger = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

/* All that was sent is with the peer's kernel. */
static void await_arrival(int fd)
{
    int unacknowledged = 1;
    while (ioctl(fd, SIOCOUTQ, &unacknowledged) == 0 && unacknowledged > 0)
        usleep(1000);
}

/* Answers the one request that is to go wrong. False: the connection ends here. */
static bool answer_wrong(struct wrong_conn *conn)
{
    struct wrong_server *server = conn->server;
    size_t len = server->wire_bytes, at = server->fault_byte;
    switch (server->fault) {
    case FAULT_FLIP:
        conn->request[at] ^= 1;
        write_all(conn->fd, conn->request, len);
        return true;
    case FAULT_DROP:
        memmove(conn->request + at, conn->request + at + 1, len - at - 1);
        write_all(conn->fd, conn->request, len - 1);
        return true;
    case FAULT_EXTRA:
        memcpy(conn->request + len, "abc", 3);
        write_all(conn->fd, conn->request, len + 3);
        return true;
    case FAULT_LATE_EXTRA:
        write_all(conn->fd, conn->request, len);
        sem_wait(&server->say_extra);
        write_all(conn->fd, (const uint8_t *)"abc", 3);
        await_arrival(conn->fd);
        sem_post(&server->extra_arrived);
        return true;
    case FAULT_REPEAT:
        write_all(conn->fd, conn->previous, len);
        return true;
    case FAULT_RESET:
        write_all(conn->fd, conn->request, at);
        reset(conn->fd);
        return false;
    case FAULT_CLOSE_HALF:
        write_all(conn->fd, conn->request, at);
        shutdown(conn->fd, SHUT_WR);
        while (read(conn->fd, conn->request, len) > 0)
            ; /* left unread, the close would be a reset, and take along what is on its way */
        return false;
    case FAULT_SILENT:
        pause();
        return false;
    default:
        return false; /* FAULT_CLOSE */
    }
}

static void serve(struct wrong_conn *conn)
{
    struct wrong_server *server = conn->server;
    size_t len = server->wire_bytes;
    bool wrong = server->fault_conn == conn->id && server->fault != FAULT_NONE &&
                 server->fault != FAULT_NEVER_CLOSE;
    if (wrong && server->fault == FAULT_CLOSE_AT_ONCE)
        return;
    for (uint32_t i = 0; read_all(conn->fd, conn->request, len); i++) {
        unsigned pause_ms = i == server->pause_at ? server->pause_ms : 0;
        usleep((pause_ms + server->slow_ms) * 1000);
        if (wrong && i == server->fault_request) {
            if (!answer_wrong(conn))
                return;
        } else {
            write_all(conn->fd, conn->request, len);
        }
        memcpy(conn->previous, conn->request, len);
        if (conn->id == server->fault_conn && i + 1 == server->close_after)
            return;
    }
    if (server->fault == FAULT_NEVER_CLOSE && server->fault_conn == conn->id)
        pause();
}

/* Two connections served in step, their answers crossed from request fault_request on. */
static void serve_swapped(struct wrong_conn *conn)
{
    size_t len = conn->server->wire_bytes;
    for (uint32_t i = 0;
         read_all(conn->fd, conn->request, len) && read_all(conn->other_fd, conn->previous, len);
         i++) {
        bool swap = i >= conn->server->fault_request;
        write_all(swap ? conn->other_fd : conn->fd, conn->request, len);
        write_all(swap ? conn->fd : conn->other_fd, conn->previous, len);
    }
    close(conn->other_fd);
}

/* The loop of <weir/workload.h>. */
static void serve_workload(struct wrong_conn *conn)
{
    struct wrong_server *server = conn->server;
    alignas(max_align_t) uint8_t state[WEIR_WORKLOAD_STATE_BYTES];
    uint8_t room[WEIR_WORKLOAD_OUT_BYTES];
    int verdict = WEIR_WORKLOAD_CONTINUE;
    ssize_t n;
    server->workload->init(state, &server->options);
    while (verdict == WEIR_WORKLOAD_CONTINUE &&
           (n = recv(conn->fd, conn->request, server->piece_bytes, 0)) > 0) {
        const uint8_t *in = conn->request;
        size_t left = (size_t)n;
        while (left > 0 && verdict == WEIR_WORKLOAD_CONTINUE) {
            struct weir_workload_io io = {.out = room, .out_capacity = sizeof(room)};
            verdict = server->workload->feed(state, in, left, &io);
            write_all(conn->fd, io.reply, io.reply_len);
            in += io.consumed;
            left -= io.consumed;
        }
    }
    server->refused += verdict < 0;
}

static void *conn_thread(void *arg)
{
    struct wrong_conn *conn = arg;
    if (conn->server->workload)
        serve_workload(conn);
    else if (conn->other_fd >= 0)
        serve_swapped(conn);
    else
        serve(conn);
    close(conn->fd);
    free(conn->request);
    free(conn->previous);
    free(conn);
    return NULL;
}

static void *accept_thread(void *arg)
{
    struct wrong_server *server = arg;
    if (server->accept_delay_ms > 0) {
        struct pollfd first = {.fd = server->listen_fd, .events = POLLIN};
        poll(&first, 1, -1);
        usleep(server->accept_delay_ms * 1000);
    }
    for (;;) {
        struct wrong_conn *conn = calloc(1, sizeof(*conn));
        assert(conn);
        conn->server = server;
        conn->other_fd = -1;
        conn->request = malloc(server->wire_bytes + server->piece_bytes + 3);
        conn->previous = calloc(1, server->wire_bytes);
        conn->fd = accept(server->listen_fd, NULL, NULL);
        assert(conn->fd >= 0 && conn->request && conn->previous);
        conn->id = server->accepted++;
        if (server->fault == FAULT_SWAP) {
            conn->other_fd = accept(server->listen_fd, NULL, NULL);
            assert(conn->other_fd >= 0);
            server->accepted++;
        }
        if (server->one_by_one_ms > 0) {
            usleep(server->one_by_one_ms * 1000);
            conn_thread(conn);
            continue;
        }
        pthread_t thread;
        int rc = pthread_create(&thread, NULL, conn_thread, conn);
        assert(rc == 0);
        pthread_detach(thread);
    }
    return NULL;
}

static void set_address(struct wrong_server *server)
{
    if (server->ipv6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&server->addr;
        in6->sin6_family = AF_INET6;
        in6->sin6_addr = in6addr_loopback;
        server->addr_len = sizeof(*in6);
        return;
    }
    struct sockaddr_in *in = (struct sockaddr_in *)&server->addr;
    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    server->addr_len = sizeof(*in);
}

void wrong_server_start(struct wrong_server *server)
{
    sem_init(&server->say_extra, 0, 0);
    sem_init(&server->extra_arrived, 0, 0);
    int backlog = server->backlog < 0 ? 0 : server->backlog > 0 ? server->backlog : 1024;
    set_address(server);
    server->listen_fd = socket(server->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert(server->listen_fd >= 0);
    int rc = bind(server->listen_fd, (struct sockaddr *)&server->addr, server->addr_len);
    assert(rc == 0);
    rc = listen(server->listen_fd, backlog);
    assert(rc == 0);
    rc = getsockname(server->listen_fd, (struct sockaddr *)&server->addr, &server->addr_len);
    assert(rc == 0);
    rc = pthread_create(&server->acceptor, NULL, accept_thread, server);
    assert(rc == 0);
}

uint16_t wrong_server_port(const struct wrong_server *server)
{
    /* The port stands at the same place in both families. */
    return ntohs(((const struct sockaddr_in *)&server->addr)->sin_port);
}

uint16_t port_without_listener(void)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert(fd >= 0);
    int rc = bind(fd, (struct sockaddr *)&addr, len);
    assert(rc == 0);
    rc = getsockname(fd, (struct sockaddr *)&addr, &len);
    assert(rc == 0);
    return ntohs(addr.sin_port);
}
