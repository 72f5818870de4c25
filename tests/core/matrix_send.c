/* The matrix: sending, and ending one's side. See matrix.h. */
#include "matrix.h"

static struct matrix_pair pair;
static size_t sent_bytes; /* of the pattern, that the peer is to find */
static size_t arrived;

static void send_fail(void)
{
    peer_reset(pair.peer);
    pair.peer = peer_socket(AF_INET); /* to be closed */
}

/* The kernel says either. */
static int64_t reset_or(int64_t result)
{
    return result == -EPIPE ? -ECONNRESET : result;
}

static void pair_tear_down(void)
{
    matrix_pair_close(&pair);
}

/* Takes what is there; whether the connection goes on. */
static bool peer_takes(void)
{
    static uint8_t data[4096];
    ssize_t got;
    while ((got = recv(pair.peer, data, sizeof data, MSG_DONTWAIT)) > 0) {
        size_t part = (size_t)got;
        check(arrived + part <= sent_bytes, "more than was sent");
        pattern_check(data, part, 1, arrived);
        arrived += part;
    }
    return got < 0 && errno == EAGAIN;
}

static void send_complete(void)
{
    check(peer_takes(), "the connection ended");
}

static void all_arrives(void)
{
    while (arrived < sent_bytes) {
        check(peer_takes() || arrived == sent_bytes, "it ended after %zu of %zu bytes", arrived,
              sent_bytes);
        check_int(weir_yield(), ==, 0);
    }
}

static void next_byte_comes(void)
{
    char byte = 0;
    ssize_t got;
    while ((got = recv(pair.peer, &byte, 1, MSG_DONTWAIT)) < 0 && errno == EAGAIN)
        check_int(weir_yield(), ==, 0);
    check(got == 1 && byte == 'x', "%zd, '%c'", got, byte);
}

/* ---- the caller's memory --------------------------------------------------------------------- */

/* More than both sockets hold, and less than they hold twice: one look of the peer's at its socket
 * makes room for the rest. */
static size_t large_bytes;
static uint8_t *large;

static void send_all_set_up(const struct matrix_cell *cell)
{
    matrix_pair_open(&pair);
    if (!large) {
        large_bytes = matrix_pair_fill(&pair) * 3 / 2;
        large = malloc(large_bytes);
        check(large);
        pattern_fill(large, large_bytes, 1, 0);
        matrix_pair_close(&pair);
        matrix_pair_open(&pair);
    }
    arrived = 0;
    sent_bytes = large_bytes;
}

static int64_t send_all_call(uint64_t deadline_ns)
{
    int64_t sent = weir_send_all_until(pair.conn, large, large_bytes, deadline_ns);
    return sent == (int64_t)large_bytes ? 1 : reset_or(sent);
}

/* All of it has come, or a part that only the end of the connection may follow, or nothing. */
static void send_all_after(const struct matrix_cell *cell)
{
    if (cell->fails)
        return;
    if (cell->result > 0)
        all_arrives();
    int again = weir_send_all(pair.conn, "x", 1);
    if (again < 0)
        check_int(again, ==, cell->result);
    else
        next_byte_comes();
}

MATRIX_ROW(send_all) = {
    .name = "weir_send_all_until",
    .set_up = send_all_set_up,
    .call = send_all_call,
    .complete = send_complete,
    .result = 1,
    .fail = send_fail,
    .error = -ECONNRESET,
    .after = send_all_after,
    .tear_down = pair_tear_down,
};

/* ---- the same without a copy, which lasts until the peer has it -------------------------------
 */

enum { PIECE = 4000 };
static uint8_t piece[PIECE];
static size_t filled;

static void zero_copy_set_up(const struct matrix_cell *cell)
{
    matrix_pair_open(&pair);
    arrived = 0;
    filled = matrix_pair_fill(&pair);
    sent_bytes = filled + PIECE;
    pattern_fill(piece, PIECE, 1, filled);
}

static int64_t zero_copy_call(uint64_t deadline_ns)
{
    return reset_or(weir_send_zero_copy(pair.conn, piece, PIECE, deadline_ns));
}

