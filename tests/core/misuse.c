/*
 * Wrong calls: each ends the process with an assertion that names the mistake, and neither hangs
 * nor goes on. Each row is a function, where it runs, and what stderr has to say; it runs in a
 * process of its own, with a time limit, on a loop that has a connection open. What is an error
 * by contract, and no bug of the caller, is at the end.
 */
#include "misuse.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SECONDS = 20 };

struct weir_loop *loop;
struct weir_conn *conn;
static struct weir_task *sleeper;    /* a joinable task that sleeps */
static struct weir_scope open_scope; /* of the task that runs the loop's side */
static struct weir_buf buf;
static void (*row)(void);

/* ---- the process that misbehaves ------------------------------------------------------------- */

void needs(int condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "the test itself failed: %s\n", what);
    _exit(2);
}

static void sleep_for_ever(void *argument)
{
    weir_sleep_until(WEIR_FOREVER);
}

void prepare(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    need(fd >= 0 && !bind(fd, (struct sockaddr *)&address, bytes) && !listen(fd, 8));
    need(!getsockname(fd, (struct sockaddr *)&address, &bytes));
    need(weir_connect(loop, &conn, (struct sockaddr *)&address, bytes, WEIR_FOREVER) == 0);
    need(weir_spawn(loop, &sleeper, sleep_for_ever, NULL) == 0);
    need(weir_yield() == 0);
}

void in_task(void *argument)
{
    prepare();
    row();
    weir_yield(); /* what it began may only show in the next turn */
    weir_yield();
    _exit(0);
}

static void run_row(struct weir_post *post)
{
    row();
    _exit(0);
}

void in_message(void *argument)
{
    static struct weir_post post = {.fn = run_row};
    prepare();
    weir_scope_open(&open_scope, WEIR_FOREVER, 0);
    need(weir_post(loop, &post) == 0);
    weir_sleep_until(WEIR_FOREVER);
}

static void *foreign(void *argument)
{
    row();
    _exit(0);
}

void on_thread(void *argument)
{
    pthread_t thread;
    prepare();
    weir_scope_open(&open_scope, WEIR_FOREVER, 0);
    need(pthread_create(&thread, NULL, foreign, NULL) == 0);
    weir_sleep_until(WEIR_FOREVER);
}

static void on_thread_beside_a_task(void *argument)
{
    pthread_t thread;
    prepare();
    need(pthread_create(&thread, NULL, foreign, NULL) == 0);
    pthread_join(thread, NULL);
}

void before_it_runs(void *argument)
{
    row();
    _exit(0);
}

/* Runs where(NULL) as a task of a new loop, or at once where there is none to run. */
static void misbehave(void (*where)(void *), int end)
{
    struct rlimit no_core = {0};
    char why[256];

    alarm(SECONDS);
    setrlimit(RLIMIT_CORE, &no_core);
    dup2(end, STDERR_FILENO);
    signal(SIGABRT, SIG_DFL);
    need(weir_loop_new(&loop, NULL, why, sizeof why) == 0);
    if (where == before_it_runs)
        where(NULL);
    need(weir_spawn(loop, NULL, where, NULL) == 0);
    weir_loop_run(loop);
    _exit(3);
}

void dies(void (*where)(void *), void (*fn)(void), const char *expected)
{
    static char said[8192];
    size_t at = 0;
    ssize_t got;
    int ends[2], status;

    row = fn;
    cr_assert(pipe(ends) == 0);
    pid_t child = fork();
    cr_assert(child >= 0);
    if (child == 0)
        misbehave(where, ends[1]);
    close(ends[1]);
    while (at < sizeof said - 1 && (got = read(ends[0], said + at, sizeof said - 1 - at)) > 0)
        at += (size_t)got;
    close(ends[0]);
    cr_assert(waitpid(child, &status, 0) == child);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT,
              "status %#x, not SIGABRT (0xe: it hung; 0x300: it went on); it said: %s", status,
              said);
    cr_assert(strstr(said, expected), "it said: %s", said);
}

/* ---- what needs a task, outside of one ------------------------------------------------------- */

static int returns_0(void *argument)
{
    return 0;
}

static void handler(struct weir_conn *served, void *argument) {}

static struct sockaddr_in nowhere = {.sin_family = AF_INET};
#define NOWHERE (struct sockaddr *)&nowhere, sizeof nowhere
static char bytes[16];

