/* Names by c-ares: one channel for a loop, made at the first lookup.
 *
 * c-ares makes sockets of its own and tells which it wants to read or write (sock_state). Each is
 * waited for by a POLL op, on a duplicate of its descriptor: c-ares closes its own when it likes,
 * and a descriptor is closed only when the engine holds no op on it. Its timeouts are a timer of
 * the loop. No task is behind any of this, so nothing of it keeps a loop from ending.
 *
 * c-ares keeps a KiB here and four there on the stack and reads files: tasks call it on a borrowed
 * stack, while what the engine or the wheel calls is on the loop's own.
 *
 * c-ares has no way to take one query back: one that was given up goes on while others are waited
 * for, and once there are none, all are cancelled. */
#include "core/resolve.h"

#include <ares.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

enum {
    STACK_BYTES = 64 * 1024,
    LOOKUPS = 128, /* in flight, where no other number was asked for */
};

struct weir__query {
    struct weir__resolver *resolver;
    struct weir__lookup *lookup; /* NULL: given up */
};

/* Of c-ares, and the wait for it. */
struct resolver_socket {
    struct weir__op op; /* the POLL, at the end the CLOSE; its fd is the duplicate */
    struct weir__resolver *resolver;
    struct resolver_socket *next;
    ares_socket_t theirs;
    uint32_t wanted; /* WEIR__POLL_…; 0: c-ares has closed it */
};

/* A channel, and what it takes to make it. */
struct setup {
    struct ares_options options;
    int mask;             /* of those options that count */
    char *servers;        /* NULL: the system's */
    unsigned lookups;     /* in flight, at most */
    ares_channel channel; /* NULL: none is open */
    int status;           /* why not */
};

struct weir__resolver {
    struct weir_loop *loop;
    struct setup setup;
    struct resolver_socket *sockets;
    struct weir__timer timer;
    struct weir__lookup *line, *line_tail; /* that wait until fewer are in flight */
    unsigned in_flight, given_up;          /* queries that c-ares has, and of these nobody's */
    bool dead;                             /* the loop's engine is closed: nothing is submitted */
};

/* ---- the library ----------------------------------------------------------------------------- */

static pthread_once_t library_once = PTHREAD_ONCE_INIT;
static char library_name[32];

static void library_open(void)
{
    ares_library_init(ARES_LIB_INIT_ALL);
    snprintf(library_name, sizeof library_name, "c-ares %s", ares_version(NULL));
}

const char *weir_resolver(void)
{
    pthread_once(&library_once, library_open);
    return library_name;
}

static int error_of(int status)
{
    switch (status) {
    case ARES_SUCCESS:
        return 0;
    case ARES_ENOTFOUND:
    case ARES_ENODATA:
        return -ENOENT;
    case ARES_EBADNAME:
    case ARES_EBADSTR:
    case ARES_EBADFAMILY:
        return -EINVAL;
    case ARES_ENOMEM:
        return -ENOMEM;
    case ARES_ECANCELLED:
    case ARES_EDESTRUCTION:
        return -ECANCELED;
    default: /* silent, refusing, failing or unreachable servers, and answers that are none */
        return -EAGAIN;
    }
}

/* ---- sockets and time ------------------------------------------------------------------------ */

static void socket_free(struct resolver_socket *socket)
{
    struct resolver_socket **link = &socket->resolver->sockets;

    while (*link != socket)
        link = &(*link)->next;
    *link = socket->next;
    free(socket);
}

static void socket_closed(struct weir__op *op)
{
    socket_free(weir__container(op, struct resolver_socket, op));
}

static void socket_close(struct resolver_socket *socket)
{
    socket->op = (struct weir__op){.kind = WEIR__OP_CLOSE,
                                   .flags = WEIR__OP_QUIET,
                                   .fd = socket->op.fd,
                                   .done = socket_closed};
    if (weir__submit(socket->resolver->loop, &socket->op) == WEIR__DONE)
        socket_free(socket);
}

/* c-ares says what it waits for on a socket, from within any call of it; nothing, when it closes
 * it. This must not call it in turn, so it only takes a note: settle() follows every call. */
