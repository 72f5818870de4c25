/*
 * A random walk over receives, sends, cancels and closes on each of the four reactors, against
 * peers that write, read, half-close, reset and leave. Every stream is checked byte for byte, and
 * at the end everything sent must have come: a lost edge or a stale interest stops it. The seed is
 * fixed; set WEIR_SOAK_SEED for another, which is printed where it fails.
 */
#include "tests/legacy/rig.h"

#include <stdlib.h>
#include <string.h>

enum { CONNS = 24, STEPS = 12000, SEND_MAX = 60000 };

/* A pair: the engine has `fd`, the test plays the peer. */
struct conn {
    struct task recv_task, send_task;
    int fd, peer;
    uint32_t seed;
    bool receiving, sending, ended;
    uint64_t peer_wrote, peer_read; /* stream positions */
    uint64_t sent;                  /* bytes of completed sends, and of the one under way */
    uint64_t received;
    uint8_t *out;
};

struct soak {
    struct rig rig;
    uint32_t random;
    struct conn conns[CONNS];
    uint8_t scratch[SEND_MAX];
};

static uint32_t roll(struct soak *soak, uint32_t below)
{
    soak->random = soak->random * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(soak->random >> 8) * below >> 24);
}

static uint8_t byte_at(uint32_t seed, uint64_t position)
{
    return (uint8_t)((position * 2654435761u + seed) >> 13);
}

static void fill_from(uint8_t *data, size_t bytes, uint32_t seed, uint64_t position)
{
    for (size_t i = 0; i < bytes; i++)
        data[i] = byte_at(seed, position + i);
}

static void check_from(const uint8_t *data, size_t bytes, uint32_t seed, uint64_t position)
{
    for (size_t i = 0; i < bytes; i++)
        if (data[i] != byte_at(seed, position + i))
            cr_fatal("byte %ju of the stream is wrong", (uintmax_t)(position + i));
}

static void received(struct weir__op *op)
{
    struct conn *conn = (struct conn *)op;
    if (op->buf && op->res > 0) {
        check_from(op->buf->data, op->buf->len, conn->seed, conn->received);
        conn->received += op->buf->len;
        weir__buf_put(&conn->recv_task.rig->bufs, op->buf);
        op->buf = NULL;
    }
    if (op->flags & WEIR__OP_MORE)
        return;
    conn->receiving = false;
    conn->ended = conn->ended || op->res == 0 || (op->res < 0 && op->res != -ECANCELED);
    cr_assert(op->res >= 0 || op->res == -ECANCELED || op->res == -ECONNRESET,
              "receive ended with %d", op->res);
}

static void sent(struct weir__op *op)
{
    struct conn *conn = (struct conn *)((char *)op - offsetof(struct conn, send_task));
    conn->sending = false;
    if (op->res < 0)
        conn->ended = true; /* how much went is unknown: the stream ends here */
    cr_assert(op->res >= 0 || op->res == -ECANCELED || op->res == -ECONNRESET || op->res == -EPIPE,
              "send ended with %d", op->res);
}

static void open_conn(struct soak *soak, struct conn *conn)
{
    int fds[2];
    uint8_t *out = conn->out ? conn->out : malloc(SEND_MAX);
    *conn = (struct conn){.out = out, .seed = roll(soak, 1u << 24)};
    if (roll(soak, 2))
        tcp_pair(fds);
    else
        local_pair(fds);
    int bytes = 4096;
    if (roll(soak, 2))
        setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    conn->fd = fds[0];
    conn->peer = fds[1];
}

static void arm_receive(struct soak *soak, struct conn *conn, bool multishot)
{
    task_init(&conn->recv_task, &soak->rig, WEIR__OP_RECV, conn->fd);
    conn->recv_task.op.flags = multishot ? WEIR__OP_MULTISHOT : 0;
    conn->recv_task.op.done = received;
    conn->receiving = true;
    if (task_submit(&conn->recv_task) == WEIR__DONE)
        received(&conn->recv_task.op);
}

static void start_send(struct soak *soak, struct conn *conn)
{
    uint32_t bytes = 1 + roll(soak, SEND_MAX - 1);
    fill_from(conn->out, bytes, conn->seed, conn->sent);
    task_init(&conn->send_task, &soak->rig, WEIR__OP_SEND, conn->fd);
    conn->send_task.op.data = conn->out;
    conn->send_task.op.len = bytes;
    conn->send_task.op.done = sent;
    conn->sending = true;
    conn->sent += bytes;
    if (task_submit(&conn->send_task) == WEIR__DONE)
        sent(&conn->send_task.op);
}

