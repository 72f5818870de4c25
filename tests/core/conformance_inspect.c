/* Conformance: what weir_dump() says of the waits that go through an engine. */
#include "conformance.h"

#include <poll.h>
#include <stdio.h>

static char dumped[65536];
static size_t dumped_bytes;

static void keep(const char *text, size_t bytes, void *argument)
{
    check(dumped_bytes + bytes < sizeof dumped, "too much");
    memcpy(dumped + dumped_bytes, text, bytes);
    dumped_bytes += bytes;
    dumped[dumped_bytes] = '\0';
}

static void polls(void *argument)
{
    int fd = *(int *)argument;
    check_int(weir_poll(weir_loop_self(), fd, POLLIN, WEIR_FOREVER), ==, POLLIN);
}

static void looks_at_polls(void *argument)
{
    struct weir_task *task;
    int fds[2];
    char line[64];
    check_int(pipe(fds), ==, 0);
    check_int(weir_spawn(weir_loop_self(), &task, polls, &fds[0]), ==, 0);
    conf_settle();
    check_int(weir_dump_to(weir_loop_self(), keep, NULL, WEIR_DUMP_BRIEF), ==, 0);
    snprintf(line, sizeof line, "for poll on descriptor %d;", fds[0]);
    check(strstr(dumped, line), "not there:\n%s", dumped);
    check_int(write(fds[1], "", 1), ==, 1);
    check_int(weir_join(task, WEIR_FOREVER), ==, 0);
    close(fds[0]);
    close(fds[1]);
}

CONFORMANCE(a_dump_names_the_op_and_its_descriptor)
{
    conf_run(NULL, looks_at_polls, NULL);
}

static _Atomic bool waiting;

static void waits_for_more(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    waiting = weir_recv(conn, &buf) > 0;
    check_int(weir_recv_until(conn, &buf, WEIR_FOREVER), ==, 0);
}

static void dump_it(void *argument)
{
    dumped_bytes = 0;
    check_int(weir_dump_to(argument, keep, NULL, WEIR_DUMP_BRIEF), ==, 0);
}

CONFORMANCE(a_dump_names_the_connection_a_handler_waits_for)
{
    struct conf_server server = {.listen.handler = waits_for_more};
    conf_start(&server);
    int fd = peer_connect(&server);
    peer_send(fd, "x", 1);
    while (!waiting || !strstr(dumped, " for input of connection "))
        conf_call(&server, dump_it, server.loop);
    peer_shutdown(fd);
    check_int(peer_end(fd, NULL), ==, 0);
    peer_close(fd);
    conf_stop(&server);
}
