/*
 * bare-uring: the least code that serves echo (or sink, or source) on io_uring, to measure the
 * runtime against: what the runtime costs is the distance to this. No coroutines, no ops, no
 * timers, one file; multishot accept and receive, a ring of 256 provided buffers, completions
 * finished only inside our own enter (DEFER_TASKRUN), one enter per turn. It serves well or not at
 * all: where the kernel lacks one of those (before Linux 6.0) it says so.
 *
 * A connection has at most one send in flight; what arrives meanwhile waits in its queue, in the
 * buffers it came in. So a peer that does not read what it is sent stops being received from once
 * the buffers are out. A descriptor is closed only when none of its requests is left in the kernel.
 */
#include <weir/model.h>
#include <weir/workload.h>

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "uring/compat.h"
#include "uring/uring.h"

enum {
    SQ = 256,
    CQ = 4096,
    BUFS = 256,
    BUF_BYTES = 4096,
    CONNS_MOST = 1 << 20,
    NO_BUF = -1,
    ACCEPT_PAUSE_MS = 100
};
enum request { ACCEPT, ACCEPT_LATER, RECV, SEND, CLOSE, STOP, CANCEL };

extern const struct weir_model weir__model_bare_uring;

struct conn {
    int16_t head, tail;    /* buffers received and not yet sent; NO_BUF */
    uint32_t sent;         /* bytes of the head; source: bytes of it that were answered */
    const uint8_t *answer; /* source: what is being sent */
    size_t answer_left;
    uint8_t open, receiving, sending, ended, starved;
    int next_starved;
};

struct server {
    struct io_uring ring;
    struct io_uring_buf_ring *buf_ring;
    uint8_t *memory;
    struct conn *conns; /* by descriptor */
    uint32_t conns_count;
    uint32_t lengths[BUFS];
    int16_t next[BUFS];
    int bufs_back; /* added to the buffer ring, not yet shown to the kernel */
    int starved;   /* list of descriptors without a receive for want of buffers; -1 */
    int listen_fd, accepting, stopping;
    uint32_t busy;                                /* connections with something to send */
    const struct weir_workload *sink, *source;    /* one at most; else echo */
    uint8_t (*states)[WEIR_WORKLOAD_STATE_BYTES]; /* of it, by descriptor */
    struct weir_model_counters *stats;
};

static struct io_uring_sqe *request(struct server *s, enum request kind, int fd)
{
    struct io_uring_sqe *sqe;
    while (!(sqe = io_uring_get_sqe(&s->ring)))
        io_uring_submit(&s->ring);
    *sqe = (struct io_uring_sqe){.fd = fd, .user_data = (uint64_t)kind << 32 | (uint32_t)fd};
    return sqe;
}

static void accept_more(struct server *s)
{
    struct io_uring_sqe *sqe = request(s, ACCEPT, s->listen_fd);
    sqe->opcode = IORING_OP_ACCEPT;
    sqe->accept_flags = SOCK_CLOEXEC;
    sqe->ioprio = IORING_ACCEPT_MULTISHOT;
    s->accepting = 1;
}

/* Out of descriptors or memory: at once it would fail again, and for ever so. */
static void accept_later(struct server *s)
{
    static const struct __kernel_timespec pause = {.tv_nsec = ACCEPT_PAUSE_MS * 1000000};
    struct io_uring_sqe *sqe = request(s, ACCEPT_LATER, -1);
    sqe->opcode = IORING_OP_TIMEOUT;
    sqe->addr = (uint64_t)(uintptr_t)&pause;
    sqe->len = 1;
}

static void receive(struct server *s, int fd)
{
    struct io_uring_sqe *sqe = request(s, RECV, fd);
    sqe->opcode = IORING_OP_RECV;
    sqe->ioprio = IORING_RECV_MULTISHOT;
    sqe->flags = IOSQE_BUFFER_SELECT;
    s->conns[fd].receiving = 1;
}

static void give_back(struct server *s, int16_t buf)
{
    io_uring_buf_ring_add(s->buf_ring, s->memory + (size_t)buf * BUF_BYTES, BUF_BYTES,
                          (uint16_t)buf, BUFS - 1, s->bufs_back++);
}

/* The head has been sent, or answered. */
static void pop_head(struct server *s, struct conn *conn)
{
    int16_t buf = conn->head;
    conn->head = s->next[buf];
    conn->sent = 0;
    give_back(s, buf);
}

static void close_if_idle(struct server *s, int fd)
{
    struct conn *conn = &s->conns[fd];
    if (!conn->ended || conn->receiving || conn->sending || conn->starved || conn->head != NO_BUF)
        return;
    request(s, CLOSE, fd)->opcode = IORING_OP_CLOSE;
    conn->open = 0;
    s->stats->closed++;
}

