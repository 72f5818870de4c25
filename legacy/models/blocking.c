/* One connection served by blocking calls: blocking.h. */
#include "legacy/models/blocking.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "legacy/models/stop.h"

/* Until the kernel has it all. 0 or -errno. */
static int send_all(struct weir__blocking *blocking, int fd)
{
    struct weir__answer *answer = &blocking->answer;
    while (answer->count > 0) {
        struct msghdr message = {.msg_iov = answer->pieces, .msg_iovlen = answer->count};
        ssize_t sent = answer->count == 1 ? send(fd, answer->pieces[0].iov_base,
                                                 answer->pieces[0].iov_len, MSG_NOSIGNAL)
                                          : sendmsg(fd, &message, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR)
            return -errno;
        if (sent < 0 && weir__stop_left_ns() == 0)
            return -ETIME;
        if (sent < 0)
            continue;
        weir__count(&blocking->counters->bytes_out, (uint64_t)sent);
        weir__answer_sent(answer, (size_t)sent);
    }
    return 0;
}

/* Once stopping, only what has come already. Bytes, 0 for the end, or -errno. */
static ssize_t receive(struct weir__blocking *blocking, int fd)
{
    for (;;) {
        bool stopping = weir__stopping();
        ssize_t got = recv(fd, blocking->in, sizeof blocking->in, stopping ? MSG_DONTWAIT : 0);
        if (got > 0 && stopping && weir__stop_left_ns() == 0)
            return -ETIME; /* a peer that never ceases to send */
        if (got >= 0)
            return got;
        if (stopping && errno == EAGAIN)
            return 0;
        if (errno != EINTR)
            return -errno;
    }
}

int weir__blocking_step(struct weir__blocking *blocking, int fd, struct weir__session *session)
{
    struct weir__answer *answer = &blocking->answer;
    ssize_t got = receive(blocking, fd);
    if (got <= 0)
        return (int)got;
    weir__count(&blocking->counters->bytes_in, (uint64_t)got);
    for (size_t at = 0; at < (size_t)got; at += answer->consumed) {
        weir__session_feed(session, blocking->options, blocking->counters, blocking->in + at,
                           (size_t)got - at, blocking->room, answer);
        int verdict = answer->verdict;
        int rc = send_all(blocking, fd);
        if (rc < 0 || verdict != WEIR_WORKLOAD_CONTINUE)
            return rc;
    }
    return 1;
}

void weir__blocking_serve(struct weir__blocking *blocking, int fd)
{
    struct weir__session session;
    int rc;
    weir__session_init(&session, blocking->options);
    do
        rc = weir__blocking_step(blocking, fd, &session);
    while (rc > 0);
    weir__accepted_close(blocking->counters, fd, rc);
}

int weir__blocking_accept_and_serve(struct weir__blocking *blocking,
                                    struct weir__acceptor *acceptor)
{
    while (!weir__stopping()) {
        int fd = weir__accept(acceptor, 0);
        if (fd >= 0)
            weir__blocking_serve(blocking, fd);
        else if (fd == -EBUSY)
            weir__acceptor_sleep(acceptor);
        else if (fd != -EINTR)
            return fd;
    }
    return 0;
}
