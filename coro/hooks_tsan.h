/*
 * hooks_none.h for ThreadSanitizer, which keeps a shadow call stack and clock for each stack and
 * calls that a fiber. See sanitizer/tsan_interface.h. A switch orders what stands before it
 * before what stands after it, as it should within one thread.
 */
#ifndef WEIR__CORO_HOOKS_H
#define WEIR__CORO_HOOKS_H

#include <sanitizer/tsan_interface.h>
#include <stdbool.h>
#include <stddef.h>

#define WEIR__HOOKS_EMPTY       0
#define WEIR__HOOKS_END         1
#define WEIR__HOOKS_STACK_SCALE 4

struct weir__hooks {
    void *fiber;
};

/* The fiber of a coroutine that ended: none can be destroyed while it runs. */
static __thread void *weir__hooks_dead;

static inline void weir__hooks_begin(struct weir__hooks *h, char *low, size_t bytes)
{
    h->fiber = __tsan_create_fiber(0);
}

static inline void weir__hooks_end(struct weir__hooks *h)
{
    if (h->fiber != NULL)
        __tsan_destroy_fiber(h->fiber);
    h->fiber = NULL;
}

static inline void weir__hooks_leave(struct weir__hooks *from, struct weir__hooks *to, bool last)
{
    if (from->fiber == NULL) /* the thread's own stack */
        from->fiber = __tsan_get_current_fiber();
    if (last) {
        weir__hooks_dead = from->fiber;
        from->fiber = NULL;
    }
    __tsan_switch_to_fiber(to->fiber, 0);
}

static inline void weir__hooks_arrive(struct weir__hooks *self)
{
    if (weir__hooks_dead == NULL)
        return;
    __tsan_destroy_fiber(weir__hooks_dead);
    weir__hooks_dead = NULL;
}

#endif
