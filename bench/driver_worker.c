/*
 * One driving thread for the time of a slice: an edge-triggered epoll loop that hands each event to
 * the machine of the shape (driver_closed.c, driver_pipeline.c, ...), and gives connections up that
 * stay silent. What the machines share is here too: comparing bytes, and giving a connection up
 * with the reason.
 *
 * Called by driver_target.c; never knows of other workers.
 */
#include <assert.h>
#include <errno.h>
#include <linux/time_types.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench/driver_load.h"

#define EVENTS_MAX 256
/* Connections begun at the start of a slice before answers are looked for again. */
#define START_BATCH 64u
/* A SYN is sent again after a second: a connect that took longer is worth asking TCP_INFO about. */
#define CONNECT_SLOW_NS 900000000u

/* epoll_pwait2() has not been refused here. */
static _Atomic bool can_wait_ns = true;

/* --- what the machines share ---------------------------------------------------------------- */

void weir__drive_fail(struct drive_worker *worker, struct drive_conn *conn, const char *format, ...)
{
    struct driver_slice *out = &worker->out;
    if (out->first_error[0] == '\0') {
        va_list args;
        va_start(args, format);
        int n = snprintf(out->first_error, sizeof(out->first_error), "connection %u request %llu",
                         conn->id, (unsigned long long)conn->seq);
        vsnprintf(out->first_error + n, sizeof(out->first_error) - (size_t)n, format, args);
        va_end(args);
    }
    out->errors++;
    if (conn->fd >= 0)
        close(conn->fd);
    conn->fd = -1;
    conn->phase = CONN_GONE;
    worker->active--;
}

unsigned weir__drive_gather(const struct drive_target *target, uint32_t id, uint64_t seq,
                            uint32_t from, struct iovec iov[2])
{
    uint8_t *body = (uint8_t *)weir__drive_payload_at(&target->payload, id, seq); /* not written */
    uint32_t head = target->ask_header_bytes;
    unsigned pieces = 0;
    if (from < head)
        iov[pieces++] = (struct iovec){(uint8_t *)target->header + from, head - from};
    from = from > head ? from : head;
    if (from < target->ask_bytes)
        iov[pieces++] = (struct iovec){body + (from - head), target->ask_bytes - from};
    return pieces;
}

/* Says where `got` first differs; `at` is its place within the response. */
static void fail_bytes(struct drive_worker *worker, struct drive_conn *conn, const uint8_t *want,
                       const uint8_t *got, uint32_t at)
{
    uint32_t i = 0;
    while (want[i] == got[i])
        i++;
    worker->out.wrong++;
    weir__drive_fail(worker, conn, " byte %u: want 0x%02x, got 0x%02x", at + i, want[i], got[i]);
}

bool weir__drive_verify(struct drive_worker *worker, struct drive_conn *conn, const uint8_t *got,
                        uint32_t len)
{
    const struct drive_target *target = worker->target;
    assert(len <= target->wire_bytes - conn->received);
    if (conn->received < target->header_bytes && len > 0) {
        uint32_t head = target->header_bytes - conn->received;
        head = head < len ? head : len;
        const uint8_t *want = target->header + conn->received;
        if (memcmp(want, got, head) != 0) {
            fail_bytes(worker, conn, want, got, conn->received);
            return false;
        }
        conn->received += head;
        got += head;
        len -= head;
    }
    if (len == 0)
        return true;
    const uint8_t *want = weir__drive_payload_at(&target->payload, conn->id, conn->seq) +
                          (conn->received - target->header_bytes);
    if (memcmp(want, got, len) != 0) {
        fail_bytes(worker, conn, want, got, conn->received);
        return false;
    }
    conn->received += len;
    return true;
}

void weir__drive_fail_extra(struct drive_worker *worker, struct drive_conn *conn, uint64_t extra)
{
    worker->out.wrong++;
    weir__drive_fail(worker, conn, ": %llu bytes more than were sent", (unsigned long long)extra);
}

void weir__drive_fail_lost(struct drive_worker *worker, struct drive_conn *conn, int failure)
{
    weir__drive_fail(worker, conn, ": %s after %u of %u bytes",
                     failure == 0 ? "closed by the server" : strerror(failure), conn->received,
                     worker->target->wire_bytes);
}