/* One look at the peer's socket would make room there for a part only of what is under way. */
static void take_filled(void)
{
    while (arrived < filled && peer_takes())
        ;
}

/* Cut short, it has reset the connection, unless it had not begun. */
static void zero_copy_after(const struct matrix_cell *cell)
{
    if (cell->fails)
        return;
    if (cell->result > 0)
        all_arrives();
    take_filled();
    int again = weir_send_all(pair.conn, "x", 1);
    if (again < 0)
        check_int(again, ==, cell->result);
    else
        next_byte_comes();
}

MATRIX_ROW(send_zero_copy) = {
    .name = "weir_send_zero_copy",
    .set_up = zero_copy_set_up,
    .call = zero_copy_call,
    .complete = take_filled,
    .result = PIECE,
    .fail = send_fail,
    .error = -ECONNRESET,
    .after = zero_copy_after,
    .tear_down = pair_tear_down,
};

/* ---- handing over, with more than unsent_max unsent -------------------------------------------
 */

static int send_piece(void)
{
    struct weir_buf buf = {0};
    check_int(weir_buf_get(weir_loop_self(), &buf, WEIR_FOREVER), ==, 0);
    pattern_fill(buf.data, PIECE, 1, sent_bytes);
    buf.len = PIECE;
    int sent = weir_send(pair.conn, &buf);
    check(buf.id == 0, "the buffer was not taken");
    if (sent > 0)
        sent_bytes += PIECE;
    return sent;
}

static void send_set_up(const struct matrix_cell *cell)
{
    matrix_pair_open(&pair);
    arrived = 0;
    sent_bytes = matrix_pair_fill(&pair);
    for (int i = 0; i < 3; i++)
        check_int(send_piece(), ==, PIECE);
    pattern_fill(piece, PIECE, 1, sent_bytes);
}

static int64_t send_call(uint64_t deadline_ns)
{
    return reset_or(send_piece());
}

static int64_t send_static_call(uint64_t deadline_ns)
{
    int sent = weir_send_static(pair.conn, piece, PIECE);
    if (sent > 0)
        sent_bytes += PIECE;
    return reset_or(sent);
}

/* What was handed over arrives, and nothing else; then the next. */
static void send_after(const struct matrix_cell *cell)
{
    if (cell->fails)
        return;
    all_arrives();
    check_int(weir_send_all(pair.conn, "x", 1), ==, 1);
    next_byte_comes();
}

MATRIX_ROW(send) = {
    .name = "weir_send",
    .flags = MATRIX_NO_DEADLINE,
    .set_up = send_set_up,
    .call = send_call,
    .complete = send_complete,
    .result = PIECE,
    .fail = send_fail,
    .error = -ECONNRESET,
    .after = send_after,
    .tear_down = pair_tear_down,
};

MATRIX_ROW(send_static) = {
    .name = "weir_send_static",
    .flags = MATRIX_NO_DEADLINE,
    .set_up = send_set_up,
    .call = send_static_call,
    .complete = send_complete,
    .result = PIECE,
    .fail = send_fail,
    .error = -ECONNRESET,
    .after = send_after,
    .tear_down = pair_tear_down,
};

/* ---- ending one's side ------------------------------------------------------------------------
 */

static int64_t shutdown_call(uint64_t deadline_ns)
{
    return reset_or(weir_conn_shutdown(pair.conn));
}

/* One that was cut short may be called again; the end comes behind all that was handed over. */
static void shutdown_after(const struct matrix_cell *cell)
{
    if (cell->fails)
        return;
    all_arrives();
    if (cell->result < 0)
        check_int(weir_conn_shutdown(pair.conn), ==, 0);
    while (peer_takes())
        check_int(weir_yield(), ==, 0);
}

MATRIX_ROW(conn_shutdown) = {
    .name = "weir_conn_shutdown",
    .flags = MATRIX_NO_DEADLINE | MATRIX_STEPS,
    .set_up = send_set_up,
    .call = shutdown_call,
    .complete = send_complete,
    .fail = send_fail,
    .error = -ECONNRESET,
    .after = shutdown_after,
    .tear_down = pair_tear_down,
};
