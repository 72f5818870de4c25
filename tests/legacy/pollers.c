/*
 * What one poller must do and the others need not: how few system calls it makes, that it never
 * spins, features forced off, and descriptors beyond what the classic calls allow. Counts are
 * exact: they come from the engine's own counters.
 */
#include "tests/legacy/rig.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { PWAIT2 = 1, SHORT_READ = 2, BIG_FDSET = 1 };

static void raise_nofile(void)
{
    struct rlimit limit;
    cr_assert(eq(int, getrlimit(RLIMIT_NOFILE, &limit), 0));
    limit.rlim_cur = limit.rlim_max;
    cr_assert(eq(int, setrlimit(RLIMIT_NOFILE, &limit), 0));
}

/* The waits that enter the kernel until the deadline passes: 1 where nothing spins. */
static uint64_t waits_in_a_while(struct rig *rig)
{
    uint64_t before = rig_counters(rig).waits, deadline_ns = rig_now_ns() + 20000000;
    while (rig_now_ns() < deadline_ns)
        rig->ops->wait(rig->engine, deadline_ns);
    return rig_counters(rig).waits - before;
}

/* --- system calls of a request
 * ---------------------------------------------------------------------- */

static uint64_t syscalls_of_100_requests(const struct weir__engine_ops *engine_ops,
                                         uint64_t features_off)
{
    struct weir__engine_options options = {.features_off = features_off};
    struct rig rig;
    struct task recv_task, send_task;
    int fds[2];
    char answer[8];
    rig_open_with(&rig, engine_ops, &options, 16, 4096);
    local_pair(fds);
    task_recv(&recv_task, &rig, fds[0]);
    uint64_t before = rig_counters(&rig).syscalls;
    for (int i = 1; i <= 100; i++) {
        cr_assert(eq(int, (int)write(fds[1], "request", 7), 7));
        rig_until(&rig, &recv_task.dones, i);
        cr_assert(eq(int, task_send(&send_task, &rig, fds[0], "answer", 6), WEIR__DONE));
        cr_assert(eq(int, (int)read(fds[1], answer, sizeof answer), 6));
    }
    uint64_t syscalls = rig_counters(&rig).syscalls - before;
    close(fds[1]);
    rig_until(&rig, &recv_task.dones, 101);
    cr_assert(eq(int, recv_task.op.res, 0));
    cr_assert(eq(int, task_close(&rig, fds[0]), 0));
    rig_close(&rig);
    return syscalls;
}

ENGINE_TEST(a_request_is_one_wait_one_recv_and_one_send)
{
    cr_assert(eq(u64, syscalls_of_100_requests(engine_ops, 0), 300u));
}

Test(epoll_et, without_short_read_a_request_costs_one_recv_more)
{
    cr_assert(eq(u64, syscalls_of_100_requests(&weir__engine_epoll_et, SHORT_READ), 400u));
}

/* poll() and select() cost O(descriptors): what one call found is served before the next. */
static uint64_t waits_to_serve_200(const struct weir__engine_ops *engine_ops)
{
    enum { CONNS = 200 };
    struct rig rig;
    static struct task tasks[CONNS];
    int fds[CONNS][2], served = 0;
    rig_open(&rig, engine_ops);
    for (int i = 0; i < CONNS; i++) {
        local_pair(fds[i]);
        task_recv(&tasks[i], &rig, fds[i][0]);
        cr_assert(eq(int, (int)write(fds[i][1], "x", 1), 1));
    }
    uint64_t before = rig_counters(&rig).waits;
    for (int turns = 0; turns < 100 && served < CONNS; turns++) {
        int n = rig_turns(&rig, 1);
        cr_assert(le(int, n, WEIR__TURN_EVENTS));
        served += n;
    }
    cr_assert(eq(int, served, CONNS));
    uint64_t waits = rig_counters(&rig).waits - before;
    for (int i = 0; i < CONNS; i++) {
        cr_assert(eq(u64, tasks[i].bytes, 1u));
        close(fds[i][1]);
    }
    for (int i = 0; i < CONNS; i++) {
        rig_until(&rig, &tasks[i].dones, 2);
        cr_assert(eq(int, task_close(&rig, fds[i][0]), 0));
    }
    rig_close(&rig);
    return waits;
}

