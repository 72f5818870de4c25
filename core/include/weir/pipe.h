/*
 * Pipes, and reading and writing any descriptor that can be polled: pipes, terminals, eventfds,
 * sockets that are not connections of weir, and what a program inherited as its standard input and
 * output. Files work, too, by the engine or a helper thread.
 *
 *     char line[256];
 *     int64_t got = weir_fd_read(STDIN_FILENO, line, sizeof line, WEIR_FOREVER);
 *
 * None of it changes the descriptor. O_NONBLOCK belongs to the open file, which a parent, a shell
 * or a child may share; so the call itself is asked not to wait (preadv2 and pwritev2 with
 * RWF_NOWAIT: sockets and eventfds, and pipes since Linux 6.4). Where a driver or an older kernel
 * cannot, and the descriptor may block:
 *   - a read follows a poll. Another process that reads the same terminal or pipe may be faster in
 *     between, and then the loop stands until there is more: do not share input.
 *   - a write to a pipe follows a poll and is at most PIPE_BUF bytes, for which there is room then;
 *     do not share output with another writer there.
 *   - a write to a terminal is made by io_uring's or a helper thread, and may outlast its deadline
 *     where the user stops the terminal just then.
 * With descriptors of weir_pipe(), and others that are O_NONBLOCK, there is nothing to mind.
 *
 * A write to a pipe that nobody reads gives -EPIPE and no SIGPIPE: that signal is blocked in the
 * loop's thread during the call, and one that the call caused is taken back. What the process does
 * at SIGPIPE otherwise is left as it is.
 *
 * All of this is for tasks. One task may read a descriptor and one may write it at a time. It is
 * closed by close(2), when no task waits on it.
 */
#ifndef WEIR_PIPE_H
#define WEIR_PIPE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* A pipe: ends[0] is read, ends[1] written. Both O_CLOEXEC and O_NONBLOCK; for an end that a child
 * gets see weir/process.h. Not only in a task. 0 or -errno (-EMFILE, -ENFILE). */
int weir_pipe(int ends[2]);

/* Reads what is there, at most `bytes`, and waits until there is something. > 0: bytes. 0: the end.
 * -ETIME, -ECANCELED, or read(2)'s -errno: then nothing was read. */
int64_t weir_fd_read(int fd, void *data, size_t bytes, uint64_t deadline_ns);

/* Writes what there is room for, at most `bytes`, and waits until there is some: bytes written. Or
 * -EPIPE, -ETIME, -ECANCELED, write(2)'s -errno: then nothing was written. */
int64_t weir_fd_write(int fd, const void *data, size_t bytes, uint64_t deadline_ns);

/* Writes all: `bytes`, or -errno, and then an unknown part was written. */
int64_t weir_fd_write_all(int fd, const void *data, size_t bytes, uint64_t deadline_ns);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
