/*
 * A target in the driver process: its workers, made when it is opened; its slices and bursts, each
 * run on all workers at once and summed up afterwards. Called by driver_main.c only.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "bench/driver_load.h"

#include <weir/workload.h>

/* Messages asked of a source and not yet there: it never waits for the next request. */
#define SOURCE_AHEAD 4u

/* A thread or a server that was busy for this share of the time was never idle to speak of. */
#define BUSY_SHARE 0.95

/* A driver that sends more of its requests late does not keep its plan. */
#define LATE_SHARE 0.01

static int fail(char *error, int rc, const char *what)
{
    snprintf(error, WEIR__DRIVER_TEXT_BYTES, "%s: %s", what, strerror(-rc));
    return rc;
}

/* --- workers -------------------------------------------------------------------------------- */

static void worker_deinit(struct drive_worker *worker)
{
    for (uint32_t i = 0; worker->conns && i < worker->count; i++)
        weir__drive_reset(&worker->conns[i]);
    if (worker->epoll_fd >= 0)
        close(worker->epoll_fd);
    free(worker->buffer);
    free(worker->begun_ns);
    free(worker->conns);
    memset(worker, 0, sizeof(*worker));
    worker->epoll_fd = -1;
}

static const struct drive_machine *machine_of(enum shape_kind kind, enum driver_workload workload)
{
    switch (kind) {
    case SHAPE_PIPELINE:
        return &weir__drive_pipeline;
    case SHAPE_CHURN:
        return &weir__drive_churn;
    case SHAPE_OPEN:
        return &weir__drive_open;
    case SHAPE_RAMP:
        return &weir__drive_ramp_machine;
    case SHAPE_STREAM:
        return workload == DRIVER_SINK ? &weir__drive_sink : &weir__drive_pipeline;
    default:
        return &weir__drive_closed;
    }
}

static int worker_init(struct drive_worker *worker, struct drive_target *target, uint32_t first,
                       uint32_t count)
{
    bool ramp = target->spec.shape.kind == SHAPE_RAMP;
    uint32_t depth = ramp ? 1 : target->spec.shape.depth;
    worker->target = target;
    worker->machine = machine_of(target->spec.shape.kind, target->spec.workload);
    worker->count = count;
    worker->begun_ns = calloc((size_t)count * depth + 1, sizeof(*worker->begun_ns));
    worker->conns = calloc(count > 0 ? count : 1, sizeof(*worker->conns));
    worker->buffer = malloc(WEIR__DRIVE_BUFFER_BYTES);
    worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (worker->epoll_fd < 0)
        return -errno;
    if (!worker->conns || !worker->buffer || !worker->begun_ns)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        worker->conns[i].fd = -1;
        worker->conns[i].id = first + i;
    }
    return 0;
}

static void workers_free(struct drive_worker *workers, unsigned threads)
{
    for (unsigned i = 0; workers && i < threads; i++)
        worker_deinit(&workers[i]);
    free(workers);
}

/* Pins worker i of n to the i-th of the CPUs, if each can have its own. */
static void worker_pin(struct drive_worker *worker, unsigned i, unsigned threads,
                       const cpu_set_t *cpus)
{
    worker->pinned = cpus != NULL;
    if (!cpus)
        return;
    worker->cpus = *cpus;
    if ((unsigned)CPU_COUNT(cpus) < threads)
        return;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, cpus) && i-- == 0) {
            CPU_ZERO(&worker->cpus);
            CPU_SET(cpu, &worker->cpus);
        }
    }
}

static int workers_new(struct drive_worker **workers, struct drive_target *target,
                       const cpu_set_t *cpus)
{
    unsigned threads = target->threads;
    uint32_t conns = target->spec.conns, first = 0;
    struct drive_worker *made = calloc(threads, sizeof(*made));
    if (!made)
        return -ENOMEM;
    for (unsigned i = 0; i < threads; i++)
        made[i] = (struct drive_worker){.team = made, .epoll_fd = -1};
    for (unsigned i = 0; i < threads; i++) {
        uint32_t count = conns / threads + (i < conns % threads);
        int rc = worker_init(&made[i], target, first, count);
        if (rc < 0) {
            workers_free(made, threads);
            return rc;
        }
        worker_pin(&made[i], i, threads, cpus);
        first += count;
    }
    assert(first == conns);
    *workers = made;
    return 0;
}

/* --- opening and closing -------------------------------------------------------------------- */

static bool is_streamed(enum driver_workload workload)
{
    return workload == DRIVER_SINK || workload == DRIVER_SOURCE;
}

