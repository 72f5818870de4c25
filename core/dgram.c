/*
 * Datagram sockets. Receiving is like a connection's: an armed RECVMSG fills a queue of lent
 * buffers, from which weir_dgram_recv() takes; it is armed by the first receive, stopped at
 * rx_bufs_max unread, and armed again at half of that. Sending is sendmsg(2) at once, which
 * mostly has room; a task that finds none waits, one at a time, the others in line behind it.
 *
 * Closing is as in conn.c: tasks leave, the receive ends, then the descriptor is closed and the
 * memory freed.
 */
#include "core/loop.h"

#include <linux/sock_diag.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/message.h"
#include "core/unix_path.h"

struct weir_dgram {
    struct weir__op rx; /* the receive; at the end, the close */
    struct weir_loop *loop;
    struct weir_dgram *next; /* loop->dgrams */
    struct weir_task *receiver, *sender;
    struct weir_task *line_head, *line_tail; /* of senders, behind the one that waits for room */
    struct weir__unix_path *path;
    uint32_t users;      /* tasks that wait in a call */
    uint32_t unread;     /* buffers at rx_head */
    uint16_t rx_head;    /* as a connection's */
    uint16_t after_stop; /* received since the loop is stopping */
    uint8_t rx_flags;    /* with which it is armed */
    bool starved;        /* in loop->starved */
    bool closing;
    int error; /* of a receive, not told yet */
    struct weir_dgram_stats stats;
};

/* ---- receiving ------------------------------------------------------------------------------- */

static struct weir__buf *pop(struct weir_dgram *dgram)
{
    struct weir__buf *buf = &dgram->loop->bufs.bufs[dgram->rx_head];

    dgram->rx_head = 0;
    if (buf->next) {
        buf->next->last = buf->last;
        dgram->rx_head = (uint16_t)buf->next->index;
    }
    dgram->unread--;
    return buf;
}

static void push(struct weir_dgram *dgram)
{
    struct weir_loop *loop = dgram->loop;
    struct weir__buf *buf = dgram->rx.buf;

    weir__message_open(buf, (uint32_t)dgram->rx.res, dgram->rx_flags);
    loop->bufs_out++;
    weir__buf_queue(&loop->bufs, &dgram->rx_head, buf);
    dgram->unread++;
    dgram->stats.received++;
    dgram->stats.truncated += weir__message_of(buf)->payload_bytes > buf->len;
    loop->stats.bytes_in += buf->len;
}

static void drop_unread(struct weir_dgram *dgram)
{
    struct weir_loop *loop = dgram->loop;

    while (dgram->rx_head) {
        struct weir__buf *buf = pop(dgram);
        weir__message_drop_fds(buf);
        loop->bufs_out--;
        weir__buf_put(&loop->bufs, buf);
    }
}

static void take_result(struct weir_dgram *dgram)
{
    struct weir_loop *loop = dgram->loop;
    int res = dgram->rx.res;

    if (res > 0) {
        push(dgram);
    } else if (res == -ENOBUFS && dgram->rx.state == WEIR__OP_IDLE && !dgram->closing) {
        dgram->starved = true;
        loop->stats.starved++;
        weir__op_queue_push(&loop->starved, &dgram->rx);
    } else if (res != -ENOBUFS && res != -ECANCELED && !dgram->error) {
        dgram->error = res;
    }
}

static bool wants_input(const struct weir_dgram *dgram)
{
    return !dgram->closing && !dgram->starved && !dgram->error && !dgram->loop->stopping &&
           dgram->unread < dgram->loop->rx_bufs_max;
}

static void tell_receiver(struct weir_dgram *dgram)
{
    bool told = dgram->rx_head || dgram->error || dgram->loop->stopping;

    if (dgram->receiver && dgram->receiver->wait && told)
        weir__task_wake(dgram->receiver, 0);
}

static void arm(struct weir_dgram *dgram);
static void close_step(struct weir_dgram *dgram);

