/* Receives and sends on each of the four reactors: what they complete with, and when. */
#include "tests/legacy/rig.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

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
    read_whole(fds[1], answer, 6);
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

/* --- no buffer ----------------------------------------------------------------------------------
 */

ENGINE_TEST(without_a_buffer_a_receive_ends_with_enobufs_and_loses_nothing)
{
    struct rig rig;
    struct task first, second;
    int a[2], b[2];
    rig_open_with(&rig, engine_ops, &(struct weir__engine_options){0}, 1, 64);
    local_pair(a);
    local_pair(b);
    task_recv(&first, &rig, a[0]);
    task_recv(&second, &rig, b[0]);
    first.keep = second.keep = true;
    cr_assert(eq(int, (int)write(a[1], "one", 3), 3));
    rig_until(&rig, &first.dones, 1);
    cr_assert(eq(int, (int)write(b[1], "two", 3), 3));
    rig_until(&rig, &second.dones, 1);
    cr_assert(eq(int, second.op.res, -ENOBUFS));
    cr_assert(not(second.more));
    cr_assert(eq(u64, rig_counters(&rig).enobufs, 1u));
    cr_assert(eq(int, rig_turns(&rig, 5), 0), "a receive that is over completed again");
    task_put_kept(&first);
    cr_assert(eq(int, task_submit(&second), WEIR__QUEUED));
    rig_until(&rig, &second.dones, 2);
    cr_assert(eq(int, second.op.res, 3));
    task_put_kept(&second);
    task_cancel(&first);
    task_cancel(&second);
    rig_until(&rig, &second.dones, 3);
    cr_assert(eq(int, task_close(&rig, a[0]) | task_close(&rig, b[0]), 0));
    close(a[1]);
    close(b[1]);
    rig_close(&rig);
}

/* Ready descriptors wait in the kernel for the next turn rather than complete with -ENOBUFS. */
ENGINE_TEST(more_ready_than_there_are_buffers_is_served_turn_by_turn)
{
    enum { CONNS = 50 };
    struct rig rig;
    struct task tasks[CONNS];
    int fds[CONNS][2], served = 0;
    rig_open_with(&rig, engine_ops, &(struct weir__engine_options){0}, 4, 64);
    for (int i = 0; i < CONNS; i++) {
        local_pair(fds[i]);
        task_recv(&tasks[i], &rig, fds[i][0]);
        tasks[i].keep = true;
        cr_assert(eq(int, (int)write(fds[i][1], "x", 1), 1));
    }
    for (int turns = 0; turns < 1000 && served < CONNS; turns++) {
        cr_assert(le(int, rig_turns(&rig, 1), 4));
        served = 0;
        for (int i = 0; i < CONNS; i++) {
            task_put_kept(&tasks[i]);
            served += tasks[i].bytes == 1;
        }
    }
    cr_assert(eq(int, served, CONNS));
    cr_assert(eq(u64, rig_counters(&rig).enobufs, 0u));
    for (int i = 0; i < CONNS; i++) {
        close(fds[i][1]);
        rig_until(&rig, &tasks[i].dones, 2);
        cr_assert(eq(int, task_close(&rig, fds[i][0]), 0));
    }
    rig_close(&rig);
}

/* --- send ---------------------------------------------------------------------------------------
 */

static void set_sndbuf(int fd, int bytes)
{
    cr_assert(eq(int, setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes), 0));
}

ENGINE_TEST(a_send_that_fits_is_done_at_once)
{
    struct rig rig;
    struct task send_task;
    int fds[2];
    char got[8];
    rig_open(&rig, engine_ops);
    local_pair(fds);
    cr_assert(eq(int, task_send(&send_task, &rig, fds[0], "abcd", 4), WEIR__DONE));
    cr_assert(eq(int, send_task.op.res, 4));
    cr_assert(eq(int, (int)read(fds[1], got, sizeof got), 4));
    cr_assert(eq(u64, rig_counters(&rig).syscalls, 1u));
    cr_assert(eq(int, task_close(&rig, fds[0]), 0));
    close(fds[1]);
    rig_close(&rig);
}

/* One side sends all in one op, the other receives through the same engine. */
static void transfer(const struct weir__engine_ops *engine_ops, int fds[2], uint32_t bytes)
{
    struct rig rig;
    struct task send_task, recv_task;
    uint8_t *data = malloc(bytes), *sink = malloc(bytes);
    rig_open(&rig, engine_ops);
    fill_pattern(data, bytes, 3);
    set_sndbuf(fds[0], 8192);
    cr_assert(eq(int, task_send(&send_task, &rig, fds[0], data, bytes), WEIR__QUEUED));
    task_recv(&recv_task, &rig, fds[1]);
    recv_task.sink = sink;
    recv_task.sink_bytes = bytes;
    rig_until_bytes(&rig, &recv_task.bytes, bytes);
    rig_until(&rig, &send_task.dones, 1);
    cr_assert(eq(int, send_task.op.res, (int)bytes));
    cr_assert(eq(int, memcmp(data, sink, bytes), 0));
    int dones = recv_task.dones;
    cr_assert(eq(int, rig_turns(&rig, 5), 0));
    cr_assert(eq(int, task_close(&rig, fds[0]), 0));
    rig_until(&rig, &recv_task.dones, dones + 1);
    cr_assert(eq(int, recv_task.op.res, 0));
    cr_assert(eq(int, task_close(&rig, fds[1]), 0));
    rig_close(&rig);
    free(data);
    free(sink);
}

