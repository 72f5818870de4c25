/* Child processes; see weir/process.h. */
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/loop.h"
#include "core/spawn.h"

enum { BY_PIDFD = 3 /* P_PIDFD, which headers of Linux 5.3 lack */ };

/* ---- starting, on a helper thread ------------------------------------------------------------ */

struct start {
    const struct weir_process_options *options;
    struct weir_process *process;
    int child[3]; /* what the child's standard three are made of; -1: inherited */
    bool ours[3]; /* to be closed here when the child has it */
};

static int open_null(struct start *start, int i)
{
    start->child[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
    start->ours[i] = true;
    return start->child[i] < 0 ? -errno : 0;
}

/* Each end is an open file of its own, so that ours does not block and the child's does. */
static int open_pipe(struct start *start, int i, int *our_end)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC))
        return -errno;
    start->child[i] = ends[i == 0 ? 0 : 1];
    start->ours[i] = true;
    *our_end = ends[i == 0 ? 1 : 0];
    return fcntl(*our_end, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

/* Away from 0, 1, 2: those are put in place one after another in the child, and none may be
 * overwritten before it is copied. */
static int move_up(struct start *start, int i)
{
    int fd = start->child[i];

    if (fd < 0 || fd > 2)
        return 0;
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, 3), error = errno;
    if (start->ours[i])
        close(fd);
    start->child[i] = moved;
    start->ours[i] = true;
    return moved < 0 ? -error : 0;
}

static int open_one(struct start *start, int i, const struct weir_stdio *stdio, int *our_end)
{
    int res = 0;

    if (stdio->kind == WEIR_STDIO_NULL)
        res = open_null(start, i);
    else if (stdio->kind == WEIR_STDIO_PIPE)
        res = open_pipe(start, i, our_end);
    else if (stdio->kind == WEIR_STDIO_FD)
        start->child[i] = stdio->fd;
    if (stdio->kind == WEIR_STDIO_FD && stdio->fd < 0)
        return -EBADF;
    return res ? res : move_up(start, i);
}

static int open_all(struct start *start)
{
    const struct weir_process_options *options = start->options;
    struct weir_process *process = start->process;
    int res = open_one(start, 0, &options->input, &process->input);

    if (!res)
        res = open_one(start, 1, &options->output, &process->output);
    return res ? res : open_one(start, 2, &options->error, &process->error);
}

static int fill_actions(const struct start *start, posix_spawn_file_actions_t *actions)
{
    int error = 0;

    for (int i = 0; i < 3 && !error; i++)
        if (start->child[i] >= 0)
            error = posix_spawn_file_actions_adddup2(actions, start->child[i], i);
    if (!error)
        error = weir__spawn_close_from(actions, 3);
    if (!error && start->options->directory)
        error = weir__spawn_chdir(actions, start->options->directory);
    return error;
}

static int fill_attributes(const struct start *start, posix_spawnattr_t *attributes)
{
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    sigset_t none, all;

    if (start->options->flags & WEIR_PROCESS_GROUP)
        flags |= POSIX_SPAWN_SETPGROUP;
    sigemptyset(&none);
    sigfillset(&all);
    int error = posix_spawnattr_setsigmask(attributes, &none);
    if (!error)
        error = posix_spawnattr_setsigdefault(attributes, &all);
    if (!error)
        error = posix_spawnattr_setpgroup(attributes, start->options->group);
    return error ? error : posix_spawnattr_setflags(attributes, flags);
}

static int spawn_prepared(struct start *start, const posix_spawn_file_actions_t *actions,
                          const posix_spawnattr_t *attributes)
{
    const struct weir_process_options *options = start->options;
    const char *file = options->file ? options->file : options->arguments[0];
    char *const *environment =
        options->environment ? (char *const *)(uintptr_t)options->environment : environ;

    return posix_spawnp(&start->process->pid, file, actions, attributes,
                        (char *const *)(uintptr_t)options->arguments, environment);
}

static int spawn(struct start *start)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int error = posix_spawn_file_actions_init(&actions);

    if (error)
        return -error;
    error = posix_spawnattr_init(&attributes);
    if (!error) {
        error = fill_actions(start, &actions);
        if (!error)
            error = fill_attributes(start, &attributes);
        if (!error)
            error = spawn_prepared(start, &actions, &attributes);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return -error;
}

