/*
 * The pool: stacks carved from slabs, lent hot-first, given back to the operating system
 * coldest-first as the trim policy says. coro.c lends and returns on the data path without
 * coming here; here is what makes system calls or allocates.
 */
#include "internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef PR_SET_VMA /* Linux 5.17 */
#define PR_SET_VMA           0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

static_assert(offsetof(struct weir_coro, context) == 0, "a switch finds the context by the record");
static_assert(offsetof(struct weir_coro, fn) == WEIR__CACHE_LINE,
              "a switch touches one line of it");
static_assert(offsetof(struct weir_coro, low) <= 2 * WEIR__CACHE_LINE, "and a life two");

#define FIRST_SLAB_BYTES ((size_t)64 << 20) /* about; of address space */
#define FIRST_SLAB_LEAST 16                 /* slots, however large */
#define FIRST_SLAB_MOST  4096               /* slots, however small */

static size_t round_up(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* --- slabs ----------------------------------------------------------------------------------- */

static size_t first_slots(const struct weir__stacks *s)
{
    size_t most = FIRST_SLAB_BYTES / s->slot_bytes;
    if (most > s->pool->options.max_coros)
        most = s->pool->options.max_coros;
    size_t slots = FIRST_SLAB_LEAST;
    while (slots < most && slots < FIRST_SLAB_MOST)
        slots *= 2;
    return slots;
}

/* Maps one more slab, as large as all before it together, so that there are few. */
static int add_slab(struct weir__stacks *s)
{
    size_t slots = s->n_slabs == 0 ? first_slots(s) : s->n_slots;
    if (s->n_slabs == WEIR__SLABS_MAX || slots > SIZE_MAX / s->slot_bytes)
        return -ENOMEM;
    /* Writable at once: opening it piece by piece would cost a system call for each piece. It is
     * NORESERVE, so what is not touched counts nowhere, except under vm.overcommit_memory=2. */
    char *base = mmap(NULL, slots * s->slot_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (base == MAP_FAILED)
        return -errno;
    assert(s->n_spare == 0); /* or one would be lent instead */
    void *spare = realloc(s->spare, (s->n_slots + slots) * sizeof *s->spare);
    if (spare == NULL) {
        munmap(base, slots * s->slot_bytes);
        return -ENOMEM;
    }
    s->spare = spare;
    s->n_slots += slots;
    /* A huge page would make 2 MiB resident for one touched stack. EINVAL: kernel without THP. */
    (void)madvise(base, slots * s->slot_bytes, MADV_NOHUGEPAGE);
    /* For the reader of /proc/<pid>/maps; older kernels refuse. */
    (void)prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, base, slots * s->slot_bytes, "weir-coro stacks");
    unsigned size = (unsigned)(s - s->pool->sizes);
    if (s->pool->n_sizes <= size)
        s->pool->n_sizes = size + 1;
    s->slabs[s->n_slabs++] =
        (struct weir__slab){.base = base, .slots = slots, .canary_from = SIZE_MAX};
    return 0;
}

/* The record of slot `i`. Neighbours differ in colour, so that their tops do not compete for the
 * same few sets of the first-level cache, which does not tell one page from another. A resume and a
 * yield, with 300 coroutines in turn: 46 ns with one colour, 15 with sixteen; with 1000: 105, 20.
 */
static struct weir_coro *record_of(const struct weir__stacks *s, const struct weir__slab *slab,
                                   size_t i)
{
    size_t colour = i % s->pool->options.colours * WEIR__CACHE_LINE;
    uintptr_t end = (uintptr_t)slab->base + (i + 1) * s->slot_bytes - colour;
    return (struct weir_coro *)((end - sizeof(struct weir_coro)) & -(uintptr_t)WEIR__CACHE_LINE);
}

/* Fills what outlives a coroutine and not a release. */
static void write_record(struct weir__stacks *s, struct weir_coro *co, char *low, bool canary)
{
    co->stacks = s;
    co->low = low;
    co->canary_low = NULL;
    if (!canary)
        return;
    co->canary_low = low;
    co->low = low + WEIR__CANARY_BYTES;
    for (size_t i = 0; i < WEIR__CANARY_BYTES / sizeof(uint64_t); i++)
        ((uint64_t *)(void *)low)[i] = WEIR__CANARY;
}

/* A stack never used before. */
static int carve(struct weir__stacks *s, struct weir_coro **co)
{
    if (s->n_carved == s->n_slots) {
        int rc = add_slab(s);
        if (rc < 0)
            return rc;
    }
    struct weir__slab *slab = &s->slabs[s->n_slabs - 1];
    char *gap = slab->base + slab->carved * s->slot_bytes;
    char *low = gap + s->pool->page_bytes;
    enum weir_coro_guard tier = weir__guard_install(s->pool, gap);
    *co = record_of(s, slab, slab->carved);
    write_record(s, *co, low, tier == WEIR_CORO_GUARD_CANARY);
    weir__valgrind_carved(&slab->valgrind, slab->slots, slab->carved, low, (char *)*co);
    if (tier == WEIR_CORO_GUARD_CANARY && slab->canary_from > slab->carved)
        slab->canary_from = slab->carved;
    weir__thread.canaries += tier == WEIR_CORO_GUARD_CANARY;
    slab->carved++;
    s->n_carved++;
    s->guards[tier]++;
    return 0;
}

static const struct weir__slab *slab_of(const struct weir__stacks *s, const struct weir_coro *co)
{
    const char *at = (const char *)co;
    for (unsigned i = 0; i < s->n_slabs; i++) {
        const struct weir__slab *slab = &s->slabs[i];
        if (at >= slab->base && at < slab->base + slab->slots * s->slot_bytes)
            return slab;
    }
    assert(!"every stack lies in one of its slabs");
    return NULL;
}

static size_t slot_of(const struct weir__slab *slab, const struct weir_coro *co)
{
    return (size_t)((const char *)co - slab->base) / co->stacks->slot_bytes;
}

const char *weir__stack_end(const struct weir_coro *co)
{
    const struct weir__slab *slab = slab_of(co->stacks, co);
    return slab->base + (slot_of(slab, co) + 1) * co->stacks->slot_bytes;
}

/* --- lending beyond the idle stacks, and giving back ------------------------------------------ */

static struct weir_coro *unrelease(struct weir__stacks *s)
{
    assert(s->n_spare == s->n_released);
    s->n_released--;
    struct weir_coro *co = s->spare[--s->n_spare];
    const struct weir__slab *slab = slab_of(s, co);
    size_t i = (size_t)((char *)co - slab->base) / s->slot_bytes;
    char *low = slab->base + i * s->slot_bytes + s->pool->page_bytes;
    write_record(s, co, low, i >= slab->canary_from);
    return co;
}

/* When no idle stack is left: one that was released, else one never used before. */
int weir__stacks_refill(struct weir__stacks *s, struct weir_coro **co)
{
    assert(s->pool->thread == &weir__thread);
    if (s->live >= s->pool->options.max_coros)
        return -EAGAIN;
    if (s->n_released > 0) {
        *co = unrelease(s);
    } else {
        int rc = carve(s, co);
        if (rc < 0)
            return rc;
    }
    s->cold_starts++;
    return 0;
}

/* Gives up to `at_most` idle stacks back to the operating system, the coldest first. */
size_t weir__stacks_release(struct weir__stacks *s, size_t at_most)
{
    size_t idle = s->n_spare - s->n_released;
    size_t n = at_most < idle ? at_most : idle;
    for (size_t i = 0; i < n; i++) {
        struct weir_coro *co = s->spare[s->n_released];
        char *low = co->canary_low != NULL ? co->canary_low : co->low;
        char *end = (char *)(((uintptr_t)co | (s->pool->page_bytes - 1)) + 1);
        /* Reads as zero from now on, which is what a coroutine that is done looks like. */
        if (madvise(low, (size_t)(end - low), MADV_DONTNEED) < 0)
            return i;
        s->n_released++;
        s->trimmed++;
    }
    return n;
}

/* --- walking over what lives ------------------------------------------------------------------ */

/* Marks a stack as lent to nobody; one bit a slot, in the order of carving. */
static void mark(const struct weir__stacks *s, uint64_t *marks, const struct weir_coro *co)
{
    const struct weir__slab *slab = slab_of(s, co);
    size_t bit = (size_t)((const char *)co - slab->base) / s->slot_bytes;
    for (const struct weir__slab *before = s->slabs; before < slab; before++)
        bit += before->slots;
    marks[bit / 64] |= UINT64_C(1) << bit % 64;
}

/* A released stack must not be looked at, which would fault it in again: so it is by exclusion
 * that one knows what lives. */
static int each_of(struct weir__stacks *s, void (*fn)(struct weir_coro *co, void *arg), void *arg)
{
    uint64_t *marks = calloc(s->n_carved / 64 + 1, sizeof *marks);
    if (marks == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < s->n_spare; i++)
        mark(s, marks, s->spare[i]);
    size_t bit = 0;
    for (unsigned k = 0; k < s->n_slabs; k++) {
        for (size_t i = 0; i < s->slabs[k].carved; i++, bit++) {
            struct weir_coro *co = record_of(s, &s->slabs[k], i);
            bool spare = marks[bit / 64] >> bit % 64 & 1;
            if (!spare && !co->borrowed && co->fn != NULL)
                fn(co, arg);
        }
    }
    free(marks);
    return 0;
}

int weir_coro_pool_each(struct weir_coro_pool *pool, void (*fn)(struct weir_coro *co, void *arg),
                        void *arg)
{
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < pool->n_sizes; i++)
        rc = each_of(&pool->sizes[i], fn, arg);
    return rc;
}

