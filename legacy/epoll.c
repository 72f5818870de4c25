/*
 * The pollers on epoll(7), level- and edge-triggered: the engines `epoll` and `epoll-et`. What they
 * share (the set, its records' identity, the wait) comes first, then one section for each.
 *
 * Level-triggered: the set is changed only when an op needs more than is watched. An armed
 * multishot receive keeps its interest, so a served request changes nothing. Interest nobody needs
 * is dropped late: output at the next wait, since the next send often needs it again and an idle
 * one would fire at once; input when it fires with nobody waiting. So nothing spins.
 *
 * Edge-triggered: interest only grows. What is ready is remembered in the record and on a list of
 * our own, and a descriptor is served from there until it is drained, a share each turn.
 */
#include "legacy/reactor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FEATURE_PWAIT2 = 1, FEATURE_SHORT_READ = 2 };
static const char *const epoll_features[] = {"pwait2", NULL};
static const char *const epoll_et_features[] = {"pwait2", "short_read", NULL};

#ifndef SYS_epoll_pwait2 /* headers before Linux 5.11 */
#define SYS_epoll_pwait2 441
#endif

#define WAKE_ID UINT64_MAX

struct epoll_poller {
    struct weir__reactor reactor; /* first */
    int epoll_fd;
    /* Records through `link`, which holds descriptor + 1. Level: some interest may have become
     * idle. Edge: something may be ready. FIFO. */
    uint32_t list_first, list_last;
    uint32_t list_count;
    uint64_t forgotten; /* counts descriptors closed: tells stale events apart */
    struct epoll_event events[WEIR__TURN_EVENTS];
};

static struct epoll_poller *poller_of(struct weir__reactor *reactor)
{
    return (struct epoll_poller *)reactor;
}

/* --- the set ------------------------------------------------------------------------------------
 */

static uint32_t event_bits(const struct epoll_poller *poller, unsigned interest)
{
    uint32_t bits = (interest & WEIR__IN ? EPOLLIN : 0u) | (interest & WEIR__OUT ? EPOLLOUT : 0u) |
                    (interest & WEIR__PRI ? EPOLLPRI : 0u);
    /* Edge: what may stand behind a short read, see WEIR__WATCH_DRAIN. */
    return poller->reactor.poller->edge ? bits | EPOLLET | EPOLLRDHUP | EPOLLPRI : bits;
}

static unsigned directions(uint32_t bits)
{
    return (bits & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP) ? WEIR__IN : 0u) |
           (bits & (EPOLLOUT | EPOLLHUP | EPOLLERR) ? WEIR__OUT : 0u) |
           (bits & EPOLLPRI ? WEIR__PRI : 0u);
}

static int control(struct epoll_poller *poller, int what, int fd, struct weir__watch *watch,
                   unsigned interest)
{
    struct epoll_event event = {.events = event_bits(poller, interest),
                                .data.u64 = (uint64_t)watch->generation << 32 | (uint32_t)fd};
    poller->reactor.counters.syscalls++;
    return epoll_ctl(poller->epoll_fd, what, fd, &event) < 0 ? -errno : 0;
}

/* Makes the set watch exactly `interest`, 0: nothing. Copes with a descriptor that was closed or
 * replaced behind our back. */
static int set_interest(struct epoll_poller *poller, int fd, struct weir__watch *watch,
                        unsigned interest)
{
    int what = !interest ? EPOLL_CTL_DEL : watch->interest ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    int rc = control(poller, what, fd, watch, interest);
    if (rc == -ENOENT && what == EPOLL_CTL_MOD)
        rc = control(poller, EPOLL_CTL_ADD, fd, watch, interest);
    else if (rc == -EEXIST)
        rc = control(poller, EPOLL_CTL_MOD, fd, watch, interest);
    if (rc == 0 || what == EPOLL_CTL_DEL)
        watch->interest = (uint8_t)interest;
    return what == EPOLL_CTL_DEL ? 0 : rc;
}

/* An empty set under the number of the old one. */
static int replace_set(struct epoll_poller *poller)
{
    int fresh = epoll_create1(EPOLL_CLOEXEC), rc = 0;
    if (fresh < 0) { /* no descriptor is free; then there is one */
        close(poller->epoll_fd);
        poller->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        return poller->epoll_fd < 0 ? -errno : 0;
    }
    if (dup3(fresh, poller->epoll_fd, O_CLOEXEC) < 0)
        rc = -errno;
    close(fresh);
    return rc;
}

