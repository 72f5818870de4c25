/*
 * hsha: half-sync/half-async. One thread does the input, workers compute, a bounded queue between.
 *
 * How it works: the I/O thread is a reactor. When a connection is readable it receives into a job
 * and queues that; a worker takes it, feeds the workload, and answers. A connection is told once
 * (EPOLLONESHOT) and armed again when its job is done, so it is in one job at most, and its answers
 * keep their order. There are 256 jobs: when all are taken, connections stand in line, unread, and
 * their peers are slowed down by TCP; nothing is lost. The two ways to answer:
 *
 *   reply=worker   the worker sends, and arms the connection again: a socket is nearly always
 *                  writable. Only what it does not take goes back to the I/O thread.
 *   reply=io       the worker hands the answer back, and the I/O thread sends: all calls on
 *                  sockets are in one thread, for another passing of a lock and a wake-up.
 *
 * Who uses it: Schmidt and Cranor described it after BSD's sockets; Java's application servers,
 * gRPC, Nginx's thread pools and Redis's io-threads are kin of it.
 *
 * Where it breaks: every request crosses threads: a lock on each side, a wake-up when a worker
 * sleeps, and one epoll_ctl beside recv and send, some us that only pay where computing takes
 * longer. The one I/O thread is the limit; more of them would each need a queue, and the locks are
 * its price on many cores.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "legacy/models/callback.h"
#include "legacy/models/stop.h"

extern const struct weir_model weir__model_hsha;

enum { JOBS = 256, IN_JOB = 1 /* in a client's flags: it is the worker's, or in the queue */ };

/* Input of one connection, and the answer to it. */
struct job {
    struct job *next;
    struct weir__client *client;
    size_t from, to; /* of in: not yet fed */
    int failed;      /* -errno: the connection is to end */
    struct weir__answer answer;
    alignas(64) uint8_t room[WEIR__ROOM_BYTES];
    uint8_t in[WEIR__IN_BYTES];
};

struct jobs {
    struct job *first, **end;
};

struct hsha;

struct worker {
    struct hsha *hsha;
    struct weir_model_counters *counters;
    pthread_t thread;
    bool started;
};

struct hsha {
    struct weir__callbacks reactor; /* first; the I/O thread's, like what follows */
    struct weir__handler bell;      /* eventfd: there are jobs to be looked at */
    bool replies;                   /* the I/O thread sends */
    struct job *spare;              /* taken from `free` */
    struct jobs filled;             /* in this turn: queued at its end */
    unsigned filled_count;
    struct weir__client *line, **line_end; /* readable, but there was no job */
    struct job *memory;
    struct worker *workers;
    unsigned worker_count;

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t work;
    struct jobs queue;
    struct jobs back; /* to the I/O thread */
    struct job *free;
    unsigned idle; /* workers that wait for work */
    bool starving; /* ring when there is a free job */
    bool rung;     /* the bell has not been answered yet */
    bool quitting;
};

static void put_last(struct jobs *jobs, struct job *job)
{
    job->next = NULL;
    *jobs->end = job;
    jobs->end = &job->next;
}

/* All of them: what is left is an empty list. */
static struct job *take_all(struct jobs *jobs)
{
    struct job *first = jobs->first;
    jobs->first = NULL;
    jobs->end = &jobs->first;
    return first;
}

/* --- workers ------------------------------------------------------------------------------------
 */

/* Feeds, and sends if that is a worker's. True: the job is done, and its connection, armed again,
 * the I/O thread's; it may not be looked at any more. */
static bool work(struct worker *worker, struct job *job)
{
    struct hsha *hsha = worker->hsha;
    struct weir__client *client = job->client;
    do {
        weir__session_feed(&client->session, hsha->reactor.options, worker->counters,
                           job->in + job->from, job->to - job->from, job->room, &job->answer);
        job->from += job->answer.consumed;
        if (hsha->replies)
            return false;
        int rc = weir__answer_send(&job->answer, client->handler.fd, worker->counters);
        job->failed = rc < 0 ? rc : 0;
        if (rc <= 0 || job->answer.verdict != WEIR_WORKLOAD_CONTINUE)
            return false;
    } while (job->from < job->to);
    int fd = client->handler.fd;
    __atomic_store_n(&client->flags, 0, __ATOMIC_RELEASE);
    job->failed =
        weir__epoll_rearm(&hsha->reactor, fd, &client->handler, WEIR__READABLE | WEIR__ONCE);
    return job->failed == 0;
}

