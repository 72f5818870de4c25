/* Conformance of the models: `echo`, whose bytes come back as they came. */
#include "tests/legacy/models.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

TestSuite(models_echo, .timeout = 3 * LIMIT_S);

Test(models_echo, pieces_of_any_size_come_back)
{
    static const size_t sizes[] = {1, 100, 65536, 1 << 20};
    struct server server = {0};
    SERVER_START(&server, 1, "echo");
    int fd = client(&server);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint8_t *data = pattern(sizes[i], (uint32_t)i);
        expect_echo(fd, data, sizes[i]);
        expect_echo(fd, data, sizes[i]);
        free(data);
    }
    close(fd);
    server_stop(&server);
}

Test(models_echo, what_is_split_over_writes_comes_back_whole)
{
    struct server server = {0};
    uint8_t *data = pattern(2000, 3);
    SERVER_START(&server, 1, "echo");
    int fd = client(&server);
    for (size_t at = 0; at < 2000; at += 250) {
        send_whole(fd, data + at, 250);
        pause_ms(1); /* so that most likely the server sees several pieces; either way is right */
    }
    receive_whole(fd, data, 2000);
    close(fd);
    free(data);
    server_stop(&server);
}

Test(models_echo, requests_sent_ahead_are_answered_in_order)
{
    enum { REQUESTS = 1000, BYTES = 100 };
    struct server server = {0};
    uint8_t *data = pattern(REQUESTS * BYTES, 4);
    SERVER_START(&server, 1, "echo");
    int fd = client(&server);
    for (int i = 0; i < REQUESTS; i++)
        send_whole(fd, data + (size_t)i * BYTES, BYTES);
    receive_whole(fd, data, REQUESTS * BYTES);
    close(fd);
    free(data);
    server_stop(&server);
}

Test(models_echo, each_of_many_connections_gets_its_own_bytes)
{
    enum { CONNS = 24, ROUNDS = 5 };
    struct server server = {0};
    int fds[CONNS];
    unsigned conns = at_once(CONNS);
    SERVER_START(&server, conns, "echo");
    for (unsigned i = 0; i < conns; i++)
        fds[i] = client(&server);
    for (int round = 0; round < ROUNDS; round++) {
        char text[CONNS][48];
        for (unsigned i = 0; i < conns; i++) {
            snprintf(text[i], sizeof text[i], "round %d of connection %u", round, i);
            send_whole(fds[i], text[i], strlen(text[i]));
        }
        for (unsigned i = conns; i-- > 0;)
            receive_whole(fds[i], text[i], strlen(text[i]));
    }
    for (unsigned i = 0; i < conns; i++)
        close(fds[i]);
    server_stop(&server);
}

Test(models_echo, more_connections_than_are_served_at_once_are_served_in_turn)
{
    enum { CONNS = 12 };
    struct server server = {0};
    int fds[CONNS];
    SERVER_START(&server, 1, "echo");
    for (int i = 0; i < CONNS; i++) {
        fds[i] = client(&server);
        send_whole(fds[i], "my turn", 7);
        half_close(fds[i]);
    }
    for (int i = 0; i < CONNS; i++) {
        receive_whole(fds[i], "my turn", 7);
        expect_eof(fds[i]);
        close(fds[i]);
    }
    server_stop(&server);
}

Test(models_echo, a_peer_that_half_closes_gets_all_answers_and_then_the_end)
{
    enum { BYTES = 300000 };
    struct server server = {0};
    uint8_t *data = pattern(BYTES, 5);
    SERVER_START(&server, 1, "echo");
    for (int i = 0; i < 3; i++) {
        int fd = client(&server);
        if (i == 0) { /* all at once, and the end right behind it */
            send_whole(fd, data, 1000);
            half_close(fd);
            receive_whole(fd, data, 1000);
        } else { /* answers are on their way still */
            talk(fd, data, BYTES, data, 1000);
            half_close(fd);
            receive_whole(fd, data + 1000, BYTES - 1000);
        }
        expect_eof(fd);
        close(fd);
    }
    free(data);
    server_stop(&server);
}

Test(models_echo, a_reset_ends_one_connection_alone)
{
    enum { BYTES = 65536, RESETS = 5 };
    struct server server = {0};
    unsigned conns = at_once(2);
    uint8_t *data = pattern(BYTES, 6);
    SERVER_START(&server, conns, "echo");
    int good = conns > 1 ? client(&server) : -1;
    for (int i = 0; i < RESETS; i++) {
        int bad = client(&server);
        if (i % 2) /* in the middle of it */
            expect_echo(bad, data, 100);
        if (i > 0)
            send_whole(bad, data, BYTES);
        close_by_reset(bad);
        if (conns > 1)
            expect_text(good, "still here");
    }
    int next = conns > 1 ? good : client(&server);
    expect_text(next, "and on it goes");
    close(next);
    /* One that was reset before it was accepted never was, for the server. */
    uint64_t accepted = server_counter(&server, "accepted");
    await_counter(&server, "closed", accepted);
    free(data);
    server_stop(&server);
}

/* The loops of blocking calls serve nobody else while they wait for a peer to read; bare-uring has
 * so few buffers, for all connections, that one peer can have them all. */
