/*
 * A reactor of callbacks and its connections, on each call that tells of readiness; one thread, the
 * peers' ends in its hands. What every model promises over real sockets is tested in models.c.
 */
#include "legacy/models/callback.h"
#include "legacy/models/stop.h"
#include "tests/legacy/rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/select.h>

/* --- a workload: each byte is a request ---------------------------------------------------------
 */

enum { LARGE_BYTES = 1 << 20 };

static uint8_t large[LARGE_BYTES];

static void init_state(void *state, const struct weir_workload_options *options)
{
    memset(state, 0, sizeof(uint32_t));
}

/* '_': no answer; 'R': a line from the room; 'L': much that never changes; 'Q': "bye" and the end;
 * '!': refused; any others come back as they are, in one piece. */
static int feed(void *state, const uint8_t *in, size_t bytes, struct weir_workload_io *io)
{
    uint32_t *count = state;
    size_t plain = 0;
    while (plain < bytes && !strchr("_RLQ!", in[plain]))
        plain++;
    io->consumed = plain > 0 ? plain : 1;
    io->requests = (uint32_t)io->consumed;
    io->reply_is_input = plain > 0;
    io->reply_is_static = plain == 0 && *in == 'L';
    io->reply = io->reply_is_input ? in : io->reply_is_static ? large : io->out;
    io->reply_len = 0;
    *count += io->requests;
    if (plain > 0)
        io->reply_len = plain;
    else if (*in == 'L')
        io->reply_len = LARGE_BYTES;
    else if (*in == 'R')
        io->reply_len =
            (size_t)snprintf((char *)io->out, io->out_capacity, "%u %0100u\n", *count, 0u);
    else if (*in == 'Q')
        io->reply_len = (size_t)snprintf((char *)io->out, io->out_capacity, "bye");
    return plain > 0 || strchr("_RL", *in) ? WEIR_WORKLOAD_CONTINUE
           : *in == 'Q'                    ? WEIR_WORKLOAD_CLOSE
                                           : -EPROTO;
}

static const struct weir_workload workload = {
    .name = "test", .state_bytes = sizeof(uint32_t), .init = init_state, .feed = feed};

/* --- a reactor and a peer -----------------------------------------------------------------------
 */

struct bench {
    struct weir_model_options options;
    struct weir_model_stats stats;
    struct weir__callbacks *reactor;
};

static void open_bench(struct bench *bench, const struct weir__readiness *readiness)
{
    *bench = (struct bench){0};
    bench->options = (struct weir_model_options){
        .listen_fd = -1, .stop_fd = eventfd(0, EFD_CLOEXEC), .workload = &workload};
    bench->options.drain_ns = RIG_LIMIT_S * 1000000000ull;
    bench->reactor =
        malloc(readiness->reactor_bytes ? readiness->reactor_bytes : sizeof *bench->reactor);
    fill_pattern(large, sizeof large, 3);
    weir__stop_init(&bench->options);
    cr_assert(
        eq(int,
           weir__callbacks_open(bench->reactor, &bench->options, &bench->stats.slots[0], readiness),
           0));
}

static void close_bench(struct bench *bench)
{
    weir__callbacks_close(bench->reactor);
    free(bench->reactor);
    close(bench->options.stop_fd);
}

/* The peer's end of a connection that the reactor serves; both ends take few bytes if `narrow`. */
static int connect_peer(struct bench *bench, bool narrow)
{
    int fds[2], small = 4096;
    local_pair(fds);
    if (narrow)
        cr_assert(eq(int, setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0));
    weir__callbacks_adopt(bench->reactor, fds[1]);
    return fds[0];
}

/* Until a turn finds nothing ready. */
static void turns(struct bench *bench)
{
    int n;
    while ((n = bench->reactor->readiness->wait(bench->reactor, 0)) > 0)
        continue;
    cr_assert(eq(int, n, 0));
}

static void put(int fd, const char *text)
{
    cr_assert(eq(int, (int)send(fd, text, strlen(text), MSG_NOSIGNAL), (int)strlen(text)));
}

