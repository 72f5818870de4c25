/* Receiving when buffers are short. Mirrors uring/bufring.c, and its absence (recv into the pool).
 */
#include "harness.h"

#include <sys/uio.h>

static struct fixture fixture;

#define EVERY_TIER(name)                                                                           \
    ParameterizedTestParameters(bufring, name)                                                     \
    {                                                                                              \
        return tier_params();                                                                      \
    }                                                                                              \
    ParameterizedTest(struct tier *tier, bufring, name, .timeout = 20)

static void open_with_bufs(const struct tier *tier, uint32_t bufs, uint32_t ring_bufs)
{
    fixture_open(&fixture, (struct fixture_options){.engine = {.features_off = tier->off,
                                                               .features_on = tier->on,
                                                               .ring_bufs = ring_bufs},
                                                    .bufs = bufs,
                                                    .buf_bytes = 128});
}

/* Keeps every buffer it is lent until told to let go. */
enum { KEPT_MOST = 64 };
static struct weir__buf *kept[KEPT_MOST];
static int kept_count;
static struct recorded *keeper;
static weir__op_done_fn *keeper_done;

static void keep(struct weir__op *op)
{
    if (op->res > 0) {
        cr_assert_lt(kept_count, KEPT_MOST);
        kept[kept_count++] = op->buf;
    }
    keeper_done(op);
}

static void let_go(void)
{
    while (kept_count > 0)
        weir__buf_put(&fixture.pool, kept[--kept_count]);
}

static struct recorded *keeping_receive(int fd)
{
    keeper = record(&fixture, WEIR__OP_RECV, fd);
    keeper->keep = true;
    keeper_done = keeper->op.done;
    keeper->op.done = keep;
    return keeper;
}

EVERY_TIER(two_buffers_kept_by_their_owner_end_the_receive_and_lose_nothing)
{
    int fds[2];
    uint8_t sent[2000];
    open_with_bufs(tier, 2, 0);
    pair(fds);
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (uint8_t)(i * 11 + i / 256);
    struct recorded *recv_op = keeping_receive(fds[0]);
    submit(recv_op);
    cr_assert_eq(write(fds[1], sent, sizeof sent), sizeof sent);
    /* Arm again, as core does, until everything came through two buffers of 128 bytes. */
    int starved = 0;
    uint64_t end_ns = clock_ns() + PATIENCE_NS;
    while (recv_op->bytes_count < sizeof sent && clock_ns() < end_ns) {
        cr_assert(turn(&fixture) >= 0);
        cr_assert_leq(kept_count, 2);
        if (recv_op->finals == 0)
            continue;
        if (recv_op->last == -ENOBUFS) {
            starved++;
            cr_assert_gt(kept_count, 0, "no buffer, though all were free");
            let_go();
        } else {
            cr_assert_gt(recv_op->last, 0);
        }
        submit(recv_op);
    }
    cr_assert_eq(recv_op->bytes_count, sizeof sent);
    cr_assert_eq(memcmp(recv_op->bytes, sent, sizeof sent), 0);
    cr_assert_gt(starved, 0, "the test did not meet what it is about");
    cr_assert_eq(counters(&fixture).enobufs, (uint64_t)starved);
    let_go();
    close(fds[1]);
    do { /* the end of the stream needs a buffer too, to the kernel */
        if (recv_op->finals)
            submit(recv_op);
    } while (finish(recv_op) == -ENOBUFS);
    cr_assert_eq(recv_op->last, 0);
    forget(recv_op);
    close(fds[0]);
    fixture_close(&fixture);
}

EVERY_TIER(a_hundred_connections_share_four_buffers)
{
    enum { CONNS = 100, ROUNDS = 20 };
    struct recorded *recvs[CONNS];
    int fds[CONNS][2];
    char text[32];
    open_with_bufs(tier, 4, 0);
    for (int i = 0; i < CONNS; i++) {
        pair(fds[i]);
        recvs[i] = record(&fixture, WEIR__OP_RECV, fds[i][0]);
        submit(recvs[i]);
    }
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < CONNS; i++) {
            int bytes = snprintf(text, sizeof text, "%d/%d;", i, round);
            cr_assert_eq(write(fds[i][1], text, (size_t)bytes), bytes);
        }
    for (int i = 0; i < CONNS; i++)
        shutdown(fds[i][1], SHUT_WR);
    bool all = false;
    for (uint64_t end_ns = clock_ns() + PATIENCE_NS; !all && clock_ns() < end_ns;) {
        cr_assert(turn(&fixture) >= 0);
        all = true;
        for (int i = 0; i < CONNS; i++) {
            if (recvs[i]->finals && recvs[i]->last != 0)
                submit(recvs[i]);
            all &= recvs[i]->finals && recvs[i]->last == 0;
        }
    }
    cr_assert(all);
    for (int i = 0; i < CONNS; i++) {
        size_t at = 0;
        for (int round = 0; round < ROUNDS; round++) {
            int bytes = snprintf(text, sizeof text, "%d/%d;", i, round);
            cr_assert_eq(memcmp(recvs[i]->bytes + at, text, (size_t)bytes), 0);
            at += (size_t)bytes;
        }
        cr_assert_eq(recvs[i]->bytes_count, at);
        forget(recvs[i]);
        close(fds[i][0]);
        close(fds[i][1]);
    }
    fixture_close(&fixture);
}

