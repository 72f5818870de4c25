/*
 * Shards: loops on threads of their own (weir/shards.h). What has to be done on a shard's thread is
 * a job: the thread that made the shards gives it one and waits until it is done, or gives one to
 * each and then waits. Shard 0 is that thread, and its jobs are plain calls.
 */
#include <weir/shards.h>

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/loop.h"

struct shard {
    struct weir_shards *shards;
    unsigned index;
    struct weir_loop *loop;
    struct weir_listener *listener; /* of the weir_shards_listen() under way */
    pthread_t thread;               /* not of the first */
    /* Under shards->lock. */
    int (*job)(struct shard *shard); /* NULL: none */
    int result;                      /* of the last */
    bool leaves;                     /* its thread ends after this job */
};

struct weir_shards {
    struct weir_shards_options options;
    struct weir_loop_options loop_options;
    unsigned count;   /* with a thread */
    cpu_set_t before; /* CPUs of the first thread, to be restored where `pinned` */
    bool pinned, ran;
    atomic_uint callers; /* inside weir_shards_stop() */
    pthread_mutex_t lock;
    pthread_cond_t moved;
    struct weir__handover *handovers; /* all */
    /* Of the call under way, for the jobs. */
    const struct weir_shards_listen_options *listen;
    struct weir__handover *handover; /* where one accepts for all */
    bool socket_taken;               /* the caller's, by weir__listen() */
    uint16_t port;
    char *why;
    size_t why_bytes;
    struct shard shards[];
};

/* ---- jobs ------------------------------------------------------------------------------------ */

static void *shard_main(void *argument)
{
    struct shard *shard = argument;
    struct weir_shards *shards = shard->shards;

    pthread_mutex_lock(&shards->lock);
    while (!shard->leaves) {
        if (!shard->job) {
            pthread_cond_wait(&shards->moved, &shards->lock);
            continue;
        }
        pthread_mutex_unlock(&shards->lock);
        int result = shard->job(shard);
        pthread_mutex_lock(&shards->lock);
        shard->result = result;
        shard->job = NULL;
        pthread_cond_broadcast(&shards->moved);
    }
    pthread_mutex_unlock(&shards->lock);
    return NULL;
}

static void give(struct shard *shard, int (*job)(struct shard *shard))
{
    struct weir_shards *shards = shard->shards;

    pthread_mutex_lock(&shards->lock);
    assert(!shard->job);
    shard->job = job;
    pthread_cond_broadcast(&shards->moved);
    pthread_mutex_unlock(&shards->lock);
}

static int result_of(struct shard *shard)
{
    struct weir_shards *shards = shard->shards;

    pthread_mutex_lock(&shards->lock);
    while (shard->job)
        pthread_cond_wait(&shards->moved, &shards->lock);
    pthread_mutex_unlock(&shards->lock);
    return shard->result;
}

static int do_on(struct shard *shard, int (*job)(struct shard *shard))
{
    if (shard->index == 0)
        return job(shard);
    give(shard, job);
    return result_of(shard);
}

/* One after another, until one fails; so what fails is told once. */
static int do_on_all(struct weir_shards *shards, int (*job)(struct shard *shard))
{
    int result = 0;

    for (unsigned i = 0; result == 0 && i < shards->count; i++)
        result = do_on(&shards->shards[i], job);
    return result;
}

/* ---- opening --------------------------------------------------------------------------------- */

static int pin(struct shard *shard)
{
    struct weir_shards *shards = shard->shards;
    const struct weir_shards_options *options = &shards->options;
    cpu_set_t cpus;

    if (!options->cpus || options->cpu_count == 0)
        return 0;
    unsigned cpu = options->cpus[shard->index % options->cpu_count];
    CPU_ZERO(&cpus);
    if (cpu < CPU_SETSIZE)
        CPU_SET(cpu, &cpus);
    int error = pthread_setaffinity_np(pthread_self(), sizeof cpus, &cpus);
    if (error)
        snprintf(shards->why, shards->why_bytes,
                 "shard %u on CPU %u: %s; take CPUs that this process may use", shard->index, cpu,
                 strerror(error));
    return -error;
}

