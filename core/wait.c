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

int weir_connect(struct weir_loop *loop, struct weir_conn **out, const struct sockaddr *address,
                 socklen_t address_bytes, uint64_t deadline_ns)
{
    int on = 1;

    assert(loop->task && "weir_connect: not in a task");
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* not TCP: nothing to set */
    struct weir_conn *conn = weir__conn_new(loop, NULL, fd);
    if (!conn) {
        close(fd);
        return -ENOMEM;
    }
    conn->flags |= CONN_OWNED | CONN_RUNNING;
    loop->owned++;
    conn->budget = WEIR__BURST_BUDGET;
    int res = connect_fd(loop, fd, address, address_bytes, deadline_ns);
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

    assert(loop->task && "weir_poll: not in a task");
    return weir__task_op(loop->task, &op, deadline_ns);
}

int weir_blocking(int (*fn)(void *argument), void *argument, uint64_t deadline_ns)
{
    struct weir_task *task = weir_task_self();
    struct weir__op op = {.kind = WEIR__OP_CALL, .fd = -1, .data = argument, .call = fn};

    assert(task && "weir_blocking: not in a task");
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