static int check_spec(const struct driver_target *spec, char *error)
{
    uint32_t most = spec->workload == DRIVER_SOURCE ? WEIR_SOURCE_LIMIT_BYTES : 16u << 20;
    if (spec->conns < 1 || spec->size_bytes < 1 || spec->size_bytes > most ||
        spec->pid_count > WEIR__DRIVER_PIDS_MAX || spec->workload > DRIVER_SOURCE ||
        spec->shape.kind >= SHAPE_COUNT || spec->shape.depth > SHAPE_DEPTH_MAX ||
        spec->shape.active > 100 ||
        is_streamed(spec->workload) != (spec->shape.kind == SHAPE_STREAM))
        return fail(error, -EINVAL,
                    "target: connections, size, processes, workload or shape out of range");
    return 0;
}

static void target_prepare(struct drive_target *target, const struct driver_target *spec,
                           unsigned threads)
{
    memset(target, 0, sizeof(*target));
    target->spec = *spec;
    target->spec.shape.active = spec->shape.kind == SHAPE_IDLE ? spec->shape.active : 0;
    target->threads = threads;
    if (spec->shape.requests == 0)
        target->spec.shape.requests = SHAPE_REQUESTS_DEFAULT;
    if (spec->connect_timeout_ns == 0)
        target->spec.connect_timeout_ns = weir__driver_connect_timeout_ns(spec->conns);
    if (spec->answer_timeout_ns == 0)
        target->spec.answer_timeout_ns = WEIR__DRIVER_ANSWER_TIMEOUT_NS;
    if (spec->server_cpus == 0)
        target->spec.server_cpus = 1;
    if (spec->shape.kind == SHAPE_IDLE && spec->shape.active == 0)
        target->spec.shape.active = SHAPE_ACTIVE_DEFAULT;
    if (spec->shape.kind == SHAPE_PIPELINE && spec->shape.depth == 0)
        target->spec.shape.depth = SHAPE_DEPTH_DEFAULT;
    if (spec->workload == DRIVER_SOURCE)
        target->spec.shape.depth = SOURCE_AHEAD;
    if (spec->shape.kind == SHAPE_OPEN && spec->shape.rate == 0)
        target->spec.shape.rate = SHAPE_RATE_DEFAULT;
    uint32_t size = spec->size_bytes;
    target->header[0] = (uint8_t)(size >> 24);
    target->header[1] = (uint8_t)(size >> 16);
    target->header[2] = (uint8_t)(size >> 8);
    target->header[3] = (uint8_t)size;
    target->header_bytes = spec->workload == DRIVER_FRAME ? WEIR__DRIVE_HEADER_BYTES : 0;
    target->wire_bytes = size + target->header_bytes;
    target->ask_header_bytes = spec->workload == DRIVER_ECHO ? 0 : WEIR__DRIVE_HEADER_BYTES;
    target->ask_bytes = target->ask_header_bytes + (spec->workload == DRIVER_SOURCE ? 0 : size);
}

static void target_deinit(struct drive_target *target)
{
    workers_free(target->closed, target->threads);
    workers_free(target->burst, target->threads);
    weir__drive_payload_deinit(&target->payload);
}

