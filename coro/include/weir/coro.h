/*
 * <weir/coro.h> - stackful coroutines and the pool of their stacks.
 *
 * Needs libc alone, from C and C++. A pool, and every coroutine made from it, belongs to the one
 * thread that made the pool; several pools may live on one thread. Functions return >= 0 or
 * -errno and never use errno. A bug of the caller (resuming what runs, yielding outside a
 * coroutine) asserts.
 *
 *     static void count(void *arg)
 *     {
 *         for (int *n = arg; *n > 0; --*n)
 *             weir_coro_yield(n);
 *     }
 *
 *     struct weir_coro_pool *pool;
 *     struct weir_coro *co;
 *     int n = 3, *got;
 *     weir_coro_pool_new(&pool, NULL);
 *     weir_coro_new(pool, &co, count, &n);
 *     while ((got = weir_coro_resume(co, NULL)) != NULL)
 *         printf("%d\n", *got);
 *     weir_coro_pool_free(pool);
 *
 * LIFE OF A HANDLE. weir_coro_new lends a stack from the pool. When the coroutine's function
 * returns, the stack goes back by itself: nobody has to free it, and the handle is dead. It may
 * still be asked for its status, which is WEIR_CORO_DONE, until the next weir_coro_new of any
 * kind, or weir_coro_call_deep, on that pool. Who wants the handle to stay valid longer calls
 * weir_coro_keep, and then owes one weir_coro_free. weir_coro_free also ends a coroutine that is
 * suspended or was never resumed: its frames are dropped, not unwound.
 *
 * FLOATING POINT. Rounding mode, exception masks and flags (MXCSR, the x87 control word, FPCR)
 * belong to the thread, like the signal mask: a switch neither saves nor restores them. Who
 * changes them restores them before yielding. A load of MXCSR is not only dear, it takes hundreds
 * of nanoseconds where the flags differ, as they do once either side has rounded a result. (The
 * ucontext fallback does restore them, since the libc does.)
 *
 * LINKING. Bind all calls at start (-z now; pkg-config and Meson add it): the lazy resolver keeps
 * the vector registers on the stack it finds, 3 KiB and more with AVX-512.
 *
 * SIGNALS. A coroutine's stack is too small for a signal frame (an AVX-512 one is near 4 KiB).
 * The pool gives its thread an alternate signal stack; install your handlers with SA_ONSTACK.
 */
#ifndef WEIR_CORO_H
#define WEIR_CORO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef WEIR_API
#define WEIR_API __attribute__((visibility("default")))
#endif

struct weir_coro;
struct weir_coro_pool;

/* What a coroutine runs. `arg` is what weir_coro_new was given; it is not copied. */
typedef void weir_coro_fn(void *arg);

/*
 * How the lower end of a stack is watched. Every tier keeps a gap of one page below the stack; code
 * with frames larger than a page is to be compiled with -fstack-clash-protection, or jumps over it.
 * See madvise(2), mprotect(2), and vm.max_map_count for why the second is rationed.
 */
enum weir_coro_guard {
    WEIR_CORO_GUARD_AUTO,     /* the first of the following that works */
    WEIR_CORO_GUARD_MADVISE,  /* MADV_GUARD_INSTALL: costs no mapping (Linux 6.13) */
    WEIR_CORO_GUARD_MPROTECT, /* PROT_NONE: costs two mappings a stack, so within a budget */
    WEIR_CORO_GUARD_CANARY,   /* a pattern at the lowest address, checked at every switch */
};

enum weir_coro_status {
    WEIR_CORO_DONE,      /* its function returned */
    WEIR_CORO_SUSPENDED, /* waits for a resume (also before the first one) */
    WEIR_CORO_RUNNING,   /* it is weir_coro_self() */
    WEIR_CORO_RESUMING,  /* it resumed another coroutine, which has not yet yielded */
};

/* Every number here may be 0, which means the default beside it. */
struct weir_coro_options {
    size_t stack_bytes;         /* of a stack, record included; 8192; rounded up to whole pages */
    size_t max_coros;           /* live at once, for each stack size; 1048576 */
    enum weir_coro_guard guard; /* WEIR_CORO_GUARD_AUTO */
    size_t guard_maps;          /* mappings all pools' mprotect guards may use together;
                                   half of what vm.max_map_count leaves */
    unsigned colours;           /* different stack tops, a cache line apart; 16, which takes up to
                                   1 KiB of each stack, or what an eighth of it holds; 1: none */

