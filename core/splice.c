/* Splices; see weir/splice.h. Each has a pipe, which is filled when it is empty and then emptied,
 * so that whatever is interrupted between the two can be gone on with. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/loop.h"
#include "core/pipe.h"

enum {
    PIECE_BYTES = 1 << 20, /* more than a pipe holds */
    IN_A_ROW = 16, /* calls of a splice that never has to wait, until others get their turn */
};

/* ---- ends ------------------------------------------------------------------------------------ */

/* Only the number of a connection tells whether its slot is still its own. */
static bool is_found(const struct weir_splice *splice, const struct weir__splice_end *end)
{
    return weir_conn_find(splice->loop, end->id) == end->conn;
}

static bool is_gone(const struct weir_splice *splice, const struct weir__splice_end *end)
{
    return end->conn && (!is_found(splice, end) || end->conn->flags & CONN_ENDED);
}

/* The engine may have to make one, for which there may be no room just now. */
static int descriptor_of(struct weir_conn *conn)
{
    int fd;

    while ((fd = weir_conn_fd(conn)) == -EBUSY) {
        int res = weir_yield();
        if (res)
            return res;
    }
    return fd;
}

static int open_conn(struct weir__splice_end *end, struct weir_conn *conn)
{
    if (conn->rx.kind == WEIR__OP_RECVMSG) /* descriptors that come would be lost */
        return -EINVAL;
    *end = (struct weir__splice_end){.conn = conn, .id = weir_conn_id(conn)};
    end->fd = descriptor_of(conn);
    if (end->fd < 0)
        return end->fd;
    end->flags = fcntl(end->fd, F_GETFL);
    return end->flags < 0 ? -errno : 0;
}

static int open_fd(struct weir__splice_end *end, int fd)
{
    struct stat stat;
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fstat(fd, &stat))
        return -errno;
    *end = (struct weir__splice_end){.fd = fd, .flags = flags};
    end->is_file = S_ISREG(stat.st_mode) || S_ISBLK(stat.st_mode);
    bool can_be_asked = S_ISFIFO(stat.st_mode) || (S_ISSOCK(stat.st_mode) && flags & O_NONBLOCK);
    return end->is_file || can_be_asked ? 0 : -EINVAL;
}

static int open_end(struct weir__splice_end *end, struct weir_end given)
{
    return given.conn ? open_conn(end, given.conn) : open_fd(end, given.fd);
}

int weir_splice_open(struct weir_splice *splice, struct weir_end from, struct weir_end to)
{
    struct weir_task *task = weir_task_self();

    assert(task && "weir_splice_open: not in a task");
    *splice = (struct weir_splice){.loop = task->loop};
    int res = open_end(&splice->from, from);
    if (!res)
        res = open_end(&splice->to, to);
    if (!res)
        res = weir_pipe(splice->pipe);
    if (res || !from.conn)
        return res;
    res = weir__conn_take(from.conn);
    if (res) {
        close(splice->pipe[0]);
        close(splice->pipe[1]);
    }
    return res;
}

void weir_splice_close(struct weir_splice *splice)
{
    assert(splice->loop && "weir_splice_close: it is not open");
    if (splice->from.conn && is_found(splice, &splice->from))
        weir__conn_give_back(splice->from.conn);
    close(splice->pipe[0]);
    close(splice->pipe[1]);
    splice->loop = NULL;
}

/* ---- one call -------------------------------------------------------------------------------- */

struct move {
    int from, to;
    int64_t *offset; /* of the first; NULL: its own */
    size_t bytes;
};

