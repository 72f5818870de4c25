/*
 * What the files of the runtime share: the loop, its tasks, connections and listeners.
 *
 * One turn of the loop (loop.c): run what is runnable, then the bursts of ready connections; send
 * what was handed over; wait in the engine, which reaps; fire timers. Reaping only marks things
 * runnable, so user code never runs inside an engine.
 *
 * loop.c   new, run, stop, the turn          task.c      spawn, join, waits, cancel
 * conn.c   slots, closing, ids               recv.c      received buffers, arming, bursts
 * send.c   handed-over and waiting sends     listener.c  accept, back-off
 * post.c   messages from other threads       helpers.c   blocking calls
 * wait.c   connect, poll, calls              rest.c      quiet connections wait more cheaply
 * scope.c  tasks that end together           pipe.c      what can be polled
 * process.c  child processes                 shards.c    loops on threads of their own
 * file.c   files                             inspect.c   tasks and waits, as text
 * park.c   waits of tasks for each other     handover.c  one shard accepts for all
 * clock.c  ticks, the wall clock             signals.c   signals as waits
 * dial.c   connections to names              resolve*.c  names
 * dgram.c   datagram sockets                  message.c   messages in lent buffers
 * watchdog.c  who holds a loop
 * splice.c splices
 */
#ifndef WEIR_CORE_LOOP_H
#define WEIR_CORE_LOOP_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <weir/weir.h>

#include "core/buf.h"
#include "core/engine.h"
#include "core/helpers.h"
#include "core/slab.h"
#include "core/timer.h"

#define weir__container(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

/* ---- tasks ----------------------------------------------------------------------------------- */

/* A kind of wait. */
struct weir__wait {
    const char *name; /* "for ...", as weir_dump() says it */
    /* Takes the task off what it waits for, soon or at once, so that it wakes with `why` (-ETIME,
     * -ECANCELED, -ESHUTDOWN) or with a result that came first. */
    void (*unwait)(struct weir_task *task, int why);
};

struct weir_task {
    uint32_t slab_link; /* the slab's, while free */
    uint32_t index;
    struct weir_coro *coro;
    struct weir_loop *loop;
    struct weir_task *next;          /* run queue, or a list of waiters */
    struct weir_task *newer, *older; /* all tasks of the loop */
    weir_task_fn *fn;
    void *argument;
    const struct weir__wait *wait; /* not NULL: it waits, and can be interrupted so */
    void *object;                  /* what it waits for, for unwait */
    uint64_t wait_since_ns;        /* the loop's time at which the last wait began */
    struct weir_task *waits_next;  /* in conn->waiters */
    int wait_res;
    int interrupted; /* why, once unwait was called in this wait */
    int16_t cut;     /* 0, or what every wait ends with: -ECANCELED, or a scope's reason; scope.c */
    bool cancelled;  /* by weir_task_cancel(), or the end of the loop */
    bool detached, done;
    uint8_t locals_set; /* bit per key; local.c */
    uint8_t unwaited;   /* calls in a row that did not have to wait; weir__task_unwaited() */
    bool moved; /* burst runner: suspended or cancelled, so another one runs what else is ready */
    struct weir_task *joiner;
    struct weir__select *select; /* in whose lines it is; select.c */
    struct weir__timer deadline;

    struct weir_scope *scope; /* the innermost it is in: one that it opened, or else its home */
    struct weir_scope *home;  /* that it was spawned in; NULL: the loop's own */
    struct weir_task *sibling_next, *sibling_before; /* in home->children */
    weir_child_fn *child;                            /* with a home: in place of fn */
    void *locals[WEIR_LOCAL_KEYS];
};

/* The wait of a task, suspended until weir__task_wake(). Callers register with `object` first. The
 * value of wake(). The task must not have been cancelled (see weir__task_check). */
int weir__task_wait(struct weir_task *task, const struct weir__wait *wait, void *object,
                    uint64_t deadline_ns);
