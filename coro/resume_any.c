/*
 * The public resume and yield where no assembly of their own serves: with a sanitizer's hooks, with
 * ucontext, and on processors other than x86-64 (resume_x86_64.S). Chosen in meson.build.
 */
#include "internal.h"

void *weir_coro_resume(struct weir_coro *co, void *value)
{
    return weir__coro_resume(co, value);
}

void *weir_coro_yield(void *value)
{
    return weir__coro_yield(value);
}
