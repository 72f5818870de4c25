/* A reactor of callbacks, and its connections: callback.h. */
#include "legacy/models/callback.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "legacy/models/stop.h"

enum { ACCEPTS = 64 };

static int watch(struct weir__callbacks *reactor, struct weir__handler *handler, unsigned events)
{
    return reactor->readiness->watch(reactor, handler, events);
}

/* --- sending ------------------------------------------------------------------------------------
 */

int weir__answer_send(struct weir__answer *answer, int fd, struct weir_model_counters *counters)
{
    struct msghdr message = {.msg_iov = answer->pieces, .msg_iovlen = answer->count};
    ssize_t sent;
    if (answer->bytes == 0)
        return 1;
    do
        sent = answer->count == 1
                   ? send(fd, answer->pieces[0].iov_base, answer->pieces[0].iov_len, MSG_NOSIGNAL)
                   : sendmsg(fd, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0)
        return errno == EAGAIN ? 0 : -errno;
    weir__count(&counters->bytes_out, (uint64_t)sent);
    if ((size_t)sent < answer->bytes)
        return weir__answer_sent(answer, (size_t)sent);
    answer->count = 0;
    answer->bytes = 0;
    return 1;
}

struct weir__unsent *weir__unsent_new(const struct weir__answer *answer, const uint8_t *in,
                                      size_t in_bytes)
{
    size_t bytes = in_bytes;
    for (unsigned i = 0; i < answer->count; i++)
        bytes += answer->is_static >> i & 1 ? 0 : answer->pieces[i].iov_len;
    struct weir__unsent *unsent = malloc(sizeof *unsent + bytes);
    if (!unsent)
        return NULL;
    uint8_t *at = unsent->bytes;
    unsent->answer = *answer;
    for (unsigned i = 0; i < answer->count; i++) {
        struct iovec *piece = &unsent->answer.pieces[i];
        if (answer->is_static >> i & 1)
            continue;
        memcpy(at, piece->iov_base, piece->iov_len);
        piece->iov_base = at;
        at += piece->iov_len;
    }
    memcpy(at, in, in_bytes);
    unsent->in = at;
    unsent->in_bytes = in_bytes;
    return unsent;
}

/* --- a connection -------------------------------------------------------------------------------
 */

int weir__client_release(struct weir__callbacks *reactor, struct weir__client *client)
{
    int fd = client->handler.fd;
    watch(reactor, &client->handler, 0);
    *client->link = client->next;
    if (client->next)
        client->next->link = client->link;
    free(client->unsent);
    free(client);
    return fd;
}

void weir__client_end(struct weir__callbacks *reactor, struct weir__client *client, int error)
{
    weir__accepted_close(reactor->counters, weir__client_release(reactor, client), -error);
}

static enum weir__client_result end(struct weir__callbacks *reactor, struct weir__client *client,
                                    int error)
{
    weir__client_end(reactor, client, error);
    return WEIR__CLIENT_GONE;
}

/* GONE, FULL or, when all was answered, MORE. */
static enum weir__client_result answer_input(struct weir__callbacks *reactor,
                                             struct weir__client *client, const uint8_t *in,
                                             size_t bytes)
{
    struct weir__answer *answer = &reactor->answer;
    for (size_t at = 0; at < bytes;) {
        weir__session_feed(&client->session, reactor->options, reactor->counters, in + at,
                           bytes - at, reactor->room, answer);
        at += answer->consumed;
        int rc = weir__answer_send(answer, client->handler.fd, reactor->counters);
        if (rc == 0) {
            client->unsent = weir__unsent_new(answer, in + at, bytes - at);
            return client->unsent ? WEIR__CLIENT_FULL : end(reactor, client, ENOMEM);
        }
        if (rc < 0 || answer->verdict != WEIR_WORKLOAD_CONTINUE)
            return end(reactor, client, rc < 0 ? -rc : 0);
    }
    return WEIR__CLIENT_MORE;
}

enum weir__client_result weir__client_receive(struct weir__callbacks *reactor,
                                              struct weir__client *client)
{
    bool draining = reactor->draining;
    size_t most = draining && client->left < sizeof reactor->in ? client->left : sizeof reactor->in;
    ssize_t got;
    do
        got = recv(client->handler.fd, reactor->in, most, 0);
    while (got < 0 && errno == EINTR);
    if (got < 0 && errno == EAGAIN)
        return WEIR__CLIENT_EMPTY;
    if (got <= 0)
        return end(reactor, client, got < 0 ? errno : 0);
    weir__count(&reactor->counters->bytes_in, (uint64_t)got);
    client->left -= draining ? (uint32_t)got : 0;
    enum weir__client_result result = answer_input(reactor, client, reactor->in, (size_t)got);
    return result == WEIR__CLIENT_MORE && (size_t)got < most ? WEIR__CLIENT_EMPTY : result;
}