static int pidfd_of(int pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);

    return fd < 0 ? -errno : fd;
}

/* There is room for a pidfd, and this kernel has them, before any program runs. */
static int spawn_and_hold(struct start *start)
{
    struct weir_process *process = start->process;
    int room = pidfd_of(getpid());

    if (room < 0)
        return room;
    int res = spawn(start);
    close(room);
    if (res)
        return res;
    process->pidfd = pidfd_of(process->pid);
    if (process->pidfd >= 0)
        return 0;
    kill(process->pid, SIGKILL);
    waitpid(process->pid, NULL, 0);
    return process->pidfd;
}

static void close_if_open(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void close_pipes(struct weir_process *process)
{
    close_if_open(&process->input);
    close_if_open(&process->output);
    close_if_open(&process->error);
}

static int start_process(void *argument)
{
    struct start *start = argument;
    int res = open_all(start);

    if (!res)
        res = spawn_and_hold(start);
    for (int i = 0; i < 3; i++)
        if (start->ours[i])
            close_if_open(&start->child[i]);
    if (res)
        close_pipes(start->process);
    return res;
}

int weir_process_spawn(struct weir_process *process, const struct weir_process_options *options)
{
    struct start start = {.options = options, .process = process, .child = {-1, -1, -1}};

    assert(weir_task_self() && "weir_process_spawn: not in a task");
    assert(options->arguments && options->arguments[0] && "weir_process_spawn: no arguments");
    *process =
        (struct weir_process){.pid = -1, .input = -1, .output = -1, .error = -1, .pidfd = -1};
    return weir_blocking(start_process, &start, WEIR_FOREVER);
}

/* ---- its end --------------------------------------------------------------------------------- */

/* As waitpid(2) has it. */
static int status_of(const siginfo_t *info)
{
    if (info->si_code == CLD_EXITED)
        return (info->si_status & 0xff) << 8;
    return info->si_status | (info->si_code == CLD_DUMPED ? 0x80 : 0);
}

/* 1: it runs. */
static int reap(struct weir_process *process, int flags)
{
    siginfo_t info = {0};

    while (waitid((idtype_t)BY_PIDFD, (id_t)process->pidfd, &info, WEXITED | flags))
        if (errno != EINTR)
            return -errno;
    if (!info.si_pid)
        return 1;
    process->ended = true;
    process->status = status_of(&info);
    return 0;
}

int weir_process_wait(struct weir_process *process, int *status, uint64_t deadline_ns)
{
    struct weir_task *task = weir_task_self();
    int res = 0;

    assert(task && "weir_process_wait: not in a task");
    assert(!process->waited_for && "weir_process_wait: another task waits for it");
    while (!process->ended) {
        struct weir__op op = {.kind = WEIR__OP_POLL, .fd = process->pidfd, .len = WEIR__POLL_IN};
        process->waited_for = true;
        res = weir__task_op(task, &op, deadline_ns);
        process->waited_for = false;
        if (res < 0)
            return res;
        res = reap(process, WNOHANG);
        if (res < 0)
            return res;
    }
    if (status)
        *status = process->status;
    return 0;
}

int weir_process_signal(const struct weir_process *process, int signal_number)
{
    if (process->ended)
        return -ESRCH;
    return syscall(SYS_pidfd_send_signal, process->pidfd, signal_number, NULL, 0) ? -errno : 0;
}

void weir_process_close_input(struct weir_process *process)
{
    close_if_open(&process->input);
}

/* A child that was killed ends soon: the loop goes on meanwhile, but for one that is being cut off,
 * where no wait is possible any more. */
static void kill_and_reap(struct weir_process *process)
{
    struct weir_scope shield;

    weir_process_signal(process, SIGKILL);
    weir_scope_open(&shield, WEIR_FOREVER, WEIR_SHIELD);
    int res = weir_process_wait(process, NULL, WEIR_FOREVER);
    weir_scope_close(&shield);
    if (res < 0)
        reap(process, 0);
}

void weir_process_close(struct weir_process *process)
{
    assert(!process->waited_for && "weir_process_close: another task waits for it");
    close_pipes(process);
    if (process->pidfd >= 0 && !process->ended)
        kill_and_reap(process);
    close_if_open(&process->pidfd);
}