/* A duplicate of a closed descriptor (dup, fork) keeps its entry in the set, and without the
 * original number the entry cannot be removed: only a new set gets rid of it. Happens where the
 * application duplicates sockets; costs one call per descriptor then, and nothing otherwise. */
static int rebuild_set(struct epoll_poller *poller)
{
    struct weir__reactor *reactor = &poller->reactor;
    int rc = replace_set(poller);
    if (rc < 0)
        return rc;
    struct epoll_event wake = {.events = EPOLLIN | EPOLLET, .data.u64 = WAKE_ID};
    if (epoll_ctl(poller->epoll_fd, EPOLL_CTL_ADD, reactor->wake_fd, &wake) < 0)
        return -errno;
    int fds = (int)(reactor->watches.chunk_count * WEIR__WATCH_CHUNK);
    for (int fd = 0; fd < fds; fd++) {
        struct weir__watch *watch = weir__watch_find(&reactor->watches, fd);
        if (!watch || !watch->interest)
            continue;
        rc = control(poller, EPOLL_CTL_ADD, fd, watch, watch->interest);
        if (rc < 0)
            weir__reactor_fail(reactor, fd, watch, rc);
    }
    return 0;
}

/* --- the list -----------------------------------------------------------------------------------
 */

static void list_append(struct epoll_poller *poller, int fd, struct weir__watch *watch)
{
    if (watch->state & WEIR__WATCH_LISTED)
        return;
    watch->state |= WEIR__WATCH_LISTED;
    watch->link = 0;
    if (poller->list_last)
        weir__watch_at(&poller->reactor.watches, (int)poller->list_last - 1)->link =
            (uint32_t)fd + 1;
    else
        poller->list_first = (uint32_t)fd + 1;
    poller->list_last = (uint32_t)fd + 1;
    poller->list_count++;
}

/* The descriptor that has been on the list longest, or -1. */
static int list_take(struct epoll_poller *poller)
{
    if (!poller->list_first)
        return -1;
    int fd = (int)poller->list_first - 1;
    struct weir__watch *watch = weir__watch_at(&poller->reactor.watches, fd);
    watch->state &= (uint8_t)~WEIR__WATCH_LISTED;
    poller->list_first = watch->link;
    poller->list_last = watch->link ? poller->list_last : 0;
    poller->list_count--;
    return fd;
}

/* --- open, close, wait --------------------------------------------------------------------------
 */

static int epoll_open(struct weir__engine **engine, const struct weir__engine_ops *ops,
                      const struct weir__poller_ops *poller_ops, struct weir__engine_env *env,
                      const struct weir__engine_options *options, char *why, size_t why_bytes)
{
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0) {
        int rc = -errno;
        snprintf(why, why_bytes, "%s: epoll_create1: %s; raise the limit of open files (ulimit -n)",
                 ops->name, strerror(-rc));
        return rc;
    }
    struct timespec none = {0};
    struct epoll_event event;
    bool pwait2 = syscall(SYS_epoll_pwait2, epoll_fd, &event, 1, &none, NULL, 0) == 0;
    uint64_t features =
        (pwait2 ? FEATURE_PWAIT2 : 0u) | (poller_ops->edge ? FEATURE_SHORT_READ : 0u);
    struct weir__reactor *reactor;
    int rc = weir__reactor_open(&reactor, sizeof(struct epoll_poller), ops, poller_ops, env,
                                options, features, why, why_bytes);
    if (rc < 0) {
        close(epoll_fd);
        return rc;
    }
    poller_of(reactor)->epoll_fd = epoll_fd;
    /* Edge-triggered in both: a wake is seen once, and the eventfd need not be read. */
    event = (struct epoll_event){.events = EPOLLIN | EPOLLET, .data.u64 = WAKE_ID};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, reactor->wake_fd, &event) < 0) {
        rc = -errno;
        snprintf(why, why_bytes, "%s: epoll_ctl: %s; raise fs.epoll.max_user_watches", ops->name,
                 strerror(-rc));
        close(epoll_fd);
        weir__reactor_abandon(reactor);
        return rc;
    }
    *engine = &reactor->engine;
    return 0;
}

