/*
 * The server processes of a comparison: each is started with its CPUs, watched, and stopped. A
 * server is `weir-bench serve` or any command that prints the ready line of CLI.md. compare.c calls
 * this from its one thread; nothing here talks to a server but by signals, and nothing here
 * measures.
 *
 * A server leads a process group of its own, so that Ctrl-C reaches compare alone, which then stops
 * the servers in order; and it dies with compare (PR_SET_PDEATHSIG).
 */
#ifndef WEIR_BENCH_SERVERS_H
#define WEIR_BENCH_SERVERS_H

#include <netinet/in.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

enum {
    SERVER_TEXT_BYTES = 512,
    SERVER_PIDS_MAX = 16384, /* a process for each connection, and some */
};

enum server_state {
    SERVER_NONE,     /* never started, or stopped and forgotten */
    SERVER_STARTING, /* started, no ready line yet */
    SERVER_READY,
    SERVER_SKIPPED, /* it said that it cannot run here (exit status 3 before its ready line) */
    SERVER_MISUSED, /* it refused its arguments (exit status 2 before its ready line) */
    SERVER_FAILED,  /* it died, or never got ready; `how` says how */
    SERVER_STOPPED, /* ended because it was told to */
};

/* How to start one. Everything is read during weir__server_start only. */
struct server_spec {
    const char *name;      /* for messages and WEIR_NAME */
    char *const *argv;     /* NULL-terminated, argv[0] a path; or NULL, then: */
    const char *command;   /* a shell command, run as sh -c "exec COMMAND" */
    const char *engine;    /* the ready line must name this engine; NULL: any */
    const char *workload;  /* and this workload, if it names one */
    const char *listen;    /* for WEIR_LISTEN in the environment */
    unsigned workers;      /* for WEIR_WORKERS */
    const cpu_set_t *cpus; /* where it may run; NULL: anywhere */
};

struct server {
    enum server_state state;
    pid_t pid;
    bool paused;
    int out_fd;                   /* its standard output, a non-blocking pipe */
    int err_fd;                   /* its standard error, a memory file */
    struct sockaddr_storage addr; /* from the ready line */
    socklen_t addr_len;
    char features[SERVER_TEXT_BYTES]; /* as granted; "" where the ready line has none */
    bool has_features;
    char how[SERVER_TEXT_BYTES]; /* why SKIPPED or FAILED */
    char line[2048];             /* standard output so far, until the ready line */
    size_t line_length;
    char engine[64];
    char workload[64];
};

/* Starts the process; it is then STARTING, or FAILED with `how`. Returns 0 or -errno (also in
 * `how`). */
int weir__server_start(struct server *server, const struct server_spec *spec);

/* Waits for the ready line until `deadline_ns` (CLOCK_MONOTONIC). READY: 0. Otherwise SKIPPED or
 * FAILED, the process is gone, `how` says why, and the return is -EOPNOTSUPP or -ECHILD. -EINTR: a
 * signal came, the server is STARTING still. */
int weir__server_wait_ready(struct server *server, uint64_t deadline_ns);

/* Looks whether it still lives; a server that died becomes FAILED with `how`. Never blocks. */
bool weir__server_alive(struct server *server);

/* Stops its processes where they are, and lets them go on. A server that is paused is alive. Does
 * nothing to one that does not run. */
void weir__server_pause(struct server *server);
void weir__server_resume(struct server *server);

/* Asks it to stop (SIGTERM) without waiting; one that was paused goes on to do so. */
void weir__server_terminate(struct server *server);

/*
 * Waits for a terminated server until `deadline_ns`, then kills its group. It becomes STOPPED; or
 * FAILED where it needed the kill, or ended with neither status 0 nor SIGTERM. All descriptors are
 * closed.
 */
void weir__server_reap(struct server *server, uint64_t deadline_ns);

/* Kills what may still run and closes everything, whatever the state. */
void weir__server_deinit(struct server *server);

/* The process and its descendants, parents first. Returns how many; 1 where the kernel does not
 * list children (CONFIG_PROC_CHILDREN). */
unsigned weir__server_pids(const struct server *server, pid_t pids[SERVER_PIDS_MAX]);

/* Resident bytes of all its processes now, and at most so far (VmRSS, VmHWM); false: unknown. */
bool weir__server_memory(const struct server *server, double *rss, double *rss_peak);

/* How many CPUs it could keep busy at once: its threads, at most `cpus`; at least 1. */
unsigned weir__server_parallelism(const struct server *server, unsigned cpus);

/* The last non-empty line of its standard error, "" if it said nothing. */
void weir__server_last_words(const struct server *server, char *text, size_t bytes);

/* Reads "ready engine=… workload=… listen=… features=…" into `server`. 0, or -EBADMSG with `how`.
 */
int weir__server_parse_ready(struct server *server, char *line);

#endif
