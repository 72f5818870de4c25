/*
 * Weir: a runtime for servers written as straight-line code.
 *
 * A handler is a coroutine: it receives, computes and sends, and every wait becomes one completion
 * of the engine underneath: io_uring, or an epoll, poll or select reactor, chosen by name.
 *
 *     static void echo(struct weir_conn *conn, void *argument)
 *     {
 *         struct weir_buf buf = {0};
 *         while (weir_recv(conn, &buf) > 0)
 *             weir_send(conn, &buf);
 *     }
 *
 * Words: a *loop* is one thread with one engine, its connections, timers and coroutines. A *task*
 * is a coroutine the loop runs. A *deadline* is an absolute time of weir_now_ns(); WEIR_FOREVER is
 * none. Calls return `>= 0` or `-errno`: -ETIME past a deadline, the call's or its scope's
 * (weir/scope.h), -ECANCELED when cancelled or stopping.
 *
 * Threads: everything belongs to the loop's thread, but for what says "any thread": weir_post(),
 * weir_loop_stop() and weir_dump_request() are how others reach a loop, and what is WEIR_ACROSS
 * (weir/sync.h) is shared. "In a task" means: called by a handler or a spawned function; such a
 * call may suspend the task. Calling it elsewhere asserts.
 */
#ifndef WEIR_WEIR_H
#define WEIR_WEIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <weir/channel.h>
#include <weir/clock.h>
#include <weir/coro.h>
#include <weir/dial.h>
#include <weir/file.h>
#include <weir/inspect.h>
#include <weir/local.h>
#include <weir/pipe.h>
#include <weir/process.h>
#include <weir/scope.h>
#include <weir/sync.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define WEIR_FOREVER UINT64_MAX

struct weir_loop;
struct weir_conn;
struct weir_listener;
struct weir_task;

/* ---- the loop -------------------------------------------------------------------------------- */

struct weir_loop_options {
    /* "auto", or a name of weir_engines(), with options behind a colon:
     * "uring:features=-multishot_recv,-buffer_ring" or "epoll:per=connection". NULL: "auto". */
    const char *engine;
    uint32_t conns_max;   /* connections at which accepting pauses (what is accepted by then may
                             go beyond); 0: what RLIMIT_NOFILE allows */
    uint32_t bufs;        /* lent buffers in the pool, at most 32767; 0: 1024 */
    uint32_t buf_bytes;   /* size of each; 0: 65536 */
    uint32_t ring_bufs;   /* provided-buffer ring entries, a power of two; 0: engine's default */
    uint32_t unsent_max;  /* bytes handed over and unsent at which a sender waits; 0: 262144 */
    uint32_t helpers_max; /* threads for blocking calls, started on demand; 0: 4 */
    uint32_t calls_max;   /* blocking calls queued before callers wait in line; 0: 1024 */
    uint64_t drain_ns;    /* after weir_loop_stop(): how long work in flight may take; 0: 5 s */
    const struct weir_coro_options *coro; /* stacks and their trim; NULL: defaults */
};

/* Opens a loop on the calling thread, which is the one to run it. `options` may be NULL.
 * 0, or -errno with one line in `why` (what failed, why, the cure): -EINVAL for an unknown engine
 * or option, the engine's own error if a named one cannot run here. `auto` never fails for the lack
 * of io_uring: weir_loop_engine_note() says what it took and why. */
int weir_loop_new(struct weir_loop **loop, const struct weir_loop_options *options, char *why,
                  size_t why_bytes);
/* Frees a loop that is not running. Open connections and listeners are closed (reset where bytes
 * are unsent), and tasks that are left are cancelled and run to their end. After an engine's
 * failure no task runs any more: their stacks are dropped as they are, and what they held is lost;
 * connections are closed, `closed` is called for each, and blocking calls that have begun are
 * waited for. */
void weir_loop_free(struct weir_loop *loop);

/* Serves until weir_loop_stop() and everything in flight is done, or until there is nothing left
 * that could ever happen (no listener, connection, task, or call). 0, or the engine's -errno: it is
 * broken, the loop has ended where it stood, and is only to be freed. */
int weir_loop_run(struct weir_loop *loop);

/* Asks the loop to end: listeners close; what has come into the sockets by then is received and
 * served; idle connections close, a task that waits for input gets -ECANCELED, everything else has
 * drain_ns to finish, then is cancelled. Any thread, and from a signal handler. Again: no effect.
 */
void weir_loop_stop(struct weir_loop *loop);
/* Cancels everything at once; after weir_loop_stop(), loop's thread only. */
void weir_loop_stop_now(struct weir_loop *loop);

