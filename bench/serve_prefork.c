/*
 * `weir-bench serve` on an engine of the runtime in several processes: each has one shard, with a
 * listener of its own on the port (SO_REUSEPORT). The parent holds the port, starts a successor for
 * a worker that dies, and serves nothing itself. What was in the dead one's backlog is lost with
 * it: its listener was its own.
 */
#include "bench/serve_shard.h"

#include "bench/cli.h"

#include <weir/procs.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* What a worker tells its parent once: an exit code, or that it listens. */
struct word {
    int code;
    char features[512];
};

/* The one server of this process; workers have a copy. */
static struct {
    const struct serve_options *options;
    const char *engine, *name;
    unsigned count;
    int *event_fds; /* [count] of the workers: they ask for counters */
    int words[2];   /* a pipe, from the workers */
    int stop_fd;
    struct sockaddr_storage addr;
    socklen_t addr_len;
} server;

/* --- in a worker --------------------------------------------------------------------------------
 */

static void (*_Atomic stop_shard)(void);
static int event_fd; /* of this worker */

/* The task that waits for the event has to be told as well: a stop leaves it the whole drain. */
static void on_stop(void)
{
    const uint64_t one = 1;
    void (*stop)(void) = stop_shard;
    int saved = errno;

    weir__serve_stopping = 1;
    if (stop != NULL)
        stop();
    if (write(event_fd, &one, sizeof one) < 0)
        errno = saved; /* it is full, and so readable */
    errno = saved;
}

static void say(int code, const char *features)
{
    struct word word = {.code = code};

    snprintf(word.features, sizeof word.features, "%s", features);
    /* One write of less than PIPE_BUF arrives whole. From successors nobody reads it, and the pipe
     * may be full. */
    if (write(server.words[1], &word, sizeof word) < 0)
        return;
}

static void worker_ready(const struct shards *shards, const struct shard *first,
                         const struct sockaddr *addr, void (*stop)(void))
{
    (void)shards;
    (void)addr;
    stop_shard = stop;
    if (weir__serve_stopping)
        stop();
    say(EXIT_DONE, weir_loop_features(first->loop));
}

static int work(void *argument, unsigned index)
{
    struct shards shards = {
        .options = server.options,
        .engine = server.engine,
        .count = 1,
        .first_index = index,
        .shares_port = true,
        .addr = (const struct sockaddr *)&server.addr,
        .addr_len = server.addr_len,
        .event_fd = server.event_fds[index],
        .event_asks = true,
        .ready = worker_ready,
    };

    (void)argument;
    event_fd = server.event_fds[index];
    int code = weir__shards_serve(&shards);

    if (stop_shard == NULL)
        say(code, ""); /* it never got ready */
    return code;
}

/* --- in the parent ------------------------------------------------------------------------------
 */

/* Async-signal-safe. */
static void ask_workers(void)
{
    const uint64_t one = 1;
    int saved = errno;

    for (unsigned i = 0; i < server.count; i++) {
        /* It can only fail for being full, and then it is readable already. */
        if (write(server.event_fds[i], &one, sizeof one) < 0)
            errno = saved;
    }
    errno = saved;
}

static void mourn(void *argument, unsigned index)
{
    (void)argument;
    fprintf(stderr, "weir-bench serve: worker %u died; starting its successor\n", index);
}

/* Binds a socket that never listens: the port is ours as long as it is open, and gets no
 * connections. The descriptor, or -1; what failed has been told. */
