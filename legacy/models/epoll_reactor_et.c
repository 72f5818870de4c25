/*
 * epoll-reactor-et: the reactor of epoll-reactor, edge-triggered.
 *
 * How it works: a descriptor is put into the set once, for both directions, and told when something
 * changes: bytes came, room came. What was not taken then is not told again. So a handler goes on
 * until the socket is drained, which a receive that fills less than its buffer shows as well as
 * EAGAIN, and for fewer calls; only after a hang-up it does not, for the end itself is still to be
 * read. One that sends without pause would never be drained: after a budget of receives it stands
 * in line behind all others, and the wait does not block meanwhile. The listener stays
 * level-triggered.
 *
 * Who uses it: nginx and HAProxy, the runtimes of Go and of Rust's Tokio.
 *
 * Where it breaks: at every edge that is missed; a connection then hangs for ever, and no test with
 * small requests shows it. It saves what the level costs only where sockets fill, two epoll_ctl for
 * a peer that lags, and where a message is larger than the buffer; for small requests it is the
 * same two calls. Else it breaks where epoll-reactor does.
 */
#include "legacy/models/callback.h"

extern const struct weir_model weir__model_epoll_reactor_et;

enum { BUDGET = 4 }; /* receives or flushes at a stretch */

/* In a client's flags. */
enum {
    IN_LINE = 1, /* it is served when its turn comes, whatever is told */
    HUNG_UP = 2, /* there will be no further edge: only the end shows that all was read */
};

struct edge_reactor {
    struct weir__callbacks callbacks; /* first */
    struct weir__client *line, **line_end;
};

static void stand_in_line(struct edge_reactor *edge, struct weir__client *client)
{
    client->flags |= IN_LINE;
    client->waiting = NULL;
    *edge->line_end = client;
    edge->line_end = &client->waiting;
}

static void serve_client(struct edge_reactor *edge, struct weir__client *client)
{
    for (int i = 0; i < BUDGET; i++) {
        enum weir__client_result result = client->unsent
                                              ? weir__client_flush(&edge->callbacks, client)
                                              : weir__client_receive(&edge->callbacks, client);
        if (result == WEIR__CLIENT_GONE || result == WEIR__CLIENT_FULL)
            return;
        if (result == WEIR__CLIENT_EMPTY && !(client->flags & HUNG_UP))
            return;
        if (result == WEIR__CLIENT_EMPTY)
            client->flags &= ~(uint32_t)HUNG_UP;
    }
    stand_in_line(edge, client);
}

static void edge_ready(struct weir__callbacks *reactor, struct weir__handler *handler,
                       unsigned events)
{
    struct weir__client *client = (struct weir__client *)handler;
    if (events & WEIR__HANGUP)
        client->flags |= HUNG_UP;
    /* That a new connection is writable is an edge, too. */
    bool is_for_it = events & WEIR__READABLE || client->unsent;
    if (is_for_it && !(client->flags & IN_LINE))
        serve_client((struct edge_reactor *)reactor, client);
}

/* The line as it was before the wait: who joins it meanwhile has had a turn. */
static int wait(struct weir__callbacks *reactor, int timeout_ms)
{
    struct edge_reactor *edge = (struct edge_reactor *)reactor;
    /* A drain serves all, and those in line may be gone. */
    struct weir__client *client = reactor->draining ? NULL : edge->line, *next;
    edge->line = NULL;
    edge->line_end = &edge->line;
    int n = weir__epoll_wait(reactor, client ? 0 : timeout_ms);
    for (; client && n >= 0; client = next, n++) {
        next = client->waiting;
        client->flags &= ~(uint32_t)IN_LINE;
        serve_client(edge, client);
    }
    return n;
}

static int open_set(struct weir__callbacks *reactor)
{
    struct edge_reactor *edge = (struct edge_reactor *)reactor;
    edge->line = NULL;
    edge->line_end = &edge->line;
    reactor->client_ready = edge_ready;
    reactor->client_events = WEIR__READABLE | WEIR__WRITABLE | WEIR__EDGE;
    return weir__epoll_open(reactor);
}

const struct weir__readiness weir__readiness_epoll_et = {
    .reactor_bytes = sizeof(struct edge_reactor),
    .open = open_set,
    .close = weir__epoll_close,
    .watch = weir__epoll_watch,
    .wait = wait,
};

static int serve(const struct weir_model_options *options, struct weir_model_stats *stats,
                 void (*ready)(void *argument, const char *features), void *argument, char *why,
                 size_t why_bytes)
{
    return weir__callbacks_alone(&weir__model_epoll_reactor_et, &weir__readiness_epoll_et, options,
                                 stats, ready, argument, why, why_bytes);
}

const struct weir_model weir__model_epoll_reactor_et = {
    .name = "epoll-reactor-et",
    .summary = "epoll-reactor, edge-triggered",
    .seed_name = "epollreactorsingleprocess_et",
    .traits = WEIR_MODEL_REACTOR,
    .serve = serve,
};
