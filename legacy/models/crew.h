/*
 * Reactors of callbacks in threads: the first is served by the thread that calls, for it has
 * nothing else to do, and a process without a second thread pays less for every system call (its
 * table of descriptors is not shared); the others by a thread each.
 */
#ifndef WEIR_LEGACY_MODELS_CREW_H
#define WEIR_LEGACY_MODELS_CREW_H

#include <pthread.h>

#include "legacy/models/callback.h"

struct weir__crew;

struct weir__crew_member {
    struct weir__callbacks reactor; /* first: on epoll */
    struct weir__crew *crew;
    struct weir__handler mailbox; /* for the model: descriptors that it is handed; fd < 0: none */
    int post_fd;                  /* where to put them; -1: none */
    int listen_fd;                /* of its own; -1: none */
    pthread_t thread;
    bool in_thread;
    int result;
};

struct weir__crew {
    const struct weir_model_options *options;
    struct weir__crew_member **members; /* the first is the caller's thread's */
    unsigned count;
    int quit_fd; /* readable once a member cannot go on */
    /* When the first member was told to stop, before its drain. NULL: nothing is to be done. */
    void (*stopped)(struct weir__crew *crew);
    unsigned turn; /* for the model: whose turn it is */
};

/* 0, or -errno; to be closed even then. Member i counts in slot i. */
int weir__crew_open(struct weir__crew *crew, const struct weir_model_options *options,
                    struct weir_model_stats *stats, unsigned count);

/* Member `index` stops with the server, and when another fails. Each member must: by this, or in
 * the model's way. 0 or -errno. */
int weir__crew_stops(struct weir__crew *crew, unsigned index);

/* Serves until all have stopped and drained. 0, or -errno of the first that failed. */
int weir__crew_run(struct weir__crew *crew, const char *features,
                   void (*ready)(void *argument, const char *features), void *argument);

void weir__crew_close(struct weir__crew *crew);

#endif
