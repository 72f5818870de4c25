/*
 * Coroutines: create, resume, yield, hand over, end. The stacks come from pool.c, the switch
 * itself from switch_*. Nothing here makes a system call or allocates.
 *
 * The functions that switch end in the call of the switch, so that in a plain build (empty hooks)
 * the compiler makes it a jump: the switch then returns straight to the caller, and no `ret` is
 * left behind for the CPU to mispredict.
 */
#include "internal.h"

#include "switch.h"

#include <errno.h>
#include <string.h>

__thread struct weir__thread weir__thread
    __attribute__((visibility("hidden"), tls_model("initial-exec")));

static inline struct weir__hooks *hooks_of(struct weir_coro *co)
{
    return co != NULL ? &co->hooks : &weir__thread.root;
}

/* The canary tier's check, on the way out of `co`: is the pattern whole, and are we above it? */
static __attribute__((noinline)) void check_canary(const struct weir_coro *co)
{
    const uint64_t *canary = (const uint64_t *)(const void *)co->canary_low;
    uint64_t differs = 0;
    for (size_t i = 0; i < WEIR__CANARY_BYTES / sizeof *canary; i++)
        differs |= canary[i] ^ WEIR__CANARY;
    if (differs != 0 || (const char *)__builtin_frame_address(0) < co->low)
        weir__overflow_canary(co);
}

static inline void check_stack(const struct weir_coro *co)
{
    if (weir__unlikely(co->canary_low != NULL))
        check_canary(co);
}

/* --- life ------------------------------------------------------------------------------------ */

/* Lends the stack returned last. */
static inline int lend(struct weir__stacks *s, struct weir_coro **co)
{
    if (weir__likely(s->n_spare > s->n_released)) {
        *co = s->spare[--s->n_spare];
    } else {
        int rc = weir__stacks_refill(s, co);
        if (weir__unlikely(rc < 0))
            return rc;
    }
    if (++s->live > s->live_peak_sample)
        s->live_peak_sample = s->live;
    return 0;
}

/* Takes a stack back, as the hottest. The caller may still be running on it. */
static inline void take_back(struct weir_coro *co)
{
    struct weir__stacks *s = co->stacks;
    co->fn = NULL;
    s->live--;
    s->spare[s->n_spare++] = co;
}

/* What call_deep changes of a coroutine, to be restored. Lies on the stack that was left. */
struct surface {
    struct weir__hooks hooks;
    char *low;
    char *canary_low;
};

/* Back from the stack `co` borrowed last to the one below. */
static void surface_from(struct weir_coro *co)
{
    struct weir_coro *deep = co->deep;
    const struct surface *surface = deep->data;
    co->hooks = surface->hooks;
    co->low = surface->low;
    co->canary_low = surface->canary_low;
    co->deep = deep->resumer;
    deep->borrowed = false;
    deep->stacks->pool->borrowed--;
    take_back(deep);
}

/* Runs on the new stack; its frame is the outermost of a coroutine but for the entry in assembly.
 */
static void run(void *arg)
{
    struct weir_coro *co = arg;
    weir__hooks_arrive(&co->hooks);
    co->fn(co->arg);

    check_stack(co);
    assert(weir__thread.current == co);
    struct weir_coro *resumer = co->resumer;
    void *resumer_sp = co->resumer_sp;
    weir__thread.current = resumer;
    if (weir__unlikely(co->keep))
        co->fn = NULL;
    else
        take_back(co);
    weir__hooks_leave(&co->hooks, hooks_of(resumer), true);
    weir__switch_last(resumer_sp, NULL);
}

static inline int start(struct weir__stacks *s, struct weir_coro **out, weir_coro_fn *fn, void *arg,
                        const char *name, const char *place)
{
    struct weir_coro *co;
    int rc = lend(s, &co);
    if (weir__unlikely(rc < 0))
        return rc;
    assert(fn != NULL && co->fn == NULL && co->sp == NULL);
    s->created++;
    co->fn = fn;
    co->arg = arg;
    co->data = NULL;
    co->name = name;
    co->place = place;
    co->deep = NULL;
    co->keep = false;
    weir__hooks_begin(&co->hooks, co->low, (size_t)((char *)co - co->low));
    co->sp = weir__switch_prepare(co->low, co, run, co);
    *out = co;
    return 0;
}

int weir_coro_new_at(struct weir_coro_pool *pool, struct weir_coro **co, weir_coro_fn *fn,
                     void *arg, const char *name, const char *place)
{
    return start(&pool->sizes[0], co, fn, arg, name, place);
}

int weir_coro_new_sized_at(struct weir_coro_pool *pool, struct weir_coro **co, weir_coro_fn *fn,
                           void *arg, size_t stack_bytes, const char *name, const char *place)
{
    struct weir__stacks *s;
    int rc = weir__stacks_at_least(pool, stack_bytes, &s);
    return rc < 0 ? rc : start(s, co, fn, arg, name, place);
}

void weir_coro_keep(struct weir_coro *co)
{
    assert(co->fn != NULL);
    co->keep = true;
}

void weir_coro_free(struct weir_coro *co)
{
    bool kept_and_done = co->keep && co->fn == NULL;
    assert(co->sp != NULL || kept_and_done);
    weir__hooks_end(&co->hooks);
    while (co->deep != NULL) { /* it was suspended on stacks it borrowed */
        surface_from(co);
        weir__hooks_end(&co->hooks);
    }
    co->sp = NULL;
    co->keep = false;
    take_back(co);
}

