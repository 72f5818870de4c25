/*
 * Where a server listens and a driver connects: reads addresses, and tries whether one may listen
 * there. Called by the commands before they start anything.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/preflight.h"

/* Splits "HOST:PORT" or "[HOST]:PORT". False: it is neither. */
static bool split_host_port(const char *host_port, char *host, size_t host_bytes, const char **port)
{
    const char *colon = strrchr(host_port, ':');
    if (!colon || colon == host_port)
        return false;
    const char *first = host_port, *end = colon;
    if (*first == '[') {
        if (end[-1] != ']')
            return false;
        first++;
        end--;
    } else if (memchr(first, ':', (size_t)(end - first))) {
        return false; /* a bare IPv6 address: where its port begins is anyone's guess */
    }
    size_t len = (size_t)(end - first);
    if (len == 0 || len >= host_bytes)
        return false;
    memcpy(host, first, len);
    host[len] = '\0';
    *port = colon + 1;
    return true;
}

static bool is_port(const char *text)
{
    size_t len = strlen(text);
    return len > 0 && len <= 5 && strspn(text, "0123456789") == len &&
           strtoul(text, NULL, 10) < 65536;
}

int weir__limits_address(const char *host_port, struct sockaddr_storage *addr, socklen_t *addr_len,
                         char *text, size_t capacity)
{
    char host[256];
    const char *port;
    text[0] = '\0';
    if (!split_host_port(host_port, host, sizeof(host), &port) || !is_port(port)) {
        snprintf(text, capacity, "'%s' is not HOST:PORT, such as 127.0.0.1:7000 or [::1]:7000",
                 host_port);
        return -EINVAL;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(host, port, &hints, &found);
    if (rc != 0) {
        snprintf(text, capacity, "%s: %s", host, gai_strerror(rc));
        return -EINVAL;
    }
    memset(addr, 0, sizeof(*addr));
    memcpy(addr, found->ai_addr, found->ai_addrlen);
    *addr_len = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

static const char *listen_cure(int rc)
{
    switch (rc) {
    case -EADDRINUSE:
        return ": another process listens there (ss -ltnp shows which); stop it, or use another "
               "port, or 0 for a free one";
    case -EADDRNOTAVAIL:
        return ": no interface of this machine has that address";
    case -EACCES:
        return ": ports below net.ipv4.ip_unprivileged_port_start are root's; use a higher one";
    case -EAFNOSUPPORT:
        return ": this kernel has no such address family";
    default:
        return "";
    }
}

static int try_listen(const struct sockaddr_storage *addr, socklen_t addr_len)
{
    int fd = socket(addr->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int rc = 0, on = 1;
    /* As servers do: what is left of past connections does not count. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        bind(fd, (const struct sockaddr *)addr, addr_len) < 0 || listen(fd, 1) < 0)
        rc = -errno;
    close(fd);
    return rc;
}

int weir__limits_listen(const struct sockaddr_storage *addr, socklen_t addr_len, char *text,
                        size_t capacity)
{
    char host[NI_MAXHOST] = "?", port[NI_MAXSERV] = "?";
    int rc = try_listen(addr, addr_len);
    text[0] = '\0';
    if (rc == 0)
        return 0;
    getnameinfo((const struct sockaddr *)addr, addr_len, host, sizeof(host), port, sizeof(port),
                NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(text, capacity, strchr(host, ':') ? "[%s]:%s: %s%s" : "%s:%s: %s%s", host, port,
             strerror(-rc), listen_cure(rc));
    return rc;
}
