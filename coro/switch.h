/*
 * The switch from one stack to another, in assembly or through ucontext (which file implements
 * it is chosen in meson.build). Called by coro.c alone; knows nothing of pools or status.
 *
 * A coroutine's context is in its record, at an address known before anything is loaded, so the
 * loads of a resume hardly wait for one another. A resumer's context is a frame on its own stack,
 * which is hot.
 */
#ifndef WEIR__CORO_SWITCH_H
#define WEIR__CORO_SWITCH_H

#include <stddef.h>

struct weir_coro;

struct weir__context {
    void *sp;           /* while it is suspended, else NULL */
    void *registers[6]; /* x86-64: rbx, rbp, r12 to r15; the others keep theirs on the stack */
};

/* Saves the caller on its stack, stores where in *resumer, and continues `to`, whose call returns
 * `value`. Returns the value of whoever switches out. */
void *weir__switch_in(struct weir__context *to, void *value, void **resumer);

/* Saves the caller in `from` and continues what switch_in stored. */
void *weir__switch_out(struct weir__context *from, void *value, void *resumer);

/* The same without saving the caller. */
_Noreturn void weir__switch_last(void *value, void *resumer);

/* Saves the caller in `from` and continues `to`. */
void *weir__switch_over(struct weir__context *from, struct weir__context *to, void *value);

/* The same without saving the caller. */
_Noreturn void weir__switch_to(struct weir__context *to, void *value);

/* Makes `context` one that will call entry(arg) and then weir__coro_exit, on the stack [low, top)
 * with `top` aligned to 16. */
void weir__switch_prepare(struct weir__context *context, void *low, void *top,
                          void (*entry)(void *arg), void *arg);

struct weir_coro_registers;
/* In registers_*: what a stack that was left goes on with. 0; -ENOTSUP where nobody knows. */
int weir__context_registers(const struct weir__context *context,
                            struct weir_coro_registers *registers);

/* In coro.c: called on a stack whose entry returned, to leave it for good. */
_Noreturn void weir__coro_exit(void);

/* What the contexts themselves take of each stack, when it is worth counting. */
extern const size_t weir__switch_stack_bytes;

#endif
