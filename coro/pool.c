/*
 * The pool: stacks carved from slabs, lent hot-first, given back to the operating system
 * coldest-first as the trim policy says. coro.c lends and returns on the data path without
 * coming here; here is what makes system calls or allocates.
 */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#ifndef PR_SET_VMA /* Linux 5.17 */
#define PR_SET_VMA           0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

static_assert(offsetof(struct weir_coro, low) == WEIR__CACHE_LINE,
              "a resume and a yield touch one line of the record");
static_assert(sizeof(struct weir_coro) % 16 == 0, "the record is the top of a stack");

static size_t round_up(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* --- slabs ----------------------------------------------------------------------------------- */

static int grow_list(struct weir_coro ***list, size_t from, size_t to)
{
    struct weir_coro **larger = realloc(*list, to * sizeof **list);
    if (larger == NULL)
        return -ENOMEM;
    *list = larger;
    return 0;
}

/* Room for `slots` idle stacks, a power of two. Only called when none is idle. */
static int grow_rings(struct weir__stacks *s, size_t slots)
{
    assert(s->n_idle == 0 && (slots & (slots - 1)) == 0);
    int rc = grow_list(&s->idle, s->mask + 1, slots);
    if (rc == 0)
        rc = grow_list(&s->released, s->mask + 1, slots);
    if (rc == 0) {
        s->mask = slots - 1;
        s->cold = 0;
    }
    return rc;
}

/* Maps one more slab, as large as all before it together, so that there are few. */
static int add_slab(struct weir__stacks *s)
{
    size_t slots = s->n_slabs == 0 ? WEIR__SLAB_SLOTS : s->mask + 1;
    if (s->n_slabs == WEIR__SLABS_MAX || slots > SIZE_MAX / s->slot_bytes)
        return -ENOMEM;
    /* Writable at once: opening it piece by piece would cost a system call for each piece. It is
     * NORESERVE, so what is not touched counts nowhere, except under vm.overcommit_memory=2. */
    char *base = mmap(NULL, slots * s->slot_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (base == MAP_FAILED)
        return -errno;
    int rc = grow_rings(s, s->n_slabs == 0 ? slots : 2 * slots);
    if (rc < 0) {
        munmap(base, slots * s->slot_bytes);
        return rc;
    }
    /* A huge page would make 2 MiB resident for one touched stack. EINVAL: kernel without THP. */
    (void)madvise(base, slots * s->slot_bytes, MADV_NOHUGEPAGE);
    /* For the reader of /proc/<pid>/maps; older kernels refuse. */
    (void)prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, base, slots * s->slot_bytes, "weir-coro stacks");
    s->slabs[s->n_slabs++] =
        (struct weir__slab){.base = base, .slots = slots, .canary_from = SIZE_MAX};
    return 0;
}

/* The record of slot `i`. Neighbours differ in colour, so that their tops do not compete for the
 * same few sets of the first-level cache, to which every page looks the same. */
static struct weir_coro *record_of(const struct weir__stacks *s, const struct weir__slab *slab,
                                   size_t i)
{
    size_t colour = i % s->pool->options.colours * WEIR__CACHE_LINE;
    char *end = slab->base + (i + 1) * s->slot_bytes;
    return (struct weir_coro *)(void *)(end - colour - sizeof(struct weir_coro));
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
    co->low = low + WEIR__CACHE_LINE;
    for (size_t i = 0; i < WEIR__CACHE_LINE / sizeof(uint64_t); i++)
        ((uint64_t *)(void *)low)[i] = WEIR__CANARY;
}

/* A stack never used before. */
static int carve(struct weir__stacks *s, struct weir_coro **co)
{
    struct weir__slab *slab = &s->slabs[s->n_slabs - 1];
    if (s->n_slabs == 0 || slab->carved == slab->slots) {
        int rc = add_slab(s);
        if (rc < 0)
            return rc;
        slab = &s->slabs[s->n_slabs - 1];
    }
    char *gap = slab->base + slab->carved * s->slot_bytes;
    char *low = gap + s->pool->page_bytes;
    enum weir_coro_guard tier = weir__guard_install(s->pool, gap);
    *co = record_of(s, slab, slab->carved);
    write_record(s, *co, low, tier == WEIR_CORO_GUARD_CANARY);
    if (tier == WEIR_CORO_GUARD_CANARY && slab->canary_from > slab->carved)
        slab->canary_from = slab->carved;
    slab->carved++;
    s->n_carved++;
    s->guards[tier]++;
    return 0;
}

/* --- lending beyond the idle stacks, and giving back ------------------------------------------ */

static struct weir_coro *unrelease(struct weir__stacks *s)
{
    struct weir_coro *co = s->released[--s->n_released];
    const struct weir__slab *slab = s->slabs;
    while ((char *)co < slab->base || (char *)co >= slab->base + slab->slots * s->slot_bytes)
        slab++;
    assert(slab < s->slabs + s->n_slabs);
    size_t i = (size_t)((char *)co - slab->base) / s->slot_bytes;
    char *low = slab->base + i * s->slot_bytes + s->pool->page_bytes;
    write_record(s, co, low, i >= slab->canary_from);
    return co;
}

int weir__stacks_refill(struct weir__stacks *s, struct weir_coro **co)
{
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
    size_t n = at_most < s->n_idle ? at_most : s->n_idle;
    for (size_t i = 0; i < n; i++) {
        struct weir_coro *co = s->idle[s->cold];
        char *low = co->canary_low != NULL ? co->canary_low : co->low;
        char *end = (char *)(((uintptr_t)co | (s->pool->page_bytes - 1)) + 1);
        weir__hooks_end(&co->hooks, low, (size_t)((char *)co - low));
        /* Reads as zero from now on, which is what a coroutine that is done looks like. */
        if (madvise(low, (size_t)(end - low), MADV_DONTNEED) < 0)
            return i;
        s->cold = (s->cold + 1) & s->mask;
        s->n_idle--;
        s->released[s->n_released++] = co;
    }
    s->trimmed += n;
    return n;
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
    if (o->colours == 0)
        o->colours = 16;
    /* The colours may take an eighth of a stack. */
    return o->colours * WEIR__CACHE_LINE > o->stack_bytes / 8 ? -EINVAL : 0;
}

static int init_stacks(struct weir_coro_pool *pool, unsigned size)
{
    struct weir__stacks *s = &pool->sizes[size];
    s->pool = pool;
    s->stack_bytes = pool->options.stack_bytes << size;
    s->slot_bytes = s->stack_bytes + pool->page_bytes;
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

int weir_coro_pool_new(struct weir_coro_pool **out, const struct weir_coro_options *options)
{
    struct weir_coro_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL)
        return -ENOMEM;
    pool->page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    if (options != NULL)
        pool->options = *options;
    int rc = fill_options(&pool->options, pool->page_bytes);
    if (rc == 0)
        rc = weir__guard_choose(pool);
    for (unsigned i = 0; rc == 0 && i < WEIR__SIZES_MAX; i++)
        rc = init_stacks(pool, i);
    if (rc == 0)
        rc = weir__overflow_watch();
    if (rc < 0) {
        weir_coro_pool_free(pool);
        return rc;
    }
    pool->next = weir__thread.pools;
    weir__thread.pools = pool;
    *out = pool;
    return 0;
}

static void free_stacks(struct weir__stacks *s)
{
    for (unsigned i = 0; i < s->n_slabs; i++)
        munmap(s->slabs[i].base, s->slabs[i].slots * s->slot_bytes);
    weir__guard_forget(s->guards[WEIR_CORO_GUARD_MPROTECT]);
    weir__trim_deinit(&s->trim);
    free(s->idle);
    free(s->released);
}

void weir_coro_pool_free(struct weir_coro_pool *pool)
{
    if (pool == NULL)
        return;
    struct weir_coro_pool **at = &weir__thread.pools;
    while (*at != NULL && *at != pool)
        at = &(*at)->next;
    if (*at == pool) { /* not so when weir_coro_pool_new failed half-way */
        *at = pool->next;
        weir__overflow_unwatch();
    }
    for (unsigned i = 0; i < WEIR__SIZES_MAX; i++)
        free_stacks(&pool->sizes[i]);
    free(pool);
}
