/*
 * `weir-bench serve` on engines of the runtime: one shard, or one for each worker, each on a thread
 * of its own with a listener of its own (SO_REUSEPORT: the kernel spreads the connections). The
 * first runs on the process's own thread, so that one alone makes no other; it also minds signals
 * and the clock of --stats.
 */
#include "bench/serve_shard.h"

#include "bench/cli.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SECOND_NS 1000000000ull

/* A shard on a thread of its own. */
struct shard_thread {
    struct shard shard;
    pthread_t thread;
    bool started;
    int code; /* of open, then of run */
};

/* The one server of this process. */
static struct {
    const struct shards *shards;
    unsigned count;
    struct shard_thread *threads; /* [count]; the first has no thread */
    /* How the threads move on together. */
    pthread_mutex_t lock;
    pthread_cond_t moved;
    enum { GATE_STARTING, GATE_SERVE, GATE_GIVE_UP } gate;
    unsigned open_count; /* threads that have opened their shard, or failed to */
    unsigned running;    /* shards that have not ended */
} server = {.lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER};

static void stop_all(void)
{
    for (unsigned i = 0; i < server.count; i++)
        weir_loop_stop(server.threads[i].shard.loop);
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
        for (unsigned i = 1; i < server.count; i++)
            weir__shard_ask_print(&server.threads[i].shard, all);
        weir__shard_print(first, all);
    }
}

/* --- the threads --------------------------------------------------------------------------------
 */

/* Tells that this thread's shard is open, or could not be, and waits for the word to serve. */
static bool wait_for_gate(void)
{
    pthread_mutex_lock(&server.lock);
    server.open_count++;
    pthread_cond_broadcast(&server.moved);
    while (server.gate == GATE_STARTING)
        pthread_cond_wait(&server.moved, &server.lock);
    bool serve = server.gate == GATE_SERVE;
    pthread_mutex_unlock(&server.lock);
    return serve;
}

/* One shard that fails ends all: a server that goes on with fewer would be measured as one with
 * all. None is freed before all have ended: they stop each other. */
static int run_shard(struct shard_thread *own)
{
    int code = weir__shard_run(&own->shard);

    if (code != EXIT_DONE)
        stop_all();
    pthread_mutex_lock(&server.lock);
    server.running--;
    pthread_cond_broadcast(&server.moved);
    while (server.running > 0)
        pthread_cond_wait(&server.moved, &server.lock);
    pthread_mutex_unlock(&server.lock);
    return code;
}

static void *shard_main(void *argument)
{
    struct shard_thread *own = argument;
    const struct shard *first = &server.threads[0].shard;

    own->code =
        weir__shard_open(&own->shard, (const struct sockaddr *)&first->addr, first->addr_len);
    if (wait_for_gate())
        own->code = run_shard(own);
    weir__shard_close(&own->shard);
    return NULL;
}

/* One after another, so that what fails is told once. Signals are the first thread's. An exit code.
 */
static int start_thread(struct shard_thread *own)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&own->thread, NULL, shard_main, own);
    pthread_sigmask(SIG_SETMASK, &before, NULL);

    if (error != 0) {
        fprintf(stderr, "weir-bench serve: a thread for shard %u: %s; want fewer --workers\n",
                own->shard.index, strerror(error));
        return EXIT_FAILED;
    }
    own->started = true;
    pthread_mutex_lock(&server.lock);
    while (server.open_count < own->shard.index - server.shards->first_index)
        pthread_cond_wait(&server.moved, &server.lock);
    pthread_mutex_unlock(&server.lock);
    return own->code;
}

static void open_gate(bool serve)
{
    pthread_mutex_lock(&server.lock);
    server.gate = serve ? GATE_SERVE : GATE_GIVE_UP;
    server.running = server.count;
    pthread_cond_broadcast(&server.moved);
    pthread_mutex_unlock(&server.lock);
}

static int join_threads(int code)
{
    for (unsigned i = 1; i < server.count; i++) {
        struct shard_thread *other = &server.threads[i];

        if (!other->started)
            continue;
        pthread_join(other->thread, NULL);
        code = code != EXIT_DONE ? code : other->code;
    }
    return code;
}

/* --- the server ---------------------------------------------------------------------------------
 */

static int open_all(const struct shards *shards)
{
    struct shard *first = &server.threads[0].shard;
    int code = weir__shard_open(first, shards->addr, shards->addr_len);

    for (unsigned i = 1; code == EXIT_DONE && i < server.count; i++)
        code = start_thread(&server.threads[i]);
    if (code != EXIT_DONE)
        return code;
    int result = weir_spawn(first->loop, NULL, control, first);
    if (result < 0) {
        fprintf(stderr, "weir-bench serve: starting up: %s\n", strerror(-result));
        return EXIT_FAILED;
    }
    return EXIT_DONE;
}

int weir__shards_serve(const struct shards *shards)
{
    server.shards = shards;
    server.count = shards->count;
    server.threads = calloc(shards->count, sizeof *server.threads);
    if (server.threads == NULL) {
        perror("weir-bench serve: starting up");
        return EXIT_FAILED;
    }
    for (unsigned i = 0; i < shards->count; i++)
        server.threads[i].shard = (struct shard){.options = shards->options,
                                                 .engine = shards->engine,
                                                 .index = shards->first_index + i,
                                                 .shares_port = shards->shares_port};
    int code = open_all(shards);

    open_gate(code == EXIT_DONE);
    if (code == EXIT_DONE) {
        shards->ready(shards, &server.threads[0].shard, stop_all);
        code = run_shard(&server.threads[0]);
    }
    code = join_threads(code);
    weir__shard_close(&server.threads[0].shard);
    free(server.threads);
    return code;
}

/* --- on threads of this process ------------------------------------------------------------------
 */

static void be_ready(const struct shards *shards, const struct shard *first, void (*stop)(void))
{
    struct serve_signals signals = {
        .event_fd = shards->event_fd,
        .wake_on_usr1 = true,
        .stop = stop,
    };

    weir__serve_catch(&signals);
    weir__serve_ready(
        shards->options, shards->shares_port ? shards->name : weir_loop_engine(first->loop),
        (const struct sockaddr *)&first->addr, first->addr_len, weir_loop_features(first->loop));
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