void weir__task_wake(struct weir_task *task, int res);
/* Ends its wait, if it is in one, with `why` or with a result that comes first. */
void weir__task_interrupt(struct weir_task *task, int why);
void weir__task_runnable(struct weir_task *task);
/* How many are, by counting. */
unsigned weir__count_runnable(const struct weir_loop *loop);
/* Not 0 if the task may not begin a wait: -ECANCELED, or why its scope ends. */
static inline int weir__task_check(const struct weir_task *task)
{
    return task->cut;
}
/* A call that might have waited did not have to: after some in a row the others, and the loop, get
 * their turn, or a task whose descriptor is always ready would keep the loop from all else. */
void weir__task_unwaited(struct weir_task *task);
/* A detached task, not yet runnable; NULL when out of stacks or memory. */
struct weir_task *weir__task_new(struct weir_loop *loop, weir_task_fn *fn, void *argument,
                                 const char *name, const char *place);
/* Whether it ended, and is gone. */
bool weir__task_resume(struct weir_task *task);
/* Its values of weir/local.h end, in its own coroutine. */
void weir__locals_end(struct weir_task *task);
/* The loop's time to drain is over: every wait of every task ends, shielded or not. */
void weir__tasks_cut(struct weir_loop *loop);
/* An unwait for what nothing cuts short. */
void weir__goes_on_waiting(struct weir_task *task, int why);
/* A wait until an op completes; `object` is the op. The second is not to be interrupted. */
extern const struct weir__wait weir__op_wait, weir__op_through_wait;
/* `object` is the connection, and the task that is joined. */
extern const struct weir__wait weir__recv_wait, weir__drain_wait, weir__join_wait;

/* scope.c. A task of a scope ends, in its own coroutine. */
void weir__scope_left(struct weir_task *child, int res);
/* What may keep the task, and all in its scopes, from waiting has changed. */
void weir__scope_reach(struct weir_task *task);
/* Submits an op that lives on the caller's stack and waits for it: its res; -ETIME past the
 * deadline. */
int weir__task_op(struct weir_task *task, struct weir__op *op, uint64_t deadline_ns);
/* The same to the end, whatever happens, also in a task that may not begin a wait: for what gives
 * something back. */
int weir__task_op_through(struct weir_task *task, struct weir__op *op);

/* ---- connections ----------------------------------------------------------------------------- */

enum weir__conn_flags {
    CONN_OPEN = 1 << 0,       /* the slot is in use */
    CONN_RUNNING = 1 << 1,    /* its handler is on a coroutine (or weir_connect()ed) */
    CONN_READY = 1 << 2,      /* in loop->ready */
    CONN_TX_LISTED = 1 << 3,  /* in loop->tx_conns */
    CONN_EOF = 1 << 4,        /* the peer ended its side */
    CONN_FINISHED = 1 << 5,   /* its handler was told of the end: close when it returns */
    CONN_CLOSING = 1 << 6,    /* no more user code; see conn.c */
    CONN_ABORT = 1 << 7,      /* close with a reset */
    CONN_STARVED = 1 << 8,    /* in loop->starved: no buffer was left for it */
    CONN_SENDING = 1 << 9,    /* a task's own send or shutdown is with the engine */
    CONN_RECEIVING = 1 << 10, /* a task waits in weir_recv() */
    CONN_DRAINING = 1 << 11,  /* tasks may wait for unsent bytes to go */
    CONN_OWNED = 1 << 12,     /* made by weir_connect(): no handler */
    CONN_LINGERING = 1 << 13, /* closing, and counted in loop->lingering */
    CONN_ENDED = 1 << 14,     /* weir_conn_close() was called */
    CONN_QUIET = 1 << 15,     /* no handler was run since rest.c came by */
};

/* A slot. An idle connection costs this and what its engine keeps beside it (nothing, or what
 * legacy/watch.h says): at most 128 bytes together. A multiple of 32, so that each slot lies in two
 * cache lines and never in three. */
