/*
 * The load driver, seen from the process that compares: `compare` and `load` call this, nothing
 * else does.
 *
 * The driver is a process of its own, on its own CPUs. weir__driver_new forks and execs this very
 * binary as `weir-bench drive`, and everything below is one message to it and one back, over a
 * SOCK_SEQPACKET pair. If the driver dies, the call under way returns -EPIPE and
 * weir__driver_error says how it died; if the parent dies, the driver is killed
 * (PR_SET_PDEATHSIG). One `struct driver` belongs to one thread.
 *
 * A *target* is a server with N connections to it, kept open from weir__driver_open to
 * weir__driver_close. All servers of a comparison are targets of one driver; slices then go to
 * them in turn, while the connections of the others stay open and idle. Between slices nothing is
 * in flight.
 *
 * Every byte that comes back is compared with what was sent. Payloads are windows of one random
 * block; the place of the window follows from (connection, sequence number, seed) so that no two
 * of 65,536 connections have the same window at the same sequence number, nor one connection
 * within 65,536 requests: a response swapped, lost, repeated or of another connection differs from
 * the one expected (with payloads of 8 bytes and more; of 1 byte, 255 times in 256).
 *
 * In the stream shape messages count when they have arrived whole: towards the server, once it has
 * acknowledged their bytes; from it, once they are received and compared. There is no latency of
 * what goes towards the server.
 *
 * In the pipeline shape requests are sent as many at once as may be, and received as much at once
 * as has come; responses are compared in the order of their requests, and one is late only where
 * its connection stands still.
 *
 * Latency is from just before send(2) of a request to just after the recv(2) that ended its
 * response, one clock reading for both ends of neighbouring requests: the comparison of the
 * previous response (some tens of ns for 100 bytes) counts as part of the next request, and
 * waiting for the driver itself counts too.
 *
 * In the open shape latency is from the time at which the request was planned, whenever it left:
 * driver_open.c has the plan.
 */
#ifndef WEIR_BENCH_DRIVER_H
#define WEIR_BENCH_DRIVER_H

#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "bench/histogram.h"
#include "bench/memory.h"
#include "bench/shape.h"

#define WEIR__DRIVER_PIDS_MAX    16384 /* server processes summed for one target */
#define WEIR__DRIVER_TARGETS_MAX 192   /* targets open in one driver */
#define WEIR__DRIVER_TEXT_BYTES  256   /* messages, NUL included */

/* Defaults of struct driver_target. */
#define WEIR__DRIVER_ANSWER_TIMEOUT_NS 10000000000u
static inline uint64_t weir__driver_connect_timeout_ns(uint32_t conns)
{
    return 10000000000u + (uint64_t)conns * 1000000u;
}

struct driver;

/* What the requests look like on the wire. */
enum driver_workload {
    DRIVER_ECHO,   /* size_bytes of payload */
    DRIVER_FRAME,  /* 4-byte big-endian length, then size_bytes of payload */
    DRIVER_SINK,   /* stream: the same, never answered but with a sum at the end */
    DRIVER_SOURCE, /* stream: 4-byte length, answered with as many bytes */
};

struct driver_options {
    const cpu_set_t *cpus; /* where the driver may run, NULL: anywhere; read during the call only */
    /* Driving threads; 0: one for each of `cpus`, or 1 without. Each takes a share of every
     * target's connections and, where there are as many cpus, a cpu of its own. */
    unsigned threads;
    /* Set by the caller's signal handler: the call under way then waits a second at most, and ends
     * the driver (-EPIPE). NULL: nothing interrupts. */
    const volatile sig_atomic_t *interrupted;
    bool no_exec; /* stay in this image after fork: for tests, which are not weir-bench */
};

struct driver_target {
    struct sockaddr_storage addr; /* where the server listens; IPv4 or IPv6 */
    socklen_t addr_len;
    enum driver_workload workload;
    struct shape shape;          /* of its slices; a burst needs no other target */
    uint32_t conns;              /* connections (closed) or clients (burst), >= 1 */
    uint32_t size_bytes;         /* payload of a request, 1 .. 16 MiB */
    uint64_t seed;               /* picks the payloads */
    uint64_t connect_timeout_ns; /* for all connections together; 0: 10 s + 1 ms each */
    /* For each response, and for a server to close; 0: 10 s. A connection that the server has not
     * answered yet may be waiting for its turn (in the backlog of a server that takes them one
     * after another): its time counts from the last answer that any connection of the target got,
     * and so does connect_timeout_ns in a burst. */
    uint64_t answer_timeout_ns;
    unsigned server_cpus; /* CPUs the server may use, to judge driver_bound; 0: 1 */
    unsigned pid_count;   /* 0: server CPU is unknown (a server that is not ours) */
    pid_t server_pids[WEIR__DRIVER_PIDS_MAX]; /* descendants count, too: none of another's */
};

/* Milliseconds per 1000 connections of a ramp: the median thousand, the first, the last; of fewer
 * than 1000, what they took, times 1000 over their number. 0: none was opened. */
struct driver_ramp {
    double median_ms, first_ms, last_ms;
};

/* One slice, or one burst. About 20 KiB. */
struct driver_slice {
    uint64_t requests; /* responses that came back complete and right */
    uint64_t bytes;    /* response bytes read, on the wire; sink: message bytes acknowledged */
    uint64_t errors;   /* connections refused, reset, closed early, silent, or with wrong bytes */
    uint64_t wrong;    /* those of `errors` where bytes differed; each is given up */
    uint64_t
        connect_retries;  /* burst, churn: SYNs sent again (a second each: the backlog was full) */
    uint32_t conns_alive; /* connections still usable afterwards; burst and churn: clients that
                             finished; ramp: those open when the hold was over */

