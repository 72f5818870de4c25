/* Cancelling, waiting and waking, on each of the four reactors. */
#include "tests/legacy/rig.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>

static uint64_t in_ms(uint64_t ms)
{
    return rig_now_ns() + ms * 1000000u;
}

/* --- cancel
 * --------------------------------------------------------------------------------------- */

ENGINE_TEST(a_cancelled_receive_completes_in_the_next_wait_which_does_not_block)
{
    struct rig rig;
    struct task task;
    int fds[2];
    rig_open(&rig, engine_ops);
    local_pair(fds);
    task_recv(&task, &rig, fds[0]);
    task_cancel(&task);
    task_cancel(&task);
    cr_assert(eq(int, task.op.state, WEIR__OP_CANCELLING));
    cr_assert(eq(int, rig_wait(&rig), 1));
    cr_assert(eq(int, task.dones, 1));
    cr_assert(eq(int, task.op.res, -ECANCELED));
    cr_assert(not(task.more));
    /* The bytes are still there for the next one. */
    cr_assert(eq(int, (int)write(fds[1], "x", 1), 1));
    cr_assert(eq(int, rig_turns(&rig, 3), 0));
    cr_assert(eq(int, task_submit(&task), WEIR__QUEUED));
    rig_until_bytes(&rig, &task.bytes, 1);
    task_cancel(&task);
    rig_until(&rig, &task.dones, 3);
    cr_assert(eq(int, task_close(&rig, fds[0]), 0));
    close(fds[1]);
    rig_close(&rig);
}

ENGINE_TEST(a_receive_cancelled_with_bytes_waiting_takes_none)
{
    struct rig rig;
    struct task task;
    int fds[2];
    rig_open(&rig, engine_ops);
    local_pair(fds);
    cr_assert(eq(int, (int)write(fds[1], "x", 1), 1));
    task_recv(&task, &rig, fds[0]);
    task_cancel(&task);
    rig_until(&rig, &task.dones, 1);
    cr_assert(eq(int, task.op.res, -ECANCELED));
    cr_assert(eq(u64, task.bytes, 0u));
    cr_assert(eq(int, rig_turns(&rig, 3), 0));
    cr_assert(eq(int, task_close(&rig, fds[0]), 0));
    close(fds[1]);
    rig_close(&rig);
}

ENGINE_TEST(an_op_may_be_cancelled_from_its_own_completion)
{
    struct rig rig;
    struct task recv_task, accept_task;
    struct sockaddr_storage address;
    socklen_t bytes;
    int fds[2], clients[2];
    rig_open(&rig, engine_ops);
    local_pair(fds);
    task_recv(&recv_task, &rig, fds[0]);
    recv_task.cancel_in_done = true;
    cr_assert(eq(int, (int)write(fds[1], "x", 1), 1));
    rig_until(&rig, &recv_task.dones, 2);
    cr_assert(eq(int, recv_task.op.res, -ECANCELED));
    int listener = tcp_listener(4, &address, &bytes);
    for (int i = 0; i < 2; i++) {
        clients[i] = tcp_socket();
        cr_assert(eq(int, connect(clients[i], (struct sockaddr *)&address, bytes), 0));
    }
    task_init(&accept_task, &rig, WEIR__OP_ACCEPT, listener);
    accept_task.op.flags = WEIR__OP_MULTISHOT;
    accept_task.cancel_in_done = true;
    cr_assert(eq(int, task_submit(&accept_task), WEIR__QUEUED));
    rig_until(&rig, &accept_task.dones, 2);
    cr_assert(eq(int, accept_task.op.res, -ECANCELED));
    cr_assert(eq(int, accept_task.fd_count, 1));
    cr_assert(eq(int, rig_turns(&rig, 3), 0));
    close(accept_task.fds[0]);
    close(clients[0]);
    close(clients[1]);
    close(listener);
    cr_assert(eq(int, task_close(&rig, fds[0]), 0));
    close(fds[1]);
    rig_close(&rig);
}

