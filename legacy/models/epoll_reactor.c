/*
 * epoll-reactor: one thread, callbacks and a state per connection, level-triggered epoll.
 *
 * How it works: the kernel holds the set of descriptors, and gives back those that are ready with
 * the pointer that was left with each: to a handler, which is called. A connection's handler
 * receives once, answers, and returns; what it has to remember for the next time stands in its
 * struct, for there is no stack that would keep it. If input is left, the level tells it again in
 * the next turn, so no connection can hold up the others for longer than one buffer. The set is
 * changed only when a socket is full, and when there is room again: a request is recv and send.
 *
 * Who uses it: Redis (ae.c), memcached, libevent, libev and libuv; nginx and HAProxy are its
 * edge-triggered sisters. In the books, Schmidt's Reactor.
 *
 * Where it breaks: it has one core, and every handler is everybody's latency: one that computes
 * for 10 ms stops all for 10 ms. A protocol of many steps becomes a machine of many states, its
 * locals scattered over structs. Idle connections cost it nothing: 10,000 of them are a list that
 * nobody walks.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "legacy/models/callback.h"

extern const struct weir_model weir__model_epoll_reactor;

enum { EVENTS = 256 };

/* --- the readiness call, which other models use, too --------------------------------------------
 */

struct epoll_set {
    int fd;
    struct epoll_event events[EVENTS];
};

int weir__epoll_open(struct weir__callbacks *reactor)
{
    struct epoll_set *set = malloc(sizeof *set);
    if (!set)
        return -ENOMEM;
    set->fd = epoll_create1(EPOLL_CLOEXEC);
    if (set->fd < 0) {
        int error = -errno;
        free(set);
        return error;
    }
    reactor->set = set;
    return 0;
}

void weir__epoll_close(struct weir__callbacks *reactor)
{
    struct epoll_set *set = reactor->set;
    close(set->fd);
    free(set);
    reactor->set = NULL;
}

static struct epoll_event event_of(struct weir__handler *handler, unsigned events)
{
    struct epoll_event event = {.data.ptr = handler};
    event.events |= events & WEIR__READABLE ? EPOLLIN | EPOLLRDHUP : 0u;
    event.events |= events & WEIR__WRITABLE ? EPOLLOUT : 0u;
    event.events |= events & WEIR__EDGE ? EPOLLET : 0u;
    event.events |= events & WEIR__ONCE ? EPOLLONESHOT : 0u;
    return event;
}

int weir__epoll_watch(struct weir__callbacks *reactor, struct weir__handler *handler,
                      unsigned events)
{
    const struct epoll_set *set = reactor->set;
    struct epoll_event event = event_of(handler, events);
    if (!events && !handler->note)
        return 0;
    int what = !events ? EPOLL_CTL_DEL : handler->note ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(set->fd, what, handler->fd, &event) < 0)
        return -errno;
    handler->note = events;
    return 0;
}

/* ThreadSanitizer knows of a hand-over through the kernel only when a descriptor is added, so its
 * wrapper of epoll_ctl() is not called. */
int weir__epoll_rearm(struct weir__callbacks *reactor, int fd, struct weir__handler *handler,
                      unsigned events)
{
    const struct epoll_set *set = reactor->set;
    struct epoll_event event = event_of(handler, events);
    return syscall(SYS_epoll_ctl, set->fd, EPOLL_CTL_MOD, fd, &event) < 0 ? -errno : 0;
}

static unsigned told(uint32_t bits)
{
    unsigned events = bits & EPOLLIN ? WEIR__READABLE : 0u;
    events |= bits & EPOLLOUT ? WEIR__WRITABLE : 0u;
    if (bits & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        events |= WEIR__HANGUP | WEIR__READABLE | WEIR__WRITABLE;
    return events;
}

int weir__epoll_wait(struct weir__callbacks *reactor, int timeout_ms)
{
    struct epoll_set *set = reactor->set;
    int n = epoll_wait(set->fd, set->events, EVENTS, timeout_ms);
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < n; i++) {
        struct weir__handler *handler = set->events[i].data.ptr;
        handler->ready(reactor, handler, told(set->events[i].events));
    }
    return n;
}

const struct weir__readiness weir__readiness_epoll = {
    .open = weir__epoll_open,
    .close = weir__epoll_close,
    .watch = weir__epoll_watch,
    .wait = weir__epoll_wait,
};

/* --- the model ----------------------------------------------------------------------------------
 */

static int serve(const struct weir_model_options *options, struct weir_model_stats *stats,
                 void (*ready)(void *argument, const char *features), void *argument, char *why,
                 size_t why_bytes)
{
    return weir__callbacks_alone(&weir__model_epoll_reactor, &weir__readiness_epoll, options, stats,
                                 ready, argument, why, why_bytes);
}

const struct weir_model weir__model_epoll_reactor = {
    .name = "epoll-reactor",
    .summary = "callbacks and a state per connection, level-triggered epoll",
    .seed_name = "epollreactorsingleprocess",
    .traits = WEIR_MODEL_REACTOR,
    .serve = serve,
};