static int64_t move(const struct move *move)
{
    ssize_t moved = splice(move->from, move->offset, move->to, NULL, move->bytes,
                           SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

    return moved < 0 ? -errno : moved;
}

static int move_by_helper(void *argument)
{
    return (int)move(argument); /* a pipe holds no more */
}

/* SPLICE_F_NONBLOCK means the pipe: a socket waits unless it is O_NONBLOCK. Those of io_uring are
 * not, as it would give EAGAIN then instead of waiting for them; so a connection's is for as long
 * as this call takes, in which the ring is not entered. */
static int64_t move_at_once(const struct move *arguments, const struct weir__splice_end *end)
{
    struct weir__sigpipe held;
    bool waits = end->conn && !(end->flags & O_NONBLOCK);

    weir__sigpipe_hold(&held);
    if (waits)
        fcntl(end->fd, F_SETFL, end->flags | O_NONBLOCK);
    int64_t moved = move(arguments);
    if (waits)
        fcntl(end->fd, F_SETFL, end->flags);
    weir__sigpipe_release(&held, moved == (int64_t)arguments->bytes);
    return moved;
}

static int poll_end(const struct weir__splice_end *end, uint32_t events, uint64_t deadline_ns)
{
    struct weir__op op = {.kind = WEIR__OP_POLL, .fd = end->fd, .len = events};
    int res = weir__task_op(weir_task_self(), &op, deadline_ns);

    return res < 0 ? res : 0;
}

/* ---- in -------------------------------------------------------------------------------------- */

static int wait_for_input(const struct weir__splice_end *from, uint64_t deadline_ns)
{
    struct weir_conn *conn = from->conn;
    struct weir_task *task = weir_task_self();

    if (!conn)
        return poll_end(from, WEIR__POLL_IN, deadline_ns);
    weir__conn_enter(conn, task);
    int res = poll_end(from, WEIR__POLL_IN, deadline_ns);
    if (conn->flags & CONN_CLOSING)
        res = -ESHUTDOWN;
    weir__conn_leave(conn, task);
    return res;
}

/* Bytes in the pipe now; 0 at the end; or -errno. */
static int64_t fill(struct weir_splice *splice, size_t bytes, uint64_t deadline_ns)
{
    struct move arguments = {.from = splice->from.fd,
                             .to = splice->pipe[1],
                             .offset = splice->offset,
                             .bytes = bytes < PIECE_BYTES ? bytes : PIECE_BYTES};

    if (splice->from.is_file)
        return weir_blocking(move_by_helper, &arguments, deadline_ns);
    for (;;) {
        if (is_gone(splice, &splice->from))
            return -ESHUTDOWN;
        int64_t moved = move_at_once(&arguments, &splice->from);
        if (moved != -EAGAIN && moved != -EINTR)
            return moved;
        splice->in_a_row = 0;
        int res = moved == -EINTR ? 0 : wait_for_input(&splice->from, deadline_ns);
        if (res)
            return res;
    }
}

/* ---- out ------------------------------------------------------------------------------------- */

static int64_t send_received(struct weir_splice *splice, const uint8_t *data, size_t bytes,
                             uint64_t deadline_ns)
{
    if (!splice->to.conn)
        return weir_fd_write(splice->to.fd, data, bytes, deadline_ns);
    ssize_t sent = send(splice->to.fd, data, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent < 0 ? -errno : sent;
}

static int64_t empty_some(struct weir_splice *splice, uint64_t deadline_ns)
{
    struct move arguments = {
        .from = splice->pipe[0], .to = splice->to.fd, .bytes = splice->in_pipe};

    if (splice->to.is_file)
        return weir_blocking(move_by_helper, &arguments, deadline_ns);
    return move_at_once(&arguments, &splice->to);
}

/* What was received before the splice goes as it lies, and leaves the connection's queue only when
 * it has gone. Whatever can be sent now. */
static int64_t put_some(struct weir_splice *splice, size_t bytes, uint64_t deadline_ns)
{
    if (splice->in_pipe) {
        int64_t moved = empty_some(splice, deadline_ns);
        if (moved > 0)
            splice->in_pipe -= (uint32_t)moved;
        return moved;
    }
    struct weir__buf *buf = weir__conn_received(splice->from.conn);
    size_t most = buf->len < bytes ? buf->len : bytes;
    int64_t sent = send_received(splice, buf->data, most, deadline_ns);
    if (sent > 0)
        weir__conn_consume(splice->from.conn, (uint32_t)sent);
    return sent;
}

/* Until the pipe is empty, or `bytes` of what was received have gone. */
static int put_all(struct weir_splice *splice, size_t bytes, uint64_t deadline_ns)
{
    while (bytes) {
        if (is_gone(splice, &splice->to) || is_gone(splice, &splice->from))
            return -ESHUTDOWN;
        int64_t moved = put_some(splice, bytes, deadline_ns);
        if (moved > 0) {
            bytes -= (size_t)moved;
            splice->moved += (uint64_t)moved;
        } else if (moved == -EAGAIN) {
            splice->in_a_row = 0;
            int res = poll_end(&splice->to, WEIR__POLL_OUT, deadline_ns);
            if (res)
                return res;
        } else if (moved != -EINTR) {
            return moved ? (int)moved : -EPIPE;
        }
    }
    return 0;
}

/* With the connection's sends held back meanwhile, so that no other task's bytes come between. */
static int put(struct weir_splice *splice, size_t bytes, uint64_t deadline_ns)
{
    struct weir_conn *conn = splice->to.conn;

    if (!conn)
        return put_all(splice, bytes, deadline_ns);
    if (is_gone(splice, &splice->to))
        return -ESHUTDOWN;
    int res = weir__conn_send_begin(conn, deadline_ns);
    if (res)
        return res;
    uint64_t before = splice->moved;
    res = put_all(splice, bytes, deadline_ns);
    splice->loop->stats.bytes_out += splice->moved - before;
    int closed = weir__conn_send_end(conn);
    return closed ? closed : res;
}

/* ---- both ------------------------------------------------------------------------------------ */

/* How many bytes there are to put, having filled the pipe if there were none; 0 at the end. */
static int64_t get(struct weir_splice *splice, size_t bytes, uint64_t deadline_ns)
{
    struct weir_conn *conn = splice->from.conn;

    if (splice->in_pipe)
        return splice->in_pipe;
    if (is_gone(splice, &splice->from))
        return -ESHUTDOWN;
    if (conn && weir__conn_received(conn)) {
        uint32_t received = weir__conn_received(conn)->len;
        return received < bytes ? received : (int64_t)bytes;
    }
    if (conn && (conn->error || conn->flags & CONN_EOF))
        return conn->error;
    int64_t moved = fill(splice, bytes, deadline_ns);
    if (moved > 0) {
        splice->in_pipe = (uint32_t)moved;
        if (conn)
            splice->loop->stats.bytes_in += (uint64_t)moved;
    }
    return moved;
}

int64_t weir_splice(struct weir_splice *splice, size_t bytes, uint64_t deadline_ns)
{
    struct weir_task *task = weir_task_self();

    assert(task && "weir_splice: not in a task");
    assert(splice->loop == task->loop && "weir_splice: not open, or of another loop");
    assert(bytes > 0);
    uint64_t before = splice->moved;
    int64_t res = weir__task_check(task);
    if (!res && splice->in_a_row++ >= IN_A_ROW) {
        splice->in_a_row = 0;
        res = weir_yield();
    }
    if (res)
        return res;
    res = get(splice, bytes, deadline_ns);
    if (res <= 0)
        return res;
    res = put(splice, (size_t)res, deadline_ns);
    return res ? res : (int64_t)(splice->moved - before);
}

int64_t weir_sendfile(struct weir_end to, int file, int64_t *offset, uint64_t bytes,
                      uint64_t deadline_ns)
{
    struct weir_splice splice;
    int64_t at = *offset, res = weir_splice_open(&splice, weir_end_fd(file), to);

    if (res)
        return res;
    splice.offset = &at;
    do {
        uint64_t left = bytes - splice.moved;
        if (!left)
            break;
        res = weir_splice(&splice, left < PIECE_BYTES ? left : PIECE_BYTES, deadline_ns);
    } while (res > 0);
    *offset += (int64_t)splice.moved;
    weir_splice_close(&splice);
    return res < 0 ? res : (int64_t)splice.moved;
}