ENGINE_TEST(a_cancelled_send_stops_where_it_is)
{
    static uint8_t data[1 << 20], got[1 << 20];
    struct rig rig;
    struct task task;
    int fds[2];
    size_t at = 0;
    rig_open(&rig, engine_ops);
    local_pair(fds);
    fill_pattern(data, sizeof data, 5);
    cr_assert(eq(int, task_send(&task, &rig, fds[0], data, sizeof data), WEIR__QUEUED));
    task_cancel(&task);
    rig_until(&rig, &task.dones, 1);
    cr_assert(eq(int, task.op.res, -ECANCELED));
    for (int turns = 0; turns < 1000; turns++) {
        ssize_t n = read(fds[1], got + at, sizeof got - at);
        at += n > 0 ? (size_t)n : 0;
        cr_assert(eq(int, rig_turns(&rig, 1), 0));
    }
    cr_assert(lt(sz, at, sizeof data));
    cr_assert(eq(int, memcmp(data, got, at), 0));
    /* The descriptor is of further use. */
    cr_assert(eq(int, task_send(&task, &rig, fds[0], "x", 1), WEIR__DONE));
    cr_assert(eq(int, task_close(&rig, fds[0]), 0));
    close(fds[1]);
    rig_close(&rig);
}

ENGINE_TEST(cancelling_one_direction_leaves_the_other)
{
    static uint8_t data[1 << 20], got[1 << 20];
    struct rig rig;
    struct task send_task, recv_task;
    int fds[2];
    rig_open(&rig, engine_ops);
    local_pair(fds);
    task_recv(&recv_task, &rig, fds[0]);
    cr_assert(eq(int, task_send(&send_task, &rig, fds[0], data, sizeof data), WEIR__QUEUED));
    task_cancel(&send_task);
    rig_until(&rig, &send_task.dones, 1);
    cr_assert(eq(int, (int)write(fds[1], "x", 1), 1));
    rig_until(&rig, &recv_task.dones, 1);
    while (read(fds[1], got, sizeof got) > 0)
        continue;
    cr_assert(eq(int, task_send(&send_task, &rig, fds[0], data, sizeof data), WEIR__QUEUED));
    task_cancel(&recv_task);
    rig_until(&rig, &recv_task.dones, 2);
    for (int turns = 0; turns < 100000 && !send_task.dones; turns++) {
        while (read(fds[1], got, sizeof got) > 0)
            continue;
        rig_turns(&rig, 1);
    }
    cr_assert(eq(int, send_task.op.res, (int)sizeof data));
    cr_assert(eq(int, task_close(&rig, fds[0]), 0));
    close(fds[1]);
    rig_close(&rig);
}

/* What one op of a turn does to another that is ready in the same turn. */
struct killer {
    struct task task; /* first */
    struct task *victims[8];
    int count;
};

static void kill_others(struct weir__op *op)
{
    struct killer *killer = (struct killer *)op;
    killer->task.dones++;
    if (op->buf)
        weir__buf_put(&killer->task.rig->bufs, op->buf);
    op->buf = NULL;
    for (int i = 0; op->res > 0 && i < killer->count; i++)
        if (killer->victims[i]->op.state == WEIR__OP_HELD)
            task_cancel(killer->victims[i]);
}

