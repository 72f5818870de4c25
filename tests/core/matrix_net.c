/* The matrix: datagrams. See matrix.h. */
#include "matrix.h"

static struct weir_dgram *dgram;
static int peer;

static void dgram_set_up(const struct matrix_cell *cell)
{
    int ends[2];
    check_int(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), ==, 0);
    struct weir_dgram_options options = {.fd = ends[0]};
    check_int(weir_dgram_open(weir_loop_self(), &dgram, &options), ==, 0);
    peer = ends[1];
}

static void dgram_tear_down(void)
{
    weir_dgram_close(dgram);
    peer_close(peer);
}

/* ---- receiving ------------------------------------------------------------------------------- */

static int64_t recv_call(uint64_t deadline_ns)
{
    struct weir_datagram in = {0};
    int got = weir_dgram_recv(dgram, &in, deadline_ns);
    if (got > 0)
        check(!memcmp(in.buf.data, "hello", 5), "other bytes");
    else
        check(in.buf.id == 0, "a buffer without a datagram");
    weir_buf_put(weir_loop_self(), &in.buf);
    return got;
}

static void recv_complete(void)
{
    check_int(send(peer, "hello", 5, 0), ==, 5);
}

static void recv_after(const struct matrix_cell *cell)
{
    if (cell->result < 0 && cell->completed)
        check_int(recv_call(WEIR_FOREVER), ==, 5);
    recv_complete();
    check_int(recv_call(WEIR_FOREVER), ==, 5);
}

MATRIX_ROW(dgram_recv) = {
    .name = "weir_dgram_recv",
    .flags = MATRIX_ENDS_WITH_LOOP, /* past the time to drain, what still comes is nobody's */
    .set_up = dgram_set_up,
    .call = recv_call,
    .complete = recv_complete,
    .result = 5,
    .cannot_fail = "nothing that a peer does is an error of a socket's own queue",
    .after = recv_after,
    .tear_down = dgram_tear_down,
};

/* ---- sending, where there is no room --------------------------------------------------------- */

static void full_set_up(const struct matrix_cell *cell)
{
    dgram_set_up(cell);
    while (send(weir_dgram_fd(dgram), "full", 4, MSG_DONTWAIT) > 0)
        ;
    check_int(errno, ==, EAGAIN);
}

static int64_t send_call(uint64_t deadline_ns)
{
    return weir_dgram_send(dgram, "sent", 4, NULL, 0, deadline_ns);
}

/* Takes all there is. */
static void send_complete(void)
{
    char got[4];
    while (recv(peer, got, sizeof got, MSG_DONTWAIT) > 0)
        ;
    check_int(errno, ==, EAGAIN);
}

static void send_after(const struct matrix_cell *cell)
{
    send_complete();
    check_int(send_call(WEIR_FOREVER), ==, 4);
}

MATRIX_ROW(dgram_send) = {
    .name = "weir_dgram_send",
    .set_up = full_set_up,
    .call = send_call,
    .complete = send_complete,
    .result = 4,
    .cannot_fail = "its errors come at once or not at all",
    .after = send_after,
    .tear_down = dgram_tear_down,
};
