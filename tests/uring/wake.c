/* Waking from threads and signal handlers, by every means. Mirrors uring/wake.c. */
#include "harness.h"
#include "seccomp.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>

static struct fixture fixture;

static void open_tier(const struct tier *tier)
{
    fixture_open(&fixture, (struct fixture_options){
                               .engine = {.features_off = tier->off, .features_on = tier->on}});
}

#define EVERY_TIER(name)                                                                           \
    ParameterizedTestParameters(wake, name)                                                        \
    {                                                                                              \
        return tier_params();                                                                      \
    }                                                                                              \
    ParameterizedTest(struct tier *tier, wake, name, .timeout = 20)

static int wake(void)
{
    return fixture.engine->ops->wake(fixture.engine);
}

static int wait_until(uint64_t deadline_ns)
{
    return fixture.engine->ops->wait(fixture.engine, deadline_ns);
}

static uint64_t wakes(void)
{
    return counters(&fixture).wakes;
}

EVERY_TIER(a_wake_before_the_wait_ends_it)
{
    open_tier(tier);
    for (uint64_t i = 1; i <= 100; i++) {
        cr_assert_eq(wake(), 0);
        cr_assert_eq(wake(), 0); /* one is enough */
        while (wakes() < i)
            cr_assert(wait_until(WEIR__FOREVER) >= 0);
        cr_assert_eq(wakes(), i);
    }
    cr_assert_eq(turn_now(&fixture), 0);
    cr_assert_eq(wakes(), 100);
    fixture_close(&fixture);
}

static atomic_int asked, seen;

/* Asks, wakes, and asks again only when the loop has seen it. */
static void *ask_often(void *rounds)
{
    for (int i = 1; i <= *(int *)rounds; i++) {
        atomic_store(&asked, i);
        if (wake() != 0)
            return "wake failed";
        while (atomic_load(&seen) < i)
            sched_yield();
    }
    return NULL;
}

EVERY_TIER(no_wake_from_another_thread_is_lost)
{
    int rounds = 300;
    pthread_t thread;
    void *answer;
    open_tier(tier);
    cr_assert_eq(pthread_create(&thread, NULL, ask_often, &rounds), 0);
    while (atomic_load(&seen) < rounds) {
        cr_assert(wait_until(WEIR__FOREVER) >= 0); /* hangs if one is lost: see the timeout */
        atomic_store(&seen, atomic_load(&asked));
    }
    pthread_join(thread, &answer);
    cr_assert_null(answer);
    fixture_close(&fixture);
}

static atomic_int posted, stop;

static void *post_often(void *unused)
{
    (void)unused;
    for (int i = 0; i < 500; i++) {
        atomic_fetch_add(&posted, 1);
        if (wake() != 0)
            return "wake failed";
    }
    return NULL;
}

EVERY_TIER(threads_that_wake_at_once_are_all_heard)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    void *answer;
    open_tier(tier);
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, post_often, NULL), 0);
    for (int heard = 0; heard < THREADS * 500;) {
        cr_assert(wait_until(WEIR__FOREVER) >= 0);
        heard += atomic_exchange(&posted, 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &answer);
        cr_assert_null(answer);
    }
    while (turn_now(&fixture) > 0)
        ;
    fixture_close(&fixture);
}

static atomic_int handled, all_sent;

static void on_signal(int number)
{
    (void)number;
    atomic_fetch_add(&posted, 1);
    if (wake() != 0)
        atomic_store(&stop, 1);
    atomic_fetch_add(&handled, 1);
}

/* Until its handler has run: ThreadSanitizer holds a signal back until the thread's next call that
 * it knows, and the wait's system call is none, so a signal just before it would be slept over.
 * Once the handler has run, its wake alone ends the wait. */
static void send_signal(pthread_t thread)
{
    int before = atomic_load(&handled);
    do {
        pthread_kill(thread, SIGUSR1);
        for (int i = 0; i < 100 && atomic_load(&handled) == before; i++)
            usleep(100);
    } while (atomic_load(&handled) == before);
}

static void *signal_often(void *loop_thread)
{
    for (int i = 0; i < 300; i++) {
        int before = atomic_load(&seen);
        send_signal(*(pthread_t *)loop_thread);
        while (atomic_load(&seen) == before)
            sched_yield();
    }
    atomic_store(&all_sent, 1);
    return wake() == 0 ? NULL : "wake failed";
}

EVERY_TIER(a_signal_handler_on_the_loops_own_thread_wakes_it)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    pthread_t self = pthread_self(), thread;
    void *answer;
    open_tier(tier);
    sigaction(SIGUSR1, &action, NULL);
    cr_assert_eq(pthread_create(&thread, NULL, signal_often, &self), 0);
    while (!atomic_load(&all_sent)) {
        cr_assert(wait_until(WEIR__FOREVER) >= 0);
        atomic_fetch_add(&seen, atomic_exchange(&posted, 0));
    }
    pthread_join(thread, &answer);
    cr_assert_null(answer);
    cr_assert_eq(atomic_load(&stop), 0);
    fixture_close(&fixture);
}

