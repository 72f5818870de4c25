/*
 * poll-reactor: one thread, callbacks and a state per connection, on poll(2).
 *
 * How it works: an array holds a descriptor and the wanted events of each connection, another, in
 * the same order, the handler. The whole array goes to the kernel with every call, which looks at
 * each socket, and is walked again to find those that are ready. A connection that ends leaves its
 * place to the last. What a client has not taken waits in a queue of its own, of one answer and
 * the input behind it: meanwhile it waits to be writable, and not to be readable.
 *
 * Who uses it: portable programs with some dozens of descriptors (OpenSSH, curl, X clients), and
 * libevent or libuv where there is nothing better.
 *
 * Where it breaks: it has no limit like FD_SETSIZE, but each turn costs a step for each connection,
 * idle ones too, in the kernel and again here. How much that is of a request follows from how many
 * are ready and share a turn: half of the connections idle and the others busy, they add a tenth at
 * 1000 and at 10,000 (`bench/compare --growth`); with few busy ones it is most of the CPU.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "legacy/models/callback.h"

extern const struct weir_model weir__model_poll_reactor;

enum { FIRST_PLACES = 64 };

struct poll_set {
    struct pollfd *polled;
    struct weir__handler **handlers; /* handlers[i]->note == i + 1 */
    uint32_t count, places;
};

static void close_set(struct weir__callbacks *reactor)
{
    struct poll_set *set = reactor->set;
    free(set->polled);
    free(set->handlers);
    free(set);
    reactor->set = NULL;
}

static int grow(struct poll_set *set, uint32_t places)
{
    struct pollfd *polled = realloc(set->polled, sizeof *polled * places);
    if (!polled)
        return -ENOMEM;
    set->polled = polled;
    struct weir__handler **handlers = realloc(set->handlers, sizeof *handlers * places);
    if (!handlers)
        return -ENOMEM;
    set->handlers = handlers;
    set->places = places;
    return 0;
}

static int open_set(struct weir__callbacks *reactor)
{
    struct poll_set *set = calloc(1, sizeof *set);
    if (!set)
        return -ENOMEM;
    reactor->set = set;
    return grow(set, FIRST_PLACES);
}

static void forget(struct poll_set *set, struct weir__handler *handler)
{
    uint32_t place = handler->note - 1, last = --set->count;
    handler->note = 0;
    if (place == last)
        return;
    set->polled[place] = set->polled[last];
    set->handlers[place] = set->handlers[last];
    set->handlers[place]->note = place + 1;
}

static int watch(struct weir__callbacks *reactor, struct weir__handler *handler, unsigned events)
{
    struct poll_set *set = reactor->set;
    if (!events && handler->note)
        forget(set, handler);
    if (!events)
        return 0;
    if (!handler->note) {
        int rc = set->count < set->places ? 0 : grow(set, set->places * 2);
        if (rc < 0)
            return rc;
        set->handlers[set->count] = handler;
        set->polled[set->count] = (struct pollfd){.fd = handler->fd};
        handler->note = ++set->count;
    }
    set->polled[handler->note - 1].events =
        (short)((events & WEIR__READABLE ? POLLIN : 0) | (events & WEIR__WRITABLE ? POLLOUT : 0));
    return 0;
}

static unsigned told(short bits)
{
    unsigned events = bits & POLLIN ? WEIR__READABLE : 0u;
    events |= bits & POLLOUT ? WEIR__WRITABLE : 0u;
    if (bits & (POLLHUP | POLLERR | POLLNVAL))
        events |= WEIR__HANGUP | WEIR__READABLE | WEIR__WRITABLE;
    return events;
}

/* From the end: what a handler that forgets itself moves to its place has been served, and what one
 * adds stands behind. */
static int wait(struct weir__callbacks *reactor, int timeout_ms)
{
    struct poll_set *set = reactor->set;
    int n = poll(set->polled, set->count, timeout_ms);
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    int left = n;
    for (uint32_t place = set->count; place-- > 0 && left > 0;) {
        short bits = set->polled[place].revents;
        if (!bits)
            continue;
        left--;
        set->handlers[place]->ready(reactor, set->handlers[place], told(bits));
    }
    return n;
}

const struct weir__readiness weir__readiness_poll = {
    .open = open_set,
    .close = close_set,
    .watch = watch,
    .wait = wait,
};

static int serve(const struct weir_model_options *options, struct weir_model_stats *stats,
                 void (*ready)(void *argument, const char *features), void *argument, char *why,
                 size_t why_bytes)
{
    return weir__callbacks_alone(&weir__model_poll_reactor, &weir__readiness_poll, options, stats,
                                 ready, argument, why, why_bytes);
}

const struct weir_model weir__model_poll_reactor = {
    .name = "poll-reactor",
    .summary = "callbacks and an output queue per connection, on poll",
    .traits = WEIR_MODEL_REACTOR,
    .serve = serve,
};
