/* What switch_x86_64.S and resume_x86_64.S leave of a suspended coroutine: see switch.h. */
#include "switch.h"

#include "weir/coro_inspect.h"

int weir__context_registers(const struct weir__context *context,
                            struct weir_coro_registers *registers)
{
    const uintptr_t *sp = context->sp; /* at the return address */
    void *const *kept = context->registers;

    *registers = (struct weir_coro_registers){.pc = sp[0],
                                              .sp = (uintptr_t)(sp + 1),
                                              .fp = (uintptr_t)kept[1],
                                              .saved[0] = (uintptr_t)kept[0]};
    for (int i = 1; i <= 4; i++)
        registers->saved[i] = (uintptr_t)kept[i + 1];
    return 0;
}
