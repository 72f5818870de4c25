/* What the tests of legacy/ stand on; see rig.h. */
#include "tests/legacy/rig.h"

#include "core/message.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* --- the engine ---------------------------------------------------------------------------------
 */

static int stub_submit(struct weir__engine_env *env, struct weir__op *op)
{
    struct rig *rig = (struct rig *)env;
    rig->calls++;
    rig->call = op;
    weir__op_set_state(op, WEIR__OP_HELD);
    return WEIR__QUEUED;
}

static int stub_cancel(struct weir__engine_env *env, struct weir__op *op)
{
    struct rig *rig = (struct rig *)env;
    rig->call_cancels++;
    return 0;
}

void rig_open_with(struct rig *rig, const struct weir__engine_ops *ops,
                   const struct weir__engine_options *options, uint32_t buf_count,
                   uint32_t buf_bytes)
{
    char why[256] = "";
    *rig = (struct rig){.ops = ops};
    cr_assert(eq(int, weir__buf_pool_init(&rig->bufs, buf_count, buf_bytes), 0));
    rig->env = (struct weir__engine_env){
        .bufs = &rig->bufs, .call_submit = stub_submit, .call_cancel = stub_cancel};
    int rc = ops->open(&rig->engine, &rig->env, options, why, sizeof why);
    cr_assert(eq(int, rc, 0), "%s", why);
}

void rig_open(struct rig *rig, const struct weir__engine_ops *ops)
{
    struct weir__engine_options options = {.conns_max = 64};
    rig_open_with(rig, ops, &options, RIG_BUFS, RIG_BUF_BYTES);
}

void rig_close(struct rig *rig)
{
    rig->ops->close(rig->engine);
    cr_assert(eq(u32, rig->bufs.free_count, rig->bufs.count));
    weir__buf_pool_deinit(&rig->bufs);
}

struct weir__engine_counters rig_counters(struct rig *rig)
{
    struct weir__engine_counters counters;
    rig->ops->counters(rig->engine, &counters);
    return counters;
}

/* --- tasks --------------------------------------------------------------------------------------
 */

static void take_received(struct task *task, struct weir__buf *buf)
{
    cr_assert(eq(u32, buf->len, (uint32_t)task->op.res));
    if (task->sink) {
        cr_assert(le(u64, task->bytes + buf->len, task->sink_bytes));
        memcpy(task->sink + task->bytes, buf->data, buf->len);
    }
    task->bytes += buf->len;
    if (task->keep) {
        buf->next = task->kept;
        task->kept = buf;
    } else {
        weir__buf_put(&task->rig->bufs, buf);
    }
}

static void task_done(struct weir__op *op)
{
    struct task *task = (struct task *)op;
    task->dones++;
    task->more = op->flags & WEIR__OP_MORE;
    cr_assert(eq(int, op->state == WEIR__OP_IDLE, !task->more));
    if (op->kind == WEIR__OP_ACCEPT && op->res >= 0) {
        cr_assert(lt(int, task->fd_count, 64));
        task->fds[task->fd_count++] = op->res;
    }
    if (op->kind == WEIR__OP_RECVMSG && op->res > 0) {
        weir__message_open(op->buf, (uint32_t)op->res, op->flags);
        op->res = (int32_t)op->buf->len;
    }
    if (op->kind == WEIR__OP_RECV || op->kind == WEIR__OP_RECVMSG) {
        cr_assert(eq(int, op->buf != NULL, op->res > 0));
        if (op->buf)
            take_received(task, op->buf);
    }
    if (task->cancel_in_done && task->more)
        task_cancel(task);
}

void task_init(struct task *task, struct rig *rig, enum weir__op_kind kind, int fd)
{
    *task = (struct task){.rig = rig};
    task->op.kind = (uint8_t)kind;
    task->op.fd = fd;
    task->op.done = task_done;
}

int task_submit(struct task *task)
{
    int rc = task->rig->ops->submit(task->rig->engine, &task->op);
    if (rc == WEIR__DONE) {
        cr_assert(eq(int, task->op.state, WEIR__OP_IDLE));
        task->dones++;
        task->more = false;
    } else {
        cr_assert(eq(int, rc, WEIR__QUEUED));
        cr_assert(eq(int, task->op.state, WEIR__OP_HELD));
    }
    return rc;
}

int task_recv(struct task *task, struct rig *rig, int fd)
{
    task_init(task, rig, WEIR__OP_RECV, fd);
    task->op.flags = WEIR__OP_MULTISHOT;
    return task_submit(task);
}

int task_send(struct task *task, struct rig *rig, int fd, const void *data, uint32_t len)
{
    task_init(task, rig, WEIR__OP_SEND, fd);
    task->op.data = (void *)data;
    task->op.len = len;
    return task_submit(task);
}

int task_close(struct rig *rig, int fd)
{
    struct task task;
    task_init(&task, rig, WEIR__OP_CLOSE, fd);
    cr_assert(eq(int, task_submit(&task), WEIR__DONE));
    return task.op.res;
}