/* Under the lock. NULL: the server stops, and all work is done. */
static struct job *next_job(struct hsha *hsha)
{
    while (!hsha->queue.first && !hsha->quitting) {
        hsha->idle++;
        pthread_cond_wait(&hsha->work, &hsha->lock);
        hsha->idle--;
    }
    struct job *job = hsha->queue.first;
    if (job)
        hsha->queue.first = job->next;
    if (!hsha->queue.first)
        hsha->queue.end = &hsha->queue.first;
    return job;
}

/* Under the lock. Whether to ring. */
static bool give_back(struct hsha *hsha, struct job *job, bool done)
{
    bool ring = !hsha->rung && (!done || hsha->starving);
    if (done) {
        job->next = hsha->free;
        hsha->free = job;
        hsha->starving = false;
    } else {
        put_last(&hsha->back, job);
    }
    hsha->rung = hsha->rung || ring;
    return ring;
}

static void *run_worker(void *argument)
{
    struct worker *worker = argument;
    struct hsha *hsha = worker->hsha;
    struct job *job;
    pthread_mutex_lock(&hsha->lock);
    while ((job = next_job(hsha)) != NULL) {
        pthread_mutex_unlock(&hsha->lock);
        bool done = work(worker, job);
        pthread_mutex_lock(&hsha->lock);
        if (give_back(hsha, job, done)) {
            pthread_mutex_unlock(&hsha->lock);
            eventfd_write(hsha->bell.fd, 1);
            pthread_mutex_lock(&hsha->lock);
        }
    }
    pthread_mutex_unlock(&hsha->lock);
    return NULL;
}

/* --- the I/O thread -----------------------------------------------------------------------------
 */

static struct job *take_job(struct hsha *hsha)
{
    if (!hsha->spare) {
        pthread_mutex_lock(&hsha->lock);
        hsha->spare = hsha->free;
        hsha->free = NULL;
        hsha->starving = !hsha->spare;
        pthread_mutex_unlock(&hsha->lock);
    }
    struct job *job = hsha->spare;
    if (job)
        hsha->spare = job->next;
    return job;
}

static void put_job(struct hsha *hsha, struct job *job)
{
    job->next = hsha->spare;
    hsha->spare = job;
}

static void queue_later(struct hsha *hsha, struct job *job)
{
    job->client->flags = IN_JOB;
    put_last(&hsha->filled, job);
    hsha->filled_count++;
}

static void await(struct hsha *hsha, struct weir__client *client, unsigned events)
{
    int rc = weir__epoll_watch(&hsha->reactor, &client->handler, events | WEIR__ONCE);
    if (rc < 0)
        weir__client_end(&hsha->reactor, client, -rc);
}

/* With what was kept behind the last answer, or with what has come. */
static void fill(struct hsha *hsha, struct weir__client *client, struct job *job)
{
    struct weir__unsent *kept = client->unsent;
    ssize_t got;
    if (kept) {
        got = (ssize_t)kept->in_bytes;
        memcpy(job->in, kept->in, kept->in_bytes);
        client->unsent = NULL;
        free(kept);
    } else {
        do
            got = recv(client->handler.fd, job->in, sizeof job->in, 0);
        while (got < 0 && errno == EINTR);
        if (got > 0)
            weir__count(&hsha->reactor.counters->bytes_in, (uint64_t)got);
    }
    if (got > 0) {
        job->client = client;
        job->from = 0;
        job->to = (size_t)got;
        job->failed = 0;
        queue_later(hsha, job);
        return;
    }
    put_job(hsha, job);
    if (got < 0 && errno == EAGAIN)
        await(hsha, client, WEIR__READABLE);
    else
        weir__client_end(&hsha->reactor, client, got < 0 ? errno : 0);
}

/* What a worker could not send, or was not to. True: it is sent, and there is more to do. */
static bool send_rest(struct hsha *hsha, struct weir__client *client)
{
    struct weir__unsent *unsent = client->unsent;
    int rc = weir__answer_send(&unsent->answer, client->handler.fd, hsha->reactor.counters);
    if (rc == 0) {
        await(hsha, client, WEIR__WRITABLE);
        return false;
    }
    if (rc < 0 || unsent->answer.verdict != WEIR_WORKLOAD_CONTINUE) {
        weir__client_end(&hsha->reactor, client, rc < 0 ? -rc : 0);
        return false;
    }
    if (unsent->in_bytes > 0)
        return true;
    client->unsent = NULL;
    free(unsent);
    return true;
}

