/*
 * What the conformance suite of the server models stands on: `weir-bench serve` as a process of its
 * own, clients over real sockets, and what /proc tells of the server. The same tests run for every
 * model and, since they are rows of the same table, for the runtime's engines: the name comes from
 * WEIR_TEST_MODEL, and the model's traits say what it promises. Everything is bounded in time.
 */
#ifndef WEIR_TESTS_LEGACY_MODELS_H
#define WEIR_TESTS_LEGACY_MODELS_H

#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <weir/model.h>

#include "tests/bench/process.h"

/* The server is built as this is. */
#if defined(__SANITIZE_THREAD__)
#define WITH_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WITH_TSAN 1
#endif
#endif
#ifndef WITH_TSAN
#define WITH_TSAN 0
#endif

/* After this a test fails: nothing here is meant to take so long on the slowest machine. */
enum { LIMIT_S = 40 };

/* What is under test, as --engine takes it: "thread", "hsha:reply=io", "epoll:per=connection". */
const char *subject_spec(void);
/* NULL: an engine of the runtime. */
const struct weir_model *subject_model(void);
/* Whether the model has all of these traits; an engine has none of them. */
bool subject_is(unsigned traits);
/* Whether it serves the workload by its nature; a test of one that it does not serve skips. */
bool subject_serves(const char *workload);
void need_workload(const char *workload);
/* Skips where nothing is done by processes of their own. */
void need_worker_processes(void);

/* How many connections it serves at the same time where `wish` of them are wanted, and
 * server_start() is told so: `wish`, or 1. */
unsigned at_once(unsigned wish);

/* --- the server ---------------------------------------------------------------------------------
 */

struct server {
    struct process process; /* .nofile may be set before server_start() */
    struct sockaddr_in address;
};

/* Starts it for so many connections at once and waits until it accepts: SERVER_START(&server, 2,
 * "echo") or (&server, 2, "frame", "--max-frame", "1k"). */
#define SERVER_START(server, conns, ...)                                                           \
    server_start(server, conns, (const char *const[]){__VA_ARGS__, NULL})
/* The first word is the workload, the others are options; NULL ends them. */
void server_start(struct server *server, unsigned conns, const char *const *words);

/* Runs `serve` to its end and returns its exit status; what it said is in the process. Options end
 * with NULL. */
int server_run(struct process *process, const char *engine, const char *const *options);

/* SIGTERM; it ends with 0, leaves no process, and no sanitizer had anything to say. */
void server_stop(struct server *server);
/* It ends by itself from now on, with that exit status (128 + a signal's number). So do its
 * workers, and where it ended well it has waited for them. */
void server_ends(struct server *server, int status);

/* One of the counters that SIGUSR1 prints. */
uint64_t server_counter(struct server *server, const char *name);
/* Until the counter is at least `least`. */
void await_counter(struct server *server, const char *name, uint64_t least);

/* Stops and continues the server and its workers, so that what is sent in between is all there when
 * they go on. */
void server_freeze(const struct server *server);
void server_thaw(const struct server *server);

/* What the server and its workers hold. */
struct footprint {
    unsigned processes; /* zombies not included */
    unsigned zombies;
    unsigned threads;
    unsigned descriptors;
};
struct footprint footprint_of(const struct server *server);
/* Until no part of it is larger than `most`. */
void await_footprint(const struct server *server, struct footprint most);

/* Seconds of CPU that it and its live workers have taken. */
double cpu_of(const struct server *server);

enum { CHILDREN_MOST = 256 };
/* The live children of a process: how many, and which. */
unsigned children_of(pid_t parent, pid_t children[CHILDREN_MOST]);

/* --- clients ------------------------------------------------------------------------------------
 */

/* A connected, blocking socket whose calls give up after LIMIT_S. */
int client(const struct server *server);
/* The same, which has told its peer of a small window. */
int client_small(const struct server *server);
/* Closing sends a reset. */
void close_by_reset(int fd);
/* Ends its own side; what comes is still read. */
void half_close(int fd);

/* Sends `out` while it receives, which must be `in` to the last byte. */
void talk(int fd, const void *out, size_t out_bytes, const void *in, size_t in_bytes);
void send_whole(int fd, const void *data, size_t bytes);
void receive_whole(int fd, const void *expected, size_t bytes);
/* What is sent comes back. */
void expect_echo(int fd, const void *data, size_t bytes);
void expect_text(int fd, const char *text);
/* End of stream, with nothing before it. */
void expect_eof(int fd);
/* The connection has ended, in whatever way; what came before is dropped. */
void expect_end(int fd);
/* Whether an echo of `text` comes back; false: the connection has ended. */
bool is_served(int fd, const char *text);
/* Connects and asks, again where it is turned away, until one is served. */
void await_service(const struct server *server);
/* All that was sent has reached the server's kernel. */
void await_arrival(int fd);
/* Sends and never reads, until no more goes out. Returns the bytes that did. */
size_t send_until_stuck(int fd, const uint8_t *data, size_t bytes);

/* Bytes that tell where they stand; the caller frees. */
uint8_t *pattern(size_t bytes, uint32_t seed);
void pause_ms(unsigned ms);
/* Seconds of a clock that is never set. */
double clock_s(void);

#endif