/* Takes `bytes` (at most), while the reactor turns. How many came before the end. */
static size_t take(struct bench *bench, int fd, uint8_t *to, size_t bytes)
{
    size_t at = 0;
    while (at < bytes) {
        ssize_t got = recv(fd, to + at, bytes - at, 0);
        if (got == 0)
            break;
        cr_assert(got > 0 || errno == EAGAIN);
        at += got > 0 ? (size_t)got : 0;
        if (got < 0 && bench->reactor->readiness->wait(bench->reactor, 0) == 0)
            break;
    }
    return at;
}

static void expect(struct bench *bench, int fd, const char *text)
{
    char got[512] = "";
    take(bench, fd, (uint8_t *)got, strlen(text));
    cr_assert(eq(str, got, (char *)text));
}

static void expect_end(int fd)
{
    char byte;
    cr_assert(eq(int, (int)recv(fd, &byte, 1, 0), 0));
}

/* One text for each readiness call. */
#define READINESS_TEST(name)                                                                       \
    static void run_##name(const struct weir__readiness *readiness);                               \
    Test(epoll, name)                                                                              \
    {                                                                                              \
        run_##name(&weir__readiness_epoll);                                                        \
    }                                                                                              \
    Test(epoll_et, name)                                                                           \
    {                                                                                              \
        run_##name(&weir__readiness_epoll_et);                                                     \
    }                                                                                              \
    Test(poll, name)                                                                               \
    {                                                                                              \
        run_##name(&weir__readiness_poll);                                                         \
    }                                                                                              \
    Test(select, name)                                                                             \
    {                                                                                              \
        run_##name(&weir__readiness_select);                                                       \
    }                                                                                              \
    static void run_##name(const struct weir__readiness *readiness)

/* --- answering ----------------------------------------------------------------------------------
 */

READINESS_TEST(what_comes_is_answered_on_each_connection)
{
    struct bench bench;
    int fds[100];
    char text[32];
    open_bench(&bench, readiness);
    for (int i = 0; i < 100; i++)
        fds[i] = connect_peer(&bench, false);
    for (int i = 0; i < 100; i++) {
        snprintf(text, sizeof text, "to %d", i);
        put(fds[i], text);
    }
    turns(&bench);
    for (int i = 0; i < 100; i++) {
        snprintf(text, sizeof text, "to %d", i);
        expect(&bench, fds[i], text);
        close(fds[i]);
    }
    turns(&bench);
    cr_assert(eq(u64, bench.stats.slots[0].closed, 100u));
    cr_assert(bench.reactor->clients == NULL);
    close_bench(&bench);
}

READINESS_TEST(those_that_end_in_the_midst_of_others_disturb_none)
{
    struct bench bench;
    int fds[40];
    open_bench(&bench, readiness);
    for (int i = 0; i < 40; i++)
        fds[i] = connect_peer(&bench, false);
    for (int part = 0; part < 4; part++) {
        for (int i = part; i < 40; i += 4)
            close(fds[i]);
        turns(&bench);
        cr_assert(eq(u64, bench.stats.slots[0].closed, 10u * (unsigned)(part + 1)));
        for (int i = 0; i < 40; i++) {
            if (i % 4 <= part)
                continue;
            put(fds[i], "others");
            expect(&bench, fds[i], "others");
        }
    }
    cr_assert(bench.reactor->clients == NULL);
    close_bench(&bench);
}

READINESS_TEST(more_requests_than_an_answer_has_pieces_are_all_answered_in_order)
{
    struct bench bench;
    char asked[301], expected[64];
    open_bench(&bench, readiness);
    int fd = connect_peer(&bench, false);
    for (int i = 0; i < 300; i++)
        asked[i] = i % 2 ? 'x' : 'R';
    asked[300] = 0;
    put(fd, asked);
    turns(&bench);
    for (int i = 0; i < 300; i += 2) {
        snprintf(expected, sizeof expected, "%d ", i + 1);
        expect(&bench, fd, expected);
        uint8_t rest[102];
        cr_assert(eq(sz, take(&bench, fd, rest, sizeof rest), sizeof rest));
        cr_assert(eq(chr, (char)rest[101], 'x'));
    }
    close(fd);
    close_bench(&bench);
}