/* The loop this thread is running, or NULL. */
struct weir_loop *weir_loop_self(void);
/* The engine in use, e.g. "uring". */
const char *weir_loop_engine(const struct weir_loop *loop);
/* How `auto` chose, e.g. "io_uring unavailable: EPERM, ...; using epoll"; "" if the engine was
 * named. */
const char *weir_loop_engine_note(const struct weir_loop *loop);
/* What the engine was granted: names, comma separated; owned by the loop. */
const char *weir_loop_features(const struct weir_loop *loop);
/* 1 if a connection's handler runs once per burst of input (the default), 0 if per connection. */
int weir_loop_per_burst(const struct weir_loop *loop);

/* Names of the engines in this build, best first; NULL-terminated. */
const char *const *weir_engines(void);
/* One line about an engine, or NULL if there is none of that name; and its feature names (NULL-
 * terminated, may be NULL). */
const char *weir_engine_summary(const char *name);
const char *const *weir_engine_features(const char *name);

struct weir_loop_stats {
    uint64_t turns;            /* of the loop */
    uint64_t waits;            /* that entered the kernel; completions / waits is how many each
                                  brings */
    uint64_t syscalls;         /* of the engine, waits included */
    uint64_t completions;      /* delivered by the engine */
    uint64_t resumes;          /* of coroutines */
    uint64_t bursts;           /* handler runs, per=burst */
    uint64_t ops;              /* given to the engine or a helper thread */
    uint64_t runnable;         /* tasks that wait for their turn now */
    uint64_t run_peak;         /* most tasks resumed in one turn, bursts aside */
    uint64_t accepted, closed; /* connections */
    uint64_t conns;            /* open now */
    uint64_t tasks;            /* alive now */
    uint64_t bytes_in, bytes_out;
    uint64_t rearms, enobufs, overflows, wakes;
    uint64_t starved;       /* times a connection waited for a buffer */
    uint64_t accept_pauses; /* accept stopped at conns_max, or for want of descriptors, memory… */
    uint64_t accept_drops;  /* peers accepted and closed for want of memory or stacks */
    uint64_t handed_over;   /* peers accepted for other shards */
    uint64_t send_errors;   /* connections that failed with handed-over bytes unsent */
    uint64_t bufs_free, bufs; /* the pool */
    uint64_t timers;          /* armed now */
    uint64_t calls;           /* blocking calls made on helper threads */
    uint64_t rests;           /* quiet connections that went over to a cheaper way to wait */
};
void weir_loop_stats(const struct weir_loop *loop, struct weir_loop_stats *stats);
/* The stack pool's own counters: weir_coro_pool_stats(weir_loop_coros(loop), …). */
struct weir_coro_pool *weir_loop_coros(const struct weir_loop *loop);

/* ---- from other threads ---------------------------------------------------------------------- */

/* A message to a loop. The memory is the sender's until `fn` runs on the loop's thread; `fn` may
 * free it. `fn` must not wait: it spawns a task if it has to. */
struct weir_post {
    void (*fn)(struct weir_post *post);
    struct weir_post *next; /* weir's own */
};
/* Any thread. 0, or -ESHUTDOWN once the loop has ended (then fn never runs). Messages of one sender
 * arrive in order. */
int weir_post(struct weir_loop *loop, struct weir_post *post);

/* ---- tasks ----------------------------------------------------------------------------------- */

typedef void weir_task_fn(void *argument);

/* Starts fn(argument) as a task; it runs from the loop's next step, not inside this call. The
 * loop's thread. With `task` not NULL the task must be joined once; with NULL it is detached. The
 * name and place show in reports. 0, -EAGAIN (out of stacks or memory), -ECANCELED (the loop is
 * ending). */
int weir_spawn_at(struct weir_loop *loop, struct weir_task **task, weir_task_fn *fn, void *argument,
                  const char *name, const char *place);
