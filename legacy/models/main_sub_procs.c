/*
 * main-sub-procs: a main process accepts and deals the connections out, in turns, to sub-reactor
 * processes; each holds many, on level-triggered epoll.
 *
 * How it works: a descriptor goes to a sub-reactor through a Unix socket, which stands in the
 * sub-reactor's set like any connection. From then on the main process has no part in it. The deal
 * is even in connections, whatever their addresses are (SO_REUSEPORT's is only on average), and
 * nobody competes for accept(2). A sub-reactor that dies takes its connections with it; those that
 * wait in its socket its successor finds there.
 *
 * Who uses it: the older master-worker servers (lighttpd's and Node's cluster module, which deals
 * by round robin like this); with threads for processes, Netty and muduo, there it is main-sub.
 *
 * Where it breaks: even in connections is not even in work: one busy client in a sub-reactor of
 * idle ones holds up its neighbours while others sleep, and no connection can move. A connection
 * costs 1.5 times what one costs that is accepted where it is served (53 us against 34, churn, two
 * clients: poll, sendmsg, recvmsg, close, a wake-up), and all wait for the one main process.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "legacy/models/callback.h"
#include "legacy/models/passing.h"
#include "legacy/models/stop.h"

extern const struct weir_model weir__model_main_sub_procs;

enum { PAUSE_MS = 100, TAKEN_AT_ONCE = 64 };

/* --- a sub-reactor ------------------------------------------------------------------------------
 */

struct sub {
    struct weir__handler channel; /* first */
    struct weir__callbacks reactor;
    uint64_t resume_ns; /* no descriptors: takes none before; 0: takes */
};

static int stop_fd = -1;

/* In the handler of SIGTERM. */
static void stop(void)
{
    weir__stop_begin();
    if (stop_fd >= 0)
        eventfd_write(stop_fd, 1);
}

static void take(struct sub *sub, unsigned most)
{
    struct weir__callbacks *reactor = &sub->reactor;
    for (unsigned i = 0; i < most; i++) {
        int fd = weir__passing_receive(sub->channel.fd, MSG_DONTWAIT);
        if (fd >= 0) {
            weir__callbacks_adopt(reactor, fd);
            continue;
        }
        if (fd != -EMFILE)
            return;
        /* The kernel has closed it. The others may wait until somebody leaves. */
        weir__count(&reactor->counters->errors, 1);
        weir__count(&reactor->counters->closed, 1);
        sub->resume_ns = weir__now_ns() + PAUSE_MS * 1000000ull;
        reactor->readiness->watch(reactor, &sub->channel, 0);
        return;
    }
}

static void channel_ready(struct weir__callbacks *reactor, struct weir__handler *handler,
                          unsigned events)
{
    (void)reactor;
    (void)events;
    take((struct sub *)handler, TAKEN_AT_ONCE);
}

/* The timeout of a wait. */
static int take_or_wait(struct sub *sub)
{
    uint64_t now_ns = weir__now_ns();
    if (sub->resume_ns > now_ns)
        return (int)((sub->resume_ns - now_ns) / 1000000 + 1);
    sub->resume_ns = 0;
    return sub->reactor.readiness->watch(&sub->reactor, &sub->channel, WEIR__READABLE) < 0
               ? PAUSE_MS
               : -1;
}

static int serve_until_stopped(struct sub *sub)
{
    struct weir__callbacks *reactor = &sub->reactor;
    int timeout_ms = take_or_wait(sub);
    while (!reactor->stopping) {
        int rc = reactor->readiness->wait(reactor, timeout_ms);
        if (rc < 0 || reactor->failed < 0)
            return rc < 0 ? rc : reactor->failed;
        timeout_ms = sub->resume_ns ? take_or_wait(sub) : -1;
    }
    take(sub, UINT32_MAX); /* all have been accepted */
    reactor->readiness->watch(reactor, &sub->channel, 0);
    weir__callbacks_drain(reactor);
    return 0;
}

static int work(void *argument, unsigned index)
{
    struct weir__passing *passing = argument;
    int channel = weir__passing_become_worker(passing, index);
    struct sub *sub = malloc(sizeof *sub);
    if (!sub)
        return EXIT_FAILURE;
    sub->channel = (struct weir__handler){.ready = channel_ready, .fd = channel};
    sub->resume_ns = 0;
    stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (stop_fd < 0 ||
        weir__callbacks_open(&sub->reactor, passing->options, weir__counters(passing->stats, index),
                             &weir__readiness_epoll) < 0 ||
        weir__callbacks_stop_on(&sub->reactor, stop_fd) < 0)
        return EXIT_FAILURE;
    if (weir__stopping())
        eventfd_write(stop_fd, 1); /* told before there was an eventfd */
    int rc = serve_until_stopped(sub);
    weir__callbacks_close(&sub->reactor);
    free(sub);
    return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* --- the main process ---------------------------------------------------------------------------
 */

struct dealer {
    struct weir__passing passing; /* first */
    unsigned next;
};

/* In turns; past those who have died, and those whose socket is full. */
static int pass(struct weir__passing *passing, int fd)
{
    struct dealer *dealer = (struct dealer *)passing;
    int rc = -EAGAIN;
    for (unsigned tries = 0; tries < passing->workers && rc == -EAGAIN; tries++) {
        unsigned index = dealer->next++ % passing->workers;
        if (weir_procs_pid(passing->procs, index) > 0)
            rc = weir__passing_send(passing->channels[index][0], fd);
    }
    return rc;
}

static int serve(const struct weir_model_options *options, struct weir_model_stats *stats,
                 void (*ready)(void *argument, const char *features), void *argument, char *why,
                 size_t why_bytes)
{
    struct dealer dealer = {.passing = {.model = &weir__model_main_sub_procs,
                                        .options = options,
                                        .stats = stats,
                                        .workers = weir__pool_size(options),
                                        .accept_flags = SOCK_NONBLOCK,
                                        .news_fd = -1,
                                        .pass = pass,
                                        .work = work,
                                        .stop = stop}};
    return weir__passing_serve(&dealer.passing, ready, argument, why, why_bytes);
}

const struct weir_model weir__model_main_sub_procs = {
    .name = "main-sub-procs",
    .summary = "a main process accepts, sub-reactor processes serve",
    .traits = WEIR_MODEL_REACTOR | WEIR_MODEL_POOL | WEIR_MODEL_PROCESSES,
    .serve = serve,
};