CALL(recv_in_no_task, in_message, "weir_recv: not in a task", weir_recv(conn, &buf))
CALL(recv_until_in_no_task, in_message, "weir_recv: not in a task", weir_recv_until(conn, &buf, 1))
CALL(send_in_no_task, in_message, "weir_send: not in a task", weir_send(conn, &buf))
CALL(send_all_in_no_task, in_message, "weir_send: not in a task", weir_send_all(conn, bytes, 1))
CALL(send_static_in_no_task, in_message, "weir_send: not in a task",
     weir_send_static(conn, bytes, 1))
CALL(shutdown_in_no_task, in_message, "weir_send: not in a task", weir_conn_shutdown(conn))
CALL(buf_get_in_no_task, in_message, "weir_buf_get: not in a task", weir_buf_get(loop, &buf, 1))
CALL(connect_in_no_task, in_message, "weir_connect: not in a task",
     weir_connect(loop, &conn, NOWHERE, 1))
CALL(poll_in_no_task, in_message, "weir_poll: not in a task", weir_poll(loop, 0, 1, 1))
CALL(file_read_in_no_task, in_message, "not in a task", weir_file_read(0, bytes, 1, 0))
CALL(file_write_in_no_task, in_message, "not in a task", weir_file_write(1, bytes, 1, 0))
CALL(file_sync_in_no_task, in_message, "not in a task", weir_file_sync(1, 0))
CALL(blocking_in_no_task, in_message, "weir_blocking: not in a task",
     weir_blocking(returns_0, NULL, 1))
CALL(sleep_in_no_task, in_message, "weir_sleep_until: not in a task", weir_sleep_until(1))
CALL(yield_in_no_task, in_message, "weir_yield: not in a task", weir_yield())
CALL(join_in_no_task, in_message, "weir_join: not in a task", weir_join(sleeper, 1))
CALL(scope_open_in_no_task, in_message, "weir_scope_open: not in a task",
     weir_scope_open(&open_scope, 1, 0))
CALL(scope_close_in_no_task, in_message, "weir_scope_close: another task opened it",
     weir_scope_close(&open_scope))
CALL(sleep_before_the_loop_runs, before_it_runs, "weir_sleep_until: not in a task",
     weir_sleep_until(1))

/* ---- on a foreign thread --------------------------------------------------------------------- */

CALL(spawn_on_a_foreign_thread, on_thread, "weir_spawn: a foreign thread",
     weir_spawn(loop, NULL, sleep_for_ever, NULL))
CALL(cancel_on_a_foreign_thread, on_thread, "weir_task_cancel: a foreign thread",
     weir_task_cancel(sleeper))
CALL(join_on_a_foreign_thread, on_thread, "weir_join: not in a task", weir_join(sleeper, 1))
CALL(recv_on_a_foreign_thread, on_thread, "weir_recv: ", weir_recv(conn, &buf))
CALL(send_on_a_foreign_thread, on_thread, "weir_send", weir_send_all(conn, bytes, 1))
CALL(close_on_a_foreign_thread, on_thread, "weir_conn_close: a foreign thread",
     weir_conn_close(conn))
CALL(stop_now_on_a_foreign_thread, on_thread, "weir_loop_stop_now: a foreign thread",
     weir_loop_stop_now(loop))
CALL(run_on_a_foreign_thread, on_thread, "weir_loop_run: another thread opened the loop",
     weir_loop_run(loop))
CALL(free_on_a_foreign_thread, on_thread, "weir_loop_free: another thread opened the loop",
     weir_loop_free(loop))
CALL(sleep_on_a_foreign_thread, on_thread, "weir_sleep_until: not in a task", weir_sleep_until(1))
CALL(scope_spawn_on_a_foreign_thread, on_thread, "weir_scope_spawn: a foreign thread",
     weir_scope_spawn(&open_scope, returns_0, NULL))
CALL(scope_cancel_on_a_foreign_thread, on_thread, "weir_scope_cancel: a foreign thread",
     weir_scope_cancel(&open_scope))

static struct weir_listener *listener;
static char why[256];

static int listens(weir_handler_fn *serve)
{
    struct weir_listen_options options = {.handler = serve};
    return weir_listen(loop, &listener, &options, why, sizeof why);
}

CALL(listen_on_a_foreign_thread, on_thread, "weir_listen: a foreign thread", listens(handler))

CALL(poll_on_a_foreign_thread, on_thread_beside_a_task, "weir_poll: not in a task",
     weir_poll(loop, 0, 1, 1))
