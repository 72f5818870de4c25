/*
 * leader-follower: N threads, of which one, the leader, waits for a connection. It accepts,
 * promotes a follower, and only then serves the connection to its end; after that it is a follower.
 *
 * How it works: the lock around accept(2) is the leadership, and to release it is the promotion. It
 * is a mutex of this process's threads. As whoever takes a connection serves it, nothing is handed
 * from one thread to another: no queue, no switch between accept and the first recv, and the
 * connection's data stay in one processor's cache.
 *
 * Who uses it: ACE's TP_Reactor and the ORBs on it, from where the name comes; Apache 2.0 had it as
 * the experimental MPM `leader`. nginx's accept_mutex, on by default until 1.11.3, is the same idea
 * among reactors.
 *
 * Where it breaks: as `thread-pool` does, at the connection N + 1, which waits in the backlog
 * (net.core.somaxconn, 4096) though all threads may be idle. The lock guards what Linux wakes one
 * at a time for anyway: between short connections it is a switch more than thread-pool needs. It
 * pays where the wait is not exclusive (select on several listeners), and where one reserve
 * descriptor should do for all: here, N + 1 descriptors instead of 2 N.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "legacy/models/stop.h"
#include "legacy/models/threads.h"

extern const struct weir_model weir__model_leader_follower;

static pthread_mutex_t leadership = PTHREAD_MUTEX_INITIALIZER;
static struct weir__acceptor acceptor; /* the leader's */

/* As leader: a connection, or -errno once accepting is over. Counted for whoever accepted it. */
static int lead(struct weir_model_counters *counters)
{
    int fd = -EINTR;
    pthread_mutex_lock(&leadership);
    acceptor.counters = counters;
    while (!weir__stopping() && (fd = weir__accept(&acceptor, 0)) == -EBUSY)
        weir__acceptor_sleep(&acceptor);
    pthread_mutex_unlock(&leadership);
    return fd;
}

static void follow_and_serve(void *argument)
{
    struct weir__blocking *blocking = argument;
    int fd;
    while ((fd = lead(blocking->counters)) >= 0)
        weir__threads_serve(blocking, fd);
    if (!weir__stopping())
        weir__threads_fail(fd);
    free(blocking);
}

static int start(const struct weir_model_options *options, struct weir_model_counters *counters)
{
    struct weir__blocking *blocking =
        aligned_alloc(alignof(struct weir__blocking), sizeof *blocking);
    if (!blocking)
        return -ENOMEM;
    blocking->options = options;
    blocking->counters = counters;
    int rc = weir__threads_start(blocking);
    if (rc < 0)
        free(blocking);
    return rc;
}

static int serve(const struct weir_model_options *options, struct weir_model_stats *stats,
                 void (*ready)(void *argument, const char *features), void *argument, char *why,
                 size_t why_bytes)
{
    unsigned workers = weir__pool_size(options);
    int rc = weir__acceptor_init(&acceptor, options->listen_fd, weir__counters(stats, 0));
    int started = weir__threads_init(options, follow_and_serve);
    if (rc == 0)
        rc = started;
    weir__stop_init(options);
    for (unsigned i = 0; i < workers && rc == 0; i++)
        rc = start(options, weir__counters(stats, i));
    if (rc == 0)
        ready(argument, stats->features);
    rc = weir__threads_run(&weir__model_leader_follower, rc, why, why_bytes);
    weir__acceptor_deinit(&acceptor);
    return rc;
}

const struct weir_model weir__model_leader_follower = {
    .name = "leader-follower",
    .summary = "one thread holds the accept lock, promotes a follower, then serves; blocking",
    .seed_name = "leaderandfollower",
    .traits = WEIR_MODEL_BLOCKING | WEIR_MODEL_POOL | WEIR_MODEL_HOLDS_WORKER,
    .serve = serve,
};
