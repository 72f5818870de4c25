/* Where libunwind, on AArch64, looks for the registers to start from. */
#ifndef WEIR_CORE_UNWIND_H
#define WEIR_CORE_UNWIND_H

#include <libunwind.h>

#include <weir/coro_inspect.h>

static inline void weir__unwind_context(unw_context_t *context,
                                        const struct weir_coro_registers *registers)
{
    context->uc_mcontext.pc = registers->pc;
    context->uc_mcontext.sp = registers->sp;
    context->uc_mcontext.regs[29] = registers->fp;
    for (int i = 0; i < 10; i++)
        context->uc_mcontext.regs[19 + i] = registers->saved[i];
}

#endif
