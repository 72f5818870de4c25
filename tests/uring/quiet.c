/* Sends that say nothing when they go whole at once, and closes that say nothing. Mirrors the quiet
 * parts of uring/submit.c. */
#include "harness.h"
#include "seccomp.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>

static struct fixture fixture;
static int fds[2];

static void open_sized(const struct tier *tier, struct weir__uring_tuning tuning)
{
    fixture_open(&fixture,
                 (struct fixture_options){
                     .engine = {.features_off = tier->off, .features_on = tier->on, .ring_bufs = 4},
                     .tuning = tuning,
                     .bufs = 64,
                     .buf_bytes = 4096});
    pair(fds);
}

static void close_all(void)
{
    close(fds[0]);
    close(fds[1]);
    fixture_close(&fixture);
}

#define EVERY_TIER(name)                                                                           \
    ParameterizedTestParameters(quiet, name)                                                       \
    {                                                                                              \
        return tier_params();                                                                      \
    }                                                                                              \
    ParameterizedTest(struct tier *tier, quiet, name, .timeout = 20)

/* A quiet send of `count` full buffers. */
static struct recorded *quiet_send(int fd, int count, int fill)
{
    struct recorded *send_op = record(&fixture, WEIR__OP_SEND_BUFS, fd);
    struct weir__buf *chain = NULL;
    for (int i = 0; i < count; i++) {
        struct weir__buf *buf = weir__buf_get(&fixture.pool);
        cr_assert_not_null(buf);
        buf->len = fixture.pool.buf_bytes;
        memset(buf->data, fill, buf->len);
        buf->next = chain;
        chain = buf;
    }
    send_op->op.buf = chain;
    send_op->op.flags = WEIR__OP_QUIET;
    return send_op;
}

static void put_chain(struct recorded *send_op)
{
    struct weir__buf *buf = send_op->op.buf, *next;
    for (; buf; buf = next) {
        next = buf->next;
        weir__buf_put(&fixture.pool, buf);
    }
    forget(send_op);
}

static size_t read_all(int fd, size_t most)
{
    static uint8_t in[1 << 20];
    size_t bytes = 0;
    for (ssize_t n; bytes < most; bytes += (size_t)n) {
        n = recv(fd, in, most - bytes < sizeof in ? most - bytes : sizeof in, MSG_DONTWAIT);
        if (n <= 0)
            break;
    }
    return bytes;
}

EVERY_TIER(a_quiet_send_is_told_when_the_wait_ends_for_another_reason)
{
    open_sized(tier, (struct weir__uring_tuning){0});
    for (int count = 1; count <= 3; count++) {
        struct recorded *send_op = quiet_send(fds[0], count, 'a');
        cr_assert_eq(submit_and_finish(send_op), count * 4096);
        cr_assert_eq(read_all(fds[1], 1 << 20), (size_t)count * 4096);
        put_chain(send_op);
    }
    close_all();
}

/* Longer than one request can carry: silence about the first part must not end the whole. */
EVERY_TIER(a_long_quiet_chain_is_sent_to_its_end)
{
    static const int counts[] = {15, 16, 17, 40};
    open_sized(tier, (struct weir__uring_tuning){0});
    for (int i = 0; i < 4; i++) {
        struct recorded *send_op = quiet_send(fds[0], counts[i], 'g');
        for (struct weir__buf *buf = send_op->op.buf; buf; buf = buf->next)
            buf->len = 100;
        cr_assert_eq(submit_and_finish(send_op), counts[i] * 100);
        cr_assert_eq(read_all(fds[1], 1 << 20), (size_t)counts[i] * 100);
        put_chain(send_op);
    }
    close_all();
}

Test(quiet, a_quiet_send_does_not_end_a_wait)
{
    open_sized(&(struct tier){0}, (struct weir__uring_tuning){0});
    if (!(fixture.engine->ops->features(fixture.engine) & WEIR__URING_BIT(QUIET_SENDS)))
        cr_skip("this kernel cannot leave out completions");
    struct recorded *send_op = quiet_send(fds[0], 1, 'a');
    submit(send_op);
    uint64_t deadline_ns = clock_ns() + 30000000;
    cr_assert_eq(fixture.engine->ops->wait(fixture.engine, deadline_ns), 1);
    cr_assert_geq(clock_ns(), deadline_ns, "the send's completion ended the wait");
    cr_assert_eq(send_op->last, 4096);
    put_chain(send_op);
    close_all();
}

