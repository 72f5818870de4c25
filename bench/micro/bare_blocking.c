/*
 * The least loop of recv and send: echo with nothing beside it, a thread for each connection. The
 * line for the blocking models, as a server that compare starts:
 *
 *     weir-bench compare --engines iterative,thread --conns 1 \
 *         --server-command least=build/bench/micro/bare-blocking --reference least
 *
 * It counts nothing, knows no workload, and cannot be stopped but by its end. What it has like them
 * is the buffer and the options of the socket.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_BYTES = 64 * 1024, STACK_BYTES = 2 * BUFFER_BYTES };

static void *serve(void *argument)
{
    int fd = (int)(intptr_t)argument;
    char buffer[BUFFER_BYTES];
    ssize_t got;
    while ((got = recv(fd, buffer, sizeof buffer, 0)) > 0)
        if (send(fd, buffer, (size_t)got, MSG_NOSIGNAL) != got)
            break;
    close(fd);
    return NULL;
}

/* On $WEIR_LISTEN, an IPv4 address and a port. -1: told. */
static int open_listener(void)
{
    const char *listen_on = getenv("WEIR_LISTEN");
    char host[64] = "127.0.0.1";
    struct sockaddr_in addr = {.sin_family = AF_INET};
    socklen_t bytes = sizeof addr;
    unsigned port = 0;
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listen_on && sscanf(listen_on, "%63[0-9.]:%u", host, &port) != 2)
        fprintf(stderr, "WEIR_LISTEN=%s: want an IPv4 ADDRESS:PORT\n", listen_on);
    else if (inet_pton(AF_INET, host, &addr.sin_addr) == 1) {
        addr.sin_port = htons((uint16_t)port);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5) < 0)
            setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
        if (bind(fd, (struct sockaddr *)&addr, sizeof addr) == 0 && listen(fd, SOMAXCONN) == 0 &&
            getsockname(fd, (struct sockaddr *)&addr, &bytes) == 0) {
            printf("ready listen=%s:%u\n", host, ntohs(addr.sin_port));
            fflush(stdout);
            return fd;
        }
        fprintf(stderr, "listening on %s:%u: %s\n", host, port, strerror(errno));
    }
    return -1;
}

int main(void)
{
    pthread_attr_t detached;
    pthread_t thread;
    int fd, listen_fd = open_listener();
    if (listen_fd < 0)
        return 1;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&detached, STACK_BYTES);
    while ((fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC)) >= 0)
        if (pthread_create(&thread, &detached, serve, (void *)(intptr_t)fd) != 0)
            close(fd);
    perror("accept");
    return 1;
}