static void rx_done(struct weir__op *op)
{
    struct weir_dgram *dgram = weir__container(op, struct weir_dgram, rx);

    take_result(dgram);
    if (dgram->closing) {
        drop_unread(dgram);
        if (op->state == WEIR__OP_IDLE)
            close_step(dgram);
        return;
    }
    if (op->state == WEIR__OP_IDLE)
        arm(dgram);
    else if (dgram->unread >= dgram->loop->rx_bufs_max)
        weir__cancel(dgram->loop, op);
    tell_receiver(dgram);
}

static void arm(struct weir_dgram *dgram)
{
    while (dgram->rx.state == WEIR__OP_IDLE && wants_input(dgram)) {
        dgram->rx.kind = WEIR__OP_RECVMSG;
        dgram->rx.flags = dgram->rx_flags;
        dgram->rx.done = rx_done;
        if (weir__submit(dgram->loop, &dgram->rx) == WEIR__QUEUED)
            return;
        take_result(dgram);
    }
}

bool weir__dgram_fed(struct weir__op *op)
{
    if (op->done != rx_done)
        return false;
    struct weir_dgram *dgram = weir__container(op, struct weir_dgram, rx);
    dgram->starved = false;
    if (dgram->closing) {
        close_step(dgram);
    } else {
        arm(dgram);
        tell_receiver(dgram);
    }
    return true;
}

static void recv_unwait(struct weir_task *task, int why)
{
    weir__task_wake(task, why);
}

static const struct weir__wait recv_wait = {"for a datagram", recv_unwait};

/* Around a wait: while a task is between the two the memory stays. Leaving one that closes may free
 * it, and tells so. */
static int leave(struct weir_dgram *dgram, int res)
{
    dgram->users--;
    if (!dgram->closing)
        return res;
    close_step(dgram);
    return -ESHUTDOWN;
}

static int take_error(struct weir_dgram *dgram)
{
    int error = dgram->error;

    dgram->error = 0;
    return error;
}

/* The loop stops, and nothing is armed any more: what is in the socket by then, as much as may be
 * unread, is taken here. 0, and it is in the queue; -ECANCELED: that was all. */
static int take_last(struct weir_dgram *dgram)
{
    struct weir_loop *loop = dgram->loop;

    if (dgram->after_stop >= loop->rx_bufs_max)
        return -ECANCELED;
    struct weir__buf *buf = weir__buf_get_to_receive(&loop->bufs);
    if (!buf)
        return -ECANCELED;
    dgram->after_stop++;
    dgram->rx.res =
        weir__message_receive(dgram->rx.fd, buf->base, loop->bufs.buf_bytes, dgram->rx_flags);
    if (dgram->rx.res < 0) {
        weir__buf_put(&loop->bufs, buf);
        return dgram->rx.res == -EAGAIN ? -ECANCELED : dgram->rx.res;
    }
    dgram->rx.buf = buf;
    push(dgram);
    return 0;
}

/* What a call gets when nothing has come, or 0: it may wait, or look again. */
static int end_of_input(struct weir_dgram *dgram, const struct weir_task *task)
{
    if (dgram->error)
        return take_error(dgram);
    if (weir__task_check(task))
        return weir__task_check(task);
    if (dgram->loop->stopping && dgram->rx.state == WEIR__OP_IDLE)
        return take_last(dgram);
    return 0;
}

static int wait_for_input(struct weir_dgram *dgram, struct weir_task *task, uint64_t deadline_ns)
{
    int res = 0;

    arm(dgram);
    if (dgram->rx_head || dgram->error)
        return 0;
    dgram->users++;
    dgram->receiver = task;
    res = weir__task_wait(task, &recv_wait, dgram, deadline_ns);
    dgram->receiver = NULL;
    return leave(dgram, res);
}

