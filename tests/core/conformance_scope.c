/* Conformance: scopes. They own their tasks, and what ends one reaches every wait in it. */
#include "conformance.h"

static int sleep_for(void *argument)
{
    return weir_sleep_until(weir_now_ns() + *(uint64_t *)argument);
}

static uint64_t long_ns = 3600 * WEIR_SECOND;

/* ---- ownership ------------------------------------------------------------------------------- */

static unsigned ended;

static int yield_and_count(void *argument)
{
    for (int i = 0; i < 5; i++)
        check_int(weir_yield(), ==, 0);
    ended++;
    return 7; /* not a failure */
}

static void close_waits(void *argument)
{
    struct weir_scope scope;
    weir_scope_open(&scope, WEIR_FOREVER, 0);
    for (int i = 0; i < 100; i++)
        check_int(weir_scope_spawn(&scope, yield_and_count, NULL), ==, 0);
    check_int(ended, ==, 0);
    check_int(weir_scope_close(&scope), ==, 0);
    check_int(ended, ==, 100);
}

CONFORMANCE(a_scope_is_not_left_before_its_tasks_have_ended)
{
    conf_run(NULL, close_waits, NULL);
}

static int leave_early(int way)
{
    for (int i = 0; i < 2; i++) {
        weir_scope_auto(scope, WEIR_FOREVER);
        check_int(weir_scope_spawn(&scope, yield_and_count, NULL), ==, 0);
        if (way == 0)
            return 5;
        if (way == 1)
            break;
        if (way == 2)
            goto out;
        check_int(weir_scope_close(&scope), ==, 0);
    }
out:
    return 6;
}

static void leave_in_all_ways(void *argument)
{
    for (int way = 0; way < 4; way++) {
        unsigned before = ended;
        check_int(leave_early(way), ==, way ? 6 : 5);
        check_int(ended - before, ==, way == 3 ? 2 : 1);
    }
}

CONFORMANCE(a_block_left_by_return_break_or_goto_waits_for_its_tasks)
{
    conf_run(NULL, leave_in_all_ways, NULL);
}

static int spawn_a_sibling(void *argument)
{
    struct weir_scope *scope = argument;
    check_int(weir_yield(), ==, 0);
    return weir_scope_spawn(scope, yield_and_count, NULL);
}

static void spawn_from_within(void *argument)
{
    weir_scope_auto(scope, WEIR_FOREVER);
    check_int(weir_scope_spawn(&scope, spawn_a_sibling, &scope), ==, 0);
    check_int(weir_scope_close(&scope), ==, 0);
    check_int(ended, ==, 1);
}

CONFORMANCE(a_task_may_spawn_into_the_scope_it_is_in_while_that_closes)
{
    conf_run(NULL, spawn_from_within, NULL);
}

/* ---- what ends one --------------------------------------------------------------------------- */

static int fail_later(void *argument)
{
    check_int(weir_yield(), ==, 0);
    return -EIO;
}

static int expect_cancel(void *argument)
{
    check_int(sleep_for(&long_ns), ==, -ECANCELED);
    check_int(weir_yield(), ==, -ECANCELED); /* again and again */
    check_int(sleep_for(&long_ns), ==, -ECANCELED);
    ended++;
    return -ECANCELED;
}

static void a_sibling_fails(void *argument)
{
    struct weir_scope scope;
    weir_scope_open(&scope, WEIR_FOREVER, 0);
    for (int i = 0; i < 3; i++)
        check_int(weir_scope_spawn(&scope, expect_cancel, NULL), ==, 0);
    check_int(weir_scope_spawn(&scope, fail_later, NULL), ==, 0);
    check_int(sleep_for(&long_ns), ==, -ECANCELED); /* the opener is in it, too */
    check_int(weir_scope_spawn(&scope, expect_cancel, NULL), ==, -ECANCELED);
    check_int(weir_scope_close(&scope), ==, -EIO);
    check_int(ended, ==, 3);
    check_int(weir_yield(), ==, 0); /* and here it is over */
}

CONFORMANCE(the_failure_of_one_task_cancels_its_siblings_and_is_the_scopes_result)
{
    conf_run(NULL, a_sibling_fails, NULL);
}

static void a_sibling_is_cancelled(void *argument)
{
    struct weir_task *one;
    struct weir_scope scope;
    weir_scope_open(&scope, WEIR_FOREVER, 0);
    check_int(weir_scope_spawn(&scope, expect_cancel, NULL), ==, 0);
    check_int(weir_scope_spawn_at(&scope, &one, expect_cancel, NULL, "one", "here"), ==, 0);
    check_int(weir_yield(), ==, 0);
    weir_task_cancel(one);
    check_int(weir_scope_close(&scope), ==, -ECANCELED);
    check_int(ended, ==, 2);
}

CONFORMANCE(the_cancel_of_one_task_reaches_its_siblings)
{
    conf_run(NULL, a_sibling_is_cancelled, NULL);
}

