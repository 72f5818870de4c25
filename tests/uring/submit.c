/* Cancelling at every stage, and a full submission queue. Mirrors uring/submit.c. */
#include "harness.h"

#include <fcntl.h>
#include <poll.h>

static struct fixture fixture;
static int fds[2];

static void open_tier(const struct tier *tier)
{
    fixture_open(&fixture, (struct fixture_options){
                               .engine = {.features_off = tier->off, .features_on = tier->on}});
    pair(fds);
}

static void close_tier(void)
{
    close(fds[0]);
    close(fds[1]);
    fixture_close(&fixture);
}

#define EVERY_TIER(name)                                                                           \
    ParameterizedTestParameters(submit, name)                                                      \
    {                                                                                              \
        return tier_params();                                                                      \
    }                                                                                              \
    ParameterizedTest(struct tier *tier, submit, name, .timeout = 20)

static const enum weir__op_kind waiting_kinds[] = {WEIR__OP_RECV, WEIR__OP_POLL, WEIR__OP_ACCEPT};
enum { WAITING_KINDS = 3 };

static struct recorded *waiting(enum weir__op_kind kind, int listening)
{
    struct recorded *op = record(&fixture, kind, kind == WEIR__OP_ACCEPT ? listening : fds[0]);
    op->op.len = POLLIN;
    return op;
}

EVERY_TIER(cancelled_before_the_kernel_saw_it_an_op_ends_once)
{
    uint16_t port;
    open_tier(tier);
    int listening = listener(&port);
    for (int i = 0; i < WAITING_KINDS; i++) {
        struct recorded *op = waiting(waiting_kinds[i], listening);
        submit(op);
        cancel(op);
        cancel(op); /* allowed */
        cr_assert_eq(op->count, 0, "completed from inside cancel()");
        cr_assert_eq(finish(op), -ECANCELED);
        turn_now(&fixture);
        cr_assert_eq(op->count, 1);
        forget(op);
    }
    close(listening);
    close_tier();
}

EVERY_TIER(cancelled_while_armed_an_op_ends_once)
{
    uint16_t port;
    open_tier(tier);
    int listening = listener(&port);
    for (int i = 0; i < WAITING_KINDS; i++) {
        struct recorded *op = waiting(waiting_kinds[i], listening);
        submit(op);
        turn_now(&fixture);
        turn_now(&fixture);
        cancel(op);
        cr_assert_eq(op->count, 0, "completed from inside cancel()");
        cr_assert_eq(finish(op), -ECANCELED);
        turn_now(&fixture);
        cr_assert_eq(op->count, 1);
        forget(op);
    }
    close(listening);
    close_tier();
}

/* Whatever came before the cancel took effect is delivered; the op ends once; the rest of the
 * bytes is still in the socket. */
EVERY_TIER(cancelled_beside_arriving_data_a_receive_loses_no_byte)
{
    open_tier(tier);
    for (int variant = 0; variant < 4; variant++) {
        struct recorded *recv_op = record(&fixture, WEIR__OP_RECV, fds[0]);
        char rest[8] = "";
        submit(recv_op);
        if (variant > 0)
            turn_now(&fixture);
        cr_assert_eq(write(fds[1], "abcd", 4), 4);
        if (variant > 1)
            turn_now(&fixture);
        if (variant > 2 && recv_op->op.state == WEIR__OP_HELD)
            turn_now(&fixture);
        if (recv_op->op.state != WEIR__OP_IDLE)
            cancel(recv_op);
        int32_t last = finish(recv_op);
        cr_assert(last == -ECANCELED || last == 4, "ended with %d", last);
        size_t got = recv_op->bytes_count;
        if (got < 4) {
            fcntl(fds[0], F_SETFL, O_NONBLOCK);
            ssize_t n = read(fds[0], rest, sizeof rest);
            fcntl(fds[0], F_SETFL, 0);
            cr_assert_eq(n, (ssize_t)(4 - got), "variant %d: bytes were lost", variant);
        } else {
            memcpy(rest, recv_op->bytes, 4);
        }
        cr_assert_eq(memcmp(rest, "abcd", 4), 0);
        forget(recv_op);
    }
    close_tier();
}

EVERY_TIER(a_cancelled_send_ends_though_the_peer_never_reads)
{
    enum { LARGE = 8 << 20 };
    open_tier(tier);
    struct recorded *send_op = record(&fixture, WEIR__OP_SEND, fds[0]);
    uint8_t *data = calloc(1, LARGE);
    send_op->op.data = data;
    send_op->op.len = LARGE;
    submit(send_op);
    turn_now(&fixture);
    turn_now(&fixture);
    cr_assert_eq(send_op->count, 0);
    cancel(send_op);
    cr_assert_eq(finish(send_op), -ECANCELED);
    cr_assert_eq(send_op->count, 1);
    forget(send_op);
    free(data);
    close_tier();
}

