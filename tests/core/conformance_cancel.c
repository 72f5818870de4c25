/*
 * Conformance: every wait ends early, by a cancel or at its deadline, before it began, while it
 * waits, and in a race with its result; and nothing is lost by that. (weir_connect() and
 * weir_blocking() are in conformance_wait.c.) One task holds both ends: the connection is weir's,
 * the peer is a plain socket, which never blocks here.
 */
#include "conformance.h"

#include <fcntl.h>
#include <poll.h>

struct pair {
    struct weir_conn *conn;
    int peer;
};

static void pair_open(struct pair *pair)
{
    struct sockaddr_storage address;
    socklen_t address_bytes;
    int listening = peer_listen(&address, &address_bytes, 1, 8192);
    check_int(weir_connect(weir_loop_self(), &pair->conn, (struct sockaddr *)&address,
                           address_bytes, WEIR_FOREVER),
              ==, 0);
    pair->peer = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    check(pair->peer >= 0, "accept: errno %d", errno);
    peer_close(listening);
}

static void pair_close(struct pair *pair)
{
    weir_conn_close(pair->conn);
    peer_close(pair->peer);
}

/* A task that waits in some way; `wait` leaves the result in `result`. */
struct victim {
    int (*wait)(struct victim *victim);
    struct pair pair;
    struct weir_task *task, *other;
    int fd, result, again;
    uint64_t deadline_ns;
    struct weir_buf buf;
    bool began, ended;
};

static void victim_main(void *argument)
{
    struct victim *victim = argument;
    victim->began = true;
    victim->result = victim->wait(victim);
    victim->again = weir_yield(); /* what a cancelled task sees from then on */
    victim->ended = true;
}

static void victim_start(struct victim *victim)
{
    victim->began = victim->ended = false;
    victim->result = 12345;
    check_int(weir_spawn(weir_loop_self(), &victim->task, victim_main, victim), ==, 0);
}

static void victim_is_cancelled(struct victim *victim)
{
    check_int(weir_join(victim->task, WEIR_FOREVER), ==, 0);
    check(victim->ended, "joined before it ended");
    check_int(victim->result, ==, -ECANCELED);
    check_int(victim->again, ==, -ECANCELED);
}

/* Cancelled before it ran, and cancelled (twice) while it waits. */
static void cancel_in_each_stage(struct victim *victim)
{
    victim_start(victim);
    check(!victim->began, "ran inside weir_spawn()");
    weir_task_cancel(victim->task);
    victim_is_cancelled(victim);
    check(victim->began, "a cancelled task runs nevertheless, to see it");

    victim_start(victim);
    conf_settle();
    check(victim->began && !victim->ended, "it does not wait: %d", victim->result);
    weir_task_cancel(victim->task);
    check(!victim->ended, "ran inside weir_task_cancel()");
    weir_task_cancel(victim->task);
    victim_is_cancelled(victim);
}

/* And past its deadline: at once, and after a while. */
static void expire_in_each_stage(struct victim *victim)
{
    for (int i = 0; i < 3; i++) {
        victim->deadline_ns = i == 0 ? 0 : i == 1 ? weir_now_ns() : weir_now_ns() + 1500000;
        check_int(victim->wait(victim), ==, -ETIME);
        check_int(weir_now_ns(), >=, victim->deadline_ns);
    }
    victim->deadline_ns = WEIR_FOREVER;
}

/* ---- recv ------------------------------------------------------------------------------------ */

static int wait_recv(struct victim *victim)
{
    return weir_recv_until(victim->pair.conn, &victim->buf, victim->deadline_ns);
}

static void in_recv(void *argument)
{
    struct victim victim = {.wait = wait_recv, .deadline_ns = WEIR_FOREVER};
    pair_open(&victim.pair);
    cancel_in_each_stage(&victim);
    expire_in_each_stage(&victim);
    cancel_in_each_stage(&victim);
    peer_send(victim.pair.peer, "still", 5);
    check_int(weir_recv(victim.pair.conn, &victim.buf), ==, 5);
    check(memcmp(victim.buf.data, "still", 5) == 0, "%.5s", (char *)victim.buf.data);
    weir_buf_put(weir_loop_self(), &victim.buf);
    pair_close(&victim.pair);
}

