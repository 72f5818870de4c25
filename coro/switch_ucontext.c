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

/* What an sp, or a resumer, points at. */
struct saved {
    ucontext_t registers;
    void *value; /* what the switch into it returns */
    void (*entry)(void *arg);
    void *arg;
};

/* One at the top for the start, one in the deepest frame. */
const size_t weir__switch_stack_bytes = 2 * sizeof(struct saved);

static void *swap(struct saved *from, struct saved *to, void *value)
{
    to->value = value;
    int rc = swapcontext(&from->registers, &to->registers);
    assert(rc == 0);
    (void)rc;
    return from->value;
}

static _Noreturn void set(struct saved *to, void *value)
{
    to->value = value;
    setcontext(&to->registers);
    abort();
}

static struct saved *take(struct weir__context *context)
{
    struct saved *saved = context->sp;
    context->sp = NULL;
    return saved;
}

void *weir__switch_in(struct weir__context *to, void *value, void **resumer)
{
    struct saved self;
    *resumer = &self;
    return swap(&self, take(to), value);
}

void *weir__switch_out(struct weir__context *from, void *value, void *resumer)
{
    struct saved self;
    from->sp = &self;
    return swap(&self, resumer, value);
}

_Noreturn void weir__switch_last(void *value, void *resumer)
{
    set(resumer, value);
}

void *weir__switch_over(struct weir__context *from, struct weir__context *to, void *value)
{
    struct saved self;
    from->sp = &self;
    return swap(&self, take(to), value);
}

_Noreturn void weir__switch_to(struct weir__context *to, void *value)
{
    set(take(to), value);
}

/* makecontext passes ints only: the pointer travels in two halves. */
static void start(unsigned high, unsigned low)
{
    struct saved *self = (struct saved *)(((uintptr_t)high << 16 << 16) | low);
    self->entry(self->arg);
    weir__coro_exit();
}

void weir__switch_prepare(struct weir__context *context, void *low, void *top,
                          void (*entry)(void *arg), void *arg)
{
    uintptr_t at = ((uintptr_t)top - sizeof(struct saved)) & ~(uintptr_t)63;
    struct saved *self = (struct saved *)at;
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
    context->sp = self;
}
