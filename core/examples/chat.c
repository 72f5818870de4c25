/* A chat room: what one says by TCP, a line, all in the room get.
 *
 *     chat [port [engine]]        port 0, the default, takes a free one; SIGINT and SIGTERM end it
 *
 * Each member has a channel of lines to be sent to it. Who does not read is never waited for: of
 * what is said beyond LINES it misses the rest, and after SLOW_NS without progress it is out.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include <arpa/inet.h>

#include <weir/weir.h>

enum { LINES = 32 };
#define SLOW_NS (5 * WEIR_SECOND)

struct line {
    unsigned bytes;
    char text[200];
};

struct member {
    struct member *next;
    struct weir_channel lines;
    struct line said; /* so far */
};

static struct member *room;

static void leave(struct member *member)
{
    struct member **link = &room;
    while (*link != member)
        link = &(*link)->next;
    *link = member->next;
}

static void tell_all(const struct line *line)
{
    for (struct member *member = room; member; member = member->next)
        weir_channel_try_send(&member->lines, line); /* -EAGAIN: it misses this one */
    weir_yield();                                    /* they get theirs before the next is said */
}

static void hear(struct member *member, const struct weir_buf *buf)
{
    struct line *said = &member->said;
    for (uint32_t i = 0; i < buf->len; i++) {
        said->text[said->bytes++] = (char)buf->data[i];
        if (buf->data[i] == '\n' || said->bytes == sizeof said->text) {
            tell_all(said);
            said->bytes = 0;
        }
    }
}

static void chat(struct weir_conn *conn, void *argument)
{
    struct member self = {.said.bytes = 0};
    struct line line;
    struct weir_buf buf = {0};
    struct weir_case cases[] = {weir_case_recv(&self.lines, &line), weir_case_input(conn)};
    if (weir_channel_init(&self.lines, sizeof line, LINES, NULL, 0) == 0) {
        self.next = room;
        room = &self;
        for (int res = 1; res > 0;) {
            int which = weir_select(cases, 2, WEIR_FOREVER);
            if (which == 0)
                res = weir_send_all_until(conn, line.text, line.bytes, weir_now_ns() + SLOW_NS);
            else if (which == 1 && (res = weir_recv_until(conn, &buf, WEIR_FOREVER)) > 0)
                hear(&self, &buf);
            else
                break;
        }
        leave(&self);
        weir_channel_deinit(&self.lines);
    }
    weir_buf_put(weir_conn_loop(conn), &buf);
    weir_conn_close(conn);
}

static struct weir_loop *loop;

static void stop(int number)
{
    weir_loop_stop(loop);
}

int main(int count, char **arguments)
{
    struct weir_loop_options options = {.engine = count > 2 ? arguments[2] : "auto"};
    struct weir_listen_options listen = {.handler = chat,
                                         .port = (uint16_t)(count > 1 ? atoi(arguments[1]) : 0)};
    struct weir_listener *listener;
    struct sockaddr_storage address;
    socklen_t address_bytes;
    char why[256];

    if (weir_loop_new(&loop, &options, why, sizeof why) ||
        weir_listen(loop, &listener, &listen, why, sizeof why)) {
        fprintf(stderr, "chat: %s\n", why);
        return 1;
    }
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    weir_listener_address(listener, &address, &address_bytes);
    printf("%s serves 127.0.0.1:%u\n", weir_loop_engine(loop),
           ntohs(((struct sockaddr_in *)&address)->sin_port));
    fflush(stdout);
    int error = weir_loop_run(loop);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    weir_loop_free(loop);
    return error ? 1 : 0;
}