static int give(struct weir_dgram *dgram, struct weir_datagram *datagram)
{
    struct weir__buf *buf = pop(dgram);

    datagram->buf = (struct weir_buf){.data = buf->data, .len = buf->len, .id = buf->index};
    datagram->from_bytes = weir__message_from(buf, &datagram->from);
    datagram->bytes = weir__message_of(buf)->payload_bytes;
    weir__message_take_fds(buf, &datagram->fds);
    if (dgram->unread <= dgram->loop->rx_bufs_max / 2)
        arm(dgram);
    return (int)buf->len;
}

int weir_dgram_recv(struct weir_dgram *dgram, struct weir_datagram *datagram, uint64_t deadline_ns)
{
    struct weir_loop *loop = dgram->loop;
    struct weir_task *task = loop->task;

    assert(task && "weir_dgram_recv: not in a task");
    assert(!dgram->closing && "weir_dgram_recv: the socket was closed");
    assert(!dgram->receiver && "weir_dgram_recv: another task receives");
    weir_buf_put(loop, &datagram->buf);
    while (!dgram->rx_head || loop->cut) {
        int res = loop->cut ? -ECANCELED : end_of_input(dgram, task);
        if (!res && !dgram->rx_head)
            res = wait_for_input(dgram, task, deadline_ns);
        if (res)
            return res;
    }
    return give(dgram, datagram);
}

/* ---- sending --------------------------------------------------------------------------------- */

static int send_once(struct weir_dgram *dgram, const struct msghdr *message)
{
    ssize_t n;

    do
        n = sendmsg(dgram->rx.fd, message, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    dgram->stats.sent++;
    dgram->loop->stats.bytes_out += (uint64_t)n;
    return (int)n;
}

enum { PAUSE_LEAST_NS = 100000, PAUSE_MOST_NS = 10000000 };

/* Trap: a Unix socket that is not connected counts as writable also where the queue of the receiver
 * it sends to is full (unix(7) sockets learn of no room but of a peer's): so what is told to be
 * ready and is not waits for a moment, too. */
static int send_when_room(struct weir_dgram *dgram, const struct msghdr *message,
                          uint64_t deadline_ns)
{
    for (uint64_t pause_ns = PAUSE_LEAST_NS;; pause_ns *= pause_ns < PAUSE_MOST_NS ? 2 : 1) {
        struct weir__op poll = {.kind = WEIR__OP_POLL, .fd = dgram->rx.fd, .len = WEIR__POLL_OUT};
        int res = weir__task_op(dgram->loop->task, &poll, deadline_ns);
        if (res < 0 || dgram->closing)
            return res;
        res = send_once(dgram, message);
        if (res != -EAGAIN)
            return res;
        uint64_t now_ns = weir_now_ns(), until_ns = now_ns + pause_ns;
        if (now_ns >= deadline_ns)
            return -ETIME;
        res = weir_sleep_until(until_ns < deadline_ns ? until_ns : deadline_ns);
        if (res || dgram->closing)
            return res;
    }
}

static void line_unwait(struct weir_task *task, int why)
{
    struct weir_dgram *dgram = task->object;
    struct weir_task **link = &dgram->line_head, *before = NULL;

    while (*link != task) {
        before = *link;
        link = &before->next;
    }
    *link = task->next;
    if (dgram->line_tail == task)
        dgram->line_tail = before;
    weir__task_wake(task, why);
}

static const struct weir__wait line_wait = {"for others to send", line_unwait};

/* 0: the task is the sender. */
static int wait_in_line(struct weir_dgram *dgram, struct weir_task *task, uint64_t deadline_ns)
{
    task->next = NULL;
    if (dgram->line_tail)
        dgram->line_tail->next = task;
    else
        dgram->line_head = task;
    dgram->line_tail = task;
    return weir__task_wait(task, &line_wait, dgram, deadline_ns);
}

static void next_in_line(struct weir_dgram *dgram)
{
    struct weir_task *task = dgram->line_head;

    dgram->sender = task;
    if (!task)
        return;
    dgram->line_head = task->next;
    if (!task->next)
        dgram->line_tail = NULL;
    weir__task_wake(task, 0);
}

static int send_message(struct weir_dgram *dgram, const struct msghdr *message,
                        uint64_t deadline_ns)
{
    struct weir_task *task = dgram->loop->task;
    int res = weir__task_check(task);

    if (res)
        return res;
    if (dgram->error)
        return take_error(dgram);
    bool first = !dgram->sender;
    if (first) {
        res = send_once(dgram, message);
        if (res != -EAGAIN) {
            weir__task_unwaited(task); /* after which the socket may be gone */
            return res;
        }
        dgram->sender = task;
    }
    dgram->users++;
    if (!first)
        res = wait_in_line(dgram, task, deadline_ns);
    if (dgram->sender == task) {
        if (!dgram->closing)
            res = send_when_room(dgram, message, deadline_ns);
        next_in_line(dgram);
    }
    return leave(dgram, res);
}

int weir_dgram_send_fds(struct weir_dgram *dgram, const void *data, size_t bytes, const int *fds,
                        unsigned count, const struct sockaddr *to, socklen_t to_bytes,
                        uint64_t deadline_ns)
{
    struct iovec payload = {.iov_base = (void *)(uintptr_t)data, .iov_len = bytes};
    struct msghdr message = {.msg_name = (void *)(uintptr_t)to,
                             .msg_namelen = to ? to_bytes : 0,
                             .msg_iov = &payload,
                             .msg_iovlen = 1};
    struct weir__rights rights;

    assert(dgram->loop->task && "weir_dgram_send: not in a task");
    assert(!dgram->closing && "weir_dgram_send: the socket was closed");
    assert(bytes <= INT32_MAX);
    weir__rights_add(&message, &rights, fds, count);
    return send_message(dgram, &message, deadline_ns);
}

int weir_dgram_send(struct weir_dgram *dgram, const void *data, size_t bytes,
                    const struct sockaddr *to, socklen_t to_bytes, uint64_t deadline_ns)
{
    return weir_dgram_send_fds(dgram, data, bytes, NULL, 0, to, to_bytes, deadline_ns);
}

/* ---- opening and closing --------------------------------------------------------------------- */

static int set_up(struct weir_dgram *dgram, const struct weir_dgram_options *options)
{
    int fd = dgram->rx.fd, on = 1;

    if (options->reuseport && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on))
        return -errno;
    if (options->bind) {
        int res = weir__bind(fd, options->bind, options->bind_bytes, 0, &dgram->path);
        if (res)
            return res;
    }
    if (options->connect && connect(fd, options->connect, options->connect_bytes))
        return -errno;
    return 0;
}

