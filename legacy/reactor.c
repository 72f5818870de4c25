/*
 * The reactor: takes ops, holds them until their descriptor is ready, cancels, waits and wakes. The
 * calls on the descriptors themselves are in perform.c; which descriptors are ready is the poller's
 * business. Reached only through the engine tables that the pollers export.
 */
#include "legacy/reactor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { NS_PER_S = 1000000000 };

static struct weir__reactor *reactor_of(struct weir__engine *engine)
{
    return (struct weir__reactor *)engine;
}

/* --- open and close ------------------------------------------------------------------------- */

static int check_features(const struct weir__engine_ops *ops, uint64_t features,
                          const struct weir__engine_options *options, char *why, size_t why_bytes)
{
    uint64_t missing = options->features_on & ~(features & ~options->features_off);
    if (!missing)
        return 0;
    const char *name = "?";
    for (int i = 0; ops->feature_names && ops->feature_names[i]; i++)
        if (missing >> i & 1)
            name = ops->feature_names[i];
    snprintf(why, why_bytes, "%s: feature %s cannot be had on this kernel; leave out +%s",
             ops->name, name, name);
    return -EOPNOTSUPP;
}

int weir__reactor_open(struct weir__reactor **out, size_t bytes, const struct weir__engine_ops *ops,
                       const struct weir__poller_ops *poller, struct weir__engine_env *env,
                       const struct weir__engine_options *options, uint64_t features, char *why,
                       size_t why_bytes)
{
    int rc = check_features(ops, features, options, why, why_bytes);
    if (rc < 0)
        return rc;
    struct weir__reactor *reactor = calloc(1, bytes);
    if (!reactor) {
        snprintf(why, why_bytes, "%s: out of memory for the reactor", ops->name);
        return -ENOMEM;
    }
    reactor->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (reactor->wake_fd < 0) {
        rc = -errno;
        snprintf(why, why_bytes, "%s: eventfd: %s; raise the limit of open files (ulimit -n)",
                 ops->name, strerror(-rc));
        free(reactor);
        return rc;
    }
    reactor->engine = (struct weir__engine){.ops = ops, .env = env};
    reactor->poller = poller;
    reactor->features = features & ~options->features_off;
    reactor->fd_limit = INT_MAX;
    reactor->cancelled_end = &reactor->cancelled;
    *out = reactor;
    return 0;
}

void weir__reactor_abandon(struct weir__reactor *reactor)
{
    weir__watch_table_deinit(&reactor->watches);
    close(reactor->wake_fd);
    free(reactor);
}

static void assert_nothing_held(const struct weir__reactor *reactor)
{
    int fds = (int)(reactor->watches.chunk_count * WEIR__WATCH_CHUNK);
    assert(!reactor->cancelled);
    for (int fd = 0; fd < fds; fd++) {
        const struct weir__watch *watch = weir__watch_find(&reactor->watches, fd);
        assert(!watch || !watch->ops);
    }
}

void weir__reactor_close(struct weir__engine *engine)
{
    struct weir__reactor *reactor = reactor_of(engine);
    if (!reactor->broken)
        assert_nothing_held(reactor);
    reactor->poller->close(reactor);
    weir__reactor_abandon(reactor);
}

uint64_t weir__reactor_features(const struct weir__engine *engine)
{
    return ((const struct weir__reactor *)engine)->features;
}

void weir__reactor_counters(const struct weir__engine *engine,
                            struct weir__engine_counters *counters)
{
    *counters = ((const struct weir__reactor *)engine)->counters;
}

/* --- submit --------------------------------------------------------------------------------- */

static int done(struct weir__op *op, int32_t res)
{
    op->res = res;
    return WEIR__DONE;
}

static int watch_of(struct weir__reactor *reactor, int fd, struct weir__watch **watch)
{
    if (fd >= reactor->fd_limit)
        return -EMFILE;
    *watch = weir__watch_find(&reactor->watches, fd);
    return *watch ? 0 : weir__watch_need(&reactor->watches, fd, watch);
}

/* Holds the op in the record until the descriptor is ready. */
static int hold(struct weir__reactor *reactor, struct weir__watch *watch, struct weir__op *op)
{
    weir__watch_put(watch, op);
    int rc = reactor->poller->arm(reactor, op->fd, watch);
    if (rc < 0) {
        weir__watch_take(watch, op);
        /* Regular files cannot be polled, every socket can. */
        return done(op, rc == -EPERM ? -ENOTSOCK : rc);
    }
    weir__op_set_state(op, WEIR__OP_HELD);
    return WEIR__QUEUED;
}

