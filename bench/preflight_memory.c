/*
 * The pre-flight checks of memory: what the connections and the workers take of it, of a process's
 * address space, of its mappings, and of what may be locked.
 */
#include <pthread.h>
#include <stdio.h>

#include "bench/preflight_check.h"

/* What a worker takes before it does anything, measured: the kernel's stack and records, page
 * tables, and the pages touched by a thread or copied by a process. */
#define THREAD_BYTES  (48u << 10)
#define PROCESS_BYTES (128u << 10)

/* Address space of a thread beside its stack: its buffers and its share of malloc's. */
#define THREAD_HEAP_BYTES (96u << 10)

/* Beside stacks: the buffers and code of a server or the driver. */
#define SPARE_BYTES    (128ull << 20)
#define SPARE_MAPPINGS 1024u

/* A thread's stack and the guard below it. */
#define THREAD_MAPPINGS 2u

static uint64_t memory_needed(const struct limits_need *need)
{
    return weir__check_ends(need) * CONN_END_BYTES + need->threads * THREAD_BYTES +
           need->processes * PROCESS_BYTES;
}

static uint64_t space_needed(const struct limits_need *need)
{
    pthread_attr_t attr;
    size_t bytes = need->stack_bytes;
    if (bytes == 0 && pthread_attr_init(&attr) == 0) {
        pthread_attr_getstacksize(&attr, &bytes);
        pthread_attr_destroy(&attr);
    }
    return need->threads * (bytes + THREAD_HEAP_BYTES);
}

static void check_available(struct check *check)
{
    static const char name[] = "memory";
    uint64_t kib, need = memory_needed(check->need);
    if (!weir__check_keyed(check, "proc/meminfo", "MemAvailable:", 10, &kib))
        weir__check_unknown(check, name, need)->unit = LIMIT_BYTES;
    else
        weir__check_add(check, name, kib * 1024, need, LIMIT_MISSING,
                        "%llu MiB for the kernel's side of the connections and workers: free some, "
                        "or fewer --conns",
                        (unsigned long long)(need >> 20))
            ->unit = LIMIT_BYTES;
}

/* What a memory cgroup leaves; cached file pages would be given up. */
static bool cgroup_left(const struct check *check, const char *folder, uint64_t *left)
{
    static const char *const files[][3] = {
        {"memory.max", "memory.current", "inactive_file "},
        {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "},
    };
    char file[600];
    for (int version = 0; version < 2; version++) {
        uint64_t limit, used, cached = 0;
        snprintf(file, sizeof(file), "%s/%s", folder, files[version][0]);
        if (!weir__check_number(check, file, &limit))
            continue;
        snprintf(file, sizeof(file), "%s/%s", folder, files[version][1]);
        if (!weir__check_number(check, file, &used))
            used = 0;
        snprintf(file, sizeof(file), "%s/memory.stat", folder);
        weir__check_keyed(check, file, files[version][2], 10, &cached);
        used -= cached < used ? cached : used;
        /* Version 1 writes the largest number of pages for none. */
        *left = limit >= INT64_MAX / 2 ? UINT64_MAX : limit > used ? limit - used : 0;
        return true;
    }
    return false;
}

static void check_cgroup(struct check *check)
{
    static const char name[] = "cgroup memory";
    uint64_t left = UINT64_MAX, need = memory_needed(check->need);
    if (!weir__check_exists(check, "proc/self/cgroup")) {
        weir__check_unknown(check, name, need)->unit = LIMIT_BYTES;
        return;
    }
    weir__check_cgroup(check, "memory", cgroup_left, &left);
    weir__check_add(check, name, left, need, LIMIT_MISSING,
                    "raise memory.max (memory.limit_in_bytes) by %llu MiB: systemd's MemoryMax, a "
                    "container's --memory; or fewer --conns",
                    (unsigned long long)(((need - left) >> 20) + 1))
        ->unit = LIMIT_BYTES;
}

static void check_address_space(struct check *check)
{
    uint64_t need = space_needed(check->need) + SPARE_BYTES;
    weir__check_add(check, "address space (RLIMIT_AS)", weir__check_rlimit(RLIMIT_AS), need,
                    LIMIT_MISSING, "ulimit -v unlimited, or smaller stacks: ulimit -s 256")
        ->unit = LIMIT_BYTES;
}

/* Only where overcommit is strict does the kernel count memory that nobody has touched: stacks. */
static void check_commit(struct check *check)
{
    static const char name[] = "address space (CommitLimit)";
    const struct limits_need *want = check->need;
    uint64_t mode, limit, used;
    uint64_t need = space_needed(want) + want->processes * PROCESS_BYTES + SPARE_BYTES;
    bool known = weir__check_number(check, "proc/sys/vm/overcommit_memory", &mode);
    struct limit *line;
    if (known && mode != 2) {
        line = weir__check_free(check, name, need,
                                mode == 1 ? "vm.overcommit_memory=1: not counted"
                                          : "vm.overcommit_memory=0: not counted");
    } else if (!known || !weir__check_keyed(check, "proc/meminfo", "CommitLimit:", 10, &limit) ||
               !weir__check_keyed(check, "proc/meminfo", "Committed_AS:", 10, &used)) {
        line = weir__check_unknown(check, name, need);
    } else {
        line = weir__check_add(check, name, limit > used ? (limit - used) * 1024 : 0, need,
                               LIMIT_MISSING, "%s, or smaller stacks: ulimit -s 256",
                               weir__check_sysctl(check, SYSCTL_HOST, "vm.overcommit_memory=0"));
    }
    line->unit = LIMIT_BYTES;
}

/* The runtime's stacks do not count: they lie in slabs, and guards are rationed. */
static void check_mappings(struct check *check)
{
    static const char name[] = "vm.max_map_count";
    uint64_t have, need = check->need->threads * THREAD_MAPPINGS + SPARE_MAPPINGS;
    if (!weir__check_number(check, "proc/sys/vm/max_map_count", &have))
        weir__check_unknown(check, name, need);
    else
        weir__check_add(check, name, have, need, LIMIT_MISSING, "%s",
                        weir__check_sysctl(check, SYSCTL_HOST, "vm.max_map_count=%llu",
                                           (unsigned long long)need));
}

void weir__check_memory(struct check *check)
{
    check_available(check);
    check_cgroup(check);
    check_address_space(check);
    check_commit(check);
    check_mappings(check);
}
