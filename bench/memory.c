/* Reads what connections cost (memory.h). */
#include "bench/memory.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOOK_ON_S 0.1
/* The counters of /proc/meminfo are gathered from all CPUs once a second (vmstat_update); between,
 * each may keep so many pages to itself (calculate_normal_threshold). */
#define GATHERED_S 1.2
enum { HELD_BACK_PAGES = 125 };
/* That matters from this share of what connections cost on. */
#define TOLERATED  0.05
#define CONN_BYTES 8192.0
/* Bytes of a connection from which on a cache is worth a word. */
#define LEAST_GROWN 4
/* From here on io_uring waits for a good part of them. */
#define LEAST_REQUESTS 32

static FILE *open_in(const char *proc, const char *name)
{
    char path[512];

    snprintf(path, sizeof path, "%s/%s", proc, name);
    return fopen(path, "re");
}

/* The "Name:  123 kB" line of a file, in bytes; NAN where there is none. */
static double kilobytes_line(FILE *file, const char *name)
{
    char line[256];
    unsigned long long value;
    size_t length = strlen(name);

    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, name, length) == 0 && sscanf(line + length, ": %llu kB", &value) == 1)
            return (double)value * 1024;
    }
    return NAN;
}

double weir__memory_user_at(const char *proc, const pid_t *pids, unsigned count)
{
    double total = count > 0 ? 0 : NAN;

    for (unsigned i = 0; i < count; i++) {
        char name[64];

        snprintf(name, sizeof name, "%d/smaps_rollup", (int)pids[i]);
        FILE *file = open_in(proc, name);
        if (file == NULL)
            return NAN;
        total += kilobytes_line(file, "Pss");
        fclose(file);
    }
    return total;
}

/* One line of slabinfo: a cache, and its objects in use with their share of the slabs' pages. */
static bool parse_cache(const char *line, struct memory_cache *cache)
{
    unsigned long active, per_slab, pages;

    if (sscanf(line, "%31s %lu %*u %*u %lu %lu :", cache->name, &active, &per_slab, &pages) != 4 ||
        per_slab == 0)
        return false;
    cache->bytes =
        (double)active * (double)pages * (double)sysconf(_SC_PAGESIZE) / (double)per_slab;
    cache->drift = 0;
    return true;
}

/* Root's to read; the count stays 0 where it cannot be. */
static void read_caches(const char *proc, struct memory_reading *reading)
{
    FILE *file = open_in(proc, "slabinfo");
    char line[512];

    reading->cache_count = 0;
    if (file == NULL)
        return;
    while (reading->cache_count < MEMORY_CACHES && fgets(line, sizeof line, file) != NULL)
        reading->cache_count += parse_cache(line, &reading->caches[reading->cache_count]);
    fclose(file);
}

double weir__memory_slab_at(const char *proc, struct memory_reading *reading)
{
    double bytes = 0;

    read_caches(proc, reading);
    for (unsigned i = 0; i < reading->cache_count; i++)
        bytes += reading->caches[i].bytes;
    if (reading->cache_count > 0)
        return bytes;
    FILE *file = open_in(proc, "meminfo");
    if (file == NULL)
        return NAN;
    bytes = kilobytes_line(file, "Slab");
    fclose(file);
    return bytes;
}

double weir__memory_sockets_at(const char *proc)
{
    FILE *file = open_in(proc, "net/sockstat");
    char line[256];
    double bytes = NAN;

    if (file == NULL)
        return NAN;
    while (fgets(line, sizeof line, file) != NULL) {
        const char *mem = strncmp(line, "TCP:", 4) == 0 ? strstr(line, " mem ") : NULL;
        if (mem != NULL)
            bytes = strtod(mem + 5, NULL) * (double)sysconf(_SC_PAGESIZE);
    }
    fclose(file);
    return bytes;
}

void weir__memory_settle(double seconds)
{
    struct timespec pause = {(time_t)seconds, (long)((seconds - floor(seconds)) * 1e9)};
    nanosleep(&pause, NULL);
}

static const struct memory_cache *cache_of(const struct memory_reading *reading, const char *name)
{
    for (unsigned i = 0; i < reading->cache_count; i++) {
        if (strcmp(reading->caches[i].name, name) == 0)
            return &reading->caches[i];
    }
    return NULL;
}

void weir__memory_read(const pid_t *pids, unsigned count, unsigned conns,
                       struct memory_reading *reading)
{
    struct memory_reading first;
    double held_back =
        (double)sysconf(_SC_NPROCESSORS_ONLN) * HELD_BACK_PAGES * (double)sysconf(_SC_PAGESIZE);

