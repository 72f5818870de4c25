/* Conformance: splices and sendfile. */
#include "conformance.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

enum { MUCH = 3000000 };

/* ---- a connection to itself ------------------------------------------------------------------ */

/* Reads a little in the usual way, then splices, and at the end goes back: what lies between
 * must not be lost. The first weir_recv() leaves more in the connection's queue. */
static void echo_by_splice(struct weir_conn *conn, void *argument)
{
    uint64_t *spliced = argument;
    struct weir_splice splice;
    struct weir_buf buf = {0};
    int got = weir_recv_until(conn, &buf, WEIR_FOREVER);
    check_int(got, >, 0);
    check_int(weir_send(conn, &buf), ==, got);
    check_int(weir_splice_open(&splice, weir_end_conn(conn), weir_end_conn(conn)), ==, 0);
    int64_t moved = 1;
    while (splice.moved + (uint64_t)got < MUCH && moved > 0)
        moved = weir_splice(&splice, MUCH - (size_t)got - splice.moved, WEIR_FOREVER);
    check_int(moved, >, 0);
    *spliced = splice.moved;
    weir_splice_close(&splice);
    while ((got = weir_recv_until(conn, &buf, WEIR_FOREVER)) > 0)
        weir_send(conn, &buf);
    check_int(got, ==, 0);
}

CONFORMANCE(a_spliced_connection_loses_nothing_before_and_after)
{
    uint64_t spliced = 0;
    struct conf_server server = {.listen = {.handler = echo_by_splice, .argument = &spliced},
                                 .options.buf_bytes = 4096};
    conf_start(&server);
    int fd = peer_connect(&server);
    struct peer_pump pump = {.fd = fd, .bytes = MUCH + 20000, .seed = 3, .shutdown = true};
    peer_pump_start(&pump);
    peer_recv_pattern(fd, MUCH + 20000, 3, 0);
    peer_pump_join(&pump);
    check_int(peer_end(fd, NULL), ==, 0);
    peer_close(fd);
    conf_stop(&server);
    check_int(spliced, >, MUCH / 2);
}

/* ---- cut short ------------------------------------------------------------------------------- */

static void splice_with_deadlines(struct weir_conn *conn, void *argument)
{
    struct weir_splice splice;
    atomic_uint *cut = argument;
    int64_t moved = -ETIME;
    int send_bytes = 32768; /* so that it does not all go into the socket at once */
    setsockopt(weir_conn_fd(conn), SOL_SOCKET, SO_SNDBUF, &send_bytes, sizeof send_bytes);
    check_int(weir_splice_open(&splice, weir_end_conn(conn), weir_end_conn(conn)), ==, 0);
    for (; moved > 0 || moved == -ETIME; *cut += moved == -ETIME)
        moved = weir_splice(&splice, SIZE_MAX, weir_now_ns() + 100000);
    check_int(moved, ==, 0);
    check_int(splice.moved, ==, MUCH);
    weir_splice_close(&splice);
    weir_conn_close(conn);
}

/* The peer reads nothing until the splice has often been unable to write. */
CONFORMANCE(a_splice_that_is_cut_short_goes_on_where_it_was)
{
    static atomic_uint cut;
    struct conf_server server = {.listen = {.handler = splice_with_deadlines, .argument = &cut}};
    conf_start(&server);
    int fd = peer_connect_sized(&server, 8192, 8192);
    struct peer_pump pump = {.fd = fd, .bytes = MUCH, .seed = 4, .shutdown = true};
    peer_pump_start(&pump);
    while (cut < 20)
        usleep(100);
    peer_recv_pattern(fd, MUCH, 4, 0);
    peer_pump_join(&pump);
    check_int(peer_end(fd, NULL), ==, 0);
    peer_close(fd);
    conf_stop(&server);
}

static struct weir_conn *aborted;

static void abort_it(void *argument)
{
    conf_settle();
    weir_conn_abort(aborted);
}

static void splice_in_vain(struct weir_conn *conn, void *argument)
{
    struct weir_splice splice;
    aborted = conn;
    check_int(weir_splice_open(&splice, weir_end_conn(conn), weir_end_conn(conn)), ==, 0);
    check_int(weir_spawn(weir_conn_loop(conn), NULL, abort_it, NULL), ==, 0);
    check_int(weir_splice(&splice, 1, WEIR_FOREVER), >, 0);
    check_int(weir_splice(&splice, 1, WEIR_FOREVER), ==, -ESHUTDOWN);
    check_int(weir_splice(&splice, 1, WEIR_FOREVER), ==, -ESHUTDOWN);
    weir_splice_close(&splice);
}