Test(poll, one_call_serves_all_it_found)
{
    cr_assert(eq(u64, waits_to_serve_200(&weir__engine_poll), 1u));
}

Test(select, one_call_serves_all_it_found)
{
    cr_assert(eq(u64, waits_to_serve_200(&weir__engine_select), 1u));
}

Test(epoll, a_turn_serves_what_stays_in_cache)
{
    cr_assert(eq(u64, waits_to_serve_200(&weir__engine_epoll), 4u));
}

/* --- nothing spins
 * ------------------------------------------------------------------------------------ */

ENGINE_TEST(input_that_nobody_waits_for_does_not_spin)
{
    struct rig rig;
    struct task task;
    int fds[2];
    rig_open(&rig, engine_ops);
    local_pair(fds);
    task_init(&task, &rig, WEIR__OP_RECV, fds[0]);
    cr_assert(eq(int, task_submit(&task), WEIR__QUEUED));
    cr_assert(eq(int, (int)write(fds[1], "x", 1), 1));
    rig_until(&rig, &task.dones, 1);
    cr_assert(eq(int, (int)write(fds[1], "y", 1), 1));
    cr_assert(le(u64, waits_in_a_while(&rig), 2u));
    close(fds[1]);
    cr_assert(le(u64, waits_in_a_while(&rig), 2u), "a hang-up spins");
    cr_assert(eq(int, task_submit(&task), WEIR__QUEUED));
    rig_until(&rig, &task.dones, 2);
    cr_assert(eq(int, task.op.res, 1));
    cr_assert(eq(int, task_submit(&task), WEIR__QUEUED));
    rig_until(&rig, &task.dones, 3);
    cr_assert(eq(int, task.op.res, 0));
    cr_assert(le(u64, waits_in_a_while(&rig), 2u), "the end of the stream spins");
    cr_assert(eq(int, task_close(&rig, fds[0]), 0));
    rig_close(&rig);
}

ENGINE_TEST(room_that_nobody_waits_for_does_not_spin)
{
    static uint8_t data[1 << 20], got[1 << 20];
    struct rig rig;
    struct task send_task, recv_task;
    int fds[2];
    rig_open(&rig, engine_ops);
    local_pair(fds);
    task_recv(&recv_task, &rig, fds[0]);
    cr_assert(eq(int, task_send(&send_task, &rig, fds[0], data, sizeof data), WEIR__QUEUED));
    for (int turns = 0; turns < 100000 && !send_task.dones; turns++) {
        while (read(fds[1], got, sizeof got) > 0)
            continue;
        rig_turns(&rig, 1);
    }
    cr_assert(eq(int, send_task.dones, 1));
    while (read(fds[1], got, sizeof got) > 0)
        continue;
    /* Level-triggered, the interest goes before it can end a wait for nothing. */
    cr_assert(le(u64, waits_in_a_while(&rig), engine_ops == &weir__engine_epoll_et ? 2u : 1u));
    task_cancel(&recv_task);
    rig_until(&rig, &recv_task.dones, 1);
    cr_assert(eq(int, task_close(&rig, fds[0]), 0));
    close(fds[1]);
    rig_close(&rig);
}

/* A stream of long sends: output interest stays while the next send follows at once, so the set is
 * changed about once in all, not twice a send. */
