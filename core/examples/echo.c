/* An echo server: a handler of five lines, and the loop around it.
 *
 *     echo [port [engine]]        port 0, the default, takes a free one; SIGINT and SIGTERM end it
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include <arpa/inet.h>

#include <weir/weir.h>

static void echo(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    while (weir_recv(conn, &buf) > 0)
        weir_send(conn, &buf);
}

static struct weir_loop *loop;

static void stop(int number)
{
    weir_loop_stop(loop); /* answers what is in flight, then weir_loop_run() returns */
}

int main(int count, char **arguments)
{
    struct weir_loop_options options = {.engine = count > 2 ? arguments[2] : "auto"};
    struct weir_listen_options listen = {.handler = echo,
                                         .port = (uint16_t)(count > 1 ? atoi(arguments[1]) : 0)};
    struct weir_listener *listener;
    struct sockaddr_storage address;
    socklen_t address_bytes;
    char why[256];

    if (weir_loop_new(&loop, &options, why, sizeof why) ||
        weir_listen(loop, &listener, &listen, why, sizeof why)) {
        fprintf(stderr, "echo: %s\n", why);
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