READINESS_TEST(the_end_a_workload_wants_comes_after_its_last_answer)
{
    struct bench bench;
    open_bench(&bench, readiness);
    int good = connect_peer(&bench, false), bad = connect_peer(&bench, false);
    put(good, "abcQ");
    put(bad, "xyz!");
    turns(&bench);
    expect(&bench, good, "abcbye");
    expect_end(good);
    expect(&bench, bad, "xyz");
    expect_end(bad);
    cr_assert(eq(u64, bench.stats.slots[0].refused, 1u));
    cr_assert(eq(u64, bench.stats.slots[0].errors, 0u));
    close(good);
    close(bad);
    close_bench(&bench);
}

READINESS_TEST(a_half_closed_peer_is_answered_and_then_closed)
{
    struct bench bench;
    open_bench(&bench, readiness);
    int fd = connect_peer(&bench, false);
    put(fd, "last");
    cr_assert(eq(int, shutdown(fd, SHUT_WR), 0));
    turns(&bench);
    expect(&bench, fd, "last");
    expect_end(fd);
    close(fd);
    close_bench(&bench);
}

READINESS_TEST(a_reset_ends_one_connection_alone_and_is_no_error_of_ours)
{
    struct bench bench;
    int fds[2];
    open_bench(&bench, readiness);
    int good = connect_peer(&bench, false);
    tcp_pair(fds);
    cr_assert(eq(int, fcntl(fds[1], F_SETFL, O_NONBLOCK), 0));
    weir__callbacks_adopt(bench.reactor, fds[1]);
    set_reset_on_close(fds[0]);
    close(fds[0]);
    turns(&bench);
    put(good, "still here");
    expect(&bench, good, "still here");
    cr_assert(eq(u64, bench.stats.slots[0].closed, 1u));
    cr_assert(eq(u64, bench.stats.slots[0].errors, 0u));
    close(good);
    close_bench(&bench);
}

/* --- peers that do not read ---------------------------------------------------------------------
 */

READINESS_TEST(what_a_socket_does_not_take_is_kept_and_nothing_more_is_read)
{
    struct bench bench;
    static uint8_t sent[256 * 1024], got[sizeof sent];
    open_bench(&bench, readiness);
    int fd = connect_peer(&bench, true), other = connect_peer(&bench, false);
    fill_pattern(sent, sizeof sent, 7);
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] |= 0x80; /* none is a command */
    size_t at = 0, back = 0;
    for (;;) {
        ssize_t n = send(fd, sent + at, sizeof sent - at, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        at += (size_t)n;
        turns(&bench);
    }
    cr_assert(lt(sz, at, sizeof sent), "it read on although nobody took its answers");
    put(other, "quick");
    expect(&bench, other, "quick");
    while (back < sizeof sent) {
        back += take(&bench, fd, got + back, at - back);
        ssize_t n = at < sizeof sent ? send(fd, sent + at, sizeof sent - at, MSG_NOSIGNAL) : 0;
        at += n > 0 ? (size_t)n : 0;
        turns(&bench);
    }
    cr_assert(eq(int, memcmp(sent, got, sizeof sent), 0));
    cr_assert(bench.reactor->clients->unsent == NULL);
    close(fd);
    close(other);
    close_bench(&bench);
}

READINESS_TEST(input_behind_a_full_socket_is_answered_in_order_from_memory_that_never_changes)
{
    struct bench bench;
    static uint8_t got[LARGE_BYTES];
    open_bench(&bench, readiness);
    int fd = connect_peer(&bench, true);
    put(fd, "aLbLcLdLeLfLgLhLiLjLkR");
    turns(&bench);
    cr_assert(bench.reactor->clients->unsent != NULL);
    for (int i = 0; i < 10; i++) {
        cr_assert(eq(sz, take(&bench, fd, got, 1), 1));
        cr_assert(eq(chr, (char)got[0], (char)('a' + i)));
        cr_assert(eq(sz, take(&bench, fd, got, sizeof got), sizeof got));
        cr_assert(eq(int, memcmp(got, large, sizeof got), 0));
    }
    expect(&bench, fd, "k22 ");
    close(fd);
    close_bench(&bench);
}