Test(epoll, long_sends_one_after_another_leave_the_interest_alone)
{
    static uint8_t data[1 << 18], got[1 << 20];
    struct rig rig;
    struct task task;
    int fds[2];
    uint64_t sends = 0, reads = 0;
    rig_open(&rig, &weir__engine_epoll);
    local_pair(fds);
    task_send(&task, &rig, fds[0], data, sizeof data);
    uint64_t before = rig_counters(&rig).syscalls, waits = rig_counters(&rig).waits;
    for (int turns = 0; turns < 100000 && sends < 50; turns++) {
        while (read(fds[1], got, sizeof got) > 0)
            reads++;
        rig_turns(&rig, 1);
        if (task.dones) {
            sends++;
            cr_assert(eq(int, task_send(&task, &rig, fds[0], data, sizeof data), WEIR__QUEUED));
        }
    }
    uint64_t calls = rig_counters(&rig).syscalls - before - (rig_counters(&rig).waits - waits);
    uint64_t most = reads + 2 * sends + 10; /* sends that found room, and those that found none */
    cr_assert(eq(u64, sends, 50u));
    cr_assert(le(u64, calls, most), "%ju calls, %ju expected at most", (uintmax_t)calls,
              (uintmax_t)most);
    task_cancel(&task);
    rig_until(&rig, &task.dones, 1);
    cr_assert(eq(int, task_close(&rig, fds[0]), 0));
    close(fds[1]);
    rig_close(&rig);
}

/* --- numbers and their descriptors
 * -------------------------------------------------------------------- */

/* close() leaves an epoll entry behind while a duplicate lives; it must neither spin nor reach the
 * connection that gets the number next. */
ENGINE_TEST(a_duplicate_of_a_closed_descriptor_neither_spins_nor_reaches_its_successor)
{
    struct rig rig;
    struct task first, second, bystander;
    int old[2], next[2], other[2];
    rig_open(&rig, engine_ops);
    local_pair(other);
    task_recv(&bystander, &rig, other[0]);
    local_pair(old);
    task_recv(&first, &rig, old[0]);
    int duplicate = dup(old[0]);
    task_cancel(&first);
    rig_until(&rig, &first.dones, 1);
    cr_assert(eq(int, task_close(&rig, old[0]), 0));
    cr_assert(eq(int, (int)write(old[1], "for the duplicate", 17), 17));
    cr_assert(le(u64, waits_in_a_while(&rig), 3u));
    local_pair(next);
    cr_assert(eq(int, next[0], old[0]), "the kernel gave another number");
    task_recv(&second, &rig, next[0]);
    cr_assert(eq(int, (int)write(old[1], "more of it", 10), 10));
    rig_turns(&rig, 5);
    cr_assert(eq(int, second.dones, 0));
    cr_assert(le(u64, waits_in_a_while(&rig), 3u));
    cr_assert(eq(int, (int)write(next[1], "x", 1), 1));
    cr_assert(eq(int, (int)write(other[1], "y", 1), 1));
    rig_until(&rig, &second.dones, 1);
    rig_until(&rig, &bystander.dones, 1);
    cr_assert(eq(int, rig.ops->wake(rig.engine), 0));
    cr_assert(eq(int, rig_wait(&rig), 0));
    task_cancel(&second);
    task_cancel(&bystander);
    rig_turns(&rig, 1);
    cr_assert(eq(int, task_close(&rig, next[0]) | task_close(&rig, other[0]), 0));
    close(duplicate);
    close(old[1]);
    close(next[1]);
    close(other[1]);
    rig_close(&rig);
}

/* The duplicate is made ready only after its number has a successor, which is watched. */
ENGINE_TEST(a_stale_entry_beside_its_successor_is_got_rid_of)
{
    struct rig rig;
    struct task task;
    int old[2], next[2];
    rig_open(&rig, engine_ops);
    local_pair(old);
    task_recv(&task, &rig, old[0]);
    int duplicate = dup(old[0]);
    task_cancel(&task);
    rig_until(&rig, &task.dones, 1);
    cr_assert(eq(int, task_close(&rig, old[0]), 0));
    local_pair(next);
    task_recv(&task, &rig, next[0]);
    cr_assert(eq(int, (int)write(old[1], "x", 1), 1));
    cr_assert(le(u64, waits_in_a_while(&rig), 3u));
    cr_assert(eq(int, task.dones, 0));
    cr_assert(eq(int, (int)write(next[1], "y", 1), 1));
    rig_until(&rig, &task.dones, 1);
    task_cancel(&task);
    rig_turns(&rig, 1);
    cr_assert(eq(int, task_close(&rig, next[0]), 0));
    close(duplicate);
    close(old[1]);
    close(next[1]);
    rig_close(&rig);
}

