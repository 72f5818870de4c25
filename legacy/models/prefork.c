/*
 * prefork: N processes, made beforehand, accept on one shared listening socket; each serves its
 * connection to the end, then takes the next.
 *
 * How it works: the workers inherit the listener and block in accept(2) on it. The kernel wakes one
 * of them for a connection, the one that has waited longest, so no lock is needed around accept.
 * The parent serves nobody: it waits for deaths, and puts a successor in a dead worker's place. A
 * connection that waits in the backlog belongs to no worker, so none is lost with one.
 *
 * Who uses it: Apache's prefork MPM, php-fpm, Unicorn and Gunicorn's sync workers, for code that
 * may not share its memory, leaks, or crashes: a crash costs the one connection.
 *
 * Where it breaks: at connection N + 1 that stays, silent or not; it waits in the backlog until one
 * of the N ends. Slow clients take it with N connections (hence the reverse proxies before it), and
 * N is bounded by memory: a worker with an interpreter in it is 30 to 100 MB, one of these 0.2 MB.
 */
#include "legacy/models/prefork.h"

#include <errno.h>
#include <stdlib.h>

#include <weir/procs.h>

#include "legacy/models/blocking.h"
#include "legacy/models/stop.h"

extern const struct weir_model weir__model_prefork;

struct prefork {
    const struct weir_model_options *options;
    struct weir_model_stats *stats;
    const int *listen_fds;
};

static int work(void *argument, unsigned index)
{
    const struct prefork *prefork = argument;
    struct weir_model_counters *counters = weir__counters(prefork->stats, index);
    struct weir__acceptor acceptor;
    struct weir__blocking *blocking =
        aligned_alloc(alignof(struct weir__blocking), sizeof *blocking);
    if (!blocking || weir__acceptor_init(&acceptor, prefork->listen_fds[index], counters) < 0)
        return EXIT_FAILURE;
    blocking->options = prefork->options;
    blocking->counters = counters;
    return weir__blocking_accept_and_serve(blocking, &acceptor) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int weir__prefork_serve(const struct weir_model *model, const int *listen_fds, unsigned workers,
                        const struct weir_model_options *options, struct weir_model_stats *stats,
                        void (*ready)(void *argument, const char *features), void *argument,
                        char *why, size_t why_bytes)
{
    struct prefork prefork = {.options = options, .stats = stats, .listen_fds = listen_fds};
    struct weir_procs_options pool = {
        .workers = workers,
        .drain_ns = options->drain_ns,
        .work = work,
        .stop = weir__stop_interrupts,
        .argument = &prefork,
        .deaths = &weir__counters(stats, 0)->deaths,
    };
    struct weir_procs *procs;

    weir__stop_init(options);
    int rc = weir_procs_open(&procs, &pool);
    if (rc < 0)
        return weir__model_fail(model, -rc, "forking its workers", WEIR_PROCS_CURE, why, why_bytes);
    ready(argument, stats->features);
    rc = weir_procs_run(procs, options->stop_fd);
    if (rc < 0)
        weir__model_fail(model, -rc, "waiting for its workers",
                         "hand in a descriptor to stop it by", why, why_bytes);
    weir_procs_close(procs);
    return rc;
}

static int serve(const struct weir_model_options *options, struct weir_model_stats *stats,
                 void (*ready)(void *argument, const char *features), void *argument, char *why,
                 size_t why_bytes)
{
    unsigned workers = weir__pool_size(options);
    int *listen_fds = malloc(workers * sizeof *listen_fds);
    if (!listen_fds)
        return weir__model_fail(&weir__model_prefork, ENOMEM, "its table", "give it memory", why,
                                why_bytes);
    for (unsigned i = 0; i < workers; i++)
        listen_fds[i] = options->listen_fd;
    int rc = weir__prefork_serve(&weir__model_prefork, listen_fds, workers, options, stats, ready,
                                 argument, why, why_bytes);
    free(listen_fds);
    return rc;
}

const struct weir_model weir__model_prefork = {
    .name = "prefork",
    .summary = "N processes accept on one shared listening socket",
    .seed_name = "processpool1",
    .traits =
        WEIR_MODEL_BLOCKING | WEIR_MODEL_POOL | WEIR_MODEL_PROCESSES | WEIR_MODEL_HOLDS_WORKER,
    .serve = serve,
};
