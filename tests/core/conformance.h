/*
 * The conformance suite: one text, run on every engine, on every tier of io_uring and in both ways
 * to serve. It knows <weir/weir.h> and plain blocking sockets, and never which engine runs:
 * WEIR_TEST_ENGINE holds its spec ("uring:features=-buffer_ring", "epoll:per=connection").
 *
 * Here: checks that hold in any thread and task, a loop on a thread of its own (struct
 * conf_server), and the other end of its connections (peer_…), which is made of blocking calls with
 * a time limit, so that a hang is a failed test. conformance.c is the harness, conformance_*.c are
 * the tests.
 */
#ifndef WEIR_TESTS_CORE_CONFORMANCE_H
#define WEIR_TESTS_CORE_CONFORMANCE_H

#include <criterion/criterion.h>

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <weir/weir.h>

/* ---- tests and checks ------------------------------------------------------------------------ */

/* A test: its body, between looking at the process before and after (no descriptor and no thread
 * may be left). */
#define CONFORMANCE(name)                                                                          \
    static void name(void);                                                                        \
    Test(conformance, name)                                                                        \
    {                                                                                              \
        struct conf_process before = conf_process_look();                                          \
        name();                                                                                    \
        struct conf_process after = conf_process_settled(before);                                  \
        cr_assert_eq(after.fds, before.fds, "%s: %d descriptors before, %d after", conf_spec(),    \
                     before.fds, after.fds);                                                       \
        cr_assert_eq(after.threads, before.threads, "%s: %d threads before, %d after",             \
                     conf_spec(), before.threads, after.threads);                                  \
    }                                                                                              \
    static void name(void)

struct conf_process {
    int fds;
    int threads;
};
struct conf_process conf_process_look(void);
/* As it is once no thread is left beside those before: a joined one may still show for a moment. */
struct conf_process conf_process_settled(struct conf_process before);

/* The engine under test, as weir_loop_options.engine takes it. */
const char *conf_spec(void);
/* `large`, or a part of it where a sanitizer or Valgrind makes everything slower. */
unsigned conf_scale(unsigned large);

/* Why weir_process_spawn() cannot work here (Linux before 5.3, Valgrind), or NULL. */
const char *conf_no_children(void);

/* What the running test is at, for the message of a check; NULL: its name says it. */
extern const char *conf_about;
/* Prints and aborts: unlike Criterion's assertions, which jump, it is right in every thread and on
 * every stack, and it needs little of that. */
_Noreturn void conf_fail(const char *place, const char *what, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define check(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition))                                                                          \
            conf_fail(WEIR_CORO_PLACE, #condition, " " __VA_ARGS__);                               \
    } while (0)

/* check_int(weir_recv(conn, &buf), ==, 5) */
#define check_int(left, operator, right)                                                           \
    do {                                                                                           \
        int64_t left_is_ = (int64_t)(left), right_is_ = (int64_t)(right);                          \
        if (!(left_is_ operator right_is_))                                                        \
            conf_fail(WEIR_CORO_PLACE, #left " " #operator" " #right, " %lld and %lld",            \
                      (long long)left_is_, (long long)right_is_);                                  \
    } while (0)

/* ---- a loop on its own thread ---------------------------------------------------------------- */

struct conf_server {
    /* The caller's: engine is filled in; without listen.handler there is no listener. */
    struct weir_loop_options options;
    struct weir_listen_options listen;
    void (*setup)(struct conf_server *server); /* on the loop's thread, before weir_loop_run() */
    void (*ended)(struct conf_server *server); /* after it, before weir_loop_free() */
    void *argument;

    /* From conf_start() on. */
    struct weir_loop *loop;
    struct weir_listener *listener;
    struct sockaddr_storage address;
    socklen_t address_bytes;
    int per_burst;

    /* From conf_join() on. */
    int result;                   /* of weir_loop_run() */
    struct weir_loop_stats stats; /* when it had returned */

    pthread_t thread;
    sem_t ready;
};

