/* Conformance: several tasks on one connection. Any may send, and none outlives the connection
 * unawares. */
#include "conformance.h"

enum { NARROW = 16384, BUF_BYTES = 4096 };

static struct weir_conn *served; /* the only one of its server */
static uint64_t served_id;
static _Atomic int handler_result, senders_waiting;

/* Notes who it serves, and answers. */
static void note_and_echo(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    int res;
    served = conn;
    served_id = weir_conn_id(conn);
    while ((res = weir_recv(conn, &buf)) > 0)
        weir_send(conn, &buf);
    if (res != -EAGAIN)
        handler_result = res;
}

/* Hands over until it is told to end. */
static int hand_over_on(struct weir_conn *conn)
{
    struct weir_loop *loop = weir_loop_self();
    for (;;) {
        struct weir_buf buf = {0};
        int res = weir_buf_get(loop, &buf, WEIR_FOREVER);
        if (res < 0)
            return res;
        buf.len = BUF_BYTES;
        memset(buf.data, 'p', BUF_BYTES);
        res = weir_send(conn, &buf);
        check(buf.id == 0, "the buffer was not taken");
        if (res < 0)
            return res;
        check_int(res, ==, BUF_BYTES);
    }
}

static int send_all_on(struct weir_conn *conn)
{
    static char data[1 << 20];
    int res;
    while ((res = weir_send_all(conn, data, sizeof data)) > 0)
        ;
    return res;
}

struct sender {
    int (*send)(struct weir_conn *conn);
    int result;
};

static void sender_main(void *argument)
{
    struct sender *sender = argument;
    check(weir_conn_find(weir_loop_self(), served_id) == served, "not found");
    senders_waiting++;
    sender->result = sender->send(served);
    senders_waiting--;
}

static void spawn_sender(void *argument)
{
    check_int(weir_spawn(weir_loop_self(), NULL, sender_main, argument), ==, 0);
}

/* Accepted sockets take little from who does not read. */
static void start_narrow(struct conf_server *server)
{
    int fd = peer_listen(&server->address, &server->address_bytes, 8, 0), small = NARROW;
    check_int(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small), ==, 0);
    server->listen.fd = fd;
    conf_start(server);
}

/* A connection whose peer does not read, and two tasks, neither its handler's, that wait to send.
 */
static int start_with_senders(struct conf_server *server, struct sender *senders)
{
    server->listen.handler = note_and_echo;
    server->options.buf_bytes = BUF_BYTES;
    server->options.unsent_max = NARROW;
    start_narrow(server);
    int peer = peer_connect_sized(server, NARROW, 0);
    peer_echo(peer, 10, 1);
    for (int i = 0; i < 2; i++)
        conf_call(server, spawn_sender, &senders[i]);
    /* Both wait when nothing has moved for a while; if they do not yet, they will. */
    struct weir_loop_stats stats;
    uint64_t sent = 0;
    for (unsigned still = 0; still < 50; usleep(500)) {
        conf_stats(server, &stats);
        still = stats.bytes_out == sent && senders_waiting == 2 ? still + 1 : 0;
        sent = stats.bytes_out;
    }
    return peer;
}

static void both_are_told(struct conf_server *server, const struct sender *senders)
{
    conf_await_conns(server, 0);
    while (senders_waiting > 0)
        usleep(200);
    for (int i = 0; i < 2; i++)
        check_int(senders[i].result, ==, -ESHUTDOWN);
    conf_stop(server);
}

CONFORMANCE(senders_of_other_tasks_learn_that_the_handler_has_closed)
{
    struct conf_server server = {0};
    struct sender senders[2] = {{.send = hand_over_on}, {.send = hand_over_on}};
    int peer = start_with_senders(&server, senders);
    peer_shutdown(peer); /* the handler sees EOF, and returns */
    check_int(peer_end(peer, NULL), ==, 0);
    both_are_told(&server, senders);
    peer_close(peer);
}

CONFORMANCE(senders_of_other_tasks_that_wait_for_all_learn_it_too)
{
    struct conf_server server = {0};
    struct sender senders[2] = {{.send = send_all_on}, {.send = send_all_on}};
    int peer = start_with_senders(&server, senders);
    peer_shutdown(peer);
    peer_end(peer, NULL);
    both_are_told(&server, senders);
    peer_close(peer);
}

CONFORMANCE(senders_of_other_tasks_learn_of_a_reset)
{
    struct conf_server server = {0};
    struct sender senders[2] = {{.send = hand_over_on}, {.send = send_all_on}};
    int peer = start_with_senders(&server, senders);
    peer_reset(peer);
    conf_await_conns(&server, 0);
    while (senders_waiting > 0)
        usleep(200);
    for (int i = 0; i < 2; i++)
        check(senders[i].result == -ECONNRESET || senders[i].result == -EPIPE ||
                  senders[i].result == -ESHUTDOWN,
              "%d", senders[i].result);
    conf_stop(&server);
}

CONFORMANCE(senders_of_other_tasks_end_with_the_loop)
{
    struct conf_server server = {.options.drain_ns = 1000000};
    struct sender senders[2] = {{.send = hand_over_on}, {.send = send_all_on}};
    int peer = start_with_senders(&server, senders);
    conf_stop(&server);
    for (int i = 0; i < 2; i++)
        check(senders[i].result == -ESHUTDOWN || senders[i].result == -ECANCELED, "%d",
              senders[i].result);
    peer_close(peer);
}

