/*
 * What driver.c (the parent) and driver_main.c (the driver process) say to each other: one
 * request, one reply, each one SOCK_SEQPACKET message. Both ends are the same binary, so plain
 * structs will do.
 */
#ifndef WEIR_BENCH_DRIVER_WIRE_H
#define WEIR_BENCH_DRIVER_WIRE_H

#include "bench/driver.h"

#include <stddef.h>

enum drive_verb {
    DRIVE_START, /* first of all: pin, prepare, answer */
    DRIVE_OPEN,
    DRIVE_SLICE,
    DRIVE_BURST,
    DRIVE_CLOSE,
};

struct drive_request {
    enum drive_verb verb;
    uint32_t target_id;   /* all but START and OPEN */
    uint64_t duration_ns; /* SLICE; BURST: its bound */
    cpu_set_t cpus;       /* START, if pinned */
    bool pinned;
    unsigned threads;            /* START: at least 1 */
    struct driver_target target; /* OPEN */
};

struct drive_reply {
    int32_t result; /* 0 or -errno, as the call of driver.h returns it */
    uint32_t target_id;
    char error[WEIR__DRIVER_TEXT_BYTES];
    struct driver_slice slice; /* SLICE and BURST */
};

/* The bytes of a request that mean something: of the processes, as many as there are. */
static inline size_t weir__drive_request_bytes(const struct drive_request *request)
{
    if (request->verb != DRIVE_OPEN)
        return offsetof(struct drive_request, target);
    return offsetof(struct drive_request, target.server_pids) +
           request->target.pid_count * sizeof request->target.server_pids[0];
}

/* The driver process from here on: serves requests on `control` until it closes. Returns an exit
 * code. */
int weir__drive_serve(int control);

#endif
