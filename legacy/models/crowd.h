/*
 * The clients of a loop that has one thread, asks which of them is ready, and serves that one by
 * blocking calls: the `-loop` models are this, each with its own way to ask.
 *
 * A client is its descriptor: what the workload keeps for it and whether it is one stand in tables
 * by that number, so an idle client costs 64 bytes.
 */
#ifndef WEIR_LEGACY_MODELS_CROWD_H
#define WEIR_LEGACY_MODELS_CROWD_H

#include "legacy/models/blocking.h"

enum {
    WEIR__CROWD_WORD_BITS = 8 * sizeof(unsigned long),
    WEIR__CROWD_ACCEPTS = 64, /* the most to accept before those who are in are served */
};

struct weir__crowd {
    struct weir__acceptor acceptor;
    struct weir__blocking *blocking;
    struct weir__session *sessions; /* by descriptor */
    unsigned long *open; /* a bit for each descriptor that is a client: select's own set */
    unsigned words;      /* of `open` */
    unsigned used_words; /* of `open`, all beyond are 0 */
    int listen_flags;    /* to be put back */
};

/* The listening socket becomes non-blocking, because its client may be gone again when it is
 * accepted from. 0 or -errno. To be finished even then. */
int weir__crowd_init(struct weir__crowd *crowd, const struct weir_model_options *options,
                     struct weir_model_counters *counters);

/* A new client's descriptor (blocking), or -errno of weir__accept(); -EAGAIN also where there is no
 * memory for one, which was turned away. */
int weir__crowd_accept(struct weir__crowd *crowd);

/* Receives once and sends the answer, however long that takes. False: the client is gone. */
bool weir__crowd_serve(struct weir__crowd *crowd, int fd);

/* Closes a client that cannot be watched: -errno. */
void weir__crowd_drop(struct weir__crowd *crowd, int fd, int error);

/* Once stopping: answers what has come from each client, in turns, and closes it. Undoes init. */
void weir__crowd_finish(struct weir__crowd *crowd);

#endif
