/*
 * The switch from one stack to another, in assembly or through ucontext (which file implements
 * it is chosen in meson.build). Called by coro.c alone; knows nothing of pools or status.
 *
 * A context is one pointer, the "sp": what it points at is the implementation's business, and
 * lies on the stack that is switched away from.
 */
#ifndef WEIR__CORO_SWITCH_H
#define WEIR__CORO_SWITCH_H

#include <stddef.h>

/* Saves the running context in *save and continues `load`, whose call of this returns `value`.
 * Returns the value of whoever switches back. */
void *weir__switch(void **save, void *load, void *value);

/* Continues `load` and forgets the running context. */
_Noreturn void weir__switch_last(void *load, void *value);

/* Lays a context on the stack [low, top), `top` aligned to 16, which will call entry(arg) on it
 * and must never return. Returns its sp. */
void *weir__switch_prepare(void *low, void *top, void (*entry)(void *arg), void *arg);

/* What the contexts themselves take of each stack, when it is worth counting. */
extern const size_t weir__switch_stack_bytes;

#endif
