/*
 * nonblocking: one thread goes round all sockets and tries each. No socket ever blocks, and nothing
 * is asked about readiness.
 *
 * How it works: a round accepts whoever has come, then tries to receive from every client. Who has
 * sent nothing says EAGAIN; who has is answered. A client that does not take its answer keeps the
 * buffer in which that lies, is tried again at each round, and is received from no more until it is
 * empty; the loop goes on with another buffer. So no client holds up another.
 *
 * Who uses it: network stacks in user space (DPDK, RDMA, trading), which spend a processor so as
 * not to wait for an interrupt; there a try is a look at memory. On sockets: nobody who could
 * select.
 *
 * Where it breaks: each try is a system call, for each client and round, and nobody is answered
 * sooner than a round takes. It takes all of its processor even when nothing happens.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "legacy/models/blocking.h"
#include "legacy/models/callback.h"
#include "legacy/models/stop.h"

extern const struct weir_model weir__model_nonblocking;

enum { ACCEPTS = 64, FIRST_ROOM = 64 };

/* Input, and its answer as far as it has not left. */
struct exchange {
    struct weir__answer answer;
    size_t got, fed; /* of `in` */
    alignas(64) uint8_t room[WEIR__ROOM_BYTES];
    alignas(64) uint8_t in[WEIR__IN_BYTES];
};

struct client {
    struct weir__session session;
    struct exchange *stuck; /* the peer does not take it; NULL: nothing is left to send */
    int fd;
};

struct rounds {
    const struct weir_model_options *options;
    struct weir_model_counters *counters;
    struct weir__acceptor acceptor;
    struct exchange *exchange; /* of whoever is not stuck */
    struct client *clients;
    size_t count, room;
    int listen_flags; /* to be put back */
};

/* --- one client ----------------------------------------------------------------------------------
 */

/* Sends and feeds until the input is used up, or the workload wants an end: 1; 0: the socket is
 * full; -errno. */
static int answer_all(struct rounds *rounds, struct client *client, struct exchange *exchange)
{
    struct weir__answer *answer = &exchange->answer;
    for (;;) {
        int rc = weir__answer_send(answer, client->fd, rounds->counters);
        if (rc <= 0 || exchange->fed == exchange->got || answer->verdict != WEIR_WORKLOAD_CONTINUE)
            return rc;
        weir__session_feed(&client->session, rounds->options, rounds->counters,
                           exchange->in + exchange->fed, exchange->got - exchange->fed,
                           exchange->room, answer);
        exchange->fed += answer->consumed;
    }
}

/* The client keeps the buffer, and the others get a new one. 1 or -errno. */
static int keep(struct rounds *rounds, struct client *client)
{
    struct exchange *another = aligned_alloc(alignof(struct exchange), sizeof *another);
    if (!another)
        return -ENOMEM;
    client->stuck = rounds->exchange;
    rounds->exchange = another;
    return 1;
}

/* What try_client() returns of a receive that gave no input. Once stopping, who has sent nothing
 * more is done. */
static int nothing_received(ssize_t got, bool stopping)
{
    if (got == 0)
        return 0;
    if (errno == EAGAIN)
        return stopping ? 0 : 1;
    return errno == EINTR ? 1 : -errno;
}

/* 1: it stays; 0: it is over; -errno: it failed. */
static int try_client(struct rounds *rounds, struct client *client)
{
    struct exchange *exchange = client->stuck ? client->stuck : rounds->exchange;
    if (!client->stuck) {
        bool stopping = weir__stopping(); /* before: what comes until the stop is answered */
        ssize_t got = recv(client->fd, exchange->in, sizeof exchange->in, 0);
        if (got <= 0)
            return nothing_received(got, stopping);
        weir__count(&rounds->counters->bytes_in, (uint64_t)got);
        exchange->got = (size_t)got;
        exchange->fed = 0;
        exchange->answer.bytes = 0;
        exchange->answer.verdict = WEIR_WORKLOAD_CONTINUE;
    }
    int rc = answer_all(rounds, client, exchange);
    if (rc < 0)
        return rc;
    if (rc == 0)
        return client->stuck ? 1 : keep(rounds, client);
    bool stays = exchange->answer.verdict == WEIR_WORKLOAD_CONTINUE;
    free(client->stuck);
    client->stuck = NULL;
    return stays;
}

