/*
 * What connections cost in memory, found by reading before they open and after: the server's own
 * pages, the kernel's slabs, its socket buffers. `compare` and `load` call this around the opening
 * of the idle shape. Reads /proc only.
 *
 * A server's pages are its own (the proportional set of its processes, whole pages). The kernel
 * counts its slabs for the whole machine: what connections cost there holds both of their ends, and
 * whatever else this machine did meanwhile; how much that may be is read beforehand, while nothing
 * is opened, and told as the uncertainty.
 *
 * Where /proc/slabinfo can be read (root's) each cache is told: its objects in use with their share
 * of their pages, as pages alone hide what opens into those that an earlier run left. Elsewhere
 * there is only the total of /proc/meminfo, in pages.
 */
#ifndef WEIR_BENCH_MEMORY_H
#define WEIR_BENCH_MEMORY_H

#include <sys/types.h>

enum { MEMORY_CACHES = 400, MEMORY_GROWN = 16, MEMORY_NAME_BYTES = 32 };

/* One slab cache of the kernel, in bytes. */
struct memory_cache {
    char name[MEMORY_NAME_BYTES];
    double bytes;
    double drift; /* of a reading: how much that moved while we looked on */
};

/* Bytes; NAN is unknown. */
struct memory_reading {
    double user;       /* of the processes: Pss */
    double slab;       /* of the machine */
    double slab_drift; /* how much that moved while we looked on */
    double sockets;    /* of the machine: pages of TCP's buffers */
    struct memory_cache caches[MEMORY_CACHES];
    unsigned cache_count; /* 0: only the total can be read here */
};

/* Bytes of one connection; NAN is unknown. */
struct memory_per_conn {
    double user;
    double kernel; /* both ends */
    double kernel_uncertainty;
    double sockets; /* both ends: buffers */
    /* Of `kernel`, where its caches can be read: */
    double io_uring; /* its armed requests; of the server, where the driver uses none */
    double files;    /* both ends: sockets, files, dentries, inodes */
    struct memory_cache grown[MEMORY_GROWN]; /* the caches that grew, the most first */
    unsigned grown_count;
};

/* Looks on for a tenth of a second. `conns`: how many are opened between two readings. Where only
 * the total can be read, CPUs may hold back some of what they count for up to a second: that long
 * is waited only if it could matter beside so many, else it is part of the drift. */
void weir__memory_read(const pid_t *pids, unsigned count, unsigned conns,
                       struct memory_reading *reading);

/* Nothing is done meanwhile. */
void weir__memory_settle(double seconds);

/* The single figures, with another directory for /proc, which tests make up. */
double weir__memory_user_at(const char *proc, const pid_t *pids, unsigned count);
double weir__memory_slab_at(const char *proc, struct memory_reading *reading);
double weir__memory_sockets_at(const char *proc);

/* What `conns` connections cost each, opened between the two. A kernel's share that is lost in what
 * the machine did meanwhile is unknown. */
struct memory_per_conn weir__memory_per_conn(const struct memory_reading *before,
                                             const struct memory_reading *after, unsigned conns);

/* Of a shape that does not measure it. */
struct memory_per_conn weir__memory_unknown(void);

#endif
