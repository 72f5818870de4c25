/*
 * The poller on select(2). Its bitmaps are allocated to the size of the highest descriptor, which
 * Linux accepts: so it is not limited to FD_SETSIZE, and says so as the feature `big_fdset`. FD_SET
 * is never used: it would write beyond an fd_set. The results are scanned by words.
 *
 * select() costs the kernel O(highest descriptor). What one call found ready is therefore served
 * completely, in turns, before the next call.
 */
#include "legacy/reactor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>

enum { FEATURE_BIG_FDSET = 1 };
static const char *const select_features[] = {"big_fdset", NULL};

typedef unsigned long word;
enum { WORD_BITS = 8 * sizeof(word), SETS = 3 };
static_assert(WEIR__IN == 1 << 0 && WEIR__OUT == 1 << 1 && WEIR__PRI == 1 << 2,
              "set i holds direction 1 << i, in select()'s order");

struct select_poller {
    struct weir__reactor reactor; /* first */
    /* watched[0..2], then found[0..2]: for input, output, exceptions. One allocation. */
    word *watched[SETS], *found[SETS];
    uint32_t words;       /* of each bitmap */
    uint32_t used_words;  /* up to the highest word that may hold a watched bit */
    uint32_t cursor;      /* next word of `found` to look at */
    uint32_t found_words; /* 0: time for the next call */
    int fd_seen;          /* the highest descriptor that was open when it was armed */
};

static struct select_poller *poller_of(struct weir__reactor *reactor)
{
    return (struct select_poller *)reactor;
}

/* --- the bitmaps
 * ---------------------------------------------------------------------------------- */

static int grow(struct select_poller *poller, int fd)
{
    uint32_t need = (uint32_t)fd / WORD_BITS + 1, words = poller->words;
    if (need <= words)
        return 0;
    words = words ? words : FD_SETSIZE / WORD_BITS;
    while (words < need)
        words *= 2;
    word *memory = calloc((size_t)words * SETS * 2, sizeof *memory);
    if (!memory)
        return -ENOMEM;
    word *old = poller->watched[0];
    for (int i = 0; i < SETS; i++) {
        word *watched = memory + (size_t)words * i, *found = memory + (size_t)words * (SETS + i);
        if (old) {
            memcpy(watched, poller->watched[i], sizeof *memory * poller->words);
            memcpy(found, poller->found[i], sizeof *memory * poller->words);
        }
        poller->watched[i] = watched;
        poller->found[i] = found;
    }
    free(old);
    poller->words = words;
    return 0;
}

static void set_interest(struct select_poller *poller, int fd, struct weir__watch *watch,
                         unsigned interest)
{
    uint32_t at = (uint32_t)fd / WORD_BITS;
    word bit = (word)1 << fd % WORD_BITS;
    for (int i = 0; i < SETS; i++) {
        if (interest >> i & 1) {
            poller->watched[i][at] |= bit;
        } else {
            poller->watched[i][at] &= ~bit;
            poller->found[i][at] &= ~bit;
        }
    }
    if (interest && at >= poller->used_words)
        poller->used_words = at + 1;
    watch->interest = (uint8_t)interest;
}

/* The kernel ignores bits beyond the process's descriptor table instead of saying EBADF; the table
 * never shrinks, so only a new highest descriptor needs a look. */
static int check_open(struct select_poller *poller, int fd)
{
    if (fd <= poller->fd_seen)
        return 0;
    poller->reactor.counters.syscalls++;
    if (fcntl(fd, F_GETFD) < 0)
        return -errno;
    poller->fd_seen = fd;
    return 0;
}

static int select_arm(struct weir__reactor *reactor, int fd, struct weir__watch *watch)
{
    struct select_poller *poller = poller_of(reactor);
    int rc = check_open(poller, fd);
    if (rc == 0)
        rc = grow(poller, fd);
    if (rc == 0)
        set_interest(poller, fd, watch, weir__watch_want(watch));
    return rc;
}

static void select_relax(struct weir__reactor *reactor, int fd, struct weir__watch *watch, bool now)
{
    set_interest(poller_of(reactor), fd, watch, weir__watch_want(watch));
}

static void select_forget(struct weir__reactor *reactor, int fd, struct weir__watch *watch)
{
    if (watch->interest)
        set_interest(poller_of(reactor), fd, watch, 0);
    watch->state = 0;
}

/* --- the wait
 * ------------------------------------------------------------------------------------- */

/* select() says only that some descriptor is bad. */
static void fail_bad_descriptors(struct select_poller *poller)
{
    struct weir__reactor *reactor = &poller->reactor;
    int fds = (int)(poller->used_words * WORD_BITS);
    for (int fd = 0; fd < fds; fd++) {
        struct weir__watch *watch = weir__watch_find(&reactor->watches, fd);
        if (!watch || !watch->interest)
            continue;
        reactor->counters.syscalls++;
        if (fcntl(fd, F_GETFD) < 0)
            weir__reactor_fail(reactor, fd, watch, -errno);
    }
}