ENGINE_TEST(an_op_may_be_cancelled_by_another_of_the_same_turn)
{
    enum { COUNT = 8 };
    struct rig rig;
    struct killer killers[COUNT];
    int fds[COUNT][2], completed = 0;
    rig_open(&rig, engine_ops);
    for (int i = 0; i < COUNT; i++) {
        local_pair(fds[i]);
        task_recv(&killers[i].task, &rig, fds[i][0]);
        killers[i].task.op.done = kill_others;
        killers[i].count = 0;
        for (int j = 0; j < COUNT; j++)
            if (j != i)
                killers[i].victims[killers[i].count++] = &killers[j].task;
    }
    for (int i = 0; i < COUNT; i++)
        cr_assert(eq(int, (int)write(fds[i][1], "x", 1), 1));
    struct weir__engine_counters before = rig_counters(&rig);
    rig_turns(&rig, 4);
    struct weir__engine_counters after = rig_counters(&rig);
    if (engine_ops == &weir__engine_poll || engine_ops == &weir__engine_select)
        cr_assert(eq(u64, after.syscalls - before.syscalls, after.waits - before.waits + 1),
                  "one served, the others not tried: also not those that moved meanwhile");
    for (int i = 0; i < COUNT; i++) {
        completed += killers[i].task.dones;
        cr_assert(eq(int, killers[i].task.dones, 1));
        if (killers[i].task.op.state == WEIR__OP_HELD) {
            task_cancel(&killers[i].task);
            rig_turns(&rig, 1);
        }
        cr_assert(eq(int, task_close(&rig, fds[i][0]), 0));
        close(fds[i][1]);
    }
    cr_assert(eq(int, completed, COUNT));
    rig_close(&rig);
}

/* --- deadlines
 * ------------------------------------------------------------------------------------ */

ENGINE_TEST(a_wait_ends_at_its_deadline_and_not_before)
{
    struct rig rig;
    rig_open(&rig, engine_ops);
    for (int i = 0; i < 5; i++) {
        uint64_t deadline_ns = in_ms(3) + 137;
        uint64_t waits = rig_counters(&rig).waits;
        cr_assert(eq(int, rig.ops->wait(rig.engine, deadline_ns), 0));
        cr_assert(ge(u64, rig_now_ns(), deadline_ns));
        cr_assert(eq(u64, rig_counters(&rig).waits, waits + 1));
    }
    cr_assert(eq(int, rig.ops->wait(rig.engine, 0), 0));
    cr_assert(eq(int, rig.ops->wait(rig.engine, 1), 0), "a deadline long past");
    rig_close(&rig);
}

ENGINE_TEST(a_deadline_ages_away_does_not_overflow)
{
    struct rig rig;
    struct task task;
    int fds[2];
    rig_open(&rig, engine_ops);
    local_pair(fds);
    task_recv(&task, &rig, fds[0]);
    cr_assert(eq(int, (int)write(fds[1], "x", 1), 1));
    cr_assert(eq(int, rig.ops->wait(rig.engine, WEIR__FOREVER), 1));
    cr_assert(eq(int, (int)write(fds[1], "x", 1), 1));
    cr_assert(eq(int, rig.ops->wait(rig.engine, WEIR__FOREVER - 1), 1));
    cr_assert(eq(int, (int)write(fds[1], "x", 1), 1));
    cr_assert(eq(int, rig.ops->wait(rig.engine, in_ms(60ull * 86400 * 1000)), 1));
    task_cancel(&task);
    rig_until(&rig, &task.dones, 4);
    cr_assert(eq(int, task_close(&rig, fds[0]), 0));
    close(fds[1]);
    rig_close(&rig);
}

static void nothing(int signal_number) {}

ENGINE_TEST(a_signal_ends_the_wait_with_nothing)
{
    struct rig rig;
    struct sigaction action = {.sa_handler = nothing};
    timer_t timer;
    struct itimerspec soon = {.it_value.tv_nsec = 20000000, .it_interval.tv_nsec = 20000000};
    rig_open(&rig, engine_ops);
    cr_assert(eq(int, sigaction(SIGALRM, &action, NULL), 0));
    cr_assert(eq(int, timer_create(CLOCK_MONOTONIC, NULL, &timer), 0));
    cr_assert(eq(int, timer_settime(timer, 0, &soon, NULL), 0));
    uint64_t deadline_ns = in_ms(10000);
    cr_assert(eq(int, rig.ops->wait(rig.engine, deadline_ns), 0));
    cr_assert(lt(u64, rig_now_ns(), deadline_ns));
    timer_delete(timer);
    rig_close(&rig);
}

