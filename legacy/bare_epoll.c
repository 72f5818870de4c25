/*
 * bare-epoll: the least code that serves echo (or sink, or source) on level-triggered epoll,
 * correctly. It is the line that other models are measured against, so it must be hard to make
 * cheaper: two calls a request (recv, send), one buffer for all, no memory at all for an idle
 * connection. Only a peer that does not read gets some, for what could not be sent; meanwhile it is
 * not read from. What the source sends is its own memory, and never copied here.
 *
 * An event says what it is for: descriptor * 2 + 1 of a connection that is read from, or the
 * address of a `struct unsent`. Called through weir_models alone; shares nothing with the reactor.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <weir/model.h>
#include <weir/workload.h>

extern const struct weir_model weir__model_bare_epoll;

enum { EVENTS = 256, BUFFER_BYTES = 64 * 1024, ACCEPTS = 64, BACKOFF_MS = 100 };
enum { ID_BITS = 8 * sizeof(unsigned long) };

/* What a peer has still to take. */
struct unsent {
    struct unsent *next, **link; /* all of them, to free at the end */
    int fd;
    const uint8_t *data; /* own[], or the source's */
    size_t from, to;
    size_t asked_from, asked_to; /* in own[]: requests to the source that come after it */
    uint8_t own[];
};

