/* Where a coroutine that does not run stands: see <weir/coro_inspect.h>. */
#include "internal.h"

#include "weir/coro_inspect.h"

#include <errno.h>

/* The context of the stack `depth` below the one it is on; NULL where there is none. */
static const struct weir__context *context_at(const struct weir_coro *co, unsigned depth)
{
    const struct weir__context *context = &co->context;
    const struct weir_coro *deep = co->deep;

    for (; depth > 0; depth--) {
        if (deep == NULL)
            return NULL;
        const struct weir__surface *surface = deep->data;
        context = &surface->context;
        deep = surface->below;
    }
    return context;
}

int weir_coro_registers(const struct weir_coro *co, unsigned depth,
                        struct weir_coro_registers *registers)
{
    const struct weir__context *context = context_at(co, depth);

    if (context == NULL || co->fn == NULL)
        return -ENOENT;
    return context->sp == NULL ? -EBUSY : weir__context_registers(context, registers);
}

/* Its own stack is the last of those it is on. */
static const char *own_sp(const struct weir_coro *co)
{
    unsigned depth = 0;

    while (context_at(co, depth + 1) != NULL)
        depth++;
    const char *sp = context_at(co, depth)->sp;
    if (sp == NULL && co == weir__thread.current)
        sp = __builtin_frame_address(0);
    return sp;
}

size_t weir_coro_stack_used(const struct weir_coro *co)
{
    const char *sp = co->fn != NULL ? own_sp(co) : NULL;

    return sp != NULL ? (size_t)(weir__stack_end(co) - sp) : 0;
}
