/* Shards on a thread of their own, so that the test can be their peers. What the tests of
 * core/shards.c and core/handover.c share, beside the harness of the conformance suite. */
#ifndef WEIR_TESTS_CORE_SHARDS_H
#define WEIR_TESTS_CORE_SHARDS_H

#include "conformance.h"

enum { SHARDS = 3 };

extern struct fleet {
    struct weir_loop_options loop;
    struct weir_shards_options options;
    struct weir_shards_listen_options listen; /* without a handler: none */
    struct weir_shards *shards;
    struct conf_server address; /* for peer_connect() */
    int result;
    struct weir_loop_stats stats[SHARDS], sum;
    pthread_t thread;
    sem_t ready;
} fleet;

void fleet_start(void);
/* Waits until they have ended, with that result of weir_shards_run(). */
void fleet_join(int result);
void fleet_stop(void);
/* Echoes on so many connections at once, in some rounds. */
void fleet_peers(unsigned conns, unsigned rounds);

#endif