/* One send of what is left of the request; a frame's header goes out with its body. */
static ssize_t send_rest(const struct drive_target *target, const struct drive_conn *conn)
{
    struct iovec iov[2];
    struct msghdr msg = {.msg_iov = iov};
    msg.msg_iovlen = weir__drive_gather(target, conn->id, conn->seq, conn->sent, iov);
    if (msg.msg_iovlen == 1)
        return send(conn->fd, iov[0].iov_base, iov[0].iov_len, MSG_NOSIGNAL);
    return sendmsg(conn->fd, &msg, MSG_NOSIGNAL);
}

void weir__drive_send(struct drive_worker *worker, struct drive_conn *conn)
{
    const struct drive_target *target = worker->target;
    while (conn->sent < target->ask_bytes) {
        ssize_t n = send_rest(target, conn);
        if (n < 0 && errno == EAGAIN)
            return; /* an EPOLLOUT edge follows */
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            weir__drive_fail(worker, conn, ": %s: %s",
                             conn->phase == CONN_CONNECTING ? "connect" : "send", strerror(errno));
            return;
        }
        conn->sent += (uint32_t)n;
    }
}

ssize_t weir__drive_receive(struct drive_worker *worker, const struct drive_conn *conn)
{
    ssize_t n;
    do
        n = recv(conn->fd, worker->buffer, WEIR__DRIVE_BUFFER_BYTES, 0);
    while (n < 0 && errno == EINTR);
    return n;
}

void weir__drive_count_retries(struct drive_worker *worker, const struct drive_conn *conn,
                               uint64_t now_ns)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);
    if (now_ns - conn->since_ns > CONNECT_SLOW_NS &&
        getsockopt(conn->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0)
        worker->out.connect_retries += info.tcpi_total_retrans;
}

/* --- the loop -------------------------------------------------------------------------------- */

/* It has not been answered yet: the server may be busy with those before it. */
static bool awaits_its_turn(const struct drive_worker *worker, const struct drive_conn *conn)
{
    bool first = conn->seq == 0 || worker->target->spec.shape.kind == SHAPE_CHURN;
    return conn->phase == CONN_CONNECTING ||
           (conn->phase == CONN_ASKING && first && conn->received == 0);
}

/* When any connection of the target was answered last. */
static uint64_t progress_ns(const struct drive_worker *worker)
{
    uint64_t latest_ns = 0;
    for (unsigned i = 0; i < worker->target->threads; i++) {
        uint64_t one_ns = atomic_load_explicit(&worker->team[i].progress_ns, memory_order_relaxed);
        latest_ns = one_ns > latest_ns ? one_ns : latest_ns;
    }
    return latest_ns;
}

static void give_up_silent(struct drive_worker *worker, uint64_t now_ns)
{
    const struct driver_target *spec = &worker->target->spec;
    const uint64_t served_ns = progress_ns(worker);
    for (uint32_t i = 0; i < worker->count; i++) {
        struct drive_conn *conn = &worker->conns[i];
        uint64_t limit_ns =
            conn->phase == CONN_CONNECTING ? spec->connect_timeout_ns : spec->answer_timeout_ns;
        uint64_t since_ns = conn->since_ns;
        if (awaits_its_turn(worker, conn) && served_ns > since_ns)
            since_ns = served_ns;
        if (conn->phase < CONN_CONNECTING || conn->phase == CONN_IDLE ||
            now_ns < since_ns + limit_ns)
            continue;
        double seconds = (double)limit_ns / 1e9;
        if (spec->shape.kind == SHAPE_RAMP) {
            worker->stalled = true;
            return;
        }
        if (conn->phase == CONN_CONNECTING)
            weir__drive_fail(worker, conn, ": not connected within %g s", seconds);
        else if (conn->phase == CONN_CLOSING)
            weir__drive_fail(worker, conn, ": the server did not close within %g s", seconds);
        else
            weir__drive_fail(worker, conn, ": no answer within %g s (%u of %u bytes)", seconds,
                             conn->received, worker->target->wire_bytes);
    }
}

/* How often to look for silent connections: often enough to be an eighth late at most. */
static uint64_t check_interval_ns(const struct driver_target *spec)
{
    uint64_t least = spec->answer_timeout_ns < spec->connect_timeout_ns ? spec->answer_timeout_ns
                                                                        : spec->connect_timeout_ns;
    return least / 8 + 1;
}

