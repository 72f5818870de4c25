/*
 * The ramp shape: connections are added to a target's number and held. Each is counted when one
 * request on it has been answered, right to the last byte: a connect alone is the kernel's doing,
 * and says nothing about a server that has yet to accept. So many as no sensible backlog minds are
 * on their way at once; the next begins when one of them is done.
 *
 * A slice is one ramp from nothing. Its connections stay open for as long as the slice was to last,
 * are looked at once more, and are reset; the next slice begins when the server has done with them.
 * In the first one of a target memory is read before anything opens and again while all is held
 * (bench/memory.h), outside of what is timed.
 *
 * A server that serves fewer than are wanted (a pool whose workers each hold one to its end) is no
 * failure: when nothing has been answered for the answer timeout the ramp is cut off, and what it
 * reached is held and told.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "bench/driver_load.h"

/* Connections on their way at once, of each worker. */
#define AHEAD_MAX 64u

#define STEP_CONNS 1000u

/* Where a ramp was cut off below that, what its connections cost is lost in what a server sets up
 * once. */
#define WEIGHED_MIN 100u

/* How long a server may take to close what was reset. */
#define CLOSE_TIMEOUT_NS 5000000000u

static void conn_send(struct drive_worker *worker, struct drive_conn *conn)
{
    weir__drive_send(worker, conn);
    if (conn->phase == CONN_CONNECTING && conn->sent > 0)
        conn->phase = CONN_ASKING;
}

static void ramp_begin(struct drive_worker *worker)
{
    worker->made = 0;
    weir__drive_more(worker, true);
    memset(worker->begun_ns, 0, worker->count * sizeof(*worker->begun_ns));
}

/* What has failed once is not tried a thousand times: the target is out of reach. */
static uint64_t ramp_tick(struct drive_worker *worker, uint64_t now_ns)
{
    while (worker->active <= AHEAD_MAX && worker->made < worker->count && worker->out.errors == 0) {
        struct drive_conn *conn = &worker->conns[worker->made++];
        uint32_t source = weir__drive_source(worker->target, conn->id, false);
        conn->seq = 0;
        worker->active++;
        int rc = weir__drive_connect(worker, conn, source);
        if (rc == 0)
            conn_send(worker, conn);
        else if (rc == -EADDRNOTAVAIL)
            weir__drive_fail(worker, conn, ": connect%s", weir__drive_connect_cure(rc));
    }
    weir__drive_more(worker, worker->made < worker->count && worker->out.errors == 0);
    return UINT64_MAX;
}

/* It counts, and is held. */
static void conn_answered(struct drive_worker *worker, struct drive_conn *conn)
{
    uint64_t now_ns = weir__drive_now_ns();
    weir__histogram_add(&worker->out.latency, now_ns - conn->since_ns);
    worker->out.requests++;
    weir__drive_count_retries(worker, conn, now_ns);
    worker->begun_ns[conn - worker->conns] = worker->last_ns = now_ns;
    conn->phase = CONN_IDLE;
    worker->active--;
}

/* Reads all there is. */
static void conn_receive(struct drive_worker *worker, struct drive_conn *conn)
{
    for (;;) {
        ssize_t n = weir__drive_receive(worker, conn);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            weir__drive_fail_lost(worker, conn, n < 0 ? errno : 0);
            return;
        }
        uint32_t len = (uint32_t)n, asked = conn->sent - conn->received;
        worker->out.bytes += len;
        if (len > asked) {
            weir__drive_fail_extra(worker, conn, len - asked);
            return;
        }
        if (!weir__drive_verify(worker, conn, worker->buffer, len))
            return;
        if (conn->received == worker->target->wire_bytes) {
            conn_answered(worker, conn);
            return; /* an end, or more than was asked for, is found when the hold is over */
        }
    }
}

static void conn_event(struct drive_worker *worker, struct drive_conn *conn, uint32_t events)
{
    if (conn->phase == CONN_CONNECTING ||
        (conn->phase == CONN_ASKING && conn->sent < worker->target->wire_bytes))
        conn_send(worker, conn);
    if (conn->phase == CONN_ASKING)
        conn_receive(worker, conn);
}

/* --- what a ramp tells ---------------------------------------------------------------------- */

