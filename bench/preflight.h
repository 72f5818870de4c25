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

enum limit_verdict {
    LIMIT_OK,
    LIMIT_WARN,    /* works, but slower or with retries */
    LIMIT_MISSING, /* cannot work: do not start */
    LIMIT_UNKNOWN, /* could not be read here */
};

struct limit {
    const char *name; /* "RLIMIT_NOFILE (driver)", "net.core.somaxconn", ...; static */
    uint64_t have;    /* meaningless if LIMIT_UNKNOWN; UINT64_MAX: unlimited */
    uint64_t need;
    enum limit_verdict verdict;
    char cure[192]; /* "" when LIMIT_OK */
};

/* What is about to be run. */
struct limits_need {
    uint64_t driver_conns;   /* connections open at once in the driver, all targets together */
    uint64_t server_conns;   /* the most one server process holds; 0: no server of ours */
    uint64_t conns_per_addr; /* connections to one destination address and port; for the ports */
    uint64_t connect_burst;  /* connects at once to one listener; for the backlogs */
    bool loopback;           /* sources can spread over 127.0.0.0/8 */
};

#define WEIR__LIMITS_MAX 16

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

/* The same with another directory for /proc, which tests make up. */
size_t weir__limits_check_at(const char *proc, const struct limits_need *need,
                             struct limit list[WEIR__LIMITS_MAX]);

/*
 * The pre-flight: 0 if nothing is LIMIT_MISSING. Otherwise -ERANGE, and `text` says in one line
 * what is needed, what there is, and the cure: "RLIMIT_NOFILE (driver): need 40064, have 20000:
 * ulimit -Hn 40064 (...), or fewer --conns".
 */
int weir__limits_require(const struct limits_need *need, char *text, size_t capacity);

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
