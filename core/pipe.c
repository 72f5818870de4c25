/* Reading and writing what can be polled; see weir/pipe.h. A call is tried, the descriptor is
 * polled where it would have to wait, and it is tried again. */
#include "core/pipe.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "core/loop.h"

enum { BY_THE_ENGINE = INT_MIN /* it may block: an op of its own */ };

/* ---- SIGPIPE --------------------------------------------------------------------------------- */

static sigset_t only_sigpipe(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    return set;
}

void weir__sigpipe_hold(struct weir__sigpipe *held)
{
    sigset_t set = only_sigpipe();

    pthread_sigmask(SIG_BLOCK, &set, &held->before);
    held->was_blocked = sigismember(&held->before, SIGPIPE);
    held->was_pending = held->was_blocked && sigpending(&set) == 0 && sigismember(&set, SIGPIPE);
}

void weir__sigpipe_release(const struct weir__sigpipe *held, bool whole)
{
    sigset_t set = only_sigpipe();

    /* Of one that waited for this thread and one for the process, this thread's comes first. */
    if (!whole && !held->was_pending)
        while (sigtimedwait(&set, NULL, &(struct timespec){0}) < 0 && errno == EINTR)
            ;
    if (!held->was_blocked)
        pthread_sigmask(SIG_SETMASK, &held->before, NULL);
}

/* ---- one try --------------------------------------------------------------------------------- */

static bool cannot_say(int64_t res)
{
    return res == -EOPNOTSUPP || res == -ENOSYS;
}

/* Files are always ready for poll(2), and block all the same. */
static bool blocks_on_disk(int fd)
{
    struct stat stat;

    return fstat(fd, &stat) == 0 && (S_ISREG(stat.st_mode) || S_ISBLK(stat.st_mode));
}

static bool is_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags >= 0 && flags & O_NONBLOCK;
}

/* With an offset of -1: of a stream, or at the file's own position. */
static int64_t without_waiting(long call, int fd, void *data, size_t bytes)
{
    struct iovec piece = {.iov_base = data, .iov_len = bytes};
    long res = syscall(call, fd, &piece, 1L, -1L, -1L, RWF_NOWAIT);

    return res < 0 ? -errno : res;
}

/* -EAGAIN: to be polled first. `ready`: it was. */
static int64_t try_read(int fd, void *data, size_t bytes, bool ready)
{
    int64_t res = without_waiting(SYS_preadv2, fd, data, bytes);
    bool unknown = cannot_say(res);

    if (!unknown && (res != -EAGAIN || !ready))
        return res;
    if (blocks_on_disk(fd))
        return BY_THE_ENGINE;
    if (!unknown || !(ready || is_nonblocking(fd)))
        return -EAGAIN;
    ssize_t got = read(fd, data, bytes);
    return got < 0 ? -errno : got;
}

static int64_t write_some(int fd, const void *data, size_t bytes)
{
    ssize_t wrote = write(fd, data, bytes);

    return wrote < 0 ? -errno : wrote;
}

static int64_t write_where_unknown(int fd, const void *data, size_t bytes, bool ready)
{
    struct stat stat;

    if (is_nonblocking(fd))
        return write_some(fd, data, bytes);
    if (!ready)
        return -EAGAIN;
    if (fstat(fd, &stat) == 0 && S_ISFIFO(stat.st_mode))
        return write_some(fd, data, bytes < PIPE_BUF ? bytes : PIPE_BUF);
    return BY_THE_ENGINE;
}

static int64_t try_write(int fd, const void *data, size_t bytes, bool ready)
{
    int64_t res = without_waiting(SYS_pwritev2, fd, (void *)(uintptr_t)data, bytes);
    bool unknown = cannot_say(res);

    if (!unknown && (res != -EAGAIN || !ready))
        return res;
    if (blocks_on_disk(fd))
        return BY_THE_ENGINE;
    return unknown ? write_where_unknown(fd, data, bytes, ready) : -EAGAIN;
}

static int64_t try_write_without_signal(int fd, const void *data, size_t bytes, bool ready)
{
    struct weir__sigpipe held;

    weir__sigpipe_hold(&held);
    int64_t res = try_write(fd, data, bytes, ready);
    weir__sigpipe_release(&held, res == (int64_t)bytes);
    return res;
}

/* ---- with waits ------------------------------------------------------------------------------ */

static int64_t transfer(enum weir__op_kind kind, int fd, void *data, size_t bytes,
                        uint64_t deadline_ns)
{
    struct weir_task *task = weir_task_self();
    bool reads = kind == WEIR__OP_READ, ready = false;
    size_t most = bytes < INT32_MAX ? bytes : INT32_MAX;
    int64_t res = weir__task_check(task);

    while (!res) {
        int64_t now = reads ? try_read(fd, data, most, ready)
                            : try_write_without_signal(fd, data, most, ready);
        struct weir__op op = {
            .kind = WEIR__OP_POLL, .fd = fd, .len = reads ? WEIR__POLL_IN : WEIR__POLL_OUT};
        if (now == BY_THE_ENGINE) {
            op = (struct weir__op){.kind = (uint8_t)kind,
                                   .fd = fd,
                                   .data = data,
                                   .len = (uint32_t)most,
                                   .offset = UINT64_MAX};
            return weir__task_op(task, &op, deadline_ns);
        }
        if (now != -EAGAIN && now != -EINTR) {
            weir__task_unwaited(task);
            return now;
        }
        if (now == -EAGAIN) {
            int events = weir__task_op(task, &op, deadline_ns);
            res = events < 0 ? events : 0;
            ready = true;
        }
    }
    return res;
}

int weir_pipe(int ends[2])
{
    return pipe2(ends, O_CLOEXEC | O_NONBLOCK) ? -errno : 0;
}

int64_t weir_fd_read(int fd, void *data, size_t bytes, uint64_t deadline_ns)
{
    assert(weir_task_self() && "weir_fd_read: not in a task");
    return transfer(WEIR__OP_READ, fd, data, bytes, deadline_ns);
}

int64_t weir_fd_write(int fd, const void *data, size_t bytes, uint64_t deadline_ns)
{
    assert(weir_task_self() && "weir_fd_write: not in a task");
    return transfer(WEIR__OP_WRITE, fd, (void *)(uintptr_t)data, bytes, deadline_ns);
}

int64_t weir_fd_write_all(int fd, const void *data, size_t bytes, uint64_t deadline_ns)
{
    for (size_t at = 0; at < bytes;) {
        int64_t wrote = weir_fd_write(fd, (const char *)data + at, bytes - at, deadline_ns);
        if (wrote < 0)
            return wrote;
        at += (size_t)wrote;
    }
    return (int64_t)bytes;
}
