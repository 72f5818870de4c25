/* Conformance: datagrams, over UDP and Unix sockets. */
#include "conformance.h"

#include <netinet/in.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/un.h>

static struct weir_loop *self(void)
{
    return weir_loop_self();
}

static struct sockaddr_in any_port(void)
{
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* A UDP socket on a free port of 127.0.0.1, and its address. */
static struct weir_dgram *open_udp(struct sockaddr_in *at)
{
    struct weir_dgram *dgram;
    struct sockaddr_storage address;
    socklen_t bytes;
    *at = any_port();
    struct weir_dgram_options options = {.bind = (struct sockaddr *)at, .bind_bytes = sizeof *at};
    check_int(weir_dgram_open(self(), &dgram, &options), ==, 0);
    check_int(weir_dgram_address(dgram, &address, &bytes), ==, 0);
    memcpy(at, &address, sizeof *at);
    return dgram;
}

static int peer_udp(void)
{
    struct sockaddr_in at = any_port();
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    check_int(bind(fd, (struct sockaddr *)&at, sizeof at), ==, 0);
    return fd;
}

static void peer_send_to(int fd, const struct sockaddr_in *to, const void *data, size_t bytes)
{
    check_int(sendto(fd, data, bytes, 0, (const struct sockaddr *)to, sizeof *to), ==, bytes);
}

static void peer_expect_datagram(int fd, const void *data, size_t bytes)
{
    char got[2048];
    check_int(recv(fd, got, sizeof got, 0), ==, bytes);
    check(!memcmp(got, data, bytes), "other bytes");
}

static void expect(struct weir_dgram *dgram, struct weir_datagram *in, const void *data,
                   size_t bytes)
{
    check_int(weir_dgram_recv(dgram, in, WEIR_FOREVER), ==, bytes);
    check_int(in->buf.len, ==, bytes);
    check_int(in->bytes, ==, bytes);
    check(!memcmp(in->buf.data, data, bytes), "other bytes");
}

/* ---- receiving and sending ------------------------------------------------------------------- */

static void echo_datagrams(void *argument)
{
    struct sockaddr_in at;
    struct weir_dgram *dgram = open_udp(&at);
    struct weir_datagram in = {0};
    int peers[3];
    for (int i = 0; i < 3; i++)
        peers[i] = peer_udp();
    for (int round = 0; round < 20; round++) {
        char text[64];
        for (int i = 0; i < 3; i++) {
            int bytes = snprintf(text, sizeof text, "%d of peer %d", round, i);
            peer_send_to(peers[i], &at, text, (size_t)bytes);
        }
        for (int i = 0; i < 3; i++) {
            check_int(weir_dgram_recv(dgram, &in, WEIR_FOREVER), >, 0);
            check_int(weir_dgram_send(dgram, in.buf.data, in.buf.len, in.from, in.from_bytes,
                                      WEIR_FOREVER),
                      ==, in.buf.len);
        }
        for (int i = 0; i < 3; i++) {
            int bytes = snprintf(text, sizeof text, "%d of peer %d", round, i);
            peer_expect_datagram(peers[i], text, (size_t)bytes);
        }
    }
    struct weir_dgram_stats stats;
    weir_dgram_stats(dgram, &stats);
    check_int(stats.received, ==, 60);
    check_int(stats.sent, ==, 60);
    check_int(stats.dropped + stats.truncated + stats.unread, ==, 0);
    weir_buf_put(self(), &in.buf);
    weir_dgram_close(dgram);
    for (int i = 0; i < 3; i++)
        peer_close(peers[i]);
}

CONFORMANCE(each_datagram_is_answered_to_whoever_sent_it)
{
    conf_run(NULL, echo_datagrams, NULL);
}

static void sizes_of_datagrams(void *argument)
{
    struct sockaddr_in at;
    struct weir_dgram *dgram = open_udp(&at);
    struct weir_datagram in = {0};
    char large[1500];
    int peer = peer_udp();
    memset(large, 'x', sizeof large);
    peer_send_to(peer, &at, "", 0);
    peer_send_to(peer, &at, large, sizeof large);
    peer_send_to(peer, &at, "after", 5);
    expect(dgram, &in, "", 0);
    check_int(weir_dgram_recv(dgram, &in, WEIR_FOREVER), <, 1024);
    check_int(in.buf.len, >=, 700);
    check_int(in.bytes, ==, sizeof large);
    check(!memcmp(in.buf.data, large, in.buf.len), "other bytes");
    expect(dgram, &in, "after", 5);
    struct weir_dgram_stats stats;
    weir_dgram_stats(dgram, &stats);
    check_int(stats.truncated, ==, 1);
    weir_buf_put(self(), &in.buf);
    static char huge[70000];
    check_int(weir_dgram_send(dgram, huge, sizeof huge, in.from, in.from_bytes, WEIR_FOREVER), ==,
              -EMSGSIZE);
    weir_dgram_close(dgram);
    peer_close(peer);
}

CONFORMANCE(a_datagram_that_does_not_fit_says_so_and_an_empty_one_is_one)
{
    struct weir_loop_options options = {.buf_bytes = 1024};
    conf_run(&options, sizes_of_datagrams, NULL);
}

static void refused(void *argument)
{
    struct sockaddr_in nobody = any_port();
    struct sockaddr_storage address;
    socklen_t bytes = sizeof address;
    int gone = peer_udp();
    check_int(getsockname(gone, (struct sockaddr *)&address, &bytes), ==, 0);
    memcpy(&nobody, &address, sizeof nobody);
    peer_close(gone);
    struct weir_dgram *dgram;
    struct weir_dgram_options options = {.connect = (struct sockaddr *)&nobody,
                                         .connect_bytes = sizeof nobody};
    struct weir_datagram in = {0};
    check_int(weir_dgram_open(self(), &dgram, &options), ==, 0);
    for (int i = 0; i < 3; i++) {
        check_int(weir_dgram_send(dgram, "x", 1, NULL, 0, WEIR_FOREVER), ==, 1);
        check_int(weir_dgram_recv(dgram, &in, WEIR_FOREVER), ==, -ECONNREFUSED);
    }
    check_int(weir_dgram_recv(dgram, &in, weir_now_ns() + WEIR_MILLISECOND), ==, -ETIME);
    weir_dgram_close(dgram);
    options = (struct weir_dgram_options){.fd = -1};
    check_int(weir_dgram_open(self(), &dgram, &options), ==, -EINVAL);
}

CONFORMANCE(a_refusal_by_the_network_is_told_once)
{
    conf_run(NULL, refused, NULL);
}

/* ---- waits that end early -------------------------------------------------------------------- */

struct vain {
    struct weir_dgram *dgram;
    int result;
};

static void receive_in_vain(void *argument)
{
    struct vain *vain = argument;
    struct weir_datagram in = {0};
    vain->result = weir_dgram_recv(vain->dgram, &in, WEIR_FOREVER);
}

static void end_early(void *argument)
{
    struct sockaddr_in at;
    struct weir_dgram *dgram = open_udp(&at);
    struct weir_datagram in = {0};
    struct vain vain = {dgram, 0};
    struct weir_task *task;
    int peer = peer_udp();
    uint64_t deadline_ns = weir_now_ns() + 2 * WEIR_MILLISECOND;
    check_int(weir_dgram_recv(dgram, &in, deadline_ns), ==, -ETIME);
    check_int(weir_now_ns(), >=, deadline_ns);
    check_int(weir_spawn(self(), &task, receive_in_vain, &vain), ==, 0);
    conf_settle();
    weir_task_cancel(task);
    check_int(weir_join(task, WEIR_FOREVER), ==, 0);
    check_int(vain.result, ==, -ECANCELED);
    /* What comes after it, or came meanwhile, is not lost. */
    peer_send_to(peer, &at, "kept", 4);
    expect(dgram, &in, "kept", 4);
    check_int(weir_spawn(self(), &task, receive_in_vain, &vain), ==, 0);
    conf_settle();
    weir_dgram_close(dgram);
    check_int(weir_join(task, WEIR_FOREVER), ==, 0);
    check_int(vain.result, ==, -ESHUTDOWN);
    weir_buf_put(self(), &in.buf);
    peer_close(peer);
}

CONFORMANCE(a_wait_for_datagrams_ends_at_its_deadline_by_cancel_and_by_close)
{
    conf_run(NULL, end_early, NULL);
}

static void wait_for_the_stop(void *argument)
{
    struct sockaddr_in at;
    struct weir_dgram *dgram = open_udp(&at);
    struct weir_datagram in = {0};
    weir_loop_stop(self());
    check_int(weir_dgram_recv(dgram, &in, WEIR_FOREVER), ==, -ECANCELED);
    check_int(weir_dgram_recv(dgram, &in, WEIR_FOREVER), ==, -ECANCELED);
    /* Left open: it ends with the loop. */
}

CONFORMANCE(a_loop_that_stops_ends_the_wait_for_datagrams_and_closes_the_socket)
{
    conf_run(NULL, wait_for_the_stop, NULL);
}

/* ---- bounds ---------------------------------------------------------------------------------- */

enum { BUFS = 32, FLOOD = 200 };

/* More than the pool holds come at once: what is unread waits in the kernel, and none is lost. */
static void flood(void *argument)
{
    struct sockaddr_in at;
    struct weir_dgram *dgram = open_udp(&at);
    struct weir_datagram in = {0};
    struct weir_dgram_stats stats;
    int peer = peer_udp();
    peer_send_to(peer, &at, "first", 5);
    expect(dgram, &in, "first", 5);
    for (int i = 0; i < FLOOD; i++)
        peer_send_to(peer, &at, &i, sizeof i);
    for (int i = 0; i < 5; i++)
        conf_settle();
    weir_dgram_stats(dgram, &stats);
    check_int(stats.unread, <=, BUFS / 4);
    for (int i = 0; i < FLOOD; i++)
        expect(dgram, &in, &i, sizeof i);
    weir_dgram_stats(dgram, &stats);
    check_int(stats.received, ==, FLOOD + 1);
    check_int(stats.dropped, ==, 0);
    weir_buf_put(self(), &in.buf);
    weir_dgram_close(dgram);
    peer_close(peer);
}

CONFORMANCE(unread_datagrams_are_bounded_and_none_is_lost)
{
    struct weir_loop_options options = {.bufs = BUFS, .buf_bytes = 1024};
    conf_run(&options, flood, NULL);
}

enum { HUNGRY = 2 * BUFS };

/* All buffers are lent: the receive starves, and goes on when one is back. */
static void starve(void *argument)
{
    struct sockaddr_in at;
    struct weir_dgram *dgram = open_udp(&at);
    struct weir_datagram in[BUFS] = {0}, last = {0};
    struct weir_buf held[BUFS] = {0};
    struct weir_loop_stats stats;
    int peer = peer_udp(), count = 0, got = 0;
    while (count < BUFS && !weir_buf_get(self(), &held[count], weir_now_ns() + WEIR_MILLISECOND))
        count++;
    for (int i = 0; i < HUNGRY; i++)
        peer_send_to(peer, &at, &i, sizeof i);
    /* io_uring's ring has some of its own. */
    do {
        got += weir_dgram_recv(dgram, &in[got], weir_now_ns() + WEIR_MILLISECOND) > 0;
        weir_loop_stats(self(), &stats);
    } while (!stats.starved);
    for (int i = 0; i < count; i++)
        weir_buf_put(self(), &held[i]);
    for (int i = got; i < HUNGRY; i++)
        expect(dgram, &last, &i, sizeof i);
    for (int i = 0; i < got; i++)
        weir_buf_put(self(), &in[i].buf);
    weir_buf_put(self(), &last.buf);
    weir_dgram_close(dgram);
    peer_close(peer);
}

CONFORMANCE(a_datagram_socket_that_found_no_buffer_gets_one_later)
{
    struct weir_loop_options options = {.bufs = BUFS, .buf_bytes = 1024};
    conf_run(&options, starve, NULL);
}

/* ---- Unix sockets ---------------------------------------------------------------------------- */

struct sender {
    struct weir_dgram *dgram;
    struct sockaddr_un to;
    int number, result;
    uint64_t deadline_ns;
};

static struct sockaddr_un unix_name(const char *what)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "/tmp/weir-dgram-%d-%s", (int)getpid(), what);
    return at;
}