static bool serves_others_beside_a_stuck_one(void)
{
    bool blocks = subject_is(WEIR_MODEL_BLOCKING) && !subject_is(WEIR_MODEL_HOLDS_WORKER) &&
                  !subject_is(WEIR_MODEL_WORKER_PER_CONN);
    return at_once(2) > 1 && !blocks && strcmp(subject_spec(), "bare-uring") != 0;
}

/* More than all sockets between them hold: a receive buffer may grow to 32 MiB. */
enum { MORE_THAN_FITS = 128 << 20 };

Test(models_echo, a_peer_that_never_reads_holds_up_nobody_else)
{
    struct server server = {0};
    if (!serves_others_beside_a_stuck_one())
        cr_skip_test("%s cannot, by its nature", subject_spec());
    uint8_t *data = calloc(1, MORE_THAN_FITS);
    SERVER_START(&server, 2, "echo");
    int stuck = client_small(&server), good = client(&server);
    expect_text(good, "before");
    cr_assert_lt(send_until_stuck(stuck, data, MORE_THAN_FITS), (size_t)MORE_THAN_FITS,
                 "it read on although nobody took its answers");
    for (int i = 0; i < 20; i++)
        expect_text(good, "meanwhile");
    close_by_reset(stuck);
    expect_text(good, "after");
    close(good);
    free(data);
    server_stop(&server);
}

Test(models_echo, once_a_peer_that_never_read_has_gone_the_next_is_served)
{
    struct server server = {0};
    uint8_t *data = calloc(1, MORE_THAN_FITS);
    SERVER_START(&server, 1, "echo");
    int stuck = client_small(&server);
    cr_assert_lt(send_until_stuck(stuck, data, MORE_THAN_FITS), (size_t)MORE_THAN_FITS,
                 "it read on although nobody took its answers");
    int next = client(&server);
    send_whole(next, "waiting", 7);
    close(stuck); /* with its answers unread: that is a reset */
    receive_whole(next, "waiting", 7);
    close(next);
    free(data);
    server_stop(&server);
}

/* Sends until the path is full, then reads it all: nothing is lost, doubled or turned round, also
 * where a signal cuts a blocked call short. */
Test(models_echo, a_slow_reader_gets_every_byte)
{
    enum { BYTES = 8 << 20 };
    struct server server = {0};
    uint8_t *data = pattern(BYTES, 9);
    SERVER_START(&server, 1, "echo");
    int slow = client_small(&server);
    size_t at = send_until_stuck(slow, data, BYTES), back = 0;
    for (int i = 0; i < 20; i++, back += 500) { /* in sips, at first */
        receive_whole(slow, data + back, 500);
        cr_assert_eq(server_counter(&server, "accepted"), 1);
    }
    talk(slow, data + at, BYTES - at, data + back, BYTES - back);
    close(slow);
    free(data);
    server_stop(&server);
}

Test(models_echo, a_connection_without_a_byte_is_none_the_worse)
{
    struct server server = {0};
    SERVER_START(&server, 1, "echo");
    for (int i = 0; i < 20; i++)
        close(client(&server));
    int fd = client(&server);
    half_close(fd);
    expect_eof(fd);
    close(fd);
    fd = client(&server);
    expect_text(fd, "with bytes");
    close(fd);
    await_counter(&server, "closed", 22);
    cr_assert_eq(server_counter(&server, "accepted"), 22);
    server_stop(&server);
}

static void one_connection_after_another(struct server *server, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        int fd = client(server);
        expect_text(fd, "come and gone");
        close(fd);
    }
}

Test(models_echo, connections_that_have_gone_leave_nothing_behind)
{
    struct server server = {0};
    SERVER_START(&server, 1, "echo");
    one_connection_after_another(&server, 5);
    await_counter(&server, "closed", 5);
    struct footprint before = footprint_of(&server);
    before.zombies = 0;
    one_connection_after_another(&server, 200);
    await_counter(&server, "closed", 205);
    await_footprint(&server, before);
    cr_assert_eq(server_counter(&server, "accepted"), 205);
    server_stop(&server);
}

/* hsha has 256 jobs: the rest of the connections stands in line. */
Test(models_echo, more_requests_at_once_than_a_queue_is_long_are_all_answered)
{
    enum { CONNS = 400, WITH_A_WORKER_EACH = 40 };
    struct server server = {0};
    int fds[CONNS];
    bool each = subject_is(WEIR_MODEL_HOLDS_WORKER);
    unsigned conns = at_once(each ? WITH_A_WORKER_EACH : CONNS);
    SERVER_START(&server, each ? conns : 4, "echo");
    for (unsigned i = 0; i < conns; i++)
        fds[i] = client(&server);
    server_freeze(&server);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < conns; i++)
            send_whole(fds[i], &i, sizeof i);
        for (unsigned i = 0; i < conns; i++)
            await_arrival(fds[i]);
        server_thaw(&server);
        for (unsigned i = 0; i < conns; i++)
            receive_whole(fds[i], &i, sizeof i);
        server_freeze(&server);
    }
    server_thaw(&server);
    for (unsigned i = 0; i < conns; i++)
        close(fds[i]);
    server_stop(&server);
}
