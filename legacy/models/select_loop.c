/*
 * select-loop: one thread asks select(2) which clients are ready, and serves each by blocking
 * calls.
 *
 * How it works: a bitmap of all clients goes into the kernel at each turn and comes back with those
 * that may be read from; a walk over it finds them. Who is ready is received from once and answered
 * in full, before the next.
 *
 * Who uses it: every first chapter on network programming, and programs with a handful of
 * descriptors: terminals, VPN daemons, database clients that wait for a socket and a pipe.
 *
 * Where it breaks: each turn costs the highest descriptor, in the kernel and here, whoever is
 * ready. An fd_set ends at descriptor 1024 (FD_SETSIZE), past which FD_SET writes beyond it; Linux
 * takes longer bitmaps, so the ones here grow. And a reader that is slow holds up all: once its
 * socket buffers are full, send(2) waits for this one client and nobody else is served.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>

#include "legacy/models/crowd.h"
#include "legacy/models/stop.h"

extern const struct weir_model weir__model_select_loop;

enum { WORD_BITS = WEIR__CROWD_WORD_BITS };

/* What select() found: a copy of the crowd's bitmap, and the listener's bit. */
struct found {
    unsigned long *bits;
    unsigned words;
};

/* 0 or -errno. */
static int copy_watched(struct weir__crowd *crowd, bool listening, struct found *found)
{
    unsigned word = (unsigned)crowd->acceptor.listen_fd / WORD_BITS;
    unsigned used = word < crowd->used_words ? crowd->used_words : word + 1;
    if (used > found->words) {
        unsigned long *bits = realloc(found->bits, 2 * used * sizeof *bits);
        if (!bits)
            return -ENOMEM;
        found->bits = bits;
        found->words = 2 * used;
    }
    memset(found->bits, 0, used * sizeof *found->bits);
    if (crowd->used_words > 0)
        memcpy(found->bits, crowd->open, crowd->used_words * sizeof *found->bits);
    if (listening)
        found->bits[word] |= 1ul << crowd->acceptor.listen_fd % WORD_BITS;
    return (int)used;
}

/* Fills `found`. The words to look at, or -errno. */
static int ask(struct weir__crowd *crowd, struct found *found)
{
    int pause_ms = weir__acceptor_pause_ms(&crowd->acceptor);
    struct timeval pause = {.tv_sec = pause_ms / 1000, .tv_usec = pause_ms % 1000 * 1000};
    int words = copy_watched(crowd, pause_ms == 0, found);
    if (words < 0)
        return words;
    int n =
        select(words * WORD_BITS, (fd_set *)found->bits, NULL, NULL, pause_ms > 0 ? &pause : NULL);
    if (n > 0)
        return words;
    return n == 0 || errno == EINTR ? 0 : -errno;
}

static int accept_some(struct weir__crowd *crowd)
{
    for (int i = 0; i < WEIR__CROWD_ACCEPTS; i++) {
        int fd = weir__crowd_accept(crowd);
        if (fd < 0)
            return fd == -EAGAIN || fd == -EBUSY || fd == -EINTR ? 0 : fd;
    }
    return 0;
}

/* In the order of descriptors: so one that is closed and given out anew was looked at before. */
static int serve_found(struct weir__crowd *crowd, const struct found *found, int words)
{
    int rc = 0;
    for (int at = 0; at < words && rc == 0; at++)
        for (unsigned long bits = found->bits[at]; bits && rc == 0; bits &= bits - 1) {
            int fd = at * WORD_BITS + __builtin_ctzl(bits);
            if (fd == crowd->acceptor.listen_fd)
                rc = accept_some(crowd);
            else
                weir__crowd_serve(crowd, fd);
        }
    return rc;
}

static int serve(const struct weir_model_options *options, struct weir_model_stats *stats,
                 void (*ready)(void *argument, const char *features), void *argument, char *why,
                 size_t why_bytes)
{
    struct weir__crowd crowd;
    struct found found = {0};
    int rc = weir__crowd_init(&crowd, options, weir__counters(stats, 0));
    if (rc == 0) {
        weir__stop_init(options);
        snprintf(stats->features, sizeof stats->features, "big_fdset");
        ready(argument, stats->features);
    }
    while (rc == 0 && !weir__stopping()) {
        int words = ask(&crowd, &found);
        rc = words < 0 ? words : serve_found(&crowd, &found, words);
    }
    if (rc < 0)
        weir__model_fail(&weir__model_select_loop, -rc, "select or accepting",
                         "hand in a listening socket, descriptors and memory", why, why_bytes);
    weir__stop_interrupts();
    weir__crowd_finish(&crowd);
    free(found.bits);
    return rc;
}

const struct weir_model weir__model_select_loop = {
    .name = "select-loop",
    .summary = "select says which client, it is then served blocking",
    .seed_name = "select",
    .traits = WEIR_MODEL_BLOCKING,
    .serve = serve,
    .stop = weir__stop_interrupts,
};
