/* Conformance: descriptors sent over Unix sockets, and sending without a copy. */
#include "conformance.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/un.h>

/* ---- descriptors over a stream --------------------------------------------------------------- */

static void pipes_open(int (*pipes)[2], unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        check_int(pipe2(pipes[i], O_CLOEXEC), ==, 0);
}

static void pipes_close(int (*pipes)[2], unsigned count)
{
    for (unsigned i = 0; i < 2 * count; i++)
        peer_close(pipes[i / 2][i % 2]);
}

static int read_byte(int fd)
{
    char byte;
    check_int(read(fd, &byte, 1), ==, 1);
    return byte;
}

/* Writes into each descriptor that came which one it is, and sends the first one back. */
static void write_into_fds(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    struct weir_fds fds;
    while (weir_conn_recv_fds(conn, &buf, &fds, WEIR_FOREVER) > 0) {
        check(!fds.truncated, "truncated");
        for (unsigned i = 0; i < fds.count; i++) {
            char number = (char)i;
            check(fcntl(fds.fds[i], F_GETFD) & FD_CLOEXEC, "not CLOEXEC");
            check_int(write(fds.fds[i], &number, 1), ==, 1);
        }
        check_int(
            weir_conn_send_fds(conn, buf.data, buf.len, fds.fds, fds.count ? 1 : 0, WEIR_FOREVER),
            ==, buf.len);
        weir_fds_close(&fds);
    }
}

static void listen_unix(struct conf_server *server, char *address, size_t bytes)
{
    snprintf(address, bytes, "unix:@weir-fds-%d", (int)getpid());
    server->listen.address = address;
    server->listen.fds = true;
    conf_start(server);
}

static int connect_unix(struct conf_server *server)
{
    int fd = peer_socket(AF_UNIX);
    peer_connect_fd(fd, server);
    return fd;
}

/* The server's answer: bytes, and one descriptor or none (-1). */
static int peer_take(int fd, const void *data, size_t bytes)
{
    _Alignas(struct cmsghdr) char space[CMSG_SPACE(sizeof(int))] = {0};
    char got[64];
    struct iovec part = {got, sizeof got};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    check_int(recvmsg(fd, &message, MSG_CMSG_CLOEXEC), ==, bytes);
    check(!memcmp(got, data, bytes), "other bytes");
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    int taken = -1;
    if (head)
        memcpy(&taken, CMSG_DATA(head), sizeof taken);
    return taken;
}

CONFORMANCE(descriptors_travel_with_their_bytes_over_a_unix_stream)
{
    char address[64];
    struct conf_server server = {.listen = {.handler = write_into_fds}};
    int pipes[3][2], out[3];
    listen_unix(&server, address, sizeof address);
    int fd = connect_unix(&server);
    pipes_open(pipes, 3);
    for (int i = 0; i < 3; i++)
        out[i] = pipes[i][1];
    for (int round = 0; round < 10; round++) {
        peer_send_fds(fd, "three", 5, out, 3);
        int back = peer_take(fd, "three", 5);
        check_int(back, >=, 0);
        for (int i = 0; i < 3; i++)
            check_int(read_byte(pipes[i][0]), ==, i);
        check_int(write(back, "b", 1), ==, 1);
        check_int(read_byte(pipes[0][0]), ==, 'b');
        peer_close(back);
        peer_send(fd, "none", 4);
        check_int(peer_take(fd, "none", 4), ==, -1);
    }
    peer_close(fd);
    pipes_close(pipes, 3);
    conf_await_conns(&server, 0);
    conf_stop(&server);
}

/* Whoever ends the wait has closed what nobody took: the pipe's reader sees its end. */
static void expect_closed(int pipes[2])
{
    char byte;
    peer_close(pipes[1]);
    check_int(read(pipes[0], &byte, 1), ==, 0);
    peer_close(pipes[0]);
}

CONFORMANCE(descriptors_that_nobody_asks_for_are_closed)
{
    char address[64];
    struct conf_server server = {.listen = {.handler = conf_echo}};
    int pipes[2][2];
    listen_unix(&server, address, sizeof address);
    int fd = connect_unix(&server);
    pipes_open(pipes, 2);
    peer_send_fds(fd, "plain", 5, &pipes[0][1], 1); /* weir_recv() takes the bytes alone */
    peer_expect(fd, "plain", 5);
    expect_closed(pipes[0]);
    peer_close(fd);
    conf_await_conns(&server, 0);
    conf_stop(&server);

    struct conf_server without = {.listen = {.handler = write_into_fds}};
    snprintf(address, sizeof address, "unix:@weir-fds-%d", (int)getpid());
    without.listen.address = address;
    conf_start(&without);
    fd = connect_unix(&without);
    peer_send_fds(fd, "plain", 5, &pipes[1][1], 1);
    check_int(peer_take(fd, "plain", 5), ==, -1);
    expect_closed(pipes[1]);
    peer_close(fd);
    conf_await_conns(&without, 0);
    conf_stop(&without);
}

/* ---- as a client, and more than there is room for -------------------------------------------- */

struct stream {
    struct weir_conn *conn;
    int peer;
};