EVERY_TIER(cancelling_what_has_just_finished_changes_nothing)
{
    open_tier(tier);
    struct recorded *poll_op = record(&fixture, WEIR__OP_POLL, fds[0]);
    struct recorded *other = record(&fixture, WEIR__OP_POLL, fds[0]);
    poll_op->op.len = other->op.len = POLLOUT;
    submit(poll_op);
    submit(other);
    cancel(poll_op); /* ready at submission, which comes first */
    cancel(other);
    int32_t first = finish(poll_op), second = finish(other);
    cr_assert(first == POLLOUT || first == -ECANCELED);
    cr_assert(second == POLLOUT || second == -ECANCELED);
    turn_now(&fixture);
    cr_assert_eq(poll_op->count + other->count, 2);
    forget(poll_op);
    forget(other);
    close_tier();
}

/* The order a connection is closed in: cancel, reap, close; then the descriptor is used again. */
EVERY_TIER(cancel_then_close_leaves_nothing_for_the_next_connection)
{
    open_tier(tier);
    for (int round = 0; round < 50; round++) {
        int conn[2];
        pair(conn);
        struct recorded *recv_op = record(&fixture, WEIR__OP_RECV, conn[0]);
        submit(recv_op);
        if (round % 2)
            turn_now(&fixture);
        if (round % 3 == 0)
            cr_assert_eq(write(conn[1], "late", 4), 4);
        cancel(recv_op);
        int32_t last = finish(recv_op);
        cr_assert(last == -ECANCELED || last == 4);
        struct recorded *close_op = record(&fixture, WEIR__OP_CLOSE, conn[0]);
        cr_assert_eq(submit_and_finish(close_op), 0);
        char byte;
        ssize_t n = read(conn[1], &byte, 1);
        cr_assert(n == 0 || errno == ECONNRESET, "the socket outlived its close");
        close(conn[1]);
        forget(recv_op);
        forget(close_op);
    }
    cr_assert_eq(more_counters(&fixture).strays, 0);
    close_tier();
}

EVERY_TIER(more_ops_than_the_submission_queue_holds_all_complete)
{
    enum { OPS = 300 };
    struct recorded *polls[OPS];
    fixture_open(&fixture, (struct fixture_options){
                               .engine = {.features_off = tier->off, .features_on = tier->on},
                               .tuning = {.sq_entries = 8, .cq_entries = 1024}});
    pair(fds);
    for (int i = 0; i < OPS; i++) {
        polls[i] = record(&fixture, WEIR__OP_POLL, fds[0]);
        polls[i]->op.len = i % 2 ? POLLIN : POLLOUT;
        submit(polls[i]);
    }
    for (int i = 1; i < OPS; i += 2)
        cancel(polls[i]);
    for (int i = 0; i < OPS; i++) {
        cr_assert_eq(finish(polls[i]), i % 2 ? -ECANCELED : POLLOUT);
        cr_assert_eq(polls[i]->count, 1);
        forget(polls[i]);
    }
    cr_assert_gt(more_counters(&fixture).early_flushes, 0);
    close_tier();
}

EVERY_TIER(an_op_may_be_submitted_again_from_its_own_completion)
{
    open_tier(tier);
    struct recorded *recv_op = record(&fixture, WEIR__OP_RECV, fds[0]);
    recv_op->op.flags = 0; /* one-shot on every tier */
    recv_op->rearm = true;
    submit(recv_op);
    for (int i = 1; i <= 100; i++) {
        cr_assert_eq(write(fds[1], "x", 1), 1);
        RUN_UNTIL(&fixture, recv_op->count == i);
    }
    cancel(recv_op);
    cr_assert_eq(finish(recv_op), -ECANCELED);
    forget(recv_op);
    close_tier();
}

EVERY_TIER(reading_a_non_blocking_pipe_waits_for_data)
{
    int pipe_fds[2];
    char text[8] = "";
    open_tier(tier);
    cr_assert_eq(pipe2(pipe_fds, O_NONBLOCK | O_CLOEXEC), 0);
    struct recorded *read_op = record(&fixture, WEIR__OP_READ, pipe_fds[0]);
    read_op->op.data = text;
    read_op->op.len = sizeof text;
    read_op->op.offset = (uint64_t)-1;
    submit(read_op);
    for (int i = 0; i < 5; i++)
        turn_now(&fixture);
    cr_assert_eq(read_op->count, 0, "answered %d before there was data", read_op->last);
    cr_assert_eq(write(pipe_fds[1], "pipe", 4), 4);
    cr_assert_eq(finish(read_op), 4);
    cr_assert_eq(memcmp(text, "pipe", 4), 0);
    submit(read_op); /* and while it polls it can be cancelled */
    for (int i = 0; i < 5; i++)
        turn_now(&fixture);
    cancel(read_op);
    cr_assert_eq(finish(read_op), -ECANCELED);
    forget(read_op);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    close_tier();
}
