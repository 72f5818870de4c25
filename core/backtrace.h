/*
 * The calls that led to where a coroutine waits. backtrace_unwind.c does it by libunwind,
 * backtrace_none.c stands in its place without that. On a deep stack.
 */
#ifndef WEIR_CORE_BACKTRACE_H
#define WEIR_CORE_BACKTRACE_H

#include <stdbool.h>

#include <weir/coro.h>

#include "core/text.h"

enum { WEIR__FRAMES_MOST = 48 };

/* Whether there will be any frames; else why not. */
extern const char *const weir__backtrace_lacks;
/* Adds a line for each frame, or one that says why there is none. */
void weir__backtrace(const struct weir_coro *co, struct weir__text *text);

/* The calls that a signal interrupted, from its third argument: up to `most` addresses. For signal
 * handlers. */
unsigned weir__backtrace_here(void *context, uintptr_t *pcs, unsigned most);
/* Adds a line for each of them. */
void weir__backtrace_names(const uintptr_t *pcs, unsigned count, struct weir__text *text);

#endif