CALL(connect_on_a_foreign_thread, on_thread_beside_a_task, "weir_connect: not in a task",
     weir_connect(loop, &conn, NOWHERE, 1))
CALL(buf_get_on_a_foreign_thread, on_thread_beside_a_task, "weir_buf_get: not in a task",
     weir_buf_get(loop, &buf, 1))

/* ---- tasks ----------------------------------------------------------------------------------- */

static void join_the_sleeper(void *argument)
{
    weir_join(sleeper, WEIR_FOREVER);
}

MISUSE(join_of_what_another_joins, in_task, "weir_join: another task joins it")
{
    need(weir_spawn(loop, NULL, join_the_sleeper, NULL) == 0 && weir_yield() == 0);
    weir_join(sleeper, 1);
}

MISUSE(join_twice, in_task, "weir_join: it is detached, or was joined")
{
    weir_task_cancel(sleeper);
    need(weir_join(sleeper, WEIR_FOREVER) == 0);
    weir_join(sleeper, 1);
}

static struct weir_task *detached;

static void tells_its_handle(void *argument)
{
    detached = weir_task_self();
    weir_sleep_until(WEIR_FOREVER);
}

MISUSE(join_of_a_detached_task, in_task, "weir_join: it is detached, or was joined")
{
    need(weir_spawn(loop, NULL, tells_its_handle, NULL) == 0 && weir_yield() == 0);
    weir_join(detached, 1);
}

CALL(join_of_oneself, in_task, "weir_join: a task joins itself", weir_join(weir_task_self(), 1))
CALL(spawn_of_nothing, in_task, "weir_spawn: no function", weir_spawn(loop, NULL, NULL, NULL))
CALL(blocking_of_nothing, in_task, "weir_blocking: no function", weir_blocking(NULL, NULL, 1))

MISUSE(post_of_nothing, in_task, "weir_post: no function")
{
    static struct weir_post post;
    weir_post(loop, &post);
}

/* ---- scopes ---------------------------------------------------------------------------------- */

static struct weir_scope outer, inner;

MISUSE(join_of_a_task_of_a_scope, in_task, "weir_join: a task of a scope ends with that")
{
    struct weir_task *child;
    weir_scope_open(&outer, WEIR_FOREVER, 0);
    need(weir_scope_spawn_at(&outer, &child, returns_0, NULL, "", "") == 0);
    weir_join(child, 1);
}

MISUSE(scopes_closed_in_the_wrong_order, in_task,
       "weir_scope_close: one opened after it is still open")
{
    weir_scope_open(&outer, WEIR_FOREVER, 0);
    weir_scope_open(&inner, WEIR_FOREVER, 0);
    weir_scope_close(&outer);
}

MISUSE(scope_closed_twice, in_task, "weir_scope_close: the scope is not open")
{
    weir_scope_open(&outer, WEIR_FOREVER, 0);
    weir_scope_close(&outer);
    weir_scope_close(&outer);
}

MISUSE(spawn_in_a_closed_scope, in_task, "weir_scope_spawn: the scope is not open")
{
    weir_scope_open(&outer, WEIR_FOREVER, 0);
    weir_scope_close(&outer);
    weir_scope_spawn(&outer, returns_0, NULL);
}

MISUSE(cancel_of_a_closed_scope, in_task, "weir_scope_cancel: the scope is not open")
{
    weir_scope_open(&outer, WEIR_FOREVER, 0);
    weir_scope_close(&outer);
    weir_scope_cancel(&outer);
}

CALL(scope_with_unknown_flags, in_task, "weir_scope_open: unknown flags",
     weir_scope_open(&outer, 1, 2))

static int closes_outer(void *argument)
{
    return weir_scope_close(&outer);
}

MISUSE(scope_closed_by_its_child, in_task, "weir_scope_close: another task opened it")
{
    weir_scope_open(&outer, WEIR_FOREVER, 0);
    need(weir_scope_spawn(&outer, closes_outer, NULL) == 0);
    weir_scope_close(&outer);
}

static void opens_and_returns(void *argument)
{
    weir_scope_open(&outer, WEIR_FOREVER, 0);
}

MISUSE(a_task_ends_in_a_scope, in_task, "a task ended with a scope open")
{
    need(weir_spawn(loop, NULL, opens_and_returns, NULL) == 0);
}

static int child_opens_and_returns(void *argument)
{
    weir_scope_open(&inner, WEIR_FOREVER, 0);
    return 0;
}