static void sock_state(void *data, ares_socket_t theirs, int readable, int writable)
{
    struct weir__resolver *resolver = data;
    struct resolver_socket *socket = resolver->sockets;
    uint32_t wanted = (readable ? WEIR__POLL_IN : 0u) | (writable ? WEIR__POLL_OUT : 0u);

    while (socket && !(socket->theirs == theirs && socket->wanted))
        socket = socket->next;
    if (socket) {
        socket->wanted = wanted;
        return;
    }
    int fd = wanted && !resolver->dead ? fcntl(theirs, F_DUPFD_CLOEXEC, 0) : -1;
    socket = fd < 0 ? NULL : malloc(sizeof *socket);
    if (!socket) { /* its query ends by its time */
        if (fd >= 0)
            close(fd);
        return;
    }
    *socket = (struct resolver_socket){.op = {.fd = fd},
                                       .resolver = resolver,
                                       .next = resolver->sockets,
                                       .theirs = theirs,
                                       .wanted = wanted};
    resolver->sockets = socket;
}

/* c-ares reads and writes; an error is for it to find. */
static void socket_ready(struct resolver_socket *socket)
{
    const uint32_t error = ~(uint32_t)(WEIR__POLL_IN | WEIR__POLL_OUT);
    uint32_t events = (uint32_t)socket->op.res;
    bool in = events & (WEIR__POLL_IN | error) && socket->wanted & WEIR__POLL_IN;
    bool out = events & (WEIR__POLL_OUT | error) && socket->wanted & WEIR__POLL_OUT;

    if (in || out)
        ares_process_fd(socket->resolver->setup.channel, in ? socket->theirs : ARES_SOCKET_BAD,
                        out ? socket->theirs : ARES_SOCKET_BAD);
}

static void settle(struct weir__resolver *resolver);

static void socket_polled(struct weir__op *op)
{
    struct resolver_socket *socket = weir__container(op, struct resolver_socket, op);

    if (op->res > 0)
        socket_ready(socket);
    settle(socket->resolver);
}

/* Has the engine hold what c-ares wants of the socket. False: it is ready already. */
static bool socket_step(struct resolver_socket *socket)
{
    struct weir__op *op = &socket->op;

    if (op->state != WEIR__OP_IDLE) {
        if (op->kind == WEIR__OP_POLL && op->len != socket->wanted)
            weir__cancel(socket->resolver->loop, op);
        return true;
    }
    if (!socket->wanted) {
        socket_close(socket);
        return true;
    }
    if (op->res < 0 && op->res != -ECANCELED) /* cannot be waited for: its query ends by its time */
        return true;
    *op = (struct weir__op){
        .kind = WEIR__OP_POLL, .fd = op->fd, .len = socket->wanted, .done = socket_polled};
    return weir__submit(socket->resolver->loop, op) == WEIR__QUEUED || op->res < 0;
}

static void timeouts_arm(struct weir__resolver *resolver)
{
    struct weir__wheel *wheel = &resolver->loop->wheel;
    struct timeval room, *left = NULL;

    weir__timer_disarm(wheel, &resolver->timer);
    if (resolver->setup.channel)
        left = ares_timeout(resolver->setup.channel, NULL, &room);
    if (left)
        weir__timer_arm(wheel, &resolver->timer,
                        weir_now_ns() + (uint64_t)left->tv_sec * WEIR_SECOND +
                            (uint64_t)left->tv_usec * 1000);
}

/* After every call of c-ares, which may have opened, closed and changed sockets. */
static void settle(struct weir__resolver *resolver)
{
    struct resolver_socket *socket = resolver->sockets, *next;

    for (; socket; socket = next) {
        next = socket->next;
        if (socket_step(socket))
            continue;
        socket_ready(socket);
        next = resolver->sockets;
    }
    timeouts_arm(resolver);
}