static void trim_used_words(struct select_poller *poller)
{
    while (poller->used_words) {
        uint32_t last = poller->used_words - 1;
        if (poller->watched[0][last] | poller->watched[1][last] | poller->watched[2][last])
            return;
        poller->used_words = last;
    }
}

static int select_once(struct select_poller *poller, uint64_t deadline_ns)
{
    struct weir__reactor *reactor = &poller->reactor;
    struct timespec left;
    fd_set *sets[SETS];
    trim_used_words(poller);
    for (int i = 0; i < SETS; i++) {
        memcpy(poller->found[i], poller->watched[i], sizeof(word) * poller->used_words);
        sets[i] = (fd_set *)poller->found[i];
    }
    reactor->counters.waits++;
    reactor->counters.syscalls++;
    int n = pselect((int)(poller->used_words * WORD_BITS), sets[0], sets[1], sets[2],
                    weir__reactor_time_left(deadline_ns, &left), NULL);
    int error = n < 0 ? errno : 0;
    if (n > 0) {
        poller->cursor = 0;
        poller->found_words = poller->used_words;
    } else if (error == EBADF) {
        fail_bad_descriptors(poller);
    }
    return error && error != EINTR && error != EBADF ? -error : 0;
}

static void serve(struct select_poller *poller, int fd)
{
    struct weir__reactor *reactor = &poller->reactor;
    uint32_t at = (uint32_t)fd / WORD_BITS;
    word bit = (word)1 << fd % WORD_BITS;
    unsigned ready = 0;
    for (int i = 0; i < SETS; i++) {
        ready |= poller->found[i][at] & bit ? 1u << i : 0u;
        poller->found[i][at] &= ~bit;
    }
    if (fd == reactor->wake_fd)
        weir__reactor_woken(reactor, true);
    else
        weir__reactor_deliver(reactor, fd, weir__watch_at(&reactor->watches, fd), ready);
}

static int select_wait(struct weir__reactor *reactor, uint64_t deadline_ns)
{
    struct select_poller *poller = poller_of(reactor);
    if (!poller->found_words) {
        int rc = select_once(poller, deadline_ns);
        if (rc < 0)
            return rc;
    }
    int budget = weir__reactor_turn_events(reactor);
    while (poller->cursor < poller->found_words && budget) {
        uint32_t at = poller->cursor;
        word any = poller->found[0][at] | poller->found[1][at] | poller->found[2][at];
        if (!any) {
            poller->cursor++;
            continue;
        }
        budget--;
        serve(poller, (int)(at * WORD_BITS) + __builtin_ctzl(any));
    }
    if (poller->cursor == poller->found_words)
        poller->found_words = poller->cursor = 0;
    return 0;
}

/* --- the engine
 * ----------------------------------------------------------------------------------- */

static void select_close(struct weir__reactor *reactor)
{
    free(poller_of(reactor)->watched[0]);
}

static const struct weir__poller_ops select_poller = {
    .close = select_close,
    .arm = select_arm,
    .relax = select_relax,
    .forget = select_forget,
    .wait = select_wait,
};

/* Watches the wake descriptor like any other, for input, with a record that holds no op. */
static int watch_wake(struct select_poller *poller)
{
    struct weir__reactor *reactor = &poller->reactor;
    struct weir__watch *watch;
    if (reactor->wake_fd >= reactor->fd_limit)
        return -EMFILE;
    int rc = weir__watch_need(&reactor->watches, reactor->wake_fd, &watch);
    if (rc == 0)
        rc = grow(poller, reactor->wake_fd);
    if (rc == 0)
        set_interest(poller, reactor->wake_fd, watch, WEIR__IN);
    return rc;
}

static int select_open(struct weir__engine **engine, struct weir__engine_env *env,
                       const struct weir__engine_options *options, char *why, size_t why_bytes)
{
    struct weir__reactor *reactor;
    int rc = weir__reactor_open(&reactor, sizeof(struct select_poller), &weir__engine_select,
                                &select_poller, env, options, FEATURE_BIG_FDSET, why, why_bytes);
    if (rc < 0)
        return rc;
    if (!(reactor->features & FEATURE_BIG_FDSET))
        reactor->fd_limit = FD_SETSIZE;
    rc = watch_wake(poller_of(reactor));
    if (rc < 0) {
        snprintf(why, why_bytes, "select: the wake descriptor %d cannot be watched: %s%s",
                 reactor->wake_fd, strerror(-rc), rc == -EMFILE ? "; allow big_fdset" : "");
        select_close(reactor);
        weir__reactor_abandon(reactor);
        return rc;
    }
    *engine = &reactor->engine;
    return 0;
}

const struct weir__engine_ops weir__engine_select = {
    .name = "select",
    .summary = "reactor on select",
    .feature_names = select_features,
    .open = select_open,
    WEIR__REACTOR_OPS,
};
