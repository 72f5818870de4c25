/* Deadlines, system calls per turn, and what io_uring_enter may answer. Mirrors uring/wait.c. */
#include "harness.h"
#include "seccomp.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>

#include "uring/internal.h"

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
    ParameterizedTestParameters(wait, name)                                                        \
    {                                                                                              \
        return tier_params();                                                                      \
    }                                                                                              \
    ParameterizedTest(struct tier *tier, wait, name, .timeout = 20)

EVERY_TIER(the_deadline_ends_a_wait_and_not_before)
{
    open_tier(tier);
    struct recorded *poll_op = record(&fixture, WEIR__OP_POLL, fds[0]);
    poll_op->op.len = POLLIN;
    submit(poll_op);
    turn_now(&fixture);
    for (uint64_t ns = 1000; ns < 20000000; ns *= 7) {
        uint64_t deadline_ns = clock_ns() + ns;
        cr_assert_eq(fixture.engine->ops->wait(fixture.engine, deadline_ns), 0);
        cr_assert_geq(clock_ns(), deadline_ns);
    }
    cr_assert_eq(fixture.engine->ops->wait(fixture.engine, 1), 0, "long past");
    cr_assert_eq(fixture.engine->ops->wait(fixture.engine, 0), 0);
    cancel(poll_op);
    finish(poll_op);
    forget(poll_op);
    close_tier();
}

EVERY_TIER(without_a_deadline_a_wait_lasts_until_something_comes)
{
    open_tier(tier);
    struct recorded *recv_op = record(&fixture, WEIR__OP_RECV, fds[0]);
    submit(recv_op);
    cr_assert_eq(write(fds[1], "x", 1), 1);
    while (recv_op->count == 0)
        cr_assert(fixture.engine->ops->wait(fixture.engine, WEIR__FOREVER) >= 0);
    if (!recv_op->finals) {
        cancel(recv_op);
        finish(recv_op);
    }
    forget(recv_op);
    close_tier();
}

/* One connection, echo: a receive completes, its answer is queued, the next wait() sends it. */
Test(wait, a_turn_of_an_echo_server_is_one_system_call)
{
    enum { ROUNDS = 100 };
    char byte;
    open_tier(&(struct tier){0});
    struct recorded *recv_op = record(&fixture, WEIR__OP_RECV, fds[0]);
    struct recorded *send_op = record(&fixture, WEIR__OP_SEND, fds[0]);
    submit(recv_op);
    turn_now(&fixture);
    uint64_t before = counters(&fixture).syscalls;
    for (int i = 0; i < ROUNDS; i++) {
        cr_assert_eq(write(fds[1], "x", 1), 1);
        RUN_UNTIL(&fixture, recv_op->count == i + 1);
        send_op->op.data = (void *)"y";
        send_op->op.len = 1;
        submit(send_op);
        RUN_UNTIL(&fixture, send_op->finals);
        cr_assert_eq(read(fds[1], &byte, 1), 1);
    }
    cr_assert_leq(counters(&fixture).syscalls - before, 2 * ROUNDS);
    cancel(recv_op);
    finish(recv_op);
    forget(recv_op);
    forget(send_op);
    close_tier();
}

/* Two hundred sends queued in a turn leave with one system call for each full queue, the last one
 * being wait()'s own. */
Test(wait, the_sends_of_a_turn_leave_together)
{
    enum { SENDS = 200, SQ = 64 };
    struct recorded *sends[SENDS];
    char in[SENDS];
    fixture_open(&fixture, (struct fixture_options){.tuning = {.sq_entries = SQ}});
    pair(fds);
    uint64_t before = counters(&fixture).syscalls;
    for (int i = 0; i < SENDS; i++) {
        sends[i] = record(&fixture, WEIR__OP_SEND, fds[0]);
        sends[i]->op.data = (void *)"z";
        sends[i]->op.len = 1;
        submit(sends[i]);
    }
    cr_assert_eq(turn_now(&fixture), SENDS);
    cr_assert_eq(counters(&fixture).syscalls - before, SENDS / SQ + 1);
    for (int i = 0; i < SENDS; i++) {
        cr_assert_eq(sends[i]->last, 1);
        forget(sends[i]);
    }
    cr_assert_eq(recv(fds[1], in, sizeof in, MSG_WAITALL), SENDS);
    close_tier();
}

static void on_signal(int number)
{
    (void)number;
}

static void *interrupt_often(void *thread)
{
    for (int i = 0; i < 200; i++) {
        pthread_kill(*(pthread_t *)thread, SIGUSR1);
        sched_yield();
    }
    fixture.engine->ops->wake(fixture.engine);
    return NULL;
}

EVERY_TIER(a_signal_is_no_error)
{
    struct sigaction action = {.sa_handler = on_signal};
    pthread_t self = pthread_self(), thread;
    open_tier(tier);
    sigaction(SIGUSR1, &action, NULL);
    cr_assert_eq(pthread_create(&thread, NULL, interrupt_often, &self), 0);
    while (counters(&fixture).wakes == 0)
        cr_assert_eq(fixture.engine->ops->wait(fixture.engine, WEIR__FOREVER), 0);
    pthread_join(thread, NULL);
    close_tier();
}