static int open_loop(struct shard *shard)
{
    struct weir_shards *shards = shard->shards;
    int result = pin(shard);

    if (result == 0)
        result = weir_loop_new(&shard->loop, &shards->loop_options, shards->why, shards->why_bytes);
    if (result < 0)
        return result;
    shard->loop->held = true;
    const char *engine = weir_loop_engine(shard->loop);
    const char *first = weir_loop_engine(shards->shards[0].loop);
    if (strcmp(engine, first) == 0)
        return 0;
    snprintf(shards->why, shards->why_bytes,
             "shard %u got the engine %s and the first %s (%s); name the one to take", shard->index,
             engine, first, weir_loop_engine_note(shard->loop));
    return -EOPNOTSUPP;
}

static int set_up(struct shard *shard)
{
    struct weir_shards *shards = shard->shards;
    int result = shards->options.setup(shard->loop, shard->index, shards->options.argument);

    if (result < 0)
        snprintf(shards->why, shards->why_bytes, "setting shard %u up: %s", shard->index,
                 strerror(-result));
    return result < 0 ? result : 0;
}

/* Its thread, with all signals blocked: they are the first's. But for the one by which
 * weir_watchdog_start() asks each thread. */
static int start(struct weir_shards *shards)
{
    struct shard *shard = &shards->shards[shards->count];
    sigset_t all, before;
    int error = 0;

    shard->shards = shards;
    shard->index = shards->count;
    if (shard->index > 0) {
        sigfillset(&all);
        sigdelset(&all, SIGURG);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        error = pthread_create(&shard->thread, NULL, shard_main, shard);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    if (error)
        snprintf(shards->why, shards->why_bytes, "a thread for shard %u: %s; want fewer shards",
                 shard->index, strerror(error));
    else
        shards->count++;
    return -error;
}

static int open_all(struct weir_shards *shards, unsigned count)
{
    int result = 0;

    for (unsigned i = 0; result == 0 && i < count; i++) {
        result = start(shards);
        if (result == 0)
            result = do_on(&shards->shards[i], open_loop);
    }
    return result;
}

static unsigned cpus_allowed(void)
{
    cpu_set_t cpus;
    long online = sysconf(_SC_NPROCESSORS_ONLN);

    if (sched_getaffinity(0, sizeof cpus, &cpus) == 0)
        return (unsigned)CPU_COUNT(&cpus);
    return online > 0 ? (unsigned)online : 1; /* more CPUs than a cpu_set_t has room for */
}

int weir_shards_new(struct weir_shards **out, const struct weir_shards_options *options, char *why,
                    size_t why_bytes)
{
    unsigned count = options->count > 0 ? options->count : cpus_allowed();
    struct weir_shards *shards = calloc(1, sizeof *shards + count * sizeof shards->shards[0]);

    *out = NULL;
    if (!shards) {
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    shards->options = *options;
    if (options->loop)
        shards->loop_options = *options->loop;
    pthread_mutex_init(&shards->lock, NULL);
    pthread_cond_init(&shards->moved, NULL);
    shards->pinned =
        options->cpus && sched_getaffinity(0, sizeof shards->before, &shards->before) == 0;
    shards->why = why;
    shards->why_bytes = why_bytes;
    int result = open_all(shards, count);
    if (result == 0)
        *out = shards; /* not before: a signal's handler may stop them from here on */
    if (result == 0 && options->setup)
        result = do_on_all(shards, set_up);
    if (result < 0) {
        *out = NULL;
        weir_shards_free(shards);
    }
    return result;
}

/* ---- listening ------------------------------------------------------------------------------- */

static int learn_port(struct shard *shard)
{
    struct sockaddr_storage address;
    socklen_t bytes;
    int result = weir_listener_address(shard->listener, &address, &bytes);

    if (result == 0 && address.ss_family != AF_UNIX)
        shard->shards->port = ntohs(((struct sockaddr_in *)&address)->sin_port); /* IPv6, too */
    return result;
}

static int listen_on(struct shard *shard)
{
    struct weir_shards *shards = shard->shards;
    struct weir__handover *handover = shards->handover;
    struct weir_listen_options options = shards->listen->listen;

    if (shards->listen->arguments)
        options.argument = shards->listen->arguments[shard->index];
    if (handover && shard->index > 0) {
        shard->listener = weir__listener_taking(shard->loop, &options, handover);
        if (!shard->listener)
            return -ENOMEM;
        weir__handover_add(handover, shard->index, shard->listener);
        return 0;
    }
    shards->socket_taken = true;
    options.port = shards->port;
    options.reuseport |= shards->count > 1 && !handover;
    int result = weir__listen(shard->loop, &shard->listener, &options, handover, shards->why,
                              shards->why_bytes);
    return result == 0 && shards->port == 0 ? learn_port(shard) : result;
}

static int unlisten(struct shard *shard)
{
    if (shard->listener)
        weir_listener_close(shard->listener);
    return 0;
}

/* All, where each needs the port that the first has got; or the one that accepts, the first, after
 * all that take. */
static int listen_on_all(struct weir_shards *shards)
{
    int result = 0;

    if (!shards->handover)
        return do_on_all(shards, listen_on);
    for (unsigned i = shards->count; result == 0 && i-- > 0;)
        result = do_on(&shards->shards[i], listen_on);
    return result;
}

static int prepare_to_listen(struct weir_shards *shards)
{
    bool acceptor = shards->listen->mode == WEIR_SHARDS_ACCEPTOR && shards->count > 1;

    shards->handover = NULL;
    for (unsigned i = 0; i < shards->count; i++)
        shards->shards[i].listener = NULL;
    if (shards->listen->listen.fd > 0 && shards->count > 1 && !acceptor) {
        snprintf(shards->why, shards->why_bytes,
                 "one listening socket cannot be every shard's: WEIR_SHARDS_ACCEPTOR can have it");
        return -EINVAL;
    }
    if (!acceptor)
        return 0;
    snprintf(shards->why, shards->why_bytes, "out of memory");
    shards->handover = weir__handover_new(&shards->handovers, shards->count);
    return shards->handover ? 0 : -ENOMEM;
}

int weir_shards_listen(struct weir_shards *shards, const struct weir_shards_listen_options *options,
                       struct sockaddr_storage *address, char *why, size_t why_bytes)
{
    socklen_t bytes;

    assert(!shards->ran && "weir_shards_listen: before weir_shards_run()");
    shards->listen = options;
    shards->port = options->listen.port;
    shards->why = why;
    shards->why_bytes = why_bytes;
    shards->socket_taken = false;
    int result = prepare_to_listen(shards);
    if (result == 0)
        result = listen_on_all(shards);
    if (result == 0 && address)
        result = weir_listener_address(shards->shards[0].listener, address, &bytes);
    if (result < 0) {
        do_on_all(shards, unlisten);
        if (options->listen.fd > 0 && !shards->socket_taken)
            close(options->listen.fd);
    }
    return result;
}

/* ---- running --------------------------------------------------------------------------------- */

static int run_loop(struct shard *shard)
{
    const struct weir_shards_options *options = &shard->shards->options;
    int result = weir_loop_run(shard->loop);

    weir_shards_stop(shard->shards);
    if (options->ended)
        options->ended(shard->loop, shard->index, options->argument);
    return result;
}

int weir_shards_run(struct weir_shards *shards)
{
    assert(!shards->ran && "weir_shards_run: once");
    shards->ran = true;
    for (unsigned i = 1; i < shards->count; i++)
        give(&shards->shards[i], run_loop);
    int result = run_loop(&shards->shards[0]);
    for (unsigned i = 1; i < shards->count; i++) {
        int other = result_of(&shards->shards[i]);
        result = result < 0 ? result : other;
    }
    return result;
}

void weir_shards_stop(struct weir_shards *shards)
{
    atomic_fetch_add(&shards->callers, 1);
    for (unsigned i = 0; i < shards->count; i++)
        weir_loop_stop(shards->shards[i].loop);
    atomic_fetch_sub(&shards->callers, 1);
}

/* ---- the end --------------------------------------------------------------------------------- */

static int free_loop(struct shard *shard)
{
    weir_loop_free(shard->loop);
    shard->loop = NULL;
    shard->leaves = true;
    return 0;
}

void weir_shards_free(struct weir_shards *shards)
{
    if (!shards)
        return;
    /* Who stopped the first ones may still have the last to stop. */
    while (atomic_load(&shards->callers) > 0)
        sched_yield();
    for (unsigned i = shards->count; i-- > 0;) {
        struct shard *shard = &shards->shards[i];
        do_on(shard, free_loop);
        if (i > 0)
            pthread_join(shard->thread, NULL);
    }
    if (shards->pinned)
        sched_setaffinity(0, sizeof shards->before, &shards->before);
    weir__handovers_free(shards->handovers);
    pthread_cond_destroy(&shards->moved);
    pthread_mutex_destroy(&shards->lock);
    free(shards);
}

unsigned weir_shards_count(const struct weir_shards *shards)
{
    return shards->count;
}

struct weir_loop *weir_shards_loop(const struct weir_shards *shards, unsigned index)
{
    assert(index < shards->count && "weir_shards_loop: no such shard");
    return shards->shards[index].loop;
}