CONFORMANCE(recv_is_cancelled_and_expires_and_the_connection_lives_on)
{
    conf_run(NULL, in_recv, NULL);
}

/* The next byte of the stream comes while the wait is ended, now a little earlier, now later. */
static void race_recv(bool by_deadline)
{
    struct victim victim = {.wait = wait_recv, .deadline_ns = WEIR_FOREVER};
    pair_open(&victim.pair);
    unsigned rounds = conf_scale(400);
    for (unsigned i = 0; i < rounds; i++) {
        uint8_t byte = (uint8_t)i;
        if (by_deadline)
            victim.deadline_ns = weir_now_ns() + 50000 + i % 7 * 20000;
        victim_start(&victim);
        for (unsigned j = 0; j < i % 5; j++)
            check_int(weir_yield(), ==, 0);
        if (by_deadline && i % 3)
            check_int(weir_sleep_until(weir_now_ns() + i % 11 * 20000), ==, 0);
        peer_send(victim.pair.peer, &byte, 1);
        for (unsigned j = 0; j < i % 4; j++)
            check_int(weir_yield(), ==, 0);
        if (!by_deadline)
            weir_task_cancel(victim.task);
        check_int(weir_join(victim.task, WEIR_FOREVER), ==, 0);
        if (victim.result < 0) {
            check_int(victim.result, ==, by_deadline ? -ETIME : -ECANCELED);
            check_int(weir_recv_until(victim.pair.conn, &victim.buf, WEIR_FOREVER), ==, 1);
        } else {
            check_int(victim.result, ==, 1);
        }
        check_int(victim.buf.data[0], ==, byte);
    }
    weir_buf_put(weir_loop_self(), &victim.buf);
    pair_close(&victim.pair);
}

static void race_recv_with_cancel(void *argument)
{
    race_recv(false);
}

static void race_recv_with_deadline(void *argument)
{
    race_recv(true);
}

CONFORMANCE(a_byte_that_meets_a_cancel_is_received_once)
{
    conf_run(NULL, race_recv_with_cancel, NULL);
}

CONFORMANCE(a_byte_that_meets_a_deadline_is_received_once)
{
    conf_run(NULL, race_recv_with_deadline, NULL);
}

static void recv_what_is_there(void *argument)
{
    struct pair pair;
    pair_open(&pair);
    struct weir_buf buf = {0};
    uint64_t until_ns = weir_now_ns() + PEER_SECONDS * 1000000000ull;
    for (int i = 0; i < 20; i++) {
        peer_send(pair.peer, "now", 3);
        int got = 0;
        /* A deadline in the past is no wait; but the bytes must come by the calls that follow. */
        while ((got = weir_recv_until(pair.conn, &buf, 0)) == -ETIME) {
            check_int(weir_now_ns(), <, until_ns);
            check_int(weir_yield(), ==, 0);
        }
        check_int(got, ==, 3);
    }
    weir_buf_put(weir_loop_self(), &buf);
    peer_shutdown(pair.peer);
    while (weir_recv_until(pair.conn, &buf, 0) == -ETIME)
        check_int(weir_yield(), ==, 0);
    check_int(weir_recv(pair.conn, &buf), ==, 0);
    pair_close(&pair);
}

CONFORMANCE(recv_with_a_past_deadline_takes_what_is_there)
{
    conf_run(NULL, recv_what_is_there, NULL);
}

/* ---- send ------------------------------------------------------------------------------------ */

static int wait_send_all(struct victim *victim)
{
    static char data[8 << 20]; /* more than both sockets hold */
    return weir_send_all_until(victim->pair.conn, data, sizeof data, victim->deadline_ns);
}

static int wait_send(struct victim *victim)
{
    struct weir_loop *loop = weir_loop_self();
    for (;;) {
        struct weir_buf buf = {0};
        int result = weir_buf_get(loop, &buf, WEIR_FOREVER);
        if (result < 0)
            return result;
        buf.len = weir_buf_bytes(loop);
        memset(buf.data, 's', buf.len);
        result = weir_send(victim->pair.conn, &buf);
        check(buf.id == 0, "the buffer was not taken");
        if (result < 0)
            return result;
    }
}