struct bare {
    const struct weir_model_options *options;
    struct weir_model_counters *stats;
    int epoll_fd;
    int listen_flags; /* to be put back */
    unsigned share;   /* accepts to try at once: see accept_ready() */
    bool listening;   /* the listener is in the set */
    bool stopping;
    struct unsent *unsent;
    uint64_t listen_at_ns; /* when not listening: try again then */
    unsigned long *open;   /* a bit for each connection, to close them at the end */
    uint32_t open_words;
    const struct weir_workload *sink, *source;    /* one at most; else echo */
    uint8_t (*states)[WEIR_WORKLOAD_STATE_BYTES]; /* of it, by descriptor */
    uint8_t answers[BUFFER_BYTES + WEIR_WORKLOAD_OUT_BYTES];
    uint8_t buffer[BUFFER_BYTES];
    struct epoll_event events[EVENTS];
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t id_of(int fd)
{
    return (uint64_t)fd * 2 + 1;
}

static int control(struct bare *bare, int what, int fd, uint32_t bits, uint64_t id)
{
    struct epoll_event event = {.events = bits, .data.u64 = id};
    return epoll_ctl(bare->epoll_fd, what, fd, &event) < 0 ? -errno : 0;
}

/* --- connections --------------------------------------------------------------------------------
 */

static int note_open(struct bare *bare, int fd)
{
    uint32_t at = (uint32_t)fd / ID_BITS;
    if (at >= bare->open_words) {
        uint32_t words = (at + 1) * 2;
        unsigned long *grown = realloc(bare->open, sizeof *grown * words);
        if (!grown)
            return -ENOMEM;
        memset(grown + bare->open_words, 0, sizeof *grown * (words - bare->open_words));
        bare->open = grown;
        if (bare->sink || bare->source) {
            void *states = realloc(bare->states, sizeof *bare->states * words * ID_BITS);
            if (!states)
                return -ENOMEM;
            bare->states = states;
        }
        bare->open_words = words;
    }
    bare->open[at] |= 1ul << fd % ID_BITS;
    if (bare->sink)
        bare->sink->init(bare->states[fd], NULL);
    if (bare->source)
        bare->source->init(bare->states[fd], NULL);
    return 0;
}

static void listen_again(struct bare *bare)
{
    if (!bare->listening && !bare->stopping)
        bare->listening = control(bare, EPOLL_CTL_ADD, bare->options->listen_fd, EPOLLIN,
                                  id_of(bare->options->listen_fd)) == 0;
}

static void end_conn(struct bare *bare, int fd, int error)
{
    if (error && error != ECONNRESET && error != EPIPE)
        bare->stats->errors++;
    bare->open[(uint32_t)fd / ID_BITS] &= ~(1ul << fd % ID_BITS);
    bare->stats->closed++;
    close(fd);
    listen_again(bare); /* there is a descriptor again */
}

static void free_unsent(struct unsent *unsent)
{
    *unsent->link = unsent->next;
    if (unsent->next)
        unsent->next->link = unsent->link;
    free(unsent);
}

static void end_unsent(struct bare *bare, struct unsent *unsent, int error)
{
    end_conn(bare, unsent->fd, error);
    free_unsent(unsent);
}

/* Keeps what the socket did not take, and waits for room instead of input. `own` is copied. */
static struct unsent *keep_unsent(struct bare *bare, int fd, const uint8_t *own, size_t bytes)
{
    struct unsent *unsent = malloc(sizeof *unsent + bytes);
    if (!unsent) {
        end_conn(bare, fd, ENOMEM);
        return NULL;
    }
    *unsent = (struct unsent){.next = bare->unsent, .link = &bare->unsent, .fd = fd};
    if (unsent->next)
        unsent->next->link = &unsent->next;
    bare->unsent = unsent;
    memcpy(unsent->own, own, bytes);
    unsent->data = unsent->own;
    int rc = control(bare, EPOLL_CTL_MOD, fd, EPOLLOUT, (uintptr_t)unsent);
    if (rc < 0) {
        end_unsent(bare, unsent, -rc);
        return NULL;
    }
    return unsent;
}

/* Bytes that the socket took, 0 where it is full, or -errno. */
static ssize_t send_some(struct bare *bare, int fd, const uint8_t *data, size_t bytes)
{
    ssize_t n = send(fd, data, bytes, MSG_NOSIGNAL);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    bare->stats->bytes_out += (uint64_t)n;
    return n;
}

/* The next answer of the source to what was asked from *at on: 1, 0 if there is none, or -errno. */
static int next_answer(struct bare *bare, int fd, const uint8_t *asked, size_t bytes, size_t *at,
                       struct weir_workload_io *io)
{
    while (*at < bytes) {
        int rc = bare->source->feed(bare->states[fd], asked + *at, bytes - *at, io);
        if (rc < 0)
            return rc;
        *at += io->consumed;
        if (io->reply_len > 0)
            return 1;
    }
    return 0;
}

static void serve_asked(struct bare *bare, int fd, const uint8_t *asked, size_t bytes)
{
    struct weir_workload_io io = {.out = bare->answers, .out_capacity = WEIR_WORKLOAD_OUT_BYTES};
    size_t at = 0;
    ssize_t rc;
    while ((rc = next_answer(bare, fd, asked, bytes, &at, &io)) > 0) {
        rc = send_some(bare, fd, io.reply, io.reply_len);
        if (rc < 0)
            break;
        if ((size_t)rc < io.reply_len) {
            struct unsent *unsent = keep_unsent(bare, fd, asked + at, bytes - at);
            if (unsent) {
                unsent->data = io.reply;
                unsent->from = (size_t)rc;
                unsent->to = io.reply_len;
                unsent->asked_to = bytes - at;
            }
            return;
        }
    }
    if (rc < 0)
        end_conn(bare, fd, (int)-rc);
}

/* What the source still has to send after that: 1, 0 if nothing, or -errno. */
static int go_on(struct bare *bare, struct unsent *unsent)
{
    struct weir_workload_io io = {.out = bare->answers, .out_capacity = WEIR_WORKLOAD_OUT_BYTES};
    int rc = next_answer(bare, unsent->fd, unsent->own, unsent->asked_to, &unsent->asked_from, &io);
    unsent->data = io.reply;
    unsent->from = 0;
    unsent->to = io.reply_len;
    return rc;
}

static void serve_output(struct bare *bare, struct unsent *unsent)
{
    ssize_t rc;
    do {
        rc = send_some(bare, unsent->fd, unsent->data + unsent->from, unsent->to - unsent->from);
        unsent->from += rc > 0 ? (size_t)rc : 0;
        if (rc >= 0 && unsent->from < unsent->to)
            return;
        if (rc >= 0)
            rc = go_on(bare, unsent);
    } while (rc > 0);
    if (rc == 0)
        rc = control(bare, EPOLL_CTL_MOD, unsent->fd, EPOLLIN, id_of(unsent->fd));
    if (rc < 0)
        end_unsent(bare, unsent, (int)-rc);
    else
        free_unsent(unsent);
}

/* What was received into the sink; its answers, if it has any. Who asks for more of them than there
 * is room for gets those. Returns their bytes. */
static size_t swallow(struct bare *bare, int fd, size_t bytes)
{
    size_t answered = 0;
    for (size_t at = 0; at < bytes && answered < BUFFER_BYTES;) {
        struct weir_workload_io io = {.out = bare->answers + answered,
                                      .out_capacity = WEIR_WORKLOAD_OUT_BYTES};
        bare->sink->feed(bare->states[fd], bare->buffer + at, bytes - at, &io);
        at += io.consumed;
        answered += io.reply_len;
    }
    return answered;
}

static void serve_input(struct bare *bare, int fd)
{
    ssize_t got = recv(fd, bare->buffer, BUFFER_BYTES, 0);
    if (got <= 0) {
        if (got == 0 || (errno != EAGAIN && errno != EINTR))
            end_conn(bare, fd, got == 0 ? 0 : errno);
        return;
    }
    bare->stats->bytes_in += (uint64_t)got;
    if (bare->source) {
        serve_asked(bare, fd, bare->buffer, (size_t)got);
        return;
    }
    const uint8_t *answer = bare->sink ? bare->answers : bare->buffer;
    size_t bytes = bare->sink ? swallow(bare, fd, (size_t)got) : (size_t)got;
    if (bytes == 0)
        return;
    ssize_t sent = send_some(bare, fd, answer, bytes);
    if (sent < 0) {
        end_conn(bare, fd, (int)-sent);
    } else if ((size_t)sent < bytes) {
        struct unsent *unsent = keep_unsent(bare, fd, answer + sent, bytes - (size_t)sent);
        if (unsent)
            unsent->to = bytes - (size_t)sent;
    }
}

/* --- accept -------------------------------------------------------------------------------------
 */

static void accepted(struct bare *bare, int fd)
{
    bare->stats->accepted++;
    int rc = note_open(bare, fd);
    if (rc < 0) {
        bare->stats->errors++;
        bare->stats->closed++;
        close(fd);
        return;
    }
    rc = control(bare, EPOLL_CTL_ADD, fd, EPOLLIN, id_of(fd));
    if (rc < 0)
        end_conn(bare, fd, -rc);
}

/* Out of descriptors or memory: the listener stays ready, and the loop would spin. So it leaves the
 * set until a connection ends, or for BACKOFF_MS. */
static void stop_listening(struct bare *bare)
{
    bare->stats->errors++;
    control(bare, EPOLL_CTL_DEL, bare->options->listen_fd, 0, 0);
    bare->listening = false;
    bare->listen_at_ns = now_ns() + BACKOFF_MS * 1000000ull;
}

/* Does not look for the end of the queue each time: the share doubles while it is always filled. */
static void accept_ready(struct bare *bare)
{
    for (unsigned i = 0; i < bare->share; i++) {
        int fd = accept4(bare->options->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            accepted(bare, fd);
            continue;
        }
        bare->share = i ? i : 1;
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
            stop_listening(bare);
        return;
    }
    if (bare->share < ACCEPTS)
        bare->share *= 2;
}

/* --- the loop -----------------------------------------------------------------------------------
 */

static void serve_event(struct bare *bare, const struct epoll_event *event)
{
    if (!(event->data.u64 & 1)) {
        serve_output(bare, (struct unsent *)(uintptr_t)event->data.u64);
        return;
    }
    int fd = (int)(event->data.u64 / 2);
    if (fd == bare->options->listen_fd)
        accept_ready(bare);
    else if (fd == bare->options->stop_fd)
        bare->stopping = true;
    else
        serve_input(bare, fd);
}

/* Returns the events served, or -errno. */
static int turn(struct bare *bare, int timeout_ms)
{
    int n = epoll_wait(bare->epoll_fd, bare->events, EVENTS, timeout_ms);
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < n; i++)
        serve_event(bare, &bare->events[i]);
    return n;
}