static void epoll_close(struct weir__reactor *reactor)
{
    close(poller_of(reactor)->epoll_fd);
}

/* Milliseconds, rounded up: a wait must not end before its deadline and then spin. */
static int milliseconds(const struct timespec *left)
{
    if (!left)
        return -1;
    if (left->tv_sec > INT_MAX / 1000 - 1)
        return INT_MAX;
    return (int)(left->tv_sec * 1000 + (left->tv_nsec + 999999) / 1000000);
}

static int wait_once(struct epoll_poller *poller, int count, uint64_t deadline_ns)
{
    struct weir__reactor *reactor = &poller->reactor;
    struct timespec left;
    const struct timespec *timeout = weir__reactor_time_left(deadline_ns, &left);
    reactor->counters.waits++;
    reactor->counters.syscalls++;
    long n =
        reactor->features & FEATURE_PWAIT2 && timeout && deadline_ns
            ? syscall(SYS_epoll_pwait2, poller->epoll_fd, poller->events, count, timeout, NULL, 0)
            : epoll_wait(poller->epoll_fd, poller->events, count, milliseconds(timeout));
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    return (int)n;
}

/* The record an event is for. NULL: it was a wake, or the descriptor it was for is closed. In the
 * latter case, unless one was closed since the kernel reported, the set holds a stale entry. */
static struct weir__watch *event_watch(struct epoll_poller *poller, const struct epoll_event *event,
                                       int *fd, bool *stale)
{
    if (event->data.u64 == WAKE_ID) {
        weir__reactor_woken(&poller->reactor, false);
        return NULL;
    }
    *fd = (int)(uint32_t)event->data.u64;
    struct weir__watch *watch = weir__watch_at(&poller->reactor.watches, *fd);
    if (watch->generation == event->data.u64 >> 32 && watch->interest)
        return watch;
    *stale = true;
    return NULL;
}

static void epoll_forget(struct weir__reactor *reactor, int fd, struct weir__watch *watch)
{
    poller_of(reactor)->forgotten++;
    watch->generation++;
    watch->interest = 0;
    watch->state &= WEIR__WATCH_LISTED;
}

/* --- level-triggered -----------------------------------------------------------------------------
 */

static int level_arm(struct weir__reactor *reactor, int fd, struct weir__watch *watch)
{
    unsigned want = weir__watch_want(watch);
    return want & ~(unsigned)watch->interest ? set_interest(poller_of(reactor), fd, watch, want)
                                             : 0;
}

static void level_relax(struct weir__reactor *reactor, int fd, struct weir__watch *watch, bool now)
{
    unsigned want = weir__watch_want(watch);
    if (now && want != watch->interest)
        set_interest(poller_of(reactor), fd, watch, want);
    else if (watch->interest & WEIR__OUT & ~want)
        list_append(poller_of(reactor), fd, watch);
}

static void drop_idle_output(struct epoll_poller *poller)
{
    for (int fd; (fd = list_take(poller)) >= 0;) {
        struct weir__watch *watch = weir__watch_at(&poller->reactor.watches, fd);
        if (watch->interest & WEIR__OUT & ~weir__watch_want(watch))
            set_interest(poller, fd, watch, watch->interest & ~(unsigned)WEIR__OUT);
    }
}

static int level_wait(struct weir__reactor *reactor, uint64_t deadline_ns)
{
    struct epoll_poller *poller = poller_of(reactor);
    drop_idle_output(poller);
    int n = wait_once(poller, weir__reactor_turn_events(reactor), deadline_ns);
    uint64_t forgotten = poller->forgotten;
    bool stale = false;
    for (int i = 0; i < n; i++) {
        int fd;
        struct weir__watch *watch = event_watch(poller, &poller->events[i], &fd, &stale);
        if (!watch)
            continue;
        unsigned ready = directions(poller->events[i].events), want = weir__watch_want(watch);
        if (ready & watch->interest & ~want || !want)
            set_interest(poller, fd, watch, want);
        if (want)
            weir__reactor_deliver(reactor, fd, watch, ready);
    }
    if (stale && forgotten == poller->forgotten)
        return rebuild_set(poller);
    return n < 0 ? n : 0;
}

