/*
 * reactor-threads: N threads, in each a reactor of its own.
 *
 * How it works: each thread has its listening socket on the same port (SO_REUSEPORT), its epoll set
 * and its connections. The kernel deals connections out by a hash of their addresses. From then on
 * nothing is shared, so nothing is locked: it is epoll-reactor N times. The main thread is one of
 * the N; with one worker there is no second thread at all.
 *
 * Who uses it: memcached (which deals out in one thread), Envoy, Seastar and its kin, HAProxy with
 * nbthread; nginx does it with processes.
 *
 * Where it breaks: the hash knows no load. With few long connections one thread may get them all
 * and the others none: 8 connections on 4 threads are dealt out evenly 1 time in 26. A connection
 * is bound to its thread for life, and waits for that thread's slowest handler. The threads share
 * one table of descriptors, whose lock every accept and close takes.
 */
#include <errno.h>
#include <sys/socket.h>

#include "legacy/models/crew.h"

extern const struct weir_model weir__model_reactor_threads;

static int listen_each(struct weir__crew *crew)
{
    const struct weir_model_options *options = crew->options;
    int rc = 0;
    for (unsigned i = 0; i < crew->count && rc == 0; i++) {
        struct weir__crew_member *member = crew->members[i];
        int fd = options->listen_fd;
        if (i > 0)
            fd = member->listen_fd =
                weir__listen_again(options->listen_fd, options->backlog, SOCK_NONBLOCK);
        rc = fd < 0 ? fd : weir__callbacks_listen(&member->reactor, fd);
        if (rc == 0)
            rc = weir__crew_stops(crew, i);
    }
    return rc;
}

static int serve(const struct weir_model_options *options, struct weir_model_stats *stats,
                 void (*ready)(void *argument, const char *features), void *argument, char *why,
                 size_t why_bytes)
{
    struct weir__crew crew;
    int rc = weir__crew_open(&crew, options, stats, weir__pool_size(options));
    if (rc == 0)
        rc = listen_each(&crew);
    if (rc == 0)
        rc = weir__crew_run(&crew, stats->features, ready, argument);
    if (rc < 0)
        weir__model_fail(&weir__model_reactor_threads, -rc, "its threads and their listeners",
                         "lower --workers, or raise ulimit -u and ulimit -n", why, why_bytes);
    weir__crew_close(&crew);
    return rc;
}

const struct weir_model weir__model_reactor_threads = {
    .name = "reactor-threads",
    .summary = "a reactor per thread, a SO_REUSEPORT listener each",
    .seed_name = "epollreactorthreadpoll",
    .traits = WEIR_MODEL_REACTOR | WEIR_MODEL_POOL | WEIR_MODEL_REUSEPORT,
    .serve = serve,
};