static struct weir_dgram *open_unix(const struct sockaddr_un *at)
{
    struct weir_dgram *dgram;
    struct weir_dgram_options options = {.bind = (struct sockaddr *)at, .bind_bytes = sizeof *at};
    check_int(weir_dgram_open(self(), &dgram, &options), ==, 0);
    return dgram;
}

static void send_until_full(void *argument)
{
    struct sender *sender = argument;
    int sent = 0, res;
    do {
        res =
            weir_dgram_send(sender->dgram, &sender->number, sizeof(int),
                            (struct sockaddr *)&sender->to, sizeof sender->to, sender->deadline_ns);
        sent += res > 0;
    } while (res > 0);
    check(sent > 0 || sender->number > 0, "the first found no room");
    sender->result = res;
}

static void senders_wait(void *argument)
{
    struct sockaddr_un from = unix_name("from"), to = unix_name("to");
    struct weir_dgram *out = open_unix(&from), *in = open_unix(&to);
    struct weir_datagram got = {0};
    struct weir_task *tasks[3];
    struct sender senders[3];
    for (int i = 0; i < 3; i++) {
        senders[i] = (struct sender){out, to, i, 0, i ? WEIR_FOREVER : weir_now_ns() + 5000000};
        check_int(weir_spawn(self(), &tasks[i], send_until_full, &senders[i]), ==, 0);
        conf_settle();
    }
    check_int(weir_dgram_recv(in, &got, WEIR_FOREVER), ==, sizeof(int));
    check(got.from && got.from_bytes > 2, "no sender");
    check(!strcmp(((const struct sockaddr_un *)got.from)->sun_path, from.sun_path), "of whom?");
    weir_buf_put(self(), &got.buf);
    check_int(weir_join(tasks[0], WEIR_FOREVER), ==, 0);
    check_int(senders[0].result, ==, -ETIME);
    conf_settle();
    weir_task_cancel(tasks[2]);
    weir_dgram_close(out);
    check_int(weir_join(tasks[1], WEIR_FOREVER), ==, 0);
    check_int(weir_join(tasks[2], WEIR_FOREVER), ==, 0);
    check_int(senders[1].result, ==, -ESHUTDOWN);
    check(senders[2].result == -ECANCELED || senders[2].result == -ESHUTDOWN, "%d",
          senders[2].result);
    weir_dgram_close(in);
    struct stat gone;
    check(stat(to.sun_path, &gone) && stat(from.sun_path, &gone), "a path was left");
}

