/* The model bare-epoll over real sockets: it serves in a thread, the test is its clients. */
#include "tests/legacy/rig.h"

#include <weir/model.h>
#include <weir/workload.h>

#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

extern const struct weir_model weir__model_bare_epoll;

struct server {
    struct weir_model_options options;
    struct weir_model_stats stats;
    struct sockaddr_storage address;
    socklen_t address_bytes;
    pthread_t thread;
    atomic_int ready;
    int rc;
    char why[256];
};

static void note_ready(void *argument, const char *features)
{
    struct server *server = argument;
    atomic_fetch_add(&server->ready, 1);
}

static void *serve(void *argument)
{
    struct server *server = argument;
    server->rc = weir__model_bare_epoll.serve(&server->options, &server->stats, note_ready, server,
                                              server->why, sizeof server->why);
    return NULL;
}

static void start(struct server *server, int sndbuf)
{
    *server = (struct server){0};
    int listener = tcp_listener(1024, &server->address, &server->address_bytes);
    if (sndbuf)
        cr_assert(eq(int, setsockopt(listener, SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof sndbuf), 0));
    server->options = (struct weir_model_options){
        .listen_fd = listener, .stop_fd = eventfd(0, EFD_CLOEXEC), .drain_ns = 5000000000ull};
    cr_assert(eq(int, pthread_create(&server->thread, NULL, serve, server), 0));
    for (int i = 0; i < 60000 && !atomic_load(&server->ready); i++)
        usleep(1000);
    cr_assert(eq(int, atomic_load(&server->ready), 1));
}

static void stop(struct server *server)
{
    cr_assert(eq(int, eventfd_write(server->options.stop_fd, 1), 0));
    cr_assert(eq(int, pthread_join(server->thread, NULL), 0));
    cr_assert(eq(int, server->rc, 0), "%s", server->why);
    cr_assert(eq(u64, server->stats.slots[0].accepted, server->stats.slots[0].closed));
    cr_assert(eq(int, fcntl(server->options.listen_fd, F_GETFL) & O_NONBLOCK, 0),
              "the listener was left changed");
    close(server->options.listen_fd);
    close(server->options.stop_fd);
}

static int client(const struct server *server)
{
    int fd = tcp_socket();
    struct timeval limit = {.tv_sec = RIG_LIMIT_S};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    cr_assert(
        eq(int, connect(fd, (const struct sockaddr *)&server->address, server->address_bytes), 0));
    return fd;
}

/* All that was sent is with the server's kernel. */
static void await_arrival(int fd)
{
    int unacknowledged = 1;
    for (int i = 0; i < RIG_LIMIT_S * 1000 && unacknowledged; i++) {
        cr_assert(eq(int, ioctl(fd, SIOCOUTQ, &unacknowledged), 0));
        if (unacknowledged)
            usleep(1000);
    }
    cr_assert(eq(int, unacknowledged, 0));
}

static void expect_echo(int fd, const char *text)
{
    char answer[256] = "";
    size_t bytes = strlen(text);
    cr_assert(eq(int, (int)send(fd, text, bytes, MSG_NOSIGNAL), (int)bytes));
    cr_assert(eq(int, (int)recv(fd, answer, bytes, MSG_WAITALL), (int)bytes));
    cr_assert(eq(str, answer, (char *)text));
}

Test(bare_epoll, what_comes_goes_back_on_each_connection)
{
    struct server server;
    int fds[300];
    start(&server, 0);
    for (int i = 0; i < 300; i++)
        fds[i] = client(&server);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 300; i++) {
            char text[48];
            snprintf(text, sizeof text, "%d of connection %d", round, i);
            expect_echo(fds[i], text);
        }
    }
    for (int i = 0; i < 300; i++)
        close(fds[i]);
    stop(&server);
    cr_assert(eq(u64, server.stats.slots[0].accepted, 300u));
    cr_assert(eq(u64, server.stats.slots[0].bytes_in, server.stats.slots[0].bytes_out));
    cr_assert(eq(u64, server.stats.slots[0].errors, 0u));
}

/* Sends until the path is full, then reads it all: nothing may be lost, doubled or turned round. */
Test(bare_epoll, a_slow_reader_gets_every_byte_and_others_are_served_meanwhile)
{
    enum { BYTES = 8 << 20 };
    struct server server;
    start(&server, 4096);
    int slow = client(&server), quick = client(&server);
    uint8_t *sent = malloc(BYTES), *got = malloc(BYTES);
    fill_pattern(sent, BYTES, 7);
    size_t at = 0, back = 0;
    cr_assert(eq(int, fcntl(slow, F_SETFL, O_NONBLOCK), 0));
    while (at < BYTES) {
        ssize_t n = send(slow, sent + at, BYTES - at, MSG_NOSIGNAL);
        at += n > 0 ? (size_t)n : 0;
        struct pollfd room = {.fd = slow, .events = POLLOUT};
        if (n < 0 && poll(&room, 1, 200) == 0)
            break;
    }
    cr_assert(lt(sz, at, (size_t)BYTES), "the server read on although nobody took its answers");
    expect_echo(quick, "quick");
    while (back < BYTES) {
        struct pollfd either = {.fd = slow,
                                .events = (short)(at < BYTES ? POLLIN | POLLOUT : POLLIN)};
        cr_assert(eq(int, poll(&either, 1, RIG_LIMIT_S * 1000), 1));
        ssize_t n = at < BYTES ? send(slow, sent + at, BYTES - at, MSG_NOSIGNAL) : 0;
        at += n > 0 ? (size_t)n : 0;
        n = recv(slow, got + back, BYTES - back, 0);
        cr_assert(n > 0 || (n < 0 && errno == EAGAIN));
        back += n > 0 ? (size_t)n : 0;
    }
    cr_assert(eq(int, memcmp(sent, got, BYTES), 0));
    close(slow);
    close(quick);
    free(sent);
    free(got);
    stop(&server);
}

