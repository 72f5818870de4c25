/*
 * The calls a reactor performs once a descriptor is ready, or at once where that usually succeeds
 * (send, connect, poll). None blocks. Called by reactor.c alone.
 */
#include "legacy/reactor.h"

#include "core/message.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { IOVECS = 64, ACCEPTS = 64 };

/* --- receive -------------------------------------------------------------------------------- */

static ssize_t recv_once(struct weir__reactor *reactor, int fd, struct weir__buf *buf, size_t bytes)
{
    ssize_t n;
    do {
        reactor->counters.syscalls++;
        n = recv(fd, buf->data, bytes, MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

/* One call for one readiness: level-triggered pollers tell again what is left, and so nobody pays
 * for a call that finds nothing. */
void weir__perform_recv(struct weir__reactor *reactor, struct weir__watch *watch,
                        struct weir__op *op)
{
    struct weir__buf_pool *pool = reactor->engine.env->bufs;
    struct weir__buf *buf = weir__buf_get_to_receive(pool);
    op->buf = NULL;
    if (!buf) {
        reactor->counters.enobufs++;
        weir__reactor_finish(reactor, watch, op, -ENOBUFS);
        return;
    }
    ssize_t n = recv_once(reactor, op->fd, buf, pool->buf_bytes);
    if (n <= 0) {
        weir__buf_put(pool, buf);
        if (n == -EAGAIN)
            watch->state &= (uint8_t)~WEIR__IN;
        else
            weir__reactor_finish(reactor, watch, op, (int32_t)n);
        return;
    }
    if ((size_t)n < pool->buf_bytes && !(watch->state & WEIR__WATCH_DRAIN))
        watch->state &= (uint8_t)~WEIR__IN;
    buf->len = (uint32_t)n;
    op->buf = buf;
    if (!(op->flags & WEIR__OP_MULTISHOT)) {
        weir__reactor_finish(reactor, watch, op, (int32_t)n);
        return;
    }
    reactor->counters.completions++;
    weir__op_complete(op, (int32_t)n, 1);
}

/* --- accept --------------------------------------------------------------------------------- */

/* Errors of the connection that was to be accepted, not of the listener: accept(2), "Linux passes
 * already-pending network errors". */
static bool is_of_the_peer(int error)
{
    switch (error) {
    case ECONNABORTED:
    case EINTR:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return true;
    default:
        return false;
    }
}

/* Next connection, made non-blocking and CLOEXEC; -EAGAIN when there is none. */
static int accept_once(struct weir__reactor *reactor, int listener)
{
    for (int tries = 0; tries < ACCEPTS; tries++) {
        reactor->counters.syscalls++;
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && is_of_the_peer(errno))
            continue;
        if (fd < 0)
            return -errno;
        if (fd < reactor->fd_limit)
            return fd;
        close(fd);
        return -EMFILE;
    }
    return -EAGAIN;
}

/* How many accepts, or messages, to try: under a level-triggered poller one need not find the end
 * of the queue, and for a trickle the call that finds it empty would be half of the cost. So the
 * share follows the queue: doubled, up to ACCEPTS, while the descriptor stays ready from turn to
 * turn, and cut to what there was when the end is found. engine_bits is the share, offset the turn
 * it was last used. */
static unsigned share_of_turn(struct weir__reactor *reactor, struct weir__op *op)
{
    unsigned share = op->engine_bits;
    if (reactor->poller->edge)
        share = ACCEPTS;
    else if (op->offset + 1 == reactor->turn && share < ACCEPTS)
        share *= 2;
    op->engine_bits = (uint8_t)share;
    op->offset = reactor->turn;
    return share;
}

void weir__perform_accept(struct weir__reactor *reactor, struct weir__watch *watch,
                          struct weir__op *op)
{
    bool multishot = op->flags & WEIR__OP_MULTISHOT;
    unsigned share = multishot ? share_of_turn(reactor, op) : 1;
    /* done() may cancel the op: then the record holds it no more. */
    for (unsigned i = 0; i < share && watch->ops == op; i++) {
        int fd = accept_once(reactor, op->fd);
        if (fd == -EAGAIN) {
            watch->state &= (uint8_t)~WEIR__IN;
            op->engine_bits = (uint8_t)(i ? i : 1);
            return;
        }
        if (fd < 0 || !multishot) {
            weir__reactor_finish(reactor, watch, op, fd);
            return;
        }
        reactor->counters.completions++;
        weir__op_complete(op, fd, 1);
    }
}

/* --- messages ------------------------------------------------------------------------------- */

/* Takes a buffer only now that the socket is ready, and performs. */
static int32_t recvmsg_once(struct weir__reactor *reactor, struct weir__op *op)
{
    struct weir__buf_pool *pool = reactor->engine.env->bufs;
    struct weir__buf *buf = weir__buf_get_to_receive(pool);
    op->buf = NULL;
    if (!buf)
        return -ENOBUFS;
    reactor->counters.syscalls++;
    int32_t n = weir__message_receive(op->fd, buf->base, pool->buf_bytes, op->flags);
    if (n < 0)
        weir__buf_put(pool, buf);
    else
        op->buf = buf;
    return n;
}

void weir__perform_recvmsg(struct weir__reactor *reactor, struct weir__watch *watch,
                           struct weir__op *op)
{
    bool multishot = op->flags & WEIR__OP_MULTISHOT;
    unsigned share = multishot ? share_of_turn(reactor, op) : 1;
    /* done() may cancel the op: then the record holds it no more. */
    for (unsigned i = 0; i < share && watch->ops == op; i++) {
        int32_t n = recvmsg_once(reactor, op);
        if (n == -EAGAIN) {
            watch->state &= (uint8_t)~WEIR__IN;
            op->engine_bits = (uint8_t)(i ? i : 1);
            return;
        }
        if (n == -ENOBUFS && i)
            return; /* not now: it stays ready */
        reactor->counters.enobufs += n == -ENOBUFS;
        if (n < 0 || !multishot) {
            weir__reactor_finish(reactor, watch, op, n);
            return;
        }
        reactor->counters.completions++;
        weir__op_complete(op, n, 1);
    }
}

/* --- send ----------------------------------------------------------------------------------- */

/* Where a SEND_BUFS stands, without touching the owner's chain: op->res is the index of the buffer
 * to go on with, op->offset has the bytes sent of it in the high half and of all in the low one. */
static uint32_t sent_of_all(const struct weir__op *op)
{
    return (uint32_t)op->offset;
}

static uint32_t sent_of_buf(const struct weir__op *op)
{
    return (uint32_t)(op->offset >> 32);
}

static ssize_t send_chain_once(int fd, struct weir__buf *buf, size_t skip, size_t *asked)
{
    *asked = buf->len - skip;
    if (!buf->next)
        return send(fd, buf->data + skip, *asked, MSG_DONTWAIT | MSG_NOSIGNAL);
    struct iovec parts[IOVECS];
    size_t count = 0;
    *asked = 0;
    for (; buf && count < IOVECS; buf = buf->next, count++) {
        parts[count] = (struct iovec){.iov_base = buf->data + skip, .iov_len = buf->len - skip};
        *asked += parts[count].iov_len;
        skip = 0;
    }
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Notes `n` more bytes sent. True when that was all. */
static bool advance_chain(struct weir__op *op, struct weir__buf *buf, size_t n)
{
    uint32_t total = sent_of_all(op) + (uint32_t)n;
    size_t in_buf = sent_of_buf(op) + n;
    while (in_buf >= buf->len && buf->next) {
        in_buf -= buf->len;
        buf = buf->next;
    }
    if (in_buf == buf->len && !buf->next) {
        op->res = (int32_t)total;
        return true;
    }
    op->res = (int32_t)buf->index;
    op->offset = (uint64_t)in_buf << 32 | total;
    return false;
}

static bool send_chain(struct weir__reactor *reactor, struct weir__op *op)
{
    for (;;) {
        struct weir__buf *buf = &reactor->engine.env->bufs->bufs[op->res];
        reactor->counters.syscalls++;
        size_t asked;
        ssize_t n = send_chain_once(op->fd, buf, sent_of_buf(op), &asked);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return false;
        if (n < 0) {
            op->res = -errno;
            return true;
        }
        if (advance_chain(op, buf, (size_t)n))
            return true;
        if ((size_t)n < asked && !reactor->poller->edge)
            return false; /* a short write: the socket's buffer is full */
    }
}

static bool send_bytes(struct weir__reactor *reactor, struct weir__op *op)
{
    for (;;) {
        reactor->counters.syscalls++;
        ssize_t n = send(op->fd, (const char *)op->data + op->offset, op->len - op->offset,
                         MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return false;
        op->res = n < 0 ? -errno : (int32_t)op->len;
        op->offset += n < 0 ? 0 : (uint64_t)n;
        if (n < 0 || op->offset == op->len)
            return true;
        if (!reactor->poller->edge)
            return false;
    }
}

static bool send_message(struct weir__reactor *reactor, struct weir__op *op)
{
    ssize_t n;
    do {
        reactor->counters.syscalls++;
        n = sendmsg(op->fd, op->data, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    op->res = n < 0 ? -errno : (int32_t)n;
    return op->res != -EAGAIN;
}

bool weir__perform_send(struct weir__reactor *reactor, struct weir__op *op)
{
    if (weir__unlikely(op->kind == WEIR__OP_SENDMSG))
        return send_message(reactor, op);
    return op->kind == WEIR__OP_SEND ? send_bytes(reactor, op) : send_chain(reactor, op);
}

/* --- connect and poll ------------------------------------------------------------------------ */

bool weir__perform_connect(struct weir__op *op)
{
    if (connect(op->fd, op->data, op->len) == 0) {
        op->res = 0;
        return true;
    }
    op->res = -errno;
    /* EAGAIN (a local socket whose backlog is full) is final: no readiness follows it. */
    return errno != EINPROGRESS && errno != EALREADY && errno != EINTR;
}

bool weir__perform_connect_ready(struct weir__op *op)
{
    int error = 0;
    socklen_t bytes = sizeof error;
    if (getsockopt(op->fd, SOL_SOCKET, SO_ERROR, &error, &bytes) < 0)
        error = errno;
    op->res = -error;
    if (error)
        return true;
    /* No error also means "not yet": an older readiness may have brought us here. */
    struct sockaddr_storage peer;
    bytes = sizeof peer;
    return getpeername(op->fd, (struct sockaddr *)&peer, &bytes) == 0 || errno != ENOTCONN;
}

/* Asks the kernel itself, so that the result is the same under every poller: select knows no
 * POLLHUP, and what a poller saw may be older than the op. */
bool weir__perform_poll(struct weir__op *op)
{
    struct pollfd one = {.fd = op->fd, .events = (short)op->len};
    int n;
    do
        n = poll(&one, 1, 0);
    while (n < 0 && errno == EINTR);
    op->res = n < 0 ? -errno : one.revents;
    if (n > 0 && one.revents & POLLNVAL)
        op->res = -EBADF;
    return n != 0;
}