/* Until the slice is cut off; 0: it is over time. */
static uint64_t left_ns(const struct drive_worker *worker)
{
    if (worker->stalled)
        return 0;
    if (worker->bound_ns == 0)
        return UINT64_MAX;
    uint64_t ran_ns = weir__drive_now_ns() - worker->first_ns;
    return ran_ns < worker->bound_ns ? worker->bound_ns - ran_ns : 0;
}

/* Resets whatever is not over. What a ramp reached stays, and its time ends there. */
static void cut_off(struct drive_worker *worker)
{
    for (uint32_t i = 0; i < worker->count; i++) {
        if (worker->conns[i].phase != CONN_IDLE)
            weir__drive_reset(&worker->conns[i]);
    }
    worker->active = 0;
    worker->more = false;
    worker->out.cut = true;
    if (worker->target->spec.shape.kind != SHAPE_RAMP)
        worker->last_ns = weir__drive_now_ns();
}

/* Waits to the microsecond where the shape has a plan in time, else to the millisecond. */
static int wait_events(const struct drive_worker *worker, struct epoll_event events[EVENTS_MAX],
                       uint64_t wait_ns)
{
    if (worker->machine->tick && can_wait_ns) {
        const struct __kernel_timespec timeout = {(long long)(wait_ns / 1000000000u),
                                                  (long long)(wait_ns % 1000000000u)};
        long n = syscall(SYS_epoll_pwait2, worker->epoll_fd, events, EVENTS_MAX, &timeout, NULL, 0);
        if (n >= 0 || errno == EINTR)
            return (int)n;
        can_wait_ns = false; /* an older kernel, or a filter of system calls */
    }
    int timeout_ms = wait_ns > 0 ? (int)(wait_ns / 1000000) + 1 : 0;
    return epoll_wait(worker->epoll_fd, events, EVENTS_MAX, timeout_ms);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void turn(struct drive_worker *worker, bool wait)
{
    struct epoll_event events[EVENTS_MAX];
    const uint64_t interval_ns = check_interval_ns(&worker->target->spec);
    uint64_t wait_ns = wait ? least(left_ns(worker), interval_ns) : 0;
    if (worker->machine->tick) {
        uint64_t began_ns = weir__drive_now_ns();
        uint64_t due_ns = worker->machine->tick(worker, began_ns);
        wait_ns = least(wait_ns, due_ns > began_ns ? due_ns - began_ns : 0);
    }
    if (worker->active == 0)
        return;
    int n = wait_events(worker, events, wait_ns);
    assert(n >= 0 || errno == EINTR);
    for (int i = 0; i < n; i++)
        worker->machine->event(worker, events[i].data.ptr, events[i].events);
    atomic_store_explicit(&worker->progress_ns, worker->last_ns, memory_order_relaxed);
    uint64_t now_ns = weir__drive_now_ns();
    if (now_ns < worker->check_ns)
        return;
    give_up_silent(worker, now_ns);
    worker->check_ns = now_ns + interval_ns;
}

static uint64_t thread_cpu_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void weir__drive_worker_run(struct drive_worker *worker)
{
    assert(worker->active == 0);
    uint64_t cpu_before_ns = thread_cpu_ns();
    memset(&worker->out, 0, sizeof(worker->out));
    worker->stalled = false;
    worker->first_ns = worker->last_ns = weir__drive_now_ns();
    worker->check_ns = worker->first_ns + check_interval_ns(&worker->target->spec);
    if (worker->machine->begin)
        worker->machine->begin(worker);
    uint32_t started = 0;
    for (uint32_t i = 0; worker->machine->start && i < worker->count; i++) {
        if (worker->conns[i].phase != CONN_IDLE ||
            !weir__shape_is_active(&worker->target->spec.shape, worker->conns[i].id))
            continue;
        worker->machine->start(worker, &worker->conns[i]);
        if (++started % START_BATCH > 0)
            continue;
        turn(worker, false);
        if (left_ns(worker) == 0)
            break;
    }
    while (worker->active > 0 && left_ns(worker) > 0)
        turn(worker, true);
    if (worker->active > 0)
        cut_off(worker);
    worker->end_ns = weir__drive_now_ns();
    worker->cpu_ns = thread_cpu_ns() - cpu_before_ns;
}
