/*
 * How a classic model is told to stop, and how long what is in flight may then take. There is one
 * server in a process, so this is one state for the process; a worker process inherits it at fork
 * and is stopped by a signal of its own.
 *
 * Threads: any may ask. weir__stop_begin() and weir__stop_interrupts() are async-signal-safe.
 */
#ifndef WEIR_LEGACY_MODELS_STOP_H
#define WEIR_LEGACY_MODELS_STOP_H

#include <stdbool.h>
#include <stdint.h>

struct weir_model_options;

/* Before serving: not stopping, unless stop_fd is readable already; once it does, there are
 * options->drain_ns. */
void weir__stop_init(const struct weir_model_options *options);

/* From now on accept nothing, answer what has come, and end. The first call counts. */
void weir__stop_begin(void);
bool weir__stopping(void);

/* Nanoseconds left of the drain, 0 past it; UINT64_MAX while not stopping. */
uint64_t weir__stop_left_ns(void);

/* In a process of one thread: the same as weir__stop_begin(), and from then on every blocking call
 * ends with EINTR again and again (SIGALRM, each few ms: once could come just before the call). The
 * body of a handler of SIGTERM, or of weir_model.stop. */
void weir__stop_interrupts(void);

#endif