struct weir_conn {
    /* The multishot receive; at the end, the close. Its `owner` is the listener, NULL for
     * weir_connect(), its `owner_index` the place of the state in listener->states. */
    struct weir__op rx;
    struct weir_loop *loop;
    uint16_t flags;
    int16_t error;             /* -errno of a receive or of a handed-over send */
    uint16_t rx_head;          /* received buffers, by index, linked by next */
    uint16_t tx_head;          /* handed over, not yet given to the engine */
    uint16_t tx_flight;        /* head of the chain the engine has */
    uint16_t rx_bufs, tx_bufs; /* how many; tx_bufs counts those in flight, too */
    uint8_t budget;            /* buffers it may still receive this turn */
    uint8_t rested;  /* not 0: at rest, since this round of rest.c or woken in it; or ONE_BY_ONE */
    uint32_t unsent; /* bytes handed over and not yet with the kernel */
    uint32_t next_ready; /* index + 1 of the next in loop->ready */
    uint32_t next_tx;
    uint32_t waiters; /* index + 1 of a task; one may receive, any number send */
    uint32_t index, generation;
};
static_assert(sizeof(struct weir_conn) == 96, "this is the idle memory of a connection");

enum {
    WEIR__LINGER_LOOKS = 30, /* seconds a closed connection may take to send its last byte */
    WEIR__BURST_BUDGET = 16, /* buffers a connection may receive in a turn: none starves the rest */
};

/* The sweep that finds quiet connections; rest.c. */
struct weir__rest {
    struct weir__op timer; /* the poll; its descriptor is -1 until the first step */
    uint32_t cursor;       /* the next slot */
    uint64_t round_ns;     /* for all slots */
    bool awake;            /* in this round some did not rest */
    bool off;              /* the engine has no use for it */
};

/* A FIFO of connections, linked by index + 1 through one of their next_ fields. */
struct weir__conn_queue {
    uint32_t head, tail, count;
};

struct weir_listener {
    struct weir__op accept;
    struct weir_loop *loop;
    struct weir_listener *next;
    weir_handler_fn *handler;
    void *argument;
    void (*closed)(struct weir_conn *conn, void *argument);
    struct weir__slab states;
    size_t state_bytes;
    struct weir__handover *handover; /* of shards: who accepts for all, and those who take */
    uint32_t conns;
    bool paused, closing;         /* one that only takes is closing from the start */
    bool local;                   /* of a Unix socket */
    bool fds;                     /* whose connections may receive descriptors */
    struct weir__unix_path *path; /* to be removed; NULL: none */
    bool given_up;                /* by weir_listener_close(): nobody outside knows it any more */
};

static inline struct weir_listener *weir__conn_listener(const struct weir_conn *conn)
{
    return conn->rx.owner;
}
/* The first of them, linked by waits_next. */
static inline struct weir_task *weir__conn_waiters(const struct weir_conn *conn);

struct weir_conn *weir__conn_new(struct weir_loop *loop, struct weir_listener *listener, int fd);
/* Of one that nobody has seen yet: closes the descriptor and gives the slot back, at once. */
void weir__conn_discard(struct weir_conn *conn);
/* User code is done with it: sends what is unsent, then closes. */
void weir__conn_close(struct weir_conn *conn);
/* Goes on with closing when an op of the connection has ended. */
void weir__conn_close_step(struct weir_conn *conn);
/* The loop stops: closes it if idle, wakes it if it waits for input. */
void weir__conn_stop(struct weir_conn *conn);
void weir__conns_close_orphans(struct weir_loop *loop);
/* The engine broke: closes the descriptors and says so to `closed`, without any op. */
void weir__conns_abandon(struct weir_loop *loop);
/* Around a wait on the connection: while a task is between the two the slot stays, whatever becomes
 * of the connection. Leaving one that closes may free it. */
