/*
 * What Valgrind has to be told of the stacks: nothing, in a build without its headers.
 * valgrind_stacks.h has the same functions with something in them; meson.build chooses.
 */
#ifndef WEIR__CORO_VALGRIND_H
#define WEIR__CORO_VALGRIND_H

#include <stdbool.h>
#include <stddef.h>

/* Kept for each slab. */
struct weir__valgrind {
};

/* Whether this runs under Valgrind, where many stacks are slow: each switch searches their list. */
static inline bool weir__valgrind_runs(void)
{
    return false;
}

/* Stack number `i` of the slab, which has room for `slots`, is [low, end). */
static inline void weir__valgrind_carved(struct weir__valgrind *v, size_t slots, size_t i,
                                         char *low, char *end)
{
}

/* What lies below a stack pointer, in [low, end), is going to be read or painted on purpose. */
static inline void weir__valgrind_look_at(const char *low, const char *end) {}

/* The slab, with `carved` stacks, is about to be unmapped. */
static inline void weir__valgrind_gone(struct weir__valgrind *v, size_t carved) {}

#endif
