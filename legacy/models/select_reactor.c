/*
 * select-reactor: one thread, callbacks and a state per connection, on select(2).
 *
 * How it works: a bit for each descriptor that is to be readable, another set for those to be
 * writable. Each call takes copies, for it leaves in them the bits of those that are ready, and the
 * words are walked to find them; a table by descriptor says whose they are. What a client has not
 * taken waits in a queue of its own, of one answer and the input behind it: meanwhile its bit is
 * in the other set.
 *
 * Who uses it: the first servers of 4.2BSD, textbooks, and still what must run everywhere with a
 * few descriptors.
 *
 * Where it breaks: an fd_set ends at FD_SETSIZE, 1024, and FD_SET past it writes into whatever lies
 * behind. The kernel knows no such end: bitmaps that are allocated to the highest descriptor go on,
 * which is the feature `big_fdset`. But each turn costs the kernel a look at every watched socket,
 * idle ones too, and a pass over the bits of all descriptors there are: half of the connections
 * idle and the others busy, they add a tenth to a request at 1000 and at 10,000 (`bench/compare
 * --growth`), and more the fewer share a turn.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>

#include "legacy/models/callback.h"

extern const struct weir_model weir__model_select_reactor;

typedef unsigned long word;
enum { WORD_BITS = 8 * sizeof(word), READ = 0, WRITE = 1, SETS = 2 };

struct select_set {
    word *watched[SETS], *found[SETS]; /* one allocation, at watched[0] */
    struct weir__handler **handlers;   /* by descriptor; NULL: none, or handler->note == 0 */
    uint32_t words;                    /* of each bitmap */
    int highest;                       /* descriptor with a handler; -1: none */
};

static void close_set(struct weir__callbacks *reactor)
{
    struct select_set *set = reactor->set;
    free(set->watched[0]);
    free(set->handlers);
    free(set);
    reactor->set = NULL;
}

static int grow(struct select_set *set, uint32_t words)
{
    struct weir__handler **handlers =
        realloc(set->handlers, sizeof *handlers * words * (size_t)WORD_BITS);
    if (!handlers)
        return -ENOMEM;
    set->handlers = handlers;
    word *memory = calloc((size_t)words * SETS * 2, sizeof *memory), *old = set->watched[0];
    if (!memory)
        return -ENOMEM;
    memset(handlers + (size_t)set->words * WORD_BITS, 0,
           sizeof *handlers * (words - set->words) * (size_t)WORD_BITS);
    for (int i = 0; i < SETS; i++) {
        word *watched = memory + (size_t)words * i, *found = memory + (size_t)words * (SETS + i);
        if (old) {
            memcpy(watched, set->watched[i], sizeof *watched * set->words);
            memcpy(found, set->found[i], sizeof *found * set->words);
        }
        set->watched[i] = watched;
        set->found[i] = found;
    }
    free(old);
    set->words = words;
    return 0;
}

static int open_set(struct weir__callbacks *reactor)
{
    struct select_set *set = calloc(1, sizeof *set);
    if (!set)
        return -ENOMEM;
    set->highest = -1;
    reactor->set = set;
    return grow(set, FD_SETSIZE / WORD_BITS);
}

static void put_bit(struct select_set *set, int which, int fd, bool on)
{
    word bit = (word)1 << fd % WORD_BITS, *watched = &set->watched[which][fd / WORD_BITS];
    *watched = on ? *watched | bit : *watched & ~bit;
    if (!on)
        set->found[which][fd / WORD_BITS] &= ~bit;
}

static int watch(struct weir__callbacks *reactor, struct weir__handler *handler, unsigned events)
{
    struct select_set *set = reactor->set;
    int fd = handler->fd;
    if (!events && !handler->note)
        return 0;
    if ((uint32_t)fd >= set->words * WORD_BITS) {
        uint32_t words = set->words * 2, need = (uint32_t)fd / WORD_BITS + 1;
        int rc = grow(set, words > need ? words : need);
        if (rc < 0)
            return rc;
    }
    put_bit(set, READ, fd, events & WEIR__READABLE);
    put_bit(set, WRITE, fd, events & WEIR__WRITABLE);
    set->handlers[fd] = events ? handler : NULL;
    handler->note = events;
    if (fd > set->highest)
        set->highest = fd;
    while (set->highest >= 0 && !set->handlers[set->highest])
        set->highest--;
    return 0;
}

static void call_ready(struct weir__callbacks *reactor, int fd)
{
    struct select_set *set = reactor->set;
    word bit = (word)1 << fd % WORD_BITS;
    word *read = &set->found[READ][fd / WORD_BITS], *write = &set->found[WRITE][fd / WORD_BITS];
    unsigned events = (*read & bit ? WEIR__READABLE : 0u) | (*write & bit ? WEIR__WRITABLE : 0u);
    *read &= ~bit;
    *write &= ~bit;
    set->handlers[fd]->ready(reactor, set->handlers[fd], events);
}

/* A handler may forget others and make the bitmaps grow: nothing of them is kept over a call. */
static int wait(struct weir__callbacks *reactor, int timeout_ms)
{
    struct select_set *set = reactor->set;
    uint32_t words = (uint32_t)(set->highest + WORD_BITS) / WORD_BITS;
    struct timeval limit = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
    memcpy(set->found[READ], set->watched[READ], sizeof(word) * words);
    memcpy(set->found[WRITE], set->watched[WRITE], sizeof(word) * words);
    int n = select(set->highest + 1, (fd_set *)set->found[READ], (fd_set *)set->found[WRITE], NULL,
                   timeout_ms < 0 ? NULL : &limit);
    if (n <= 0) {
        memset(set->found[READ], 0, sizeof(word) * words);
        memset(set->found[WRITE], 0, sizeof(word) * words);
        return n < 0 && errno != EINTR ? -errno : 0;
    }
    for (uint32_t at = 0; at < words; at++) {
        word bits;
        while ((bits = set->found[READ][at] | set->found[WRITE][at]) != 0)
            call_ready(reactor, (int)(at * WORD_BITS) + __builtin_ctzl(bits));
    }
    return n;
}

const struct weir__readiness weir__readiness_select = {
    .open = open_set,
    .close = close_set,
    .watch = watch,
    .wait = wait,
};

static int serve(const struct weir_model_options *options, struct weir_model_stats *stats,
                 void (*ready)(void *argument, const char *features), void *argument, char *why,
                 size_t why_bytes)
{
    snprintf(stats->features, sizeof stats->features, "big_fdset");
    return weir__callbacks_alone(&weir__model_select_reactor, &weir__readiness_select, options,
                                 stats, ready, argument, why, why_bytes);
}

const struct weir_model weir__model_select_reactor = {
    .name = "select-reactor",
    .summary = "callbacks and an output queue per connection, on select",
    .traits = WEIR_MODEL_REACTOR,
    .serve = serve,
};
