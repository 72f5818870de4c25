/* Conformance: streams over Unix sockets. */
#include "conformance.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>

static char path[64];

static const char *unix_address(const char *what)
{
    static char address[80];
    snprintf(path, sizeof path, "/tmp/weir-unix-%d-%s", (int)getpid(), what);
    snprintf(address, sizeof address, "unix:%s", path);
    return address;
}

static int peer_connect_unix(const struct conf_server *server)
{
    int fd = peer_socket(AF_UNIX);
    peer_connect_fd(fd, server);
    return fd;
}

static bool exists(void)
{
    struct stat look;
    return stat(path, &look) == 0;
}

CONFORMANCE(a_unix_stream_echoes_by_a_path_that_is_gone_afterwards)
{
    struct conf_server server = {.listen = {.handler = conf_echo}};
    struct stat look;
    server.listen.address = unix_address("echo");
    server.listen.mode = 0600;
    conf_start(&server);
    check_int(stat(path, &look), ==, 0);
    check_int(look.st_mode & 0777, ==, 0600);
    for (int i = 0; i < 3; i++) {
        int fd = peer_connect_unix(&server);
        peer_echo(fd, 300000, (uint64_t)i);
        peer_close(fd);
    }
    conf_stop(&server);
    check(!exists(), "the path was left");
    check_int(server.stats.accepted, ==, 3);
}

CONFORMANCE(a_unix_stream_listens_by_an_abstract_name)
{
    char address[64];
    struct conf_server server = {.listen = {.handler = conf_echo, .address = address}};
    snprintf(address, sizeof address, "unix:@weir-%d-abstract", (int)getpid());
    conf_start(&server);
    int fd = peer_connect_unix(&server);
    peer_echo(fd, 1000, 1);
    peer_close(fd);
    conf_stop(&server);
}

/* The last bytes and the end come at once: neither may be missed, whichever is seen first. */
CONFORMANCE(the_end_of_a_unix_stream_comes_with_its_last_bytes)
{
    struct conf_server server = {.listen = {.handler = conf_echo}};
    server.listen.address = unix_address("end");
    conf_start(&server);
    for (unsigned i = 0; i < conf_scale(200); i++) {
        int fd = peer_connect_unix(&server);
        uint64_t bytes = 0;
        peer_send(fd, "hello", 5);
        if (i % 2)
            peer_expect(fd, "hello", 5);
        peer_send(fd, "last", 4);
        peer_shutdown(fd);
        check_int(peer_end(fd, &bytes), ==, 0);
        check_int(bytes, ==, i % 2 ? 4 : 9);
        peer_close(fd);
    }
    conf_await_conns(&server, 0);
    conf_stop(&server);
}

static void half_close(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    size_t got = 0;
    check_int(weir_conn_shutdown(conn), ==, 0);
    for (int res; (res = weir_recv_until(conn, &buf, WEIR_FOREVER)) > 0;)
        got += (size_t)res;
    check_int(got, ==, 100000);
}

CONFORMANCE(a_unix_stream_that_sends_no_more_still_receives)
{
    struct conf_server server = {.listen = {.handler = half_close}};
    server.listen.address = unix_address("half");
    conf_start(&server);
    int fd = peer_connect_unix(&server);
    char byte;
    peer_send(fd, "x", 1); /* per=burst: the handler runs when something has come */
    check_int(peer_recv(fd, &byte, 1), ==, 0);
    peer_send_pattern(fd, 99999, 1, 0);
    peer_close(fd);
    conf_await_conns(&server, 0);
    conf_stop(&server);
}

/* ---- connecting ------------------------------------------------------------------------------ */

static void echo_as_client(void *argument)
{
    struct conf_server *server = argument;
    struct weir_conn *conn;
    struct weir_buf buf = {0};
    char sent[500], got[500];
    size_t at = 0;
    check_int(weir_connect(weir_loop_self(), &conn, (struct sockaddr *)&server->address,
                           server->address_bytes, WEIR_FOREVER),
              ==, 0);
    pattern_fill(sent, sizeof sent, 1, 0);
    check_int(weir_send_all(conn, sent, sizeof sent), ==, sizeof sent);
    check_int(weir_conn_shutdown(conn), ==, 0);
    for (int res; (res = weir_recv(conn, &buf)) > 0; at += (size_t)res)
        memcpy(got + at, buf.data, buf.len);
    check_int(at, ==, sizeof got);
    check(!memcmp(sent, got, sizeof got), "other bytes");
    weir_conn_close(conn);
    weir_loop_stop(weir_loop_self());
}

