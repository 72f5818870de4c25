/* Listening and accepting. At conns_max, and where a descriptor, memory or a stack is lacking,
 * accepting pauses: the peers wait in the backlog; it goes on when a connection closes, or a tenth
 * of a second later. Who was already accepted when memory or stacks ran out is dropped, and
 * counted: that can be known only then. */
#include "core/loop.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/message.h"
#include "core/unix_path.h"

enum { PAUSE_NS = 100000000 };

static void accept_arm(struct weir_listener *listener);

static void look_again(struct weir_listener *listener)
{
    struct weir_loop *loop = listener->loop;

    if (!weir__timer_armed(&loop->accept_timer))
        weir__timer_arm(&loop->wheel, &loop->accept_timer, weir_now_ns() + PAUSE_NS);
}

static void pause_accept(struct weir_listener *listener)
{
    struct weir_loop *loop = listener->loop;

    if (listener->paused)
        return;
    listener->paused = true;
    loop->stats.accept_pauses++;
    look_again(listener);
    if (listener->accept.state == WEIR__OP_HELD)
        weir__cancel(loop, &listener->accept);
}

bool weir__listener_serve(struct weir_listener *listener, int fd)
{
    struct weir_loop *loop = listener->loop;
    struct weir_conn *conn = weir__conn_new(loop, listener, fd);
    if (conn && listener->local)
        conn->rested = WEIR__ONE_BY_ONE;
    if (conn && listener->fds)
        conn->rx.kind = WEIR__OP_RECVMSG;
    if (conn && weir__conn_serve(conn)) {
        loop->stats.accepted++;
        return true;
    }
    if (conn)
        weir__conn_discard(conn);
    else
        loop->ops->drop_fd(loop->engine, fd);
    loop->stats.accept_drops++;
    return false;
}

/* False when there was no memory or stack for it. */
static bool take_peer(struct weir_listener *listener, int fd)
{
    struct weir_loop *loop = listener->loop;

    if (loop->stopping) {
        loop->ops->drop_fd(loop->engine, fd);
        return true;
    }
    return listener->handover ? weir__handover_peer(listener->handover, fd)
                              : weir__listener_serve(listener, fd);
}

static bool is_full(struct weir_listener *listener)
{
    const struct weir_loop *loop = listener->loop;

    return listener->handover ? weir__handover_full(listener->handover)
                              : loop->conn_count >= loop->conns_max;
}

/* These say something of one peer, or of nothing: the next accept may well work. */
static bool is_passing(int error)
{
    switch (-error) {
    case EAGAIN:
    case ECONNABORTED:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case EINTR:
    case ENETDOWN:
    case ENETUNREACH:
    case ENONET:
    case ENOPROTOOPT:
    case EPERM: /* a firewall's rule */
    case EPROTO:
        return true;
    default:
        return false;
    }
}

static void take_accepted(struct weir_listener *listener)
{
    int res = listener->accept.res;
    bool lacking;

    if (res >= 0)
        lacking = !take_peer(listener, res);
    else
        lacking = res != -ECANCELED && !is_passing(res);
    if (lacking || is_full(listener))
        pause_accept(listener);
}

static void listener_free(struct weir_listener *listener)
{
    struct weir_listener **link = &listener->loop->listeners;

    while (*link != listener)
        link = &(*link)->next;
    *link = listener->next;
    if (listener->accept.fd >= 0) {
        weir__unix_path_remove(listener->path);
        close(listener->accept.fd);
    }
    weir__slab_deinit(&listener->states);
    free(listener);
}

/* Its connections need it to the last one, and its owner until weir_listener_close(). */
static void free_if_gone(struct weir_listener *listener)
{
    if (listener->given_up && listener->accept.fd < 0 && !listener->conns)
        listener_free(listener);
}

static void close_descriptor(struct weir_listener *listener)
{
    weir__unix_path_remove(listener->path);
    listener->path = NULL;
    close(listener->accept.fd);
    listener->accept.fd = -1;
    listener->loop->open_listeners--;
    free_if_gone(listener);
}

static void accept_done(struct weir__op *op)
{
    struct weir_listener *listener = weir__container(op, struct weir_listener, accept);

    take_accepted(listener);
    if (op->state != WEIR__OP_IDLE)
        return;
    if (listener->closing)
        close_descriptor(listener);
    else
        accept_arm(listener);
}