Test(epoll, what_is_kept_is_copied_but_for_what_never_changes)
{
    struct weir__answer answer = {.count = 2, .is_static = 2, .bytes = 3 + LARGE_BYTES};
    answer.pieces[0] = (struct iovec){"abc", 3};
    answer.pieces[1] = (struct iovec){large, LARGE_BYTES};
    struct weir__unsent *unsent = weir__unsent_new(&answer, (const uint8_t *)"more", 4);
    cr_assert(eq(int, memcmp(unsent->answer.pieces[0].iov_base, "abc", 3), 0));
    cr_assert(unsent->answer.pieces[0].iov_base == unsent->bytes);
    cr_assert(unsent->answer.pieces[1].iov_base == large);
    cr_assert(unsent->in == unsent->bytes + 3);
    cr_assert(eq(int, memcmp(unsent->in, "more", 4), 0));
    free(unsent);
}

READINESS_TEST(the_end_waits_until_the_last_answer_has_left)
{
    struct bench bench;
    static uint8_t got[LARGE_BYTES];
    open_bench(&bench, readiness);
    int fd = connect_peer(&bench, true);
    put(fd, "LQ and nothing of this");
    cr_assert(eq(sz, take(&bench, fd, got, sizeof got), sizeof got));
    expect(&bench, fd, "bye");
    turns(&bench);
    expect_end(fd);
    close(fd);
    close_bench(&bench);
}

READINESS_TEST(a_peer_that_goes_while_its_answer_waits_is_noticed)
{
    struct bench bench;
    open_bench(&bench, readiness);
    int fd = connect_peer(&bench, true);
    put(fd, "L");
    turns(&bench);
    cr_assert(bench.reactor->clients != NULL);
    close(fd);
    turns(&bench);
    cr_assert(bench.reactor->clients == NULL);
    cr_assert(eq(u64, bench.stats.slots[0].closed, 1u));
    cr_assert(eq(u64, bench.stats.slots[0].errors, 0u));
    close_bench(&bench);
}

/* --- the stop -----------------------------------------------------------------------------------
 */

/* Serves until the stop, which has come already, and drains. */
static void stop(struct bench *bench)
{
    cr_assert(eq(int, weir__callbacks_stop_on(bench->reactor, bench->options.stop_fd), 0));
    cr_assert(eq(int, eventfd_write(bench->options.stop_fd, 1), 0));
    cr_assert(eq(int, weir__callbacks_serve(bench->reactor), 0));
    weir__callbacks_drain(bench->reactor);
    cr_assert(bench->reactor->clients == NULL);
}

