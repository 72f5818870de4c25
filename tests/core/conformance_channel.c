/* Conformance: channels within one loop. What crosses threads is in across.c. */
#include "conformance.h"

#include <poll.h>
#include <sys/mman.h>

struct end {
    struct weir_channel *channel;
    uint64_t deadline_ns;
    struct weir_task *task;
    int value, res;
    bool through;
};

static void send_value(void *argument)
{
    struct end *end = argument;
    end->res = weir_channel_send(end->channel, &end->value, end->deadline_ns);
    end->through = true;
}

static void recv_value(void *argument)
{
    struct end *end = argument;
    end->res = weir_channel_recv(end->channel, &end->value, end->deadline_ns);
    end->through = true;
}

static void start(struct end *end, struct weir_channel *channel, weir_task_fn *fn, int value,
                  uint64_t deadline_ns)
{
    *end = (struct end){.channel = channel, .value = value, .deadline_ns = deadline_ns};
    check_int(weir_spawn(weir_loop_self(), &end->task, fn, end), ==, 0);
    check_int(weir_yield(), ==, 0);
}

static void finish(struct end *end, int res, int value)
{
    check_int(weir_join(end->task, WEIR_FOREVER), ==, 0);
    check_int(end->res, ==, res);
    check_int(end->value, ==, value);
}

static uint64_t soon_ns(void)
{
    return weir_now_ns() + 2000000;
}

static void fill_and_drain(void *argument)
{
    int storage[3], got;
    struct weir_channel channel;
    struct end senders[4];
    check_int(weir_channel_init(&channel, sizeof(int), 3, storage, 0), ==, 0);
    for (int i = 0; i < 3; i++)
        check_int(weir_channel_send(&channel, &i, 0), ==, 0);
    check_int(weir_channel_try_send(&channel, &(int){9}), ==, -EAGAIN);
    for (int i = 0; i < 4; i++)
        start(&senders[i], &channel, send_value, 3 + i, i == 1 ? soon_ns() : WEIR_FOREVER);
    finish(&senders[1], -ETIME, 4);
    weir_task_cancel(senders[2].task);
    finish(&senders[2], -ECANCELED, 5);
    check_int(weir_channel_count(&channel), ==, 3);
    static const int expected[] = {0, 1, 2, 3, 6};
    for (int i = 0; i < 5; i++) {
        check_int(weir_channel_recv(&channel, &got, 0), ==, 0);
        check_int(got, ==, expected[i]);
    }
    check_int(weir_channel_try_recv(&channel, &got), ==, -EAGAIN);
    finish(&senders[0], 0, 3);
    finish(&senders[3], 0, 6);
    weir_channel_deinit(&channel);
}

CONFORMANCE(a_full_channel_keeps_senders_waiting_and_the_order_of_messages)
{
    conf_run(NULL, fill_and_drain, NULL);
}

static void wait_for_messages(void *argument)
{
    struct weir_channel channel;
    struct end receivers[4];
    check_int(weir_channel_init(&channel, sizeof(int), 3, NULL, 0), ==, 0);
    for (int i = 0; i < 4; i++)
        start(&receivers[i], &channel, recv_value, -1, i == 1 ? soon_ns() : WEIR_FOREVER);
    finish(&receivers[1], -ETIME, -1);
    weir_task_cancel(receivers[2].task);
    finish(&receivers[2], -ECANCELED, -1);
    check_int(weir_channel_try_send(&channel, &(int){7}), ==, 0);
    weir_task_cancel(receivers[0].task); /* too late: the message is its */
    check_int(weir_channel_try_send(&channel, &(int){8}), ==, 0);
    finish(&receivers[0], 0, 7);
    finish(&receivers[3], 0, 8);
    check_int(weir_channel_count(&channel), ==, 0);
    weir_channel_deinit(&channel);
}

CONFORMANCE(a_message_goes_to_the_first_receiver_that_still_waits_and_is_not_lost)
{
    conf_run(NULL, wait_for_messages, NULL);
}

