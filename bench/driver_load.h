/*
 * Inside the driver process: a target, its connections and the threads that drive them.
 *
 * A target has `threads` workers for the closed shape, and as many again for bursts, made when the
 * first burst comes. A worker owns a share of the connections and one epoll instance; it runs in a
 * thread for the time of a slice, and between slices nothing runs and nothing is in flight.
 */
#ifndef WEIR_BENCH_DRIVER_LOAD_H
#define WEIR_BENCH_DRIVER_LOAD_H

#include <sys/uio.h>
#include <time.h>

#include "bench/driver.h"
#include "bench/driver_payload.h"

#define WEIR__DRIVE_SOURCE_CONNS                                                                   \
    14000u                          /* connections from one source address: MODELS' port wall      \
                                     */
#define WEIR__DRIVE_HEADER_BYTES 4u /* of a frame */
#define WEIR__DRIVE_BUFFER_BYTES (256 << 10) /* received at once, at most */

enum conn_phase {
    CONN_GONE,       /* no descriptor: given up, or not opened yet */
    CONN_CONNECTING, /* burst, churn: connect under way */
    CONN_IDLE,       /* open, nothing in flight */
    CONN_ASKING,     /* a request is being sent or answered */
    CONN_CLOSING,    /* burst, churn: half-closed, waiting for the server to close */
    CONN_ENDING,     /* sink: asking for the acknowledgement, or waiting for it */
};

struct drive_conn {
    int fd;
    enum conn_phase phase;
    uint32_t id;       /* within the target; picks the payload */
    uint32_t sent;     /* bytes of the request under way, on the wire */
    uint32_t received; /* bytes of its response */
    uint32_t ahead;    /* sink: messages sent whole in this slice; pipeline: requests sent whole and
                          not yet answered; `sent` is the next's */
    uint64_t seq;      /* of the request under way, or the next; pipeline: of the oldest */
    uint64_t since_ns; /* when the phase began, or the request under way was sent; pipeline: when
                          bytes last came */
};

struct drive_worker;

/* How a shape takes its connections through a slice: driver_worker.c calls these. */
struct drive_machine {
    void (*start)(struct drive_worker *worker, struct drive_conn *conn); /* NULL: see begin */
    void (*event)(struct drive_worker *worker, struct drive_conn *conn, uint32_t events);
    /* Where connections do not all start at once: what comes before the first turn; and what is to
     * be done in each, which returns when there will be more to do, UINT64_MAX: after an event. */
    void (*begin)(struct drive_worker *worker);
    uint64_t (*tick)(struct drive_worker *worker, uint64_t now_ns);
};

/* open: when a worker's requests are due. Request `turn` of all its slices is of connection
 * turn % count. */
struct drive_plan {
    double interval_ns;           /* from one to the next */
    uint64_t offset_ns;           /* of the first; the workers are staggered, too */
    uint64_t passed_ns;           /* of the plan, by all slices so far */
    uint64_t duration_ns;         /* of this slice */
    uint64_t began_ns;            /* when turn 0 would have been due */
    uint64_t next, end;           /* the next turn to become due; the first of the next slice */
    uint64_t next_ns;             /* when `next` is due */
    uint64_t over_ns, give_up_ns; /* the slice's end; what is overdue then is not sent any more */
};

struct drive_worker {
    struct drive_target *target;
    struct drive_worker *team; /* all that run with it, `target->threads` of them */
    const struct drive_machine *machine;
    struct drive_conn *conns;
    uint32_t count;
    uint64_t *begun_ns; /* pipeline: when request `seq` was sent, at [conn][seq % depth]; ramp: when
                           the connection was there, 0: it is not */
    uint64_t made;      /* churn: connections so far, to pick source addresses; ramp: those begun */
    struct drive_plan plan; /* open */
    int epoll_fd;
    uint8_t *buffer; /* received bytes; shared by all connections, as they are verified at once */
    cpu_set_t cpus;  /* of its thread, if pinned */
    bool pinned;

