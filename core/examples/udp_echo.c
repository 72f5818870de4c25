/* A UDP echo: each datagram goes back to whoever sent it.
 *
 *     udp_echo [port [engine]]    port 0, the default, takes a free one; SIGINT and SIGTERM end it
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include <arpa/inet.h>

#include <weir/weir.h>

static void echo(void *argument)
{
    struct weir_dgram *dgram = argument;
    struct weir_datagram in = {0};
    while (weir_dgram_recv(dgram, &in, WEIR_FOREVER) >= 0)
        weir_dgram_send(dgram, in.buf.data, in.buf.len, in.from, in.from_bytes, WEIR_FOREVER);
    weir_dgram_close(dgram);
}

static struct weir_loop *loop;

static void stop(int number)
{
    weir_loop_stop(loop); /* answers what has come, then the receive says -ECANCELED */
}

int main(int count, char **arguments)
{
    struct weir_loop_options options = {.engine = count > 2 ? arguments[2] : "auto"};
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((uint16_t)(count > 1 ? atoi(arguments[1]) : 0))};
    struct weir_dgram_options udp = {.bind = (struct sockaddr *)&at, .bind_bytes = sizeof at};
    struct weir_dgram *dgram;
    struct sockaddr_storage address;
    socklen_t address_bytes;
    char why[256];

    if (weir_loop_new(&loop, &options, why, sizeof why)) {
        fprintf(stderr, "udp_echo: %s\n", why);
        return 1;
    }
    if (weir_dgram_open(loop, &dgram, &udp) || weir_spawn(loop, NULL, echo, dgram)) {
        fprintf(stderr, "udp_echo: port %u cannot be had\n", ntohs(at.sin_port));
        weir_loop_free(loop);
        return 1;
    }
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    weir_dgram_address(dgram, &address, &address_bytes);
    printf("%s serves 127.0.0.1:%u\n", weir_loop_engine(loop),
           ntohs(((struct sockaddr_in *)&address)->sin_port));
    fflush(stdout);
    int error = weir_loop_run(loop);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    weir_loop_free(loop);
    return error ? 1 : 0;
}
