/*
 * prefork-reuseport: N processes with a listening socket each, all on one port (SO_REUSEPORT); the
 * kernel deals the connections out by a hash of the addresses.
 *
 * How it works: as prefork, but a worker's accept(2) meets no other worker: no shared queue and no
 * lock of it. The parent makes all listeners and keeps them open, so a connection that waits in the
 * queue of a worker that dies is served by its successor, which inherits the listener. Were they
 * the workers' own, those connections would be reset (unless net.ipv4.tcp_migrate_req is set).
 *
 * Who uses it: nginx with `listen … reuseport`, Envoy, DNS servers such as Knot and NSD; there
 * each worker is an event loop, which is what suits this way to accept.
 *
 * Where it breaks: the hash does not look at who is free. With workers that block, a connection
 * waits behind one that stays although others are idle: of 2 clients and 2 workers, every second
 * time; of N clients at N workers, about a third of the workers is left idle (1/e).
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "legacy/models/prefork.h"

extern const struct weir_model weir__model_prefork_reuseport;

/* The first is the caller's. How many there are; fewer than `workers` with errno in `*error`. */
static unsigned open_listeners(const struct weir_model_options *options, int *listen_fds,
                               unsigned workers, int *error)
{
    listen_fds[0] = options->listen_fd;
    for (unsigned i = 1; i < workers; i++) {
        listen_fds[i] = weir__listen_again(options->listen_fd, options->backlog, 0);
        if (listen_fds[i] < 0) {
            *error = -listen_fds[i];
            return i;
        }
    }
    return workers;
}

static int serve(const struct weir_model_options *options, struct weir_model_stats *stats,
                 void (*ready)(void *argument, const char *features), void *argument, char *why,
                 size_t why_bytes)
{
    unsigned workers = weir__pool_size(options);
    int error = 0, rc;
    int *listen_fds = malloc(workers * sizeof *listen_fds);
    if (!listen_fds)
        return weir__model_fail(&weir__model_prefork_reuseport, ENOMEM, "its table",
                                "give it memory", why, why_bytes);
    unsigned count = open_listeners(options, listen_fds, workers, &error);
    if (count < workers)
        rc =
            weir__model_fail(&weir__model_prefork_reuseport, error, "a listening socket per worker",
                             "hand in one with SO_REUSEPORT, and descriptors", why, why_bytes);
    else
        rc = weir__prefork_serve(&weir__model_prefork_reuseport, listen_fds, workers, options,
                                 stats, ready, argument, why, why_bytes);
    while (count-- > 1)
        close(listen_fds[count]);
    free(listen_fds);
    return rc;
}

const struct weir_model weir__model_prefork_reuseport = {
    .name = "prefork-reuseport",
    .summary = "N processes, a SO_REUSEPORT listener each",
    .seed_name = "processpool2",
    .traits = WEIR_MODEL_BLOCKING | WEIR_MODEL_POOL | WEIR_MODEL_PROCESSES |
              WEIR_MODEL_HOLDS_WORKER | WEIR_MODEL_REUSEPORT,
    .serve = serve,
};