static void meet(void *argument)
{
    struct weir_channel channel;
    struct end ends[2];
    int got;
    check_int(weir_channel_init(&channel, sizeof(int), 0, NULL, 0), ==, 0);
    check_int(weir_channel_try_send(&channel, &(int){1}), ==, -EAGAIN);
    start(&ends[0], &channel, send_value, 2, WEIR_FOREVER);
    check(!ends[0].through, "nobody received it");
    check_int(weir_channel_recv(&channel, &got, WEIR_FOREVER), ==, 0);
    check_int(got, ==, 2);
    finish(&ends[0], 0, 2);
    start(&ends[1], &channel, recv_value, -1, WEIR_FOREVER);
    check_int(weir_channel_try_send(&channel, &(int){3}), ==, 0);
    finish(&ends[1], 0, 3);
    weir_channel_deinit(&channel);
}

CONFORMANCE(without_room_a_sender_and_a_receiver_meet)
{
    conf_run(NULL, meet, NULL);
}

static void close_and_drain(void *argument)
{
    struct weir_channel full, empty;
    struct end sender, receiver;
    int got;
    check_int(weir_channel_init(&full, sizeof(int), 1, NULL, 0), ==, 0);
    check_int(weir_channel_init(&empty, sizeof(int), 1, NULL, 0), ==, 0);
    check_int(weir_channel_send(&full, &(int){1}, 0), ==, 0);
    start(&sender, &full, send_value, 2, WEIR_FOREVER);
    start(&receiver, &empty, recv_value, -1, WEIR_FOREVER);
    weir_channel_close(&full);
    weir_channel_close(&empty);
    weir_channel_close(&empty);
    finish(&sender, -EPIPE, 2);
    finish(&receiver, -EPIPE, -1);
    check_int(weir_channel_send(&full, &(int){3}, WEIR_FOREVER), ==, -EPIPE);
    check_int(weir_channel_recv(&full, &got, WEIR_FOREVER), ==, 0);
    check_int(got, ==, 1);
    check_int(weir_channel_recv(&full, &got, WEIR_FOREVER), ==, -EPIPE);
    weir_channel_deinit(&full);
    weir_channel_deinit(&empty);
}

CONFORMANCE(a_closed_channel_is_drained_and_takes_no_more)
{
    conf_run(NULL, close_and_drain, NULL);
}

/* ---- one of several -------------------------------------------------------------------------- */

static void init_pair(struct weir_channel *channels, size_t capacity)
{
    for (int i = 0; i < 2; i++)
        check_int(weir_channel_init(&channels[i], sizeof(int), capacity, NULL, 0), ==, 0);
}

static void deinit_pair(struct weir_channel *channels)
{
    for (int i = 0; i < 2; i++)
        weir_channel_deinit(&channels[i]);
}

static void choose_among_ready(void *argument)
{
    struct weir_channel channels[2];
    int got = 0, times[2] = {0};
    init_pair(channels, 1);
    struct weir_case cases[] = {weir_case_recv(&channels[0], &got),
                                weir_case_recv(&channels[1], &got)};
    for (int i = 0; i < 200; i++) {
        for (int k = 0; k < 2; k++)
            weir_channel_try_send(&channels[k], &k);
        int which = weir_select(cases, 2, WEIR_FOREVER);
        check(which == 0 || which == 1);
        check_int(cases[which].res, ==, 0);
        check_int(got, ==, which);
        check_int(weir_channel_count(&channels[which]), ==, 0);
        check_int(weir_channel_count(&channels[!which]), ==, 1);
        times[which]++;
    }
    check(times[0] > 20 && times[1] > 20, "%d and %d times", times[0], times[1]);
    weir_channel_close(&channels[0]);
    weir_channel_close(&channels[1]);
    int which = weir_select(cases, 2, WEIR_FOREVER);
    check(cases[which].res == -EPIPE || cases[which].res == 0);
    deinit_pair(channels);
}

