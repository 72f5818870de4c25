/*
 * hooks_none.h for AddressSanitizer, which must know the bounds of the running stack and keeps a
 * fake stack (for use after return) beside each. See sanitizer/common_interface_defs.h.
 */
#ifndef WEIR__CORO_HOOKS_H
#define WEIR__CORO_HOOKS_H

#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <stdbool.h>
#include <stddef.h>

#define WEIR__HOOKS_EMPTY       0
#define WEIR__HOOKS_END         0 /* nobody but its owner can destroy a fake stack: it is lost */
#define WEIR__HOOKS_STACK_SCALE 4

struct weir__hooks {
    void *fake_stack;
    const void *low;
    size_t bytes;
};

/* Whom the switch in progress left. A coroutine knows its bounds from the start; those of the
 * thread's own stack are learnt here, each time it is left. */
static __thread struct weir__hooks *weir__hooks_left;

static inline void weir__hooks_begin(struct weir__hooks *h, char *low, size_t bytes)
{
    /* The frames of whoever was dropped here have left their red zones. */
    __asan_unpoison_memory_region(low, bytes);
    *h = (struct weir__hooks){.fake_stack = NULL, .low = low, .bytes = bytes};
}

static inline void weir__hooks_end(struct weir__hooks *h) {}

static inline void weir__hooks_leave(struct weir__hooks *from, struct weir__hooks *to, bool last)
{
    weir__hooks_left = from;
    /* NULL: destroy the fake stack. */
    __sanitizer_start_switch_fiber(last ? NULL : &from->fake_stack, to->low, to->bytes);
}

static inline void weir__hooks_arrive(struct weir__hooks *self)
{
    struct weir__hooks *left = weir__hooks_left;
    __sanitizer_finish_switch_fiber(self->fake_stack, &left->low, &left->bytes);
}

#endif