static void timed_out(struct weir__timer *timer)
{
    struct weir__resolver *resolver = weir__container(timer, struct weir__resolver, timer);

    ares_process_fd(resolver->setup.channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    settle(resolver);
}

/* ---- queries --------------------------------------------------------------------------------- */

/* A place in flight is free, or the one of a query that has ended. */
static void next_of_line(struct weir__resolver *resolver)
{
    struct weir__lookup *lookup = resolver->line;

    if (!lookup) {
        resolver->in_flight--;
        return;
    }
    resolver->line = lookup->next;
    weir__task_wake(lookup->task, 0);
}

static void answered(void *argument, int status, int timeouts, struct ares_addrinfo *list)
{
    struct weir__query *query = argument;
    struct weir__resolver *resolver = query->resolver;
    struct weir__lookup *lookup = query->lookup;

    free(query);
    if (!lookup)
        resolver->given_up--;
    if (!resolver->dead)
        next_of_line(resolver);
    if (lookup && !resolver->dead) {
        for (struct ares_addrinfo_node *at = list ? list->nodes : NULL; at; at = at->ai_next)
            if (!weir__lookup_add(lookup, at->ai_addr))
                break;
        weir__lookup_done(lookup, error_of(status));
    }
    if (list)
        ares_freeaddrinfo(list);
}

/* On a borrowed stack. */
static void channel_open(void *argument)
{
    struct setup *setup = argument;
    ares_channel channel;

    setup->status = ares_init_options(&channel, &setup->options, setup->mask);
    if (setup->status != ARES_SUCCESS)
        return;
    if (setup->servers)
        setup->status = ares_set_servers_ports_csv(channel, setup->servers);
    if (setup->status == ARES_SUCCESS)
        setup->channel = channel;
    else
        ares_destroy(channel);
}

/* On a borrowed stack. */
static void ask(void *argument)
{
    struct weir__lookup *lookup = argument;
    struct weir__query *query = lookup->query;
    struct weir__resolver *resolver = query->resolver;
    struct ares_addrinfo_hints hints = {.ai_family = lookup->family, .ai_socktype = SOCK_STREAM};

    if (!resolver->setup.channel)
        channel_open(&resolver->setup);
    if (!resolver->setup.channel) {
        answered(query, resolver->setup.status, 0, NULL);
        return;
    }
    ares_getaddrinfo(resolver->setup.channel, lookup->host, NULL, &hints, answered, query);
    settle(resolver);
}

/* On a borrowed stack. */
static void cancel_all(void *argument)
{
    struct weir__resolver *resolver = argument;

    ares_cancel(resolver->setup.channel);
    settle(resolver);
}

void weir__query_give_up(struct weir__query *query)
{
    query->lookup = NULL;
    query->resolver->given_up++;
}

/* ---- lookups --------------------------------------------------------------------------------- */

static void setup_init(struct setup *setup, struct weir__resolver *resolver)
{
    *setup = (struct setup){
        .options = {.sock_state_cb = sock_state, .sock_state_cb_data = resolver},
        .mask = ARES_OPT_SOCK_STATE_CB,
        .lookups = LOOKUPS,
    };
}

static struct weir__resolver *resolver_of(struct weir_loop *loop)
{
    struct weir__resolver *resolver = loop->resolver;

    if (resolver)
        return resolver;
    loop->resolver = resolver = calloc(1, sizeof *resolver);
    if (!resolver)
        return NULL;
    pthread_once(&library_once, library_open);
    resolver->loop = loop;
    setup_init(&resolver->setup, resolver);
    resolver->timer.fire = timed_out;
    return resolver;
}

static void line_unwait(struct weir_task *task, int why)
{
    struct weir__lookup *lookup = task->object, **link, *before = NULL;
    struct weir__resolver *resolver = task->loop->resolver;

    for (link = &resolver->line; *link != lookup; link = &(*link)->next)
        before = *link;
    *link = lookup->next;
    if (resolver->line_tail == lookup)
        resolver->line_tail = before;
    weir__task_wake(task, why);
}

static const struct weir__wait line_wait = {"for other names to be found", line_unwait};

/* Takes a place in flight. */
static int begin(struct weir__resolver *resolver, struct weir__lookup *lookup, uint64_t deadline_ns)
{
    if (resolver->in_flight < resolver->setup.lookups) {
        resolver->in_flight++;
        return 0;
    }
    if (resolver->line)
        resolver->line_tail->next = lookup;
    else
        resolver->line = lookup;
    resolver->line_tail = lookup;
    int res = weir__task_wait(lookup->task, &line_wait, lookup, deadline_ns);
    if (res)
        return res;
    res = weir__task_check(lookup->task);
    if (res)
        next_of_line(resolver);
    return res;
}

static int query(struct weir__resolver *resolver, struct weir__lookup *lookup, uint64_t deadline_ns)
{
    lookup->query = malloc(sizeof *lookup->query);
    if (!lookup->query) {
        next_of_line(resolver);
        return -ENOMEM;
    }
    *lookup->query = (struct weir__query){resolver, lookup};
    int res = weir_coro_call_deep(STACK_BYTES, ask, lookup);
    if (res) {
        free(lookup->query);
        next_of_line(resolver);
        return res;
    }
    return weir__lookup_wait(lookup, deadline_ns);
}

int weir__lookup(struct weir__lookup *lookup, uint64_t deadline_ns)
{
    struct weir__resolver *resolver = resolver_of(lookup->task->loop);

    if (!resolver)
        return -ENOMEM;
    int res = begin(resolver, lookup, deadline_ns);
    if (!res)
        res = query(resolver, lookup, deadline_ns);
    /* Where there is no stack for it now, a later lookup or the end of the loop does it. */
    if (resolver->given_up && resolver->given_up == resolver->in_flight)
        weir_coro_call_deep(STACK_BYTES, cancel_all, resolver);
    return res;
}

/* ---- options --------------------------------------------------------------------------------- */

static void channel_close(struct weir__resolver *resolver)
{
    if (resolver->setup.channel)
        ares_destroy(resolver->setup.channel);
    resolver->setup.channel = NULL;
    settle(resolver);
}

static int setup_fill(struct setup *setup, const struct weir_resolver_options *options)
{
    uint64_t ms = options->try_ns / WEIR_MILLISECOND;

    if (options->lookups)
        setup->lookups = options->lookups;
    if (options->try_ns) {
        setup->options.timeout = ms > INT32_MAX ? INT32_MAX : ms ? (int)ms : 1;
        setup->mask |= ARES_OPT_TIMEOUTMS;
    }
    if (options->tries) {
        setup->options.tries = (int)options->tries;
        setup->mask |= ARES_OPT_TRIES;
    }
    if (options->servers)
        setup->servers = strdup(options->servers);
    return options->servers && !setup->servers ? -ENOMEM : 0;
}

/* Opens the channel: nothing else can tell whether the servers are some. */
int weir_resolver_set(struct weir_loop *loop, const struct weir_resolver_options *options)
{
    struct weir__resolver *resolver = resolver_of(loop);
    struct setup setup;

    if (!resolver)
        return -ENOMEM;
    if (resolver->in_flight)
        return -EBUSY;
    setup_init(&setup, resolver);
    int res = setup_fill(&setup, options);
    if (!res)
        res = weir_coro_call_deep(STACK_BYTES, channel_open, &setup);
    if (!res && !setup.channel)
        res = setup.status == ARES_ENOMEM ? -ENOMEM : -EINVAL;
    if (res) {
        free(setup.servers);
        return res;
    }
    channel_close(resolver);
    free(resolver->setup.servers);
    resolver->setup = setup;
    return 0;
}

/* ---- the end --------------------------------------------------------------------------------- */

bool weir__resolver_end(struct weir_loop *loop)
{
    if (!loop->resolver)
        return true;
    channel_close(loop->resolver);
    return !loop->resolver->sockets;
}

/* After an engine's failure there may be queries whose tasks are gone, and sockets whose ops are:
 * the descriptor of a close that the engine had is closed. */
void weir__resolver_free(struct weir_loop *loop)
{
    struct weir__resolver *resolver = loop->resolver;

    if (!resolver)
        return;
    resolver->dead = true;
    if (resolver->setup.channel)
        ares_destroy(resolver->setup.channel);
    while (resolver->sockets) {
        struct weir__op *op = &resolver->sockets->op;
        if (op->kind != WEIR__OP_CLOSE || op->engine_bits == WEIR__REFUSED)
            close(op->fd);
        socket_free(resolver->sockets);
    }
    free(resolver->setup.servers);
    free(resolver);
}
