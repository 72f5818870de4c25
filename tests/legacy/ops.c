/* The ops that are no stream's, on each of the four reactors: accept, connect, poll and the others.
 */
#include "tests/legacy/rig.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>

/* --- accept and connect
 * --------------------------------------------------------------------------- */

ENGINE_TEST(an_accept_stays_armed_and_makes_descriptors_ready_for_use)
{
    struct rig rig;
    struct task accept_task;
    struct sockaddr_storage address;
    socklen_t bytes;
    int clients[30];
    rig_open(&rig, engine_ops);
    int listener = tcp_listener(64, &address, &bytes);
    task_init(&accept_task, &rig, WEIR__OP_ACCEPT, listener);
    accept_task.op.flags = WEIR__OP_MULTISHOT;
    cr_assert(eq(int, task_submit(&accept_task), WEIR__QUEUED));
    for (int i = 0; i < 30; i++) {
        clients[i] = tcp_socket();
        cr_assert(eq(int, connect(clients[i], (struct sockaddr *)&address, bytes), 0));
    }
    rig_until(&rig, &accept_task.fd_count, 30);
    cr_assert(accept_task.more);
    for (int i = 0; i < 30; i++) {
        cr_assert(eq(int, fcntl(accept_task.fds[i], F_GETFL) & O_NONBLOCK, O_NONBLOCK));
        cr_assert(eq(int, fcntl(accept_task.fds[i], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC));
        close(clients[i]);
        cr_assert(eq(int, task_close(&rig, accept_task.fds[i]), 0));
    }
    task_cancel(&accept_task);
    rig_until(&rig, &accept_task.dones, 31);
    cr_assert(eq(int, accept_task.op.res, -ECANCELED));
    cr_assert(eq(int, task_close(&rig, listener), 0));
    rig_close(&rig);
}

ENGINE_TEST(a_one_shot_accept_takes_one)
{
    struct rig rig;
    struct task accept_task;
    struct sockaddr_storage address;
    socklen_t bytes;
    rig_open(&rig, engine_ops);
    int listener = tcp_listener(8, &address, &bytes), clients[2];
    for (int i = 0; i < 2; i++) {
        clients[i] = tcp_socket();
        cr_assert(eq(int, connect(clients[i], (struct sockaddr *)&address, bytes), 0));
    }
    task_init(&accept_task, &rig, WEIR__OP_ACCEPT, listener);
    for (int i = 1; i <= 2; i++) {
        cr_assert(eq(int, task_submit(&accept_task), WEIR__QUEUED));
        rig_until(&rig, &accept_task.dones, i);
        cr_assert(not(accept_task.more));
        cr_assert(eq(int, rig_turns(&rig, 3), 0));
        cr_assert(eq(int, accept_task.fd_count, i));
        close(accept_task.fds[i - 1]);
        close(clients[i - 1]);
    }
    close(listener);
    rig_close(&rig);
}

ENGINE_TEST(accept_at_the_descriptor_limit_ends_with_emfile_and_can_be_armed_again)
{
    struct rig rig;
    struct task accept_task;
    struct sockaddr_storage address;
    socklen_t bytes;
    struct rlimit saved, low;
    need_the_kernels_limit();
    rig_open(&rig, engine_ops);
    int listener = tcp_listener(8, &address, &bytes), client = tcp_socket();
    cr_assert(eq(int, connect(client, (struct sockaddr *)&address, bytes), 0));
    cr_assert(eq(int, getrlimit(RLIMIT_NOFILE, &saved), 0));
    low = (struct rlimit){.rlim_cur = (rlim_t)client + 1, .rlim_max = saved.rlim_max};
    task_init(&accept_task, &rig, WEIR__OP_ACCEPT, listener);
    accept_task.op.flags = WEIR__OP_MULTISHOT;
    cr_assert(eq(int, task_submit(&accept_task), WEIR__QUEUED));
    cr_assert(eq(int, setrlimit(RLIMIT_NOFILE, &low), 0));
    rig_until(&rig, &accept_task.dones, 1);
    cr_assert(eq(int, accept_task.op.res, -EMFILE));
    cr_assert(not(accept_task.more));
    cr_assert(eq(int, rig_turns(&rig, 5), 0));
    cr_assert(eq(int, setrlimit(RLIMIT_NOFILE, &saved), 0));
    cr_assert(eq(int, task_submit(&accept_task), WEIR__QUEUED));
    rig_until(&rig, &accept_task.fd_count, 1);
    close(accept_task.fds[0]);
    task_cancel(&accept_task);
    rig_until(&rig, &accept_task.dones, 3);
    close(listener);
    close(client);
    rig_close(&rig);
}

ENGINE_TEST(a_connect_completes_or_is_refused)
{
    struct rig rig;
    struct task connect_task, send_task;
    struct sockaddr_storage address;
    socklen_t bytes;
    rig_open(&rig, engine_ops);
    int listener = tcp_listener(8, &address, &bytes), fd = tcp_socket();
    task_init(&connect_task, &rig, WEIR__OP_CONNECT, fd);
    connect_task.op.data = &address;
    connect_task.op.len = bytes;
    task_submit(&connect_task);
    rig_until(&rig, &connect_task.dones, 1);
    cr_assert(eq(int, connect_task.op.res, 0));
    cr_assert(eq(int, task_send(&send_task, &rig, fd, "x", 1), WEIR__DONE));
    cr_assert(eq(int, send_task.op.res, 1));
    cr_assert(eq(int, task_close(&rig, fd), 0));
    close(listener);
    fd = tcp_socket();
    task_init(&connect_task, &rig, WEIR__OP_CONNECT, fd);
    connect_task.op.data = &address;
    connect_task.op.len = bytes;
    task_submit(&connect_task);
    rig_until(&rig, &connect_task.dones, 1);
    cr_assert(eq(int, connect_task.op.res, -ECONNREFUSED));
    cr_assert(eq(int, task_close(&rig, fd), 0));
    rig_close(&rig);
}

/* A client that tries again: the socket that failed is closed by its owner, the next has its
 * number. */
ENGINE_TEST(a_connect_that_failed_may_be_tried_again_on_the_same_number)
{
    struct rig rig;
    struct task task;
    struct sockaddr_storage address;
    socklen_t bytes;
    int number = -1;
    rig_open(&rig, engine_ops);
    close(tcp_listener(1, &address, &bytes));
    for (int i = 0; i < 5; i++) {
        int fd = tcp_socket();
        cr_assert(i == 0 || fd == number);
        number = fd;
        task_init(&task, &rig, WEIR__OP_CONNECT, fd);
        task.op.data = &address;
        task.op.len = bytes;
        task_submit(&task);
        rig_until(&rig, &task.dones, 1);
        cr_assert(eq(int, task.op.res, -ECONNREFUSED));
        close(fd);
    }
    rig_close(&rig);
}

/* The same after a cancel, where the next connect has to wait. */
ENGINE_TEST(a_connect_that_was_cancelled_may_be_tried_again_on_the_same_number)
{
    struct rig rig;
    struct task first, task;
    struct sockaddr_storage address;
    socklen_t bytes;
    rig_open(&rig, engine_ops);
    int listener = tcp_listener(0, &address, &bytes), filling = tcp_socket(), fd = tcp_socket();
    cr_assert(eq(int, connect(filling, (struct sockaddr *)&address, bytes), 0));
    await_full_backlog(listener);
    task_init(&first, &rig, WEIR__OP_CONNECT, fd);
    first.op.data = &address;
    first.op.len = bytes;
    cr_assert(eq(int, task_submit(&first), WEIR__QUEUED));
    cr_assert(eq(int, rig_turns(&rig, 3), 0));
    task_cancel(&first);
    rig_until(&rig, &first.dones, 1);
    close(fd);
    int again = tcp_socket();
    cr_assert(eq(int, again, fd), "the kernel gave another number");
    close(accept(listener, NULL, NULL));
    task_init(&task, &rig, WEIR__OP_CONNECT, again);
    task.op.data = &address;
    task.op.len = bytes;
    task_submit(&task);
    rig_until(&rig, &task.dones, 1);
    cr_assert(eq(int, task.op.res, 0));
    cr_assert(eq(int, task_close(&rig, again), 0));
    close(filling);
    close(listener);
    rig_close(&rig);
}

/* A full backlog leaves connects waiting, until room is made: so the first of them completes late,
 * when its SYN is sent again. */
ENGINE_TEST(a_connect_that_waits_completes_later_or_is_cancelled)
{
    struct rig rig;
    struct task tasks[2];
    struct sockaddr_storage address;
    socklen_t bytes;
    rig_open(&rig, engine_ops);
    int listener = tcp_listener(0, &address, &bytes), filling = tcp_socket();
    cr_assert(eq(int, connect(filling, (struct sockaddr *)&address, bytes), 0));
    await_full_backlog(listener);
    for (int i = 0; i < 2; i++) {
        task_init(&tasks[i], &rig, WEIR__OP_CONNECT, tcp_socket());
        tasks[i].op.data = &address;
        tasks[i].op.len = bytes;
        cr_assert(eq(int, task_submit(&tasks[i]), WEIR__QUEUED));
    }
    cr_assert(eq(int, rig_turns(&rig, 5), 0));
    task_cancel(&tasks[1]);
    rig_until(&rig, &tasks[1].dones, 1);
    cr_assert(eq(int, tasks[1].op.res, -ECANCELED));
    cr_assert(eq(int, task_close(&rig, tasks[1].op.fd), 0));
    close(accept(listener, NULL, NULL));
    rig_until(&rig, &tasks[0].dones, 1);
    cr_assert(eq(int, tasks[0].op.res, 0));
    cr_assert(eq(int, task_close(&rig, tasks[0].op.fd), 0));
    close(filling);
    close(listener);
    rig_close(&rig);
}

/* --- poll
 * ----------------------------------------------------------------------------------------- */

static int poll_task(struct task *task, struct rig *rig, int fd, short mask)
{
    task_init(task, rig, WEIR__OP_POLL, fd);
    task->op.len = (uint32_t)mask;
    return task_submit(task);
}

ENGINE_TEST(a_poll_says_what_is_ready_now_or_waits_for_it)
{
    struct rig rig;
    struct task task;
    int fds[2];
    char byte;
    rig_open(&rig, engine_ops);
    local_pair(fds);
    cr_assert(eq(int, poll_task(&task, &rig, fds[0], POLLIN | POLLOUT), WEIR__DONE));
    cr_assert(eq(int, task.op.res, POLLOUT));
    cr_assert(eq(int, poll_task(&task, &rig, fds[0], POLLIN), WEIR__QUEUED));
    cr_assert(eq(int, rig_turns(&rig, 5), 0));
    for (int i = 0; i < 3; i++) {
        cr_assert(eq(int, (int)write(fds[1], "x", 1), 1));
        rig_until(&rig, &task.dones, 1);
        cr_assert(eq(int, task.op.res, POLLIN));
        cr_assert(eq(int, rig_turns(&rig, 3), 0));
        cr_assert(eq(int, (int)read(fds[0], &byte, 1), 1));
        cr_assert(eq(int, poll_task(&task, &rig, fds[0], POLLIN), WEIR__QUEUED));
    }
    close(fds[1]);
    rig_until(&rig, &task.dones, 1);
    cr_assert(eq(int, task.op.res, POLLIN | POLLHUP));
    close(fds[0]);
    rig_close(&rig);
}

ENGINE_TEST(a_poll_for_room_completes_when_the_peer_reads)
{
    static char data[1 << 20];
    struct rig rig;
    struct task task;
    int fds[2];
    rig_open(&rig, engine_ops);
    local_pair(fds);
    while (write(fds[0], data, sizeof data) > 0)
        continue;
    cr_assert(eq(int, poll_task(&task, &rig, fds[0], POLLOUT), WEIR__QUEUED));
    cr_assert(eq(int, rig_turns(&rig, 5), 0));
    while (read(fds[1], data, sizeof data) > 0)
        continue;
    rig_until(&rig, &task.dones, 1);
    cr_assert(eq(int, task.op.res, POLLOUT));
    cr_assert(eq(int, poll_task(&task, &rig, fds[0], 0), WEIR__DONE));
    cr_assert(eq(int, task.op.res, -EINVAL));
    close(fds[0]);
    close(fds[1]);
    rig_close(&rig);
}

ENGINE_TEST(a_poll_for_urgent_data_is_not_woken_by_other_data)
{
    struct rig rig;
    struct task task;
    int fds[2];
    rig_open(&rig, engine_ops);
    tcp_pair(fds);
    cr_assert(eq(int, poll_task(&task, &rig, fds[0], POLLPRI), WEIR__QUEUED));
    cr_assert(eq(int, (int)send(fds[1], "plain", 5, 0), 5));
    cr_assert(eq(int, rig_turns(&rig, 5), 0));
    cr_assert(eq(int, (int)send(fds[1], "!", 1, MSG_OOB), 1));
    rig_until(&rig, &task.dones, 1);
    cr_assert(eq(int, task.op.res &POLLPRI, POLLPRI));
    close(fds[0]);
    close(fds[1]);
    rig_close(&rig);
}

/* Somebody else's descriptor: closed behind the engine's back, its number used again. */
ENGINE_TEST(a_polled_descriptor_may_be_closed_by_its_owner_and_its_number_polled_again)
{
    struct rig rig;
    struct task task;
    int fds[2], again[2];
    rig_open(&rig, engine_ops);
    for (int i = 0; i < 3; i++) {
        local_pair(fds);
        cr_assert(eq(int, poll_task(&task, &rig, fds[0], POLLIN), WEIR__QUEUED));
        if (i == 0)
            task_cancel(&task);
        else
            cr_assert(eq(int, (int)write(fds[1], "x", 1), 1));
        rig_until(&rig, &task.dones, 1);
        close(fds[0]);
        local_pair(again);
        cr_assert(eq(int, again[0], fds[0]), "the kernel gave another number");
        cr_assert(eq(int, poll_task(&task, &rig, again[0], POLLIN), WEIR__QUEUED));
        cr_assert(eq(int, (int)write(again[1], "x", 1), 1));
        rig_until(&rig, &task.dones, 1);
        close(again[0]);
        close(again[1]);
        close(fds[1]);
    }
    rig_close(&rig);
}

/* --- the others
 * ----------------------------------------------------------------------------------- */

ENGINE_TEST(file_ops_and_calls_pass_to_the_helper_threads_as_they_are)
{
    static const enum weir__op_kind kinds[] = {WEIR__OP_READ, WEIR__OP_WRITE, WEIR__OP_FSYNC,
                                               WEIR__OP_FILE, WEIR__OP_CALL};
    struct rig rig;
    rig_open(&rig, engine_ops);
    for (int i = 0; i < 5; i++) {
        struct task task;
        task_init(&task, &rig, kinds[i], -1);
        task.op.offset = 12345;
        cr_assert(eq(int, task_submit(&task), WEIR__QUEUED));
        cr_assert(eq(int, rig.calls, i + 1));
        cr_assert(eq(ptr, rig.call, &task.op));
        cr_assert(eq(u64, task.op.offset, 12345u));
        task_cancel(&task);
        task_cancel(&task);
        cr_assert(eq(int, rig.call_cancels, i + 1));
        weir__op_complete(&task.op, 7, 0);
        cr_assert(eq(int, task.dones, 1));
    }
    rig_close(&rig);
}

ENGINE_TEST(a_shutdown_is_done_at_once)
{
    struct rig rig;
    struct task task;
    int fds[2];
    char byte;
    rig_open(&rig, engine_ops);
    local_pair(fds);
    task_init(&task, &rig, WEIR__OP_SHUTDOWN, fds[0]);
    task.op.len = SHUT_WR;
    cr_assert(eq(int, task_submit(&task), WEIR__DONE));
    cr_assert(eq(int, task.op.res, 0));
    cr_assert(eq(int, (int)read(fds[1], &byte, 1), 0));
    cr_assert(eq(int, task_close(&rig, fds[0]), 0));
    cr_assert(eq(int, fcntl(fds[0], F_GETFD), -1));
    cr_assert(eq(int, task_close(&rig, fds[0]), -EBADF));
    close(fds[1]);
    rig_close(&rig);
}

ENGINE_TEST(a_bad_descriptor_is_a_completion)
{
    static const enum weir__op_kind kinds[] = {WEIR__OP_RECV, WEIR__OP_ACCEPT,
                                               WEIR__OP_SEND, WEIR__OP_CONNECT,
                                               WEIR__OP_POLL, WEIR__OP_SHUTDOWN};
    static const int bad[] = {-1, 800, 1 << 30};
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct rig rig;
    rig_open(&rig, engine_ops);
    for (int i = 0; i < 6; i++) {
        for (int j = 0; j < 3; j++) {
            struct task task;
            task_init(&task, &rig, kinds[i], bad[j]);
            task.op.data = &address;
            task.op.len = kinds[i] == WEIR__OP_POLL ? POLLIN : sizeof address;
            task_submit(&task);
            rig_until(&rig, &task.dones, 1);
            cr_assert(eq(int, task.op.res, -EBADF), "kind %d, descriptor %d", kinds[i], bad[j]);
        }
    }
    cr_assert(eq(int, rig_turns(&rig, 3), 0));
    rig_close(&rig);
}

ENGINE_TEST(a_descriptor_that_is_no_socket_is_a_completion)
{
    struct rig rig;
    struct task task;
    rig_open(&rig, engine_ops);
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    task_recv(&task, &rig, fd);
    rig_until(&rig, &task.dones, 1);
    cr_assert(eq(int, task.op.res, -ENOTSOCK));
    task_send(&task, &rig, fd, "x", 1);
    cr_assert(eq(int, task.op.res, -ENOTSOCK));
    cr_assert(eq(int, task_close(&rig, fd), 0));
    rig_close(&rig);
}

/* Closed by a bug of the application while an op is held: the op may complete late, but the others
 * are served, and nothing spins or breaks. select() and poll() see it. */
ENGINE_TEST(a_descriptor_closed_under_an_op_does_not_harm_the_others)
{
    struct rig rig;
    struct task victim, other;
    int a[2], b[2];
    rig_open(&rig, engine_ops);
    local_pair(a);
    local_pair(b);
    task_recv(&victim, &rig, a[0]);
    task_recv(&other, &rig, b[0]);
    close(a[0]);
    cr_assert(eq(int, (int)write(b[1], "x", 1), 1));
    rig_until(&rig, &other.dones, 1);
    rig_turns(&rig, 3);
    if (engine_ops == &weir__engine_poll || engine_ops == &weir__engine_select) {
        cr_assert(eq(int, victim.dones, 1));
        cr_assert(eq(int, victim.op.res, -EBADF));
    } else {
        task_cancel(&victim);
    }
    task_cancel(&other);
    rig_until(&rig, &other.dones, 2);
    cr_assert(eq(int, victim.dones, 1));
    close(a[1]);
    close(b[0]);
    close(b[1]);
    rig_close(&rig);
}

/* --- messages ----------------------------------------------------------------------------------
 */

ENGINE_TEST(messages_are_received_and_sent_one_by_one)
{
    struct rig rig;
    struct task recv_task, send_task;
    int fds[2];
    rig_open(&rig, engine_ops);
    cr_assert(eq(int, socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds), 0));
    task_init(&recv_task, &rig, WEIR__OP_RECVMSG, fds[0]);
    recv_task.op.flags = WEIR__OP_MULTISHOT;
    cr_assert(eq(int, task_submit(&recv_task), WEIR__QUEUED));
    struct iovec part = {.iov_base = "abc", .iov_len = 3};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    for (int i = 1; i <= 9; i++) {
        task_init(&send_task, &rig, WEIR__OP_SENDMSG, fds[1]);
        send_task.op.data = &message;
        cr_assert(eq(int, task_submit(&send_task), WEIR__DONE));
        cr_assert(eq(int, send_task.op.res, 3));
        if (i % 3 == 0) /* several lie there at once */
            rig_until(&rig, &recv_task.dones, i);
    }
    cr_assert(recv_task.more);
    cr_assert(eq(u64, recv_task.bytes, 27));
    task_cancel(&recv_task);
    rig_until(&rig, &recv_task.dones, 10);
    cr_assert(eq(int, recv_task.op.res, -ECANCELED));
    cr_assert(eq(int, task_close(&rig, fds[0]), 0));
    cr_assert(eq(int, task_close(&rig, fds[1]), 0));
    rig_close(&rig);
}