static inline void weir__conn_enter(struct weir_conn *conn, struct weir_task *task)
{
    task->waits_next = weir__conn_waiters(conn);
    conn->waiters = task->index + 1;
}
void weir__conn_left(struct weir_conn *conn, struct weir_task *task);
static inline void weir__conn_leave(struct weir_conn *conn, struct weir_task *task)
{
    if (conn->waiters == task->index + 1 && !task->waits_next && !(conn->flags & CONN_CLOSING))
        conn->waiters = 0;
    else
        weir__conn_left(conn, task);
}
/* Closes with a reset what still lingers (unsent bytes past the deadline, or `all`). */
void weir__conns_linger(struct weir_loop *loop, bool all);

void weir__conn_notify(struct weir_conn *conn);
void weir__conn_wake_receiver(struct weir_conn *conn, int res);
void weir__conn_drop_received(struct weir_conn *conn);
/* Begins to serve one that was accepted. False when out of stacks. */
bool weir__conn_serve(struct weir_conn *conn);
void weir__conns_run(struct weir_loop *loop);
void weir__conns_feed(struct weir_loop *loop);
/* In a task, for one that reads the descriptor itself: stops the receive, and waits until that has
 * ended; what it had received stays in the queue. 0, -ESHUTDOWN. */
int weir__conn_take(struct weir_conn *conn);
/* The receive goes on. */
void weir__conn_give_back(struct weir_conn *conn);
/* The first of the queue, or NULL; and `bytes` of it are done with. */
struct weir__buf *weir__conn_received(const struct weir_conn *conn);
void weir__conn_consume(struct weir_conn *conn, uint32_t bytes);

/* Wakes the tasks that wait for unsent bytes to go. */
void weir__conn_wake_senders(struct weir_conn *conn, int res);
void weir__conn_fail(struct weir_conn *conn, int error);
void weir__conn_drop_unsent(struct weir_conn *conn);
void weir__conns_flush(struct weir_loop *loop);
/* Around a task's own sends: waits until it is its turn, and holds the others' back. Only after 0
 * the end, which gives 0, or -ESHUTDOWN: the connection closed meanwhile, and may be gone. */
int weir__conn_send_begin(struct weir_conn *conn, uint64_t deadline_ns);
int weir__conn_send_end(struct weir_conn *conn);
void weir__bufs_feed(struct weir_loop *loop);

static inline bool weir__conn_unsent(const struct weir_conn *conn)
{
    return conn->tx_head || conn->tx_flight;
}

/* dgram.c. Whether the op was a datagram socket's, which then receives again. */
bool weir__dgram_fed(struct weir__op *op);
/* The loop stops: what has come is received, and then nobody waits for datagrams any more. */
void weir__dgrams_stop(struct weir_loop *loop);
/* Whether no datagram socket has anything with the engine; else that is so soon. */
bool weir__dgrams_end(struct weir_loop *loop);
void weir__dgrams_free(struct weir_loop *loop);

void weir__rest_init(struct weir__rest *rest);
void weir__rest_deinit(struct weir__rest *rest);
void weir__rest_begin(struct weir_loop *loop);
/* Whether it has ended; else it will soon. */
bool weir__rest_end(struct weir_loop *loop);

/* resolve_cares.c or resolve_helpers.c. Nothing else is left: ends what lookups that were given up
 * have left; whether it has ended, else it will soon. */
bool weir__resolver_end(struct weir_loop *loop);
/* When the helper threads have ended and the engine is closed. */
void weir__resolver_free(struct weir_loop *loop);

/* weir_listen(); with `handover` (may be NULL) what it accepts is for others, too. */
int weir__listen(struct weir_loop *loop, struct weir_listener **listener,
                 const struct weir_listen_options *options, struct weir__handover *handover,
                 char *why, size_t why_bytes);
/* One that has no socket: its connections are handed over to it. NULL: out of memory. */
struct weir_listener *weir__listener_taking(struct weir_loop *loop,
                                            const struct weir_listen_options *options,
                                            struct weir__handover *handover);
/* Begins to serve a peer that was accepted. False, and it is dropped, when there was no memory or
 * stack for it. */