static int serve_until_stopped(struct bare *bare)
{
    while (!bare->stopping) {
        int n = turn(bare, bare->listening ? -1 : BACKOFF_MS);
        if (n < 0)
            return n;
        if (!bare->listening && now_ns() >= bare->listen_at_ns)
            listen_again(bare);
    }
    return 0;
}

/* What had arrived before the stop is answered: as many turns as reach every connection once. Then
 * only those that have not taken their answer are waited for. */
static int drain(struct bare *bare)
{
    uint64_t limit_ns = now_ns() + bare->options->drain_ns;
    uint64_t open = bare->stats->accepted - bare->stats->closed;
    control(bare, EPOLL_CTL_DEL, bare->options->stop_fd, 0, 0);
    if (bare->listening)
        control(bare, EPOLL_CTL_DEL, bare->options->listen_fd, 0, 0);
    bare->listening = false;
    for (uint64_t turns = open / EVENTS + 1; turns > 0; turns--) {
        int n = turn(bare, 0);
        if (n < 0)
            return n;
        if (n == 0)
            break;
    }
    while (bare->unsent) {
        uint64_t at_ns = now_ns();
        if (at_ns >= limit_ns)
            break;
        uint64_t left_ms = (limit_ns - at_ns) / 1000000 + 1;
        int n = turn(bare, left_ms > INT_MAX ? INT_MAX : (int)left_ms);
        if (n < 0)
            return n;
    }
    return 0;
}