/* --- all clients ---------------------------------------------------------------------------------
 */

static int add(struct rounds *rounds, int fd)
{
    if (rounds->count == rounds->room) {
        size_t room = rounds->room ? 2 * rounds->room : FIRST_ROOM;
        struct client *grown = realloc(rounds->clients, room * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        rounds->clients = grown;
        rounds->room = room;
    }
    struct client *client = &rounds->clients[rounds->count++];
    client->fd = fd;
    client->stuck = NULL;
    weir__session_init(&client->session, rounds->options);
    return 0;
}

static int accept_some(struct rounds *rounds)
{
    if (weir__acceptor_pause_ms(&rounds->acceptor) > 0)
        return 0;
    for (int i = 0; i < ACCEPTS; i++) {
        int fd = weir__accept(&rounds->acceptor, SOCK_NONBLOCK);
        if (fd < 0)
            return fd == -EAGAIN || fd == -EBUSY || fd == -EINTR ? 0 : fd;
        int rc = add(rounds, fd);
        if (rc < 0)
            weir__accepted_close(rounds->counters, fd, rc);
    }
    return 0;
}

/* The last client takes the place of the one that leaves. */
static void remove_at(struct rounds *rounds, size_t at, int result)
{
    weir__accepted_close(rounds->counters, rounds->clients[at].fd, result);
    free(rounds->clients[at].stuck);
    rounds->clients[at] = rounds->clients[--rounds->count];
}

static void try_all(struct rounds *rounds)
{
    for (size_t at = rounds->count; at-- > 0;) {
        int rc = try_client(rounds, &rounds->clients[at]);
        if (rc <= 0)
            remove_at(rounds, at, rc);
    }
}

static void drain(struct rounds *rounds)
{
    weir__stop_begin();
    do
        try_all(rounds);
    while (rounds->count > 0 && weir__stop_left_ns() > 0);
    while (rounds->count > 0)
        remove_at(rounds, rounds->count - 1, -ETIME);
}

static int init(struct rounds *rounds)
{
    int listen_fd = rounds->options->listen_fd;
    rounds->listen_flags = -1;
    int rc = weir__acceptor_init(&rounds->acceptor, listen_fd, rounds->counters);
    rounds->exchange = aligned_alloc(alignof(struct exchange), sizeof *rounds->exchange);
    if (rc == 0 && !rounds->exchange)
        rc = -ENOMEM;
    if (rc < 0)
        return rc;
    rounds->listen_flags = fcntl(listen_fd, F_GETFL);
    if (rounds->listen_flags < 0 ||
        fcntl(listen_fd, F_SETFL, rounds->listen_flags | O_NONBLOCK) < 0)
        return -errno;
    return 0;
}

static int serve(const struct weir_model_options *options, struct weir_model_stats *stats,
                 void (*ready)(void *argument, const char *features), void *argument, char *why,
                 size_t why_bytes)
{
    struct rounds rounds = {.options = options, .counters = weir__counters(stats, 0)};
    int rc = init(&rounds);
    if (rc == 0) {
        weir__stop_init(options);
        ready(argument, stats->features);
    }
    while (rc == 0 && !weir__stopping()) {
        rc = accept_some(&rounds);
        try_all(&rounds);
    }
    if (rc < 0)
        weir__model_fail(&weir__model_nonblocking, -rc, "accepting",
                         "hand in a listening socket, descriptors and memory", why, why_bytes);
    drain(&rounds);
    if (rounds.listen_flags >= 0)
        fcntl(options->listen_fd, F_SETFL, rounds.listen_flags);
    weir__acceptor_deinit(&rounds.acceptor);
    free(rounds.clients);
    free(rounds.exchange);
    return rc;
}

const struct weir_model weir__model_nonblocking = {
    .name = "nonblocking",
    .summary = "tries all sockets in turn, non-blocking; no readiness call",
    .traits = WEIR_MODEL_SPINS,
    .serve = serve,
    .stop = weir__stop_begin,
};