EVERY_TIER(a_quiet_send_that_does_not_fit_goes_on_until_all_is_sent)
{
    enum { BUFS = 40 };
    int small = 4608;
    open_sized(tier, (struct weir__uring_tuning){0});
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    struct recorded *send_op = quiet_send(fds[0], BUFS, 'b');
    submit(send_op);
    for (int i = 0; i < 3; i++)
        turn_now(&fixture);
    cr_assert_eq(send_op->count, 0);
    size_t bytes = 0;
    RUN_UNTIL(&fixture, (bytes += read_all(fds[1], 1 << 20)) == BUFS * 4096u);
    cr_assert_eq(finish(send_op), BUFS * 4096);
    cr_assert_eq(send_op->count, 1);
    put_chain(send_op);
    close_all();
}

EVERY_TIER(a_quiet_send_that_fails_says_so_once)
{
    open_sized(tier, (struct weir__uring_tuning){0});
    close(fds[1]);
    struct recorded *send_op = quiet_send(fds[0], 2, 'c');
    cr_assert_eq(submit_and_finish(send_op), -EPIPE);
    turn_now(&fixture);
    cr_assert_eq(send_op->count, 1);
    put_chain(send_op);
    fds[1] = dup(fds[0]);
    close_all();
}

EVERY_TIER(a_cancelled_quiet_send_ends_without_waiting_for_others)
{
    open_sized(tier, (struct weir__uring_tuning){0});
    struct recorded *send_op = quiet_send(fds[0], 1, 'd');
    submit(send_op);
    cancel(send_op);
    /* For ever, if the cancel did not hurry it. */
    while (!send_op->finals)
        cr_assert(fixture.engine->ops->wait(fixture.engine, WEIR__FOREVER) >= 0);
    cr_assert(send_op->last == 4096 || send_op->last == -ECANCELED);
    cr_assert_eq(read_all(fds[1], 1 << 20), send_op->last > 0 ? 4096 : 0);
    put_chain(send_op);
    close_all();
}

/* Good and bad sends mixed, more than both queues hold: each gets its own answer. */
EVERY_TIER(quiet_sends_are_told_apart_through_small_queues)
{
    enum { SENDS = 40 };
    struct recorded *sends[SENDS];
    int broken[2];
    open_sized(tier, (struct weir__uring_tuning){.sq_entries = 4, .cq_entries = 8});
    pair(broken);
    close(broken[1]);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < SENDS; i++) {
            sends[i] = quiet_send(i % 3 == round % 3 ? broken[0] : fds[0], 1, 'e');
            submit(sends[i]);
            if (i % 16 == 15)
                turn_now(&fixture);
        }
        size_t good = 0;
        for (int i = 0; i < SENDS; i++) {
            RUN_UNTIL(&fixture, (good += read_all(fds[1], 1 << 20), sends[i]->finals));
            cr_assert_eq(sends[i]->last, i % 3 == round % 3 ? -EPIPE : 4096);
            cr_assert_eq(sends[i]->count, 1);
        }
        good += read_all(fds[1], 1 << 20);
        size_t expected = 0;
        for (int i = 0; i < SENDS; i++) {
            expected += i % 3 == round % 3 ? 0 : 4096;
            put_chain(sends[i]);
        }
        cr_assert_eq(good, expected);
    }
    close(broken[0]);
    close_all();
}

Test(quiet, a_quiet_send_the_kernel_did_not_take_is_not_done)
{
    open_sized(&(struct tier){0}, (struct weir__uring_tuning){0});
    seccomp_fail(__NR_io_uring_enter, EAGAIN, 1, UINT32_MAX);
    struct recorded *send_op = quiet_send(fds[0], 1, 'f');
    submit(send_op);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(turn_now(&fixture), 0);
    cr_assert_eq(send_op->count, 0);
    cr_assert_eq(send_op->op.state, WEIR__OP_HELD);
}

