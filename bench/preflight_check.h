/*
 * What the pre-flight checks share: reading the system, and adding to the list. Private to
 * preflight*.c. Each check adds at most one line for a limit, and says LIMIT_UNKNOWN rather than
 * guess.
 */
#ifndef WEIR_BENCH_PREFLIGHT_CHECK_H
#define WEIR_BENCH_PREFLIGHT_CHECK_H

#include <sys/resource.h>

#include "bench/preflight.h"

struct check {
    const char *root; /* what proc and sys are below; "": the running system */
    const struct limits_need *need;
    struct limit *list;
    size_t count;
};

/* --- reading: `file` is below the root, as "proc/sys/fs/nr_open" ------------------------------ */

bool weir__check_exists(const struct check *check, const char *file);

/* Up to `capacity` numbers from the file; returns how many it holds, 0 if it cannot be read. The
 * word "max" is UINT64_MAX. */
int weir__check_numbers(const struct check *check, const char *file, uint64_t *values,
                        int capacity);
/* The same for one number. */
bool weir__check_number(const struct check *check, const char *file, uint64_t *value);

/* The number behind the first `key` of the file ("MemAvailable:"), in `base`. */
bool weir__check_keyed(const struct check *check, const char *file, const char *key, int base,
                       uint64_t *value);

/* The kernel's release: 5 and 12 of "5.12.3-generic". */
bool weir__check_release(const struct check *check, unsigned *major, unsigned *minor);

/* What the cgroups that this process is in leave of a controller ("pids", "memory"), the least of
 * all on the way up. `reads` gives it for one folder ("sys/fs/cgroup/a/b"), false where the folder
 * has no such limit. False: no cgroup limits it; *left is meaningless. */
bool weir__check_cgroup(const struct check *check, const char *controller,
                        bool (*reads)(const struct check *check, const char *folder,
                                      uint64_t *left),
                        uint64_t *left);

/* What the kernel keeps for one end of a connection: both together take 9.4 KiB, measured. */
#define CONN_END_BYTES 4864u

/* The ends of connections on this machine: sockets, descriptors. */
static inline uint64_t weir__check_ends(const struct limits_need *need)
{
    uint64_t far = need->loopback ? need->driver_conns : 0;
    return need->driver_conns + (need->server_conns > far ? need->server_conns : far);
}

/* A soft limit of this process; UINT64_MAX: unlimited. */
uint64_t weir__check_rlimit(__rlimit_resource_t resource);

/* --- the list --------------------------------------------------------------------------------- */

/* Adds a line: LIMIT_OK where `have` is enough, else `otherwise` with the cure. The line, for a
 * unit or a note. */
__attribute__((format(printf, 6, 7))) struct limit *
weir__check_add(struct check *check, const char *name, uint64_t have, uint64_t need,
                enum limit_verdict otherwise, const char *cure, ...);
/* A line of a limit that does not count here: unlimited, and `note` says why. */
struct limit *weir__check_free(struct check *check, const char *name, uint64_t need,
                               const char *note);
/* A line of which nothing is known. */
struct limit *weir__check_unknown(struct check *check, const char *name, uint64_t need);

enum sysctl_scope {
    SYSCTL_HOST,   /* one for the machine */
    SYSCTL_NETWORK /* each network namespace, so each container, has its own */
};

/* How "name=value" is to be set from here: with sudo or not, on the host or at the container's
 * start. Static storage, until the next call. */
__attribute__((format(printf, 3, 4))) const char *
weir__check_sysctl(const struct check *check, enum sysctl_scope scope, const char *format, ...);

/* --- the checks, by subject ------------------------------------------------------------------- */

void weir__check_files(struct check *check);   /* preflight_files.c */
void weir__check_network(struct check *check); /* preflight_network.c */
void weir__check_memory(struct check *check);  /* preflight_memory.c */
void weir__check_tasks(struct check *check);   /* preflight_tasks.c */
void weir__check_uring(struct check *check);   /* preflight_uring.c */

#endif