static void abort_served(void *argument)
{
    weir_conn_abort(served);
}

CONFORMANCE(a_connection_aborted_by_another_task_ends_every_wait_on_it)
{
    struct conf_server server = {0};
    struct sender senders[2] = {{.send = hand_over_on}, {.send = send_all_on}};
    int peer = start_with_senders(&server, senders);
    conf_call(&server, abort_served, NULL);
    both_are_told(&server, senders);
    check_int(handler_result, ==, -ESHUTDOWN);
    check_int(peer_end(peer, NULL), ==, -ECONNRESET);
    peer_close(peer);
}

static void send_all_for_ever(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    served = conn;
    if (weir_recv(conn, &buf) <= 0)
        return;
    weir_send(conn, &buf);
    handler_result = send_all_on(conn);
}

CONFORMANCE(a_handler_that_sends_is_told_when_another_task_aborts)
{
    struct conf_server server = {.listen.handler = send_all_for_ever};
    start_narrow(&server);
    int peer = peer_connect_sized(&server, NARROW, 0);
    peer_echo(peer, 10, 1);
    struct weir_loop_stats stats;
    for (int i = 0; i < 10; i++)
        conf_stats(&server, &stats); /* each takes a turn, and a few are enough to be in the send */
    conf_call(&server, abort_served, NULL);
    conf_await_conns(&server, 0);
    check_int(handler_result, ==, -ESHUTDOWN);
    peer_close(peer);
    conf_stop(&server);
}

/* ---- together -------------------------------------------------------------------------------- */

enum { MESSAGE_BYTES = 100000, MESSAGES = 20, VOICES = 3 };

/* The first voice hands over, the others wait for their bytes to be taken. */
static void speak(void *argument)
{
    static const char names[] = "abc";
    const char *name = argument;
    char *data = malloc(MESSAGE_BYTES);
    check(data);
    memset(data, *name, MESSAGE_BYTES);
    for (int i = 0; i < MESSAGES; i++) {
        if (*name != names[0]) {
            check_int(weir_send_all(served, data, MESSAGE_BYTES), ==, MESSAGE_BYTES);
            continue;
        }
        for (int at = 0; at < MESSAGE_BYTES; at += 1000) {
            struct weir_buf buf = {0};
            check_int(weir_buf_get(weir_loop_self(), &buf, WEIR_FOREVER), ==, 0);
            buf.len = 1000;
            memcpy(buf.data, data, buf.len);
            check_int(weir_send(served, &buf), ==, 1000);
        }
    }
    free(data);
}

static void spawn_voices(void *argument)
{
    static char names[] = "abc";
    for (int i = 0; i < VOICES; i++)
        check_int(weir_spawn(weir_loop_self(), NULL, speak, &names[i]), ==, 0);
}

CONFORMANCE(each_send_of_several_tasks_stays_in_one_piece)
{
    struct conf_server server = {.options = {.unsent_max = NARROW},
                                 .listen.handler = note_and_echo};
    conf_start(&server);
    int peer = peer_connect(&server);
    peer_echo(peer, 10, 1);
    conf_call(&server, spawn_voices, NULL);
    char *all = malloc(VOICES * MESSAGES * MESSAGE_BYTES);
    check(all);
    check_int(peer_recv(peer, all, VOICES * MESSAGES * MESSAGE_BYTES), ==,
              VOICES * MESSAGES * MESSAGE_BYTES);
    size_t counts[VOICES] = {0};
    for (size_t at = 0, run; at < VOICES * MESSAGES * MESSAGE_BYTES; at += run) {
        for (run = 1; at + run < VOICES * MESSAGES * MESSAGE_BYTES && all[at + run] == all[at];)
            run++;
        check(all[at] >= 'a' && all[at] < 'a' + VOICES, "%d", all[at]);
        counts[all[at] - 'a'] += run;
        check_int(run % (all[at] == 'a' ? 1000 : MESSAGE_BYTES), ==, 0);
    }
    for (int i = 0; i < VOICES; i++)
        check_int(counts[i], ==, MESSAGES * MESSAGE_BYTES);
    free(all);
    peer_close(peer);
    conf_await_conns(&server, 0);
    conf_stop(&server);
}

/* ---- a connection without a handler ---------------------------------------------------------- */

static void receive_served(void *argument)
{
    struct weir_buf buf = {0};
    *(int *)argument = weir_recv(served, &buf);
}

static void close_under_a_receiver(void *argument)
{
    struct sockaddr_storage address;
    socklen_t address_bytes;
    int listening = peer_listen(&address, &address_bytes, 1, 0), result = 1;
    struct weir_task *task;
    check_int(weir_connect(weir_loop_self(), &served, (struct sockaddr *)&address, address_bytes,
                           WEIR_FOREVER),
              ==, 0);
    check_int(weir_spawn(weir_loop_self(), &task, receive_served, &result), ==, 0);
    conf_settle();
    weir_conn_close(served);
    check_int(weir_join(task, WEIR_FOREVER), ==, 0);
    check_int(result, ==, -ESHUTDOWN);
    peer_close(listening);
}

CONFORMANCE(who_receives_learns_that_another_task_has_closed)
{
    conf_run(NULL, close_under_a_receiver, NULL);
}
