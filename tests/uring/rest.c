/* Receives that wait as polls: nothing is lost on the way there and back. Mirrors uring/rest.c. */
#include "harness.h"

static struct fixture fixture;
static int fds[2];

static void open_all(const struct tier *tier)
{
    fixture_open(&fixture, (struct fixture_options){
                               .engine = {.features_off = tier->off, .features_on = tier->on}});
    tcp_pair(fds);
}

static void close_all(void)
{
    close(fds[0]);
    close(fds[1]);
    fixture_close(&fixture);
}

static bool can_rest(void)
{
    return fixture.engine->ops->features(fixture.engine) & WEIR__URING_BIT(REST);
}

static int rest(struct recorded *recv_op)
{
    return fixture.engine->ops->rest(fixture.engine, &recv_op->op);
}

/* Armed in the kernel. */
static struct recorded *armed(void)
{
    struct recorded *recv_op = record(&fixture, WEIR__OP_RECV, fds[0]);
    recv_op->rearm = true;
    submit(recv_op);
    turn_now(&fixture);
    return recv_op;
}

#define EVERY_TIER(name)                                                                           \
    ParameterizedTestParameters(rest, name)                                                        \
    {                                                                                              \
        return tier_params();                                                                      \
    }                                                                                              \
    ParameterizedTest(struct tier *tier, rest, name, .timeout = 20)

EVERY_TIER(a_receive_at_rest_gets_what_comes_and_the_end)
{
    open_all(tier);
    struct recorded *recv_op = armed();
    if (can_rest()) {
        cr_assert_eq(rest(recv_op), 1);
        RUN_UNTIL(&fixture, more_counters(&fixture).rests == 1);
    } else {
        cr_assert_eq(rest(recv_op), -EOPNOTSUPP);
    }
    cr_assert_eq(recv_op->count, 0, "going to rest is nobody's completion");
    for (size_t i = 1; i <= 3; i++) {
        cr_assert_eq(send(fds[1], "abc", 3, 0), 3);
        RUN_UNTIL(&fixture, recv_op->bytes_count == 3 * i);
    }
    cr_assert_eq(memcmp(recv_op->bytes, "abcabcabc", 9), 0);
    cr_assert_eq(shutdown(fds[1], SHUT_WR), 0);
    RUN_UNTIL(&fixture, recv_op->finals == 1);
    cr_assert_eq(recv_op->last, 0);
    forget(recv_op);
    close_all();
}

static void send_next(size_t *sent)
{
    cr_assert_eq(send(fds[1], &(char){(char)('a' + *sent % 26)}, 1, 0), 1);
    await_arrival(fds[0], ++*sent);
}

/* What is sent before it is told, while the cancel is queued, while the poll is, and after. */
static void meet_on_the_way(const struct tier *tier)
{
    enum { ROUNDS = 60, MOMENTS = 4 };
    size_t sent = 0;
    open_all(tier);
    struct recorded *recv_op = armed();
    for (int i = 0; i < ROUNDS; i++) {
        for (int moment = 0; moment < MOMENTS; moment++) {
            if (i % MOMENTS == moment)
                send_next(&sent);
            if (moment == 0 && can_rest())
                cr_assert_eq(rest(recv_op), 1);
            if (moment > 0)
                turn_now(&fixture);
        }
        RUN_UNTIL(&fixture, recv_op->bytes_count == sent);
        recv_op->op.flags = WEIR__OP_MULTISHOT; /* as its owner would, when it wakes again */
        send_next(&sent);
        RUN_UNTIL(&fixture, recv_op->bytes_count == sent);
    }
    for (size_t i = 0; i < sent; i++)
        cr_assert_eq(recv_op->bytes[i], 'a' + i % 26);
    cr_assert(!can_rest() || more_counters(&fixture).rests > 0);
    recv_op->rearm = false;
    cancel(recv_op);
    cr_assert_eq(finish(recv_op), -ECANCELED);
    forget(recv_op);
    close_all();
}

EVERY_TIER(bytes_that_meet_a_receive_on_its_way_to_rest_come_once_and_in_order)
{
    meet_on_the_way(tier);
}

/* Its completion is there before the cancel is submitted, and is the last. */
Test(rest, bytes_that_end_a_receive_on_its_way_to_rest_come_once_and_in_order)
{
    meet_on_the_way(
        &(struct tier){.off = WEIR__URING_BIT(MULTISHOT_RECV) | WEIR__URING_BIT(DEFER_TASKRUN) |
                              WEIR__URING_BIT(COOP_TASKRUN) | WEIR__URING_BIT(SINGLE_ISSUER)});
}

EVERY_TIER(a_receive_on_its_way_to_rest_is_cancelled_once)
{
    enum { MOMENTS = 4 };
    open_all(tier);
    for (int moment = 0; moment < MOMENTS; moment++) {
        struct recorded *recv_op = armed();
        cr_assert_eq(rest(recv_op), can_rest() ? 1 : -EOPNOTSUPP);
        for (int i = 0; i < moment; i++)
            turn_now(&fixture);
        cancel(recv_op);
        cr_assert_eq(finish(recv_op), -ECANCELED);
        turn_now(&fixture);
        cr_assert_eq(recv_op->count, 1);
        forget(recv_op);
    }
    close_all();
}

EVERY_TIER(the_end_that_meets_a_receive_on_its_way_to_rest_is_told)
{
    open_all(tier);
    struct recorded *recv_op = armed();
    cr_assert_eq(rest(recv_op), can_rest() ? 1 : -EOPNOTSUPP);
    cr_assert_eq(shutdown(fds[1], SHUT_WR), 0);
    RUN_UNTIL(&fixture, recv_op->finals == 1);
    cr_assert_eq(recv_op->last, 0);
    forget(recv_op);
    close_all();
}

EVERY_TIER(a_receive_submitted_to_rest_gets_what_comes)
{
    open_all(tier);
    struct recorded *recv_op = record(&fixture, WEIR__OP_RECV, fds[0]);
    recv_op->op.flags = WEIR__OP_REST;
    submit(recv_op);
    turn_now(&fixture);
    cr_assert_eq(recv_op->count, 0);
    cr_assert_eq(send(fds[1], "x", 1, 0), 1);
    cr_assert_eq(finish(recv_op), 1);
    cr_assert_eq(recv_op->bytes[0], 'x');
    forget(recv_op);
    close_all();
}

Test(rest, a_receive_at_rest_is_not_put_there_again)
{
    open_all(&(struct tier){0});
    struct recorded *recv_op = armed();
    if (!can_rest())
        cr_skip("no receive rests on this kernel");
    cr_assert_eq(rest(recv_op), 1);
    cr_assert_eq(rest(recv_op), 1, "it is on its way");
    RUN_UNTIL(&fixture, more_counters(&fixture).rests == 1);
    turn_now(&fixture);
    cr_assert_eq(rest(recv_op), 1, "it is there");
    for (int i = 0; i < 5; i++)
        turn_now(&fixture);
    cr_assert_eq(more_counters(&fixture).rests, 1);
    cancel(recv_op);
    cr_assert_eq(finish(recv_op), -ECANCELED);
    forget(recv_op);
    close_all();
}

Test(rest, forced_off_no_receive_rests)
{
    open_all(&(struct tier){.off = WEIR__URING_BIT(REST)});
    struct recorded *recv_op = armed();
    cr_assert(!can_rest());
    cr_assert_eq(rest(recv_op), -EOPNOTSUPP);
    cancel(recv_op);
    cr_assert_eq(finish(recv_op), -ECANCELED);
    forget(recv_op);
    close_all();
}
