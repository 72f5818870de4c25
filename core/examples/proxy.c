/* A TCP proxy: bytes go between client and server through pipes of the kernel and never come here;
 * when one side ends its half, so does the other.
 *
 *     proxy port [listen-port [engine]]      to 127.0.0.1:port; SIGINT and SIGTERM end it
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include <arpa/inet.h>

#include <weir/weir.h>

struct way {
    struct weir_conn *from, *to;
};

/* One direction. What it returns below 0 ends the other one, too. */
static int carry(void *argument)
{
    struct way *way = argument;
    struct weir_splice splice;
    int64_t moved = weir_splice_open(&splice, weir_end_conn(way->from), weir_end_conn(way->to));

    if (moved)
        return (int)moved;
    while ((moved = weir_splice(&splice, SIZE_MAX, WEIR_FOREVER)) > 0)
        ;
    weir_splice_close(&splice);
    return moved ? (int)moved : weir_conn_shutdown(way->to);
}

static void proxy(struct weir_conn *client, void *argument)
{
    const struct sockaddr_in *address = argument;
    struct weir_loop *loop = weir_conn_loop(client);
    struct weir_conn *server;
    struct weir_scope both;

    if (weir_connect(loop, &server, argument, sizeof *address, weir_now_ns() + 5 * WEIR_SECOND)) {
        weir_conn_abort(client);
        return;
    }
    struct way up = {client, server}, down = {server, client};
    weir_scope_open(&both, WEIR_FOREVER, 0);
    int error = weir_scope_spawn(&both, carry, &up);
    if (!error)
        error = weir_scope_spawn(&both, carry, &down);
    if (error)
        weir_scope_cancel(&both);
    if (weir_scope_close(&both)) {
        weir_conn_abort(server);
        weir_conn_abort(client);
    } else {
        weir_conn_close(server);
        weir_conn_close(client);
    }
}

static struct weir_loop *loop;

static void stop(int number)
{
    weir_loop_stop(loop);
}

int main(int count, char **arguments)
{
    /* A handler for each connection, and not for each burst of input: the server may speak first.
     */
    struct weir_loop_options options = {.engine = count > 3 ? arguments[3] : "auto:per=connection"};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct weir_listen_options listen = {.handler = proxy, .argument = &to};
    struct weir_listener *listener;
    struct sockaddr_storage address;
    socklen_t address_bytes;
    char why[256];

    to.sin_port = htons((uint16_t)(count > 1 ? atoi(arguments[1]) : 0));
    listen.port = (uint16_t)(count > 2 ? atoi(arguments[2]) : 0);
    if (weir_loop_new(&loop, &options, why, sizeof why) ||
        weir_listen(loop, &listener, &listen, why, sizeof why)) {
        fprintf(stderr, "proxy: %s\n", why);
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
