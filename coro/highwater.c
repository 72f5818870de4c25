/* How deep stacks have been, by spawn place. Stacks are painted when they are lent, and looked at
 * from below when their coroutine ends, or when somebody asks. Costs nothing but a compare where
 * measure_stacks is off. */
#include "internal.h"

#include "weir/coro_inspect.h"

#include <errno.h>
#include <stdlib.h>

#define PAINT     UINT64_C(0x7374616b7061696e)
#define PLACES    255 /* the last entry is of all others */
#define LEAST     4096
#define MARGIN(n) ((n) / 4 > 1024 ? (n) / 4 : 1024)

struct weir__highwater {
    struct weir_coro_highwater entries[PLACES + 1];
};

/* Plain loops, for frames that were dropped may have left red zones, and some are another's. */
#define UNWATCHED __attribute__((noinline, no_sanitize_address, no_sanitize_thread))

static UNWATCHED void paint(char *low, const char *end)
{
    volatile uint64_t *at = (volatile uint64_t *)(void *)low;

    weir__valgrind_look_at(low, end);
    for (; (const char *)at < end; at++)
        *at = PAINT;
}

static UNWATCHED const char *deepest(const char *low, const char *end)
{
    const volatile uint64_t *at = (const volatile uint64_t *)(const void *)low;

    weir__valgrind_look_at(low, end);
    while ((const char *)at < end && *at == PAINT)
        at++;
    return (const char *)at;
}

int weir__highwater_new(struct weir__highwater **highwater)
{
    *highwater = calloc(1, sizeof **highwater);
    return *highwater != NULL ? 0 : -ENOMEM;
}

void weir__highwater_begin(struct weir_coro *co)
{
    paint(co->low, (const char *)co);
}

/* By the addresses of its strings: a place has always the same. */
static struct weir_coro_highwater *entry_of(struct weir__highwater *highwater,
                                            const struct weir_coro *co)
{
    uintptr_t hash = ((uintptr_t)co->place ^ (uintptr_t)co->name * 31) >> 3;

    for (unsigned i = 0; i < PLACES; i++) {
        struct weir_coro_highwater *entry = &highwater->entries[(hash + i) % PLACES];
        if (entry->peak_bytes == 0) {
            entry->name = weir_coro_name(co);
            entry->place = weir_coro_place(co);
            return entry;
        }
        if (entry->name == weir_coro_name(co) && entry->place == weir_coro_place(co))
            return entry;
    }
    struct weir_coro_highwater *others = &highwater->entries[PLACES];
    others->name = others->place = "(others)";
    return others;
}

static struct weir_coro_highwater *look_at(const struct weir_coro *co, const char *low)
{
    struct weir_coro_highwater *entry = entry_of(co->stacks->highwater, co);
    size_t used = (size_t)(weir__stack_end(co) - deepest(low, (const char *)co));

    if (used > entry->peak_bytes)
        entry->peak_bytes = used;
    return entry;
}

void weir__highwater_ended(struct weir_coro *co)
{
    look_at(co, co->low)->count++;
}

/* `low` of one that is within weir_coro_call_deep is that of the borrowed stack. */
static const char *own_low(const struct weir_coro *co)
{
    const char *low = co->low;

    for (const struct weir_coro *deep = co->deep; deep != NULL;) {
        const struct weir__surface *surface = deep->data;
        low = surface->low;
        deep = surface->below;
    }
    return low;
}

static void look_at_live(struct weir_coro *co, void *arg)
{
    look_at(co, own_low(co));
}

int weir_coro_pool_highwater(struct weir_coro_pool *pool,
                             void (*fn)(const struct weir_coro_highwater *entry, void *arg),
                             void *arg)
{
    struct weir__highwater *highwater = pool->sizes[0].highwater;

    if (highwater == NULL)
        return -ENOTSUP;
    int rc = weir_coro_pool_each(pool, look_at_live, NULL);
    for (unsigned i = 0; rc == 0 && i <= PLACES; i++) {
        struct weir_coro_highwater *entry = &highwater->entries[i];
        if (entry->peak_bytes == 0)
            continue;
        size_t needed = entry->peak_bytes + MARGIN(entry->peak_bytes);
        for (entry->class_bytes = LEAST; entry->class_bytes < needed;)
            entry->class_bytes *= 2;
        fn(entry, arg);
    }
    return rc;
}