MISUSE(a_child_ends_in_a_scope, in_task, "a task ended with a scope open")
{
    weir_scope_open(&outer, WEIR_FOREVER, 0);
    need(weir_scope_spawn(&outer, child_opens_and_returns, NULL) == 0);
    weir_scope_close(&outer);
}

static void handler_opens_and_returns(struct weir_conn *served, void *argument)
{
    need(weir_recv(served, &buf) > 0);
    weir_buf_put(loop, &buf);
    weir_scope_open(&inner, WEIR_FOREVER, 0);
}

MISUSE(a_handler_returns_in_a_scope, in_task, "with a scope open")
{
    struct sockaddr_storage address;
    socklen_t address_bytes;
    need(listens(handler_opens_and_returns) == 0);
    need(weir_listener_address(listener, &address, &address_bytes) == 0);
    need(weir_connect(loop, &conn, (struct sockaddr *)&address, address_bytes, WEIR_FOREVER) == 0);
    need(weir_send_all(conn, bytes, 1) == 1);
    weir_sleep_until(WEIR_FOREVER);
}

/* ---- connections and buffers ----------------------------------------------------------------- */

MISUSE(close_twice, in_task, "weir_conn_close: the connection is gone")
{
    weir_conn_close(conn);
    weir_conn_close(conn);
}

MISUSE(close_of_what_has_gone, in_task, "weir_conn_close: the connection is gone")
{
    weir_conn_close(conn);
    for (int i = 0; i < 4; i++)
        weir_yield();
    weir_conn_close(conn);
}

MISUSE(abort_after_close, in_task, "weir_conn_abort: the connection is gone")
{
    weir_conn_close(conn);
    weir_conn_abort(conn);
}

MISUSE(recv_after_close, in_task, "weir_recv: the connection is gone")
{
    weir_conn_close(conn);
    weir_recv(conn, &buf);
}

MISUSE(recv_from_what_has_gone, in_task, "weir_recv: the connection is gone")
{
    weir_conn_close(conn);
    for (int i = 0; i < 4; i++)
        weir_yield();
    weir_recv(conn, &buf);
}

MISUSE(send_after_close, in_task, "weir_send: the connection is gone")
{
    weir_conn_close(conn);
    weir_send_all(conn, bytes, 1);
}

MISUSE(send_to_what_has_gone, in_task, "weir_send: the connection is gone")
{
    weir_conn_close(conn);
    for (int i = 0; i < 4; i++)
        weir_yield();
    weir_send_all(conn, bytes, 1);
}

static void receives(void *argument)
{
    static struct weir_buf own;
    weir_recv(conn, &own);
}

MISUSE(two_receivers, in_task, "weir_recv: another task receives")
{
    need(weir_spawn(loop, NULL, receives, NULL) == 0 && weir_yield() == 0);
    weir_recv_until(conn, &buf, 1);
}

MISUSE(select_while_another_receives, in_task, "weir_select: another task receives")
{
    struct weir_case one = weir_case_input(conn);
    need(weir_spawn(loop, NULL, receives, NULL) == 0);
    need(weir_yield() == 0);
    weir_select(&one, 1, WEIR_FOREVER);
}

MISUSE(select_from_what_has_gone, in_task, "weir_select: the connection is gone")
{
    struct weir_case one = weir_case_input(conn);
    weir_conn_close(conn);
    for (int i = 0; i < 4; i++)
        weir_yield();
    weir_select(&one, 1, WEIR_FOREVER);
}

MISUSE(select_from_two_connections, in_task, "weir_select: the input of more than one connection")
{
    struct weir_case two[] = {weir_case_input(conn), weir_case_input(conn)};
    weir_select(two, 2, WEIR_FOREVER);
}

CALL(select_of_nothing, in_task, "weir_select: 1 to WEIR_CASES_MAX cases",
     weir_select(NULL, 0, WEIR_FOREVER))

CALL(send_of_no_buffer, in_task, "weir_send: not (a part of) a buffer that is held",
     weir_send(conn, &buf))

MISUSE(send_beyond_a_buffer, in_task, "weir_send: not (a part of) a buffer that is held")
{
    need(weir_buf_get(loop, &buf, 1) == 0);
    buf.len++;
    weir_send(conn, &buf);
}

MISUSE(a_buffer_returned_twice, in_task, "weir_buf_put: the buffer went back before")
{
    need(weir_buf_get(loop, &buf, 1) == 0);
    struct weir_buf copy = buf;
    weir_buf_put(loop, &buf);
    weir_buf_put(loop, &copy);
}