/* Opens the loop, listens, and runs. */
void conf_start(struct conf_server *server);
/* Waits until weir_loop_run() has returned, checks that nothing is left, and frees the loop. */
void conf_join(struct conf_server *server);
/* weir_loop_stop() and conf_join(). */
void conf_stop(struct conf_server *server);
/* Runs fn(argument) on the loop's thread and waits for it. */
void conf_call(struct conf_server *server, void (*fn)(void *argument), void *argument);
void conf_stats(struct conf_server *server, struct weir_loop_stats *stats);
/* Waits until that many connections are open; each must be so in the end. */
void conf_await_conns(struct conf_server *server, uint64_t conns);

/* A loop without a listener on the calling thread: runs fn(argument) as a task until all is done.
 */
void conf_run(const struct weir_loop_options *options, weir_task_fn *fn, void *argument);
/* In a task: lets every other task get to where it waits. */
void conf_settle(void);

/* Handlers that many tests use. */
void conf_echo(struct weir_conn *conn, void *argument);
void conf_echo_copying(struct weir_conn *conn, void *argument); /* by weir_send_all() */
void conf_discard(struct weir_conn *conn, void *argument);

/* ---- the other end --------------------------------------------------------------------------- */

enum { PEER_SECONDS = 40 }; /* no call on a peer's socket lasts longer; it fails then */

int peer_socket(int family);
/* With socket buffers of that size; 0: the system's. */
int peer_connect_sized(const struct conf_server *server, int receive_bytes, int send_bytes);
int peer_connect(const struct conf_server *server);
void peer_connect_address(int fd, const struct sockaddr_storage *address, socklen_t address_bytes);
void peer_connect_fd(int fd, const struct conf_server *server);
/* A listening socket on 127.0.0.1 that is not weir's; 0 for the system's receive_bytes. */
int peer_listen(struct sockaddr_storage *address, socklen_t *address_bytes, int backlog,
                int receive_bytes);

/* A listening socket whose backlog is full drops further SYNs: connecting there never ends. */
struct peer_full {
    struct sockaddr_storage address;
    socklen_t address_bytes;
    int listening, filling;
};
void peer_fill(struct peer_full *full);
void peer_unfill(struct peer_full *full);

void peer_send(int fd, const void *data, size_t bytes);
/* Up to `bytes`; fewer at EOF only. */
size_t peer_recv(int fd, void *data, size_t bytes);
/* The next bytes are exactly these. */
void peer_expect(int fd, const void *data, size_t bytes);
/* Reads on to the end: 0 for EOF, or -ECONNRESET; `bytes` (may be NULL) gets how many came before.
 */
int peer_end(int fd, uint64_t *bytes);
/* With `count` descriptors, over a Unix socket, as any program would. */
void peer_send_fds(int fd, const void *data, size_t bytes, const int *fds, unsigned count);
/* Waits until all that was sent has arrived at the other end's socket. */
void peer_await_arrival(int fd);
void peer_shutdown(int fd);
void peer_close(int fd);
void peer_reset(int fd); /* closes with RST */

/* A stream of bytes that every position of every seed can be checked in. */
void pattern_fill(void *data, size_t bytes, uint64_t seed, uint64_t offset);
void pattern_check(const void *data, size_t bytes, uint64_t seed, uint64_t offset);
/* Bytes [offset, offset + bytes) of the stream: sent; received and checked; sent and received back.
 */
void peer_send_pattern(int fd, size_t bytes, uint64_t seed, uint64_t offset);
void peer_recv_pattern(int fd, size_t bytes, uint64_t seed, uint64_t offset);
void peer_echo(int fd, size_t bytes, uint64_t seed);

/* Sends a pattern from a thread of its own, so that the caller can read meanwhile. */
struct peer_pump {
    int fd;
    size_t bytes;
    size_t piece_bytes; /* of one send; 0: as large as may be */
    uint64_t seed;
    bool shutdown; /* after the last byte */
    _Atomic size_t sent;
    pthread_t thread;
};
void peer_pump_start(struct peer_pump *pump);
void peer_pump_join(struct peer_pump *pump);

#endif
