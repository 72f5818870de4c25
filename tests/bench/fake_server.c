/*
 * An echo server that is none of ours, for the tests of compare and servers: it can die, lie, hang
 * and refuse on demand. `fake-server MODE [N]`:
 *
 *     good            echoes
 *     die N           aborts once it has echoed N chunks, with last words on standard error
 *     exit N          the same, but exits with status 7
 *     wrong N         flips one bit of the N-th chunk
 *     unasked         greets every new connection, which nobody asked for
 *     slow N          echoes each chunk after N ms
 *     deaf            ignores SIGTERM
 *     once            exits with status 7 when a connection asks a second time
 *     deep N          at SIGTERM, exits with status 7 unless it once received N bytes together
 *     few N           at SIGTERM, exits with status 7 if more than N connections have asked
 *     refuse          says that it cannot run here (exit status 3)
 *     misused         says that its arguments are wrong (exit status 2)
 *     silent          never says that it is ready
 *     babble          says something else instead
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *mode;
static unsigned long after;
static unsigned long chunks;
static unsigned long asked[1024]; /* chunks of each connection */
static volatile unsigned long most, askers;

static int is(const char *name)
{
    return strcmp(mode, name) == 0;
}

static int listen_anywhere(unsigned *port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof addr;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0 || listen(fd, 4096) < 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &length) < 0) {
        perror("fake-server");
        exit(1);
    }
    *port = ntohs(addr.sin_port);
    return fd;
}

/* What the driver's shape is to look like from here. */
static void observe(int fd, ssize_t length)
{
    if (fd >= 1024)
        return;
    askers += asked[fd]++ == 0;
    most = (unsigned long)length > most ? (unsigned long)length : most;
    if (is("once") && asked[fd] > 1) {
        fputs("asked a second time\n", stderr);
        fflush(stderr);
        _exit(7);
    }
}

static void judge_shape(int number)
{
    (void)number;
    _exit((is("deep") && most < after) || (is("few") && askers > after) ? 7 : 0);
}

static void misbehave(char *data, ssize_t length)
{
    chunks++;
    if (chunks < after)
        return;
    if (is("wrong") && chunks == after)
        data[length / 2] ^= 1;
    if (is("die")) {
        fputs("some words\nI cannot go on\n", stderr);
        fflush(stderr);
        abort();
    }
    if (is("exit")) {
        fputs("I will not go on\n", stderr);
        fflush(stderr);
        _exit(7);
    }
}

static void echo(int epoll_fd, int fd)
{
    char data[65536];
    ssize_t got = recv(fd, data, sizeof data, 0);

    if (got <= 0) {
        epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
        close(fd);
        return;
    }
    observe(fd, got);
    misbehave(data, got);
    if (is("slow"))
        usleep((useconds_t)after * 1000);
    for (ssize_t at = 0; at < got;) {
        ssize_t sent = send(fd, data + at, (size_t)(got - at), MSG_NOSIGNAL);
        if (sent < 0)
            return; /* the peer is gone; the next receive says so */
        at += sent;
    }
}

static void take(int epoll_fd, int listen_fd)
{
    int on = 1;
    int fd = accept(listen_fd, NULL, NULL);

    if (fd < 0)
        return;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (fd < 1024)
        asked[fd] = 0;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    if (is("unasked") && send(fd, "hello", 5, MSG_NOSIGNAL) < 0)
        perror("fake-server");
}

static void serve(int listen_fd)
{
    struct epoll_event events[64];
    int epoll_fd = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listen_fd};

    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &event);
    for (;;) {
        int count = epoll_wait(epoll_fd, events, 64, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == listen_fd)
                take(epoll_fd, listen_fd);
            else
                echo(epoll_fd, events[i].data.fd);
        }
    }
}

int main(int argc, char **argv)
{
    unsigned port;

    mode = argc > 1 ? argv[1] : "good";
    after = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    alarm(120); /* no test leaves a server behind, whatever happens to it */
    if (is("refuse") || is("misused")) {
        fputs("this machine is too small\n", stderr);
        return is("refuse") ? 3 : 2;
    }
    if (is("deaf"))
        signal(SIGTERM, SIG_IGN);
    if (is("deep") || is("few"))
        signal(SIGTERM, judge_shape);
    int listen_fd = listen_anywhere(&port);
    if (is("babble"))
        puts("hello, world");
    else if (!is("silent"))
        printf("ready engine=fake workload=%s listen=127.0.0.1:%u features=one,two\n",
               getenv("WEIR_WORKLOAD") ? getenv("WEIR_WORKLOAD") : "echo", port);
    fflush(stdout);
    serve(listen_fd);
    return 0;
}
