/* Overflow, late completions, loud peers. Mirrors uring/reap.c. */
#include "harness.h"

#include <poll.h>

static struct fixture fixture;

static void open_small(const struct tier *tier)
{
    fixture_open(&fixture, (struct fixture_options){
                               .engine = {.features_off = tier->off, .features_on = tier->on},
                               .tuning = {.sq_entries = 2, .cq_entries = 4},
                               .bufs = 64});
}

#define EVERY_TIER(name)                                                                           \
    ParameterizedTestParameters(reap, name)                                                        \
    {                                                                                              \
        return tier_params();                                                                      \
    }                                                                                              \
    ParameterizedTest(struct tier *tier, reap, name, .timeout = 20)

EVERY_TIER(an_overflowing_completion_queue_loses_no_completion)
{
    enum { OPS = 60 };
    struct recorded *polls[OPS];
    int fds[2];
    open_small(tier);
    pair(fds);
    for (int i = 0; i < OPS; i++) {
        polls[i] = record(&fixture, WEIR__OP_POLL, fds[0]);
        polls[i]->op.len = POLLOUT;
        submit(polls[i]);
    }
    for (int i = 0; i < OPS; i++) {
        cr_assert_eq(finish(polls[i]), POLLOUT);
        cr_assert_eq(polls[i]->count, 1);
        forget(polls[i]);
    }
    cr_assert_gt(counters(&fixture).overflows, 0, "the test did not meet what it is about");
    close(fds[0]);
    close(fds[1]);
    fixture_close(&fixture);
}

static bool ended_or_armed_again(struct recorded *recv_op)
{
    if (recv_op->finals && recv_op->last != 0)
        submit(recv_op);
    return recv_op->finals && recv_op->last == 0;
}

EVERY_TIER(receives_ended_by_overflow_go_on_without_a_byte_lost)
{
    enum { CONNS = 20, MESSAGES = 40 };
    struct recorded *recvs[CONNS];
    int fds[CONNS][2];
    open_small(tier);
    for (int i = 0; i < CONNS; i++) {
        pair(fds[i]);
        recvs[i] = record(&fixture, WEIR__OP_RECV, fds[i][0]);
        submit(recvs[i]);
    }
    for (uint16_t m = 0; m < MESSAGES; m++) {
        for (int i = 0; i < CONNS; i++)
            cr_assert_eq(write(fds[i][1], &m, sizeof m), sizeof m);
        if (m % 4 != 0)
            continue;
        cr_assert(turn_now(&fixture) >= 0);
        for (int i = 0; i < CONNS; i++)
            if (recvs[i]->finals)
                submit(recvs[i]);
    }
    for (int i = 0; i < CONNS; i++) {
        close(fds[i][1]);
        RUN_UNTIL(&fixture, ended_or_armed_again(recvs[i]));
        cr_assert_eq(recvs[i]->bytes_count, MESSAGES * sizeof(uint16_t));
        for (uint16_t m = 0; m < MESSAGES; m++)
            cr_assert_eq(memcmp(recvs[i]->bytes + m * sizeof m, &m, sizeof m), 0);
        forget(recvs[i]);
        close(fds[i][0]);
    }
    fixture_close(&fixture);
}

EVERY_TIER(accepts_ended_by_overflow_go_on_without_a_connection_lost)
{
    enum { CONNS = 50 };
    uint16_t port;
    int clients[CONNS];
    open_small(tier);
    int fd = listener(&port);
    struct recorded *accept_op = record(&fixture, WEIR__OP_ACCEPT, fd);
    accept_op->rearm = true;
    submit(accept_op);
    turn_now(&fixture);
    for (int i = 0; i < CONNS; i++)
        clients[i] = connect_to(port);
    RUN_UNTIL(&fixture, accept_op->count == CONNS);
    for (int i = 0; i < CONNS; i++) {
        cr_assert(accept_op->results[i] >= 0);
        close(accept_op->results[i]);
        close(clients[i]);
    }
    cancel(accept_op);
    cr_assert_eq(finish(accept_op), -ECANCELED);
    forget(accept_op);
    close(fd);
    fixture_close(&fixture);
}

/* Closed while a receive is armed, which core never does: close() does not cancel, so the kernel
 * still holds the old socket when its descriptor belongs to another connection. (Tiers that take
 * more than one request for a receive, or submit from another thread, have no answer to that.) */