static int target_connect(struct drive_target *target, char *error)
{
    uint64_t deadline_ns = weir__drive_now_ns() + target->spec.connect_timeout_ns;
    for (unsigned i = 0; i < target->threads; i++) {
        int rc = weir__drive_connect_all(&target->closed[i], deadline_ns, error);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int weir__drive_target_open(struct drive_target *target, const struct driver_target *spec,
                            unsigned threads, const cpu_set_t *cpus, char *error)
{
    int rc = check_spec(spec, error);
    if (rc < 0)
        return rc;
    target_prepare(target, spec, threads);
    rc = weir__drive_payload_init(&target->payload, spec->size_bytes, spec->seed);
    if (rc == 0 && spec->workload == DRIVER_SOURCE)
        weir__drive_payload_fix(&target->payload, spec->size_bytes);
    if (rc == 0 && spec->shape.kind != SHAPE_BURST)
        rc = workers_new(&target->closed, target, cpus);
    if (rc < 0)
        fail(error, rc, "target");
    else if (weir__shape_holds_conns(spec->shape.kind))
        rc = target_connect(target, error);
    if (rc < 0)
        target_deinit(target);
    return rc;
}

static int check_unasked(const struct drive_worker *worker, char *error)
{
    for (uint32_t i = 0; i < worker->count; i++) {
        ssize_t n = -1;
        if (worker->conns[i].fd >= 0)
            n = recv(worker->conns[i].fd, worker->buffer, WEIR__DRIVE_BUFFER_BYTES, MSG_DONTWAIT);
        if (n > 0) {
            snprintf(error, WEIR__DRIVER_TEXT_BYTES, "connection %u: %zd bytes more than were sent",
                     worker->conns[i].id, n);
            return -EPROTO;
        }
    }
    return 0;
}

int weir__drive_target_close(struct drive_target *target, char *error)
{
    int rc = 0;
    for (unsigned i = 0; target->closed && rc == 0 && i < target->threads; i++)
        rc = check_unasked(&target->closed[i], error);
    target_deinit(target);
    return rc;
}

/* --- running all workers -------------------------------------------------------------------- */

static void *worker_thread(void *arg)
{
    struct drive_worker *worker = arg;
    if (worker->pinned)
        pthread_setaffinity_np(pthread_self(), sizeof(worker->cpus), &worker->cpus);
    weir__drive_worker_run(worker);
    return NULL;
}

/* Runs them all and returns once the last is done. Worker 0 runs in this thread. Threads live for
 * a slice: it takes some tens of microseconds to start one, and an idle driver is then really
 * idle. */
static int workers_run(struct drive_worker *workers, unsigned threads, char *error)
{
    pthread_t ids[CPU_SETSIZE];
    unsigned started = 1;
    int rc = 0;
    while (rc == 0 && started < threads) {
        rc = -pthread_create(&ids[started], NULL, worker_thread, &workers[started]);
        started += rc == 0;
    }
    if (rc == 0)
        worker_thread(&workers[0]);
    for (unsigned i = 1; i < started; i++)
        pthread_join(ids[i], NULL);
    return rc < 0 ? fail(error, rc, "a driving thread") : 0;
}

/* Adds one worker's counts to the slice's. */
static void merge(struct driver_slice *out, const struct drive_worker *worker)
{
    const struct driver_slice *own = &worker->out;
    out->requests += own->requests;
    out->bytes += own->bytes;
    out->errors += own->errors;
    out->wrong += own->wrong;
    out->connect_retries += own->connect_retries;
    out->conns_alive += own->conns_alive;
    out->cut |= own->cut;
    out->out_of_ports |= own->out_of_ports;
    out->planned += own->planned;
    out->late += own->late;
    out->driver_cpu_ns += worker->cpu_ns;
    if (out->first_error[0] == '\0')
        memcpy(out->first_error, own->first_error, sizeof(out->first_error));
    weir__histogram_merge(&out->latency, &own->latency);
    double ran_ns = (double)(worker->end_ns - worker->first_ns);
    double busy = ran_ns > 0 ? (double)worker->cpu_ns / ran_ns : 0;
    busy = busy < 1 ? busy : 1;
    out->driver_busy = busy > out->driver_busy ? busy : out->driver_busy;
}

void weir__drive_judge(struct driver_slice *out, unsigned server_cpus, int64_t cpu_before_ns,
                       int64_t cpu_after_ns)
{
    bool known = cpu_before_ns >= 0 && cpu_after_ns >= cpu_before_ns;
    double capacity_ns = (double)out->elapsed_ns * server_cpus;
    out->server_cpu_ns = known ? cpu_after_ns - cpu_before_ns : -1;
    bool server_busy = known && (double)out->server_cpu_ns >= BUSY_SHARE * capacity_ns;
    bool plan_kept = (double)out->late <= LATE_SHARE * (double)out->planned;
    out->driver_bound = (out->driver_busy >= BUSY_SHARE && !server_busy) || !plan_kept;
    out->verified = out->requests > 0 && out->errors == 0 && out->wrong == 0;
}

int weir__drive_measure(struct drive_target *target, struct drive_worker *workers,
                        struct driver_slice *out, char *error)
{
    const struct driver_target *spec = &target->spec;
    struct server_cpu before, after;
    weir__drive_server_cpu_read(spec->server_pids, spec->pid_count, &before);
    int rc = workers_run(workers, target->threads, error);
    if (rc < 0)
        return rc;
    weir__drive_server_cpu_read(spec->server_pids, spec->pid_count, &after);
    /* What a server spends that never waits, after the last response, is not of the requests. */
    int64_t after_ns = after.still ? after.settled_ns : after.at_once_ns;
    uint64_t first_ns = workers[0].first_ns, last_ns = workers[0].last_ns;
    memset(out, 0, sizeof(*out));
    for (unsigned i = 0; i < target->threads; i++) {
        first_ns = workers[i].first_ns < first_ns ? workers[i].first_ns : first_ns;
        last_ns = workers[i].last_ns > last_ns ? workers[i].last_ns : last_ns;
        merge(out, &workers[i]);
    }
    out->elapsed_ns = last_ns - first_ns;
    weir__drive_judge(out, spec->server_cpus, before.settled_ns, after_ns);
    return 0;
}

static uint32_t count_idle(const struct drive_target *target)
{
    uint32_t alive = 0;
    for (unsigned i = 0; target->closed && i < target->threads; i++) {
        for (uint32_t k = 0; k < target->closed[i].count; k++)
            alive += target->closed[i].conns[k].phase == CONN_IDLE;
    }
    return alive;
}

/* The clients of churn have no connection between slices: all begin anew, those that failed too. */
static int churn_prepare(struct drive_target *target, char *error)
{
    uint64_t left;
    int rc = weir__drive_ports_left(target, &left, error);
    if (rc < 0)
        return rc;
    for (unsigned i = 0; i < target->threads; i++) {
        target->closed[i].ports_left = left / target->threads;
        for (uint32_t k = 0; k < target->closed[i].count; k++)
            target->closed[i].conns[k].phase = CONN_IDLE;
    }
    return 0;
}

int weir__drive_target_slice(struct drive_target *target, uint64_t duration_ns,
                             struct driver_slice *out, char *error)
{
    if (target->spec.shape.kind == SHAPE_RAMP)
        return weir__drive_ramp(target, duration_ns, out, error);
    bool churn = target->spec.shape.kind == SHAPE_CHURN;
    int rc = churn ? churn_prepare(target, error) : 0;
    if (rc < 0)
        return rc;
    if (count_idle(target) == 0)
        return fail(error, -ENOTCONN, "no connection is left");
    uint64_t deadline_ns = weir__drive_now_ns() + duration_ns;
    for (unsigned i = 0; i < target->threads; i++) {
        target->closed[i].deadline_ns = deadline_ns;
        target->closed[i].requests = 0;
        if (target->spec.shape.kind == SHAPE_OPEN)
            weir__drive_plan_prepare(&target->closed[i], i, duration_ns);
    }
    rc = weir__drive_measure(target, target->closed, out, error);
    if (rc == 0 && out->out_of_ports && out->requests == 0) {
        snprintf(error, WEIR__DRIVER_TEXT_BYTES, "connect%s",
                 weir__drive_connect_cure(-EADDRNOTAVAIL));
        return -EADDRNOTAVAIL;
    }
    if (rc == 0 && !churn)
        out->conns_alive = count_idle(target);
    if (target->spec.shape.kind == SHAPE_OPEN && out->elapsed_ns < duration_ns)
        out->elapsed_ns = duration_ns; /* the plan's pace, not that of its last request */
    return rc;
}

/* --- bursts --------------------------------------------------------------------------------- */

/* Makes the sockets of a burst, so that what is timed begins with connect. */
static int burst_prepare(struct drive_target *target, uint64_t bound_ns, char *error)
{
    for (unsigned i = 0; i < target->threads; i++) {
        struct drive_worker *worker = &target->burst[i];
        worker->requests = target->spec.shape.requests;
        worker->bound_ns = bound_ns;
        for (uint32_t k = 0; k < worker->count; k++) {
            struct drive_conn *conn = &worker->conns[k];
            conn->fd =
                weir__drive_socket(target, weir__drive_source(target, conn->id, true), error);
            if (conn->fd < 0) {
                int rc = conn->fd;
                conn->fd = -1;
                return rc;
            }
            conn->phase = CONN_IDLE;
            conn->seq = 0;
        }
    }
    target->bursts++;
    return 0;
}

/* Whatever came of it, no socket of a burst outlives it. */
static void burst_clear(struct drive_target *target)
{
    for (unsigned i = 0; i < target->threads; i++) {
        for (uint32_t k = 0; k < target->burst[i].count; k++) {
            weir__drive_reset(&target->burst[i].conns[k]);
        }
    }
}

int weir__drive_target_burst(struct drive_target *target, const cpu_set_t *cpus, uint64_t bound_ns,
                             struct driver_slice *out, char *error)
{
    if (!target->burst) {
        int rc = workers_new(&target->burst, target, cpus);
        if (rc < 0)
            return fail(error, rc, "burst");
        for (unsigned i = 0; i < target->threads; i++)
            target->burst[i].machine = &weir__drive_closed;
    }
    uint64_t left;
    int rc = weir__drive_ports_left(target, &left, error);
    if (rc == 0)
        rc = burst_prepare(target, bound_ns, error);
    if (rc == 0)
        rc = weir__drive_measure(target, target->burst, out, error);
    burst_clear(target);
    return rc;
}