CONFORMANCE(a_splice_ends_with_its_connection)
{
    struct conf_server server = {.listen.handler = splice_in_vain};
    conf_start(&server);
    int fd = peer_connect(&server);
    peer_send(fd, "x", 1);
    peer_expect(fd, "x", 1);
    check_int(peer_end(fd, NULL), ==, -ECONNRESET);
    peer_close(fd);
    conf_stop(&server);
}

/* ---- descriptors ----------------------------------------------------------------------------- */

static void feed_pipe(void *argument)
{
    static char data[200000];
    pattern_fill(data, sizeof data, 5, 0);
    check_int(weir_fd_write_all(*(int *)argument, data, sizeof data, WEIR_FOREVER), ==,
              sizeof data);
    close(*(int *)argument);
}

/* pipe -> socket, and a file in between. */
static void splice_descriptors(void *argument)
{
    static char data[200000];
    int pipe[2], pair[2], file = memfd_create("weir", MFD_CLOEXEC);
    struct weir_splice splice;
    check_int(weir_pipe(pipe), ==, 0);
    check_int(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), ==, 0);
    check_int(weir_spawn(weir_loop_self(), NULL, feed_pipe, &pipe[1]), ==, 0);
    check_int(weir_splice_open(&splice, weir_end_fd(pipe[0]), weir_end_fd(file)), ==, 0);
    while (weir_splice(&splice, SIZE_MAX, WEIR_FOREVER) > 0)
        ;
    check_int(splice.moved, ==, sizeof data);
    weir_splice_close(&splice);
    check_int(pread(file, data, sizeof data, 0), ==, sizeof data);
    pattern_check(data, sizeof data, 5, 0);

    int64_t offset = 150000;
    check_int(weir_sendfile(weir_end_fd(pair[0]), file, &offset, 50000, WEIR_FOREVER), ==, 50000);
    check_int(offset, ==, 200000);
    check_int(weir_sendfile(weir_end_fd(pair[0]), file, &offset, 1, WEIR_FOREVER), ==, 0);
    check_int(recv(pair[1], data, sizeof data, MSG_WAITALL | MSG_DONTWAIT), ==, 50000);
    pattern_check(data, 50000, 5, 150000);

    check_int(weir_splice_open(&splice, weir_end_fd(pair[0]), weir_end_fd(pair[0])), ==, 0);
    check_int(weir_splice(&splice, 1, weir_now_ns() + 1000000), ==, -ETIME);
    close(pair[1]);
    check_int(weir_splice(&splice, 1, WEIR_FOREVER), ==, 0);
    weir_splice_close(&splice);
    offset = 0;
    check_int(weir_sendfile(weir_end_fd(pair[0]), file, &offset, 9, WEIR_FOREVER), ==, -EPIPE);
    check_int(offset, ==, 0);
    check_int(fcntl(pair[0], F_SETFL, 0), ==, 0);
    check_int(weir_splice_open(&splice, weir_end_fd(pair[0]), weir_end_fd(pipe[0])), ==, -EINVAL);
    check_int(weir_splice_open(&splice, weir_end_fd(-1), weir_end_fd(pipe[0])), ==, -EBADF);
    close(pair[0]);
    close(pipe[0]);
    close(file);
}

CONFORMANCE(pipes_sockets_and_files_are_spliced)
{
    conf_run(NULL, splice_descriptors, NULL);
}

/* ---- sendfile -------------------------------------------------------------------------------- */

static void send_the_file(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    while (weir_recv(conn, &buf) > 0) {
        int64_t offset = 0;
        weir_send(conn, &buf); /* goes before */
        check_int(
            weir_sendfile(weir_end_conn(conn), *(int *)argument, &offset, UINT64_MAX, WEIR_FOREVER),
            ==, MUCH);
        check_int(offset, ==, MUCH);
    }
}

CONFORMANCE(a_file_is_sent_after_what_was_handed_over)
{
    int file = memfd_create("weir", MFD_CLOEXEC);
    check_int(ftruncate(file, MUCH), ==, 0);
    void *data = mmap(NULL, MUCH, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    pattern_fill(data, MUCH, 6, 0);
    munmap(data, MUCH);
    struct conf_server server = {.listen = {.handler = send_the_file, .argument = &file}};
    conf_start(&server);
    int fd = peer_connect_sized(&server, 16384, 0);
    for (int i = 0; i < 2; i++) {
        peer_send(fd, "get", 3);
        peer_expect(fd, "get", 3);
        peer_recv_pattern(fd, MUCH, 6, 0);
    }
    peer_close(fd);
    conf_stop(&server);
    close(file);
}