static void spawn_client(struct conf_server *server)
{
    check_int(weir_spawn(server->loop, NULL, echo_as_client, server), ==, 0);
}

CONFORMANCE(weir_connects_to_a_unix_stream)
{
    struct conf_server server = {.listen = {.handler = conf_echo}, .setup = spawn_client};
    server.listen.address = unix_address("client");
    conf_start(&server);
    conf_join(&server);
    check(!exists(), "the path was left");
}

struct full {
    struct sockaddr_un address;
    int listening;
    struct weir_conn *conn;
    int result;
};

static void connect_later(void *argument)
{
    struct full *full = argument;
    full->result = weir_connect(weir_loop_self(), &full->conn, (struct sockaddr *)&full->address,
                                sizeof full->address, WEIR_FOREVER);
}

/* Its backlog is full: who connects waits until it is not, or no longer than it wants to. */
static void connect_to_a_full_one(void *argument)
{
    struct weir_loop *loop = weir_loop_self();
    struct full full = {.address.sun_family = AF_UNIX, .result = 1};
    struct weir_conn *first, *conn;
    struct weir_task *task;
    unix_address("full");
    strcpy(full.address.sun_path, path);
    const struct sockaddr *to = (struct sockaddr *)&full.address;
    check_int(weir_connect(loop, &conn, to, sizeof full.address, WEIR_FOREVER), ==, -ENOENT);
    full.listening = peer_socket(AF_UNIX);
    check_int(bind(full.listening, to, sizeof full.address), ==, 0);
    check_int(weir_connect(loop, &conn, to, sizeof full.address, WEIR_FOREVER), ==, -ECONNREFUSED);
    check_int(listen(full.listening, 0), ==, 0);
    check_int(weir_connect(loop, &first, to, sizeof full.address, WEIR_FOREVER), ==, 0);
    check_int(
        weir_connect(loop, &conn, to, sizeof full.address, weir_now_ns() + 2 * WEIR_MILLISECOND),
        ==, -ETIME);
    check_int(weir_spawn(loop, &task, connect_later, &full), ==, 0);
    conf_settle();
    check_int(full.result, ==, 1);
    peer_close(accept(full.listening, NULL, NULL));
    check_int(weir_join(task, WEIR_FOREVER), ==, 0);
    check_int(full.result, ==, 0);
    weir_conn_close(first);
    weir_conn_close(full.conn);
    peer_close(full.listening);
    unlink(path);
}

CONFORMANCE(connecting_to_a_unix_socket_waits_for_its_backlog)
{
    conf_run(NULL, connect_to_a_full_one, NULL);
}

static void listen_where_another_is(void *argument)
{
    struct weir_listen_options options = {.handler = conf_echo, .address = unix_address("taken")};
    struct weir_listener *first, *second;
    char why[256];
    check_int(weir_listen(weir_loop_self(), &first, &options, why, sizeof why), ==, 0);
    check_int(weir_listen(weir_loop_self(), &second, &options, why, sizeof why), ==, -EADDRINUSE);
    check(strstr(why, path), "%s", why);
    check(exists(), "it took another's path away");
    /* A file that has come in its place is not ours to remove. */
    check_int(unlink(path), ==, 0);
    check_int(close(open(path, O_CREAT | O_WRONLY, 0600)), ==, 0);
    weir_listener_close(first);
    conf_settle();
    check(exists(), "it took another's file away");
    unlink(path);
    options.address = "unix:";
    check_int(weir_listen(weir_loop_self(), &second, &options, why, sizeof why), ==, -EINVAL);
}

CONFORMANCE(a_unix_path_that_exists_is_left_alone)
{
    conf_run(NULL, listen_where_another_is, NULL);
}