static int nest(void *argument)
{
    int *depth = argument, below = *depth - 1;
    if (below < 0)
        return expect_cancel(NULL);
    struct weir_scope scope;
    weir_scope_open(&scope, WEIR_FOREVER, 0);
    check_int(weir_scope_spawn(&scope, nest, &below), ==, 0);
    check_int(weir_scope_spawn(&scope, expect_cancel, NULL), ==, 0);
    check_int(sleep_for(&long_ns), ==, -ECANCELED);
    check_int(weir_scope_close(&scope), ==, -ECANCELED);
    return weir_yield();
}

static void cancel_a_deep_tree(void *argument)
{
    int depth = 200;
    struct weir_scope scope;
    weir_scope_open(&scope, WEIR_FOREVER, 0);
    check_int(weir_scope_spawn(&scope, nest, &depth), ==, 0);
    for (int i = 0; i < depth + 2; i++)
        check_int(weir_yield(), ==, 0);
    weir_scope_cancel(&scope);
    weir_scope_cancel(&scope);
    check_int(weir_scope_close(&scope), ==, -ECANCELED);
    check_int(ended, ==, depth + 1);
}

CONFORMANCE(a_cancel_reaches_the_scopes_of_tasks_of_scopes)
{
    conf_run(NULL, cancel_a_deep_tree, NULL);
}

static void spawn_into_a_cancelled(void *argument)
{
    struct weir_scope scope;
    weir_scope_open(&scope, WEIR_FOREVER, 0);
    check_int(weir_scope_spawn(&scope, expect_cancel, NULL), ==, 0); /* has not begun */
    weir_scope_cancel(&scope);
    check_int(weir_scope_spawn(&scope, yield_and_count, NULL), ==, -ECANCELED);
    check_int(weir_scope_close(&scope), ==, -ECANCELED);
    check_int(ended, ==, 1); /* what was spawned runs, to clean up after itself */
}

CONFORMANCE(nothing_is_started_in_a_cancelled_scope)
{
    conf_run(NULL, spawn_into_a_cancelled, NULL);
}

/* ---- deadlines ------------------------------------------------------------------------------- */

static int expect_late(void *argument)
{
    check_int(sleep_for(&long_ns), ==, -ETIME);
    ended++;
    return 0;
}

static void the_tighter_wins(void *argument)
{
    struct weir_scope outer, inner;
    uint64_t tight_ns = weir_now_ns() + 3 * WEIR_MILLISECOND;

    weir_scope_open(&outer, tight_ns, 0);
    weir_scope_open(&inner, weir_now_ns() + long_ns, 0);
    check_int(weir_scope_spawn(&inner, expect_late, NULL), ==, 0);
    check_int(sleep_for(&long_ns), ==, -ETIME);
    check_int(weir_now_ns(), >=, tight_ns);
    check_int(weir_scope_close(&inner), ==, 0); /* it was not its own deadline */
    check_int(weir_yield(), ==, -ETIME);
    check_int(weir_scope_close(&outer), ==, -ETIME);

    weir_scope_open(&outer, weir_now_ns() + long_ns, 0);
    weir_scope_open(&inner, weir_now_ns() + 3 * WEIR_MILLISECOND, 0);
    check_int(weir_scope_spawn(&inner, expect_late, NULL), ==, 0);
    check_int(sleep_for(&long_ns), ==, -ETIME);
    check_int(weir_scope_close(&inner), ==, -ETIME);
    check_int(weir_yield(), ==, 0);
    check_int(weir_scope_close(&outer), ==, 0);
    check_int(ended, ==, 2);
}

CONFORMANCE(of_nested_deadlines_the_tighter_wins)
{
    conf_run(NULL, the_tighter_wins, NULL);
}

static void close_before_the_deadline(void *argument)
{
    for (int i = 0; i < 100; i++) {
        struct weir_scope scope;
        weir_scope_open(&scope, weir_now_ns() + WEIR_MILLISECOND, 0);
        check_int(weir_scope_close(&scope), ==, 0);
        memset(&scope, 0xff, sizeof scope); /* it is the caller's again */
    }
    struct weir_loop_stats stats;
    weir_loop_stats(weir_loop_self(), &stats);
    check_int(stats.timers, ==, 0);
    check_int(weir_sleep_until(weir_now_ns() + 3 * WEIR_MILLISECOND), ==, 0);
}

CONFORMANCE(the_deadline_of_a_closed_scope_is_forgotten)
{
    conf_run(NULL, close_before_the_deadline, NULL);
}

/* ---- shields --------------------------------------------------------------------------------- */

static int clean_up_shielded(void *argument)
{
    check_int(sleep_for(&long_ns), ==, -ECANCELED);
    struct weir_scope shield;
    weir_scope_open(&shield, weir_now_ns() + long_ns, WEIR_SHIELD);
    check_int(weir_scope_spawn(&shield, yield_and_count, NULL), ==, 0);
    uint64_t soon_ns = 1000000;
    check_int(sleep_for(&soon_ns), ==, 0);
    check_int(weir_scope_close(&shield), ==, 0);
    check_int(weir_yield(), ==, -ECANCELED);
    ended++;
    return 0;
}