/* A blocking listener would hold the whole loop up when a peer has gone between readiness and
 * accept; the same for a connect. Both call this once per op, not per event. */
static int make_nonblocking(struct weir__reactor *reactor, int fd)
{
    reactor->counters.syscalls++;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return -errno;
    if (flags & O_NONBLOCK)
        return 0;
    reactor->counters.syscalls++;
    return fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

static int submit_accept(struct weir__reactor *reactor, struct weir__watch *watch,
                         struct weir__op *op)
{
    int rc = make_nonblocking(reactor, op->fd);
    if (rc < 0)
        return done(op, rc);
    op->engine_bits = 1; /* see weir__perform_accept() */
    op->offset = reactor->turn;
    return hold(reactor, watch, op);
}

static int submit_recvmsg(struct weir__reactor *reactor, struct weir__watch *watch,
                          struct weir__op *op)
{
    op->buf = NULL;
    op->engine_bits = 1; /* as of an accept */
    if (op->flags & WEIR__OP_MULTISHOT)
        op->offset = reactor->turn;
    return hold(reactor, watch, op);
}

static int submit_connect(struct weir__reactor *reactor, struct weir__watch *watch,
                          struct weir__op *op)
{
    int rc = make_nonblocking(reactor, op->fd);
    if (rc < 0)
        return done(op, rc);
    reactor->counters.syscalls++;
    if (weir__perform_connect(op))
        return WEIR__DONE;
    watch->state &= (uint8_t)~WEIR__OUT; /* an unconnected socket counted as ready */
    return hold(reactor, watch, op);
}

/* Most sends are done at once, and then nothing of the descriptor's record is needed. */
static int submit_send(struct weir__reactor *reactor, struct weir__op *op)
{
    if (op->kind != WEIR__OP_SENDMSG)
        op->offset = 0;
    if (op->kind == WEIR__OP_SEND_BUFS)
        op->res = (int32_t)op->buf->index;
    if (weir__perform_send(reactor, op))
        return WEIR__DONE;
    struct weir__watch *watch;
    int rc = watch_of(reactor, op->fd, &watch);
    if (rc < 0)
        return done(op, rc);
    watch->state &= (uint8_t)~WEIR__OUT;
    return hold(reactor, watch, op);
}

static int submit_poll(struct weir__reactor *reactor, struct weir__watch *watch,
                       struct weir__op *op)
{
    if (!(op->len & (POLLIN | POLLOUT | POLLPRI)))
        return done(op, -EINVAL);
    reactor->counters.syscalls++;
    if (weir__perform_poll(op))
        return WEIR__DONE;
    return hold(reactor, watch, op);
}

static int submit_close(struct weir__reactor *reactor, struct weir__op *op)
{
    struct weir__watch *watch = weir__watch_find(&reactor->watches, op->fd);
    if (watch) {
        assert(!watch->ops);
        reactor->poller->forget(reactor, op->fd, watch);
    }
    if (op->flags & WEIR__OP_RESET)
        weir__reset_at_close(op->fd);
    reactor->counters.syscalls++;
    /* Linux has given the descriptor up also where close() says EINTR. */
    return done(op, close(op->fd) < 0 && errno != EINTR ? -errno : 0);
}

static int submit_shutdown(struct weir__reactor *reactor, struct weir__op *op)
{
    reactor->counters.syscalls++;
    return done(op, shutdown(op->fd, (int)op->len) < 0 ? -errno : 0);
}

/* The kinds that usually wait. */
static int submit_waiting(struct weir__reactor *reactor, struct weir__op *op)
{
    struct weir__watch *watch;
    int rc = watch_of(reactor, op->fd, &watch);
    if (rc < 0)
        return done(op, rc);
    switch (op->kind) {
    case WEIR__OP_RECV:
        op->buf = NULL;
        return hold(reactor, watch, op);
    case WEIR__OP_RECVMSG:
        return submit_recvmsg(reactor, watch, op);
    case WEIR__OP_ACCEPT:
        return submit_accept(reactor, watch, op);
    case WEIR__OP_CONNECT:
        return submit_connect(reactor, watch, op);
    case WEIR__OP_POLL:
        return submit_poll(reactor, watch, op);
    default:
        assert(!"an op of no kind");
        return done(op, -EINVAL);
    }
}

int weir__reactor_submit(struct weir__engine *engine, struct weir__op *op)
{
    struct weir__reactor *reactor = reactor_of(engine);
    assert(op->state == WEIR__OP_IDLE);
    op->flags &= (uint8_t)~WEIR__OP_MORE;
    if (weir__op_is_for_helpers(op))
        return engine->env->call_submit(engine->env, op);
    switch (op->kind) {
    case WEIR__OP_SEND:
    case WEIR__OP_SEND_BUFS:
    case WEIR__OP_SENDMSG:
        return submit_send(reactor, op);
    case WEIR__OP_CLOSE:
        return submit_close(reactor, op);
    case WEIR__OP_SHUTDOWN:
        return submit_shutdown(reactor, op);
    default:
        return submit_waiting(reactor, op);
    }
}

/* --- completion ----------------------------------------------------------------------------- */

/* A descriptor that one polls, a listener, or a socket whose connect has ended may be closed by its
 * owner once the op is over, without our being told, and the next one has its number: its interest
 * must go at once, or arming the next would find it there and change nothing. The descriptors of
 * connections are closed by OP_CLOSE. */
static bool is_lent_descriptor(const struct weir__op *op)
{
    return op->kind == WEIR__OP_POLL || op->kind == WEIR__OP_ACCEPT || op->kind == WEIR__OP_CONNECT;
}

static bool lends(const struct weir__op *op)
{
    return op->kind == WEIR__OP_RECV || op->kind == WEIR__OP_RECVMSG;
}

static void detach(struct weir__reactor *reactor, struct weir__watch *watch, struct weir__op *op)
{
    weir__watch_take(watch, op);
    reactor->poller->relax(reactor, op->fd, watch, is_lent_descriptor(op));
}

void weir__reactor_finish(struct weir__reactor *reactor, struct weir__watch *watch,
                          struct weir__op *op, int32_t res)
{
    detach(reactor, watch, op);
    reactor->counters.completions++;
    weir__op_complete(op, res, 0);
}

static void serve_out(struct weir__reactor *reactor, struct weir__watch *watch, struct weir__op *op)
{
    bool finished;
    if (op->kind == WEIR__OP_CONNECT) {
        finished = weir__perform_connect_ready(op);
        reactor->counters.syscalls++;
    } else if (op->kind == WEIR__OP_POLL) {
        finished = weir__perform_poll(op);
        reactor->counters.syscalls++;
    } else {
        finished = weir__perform_send(reactor, op);
    }
    if (finished)
        weir__reactor_finish(reactor, watch, op, op->res);
    else
        watch->state &= (uint8_t)~WEIR__OUT;
}

static void serve_in(struct weir__reactor *reactor, struct weir__watch *watch, struct weir__op *op)
{
    if (op->kind == WEIR__OP_RECV) {
        weir__perform_recv(reactor, watch, op);
    } else if (op->kind == WEIR__OP_ACCEPT) {
        weir__perform_accept(reactor, watch, op);
    } else if (op->kind == WEIR__OP_RECVMSG) {
        weir__perform_recvmsg(reactor, watch, op);
    } else {
        unsigned asked = weir__watch_want(watch) & (op->next ? ~(unsigned)WEIR__OUT : ~0u);
        reactor->counters.syscalls++;
        if (weir__perform_poll(op))
            weir__reactor_finish(reactor, watch, op, op->res);
        else
            watch->state &= (uint8_t)~asked;
    }
}

/* Output first: it gives buffers back, which the input may take. */
void weir__reactor_deliver(struct weir__reactor *reactor, int fd, struct weir__watch *watch,
                           unsigned events)
{
    assert(watch == weir__watch_at(&reactor->watches, fd));
    struct weir__op *out = events & WEIR__OUT ? weir__watch_out(watch) : NULL;
    if (out)
        serve_out(reactor, watch, out);
    struct weir__op *in = weir__watch_in(watch);
    if (in && (events & WEIR__IN || in->kind == WEIR__OP_POLL))
        serve_in(reactor, watch, in);
}

void weir__reactor_fail(struct weir__reactor *reactor, int fd, struct weir__watch *watch, int error)
{
    struct weir__op *ops[2] = {weir__watch_in(watch), weir__watch_out(watch)};
    watch->ops = NULL;
    reactor->poller->forget(reactor, fd, watch);
    for (int i = 0; i < 2; i++) {
        if (!ops[i])
            continue;
        if (lends(ops[i]))
            ops[i]->buf = NULL;
        reactor->counters.completions++;
        weir__op_complete(ops[i], error, 0);
    }
}

/* --- descriptors --------------------------------------------------------------------------------
 */

int weir__reactor_process_fd(struct weir__engine *engine, int32_t fd)
{
    (void)engine;
    return fd;
}

void weir__reactor_drop_fd(struct weir__engine *engine, int32_t fd)
{
    (void)engine;
    close(fd);
}

/* --- cancel, wait, wake ---------------------------------------------------------------------- */

void weir__reactor_cancel(struct weir__engine *engine, struct weir__op *op)
{
    struct weir__reactor *reactor = reactor_of(engine);
    if (op->state == WEIR__OP_CANCELLING)
        return;
    weir__op_set_state(op, WEIR__OP_CANCELLING);
    if (weir__op_is_for_helpers(op)) {
        engine->env->call_cancel(engine->env, op);
        return;
    }
    detach(reactor, weir__watch_at(&reactor->watches, op->fd), op);
    if (lends(op))
        op->buf = NULL; /* the one it completed with before is the owner's */
    op->next = NULL;
    *reactor->cancelled_end = op;
    reactor->cancelled_end = &op->next;
}

/* Those cancelled by a done() here wait for the next turn, so that this ends. */
static void complete_cancelled(struct weir__reactor *reactor)
{
    struct weir__op *op = reactor->cancelled;
    reactor->cancelled = NULL;
    reactor->cancelled_end = &reactor->cancelled;
    while (op) {
        struct weir__op *next = op->next;
        op->next = NULL;
        reactor->counters.completions++;
        weir__op_complete(op, -ECANCELED, 0);
        op = next;
    }
}

int weir__reactor_wait(struct weir__engine *engine, uint64_t deadline_ns)
{
    struct weir__reactor *reactor = reactor_of(engine);
    uint64_t before = reactor->counters.completions;
    reactor->turn++;
    int rc = reactor->poller->wait(reactor, reactor->cancelled ? 0 : deadline_ns);
    if (reactor->cancelled)
        complete_cancelled(reactor);
    reactor->broken |= rc < 0;
    return rc < 0 ? rc : (int)(reactor->counters.completions - before);
}

/* One write per wait, however many wakes. The exchange also orders: what the waker wrote before it
 * is seen by whoever returns from the wait. */
int weir__reactor_wake(struct weir__engine *engine)
{
    struct weir__reactor *reactor = reactor_of(engine);
    if (atomic_exchange(&reactor->wake_pending, 1))
        return 0;
    int saved = errno, rc = 0;
    while (eventfd_write(reactor->wake_fd, 1) < 0) {
        if (errno == EINTR)
            continue;
        rc = errno == EAGAIN ? 0 : -errno; /* EAGAIN: the counter is full, so it is readable */
        break;
    }
    if (rc < 0)
        atomic_store(&reactor->wake_pending, 0); /* nothing was written: the next one tries again */
    errno = saved;
    return rc;
}

/* The flag goes down after the read: the other way round, a wake between the two would be read away
 * with its flag left up, and no later wake would ever write again. */
void weir__reactor_woken(struct weir__reactor *reactor, bool drain)
{
    eventfd_t ignored;
    reactor->counters.wakes++;
    if (drain) {
        reactor->counters.syscalls++;
        eventfd_read(reactor->wake_fd, &ignored);
    }
    atomic_exchange(&reactor->wake_pending, 0);
}

const struct timespec *weir__reactor_time_left(uint64_t deadline_ns, struct timespec *left)
{
    if (deadline_ns == WEIR__FOREVER)
        return NULL;
    *left = (struct timespec){0};
    if (deadline_ns == 0)
        return left;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t now_ns = (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
    if (deadline_ns > now_ns) {
        left->tv_sec = (time_t)((deadline_ns - now_ns) / NS_PER_S);
        left->tv_nsec = (long)((deadline_ns - now_ns) % NS_PER_S);
    }
    return left;
}
