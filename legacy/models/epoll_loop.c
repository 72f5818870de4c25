/*
 * epoll-loop: one thread asks epoll(7) which clients are ready, and serves each by blocking calls.
 *
 * How it works: each client is told to the kernel once, when it comes. A turn fetches those that
 * may be read from, at most 256 at once, and each is received from once and answered in full,
 * before the next. Whoever has sent more is reported again (level-triggered). A descriptor that is
 * closed leaves the set by itself.
 *
 * Who uses it: the step from the textbook's select to a reactor; small brokers and control daemons
 * whose answers are short enough never to fill a socket.
 *
 * Where it breaks: not at the number of the silent, who cost nothing, but at the first reader that
 * is slow. Once its socket buffers are full (some 2.5 MB on loopback) send(2) waits for this one
 * client and nobody else is served: two clients are enough. `epoll-reactor` is the cure.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "legacy/models/crowd.h"
#include "legacy/models/stop.h"

extern const struct weir_model weir__model_epoll_loop;

enum { EVENTS = 256 };

struct loop {
    struct weir__crowd crowd;
    int epoll_fd;
    bool listening; /* the listener is in the set */
};

static int watch(struct loop *loop, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int accept_some(struct loop *loop)
{
    int listen_fd = loop->crowd.acceptor.listen_fd;
    for (int i = 0; i < WEIR__CROWD_ACCEPTS; i++) {
        int fd = weir__crowd_accept(&loop->crowd);
        if (fd == -EBUSY) {
            loop->listening = epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, listen_fd, NULL) < 0;
            return 0;
        }
        if (fd < 0)
            return fd == -EAGAIN || fd == -EINTR ? 0 : fd;
        int rc = watch(loop, fd);
        if (rc < 0)
            weir__crowd_drop(&loop->crowd, fd, rc);
    }
    return 0;
}

static int turn(struct loop *loop)
{
    struct epoll_event events[EVENTS];
    int rc = 0, pause_ms = loop->listening ? 0 : weir__acceptor_pause_ms(&loop->crowd.acceptor);
    if (!loop->listening && pause_ms == 0) {
        rc = watch(loop, loop->crowd.acceptor.listen_fd);
        loop->listening = rc == 0;
    }
    if (rc < 0)
        return rc;
    int n = epoll_wait(loop->epoll_fd, events, EVENTS, pause_ms > 0 ? pause_ms : -1);
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < n && rc == 0; i++) {
        if (events[i].data.fd == loop->crowd.acceptor.listen_fd)
            rc = accept_some(loop);
        else
            weir__crowd_serve(&loop->crowd, events[i].data.fd);
    }
    return rc;
}

static int serve(const struct weir_model_options *options, struct weir_model_stats *stats,
                 void (*ready)(void *argument, const char *features), void *argument, char *why,
                 size_t why_bytes)
{
    struct loop loop = {.epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
    int no_set = loop.epoll_fd < 0 ? -errno : 0;
    int rc = weir__crowd_init(&loop.crowd, options, weir__counters(stats, 0));
    if (rc == 0)
        rc = no_set;
    if (rc == 0) {
        weir__stop_init(options);
        ready(argument, stats->features);
    }
    while (rc == 0 && !weir__stopping())
        rc = turn(&loop);
    if (rc < 0)
        weir__model_fail(&weir__model_epoll_loop, -rc, "epoll or accepting",
                         "hand in a listening socket, descriptors and memory", why, why_bytes);
    weir__stop_interrupts();
    weir__crowd_finish(&loop.crowd);
    if (loop.epoll_fd >= 0)
        close(loop.epoll_fd);
    return rc;
}

const struct weir_model weir__model_epoll_loop = {
    .name = "epoll-loop",
    .summary = "epoll says which client, it is then served blocking",
    .seed_name = "epoll",
    .traits = WEIR_MODEL_BLOCKING,
    .serve = serve,
    .stop = weir__stop_interrupts,
};
