/*
 * What a sanitizer has to be told of a switch: nothing, in a plain build. hooks_asan.h and
 * hooks_tsan.h have the same functions with something in them; meson.build chooses one, by
 * b_sanitize.
 */
#ifndef WEIR__CORO_HOOKS_H
#define WEIR__CORO_HOOKS_H

#include <stdbool.h>
#include <stddef.h>

/* Whether they all do nothing. */
#define WEIR__HOOKS_EMPTY 1
/* Whether weir__hooks_end has to be called for what a pool drops. */
#define WEIR__HOOKS_END 0
/* How much deeper than plain code instrumented code goes. */
#define WEIR__HOOKS_STACK_SCALE 1

/* Kept for each stack, and for each thread's own. */
struct weir__hooks {
};

/* A coroutine is going to start on the stack [low, low + bytes). */
static inline void weir__hooks_begin(struct weir__hooks *h, char *low, size_t bytes) {}

/* The suspended coroutine of `h` will never run again. */
static inline void weir__hooks_end(struct weir__hooks *h) {}

/* `from` is about to be left for `to`; with `last`, for good. */
static inline void weir__hooks_leave(struct weir__hooks *from, struct weir__hooks *to, bool last) {}

/* `self` runs again, or for the first time. */
static inline void weir__hooks_arrive(struct weir__hooks *self) {}

#endif