    /* of the slice under way */
    uint64_t deadline_ns; /* no request starts later; ignored in a burst */
    uint32_t requests;    /* burst: of each connection; 0: until the deadline */
    uint64_t bound_ns;    /* how long it may take: what is not over by then is reset; 0: any */
    bool more; /* begin, tick: there is more to come than is in flight; counts as one of `active` */
    uint32_t active;   /* connections with something in flight */
    uint64_t check_ns; /* when to look for connections that waited too long */
    uint64_t first_ns, last_ns, end_ns, cpu_ns;
    uint64_t ports_left;          /* churn: connections it may still make */
    bool stalled;                 /* ramp: nothing is answered any more */
    _Atomic uint64_t progress_ns; /* last_ns as of the latest turn, for the others of the team */
    struct driver_slice out;      /* its counts, first error and latencies */
};

struct drive_target {
    struct driver_target spec;
    struct drive_payload payload;
    uint8_t header[WEIR__DRIVE_HEADER_BYTES]; /* of every frame: they are all equally long */
    uint32_t header_bytes;                    /* of a response; 0 for echo and source */
    uint32_t wire_bytes;                      /* of a response, header included */
    uint32_t ask_header_bytes, ask_bytes;     /* the same of a request */
    unsigned threads;
    uint32_t bursts;                     /* so far, to pick source addresses */
    uint32_t ramps;                      /* so far */
    struct drive_worker *closed, *burst; /* `threads` each; burst NULL until needed */
};

static inline uint64_t weir__drive_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* --- driver_target.c: making and ending targets; slices over all their workers -------------- */

/* Copies `spec`, makes the closed workers and opens their connections, where the shape holds any.
 * Returns 0, or -errno with a message in `error` and nothing kept. */
int weir__drive_target_open(struct drive_target *target, const struct driver_target *spec,
                            unsigned threads, const cpu_set_t *cpus, char *error);

/* Resets and closes all connections and frees the rest. -EPROTO if unasked bytes waited on one. */
int weir__drive_target_close(struct drive_target *target, char *error);

/* weir__driver_slice and weir__driver_burst, here in the driver process. */
int weir__drive_target_slice(struct drive_target *target, uint64_t duration_ns,
                             struct driver_slice *out, char *error);
int weir__drive_target_burst(struct drive_target *target, const cpu_set_t *cpus, uint64_t bound_ns,
                             struct driver_slice *out, char *error);

/* Runs the workers, all at once, and sums up what they did. */
int weir__drive_measure(struct drive_target *target, struct drive_worker *workers,
                        struct driver_slice *out, char *error);

/* Fills in what follows from the counts and from the server's CPU time before and after (-1:
 * unknown): server_cpu_ns, driver_bound, verified. */
void weir__drive_judge(struct driver_slice *out, unsigned server_cpus, int64_t cpu_before_ns,
                       int64_t cpu_after_ns);

/* --- driver_connect.c: sockets -------------------------------------------------------------- */

/* The source address number for connection `id`: 0 leaves it to the kernel. */
uint32_t weir__drive_source(const struct drive_target *target, uint32_t id, bool burst);

/* The same for the connection that is `made` by one worker of the churn shape: they take turns, so
 * that the ports of none run out while those before it are in TIME_WAIT. */
uint32_t weir__drive_churn_source(const struct drive_target *target, uint64_t made);

/* How many source addresses the clients of churn, or of bursts one after another, have. */
uint64_t weir__drive_sources(const struct drive_target *target);

/* What to do about a connect that failed with -errno `rc`: ": nothing listens there", or "". */
const char *weir__drive_connect_cure(int rc);

/* A non-blocking socket with the options every socket of a benchmark has, bound to the loopback
 * source of that number. Returns the descriptor, or -errno with a message. */
int weir__drive_socket(const struct drive_target *target, uint32_t source, char *error);

/* Connects all of a worker's connections, 64 at a time, until `deadline_ns`. 0, or -errno of the
 * first that failed with a message; the others are left as they are. */
int weir__drive_connect_all(struct drive_worker *worker, uint64_t deadline_ns, char *error);

/* Begins connecting `conn` from that source. 0; -EADDRNOTAVAIL where there is no port left, and
 * nothing is open or counted; another -errno: it is given up. */
int weir__drive_connect(struct drive_worker *worker, struct drive_conn *conn, uint32_t source);

/* Closes with a reset, where it is open: neither end keeps a TIME_WAIT socket, and a server that
 * was busy with it is free at once. */
void weir__drive_reset(struct drive_conn *conn);

/* Has the worker's epoll watch `conn`. 0 or -errno. */
int weir__drive_watch(struct drive_worker *worker, struct drive_conn *conn);

/* --- driver_ports.c: ports to connect from -------------------------------------------------- */

