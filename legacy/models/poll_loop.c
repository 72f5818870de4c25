/*
 * poll-loop: one thread asks poll(2) which clients are ready, and serves each by blocking calls.
 *
 * How it works: an array names all clients; the kernel marks those that may be read from, and a
 * walk over the array finds them. Who is ready is received from once and answered in full, before
 * the next. One that leaves is replaced by the array's last, so it never has holes.
 *
 * Who uses it: the same programs as select, where they may have high descriptors or many systems to
 * run on: sshd (ppoll), many libraries with an `only wait for these two` of their own.
 *
 * Where it breaks: each turn hands the whole array to the kernel and back, 8 bytes a client, and
 * the kernel asks each socket: the cost of a request grows with those who are silent. There is no
 * limit of 1024, but one of RLIMIT_NOFILE. And a reader that is slow holds up all: once its socket
 * buffers are full, send(2) waits for this one client and nobody else is served.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "legacy/models/crowd.h"
#include "legacy/models/stop.h"

extern const struct weir_model weir__model_poll_loop;

enum { FIRST_ROOM = 64 };

struct loop {
    struct weir__crowd crowd;
    struct pollfd *watched; /* [0] is the listener */
    nfds_t count, room;
};

static int watch(struct loop *loop, int fd)
{
    if (loop->count == loop->room) {
        nfds_t room = loop->room ? 2 * loop->room : FIRST_ROOM;
        struct pollfd *grown = realloc(loop->watched, room * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        loop->watched = grown;
        loop->room = room;
    }
    loop->watched[loop->count++] = (struct pollfd){.fd = fd, .events = POLLIN};
    return 0;
}

static int accept_some(struct loop *loop)
{
    for (int i = 0; i < WEIR__CROWD_ACCEPTS; i++) {
        int fd = weir__crowd_accept(&loop->crowd);
        if (fd < 0)
            return fd == -EAGAIN || fd == -EBUSY || fd == -EINTR ? 0 : fd;
        int rc = watch(loop, fd);
        if (rc < 0)
            weir__crowd_drop(&loop->crowd, fd, rc);
    }
    return 0;
}

/* From the last to the first: who takes the place of one that left was looked at before. */
static int serve_found(struct loop *loop, int found)
{
    for (nfds_t at = loop->count; at-- > 0 && found > 0;) {
        if (loop->watched[at].revents == 0)
            continue;
        found--;
        if (at == 0)
            return accept_some(loop);
        if (!weir__crowd_serve(&loop->crowd, loop->watched[at].fd))
            loop->watched[at] = loop->watched[--loop->count];
    }
    return 0;
}

static int turn(struct loop *loop)
{
    int pause_ms = weir__acceptor_pause_ms(&loop->crowd.acceptor);
    /* poll() passes a negative descriptor over. */
    loop->watched[0].fd = pause_ms > 0 ? -1 : loop->crowd.acceptor.listen_fd;
    int n = poll(loop->watched, loop->count, pause_ms > 0 ? pause_ms : -1);
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    return serve_found(loop, n);
}

static int serve(const struct weir_model_options *options, struct weir_model_stats *stats,
                 void (*ready)(void *argument, const char *features), void *argument, char *why,
                 size_t why_bytes)
{
    struct loop loop = {.count = 0};
    int rc = weir__crowd_init(&loop.crowd, options, weir__counters(stats, 0));
    if (rc == 0)
        rc = watch(&loop, options->listen_fd);
    if (rc == 0) {
        weir__stop_init(options);
        ready(argument, stats->features);
    }
    while (rc == 0 && !weir__stopping())
        rc = turn(&loop);
    if (rc < 0)
        weir__model_fail(&weir__model_poll_loop, -rc, "poll or accepting",
                         "hand in a listening socket, descriptors and memory", why, why_bytes);
    weir__stop_interrupts();
    weir__crowd_finish(&loop.crowd);
    free(loop.watched);
    return rc;
}

const struct weir_model weir__model_poll_loop = {
    .name = "poll-loop",
    .summary = "poll says which client, it is then served blocking",
    .seed_name = "poll",
    .traits = WEIR_MODEL_BLOCKING,
    .serve = serve,
    .stop = weir__stop_interrupts,
};
