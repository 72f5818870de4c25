/* Values of a task's own: they are each task's, and end with it. Nothing here depends on the
 * engine.
 */
#include <criterion/criterion.h>

#include <assert.h>
#include <errno.h>
#include <string.h>

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <weir/weir.h>

static int key, other_key;
static char ended[64];

static void note_end(void *value)
{
    strcat(ended, value);
}

static void note_end_and_set(void *value)
{
    strcat(ended, value);
    weir_local_set(key, "late ");
}

static void new_keys(void (*destructor)(void *value))
{
    key = weir_local_key_new(note_end);
    other_key = weir_local_key_new(destructor);
    cr_assert_geq(key, 0);
    cr_assert_gt(other_key, key);
}

static void run(const char *engine, weir_task_fn *fn)
{
    struct weir_loop_options options = {.engine = engine};
    struct weir_loop *loop;
    char why[256];
    cr_assert_eq(weir_loop_new(&loop, &options, why, sizeof why), 0, "%s", why);
    cr_assert_eq(weir_spawn(loop, NULL, fn, loop), 0);
    cr_assert_eq(weir_loop_run(loop), 0);
    weir_loop_free(loop);
}

static void set_and_yield(void *argument)
{
    assert(!weir_local_get(key));
    weir_local_set(key, argument);
    assert(!weir_yield());
    assert(weir_local_get(key) == argument && !weir_local_get(other_key));
}

static int set_in_scope(void *argument)
{
    weir_local_set(key, argument);
    return 0;
}

static void spawn_some(void *argument)
{
    weir_local_set(key, "parent ");
    weir_scope_auto(scope, WEIR_FOREVER);
    assert(!weir_spawn(argument, NULL, set_and_yield, "a"));
    assert(!weir_spawn(argument, NULL, set_and_yield, "b"));
    assert(!weir_scope_spawn(&scope, set_in_scope, "c"));
    assert(!weir_scope_close(&scope));
    assert(!weir_yield() && !weir_yield());
    assert(!strcmp(weir_local_get(key), "parent "));
}

Test(local, each_task_has_values_of_its_own_that_end_with_it)
{
    new_keys(NULL);
    run("auto", spawn_some);
    cr_assert_str_eq(ended, "cabparent ");
}

static void set_both(void *argument)
{
    weir_local_set(key, NULL);
    weir_local_set(other_key, "first ");
}

Test(local, a_destructor_may_set_values_and_null_has_none)
{
    new_keys(note_end_and_set);
    run("auto", set_both);
    cr_assert_str_eq(ended, "first late ");
}

Test(local, there_are_so_many_keys_and_no_more)
{
    for (int i = 0; i < WEIR_LOCAL_KEYS; i++)
        cr_assert_eq(weir_local_key_new(NULL), i);
    cr_assert_eq(weir_local_key_new(NULL), -EAGAIN);
}

/* ---- handlers -------------------------------------------------------------------------------- */

static void echo_and_set(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    assert(!weir_local_get(key)); /* also where the same task ran it before */
    while (weir_recv(conn, &buf) > 0) {
        weir_local_set(key, "x");
        weir_send(conn, &buf);
    }
}

static void talk(void *argument)
{
    struct weir_loop *loop = argument;
    struct weir_listen_options options = {.handler = echo_and_set};
    struct weir_listener *listener;
    struct sockaddr_storage address;
    socklen_t bytes;
    struct weir_conn *conn;
    struct weir_buf buf = {0};
    char why[256];
    assert(!weir_listen(loop, &listener, &options, why, sizeof why));
    assert(!weir_listener_address(listener, &address, &bytes));
    assert(!weir_connect(loop, &conn, (struct sockaddr *)&address, bytes, WEIR_FOREVER));
    for (int i = 0; i < 3; i++) {
        assert(weir_send_all(conn, "?", 1) == 1);
        assert(weir_recv(conn, &buf) == 1);
    }
    weir_buf_put(loop, &buf);
    weir_conn_close(conn);
    weir_listener_close(listener);
}

Test(local, of_handlers_run_per_burst_values_end_as_they_return)
{
    new_keys(NULL);
    run("epoll", talk);
    cr_assert_str_eq(ended, "xxx");
}

Test(local, of_handlers_run_per_connection_values_end_with_the_connection)
{
    new_keys(NULL);
    run("epoll:per=connection", talk);
    cr_assert_str_eq(ended, "x");
}
