/*
 * <weir/inspect.h> - seeing inside a loop: what its tasks are, and what they wait for.
 *
 *     weir: loop of uring; tasks: 1, connections: 1, runnable: 0
 *     task 1 echo (a.c:8): waits 12.034 s for input of connection 4294967297; stack 912 of 8192
 *         #0 weir__task_wait (libweir.so.0+0xb5cf)
 *         #1 ...
 *
 * It is text for people: a line for the loop; for each task, oldest first, one of its state, then
 * its frames, innermost first, each with the place of the call as addr2line takes it. Connections
 * between two bursts are no tasks and have no stack: they are only counted.
 */
#ifndef WEIR_INSPECT_H
#define WEIR_INSPECT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct weir_coro;
struct weir_loop;

enum weir_dump_flags {
    WEIR_DUMP_BRIEF = 1, /* no back-traces */
};

/* Gets whole lines, `bytes` of text that is not terminated. May not wait. */
typedef void weir_dump_fn(const char *text, size_t bytes, void *argument);

/* Writes all tasks of the loop down. The loop's thread, in a task or not; in a task it borrows a
 * deep stack. Back-traces cost some ten microseconds a task, more at the first time. They need
 * libunwind at build time, and say so where it was not there; it keeps two descriptors open from
 * the first one on. 0, or -errno of weir_coro_call_deep(), and then nothing was written. */
int weir_dump_to(struct weir_loop *loop, weir_dump_fn *fn, void *argument, unsigned flags);
/* The same, to a descriptor. A pipe that is full holds the loop up. -errno of write(2): the rest is
 * left out. */
int weir_dump(struct weir_loop *loop, int fd, unsigned flags);
/* Asks the loop for a weir_dump() to standard error between two tasks. Any thread, and from a
 * signal handler. 0, or -ESHUTDOWN once the loop has ended. */
int weir_dump_request(struct weir_loop *loop);

enum weir_task_state {
    WEIR_TASK_RUNNING,
    WEIR_TASK_RUNNABLE, /* it waits for its turn */
    WEIR_TASK_WAITING,
    WEIR_TASK_IDLE, /* the runner of bursts, between two of them */
};

struct weir_task_info {
    uint32_t number;  /* from 1; a later task may get it again */
    uint32_t parent;  /* the task that opened the scope it was spawned in; 0: none */
    uint32_t joiner;  /* the task that waits for its end; 0: none */
    int32_t cut;      /* why its waits end at once: -ECANCELED, -ETIME; 0 */
    const char *name; /* of its function, and where it was spawned */
    const char *place;
    enum weir_task_state state;
    char waits[96];       /* waiting: "for …"; else "" */
    uint64_t since_ns;    /* waiting: since when, some milliseconds less or more */
    uint64_t deadline_ns; /* waiting: until when at most */
    size_t stack_used, stack_bytes;
    const struct weir_coro *coro;
};

/* Calls fn for every task, oldest first. fn must not run, spawn or cancel any. The loop's thread;
 * *info lasts for the call. */
void weir_tasks_each(struct weir_loop *loop,
                     void (*fn)(const struct weir_task_info *info, void *argument), void *argument);

/* ---- a watchdog ------------------------------------------------------------------------------ */

/* A task that holds its loop. The text lasts for the call. */
struct weir_hold {
    uint64_t held_ns; /* so far; up to a quarter of the limit less than it is */
    uint32_t task;    /* its number; 0: not known, for its thread blocks the signal */
    const char *name, *place;
    const char *trace; /* lines as weir_dump() has them, or one that says why there is none */
};

struct weir_watchdog_options {
    uint64_t limit_ns; /* how long a task, or a handler in a burst, may run without a wait */
    /* Called in the watchdog's thread, once for each time a limit is passed; it must not wait for a
     * loop, nor start or stop one, or the watchdog. NULL: prints to standard error. */
    void (*fn)(const struct weir_hold *hold, void *argument);
    void *argument;
    int signal_number; /* that asks a loop's thread what it is at; 0: SIGURG, which nobody minds. Of
                          shards (weir/shards.h) all threads but the first block any other */
};

/* Starts a thread that watches every loop of the process that runs or will. Loops pay nothing for
 * it; a task that holds its loop has a system call interrupted (SA_RESTART). Loops without a
 * running task (idle, or in a weir_post() or `closed`) are not accused. Any thread. 0; -EBUSY:
 * there is one, or the signal has a handler; -EINVAL: no such signal; -EAGAIN: no thread. */
int weir_watchdog_start(const struct weir_watchdog_options *options);
/* Ends it; none: no effect. By the one who started it. */
void weir_watchdog_stop(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