static int compare_ns(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static int compare_ms(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Milliseconds of each whole thousand; of all there are, per thousand, where they are fewer. */
static uint32_t steps_of(const uint64_t *done_ns, uint32_t count, uint64_t first_ns, double *ms)
{
    uint32_t step = count < STEP_CONNS ? count : STEP_CONNS, steps = count / step;
    for (uint32_t i = 0; i < steps; i++) {
        uint64_t from_ns = i > 0 ? done_ns[i * step - 1] : first_ns;
        ms[i] = (double)(done_ns[(i + 1) * step - 1] - from_ns) / 1e6 * STEP_CONNS / step;
    }
    return steps;
}

int weir__drive_ramp_steps(uint64_t *done_ns, uint32_t count, uint64_t first_ns,
                           struct driver_ramp *ramp)
{
    *ramp = (struct driver_ramp){0};
    if (count == 0)
        return 0;
    double *ms = calloc(count / STEP_CONNS + 1, sizeof(*ms));
    if (!ms)
        return -ENOMEM;
    qsort(done_ns, count, sizeof(*done_ns), compare_ns);
    uint32_t steps = steps_of(done_ns, count, first_ns, ms);
    ramp->first_ms = ms[0];
    ramp->last_ms = ms[steps - 1];
    qsort(ms, steps, sizeof(*ms), compare_ms);
    ramp->median_ms = (ms[(steps - 1) / 2] + ms[steps / 2]) / 2;
    free(ms);
    return 0;
}

static int tell_steps(const struct drive_target *target, struct driver_slice *out)
{
    uint64_t *done_ns = calloc(target->spec.conns, sizeof(*done_ns));
    uint64_t first_ns = UINT64_MAX;
    uint32_t count = 0;
    for (unsigned i = 0; done_ns && i < target->threads; i++) {
        const struct drive_worker *worker = &target->closed[i];
        first_ns = worker->first_ns < first_ns ? worker->first_ns : first_ns;
        for (uint32_t k = 0; k < worker->count; k++) {
            if (worker->begun_ns[k] > 0)
                done_ns[count++] = worker->begun_ns[k];
        }
    }
    int rc = done_ns ? weir__drive_ramp_steps(done_ns, count, first_ns, &out->ramp) : -ENOMEM;
    free(done_ns);
    return rc;
}

/* --- one ramp ------------------------------------------------------------------------------- */

/* What was to be held and is not any more has failed. */
static void look_after(struct drive_target *target, struct driver_slice *out)
{
    out->conns_alive = 0;
    for (unsigned i = 0; i < target->threads; i++) {
        struct drive_worker *worker = &target->closed[i];
        memset(&worker->out, 0, sizeof(worker->out));
        for (uint32_t k = 0; k < worker->count; k++) {
            struct drive_conn *conn = &worker->conns[k];
            if (conn->phase != CONN_IDLE)
                continue;
            ssize_t n = weir__drive_receive(worker, conn);
            if (n < 0 && errno == EAGAIN) {
                out->conns_alive++;
                continue;
            }
            worker->active++; /* giving it up takes one away */
            if (n > 0)
                weir__drive_fail_extra(worker, conn, (uint64_t)n);
            else
                weir__drive_fail(worker, conn, ": %s while it was held",
                                 n == 0 ? "closed by the server" : strerror(errno));
        }
        out->errors += worker->out.errors;
        out->wrong += worker->out.wrong;
        if (out->first_error[0] == '\0')
            memcpy(out->first_error, worker->out.first_error, sizeof(out->first_error));
    }
    out->verified = out->verified && out->errors == 0;
}

static void sleep_ns(uint64_t ns)
{
    const struct timespec pause = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    nanosleep(&pause, NULL);
}

/* Resets all, and waits until the server has taken note. */
static void release(struct drive_target *target)
{
    const struct driver_target *spec = &target->spec;
    uint64_t deadline_ns = weir__drive_now_ns() + CLOSE_TIMEOUT_NS;
    struct server_cpu cpu;
    for (unsigned i = 0; i < target->threads; i++) {
        for (uint32_t k = 0; k < target->closed[i].count; k++)
            weir__drive_reset(&target->closed[i].conns[k]);
    }
    do
        weir__drive_server_cpu_read(spec->server_pids, spec->pid_count, &cpu);
    while (cpu.settled_ns >= 0 && !cpu.still && weir__drive_now_ns() < deadline_ns);
}

static void weigh(const struct drive_target *target, struct memory_reading *reading)
{
    const struct driver_target *spec = &target->spec;
    unsigned count;
    pid_t *pids = weir__drive_server_pids(spec->server_pids, spec->pid_count, &count);
    weir__memory_read(pids, count, spec->conns, reading);
    free(pids);
}

int weir__drive_ramp(struct drive_target *target, uint64_t hold_ns, struct driver_slice *out,
                     char *error)
{
    const bool first = target->ramps++ == 0;
    static struct memory_reading before, after; /* large; one ramp at a time */
    for (unsigned i = 0; i < target->threads; i++)
        target->closed[i].bound_ns = target->spec.connect_timeout_ns;
    if (first)
        weigh(target, &before);
    int rc = weir__drive_measure(target, target->closed, out, error);
    if (rc == 0)
        rc = tell_steps(target, out);
    if (rc == 0)
        sleep_ns(hold_ns);
    out->per_conn = weir__memory_unknown();
    if (rc == 0 && first && out->requests > 0) {
        weir__memory_settle(target->spec.shape.settle_s);
        weigh(target, &after);
        if (!out->cut || out->requests >= WEIGHED_MIN)
            out->per_conn = weir__memory_per_conn(&before, &after, (unsigned)out->requests);
        out->weighed = true;
    }
    if (rc == 0)
        look_after(target, out);
    release(target);
    return rc;
}

const struct drive_machine weir__drive_ramp_machine = {
    .event = conn_event,
    .begin = ramp_begin,
    .tick = ramp_tick,
};