/* --- the pool -------------------------------------------------------------------------------- */

static int fill_options(struct weir_coro_options *o, size_t page_bytes)
{
    if (o->stack_bytes == 0)
        o->stack_bytes = 8192;
    if (o->max_coros == 0)
        o->max_coros = 1048576;
    if (o->trim_window == 0)
        o->trim_window = 1000;
    if (o->trim_percentile == 0)
        o->trim_percentile = 99;
    if (o->trim_step == 0)
        o->trim_step = 25;
    if (o->trim_keep == 0)
        o->trim_keep = 16;
    if (o->trim_sample_ns == 0)
        o->trim_sample_ns = 10 * 1000 * 1000;
    if (o->stack_bytes < 2048 || o->stack_bytes > (size_t)1 << 30 || o->max_coros > 1 << 24)
        return -EINVAL;
    o->stack_bytes = round_up(o->stack_bytes, page_bytes);
    size_t most = o->stack_bytes / 8 / WEIR__CACHE_LINE; /* the colours may take an eighth */
    if (o->colours == 0)
        o->colours = most < 16 ? (unsigned)most : 16;
    return o->colours > most ? -EINVAL : 0;
}

static int init_stacks(struct weir_coro_pool *pool, unsigned size)
{
    struct weir__stacks *s = &pool->sizes[size];
    s->pool = pool;
    s->stack_bytes = pool->options.stack_bytes << size;
    size_t needed = s->stack_bytes * WEIR__HOOKS_STACK_SCALE + weir__switch_stack_bytes;
    s->slot_bytes = round_up(needed, pool->page_bytes);
    s->slot_bytes += pool->page_bytes; /* the gap */
    return weir__trim_init(&s->trim, pool->options.trim_window, pool->options.trim_percentile);
}

