/* Where libunwind, on x86-64, looks for the registers to start from. */
#ifndef WEIR_CORE_UNWIND_H
#define WEIR_CORE_UNWIND_H

#include <libunwind.h>
#include <ucontext.h>

#include <weir/coro_inspect.h>

static inline void weir__unwind_context(unw_context_t *context,
                                        const struct weir_coro_registers *registers)
{
    greg_t *to = context->uc_mcontext.gregs;

    to[REG_RIP] = (greg_t)registers->pc;
    to[REG_RSP] = (greg_t)registers->sp;
    to[REG_RBP] = (greg_t)registers->fp;
    to[REG_RBX] = (greg_t)registers->saved[0];
    to[REG_R12] = (greg_t)registers->saved[1];
    to[REG_R13] = (greg_t)registers->saved[2];
    to[REG_R14] = (greg_t)registers->saved[3];
    to[REG_R15] = (greg_t)registers->saved[4];
}

#endif
