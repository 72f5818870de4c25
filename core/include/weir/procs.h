/*
 * A pool of worker processes: forks them, puts a successor in a dead one's place, and stops them
 * all. What the process models and the engines that run in several processes share; for the
 * benchmark and the tests, not installed.
 *
 * A worker is a copy of its parent made by fork(2), and inherits all descriptors that the parent
 * had; those that the parent keeps open, a listening socket for instance, a successor inherits too.
 *
 * The parent watches its workers by SIGCHLD, which it has blocked and reads from one descriptor
 * (signalfd(2)): so it needs no handler that interrupts its calls, no descriptor for each worker (a
 * pidfd), and none to start a successor with. In return all calls come from one thread, the only
 * one of its process, or the others must have SIGCHLD blocked; and it has to be the one that lives
 * as long as the workers shall, because the kernel kills them once it ends (PR_SET_PDEATHSIG).
 */
#ifndef WEIR_PROCS_H
#define WEIR_PROCS_H

#include <stdint.h>
#include <sys/types.h>

#define WEIR_PROCS_MAX 1024

/* What cures -EAGAIN of a fork. */
#define WEIR_PROCS_CURE                                                                            \
    "allow more processes (ulimit -u, kernel.pid_max, pids.max of the cgroup) or ask for fewer"

struct weir_procs;

struct weir_procs_options {
    unsigned workers;  /* 1 .. WEIR_PROCS_MAX */
    uint64_t drain_ns; /* how long they may take to end once told to; then they are killed */

    /* In the worker: serves, and returns its exit status, 0 once it was told to stop. Nothing of
     * the parent runs after it: no atexit, no flush. */
    int (*work)(void *argument, unsigned index);
    /* In the worker, from its handler of SIGTERM, which interrupts blocking calls: makes work()
     * end. May come before work() does. */
    void (*stop)(void);
    /* In the parent, once a worker has died and before its successor starts. NULL: nothing to do.
     */
    void (*died)(void *argument, unsigned index);
    void *argument;

    uint64_t *deaths; /* incremented for each that died without having been told to; NULL: nobody
                         counts */
};

/*
 * Forks all workers. In them SIGINT is ignored (Ctrl-C reaches the whole group, and the parent will
 * tell them), and so are SIGUSR1 and SIGALRM; SIGTERM is stop(). In the parent SIGCHLD stays
 * blocked until weir_procs_close(). `options` is copied. 0, or -errno and no worker: -EAGAIN where
 * there may be no more processes (RLIMIT_NPROC, kernel.pid_max, pids.max of the cgroup), -ENOMEM,
 * -EMFILE.
 */
int weir_procs_open(struct weir_procs **procs, const struct weir_procs_options *options);

/* Readable when weir_procs_tend() has something to do. NOT the caller's to close or read. */
int weir_procs_fd(const struct weir_procs *procs);

/*
 * Buries the dead and starts their successors: at once, or after a pause where they die within a
 * second of their start, or cannot be forked; it doubles from 10 ms to 1 s. Never blocks. Returns
 * the milliseconds after which it wants to be called even if its descriptor is not readable, or -1:
 * the timeout of a poll(2).
 */
int weir_procs_tend(struct weir_procs *procs);

/* Worker `index`'s process id; 0: it has died, and its successor has not been started yet. */
pid_t weir_procs_pid(const struct weir_procs *procs, unsigned index);

/* Tends the pool until `stop_fd` is readable: all that a parent does who does not serve. 0, or
 * -errno. */
int weir_procs_run(struct weir_procs *procs, int stop_fd);

/* Sends all workers SIGTERM, waits drain_ns for them, kills the rest, buries all, and frees.
 * Returns how many had to be killed. */
unsigned weir_procs_close(struct weir_procs *procs);

#endif