ENGINE_TEST(a_message_that_finds_no_buffer_ends_the_receive_and_stays)
{
    struct rig rig;
    struct task recv_task;
    int fds[2], held = 0;
    struct weir__buf *bufs[RIG_BUFS + 1];
    rig_open(&rig, engine_ops);
    cr_assert(eq(int, socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds), 0));
    while ((bufs[held] = weir__buf_get_to_receive(&rig.bufs)))
        held++;
    cr_assert(eq(int, (int)send(fds[1], "abc", 3, 0), 3));
    task_init(&recv_task, &rig, WEIR__OP_RECVMSG, fds[0]);
    recv_task.op.flags = WEIR__OP_MULTISHOT;
    cr_assert(eq(int, task_submit(&recv_task), WEIR__QUEUED));
    rig_until(&rig, &recv_task.dones, 1);
    cr_assert(eq(int, recv_task.op.res, -ENOBUFS));
    cr_assert(not(recv_task.more));
    while (held > 0)
        weir__buf_put(&rig.bufs, bufs[--held]);
    cr_assert(eq(int, task_submit(&recv_task), WEIR__QUEUED));
    rig_until(&rig, &recv_task.dones, 2);
    cr_assert(eq(u64, recv_task.bytes, 3));
    task_cancel(&recv_task);
    rig_until(&rig, &recv_task.dones, 3);
    cr_assert(eq(int, task_close(&rig, fds[0]), 0));
    cr_assert(eq(int, task_close(&rig, fds[1]), 0));
    rig_close(&rig);
}