EVERY_TIER(a_late_completion_does_not_reach_the_next_connection_on_its_descriptor)
{
    int old[2], new[2];
    fixture_open(&fixture, (struct fixture_options){
                               .engine = {.features_off = tier->off, .features_on = tier->on}});
    uint64_t granted = fixture.engine->ops->features(fixture.engine);
    if (granted & WEIR__URING_BIT(SQPOLL) || !(granted & WEIR__URING_BIT(BUFFER_RING)))
        cr_skip("not what this tier is held to");
    pair(old);
    struct recorded *old_op = record(&fixture, WEIR__OP_RECV, old[0]);
    submit(old_op);
    turn_now(&fixture);
    cr_assert_eq(write(old[1], "old", 3), 3);
    close(old[0]);
    pair(new);
    cr_assert_eq(new[0], old[0], "the descriptor was not used again");
    struct recorded *new_op = record(&fixture, WEIR__OP_RECV, new[0]);
    submit(new_op);
    cr_assert_eq(write(new[1], "new!", 4), 4);
    RUN_UNTIL(&fixture, new_op->bytes_count == 4 && old_op->bytes_count == 3);
    cr_assert_eq(memcmp(new_op->bytes, "new!", 4), 0);
    cr_assert_eq(memcmp(old_op->bytes, "old", 3), 0);
    close(old[1]); /* and the end of the old one is not the end of the new one */
    if (!old_op->finals)
        cr_assert_eq(finish(old_op), 0);
    if (!new_op->finals) {
        cancel(new_op);
        cr_assert_eq(finish(new_op), -ECANCELED);
    }
    forget(old_op);
    forget(new_op);
    close(new[0]);
    close(new[1]);
    fixture_close(&fixture);
}

EVERY_TIER(a_completion_of_an_earlier_life_of_the_op_is_dropped_and_counted)
{
    int fds[2];
    fixture_open(&fixture, (struct fixture_options){
                               .engine = {.features_off = tier->off, .features_on = tier->on}});
    pair(fds);
    struct recorded *poll_op = record(&fixture, WEIR__OP_POLL, fds[0]);
    poll_op->op.len = POLLOUT;
    cr_assert_eq(submit_and_finish(poll_op), POLLOUT);
    weir__uring_inject_stray(fixture.engine, &poll_op->op, 0); /* idle now */
    RUN_UNTIL(&fixture, more_counters(&fixture).strays == 1);
    poll_op->op.len = POLLIN; /* the same memory serves again */
    submit(poll_op);
    turn_now(&fixture);
    for (unsigned generations = 1; generations < 16; generations++) {
        weir__uring_inject_stray(fixture.engine, &poll_op->op, generations);
        RUN_UNTIL(&fixture, more_counters(&fixture).strays == 1 + generations);
    }
    cr_assert_eq(poll_op->count, 1, "a stray completion was taken for the op's own");
    cr_assert_eq(write(fds[1], "x", 1), 1);
    cr_assert(finish(poll_op) & POLLIN);
    forget(poll_op);
    close(fds[0]);
    close(fds[1]);
    fixture_close(&fixture);
}

/* A peer that sends more than all buffers hold, in tiny receives, beside quiet ones that each send
 * a byte now and then. */
EVERY_TIER(a_loud_peer_delays_a_quiet_one_by_a_bounded_number_of_completions)
{
    enum { QUIET = 8, ROUNDS = 4, LOUD_BYTES = 60000, BUF_BYTES = 64, BOUND = 200 };
    int loud[2], fds[QUIET][2];
    struct recorded *recvs[QUIET];
    static uint8_t noise[LOUD_BYTES];
    fixture_open(&fixture, (struct fixture_options){
                               .engine = {.features_off = tier->off, .features_on = tier->on},
                               .bufs = 64,
                               .buf_bytes = BUF_BYTES});
    tcp_pair(loud);
    struct recorded *loud_op = record(&fixture, WEIR__OP_RECV, loud[0]);
    loud_op->rearm = true;
    submit(loud_op);
    for (int i = 0; i < QUIET; i++) {
        tcp_pair(fds[i]);
        recvs[i] = record(&fixture, WEIR__OP_RECV, fds[i][0]);
        recvs[i]->rearm = true;
        submit(recvs[i]);
    }
    turn_now(&fixture);
    size_t made = 0;
    for (int round = 1; round <= ROUNDS; round++) {
        ssize_t n = send(loud[1], noise, sizeof noise, MSG_DONTWAIT);
        cr_assert_gt(n, 2 * BOUND * BUF_BYTES, "not loud enough: %zd", n);
        made += (size_t)n;
        for (int i = 0; i < QUIET; i++)
            cr_assert_eq(write(fds[i][1], "q", 1), 1);
        for (int i = 0; i < QUIET; i++)
            await_arrival(fds[i][0], (uint64_t)round);
        size_t loud_before = loud_op->bytes_count;
        for (int i = 0; i < QUIET; i++)
            RUN_UNTIL(&fixture, recvs[i]->bytes_count == (size_t)round);
        cr_assert_lt(loud_op->bytes_count - loud_before, (size_t)BOUND * BUF_BYTES);
        /* The rest of the noise, so that each round begins alike. */
        RUN_UNTIL(&fixture, loud_op->bytes_count == made);
    }
    for (int i = 0; i < QUIET; i++) {
        close(fds[i][1]);
        cr_assert_eq(finish(recvs[i]), 0);
        forget(recvs[i]);
        close(fds[i][0]);
    }
    close(loud[1]);
    cr_assert_eq(finish(loud_op), 0);
    forget(loud_op);
    close(loud[0]);
    fixture_close(&fixture);
}