    bool measure_stacks; /* paint each stack when it is lent, which makes all of it resident,
                            and see how deep it was: weir_coro_pool_highwater */

    /* Trim: how many idle stacks stay resident. See weir_coro_pool_tick. */
    bool trim_off;           /* keep every stack for ever */
    uint32_t trim_window;    /* samples looked back on; 1000, at most 65536 */
    double trim_percentile;  /* of the window, in (0, 100]; 99 */
    uint32_t trim_step;      /* most stacks given back by one step; 25 */
    uint32_t trim_keep;      /* idle stacks never given back; 16 */
    uint64_t trim_sample_ns; /* from sample to sample, and from step to step; 10 ms */
};

/* Counters of a pool, over all its stack sizes. */
struct weir_coro_stats {
    uint64_t live;           /* coroutines that have not ended */
    uint64_t live_peak;      /* most of them since the pool was made */
    uint64_t borrowed;       /* stacks lent by weir_coro_call_deep at present */
    uint64_t idle;           /* resident stacks lent to nobody */
    uint64_t released;       /* stacks given back to the operating system, not lent since */
    uint64_t stacks;         /* stacks ever carved: live + borrowed + idle + released */
    uint64_t resident_bytes; /* estimate, an upper bound: (live + idle) whole stacks */
    uint64_t created;        /* coroutines ever made */
    uint64_t cold_starts;    /* of these, on a stack that was not resident: a page fault or two */
    uint64_t trimmed;        /* stacks ever given back */
    uint64_t trim_steps;     /* steps that gave something back */
    uint64_t trim_target;    /* live + idle stacks the policy now wants, of the default size */
    uint64_t guards_madvise; /* stacks by tier of their guard */
    uint64_t guards_mprotect;
    uint64_t guards_canary;
};

/*
 * Makes a pool for the calling thread. `options` is copied; NULL means all defaults. Reserves
 * address space, and touches no stack. The first pool of a thread gives it an alternate signal
 * stack unless it has one; the first of the process installs a SIGSEGV and SIGBUS handler that
 * reports an overflown coroutine and passes every other fault on to the handler before it.
 * Returns 0; -EINVAL for numbers out of range; -ENOTSUP when the guard asked for is not to be
 * had from this kernel; -ENOMEM.
 */
WEIR_API int weir_coro_pool_new(struct weir_coro_pool **pool,
                                const struct weir_coro_options *options);

/*
 * Frees the pool and every stack of it. What still lives on them is dropped, not unwound. To be
 * called by the pool's thread, outside its coroutines. NULL is allowed.
 */
WEIR_API void weir_coro_pool_free(struct weir_coro_pool *pool);

#define WEIR_CORO_STRING_(x) #x
#define WEIR_CORO_STRING(x)  WEIR_CORO_STRING_(x)
/* Where the macro stands, as "file:line". */
#define WEIR_CORO_PLACE __FILE__ ":" WEIR_CORO_STRING(__LINE__)

/*
 * int weir_coro_new(pool, co, fn, arg): makes a suspended coroutine that will call fn(arg) on
 * its first resume, and stores its handle in *co. It is named after fn.
 * Returns 0; -EAGAIN when max_coros live already; -ENOMEM when no stack is to be had.
 */