/* What proc is below: "" is the running system; tests make up another. */
extern const char *weir__drive_root;

/* How many connections may still be made before all ports are in TIME_WAIT, UINT64_MAX: any number.
 * -EADDRNOTAVAIL where there are fewer than clients, with a message. */
int weir__drive_ports_left(const struct drive_target *target, uint64_t *left, char *error);

/* --- driver_worker.c: one worker's slice ---------------------------------------------------- */

/* Runs the worker's share of a slice in the calling thread: results are in the worker. */
void weir__drive_worker_run(struct drive_worker *worker);

/* For the machines. Each of the first three gives the connection up, counts it, and keeps the text
 * if it is the first of the slice. */
__attribute__((format(printf, 3, 4))) void
weir__drive_fail(struct drive_worker *worker, struct drive_conn *conn, const char *format, ...);
void weir__drive_fail_extra(struct drive_worker *worker, struct drive_conn *conn, uint64_t extra);
/* `failure`: errno, or 0 where the server closed. */
void weir__drive_fail_lost(struct drive_worker *worker, struct drive_conn *conn, int failure);

/* Adds what is left of request `seq` of connection `id` from its byte `from` on. Returns the
 * pieces. */
unsigned weir__drive_gather(const struct drive_target *target, uint32_t id, uint64_t seq,
                            uint32_t from, struct iovec iov[2]);

/* Sends what is left of request `seq`, until the socket is full; an EPOLLOUT edge then follows. */
void weir__drive_send(struct drive_worker *worker, struct drive_conn *conn);

/* One recv into the worker's buffer: what recv returns, and errno; never EINTR. */
ssize_t weir__drive_receive(struct drive_worker *worker, const struct drive_conn *conn);

/* Counts the SYNs that were sent again, where the connect begun at since_ns was that slow. */
void weir__drive_count_retries(struct drive_worker *worker, const struct drive_conn *conn,
                               uint64_t now_ns);

/* Compares the next `len` bytes of the response to request `seq`, no more than are left of it.
 * False: they differ; the connection is given up. */
bool weir__drive_verify(struct drive_worker *worker, struct drive_conn *conn, const uint8_t *got,
                        uint32_t len);

/* For begin and tick: whether the slice goes on though nothing may be in flight. */
static inline void weir__drive_more(struct drive_worker *worker, bool more)
{
    worker->active += (uint32_t)more - (uint32_t)worker->more;
    worker->more = more;
}

/* --- the machines --------------------------------------------------------------------------- */

extern const struct drive_machine weir__drive_closed; /* idle and burst, too */
extern const struct drive_machine weir__drive_pipeline;
extern const struct drive_machine weir__drive_churn;
extern const struct drive_machine weir__drive_sink; /* stream towards the server */
extern const struct drive_machine weir__drive_open;
extern const struct drive_machine weir__drive_ramp_machine;

/* driver_open.c: has the next slice of worker `index` follow the plan for so long. */
void weir__drive_plan_prepare(struct drive_worker *worker, unsigned index, uint64_t duration_ns);

/* driver_ramp.c: one ramp, held for so long. */
int weir__drive_ramp(struct drive_target *target, uint64_t hold_ns, struct driver_slice *out,
                     char *error);

/* From when each of `count` connections was there (which are put in order). 0 or -ENOMEM. */
int weir__drive_ramp_steps(uint64_t *done_ns, uint32_t count, uint64_t first_ns,
                           struct driver_ramp *ramp);

/* --- driver_cpu.c --------------------------------------------------------------------------- */

/* CPU time of all threads of the processes and of their descendants, those included that have been
 * waited for, in ns; -1 if there are none or one of `pids` is gone. */
int64_t weir__drive_server_cpu_ns(const pid_t *pids, unsigned count);

/* Those processes and their descendants at the moment, to be freed; NULL (and `*all` 0) where the
 * above is -1. */
pid_t *weir__drive_server_pids(const pid_t *pids, unsigned count, unsigned *all);

struct server_cpu {
    int64_t at_once_ns; /* as first read; -1: unknown */
    int64_t settled_ns; /* as last read: once it stood still, or after 5 ms */
    bool still;         /* it stood still: the server had gone back to its wait */
};

/* Reads the same, and waits for the server to be idle. */
void weir__drive_server_cpu_read(const pid_t *pids, unsigned count, struct server_cpu *cpu);

#endif