static const struct weir__poller_ops level_poller = {
    .close = epoll_close,
    .arm = level_arm,
    .relax = level_relax,
    .forget = epoll_forget,
    .wait = level_wait,
};

static int level_open(struct weir__engine **engine, struct weir__engine_env *env,
                      const struct weir__engine_options *options, char *why, size_t why_bytes)
{
    return epoll_open(engine, &weir__engine_epoll, &level_poller, env, options, why, why_bytes);
}

const struct weir__engine_ops weir__engine_epoll = {
    .name = "epoll",
    .summary = "reactor on epoll, level-triggered",
    .feature_names = epoll_features,
    .open = level_open,
    WEIR__REACTOR_OPS,
};

/* --- edge-triggered ------------------------------------------------------------------------------
 */

static int edge_arm(struct weir__reactor *reactor, int fd, struct weir__watch *watch)
{
    struct epoll_poller *poller = poller_of(reactor);
    unsigned want = weir__watch_want(watch);
    if (want & ~(unsigned)watch->interest) {
        /* Both calls report what is ready already as a new edge. */
        int rc = set_interest(poller, fd, watch, want | watch->interest);
        if (rc < 0)
            return rc;
        if (!(poller->reactor.features & FEATURE_SHORT_READ))
            watch->state |= WEIR__WATCH_DRAIN;
    }
    if (watch->state & want)
        list_append(poller, fd, watch);
    return 0;
}

static void edge_relax(struct weir__reactor *reactor, int fd, struct weir__watch *watch, bool now)
{
    if (!now || weir__watch_want(watch))
        return;
    set_interest(poller_of(reactor), fd, watch, 0);
    watch->state &= WEIR__WATCH_LISTED;
}

/* Up to WEIR__TURN_RECVS services of one descriptor; then it goes to the end of the list. Returns
 * how many. */
static int serve_share(struct epoll_poller *poller, int fd)
{
    struct weir__watch *watch = weir__watch_at(&poller->reactor.watches, fd);
    int served = 0;
    unsigned ready;
    while ((ready = watch->state & weir__watch_want(watch)) && served < WEIR__TURN_RECVS) {
        weir__reactor_deliver(&poller->reactor, fd, watch, ready);
        served++;
    }
    if (ready)
        list_append(poller, fd, watch);
    return served;
}

static int edge_wait(struct weir__reactor *reactor, uint64_t deadline_ns)
{
    struct epoll_poller *poller = poller_of(reactor);
    int n = wait_once(poller, WEIR__TURN_EVENTS, poller->list_count ? 0 : deadline_ns);
    bool stale = false;
    for (int i = 0; i < n; i++) {
        int fd;
        uint32_t bits = poller->events[i].events;
        struct weir__watch *watch = event_watch(poller, &poller->events[i], &fd, &stale);
        if (!watch)
            continue;
        watch->state |= (uint8_t)directions(bits);
        if (bits & (EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI))
            watch->state |= WEIR__WATCH_DRAIN;
        if (watch->state & weir__watch_want(watch))
            list_append(poller, fd, watch);
    }
    /* Each record at most once: those that have more to give have gone to the end. */
    int budget = weir__reactor_turn_events(reactor);
    for (uint32_t count = poller->list_count; count > 0 && budget > 0; count--)
        budget -= serve_share(poller, list_take(poller));
    return n < 0 ? n : 0; /* a stale entry's edges cost an event each and cannot spin */
}

static const struct weir__poller_ops edge_poller = {
    .edge = true,
    .close = epoll_close,
    .arm = edge_arm,
    .relax = edge_relax,
    .forget = epoll_forget,
    .wait = edge_wait,
};

static int edge_open(struct weir__engine **engine, struct weir__engine_env *env,
                     const struct weir__engine_options *options, char *why, size_t why_bytes)
{
    return epoll_open(engine, &weir__engine_epoll_et, &edge_poller, env, options, why, why_bytes);
}

const struct weir__engine_ops weir__engine_epoll_et = {
    .name = "epoll-et",
    .summary = "reactor on epoll, edge-triggered: drains what is ready",
    .feature_names = epoll_et_features,
    .open = edge_open,
    WEIR__REACTOR_OPS,
};