static void accept_arm(struct weir_listener *listener)
{
    struct weir__op *op = &listener->accept;

    while (!listener->paused && op->state == WEIR__OP_IDLE) {
        op->kind = WEIR__OP_ACCEPT;
        op->flags = WEIR__OP_MULTISHOT | (listener->fds || listener->handover ? WEIR__OP_FDS : 0);
        op->done = accept_done;
        if (weir__submit(listener->loop, op) == WEIR__QUEUED)
            return;
        take_accepted(listener);
    }
}

void weir__listeners_resume(struct weir_loop *loop)
{
    for (struct weir_listener *listener = loop->listeners; listener; listener = listener->next) {
        if (!listener->paused || listener->closing)
            continue;
        if (is_full(listener)) {
            if (listener->handover) /* what else closes in another shard tells nobody */
                look_again(listener);
            continue;
        }
        listener->paused = false;
        accept_arm(listener); /* where the cancel has not ended yet, accept_done() does it */
    }
}

void weir__listener_conn_gone(struct weir_listener *listener)
{
    listener->conns--;
    if (listener->handover)
        weir__handover_conn_gone(listener->handover);
    free_if_gone(listener);
}

static void stop_accepting(struct weir_listener *listener)
{
    if (listener->closing)
        return;
    listener->closing = true;
    if (listener->accept.state == WEIR__OP_IDLE)
        close_descriptor(listener);
    else
        weir__cancel(listener->loop, &listener->accept);
}

void weir__listeners_stop(struct weir_loop *loop)
{
    for (struct weir_listener *listener = loop->listeners; listener; listener = listener->next)
        stop_accepting(listener);
}

void weir__listeners_free(struct weir_loop *loop)
{
    while (loop->listeners)
        listener_free(loop->listeners);
}

void weir_listener_close(struct weir_listener *listener)
{
    bool closed = listener->accept.fd < 0;

    assert(!listener->given_up && "weir_listener_close: closed before");
    listener->given_up = true;
    if (closed)
        free_if_gone(listener);
    else
        stop_accepting(listener);
}

/* ---- opening --------------------------------------------------------------------------------- */

static int explain(char *why, size_t why_bytes, const char *what, const char *address,
                   unsigned port, int error, const char *cure)
{
    snprintf(why, why_bytes, "%s %s:%u: %s%s%s", what, address, port, strerror(error),
             *cure ? "; " : "", cure);
    return -error;
}

static int explain_options(const struct weir_listen_options *options, int error, char *why,
                           size_t why_bytes)
{
    if (options->congestion && (error == ENOENT || error == EPERM))
        snprintf(why, why_bytes,
                 "congestion control \"%s\": %s; see net.ipv4.tcp_allowed_congestion_control",
                 options->congestion, strerror(error));
    else
        snprintf(why, why_bytes, "options of the listening socket: %s", strerror(error));
    return -error;
}

static const char *bind_cure(int error)
{
    switch (error) {
    case EADDRINUSE:
        return "another program listens there: end it, or take port 0 for a free one (a path that "
               "is left over: remove it)";
    case EADDRNOTAVAIL:
        return "no interface of this machine has that address";
    case EACCES:
        return "ports below 1024 need privileges: take a higher one";
    case EMFILE:
        return "raise the limit of open files (ulimit -n)";
    default:
        return "";
    }
}

static int parse_address(const char *text, uint16_t port, struct sockaddr_storage *address,
                         socklen_t *bytes)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;

    memset(address, 0, sizeof *address);
    if (!strncmp(text, "unix:", 5))
        return weir__unix_parse(text, (struct sockaddr_un *)address, bytes);
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        *bytes = sizeof *v4;
        return 0;
    }
    if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        *bytes = sizeof *v6;
        return 0;
    }
    return -EINVAL;
}

/* Connections inherit these from the listening socket, which saves two calls at each accept. */
static int set_options(int fd, const struct weir_listen_options *options)
{
    int on = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* not TCP: nothing to set */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on))
        return errno;
    if (options->reuseport && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on))
        return errno;
    if (options->congestion && setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, options->congestion,
                                          (socklen_t)strlen(options->congestion)))
        return errno;
    return 0;
}

