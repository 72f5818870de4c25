/* With switch_ucontext.c the registers lie where the libc alone knows. */
#include "switch.h"

#include "weir/coro_inspect.h"

#include <errno.h>

int weir__context_registers(const struct weir__context *context,
                            struct weir_coro_registers *registers)
{
    return -ENOTSUP;
}
