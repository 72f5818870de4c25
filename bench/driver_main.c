/*
 * The driver process: `weir-bench drive --control FD`. It takes one request at a time from its
 * parent, does it, answers, and ends when the parent closes the control socket or dies. People do
 * not start it.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench/driver_load.h"
#include "bench/driver_wire.h"

struct drive {
    unsigned threads;
    bool pinned;
    cpu_set_t cpus;
    struct drive_target *targets[WEIR__DRIVER_TARGETS_MAX]; /* NULL: free */
    struct drive_request request;
    struct drive_reply reply;
};

static const cpu_set_t *drive_cpus(const struct drive *drive)
{
    return drive->pinned ? &drive->cpus : NULL;
}

static int drive_start(struct drive *drive)
{
    const struct drive_request *request = &drive->request;
    struct rlimit nofile;
    if (getrlimit(RLIMIT_NOFILE, &nofile) == 0 && nofile.rlim_cur < nofile.rlim_max) {
        nofile.rlim_cur = nofile.rlim_max;
        setrlimit(RLIMIT_NOFILE, &nofile); /* too few are noticed, and told, when opening sockets */
    }
    /* A plan in time is kept to the microsecond, where the default is 50; threads inherit it. */
    prctl(PR_SET_TIMERSLACK, 1000ul, 0, 0, 0);
    drive->threads = request->threads;
    drive->pinned = request->pinned;
    drive->cpus = request->cpus;
    if (drive->pinned && sched_setaffinity(0, sizeof(drive->cpus), &drive->cpus) < 0) {
        int rc = -errno;
        snprintf(drive->reply.error, sizeof(drive->reply.error),
                 "driver CPUs: %s: name CPUs this machine has and this process may use",
                 strerror(-rc));
        return rc;
    }
    return 0;
}

static int drive_open(struct drive *drive)
{
    char *error = drive->reply.error;
    uint32_t id = 0;
    while (id < WEIR__DRIVER_TARGETS_MAX && drive->targets[id])
        id++;
    if (id == WEIR__DRIVER_TARGETS_MAX) {
        snprintf(error, WEIR__DRIVER_TEXT_BYTES, "%d targets are open already: close one", id);
        return -ENOSPC;
    }
    struct drive_target *target = malloc(sizeof(*target));
    int rc = target ? weir__drive_target_open(target, &drive->request.target, drive->threads,
                                              drive_cpus(drive), error)
                    : -ENOMEM;
    if (rc < 0) {
        free(target);
        return rc;
    }
    drive->targets[id] = target;
    drive->reply.target_id = id;
    return 0;
}

static int drive_close(struct drive *drive, uint32_t id)
{
    int rc = weir__drive_target_close(drive->targets[id], drive->reply.error);
    free(drive->targets[id]);
    drive->targets[id] = NULL;
    return rc;
}

static int drive_perform(struct drive *drive)
{
    const struct drive_request *request = &drive->request;
    struct drive_reply *reply = &drive->reply;
    if (request->verb == DRIVE_START)
        return drive_start(drive);
    if (request->verb == DRIVE_OPEN)
        return drive_open(drive);
    uint32_t id = request->target_id;
    if (id >= WEIR__DRIVER_TARGETS_MAX || !drive->targets[id]) {
        snprintf(reply->error, sizeof(reply->error), "target %u is not open", id);
        return -ENOENT;
    }
    struct drive_target *target = drive->targets[id];
    switch (request->verb) {
    case DRIVE_SLICE:
        return weir__drive_target_slice(target, request->duration_ns, &reply->slice, reply->error);
    case DRIVE_BURST:
        return weir__drive_target_burst(target, drive_cpus(drive), request->duration_ns,
                                        &reply->slice, reply->error);
    default:
        return drive_close(drive, id);
    }
}

int weir__drive_serve(int control)
{
    /* What ends a process group (a terminal, timeout(1), a service manager) is the parent's to
     * handle: it wants its last slice. When it goes, so does this process. */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    struct drive *drive = calloc(1, sizeof(*drive));
    if (!drive)
        return 1;
    for (;;) {
        ssize_t n = recv(control, &drive->request, sizeof(drive->request), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 || (size_t)n != weir__drive_request_bytes(&drive->request))
            break;
        memset(&drive->reply, 0, sizeof(drive->reply));
        drive->reply.result = drive_perform(drive);
        do {
            n = send(control, &drive->reply, sizeof(drive->reply), MSG_NOSIGNAL);
        } while (n < 0 && errno == EINTR);
        if (n != sizeof(drive->reply))
            break;
    }
    for (uint32_t id = 0; id < WEIR__DRIVER_TARGETS_MAX; id++) {
        if (drive->targets[id])
            drive_close(drive, id);
    }
    free(drive);
    return 0;
}

int weir_bench_drive(int argc, char **argv)
{
    char *end = NULL;
    long fd = argc == 3 && strcmp(argv[1], "--control") == 0 ? strtol(argv[2], &end, 10) : -1;
    if (fd < 0 || *end != '\0') {
        fprintf(stderr, "weir-bench drive: started by compare and load, not by hand\n");
        return 2;
    }
    return weir__drive_serve((int)fd);
}
