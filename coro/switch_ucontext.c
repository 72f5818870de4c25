/*
 * The switch through ucontext, for machines without an assembly one. See switch.h.
 *
 * Slower by an order of magnitude: swapcontext asks the kernel for the signal mask each time. And
 * a ucontext_t is large (4.5 KiB on AArch64), so stacks grow by weir__switch_stack_bytes.
 */
#include "switch.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

/* What an sp points at. */
struct context {
    ucontext_t registers;
    void *value; /* what the switch into it returns */
    void (*entry)(void *arg);
    void *arg;
};

/* One at the top for the start, one in the deepest frame. */
const size_t weir__switch_stack_bytes = 2 * sizeof(struct context);

void *weir__switch(void **save, void *load, void *value)
{
    struct context self;
    struct context *to = load;
    to->value = value;
    *save = &self;
    int rc = swapcontext(&self.registers, &to->registers);
    assert(rc == 0);
    (void)rc;
    return self.value;
}

_Noreturn void weir__switch_last(void *load, void *value)
{
    struct context *to = load;
    to->value = value;
    setcontext(&to->registers);
    abort();
}

/* makecontext passes ints only: the pointer travels in two halves. */
static void start(unsigned high, unsigned low)
{
    struct context *self = (struct context *)(((uintptr_t)high << 16 << 16) | low);
    self->entry(self->arg);
    abort();
}

void *weir__switch_prepare(void *low, void *top, void (*entry)(void *arg), void *arg)
{
    uintptr_t at = ((uintptr_t)top - sizeof(struct context)) & ~(uintptr_t)63;
    struct context *self = (struct context *)at;
    int rc = getcontext(&self->registers);
    assert(rc == 0);
    (void)rc;
    self->entry = entry;
    self->arg = arg;
    self->registers.uc_stack.ss_sp = low;
    self->registers.uc_stack.ss_size = at - (uintptr_t)low;
    self->registers.uc_link = NULL;
    makecontext(&self->registers, (void (*)(void))start, 2, (unsigned)(at >> 16 >> 16),
                (unsigned)at);
    return self;
}
