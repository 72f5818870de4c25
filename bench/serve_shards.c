/*
 * `weir-bench serve` on engines of the runtime: one shard, or one for each worker, each on a thread
 * of its own with a listener of its own (SO_REUSEPORT: the kernel spreads the connections). The
 * first runs on the process's own thread; it also minds signals and the clock of --stats.
 */
#include "bench/serve_shard.h"

#include "bench/cli.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SECOND_NS 1000000000ull

/* The one server of this process. */
static struct {
    const struct shards *shards;
    struct weir_shards *running;
    struct shard *all; /* [shards->count] */
    void **arguments;  /* each its shard */
} server;

static void stop_all(void)
{
    weir_shards_stop(server.running);
}

/* Waits beside the first shard's handlers for SIGUSR1, for the next second of --stats, and for the
 * end. */
static void control(void *argument)
{
    struct shard *first = argument;
    const struct shards *shards = server.shards;
    uint64_t due_ns = first->options->stats ? weir_now_ns() + SECOND_NS : WEIR_FOREVER;

    while (!weir__serve_stopping) {
        int ready = weir_poll(first->loop, shards->event_fd, POLLIN, due_ns);
        uint64_t count;

        if (ready > 0 && read(shards->event_fd, &count, sizeof count) < 0 && errno != EAGAIN)
            ready = -errno;
        if (weir__serve_stopping || ready == -ECANCELED)
            return; /* the loop is ending */
        if (ready < 0 && ready != -ETIME) {
            weir__shard_tell_unprinted(ready); /* from now on */
            return;
        }
        bool all = weir__serve_asked || (shards->event_asks && ready > 0);
        if (!all && ready != -ETIME)
            continue;
        weir__serve_asked = 0;
        due_ns += ready == -ETIME ? SECOND_NS : 0;
        for (unsigned i = 1; i < shards->count; i++)
            weir__shard_ask_print(&server.all[i], all);
        weir__shard_print(first, all);
    }
}

/* --- opening -------------------------------------------------------------------------------------
 */

/* On the shard's thread. */
static int set_up(struct weir_loop *loop, unsigned index, void *argument)
{
    const struct shards *shards = argument;
    struct shard *shard = &server.all[index];

    *shard = (struct shard){
        .options = shards->options,
        .index = shards->first_index + index,
        .shares_port = shards->shares_port,
        .loop = loop,
        .started_ns = weir_now_ns(),
    };
    server.arguments[index] = shard;
    return index == 0 ? weir_spawn(loop, NULL, control, shard) : 0;
}

/* An exit code; what failed has been told. */
static int open_shards(const struct shards *shards)
{
    const struct serve_options *options = shards->options;
    struct weir_coro_options coro = {.stack_bytes = options->stack_bytes};
    struct weir_loop_options loop_options = {
        .engine = shards->engine,
        .bufs = options->bufs,
        .buf_bytes = options->buf_bytes,
        .drain_ns = options->drain_ns,
        .coro = options->stack_bytes > 0 ? &coro : NULL,
    };
    struct weir_shards_options shards_options = {
        .count = shards->count,
        .loop = &loop_options,
        .setup = set_up,
        .argument = (void *)shards,
    };
    char why[CLI_TEXT_BYTES] = "";
    int result = weir_shards_new(&server.running, &shards_options, why, sizeof why);

    if (result < 0) {
        fprintf(stderr, "weir-bench serve: %s\n", why[0] != '\0' ? why : strerror(-result));
        return result == -EINVAL ? EXIT_USAGE : EXIT_NOTHING_RAN;
    }
    const char *note = weir_loop_engine_note(server.all[0].loop);
    if (note[0] != '\0' && shards->first_index == 0)
        fprintf(stderr, "weir-bench serve: %s\n", note);
    return EXIT_DONE;
}

/* Listens on all shards. An exit code; what failed has been told. */
static int listen_all(const struct shards *shards, struct sockaddr_storage *addr)
{
    const struct serve_options *options = shards->options;
    char host[NI_MAXHOST];
    char port[NI_MAXSERV];
    char why[CLI_TEXT_BYTES];

    int failed = getnameinfo(shards->addr, shards->addr_len, host, sizeof host, port, sizeof port,
                             NI_NUMERICHOST | NI_NUMERICSERV);
    if (failed != 0) {
        fprintf(stderr, "weir-bench serve: --listen %s: %s\n", options->listen,
                gai_strerror(failed));
        return EXIT_USAGE;
    }
    unsigned number = 0;
    sscanf(port, "%u", &number);
    struct weir_shards_listen_options listen_options = {
        .listen =
            {
                .address = host,
                .port = (uint16_t)number,
                .backlog = (int)options->backlog,
                .reuseport = shards->shares_port,
                .congestion = options->congestion,
                .state_bytes = weir__shard_state_bytes(options->workload),
                .handler = weir__shard_handle,
            },
        .arguments = server.arguments,
    };
    if (weir_shards_listen(server.running, &listen_options, addr, why, sizeof why) < 0) {
        fprintf(stderr, "weir-bench serve: %s\n", why);
        return EXIT_USAGE;
    }
    return EXIT_DONE;
}

/* --- the server ----------------------------------------------------------------------------------
 */

static int run(const struct shards *shards, const struct sockaddr *addr)
{
    shards->ready(shards, &server.all[0], addr, stop_all);
    int result = weir_shards_run(server.running);

    if (result < 0)
        fprintf(stderr, "weir-bench serve: the %s engine failed: %s\n",
                weir_loop_engine(server.all[0].loop), strerror(-result));
    return result < 0 ? EXIT_FAILED : EXIT_DONE;
}

int weir__shards_serve(const struct shards *shards)
{
    struct sockaddr_storage addr;

    server.shards = shards;
    server.all = aligned_alloc(alignof(struct shard), shards->count * sizeof *server.all);
    server.arguments = calloc(shards->count, sizeof *server.arguments);
    if (server.all == NULL || server.arguments == NULL) {
        perror("weir-bench serve: starting up");
        free(server.all);
        free(server.arguments);
        return EXIT_FAILED;
    }
    int code = open_shards(shards);

    if (code == EXIT_DONE)
        code = listen_all(shards, &addr);
    if (code == EXIT_DONE)
        code = run(shards, (const struct sockaddr *)&addr);
    weir_shards_free(server.running);
    free(server.all);
    free(server.arguments);
    return code;
}

/* --- on threads of this process ------------------------------------------------------------------
 */

static void be_ready(const struct shards *shards, const struct shard *first,
                     const struct sockaddr *addr, void (*stop)(void))
{
    struct serve_signals signals = {
        .event_fd = shards->event_fd,
        .wake_on_usr1 = true,
        .stop = stop,
    };

    weir__serve_catch(&signals);
    weir__serve_ready(shards->options,
                      shards->shares_port ? shards->name : weir_loop_engine(first->loop), addr,
                      shards->addr_len, weir_loop_features(first->loop));
}

int weir__serve_engine(const struct serve_options *options, const char *engine, const char *name,
                       unsigned count)
{
    struct shards shards = {
        .options = options,
        .engine = engine,
        .name = name,
        .count = count,
        .shares_port = name != NULL,
        .addr = (const struct sockaddr *)&options->addr,
        .addr_len = options->addr_len,
        .event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
        .ready = be_ready,
    };

    if (shards.event_fd < 0) {
        perror("weir-bench serve: eventfd");
        return EXIT_FAILED;
    }
    int code = weir__shards_serve(&shards);

    close(shards.event_fd);
    return code;
}
