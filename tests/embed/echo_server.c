/*
 * A program that is not Weir's, on <weir/weir.h>: an echo server, and beside it a thread of clients
 * with plain sockets that check what comes back and then stop the server. Built by embed.py against
 * the installed library and against Weir as a subproject. Exits 0 if every byte came back.
 */
#include <assert.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <weir/weir.h>

enum { BYTES = 300000, CLIENTS = 3 };

static unsigned closed;
static struct weir_loop *loop;
static struct weir_listener *listener;

static void echo(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};

    assert(argument == &closed);
    while (weir_recv(conn, &buf) > 0)
        weir_send(conn, &buf);
}

static void count_closed(struct weir_conn *conn, void *argument)
{
    (void)conn;
    ++*(unsigned *)argument;
}

/* Sends from a thread beside the receiving one: a big message fits no socket buffer. */
static void *send_pattern(void *argument)
{
    const int *fd = argument;

    for (size_t sent = 0; sent < BYTES;) {
        unsigned char chunk[4096];
        size_t len = sizeof(chunk) < BYTES - sent ? sizeof(chunk) : BYTES - sent;

        for (size_t i = 0; i < len; i++)
            chunk[i] = (unsigned char)((sent + i) * 7);
        ssize_t n = send(*fd, chunk, len, MSG_NOSIGNAL);
        assert(n > 0);
        sent += (size_t)n;
    }
    shutdown(*fd, SHUT_WR);
    return NULL;
}

static void check_one(const struct sockaddr_storage *address, socklen_t address_bytes)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    size_t received = 0;
    pthread_t sender;

    assert(fd >= 0);
    assert(connect(fd, (const struct sockaddr *)address, address_bytes) == 0);
    assert(pthread_create(&sender, NULL, send_pattern, &fd) == 0);
    for (;;) {
        unsigned char chunk[4096];
        ssize_t n = recv(fd, chunk, sizeof(chunk), 0);

        assert(n >= 0);
        if (n == 0)
            break;
        for (ssize_t i = 0; i < n; i++)
            assert(chunk[i] == (unsigned char)((received + (size_t)i) * 7));
        received += (size_t)n;
    }
    assert(received == BYTES);
    pthread_join(sender, NULL);
    close(fd);
}

static void *run_clients(void *argument)
{
    struct sockaddr_storage address;
    socklen_t address_bytes = sizeof(address);

    (void)argument;
    assert(weir_listener_address(listener, &address, &address_bytes) == 0);
    for (int i = 0; i < CLIENTS; i++)
        check_one(&address, address_bytes);
    weir_loop_stop(loop);
    return NULL;
}

int main(int argc, char **argv)
{
    struct weir_loop_options loop_options = {.engine = argc > 1 ? argv[1] : NULL};
    struct weir_listen_options listen_options = {
        .handler = echo, .closed = count_closed, .argument = &closed};
    pthread_t clients;
    char why[256] = "";

    alarm(60);
    if (weir_loop_new(&loop, &loop_options, why, sizeof(why)) < 0 ||
        weir_listen(loop, &listener, &listen_options, why, sizeof(why)) < 0) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    assert(pthread_create(&clients, NULL, run_clients, NULL) == 0);
    assert(weir_loop_run(loop) == 0);
    pthread_join(clients, NULL);
    printf("%s: %u connections, %d bytes each\n", weir_loop_engine(loop), closed, BYTES);
    assert(closed == CLIENTS);
    weir_loop_free(loop);
    return 0;
}