static void cancel_a_send(void *argument)
{
    struct victim victim = {.wait = argument ? wait_send : wait_send_all,
                            .deadline_ns = WEIR_FOREVER};
    pair_open(&victim.pair);
    victim_start(&victim);
    weir_task_cancel(victim.task);
    victim_is_cancelled(&victim);
    pair_close(&victim.pair); /* an unknown part was sent */

    pair_open(&victim.pair);
    victim_start(&victim);
    conf_settle();
    check(!victim.ended, "it does not wait: %d", victim.result);
    weir_task_cancel(victim.task);
    victim_is_cancelled(&victim);
    weir_conn_abort(victim.pair.conn);
    peer_close(victim.pair.peer);
}

CONFORMANCE(send_all_is_cancelled)
{
    conf_run(NULL, cancel_a_send, NULL);
}

CONFORMANCE(send_that_waits_for_room_is_cancelled)
{
    static bool handed_over = true;
    conf_run(NULL, cancel_a_send, &handed_over);
}

static void expire_send_all(void *argument)
{
    struct victim victim = {.wait = wait_send_all};
    for (int i = 0; i < 2; i++) {
        pair_open(&victim.pair);
        victim.deadline_ns = i ? weir_now_ns() + 3000000 : 0;
        check_int(wait_send_all(&victim), ==, -ETIME);
        check_int(weir_now_ns(), >=, victim.deadline_ns);
        weir_conn_abort(victim.pair.conn);
        peer_close(victim.pair.peer);
    }
}

CONFORMANCE(send_all_ends_at_its_deadline)
{
    conf_run(NULL, expire_send_all, NULL);
}

/* ---- the other waits ------------------------------------------------------------------------- */

static int wait_sleep(struct victim *victim)
{
    return weir_sleep_until(WEIR_FOREVER);
}

static int wait_sleep_long(struct victim *victim)
{
    return weir_sleep_until(weir_now_ns() + 3600000000000u);
}

static void in_sleep(void *argument)
{
    struct victim victim = {.wait = wait_sleep};
    cancel_in_each_stage(&victim);
    victim.wait = wait_sleep_long;
    cancel_in_each_stage(&victim);
}

CONFORMANCE(sleep_is_cancelled)
{
    conf_run(NULL, in_sleep, NULL);
}

static int wait_join(struct victim *victim)
{
    return weir_join(victim->other, victim->deadline_ns);
}

static void yield_until_set(void *argument)
{
    while (!*(bool *)argument)
        if (weir_yield() < 0)
            return;
}

static void in_join(void *argument)
{
    bool end = false;
    struct victim victim = {.wait = wait_join, .deadline_ns = WEIR_FOREVER};
    check_int(weir_spawn(weir_loop_self(), &victim.other, yield_until_set, &end), ==, 0);
    cancel_in_each_stage(&victim);
    expire_in_each_stage(&victim);
    end = true;
    check_int(weir_join(victim.other, WEIR_FOREVER), ==, 0);
}

CONFORMANCE(join_is_cancelled_and_expires)
{
    conf_run(NULL, in_join, NULL);
}

static void end_at_once(void *argument) {}

/* The child ends in the same turn in which its joiner is cancelled. */
static void race_join(void *argument)
{
    for (unsigned i = 0; i < 200; i++) {
        struct victim victim = {.wait = wait_join, .deadline_ns = WEIR_FOREVER};
        check_int(weir_spawn(weir_loop_self(), &victim.other, end_at_once, NULL), ==, 0);
        victim_start(&victim);
        for (unsigned j = 0; j < i % 4; j++)
            check_int(weir_yield(), ==, 0);
        weir_task_cancel(victim.task);
        check_int(weir_join(victim.task, WEIR_FOREVER), ==, 0);
        check(victim.result == 0 || victim.result == -ECANCELED, "%d", victim.result);
        if (victim.result == -ECANCELED) /* then it is neither joined nor freed */
            check_int(weir_join(victim.other, WEIR_FOREVER), ==, 0);
    }
}

