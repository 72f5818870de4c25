/*
 * The pre-flight checks of TCP: ports, backlogs, TIME_WAIT, connection tracking, buffer memory.
 */
#include <stdio.h>
#include <unistd.h>

#include "bench/preflight_check.h"

/* From one source address to one destination address and port connect is fast this often
 * (driver.h). */
#define CONNS_PER_SOURCE 14000u

/* connect tries one parity of the range first, and slows a hundredfold once that is spent: half of
 * the ports are fast, the other half only work. */
static void check_ports(struct check *check)
{
    static const char name[] = "net.ipv4.ip_local_port_range";
    uint64_t range[2], need = check->need->conns_per_addr, sources = 1;
    struct limit *limit;
    if (check->need->loopback && need > CONNS_PER_SOURCE) {
        sources = (need - 1) / CONNS_PER_SOURCE + 1;
        need = CONNS_PER_SOURCE; /* the others come from further source addresses */
    }
    if (weir__check_numbers(check, "proc/sys/net/ipv4/ip_local_port_range", range, 2) < 2 ||
        range[1] < range[0]) {
        weir__check_unknown(check, name, need);
        return;
    }
    uint64_t have = range[1] - range[0] + 1;
    const char *widen =
        weir__check_sysctl(check, SYSCTL_NETWORK, "net.ipv4.ip_local_port_range='1024 65535'");
    if (have < need)
        limit = weir__check_add(check, name, have, need, LIMIT_MISSING,
                                "%s, or fewer --conns, or several addresses", widen);
    else
        limit = weir__check_add(check, name, have / 2, need, LIMIT_WARN,
                                "connecting is slow past half of the range: %s", widen);
    if (sources > 1)
        snprintf(limit->note, sizeof(limit->note), "from each of %llu addresses of 127.0.0.0/8",
                 (unsigned long long)sources);
    else if (have >= need)
        snprintf(limit->note, sizeof(limit->note), "half of %llu: the fast parity",
                 (unsigned long long)have);
}

/* Clients that close leave TIME_WAIT sockets for a minute. */
static void check_time_wait(struct check *check)
{
    static const char name[] = "net.ipv4.tcp_max_tw_buckets";
    uint64_t most, now, need = check->need->connect_burst;
    if (!weir__check_number(check, "proc/sys/net/ipv4/tcp_max_tw_buckets", &most) ||
        !weir__check_keyed(check, "proc/net/sockstat", " tw ", 10, &now)) {
        weir__check_unknown(check, name, need);
        return;
    }
    struct limit *limit = weir__check_add(check, name, most > now ? most - now : 0, need,
                                          LIMIT_WARN, "%s, else connections end without TIME_WAIT",
                                          weir__check_sysctl(check, SYSCTL_NETWORK,
                                                             "net.ipv4.tcp_max_tw_buckets=%llu",
                                                             (unsigned long long)(now + need)));
    if (now > 0)
        snprintf(limit->note, sizeof(limit->note), "%llu in TIME_WAIT now",
                 (unsigned long long)now);
}

static void check_accept_backlog(struct check *check)
{
    uint64_t have, need = check->need->connect_burst;
    if (!weir__check_number(check, "proc/sys/net/core/somaxconn", &have))
        weir__check_unknown(check, "net.core.somaxconn", need);
    else
        weir__check_add(check, "net.core.somaxconn", have, need, LIMIT_WARN,
                        "%s, else connects past it may be repeated after a second",
                        weir__check_sysctl(check, SYSCTL_NETWORK, "net.core.somaxconn=%llu",
                                           (unsigned long long)need));
}

static void check_syn_backlog(struct check *check)
{
    static const char name[] = "net.ipv4.tcp_max_syn_backlog";
    uint64_t have, cookies, need = check->need->connect_burst;
    if (!weir__check_number(check, "proc/sys/net/ipv4/tcp_max_syn_backlog", &have)) {
        weir__check_unknown(check, name, need);
        return;
    }
    struct limit *limit = weir__check_add(
        check, name, have, need, LIMIT_WARN, "%s, or net.ipv4.tcp_max_syn_backlog=%llu",
        weir__check_sysctl(check, SYSCTL_NETWORK, "net.ipv4.tcp_syncookies=1"),
        (unsigned long long)need);
    /* With cookies (a kernel built without them has no such file) a full backlog loses nothing. */
    if (limit->verdict == LIMIT_OK ||
        !weir__check_number(check, "proc/sys/net/ipv4/tcp_syncookies", &cookies) || cookies == 0)
        return;
    limit->verdict = LIMIT_OK;
    limit->cure[0] = '\0';
    snprintf(limit->note, sizeof(limit->note), "net.ipv4.tcp_syncookies=%llu serves the rest",
             (unsigned long long)cookies);
}

uint64_t weir__limits_backlog(void)
{
    const struct check check = {.root = ""};
    uint64_t most;
    return weir__check_number(&check, "proc/sys/net/core/somaxconn", &most) ? most : 0;
}

/* Only where the module is loaded: then each connection takes an entry (one for both ends), and a
 * full table drops packets. */
static void check_conntrack(struct check *check)
{
    static const char name[] = "net.netfilter.nf_conntrack_max";
    const struct limits_need *want = check->need;
    uint64_t max, used;
    uint64_t need =
        want->driver_conns > want->server_conns ? want->driver_conns : want->server_conns;
    if (!weir__check_exists(check, "proc/sys/net/netfilter/nf_conntrack_max"))
        return;
    if (!weir__check_number(check, "proc/sys/net/netfilter/nf_conntrack_max", &max) ||
        !weir__check_number(check, "proc/sys/net/netfilter/nf_conntrack_count", &used)) {
        weir__check_unknown(check, name, need);
        return;
    }
    if (max == 0)
        max = UINT64_MAX;
    weir__check_add(check, name, max > used ? max - used : 0, need, LIMIT_MISSING,
                    "%s, or a NOTRACK rule for the benchmark",
                    weir__check_sysctl(check, SYSCTL_HOST, "net.netfilter.nf_conntrack_max=%llu",
                                       (unsigned long long)(used + need)));
}

/* A connection with bytes under way is charged a page or more at each end; past the middle figure
 * the kernel starts to shrink windows. Idle connections are charged nothing. */
static void check_tcp_mem(struct check *check)
{
    static const char name[] = "net.ipv4.tcp_mem";
    uint64_t mem[3], used, page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t pages = (weir__check_ends(check->need) * CONN_END_BYTES + page - 1) / page;
    if (weir__check_numbers(check, "proc/sys/net/ipv4/tcp_mem", mem, 3) < 3 ||
        !weir__check_keyed(check, "proc/net/sockstat", " mem ", 10, &used)) {
        weir__check_unknown(check, name, pages);
        return;
    }
    uint64_t all = used + pages;
    struct limit *limit =
        weir__check_add(check, name, mem[1] > used ? mem[1] - used : 0, pages, LIMIT_WARN,
                        "%s if all connections are to be active",
                        weir__check_sysctl(check, SYSCTL_HOST, "net.ipv4.tcp_mem='%llu %llu %llu'",
                                           (unsigned long long)all, (unsigned long long)all,
                                           (unsigned long long)(2 * all)));
    snprintf(limit->note, sizeof(limit->note), "pages, left below pressure");
}

void weir__check_network(struct check *check)
{
    check_ports(check);
    check_time_wait(check);
    check_accept_backlog(check);
    check_syn_backlog(check);
    check_conntrack(check);
    check_tcp_mem(check);
}
