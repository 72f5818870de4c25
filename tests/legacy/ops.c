/* Each kind of op on each of the four reactors: what it completes with, and when. */
#include "tests/legacy/rig.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* --- receive ------------------------------------------------------------------------------------
 */

ENGINE_TEST(a_receive_lends_a_buffer_with_what_came)
{
    struct rig rig;
    struct task recv_task;
    int fds[2];
    uint8_t sink[16];
    rig_open(&rig, engine_ops);
    local_pair(fds);
    task_recv(&recv_task, &rig, fds[0]);
    recv_task.sink = sink;
    recv_task.sink_bytes = sizeof sink;
    recv_task.keep = true;
    cr_assert(eq(int, (int)write(fds[1], "hello", 5), 5));
    rig_until(&rig, &recv_task.dones, 1);
    cr_assert(eq(int, recv_task.op.res, 5));
    cr_assert(recv_task.more);
    cr_assert(eq(int, memcmp(sink, "hello", 5), 0));
    cr_assert(eq(u32, rig.bufs.free_count, RIG_BUFS - 1u));
    task_put_kept(&recv_task);
    task_cancel(&recv_task);
    rig_until(&rig, &recv_task.dones, 2);
    cr_assert(eq(int, task_close(&rig, fds[0]), 0));
    close(fds[1]);
    rig_close(&rig);
}

ENGINE_TEST(an_armed_receive_pins_no_buffer_and_stays_armed)
{
    struct rig rig;
    struct task recv_task;
    int fds[2];
    rig_open(&rig, engine_ops);
    local_pair(fds);
    task_recv(&recv_task, &rig, fds[0]);
    cr_assert(eq(int, rig_turns(&rig, 3), 0));
    cr_assert(eq(u32, rig.bufs.free_count, (uint32_t)RIG_BUFS));
    for (int i = 1; i <= 50; i++) {
        cr_assert(eq(int, (int)write(fds[1], "x", 1), 1));
        rig_until(&rig, &recv_task.dones, i);
        cr_assert(recv_task.more);
    }
    cr_assert(eq(u64, recv_task.bytes, 50u));
    task_cancel(&recv_task);
    rig_until(&rig, &recv_task.dones, 51);
    close(fds[0]);
    close(fds[1]);
    rig_close(&rig);
}

ENGINE_TEST(a_one_shot_receive_completes_once_and_leaves_the_rest)
{
    struct rig rig;
    struct task recv_task;
    int fds[2];
    rig_open_with(&rig, engine_ops, &(struct weir__engine_options){0}, 4, 64);
    local_pair(fds);
    task_init(&recv_task, &rig, WEIR__OP_RECV, fds[0]);
    cr_assert(eq(int, task_submit(&recv_task), WEIR__QUEUED));
    uint8_t data[100] = {0};
    cr_assert(eq(int, (int)write(fds[1], data, sizeof data), 100));
    rig_until(&rig, &recv_task.dones, 1);
    cr_assert(eq(int, recv_task.op.res, 64));
    cr_assert(not(recv_task.more));
    cr_assert(eq(int, rig_turns(&rig, 5), 0));
    recv_task.dones = 0;
    cr_assert(eq(int, task_submit(&recv_task), WEIR__QUEUED));
    rig_until(&rig, &recv_task.dones, 1);
    cr_assert(eq(int, recv_task.op.res, 36));
    cr_assert(eq(int, task_close(&rig, fds[0]), 0));
    close(fds[1]);
    rig_close(&rig);
}

ENGINE_TEST(the_end_of_the_stream_is_zero_without_a_buffer)
{
    struct rig rig;
    struct task recv_task;
    int fds[2];
    rig_open(&rig, engine_ops);
    tcp_pair(fds);
    task_recv(&recv_task, &rig, fds[0]);
    cr_assert(eq(int, (int)write(fds[1], "last", 4), 4));
    close(fds[1]);
    rig_until(&rig, &recv_task.dones, 2);
    cr_assert(eq(u64, recv_task.bytes, 4u));
    cr_assert(eq(int, recv_task.op.res, 0));
    cr_assert(not(recv_task.more));
    cr_assert(eq(int, task_close(&rig, fds[0]), 0));
    rig_close(&rig);
}

ENGINE_TEST(after_a_half_close_one_can_still_answer)
{
    struct rig rig;
    struct task recv_task, send_task;
    int fds[2];
    char answer[8];
    rig_open(&rig, engine_ops);
    tcp_pair(fds);
    task_recv(&recv_task, &rig, fds[0]);
    cr_assert(eq(int, shutdown(fds[1], SHUT_WR), 0));
    rig_until(&rig, &recv_task.dones, 1);
    cr_assert(eq(int, recv_task.op.res, 0));
    cr_assert(eq(int, task_send(&send_task, &rig, fds[0], "answer", 6), WEIR__DONE));
    cr_assert(eq(int, send_task.op.res, 6));
    cr_assert(eq(int, (int)read(fds[1], answer, sizeof answer), 6));
    cr_assert(eq(int, rig_turns(&rig, 5), 0));
    cr_assert(eq(int, task_close(&rig, fds[0]), 0));
    close(fds[1]);
    rig_close(&rig);
}

ENGINE_TEST(a_reset_ends_the_receive_with_econnreset)
{
    struct rig rig;
    struct task recv_task;
    int fds[2];
    rig_open(&rig, engine_ops);
    tcp_pair(fds);
    task_recv(&recv_task, &rig, fds[0]);
    set_reset_on_close(fds[1]);
    close(fds[1]);
    rig_until(&rig, &recv_task.dones, 1);
    cr_assert(eq(int, recv_task.op.res, -ECONNRESET));
    cr_assert(not(recv_task.more));
    cr_assert(eq(int, task_close(&rig, fds[0]), 0));
    rig_close(&rig);
}
