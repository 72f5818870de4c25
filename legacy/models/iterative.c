/*
 * iterative: one process, one connection at a time. Accept, serve to the end, the next.
 *
 * How it works: every call blocks. While a client is served all others wait in the listener's
 * backlog, where the kernel has completed their handshakes and takes their first bytes.
 *
 * Who uses it: time and daytime daemons, inetd's `wait` services, one-shot helpers on a Unix
 * socket; and, inside its workers, every pool of the other models.
 *
 * Where it breaks: at the second client that stays. One that is silent holds up all; past the
 * backlog (net.core.somaxconn, 4096) clients wait whole seconds for their SYN to be sent again.
 * With one client it is the least that a server can do: one recv and one send for a request.
 */
#include <errno.h>
#include <stdlib.h>

#include "legacy/models/blocking.h"
#include "legacy/models/stop.h"

extern const struct weir_model weir__model_iterative;

static int serve(const struct weir_model_options *options, struct weir_model_stats *stats,
                 void (*ready)(void *argument, const char *features), void *argument, char *why,
                 size_t why_bytes)
{
    struct weir_model_counters *counters = weir__counters(stats, 0);
    struct weir__acceptor acceptor;
    struct weir__blocking *blocking =
        aligned_alloc(alignof(struct weir__blocking), sizeof *blocking);
    if (!blocking)
        return weir__model_fail(&weir__model_iterative, ENOMEM, "its buffer",
                                "give it 128 KiB of memory", why, why_bytes);
    blocking->options = options;
    blocking->counters = counters;
    int rc = weir__acceptor_init(&acceptor, options->listen_fd, counters);
    if (rc == 0) {
        weir__stop_init(options);
        ready(argument, stats->features);
        rc = weir__blocking_accept_and_serve(blocking, &acceptor);
    }
    if (rc < 0)
        weir__model_fail(&weir__model_iterative, -rc, "accepting",
                         "hand in a listening socket, and descriptors", why, why_bytes);
    weir__acceptor_deinit(&acceptor);
    free(blocking);
    return rc;
}

const struct weir_model weir__model_iterative = {
    .name = "iterative",
    .summary = "accepts, serves to the end, next; blocking",
    .seed_name = "singleprocess",
    .traits = WEIR_MODEL_BLOCKING | WEIR_MODEL_HOLDS_WORKER,
    .serve = serve,
    .stop = weir__stop_interrupts,
};
