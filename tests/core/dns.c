/* The name server of the tests; see dns.h. */
#include "dns.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>

#include "conformance.h"

enum { A = 1, AAAA = 28, HEADER = 12, MOST = 512, SERVFAIL = 2, NXDOMAIN = 3 };

/* A question, and the answer that grows behind it. */
struct message {
    uint8_t data[MOST];
    size_t bytes;
    char label[64];
    uint16_t type;
};

/* 0, or -1: not a question of ours. Whatever stands behind it (EDNS) is cut off. */
static int parse(struct message *message)
{
    size_t at = HEADER;
    if (message->bytes < HEADER + 5 || message->data[at] >= sizeof message->label)
        return -1;
    memcpy(message->label, &message->data[at + 1], message->data[at]);
    message->label[message->data[at]] = '\0';
    while (at < message->bytes && message->data[at])
        at += message->data[at] + 1u;
    if (at + 5 > message->bytes)
        return -1;
    message->type = (uint16_t)(message->data[at + 1] << 8 | message->data[at + 2]);
    message->bytes = at + 5;
    memset(&message->data[6], 0, 6);
    message->data[2] = 0x85; /* an answer, with authority; recursion was asked for */
    message->data[3] = 0x80;
    return 0;
}

static void add(struct message *message, const void *address, uint8_t bytes)
{
    uint8_t record[] = {0xc0, HEADER, 0, (uint8_t)message->type, 0, 1, 0, 0, 0, 60, 0, bytes};
    memcpy(&message->data[message->bytes], record, sizeof record);
    memcpy(&message->data[message->bytes + sizeof record], address, bytes);
    message->bytes += sizeof record + bytes;
    message->data[7]++;
}

static void add_v4(struct message *message, unsigned count)
{
    for (unsigned i = 1; i <= count && message->type == A; i++) {
        uint32_t address = htonl(INADDR_LOOPBACK - 1 + i);
        add(message, &address, sizeof address);
    }
}

static void add_v6(struct message *message)
{
    if (message->type == AAAA)
        add(message, &in6addr_loopback, sizeof in6addr_loopback);
}

static bool is(const struct message *message, const char *label)
{
    return !strcmp(message->label, label);
}

/* False: there is none. `earlier` are the datagrams before it. */
static bool answer(struct message *message, bool datagram, unsigned earlier)
{
    if (parse(message))
        return false;
    if (is(message, "silent") || (is(message, "late") && earlier < 2))
        return false;
    if (is(message, "v4") || is(message, "late"))
        add_v4(message, 1);
    else if (is(message, "many"))
        add_v4(message, 20);
    else if (is(message, "v6"))
        add_v6(message);
    else if (is(message, "both"))
        add_v4(message, 1), add_v6(message);
    else if (is(message, "long") && datagram)
        message->data[2] |= 2;
    else if (is(message, "long"))
        add_v4(message, 1);
    else
        message->data[3] |= is(message, "fail") ? SERVFAIL : NXDOMAIN;
    return true;
}

void dns_answer(struct dns *dns)
{
    struct message message;
    struct sockaddr_in from;
    socklen_t from_bytes = sizeof from;
    ssize_t bytes = recvfrom(dns->udp, message.data, sizeof message.data, 0,
                             (struct sockaddr *)&from, &from_bytes);
    if (bytes < 0)
        return;
    message.bytes = (size_t)bytes;
    if (answer(&message, true, dns->datagrams++))
        sendto(dns->udp, message.data, message.bytes, 0, (struct sockaddr *)&from, from_bytes);
}

