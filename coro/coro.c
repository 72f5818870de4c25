/*
 * Coroutines: create, resume, yield, hand over, end. The stacks come from pool.c, the switch
 * itself from switch_*. Nothing here makes a system call or allocates. The public resume and yield
 * are in resume_*: the functions here, or assembly that calls these for what is not plain.
 *
 * The functions that switch end in the call of the switch, so that in a plain build (empty hooks)
 * the compiler makes it a jump: the switch then returns straight to the caller, and no `ret` is
 * left behind for the CPU to mispredict.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>

__thread struct weir__thread weir__thread
    __attribute__((visibility("hidden"), tls_model("initial-exec")));

/* What resume_x86_64.S reads. */
static_assert(offsetof(struct weir__thread, current) == 0, "CURRENT");
static_assert(offsetof(struct weir__thread, resumer_context) == 8, "RESUMER_CONTEXT");
static_assert(offsetof(struct weir__thread, canaries) == 24, "CANARIES");

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
    if (weir__unlikely(weir__thread.canaries != 0) && co->canary_low != NULL)
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

/* Back from the stack `co` borrowed last to the one below. */
static void surface_from(struct weir_coro *co)
{
    struct weir_coro *deep = co->deep;
    const struct weir__surface *surface = deep->data;
    co->hooks = surface->hooks;
    co->low = surface->low;
    co->canary_low = surface->canary_low;
    co->deep = surface->below;
    deep->borrowed = false;
    deep->stacks->pool->borrowed--;
    take_back(deep);
}

/* The entry where hooks have to know of the arrival; elsewhere `fn` itself is. */
static void enter(void *arg)
{
    struct weir_coro *co = arg;
    weir__hooks_arrive(&co->hooks);
    co->fn(co->arg);
}

static _Noreturn void exit_deep(struct weir_coro *co);

_Noreturn void weir__coro_exit(void)
{
    struct weir__thread *t = &weir__thread;
    struct weir_coro *co = t->current;
    check_stack(co);
    if (weir__unlikely(co->deep != NULL))
        exit_deep(co);
    if (weir__unlikely(co->stacks->highwater != NULL))
        weir__highwater_ended(co);
    if (weir__unlikely(co->keep))
        co->fn = NULL;
    else
        take_back(co);
    t->current = NULL;
    weir__hooks_leave(&co->hooks, hooks_of(t->resumer), true);
    weir__switch_last(NULL, t->resumer_context);
}

static inline int start(struct weir__stacks *s, struct weir_coro **out, weir_coro_fn *fn, void *arg,
                        const char *name, const char *place)
{
    struct weir_coro *co;
    int rc = lend(s, &co);
    if (weir__unlikely(rc < 0))
        return rc;
    assert(fn != NULL && co->fn == NULL && co->context.sp == NULL);
    s->created++;
    co->fn = fn;
    co->arg = arg;
    co->data = NULL;
    co->name = name;
    co->place = place;
    co->deep = NULL;
    co->keep = false;
    if (weir__unlikely(s->highwater != NULL))
        weir__highwater_begin(co);
    if (WEIR__HOOKS_EMPTY) {
        weir__switch_prepare(&co->context, co->low, co, fn, arg);
    } else {
        weir__hooks_begin(&co->hooks, co->low, (size_t)((char *)co - co->low));
        weir__switch_prepare(&co->context, co->low, co, enter, co);
    }
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
    assert(co->context.sp != NULL || kept_and_done);
    weir__hooks_end(&co->hooks);
    while (co->deep != NULL) { /* it was suspended on stacks it borrowed */
        surface_from(co);
        weir__hooks_end(&co->hooks);
    }
    if (co->stacks->highwater != NULL && !kept_and_done)
        weir__highwater_ended(co);
    co->context.sp = NULL;
    co->keep = false;
    take_back(co);
}

/* --- switching ------------------------------------------------------------------------------- */

/* A coroutine resumes another. What a yield finds in the thread is put back afterwards, so that
 * the plain resume has nothing to remember. */
static __attribute__((noinline)) void *resume_nested(struct weir_coro *co, void *value)
{
    struct weir__thread *t = &weir__thread;
    struct weir_coro *self = t->current, *resumer = t->resumer;
    void *resumer_context = t->resumer_context;
    t->current = co;
    t->resumer = self;
    weir__hooks_leave(&self->hooks, &co->hooks, false);
    void *got = weir__switch_in(&co->context, value, &t->resumer_context);
    weir__hooks_arrive(&self->hooks);
    t->current = self;
    t->resumer = resumer;
    t->resumer_context = resumer_context;
    return got;
}

void *weir__coro_resume(struct weir_coro *co, void *value)
{
    struct weir__thread *t = &weir__thread;
    assert(co->context.sp != NULL);
    if (weir__unlikely(t->current != NULL))
        return resume_nested(co, value);
    t->current = co;
    weir__hooks_leave(&t->root, &co->hooks, false);
    void *got = weir__switch_in(&co->context, value, &t->resumer_context);
    weir__hooks_arrive(&t->root);
    return got;
}

void *weir__coro_yield(void *value)
{
    struct weir__thread *t = &weir__thread;
    struct weir_coro *self = t->current;
    assert(self != NULL);
    check_stack(self);
    t->current = NULL; /* resume_nested knows better, where there is one */
    weir__hooks_leave(&self->hooks, hooks_of(t->resumer), false);
    void *got = weir__switch_out(&self->context, value, t->resumer_context);
    weir__hooks_arrive(&self->hooks);
    return got;
}

void *weir_coro_hand_over(struct weir_coro *to, void *value)
{
    struct weir__thread *t = &weir__thread;
    struct weir_coro *self = t->current;
    assert(self != NULL && to->context.sp != NULL);
    check_stack(self);
    t->current = to;
    weir__hooks_leave(&self->hooks, &to->hooks, false);
    void *got = weir__switch_over(&self->context, &to->context, value);
    weir__hooks_arrive(&self->hooks);
    return got;
}

/* --- a borrowed stack ------------------------------------------------------------------------ */

static void enter_deep(void *arg)
{
    struct weir_coro *deep = arg;
    weir__hooks_arrive(&weir__thread.current->hooks);
    deep->fn(deep->arg);
}

static _Noreturn void exit_deep(struct weir_coro *co)
{
    struct weir__surface *surface = co->deep->data;
    weir__hooks_leave(&co->hooks, &surface->hooks, true);
    weir__switch_to(&surface->context, NULL);
}

/* The running coroutine stays who it is and may yield from down there: only its bounds, canary
 * and hooks are those of the borrowed stack meanwhile. */
static void dive(struct weir_coro *self, struct weir_coro *deep)
{
    struct weir__surface surface = {
        .hooks = self->hooks,
        .low = self->low,
        .canary_low = self->canary_low,
        .below = self->deep,
    };
    deep->data = &surface;
    deep->borrowed = true;
    deep->stacks->pool->borrowed++;
    self->deep = deep;
    self->low = deep->low;
    self->canary_low = deep->canary_low;
    weir__hooks_begin(&self->hooks, deep->low, (size_t)((char *)deep - deep->low));
    weir__switch_prepare(&deep->context, deep->low, deep, enter_deep, deep);
    weir__hooks_leave(&surface.hooks, &self->hooks, false);
    weir__switch_over(&surface.context, &deep->context, NULL);
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
    if (co->context.sp != NULL)
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
}
