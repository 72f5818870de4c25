/*
 * The poller on poll(2): a dense array with one entry for each descriptor that an op waits on, and
 * none for others. An entry is found through the record's `link` and removed by moving the last one
 * into its place, so both are O(1); the array is scanned downwards, which makes that safe while ops
 * complete, and only until all that poll() counted is found.
 *
 * poll() costs the kernel O(entries). What one call found ready is therefore served completely, in
 * turns, before the next call.
 */
#include "legacy/reactor.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

enum { ENTRIES = 1 << 20, SPARE_ENTRIES = 64 /* for descriptors that are no connections */ };

struct poll_poller {
    struct weir__reactor reactor; /* first */
    struct pollfd *set;           /* [0] is the wake descriptor; link 0 means "not here" */
    uint32_t count, capacity;
    uint32_t cursor; /* entries from here on are served; 0: time for the next call */
    uint32_t ready;  /* entries below `cursor` that may have revents */
};

static struct poll_poller *poller_of(struct weir__reactor *reactor)
{
    return (struct poll_poller *)reactor;
}

static short poll_bits(unsigned interest)
{
    return (short)((interest & WEIR__IN ? POLLIN : 0) | (interest & WEIR__OUT ? POLLOUT : 0) |
                   (interest & WEIR__PRI ? POLLPRI : 0));
}

static unsigned directions(short bits)
{
    return (bits & (POLLIN | POLLHUP | POLLERR) ? WEIR__IN : 0u) |
           (bits & (POLLOUT | POLLHUP | POLLERR) ? WEIR__OUT : 0u) |
           (bits & POLLPRI ? WEIR__PRI : 0u);
}

static int grow(struct poll_poller *poller, uint32_t capacity)
{
    struct pollfd *set = realloc(poller->set, sizeof *set * capacity);
    if (!set)
        return -ENOMEM;
    poller->set = set;
    poller->capacity = capacity;
    return 0;
}

static void poll_forget(struct weir__reactor *reactor, int fd, struct weir__watch *watch)
{
    struct poll_poller *poller = poller_of(reactor);
    uint32_t place = watch->link;
    watch->interest = watch->state = 0;
    if (!place)
        return;
    watch->link = 0;
    struct pollfd *last = &poller->set[--poller->count];
    if (place != poller->count) {
        poller->set[place] = *last;
        weir__watch_at(&reactor->watches, last->fd)->link = place;
    }
    if (poller->cursor > poller->count)
        poller->cursor = poller->count;
}

static int poll_arm(struct weir__reactor *reactor, int fd, struct weir__watch *watch)
{
    struct poll_poller *poller = poller_of(reactor);
    unsigned want = weir__watch_want(watch);
    if (!watch->link) {
        int rc = poller->count < poller->capacity ? 0 : grow(poller, poller->capacity * 2);
        if (rc < 0)
            return rc;
        poller->set[poller->count] = (struct pollfd){.fd = fd};
        watch->link = poller->count++;
    }
    poller->set[watch->link].events = poll_bits(want);
    watch->interest = (uint8_t)want;
    return 0;
}

static void poll_relax(struct weir__reactor *reactor, int fd, struct weir__watch *watch, bool now)
{
    unsigned want = weir__watch_want(watch);
    if (!want) {
        poll_forget(reactor, fd, watch); /* an entry without events still reports hang-ups */
        return;
    }
    poller_of(reactor)->set[watch->link].events = poll_bits(want);
    watch->interest = (uint8_t)want;
}

static int poll_once(struct poll_poller *poller, uint64_t deadline_ns)
{
    struct weir__reactor *reactor = &poller->reactor;
    struct timespec left;
    reactor->counters.waits++;
    reactor->counters.syscalls++;
    int n = ppoll(poller->set, poller->count, weir__reactor_time_left(deadline_ns, &left), NULL);
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    poller->ready = (uint32_t)n;
    poller->cursor = poller->count;
    return n;
}

static void serve(struct poll_poller *poller, uint32_t place)
{
    struct weir__reactor *reactor = &poller->reactor;
    struct pollfd *entry = &poller->set[place];
    int fd = entry->fd;
    short bits = entry->revents;
    entry->revents = 0; /* it may move below the cursor and be met again */
    if (place == 0) {
        weir__reactor_woken(reactor, true);
        return;
    }
    struct weir__watch *watch = weir__watch_at(&reactor->watches, fd);
    if (bits & POLLNVAL)
        weir__reactor_fail(reactor, fd, watch, -EBADF);
    else
        weir__reactor_deliver(reactor, fd, watch, directions(bits));
}

static int poll_wait(struct weir__reactor *reactor, uint64_t deadline_ns)
{
    struct poll_poller *poller = poller_of(reactor);
    if (!poller->cursor) {
        int n = poll_once(poller, deadline_ns);
        if (n <= 0) {
            poller->cursor = 0;
            return n;
        }
    }
    int budget = weir__reactor_turn_events(reactor);
    while (poller->cursor && poller->ready && budget) {
        uint32_t place = --poller->cursor;
        if (!poller->set[place].revents)
            continue;
        poller->ready--;
        budget--;
        serve(poller, place);
    }
    if (!poller->ready)
        poller->cursor = 0;
    return 0;
}

static void poll_close(struct weir__reactor *reactor)
{
    free(poller_of(reactor)->set);
}

static const struct weir__poller_ops poll_poller = {
    .close = poll_close,
    .arm = poll_arm,
    .relax = poll_relax,
    .forget = poll_forget,
    .wait = poll_wait,
};

static int poll_open(struct weir__engine **engine, struct weir__engine_env *env,
                     const struct weir__engine_options *options, char *why, size_t why_bytes)
{
    struct weir__reactor *reactor;
    int rc = weir__reactor_open(&reactor, sizeof(struct poll_poller), &weir__engine_poll,
                                &poll_poller, env, options, 0, why, why_bytes);
    if (rc < 0)
        return rc;
    struct poll_poller *poller = poller_of(reactor);
    /* As large as it should get: what is not used yet is not touched, and costs nothing. */
    uint32_t conns = options->conns_max < ENTRIES ? options->conns_max : ENTRIES;
    rc = grow(poller, conns + SPARE_ENTRIES);
    if (rc < 0) {
        snprintf(why, why_bytes, "poll: out of memory for the descriptor array");
        weir__reactor_abandon(reactor);
        return rc;
    }
    poller->set[poller->count++] = (struct pollfd){.fd = reactor->wake_fd, .events = POLLIN};
    *engine = &reactor->engine;
    return 0;
}

const struct weir__engine_ops weir__engine_poll = {
    .name = "poll",
    .summary = "reactor on poll",
    .open = poll_open,
    WEIR__REACTOR_OPS,
};