ENGINE_TEST(a_number_closed_and_used_again_starts_anew)
{
    struct rig rig;
    struct task task;
    int fds[2], number = -1;
    rig_open(&rig, engine_ops);
    for (int i = 0; i < 200; i++) {
        local_pair(fds);
        cr_assert(number == -1 || number == fds[0]);
        number = fds[0];
        task_recv(&task, &rig, fds[0]);
        cr_assert(eq(int, (int)write(fds[1], "x", 1), 1));
        rig_until(&rig, &task.dones, 1);
        close(fds[1]);
        rig_until(&rig, &task.dones, 2);
        cr_assert(eq(int, task.op.res, 0));
        cr_assert(eq(int, task_close(&rig, fds[0]), 0));
    }
    cr_assert(eq(int, rig_turns(&rig, 3), 0));
    rig_close(&rig);
}

/* --- many
 * --------------------------------------------------------------------------------------------- */

ENGINE_TEST(thousands_of_descriptors_are_served)
{
    enum { CONNS = 3000 };
    struct rig rig;
    static struct task tasks[CONNS];
    static int fds[CONNS][2];
    raise_nofile();
    rig_open(&rig, engine_ops);
    for (int i = 0; i < CONNS; i++) {
        local_pair(fds[i]);
        task_recv(&tasks[i], &rig, fds[i][0]);
    }
    for (int i = 0; i < CONNS; i += 7)
        cr_assert(eq(int, (int)write(fds[i][1], "x", 1), 1));
    for (int i = 0; i < CONNS; i += 7)
        rig_until(&rig, &tasks[i].dones, 1);
    for (int i = 0; i < CONNS; i++)
        cr_assert(eq(u64, tasks[i].bytes, i % 7 == 0 ? 1u : 0u));
    for (int i = 0; i < CONNS; i++)
        close(fds[i][1]);
    for (int i = 0; i < CONNS; i++) {
        rig_until(&rig, &tasks[i].dones, i % 7 == 0 ? 2 : 1);
        cr_assert(eq(int, task_close(&rig, fds[i][0]), 0));
    }
    rig_close(&rig);
}

ENGINE_TEST(the_highest_descriptor_the_process_may_have_is_served)
{
    struct rig rig;
    struct task task;
    struct rlimit limit;
    int fds[2];
    raise_nofile();
    cr_assert(eq(int, getrlimit(RLIMIT_NOFILE, &limit), 0));
    rig_open(&rig, engine_ops);
    local_pair(fds);
    int high = fcntl(fds[0], F_DUPFD_CLOEXEC, (int)(limit.rlim_cur - 1));
    cr_assert(eq(int, high, (int)(limit.rlim_cur - 1)));
    task_recv(&task, &rig, high);
    cr_assert(eq(int, (int)write(fds[1], "x", 1), 1));
    rig_until(&rig, &task.dones, 1);
    cr_assert(eq(int, task.op.res, 1));
    task_cancel(&task);
    rig_until(&rig, &task.dones, 2);
    cr_assert(eq(int, task_close(&rig, high), 0));
    close(fds[0]);
    close(fds[1]);
    rig_close(&rig);
}

/* --- fairness
 * ----------------------------------------------------------------------------------------- */

ENGINE_TEST(a_loud_peer_starves_nobody)
{
    enum { QUIET = 20 };
    static uint8_t noise[1 << 20];
    struct rig rig;
    struct task loud, quiet[QUIET];
    int loud_fds[2], fds[QUIET][2];
    rig_open_with(&rig, engine_ops, &(struct weir__engine_options){0}, 32, 256);
    local_pair(loud_fds);
    task_recv(&loud, &rig, loud_fds[0]);
    for (int i = 0; i < QUIET; i++) {
        local_pair(fds[i]);
        task_recv(&quiet[i], &rig, fds[i][0]);
    }
    while (write(loud_fds[1], noise, sizeof noise) > 0)
        continue;
    for (int i = 0; i < QUIET; i++)
        cr_assert(eq(int, (int)write(fds[i][1], "x", 1), 1));
    uint64_t before = loud.bytes;
    rig_turns(&rig, 2);
    for (int i = 0; i < QUIET; i++)
        cr_assert(eq(u64, quiet[i].bytes, 1u));
    cr_assert(le(u64, loud.bytes - before, 2u * WEIR__TURN_RECVS * 256));
    close(loud_fds[1]);
    rig_until(&rig, &quiet[0].dones, 1);
    for (int turns = 0; turns < 100000 && loud.more; turns++)
        rig_turns(&rig, 1);
    cr_assert(eq(int, loud.op.res, 0));
    cr_assert(eq(int, task_close(&rig, loud_fds[0]), 0));
    for (int i = 0; i < QUIET; i++) {
        close(fds[i][1]);
        rig_until(&rig, &quiet[i].dones, 2);
        cr_assert(eq(int, task_close(&rig, fds[i][0]), 0));
    }
    rig_close(&rig);
}