/* --- switching ------------------------------------------------------------------------------- */

void *weir_coro_resume(struct weir_coro *co, void *value)
{
    struct weir__thread *t = &weir__thread;
    struct weir_coro *self = t->current;
    void *sp = co->sp;
    assert(sp != NULL);
    co->sp = NULL;
    co->resumer = self;
    t->current = co;
    weir__hooks_leave(hooks_of(self), &co->hooks, false);
    void *got = weir__switch(&co->resumer_sp, sp, value);
    weir__hooks_arrive(hooks_of(self));
    return got;
}

void *weir_coro_yield(void *value)
{
    struct weir__thread *t = &weir__thread;
    struct weir_coro *self = t->current;
    assert(self != NULL);
    check_stack(self);
    struct weir_coro *resumer = self->resumer;
    t->current = resumer;
    weir__hooks_leave(&self->hooks, hooks_of(resumer), false);
    void *got = weir__switch(&self->sp, self->resumer_sp, value);
    weir__hooks_arrive(&self->hooks);
    return got;
}

void *weir_coro_hand_over(struct weir_coro *to, void *value)
{
    struct weir__thread *t = &weir__thread;
    struct weir_coro *self = t->current;
    void *sp = to->sp;
    assert(self != NULL && sp != NULL);
    check_stack(self);
    to->sp = NULL;
    to->resumer = self->resumer;
    to->resumer_sp = self->resumer_sp;
    t->current = to;
    weir__hooks_leave(&self->hooks, &to->hooks, false);
    void *got = weir__switch(&self->sp, sp, value);
    weir__hooks_arrive(&self->hooks);
    return got;
}

/* --- a borrowed stack ------------------------------------------------------------------------ */

/* Runs on the borrowed stack, whose record serves for no more than to find it. */
static void run_borrowed(void *arg)
{
    struct weir_coro *deep = arg;
    weir__hooks_arrive(&weir__thread.current->hooks);
    deep->fn(deep->arg);

    struct weir_coro *self = weir__thread.current;
    struct surface *surface = deep->data;
    assert(self->deep == deep);
    check_stack(self);
    weir__hooks_leave(&self->hooks, &surface->hooks, true);
    weir__switch_last(deep->resumer_sp, NULL);
}

/* The running coroutine stays who it is and may yield from down there: only its bounds, canary
 * and hooks are those of the borrowed stack meanwhile. deep->resumer links nested borrowings. */
static void dive(struct weir_coro *self, struct weir_coro *deep)
{
    struct surface surface = {self->hooks, self->low, self->canary_low};
    deep->data = &surface;
    deep->resumer = self->deep;
    deep->borrowed = true;
    deep->stacks->pool->borrowed++;
    self->deep = deep;
    self->low = deep->low;
    self->canary_low = deep->canary_low;
    weir__hooks_begin(&self->hooks, deep->low, (size_t)((char *)deep - deep->low));
    void *sp = weir__switch_prepare(deep->low, deep, run_borrowed, deep);
    weir__hooks_leave(&surface.hooks, &self->hooks, false);
    weir__switch(&deep->resumer_sp, sp, NULL);
    weir__hooks_arrive(&surface.hooks);
    surface_from(self);
}

int weir_coro_call_deep(size_t stack_bytes, weir_coro_fn *fn, void *arg)
{
    struct weir_coro *self = weir__thread.current;
    if (self == NULL) { /* a thread's own stack is deep */
        fn(arg);
        return 0;
    }
    struct weir__stacks *s;
    struct weir_coro *deep;
    int rc = weir__stacks_at_least(self->stacks->pool, stack_bytes, &s);
    if (rc == 0)
        rc = lend(s, &deep);
    if (rc < 0)
        return rc;
    check_stack(self);
    deep->fn = fn;
    deep->arg = arg;
    dive(self, deep);
    return 0;
}

/* --- asking ---------------------------------------------------------------------------------- */

struct weir_coro *weir_coro_self(void)
{
    return weir__thread.current;
}

enum weir_coro_status weir_coro_status(const struct weir_coro *co)
{
    if (co->fn == NULL)
        return WEIR_CORO_DONE;
    if (co->sp != NULL)
        return WEIR_CORO_SUSPENDED;
    return co == weir__thread.current ? WEIR_CORO_RUNNING : WEIR_CORO_RESUMING;
}

const char *weir_coro_name(const struct weir_coro *co)
{
    return co->name != NULL ? co->name : "?";
}

const char *weir_coro_place(const struct weir_coro *co)
{
    return co->place != NULL ? co->place : "?";
}

size_t weir_coro_stack_bytes(const struct weir_coro *co)
{
    return co->stacks->stack_bytes;
}

void weir_coro_set_data(struct weir_coro *co, void *data)
{
    co->data = data;
}

void *weir_coro_data(const struct weir_coro *co)
{
    return co->data;
}

void weir_coro_prefetch(const struct weir_coro *co)
{
    const char *record = (const char *)co;
    __builtin_prefetch(record, 1);
    __builtin_prefetch(record - WEIR__CACHE_LINE, 1);
    __builtin_prefetch(record - 2 * WEIR__CACHE_LINE, 1);
    __builtin_prefetch(record - 3 * WEIR__CACHE_LINE, 1);
}
