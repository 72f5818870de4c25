/* Conformance of the models: SIGTERM. What has come is answered, the rest ends, nothing is left. */
#include "tests/legacy/models.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

TestSuite(models_drain, .timeout = 3 * LIMIT_S);

#define HOURS "7200"

Test(models_drain, a_server_without_a_connection_ends)
{
    struct server server = {0};
    SERVER_START(&server, 1, "echo", "--drain", HOURS);
    server_stop(&server);
}

Test(models_drain, an_interrupt_ends_it_as_well)
{
    struct server server = {0};
    SERVER_START(&server, 1, "echo", "--drain", HOURS);
    int fd = client(&server);
    expect_text(fd, "hello");
    cr_assert_eq(kill(server.process.pid, SIGINT), 0);
    server_ends(&server, 0);
    close(fd);
}

Test(models_drain, idle_connections_are_closed_and_new_ones_refused)
{
    enum { CONNS = 10 };
    struct server server = {0};
    int fds[CONNS];
    unsigned conns = at_once(CONNS);
    SERVER_START(&server, conns, "echo", "--drain", HOURS);
    struct sockaddr_in address = server.address;
    for (unsigned i = 0; i < conns; i++) {
        fds[i] = client(&server);
        if (i % 2 == 0)
            expect_text(fds[i], "here");
    }
    await_counter(&server, "accepted", conns);
    server_stop(&server);
    for (unsigned i = 0; i < conns; i++) {
        expect_eof(fds[i]);
        close(fds[i]);
    }
    int late = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(connect(late, (struct sockaddr *)&address, sizeof address), -1);
    cr_assert_eq(errno, ECONNREFUSED);
    close(late);
}

Test(models_drain, what_was_sent_before_is_answered)
{
    enum { CONNS = 10 };
    struct server server = {0};
    int fds[CONNS];
    unsigned conns = at_once(CONNS);
    SERVER_START(&server, conns, "echo", "--drain", HOURS);
    for (unsigned i = 0; i < conns; i++) {
        fds[i] = client(&server);
        expect_text(fds[i], "before");
    }
    server_freeze(&server);
    for (unsigned i = 0; i < conns; i++)
        send_whole(fds[i], "last", 4);
    for (unsigned i = 0; i < conns; i++)
        await_arrival(fds[i]);
    cr_assert_eq(kill(server.process.pid, SIGTERM), 0);
    server_thaw(&server);
    server_ends(&server, 0);
    for (unsigned i = 0; i < conns; i++) {
        receive_whole(fds[i], "last", 4);
        expect_eof(fds[i]);
        close(fds[i]);
    }
}

Test(models_drain, requests_sent_ahead_are_all_answered_before_the_end)
{
    enum { BYTES = 100000 };
    struct server server = {0};
    uint8_t *data = pattern(BYTES, 4);
    SERVER_START(&server, 1, "echo", "--drain", HOURS);
    int fd = client(&server);
    expect_text(fd, "before");
    server_freeze(&server);
    send_whole(fd, data, BYTES);
    await_arrival(fd);
    cr_assert_eq(kill(server.process.pid, SIGTERM), 0);
    server_thaw(&server);
    receive_whole(fd, data, BYTES);
    expect_eof(fd);
    server_ends(&server, 0);
    close(fd);
    free(data);
}

Test(models_drain, who_came_too_late_is_answered_or_sees_the_end)
{
    enum { CONNS = 6 };
    struct server server = {0};
    int fds[CONNS];
    SERVER_START(&server, 2, "echo", "--drain", HOURS);
    await_service(&server);
    server_freeze(&server);
    for (unsigned i = 0; i < CONNS; i++) {
        fds[i] = client(&server);
        send_whole(fds[i], "late", 4);
    }
    cr_assert_eq(kill(server.process.pid, SIGTERM), 0);
    server_thaw(&server);
    for (unsigned i = 0; i < CONNS; i++) {
        char answer[8];
        ssize_t got = recv(fds[i], answer, sizeof answer, MSG_WAITALL);
        if (got < 0)
            cr_assert_eq(errno, ECONNRESET);
        else
            cr_assert(got == 0 || (got == 4 && !memcmp(answer, "late", 4)));
        close(fds[i]);
    }
    server_ends(&server, 0);
}

