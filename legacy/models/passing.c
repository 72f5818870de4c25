/* Connections that one process accepts and others serve: passing.h. */
#include "legacy/models/passing.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "legacy/models/stop.h"

enum { ACCEPTS = 64, RETRY_MS = 1 };

/* --- one descriptor -----------------------------------------------------------------------------
 */

/* Room for one, aligned as a header must be. */
union control {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr header;
};

int weir__passing_send(int channel, int fd)
{
    union control control = {0};
    struct iovec byte = {"", 1}; /* without a byte there is no message */
    struct msghdr message = {.msg_iov = &byte,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control.bytes};
    control.header.cmsg_len = CMSG_LEN(sizeof fd);
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    while (sendmsg(channel, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        /* ETOOMANYREFS: as many are under way as this user may have open. */
        if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM || errno == ETOOMANYREFS)
            return -EAGAIN;
        if (errno != EINTR)
            return -errno;
    }
    return 0;
}

int weir__passing_receive(int channel, int flags)
{
    union control control;
    char byte;
    int fd;
    struct iovec room = {&byte, 1};
    struct msghdr message = {.msg_iov = &room,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control.bytes};
    ssize_t got = recvmsg(channel, &message, flags | MSG_CMSG_CLOEXEC);
    if (got < 0)
        return -errno;
    if (got == 0)
        return -EPIPE;
    const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (!header)
        return -EMFILE; /* MSG_CTRUNC: of one descriptor there is all or nothing */
    memcpy(&fd, CMSG_DATA(header), sizeof fd);
    return fd;
}

/* --- the parent ---------------------------------------------------------------------------------
 */

static void close_channels(struct weir__passing *passing, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        close(passing->channels[i][0]);
        close(passing->channels[i][1]);
    }
    free(passing->channels);
}

static int open_channels(struct weir__passing *passing)
{
    passing->channels = malloc(passing->workers * sizeof *passing->channels);
    if (!passing->channels)
        return -ENOMEM;
    for (unsigned i = 0; i < passing->workers; i++) {
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, passing->channels[i]) < 0) {
            int error = -errno;
            close_channels(passing, i);
            return error;
        }
    }
    return 0;
}

int weir__passing_become_worker(struct weir__passing *passing, unsigned index)
{
    int own = passing->channels[index][1];
    for (unsigned i = 0; i < passing->workers; i++) {
        close(passing->channels[i][0]);
        if (i != index)
            close(passing->channels[i][1]);
    }
    if (passing->news_fd >= 0)
        close(passing->news_fd);
    if (passing->in_hand >= 0)
        close(passing->in_hand);
    weir__acceptor_deinit(&passing->acceptor);
    close(passing->options->listen_fd);
    return own;
}

static void deal(struct weir__passing *passing, int fd)
{
    int rc = passing->pass(passing, fd);
    passing->in_hand = rc == -EAGAIN ? fd : -1;
    if (rc == 0)
        close(fd); /* the worker's is another */
    else if (rc != -EAGAIN)
        weir__accepted_close(passing->acceptor.counters, fd, rc);
}

static bool wanted(const struct weir__passing *passing)
{
    return passing->in_hand < 0 && (!passing->wanted || passing->wanted(passing));
}

/* 0, or -errno: accepting cannot go on. */
static int accept_ready(struct weir__passing *passing)
{
    for (int i = 0; i < ACCEPTS && wanted(passing); i++) {
        int fd = weir__accept(&passing->acceptor, passing->accept_flags);
        if (fd < 0)
            return fd == -EAGAIN || fd == -EBUSY || fd == -EINTR ? 0 : fd;
        deal(passing, fd);
    }
    return 0;
}

static int sooner(int timeout_ms, int other_ms)
{
    return timeout_ms < 0 || other_ms < timeout_ms ? other_ms : timeout_ms;
}

