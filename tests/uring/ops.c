/* Every kind of op, on every tier. Mirrors uring/submit.c and uring/reap.c. */
#include "harness.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <poll.h>

static struct fixture fixture;

static void open_tier(const struct tier *tier)
{
    fixture_open(&fixture, (struct fixture_options){
                               .engine = {.features_off = tier->off, .features_on = tier->on}});
}

#define EVERY_TIER(name)                                                                           \
    ParameterizedTestParameters(ops, name)                                                         \
    {                                                                                              \
        return tier_params();                                                                      \
    }                                                                                              \
    ParameterizedTest(struct tier *tier, ops, name, .timeout = 20)

EVERY_TIER(accept_gives_a_descriptor_for_each_connection)
{
    uint16_t port;
    open_tier(tier);
    int fd = listener(&port);
    struct recorded *accept_op = record(&fixture, WEIR__OP_ACCEPT, fd);
    accept_op->rearm = true;
    submit(accept_op);
    int clients[5];
    for (int i = 0; i < 5; i++)
        clients[i] = connect_to(port);
    RUN_UNTIL(&fixture, accept_op->count == 5);
    for (int i = 0; i < 5; i++) {
        const struct weir__engine_ops *ops = fixture.engine->ops;
        int accepted = ops->process_fd(fixture.engine, accept_op->results[i]);
        cr_assert(accepted >= 0);
        cr_assert(fcntl(accepted, F_GETFD) & FD_CLOEXEC);
        cr_assert_eq(write(accepted, "x", 1), 1);
        char byte;
        cr_assert_eq(read(clients[i], &byte, 1), 1, "not in order");
        ops->drop_fd(fixture.engine, accept_op->results[i]);
        cr_assert_eq(read(clients[i], &byte, 1), 0, "not closed");
        close(clients[i]);
    }
    cancel(accept_op);
    cr_assert_eq(finish(accept_op), -ECANCELED);
    forget(accept_op);
    close(fd);
    fixture_close(&fixture);
}

EVERY_TIER(recv_lends_bytes_in_order_and_ends_with_zero)
{
    int fds[2];
    open_tier(tier);
    pair(fds);
    struct recorded *recv_op = record(&fixture, WEIR__OP_RECV, fds[0]);
    recv_op->rearm = true;
    submit(recv_op);
    uint8_t sent[20000];
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (uint8_t)(i * 7 + i / 256);
    for (size_t at = 0; at < sizeof sent; at += 500) {
        cr_assert_eq(write(fds[1], sent + at, 500), 500);
        turn_now(&fixture);
    }
    shutdown(fds[1], SHUT_WR);
    cr_assert_eq(finish(recv_op), 0);
    cr_assert_eq(recv_op->bytes_count, sizeof sent);
    cr_assert_eq(memcmp(recv_op->bytes, sent, sizeof sent), 0);
    forget(recv_op);
    close(fds[0]);
    close(fds[1]);
    fixture_close(&fixture);
}

EVERY_TIER(an_idle_receive_pins_no_buffer_beyond_the_ring)
{
    int fds[2];
    open_tier(tier);
    pair(fds);
    turn_now(&fixture);
    uint32_t free_before = fixture.pool.free_count;
    struct recorded *recv_op = record(&fixture, WEIR__OP_RECV, fds[0]);
    submit(recv_op);
    turn_now(&fixture);
    turn_now(&fixture);
    cr_assert_eq(fixture.pool.free_count, free_before);
    cancel(recv_op);
    cr_assert_eq(finish(recv_op), -ECANCELED);
    forget(recv_op);
    close(fds[0]);
    close(fds[1]);
    fixture_close(&fixture);
}

enum { LARGE = 4 << 20 };

/* Reads everything the other side sends, a little at a time, while the engine turns. */
static void drain(struct recorded *send_op, int fd, uint8_t *into, size_t bytes)
{
    size_t at = 0;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    for (uint64_t end = clock_ns() + PATIENCE_NS; at < bytes && clock_ns() < end;) {
        cr_assert(turn_now(&fixture) >= 0);
        ssize_t n = read(fd, into + at, bytes - at < 30000 ? bytes - at : 30000);
        at += n > 0 ? (size_t)n : 0;
    }
    cr_assert_eq(at, bytes);
    finish(send_op);
}