EVERY_TIER(a_quiet_close_is_performed_by_the_next_wait)
{
    char byte;
    open_sized(tier, (struct weir__uring_tuning){0});
    struct recorded *close_op = record(&fixture, WEIR__OP_CLOSE, fds[0]);
    close_op->op.flags = WEIR__OP_QUIET;
    submit(close_op);
    turn_now(&fixture);
    cr_assert_eq(read(fds[1], &byte, 1), 0);
    cr_assert_eq(fcntl(fds[0], F_GETFD), -1);
    cr_assert_eq(finish(close_op), 0);
    cr_assert_eq(close_op->count, 1);
    forget(close_op);
    close(fds[1]);
    fixture_close(&fixture);
}

Test(quiet, a_quiet_close_leaves_no_completion)
{
    open_sized(&(struct tier){0}, (struct weir__uring_tuning){0});
    if (!(fixture.engine->ops->features(fixture.engine) & WEIR__URING_BIT(CQE_SKIP)))
        cr_skip("this kernel cannot leave out completions");
    struct recorded *close_op = record(&fixture, WEIR__OP_CLOSE, fds[0]);
    close_op->op.flags = WEIR__OP_QUIET;
    cr_assert_eq(fixture.engine->ops->submit(fixture.engine, &close_op->op), WEIR__DONE);
    memset(&close_op->op, 0xff, sizeof close_op->op); /* its memory is its owner's again */
    uint64_t deadline_ns = clock_ns() + TURN_NS;
    cr_assert_eq(fixture.engine->ops->wait(fixture.engine, deadline_ns), 0);
    cr_assert_geq(clock_ns(), deadline_ns, "the close ended the wait");
    cr_assert_eq(fcntl(fds[0], F_GETFD), -1);
    cr_assert_eq(close_op->count, 0);
    close_op->op = (struct weir__op){0};
    forget(close_op);
    close(fds[1]);
    fixture_close(&fixture);
}

static void expect_closed(int fd, int peer)
{
    char byte;

    cr_assert_eq(fcntl(fd, F_GETFD), -1, "it is open still");
    cr_assert_eq(recv(peer, &byte, 1, MSG_DONTWAIT), 0);
    close(peer);
}

EVERY_TIER(a_broken_ring_is_freed_with_the_closes_it_did_not_come_to)
{
    int others[2];
    open_sized(tier, (struct weir__uring_tuning){0});
    pair(others);
    struct recorded *quiet_close = record(&fixture, WEIR__OP_CLOSE, fds[0]);
    quiet_close->op.flags = WEIR__OP_QUIET;
    struct recorded *close_op = record(&fixture, WEIR__OP_CLOSE, others[0]);
    seccomp_fail(__NR_io_uring_enter, EPERM, SECCOMP_ANY, 0);
    submit(quiet_close);
    submit(close_op);
    cr_assert_eq(turn(&fixture), -EPERM);
    fixture_close(&fixture);
    expect_closed(fds[0], fds[1]);
    expect_closed(others[0], others[1]);
}

/* The last wait() found no memory, so there was none that took it. */
Test(quiet, a_close_left_in_the_queue_is_made_when_the_engine_is_closed)
{
    open_sized(&(struct tier){0}, (struct weir__uring_tuning){0});
    if (!(fixture.engine->ops->features(fixture.engine) & WEIR__URING_BIT(CQE_SKIP)))
        cr_skip("this kernel cannot leave out completions");
    struct recorded *close_op = record(&fixture, WEIR__OP_CLOSE, fds[0]);
    close_op->op.flags = WEIR__OP_QUIET;
    seccomp_fail(__NR_io_uring_enter, EAGAIN, SECCOMP_ANY, 0);
    submit(close_op);
    cr_assert_eq(turn_now(&fixture), 0);
    forget(close_op);
    fixture_close(&fixture);
    expect_closed(fds[0], fds[1]);
}