Test(bare_epoll, a_reset_ends_one_connection_alone)
{
    struct server server;
    start(&server, 0);
    int bad = client(&server), good = client(&server);
    expect_echo(bad, "still here");
    set_reset_on_close(bad);
    close(bad);
    expect_echo(good, "here too");
    close(good);
    stop(&server);
    cr_assert(eq(u64, server.stats.slots[0].accepted, 2u));
}

Test(bare_epoll, out_of_descriptors_it_backs_off_and_serves_the_rest)
{
    struct server server;
    struct rlimit saved, low;
    int fds[8];
    need_the_kernels_limit();
    start(&server, 0);
    fds[0] = client(&server);
    expect_echo(fds[0], "first");
    /* Room for the clients' own ends, made before, and for one more connection of the server. */
    for (int i = 1; i < 8; i++)
        fds[i] = tcp_socket();
    int next = dup(fds[0]);
    close(next);
    cr_assert(eq(int, getrlimit(RLIMIT_NOFILE, &saved), 0));
    low = (struct rlimit){.rlim_cur = (rlim_t)next + 1, .rlim_max = saved.rlim_max};
    cr_assert(eq(int, setrlimit(RLIMIT_NOFILE, &low), 0));
    struct timeval limit = {.tv_sec = RIG_LIMIT_S};
    for (int i = 1; i < 8; i++) {
        setsockopt(fds[i], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        cr_assert(
            eq(int, connect(fds[i], (struct sockaddr *)&server.address, server.address_bytes), 0));
    }
    expect_echo(fds[1], "second");
    for (int turns = 0; turns < 3; turns++) /* in one of them at least it tries to accept */
        expect_echo(fds[0], "the first is served still");
    cr_assert(eq(int, (int)send(fds[2], "x", 1, 0), 1));
    struct pollfd third = {.fd = fds[2], .events = POLLIN};
    cr_assert(eq(int, poll(&third, 1, 50), 0));
    cr_assert(eq(int, setrlimit(RLIMIT_NOFILE, &saved), 0));
    char answer;
    cr_assert(eq(int, (int)recv(fds[2], &answer, 1, MSG_WAITALL), 1));
    for (int i = 3; i < 8; i++)
        expect_echo(fds[i], "and now all");
    for (int i = 0; i < 8; i++)
        close(fds[i]);
    stop(&server);
    cr_assert(eq(u64, server.stats.slots[0].accepted, 8u));
    cr_assert(ge(u64, server.stats.slots[0].errors, 1u));
}

Test(bare_epoll, a_stop_answers_what_has_come)
{
    struct server server;
    int fds[40];
    start(&server, 0);
    for (int i = 0; i < 40; i++) {
        fds[i] = client(&server);
        expect_echo(fds[i], "before");
        cr_assert(eq(int, (int)send(fds[i], "last", 4, 0), 4));
        await_arrival(fds[i]);
    }
    stop(&server);
    for (int i = 0; i < 40; i++) {
        char answer[8];
        cr_assert(eq(int, (int)recv(fds[i], answer, 8, MSG_WAITALL), 4));
        close(fds[i]);
    }
}

Test(bare_epoll, a_peer_that_never_reads_holds_a_stop_no_longer_than_the_drain)
{
    static uint8_t data[1 << 20];
    struct server server;
    start(&server, 4096);
    server.options.drain_ns = 50000000;
    int fd = client(&server);
    cr_assert(eq(int, fcntl(fd, F_SETFL, O_NONBLOCK), 0));
    struct pollfd room = {.fd = fd, .events = POLLOUT};
    while (poll(&room, 1, 200) == 1)
        cr_assert(gt(int, (int)send(fd, data, sizeof data, MSG_NOSIGNAL), 0));
    stop(&server);
    close(fd);
}

Test(bare_epoll, it_refuses_other_workloads_and_says_so)
{
    static const struct weir_workload other = {.name = "http"};
    struct weir_model_options options = {.listen_fd = -1, .stop_fd = -1, .workload = &other};
    struct weir_model_stats stats = {0};
    char why[128] = "";
    cr_assert(eq(int,
                 weir__model_bare_epoll.serve(&options, &stats, note_ready, NULL, why, sizeof why),
                 -EINVAL));
    cr_assert(strstr(why, "only echo") != NULL, "%s", why);
}

Test(bare_epoll, a_listener_that_is_none_is_an_error_with_its_cure)
{
    struct weir_model_options options = {.listen_fd = 9999, .stop_fd = -1};
    struct weir_model_stats stats = {0};
    char why[128] = "";
    cr_assert(eq(int,
                 weir__model_bare_epoll.serve(&options, &stats, note_ready, NULL, why, sizeof why),
                 -EBADF));
    cr_assert(strstr(why, "hand in") != NULL, "%s", why);
}