/* --- edges: what may stand behind a short read
 * ----------------------------------------------------------- */

static void data_then(void (*more)(int fd), bool later, int expected_res)
{
    struct rig rig;
    struct task task;
    int fds[2];
    rig_open(&rig, &weir__engine_epoll_et);
    tcp_pair(fds);
    if (later)
        task_recv(&task, &rig, fds[0]);
    cr_assert(eq(int, (int)send(fds[1], "abc", 3, 0), 3));
    more(fds[1]);
    if (!later)
        task_recv(&task, &rig, fds[0]);
    uint64_t limit_ns = rig_now_ns() + RIG_LIMIT_S * 1000000000ull;
    while (task.op.state != WEIR__OP_IDLE) {
        cr_assert(ge(int, rig.ops->wait(rig.engine, limit_ns), 0));
        cr_assert(lt(u64, rig_now_ns(), limit_ns), "the edge is lost");
    }
    cr_assert(eq(int, task.op.res, expected_res));
    cr_assert(eq(int, task_close(&rig, fds[0]), 0));
    rig_close(&rig);
}

static void then_close(int fd)
{
    close(fd);
}

static void then_urgent_then_close(int fd)
{
    cr_assert(eq(int, (int)send(fd, "!", 1, MSG_OOB), 1));
    cr_assert(eq(int, (int)send(fd, "def", 3, 0), 3));
    close(fd);
}

Test(epoll_et, an_end_that_came_with_the_data_is_seen)
{
    data_then(then_close, false, 0);
    data_then(then_close, true, 0);
}

Test(epoll_et, data_behind_urgent_data_is_seen)
{
    data_then(then_urgent_then_close, false, 0);
    data_then(then_urgent_then_close, true, 0);
}

/* Without anything after it: no second edge comes. */
Test(epoll_et, data_behind_the_urgent_mark_needs_no_second_edge)
{
    struct rig rig;
    struct task task;
    int fds[2];
    rig_open(&rig, &weir__engine_epoll_et);
    tcp_pair(fds);
    task_recv(&task, &rig, fds[0]);
    cr_assert(eq(int, (int)send(fds[1], "abc", 3, 0), 3));
    cr_assert(eq(int, (int)send(fds[1], "!", 1, MSG_OOB), 1));
    cr_assert(eq(int, (int)send(fds[1], "def", 3, 0), 3));
    rig_until_bytes(&rig, &task.bytes, 6);
    task_cancel(&task);
    rig_turns(&rig, 1);
    cr_assert(eq(int, task_close(&rig, fds[0]), 0));
    close(fds[1]);
    rig_close(&rig);
}

/* --- features
 * ------------------------------------------------------------------------------------------ */

static void deadline_holds(const struct weir__engine_ops *engine_ops, uint64_t features_off)
{
    struct weir__engine_options options = {.features_off = features_off};
    struct rig rig;
    rig_open_with(&rig, engine_ops, &options, 4, 64);
    cr_assert(eq(u64, rig.ops->features(rig.engine) & features_off, 0u));
    for (int i = 0; i < 3; i++) {
        uint64_t deadline_ns = rig_now_ns() + 1234567;
        uint64_t waits = rig_counters(&rig).waits;
        cr_assert(eq(int, rig.ops->wait(rig.engine, deadline_ns), 0));
        cr_assert(ge(u64, rig_now_ns(), deadline_ns));
        cr_assert(eq(u64, rig_counters(&rig).waits, waits + 1));
    }
    rig_close(&rig);
}