CALL(send_of_too_much, in_task, "weir_send_all: at most INT32_MAX bytes",
     weir_send_all(conn, bytes, (size_t)INT32_MAX + 1))

/* ---- listeners and loops --------------------------------------------------------------------- */

CALL(listen_without_a_handler, in_task, "weir_listen: no handler", listens(NULL))

MISUSE(listener_closed_twice, in_task, "weir_listener_close: closed before")
{
    need(listens(handler) == 0);
    weir_yield();
    weir_listener_close(listener);
    weir_listener_close(listener);
}

/* ---- loops ----------------------------------------------------------------------------------- */

CALL(run_in_a_task, in_task, "weir_loop_run: it runs already", weir_loop_run(loop))
CALL(free_in_a_task, in_task, "weir_loop_free: the loop is running", weir_loop_free(loop))
CALL(stop_now_without_stop, in_task, "weir_loop_stop_now: call weir_loop_stop first",
     weir_loop_stop_now(loop))

static void run_to_the_end(void)
{
    weir_loop_stop(loop);
    need(weir_loop_run(loop) == 0);
}

MISUSE(run_after_its_end, before_it_runs, "weir_loop_run: the loop has ended")
{
    run_to_the_end();
    weir_loop_run(loop);
}

/* ---- no bugs, but errors --------------------------------------------------------------------- */

static void nothing_happens(struct weir_post *post)
{
    abort();
}

/* The loop may end at any time: what comes too late is refused. */
Test(misuse, after_its_end_a_loop_refuses_all)
{
    static struct weir_post post = {.fn = nothing_happens};
    cr_assert(weir_loop_new(&loop, NULL, why, sizeof why) == 0);
    run_to_the_end();
    cr_assert_eq(weir_spawn(loop, NULL, sleep_for_ever, NULL), -ECANCELED);
    cr_assert_eq(weir_post(loop, &post), -ESHUTDOWN);
    cr_assert_eq(listens(handler), -ECANCELED);
    weir_loop_stop(loop);
    weir_loop_stop_now(loop);
    weir_loop_free(loop);
    weir_loop_free(NULL);
}

static void closes_itself_twice(struct weir_conn *served, void *argument)
{
    weir_conn_close(served);
    weir_conn_close(served); /* it lasts until this returns */
    cr_assert_eq(weir_recv(served, &buf), -ESHUTDOWN);
    cr_assert_eq(weir_send_all(served, bytes, 1), -ESHUTDOWN);
    weir_loop_stop(loop);
}

static void connects(void *argument)
{
    struct sockaddr_storage address;
    socklen_t address_bytes;
    cr_assert_eq(weir_listener_address(listener, &address, &address_bytes), 0);
    cr_assert_eq(
        weir_connect(loop, &conn, (struct sockaddr *)&address, address_bytes, WEIR_FOREVER), 0);
    cr_assert_eq(weir_send_all(conn, bytes, 1), 1);
    cr_assert(weir_recv(conn, &buf) <= 0);
    weir_conn_close(conn);
}

Test(misuse, a_handler_may_close_its_connection_more_than_once)
{
    cr_assert(weir_loop_new(&loop, NULL, why, sizeof why) == 0);
    cr_assert_eq(listens(closes_itself_twice), 0);
    cr_assert_eq(weir_spawn(loop, NULL, connects, NULL), 0);
    cr_assert_eq(weir_loop_run(loop), 0);
    weir_loop_free(loop);
}

/* A canceled task may be cancelled again, also when it has ended. */
static void cancels_twice(void *argument)
{
    struct weir_task *task;
    cr_assert_eq(weir_spawn(loop, &task, sleep_for_ever, NULL), 0);
    weir_task_cancel(task);
    weir_task_cancel(task);
    cr_assert_eq(weir_yield(), 0);
    cr_assert_eq(weir_yield(), 0);
    weir_task_cancel(task);
    cr_assert_eq(weir_join(task, WEIR_FOREVER), 0);
}

Test(misuse, a_task_may_be_cancelled_again)
{
    cr_assert(weir_loop_new(&loop, NULL, why, sizeof why) == 0);
    cr_assert_eq(weir_spawn(loop, NULL, cancels_twice, NULL), 0);
    cr_assert_eq(weir_loop_run(loop), 0);
    weir_loop_free(loop);
}
