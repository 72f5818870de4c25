/*
 * thread-pool: N threads, and all of them do the same: accept, serve to the end, the next.
 *
 * How it works: every thread waits in accept(2) on the one listening socket. The kernel wakes one
 * for each connection (the wait is exclusive: there has been no thundering herd since Linux 2.3),
 * so there is no queue of ours, no lock, and no hand-over between threads: it is `iterative` N
 * times.
 *
 * Who uses it: RPC daemons and application servers whose handlers block on a database, with a proxy
 * before them that keeps the idle clients. With processes for threads it is `prefork`.
 *
 * Where it breaks: at the connection N + 1. It waits in the backlog, though the threads do nothing,
 * until one of the N leaves: a silent client costs a whole thread. Past the backlog
 * (net.core.somaxconn, 4096) clients wait seconds for another SYN. Each thread keeps a reserve
 * descriptor beside its connection's: 2 N of them.
 */
#include <errno.h>
#include <stdlib.h>

#include "legacy/models/stop.h"
#include "legacy/models/threads.h"

extern const struct weir_model weir__model_thread_pool;

struct worker {
    struct weir__acceptor acceptor;
    struct weir__blocking blocking;
};

static void accept_and_serve(void *argument)
{
    struct worker *worker = argument;
    while (!weir__stopping()) {
        int fd = weir__accept(&worker->acceptor, 0);
        if (fd >= 0)
            weir__threads_serve(&worker->blocking, fd);
        else if (fd == -EBUSY)
            weir__acceptor_sleep(&worker->acceptor);
        else if (!weir__stopping()) {
            weir__threads_fail(fd);
            break;
        }
    }
    weir__acceptor_deinit(&worker->acceptor);
    free(worker);
}

static int start(const struct weir_model_options *options, struct weir_model_counters *counters)
{
    struct worker *worker = aligned_alloc(alignof(struct worker), sizeof *worker);
    if (!worker)
        return -ENOMEM;
    worker->blocking.options = options;
    worker->blocking.counters = counters;
    int rc = weir__acceptor_init(&worker->acceptor, options->listen_fd, counters);
    if (rc == 0)
        rc = weir__threads_start(worker);
    if (rc < 0) {
        weir__acceptor_deinit(&worker->acceptor);
        free(worker);
    }
    return rc;
}

static int serve(const struct weir_model_options *options, struct weir_model_stats *stats,
                 void (*ready)(void *argument, const char *features), void *argument, char *why,
                 size_t why_bytes)
{
    unsigned workers = weir__pool_size(options);
    int rc = weir__threads_init(options, accept_and_serve);
    weir__stop_init(options);
    for (unsigned i = 0; i < workers && rc == 0; i++)
        rc = start(options, weir__counters(stats, i));
    if (rc == 0)
        ready(argument, stats->features);
    rc = weir__threads_run(&weir__model_thread_pool, rc, why, why_bytes);
    return rc;
}

const struct weir_model weir__model_thread_pool = {
    .name = "thread-pool",
    .summary = "N threads, each accepting and serving; blocking",
    .seed_name = "threadpool",
    .traits = WEIR_MODEL_BLOCKING | WEIR_MODEL_POOL | WEIR_MODEL_HOLDS_WORKER,
    .serve = serve,
};
