/* Without libunwind. */
#include "core/backtrace.h"

const char *const weir__backtrace_lacks = "built without libunwind";

void weir__backtrace(const struct weir_coro *co, struct weir__text *text)
{
    (void)co;
    (void)text;
}
