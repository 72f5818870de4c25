/*
 * thread: a thread for each connection. One does nothing but accept; each connection is served to
 * its end by a thread of its own, which ends with it. The main thread waits for the stop.
 *
 * How it works: every call blocks, and the kernel's scheduler is the event loop. A handler reads
 * from top to bottom, and one that computes or waits for a disk holds up no other. A thread that
 * ends joins the one that ended before it, so none is detached and none is left over.
 *
 * Who uses it: MySQL and MariaDB by default, Java servers since ServerSocket (and again with
 * virtual threads, which are this model without its price), most servers over a few hundred trusted
 * clients.
 *
 * Where it breaks: at memory and at switches. A silent connection holds a kernel stack of 16 KiB,
 * its task, and 17 KiB here: some 40 KiB in all, where a reactor holds none. With default stacks of
 * 8 MiB, 10,000 threads want 78 GiB of address space; here they have 64 KiB each. Then come
 * kernel.pid_max (32,768 by default on small machines), kernel.threads-max, ulimit -u, a
 * container's pids.max, and vm.max_map_count (65,530; a stack and its guard are two). Past them
 * pthread_create says EAGAIN: the connection is turned away, and nothing is accepted for a moment.
 * Short connections pay for a thread each: 63 us of CPU a connection where `thread-pool` takes 34
 * (churn, two clients).
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "legacy/models/stop.h"
#include "legacy/models/threads.h"

extern const struct weir_model weir__model_thread;

enum { BACK_OFF_MS = 10 };

/* What the accepting thread works with. */
static struct {
    const struct weir_model_options *options;
    struct weir_model_stats *stats;
    struct weir__acceptor acceptor;
} server;

/* Made by the accepting thread, freed by the connection's own. */
struct conn {
    int fd;
    struct weir__blocking blocking;
};

/* 0 or -errno: then there is no thread, and `fd` is still the caller's. */
static int start(int fd)
{
    struct conn *conn = aligned_alloc(alignof(struct conn), sizeof *conn);
    if (!conn)
        return -ENOMEM;
    conn->fd = fd;
    conn->blocking.options = server.options;
    conn->blocking.counters = weir__counters(server.stats, (unsigned)fd);
    int rc = weir__threads_start(conn);
    if (rc < 0)
        free(conn);
    return rc;
}

static void accept_and_start(void)
{
    struct weir__acceptor *acceptor = &server.acceptor;
    while (!weir__stopping()) {
        int fd = weir__accept(acceptor, 0);
        int rc = fd >= 0 ? start(fd) : 0;
        if (rc < 0) {
            weir__accepted_close(acceptor->counters, fd, rc);
            acceptor->resume_ns = weir__now_ns() + BACK_OFF_MS * 1000000ull;
        }
        if (rc < 0 || fd == -EBUSY) {
            weir__acceptor_sleep(acceptor);
        } else if (fd < 0 && !weir__stopping()) {
            weir__threads_fail(fd);
            return;
        }
    }
}

/* The thread that has no connection is the one that accepts. */
static void run(void *argument)
{
    struct conn *conn = argument;
    if (!conn) {
        accept_and_start();
        return;
    }
    weir__threads_serve(&conn->blocking, conn->fd);
    free(conn);
}

static int serve(const struct weir_model_options *options, struct weir_model_stats *stats,
                 void (*ready)(void *argument, const char *features), void *argument, char *why,
                 size_t why_bytes)
{
    server.options = options;
    server.stats = stats;
    int rc = weir__acceptor_init(&server.acceptor, options->listen_fd, weir__counters(stats, 0));
    int started = weir__threads_init(options, run);
    if (rc == 0)
        rc = started;
    weir__stop_init(options);
    if (rc == 0)
        rc = weir__threads_start(NULL);
    if (rc == 0) {
        ready(argument, stats->features);
        rc = weir__threads_watch();
    }
    if (rc < 0)
        weir__model_fail(&weir__model_thread, -rc, "accepting",
                         "hand in a listening socket, descriptors, and room for threads", why,
                         why_bytes);
    weir__threads_finish();
    weir__acceptor_deinit(&server.acceptor);
    return rc;
}

const struct weir_model weir__model_thread = {
    .name = "thread",
    .summary = "a thread per connection; blocking",
    .seed_name = "multithread",
    .traits = WEIR_MODEL_BLOCKING | WEIR_MODEL_WORKER_PER_CONN,
    .serve = serve,
};