EVERY_TIER(a_ring_smaller_than_the_pool_leaves_the_rest_to_the_owners)
{
    open_with_bufs(tier, 40, 8);
    bool ring = fixture.engine->ops->features(fixture.engine) & WEIR__URING_BIT(BUFFER_RING);
    turn_now(&fixture);
    cr_assert_eq(fixture.pool.free_count, ring ? 32 : 40);
    fixture_close(&fixture);
}

Test(bufring, the_buffer_index_wraps_many_times, .timeout = 20)
{
    int fds[2];
    open_with_bufs(&(struct tier){0}, 3, 3); /* a ring of 2 entries: one is the handlers' */
    pair(fds);
    struct recorded *recv_op = record(&fixture, WEIR__OP_RECV, fds[0]);
    recv_op->rearm = true;
    submit(recv_op);
    for (uint32_t i = 0; i < 70000; i++) { /* past 65536, where the ring's tail wraps */
        cr_assert_eq(write(fds[1], &i, sizeof i), sizeof i);
        RUN_UNTIL(&fixture, recv_op->bytes_count == sizeof i);
        cr_assert_eq(memcmp(recv_op->bytes, &i, sizeof i), 0);
        recv_op->bytes_count = 0;
    }
    close(fds[1]);
    cr_assert_eq(finish(recv_op), 0);
    forget(recv_op);
    close(fds[0]);
    fixture_close(&fixture);
}

/* The buffers that the kernel may take: nobody else has any in these tests. */
static uint32_t in_ring(void)
{
    return fixture.pool.count - fixture.pool.free_count;
}

enum { MANY = 40, FEW = 8, FEW_LARGE = 3 };

/* A message of `bytes` on each of many connections, all of them there before a turn begins. */
static void receive_from_many(uint32_t bytes, size_t rounds)
{
    static const uint8_t message[65536];
    struct recorded *recvs[MANY];
    int fds[MANY][2];
    for (int i = 0; i < MANY; i++) {
        pair(fds[i]);
        recvs[i] = record(&fixture, WEIR__OP_RECV, fds[i][0]);
        recvs[i]->rearm = true;
        submit(recvs[i]);
    }
    turn_now(&fixture);
    for (size_t round = 1; round <= rounds; round++) {
        for (int i = 0; i < MANY; i++)
            cr_assert_eq(write(fds[i][1], message, bytes), (ssize_t)bytes);
        for (int i = 0; i < MANY; i++)
            RUN_UNTIL(&fixture, recvs[i]->bytes_count == round * bytes);
    }
    turn_now(&fixture); /* the ring is filled when a turn begins */
    for (int i = 0; i < MANY; i++) {
        cancel(recvs[i]);
        cr_assert_eq(finish(recvs[i]), -ECANCELED);
        forget(recvs[i]);
        close(fds[i][0]);
        close(fds[i][1]);
    }
}

static void open_with_large_bufs(void)
{
    fixture_open(&fixture, (struct fixture_options){.bufs = 256, .buf_bytes = 65536});
    turn_now(&fixture);
}

Test(bufring, a_quiet_ring_holds_few_buffers, .timeout = 20)
{
    open_with_large_bufs();
    cr_assert_gt(in_ring(), 0);
    cr_assert_leq(in_ring(), FEW);
    fixture_close(&fixture);
}

Test(bufring, a_ring_holds_what_a_turn_of_small_receives_takes, .timeout = 20)
{
    open_with_large_bufs();
    receive_from_many(100, 8);
    cr_assert_geq(in_ring(), MANY);
    fixture_close(&fixture);
}

Test(bufring, a_ring_for_large_receives_holds_few_buffers_and_serves_all, .timeout = 20)
{
    open_with_large_bufs();
    receive_from_many(65536, 8);
    cr_assert_gt(in_ring(), 0);
    cr_assert_leq(in_ring(), FEW_LARGE);
    fixture_close(&fixture);
}