ENGINE_TEST(two_mebibytes_through_a_small_tcp_buffer_arrive_whole)
{
    int fds[2];
    tcp_pair(fds);
    transfer(engine_ops, fds, 2 << 20);
}

ENGINE_TEST(a_long_send_over_a_local_socket_arrives_whole)
{
    int fds[2];
    local_pair(fds);
    transfer(engine_ops, fds, 1 << 20);
}

/* 100 buffers of odd lengths, more than fit one sendmsg() and far more than fit the socket. */
ENGINE_TEST(a_chain_of_buffers_is_sent_whole_and_left_as_it_was)
{
    enum { CHAIN = 100 };
    struct rig rig;
    struct task send_task;
    int fds[2];
    static uint8_t expected[CHAIN * 4096], got[CHAIN * 4096];
    uint32_t total = 0;
    size_t at = 0;
    rig_open(&rig, engine_ops);
    local_pair(fds);
    set_sndbuf(fds[0], 4096);
    struct weir__buf *chain = NULL;
    for (int i = CHAIN; i > 0; i--) {
        struct weir__buf *buf = weir__buf_get(&rig.bufs);
        buf->len = (uint32_t)(1 + i * 37 % 4000);
        fill_pattern(buf->data, buf->len, (uint32_t)i);
        buf->next = chain;
        chain = buf;
    }
    for (struct weir__buf *buf = chain; buf; buf = buf->next) {
        memcpy(expected + total, buf->data, buf->len);
        total += buf->len;
    }
    task_init(&send_task, &rig, WEIR__OP_SEND_BUFS, fds[0]);
    send_task.op.buf = chain;
    cr_assert(eq(int, task_submit(&send_task), WEIR__QUEUED));
    for (int turns = 0; turns < 100000 && at < total; turns++) {
        ssize_t n = read(fds[1], got + at, 3000);
        at += n > 0 ? (size_t)n : 0;
        rig_turns(&rig, 1);
    }
    cr_assert(eq(int, send_task.dones, 1));
    cr_assert(eq(int, send_task.op.res, (int)total));
    cr_assert(eq(sz, at, (size_t)total));
    cr_assert(eq(int, memcmp(expected, got, total), 0));
    cr_assert(eq(ptr, send_task.op.buf, chain));
    at = 0;
    while (chain) {
        struct weir__buf *next = chain->next;
        cr_assert(eq(int, memcmp(chain->data, expected + at, chain->len), 0));
        at += chain->len;
        weir__buf_put(&rig.bufs, chain);
        chain = next;
    }
    cr_assert(eq(sz, at, (size_t)total));
    cr_assert(eq(int, task_close(&rig, fds[0]), 0));
    close(fds[1]);
    rig_close(&rig);
}

ENGINE_TEST(one_buffer_handed_over_is_done_at_once)
{
    struct rig rig;
    struct task send_task;
    int fds[2];
    char got[8];
    rig_open(&rig, engine_ops);
    local_pair(fds);
    struct weir__buf *buf = weir__buf_get(&rig.bufs);
    memcpy(buf->data, "one", 3);
    buf->len = 3;
    task_init(&send_task, &rig, WEIR__OP_SEND_BUFS, fds[0]);
    send_task.op.buf = buf;
    cr_assert(eq(int, task_submit(&send_task), WEIR__DONE));
    cr_assert(eq(int, send_task.op.res, 3));
    cr_assert(eq(int, (int)read(fds[1], got, sizeof got), 3));
    weir__buf_put(&rig.bufs, buf);
    cr_assert(eq(int, task_close(&rig, fds[0]), 0));
    close(fds[1]);
    rig_close(&rig);
}

/* SIGPIPE would end the test's process. */
ENGINE_TEST(a_send_to_one_who_left_is_epipe_without_a_signal)
{
    struct rig rig;
    struct task send_task;
    int fds[2];
    signal(SIGPIPE, SIG_DFL);
    rig_open(&rig, engine_ops);
    local_pair(fds);
    close(fds[1]);
    cr_assert(eq(int, task_send(&send_task, &rig, fds[0], "x", 1), WEIR__DONE));
    cr_assert(eq(int, send_task.op.res, -EPIPE));
    cr_assert(eq(int, task_close(&rig, fds[0]), 0));
    rig_close(&rig);
}

ENGINE_TEST(a_blocked_send_ends_when_the_peer_resets)
{
    static uint8_t data[1 << 22];
    struct rig rig;
    struct task send_task;
    int fds[2];
    rig_open(&rig, engine_ops);
    tcp_pair(fds);
    set_sndbuf(fds[0], 4096);
    cr_assert(eq(int, task_send(&send_task, &rig, fds[0], data, sizeof data), WEIR__QUEUED));
    cr_assert(eq(int, rig_turns(&rig, 3), 0));
    set_reset_on_close(fds[1]);
    close(fds[1]);
    rig_until(&rig, &send_task.dones, 1);
    cr_assert(send_task.op.res == -ECONNRESET || send_task.op.res == -EPIPE);
    cr_assert(eq(int, task_close(&rig, fds[0]), 0));
    rig_close(&rig);
}