/* After an error: what is queued goes nowhere, what the kernel holds comes back at once. */
static void fail(struct server *s, int fd)
{
    struct conn *conn = &s->conns[fd];
    s->stats->errors++;
    s->busy -= conn->head != NO_BUF;
    for (; conn->head != NO_BUF; conn->head = s->next[conn->head])
        give_back(s, conn->head);
    conn->ended = 1;
    shutdown(fd, SHUT_RDWR);
}

static void send_bytes(struct server *s, int fd, const uint8_t *data, size_t bytes)
{
    struct io_uring_sqe *sqe = request(s, SEND, fd);
    sqe->opcode = IORING_OP_SEND;
    sqe->addr = (uint64_t)(uintptr_t)data;
    sqe->len = (uint32_t)bytes;
    sqe->msg_flags = MSG_WAITALL | MSG_NOSIGNAL;
    s->conns[fd].sending = 1;
}

/* The source's next answer to what is queued. False: there is none, or the peer is wrong. */
static int next_answer(struct server *s, int fd)
{
    struct conn *conn = &s->conns[fd];
    uint8_t room[WEIR_WORKLOAD_OUT_BYTES];
    struct weir_workload_io io = {.out = room, .out_capacity = sizeof room, .reply_len = 0};
    while (conn->head != NO_BUF && io.reply_len == 0) {
        const uint8_t *asked = s->memory + (size_t)conn->head * BUF_BYTES;
        uint32_t left = s->lengths[conn->head] - conn->sent;
        if (left == 0) {
            pop_head(s, conn);
        } else if (s->source->feed(s->states[fd], asked + conn->sent, left, &io) < 0) {
            fail(s, fd);
            return 0;
        } else {
            conn->sent += (uint32_t)io.consumed;
        }
    }
    conn->answer = io.reply;
    conn->answer_left = io.reply_len;
    s->busy -= conn->head == NO_BUF;
    return conn->head != NO_BUF;
}

/* What is next to be sent, if there is something. */
static void send_next(struct server *s, int fd)
{
    struct conn *conn = &s->conns[fd];
    if (!s->source)
        send_bytes(s, fd, s->memory + (size_t)conn->head * BUF_BYTES + conn->sent,
                   s->lengths[conn->head] - conn->sent);
    else if (conn->answer_left > 0 || next_answer(s, fd))
        send_bytes(s, fd, conn->answer, conn->answer_left);
}

static void accepted(struct server *s, int fd, uint32_t flags)
{
    s->accepting = (flags & IORING_CQE_F_MORE) != 0;
    if (!s->accepting && !s->stopping) {
        if (fd >= 0 || fd == -ECONNABORTED)
            accept_more(s);
        else
            accept_later(s);
    }
    if (fd < 0) {
        s->stats->errors += fd != -ECANCELED;
        return;
    }
    if ((uint32_t)fd >= s->conns_count) {
        s->stats->errors++;
        close(fd);
        return;
    }
    s->conns[fd] = (struct conn){.head = NO_BUF, .tail = NO_BUF, .open = 1};
    if (s->sink)
        s->sink->init(s->states[fd], NULL);
    if (s->source)
        s->source->init(s->states[fd], NULL);
    s->stats->accepted++;
    receive(s, fd);
}

/* The sink takes the buffer, and its answer, if there is any, takes the buffer's place. Who asks
 * for more answers than a buffer holds gets those. Returns the bytes to send. */
static uint32_t swallow(struct server *s, int fd, int16_t buf, uint32_t bytes)
{
    uint8_t *data = s->memory + (size_t)buf * BUF_BYTES,
            answers[BUF_BYTES + WEIR_WORKLOAD_OUT_BYTES];
    size_t answered = 0;
    for (size_t at = 0; at < bytes && answered < BUF_BYTES;) {
        struct weir_workload_io io = {.out = answers + answered,
                                      .out_capacity = WEIR_WORKLOAD_OUT_BYTES};
        s->sink->feed(s->states[fd], data + at, bytes - at, &io);
        at += io.consumed;
        answered += io.reply_len;
    }
    answered = answered < BUF_BYTES ? answered : BUF_BYTES;
    memcpy(data, answers, answered);
    return (uint32_t)answered;
}