static int hold_port(const struct serve_options *options)
{
    int on = 1;
    int fd = socket(options->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    server.addr_len = sizeof server.addr;
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0 &&
        bind(fd, (const struct sockaddr *)&options->addr, options->addr_len) == 0 &&
        getsockname(fd, (struct sockaddr *)&server.addr, &server.addr_len) == 0)
        return fd;
    fprintf(stderr, "weir-bench serve: --listen %s: %s\n", options->listen, strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Waits until every worker has said that it listens. An exit code. */
static int hear_all(struct weir_procs *procs, struct word *word)
{
    unsigned heard = 0;

    while (heard < server.count) {
        struct pollfd fds[] = {
            {.fd = server.words[0], .events = POLLIN},
            {.fd = server.stop_fd, .events = POLLIN},
            {.fd = weir_procs_fd(procs), .events = POLLIN},
        };

        if (poll(fds, 3, -1) < 0 && errno != EINTR)
            return EXIT_FAILED;
        if (fds[0].revents != 0) {
            if (read(server.words[0], word, sizeof *word) != (ssize_t)sizeof *word)
                return EXIT_FAILED;
            if (word->code != EXIT_DONE)
                return word->code;
            heard++;
        } else if (fds[1].revents != 0) {
            return EXIT_DONE;
        } else if (fds[2].revents != 0) {
            fputs("weir-bench serve: a worker died before it listened\n", stderr);
            return EXIT_FAILED;
        }
    }
    return EXIT_DONE;
}

static int run_pool(struct weir_procs *procs)
{
    struct word word;
    int code = hear_all(procs, &word);

    if (code != EXIT_DONE)
        return code;
    weir__serve_ready(server.options, server.name, (const struct sockaddr *)&server.addr,
                      server.addr_len, word.features);
    int result = weir_procs_run(procs, server.stop_fd);
    if (result < 0)
        fprintf(stderr, "weir-bench serve: minding the workers: %s\n", strerror(-result));
    return result < 0 ? EXIT_FAILED : EXIT_DONE;
}

static int serve_with_pool(void)
{
    struct weir_procs *procs;
    struct serve_signals signals = {.event_fd = server.stop_fd, .report = ask_workers};
    struct weir_procs_options options = {
        .workers = server.count,
        .drain_ns = server.options->drain_ns,
        .work = work,
        .stop = on_stop,
        .died = mourn,
    };

    weir__serve_catch(&signals);
    int result = weir_procs_open(&procs, &options);
    if (result < 0) {
        fprintf(stderr, "weir-bench serve: forking %u workers: %s; %s\n", server.count,
                strerror(-result), WEIR_PROCS_CURE);
        return EXIT_NOTHING_RAN;
    }
    int code = run_pool(procs);

    weir_procs_close(procs);
    return code;
}

static void close_all(int port_fd)
{
    for (unsigned i = 0; server.event_fds != NULL && i < server.count; i++) {
        if (server.event_fds[i] >= 0)
            close(server.event_fds[i]);
    }
    for (size_t i = 0; i < 2; i++) {
        if (server.words[i] >= 0)
            close(server.words[i]);
    }
    if (server.stop_fd >= 0)
        close(server.stop_fd);
    close(port_fd);
    free(server.event_fds);
}

/* False: one could not be had. */
static bool open_descriptors(void)
{
    server.words[0] = server.words[1] = -1;
    server.stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    server.event_fds = malloc(server.count * sizeof *server.event_fds);
    if (server.event_fds == NULL || server.stop_fd < 0)
        return false;
    memset(server.event_fds, -1, server.count * sizeof *server.event_fds);
    for (unsigned i = 0; i < server.count; i++) {
        server.event_fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (server.event_fds[i] < 0)
            return false;
    }
    return pipe2(server.words, O_CLOEXEC | O_NONBLOCK) == 0;
}

int weir__serve_prefork(const struct serve_options *options, const char *engine, const char *name,
                        unsigned count)
{
    server.options = options;
    server.engine = engine;
    server.name = name;
    server.count = count;
    int port_fd = hold_port(options);

    if (port_fd < 0)
        return EXIT_USAGE;
    int code = EXIT_FAILED;
    if (open_descriptors())
        code = serve_with_pool();
    else
        perror("weir-bench serve: starting up");
    close_all(port_fd);
    return code;
}