READINESS_TEST(a_stop_answers_all_that_has_come_however_much)
{
    struct bench bench;
    static uint8_t sent[3 * WEIR__IN_BYTES], got[sizeof sent];
    int size = 2 * sizeof sent;
    open_bench(&bench, readiness);
    int idle = connect_peer(&bench, false), busy = connect_peer(&bench, false);
    setsockopt(busy, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    setsockopt(bench.reactor->clients->handler.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    memset(sent, '.', sizeof sent);
    size_t at = 0;
    for (ssize_t n; at < sizeof sent; at += (size_t)n)
        if ((n = send(busy, sent + at, sizeof sent - at, MSG_NOSIGNAL)) < 0)
            break;
    cr_assert(gt(sz, at, (size_t)WEIR__IN_BYTES));
    stop(&bench);
    cr_assert(eq(sz, take(&bench, busy, got, at), at));
    expect_end(busy);
    expect_end(idle);
    close(idle);
    close(busy);
    close_bench(&bench);
}

READINESS_TEST(a_peer_that_never_reads_holds_a_stop_no_longer_than_the_drain)
{
    struct bench bench;
    open_bench(&bench, readiness);
    bench.options.drain_ns = 30000000;
    weir__stop_init(&bench.options);
    int fd = connect_peer(&bench, true);
    put(fd, "L");
    turns(&bench);
    stop(&bench);
    cr_assert(eq(u64, bench.stats.slots[0].closed, 1u));
    close(fd);
    close_bench(&bench);
}

Test(epoll, a_connection_that_cannot_be_watched_is_closed_and_counted)
{
    struct bench bench;
    open_bench(&bench, &weir__readiness_epoll);
    weir__callbacks_adopt(bench.reactor, open("/dev/null", O_RDONLY | O_CLOEXEC));
    cr_assert(bench.reactor->clients == NULL);
    cr_assert(eq(u64, bench.stats.slots[0].errors, 1u));
    cr_assert(eq(u64, bench.stats.slots[0].closed, 1u));
    close_bench(&bench);
}

Test(epoll_et, one_that_has_much_to_say_stands_in_line_behind_the_others)
{
    enum { AT_A_STRETCH = 4 * WEIR__IN_BYTES };
    struct bench bench;
    static uint8_t silence[2 * AT_A_STRETCH];
    int size = sizeof silence;
    size_t at = 0;
    open_bench(&bench, &weir__readiness_epoll_et);
    int busy = connect_peer(&bench, false), quick = connect_peer(&bench, false);
    memset(silence, '_', sizeof silence);
    setsockopt(busy, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    for (ssize_t n; (n = send(busy, silence, sizeof silence - at, MSG_NOSIGNAL)) > 0;)
        at += (size_t)n;
    cr_assert(gt(sz, at, (size_t)AT_A_STRETCH), "net.core.wmem_max is too small for this test");
    put(quick, "quick");
    cr_assert(gt(int, bench.reactor->readiness->wait(bench.reactor, 0), 0));
    cr_assert(eq(u64, bench.stats.slots[0].bytes_in, AT_A_STRETCH + 5u));
    expect(&bench, quick, "quick");
    turns(&bench);
    cr_assert(eq(u64, bench.stats.slots[0].bytes_in, at + 5u));
    close(busy);
    close(quick);
    close_bench(&bench);
}

Test(epoll_et, one_that_stands_in_line_may_be_ended_by_the_drain)
{
    struct bench bench;
    static uint8_t silence[8 * WEIR__IN_BYTES];
    int size = sizeof silence;
    open_bench(&bench, &weir__readiness_epoll_et);
    int busy = connect_peer(&bench, false), slow = connect_peer(&bench, true);
    put(slow, "L");
    memset(silence, '_', sizeof silence);
    setsockopt(busy, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    while (send(busy, silence, sizeof silence, MSG_NOSIGNAL) > 0)
        continue;
    cr_assert(gt(int, bench.reactor->readiness->wait(bench.reactor, 0), 0));
    bench.options.drain_ns = 500000000;
    weir__stop_init(&bench.options);
    bench.reactor->stopping = true;
    cr_assert(eq(int, weir__callbacks_serve(bench.reactor), 0));
    weir__callbacks_drain(bench.reactor);
    cr_assert(eq(u64, bench.stats.slots[0].closed, 2u));
    close(busy);
    close(slow);
    close_bench(&bench);
}

Test(select, descriptors_past_fd_setsize_are_served)
{
    struct bench bench;
    struct rlimit limit;
    int fds[2];
    cr_assert(eq(int, getrlimit(RLIMIT_NOFILE, &limit), 0));
    limit.rlim_cur = limit.rlim_max;
    cr_assert(eq(int, setrlimit(RLIMIT_NOFILE, &limit), 0));
    if (limit.rlim_cur <= 3 * FD_SETSIZE)
        cr_skip_test("needs more descriptors than this process may have");
    open_bench(&bench, &weir__readiness_select);
    int low = connect_peer(&bench, false);
    local_pair(fds);
    int high = fcntl(fds[1], F_DUPFD_CLOEXEC, 3 * FD_SETSIZE - 1);
    close(fds[1]);
    put(low, "before");
    weir__callbacks_adopt(bench.reactor, high);
    put(fds[0], "high");
    expect(&bench, fds[0], "high");
    expect(&bench, low, "before");
    close(fds[0]);
    turns(&bench);
    put(low, "after");
    expect(&bench, low, "after");
    close(low);
    close_bench(&bench);
}