EVERY_TIER(wakes_and_completions_arrive_side_by_side)
{
    int fds[2], rounds = 300;
    pthread_t thread;
    open_tier(tier);
    pair(fds);
    struct recorded *recv_op = record(&fixture, WEIR__OP_RECV, fds[0]);
    recv_op->rearm = true;
    submit(recv_op);
    cr_assert_eq(pthread_create(&thread, NULL, ask_often, &rounds), 0);
    size_t sent = 0;
    while (atomic_load(&seen) < rounds || recv_op->bytes_count < sent) {
        if (sent < 1000)
            sent += (size_t)write(fds[1], "x", 1);
        cr_assert(turn(&fixture) >= 0);
        atomic_store(&seen, atomic_load(&asked));
    }
    pthread_join(thread, NULL);
    cancel(recv_op);
    cr_assert_eq(finish(recv_op), -ECANCELED);
    forget(recv_op);
    close(fds[0]);
    close(fds[1]);
    fixture_close(&fixture);
}

Test(wake, each_means_is_the_one_granted)
{
    static const struct {
        uint64_t off, expected;
    } means[] = {
        {0, WEIR__URING_BIT(MSG_RING_SYNC)},
        {WEIR__URING_BIT(MSG_RING_SYNC), WEIR__URING_BIT(MSG_RING)},
        {WEIR__URING_BIT(MSG_RING_SYNC) | WEIR__URING_BIT(MSG_RING), 0},
    };
    const uint64_t all = WEIR__URING_BIT(MSG_RING_SYNC) | WEIR__URING_BIT(MSG_RING);
    uint64_t best = 0;
    for (int i = 0; i < 3; i++) {
        open_tier(&(struct tier){.off = means[i].off});
        uint64_t granted = fixture.engine->ops->features(fixture.engine) & all;
        cr_assert_eq(granted & means[i].off, 0);
        if (i == 0)
            best = granted;
        if (best == means[0].expected || (i > 0 && best != 0))
            cr_assert_eq(granted, means[i].expected);
        fixture_close(&fixture);
    }
}

/* ---- what the system calls may answer -------------------------------------------------------- */

/* The full queue's own completions end the wait, so that is no error; and it is told once more. */
Test(wake, a_message_that_found_the_queue_full_is_no_error_and_no_last_word, .timeout = 20)
{
    open_tier(&(struct tier){0});
    if (!(fixture.engine->ops->features(fixture.engine) & WEIR__URING_BIT(MSG_RING_SYNC)))
        cr_skip_test("this kernel has no messages without a ring");
    seccomp_fail_times(__NR_io_uring_register, EOVERFLOW, SECCOMP_ANY, 0, 1);
    cr_assert_eq(wake(), 0);
    cr_assert_eq(turn_now(&fixture), 0);
    cr_assert_eq(wakes(), 0, "the message was sent all the same");
    cr_assert_eq(wake(), 0);
    while (wakes() == 0)
        cr_assert_geq(wait_until(WEIR__FOREVER), 0);
    fixture_close(&fixture);
}

/* More refusals than the sender's ring has entries. */
Test(wake, a_sender_refused_by_the_kernel_says_so_and_works_again, .timeout = 20)
{
    enum { REFUSALS = 5 };
    open_tier(&(struct tier){.off = WEIR__URING_BIT(MSG_RING_SYNC)});
    if (!(fixture.engine->ops->features(fixture.engine) & WEIR__URING_BIT(MSG_RING)))
        cr_skip_test("this kernel has no messages between rings");
    seccomp_fail_times(__NR_io_uring_enter, EAGAIN, 1, UINT32_MAX, REFUSALS);
    for (int i = 0; i < REFUSALS; i++)
        cr_assert_eq(wake(), -EAGAIN);
    for (uint64_t i = 1; i <= 10; i++) {
        cr_assert_eq(wake(), 0);
        while (wakes() < i)
            cr_assert_geq(wait_until(WEIR__FOREVER), 0);
    }
    fixture_close(&fixture);
}

/* Each wake must be armed for anew. Here there is no room for that at first: the submission queue
 * is full of receives armed again, and the kernel takes none of them. */
Test(wake, an_eventfd_that_could_not_be_armed_is_armed_before_the_wait_sleeps, .timeout = 20)
{
    enum { SQ = 2 };
    int fds[SQ][2];
    struct recorded *recvs[SQ];
    uint64_t messages = WEIR__URING_BIT(MSG_RING_SYNC) | WEIR__URING_BIT(MSG_RING);
    fixture_open(&fixture, (struct fixture_options){.engine = {.features_off = messages},
                                                    .tuning = {.sq_entries = SQ}});
    for (int i = 0; i < SQ; i++) {
        pair(fds[i]);
        recvs[i] = record(&fixture, WEIR__OP_RECV, fds[i][0]);
        recvs[i]->op.flags = 0; /* one-shot */
        recvs[i]->rearm = true;
        submit(recvs[i]);
    }
    turn_now(&fixture);
    seccomp_fail_times(__NR_io_uring_enter, EAGAIN, 1, UINT32_MAX, 1);
    for (int i = 0; i < SQ; i++)
        cr_assert_eq(write(fds[i][1], "x", 1), 1);
    cr_assert_eq(wake(), 0);
    cr_assert_geq(wait_until(WEIR__FOREVER), SQ);
    cr_assert_eq(wakes(), 1);
    cr_assert_eq(more_counters(&fixture).short_memory, 1);
    cr_assert_eq(wait_until(WEIR__FOREVER), 0, "asleep without anything to wake it");
    cr_assert_eq(wake(), 0);
    while (wakes() < 2)
        cr_assert_geq(wait_until(WEIR__FOREVER), 0);
    for (int i = 0; i < SQ; i++) {
        cancel(recvs[i]);
        finish(recvs[i]);
        forget(recvs[i]);
        close(fds[i][0]);
        close(fds[i][1]);
    }
    fixture_close(&fixture);
}
