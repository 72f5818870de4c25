/* Conformance: channels within one loop. What crosses threads is in across.c. */
#include "conformance.h"

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