/* One question of a connection; false at its end. */
static bool serve_stream(struct dns *dns, int fd)
{
    struct message message;
    uint8_t prefix[2];
    if (recv(fd, prefix, 2, MSG_WAITALL) != 2)
        return false;
    message.bytes = (size_t)(prefix[0] << 8 | prefix[1]);
    check(message.bytes <= MOST);
    check_int(recv(fd, message.data, message.bytes, MSG_WAITALL), ==, message.bytes);
    check(answer(&message, false, 0));
    prefix[0] = (uint8_t)(message.bytes >> 8);
    prefix[1] = (uint8_t)message.bytes;
    dns->streams++;
    return send(fd, prefix, 2, MSG_NOSIGNAL | MSG_MORE) == 2 &&
           send(fd, message.data, message.bytes, MSG_NOSIGNAL) > 0;
}

enum { STREAMS = 16 }; /* at once; a free place has the descriptor -1 */

static void accept_stream(struct dns *dns, struct pollfd *streams)
{
    unsigned i = 0;
    while (i < STREAMS && streams[i].fd >= 0)
        i++;
    check(i < STREAMS, "too many connections to the name server");
    streams[i].fd = accept4(dns->tcp, NULL, NULL, SOCK_CLOEXEC);
    check(streams[i].fd >= 0, "accept: %s", strerror(errno));
}

static void *dns_main(void *argument)
{
    struct dns *dns = argument;
    struct pollfd fds[3 + STREAMS] = {{.fd = dns->stop[0]}, {.fd = dns->udp}, {.fd = dns->tcp}};
    for (unsigned i = 0; i < 3 + STREAMS; i++) {
        fds[i].fd = i < 3 ? fds[i].fd : -1;
        fds[i].events = POLLIN;
    }
    while (poll(fds, 3 + STREAMS, -1) > 0 && !fds[0].revents) {
        for (unsigned i = 3; i < 3 + STREAMS; i++) {
            if (fds[i].fd < 0 || !fds[i].revents || serve_stream(dns, fds[i].fd))
                continue;
            close(fds[i].fd);
            fds[i].fd = -1;
        }
        if (fds[1].revents)
            dns_answer(dns);
        if (fds[2].revents)
            accept_stream(dns, &fds[3]);
    }
    for (unsigned i = 3; i < 3 + STREAMS; i++)
        if (fds[i].fd >= 0)
            close(fds[i].fd);
    return NULL;
}

/* The same port for both. */
static bool bind_both(struct dns *dns)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    dns->udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    dns->tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check_int(bind(dns->udp, (struct sockaddr *)&address, sizeof address), ==, 0);
    check_int(getsockname(dns->udp, (struct sockaddr *)&address, &bytes), ==, 0);
    if (bind(dns->tcp, (struct sockaddr *)&address, sizeof address) == 0) {
        check_int(listen(dns->tcp, 16), ==, 0);
        snprintf(dns->servers, sizeof dns->servers, "127.0.0.1:%u", ntohs(address.sin_port));
        return true;
    }
    close(dns->udp);
    close(dns->tcp);
    return false;
}

void dns_open(struct dns *dns)
{
    *dns = (struct dns){.udp = -1};
    for (int tries = 0; !bind_both(dns); tries++)
        check_int(tries, <, 100);
}

void dns_close(struct dns *dns)
{
    close(dns->udp);
    close(dns->tcp);
}

void dns_start(struct dns *dns)
{
    dns_open(dns);
    check_int(pipe2(dns->stop, O_CLOEXEC), ==, 0);
    check_int(pthread_create(&dns->thread, NULL, dns_main, dns), ==, 0);
}

void dns_stop(struct dns *dns)
{
    check_int(write(dns->stop[1], "", 1), ==, 1);
    check_int(pthread_join(dns->thread, NULL), ==, 0);
    close(dns->stop[0]);
    close(dns->stop[1]);
    dns_close(dns);
}

void dns_await(struct dns *dns, unsigned datagrams)
{
    uint64_t until_ns = weir_now_ns() + PEER_SECONDS * WEIR_SECOND;
    while (dns->datagrams < datagrams) {
        check(weir_now_ns() < until_ns, "%u questions came, not %u", dns->datagrams, datagrams);
        usleep(1000);
    }
}