void task_cancel(struct task *task)
{
    int dones = task->dones;
    task->rig->ops->cancel(task->rig->engine, &task->op);
    cr_assert(eq(int, task->dones, dones), "a cancel completed the op from inside");
}

void task_put_kept(struct task *task)
{
    while (task->kept) {
        struct weir__buf *buf = task->kept;
        task->kept = buf->next;
        weir__buf_put(&task->rig->bufs, buf);
    }
}

/* --- waiting ------------------------------------------------------------------------------------
 */

uint64_t rig_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void rig_until(struct rig *rig, const int *value, int least)
{
    uint64_t limit_ns = rig_now_ns() + RIG_LIMIT_S * 1000000000ull;
    while (*value < least) {
        cr_assert(lt(u64, rig_now_ns(), limit_ns), "still %d of %d", *value, least);
        cr_assert(ge(int, rig->ops->wait(rig->engine, limit_ns), 0));
    }
}

void rig_until_bytes(struct rig *rig, const uint64_t *value, uint64_t least)
{
    uint64_t limit_ns = rig_now_ns() + RIG_LIMIT_S * 1000000000ull;
    while (*value < least) {
        cr_assert(lt(u64, rig_now_ns(), limit_ns), "still %ju of %ju bytes", (uintmax_t)*value,
                  (uintmax_t)least);
        cr_assert(ge(int, rig->ops->wait(rig->engine, limit_ns), 0));
    }
}

int rig_wait(struct rig *rig)
{
    uint64_t limit_ns = rig_now_ns() + RIG_LIMIT_S * 1000000000ull;
    int n = rig->ops->wait(rig->engine, limit_ns);
    cr_assert(lt(u64, rig_now_ns(), limit_ns), "the wait blocked");
    return n;
}

int rig_turns(struct rig *rig, int times)
{
    int completions = 0;
    for (int i = 0; i < times; i++) {
        int n = rig->ops->wait(rig->engine, 0);
        cr_assert(ge(int, n, 0));
        completions += n;
    }
    return completions;
}

/* --- sockets ------------------------------------------------------------------------------------
 */

void local_pair(int fds[2])
{
    cr_assert(eq(int, socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0));
}

int tcp_socket(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(ge(int, fd, 0));
    return fd;
}

int tcp_listener(int backlog, struct sockaddr_storage *address, socklen_t *address_bytes)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = tcp_socket();
    cr_assert(eq(int, bind(fd, (struct sockaddr *)&any, sizeof any), 0));
    cr_assert(eq(int, listen(fd, backlog), 0));
    *address_bytes = sizeof *address;
    cr_assert(eq(int, getsockname(fd, (struct sockaddr *)address, address_bytes), 0));
    return fd;
}

void await_full_backlog(int listener)
{
    uint64_t limit_ns = rig_now_ns() + RIG_LIMIT_S * 1000000000ull;
    struct tcp_info info = {0};
    socklen_t bytes = sizeof info;
    do { /* of a listening socket these are the length of its backlog, and the most */
        cr_assert(lt(u64, rig_now_ns(), limit_ns), "the backlog is not full");
        cr_assert(eq(int, getsockopt(listener, IPPROTO_TCP, TCP_INFO, &info, &bytes), 0));
    } while (info.tcpi_unacked <= info.tcpi_sacked);
}

void read_whole(int fd, void *data, size_t bytes)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    for (size_t at = 0; at < bytes;) {
        cr_assert(eq(int, poll(&readable, 1, RIG_LIMIT_S * 1000), 1));
        ssize_t n = read(fd, (char *)data + at, bytes - at);
        cr_assert(gt(int, (int)n, 0));
        at += (size_t)n;
    }
}

void tcp_pair(int fds[2])
{
    struct sockaddr_storage address;
    socklen_t bytes;
    int listener = tcp_listener(1, &address, &bytes);
    fds[1] = tcp_socket();
    cr_assert(eq(int, connect(fds[1], (struct sockaddr *)&address, bytes), 0));
    fds[0] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    cr_assert(ge(int, fds[0], 0));
    cr_assert(eq(int, fcntl(fds[1], F_SETFL, O_NONBLOCK), 0));
    close(listener);
}

void set_reset_on_close(int fd)
{
    struct linger linger = {.l_onoff = 1};
    cr_assert(eq(int, setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0));
}

void need_the_kernels_limit(void)
{
    const char *preload = getenv("LD_PRELOAD");
    if (preload && strstr(preload, "vgpreload"))
        cr_skip_test("Valgrind has a limit of descriptors of its own making");
}

void fill_pattern(uint8_t *data, size_t bytes, uint32_t seed)
{
    uint32_t x = seed * 2654435761u + 1;
    for (size_t i = 0; i < bytes; i++) {
        x = x * 1664525u + 1013904223u;
        data[i] = (uint8_t)(x >> 24);
    }
}