static bool shields_cancelled;

static int cancelled_inside_a_shield(void *argument)
{
    struct weir_scope shield;
    weir_scope_open(&shield, WEIR_FOREVER, WEIR_SHIELD);
    while (!shields_cancelled)
        check_int(weir_yield(), ==, 0);
    check_int(weir_yield(), ==, 0);
    weir_scope_cancel(&shield);
    check_int(weir_yield(), ==, -ECANCELED); /* its own gets through */
    check_int(weir_scope_close(&shield), ==, -ECANCELED);
    check_int(weir_yield(), ==, -ECANCELED);
    ended++;
    return 0;
}

static void shields_hold(void *argument)
{
    struct weir_scope scope;
    weir_scope_open(&scope, WEIR_FOREVER, 0);
    check_int(weir_scope_spawn(&scope, clean_up_shielded, NULL), ==, 0);
    check_int(weir_scope_spawn(&scope, cancelled_inside_a_shield, NULL), ==, 0);
    check_int(weir_yield(), ==, 0);
    weir_scope_cancel(&scope);
    shields_cancelled = true;
    check_int(weir_scope_close(&scope), ==, -ECANCELED);
    check_int(ended, ==, 3);
}

CONFORMANCE(a_shield_keeps_cancels_out_until_it_is_closed)
{
    conf_run(NULL, shields_hold, NULL);
}

static void shielded_for_ever(void *argument)
{
    struct weir_scope shield;
    weir_scope_open(&shield, WEIR_FOREVER, WEIR_SHIELD);
    check_int(sleep_for(&long_ns), ==, -ECANCELED);
    check_int(weir_scope_close(&shield), ==, 0);
    weir_scope_open(&shield, WEIR_FOREVER, WEIR_SHIELD); /* nor does a new one hold */
    check_int(sleep_for(&long_ns), ==, -ECANCELED);
    check_int(weir_scope_close(&shield), ==, 0);
    ended++;
}

static void spawn_shielded(struct conf_server *server)
{
    check_int(weir_spawn(server->loop, NULL, shielded_for_ever, NULL), ==, 0);
}

CONFORMANCE(the_end_of_a_stopping_loops_time_reaches_through_shields)
{
    struct conf_server server = {.setup = spawn_shielded, .options.drain_ns = 1000000};
    conf_start(&server);
    conf_stop(&server);
    check_int(ended, ==, 1);
}

/* ---- in handlers ----------------------------------------------------------------------------- */

/* Answers "late" where no second byte comes in time, and serves on. */
static void echo_or_late(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    int res;
    while ((res = weir_recv(conn, &buf)) > 0) {
        struct weir_scope scope;
        weir_scope_open(&scope, weir_now_ns() + 2 * WEIR_MILLISECOND, 0);
        res = weir_recv_until(conn, &buf, WEIR_FOREVER);
        check_int(weir_scope_close(&scope), ==, res < 0 ? -ETIME : 0);
        if (res == -ETIME)
            check_int(weir_send_all(conn, "late", 4), ==, 4);
        else if (res > 0)
            check_int(weir_send(conn, &buf), >, 0);
    }
    weir_buf_put(weir_conn_loop(conn), &buf);
}

CONFORMANCE(a_scopes_deadline_ends_a_receive_and_the_connection_goes_on)
{
    struct conf_server server = {.listen.handler = echo_or_late};
    conf_start(&server);
    int fd = peer_connect(&server);
    for (int i = 0; i < 3; i++) {
        peer_send(fd, "a", 1);
        peer_expect(fd, "late", 4);
    }
    peer_close(fd);
    conf_stop(&server);
}

static void echo_shielded(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    struct weir_scope shield;
    check_int(weir_recv_until(conn, &buf, WEIR_FOREVER), ==, 1);
    weir_task_cancel(weir_task_self());
    weir_scope_open(&shield, WEIR_FOREVER, WEIR_SHIELD);
    check_int(weir_send(conn, &buf), ==, 1);
    check_int(weir_recv_until(conn, &buf, WEIR_FOREVER), ==, 2);
    check_int(weir_send(conn, &buf), ==, 2);
    check_int(weir_scope_close(&shield), ==, 0);
    check_int(weir_recv_until(conn, &buf, WEIR_FOREVER), ==, -ECANCELED);
}

CONFORMANCE(a_cancelled_task_receives_within_a_shield)
{
    struct conf_server server = {.listen.handler = echo_shielded};
    conf_start(&server);
    int fd = peer_connect(&server);
    peer_send(fd, "a", 1);
    peer_expect(fd, "a", 1);
    peer_send(fd, "bc", 2);
    peer_expect(fd, "bc", 2);
    check_int(peer_end(fd, NULL), ==, 0);
    peer_close(fd);
    conf_stop(&server);
}