CONFORMANCE(senders_wait_for_room_in_turn_until_deadline_cancel_or_close)
{
    conf_run(NULL, senders_wait, NULL);
}

/* ---- the others' turn ------------------------------------------------------------------------ */

static void raise_flag(void *argument)
{
    *(bool *)argument = true;
}

static void send_without_end(void *argument)
{
    struct sockaddr_in at, nobody;
    struct weir_dgram *dgram = open_udp(&at);
    int peer = peer_udp();
    socklen_t bytes = sizeof nobody;
    bool ran = false;
    check_int(getsockname(peer, (struct sockaddr *)&nobody, &bytes), ==, 0);
    check_int(weir_spawn(self(), NULL, raise_flag, &ran), ==, 0);
    for (int i = 0; i < 10000 && !ran; i++)
        check_int(weir_dgram_send(dgram, "x", 1, (struct sockaddr *)&nobody, bytes, WEIR_FOREVER),
                  ==, 1);
    check(ran, "the other task never ran");
    weir_dgram_close(dgram);
    peer_close(peer);
}

CONFORMANCE(a_task_that_sends_datagrams_without_end_lets_others_run)
{
    conf_run(NULL, send_without_end, NULL);
}

/* ---- the end of the loop --------------------------------------------------------------------- */

enum { LAST_DATAGRAMS = 30 };