/* No memory for requests: nothing is lost, nothing spins, completions still arrive. */
static void refuse_submissions_with(int error)
{
    open_tier(&(struct tier){0});
    struct recorded *recv_op = record(&fixture, WEIR__OP_RECV, fds[0]);
    struct recorded *send_op = record(&fixture, WEIR__OP_SEND, fds[0]);
    submit(recv_op);
    turn_now(&fixture);
    seccomp_fail(__NR_io_uring_enter, error, 1, UINT32_MAX); /* to_submit > 0 */
    send_op->op.data = (void *)"x";
    send_op->op.len = 1;
    submit(send_op);
    uint64_t enters = counters(&fixture).syscalls;
    for (int i = 0; i < 5; i++)
        cr_assert_eq(turn(&fixture), 0);
    cr_assert_leq(counters(&fixture).syscalls - enters, 10);
    cr_assert_geq(more_counters(&fixture).short_memory, 5);
    cr_assert_eq(send_op->op.state, WEIR__OP_HELD);
    cr_assert_eq(write(fds[1], "y", 1), 1);
    RUN_UNTIL(&fixture, recv_op->count == 1);
    cr_assert_eq(recv_op->last, 1);
}

Test(wait, refused_with_eagain_a_submission_is_kept_and_completions_go_on)
{
    refuse_submissions_with(EAGAIN);
}

Test(wait, refused_with_enomem_a_submission_is_kept_and_completions_go_on)
{
    refuse_submissions_with(ENOMEM);
}

/* With the kernel refusing SQEs the queue fills: submit() says so, and a cancel waits for room. */
Test(wait, a_queue_that_cannot_be_flushed_is_busy_and_keeps_cancels)
{
    enum { SQ = 4 };
    struct recorded *held[SQ];
    fixture_open(&fixture, (struct fixture_options){.tuning = {.sq_entries = SQ, .cq_entries = 8}});
    pair(fds);
    seccomp_fail(__NR_io_uring_enter, EAGAIN, 1, UINT32_MAX);
    for (int i = 0; i < SQ; i++) {
        held[i] = record(&fixture, WEIR__OP_RECV, fds[0]);
        submit(held[i]);
    }
    struct recorded *refused = record(&fixture, WEIR__OP_RECV, fds[0]);
    cr_assert_eq(fixture.engine->ops->submit(fixture.engine, &refused->op), -EBUSY);
    cr_assert_eq(refused->op.state, WEIR__OP_IDLE);
    cancel(held[0]);
    cr_assert_eq(more_counters(&fixture).pended, 1);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(turn_now(&fixture), 0);
    cr_assert_eq(held[0]->count, 0);
    cr_assert_eq(held[0]->op.state, WEIR__OP_CANCELLING);
    forget(refused);
}

/* Refused when the cancel wants room, and when the wait makes some; the wait's own enter is taken.
 * Nothing else will ever come. */
Test(wait, a_cancel_that_waits_for_room_does_not_sleep, .timeout = 20)
{
    enum { SQ = 4 };
    struct recorded *held[SQ];
    fixture_open(&fixture, (struct fixture_options){.tuning = {.sq_entries = SQ, .cq_entries = 8}});
    pair(fds);
    for (int i = 0; i < SQ; i++) {
        held[i] = record(&fixture, WEIR__OP_POLL, fds[0]);
        held[i]->op.len = POLLIN;
        submit(held[i]);
    }
    seccomp_fail_times(__NR_io_uring_enter, EAGAIN, 1, UINT32_MAX, 2);
    cancel(held[0]);
    while (!held[0]->finals)
        cr_assert_geq(fixture.engine->ops->wait(fixture.engine, WEIR__FOREVER), 0);
    cr_assert_eq(held[0]->last, -ECANCELED);
    cr_assert_eq(more_counters(&fixture).short_memory, 2);
    forget(held[0]);
    for (int i = 1; i < SQ; i++) {
        cancel(held[i]);
        finish(held[i]);
        forget(held[i]);
    }
    close_tier();
}

/* Without a buffer ring: the socket was ready and the op has its buffer, but there is no room to
 * submit it, and then it is cancelled. */
Test(wait, a_receive_cancelled_for_want_of_room_gives_its_buffer_back, .timeout = 20)
{
    enum { SQ = 2 };
    fixture_open(&fixture,
                 (struct fixture_options){.engine = {.features_off = WEIR__URING_BIT(BUFFER_RING)},
                                          .tuning = {.sq_entries = SQ, .cq_entries = 8}});
    pair(fds);
    struct recorded *recv_op = record(&fixture, WEIR__OP_RECV, fds[0]);
    submit(recv_op);
    turn_now(&fixture);
    for (int i = 0; i < SQ; i++) {
        struct recorded *filler = record(&fixture, WEIR__OP_POLL, fds[1]);
        filler->op.len = POLLIN;
        submit(filler);
    }
    seccomp_fail(__NR_io_uring_enter, EAGAIN, 1, UINT32_MAX);
    cr_assert_eq(write(fds[1], "x", 1), 1);
    RUN_UNTIL(&fixture, more_counters(&fixture).pended == 1);
    cr_assert_eq(fixture.pool.free_count, fixture.pool.count - 1);
    cancel(recv_op);
    cr_assert_eq(finish(recv_op), -ECANCELED);
    cr_assert_eq(fixture.pool.free_count, fixture.pool.count);
    forget(recv_op);
}