#define weir_coro_new(pool, co, fn, arg)                                                           \
    weir_coro_new_at((pool), (co), (fn), (arg), #fn, WEIR_CORO_PLACE)

/*
 * The function under weir_coro_new. `name` and `place` (either may be NULL) are what an overflow
 * report and a debugger show; they are not copied and must outlive the coroutine.
 */
WEIR_API int weir_coro_new_at(struct weir_coro_pool *pool, struct weir_coro **co, weir_coro_fn *fn,
                              void *arg, const char *name, const char *place);

#define weir_coro_new_sized(pool, co, fn, arg, stack_bytes)                                        \
    weir_coro_new_sized_at((pool), (co), (fn), (arg), (stack_bytes), #fn, WEIR_CORO_PLACE)

/*
 * The same on a stack of at least `stack_bytes`, taken from the pool's next larger size (sizes
 * are stack_bytes of the options times 1, 2, 4 ... 128). -E2BIG when that is too small.
 */
WEIR_API int weir_coro_new_sized_at(struct weir_coro_pool *pool, struct weir_coro **co,
                                    weir_coro_fn *fn, void *arg, size_t stack_bytes,
                                    const char *name, const char *place);

/*
 * Runs `co` until it yields, hands over and yields there, or returns. `co` must be suspended.
 * What `value` is, weir_coro_yield returns inside `co`; the first resume's value is dropped (the
 * function has its `arg`). Returns what was yielded; NULL when the coroutine returned, and then
 * `co` has gone back to the pool.
 */
WEIR_API void *weir_coro_resume(struct weir_coro *co, void *value);

/* Suspends the running coroutine; its resumer gets `value`. Returns what the next resume passes. */
WEIR_API void *weir_coro_yield(void *value);

/*
 * Suspends the running coroutine and runs the suspended `to` in its place, which gets `value` as
 * from a resume: the resumer of the former is now the resumer of `to`. Half the price of a yield
 * and a resume. Returns what the next resume of (or hand-over to) the caller passes.
 */
WEIR_API void *weir_coro_hand_over(struct weir_coro *to, void *value);

/*
 * Ends a suspended coroutine without running it further (its frames are dropped, not unwound),
 * or gives back a kept one that is done.
 */
WEIR_API void weir_coro_free(struct weir_coro *co);

/* The handle stays valid after the coroutine returned, until weir_coro_free. */
WEIR_API void weir_coro_keep(struct weir_coro *co);

/* The running coroutine of this thread, or NULL outside any. */
WEIR_API struct weir_coro *weir_coro_self(void);

WEIR_API enum weir_coro_status weir_coro_status(const struct weir_coro *co);
WEIR_API const char *weir_coro_name(const struct weir_coro *co);  /* "?" when it has none */
WEIR_API const char *weir_coro_place(const struct weir_coro *co); /* "?" when it has none */
WEIR_API size_t weir_coro_stack_bytes(const struct weir_coro *co);

/* One pointer for the user of the coroutine; NULL in a new one. */
WEIR_API void weir_coro_set_data(struct weir_coro *co, void *data);
WEIR_API void *weir_coro_data(const struct weir_coro *co);

/*
 * Calls fn(arg) on a borrowed stack of at least `stack_bytes`: for what is rare and deep (printf
 * of doubles, getaddrinfo, a TLS handshake), so that the coroutine itself need not be large. It
 * stays the same coroutine, and `fn` may yield. Outside any coroutine this is a plain call.
 * Returns 0 once fn returned; -E2BIG, -EAGAIN or -ENOMEM (as weir_coro_new_sized) without having
 * called it.
 */
WEIR_API int weir_coro_call_deep(size_t stack_bytes, weir_coro_fn *fn, void *arg);

/* Asks the CPU for the cache lines a resume of `co` will touch. To be called a few tens of
 * nanoseconds ahead, for example on the next in a run queue before resuming this one. */
WEIR_API void weir_coro_prefetch(const struct weir_coro *co);

/*
 * The clock of the trim policy. To be called by the loop once a turn, before it waits; it is a
 * compare when nothing is due. `now_ns` is any monotonic clock's. When a sample is due, the peak
 * of live coroutines since the last one enters the window (the peak, so that a burst between two
 * samples is not overlooked and its stacks not faulted in anew each time), and then at most
 * trim_step of the idle stacks beyond the window's percentile go back to the operating system,
 * coldest first (MADV_DONTNEED). Returns when to call again, in the same clock; UINT64_MAX when
 * nothing is left to trim (any turn of the loop may call it nevertheless, and has to after new
 * coroutines ran).
 */
WEIR_API uint64_t weir_coro_pool_tick(struct weir_coro_pool *pool, uint64_t now_ns);

/*
 * Calls fn(co, arg) for every coroutine that has not ended, the running ones included. `fn` must
 * not resume, make or free any. Linear in the stacks ever carved, and allocates: for a person who
 * asks what there is. Returns 0 or -ENOMEM.
 */
WEIR_API int weir_coro_pool_each(struct weir_coro_pool *pool,
                                 void (*fn)(struct weir_coro *co, void *arg), void *arg);

/* Fills *stats. Cheap enough for once a second. */
WEIR_API void weir_coro_pool_stats(const struct weir_coro_pool *pool,
                                   struct weir_coro_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
