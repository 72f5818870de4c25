/*
 * One connection served by blocking calls: receive, feed, send all of the answer. The models that
 * block are this function, called by different workers.
 */
#ifndef WEIR_LEGACY_MODELS_BLOCKING_H
#define WEIR_LEGACY_MODELS_BLOCKING_H

#include "legacy/models/serving.h"

/* What one worker needs to serve one connection at a time: about 80 KiB. */
struct weir__blocking {
    const struct weir_model_options *options;
    struct weir_model_counters *counters;
    struct weir__answer answer;
    alignas(64) uint8_t room[WEIR__ROOM_BYTES];
    alignas(64) uint8_t in[WEIR__IN_BYTES];
};

/* Receives once and sends the whole answer. 1: go on; 0: it is over (EOF, an end that the workload
 * wants, a peer that broke the protocol, a stop and nothing more has come); -errno: it failed, or
 * -ETIME, the drain was too short. `fd` stays the caller's. */
int weir__blocking_step(struct weir__blocking *blocking, int fd, struct weir__session *session);

/* A connection from its first byte to its end: closes it. */
void weir__blocking_serve(struct weir__blocking *blocking, int fd);

/* One connection after the other from a blocking listener, in a process of one thread, until the
 * server is stopping. 0, or -errno where accepting cannot go on. */
int weir__blocking_accept_and_serve(struct weir__blocking *blocking,
                                    struct weir__acceptor *acceptor);

#endif