static int open_socket(const struct weir_loop *loop, const struct weir_dgram_options *options)
{
    const struct sockaddr *address = options->bind ? options->bind : options->connect;

    if (options->fd <= 0 && !address)
        return -EINVAL;
    int fd =
        options->fd > 0 ? options->fd : socket(address->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (loop->bufs.buf_bytes >= WEIR__MESSAGE_ROOM)
        return fd;
    close(fd);
    return -EINVAL;
}

int weir_dgram_open(struct weir_loop *loop, struct weir_dgram **out,
                    const struct weir_dgram_options *options)
{
    int fd = open_socket(loop, options);

    if (fd < 0)
        return fd;
    struct weir_dgram *dgram = calloc(1, sizeof *dgram);
    int res = dgram ? 0 : -ENOMEM;
    if (dgram) {
        dgram->rx.fd = fd;
        dgram->loop = loop;
        dgram->rx_flags = options->fds ? WEIR__OP_MULTISHOT | WEIR__OP_FDS : WEIR__OP_MULTISHOT;
        res = set_up(dgram, options);
    }
    if (res) {
        close(fd);
        if (dgram)
            weir__unix_path_remove(dgram->path);
        free(dgram);
        return res;
    }
    dgram->next = loop->dgrams;
    loop->dgrams = dgram;
    *out = dgram;
    return 0;
}

static void dgram_free(struct weir_dgram *dgram)
{
    struct weir_dgram **link = &dgram->loop->dgrams;

    while (*link != dgram)
        link = &(*link)->next;
    *link = dgram->next;
    free(dgram);
}

static void close_done(struct weir__op *op)
{
    dgram_free(weir__container(op, struct weir_dgram, rx));
}

static void close_step(struct weir_dgram *dgram)
{
    if (dgram->rx.state != WEIR__OP_IDLE || dgram->users || dgram->starved)
        return;
    dgram->rx = (struct weir__op){
        .kind = WEIR__OP_CLOSE, .flags = WEIR__OP_QUIET, .fd = dgram->rx.fd, .done = close_done};
    if (weir__submit(dgram->loop, &dgram->rx) == WEIR__DONE)
        dgram_free(dgram);
}

static void end_now(struct weir_dgram *dgram)
{
    drop_unread(dgram);
    /* A close that a broken engine has is the engine's to make. */
    if (dgram->rx.kind != WEIR__OP_CLOSE || dgram->rx.engine_bits == WEIR__REFUSED)
        close(dgram->rx.fd);
    weir__unix_path_remove(dgram->path);
    dgram_free(dgram);
}

void weir_dgram_close(struct weir_dgram *dgram)
{
    assert(!dgram->closing && "weir_dgram_close: it was closed already");
    if (dgram->loop->ended) { /* no engine runs any more */
        end_now(dgram);
        return;
    }
    dgram->closing = true;
    weir__unix_path_remove(dgram->path);
    dgram->path = NULL;
    if (dgram->receiver)
        weir__task_interrupt(dgram->receiver, -ESHUTDOWN);
    if (dgram->sender)
        weir__task_interrupt(dgram->sender, -ESHUTDOWN);
    while (dgram->line_head)
        weir__task_interrupt(dgram->line_head, -ESHUTDOWN);
    drop_unread(dgram);
    if (dgram->rx.state == WEIR__OP_HELD)
        weir__cancel(dgram->loop, &dgram->rx);
    close_step(dgram);
}

void weir__dgrams_stop(struct weir_loop *loop)
{
    for (struct weir_dgram *dgram = loop->dgrams; dgram; dgram = dgram->next) {
        if (dgram->rx.kind == WEIR__OP_RECVMSG)
            weir__cancel(loop, &dgram->rx);
        if (dgram->receiver)
            tell_receiver(dgram);
    }
}

bool weir__dgrams_end(struct weir_loop *loop)
{
    bool ended = true;

    for (struct weir_dgram *dgram = loop->dgrams; dgram; dgram = dgram->next) {
        if (dgram->rx.kind == WEIR__OP_RECVMSG)
            weir__cancel(loop, &dgram->rx);
        ended = ended && dgram->rx.state == WEIR__OP_IDLE;
    }
    return ended;
}

void weir__dgrams_free(struct weir_loop *loop)
{
    while (loop->dgrams)
        end_now(loop->dgrams);
}

/* ---- looking at it --------------------------------------------------------------------------- */

int weir_dgram_fd(const struct weir_dgram *dgram)
{
    return dgram->rx.fd;
}

int weir_dgram_address(const struct weir_dgram *dgram, struct sockaddr_storage *address,
                       socklen_t *address_bytes)
{
    *address_bytes = sizeof *address;
    return getsockname(dgram->rx.fd, (struct sockaddr *)address, address_bytes) ? -errno : 0;
}

void weir_dgram_stats(const struct weir_dgram *dgram, struct weir_dgram_stats *stats)
{
    uint32_t memory[SK_MEMINFO_VARS] = {0};
    socklen_t bytes = sizeof memory;

    *stats = dgram->stats;
    stats->unread = dgram->unread;
    if (!getsockopt(dgram->rx.fd, SOL_SOCKET, SO_MEMINFO, memory, &bytes))
        stats->dropped = memory[SK_MEMINFO_DROPS];
}