static void received(struct server *s, int fd, int32_t res, uint32_t flags)
{
    struct conn *conn = &s->conns[fd];
    conn->receiving = (flags & IORING_CQE_F_MORE) != 0;
    if (res > 0) {
        int16_t buf = (int16_t)(flags >> IORING_CQE_BUFFER_SHIFT);
        s->stats->bytes_in += (uint32_t)res;
        s->lengths[buf] = s->sink ? swallow(s, fd, buf, (uint32_t)res) : (uint32_t)res;
        s->next[buf] = NO_BUF;
        if (conn->ended || s->lengths[buf] == 0) {
            give_back(s, buf);
        } else if (conn->head != NO_BUF) {
            s->next[conn->tail] = buf;
            conn->tail = buf;
        } else {
            conn->head = conn->tail = buf;
            conn->sent = 0;
            s->busy++;
            send_next(s, fd);
        }
    } else if (res == -ENOBUFS && !conn->ended) {
        conn->starved = 1;
        conn->next_starved = s->starved;
        s->starved = fd;
    } else if (res == 0 || conn->ended) {
        conn->ended = 1;
    } else {
        fail(s, fd);
    }
    if (res > 0 && !conn->receiving && !conn->ended)
        receive(s, fd);
    close_if_idle(s, fd);
}

static void sent(struct server *s, int fd, int32_t res)
{
    struct conn *conn = &s->conns[fd];
    conn->sending = 0;
    if (res < 0 || conn->head == NO_BUF) {
        if (conn->head != NO_BUF)
            fail(s, fd);
        close_if_idle(s, fd);
        return;
    }
    s->stats->bytes_out += (uint32_t)res;
    if (s->source) {
        conn->answer += res;
        conn->answer_left -= (uint32_t)res;
    } else {
        conn->sent += (uint32_t)res;
        if (conn->sent == s->lengths[conn->head])
            pop_head(s, conn);
        s->busy -= conn->head == NO_BUF;
    }
    if (conn->head != NO_BUF)
        send_next(s, fd);
    close_if_idle(s, fd);
}

static void finish(struct server *s, const struct io_uring_cqe *cqe)
{
    int fd = (int)(uint32_t)cqe->user_data;
    switch ((enum request)(cqe->user_data >> 32)) {
    case ACCEPT:
        accepted(s, cqe->res, cqe->flags);
        break;
    case ACCEPT_LATER:
        if (!s->stopping)
            accept_more(s);
        break;
    case RECV:
        received(s, fd, cqe->res, cqe->flags);
        break;
    case SEND:
        sent(s, fd, cqe->res);
        break;
    case STOP:
        s->stopping = 1;
        break;
    case CLOSE:
    case CANCEL:
        break;
    }
}

/* Buffers came back: who could not receive tries again. */
static void feed(struct server *s)
{
    if (s->bufs_back == 0)
        return;
    io_uring_buf_ring_advance(s->buf_ring, s->bufs_back);
    s->bufs_back = 0;
    while (s->starved >= 0) {
        int fd = s->starved;
        s->starved = s->conns[fd].next_starved;
        s->conns[fd].starved = 0;
        if (s->conns[fd].ended)
            close_if_idle(s, fd);
        else
            receive(s, fd);
    }
}

static int turn(struct server *s, struct __kernel_timespec *timeout)
{
    struct io_uring_cqe *cqe;
    unsigned head, count = 0;
    int error = timeout ? io_uring_submit_and_wait_timeout(&s->ring, &cqe, 1, timeout, NULL)
                        : io_uring_submit_and_wait(&s->ring, 1);
    if (error < 0 && error != -EINTR && error != -ETIME && error != -EAGAIN && error != -EBUSY)
        return error;
    io_uring_for_each_cqe(&s->ring, head, cqe)
    {
        finish(s, cqe);
        count++;
    }
    io_uring_cq_advance(&s->ring, count);
    feed(s);
    return 0;
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int serve_until_stopped(struct server *s, uint64_t drain_ns)
{
    int error = 0;
    while (!s->stopping && error == 0)
        error = turn(s, NULL);
    if (error == 0 && s->accepting) {
        struct io_uring_sqe *sqe = request(s, CANCEL, -1);
        sqe->opcode = IORING_OP_ASYNC_CANCEL;
        sqe->addr = (uint64_t)ACCEPT << 32 | (uint32_t)s->listen_fd;
    }
    uint64_t now = now_ns(), end = now + drain_ns;
    while (error == 0 && (s->accepting || s->busy > 0) && now < end) {
        struct __kernel_timespec left = {.tv_sec = (int64_t)((end - now) / 1000000000),
                                         .tv_nsec = (int64_t)((end - now) % 1000000000)};
        error = turn(s, &left);
        now = now_ns();
    }
    return error;
}

static int open_ring(struct server *s, char *why, size_t why_bytes, const char **features)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_CQSIZE | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                 IORING_SETUP_SUBMIT_ALL,
        .cq_entries = CQ,
    };
    *features = "defer_taskrun,multishot_accept,multishot_recv,buffer_ring";
    int error = io_uring_queue_init_params(SQ, &s->ring, &params);
    if (error == -EINVAL) { /* Linux 6.0 */
        *features = "coop_taskrun,multishot_accept,multishot_recv,buffer_ring";
        params = (struct io_uring_params){
            .flags = IORING_SETUP_CQSIZE | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL,
            .cq_entries = CQ,
        };
        error = io_uring_queue_init_params(SQ, &s->ring, &params);
    }
    if (error < 0) {
        struct weir__uring_host host;
        weir__uring_host_read(&host, "/proc");
        weir__uring_explain(error, &host, why, why_bytes);
    }
    return error;
}

