/*
 * Child processes: started by posix_spawn(3), waited for by their pidfd (pidfd_open(2), Linux 5.4).
 *
 *     const char *arguments[] = {"sort", "-n", NULL};
 *     struct weir_process_options options = {.arguments = arguments,
 *                                            .input.kind = WEIR_STDIO_PIPE};
 *     struct weir_process sort;
 *     int status;
 *     if (!weir_process_spawn(&sort, &options)) {
 *         weir_fd_write_all(sort.input, "2\n1\n", 4, WEIR_FOREVER);
 *         weir_process_close_input(&sort);
 *         weir_process_wait(&sort, &status, WEIR_FOREVER);
 *         weir_process_close(&sort);
 *     }
 *
 * A child is its owner's as a task is its scope's: weir_process_close() ends it if it still runs,
 * and leaves no zombie. A wait that is cut short does nothing to the child. SIGCHLD must not be
 * ignored, nor the child reaped by others (wait(2) for any child).
 *
 * The child inherits no signal mask and no disposition: nothing is blocked and everything is at its
 * default. Of descriptors it gets its standard three; all others are closed in it where libc can do
 * that (glibc 2.34), and otherwise those that are O_CLOEXEC, as all of weir's are.
 *
 * All of this is for tasks.
 */
#ifndef WEIR_PROCESS_H
#define WEIR_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

enum weir_stdio_kind {
    WEIR_STDIO_INHERIT, /* the parent's own */
    WEIR_STDIO_NULL,    /* /dev/null */
    WEIR_STDIO_PIPE,    /* a pipe; its other end is in struct weir_process, for weir/pipe.h */
    WEIR_STDIO_FD,      /* `fd`, which stays the caller's; it should block, as programs expect:
                           pipe2(ends, O_CLOEXEC) between two children */
};

struct weir_stdio {
    enum weir_stdio_kind kind;
    int fd;
};

enum weir_process_flags {
    WEIR_PROCESS_GROUP = 1, /* in process group `group`, 0: one of its own */
};

/* Must last until weir_process_spawn() returns. */
struct weir_process_options {
    const char *file;               /* with a slash: a path; else it is looked for in PATH.
                                       NULL: arguments[0] */
    const char *const *arguments;   /* arguments[0] and on, NULL-terminated */
    const char *const *environment; /* "NAME=value", NULL-terminated; NULL: the parent's */
    const char *directory;          /* to be in; NULL: the parent's. A `file` with a slash is meant
                                       as seen from there */
    struct weir_stdio input, output, error;
    unsigned flags; /* enum weir_process_flags */
    int group;
};

/* In the caller's memory. pid, input, output and error may be read; the rest is weir's own. */
struct weir_process {
    int pid;
    int input, output, error; /* our ends of WEIR_STDIO_PIPE, non-blocking; else -1 */
    int pidfd;
    int status;
    bool ended, waited_for;
};

/* Starts a program. It is made on a helper thread, as posix_spawn(3) returns only when the program
 * has been loaded, from a disk maybe; cancelled, it has either not begun, or is completed.
 * 0; -ENOENT, -EACCES, … of execve(2), and of the directory; -EMFILE; -EAGAIN; -ENOSYS before Linux
 * 5.4; -EOPNOTSUPP for a directory where libc cannot; -ECANCELED, -ETIME (of the scope): no child
 * is left, and nothing is to be closed. */
int weir_process_spawn(struct weir_process *process, const struct weir_process_options *options);

/* Waits until it has ended: 0, and *status (may be NULL) is as of waitpid(2): WIFEXITED(), …; again
 * and again the same. One task at a time. -ETIME, -ECANCELED: it was left alone. -ECHILD: somebody
 * else has reaped it. */
int weir_process_wait(struct weir_process *process, int *status, uint64_t deadline_ns);

/* Sends a signal, which reaches this child and no later one of the same pid. 0; -ESRCH: it has been
 * waited for. (To a group: kill(-pid, …), as long as its leader was not waited for.) */
int weir_process_signal(const struct weir_process *process, int signal_number);

/* Closes our end of the child's input, by which the child reads an end. Again: no effect. */
void weir_process_close_input(struct weir_process *process);

/* Closes what is left of the pipes. A child that was not waited for is killed (SIGKILL) and reaped;
 * that takes the time of its exit, and no cancel or deadline cuts it short. No other task may be
 * waiting for it. */
void weir_process_close(struct weir_process *process);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
