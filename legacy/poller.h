/*
 * The poller: the wait inside a reactor. It knows which descriptors are ready and tells the reactor
 * through weir__reactor_deliver(); it performs no call on them and knows nothing of ops beyond
 * which directions they wait for.
 *
 * To add one: embed struct weir__reactor as the first member, implement these, and export a struct
 * weir__engine_ops made of the reactor's functions (see poll.c, the simplest).
 */
#ifndef WEIR_LEGACY_POLLER_H
#define WEIR_LEGACY_POLLER_H

#include <stdbool.h>
#include <stdint.h>

struct weir__reactor;
struct weir__watch;

struct weir__poller_ops {
    /* Readiness is an edge: calls go on until they find nothing, and `state` of the records counts.
     */
    bool edge;
    /* Frees what open() made of the poller's own, and the poller itself. */
    void (*close)(struct weir__reactor *reactor);
    /* The record's ops wait for more than before: see that all of weir__watch_want() is watched. 0
     * or -errno (then nothing changed): -EBADF, -EPERM for a file that cannot be polled, -ENOMEM.
     */
    int (*arm)(struct weir__reactor *reactor, int fd, struct weir__watch *watch);
    /* They wait for less. May be put off where an idle interest costs nothing, unless `now`: then
     * the descriptor may be closed and its number used again without our being told. */
    void (*relax)(struct weir__reactor *reactor, int fd, struct weir__watch *watch, bool now);
    /* The descriptor is about to be closed, or is known to be bad. */
    void (*forget)(struct weir__reactor *reactor, int fd, struct weir__watch *watch);
    /* Blocks until something is ready, a wake or the deadline, and delivers one turn's worth. 0, or
     * -errno when broken for good. EINTR is 0. */
    int (*wait)(struct weir__reactor *reactor, uint64_t deadline_ns);
};

#endif
