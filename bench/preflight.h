/*
 * What stands between here and N connections, found out before anything starts. `compare`, `load`,
 * `serve` and `doctor` ask here; nothing here opens more than one socket or changes the system,
 * but for raising this process's own soft descriptor limit. (Not called limits.h: that name is
 * the C library's, and a build may search this folder first.)
 */
#ifndef WEIR_BENCH_PREFLIGHT_H
#define WEIR_BENCH_PREFLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "bench/shape.h"

enum limit_verdict {
    LIMIT_OK,
    LIMIT_WARN,    /* works, but slower or with retries */
    LIMIT_MISSING, /* cannot work: do not start */
    LIMIT_UNKNOWN, /* could not be read here */
};

enum limit_unit {
    LIMIT_COUNT,
    LIMIT_BYTES,
    LIMIT_WORD, /* no numbers: `have_word` and `need_word` */
};

struct limit {
    const char *name; /* "RLIMIT_NOFILE (driver)", "net.core.somaxconn", ...; static */
    enum limit_unit unit;
    uint64_t have; /* meaningless if LIMIT_UNKNOWN; UINT64_MAX: unlimited */
    uint64_t need;
    const char *have_word, *need_word; /* LIMIT_WORD: "filter" and "none"; static */
    enum limit_verdict verdict;
    char note[256]; /* what the numbers do not say; mostly "" */
    char cure[256]; /* "" when LIMIT_OK */
};

/* What the library said when it was asked for io_uring; this file is not linked with it. */
struct limits_uring {
    int result;     /* 0, or the -errno of opening a loop on it */
    bool needed;    /* else epoll takes its place */
    char text[256]; /* what was granted, or why it failed and the cure */
};

/* What is about to be run. */
struct limits_need {
    uint64_t driver_conns;   /* connections open at once in the driver, all targets together */
    uint64_t server_conns;   /* the most one server process holds; 0: no server of ours */
    uint64_t conns_per_addr; /* connections to one destination address and port; for the ports */
    uint64_t connect_burst;  /* connects at once to one listener; for the backlogs */
    bool loopback;           /* sources can spread over 127.0.0.0/8, both ends are here */
    uint64_t threads;        /* that servers start, in one process */
    uint64_t stack_bytes;    /* of each; 0: what pthread_create(3) takes */
    uint64_t processes;      /* that servers start */
    const struct limits_uring *uring; /* NULL: nobody asks for it */
};

#define WEIR__LIMITS_MAX 40

/* Descriptors this program needs beside its connections. */
#define WEIR__LIMITS_SPARE_FDS 64

/*
 * Raises the soft RLIMIT_NOFILE to the hard one (children inherit it). Returns 0, or -errno of
 * setrlimit.
 */
int weir__limits_raise_nofile(void);

/*
 * Fills `list` with every limit between here and `need`, in the order a reader should meet them.
 * Returns how many. Raises the soft descriptor limit first.
 */
size_t weir__limits_check(const struct limits_need *need, struct limit list[WEIR__LIMITS_MAX]);

/* The same where the folders proc and sys are below `root`, which tests make up. */
size_t weir__limits_check_at(const char *root, const struct limits_need *need,
                             struct limit list[WEIR__LIMITS_MAX]);

/*
 * The pre-flight: 0 if nothing is LIMIT_MISSING. Otherwise -ERANGE, and `text` says in one line
 * what is needed, what there is, and the cure: "RLIMIT_NOFILE (driver): need 40064, have 20000:
 * ulimit -Hn 40064 (...), or fewer --conns".
 */
int weir__limits_require(const struct limits_need *need, char *text, size_t capacity);

/* One server of a table, before it is started. */
struct limits_cell {
    const char *engine;    /* as the row is called: the reason begins with it */
    unsigned traits;       /* enum weir_model_trait; 0: an engine of the runtime */
    unsigned workers;      /* that it is told to have: --workers */
    enum shape_kind shape; /* how the driver uses its connections */
    uint64_t conns;        /* 0: not known, as in `serve`: only its pool is checked */
    uint64_t backlog;      /* of listen(2); 0: the system's most */
};

/*
 * Whether this server can do its cell on this machine. 0; or -ERANGE, and `text` says why in one
 * line: "thread: 10000 threads need 10064 of kernel.threads-max, have 4900: sysctl ...",
 * "iterative: backlog 4096 < 10000: ...". What all rows share (descriptors, ports, ...) is not
 * looked at: weir__limits_require() does, once for the whole table.
 */
int weir__limits_cell(const struct limits_cell *cell, char *text, size_t capacity);
int weir__limits_cell_at(const char *root, const struct limits_cell *cell, char *text,
                         size_t capacity);

/* Its parts. What the model's nature forbids, 0 or -ERANGE as above; and how many workers it
 * starts, which are put into `need`. */
int weir__limits_nature_at(const char *root, const struct limits_cell *cell, char *text,
                           size_t capacity);
uint64_t weir__limits_workers(const struct limits_cell *cell, struct limits_need *need);

/* What is asked for, or there, in words: "10000", "78.1 GiB", "unlimited", "?". */
void weir__limit_need(const struct limit *limit, char *text, size_t capacity);
void weir__limit_have(const struct limit *limit, char *text, size_t capacity);

/* The most that listen(2) grants: net.core.somaxconn; 0: unknown. */
uint64_t weir__limits_backlog(void);

/*
 * Reads "127.0.0.1:7000", "[::1]:7000" or "localhost:7000". Returns 0; -EINVAL with a message in
 * `text` when it is not HOST:PORT or the host does not resolve.
 */
int weir__limits_address(const char *host_port, struct sockaddr_storage *addr, socklen_t *addr_len,
                         char *text, size_t capacity);

/*
 * Tries whether one may listen on `addr` (binds and closes again; port 0 is always free). Returns
 * 0, or -EADDRINUSE, -EADDRNOTAVAIL, -EACCES ... with a message in `text` that names the address
 * and the cure.
 */
int weir__limits_listen(const struct sockaddr_storage *addr, socklen_t addr_len, char *text,
                        size_t capacity);

#endif