bool weir__listener_serve(struct weir_listener *listener, int fd);
void weir__listener_conn_gone(struct weir_listener *listener);
void weir__listeners_resume(struct weir_loop *loop);
/* The loop stops: no more peers are accepted. */
void weir__listeners_stop(struct weir_loop *loop);
void weir__listeners_free(struct weir_loop *loop);

/* handover.c: the first of `count` shards accepts for all of them. Its listener is added last, and
 * before it begins to accept. NULL: out of memory. */
struct weir__handover *weir__handover_new(struct weir__handover **list, unsigned count);
/* Once all those loops are freed. */
void weir__handovers_free(struct weir__handover *list);
void weir__handover_add(struct weir__handover *handover, unsigned index,
                        struct weir_listener *listener);
/* The acceptor has a peer: false when it was to serve it itself and could not. */
bool weir__handover_peer(struct weir__handover *handover, int fd);
/* Whether accepting has to pause; then weir__listeners_resume() will be called. */
bool weir__handover_full(struct weir__handover *handover);
/* Any of the shards has one connection less. */
void weir__handover_conn_gone(struct weir__handover *handover);

/* A FIFO of ops that wait in core, through op->next. */
struct weir__op_queue {
    struct weir__op *head, *tail;
};

static inline void weir__op_queue_push(struct weir__op_queue *queue, struct weir__op *op)
{
    op->next = NULL;
    if (queue->tail)
        queue->tail->next = op;
    else
        queue->head = op;
    queue->tail = op;
}

static inline struct weir__op *weir__op_queue_pop(struct weir__op_queue *queue)
{
    struct weir__op *op = queue->head;

    queue->head = op->next;
    if (!queue->head)
        queue->tail = NULL;
    return op;
}

/* ---- the loop -------------------------------------------------------------------------------- */

/* watchdog.c; all under its lock. */
struct weir__watched {
    struct weir_loop *next;
    pthread_t thread;
    uint64_t begun,
        since_ns; /* what it had begun to run when it was last seen to get on, and when */
    bool told;
};

struct weir_loop {
    struct weir__engine_env env; /* first: the engine's way back */
    struct weir__engine *engine;
    const struct weir__engine_ops *ops;
    struct weir_coro_pool *coros;
    struct weir__buf_pool bufs;

    struct weir_task *task; /* running now; the watchdog reads it, too */
    struct weir_task *run_head, *run_tail;
    struct weir_task *yielded_head, *yielded_tail; /* runnable again from the next turn on */
    struct weir_task *tasks;                       /* newest of all */
    struct weir_task *runner; /* of bursts, between two turns; not in task_count */
    struct weir_task *buf_waiters, *buf_waiters_tail;
    struct weir__slab task_slab;
    uint32_t task_count;

    struct weir__slab conn_slab;
    uint32_t conn_count, conns_max;
    uint32_t owned; /* connections of weir_connect(), not closed yet */
    struct weir__conn_queue ready, tx_conns;
    struct weir__rest rest;
    struct weir__op_queue starved; /* receives of sockets, none of them armed */
    uint32_t bufs_out;     /* with connections and handlers: neither free nor the engine's */
    uint32_t ready_budget; /* connections the runner may still take this turn; left where there was
                              no stack for it */
    struct weir__timer stacks_timer;
    uint16_t rx_bufs_max, tx_bufs_max;
    uint32_t unsent_max;
    bool per_burst;

    struct weir__op_queue refused_by_engine, refused_by_helpers; /* there was no room */
    struct weir__op_queue cancelled; /* while refused: they complete in the next turn */
    struct weir_listener *listeners;
    struct weir_dgram *dgrams;
    uint32_t open_listeners;
    struct weir__timer accept_timer;

    struct weir__wheel wheel;
    uint64_t now_ns; /* when the last wait ended; coarse where no timer was armed */

