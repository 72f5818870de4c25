/*
 * Files: the calls that may block on a disk, each a wait of the running task, by the engine
 * (io_uring) or by a helper thread.
 *
 * Every call is in a task; elsewhere it asserts. It takes what the system call of that name takes,
 * and gives what that gives, or -errno. Descriptors are the process's own, and any may be given:
 * also one that open(2) made. Paths and memory are the caller's, and are used until the call
 * returns.
 *
 * No call has a deadline of its own: the scope's holds (weir_scope_auto()). -ETIME and -ECANCELED
 * say that nothing was done, as far as a network file system can know. What has begun on a disk
 * cannot be taken back: it is waited for, and its result is the call's, so that a file opened late
 * is opened, and its descriptor is not lost. (An open of a FIFO that waits for the other end is cut
 * short on io_uring, and waited for elsewhere; on io_uring it may also be opened as with
 * O_NONBLOCK. Who opens one gives O_NONBLOCK. So it is with a read of an empty pipe or terminal,
 * which elsewhere keeps a helper thread, and the loop from its end: weir/pipe.h is for those.)
 *
 * A write past RLIMIT_FSIZE is -EFBIG, and one into a pipe that nobody reads is -EPIPE; but with
 * io_uring the loop's thread gets the signal that goes with it, as from write(2). A server ignores
 * SIGXFSZ and SIGPIPE.
 */
#ifndef WEIR_FILE_H
#define WEIR_FILE_H

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct statx; /* of <sys/stat.h>, where _GNU_SOURCE is defined */

/* openat(2): `dir` is a directory's descriptor or AT_FDCWD. O_CLOEXEC is always set, and `mode`
 * counts with O_CREAT. A descriptor for weir_file_close(). */
int weir_file_open(int dir, const char *path, int flags, mode_t mode);
/* close(2), which may write what was not yet written. Also in a task that was cancelled: nothing
 * cuts it short, and `fd` is closed whatever it returns but -EBADF. No other call may use it still.
 */
int weir_file_close(int fd);

/* pread(2) and pwrite(2); offset -1: at the file's own position, which moves. Where there are no
 * positions (a pipe) `offset` does not count. The number of bytes, at most 0x7ffff000, and maybe
 * fewer than asked for; 0 at the end of the file. */
int weir_file_read(int fd, void *data, size_t bytes, int64_t offset);
int weir_file_write(int fd, const void *data, size_t bytes, int64_t offset);
/* preadv(2) and pwritev(2): the same with `count` pieces of memory, at most 1024. */
int weir_file_readv(int fd, const struct iovec *pieces, unsigned count, int64_t offset);
int weir_file_writev(int fd, const struct iovec *pieces, unsigned count, int64_t offset);

/* fsync(2), or with data_only fdatasync(2). */
int weir_file_sync(int fd, int data_only);
/* fallocate(2): `mode` 0 reserves room and extends the file; FALLOC_FL_… of <fcntl.h>. -EOPNOTSUPP
 * where the file system cannot. */
int weir_file_allocate(int fd, int mode, int64_t offset, int64_t bytes);
/* ftruncate(2). */
int weir_file_truncate(int fd, int64_t bytes);

/* statx(2): `mask` is STATX_… of <sys/stat.h>; of an open file with path "" and AT_EMPTY_PATH. */
int weir_file_stat(int dir, const char *path, int flags, unsigned mask, struct statx *out);
/* renameat2(2). */
int weir_file_rename(int dir, const char *path, int to_dir, const char *to_path, unsigned flags);
/* unlinkat(2); AT_REMOVEDIR removes an empty directory. */
int weir_file_unlink(int dir, const char *path, int flags);
/* mkdirat(2). */
int weir_file_mkdir(int dir, const char *path, mode_t mode);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
