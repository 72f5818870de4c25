/*
 * Callbacks on readiness: what the models are made of that keep a state per connection instead of a
 * stack. An event carries a pointer to a handler, and the handler says whom to call. The reactor
 * here accepts, receives, feeds and sends; which call tells of readiness (select, poll, epoll) is a
 * `struct weir__readiness` in the file of a model, and so is when to call what.
 *
 * A connection is a `struct weir__client`. It is received from into a buffer that all share and its
 * answer is sent at once. Only what the socket does not take is kept, together with the input that
 * came behind it; until it has left, the connection is not read from. So an idle connection holds
 * 64 bytes and the state of its workload, one whose peer does not read 84 KiB at the most.
 *
 * A reactor belongs to one thread.
 */
#ifndef WEIR_LEGACY_MODELS_CALLBACK_H
#define WEIR_LEGACY_MODELS_CALLBACK_H

#include "legacy/models/serving.h"

struct weir__callbacks;

/* What a handler waits for, and is told. */
enum {
    WEIR__READABLE = 1,
    WEIR__WRITABLE = 2,
    WEIR__HANGUP = 4, /* told only: no more will come, or an error did; with READABLE, WRITABLE */
    WEIR__EDGE = 8,   /* waited for only: tell each change once */
    WEIR__ONCE = 16,  /* waited for only: tell once, then nothing until it is watched again */
};

/* One descriptor and who is called when it is ready: the first member of what it belongs to. */
struct weir__handler {
    void (*ready)(struct weir__callbacks *reactor, struct weir__handler *handler, unsigned events);
    int fd;
    uint32_t note; /* the readiness call's own; 0: does not know the handler */
};

/* A way to wait for readiness. Its state is reactor->set. */
struct weir__readiness {
    size_t reactor_bytes; /* of a struct that begins with the reactor; 0: the reactor alone */
    int (*open)(struct weir__callbacks *reactor); /* 0 or -errno */
    void (*close)(struct weir__callbacks *reactor);
    /* Waits for `events` from now on, instead of those before; 0: for nothing, forgets it. 0 or
     * -errno; forgetting does not fail. A handler may watch and forget itself, and watch others
     * anew; it must be forgotten before its descriptor is closed. */
    int (*watch)(struct weir__callbacks *reactor, struct weir__handler *handler, unsigned events);
    /* Waits as long as that (-1: for ever) for the next event, and calls all that are ready, once
     * each. How many, or -errno; a signal is no error. */
    int (*wait)(struct weir__callbacks *reactor, int timeout_ms);
};

/* Level-triggered epoll(7), but for handlers that ask for EDGE or ONCE (epoll_reactor.c). */
extern const struct weir__readiness weir__readiness_epoll;
int weir__epoll_open(struct weir__callbacks *reactor);
void weir__epoll_close(struct weir__callbacks *reactor);
int weir__epoll_watch(struct weir__callbacks *reactor, struct weir__handler *handler,
                      unsigned events);
int weir__epoll_wait(struct weir__callbacks *reactor, int timeout_ms);
/* For another thread than the reactor's, to hand a handler back that was told ONCE. The handler is
 * not looked at: from this call on it is the reactor's, and may be gone when the call returns. */
int weir__epoll_rearm(struct weir__callbacks *reactor, int fd, struct weir__handler *handler,
                      unsigned events);

extern const struct weir__readiness weir__readiness_epoll_et;
extern const struct weir__readiness weir__readiness_poll;
extern const struct weir__readiness weir__readiness_select;

/* What a socket has not taken yet, in one piece of memory: release by free(3). */
struct weir__unsent {
    struct weir__answer answer; /* its pieces are copies, or never change */
    const uint8_t *in;          /* not yet fed, when the answer has left */
    size_t in_bytes;
    uint8_t bytes[];
};

/* A connection. */
struct weir__client {
    struct weir__handler handler;      /* first */
    struct weir__client *next, **link; /* all of the reactor's */
    struct weir__client *waiting;      /* for models that keep a line of some */
    struct weir__unsent *unsent;       /* NULL: all has been sent */
    uint32_t left;                     /* while draining: bytes still to be received */
    uint32_t flags;                    /* the model's own */
    struct weir__session session;      /* last: as long as the workload's state is */
};

/* A listening socket in the set; leaves it while there are no descriptors. */
struct weir__listening {
    struct weir__handler handler; /* first; fd < 0: the reactor does not listen */
    struct weir__acceptor acceptor;
    int flags;      /* of the descriptor, to be put back */
    unsigned share; /* accepts to try at once */
};

enum { WEIR__STOPPERS = 2 };

