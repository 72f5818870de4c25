/*
 * Ticks of the monotonic clock, times of the wall clock, and signals, as waits of a task.
 */
#ifndef WEIR_CLOCK_H
#define WEIR_CLOCK_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include <weir/private.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* ---- ticks ----------------------------------------------------------------------------------- */

/* Memory of the caller. All fields are weir's own. */
struct weir_ticker {
    uint64_t period_ns, next_ns;
};

/* From now on, a tick each period_ns (> 0), on the monotonic clock. Nothing runs and nothing is to
 * be closed. Any thread. */
void weir_ticker_start(struct weir_ticker *ticker, uint64_t period_ns);
/* Waits in a task for the next tick. The number of ticks since the last call: 1, and more if some
 * were missed, which are not made up for. Ticks are at whole periods after the start, however late
 * a task comes: nothing drifts. -ECANCELED, or what ends the scope: the tick is still to come. */
int64_t weir_ticker_wait(struct weir_ticker *ticker);

/* ---- wall clock ------------------------------------------------------------------------------ */

/* Waits in a task until the wall clock (CLOCK_REALTIME, UTC) shows `utc` or later: 0. It follows
 * the clock where that is set meanwhile, and time that the machine slept counts (timerfd_create(2),
 * with TFD_TIMER_CANCEL_ON_SET). -EINVAL: no such time. -EMFILE, -ENFILE, -ECANCELED. */
int weir_sleep_until_wall(struct timespec utc);

/* ---- signals --------------------------------------------------------------------------------- */

struct weir_signal {
    int number;    /* SIGTERM, … */
    int code;      /* SI_USER, SI_KERNEL, …: see sigaction(2) */
    int pid, uid;  /* of the sender; the child's, of SIGCHLD; 0 where there is none */
    int64_t value; /* of sigqueue(3) */
};

/* Memory of the caller. All fields are weir's own. */
struct weir_signals {
    int fd;
    unsigned waiting; /* tasks */
    bool closed;
    struct weir_task *poller; /* the one that waits on fd; the others wait behind it */
    struct weir_task *first, *last;
    struct weir_task *closer;
    sigset_t unblock; /* at the close: what was not blocked at the open */
};

/* From now on signals of `set` come to weir_signal_wait() alone, by a signalfd(2). They are blocked
 * in the calling thread, which must be the loop's. One sent to the process goes to any thread that
 * does not block it: so call this before other threads start (they inherit it), or block `set` in
 * those, too. weir's own helper threads block everything. SIGKILL and SIGSTOP are ignored, and
 * those that the program's own faults cause (SIGSEGV, …) do not belong here. In a task or not.
 * 0, -EMFILE, -ENFILE. */
int weir_signals_open(struct weir_signals *signals, const sigset_t *set);

/* Waits in a task for one of them. Several tasks may wait; each signal goes to one, the one that
 * has waited longest. 0; -ESHUTDOWN: closed meanwhile; -ETIME, -ECANCELED: none was taken. */
int weir_signal_wait(struct weir_signals *signals, struct weir_signal *signal,
                     uint64_t deadline_ns);

/* Ends all waits for them, and unblocks what weir_signals_open() blocked: one that is still pending
 * then takes its effect. The thread of the open. Where tasks wait, in a task, and it returns when
 * they have left; else anywhere. */
void weir_signals_close(struct weir_signals *signals);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