/* Linux 5.19 has all but the multishot receive, which would fail once connections are there. */
static int knows_multishot_recv(struct io_uring *ring)
{
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    int knows = probe && io_uring_opcode_supported(probe, WEIR__OP_SEND_ZC_OPCODE);
    io_uring_free_probe(probe);
    return knows;
}

static int open_bufs(struct server *s)
{
    size_t ring_bytes = BUFS * sizeof(struct io_uring_buf);
    if (!knows_multishot_recv(&s->ring))
        return -EOPNOTSUPP;
    s->memory = mmap(NULL, ring_bytes + (size_t)BUFS * BUF_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (s->memory == MAP_FAILED)
        return -errno;
    s->buf_ring = (struct io_uring_buf_ring *)(s->memory + (size_t)BUFS * BUF_BYTES);
    struct io_uring_buf_reg reg = {.ring_addr = (uint64_t)(uintptr_t)s->buf_ring,
                                   .ring_entries = BUFS};
    int error = io_uring_register_buf_ring(&s->ring, &reg, 0);
    if (error < 0) {
        munmap(s->memory, ring_bytes + (size_t)BUFS * BUF_BYTES);
        return error;
    }
    io_uring_buf_ring_init(s->buf_ring);
    for (int16_t i = 0; i < BUFS; i++)
        give_back(s, i);
    feed(s);
    return 0;
}

static void close_all(struct server *s)
{
    for (uint32_t fd = 0; fd < s->conns_count; fd++)
        if (s->conns[fd].open)
            shutdown((int)fd, SHUT_RDWR);
    io_uring_queue_exit(&s->ring);
    for (uint32_t fd = 0; fd < s->conns_count; fd++)
        if (s->conns[fd].open) {
            close((int)fd);
            s->stats->closed++;
        }
    munmap(s->memory, BUFS * (sizeof(struct io_uring_buf) + BUF_BYTES));
}

static int serve(const struct weir_model_options *options, struct weir_model_stats *stats,
                 void (*ready)(void *argument, const char *features), void *argument, char *why,
                 size_t why_bytes)
{
    struct server s = {.listen_fd = options->listen_fd, .starved = -1, .stats = &stats->slots[0]};
    struct rlimit nofile = {0};
    const char *features;
    int error = open_ring(&s, why, why_bytes, &features);
    if (error < 0)
        return error;
    getrlimit(RLIMIT_NOFILE, &nofile);
    s.conns_count = nofile.rlim_cur < CONNS_MOST ? (uint32_t)nofile.rlim_cur : CONNS_MOST;
    s.conns = calloc(s.conns_count, sizeof *s.conns);
    if (options->workload && strcmp(options->workload->name, "sink") == 0)
        s.sink = options->workload;
    if (options->workload && strcmp(options->workload->name, "source") == 0)
        s.source = options->workload;
    int stateful = s.sink || s.source;
    s.states = stateful ? calloc(s.conns_count, sizeof *s.states) : NULL;
    error = s.conns && (s.states || !stateful) ? open_bufs(&s) : -ENOMEM;
    if (error < 0) {
        snprintf(why, why_bytes,
                 "io_uring: multishot receive: %s; bare-uring needs Linux 6.0: use uring",
                 strerror(-error));
        io_uring_queue_exit(&s.ring);
        free(s.states);
        free(s.conns);
        return error;
    }
    struct io_uring_sqe *stop = request(&s, STOP, options->stop_fd);
    stop->opcode = IORING_OP_POLL_ADD;
    stop->poll32_events =
        __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? (uint32_t)WEIR__POLL_IN << 16 : WEIR__POLL_IN;
    accept_more(&s);
    snprintf(stats->features, sizeof stats->features, "%s", features);
    ready(argument, features);
    error = serve_until_stopped(&s, options->drain_ns);
    if (error < 0)
        snprintf(why, why_bytes, "io_uring_enter: %s", strerror(-error));
    close_all(&s);
    free(s.states);
    free(s.conns);
    return error;
}

static const char *const workloads[] = {"echo", "sink", "source", NULL};

const struct weir_model weir__model_bare_uring = {
    .name = "bare-uring",
    .summary = "the least code that serves echo on io_uring; one thread",
    .workloads = workloads,
    .serve = serve,
};