static void client_ready(struct weir__callbacks *reactor, struct weir__handler *handler,
                         unsigned events)
{
    struct hsha *hsha = (struct hsha *)reactor;
    struct weir__client *client = (struct weir__client *)handler;
    struct job *job = NULL;
    (void)events;
    assert(__atomic_load_n(&client->flags, __ATOMIC_ACQUIRE) != IN_JOB);
    if (client->unsent && !send_rest(hsha, client))
        return;
    if (!hsha->line)
        job = take_job(hsha);
    if (job) {
        fill(hsha, client, job);
        return;
    }
    client->waiting = NULL;
    *hsha->line_end = client;
    hsha->line_end = &client->waiting;
}

static void serve_line(struct hsha *hsha)
{
    struct job *job;
    while (hsha->line && (job = take_job(hsha)) != NULL) {
        struct weir__client *client = hsha->line;
        hsha->line = client->waiting;
        if (!hsha->line)
            hsha->line_end = &hsha->line;
        fill(hsha, client, job);
    }
}

/* What a socket does not take is copied, so that its job is free for another. False: no memory. */
static bool keep_rest(struct job *job)
{
    job->client->unsent = weir__unsent_new(&job->answer, job->in + job->from, job->to - job->from);
    return job->client->unsent;
}

static void take_back(struct hsha *hsha, struct job *job)
{
    struct weir__callbacks *reactor = &hsha->reactor;
    struct weir__client *client = job->client;
    int rc = job->failed;
    client->flags = 0;
    if (rc == 0)
        rc = weir__answer_send(&job->answer, client->handler.fd, reactor->counters);
    if (rc == 0 && !keep_rest(job))
        rc = -ENOMEM;
    bool ends = rc < 0 || (rc > 0 && job->answer.verdict != WEIR_WORKLOAD_CONTINUE);
    if (!ends && rc > 0 && job->from < job->to) {
        queue_later(hsha, job);
        return;
    }
    put_job(hsha, job);
    if (ends)
        weir__client_end(reactor, client, rc < 0 ? -rc : 0);
    else
        await(hsha, client, rc > 0 ? WEIR__READABLE : WEIR__WRITABLE);
}

static void bell_ready(struct weir__callbacks *reactor, struct weir__handler *bell, unsigned events)
{
    struct hsha *hsha = (struct hsha *)reactor;
    eventfd_t rings;
    (void)events;
    eventfd_read(bell->fd, &rings);
    pthread_mutex_lock(&hsha->lock);
    struct job *job = take_all(&hsha->back), *next;
    hsha->rung = false;
    pthread_mutex_unlock(&hsha->lock);
    for (; job; job = next) {
        next = job->next;
        take_back(hsha, job);
    }
    serve_line(hsha);
}

/* All that a turn has filled goes to the workers at once: one lock, and as many wake-ups as there
 * are sleepers. */
static int wait(struct weir__callbacks *reactor, int timeout_ms)
{
    struct hsha *hsha = (struct hsha *)reactor;
    int n = weir__epoll_wait(reactor, timeout_ms);
    unsigned wakes = hsha->filled_count;
    if (wakes == 0)
        return n;
    pthread_mutex_lock(&hsha->lock);
    *hsha->queue.end = hsha->filled.first;
    hsha->queue.end = hsha->filled.end;
    wakes = wakes < hsha->idle ? wakes : hsha->idle;
    pthread_mutex_unlock(&hsha->lock);
    take_all(&hsha->filled);
    hsha->filled_count = 0;
    while (wakes-- > 0)
        pthread_cond_signal(&hsha->work);
    return n;
}

static const struct weir__readiness readiness = {
    .open = weir__epoll_open,
    .close = weir__epoll_close,
    .watch = weir__epoll_watch,
    .wait = wait,
};

/* --- from start to end --------------------------------------------------------------------------
 */

