/*
 * main-sub: a main reactor accepts, sub-reactors serve, each in its thread.
 *
 * How it works: the main reactor has the listener and hands connections over, to one sub-reactor
 * after the other, by writing their descriptors into the mailbox of each, a pipe: so a handed-over
 * connection is an event like another, the mailbox is bounded by the kernel, and its end is the
 * stop. With handover=accept that is all the main reactor does; with handover=first-byte it keeps
 * a connection until something has come, so that those who only connect cost the others nothing.
 *
 * Who uses it: Netty (boss and workers), muduo, memcached, Vert.x; Lea's "multiple reactors".
 *
 * Where it breaks: one thread accepts for all, and each connection crosses threads once: a write, a
 * read and mostly a wake-up, several us that `reactor-threads` does not pay. Turns are dealt, not
 * load: eight connections that ask a lot can meet in one sub-reactor. A mailbox holds 16,384; if
 * all are full, further connections are closed and counted as errors.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "legacy/models/crew.h"

extern const struct weir_model weir__model_main_sub;

enum { LETTERS = 64 };

/* --- the main reactor ---------------------------------------------------------------------------
 */

static void hand_over(struct weir__callbacks *reactor, int fd)
{
    struct weir__crew *crew = ((struct weir__crew_member *)reactor)->crew;
    unsigned subs = crew->count - 1;
    for (unsigned tried = 0; tried < subs; tried++) {
        struct weir__crew_member *sub = crew->members[1 + crew->turn];
        crew->turn = (crew->turn + 1) % subs;
        if (write(sub->post_fd, &fd, sizeof fd) == sizeof fd)
            return;
    }
    weir__accepted_close(reactor->counters, fd, -ENOBUFS);
}

/* Also when all that has come is the end: the sub-reactor finds it. */
static void first_byte_ready(struct weir__callbacks *reactor, struct weir__handler *handler,
                             unsigned events)
{
    (void)events;
    hand_over(reactor, weir__client_release(reactor, (struct weir__client *)handler));
}

/* Whose first byte has come by now is answered, too: the sub-reactors find out. */
static void stop_subs(struct weir__crew *crew)
{
    struct weir__callbacks *main_reactor = &crew->members[0]->reactor;
    while (main_reactor->clients)
        hand_over(main_reactor, weir__client_release(main_reactor, main_reactor->clients));
    for (unsigned i = 1; i < crew->count; i++) {
        close(crew->members[i]->post_fd);
        crew->members[i]->post_fd = -1;
    }
}

/* --- the sub-reactors ---------------------------------------------------------------------------
 */

static void mailbox_ready(struct weir__callbacks *reactor, struct weir__handler *mailbox,
                          unsigned events)
{
    int fds[LETTERS];
    (void)events;
    ssize_t got = read(mailbox->fd, fds, sizeof fds);
    for (ssize_t i = 0; i < got / (ssize_t)sizeof *fds; i++)
        weir__callbacks_adopt(reactor, fds[i]);
    if (got != 0)
        return;
    reactor->stopping = true;
    reactor->readiness->watch(reactor, mailbox, 0);
}

/* What a sub-reactor that failed has not taken out. */
static void empty_mailbox(struct weir__crew_member *member)
{
    int fd;
    while (member->mailbox.fd >= 0 && read(member->mailbox.fd, &fd, sizeof fd) == sizeof fd)
        weir__accepted_close(member->reactor.counters, fd, 0);
}

static int open_mailbox(struct weir__crew_member *member)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    member->mailbox = (struct weir__handler){.ready = mailbox_ready, .fd = ends[0]};
    member->post_fd = ends[1];
    return weir__epoll_watch(&member->reactor, &member->mailbox, WEIR__READABLE);
}

/* --- the model ----------------------------------------------------------------------------------
 */

static int prepare(struct weir__crew *crew)
{
    const struct weir_model_options *options = crew->options;
    struct weir__callbacks *main_reactor = &crew->members[0]->reactor;
    int rc = 0;
    const char *handover = weir_model_chosen(&weir__model_main_sub, options->choices, "handover");
    if (strcmp(handover, "first-byte") == 0)
        main_reactor->client_ready = first_byte_ready;
    else
        main_reactor->accepted = hand_over;
    crew->stopped = stop_subs;
    for (unsigned i = 1; i < crew->count && rc == 0; i++)
        rc = open_mailbox(crew->members[i]);
    if (rc == 0)
        rc = weir__callbacks_listen(main_reactor, options->listen_fd);
    return rc < 0 ? rc : weir__crew_stops(crew, 0);
}

static int serve(const struct weir_model_options *options, struct weir_model_stats *stats,
                 void (*ready)(void *argument, const char *features), void *argument, char *why,
                 size_t why_bytes)
{
    struct weir__crew crew;
    int rc = weir__crew_open(&crew, options, stats, 1 + weir__pool_size(options));
    if (rc == 0)
        rc = prepare(&crew);
    if (rc == 0)
        rc = weir__crew_run(&crew, stats->features, ready, argument);
    if (rc < 0)
        weir__model_fail(&weir__model_main_sub, -rc, "its reactors",
                         "lower --workers, or raise ulimit -u and ulimit -n", why, why_bytes);
    for (unsigned i = 0; i < crew.count; i++)
        empty_mailbox(crew.members[i]);
    weir__crew_close(&crew);
    return rc;
}

static const char *const handovers[] = {"accept", "first-byte", NULL};
static const struct weir_model_choice choices[] = {{"handover", handovers}, {NULL, NULL}};

const struct weir_model weir__model_main_sub = {
    .name = "main-sub",
    .summary = "a main reactor accepts, sub-reactors in threads serve",
    .seed_name = "epollreactorthreadpollms",
    .traits = WEIR_MODEL_REACTOR | WEIR_MODEL_POOL,
    .choices = choices,
    .serve = serve,
};