static void stream_open(struct stream *stream)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int listening = peer_socket(AF_UNIX);
    int bytes = snprintf(at.sun_path + 1, sizeof at.sun_path - 1, "weir-fds-%d-to", (int)getpid());
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)bytes);
    check_int(bind(listening, (struct sockaddr *)&at, size), ==, 0);
    check_int(listen(listening, 1), ==, 0);
    check_int(
        weir_connect(weir_loop_self(), &stream->conn, (struct sockaddr *)&at, size, WEIR_FOREVER),
        ==, 0);
    stream->peer = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
    peer_close(listening);
    weir_conn_take_fds(stream->conn);
}

static void many_and_unread(void *argument)
{
    struct stream stream;
    struct weir_buf buf = {0};
    struct weir_fds fds;
    int pipes[3][2], many[WEIR_FDS_MAX + 4];
    stream_open(&stream);
    pipes_open(pipes, 3);
    check_int(weir_conn_recv_fds(stream.conn, &buf, &fds, weir_now_ns() + WEIR_MILLISECOND), ==,
              -ETIME);
    for (int i = 0; i < WEIR_FDS_MAX + 4; i++)
        many[i] = pipes[0][1];
    peer_send_fds(stream.peer, "many", 4, many, WEIR_FDS_MAX + 4);
    peer_send_fds(stream.peer, "one", 3, &pipes[1][1], 1);
    peer_send_fds(stream.peer, "unread", 6, &pipes[2][1], 1);
    check_int(weir_conn_recv_fds(stream.conn, &buf, &fds, WEIR_FOREVER), ==, 4);
    check_int(fds.count, ==, WEIR_FDS_MAX);
    check(fds.truncated, "not told of those that did not fit");
    weir_fds_close(&fds);
    expect_closed(pipes[0]);
    check_int(weir_conn_recv_fds(stream.conn, &buf, &fds, WEIR_FOREVER), ==, 3);
    check_int(fds.count, ==, 1);
    check(!fds.truncated, "truncated");
    weir_fds_close(&fds);
    expect_closed(pipes[1]);
    conf_settle(); /* the last message has come, and nobody reads it before the close */
    weir_buf_put(weir_loop_self(), &buf);
    weir_conn_close(stream.conn);
    peer_close(stream.peer);
    conf_settle();
    expect_closed(pipes[2]);
}

CONFORMANCE(too_many_descriptors_are_told_and_unread_ones_closed)
{
    conf_run(NULL, many_and_unread, NULL);
}

/* A large message with descriptors goes in parts, to a peer that reads late: all of its bytes
 * follow, and the descriptors came once. */
enum { LARGE = 3 << 20 };

static void send_much(void *argument)
{
    struct stream *stream = argument;
    static uint8_t data[LARGE];
    int pipes[2];
    pattern_fill(data, sizeof data, 3, 0);
    check_int(pipe2(pipes, O_CLOEXEC), ==, 0);
    check_int(weir_conn_send_fds(stream->conn, data, sizeof data, &pipes[1], 1, WEIR_FOREVER), ==,
              sizeof data);
    expect_closed(pipes); /* the peer did not ask for it */
}

static int read_late(void *argument)
{
    peer_recv_pattern(((struct stream *)argument)->peer, LARGE, 3, 0);
    return 0;
}

static void send_in_parts(void *argument)
{
    struct stream stream;
    struct weir_task *task;
    int bad = 12345;
    stream_open(&stream);
    check_int(weir_conn_send_fds(stream.conn, "x", 1, &bad, 1, WEIR_FOREVER), ==, -EBADF);
    check_int(weir_spawn(weir_loop_self(), &task, send_much, &stream), ==, 0);
    conf_settle();
    check_int(weir_blocking(read_late, &stream, WEIR_FOREVER), ==, 0);
    check_int(weir_join(task, WEIR_FOREVER), ==, 0);
    weir_conn_close(stream.conn);
    peer_close(stream.peer);
}

CONFORMANCE(a_large_message_with_a_descriptor_goes_whole)
{
    conf_run(NULL, send_in_parts, NULL);
}

/* ---- over datagrams -------------------------------------------------------------------------- */

static void over_datagrams(void *argument)
{
    int ends[2], pipes[3][2];
    struct weir_dgram *a, *b;
    struct weir_datagram in = {0};
    check_int(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), ==, 0);
    struct weir_dgram_options options = {.fd = ends[0], .fds = true};
    check_int(weir_dgram_open(weir_loop_self(), &a, &options), ==, 0);
    options.fd = ends[1];
    check_int(weir_dgram_open(weir_loop_self(), &b, &options), ==, 0);
    pipes_open(pipes, 3);
    for (int i = 0; i < 3; i++)
        check_int(weir_dgram_send_fds(a, &i, sizeof i, &pipes[i][1], 1, NULL, 0, WEIR_FOREVER), ==,
                  sizeof i);
    for (int i = 0; i < 2; i++) {
        check_int(weir_dgram_recv(b, &in, WEIR_FOREVER), ==, sizeof i);
        check(!memcmp(in.buf.data, &i, sizeof i), "not in order");
        check_int(in.fds.count, ==, 1);
        check(fcntl(in.fds.fds[0], F_GETFD) & FD_CLOEXEC, "not CLOEXEC");
        weir_fds_close(&in.fds);
        expect_closed(pipes[i]);
    }
    weir_buf_put(weir_loop_self(), &in.buf);
    weir_dgram_close(a);
    weir_dgram_close(b); /* with one unread */
    conf_settle();
    expect_closed(pipes[2]);
}

