/*
 * What connections cost in memory, found by reading before they open and after: the server's own
 * pages, the kernel's slabs, its socket buffers. `compare` and `load` call this around the opening
 * of the idle shape. Reads /proc only.
 *
 * A server's pages are its own (the proportional set of its processes, whole pages). The kernel
 * counts its slabs for the whole machine: what connections cost there holds both of their ends, and
 * whatever else this machine did meanwhile; how much that may be is read beforehand, while nothing
 * is opened, and told as the uncertainty.
 */
#ifndef WEIR_BENCH_MEMORY_H
#define WEIR_BENCH_MEMORY_H

#include <sys/types.h>

/* Bytes; NAN is unknown. */
struct memory_reading {
    double user;       /* of the processes: Pss */
    double slab;       /* of the machine */
    double slab_drift; /* how much that moved while we looked on */
    double sockets;    /* of the machine: pages of TCP's buffers */
};

/* Bytes of one connection; NAN is unknown. */
struct memory_per_conn {
    double user;
    double kernel; /* both ends */
    double kernel_uncertainty;
    double sockets; /* both ends */
};

/* Looks on for a tenth of a second, or a little more than one where the slabs are known to the
 * second only; what was opened before the call has settled by then. */
void weir__memory_read(const pid_t *pids, unsigned count, struct memory_reading *reading);

/* The single figures, with another directory for /proc, which tests make up. */
double weir__memory_user_at(const char *proc, const pid_t *pids, unsigned count);
double weir__memory_slab_at(const char *proc);
double weir__memory_sockets_at(const char *proc);

/* What `conns` connections cost each, opened between the two. A kernel's share that is lost in what
 * the machine did meanwhile is unknown. */
struct memory_per_conn weir__memory_per_conn(const struct memory_reading *before,
                                             const struct memory_reading *after, unsigned conns);

/* Of a shape that does not measure it. */
struct memory_per_conn weir__memory_unknown(void);

#endif
