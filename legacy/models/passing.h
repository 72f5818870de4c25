/*
 * Connections that one process accepts and others serve: a descriptor goes through a Unix socket as
 * ancillary data (SCM_RIGHTS), and is a new one of the receiver's for the same connection. What
 * prefork-handoff and main-sub-procs share: the sockets, and the loop of the parent.
 *
 * The parent keeps both ends of each worker's socket. So what a worker had not taken out when it
 * died is not lost: its successor inherits the socket with what is in it.
 */
#ifndef WEIR_LEGACY_MODELS_PASSING_H
#define WEIR_LEGACY_MODELS_PASSING_H

#include <weir/procs.h>

#include "legacy/models/serving.h"

/* --- one descriptor -----------------------------------------------------------------------------
 */

/* Passes `fd`, which stays the caller's. Never blocks. 0; -EAGAIN: the socket is full (its send
 * buffer holds about 270), or the kernel lacks memory or has too many under way; or -errno. */
int weir__passing_send(int channel, int fd);

/* Takes one out: a descriptor that is closed on exec. Blocks unless `flags` have MSG_DONTWAIT.
 * -EAGAIN, -EINTR. -EMFILE: this process may have no more, and the kernel has closed the one that
 * came: a connection is lost, which its peer sees. */
int weir__passing_receive(int channel, int flags);

/* --- the parent ---------------------------------------------------------------------------------
 */

struct weir__passing {
    const struct weir_model *model;
    const struct weir_model_options *options;
    struct weir_model_stats *stats;
    unsigned workers;
    int accept_flags; /* of accept4(2): SOCK_NONBLOCK or 0 */
    int news_fd;      /* -1: none */
    /* When news_fd is readable. */
    void (*news)(struct weir__passing *passing);
    /* Whether a worker waits for a connection; until then none is accepted. NULL: always. */
    bool (*wanted)(const struct weir__passing *passing);
    /* Sends it to one of them. 0; -EAGAIN: to be tried again, and none is accepted before; or
     * -errno: it is turned away. */
    int (*pass)(struct weir__passing *passing, int fd);
    /* As in <weir/procs.h>; `argument` is this struct. */
    int (*work)(void *argument, unsigned index);
    void (*stop)(void);
    void (*died)(void *argument, unsigned index);

    /* From here on the parent's own. */
    struct weir_procs *procs;
    struct weir__acceptor acceptor;
    int listen_flags;   /* to be put back */
    int in_hand;        /* accepted, and every socket was full; -1: none */
    int (*channels)[2]; /* of each worker: the parent's end, the worker's end */
};

/* The body of weir_model.serve. All above `procs` is set. */
int weir__passing_serve(struct weir__passing *passing,
                        void (*ready)(void *argument, const char *features), void *argument,
                        char *why, size_t why_bytes);

/* First in a worker: closes what is the parent's or another worker's. Returns its own end. */
int weir__passing_become_worker(struct weir__passing *passing, unsigned index);

#endif