CONFORMANCE(descriptors_travel_with_datagrams)
{
    conf_run(NULL, over_datagrams, NULL);
}

/* ---- without a copy -------------------------------------------------------------------------- */

enum { ZERO_COPY = 2 << 20 };
static uint8_t memory[ZERO_COPY];

static void send_zero_copy(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    while (weir_recv(conn, &buf) > 0) {
        for (uint64_t seed = 1; seed <= 3; seed++) {
            pattern_fill(memory, sizeof memory, seed, 0); /* it is ours again */
            check_int(weir_send_zero_copy(conn, memory, sizeof memory, WEIR_FOREVER), ==,
                      sizeof memory);
        }
        memset(memory, 0, sizeof memory);
        check_int(weir_send_zero_copy(conn, memory, 0, WEIR_FOREVER), ==, 0);
    }
}

static void ask_for_it(struct conf_server *server, int fd)
{
    peer_send(fd, "x", 1);
    for (uint64_t seed = 1; seed <= 3; seed++)
        peer_recv_pattern(fd, ZERO_COPY, seed, 0);
    peer_close(fd);
    conf_await_conns(server, 0);
    conf_stop(server);
}

CONFORMANCE(memory_sent_without_a_copy_is_the_callers_again)
{
    struct conf_server server = {.listen = {.handler = send_zero_copy}};
    conf_start(&server);
    ask_for_it(&server, peer_connect(&server));
}

CONFORMANCE(a_socket_that_always_copies_sends_all_the_same)
{
    char address[64];
    struct conf_server server = {.listen = {.handler = send_zero_copy}};
    listen_unix(&server, address, sizeof address);
    ask_for_it(&server, connect_unix(&server));
}

static uint8_t unread_memory[16 << 20]; /* more than a socket takes */

struct unread {
    struct sockaddr_storage address;
    socklen_t address_bytes;
    int listening, peer;
    struct weir_conn *conn;
};

static void connect_unread(struct unread *unread)
{
    check_int(weir_connect(weir_loop_self(), &unread->conn, (struct sockaddr *)&unread->address,
                           unread->address_bytes, WEIR_FOREVER),
              ==, 0);
    unread->peer = accept4(unread->listening, NULL, NULL, SOCK_CLOEXEC);
}

static void send_unread(void *argument)
{
    struct unread *unread = argument;
    int res = weir_send_zero_copy(unread->conn, unread_memory, sizeof unread_memory, WEIR_FOREVER);
    memset(unread_memory, 1, sizeof unread_memory);
    check(res == -ECANCELED || res == -ESHUTDOWN, "%d", res);
}

/* The peer reads nothing, so what was taken stays with the kernel for ever. */
static void never_acknowledged(void *argument)
{
    struct unread unread;
    struct weir_task *task;
    unread.listening = peer_listen(&unread.address, &unread.address_bytes, 8, 4096);
    connect_unread(&unread);
    check_int(weir_send_zero_copy(unread.conn, unread_memory, sizeof unread_memory,
                                  weir_now_ns() + 5 * WEIR_MILLISECOND),
              ==, -ETIME);
    check_int(weir_send_zero_copy(unread.conn, memory, 1, WEIR_FOREVER), ==, -ETIME);
    weir_conn_close(unread.conn);
    peer_close(unread.peer);
    for (int abort = 0; abort < 2; abort++) {
        connect_unread(&unread);
        check_int(weir_spawn(weir_loop_self(), &task, send_unread, &unread), ==, 0);
        conf_settle();
        if (abort)
            weir_conn_abort(unread.conn);
        else
            weir_task_cancel(task);
        check_int(weir_join(task, WEIR_FOREVER), ==, 0);
        if (!abort)
            weir_conn_close(unread.conn);
        peer_close(unread.peer);
    }
    peer_close(unread.listening);
}

CONFORMANCE(a_send_without_a_copy_ends_though_the_peer_never_reads)
{
    conf_run(NULL, never_acknowledged, NULL);
}

static void listen_with_small_buffers(void *argument)
{
    struct weir_listen_options options = {
        .handler = conf_echo, .address = "unix:@weir-small-buffers", .fds = true};
    struct weir_listener *listener;
    char why[256] = "";
    check_int(weir_listen(weir_loop_self(), &listener, &options, why, sizeof why), ==, -EINVAL);
    check(strstr(why, "buf_bytes"), "%s", why);
}

/* What comes before the bytes would not fit. */
CONFORMANCE(who_takes_descriptors_needs_buffers_of_512_bytes)
{
    struct weir_loop_options options = {.buf_bytes = 511};
    conf_run(&options, listen_with_small_buffers, NULL);
}
