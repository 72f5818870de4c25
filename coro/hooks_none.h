/*
 * What a sanitizer has to be told of a switch: nothing, in a plain build. hooks_asan.h and
 * hooks_tsan.h have the same functions with something in them; meson.build chooses one.
 */
#ifndef WEIR__CORO_HOOKS_H
#define WEIR__CORO_HOOKS_H

#include <stddef.h>

/* Kept for each stack, and for each thread's own. */
struct weir__hooks {
};

/* A coroutine begins on the stack [low, low + bytes). */
static inline void weir__hooks_begin(struct weir__hooks *h, char *low, size_t bytes) {}

/* It ended, and another stack runs. */
static inline void weir__hooks_end(struct weir__hooks *h, char *low, size_t bytes) {}

/* `from` is about to be left for `to`; with `last` for good. */
static inline void weir__hooks_leave(struct weir__hooks *from, struct weir__hooks *to, bool last) {}

/* `self` runs again, or for the first time; `from` was left. */
static inline void weir__hooks_arrive(struct weir__hooks *self, struct weir__hooks *from) {}

#endif