static void receive_what_came_before_the_stop(void *argument)
{
    struct sockaddr_in at;
    struct weir_dgram *dgram = open_udp(&at);
    struct weir_datagram in = {0};
    int peer = peer_udp(), count = 0, res;
    for (int i = 0; i < LAST_DATAGRAMS; i++)
        peer_send_to(peer, &at, "last", 4);
    weir_loop_stop(self());
    while ((res = weir_dgram_recv(dgram, &in, WEIR_FOREVER)) >= 0)
        count++;
    check_int(res, ==, -ECANCELED);
    check_int(count, ==, LAST_DATAGRAMS);
    weir_dgram_close(dgram);
    peer_close(peer);
}

CONFORMANCE(datagrams_that_came_before_the_stop_are_received)
{
    conf_run(NULL, receive_what_came_before_the_stop, NULL);
}

/* ---- wrong addresses ------------------------------------------------------------------------- */

static void bind_too_long(void *argument)
{
    struct sockaddr_storage address = {.ss_family = AF_UNIX};
    struct weir_dgram *dgram;
    strcpy(((struct sockaddr_un *)&address)->sun_path, "/tmp/weir-never-made");
    struct weir_dgram_options options = {.bind = (struct sockaddr *)&address,
                                         .bind_bytes = sizeof address};
    check_int(weir_dgram_open(self(), &dgram, &options), ==, -EINVAL);
}

CONFORMANCE(an_address_longer_than_a_unix_sockets_is_refused)
{
    conf_run(NULL, bind_too_long, NULL);
}