static void peer_write(struct soak *soak, struct conn *conn)
{
    size_t bytes = 1 + roll(soak, roll(soak, 4) ? 200 : 20000);
    fill_from(soak->scratch, bytes, conn->seed, conn->peer_wrote);
    ssize_t n = send(conn->peer, soak->scratch, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    conn->peer_wrote += n > 0 ? (uint64_t)n : 0;
}

static void peer_read(struct soak *soak, struct conn *conn)
{
    ssize_t n = recv(conn->peer, soak->scratch, 1 + roll(soak, SEND_MAX), MSG_DONTWAIT);
    if (n <= 0)
        return;
    check_from(soak->scratch, (size_t)n, conn->seed, conn->peer_read);
    conn->peer_read += (uint64_t)n;
    cr_assert(le(u64, conn->peer_read, conn->sent));
}

static void close_conn(struct soak *soak, struct conn *conn)
{
    if (conn->receiving)
        task_cancel(&conn->recv_task);
    if (conn->sending)
        task_cancel(&conn->send_task);
    rig_turns(&soak->rig, 1);
    cr_assert(not(conn->receiving || conn->sending));
    cr_assert(eq(int, task_close(&soak->rig, conn->fd), 0));
    close(conn->peer);
}

static void step(struct soak *soak, struct conn *conn)
{
    switch (roll(soak, 12)) {
    case 0:
    case 1:
    case 2:
        peer_write(soak, conn);
        break;
    case 3:
    case 4:
        peer_read(soak, conn);
        break;
    case 5:
    case 6:
        if (!conn->receiving && !conn->ended)
            arm_receive(soak, conn, roll(soak, 3));
        break;
    case 7:
        if (conn->receiving && roll(soak, 4) == 0)
            task_cancel(&conn->recv_task);
        break;
    case 8:
    case 9:
        if (!conn->sending && !conn->ended)
            start_send(soak, conn);
        break;
    case 10:
        if (conn->sending && roll(soak, 8) == 0)
            task_cancel(&conn->send_task);
        break;
    default:
        if (roll(soak, 6) == 0) {
            if (roll(soak, 2))
                set_reset_on_close(conn->peer);
            close_conn(soak, conn);
            open_conn(soak, conn);
        }
    }
}

/* Nothing more is begun; all that was written must arrive, on both sides. */
static bool is_settled(const struct conn *conn)
{
    return conn->ended ||
           (conn->received == conn->peer_wrote && !conn->sending && conn->peer_read == conn->sent);
}

static void settle(struct soak *soak, struct conn *conn)
{
    uint64_t limit_ns = rig_now_ns() + RIG_LIMIT_S * 1000000000ull;
    while (!is_settled(conn)) {
        if (!conn->receiving && !conn->ended)
            arm_receive(soak, conn, true);
        peer_read(soak, conn);
        rig_turns(&soak->rig, 1);
        cr_assert(lt(u64, rig_now_ns(), limit_ns), "got %ju of %ju, gave %ju of %ju",
                  (uintmax_t)conn->received, (uintmax_t)conn->peer_wrote,
                  (uintmax_t)conn->peer_read, (uintmax_t)conn->sent);
    }
}

static void soak(const struct weir__engine_ops *engine_ops, uint64_t features_off)
{
    const char *seed = getenv("WEIR_SOAK_SEED");
    struct soak *walk = calloc(1, sizeof *walk);
    struct weir__engine_options options = {.features_off = features_off};
    walk->random = seed ? (uint32_t)strtoul(seed, NULL, 0) : 20240601u;
    rig_open_with(&walk->rig, engine_ops, &options, 64, 1000);
    for (int i = 0; i < CONNS; i++)
        open_conn(walk, &walk->conns[i]);
    for (int i = 0; i < STEPS; i++) {
        step(walk, &walk->conns[roll(walk, CONNS)]);
        if (roll(walk, 3) == 0)
            rig_turns(&walk->rig, 1);
    }
    uint64_t bytes = 0;
    for (int i = 0; i < CONNS; i++) {
        settle(walk, &walk->conns[i]);
        bytes += walk->conns[i].received + walk->conns[i].peer_read;
        close_conn(walk, &walk->conns[i]);
        free(walk->conns[i].out);
    }
    cr_assert(gt(u64, bytes, 100000u));
    rig_close(&walk->rig);
    free(walk);
}

ENGINE_TEST(a_random_walk_loses_no_byte)
{
    soak(engine_ops, 0);
}

Test(epoll_et, a_random_walk_that_drains_to_eagain_loses_no_byte)
{
    soak(&weir__engine_epoll_et, 2); /* short_read */
}