CONFORMANCE(a_join_that_meets_a_cancel_joins_once)
{
    conf_run(NULL, race_join, NULL);
}

static int wait_poll(struct victim *victim)
{
    return weir_poll(weir_loop_self(), victim->fd, POLLIN, victim->deadline_ns);
}

static void in_poll(void *argument)
{
    int ends[2];
    check_int(pipe2(ends, O_CLOEXEC), ==, 0);
    struct victim victim = {.wait = wait_poll, .fd = ends[0], .deadline_ns = WEIR_FOREVER};
    cancel_in_each_stage(&victim);
    expire_in_each_stage(&victim);
    cancel_in_each_stage(&victim);
    check_int(write(ends[1], "x", 1), ==, 1);
    check_int(wait_poll(&victim) & POLLIN, ==, POLLIN);
    close(ends[0]);
    close(ends[1]);
}

CONFORMANCE(poll_is_cancelled_and_expires)
{
    conf_run(NULL, in_poll, NULL);
}

static int wait_buf_get(struct victim *victim)
{
    int result = weir_buf_get(weir_loop_self(), &victim->buf, victim->deadline_ns);
    if (result < 0)
        check(victim->buf.id == 0, "a failed weir_buf_get() gave a buffer");
    return result;
}

static void in_buf_get(void *argument)
{
    struct weir_loop *loop = weir_loop_self();
    struct weir_buf only = {0};
    check_int(weir_buf_get(loop, &only, WEIR_FOREVER), ==, 0);
    struct victim victim = {.wait = wait_buf_get, .deadline_ns = WEIR_FOREVER};
    cancel_in_each_stage(&victim);
    expire_in_each_stage(&victim);
    cancel_in_each_stage(&victim);
    weir_buf_put(loop, &only);
    check_int(weir_buf_get(loop, &only, WEIR_FOREVER), ==, 0);
    weir_buf_put(loop, &only);
}

CONFORMANCE(buf_get_is_cancelled_and_expires)
{
    conf_run(&(struct weir_loop_options){.bufs = 1}, in_buf_get, NULL);
}

static int wait_yield(struct victim *victim)
{
    int result;
    while ((result = weir_yield()) == 0)
        ;
    return result;
}

static void in_yield(void *argument)
{
    struct victim victim = {.wait = wait_yield};
    cancel_in_each_stage(&victim);
}

CONFORMANCE(yield_is_cancelled)
{
    conf_run(NULL, in_yield, NULL);
}

static void cancel_myself(void *argument)
{
    weir_task_cancel(weir_task_self());
    check_int(weir_yield(), ==, -ECANCELED);
    check_int(weir_sleep_until(WEIR_FOREVER), ==, -ECANCELED);
    *(int *)argument = 1;
}

CONFORMANCE(a_task_may_cancel_itself)
{
    int done = 0;
    conf_run(NULL, cancel_myself, &done);
    check_int(done, ==, 1);
}

/* ---- a handler ------------------------------------------------------------------------------- */

static struct weir_task *handler_task;
static _Atomic int handler_result;

static void wait_as_handler(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    if (weir_recv(conn, &buf) <= 0)
        return;
    handler_task = weir_task_self();
    handler_result = 1;
    handler_result = weir_recv_until(conn, &buf, WEIR_FOREVER);
}

static void cancel_handler(void *argument)
{
    weir_task_cancel(handler_task);
}

CONFORMANCE(a_cancelled_handler_ends_and_its_connection_closes)
{
    struct conf_server server = {.listen.handler = wait_as_handler};
    conf_start(&server);
    int cancelled = peer_connect(&server);
    peer_send(cancelled, "x", 1);
    while (!handler_result)
        usleep(200);
    conf_call(&server, cancel_handler, NULL);
    check_int(peer_end(cancelled, NULL), ==, 0);
    check_int(handler_result, ==, -ECANCELED);
    peer_close(cancelled);
    conf_await_conns(&server, 0);
    conf_stop(&server);
}