CONFORMANCE(of_cases_that_are_ready_exactly_one_happens_and_none_is_always_passed_over)
{
    conf_run(NULL, choose_among_ready, NULL);
}

struct selecting {
    struct weir_channel *channels;
    struct weir_task *task;
    uint64_t deadline_ns;
    int got, sent, which, res;
};

/* Receives from the first or sends to the second. */
static void recv_or_send(void *argument)
{
    struct selecting *selecting = argument;
    struct weir_case cases[] = {weir_case_recv(&selecting->channels[0], &selecting->got),
                                weir_case_send(&selecting->channels[1], &selecting->sent)};
    selecting->which = weir_select(cases, 2, selecting->deadline_ns);
    selecting->res = selecting->which >= 0 ? cases[selecting->which].res : 0;
}

static void start_selecting(struct selecting *selecting, struct weir_channel *channels, int sent,
                            uint64_t deadline_ns)
{
    *selecting = (struct selecting){.channels = channels, .sent = sent, .deadline_ns = deadline_ns};
    check_int(weir_spawn(weir_loop_self(), &selecting->task, recv_or_send, selecting), ==, 0);
    check_int(weir_yield(), ==, 0);
}

static void finish_selecting(struct selecting *selecting, int which, int got)
{
    check_int(weir_join(selecting->task, WEIR_FOREVER), ==, 0);
    check_int(selecting->which, ==, which);
    check_int(selecting->got, ==, got);
}

static void select_and_wait(void *argument)
{
    struct weir_channel channels[2];
    struct selecting ways[5];
    int got;
    init_pair(channels, 0);
    for (int i = 0; i < 4; i++)
        start_selecting(&ways[i], channels, 10 + i, i == 1 ? soon_ns() : WEIR_FOREVER);
    weir_task_cancel(ways[2].task);
    finish_selecting(&ways[2], -ECANCELED, 0);
    finish_selecting(&ways[1], -ETIME, 0);
    check_int(weir_channel_try_send(&channels[0], &(int){5}), ==, 0);
    weir_task_cancel(ways[0].task); /* too late */
    check_int(weir_channel_try_recv(&channels[1], &got), ==, 0);
    check_int(got, ==, 13); /* the first has its message, and sends none */
    finish_selecting(&ways[0], 0, 5);
    finish_selecting(&ways[3], 1, 0);
    check_int(weir_channel_try_send(&channels[0], &(int){6}), ==, -EAGAIN);
    check_int(weir_channel_try_recv(&channels[1], &got), ==, -EAGAIN);
    start_selecting(&ways[4], channels, 14, WEIR_FOREVER);
    weir_channel_close(&channels[1]);
    finish_selecting(&ways[4], 1, 0);
    check_int(ways[4].res, ==, -EPIPE);
    deinit_pair(channels);
}

CONFORMANCE(a_task_that_selects_gets_one_of_them_and_leaves_the_other_lines)
{
    conf_run(NULL, select_and_wait, NULL);
}

static void select_on_both_sides(void *argument)
{
    struct weir_channel channels[2];
    struct selecting way;
    int got = 0, sent = 7;
    init_pair(channels, 0);
    struct weir_case own[] = {weir_case_recv(&channels[0], &got),
                              weir_case_send(&channels[0], &sent)};
    check_int(weir_select(own, 2, soon_ns()), ==, -ETIME);
    start_selecting(&way, channels, 21, WEIR_FOREVER);
    struct weir_case others[] = {own[0], weir_case_recv(&channels[1], &got)};
    check_int(weir_select(others, 2, WEIR_FOREVER), ==, 1);
    check_int(got, ==, 21);
    finish_selecting(&way, 1, 0);
    deinit_pair(channels);
}

CONFORMANCE(tasks_that_select_meet_each_other_and_never_themselves)
{
    conf_run(NULL, select_on_both_sides, NULL);
}

