/* Without libunwind. */
#include "core/backtrace.h"

const char *const weir__backtrace_lacks = "built without libunwind";

void weir__backtrace(const struct weir_coro *co, struct weir__text *text)
{
    (void)co;
    (void)text;
}

unsigned weir__backtrace_here(void *context, uintptr_t *pcs, unsigned most)
{
    return 0;
}

void weir__backtrace_names(const uintptr_t *pcs, unsigned count, struct weir__text *text) {}