enum weir__client_result weir__client_flush(struct weir__callbacks *reactor,
                                            struct weir__client *client)
{
    struct weir__unsent *unsent = client->unsent;
    int rc = weir__answer_send(&unsent->answer, client->handler.fd, reactor->counters);
    if (rc == 0)
        return WEIR__CLIENT_FULL;
    if (rc < 0 || unsent->answer.verdict != WEIR_WORKLOAD_CONTINUE)
        return end(reactor, client, rc < 0 ? -rc : 0);
    client->unsent = NULL;
    enum weir__client_result result = answer_input(reactor, client, unsent->in, unsent->in_bytes);
    free(unsent);
    return result;
}

/* A peer that takes nothing is given nothing to do: it is not read from, either. */
void weir__client_ready(struct weir__callbacks *reactor, struct weir__handler *handler,
                        unsigned events)
{
    struct weir__client *client = (struct weir__client *)handler;
    bool was_full = client->unsent;
    (void)events;
    enum weir__client_result result =
        was_full ? weir__client_flush(reactor, client) : weir__client_receive(reactor, client);
    if (result == WEIR__CLIENT_GONE || was_full == (result == WEIR__CLIENT_FULL))
        return;
    int rc = watch(reactor, handler, was_full ? WEIR__READABLE : WEIR__WRITABLE);
    if (rc < 0)
        weir__client_end(reactor, client, -rc);
}

void weir__callbacks_adopt(struct weir__callbacks *reactor, int fd)
{
    size_t bytes = offsetof(struct weir__client, session) + reactor->options->workload->state_bytes;
    struct weir__client *client = malloc(bytes);
    if (!client) {
        weir__accepted_close(reactor->counters, fd, -ENOMEM);
        return;
    }
    memset(client, 0, offsetof(struct weir__client, session));
    client->handler = (struct weir__handler){.ready = reactor->client_ready, .fd = fd};
    weir__session_init(&client->session, reactor->options);
    client->next = reactor->clients;
    client->link = &reactor->clients;
    if (client->next)
        client->next->link = &client->next;
    reactor->clients = client;
    int rc = watch(reactor, &client->handler, reactor->client_events);
    if (rc < 0)
        weir__client_end(reactor, client, -rc);
}

/* --- accepting ----------------------------------------------------------------------------------
 */

/* Does not look for the end of the queue each time: the share doubles while it is always filled. */
static void accept_ready(struct weir__callbacks *reactor, struct weir__handler *handler,
                         unsigned events)
{
    struct weir__listening *listening = &reactor->listening;
    (void)events;
    for (unsigned i = 0; i < listening->share; i++) {
        int fd = weir__accept(&listening->acceptor, SOCK_NONBLOCK);
        if (fd >= 0) {
            reactor->accepted(reactor, fd);
            continue;
        }
        listening->share = i ? i : 1;
        /* It would be told as readable all the time. */
        if (fd == -EBUSY)
            watch(reactor, handler, 0);
        else if (fd != -EAGAIN && fd != -EINTR)
            reactor->failed = fd;
        return;
    }
    if (listening->share < ACCEPTS)
        listening->share *= 2;
}

/* How long to wait at most: for ever, or until the listener may come back; then it does. */
static int listen_or_wait(struct weir__callbacks *reactor)
{
    struct weir__listening *listening = &reactor->listening;
    if (listening->acceptor.resume_ns == 0)
        return -1;
    int pause_ms = weir__acceptor_pause_ms(&listening->acceptor);
    if (pause_ms > 0)
        return pause_ms;
    int rc = watch(reactor, &listening->handler, WEIR__READABLE);
    if (rc < 0)
        reactor->failed = rc;
    return rc < 0 ? 0 : -1;
}

