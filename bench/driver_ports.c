/*
 * The ports that clients have left to connect from. One that closed first leaves a TIME_WAIT
 * socket, which holds its port towards that server for a minute (or until it is taken again, which
 * Linux does on loopback after a second: net.ipv4.tcp_tw_reuse). Churn and bursts count those
 * before they connect, so that what runs out is told by its name, and not by a connect that fails.
 *
 * sockstat counts the TIME_WAIT sockets of the whole machine, those of others among them. It is
 * only asked where it may matter.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>

#include "bench/driver_load.h"
#include "bench/preflight_check.h"

const char *weir__drive_root = "";

struct ports {
    uint64_t low, high, sources;
    uint64_t time_wait;
    bool limited; /* all is known, and TIME_WAIT takes ports away */
};

static bool is_loopback(const struct sockaddr_storage *addr)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)addr;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)addr;
    if (addr->ss_family == AF_INET)
        return ntohl(in->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
}

/* Whether a connect may take the port of a TIME_WAIT socket. */
static bool reuses(const struct check *check, const struct sockaddr_storage *addr)
{
    uint64_t reuse, stamps;
    return weir__check_number(check, "proc/sys/net/ipv4/tcp_tw_reuse", &reuse) &&
           weir__check_number(check, "proc/sys/net/ipv4/tcp_timestamps", &stamps) && stamps > 0 &&
           (reuse == 1 || (reuse == 2 && is_loopback(addr)));
}

static struct ports read_ports(const struct drive_target *target)
{
    const struct check check = {.root = weir__drive_root};
    struct ports ports = {.sources = weir__drive_sources(target)};
    uint64_t range[2];
    if (reuses(&check, &target->spec.addr) ||
        weir__check_numbers(&check, "proc/sys/net/ipv4/ip_local_port_range", range, 2) < 2 ||
        !weir__check_keyed(&check, "proc/net/sockstat", " tw ", 10, &ports.time_wait))
        return ports;
    ports.low = range[0];
    ports.high = range[1];
    ports.limited = ports.high >= ports.low;
    return ports;
}

int weir__drive_ports_left(const struct drive_target *target, uint64_t *left, char *error)
{
    const struct ports ports = read_ports(target);
    uint64_t all = (ports.high - ports.low + 1) * ports.sources;
    *left = UINT64_MAX;
    if (!ports.limited)
        return 0;
    *left = all > ports.time_wait ? all - ports.time_wait : 0;
    if (*left >= target->spec.conns)
        return 0;
    snprintf(error, WEIR__DRIVER_TEXT_BYTES,
             "out of ports: %llu of the %llu (net.ipv4.ip_local_port_range %llu-%llu, %llu source "
             "address%s) are in TIME_WAIT: wait a minute, widen the range, or have the server "
             "on 127.0.0.0/8",
             (unsigned long long)ports.time_wait, (unsigned long long)all,
             (unsigned long long)ports.low, (unsigned long long)ports.high,
             (unsigned long long)ports.sources, ports.sources > 1 ? "es" : "");
    return -EADDRNOTAVAIL;
}