/* Accepts and passes on until stop_fd is readable. 0 or -errno. */
static int run(struct weir__passing *passing)
{
    struct pollfd fds[] = {{.fd = passing->options->stop_fd, .events = POLLIN},
                           {.fd = weir_procs_fd(passing->procs), .events = POLLIN},
                           {.fd = passing->news_fd, .events = POLLIN},
                           {.events = POLLIN}};
    for (;;) {
        int timeout_ms = weir_procs_tend(passing->procs);
        int pause_ms = weir__acceptor_pause_ms(&passing->acceptor);
        if (pause_ms > 0)
            timeout_ms = sooner(timeout_ms, pause_ms);
        if (passing->in_hand >= 0)
            timeout_ms = sooner(timeout_ms, RETRY_MS);
        fds[3].fd = pause_ms == 0 && wanted(passing) ? passing->options->listen_fd : -1;
        int n = poll(fds, 4, timeout_ms), rc = 0;
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0 && fds[0].revents)
            return 0;
        if (n > 0 && fds[2].revents)
            passing->news(passing);
        if (passing->in_hand >= 0)
            deal(passing, passing->in_hand);
        if (n > 0 && fds[3].revents)
            rc = accept_ready(passing);
        if (rc < 0)
            return rc;
    }
}

/* What no worker took: one had died, and its successor had not come yet. */
static void drop_untaken(struct weir__passing *passing)
{
    struct weir_model_counters *counters = passing->acceptor.counters;
    if (passing->in_hand >= 0)
        weir__accepted_close(counters, passing->in_hand, -ECANCELED);
    for (unsigned i = 0; i < passing->workers; i++)
        for (int fd; (fd = weir__passing_receive(passing->channels[i][1], MSG_DONTWAIT)) >= 0;)
            weir__accepted_close(counters, fd, -ECANCELED);
}

static int serve(struct weir__passing *passing, void (*ready)(void *argument, const char *features),
                 void *argument)
{
    const struct weir_procs_options pool = {
        .workers = passing->workers,
        .drain_ns = passing->options->drain_ns,
        .work = passing->work,
        .stop = passing->stop,
        .died = passing->died,
        .argument = passing,
        .deaths = &passing->acceptor.counters->deaths,
    };
    int rc = weir_procs_open(&passing->procs, &pool);
    if (rc < 0)
        return rc;
    ready(argument, passing->stats->features);
    rc = run(passing);
    weir_procs_close(passing->procs);
    drop_untaken(passing);
    return rc;
}

int weir__passing_serve(struct weir__passing *passing,
                        void (*ready)(void *argument, const char *features), void *argument,
                        char *why, size_t why_bytes)
{
    int listen_fd = passing->options->listen_fd;
    /* A slot of its own, as long as there are enough. */
    struct weir_model_counters *counters = weir__counters(passing->stats, passing->workers);
    passing->in_hand = -1;
    passing->listen_flags = fcntl(listen_fd, F_GETFL);
    if (passing->listen_flags < 0)
        return weir__model_fail(passing->model, errno, "its listener", "hand in a listening socket",
                                why, why_bytes);
    int rc = open_channels(passing);
    if (rc < 0)
        return weir__model_fail(passing->model, -rc, "a socket for each worker",
                                "allow two descriptors for each (ulimit -n)", why, why_bytes);
    weir__stop_init(passing->options);
    rc = weir__acceptor_init(&passing->acceptor, listen_fd, counters);
    if (rc == 0) {
        fcntl(listen_fd, F_SETFL, passing->listen_flags | O_NONBLOCK);
        rc = serve(passing, ready, argument);
        fcntl(listen_fd, F_SETFL, passing->listen_flags);
    }
    if (rc < 0)
        weir__model_fail(passing->model, -rc, "its workers, or accepting for them", WEIR_PROCS_CURE,
                         why, why_bytes);
    weir__acceptor_deinit(&passing->acceptor);
    close_channels(passing, passing->workers);
    return rc;
}