    /* From the first send (burst: connect) to the last response (burst: the server's last close, or
     * the cut; open: the end of the plan at least). All that is in flight when the asked duration
     * ends is waited for and counted. */
    uint64_t elapsed_ns;

    /* A burst that was ended at its bound, or a ramp that was not answered any more: what the other
     * fields tell was done by then. The clients that had not finished were reset; they are neither
     * `errors` nor in `conns_alive`. */
    bool cut;

    /* open: the requests that were due, of which `requests` were made; and those that left more
     * than a millisecond behind the plan though their connection was free: the driver's lateness,
     * and not the server's. 0 in other shapes. Where achieved requests a second (requests over
     * elapsed_ns) are below the plan's, and few are late, the server did not keep up. */
    uint64_t planned, late;

    /* churn: no ports were left to connect from, all being open or in TIME_WAIT, and so it ended
     * before its time. What it did until then counts. */
    bool out_of_ports;

    /* ramp: how long each thousand took; and in the first slice of a target (`weighed`), what a
     * connection costs in memory. `requests` is how many connections were reached. */
    struct driver_ramp ramp;
    struct memory_per_conn per_conn;
    bool weighed;

    /* CPU of all threads of all server_pids and of their descendants, the dead included, from
     * before the first send until the server is idle again after the last response, so that
     * server_cpu_ns / requests is exact; of a server that is never idle, until the last response.
     * -1: unknown. */
    int64_t server_cpu_ns;

    uint64_t driver_cpu_ns; /* of the driving threads, within elapsed_ns */
    double driver_busy;     /* CPU / elapsed of the busiest driving thread, 0 .. 1 */

    /* The driver was the bottleneck: its busiest thread was never idle (driver_busy >= 0.95) while
     * the server had time to spare (its CPU below 0.95 of elapsed_ns x server_cpus, or unknown); or
     * it did not keep its plan (open: more than one request in a hundred late). Requests a second
     * then measure the driver; server CPU per request still measures the server. */
    bool driver_bound;

    bool verified; /* requests > 0, and neither errors nor wrong bytes */
    char first_error[WEIR__DRIVER_TEXT_BYTES]; /* "" or e.g. "connection 17 request 4242 byte 3:
                                                  want 0x41, got 0x42" */
    struct histogram latency;
};

/* The workload of that name, an enum driver_workload; -ENOENT where the driver speaks none. */
int weir__driver_workload_find(const char *name);

/*
 * Starts the driver process and waits until it answers. `*driver` is the caller's, to be freed
 * with weir__driver_free. Returns 0 or -errno: that of fork, -EPIPE where the child died at once,
 * that of sched_setaffinity if it may not run on `cpus`. After a failure `*driver` is still to be
 * freed, and holds the message, unless it is NULL (-ENOMEM).
 */
int weir__driver_new(struct driver **driver, const struct driver_options *options);

/* Ends the driver process (its connections with it), waits for it, frees. NULL is allowed. */
void weir__driver_free(struct driver *driver);

/* The driver's process id. */
pid_t weir__driver_pid(const struct driver *driver);

/* What went wrong in the last call that returned < 0, with the cure; valid until the next call. */
const char *weir__driver_error(const struct driver *driver);

/*
 * Opens all connections of `target` (copied), where its shape holds any between slices. Bounded by
 * connect_timeout_ns. On loopback, source addresses spread over 127.0.0.0/8, 14,000 connections to
 * each. `*target_id` is set on success. Returns 0; -errno of the first connection that failed, all
 * of them closed again and weir__driver_error saying which and why; -EINVAL for a target out of
 * range; -ENOSPC past WEIR__DRIVER_TARGETS_MAX; -EPIPE when the driver died.
 */
int weir__driver_open(struct driver *driver, const struct driver_target *target,
                      uint32_t *target_id);

/*
 * The target's shape for `duration_ns`, then drains: closed, one request in flight on each
 * connection; pipeline, as many as its depth; churn, a connection for each request; stream, bytes
 * one way; idle, as closed on a share of the connections; open, requests on a plan; ramp,
 * connections are opened, held for duration_ns, and reset. Fills `*out`
 * whole. Returns 0 even if connections failed or bytes were wrong (out->errors says so: a result,
 * not a failure of the call); -ENOTCONN if no connection is left; -EADDRNOTAVAIL where churn (or a
 * burst) has no ports left; -ENOENT for a target that is not open; -EPIPE when the driver died.
 * Takes at most duration_ns + answer_timeout_ns and a little; open, where a request may leave as
 * late as that, twice the timeout.
 */
int weir__driver_slice(struct driver *driver, uint32_t target_id, uint64_t duration_ns,
                       struct driver_slice *out);

/*
 * One burst: `conns` clients connect at once, each sends shape.requests requests one after
 * another, half-closes and waits for the server to close. Connections from weir__driver_open are
 * left alone. Latency counts requests, not the connect. `bound_ns` after its begin it is cut off
 * (out->cut); 0: after connect_timeout_ns and answer_timeout_ns for each request of a client.
 * Returns and errors as for weir__driver_slice.
 */
int weir__driver_burst(struct driver *driver, uint32_t target_id, uint64_t bound_ns,
                       struct driver_slice *out);

/*
 * Closes the target's connections (with reset: no TIME_WAIT is left behind). Returns 0; -EPROTO if
 * bytes nobody asked for were waiting on one; -ENOENT; -EPIPE.
 */
int weir__driver_close(struct driver *driver, uint32_t target_id);

/* The subcommand `weir-bench drive --control FD ...`: the driver process itself. Returns its exit
 * code. */
int weir_bench_drive(int argc, char **argv);

/* The subcommand `weir-bench load ...`. Returns the exit code as CLI.md has it. */
int weir_bench_load(int argc, char **argv);

#endif
