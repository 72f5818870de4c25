/* For those that write to descriptors without MSG_NOSIGNAL: pipe.c and splice.c. */
#ifndef WEIR_CORE_PIPE_H
#define WEIR_CORE_PIPE_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct weir__sigpipe {
    sigset_t before;
    bool was_blocked, was_pending;
};

/* Around one call that may raise SIGPIPE, on the thread that makes it. `whole`: all was written, so
 * that none can have come of it. */
void weir__sigpipe_hold(struct weir__sigpipe *held);
void weir__sigpipe_release(const struct weir__sigpipe *held, bool whole);

#endif