    _Atomic(struct weir_post *) posts;
    atomic_bool sleeping, stop_asked;
    atomic_uint callers; /* inside weir_post() or weir_loop_stop(), which touch the engine last */
    atomic_bool dump_asked; /* dump_post is on its way */
    struct weir_post dump_post;
    bool stopping, running, ended;
    bool held;           /* of a shard: it does not end before it is stopped */
    uint32_t last_turns; /* asked to stop: those left for what has come, and */
    uint32_t barren;     /* how many of them in a row brought nothing */
    bool failed;         /* the engine broke: what it holds never completes */
    bool cut;            /* stopping, and the time to drain is over: nothing may wait any more */
    uint64_t drain_ns;
    struct weir__timer stop_timer, linger_timer;
    uint32_t lingering; /* closing connections that still have to send */

    const void *thread; /* that opened it: see weir__loop_here() */
    struct weir__helpers helpers;
    struct weir__resolver *resolver; /* NULL before the first lookup; resolve_*.c */
    struct weir__watched watched;
    struct weir_loop_stats stats;
    char note[256];
    char features[512];
};

enum { WEIR__REFUSED = 0xff /* op->engine_bits of an op in a line of the refused */ };

static inline struct weir_conn *weir__conn_at(const struct weir_loop *loop, uint32_t index)
{
    return weir__slab_at(&loop->conn_slab, index, sizeof(struct weir_conn));
}

static inline struct weir_task *weir__conn_waiters(const struct weir_conn *conn)
{
    const struct weir__slab *tasks = &conn->loop->task_slab;

    return conn->waiters ? weir__slab_at(tasks, conn->waiters - 1, tasks->object_bytes) : NULL;
}

/* conn->rested of a Unix socket: it never rests, and is received from one by one. A multishot
 * receive could miss the end of its stream, see fill_recv() of uring/submit.c. */
enum { WEIR__ONE_BY_ONE = UINT8_MAX };

/* Of the sweep: 1 .. 254. */
static inline uint8_t weir__rest_round(const struct weir_loop *loop)
{
    return (uint8_t)(loop->now_ns / loop->rest.round_ns % (UINT8_MAX - 1) + 1);
}

/* Buffers that receives may take and nobody holds: in the pool, or the engine's. */
static inline uint32_t weir__bufs_to_receive(const struct weir_loop *loop)
{
    uint32_t all = loop->bufs.count - loop->bufs.reserve;

    return all > loop->bufs_out ? all - loop->bufs_out : 0;
}

/* weir_loop_self(). Initial-exec: one load, also in the shared library, for it is asked at every
 * lock; it takes a word of what the loader keeps for libraries opened late. */
extern __thread struct weir_loop *weir__running_loop __attribute__((tls_model("initial-exec")));

/* Whether the calling thread is the loop's, running or not: the address is each thread's own. */
static inline bool weir__loop_here(const struct weir_loop *loop)
{
    return loop->thread == &weir__running_loop;
}

/* weir_task_self(), likewise. */
static inline struct weir_task *weir__task_here(void)
{
    return weir__running_loop ? weir__running_loop->task : NULL;
}

/* Takes the op, or queues it until the engine has room. WEIR__DONE or WEIR__QUEUED. */
int weir__submit(struct weir_loop *loop, struct weir__op *op);
/* Cancels a held op, or one that waits in a line of the refused. It completes later, never from
 * inside this call. */
void weir__cancel(struct weir_loop *loop, struct weir__op *op);
void weir__refused_retry(struct weir_loop *loop);

/* Counts what the watchdog reads, too. */
static inline void weir__count(uint64_t *counter)
{
    __atomic_store_n(counter, *counter + 1, __ATOMIC_RELAXED);
}

/* Around the loop's running: the watchdog sees it. */
void weir__watchdog_enter(struct weir_loop *loop);
void weir__watchdog_leave(struct weir_loop *loop);

/* Ends the loop's sleep, if it sleeps. Any thread, and from a signal handler. */
void weir__loop_wake(struct weir_loop *loop);
/* Runs posted messages; whether there were any. */
bool weir__posts_run(struct weir_loop *loop);
/* No more posts: runs those there are, then weir_post() gives -ESHUTDOWN. */
void weir__posts_close(struct weir_loop *loop);
bool weir__posts_pending(struct weir_loop *loop);

#endif