#define weir_spawn(loop, task, fn, argument)                                                       \
    weir_spawn_at(loop, task, fn, argument, #fn, WEIR_CORO_PLACE)

/* Waits in a task until `task` has ended, and frees it: 0. -ETIME, -ECANCELED: it is not joined and
 * not freed; cancel it and join again. */
int weir_join(struct weir_task *task, uint64_t deadline_ns);
/* Every wait of `task`, the present one and all to come, ends with -ECANCELED (a result that is
 * already there is delivered first). The loop's thread. Again: no effect. */
void weir_task_cancel(struct weir_task *task);
/* The running task; NULL outside of one. */
struct weir_task *weir_task_self(void);

/* Monotonic nanoseconds now. Any thread. */
uint64_t weir_now_ns(void);
/* Waits in a task. 0; -ECANCELED, or -ETIME by the deadline of a scope. */
int weir_sleep_until(uint64_t deadline_ns);
/* Lets other tasks run, and input come in: until the loop's next turn. 0, or -ECANCELED, -ETIME as
 * above, at once. */
int weir_yield(void);
/* Runs fn(argument) on a helper thread while the task waits; what it returns (>= 0 or -errno).
 * -ETIME, -ECANCELED only if it never began; once begun it is waited for. -EAGAIN where not one
 * thread could be started. `argument` is shared with that thread meanwhile. */
int weir_blocking(int (*fn)(void *argument), void *argument, uint64_t deadline_ns);
/* Calls fn(argument) on a borrowed stack of at least stack_bytes: for code that is deeper than a
 * coroutine's stack and does not block (printf of doubles, a parser that recurses, a TLS
 * handshake). It is the same task, and fn may wait. What fn returns, or without having called it
 * -E2BIG (the most is 128 times the loop's stack size, and by default 1 MiB), -EAGAIN or -ENOMEM
 * (no stack to be had). Outside a task this is a plain call. Any thread. */
int weir_on_big_stack(int (*fn)(void *argument), void *argument, size_t stack_bytes);

/* ---- connections ----------------------------------------------------------------------------- */

/* Serves one connection. per=connection: called once, returning closes it. per=burst: called
 * whenever input has come, on a coroutine lent for that time; it returns when weir_recv() says
 * -EAGAIN, and the connection stays; what must outlive the burst is in weir_conn_state(). In both:
 * after weir_recv() returned 0 or an error but -EAGAIN and -ETIME, or after weir_conn_close(),
 * returning closes it, once all that was handed over is sent. The loop `while (weir_recv(…) > 0)`
 * is right for both. */
typedef void weir_handler_fn(struct weir_conn *conn, void *argument);

struct weir_listen_options {
    const char *address;    /* numeric IPv4 or IPv6; NULL: "127.0.0.1"; "unix:/path": a Unix socket,
                               whose path must not exist yet, and is removed when the accepting
                               ends; "unix:@name": one of unix(7)'s abstract names */
    uint16_t port;          /* 0: a free one, see weir_listener_address() */
    unsigned mode;          /* permissions of a Unix socket's path; 0: what umask leaves */
    bool fds;               /* Unix: connections may receive descriptors, weir_conn_recv_fds();
                               -EINVAL where the loop's buf_bytes is below 512 */
    int backlog;            /* 0: SOMAXCONN */
    int fd;                 /* > 0: a listening socket of the caller's, for which the fields above,
                               reuseport and congestion do not count; taken over, and closed also
                               where weir_listen() fails */
    int reuseport;          /* several listeners share the port */
    const char *congestion; /* TCP_CONGESTION of the sockets; NULL: the system's */
    size_t state_bytes;     /* per connection, zeroed at accept: weir_conn_state() */
    /* The last call for a connection, whose descriptor is closed by then; may be NULL; must not
     * wait. */
    void (*closed)(struct weir_conn *conn, void *argument);
    weir_handler_fn *handler;
    void *argument;
};

/* Listens and serves. The options are copied. TCP_NODELAY is set. 0; -EADDRINUSE, -EACCES,
 * -EINVAL…, with one line in `why`. */
int weir_listen(struct weir_loop *loop, struct weir_listener **listener,
                const struct weir_listen_options *options, char *why, size_t why_bytes);
/* Stops accepting and gives the listener up; its connections live on. A loop that stops ends the
 * accepting of all its listeners, and weir_loop_free() frees those not given up: until then this
 * may be called, once. */
void weir_listener_close(struct weir_listener *listener);
/* The address it is bound to. 0 or -errno. */
int weir_listener_address(const struct weir_listener *listener, struct sockaddr_storage *address,
                          socklen_t *address_bytes);

/* A lent buffer. `{0}` holds none. data and len may be narrowed to a part before sending. */
struct weir_buf {
    uint8_t *data;
    uint32_t len;
    uint32_t id; /* weir's own; 0: none */
};

/* The next bytes of the connection, in a buffer lent until it is sent, returned, or received into
 * again (a buffer still in *buf is returned first). In a task; one task at a time for a connection.
 * > 0: bytes. 0: EOF. -EAGAIN, per=burst only: nothing more has come; return from the handler (a
 * handler that has had its share of this turn gets it, too, and is called again).
 * -ECANCELED: the loop is stopping, or the task was cancelled. Other -errno: the connection failed,
 * maybe at an earlier handed-over send. */
int weir_recv(struct weir_conn *conn, struct weir_buf *buf);
/* The same, but waits in both modes, until the deadline: -ETIME. */
int weir_recv_until(struct weir_conn *conn, struct weir_buf *buf, uint64_t deadline_ns);

/* Any task of the loop may send, in a handler or not. What two tasks send keeps no order between
 * them, but each call's bytes stay together. A call that waits when the connection closes ends with
 * -ESHUTDOWN. A task that does not serve the connection keeps weir_conn_id(), and asks
 * weir_conn_find() after each wait for anything else.
 *
 * Hands the buffer over: the call returns at once, the bytes leave with all sends of this turn, in
 * the order of the calls, all of them or the connection fails; that failure shows at its next call.
 * *buf holds none afterwards, whatever is returned. It waits, first, while more than unsent_max is
 * unsent. In a task. The number of bytes, or -errno: then nothing was handed over. */
int weir_send(struct weir_conn *conn, struct weir_buf *buf);
/* Sends `bytes` bytes (at most INT32_MAX) after all handed over before, and waits until the kernel
 * has them all; the memory stays the caller's. In a task. `bytes`, or -errno (an unknown part was
 * sent: close). */
int weir_send_all(struct weir_conn *conn, const void *data, size_t bytes);
int weir_send_all_until(struct weir_conn *conn, const void *data, size_t bytes,
                        uint64_t deadline_ns);

/* Hands memory over that stays as it is until the loop is freed (a constant, a file's contents kept
 * for all to come): like weir_send(), without a copy and mostly without a wait, so that several
 * such calls of a turn leave in one piece. It waits, besides, for its own bytes where they are more
 * than unsent_max, or buffers are scarce. In a task. `bytes` (at most INT32_MAX), or -errno (a
 * part may have been sent: close). */
int weir_send_static(struct weir_conn *conn, const void *data, size_t bytes);

/* An empty buffer of weir_buf_bytes() from the pool, to fill and send: 0. Waits in a task while all
 * are lent; hold none while you wait. -ETIME, -ECANCELED. */
int weir_buf_get(struct weir_loop *loop, struct weir_buf *buf, uint64_t deadline_ns);
/* Returns a buffer unsent; one that holds none is allowed. */
void weir_buf_put(struct weir_loop *loop, struct weir_buf *buf);
uint32_t weir_buf_bytes(const struct weir_loop *loop);

/* Connects from a task, over TCP or a Unix socket (whose full backlog is waited for, by asking
 * again every 10 ms at most): a connection that the caller reads, writes and closes with
 * weir_conn_close(), which no handler serves. 0, -ECONNREFUSED, -ETIME, … */
int weir_connect(struct weir_loop *loop, struct weir_conn **conn, const struct sockaddr *address,
                 socklen_t address_bytes, uint64_t deadline_ns);
/* Closes once all that was handed over is sent; later calls on it give -ESHUTDOWN. One that a
 * handler serves is gone when the handler has returned; called from elsewhere, this has the handler
 * receive -ESHUTDOWN. One of weir_connect() is gone with this call; tasks that wait on it get
 * -ESHUTDOWN. */
void weir_conn_close(struct weir_conn *conn);
/* Closes with a reset, dropping what is unsent, and ends every wait on it with -ESHUTDOWN. As
 * weir_conn_close() otherwise. */
void weir_conn_abort(struct weir_conn *conn);
/* Sends FIN after all that was handed over; receiving goes on. In a task. 0 or -errno. */
int weir_conn_shutdown(struct weir_conn *conn);

/* state_bytes of the listener, zeroed at accept, aligned for any type; NULL if that was 0. */
void *weir_conn_state(struct weir_conn *conn);
/* The descriptor, to look at (getpeername, TCP_INFO): never to read, write or close. Where accepted
 * connections have none (the feature direct_descriptors) one is made at the first call, for as long
 * as the connection lasts, or that fails: -EMFILE; -EBUSY, try again in a later turn. */
int weir_conn_fd(const struct weir_conn *conn);
struct weir_loop *weir_conn_loop(const struct weir_conn *conn);
/* A number that no other connection of this loop has had, and never 0: slot and generation. */
uint64_t weir_conn_id(const struct weir_conn *conn);
/* The open connection with that number, or NULL if it has gone. */
struct weir_conn *weir_conn_find(struct weir_loop *loop, uint64_t id);

/* ---- other waits ----------------------------------------------------------------------------- */

/* Waits in a task until a descriptor that is not weir's is ready: `events` as poll(2). One task at
 * a time for input, and one for output alone. The ready events (> 0), or -errno. */
int weir_poll(struct weir_loop *loop, int fd, short events, uint64_t deadline_ns);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#include <weir/net.h>
#include <weir/shards.h>
#include <weir/splice.h>

#endif