static void break_with(int error)
{
    open_tier(&(struct tier){0});
    seccomp_fail(__NR_io_uring_enter, error, SECCOMP_ANY, 0);
    cr_assert_eq(turn(&fixture), -error);
    cr_assert_eq(turn(&fixture), -error, "a broken ring stays broken");
}

Test(wait, completions_lost_by_the_kernel_end_the_engine)
{
    break_with(EBADR);
}

Test(wait, a_ring_forbidden_while_in_use_ends_the_engine)
{
    break_with(EPERM);
}

Test(wait, an_overflow_that_refuses_submissions_is_no_error)
{
    open_tier(&(struct tier){0});
    seccomp_fail(__NR_io_uring_enter, EBUSY, 1, UINT32_MAX);
    struct recorded *send_op = record(&fixture, WEIR__OP_SEND, fds[0]);
    send_op->op.data = (void *)"x";
    send_op->op.len = 1;
    submit(send_op);
    cr_assert_eq(turn(&fixture), 0);
    cr_assert_eq(send_op->op.state, WEIR__OP_HELD);
}

/* ---- gathering ------------------------------------------------------------------------------- */

enum { QUIET_POLLS = 4 * WEIR__URING_GATHER_MOST };
static struct recorded *polls[QUIET_POLLS];

/* An engine that has been busy, and now holds polls of a quiet socket: its next waits gather. */
static void open_busy(void)
{
    enum { TURNS = 6, SENDS = WEIR__URING_GATHER_MOST };
    struct recorded *send_op[SENDS];
    open_tier(&(struct tier){0});
    for (int i = 0; i < QUIET_POLLS; i++) {
        polls[i] = record(&fixture, WEIR__OP_POLL, fds[0]);
        polls[i]->op.len = POLLIN;
        submit(polls[i]);
    }
    for (int i = 0; i < SENDS; i++) {
        send_op[i] = record(&fixture, WEIR__OP_SEND, fds[0]);
        send_op[i]->op.data = (void *)"x";
        send_op[i]->op.len = 1;
    }
    for (int turns = 0; turns < TURNS; turns++) {
        for (int i = 0; i < SENDS; i++)
            submit(send_op[i]);
        cr_assert_eq(turn_now(&fixture), SENDS);
    }
    for (int i = 0; i < SENDS; i++)
        forget(send_op[i]);
    struct weir__uring *uring = (struct weir__uring *)fixture.engine;
    uring->gather.bound = WEIR__URING_GATHER_MOST; /* as if that had been tried */
    cr_assert_gt(weir__uring_gather_wanted(&uring->gather), 1);
}

static void close_busy(void)
{
    for (int i = 0; i < QUIET_POLLS; i++) {
        if (!polls[i]->finals) {
            cancel(polls[i]);
            finish(polls[i]);
        }
        forget(polls[i]);
    }
    close_tier();
}

Test(wait, a_gathering_wait_settles_for_what_there_is, .timeout = 20)
{
    open_busy();
    struct recorded *send_op = record(&fixture, WEIR__OP_SEND, fds[1]);
    struct recorded *recv_op = record(&fixture, WEIR__OP_RECV, fds[1]);
    submit(recv_op);
    send_op->op.data = (void *)"y";
    send_op->op.len = 1;
    int got = fixture.engine->ops->wait(fixture.engine, WEIR__FOREVER);
    cr_assert_geq(got, 1, "it was full of what was sent before");
    submit(send_op);
    while (!send_op->finals)
        cr_assert_gt(fixture.engine->ops->wait(fixture.engine, WEIR__FOREVER), 0);
    if (!recv_op->finals) {
        cancel(recv_op);
        finish(recv_op);
    }
    forget(send_op);
    forget(recv_op);
    close_busy();
}

Test(wait, a_gathering_wait_in_which_nothing_comes_lasts_to_its_deadline, .timeout = 20)
{
    open_busy();
    for (int i = 0; i < 3; i++) {
        uint64_t deadline_ns = clock_ns() + 5000000;
        cr_assert_eq(fixture.engine->ops->wait(fixture.engine, deadline_ns), 0);
        cr_assert_geq(clock_ns(), deadline_ns);
    }
    close_busy();
}

static void *write_after_a_while(void *fd)
{
    usleep(20000);
    cr_assert_eq(write(*(int *)fd, "x", 1), 1);
    return NULL;
}

Test(wait, a_gathering_wait_without_a_deadline_does_not_return_for_nothing, .timeout = 20)
{
    pthread_t thread;
    open_busy();
    cr_assert_eq(pthread_create(&thread, NULL, write_after_a_while, &fds[1]), 0);
    cr_assert_gt(fixture.engine->ops->wait(fixture.engine, WEIR__FOREVER), 0);
    pthread_join(thread, NULL);
    close_busy();
}