static void close_all(struct bare *bare)
{
    for (uint32_t at = 0; at < bare->open_words; at++) {
        for (; bare->open[at]; bare->open[at] &= bare->open[at] - 1) {
            close((int)(at * ID_BITS) + __builtin_ctzl(bare->open[at]));
            bare->stats->closed++;
        }
    }
}

static int fail(char *why, size_t why_bytes, const char *what, int error, const char *cure)
{
    snprintf(why, why_bytes, "bare-epoll: %s: %s; %s", what, strerror(error), cure);
    return -error;
}

static int open_set(struct bare *bare, char *why, size_t why_bytes)
{
    int listen_fd = bare->options->listen_fd, stop_fd = bare->options->stop_fd;
    bare->listen_flags = fcntl(listen_fd, F_GETFL);
    if (bare->listen_flags < 0 || fcntl(listen_fd, F_SETFL, bare->listen_flags | O_NONBLOCK) < 0)
        return fail(why, why_bytes, "the listening descriptor", errno,
                    "hand in a listening socket");
    bare->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (bare->epoll_fd < 0)
        return fail(why, why_bytes, "epoll_create1", errno, "raise the limit of open files");
    int rc = control(bare, EPOLL_CTL_ADD, listen_fd, EPOLLIN, id_of(listen_fd));
    if (rc < 0)
        return fail(why, why_bytes, "watching the listener", -rc, "hand in a listening socket");
    bare->listening = true;
    rc = control(bare, EPOLL_CTL_ADD, stop_fd, EPOLLIN, id_of(stop_fd));
    if (rc < 0)
        return fail(why, why_bytes, "watching the stop descriptor", -rc,
                    "hand in a pipe or eventfd");
    return 0;
}

static bool is(const struct weir_workload *workload, const char *name)
{
    return workload && strcmp(workload->name, name) == 0;
}

static int serve(const struct weir_model_options *options, struct weir_model_stats *stats,
                 void (*ready)(void *argument, const char *features), void *argument, char *why,
                 size_t why_bytes)
{
    const struct weir_workload *workload = options->workload;
    bool sink = is(workload, "sink"), source = is(workload, "source");
    if (workload && !sink && !source && !is(workload, "echo"))
        return fail(why, why_bytes, "this workload", EINVAL,
                    "it serves only echo, sink and source");
    struct bare *bare = calloc(1, sizeof *bare);
    if (!bare)
        return fail(why, why_bytes, "its buffer", ENOMEM, "give it 128 KiB of memory");
    bare->options = options;
    bare->stats = &stats->slots[0];
    bare->sink = sink ? workload : NULL;
    bare->source = source ? workload : NULL;
    bare->epoll_fd = -1;
    bare->share = 1;
    int rc = open_set(bare, why, why_bytes);
    if (rc == 0) {
        ready(argument, stats->features);
        rc = serve_until_stopped(bare);
        if (rc == 0)
            rc = drain(bare);
        if (rc < 0)
            fail(why, why_bytes, "epoll_wait", -rc, "report this");
    }
    close_all(bare);
    while (bare->unsent)
        free_unsent(bare->unsent);
    if (bare->epoll_fd >= 0)
        close(bare->epoll_fd);
    if (bare->listen_flags >= 0)
        fcntl(options->listen_fd, F_SETFL, bare->listen_flags);
    free(bare->states);
    free(bare->open);
    free(bare);
    return rc;
}

static const char *const workloads[] = {"echo", "sink", "source", NULL};

const struct weir_model weir__model_bare_epoll = {
    .name = "bare-epoll",
    .summary = "the least code that serves echo on epoll; no coroutines",
    .traits = WEIR_MODEL_REACTOR,
    .workloads = workloads,
    .serve = serve,
};