int weir__callbacks_listen(struct weir__callbacks *reactor, int listen_fd)
{
    struct weir__listening *listening = &reactor->listening;
    int flags = fcntl(listen_fd, F_GETFL);
    if (flags < 0 || fcntl(listen_fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    listening->flags = flags;
    listening->handler = (struct weir__handler){.ready = accept_ready, .fd = listen_fd};
    int rc = weir__acceptor_init(&listening->acceptor, listen_fd, reactor->counters);
    return rc < 0 ? rc : watch(reactor, &listening->handler, WEIR__READABLE);
}

static void listen_no_more(struct weir__callbacks *reactor)
{
    struct weir__listening *listening = &reactor->listening;
    if (listening->handler.fd < 0)
        return;
    watch(reactor, &listening->handler, 0);
    weir__acceptor_deinit(&listening->acceptor);
    fcntl(listening->handler.fd, F_SETFL, listening->flags);
    listening->handler.fd = -1;
}

/* --- the loop -----------------------------------------------------------------------------------
 */

int weir__callbacks_open(struct weir__callbacks *reactor, const struct weir_model_options *options,
                         struct weir_model_counters *counters,
                         const struct weir__readiness *readiness)
{
    memset(reactor, 0, offsetof(struct weir__callbacks, room));
    reactor->options = options;
    reactor->counters = counters;
    reactor->readiness = readiness;
    reactor->accepted = weir__callbacks_adopt;
    reactor->client_ready = weir__client_ready;
    reactor->client_events = WEIR__READABLE;
    reactor->listening.handler.fd = -1;
    reactor->listening.acceptor.reserve_fd = -1;
    reactor->listening.share = 1;
    for (int i = 0; i < WEIR__STOPPERS; i++)
        reactor->stoppers[i].fd = -1;
    return readiness->open(reactor);
}

static void stop_ready(struct weir__callbacks *reactor, struct weir__handler *handler,
                       unsigned events)
{
    (void)handler;
    (void)events;
    reactor->stopping = true;
}

int weir__callbacks_stop_on(struct weir__callbacks *reactor, int fd)
{
    struct weir__handler *stopper = &reactor->stoppers[reactor->stoppers[0].fd >= 0];
    assert(stopper->fd < 0);
    *stopper = (struct weir__handler){.ready = stop_ready, .fd = fd};
    return watch(reactor, stopper, WEIR__READABLE);
}

int weir__callbacks_serve(struct weir__callbacks *reactor)
{
    while (!reactor->stopping) {
        int rc = reactor->readiness->wait(reactor, listen_or_wait(reactor));
        if (rc < 0)
            return rc;
        if (reactor->failed < 0)
            return reactor->failed;
    }
    weir__stop_begin();
    return 0;
}

/* Until it has answered what had come, or its socket is full. */
static void finish(struct weir__callbacks *reactor, struct weir__client *client)
{
    enum weir__client_result result = WEIR__CLIENT_MORE;
    while (!client->unsent && client->left > 0 && result != WEIR__CLIENT_EMPTY) {
        result = weir__client_receive(reactor, client);
        if (result == WEIR__CLIENT_GONE)
            return;
    }
    int rc = client->unsent ? watch(reactor, &client->handler, WEIR__WRITABLE) : 0;
    if (!client->unsent || rc < 0)
        weir__client_end(reactor, client, -rc);
}

static void finish_ready(struct weir__callbacks *reactor, struct weir__handler *handler,
                         unsigned events)
{
    struct weir__client *client = (struct weir__client *)handler;
    (void)events;
    if (weir__client_flush(reactor, client) == WEIR__CLIENT_MORE)
        finish(reactor, client);
}

void weir__callbacks_drain(struct weir__callbacks *reactor)
{
    listen_no_more(reactor);
    for (int i = 0; i < WEIR__STOPPERS; i++)
        watch(reactor, &reactor->stoppers[i], 0);
    reactor->draining = true;
    for (struct weir__client *client = reactor->clients, *next; client; client = next) {
        int come = 0;
        next = client->next;
        ioctl(client->handler.fd, FIONREAD, &come);
        client->left = (uint32_t)come;
        client->handler.ready = finish_ready;
        finish(reactor, client);
    }
    while (reactor->clients) {
        uint64_t left_ms = (weir__stop_left_ns() + 999999) / 1000000;
        if (left_ms == 0 ||
            reactor->readiness->wait(reactor, left_ms > INT_MAX ? INT_MAX : (int)left_ms) < 0)
            break;
    }
    while (reactor->clients)
        weir__client_end(reactor, reactor->clients, 0);
}

static int run(struct weir__callbacks *reactor, const char *features,
               void (*ready)(void *argument, const char *features), void *argument)
{
    int rc = weir__callbacks_listen(reactor, reactor->options->listen_fd);
    if (rc == 0)
        rc = weir__callbacks_stop_on(reactor, reactor->options->stop_fd);
    if (rc < 0)
        return rc;
    weir__stop_init(reactor->options);
    ready(argument, features);
    rc = weir__callbacks_serve(reactor);
    if (rc == 0)
        weir__callbacks_drain(reactor);
    return rc;
}

int weir__callbacks_alone(const struct weir_model *model, const struct weir__readiness *readiness,
                          const struct weir_model_options *options, struct weir_model_stats *stats,
                          void (*ready)(void *argument, const char *features), void *argument,
                          char *why, size_t why_bytes)
{
    struct weir__callbacks *reactor =
        aligned_alloc(alignof(struct weir__callbacks),
                      readiness->reactor_bytes ? readiness->reactor_bytes : sizeof *reactor);
    if (!reactor)
        return weir__model_fail(model, ENOMEM, "its buffers", "give it 128 KiB of memory", why,
                                why_bytes);
    int rc = weir__callbacks_open(reactor, options, weir__counters(stats, 0), readiness);
    if (rc == 0)
        rc = run(reactor, stats->features, ready, argument);
    if (rc < 0)
        weir__model_fail(model, -rc, "its reactor", "hand in a listening socket, and descriptors",
                         why, why_bytes);
    weir__callbacks_close(reactor);
    free(reactor);
    return rc;
}

void weir__callbacks_close(struct weir__callbacks *reactor)
{
    listen_no_more(reactor);
    while (reactor->clients)
        weir__client_end(reactor, reactor->clients, 0);
    if (reactor->set)
        reactor->readiness->close(reactor);
}
