/*
 * The tiers that watch the lower end of a stack. Called by pool.c once for each stack carved.
 *
 * MADV_GUARD_INSTALL marks page-table entries and costs no mapping. A PROT_NONE page splits the
 * slab's mapping: two more mappings a stack, of the 65,530 (vm.max_map_count) a process has, so
 * these come out of a budget that all pools share. What is over the budget gets a canary.
 */
#include "internal.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifndef MADV_GUARD_INSTALL /* Linux 6.13 */
#define MADV_GUARD_INSTALL 102
#endif

#define MAPS_A_GUARD 2

static atomic_size_t guard_maps; /* mappings that the guards of all pools have cost */

/* --- what this kernel can do ----------------------------------------------------------------- */

/* Success is not taken for an answer: advice is a hint, and qemu-user, for one, accepts any. */
static bool kernel_has_guards(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *probe = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (probe == MAP_FAILED)
        return false;
    bool has = madvise(probe, page, MADV_GUARD_INSTALL) == 0 && uname(probe) < 0 && errno == EFAULT;
    munmap(probe, page);
    return has;
}

static size_t count_lines(const char *path)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    size_t lines = 0;
    for (int c = getc(file); c != EOF; c = getc(file))
        lines += c == '\n';
    fclose(file);
    return lines;
}

/* Half of the mappings this process has left; the other half is for everybody else in it. */
static size_t default_budget(void)
{
    size_t most = 65530;
    FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
    if (file != NULL) {
        if (fscanf(file, "%zu", &most) != 1)
            most = 65530;
        fclose(file);
    }
    size_t used = count_lines("/proc/self/maps");
    return used < most ? (most - used) / 2 : 0;
}

int weir__guard_choose(struct weir_coro_pool *pool)
{
    enum weir_coro_guard wanted = pool->options.guard;
    if (wanted == WEIR_CORO_GUARD_AUTO || wanted == WEIR_CORO_GUARD_MADVISE) {
        pool->guard = WEIR_CORO_GUARD_MADVISE;
        if (kernel_has_guards())
            return 0;
        if (wanted == WEIR_CORO_GUARD_MADVISE)
            return -ENOTSUP;
        wanted = WEIR_CORO_GUARD_MPROTECT;
    }
    if (wanted > WEIR_CORO_GUARD_CANARY)
        return -EINVAL;
    pool->guard = wanted;
    if (wanted == WEIR_CORO_GUARD_MPROTECT && pool->options.guard_maps == 0)
        pool->options.guard_maps = default_budget() + atomic_load(&guard_maps);
    return 0;
}

/* --- one stack ------------------------------------------------------------------------------- */

static bool protect(struct weir_coro_pool *pool, char *gap)
{
    size_t before = atomic_fetch_add(&guard_maps, MAPS_A_GUARD);
    if (before + MAPS_A_GUARD <= pool->options.guard_maps &&
        mprotect(gap, pool->page_bytes, PROT_NONE) == 0)
        return true;
    atomic_fetch_sub(&guard_maps, MAPS_A_GUARD);
    return false;
}

enum weir_coro_guard weir__guard_install(struct weir_coro_pool *pool, char *gap)
{
    if (pool->guard == WEIR_CORO_GUARD_MADVISE) {
        if (madvise(gap, pool->page_bytes, MADV_GUARD_INSTALL) == 0)
            return WEIR_CORO_GUARD_MADVISE;
        /* For one: a slab locked by mlockall before Linux 6.15. */
        pool->guard = WEIR_CORO_GUARD_MPROTECT;
        if (pool->options.guard_maps == 0)
            pool->options.guard_maps = default_budget() + atomic_load(&guard_maps);
    }
    if (pool->guard == WEIR_CORO_GUARD_MPROTECT && !protect(pool, gap))
        pool->guard = WEIR_CORO_GUARD_CANARY; /* and stays so for this pool's later stacks */
    return pool->guard;
}

void weir__guard_forget(uint64_t mprotected)
{
    atomic_fetch_sub(&guard_maps, mprotected * MAPS_A_GUARD);
}