    first.slab = weir__memory_slab_at("/proc", &first);
    if (first.cache_count > 0) {
        held_back = 0;
    } else if (held_back > TOLERATED * CONN_BYTES * conns) {
        weir__memory_settle(GATHERED_S);
        held_back = 0;
    }
    weir__memory_settle(LOOK_ON_S);
    reading->slab = weir__memory_slab_at("/proc", reading);
    reading->slab_drift = fabs(reading->slab - first.slab) + held_back;
    for (unsigned i = 0; i < reading->cache_count; i++) {
        struct memory_cache *cache = &reading->caches[i];
        const struct memory_cache *earlier = cache_of(&first, cache->name);
        cache->drift = earlier == NULL ? cache->bytes : fabs(cache->bytes - earlier->bytes);
    }
    reading->sockets = weir__memory_sockets_at("/proc");
    reading->user = weir__memory_user_at("/proc", pids, count);
}

/* ---- the parts of the kernel's --------------------------------------------------------------- */

/* Of a connection's ends: sockets, files, dentries, inodes. Names begin with these. */
static bool is_of_files(const char *cache)
{
    static const char *const prefixes[] = {
        "TCP",    "tcp_",        "request_sock_", "tw_sock_",   "UNIX",      "sock_inode_", "filp",
        "dentry", "inode_cache", "proc_inode_",   "lsm_inode_", "lsm_file_", "skbuff_"};

    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        if (strncmp(cache, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    }
    return false;
}

/* Keeps `grown` sorted, the most first; the least falls out where there is no room. */
static void insert_grown(struct memory_per_conn *each, const struct memory_cache *cache)
{
    unsigned at = each->grown_count;

    if (at == MEMORY_GROWN && each->grown[--at].bytes >= cache->bytes)
        return;
    each->grown_count = at + 1;
    for (; at > 0 && each->grown[at - 1].bytes < cache->bytes; at--)
        each->grown[at] = each->grown[at - 1];
    each->grown[at] = *cache;
}

/* What cache `i` of `after` grew by, for each connection. */
static struct memory_cache growth(const struct memory_reading *before,
                                  const struct memory_reading *after, unsigned i, unsigned conns)
{
    struct memory_cache cache = after->caches[i];
    const struct memory_cache *earlier = cache_of(before, cache.name);

    cache.bytes = (cache.bytes - (earlier ? earlier->bytes : 0)) / conns;
    cache.drift = earlier ? earlier->drift / conns : 0;
    return cache;
}

/* A request of io_uring is an io_kiocb, and what goes with it comes from kmalloc; without the one
 * the other is somebody else's. */
static void itemise(const struct memory_reading *before, const struct memory_reading *after,
                    unsigned conns, struct memory_per_conn *each)
{
    double requests = 0, kmalloc = 0;

    each->io_uring = each->files = NAN;
    if (before->cache_count == 0 || after->cache_count == 0)
        return;
    each->files = 0;
    for (unsigned i = 0; i < after->cache_count; i++) {
        struct memory_cache cache = growth(before, after, i, conns);
        if (strcmp(cache.name, "io_kiocb") == 0)
            requests = cache.bytes;
        else if (strncmp(cache.name, "kmalloc-", 8) == 0)
            kmalloc += cache.bytes;
        else if (is_of_files(cache.name))
            each->files += cache.bytes;
        if (cache.bytes > cache.drift && cache.bytes >= LEAST_GROWN)
            insert_grown(each, &cache);
    }
    each->io_uring = requests >= LEAST_REQUESTS ? requests + kmalloc : 0;
}

struct memory_per_conn weir__memory_per_conn(const struct memory_reading *before,
                                             const struct memory_reading *after, unsigned conns)
{
    struct memory_per_conn each = {
        .user = (after->user - before->user) / conns,
        .kernel = (after->slab - before->slab) / conns,
        .kernel_uncertainty = before->slab_drift / conns,
        .sockets = (after->sockets - before->sockets) / conns,
    };

    itemise(before, after, conns, &each);
    if (!(each.kernel > each.kernel_uncertainty))
        each.kernel = each.io_uring = each.files = NAN;
    if (each.sockets < 0)
        each.sockets = NAN;
    return each;
}

struct memory_per_conn weir__memory_unknown(void)
{
    return (struct memory_per_conn){.user = NAN,
                                    .kernel = NAN,
                                    .kernel_uncertainty = NAN,
                                    .sockets = NAN,
                                    .io_uring = NAN,
                                    .files = NAN};
}
