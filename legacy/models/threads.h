/*
 * The threads of a classic model, and the connections that they serve by blocking calls: started
 * with a stack that fits, woken when the server stops, joined at its end.
 *
 * A thread that waits in recv(2) or send(2) learns of a stop by shutdown(2) of its connection,
 * which cannot come too early or too late, as a signal could: first of its input (what is queued is
 * still read, then the end), once the drain is over of both. So each tells which one it serves.
 *
 * There is one server in a process, so this is one state for the process, like stop.h.
 */
#ifndef WEIR_LEGACY_MODELS_THREADS_H
#define WEIR_LEGACY_MODELS_THREADS_H

#include "legacy/models/blocking.h"

/* Threads will run body(argument of start). 0 or -errno. */
int weir__threads_init(const struct weir_model_options *options, void (*body)(void *argument));

/* 0, or -errno (-EAGAIN: no more threads, or no memory for a stack): then body does not run. */
int weir__threads_start(void *argument);

/* By a thread of init's body: the server cannot go on, because of -errno. The first one counts. */
void weir__threads_fail(int error);

/* Sleeps until stop_fd is readable, or a thread has failed: then -errno. For a main thread that
 * does not serve. */
int weir__threads_watch(void);

/* The end: ends accept(2) on the listening socket, which stays shut down, lets the threads answer
 * what has come for as long as the drain allows, cuts what is left, and joins all. After init,
 * whether it failed or not. */
void weir__threads_finish(void);

/* Serves `fd`, accepted, from its first byte to its end and closes it: weir__blocking_serve() for a
 * thread of init's body. */
void weir__threads_serve(struct weir__blocking *blocking, int fd);

/* Both for a pool whose threads all accept: watches and finishes. `started` is how its threads
 * began, 0 or -errno. What failed is told in `why`. 0, or -errno. */
int weir__threads_run(const struct weir_model *model, int started, char *why, size_t why_bytes);

#endif
