/* Waits that are one op each: connect, poll, blocking calls. */
#include "core/loop.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

static int connect_fd(struct weir_loop *loop, int fd, const struct sockaddr *address,
                      socklen_t address_bytes, uint64_t deadline_ns)
{
    struct weir__op op = {.kind = WEIR__OP_CONNECT,
                          .fd = fd,
                          .data = (void *)(uintptr_t)address,
                          .len = address_bytes};

    return weir__task_op(loop->task, &op, deadline_ns);
}

enum { PAUSE_LEAST_NS = 100000, PAUSE_MOST_NS = 10000000 };

/* A Unix socket connects at once or not at all: where the backlog is full, nobody tells when it is
 * not, so one has to ask again. (The request of io_uring would block one of the kernel's threads.)
 */
static int connect_unix(struct weir_loop *loop, int fd, const struct sockaddr *address,
                        socklen_t address_bytes, uint64_t deadline_ns)
{
    int res = weir__task_check(loop->task);

    for (uint64_t pause_ns = PAUSE_LEAST_NS; !res; pause_ns *= pause_ns < PAUSE_MOST_NS ? 2 : 1) {
        if (connect(fd, address, address_bytes) == 0)
            return 0;
        uint64_t now_ns = weir_now_ns(), left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
        if (errno != EAGAIN || !left_ns)
            return errno == EAGAIN ? -ETIME : -errno;
        res = weir_sleep_until(now_ns + (left_ns < pause_ns ? left_ns : pause_ns));
    }
    return res;
}

int weir_connect(struct weir_loop *loop, struct weir_conn **out, const struct sockaddr *address,
                 socklen_t address_bytes, uint64_t deadline_ns)
{
    int on = 1;

    assert(loop == weir__running_loop && loop->task && "weir_connect: not in a task");
    bool local = address->sa_family == AF_UNIX;
    int fd =
        socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | (local ? SOCK_NONBLOCK : 0), 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* not TCP: nothing to set */
    struct weir_conn *conn = weir__conn_new(loop, NULL, fd);
    if (!conn) {
        close(fd);
        return -ENOMEM;
    }
    conn->flags |= CONN_OWNED | CONN_RUNNING;
    conn->rested = local ? WEIR__ONE_BY_ONE : 0;
    loop->owned++;
    conn->budget = WEIR__BURST_BUDGET;
    int res = (local ? connect_unix : connect_fd)(loop, fd, address, address_bytes, deadline_ns);
    if (res < 0) {
        weir_conn_close(conn); /* not close(fd): the engine must know that the number is free */
        return res;
    }
    *out = conn;
    return 0;
}

int weir_poll(struct weir_loop *loop, int fd, short events, uint64_t deadline_ns)
{
    struct weir__op op = {.kind = WEIR__OP_POLL, .fd = fd, .len = (uint16_t)events};

    assert(loop == weir__running_loop && loop->task && "weir_poll: not in a task");
    return weir__task_op(loop->task, &op, deadline_ns);
}

int weir_blocking(int (*fn)(void *argument), void *argument, uint64_t deadline_ns)
{
    struct weir_task *task = weir_task_self();
    struct weir__op op = {.kind = WEIR__OP_CALL, .fd = -1, .data = argument, .call = fn};

    assert(task && "weir_blocking: not in a task");
    assert(fn && "weir_blocking: no function");
    task->loop->stats.calls++;
    return weir__task_op(task, &op, deadline_ns);
}

struct deep_call {
    int (*fn)(void *argument);
    void *argument;
    int res;
};

static void call_deep(void *argument)
{
    struct deep_call *call = argument;

    call->res = call->fn(call->argument);
}

int weir_on_big_stack(int (*fn)(void *argument), void *argument, size_t stack_bytes)
{
    struct deep_call call = {.fn = fn, .argument = argument};
    int error = weir_coro_call_deep(stack_bytes, call_deep, &call);

    return error ? error : call.res;
}