EVERY_TIER(send_completes_when_all_is_sent)
{
    int fds[2];
    open_tier(tier);
    pair(fds);
    uint8_t *out = malloc(LARGE), *in = malloc(LARGE);
    for (size_t i = 0; i < LARGE; i++)
        out[i] = (uint8_t)(i ^ i >> 9);
    struct recorded *send_op = record(&fixture, WEIR__OP_SEND, fds[0]);
    send_op->op.data = out;
    send_op->op.len = LARGE;
    submit(send_op);
    drain(send_op, fds[1], in, LARGE);
    cr_assert_eq(send_op->last, LARGE);
    cr_assert_eq(send_op->count, 1);
    cr_assert_eq(memcmp(in, out, LARGE), 0);
    forget(send_op);
    free(in);
    free(out);
    close(fds[0]);
    close(fds[1]);
    fixture_close(&fixture);
}

EVERY_TIER(send_to_a_non_blocking_socket_waits_for_room)
{
    int fds[2];
    open_tier(tier);
    pair(fds);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    uint8_t *out = malloc(LARGE), *in = malloc(LARGE);
    for (size_t i = 0; i < LARGE; i++)
        out[i] = (uint8_t)(i ^ i >> 9);
    struct recorded *send_op = record(&fixture, WEIR__OP_SEND, fds[0]);
    send_op->op.data = out;
    send_op->op.len = LARGE;
    submit(send_op);
    drain(send_op, fds[1], in, LARGE);
    cr_assert_eq(send_op->last, LARGE);
    cr_assert_eq(memcmp(in, out, LARGE), 0);
    forget(send_op);
    free(in);
    free(out);
    close(fds[0]);
    close(fds[1]);
    fixture_close(&fixture);
}

EVERY_TIER(send_bufs_sends_a_chain_of_any_length_whole)
{
    static const size_t lengths[] = {1, 2, 16, 17, 40};
    int fds[2];
    fixture_open(&fixture,
                 (struct fixture_options){
                     .engine = {.features_off = tier->off, .features_on = tier->on, .ring_bufs = 8},
                     .bufs = 64});
    pair(fds);
    for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
        struct weir__buf *bufs[64], *chain = NULL;
        uint8_t expected[64 * 1024], in[64 * 1024];
        size_t bytes = 0;
        for (size_t i = 0; i < lengths[l]; i++) {
            bufs[i] = weir__buf_get(&fixture.pool);
            bufs[i]->data = bufs[i]->base + i; /* any start and length inside the buffer */
            bufs[i]->len = (uint32_t)(900 - i);
            memset(bufs[i]->data, (int)(i + 1), bufs[i]->len);
            memset(expected + bytes, (int)(i + 1), bufs[i]->len);
            bytes += bufs[i]->len;
        }
        for (size_t i = lengths[l]; i-- > 0; chain = bufs[i])
            bufs[i]->next = chain;
        struct recorded *send_op = record(&fixture, WEIR__OP_SEND_BUFS, fds[0]);
        send_op->op.buf = chain;
        submit(send_op);
        drain(send_op, fds[1], in, bytes);
        cr_assert_eq(send_op->last, (int32_t)bytes);
        cr_assert_eq(memcmp(in, expected, bytes), 0);
        for (size_t i = 0; i < lengths[l]; i++) {
            cr_assert_eq(bufs[i]->len, 900 - i, "the owner's view was changed");
            weir__buf_put(&fixture.pool, bufs[i]);
        }
        forget(send_op);
    }
    close(fds[0]);
    close(fds[1]);
    fixture_close(&fixture);
}