/* More than fits into the sockets, so that the server has to wait for the peer in the drain. */
Test(models_drain, a_peer_that_reads_late_gets_all_that_was_read_from_it)
{
    enum { BYTES = 16 << 20 };
    struct server server = {0};
    uint8_t *data = pattern(BYTES, 1);
    SERVER_START(&server, 1, "echo", "--drain", HOURS);
    int slow = client_small(&server);
    size_t sent = send_until_stuck(slow, data, BYTES);
    cr_assert_eq(kill(server.process.pid, SIGTERM), 0);
    pause_ms(30);
    half_close(slow);
    /* The server may have left unread what waits behind the answers it cannot send. */
    size_t back = 0;
    static uint8_t got[65536];
    for (ssize_t n; (n = recv(slow, got, sizeof got, 0)) > 0; back += (size_t)n)
        cr_assert_eq(memcmp(got, data + back, (size_t)n), 0, "other bytes after %zu", back);
    cr_assert_leq(back, sent);
    cr_assert_gt(back, 0);
    server_ends(&server, 0);
    close(slow);
    free(data);
}

Test(models_drain, a_peer_that_never_reads_holds_it_no_longer_than_the_drain)
{
    enum { BYTES = 16 << 20 };
    struct server server = {0};
    unsigned conns = at_once(2);
    uint8_t *data = pattern(BYTES, 2);
    SERVER_START(&server, conns, "echo", "--drain", "0.1");
    int idle = conns > 1 ? client(&server) : -1;
    int stuck = client_small(&server);
    if (conns > 1)
        expect_text(idle, "hello");
    send_until_stuck(stuck, data, BYTES);
    server_stop(&server);
    close(stuck);
    if (conns > 1)
        close(idle);
    free(data);
}

Test(models_drain, a_second_signal_ends_it_at_once)
{
    enum { BYTES = 16 << 20 };
    struct server server = {0};
    uint8_t *data = pattern(BYTES, 3);
    SERVER_START(&server, 1, "echo", "--drain", HOURS);
    int stuck = client_small(&server);
    send_until_stuck(stuck, data, BYTES);
    cr_assert_eq(kill(server.process.pid, SIGTERM), 0);
    pause_ms(100);
    cr_assert_eq(kill(server.process.pid, 0), 0, "it did not wait for the peer");
    cr_assert_eq(kill(server.process.pid, SIGTERM), 0);
    server_ends(&server, 128 + SIGTERM);
    close(stuck);
    free(data);
}

/* --- under load ---------------------------------------------------------------------------------
 */

struct caller {
    struct server *server;
    pthread_t thread;
    unsigned answers;
};

/* Connects, asks a few times, and again, until the server is no more. */
static void *call_again_and_again(void *argument)
{
    struct caller *caller = argument;
    const struct sockaddr_in *address = &caller->server->address;
    for (bool goes_on = true; goes_on;) {
        struct timeval limit = {.tv_sec = LIMIT_S};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        goes_on = connect(fd, (const struct sockaddr *)address, sizeof *address) == 0;
        for (int i = 0; goes_on && i < 3; i++) {
            goes_on = is_served(fd, "a request of some bytes");
            __atomic_fetch_add(&caller->answers, goes_on, __ATOMIC_RELAXED);
        }
        close(fd);
    }
    return NULL;
}

Test(models_drain, under_load_every_answer_is_whole_and_it_ends)
{
    enum { CALLERS = 6 };
    struct server server = {0};
    struct caller callers[CALLERS];
    unsigned conns = at_once(CALLERS);
    SERVER_START(&server, conns, "echo", "--drain", HOURS);
    for (unsigned i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){.server = &server};
        cr_assert_eq(pthread_create(&callers[i].thread, NULL, call_again_and_again, &callers[i]),
                     0);
    }
    double until_s = clock_s() + LIMIT_S;
    for (unsigned i = 0; i < CALLERS; i++)
        while (__atomic_load_n(&callers[i].answers, __ATOMIC_RELAXED) < 10) {
            cr_assert_lt(clock_s(), until_s);
            pause_ms(1);
        }
    cr_assert_eq(kill(server.process.pid, SIGTERM), 0);
    for (unsigned i = 0; i < CALLERS; i++)
        cr_assert_eq(pthread_join(callers[i].thread, NULL), 0);
    server_ends(&server, 0);
}