static int open_socket(const struct weir_listen_options *options, struct weir__unix_path **path,
                       char *why, size_t why_bytes)
{
    const char *text = options->address ? options->address : "127.0.0.1";
    struct sockaddr_storage address;
    socklen_t bytes;
    int error;

    if (parse_address(text, options->port, &address, &bytes))
        return explain(why, why_bytes, "listen on", text, options->port, EINVAL,
                       "give a numeric IPv4 or IPv6 address, or unix: and a path");
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return explain(why, why_bytes, "socket for", text, options->port, errno, bind_cure(errno));
    error = set_options(fd, options);
    if (error) {
        close(fd);
        return explain_options(options, error, why, why_bytes);
    }
    error = -weir__bind(fd, (struct sockaddr *)&address, bytes, options->mode, path);
    if (!error && listen(fd, options->backlog > 0 ? options->backlog : SOMAXCONN))
        error = errno;
    if (error) {
        weir__unix_path_remove(*path);
        close(fd);
        return explain(why, why_bytes, "listen on", text, options->port, error, bind_cure(error));
    }
    return fd;
}

static bool is_local(int fd)
{
    int domain = AF_UNSPEC;
    socklen_t bytes = sizeof domain;

    return !getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &bytes) && domain == AF_UNIX;
}

static struct weir_listener *listener_new(struct weir_loop *loop,
                                          const struct weir_listen_options *options,
                                          struct weir__handover *handover)
{
    struct weir_listener *listener = calloc(1, sizeof *listener);

    assert(options->handler && "weir_listen: no handler");
    if (!listener)
        return NULL;
    listener->loop = loop;
    listener->handover = handover;
    listener->handler = options->handler;
    listener->argument = options->argument;
    listener->closed = options->closed;
    listener->state_bytes = options->state_bytes;
    weir__slab_init(&listener->states, options->state_bytes);
    listener->accept.fd = -1;
    listener->next = loop->listeners;
    loop->listeners = listener;
    return listener;
}

int weir__listen(struct weir_loop *loop, struct weir_listener **out,
                 const struct weir_listen_options *options, struct weir__handover *handover,
                 char *why, size_t why_bytes)
{
    struct weir__unix_path *path = NULL;
    int on = 1;
    if (options->fds && loop->bufs.buf_bytes < WEIR__MESSAGE_ROOM) {
        if (options->fd > 0)
            close(options->fd);
        snprintf(why, why_bytes, "descriptors come with messages: give the loop buf_bytes of %d",
                 WEIR__MESSAGE_ROOM);
        return -EINVAL;
    }
    int fd = options->fd > 0 ? options->fd : open_socket(options, &path, why, why_bytes);
    if (fd < 0)
        return fd;
    struct weir_listener *listener = loop->stopping ? NULL : listener_new(loop, options, handover);
    if (!listener) {
        weir__unix_path_remove(path);
        close(fd);
        snprintf(why, why_bytes, "%s", loop->stopping ? "the loop is stopping" : "out of memory");
        return loop->stopping ? -ECANCELED : -ENOMEM;
    }
    listener->path = path;
    listener->local = is_local(fd);
    listener->fds = listener->local && options->fds;
    if (options->fd > 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* not TCP: nothing to set */
    listener->accept.fd = fd;
    loop->open_listeners++;
    if (handover)
        weir__handover_add(handover, 0, listener);
    accept_arm(listener);
    *out = listener;
    return 0;
}

int weir_listen(struct weir_loop *loop, struct weir_listener **out,
                const struct weir_listen_options *options, char *why, size_t why_bytes)
{
    assert(weir__loop_here(loop) && "weir_listen: a foreign thread");
    return weir__listen(loop, out, options, NULL, why, why_bytes);
}

struct weir_listener *weir__listener_taking(struct weir_loop *loop,
                                            const struct weir_listen_options *options,
                                            struct weir__handover *handover)
{
    struct weir_listener *listener = listener_new(loop, options, handover);

    if (listener)
        listener->closing = true;
    return listener;
}

int weir_listener_address(const struct weir_listener *listener, struct sockaddr_storage *address,
                          socklen_t *address_bytes)
{
    *address_bytes = sizeof *address;
    if (getsockname(listener->accept.fd, (struct sockaddr *)address, address_bytes))
        return -errno;
    return 0;
}