/* --- wake
 * ----------------------------------------------------------------------------------------- */

ENGINE_TEST(a_wake_before_the_wait_ends_it_once)
{
    struct rig rig;
    rig_open(&rig, engine_ops);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 3; i++)
            cr_assert(eq(int, rig.ops->wake(rig.engine), 0));
        cr_assert(eq(int, rig_wait(&rig), 0));
        cr_assert(eq(u64, rig_counters(&rig).wakes, (uint64_t)round + 1));
        uint64_t deadline_ns = in_ms(2);
        cr_assert(eq(int, rig.ops->wait(rig.engine, deadline_ns), 0));
        cr_assert(ge(u64, rig_now_ns(), deadline_ns), "three wakes woke twice");
    }
    rig_close(&rig);
}

struct waker {
    struct rig *rig;
    atomic_int sent, seen;
};

enum { WAKES = 2000 };

static void *wake_often(void *argument)
{
    struct waker *waker = argument;
    for (int i = 1; i <= WAKES; i++) {
        atomic_store(&waker->sent, i);
        waker->rig->ops->wake(waker->rig->engine);
        if (i % 3 == 0) /* often the loop is asleep, often it is not */
            while (atomic_load(&waker->seen) < i)
                sched_yield();
    }
    return NULL;
}

/* The waker writes, then wakes; the loop waits forever, then reads. A lost wake hangs. */
ENGINE_TEST(no_wake_from_another_thread_is_lost)
{
    struct rig rig;
    struct waker waker = {.rig = &rig};
    pthread_t thread;
    rig_open(&rig, engine_ops);
    cr_assert(eq(int, pthread_create(&thread, NULL, wake_often, &waker), 0));
    uint64_t limit_ns = in_ms(RIG_LIMIT_S * 1000);
    while (atomic_load(&waker.seen) < WAKES) {
        cr_assert(eq(int, rig.ops->wait(rig.engine, limit_ns), 0));
        cr_assert(lt(u64, rig_now_ns(), limit_ns));
        atomic_store(&waker.seen, atomic_load(&waker.sent));
    }
    pthread_join(thread, NULL);
    rig_close(&rig);
}

static struct rig *signalled_rig;
static volatile sig_atomic_t wake_rc;

static void wake_in_handler(int signal_number)
{
    errno = 4711;
    wake_rc = signalled_rig->ops->wake(signalled_rig->engine);
    wake_rc |= errno != 4711;
}

ENGINE_TEST(a_wake_may_come_from_a_signal_handler)
{
    struct rig rig;
    struct sigaction action = {.sa_handler = wake_in_handler};
    rig_open(&rig, engine_ops);
    signalled_rig = &rig;
    wake_rc = -1;
    cr_assert(eq(int, sigaction(SIGUSR1, &action, NULL), 0));
    raise(SIGUSR1);
    cr_assert(eq(int, wake_rc, 0));
    cr_assert(eq(int, rig_wait(&rig), 0));
    rig_close(&rig);
}

ENGINE_TEST(a_wake_that_failed_says_so_and_the_next_one_tries_again)
{
    struct rig rig;
    rig_open(&rig, engine_ops);
    struct weir__reactor *reactor = (struct weir__reactor *)rig.engine;
    int wake_fd = reactor->wake_fd;
    reactor->wake_fd = -1;
    cr_assert(eq(int, rig.ops->wake(rig.engine), -EBADF));
    reactor->wake_fd = wake_fd;
    cr_assert(eq(int, rig.ops->wake(rig.engine), 0));
    cr_assert(eq(int, rig_wait(&rig), 0));
    cr_assert(eq(u64, rig_counters(&rig).wakes, 1u));
    rig_close(&rig);
}
