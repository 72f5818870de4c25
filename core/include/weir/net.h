/*
 * Sockets beyond TCP: datagrams over UDP and Unix sockets, descriptors sent from process to
 * process, and sending without a copy.
 *
 *     static void echo(void *argument)
 *     {
 *         struct weir_dgram *udp = argument;
 *         struct weir_datagram in = {0};
 *         while (weir_dgram_recv(udp, &in, WEIR_FOREVER) >= 0)
 *             weir_dgram_send(udp, in.buf.data, in.buf.len, in.from, in.from_bytes, WEIR_FOREVER);
 *     }
 *
 * Everything here is for the loop's thread, and what waits, for a task of that loop.
 */
#ifndef WEIR_NET_H
#define WEIR_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <weir/weir.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* ---- descriptors ----------------------------------------------------------------------------- */

enum { WEIR_FDS_MAX = 16 /* descriptors in one message, sent or received */ };

/* Descriptors that came with bytes, all of them CLOEXEC and the receiver's to close. */
struct weir_fds {
    int fds[WEIR_FDS_MAX];
    unsigned count;
    bool truncated; /* there were more than WEIR_FDS_MAX, or than this process may have open: the
                       kernel closed the rest (MSG_CTRUNC, recvmsg(2)) */
};
void weir_fds_close(struct weir_fds *fds);

/* Sends the bytes (at least one) with `count` descriptors, which stay the caller's: the peer gets
 * its own. Over a Unix stream; otherwise like weir_send_all_until(). `bytes`, or -errno: -EBADF,
 * -ETOOMANYREFS (too many are under way): nothing was sent. In a task. (io_uring: Linux 5.12.) */
int weir_conn_send_fds(struct weir_conn *conn, const void *data, size_t bytes, const int *fds,
                       unsigned count, uint64_t deadline_ns);
/* Like weir_recv_until(), and the descriptors that came with these bytes; a connection that may
 * receive descriptors (weir_listen_options.fds, weir_conn_take_fds()) holds those of one message
 * until it is received. Those that weir_recv() meets, or a close, are closed, and where a
 * connection may receive none, the kernel closes them. */
int weir_conn_recv_fds(struct weir_conn *conn, struct weir_buf *buf, struct weir_fds *fds,
                       uint64_t deadline_ns);
/* A Unix connection of weir_connect() may receive descriptors from now on: before its first
 * receive. The loop's buf_bytes is 512 at least. */
void weir_conn_take_fds(struct weir_conn *conn);

/* ---- without a copy -------------------------------------------------------------------------- */

/* Like weir_send_all_until(), but the kernel may send from the memory itself. One rule for it: it
 * is the kernel's until this returns, then the caller's again, on every engine and whatever is
 * returned. Where the kernel does that (io_uring, Linux 6.0, feature send_zc), this returns when
 * the peer has acknowledged the bytes, a round trip later than a send; past its deadline or
 * cancelled it resets the connection, which alone makes the kernel let go. Elsewhere it is a send,
 * which copies.
 *
 * Memory is pinned for it (counts against RLIMIT_MEMLOCK; where that is reached, it copies). To a
 * peer on the same machine the kernel copies all the same: then this only costs. Where it pays
 * depends on the network card; it was not measured with one. */
int weir_send_zero_copy(struct weir_conn *conn, const void *data, size_t bytes,
                        uint64_t deadline_ns);

/* ---- datagrams ------------------------------------------------------------------------------- */

struct weir_dgram;

struct weir_dgram_options {
    const struct sockaddr *bind; /* the address to receive at; NULL: none, or (UDP) a free port at
                                    the first send. A path of a Unix socket is removed at close */
    socklen_t bind_bytes;
    const struct sockaddr *connect; /* the only peer; NULL: any, each send says to whom */
    socklen_t connect_bytes;
    int fd;         /* > 0: a datagram socket of the caller's, taken over, and closed also where the
                       call fails; `bind` and `connect` apply to it where given */
    bool reuseport; /* several sockets share the port, and the kernel spreads what comes */
    bool fds;       /* datagrams may carry descriptors (Unix); without, the kernel closes them */
};

/* Opens a datagram socket of the family of `bind` or `connect`. The options are copied. Its unread
 * datagrams wait in lent buffers, an eighth of the pool's at most, and beyond that in the kernel.
 * 0; -EINVAL also where the loop's buf_bytes is below 512; what socket(2), bind(2), connect(2) say.
 * What is open when the loop is freed is closed by that. */
int weir_dgram_open(struct weir_loop *loop, struct weir_dgram **dgram,
                    const struct weir_dgram_options *options);
/* Closes: tasks that wait on it get -ESHUTDOWN, what was received and not read is dropped. Once.
 * The port is free some turns later, when the engine has let go of the socket. */
void weir_dgram_close(struct weir_dgram *dgram);

/* One that was received. `{0}` before the first receive. */
struct weir_datagram {
    struct weir_buf buf;         /* its bytes, lent until returned, or received into again */
    const struct sockaddr *from; /* the sender's address, in the buffer, which it lasts as long as;
                                    NULL: it has none (Unix) */
    socklen_t from_bytes;
    uint32_t bytes;      /* that it had when it was sent: more than buf.len if it did not fit */
    struct weir_fds fds; /* with options.fds; those of the receive before are not touched */
};

/* The next datagram: the bytes in datagram->buf (0 is a datagram without any). One task at a time.
 * A loop that is stopping still gives what has come, as much as may be unread. -ETIME, -ECANCELED,
 * -ESHUTDOWN; an error that the network reported about an earlier send (-ECONNREFUSED of a
 * connected socket) is told once, to the next send or receive.
 *
 * On io_uring it is a multishot recvmsg into provided buffers (Linux 6.0), before that, as on a
 * reactor, a poll and then recvmsg(2) into a buffer taken only now. */
int weir_dgram_recv(struct weir_dgram *dgram, struct weir_datagram *datagram, uint64_t deadline_ns);

/* Sends one datagram, to `to`, or with NULL to the connected peer; waits while there is no room.
 * Any task; those that wait take turns. The number of bytes; -EMSGSIZE, -ECONNREFUSED, -ENOENT, …
 * as sendmsg(2); -ETIME, -ECANCELED, -ESHUTDOWN: it was not sent. */
int weir_dgram_send(struct weir_dgram *dgram, const void *data, size_t bytes,
                    const struct sockaddr *to, socklen_t to_bytes, uint64_t deadline_ns);
/* The same with `count` descriptors (at most WEIR_FDS_MAX), which stay the caller's: the receiver
 * gets its own. Unix sockets. */
int weir_dgram_send_fds(struct weir_dgram *dgram, const void *data, size_t bytes, const int *fds,
                        unsigned count, const struct sockaddr *to, socklen_t to_bytes,
                        uint64_t deadline_ns);

/* The address it is bound to. 0 or -errno. */
int weir_dgram_address(const struct weir_dgram *dgram, struct sockaddr_storage *address,
                       socklen_t *address_bytes);
/* The descriptor, for options and multicast groups: never to read, write or close. */
int weir_dgram_fd(const struct weir_dgram *dgram);

struct weir_dgram_stats {
    uint64_t received, sent; /* datagrams */
    uint64_t truncated;      /* of those received */
    uint64_t dropped; /* by the kernel, whose own queue was full (SO_MEMINFO); by weir none */
    uint32_t unread;  /* in lent buffers now */
};
void weir_dgram_stats(const struct weir_dgram *dgram, struct weir_dgram_stats *stats);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
