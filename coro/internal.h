/*
 * What the files of coro/ share: the record of a coroutine, the stacks of one size, the pool.
 * Nobody outside coro/ includes this.
 *
 *      slot i of a slab                                              slot i + 1
 *      | gap, one page | stack, lowest address first ... | record | colour |
 *                      ^ low (canary, if any)            ^ struct weir_coro
 *
 * The gap is a guard page in two of the three tiers, and merely untouched in the third. The
 * record sits at the top, next to the frames a shallow coroutine uses.
 */
#ifndef WEIR__CORO_INTERNAL_H
#define WEIR__CORO_INTERNAL_H

#include "weir/coro.h"

#include "switch.h"
#include "trim.h"
#include WEIR_CORO_HOOKS
#include WEIR_CORO_VALGRIND

#include <assert.h>
#include <sys/types.h>

#define WEIR__CACHE_LINE   64
#define WEIR__CANARY       UINT64_C(0x7765697263616e61)
#define WEIR__CANARY_BYTES 64

#define weir__likely(x)   __builtin_expect(!!(x), 1)
#define weir__unlikely(x) __builtin_expect(!!(x), 0)

/*
 * All zero (what a released stack reads as) means done. A coroutine is suspended exactly when its
 * context has an `sp`, and has not ended exactly when `fn` is set.
 *
 * A record starts a cache line. A resume and a yield touch that one, and of the stack the lines
 * that the coroutine's own frames are on, which begin right below.
 */
struct weir_coro {
    struct weir__context context;
    void *data;

    /* A line for its beginning and its end. */
    weir_coro_fn *fn;
    void *arg;
    struct weir__stacks *stacks;
    const char *name;
    const char *place;
    struct weir_coro *deep; /* the larger stack it borrows at present, or NULL */
    bool keep;              /* not to be taken back when it returns */
    bool borrowed;          /* no coroutine: a stack lent by weir_coro_call_deep */

    /* Read where something is wrong, or might be. */
    char *low;        /* lowest usable byte */
    char *canary_low; /* lowest byte of a stack of the canary tier, else NULL */
    struct weir__hooks hooks;
};

/* What call_deep changes of a coroutine, to be restored. Lies on the stack that was left, and is
 * the `data` of the one that was lent. */
struct weir__surface {
    struct weir__context context;
    struct weir__hooks hooks;
    char *low;
    char *canary_low;
    struct weir_coro *below; /* what it had borrowed already, when calls nest */
};

/* One reserved mapping of slots. Each is as large as all before it together. */
struct weir__slab {
    char *base;
    size_t slots;
    size_t carved;      /* the first so many are in use or were */
    size_t canary_from; /* slots from here on have a canary for a guard */
    struct weir__valgrind valgrind;
};

#define WEIR__SLABS_MAX 24
#define WEIR__SIZES_MAX 8

/* All stacks of one size. */
struct weir__stacks {
    /* What is lent to nobody, as a stack: the first n_released have no memory, above them lie the
     * idle ones, the hottest on top. Releasing the coldest moves the border and touches no stack.
     */
    struct weir_coro **spare;
    size_t n_spare;
    size_t n_released;
    size_t live;
    size_t live_peak_sample; /* since the last sample of the trim policy */
    size_t live_at_tick;
    uint64_t created;
    struct weir__highwater *highwater; /* the pool's; NULL: stacks are not measured */

    struct weir_coro_pool *pool;
    size_t n_slots; /* of all slabs, and room in `spare` */
    size_t live_peak;
    size_t stack_bytes; /* as told to the user */
    size_t slot_bytes;  /* with the gap, in whole pages */
    struct weir__slab slabs[WEIR__SLABS_MAX];
    unsigned n_slabs;
    size_t n_carved;
    uint64_t cold_starts;
    uint64_t trimmed;
    uint64_t trim_steps;
    uint64_t guards[WEIR_CORO_GUARD_CANARY + 1];
    struct weir__trim trim;
};

struct weir_coro_pool {
    struct weir__stacks sizes[WEIR__SIZES_MAX]; /* twice as large each; [0] is the default */
    size_t page_bytes;
    unsigned n_sizes;  /* the larger ones have no stack yet */
    uint64_t borrowed; /* stacks lent by weir_coro_call_deep */
    const struct weir__thread *thread;
    struct weir_coro_options options; /* with the defaults filled in */
    enum weir_coro_guard guard;       /* the tier new stacks get */
    uint64_t next_ns;                 /* when the next sample is due; 0 before the first tick */
    uint64_t wake_ns;                 /* what the last sample told the loop */
    struct weir_coro_pool *next;      /* of the same thread */
    struct weir_coro_pool *all_next;  /* in weir__coro_pools */
    pid_t thread_id;
};

/* All pools of the process, for debuggers: see coro/gdb/weir-gdb.py, which knows these structs. */
extern struct weir_coro_pool *weir__coro_pools;

/* What a thread knows of its coroutines. resume_x86_64.S reads it, too. */
struct weir__thread {
    struct weir_coro *current; /* the running one; NULL on the thread's own stack */
    void *resumer_context;     /* what it will yield to */
    struct weir_coro *resumer; /* whose context that is; NULL: the thread's own stack's */
    size_t canaries;           /* stacks of the canary tier in this thread's pools */
    struct weir__hooks root;   /* of the stack that is not a coroutine's */
    struct weir_coro_pool *pools;
    void *signal_stack; /* ours, or NULL where the thread had its own */
    size_t signal_stack_bytes;
};

/* initial-exec: no call to __tls_get_addr on a switch, at the price of some static TLS space. */
extern __thread struct weir__thread weir__thread
    __attribute__((visibility("hidden"), tls_model("initial-exec")));

/* coro.c: weir_coro_resume and weir_coro_yield, whatever hooks there are and whoever calls. */
void *weir__coro_resume(struct weir_coro *co, void *value);
void *weir__coro_yield(void *value);

/* pool.c */
int weir__stacks_refill(struct weir__stacks *s, struct weir_coro **co);
/* One past the highest byte of its stack, colour included. */
const char *weir__stack_end(const struct weir_coro *co);
size_t weir__stacks_release(struct weir__stacks *s, size_t at_most);
int weir__stacks_at_least(struct weir_coro_pool *pool, size_t stack_bytes, struct weir__stacks **s);

/* highwater.c */
int weir__highwater_new(struct weir__highwater **highwater);
void weir__highwater_begin(struct weir_coro *co); /* nothing is on its stack yet */
void weir__highwater_ended(struct weir_coro *co);

/* guard.c */
int weir__guard_choose(struct weir_coro_pool *pool);
enum weir_coro_guard weir__guard_install(struct weir_coro_pool *pool, char *gap);
void weir__guard_forget(uint64_t mprotected);

/* overflow.c */
int weir__overflow_watch(void);
void weir__overflow_unwatch(void);
_Noreturn void weir__overflow_canary(const struct weir_coro *co);

#endif