EVERY_TIER(recvmsg_lends_datagrams_one_by_one_until_it_is_cancelled)
{
    int fds[2];
    open_tier(tier);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds), 0);
    struct recorded *recv_op = record(&fixture, WEIR__OP_RECVMSG, fds[0]);
    recv_op->rearm = true;
    submit(recv_op);
    struct iovec part = {"ab", 2};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    struct recorded *send_op = record(&fixture, WEIR__OP_SENDMSG, fds[1]);
    send_op->op.data = &message;
    for (int i = 1; i <= 5; i++) {
        cr_assert_eq(submit_and_finish(send_op), 2);
        RUN_UNTIL(&fixture, recv_op->bytes_count == 2 * (size_t)i);
        cr_assert_eq(recv_op->count, i, "not one by one");
    }
    cancel(recv_op);
    cr_assert_eq(finish(recv_op), -ECANCELED);
    forget(recv_op);
    forget(send_op);
    close(fds[0]);
    close(fds[1]);
    fixture_close(&fixture);
}

EVERY_TIER(a_send_without_a_copy_completes_once_when_all_is_sent)
{
    int fds[2];
    open_tier(tier);
    tcp_pair(fds);
    uint8_t *out = malloc(LARGE), *in = malloc(LARGE);
    for (size_t i = 0; i < LARGE; i++)
        out[i] = (uint8_t)(i ^ i >> 9);
    struct recorded *send_op = record(&fixture, WEIR__OP_SEND, fds[0]);
    send_op->op.flags = WEIR__OP_ZERO_COPY;
    send_op->op.data = out;
    send_op->op.len = LARGE;
    submit(send_op);
    drain(send_op, fds[1], in, LARGE);
    cr_assert_eq(send_op->last, LARGE);
    cr_assert_eq(send_op->count, 1);
    cr_assert_eq(memcmp(in, out, LARGE), 0);
    forget(send_op);
    free(in);
    free(out);
    close(fds[0]);
    close(fds[1]);
    fixture_close(&fixture);
}

EVERY_TIER(send_to_a_peer_that_has_gone_is_epipe_and_no_signal)
{
    int fds[2];
    open_tier(tier);
    pair(fds);
    close(fds[1]);
    struct recorded *send_op = record(&fixture, WEIR__OP_SEND, fds[0]);
    send_op->op.data = (void *)"x";
    send_op->op.len = 1;
    cr_assert_eq(submit_and_finish(send_op), -EPIPE);
    forget(send_op);
    close(fds[0]);
    fixture_close(&fixture);
}

EVERY_TIER(connect_reaches_a_listener_and_tells_of_a_refusal)
{
    uint16_t port;
    open_tier(tier);
    int listening = listener(&port);
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    for (int nonblock = 0; nonblock < 2; nonblock++) {
        int fd = socket(AF_INET, SOCK_STREAM | (nonblock ? SOCK_NONBLOCK : 0), 0);
        struct recorded *connect_op = record(&fixture, WEIR__OP_CONNECT, fd);
        connect_op->op.data = &to;
        connect_op->op.len = sizeof to;
        cr_assert_eq(submit_and_finish(connect_op), 0, "%s", strerror(-connect_op->last));
        forget(connect_op);
        close(fd);
    }
    close(listening);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct recorded *connect_op = record(&fixture, WEIR__OP_CONNECT, fd);
    connect_op->op.data = &to;
    connect_op->op.len = sizeof to;
    cr_assert_eq(submit_and_finish(connect_op), -ECONNREFUSED);
    forget(connect_op);
    close(fd);
    fixture_close(&fixture);
}

EVERY_TIER(poll_tells_the_events_that_came)
{
    int fds[2];
    open_tier(tier);
    pair(fds);
    struct recorded *poll_op = record(&fixture, WEIR__OP_POLL, fds[0]);
    poll_op->op.len = POLLIN;
    submit(poll_op);
    turn_now(&fixture);
    cr_assert_eq(poll_op->count, 0);
    cr_assert_eq(write(fds[1], "x", 1), 1);
    cr_assert(finish(poll_op) & POLLIN);
    poll_op->op.len = POLLOUT;
    cr_assert_eq(submit_and_finish(poll_op), POLLOUT);
    forget(poll_op);
    close(fds[0]);
    close(fds[1]);
    fixture_close(&fixture);
}