struct weir__callbacks {
    const struct weir_model_options *options;
    struct weir_model_counters *counters;
    const struct weir__readiness *readiness;
    void *set;

    /* What a model may change before anything is accepted. */
    void (*accepted)(struct weir__callbacks *reactor, int fd); /* weir__callbacks_adopt() */
    void (*client_ready)(struct weir__callbacks *reactor, struct weir__handler *handler,
                         unsigned events); /* weir__client_ready() */
    unsigned client_events;                /* what a new connection waits for: READABLE */

    struct weir__listening listening;
    struct weir__handler stoppers[WEIR__STOPPERS];
    struct weir__client *clients;
    bool stopping;
    bool draining;
    int failed; /* -errno: the reactor cannot go on */
    struct weir__answer answer;
    alignas(64) uint8_t room[WEIR__ROOM_BYTES];
    alignas(64) uint8_t in[WEIR__IN_BYTES];
};

/* --- a reactor ----------------------------------------------------------------------------------
 */

/* 0, or -errno; to be closed even then. `reactor` is the caller's storage, about 84 KiB. */
int weir__callbacks_open(struct weir__callbacks *reactor, const struct weir_model_options *options,
                         struct weir_model_counters *counters,
                         const struct weir__readiness *readiness);

/* Accepts from `listen_fd`, which is made non-blocking until the reactor is closed. 0 or -errno. */
int weir__callbacks_listen(struct weir__callbacks *reactor, int listen_fd);

/* Stops when `fd` is readable, which is not read: so threads may share one. For WEIR__STOPPERS
 * descriptors at the most. 0 or -errno. */
int weir__callbacks_stop_on(struct weir__callbacks *reactor, int fd);

/* Serves a non-blocking connection, which is counted as accepted already; it is the reactor's from
 * here on. If there is no memory for it, it is closed and counted. */
void weir__callbacks_adopt(struct weir__callbacks *reactor, int fd);

/* Serves until reactor->stopping, and tells stop.h. 0, or -errno: it cannot go on. */
int weir__callbacks_serve(struct weir__callbacks *reactor);

/* Listens no more, answers what has come by now, waits for those who have not taken their answer
 * until the drain is over (stop.h), and closes every connection. */
void weir__callbacks_drain(struct weir__callbacks *reactor);

/* All of that, for a model that is one such reactor in one thread: the body of its serve(). */
int weir__callbacks_alone(const struct weir_model *model, const struct weir__readiness *readiness,
                          const struct weir_model_options *options, struct weir_model_stats *stats,
                          void (*ready)(void *argument, const char *features), void *argument,
                          char *why, size_t why_bytes);

/* Closes what is left; of the descriptors it was given only connections. */
void weir__callbacks_close(struct weir__callbacks *reactor);

/* --- a connection -------------------------------------------------------------------------------
 */

enum weir__client_result {
    WEIR__CLIENT_GONE,  /* it ended, and its memory was freed */
    WEIR__CLIENT_EMPTY, /* answered; its socket had no more, or had not when it was received from */
    WEIR__CLIENT_MORE,  /* answered; there may be more */
    WEIR__CLIENT_FULL,  /* the socket is full: flush it when it is writable */
};

/* Receives once (nothing may be unsent), feeds, sends. */
enum weir__client_result weir__client_receive(struct weir__callbacks *reactor,
                                              struct weir__client *client);

/* Sends what is unsent, and answers the input that was kept behind it. Never EMPTY. */
enum weir__client_result weir__client_flush(struct weir__callbacks *reactor,
                                            struct weir__client *client);

/* The handler of a connection whose readiness is told as a level. */
void weir__client_ready(struct weir__callbacks *reactor, struct weir__handler *handler,
                        unsigned events);

/* Forgets and frees, and returns the descriptor, which is the caller's then. */
int weir__client_release(struct weir__callbacks *reactor, struct weir__client *client);

/* Forgets, closes, counts and frees. `error`: 0, or the errno that ended it. */
void weir__client_end(struct weir__callbacks *reactor, struct weir__client *client, int error);

/* --- sending ------------------------------------------------------------------------------------
 */

/* Sends without waiting. 1: all of the answer; 0: the socket is full, and `answer` is what is left;
 * -errno. */
int weir__answer_send(struct weir__answer *answer, int fd, struct weir_model_counters *counters);

/* A copy of the answer and of `in_bytes` (>= 0) of input behind it; what is static is not copied.
 * NULL: no memory. */
struct weir__unsent *weir__unsent_new(const struct weir__answer *answer, const uint8_t *in,
                                      size_t in_bytes);

#endif
