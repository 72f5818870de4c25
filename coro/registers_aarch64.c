/* What switch_aarch64.S leaves of a suspended coroutine: see switch.h. */
#include "switch.h"

#include "weir/coro_inspect.h"

enum { FRAME_WORDS = 160 / sizeof(uintptr_t) }; /* x19 to x30, d8 to d15 */

int weir__context_registers(const struct weir__context *context,
                            struct weir_coro_registers *registers)
{
    const uintptr_t *frame = context->sp;

    *registers = (struct weir_coro_registers){
        .pc = frame[11], .sp = (uintptr_t)(frame + FRAME_WORDS), .fp = frame[10]};
    for (int i = 0; i < 10; i++)
        registers->saved[i] = frame[i];
    return 0;
}