Test(epoll, without_pwait2_no_wait_ends_before_its_deadline)
{
    deadline_holds(&weir__engine_epoll, PWAIT2);
    deadline_holds(&weir__engine_epoll_et, PWAIT2);
}

ENGINE_TEST(granted_features_have_names)
{
    struct rig rig;
    int names = 0;
    rig_open(&rig, engine_ops);
    while (engine_ops->feature_names && engine_ops->feature_names[names])
        names++;
    cr_assert(eq(u64, rig.ops->features(rig.engine) >> names, 0u));
    rig_close(&rig);
}

Test(epoll, a_feature_forced_on_and_off_at_once_does_not_open)
{
    struct weir__engine_options options = {.features_on = PWAIT2, .features_off = PWAIT2};
    struct weir__engine_env env = {0};
    struct weir__engine *engine = NULL;
    char why[128] = "";
    int free_fd = dup(0);
    close(free_fd);
    cr_assert(
        eq(int, weir__engine_epoll.open(&engine, &env, &options, why, sizeof why), -EOPNOTSUPP));
    cr_assert(strstr(why, "pwait2") != NULL, "%s", why);
    int still_free = dup(0);
    cr_assert(eq(int, still_free, free_fd), "a failed open left a descriptor behind");
    close(still_free);
}

ENGINE_TEST(open_without_a_free_descriptor_fails_with_its_cure)
{
    struct weir__engine_options options = {0};
    struct weir__engine_env env = {0};
    struct weir__engine *engine = NULL;
    struct rlimit saved, low;
    char why[128] = "";
    cr_assert(eq(int, getrlimit(RLIMIT_NOFILE, &saved), 0));
    low = (struct rlimit){.rlim_max = saved.rlim_max};
    cr_assert(eq(int, setrlimit(RLIMIT_NOFILE, &low), 0));
    int rc = engine_ops->open(&engine, &env, &options, why, sizeof why);
    cr_assert(eq(int, setrlimit(RLIMIT_NOFILE, &saved), 0));
    cr_assert(eq(int, rc, -EMFILE));
    cr_assert(strstr(why, "ulimit -n") != NULL, "%s", why);
}

Test(select, without_big_fdset_the_1025th_descriptor_is_refused)
{
    struct weir__engine_options options = {.features_off = BIG_FDSET};
    struct rig rig;
    struct task task;
    struct sockaddr_storage address;
    socklen_t bytes;
    int fds[2];
    raise_nofile();
    rig_open_with(&rig, &weir__engine_select, &options, 4, 64);
    local_pair(fds);
    int fits = fcntl(fds[0], F_DUPFD_CLOEXEC, 1023), high = fcntl(fds[0], F_DUPFD_CLOEXEC, 1024);
    cr_assert(eq(int, fits, 1023));
    task_recv(&task, &rig, high);
    cr_assert(eq(int, task.dones, 1));
    cr_assert(eq(int, task.op.res, -EMFILE));
    task_recv(&task, &rig, fits);
    cr_assert(eq(int, (int)write(fds[1], "x", 1), 1));
    rig_until(&rig, &task.dones, 1);
    cr_assert(eq(int, task.op.res, 1));
    task_cancel(&task);
    rig_turns(&rig, 1);
    /* An accepted connection that cannot be watched is not kept. */
    int listener = tcp_listener(4, &address, &bytes), client = tcp_socket();
    cr_assert(eq(int, connect(client, (struct sockaddr *)&address, bytes), 0));
    while (dup(0) < 1022)
        continue;
    task_init(&task, &rig, WEIR__OP_ACCEPT, listener);
    cr_assert(eq(int, task_submit(&task), WEIR__QUEUED));
    rig_until(&rig, &task.dones, 1);
    cr_assert(eq(int, task.op.res, -EMFILE));
    cr_assert(eq(int, fcntl(1025, F_GETFD), -1));
    rig_close(&rig);
}