int weir__stacks_at_least(struct weir_coro_pool *pool, size_t stack_bytes, struct weir__stacks **s)
{
    unsigned size = 0;
    while (pool->options.stack_bytes << size < stack_bytes)
        if (++size == WEIR__SIZES_MAX)
            return -E2BIG;
    *s = &pool->sizes[size];
    return 0;
}

struct weir_coro_pool *weir__coro_pools;
static pthread_mutex_t pools_lock = PTHREAD_MUTEX_INITIALIZER;

static void list_pool(struct weir_coro_pool *pool)
{
    pool->next = weir__thread.pools;
    weir__thread.pools = pool;
    pthread_mutex_lock(&pools_lock);
    pool->all_next = weir__coro_pools;
    weir__coro_pools = pool;
    pthread_mutex_unlock(&pools_lock);
}

/* False for one that was never listed: weir_coro_pool_new failed half-way. */
static bool unlist_pool(struct weir_coro_pool *pool)
{
    struct weir_coro_pool **at = &weir__thread.pools;
    while (*at != NULL && *at != pool)
        at = &(*at)->next;
    if (*at == NULL)
        return false;
    *at = pool->next;
    pthread_mutex_lock(&pools_lock);
    at = &weir__coro_pools;
    while (*at != pool)
        at = &(*at)->all_next;
    *at = pool->all_next;
    pthread_mutex_unlock(&pools_lock);
    return true;
}

int weir_coro_pool_new(struct weir_coro_pool **out, const struct weir_coro_options *options)
{
    struct weir_coro_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL)
        return -ENOMEM;
    pool->thread = &weir__thread;
    pool->page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    if (options != NULL)
        pool->options = *options;
    int rc = fill_options(&pool->options, pool->page_bytes);
    if (rc == 0)
        rc = weir__guard_choose(pool);
    struct weir__highwater *highwater = NULL;
    if (rc == 0 && pool->options.measure_stacks)
        rc = weir__highwater_new(&highwater);
    for (unsigned i = 0; i < WEIR__SIZES_MAX; i++)
        pool->sizes[i].highwater = highwater;
    for (unsigned i = 0; rc == 0 && i < WEIR__SIZES_MAX; i++)
        rc = init_stacks(pool, i);
    if (rc == 0)
        rc = weir__overflow_watch();
    if (rc < 0) {
        weir_coro_pool_free(pool);
        return rc;
    }
    pool->thread_id = (pid_t)syscall(SYS_gettid);
    list_pool(pool);
    *out = pool;
    return 0;
}

static void free_stacks(struct weir__stacks *s)
{
    for (unsigned i = 0; i < s->n_slabs; i++) {
        weir__valgrind_gone(&s->slabs[i].valgrind, s->slabs[i].carved);
        munmap(s->slabs[i].base, s->slabs[i].slots * s->slot_bytes);
    }
    weir__thread.canaries -= s->guards[WEIR_CORO_GUARD_CANARY];
    weir__guard_forget(s->guards[WEIR_CORO_GUARD_MPROTECT]);
    weir__trim_deinit(&s->trim);
    free(s->spare);
}

static void end_hooks(struct weir_coro *co, void *arg)
{
    weir__hooks_end(&co->hooks);
}

void weir_coro_pool_free(struct weir_coro_pool *pool)
{
    if (pool == NULL)
        return;
    if (unlist_pool(pool))
        weir__overflow_unwatch();
    assert(pool->thread == &weir__thread);
    if (WEIR__HOOKS_END)
        (void)weir_coro_pool_each(pool, end_hooks, NULL);
    for (unsigned i = 0; i < WEIR__SIZES_MAX; i++)
        free_stacks(&pool->sizes[i]);
    free(pool->sizes[0].highwater);
    free(pool);
}