EVERY_TIER(files_are_written_synced_and_read)
{
    char path[] = "/tmp/weir-uring-ops-XXXXXX", text[16] = "";
    open_tier(tier);
    int fd = mkstemp(path);
    struct recorded *file_op = record(&fixture, WEIR__OP_WRITE, fd);
    file_op->op.data = (void *)"0123456789";
    file_op->op.len = 10;
    file_op->op.offset = (uint64_t)-1;
    cr_assert_eq(submit_and_finish(file_op), 10);
    cr_assert_eq(lseek(fd, 0, SEEK_CUR), 10, "the file's own position was not used");
    file_op->op.kind = WEIR__OP_FSYNC;
    for (uint32_t data_only = 0; data_only < 2; data_only++) {
        file_op->op.len = data_only;
        cr_assert_eq(submit_and_finish(file_op), 0);
    }
    file_op->op.kind = WEIR__OP_READ;
    file_op->op.data = text;
    file_op->op.len = sizeof text;
    file_op->op.offset = 4;
    cr_assert_eq(submit_and_finish(file_op), 6);
    cr_assert_str_eq(text, "456789");
    forget(file_op);
    close(fd);
    unlink(path);
    fixture_close(&fixture);
}

EVERY_TIER(shutdown_and_close_are_seen_by_the_peer)
{
    int fds[2];
    char byte;
    open_tier(tier);
    pair(fds);
    struct recorded *end_op = record(&fixture, WEIR__OP_SHUTDOWN, fds[0]);
    end_op->op.len = SHUT_WR;
    cr_assert_eq(submit_and_finish(end_op), 0);
    cr_assert_eq(read(fds[1], &byte, 1), 0);
    end_op->op.kind = WEIR__OP_CLOSE;
    cr_assert_eq(submit_and_finish(end_op), 0);
    cr_assert_eq(fcntl(fds[0], F_GETFD), -1);
    forget(end_op);
    close(fds[1]);
    fixture_close(&fixture);
}

EVERY_TIER(a_bad_descriptor_is_a_completion)
{
    static const enum weir__op_kind kinds[] = {
        WEIR__OP_ACCEPT, WEIR__OP_RECV,  WEIR__OP_SEND,  WEIR__OP_POLL,     WEIR__OP_READ,
        WEIR__OP_WRITE,  WEIR__OP_FSYNC, WEIR__OP_CLOSE, WEIR__OP_SHUTDOWN,
    };
    char byte = 0;
    open_tier(tier);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct recorded *bad = record(&fixture, kinds[i], 12345);
        bad->op.data = &byte;
        bad->op.len = 1;
        cr_assert_eq(submit_and_finish(bad), -EBADF, "kind %d: %d", kinds[i], bad->last);
        forget(bad);
    }
    fixture_close(&fixture);
}

static void goes_to_the_helper_threads(enum weir__op_kind kind)
{
    struct recorded *call_op = record(&fixture, kind, -1);
    submit(call_op);
    cr_assert_eq(fixture.called, &call_op->op);
    cancel(call_op);
    cr_assert_eq(call_op->op.state, WEIR__OP_CANCELLING);
    weir__op_complete(&call_op->op, -ECANCELED, 0);
    cr_assert_eq(call_op->last, -ECANCELED);
    forget(call_op);
    fixture_close(&fixture);
}

EVERY_TIER(a_call_goes_to_the_helper_threads)
{
    open_tier(tier);
    goes_to_the_helper_threads(WEIR__OP_CALL);
}

Test(ops, what_the_kernel_has_no_request_for_goes_to_the_helper_threads)
{
    fixture_open(&fixture,
                 (struct fixture_options){.engine.features_off = WEIR__URING_BIT(FILE_OPS)});
    goes_to_the_helper_threads(WEIR__OP_FILE);
}