/* Mappings: touched when they have gone, they kill. */
static void select_from_what_goes(void *argument)
{
    struct weir_channel *channels = mmap(NULL, 2 * sizeof *channels, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct selecting way;
    check(channels != MAP_FAILED);
    init_pair(channels, 0);
    start_selecting(&way, channels, 10, WEIR_FOREVER);
    check_int(weir_channel_try_send(&channels[0], &(int){5}), ==, 0);
    weir_channel_close(&channels[1]);
    deinit_pair(channels);
    munmap(channels, 2 * sizeof *channels);
    finish_selecting(&way, 0, 5);
}

CONFORMANCE(channels_may_go_when_nobody_is_in_their_lines_though_a_task_that_selected_has_not_run)
{
    conf_run(NULL, select_from_what_goes, NULL);
}

static void write_byte(void *argument)
{
    conf_settle();
    check_int(write(*(int *)argument, "x", 1), ==, 1);
}

static void select_with_a_pipe(void *argument)
{
    struct weir_channel channel;
    int fds[2], got = 0;
    check_int(pipe(fds), ==, 0);
    check_int(weir_channel_init(&channel, sizeof(int), 0, NULL, 0), ==, 0);
    struct weir_case cases[] = {weir_case_recv(&channel, &got), weir_case_poll(fds[0], POLLIN)};
    struct end sender;
    check_int(weir_select(cases, 2, soon_ns()), ==, -ETIME);
    start(&sender, &channel, send_value, 5, WEIR_FOREVER);
    check_int(weir_select(cases, 2, WEIR_FOREVER), ==, 0);
    finish(&sender, 0, 5);
    struct weir_task *writer;
    check_int(weir_spawn(weir_loop_self(), &writer, write_byte, &fds[1]), ==, 0);
    check_int(weir_select(cases, 2, WEIR_FOREVER), ==, 1); /* it waits first */
    check_int(cases[1].res, ==, POLLIN);
    check_int(weir_select(cases, 2, WEIR_FOREVER), ==, 1); /* it is ready */
    check_int(weir_join(writer, WEIR_FOREVER), ==, 0);
    check_int(weir_poll(weir_loop_self(), fds[0], POLLIN, WEIR_FOREVER), ==, POLLIN);
    weir_channel_deinit(&channel);
    close(fds[0]);
    close(fds[1]);
}

CONFORMANCE(a_task_selects_among_a_channel_and_a_descriptor)
{
    conf_run(NULL, select_with_a_pipe, NULL);
}

/* Told by a channel or by the peer, it answers each. */
static void serve_both(struct weir_conn *conn, void *argument)
{
    struct weir_channel *channel = argument;
    struct weir_buf buf = {0};
    int got;
    struct weir_case cases[] = {weir_case_recv(channel, &got), weir_case_input(conn)};
    for (;;) {
        int which = weir_select(cases, 2, WEIR_FOREVER);
        if (which == 0) {
            check_int(weir_send_all(conn, cases[0].res ? "end" : "msg", 3), ==, 3);
            if (cases[0].res)
                break;
        } else {
            check_int(which, ==, 1);
            check_int(weir_recv_until(conn, &buf, 0), >, 0);
            check_int(weir_send(conn, &buf), >, 0);
        }
    }
    weir_conn_close(conn);
}

CONFORMANCE(a_handler_selects_among_a_channel_and_its_input)
{
    struct weir_channel channel;
    check_int(weir_channel_init(&channel, sizeof(int), 4, NULL, WEIR_ACROSS), ==, 0);
    struct conf_server server = {.listen = {.handler = serve_both, .argument = &channel}};
    conf_start(&server);
    int fd = peer_connect(&server);
    for (int i = 0; i < 20; i++) {
        peer_echo(fd, 100, (uint64_t)i);
        check_int(weir_channel_try_send(&channel, &i), ==, 0);
        peer_expect(fd, "msg", 3);
    }
    weir_channel_close(&channel);
    peer_expect(fd, "end", 3);
    check_int(peer_end(fd, NULL), ==, 0);
    peer_close(fd);
    conf_stop(&server);
    weir_channel_deinit(&channel);
}
