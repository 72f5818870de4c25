/*
 * Bytes from one descriptor to another that are not copied through the process: splice(2).
 *
 *     struct weir_splice splice;
 *     if (!weir_splice_open(&splice, weir_end_conn(from), weir_end_conn(to))) {
 *         while (weir_splice(&splice, SIZE_MAX, WEIR_FOREVER) > 0)
 *             ;
 *         weir_splice_close(&splice);
 *     }
 *
 * An end is a connection that the caller serves or connected, or a descriptor: a pipe, a socket
 * that is O_NONBLOCK, or a file (at its own position). While a splice reads a connection, its
 * receive is stopped, and weir_recv() must not be called on it. What had been received before goes
 * first; after the close weir_recv() goes on behind the last byte that was spliced. Nothing is lost
 * where a call is cut short either: what is under way lies in a pipe of the splice, and the next
 * call goes on with it.
 *
 * Sockets and pipes are asked not to wait and polled. Files are read and written on a helper
 * thread, by pieces of a pipe's size: a slow disk does not stop the loop, and a slow peer holds no
 * helper. A connection that was accepted as a direct descriptor of io_uring gets a descriptor of
 * the process for this; see weir_conn_fd().
 *
 * All of this is for tasks. A call that waits for a connection ends with -ESHUTDOWN when that one
 * closes; close the splice before its connections.
 */
#ifndef WEIR_SPLICE_H
#define WEIR_SPLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct weir_conn;
struct weir_loop;

struct weir_end {
    struct weir_conn *conn; /* NULL: fd */
    int fd;
};

static inline struct weir_end weir_end_conn(struct weir_conn *conn)
{
    struct weir_end end = {conn, -1};
    return end;
}

static inline struct weir_end weir_end_fd(int fd)
{
    struct weir_end end = {NULL, fd};
    return end;
}

/* weir's own: an end, as it was when the splice was opened. */
struct weir__splice_end {
    struct weir_conn *conn;
    uint64_t id; /* of conn */
    int fd;
    int flags; /* of the open file */
    bool is_file;
};

/* Memory of the caller. `moved` may be read; the rest is weir's own. */
struct weir_splice {
    uint64_t moved; /* bytes that have left for the second end, in all calls */
    struct weir__splice_end from, to;
    struct weir_loop *loop;
    int64_t *offset; /* in the file that is read; NULL: its own position */
    int pipe[2];
    uint32_t in_pipe;
    uint32_t in_a_row; /* calls that did not wait */
};

/* 0, and it is to be closed; -EMFILE, -ENFILE; -EINVAL: an end is none of those above, or a
 * connection that takes descriptors; -ESHUTDOWN, -ECANCELED. Only one splice may read a connection,
 * and no task may be receiving from it. */
int weir_splice_open(struct weir_splice *splice, struct weir_end from, struct weir_end to);

/* Moves what is there, at most `bytes` and a pipe's size, and waits until there is something, and
 * until all of it has left. > 0: bytes. 0: the end of the first. -ETIME, -ECANCELED, …: see
 * splice->moved for what has left all the same; after -ETIME it may be called again. A call that is
 * left over from an earlier one's -ETIME finishes that. -EPIPE, -ECONNRESET, …: an end has failed.
 * -EINVAL: the second is a file opened with O_APPEND (splice(2)).
 *
 * Unlike weir_recv(), one that waits for input when the loop stops goes on: it has drain_ns, as
 * what it has moved may be the half of something. */
int64_t weir_splice(struct weir_splice *splice, size_t bytes, uint64_t deadline_ns);

/* Gives the receiving of a connection back to weir_recv(). What is in the pipe after a call that
 * failed is dropped. */
void weir_splice_close(struct weir_splice *splice);

/* Sends `bytes` bytes of a file from *offset on, which follows: at any return it is where the next
 * call goes on. Fewer than `bytes` at the end of the file alone. Or -errno as of weir_splice(). */
int64_t weir_sendfile(struct weir_end to, int file, int64_t *offset, uint64_t bytes,
                      uint64_t deadline_ns);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
