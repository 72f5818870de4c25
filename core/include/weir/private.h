/*
 * What lies inside public structs and is weir's own: here only because their memory is the
 * caller's. Nothing of it may be read or written from outside.
 */
#ifndef WEIR_PRIVATE_H
#define WEIR_PRIVATE_H

#include <pthread.h>
#include <stdint.h>

/* A timer of the loop's wheel (core/timer.h). Memory of its owner; zero-initialised means not
 * armed. */
struct weir__timer {
    struct weir__timer *next, *prev; /* NULL when not armed */
    uint64_t deadline_ns;
    void (*fire)(struct weir__timer *timer); /* the timer is not armed any more; may arm it again */
    uint16_t slot;
};

/* What mutexes, channels and the like begin with; core/park.h. */
struct weir__sync {
    struct weir_loop *loop; /* without WEIR_ACROSS: that it belongs to, from its first use on */
    int across;
    pthread_mutex_t guard; /* with WEIR_ACROSS: held while anything of it is looked at */
};

/* Tasks that wait, first come first. */
struct weir__queue {
    struct weir__waiter *head, *tail;
};

#endif
