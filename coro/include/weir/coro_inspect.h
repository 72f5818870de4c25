/*
 * <weir/coro_inspect.h> - looking at coroutines that do not run: where they stand, and how deep.
 *
 * For unwinders, dumps and debuggers. To be called by the pool's thread. Nothing here makes a
 * system call or allocates.
 */
#ifndef WEIR_CORO_INSPECT_H
#define WEIR_CORO_INSPECT_H

#include <weir/coro.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a stack that was left will go on with: the registers that a callee saves. */
struct weir_coro_registers {
    uintptr_t pc, sp, fp;
    uintptr_t saved[10]; /* x86-64: rbx, r12 to r15; AArch64: x19 to x28 */
};

/*
 * Fills *registers for the stack that `co` is on (depth 0), the one below it from which it called
 * weir_coro_call_deep (1), and so on to its own. One that was never resumed stands at the start of
 * weir__coro_start. 0; -ENOENT: it has not so many stacks, or has ended; -EBUSY: it runs there, or
 * resumed another from there; -ENOTSUP: built with coro_switch=ucontext.
 */
WEIR_API int weir_coro_registers(const struct weir_coro *co, unsigned depth,
                                 struct weir_coro_registers *registers);

/* How much of weir_coro_stack_bytes is in use now, of its own stack (what it called by
 * weir_coro_call_deep is elsewhere); 0 where nobody knows: it resumed another coroutine. */
WEIR_API size_t weir_coro_stack_used(const struct weir_coro *co);

/* Where the pool's option measure_stacks is set: how deep the coroutines of one spawn place were.
 */
struct weir_coro_highwater {
    const char *name, *place; /* "(others)" for all beyond the first 255 places */
    uint64_t count;           /* of them that have ended */
    size_t peak_bytes;        /* most that one has touched, up to 1 KiB of colour included */
    size_t class_bytes;       /* the stack they need: 4096 times a power of two, which holds that
                                 and a quarter more, 1 KiB at least */
};

/*
 * Calls fn for each spawn place, with what those that live have touched until now, too. Stacks that
 * weir_coro_call_deep lends do not count. Linear in the stacks, and allocates. 0; -ENOTSUP:
 * measure_stacks is off; -ENOMEM.
 */
WEIR_API int
weir_coro_pool_highwater(struct weir_coro_pool *pool,
                         void (*fn)(const struct weir_coro_highwater *entry, void *arg), void *arg);

#ifdef __cplusplus
}
#endif

#endif