static int open_hsha(struct hsha *hsha, const struct weir_model_options *options,
                     struct weir_model_stats *stats)
{
    struct weir__callbacks *reactor = &hsha->reactor;
    int rc = weir__callbacks_open(reactor, options, weir__counters(stats, 0), &readiness);
    const char *reply = weir_model_chosen(&weir__model_hsha, options->choices, "reply");
    hsha->replies = strcmp(reply, "io") == 0;
    reactor->client_ready = client_ready;
    reactor->client_events = WEIR__READABLE | WEIR__ONCE;
    hsha->line_end = &hsha->line;
    take_all(&hsha->filled);
    take_all(&hsha->queue);
    take_all(&hsha->back);
    hsha->bell = (struct weir__handler){.ready = bell_ready, .fd = -1};
    hsha->worker_count = weir__pool_size(options);
    hsha->workers = calloc(hsha->worker_count, sizeof *hsha->workers);
    hsha->memory = aligned_alloc(alignof(struct job), sizeof(struct job) * JOBS);
    if (rc < 0 || !hsha->workers || !hsha->memory)
        return rc < 0 ? rc : -ENOMEM;
    for (size_t i = 0; i < JOBS; i++)
        put_job(hsha, &hsha->memory[i]);
    for (unsigned i = 0; i < hsha->worker_count; i++)
        hsha->workers[i] = (struct worker){.hsha = hsha, .counters = weir__counters(stats, 1 + i)};
    hsha->bell.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = hsha->bell.fd < 0 ? -errno : weir__epoll_watch(reactor, &hsha->bell, WEIR__READABLE);
    if (rc == 0)
        rc = weir__callbacks_stop_on(reactor, options->stop_fd);
    return rc < 0 ? rc : weir__callbacks_listen(reactor, options->listen_fd);
}

static int start_workers(struct hsha *hsha)
{
    for (unsigned i = 0; i < hsha->worker_count; i++) {
        struct worker *worker = &hsha->workers[i];
        int error = pthread_create(&worker->thread, NULL, run_worker, worker);
        if (error)
            return -error;
        worker->started = true;
    }
    return 0;
}

/* Once all that is queued has been computed. */
static void end_workers(struct hsha *hsha)
{
    pthread_mutex_lock(&hsha->lock);
    hsha->quitting = true;
    pthread_cond_broadcast(&hsha->work);
    pthread_mutex_unlock(&hsha->lock);
    for (unsigned i = 0; i < hsha->worker_count; i++)
        if (hsha->workers[i].started)
            pthread_join(hsha->workers[i].thread, NULL);
}

/* Without workers: what came back last is left to the reactor's own drain. */
static void drain(struct hsha *hsha)
{
    weir__epoll_watch(&hsha->reactor, &hsha->bell, 0);
    for (struct job *job = take_all(&hsha->back); job; job = job->next) {
        bool is_sent = job->answer.bytes == 0;
        bool ends = job->failed < 0 || (is_sent && job->answer.verdict != WEIR_WORKLOAD_CONTINUE);
        if (ends)
            weir__client_end(&hsha->reactor, job->client, -job->failed);
        else if ((!is_sent || job->from < job->to) && !keep_rest(job))
            weir__client_end(&hsha->reactor, job->client, ENOMEM);
    }
    weir__callbacks_drain(&hsha->reactor);
}

static void close_hsha(struct hsha *hsha)
{
    weir__callbacks_close(&hsha->reactor);
    if (hsha->bell.fd >= 0)
        close(hsha->bell.fd);
    pthread_mutex_destroy(&hsha->lock);
    pthread_cond_destroy(&hsha->work);
    free(hsha->workers);
    free(hsha->memory);
    free(hsha);
}

static int serve(const struct weir_model_options *options, struct weir_model_stats *stats,
                 void (*ready)(void *argument, const char *features), void *argument, char *why,
                 size_t why_bytes)
{
    struct hsha *hsha = aligned_alloc(alignof(struct hsha), sizeof *hsha);
    if (!hsha)
        return weir__model_fail(&weir__model_hsha, ENOMEM, "its buffers",
                                "give it 32 MiB of memory", why, why_bytes);
    memset(hsha, 0, sizeof *hsha);
    pthread_mutex_init(&hsha->lock, NULL);
    pthread_cond_init(&hsha->work, NULL);
    int rc = open_hsha(hsha, options, stats);
    if (rc == 0) {
        weir__stop_init(options);
        rc = start_workers(hsha);
        if (rc == 0) {
            ready(argument, stats->features);
            rc = weir__callbacks_serve(&hsha->reactor);
        }
        end_workers(hsha);
    }
    if (rc == 0)
        drain(hsha);
    else
        weir__model_fail(&weir__model_hsha, -rc, "its reactor and its threads",
                         "lower --workers, or raise ulimit -u and ulimit -n", why, why_bytes);
    close_hsha(hsha);
    return rc;
}

static const char *const replies[] = {"worker", "io", NULL};
static const struct weir_model_choice choices[] = {{"reply", replies}, {NULL, NULL}};

const struct weir_model weir__model_hsha = {
    .name = "hsha",
    .summary = "half-sync/half-async: a thread does the input, a bounded queue, workers compute",
    .seed_name = "epollreactorthreadpollhsha",
    .traits = WEIR_MODEL_REACTOR | WEIR_MODEL_POOL,
    .choices = choices,
    .serve = serve,
};
