/*
 * The pre-flight checks of preflight.h: one small function for each limit, each of which adds at
 * most one line to the list. Reads /proc and getrlimit; called by the commands before they start
 * anything.
 */
#include "bench/preflight.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* From one source address to one destination address and port connect is fast this often
 * (driver.h). */
#define CONNS_PER_SOURCE 14000u

/* Kernel memory of a connection with both ends on this machine: 9.4 KiB measured, rounded up. */
#define CONN_PAIR_BYTES 9728u

struct check {
    const char *proc;
    const struct limits_need *need;
    struct limit *list;
    size_t count;
};

/* --- reading -------------------------------------------------------------------------------- */

/* Up to `capacity` numbers from the file; returns how many it holds, 0 if it cannot be read. */
static int read_numbers(const struct check *check, const char *file, uint64_t *values, int capacity)
{
    char path[256], text[256];
    snprintf(path, sizeof(path), "%s/%s", check->proc, file);
    FILE *stream = fopen(path, "re");
    if (!stream)
        return 0;
    size_t len = fread(text, 1, sizeof(text) - 1, stream);
    fclose(stream);
    text[len] = '\0';
    int count = 0;
    char *at = text, *end;
    for (; count < capacity; count++, at = end) {
        values[count] = strtoull(at, &end, 10);
        if (end == at)
            break;
    }
    return count;
}

/* The bytes behind e.g. "MemAvailable:" in meminfo; UINT64_MAX: unknown. */
static uint64_t read_meminfo(const struct check *check, const char *key)
{
    char path[256], line[256];
    uint64_t bytes = UINT64_MAX;
    snprintf(path, sizeof(path), "%s/meminfo", check->proc);
    FILE *stream = fopen(path, "re");
    if (!stream)
        return bytes;
    while (bytes == UINT64_MAX && fgets(line, sizeof(line), stream)) {
        if (strncmp(line, key, strlen(key)) == 0)
            bytes = strtoull(line + strlen(key), NULL, 10) * 1024;
    }
    fclose(stream);
    return bytes;
}

/* --- the list ------------------------------------------------------------------------------- */

/* Adds a line: LIMIT_OK where `have` is enough, else `otherwise` with the cure. */
__attribute__((format(printf, 6, 7))) static void add(struct check *check, const char *name,
                                                      uint64_t have, uint64_t need,
                                                      enum limit_verdict otherwise,
                                                      const char *cure, ...)
{
    assert(check->count < WEIR__LIMITS_MAX);
    struct limit *limit = &check->list[check->count++];
    memset(limit, 0, sizeof(*limit));
    limit->name = name;
    limit->have = have;
    limit->need = need;
    limit->verdict = have >= need ? LIMIT_OK : otherwise;
    if (have >= need)
        return;
    va_list args;
    va_start(args, cure);
    vsnprintf(limit->cure, sizeof(limit->cure), cure, args);
    va_end(args);
}

static void add_unknown(struct check *check, const char *name, uint64_t need)
{
    add(check, name, 0, need, LIMIT_UNKNOWN, "cannot be read here");
    check->list[check->count - 1].verdict = LIMIT_UNKNOWN;
}

static void check_nofile(struct check *check, const char *name, uint64_t conns)
{
    if (conns == 0)
        return;
    struct rlimit limit;
    uint64_t need = conns + WEIR__LIMITS_SPARE_FDS;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        add_unknown(check, name, need);
        return;
    }
    uint64_t have = limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
    add(check, name, have, need, LIMIT_MISSING,
        "ulimit -Hn %llu (as root, or limits.conf, or systemd's LimitNOFILE), or fewer --conns",
        (unsigned long long)need);
}

static void check_nr_open(struct check *check)
{
    uint64_t most = check->need->driver_conns > check->need->server_conns
                        ? check->need->driver_conns
                        : check->need->server_conns;
    uint64_t have, need = most + WEIR__LIMITS_SPARE_FDS;
    if (read_numbers(check, "sys/fs/nr_open", &have, 1) < 1) {
        add_unknown(check, "fs.nr_open", need);
        return;
    }
    /* Only what RLIMIT_NOFILE can be raised to: wanting it is reported there already. */
    add(check, "fs.nr_open", have, need, LIMIT_WARN, "sysctl fs.nr_open=%llu",
        (unsigned long long)need);
}

static void check_file_max(struct check *check)
{
    uint64_t nr[3];
    uint64_t need = check->need->driver_conns + check->need->server_conns + WEIR__LIMITS_SPARE_FDS;
    if (read_numbers(check, "sys/fs/file-nr", nr, 3) < 3) {
        add_unknown(check, "fs.file-max", need);
        return;
    }
    uint64_t have = nr[2] > nr[0] ? nr[2] - nr[0] : 0; /* what others have not taken */
    add(check, "fs.file-max", have, need, LIMIT_MISSING, "sysctl fs.file-max=%llu",
        (unsigned long long)(nr[0] + need));
}

/* connect tries one parity of the range first, and slows a hundredfold once that is spent: half of
 * the ports are fast, the other half only work. */
static void check_ports(struct check *check)
{
    static const char name[] = "net.ipv4.ip_local_port_range";
    uint64_t range[2], need = check->need->conns_per_addr;
    if (check->need->loopback && need > CONNS_PER_SOURCE)
        need = CONNS_PER_SOURCE; /* the others come from further source addresses */
    if (read_numbers(check, "sys/net/ipv4/ip_local_port_range", range, 2) < 2 ||
        range[1] < range[0]) {
        add_unknown(check, name, need);
        return;
    }
    uint64_t have = range[1] - range[0] + 1;
    if (have < need)
        add(check, name, have, need, LIMIT_MISSING,
            "sysctl net.ipv4.ip_local_port_range='1024 65535', or fewer --conns, or several "
            "addresses");
    else
        add(check, name, have / 2, need, LIMIT_WARN,
            "connecting is slow past half of the range: sysctl "
            "net.ipv4.ip_local_port_range='1024 65535'");
}

static void check_backlogs(struct check *check)
{
    uint64_t have, cookies = 0, need = check->need->connect_burst;
    if (read_numbers(check, "sys/net/core/somaxconn", &have, 1) < 1)
        add_unknown(check, "net.core.somaxconn", need);
    else
        add(check, "net.core.somaxconn", have, need, LIMIT_WARN,
            "sysctl net.core.somaxconn=%llu, else connects past it may be repeated after a second",
            (unsigned long long)need);
    read_numbers(check, "sys/net/ipv4/tcp_syncookies", &cookies, 1);
    if (cookies > 0 || read_numbers(check, "sys/net/ipv4/tcp_max_syn_backlog", &have, 1) < 1)
        return; /* with cookies a full SYN backlog loses nothing */
    add(check, "net.ipv4.tcp_max_syn_backlog", have, need, LIMIT_WARN,
        "sysctl net.ipv4.tcp_syncookies=1, or net.ipv4.tcp_max_syn_backlog=%llu",
        (unsigned long long)need);
}

/* Only where the module is loaded: then each connection takes an entry, and a full table drops
 * packets. */
static void check_conntrack(struct check *check)
{
    uint64_t max, used = 0, need = check->need->driver_conns;
    if (read_numbers(check, "sys/net/netfilter/nf_conntrack_max", &max, 1) < 1 || max == 0)
        return;
    read_numbers(check, "sys/net/netfilter/nf_conntrack_count", &used, 1);
    add(check, "net.netfilter.nf_conntrack_max", max > used ? max - used : 0, need, LIMIT_MISSING,
        "sysctl net.netfilter.nf_conntrack_max=%llu, or a NOTRACK rule for the benchmark",
        (unsigned long long)(used + need));
}

/* A connection with bytes on the way is charged a page or more; past the middle figure the kernel
 * starts to shrink windows. Idle connections are charged nothing. */
static void check_tcp_mem(struct check *check)
{
    uint64_t mem[3], need = check->need->driver_conns + check->need->server_conns;
    if (read_numbers(check, "sys/net/ipv4/tcp_mem", mem, 3) < 3) {
        add_unknown(check, "net.ipv4.tcp_mem (pages)", need);
        return;
    }
    add(check, "net.ipv4.tcp_mem (pages)", mem[1], need, LIMIT_WARN,
        "sysctl net.ipv4.tcp_mem='%llu %llu %llu' if all connections are to be active",
        (unsigned long long)need, (unsigned long long)need, (unsigned long long)(2 * need));
}

static void check_memory(struct check *check)
{
    uint64_t ends = check->need->driver_conns + check->need->server_conns;
    uint64_t need = ends * (CONN_PAIR_BYTES / 2);
    uint64_t have = read_meminfo(check, "MemAvailable:");
    if (have == UINT64_MAX)
        add_unknown(check, "memory (bytes)", need);
    else
        add(check, "memory (bytes)", have, need, LIMIT_MISSING,
            "%llu MiB for the kernel's side of the connections: free some, or fewer --conns",
            (unsigned long long)(need >> 20));
}

int weir__limits_raise_nofile(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return -errno;
    if (limit.rlim_cur == limit.rlim_max)
        return 0;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &limit) < 0 ? -errno : 0;
}

size_t weir__limits_check_at(const char *proc, const struct limits_need *need,
                             struct limit list[WEIR__LIMITS_MAX])
{
    struct check check = {.proc = proc, .need = need, .list = list};
    weir__limits_raise_nofile(); /* where it fails, check_nofile shows what there is */
    check_nofile(&check, "RLIMIT_NOFILE (driver)", need->driver_conns);
    check_nofile(&check, "RLIMIT_NOFILE (server)", need->server_conns);
    check_nr_open(&check);
    check_file_max(&check);
    check_ports(&check);
    check_backlogs(&check);
    check_conntrack(&check);
    check_tcp_mem(&check);
    check_memory(&check);
    return check.count;
}

size_t weir__limits_check(const struct limits_need *need, struct limit list[WEIR__LIMITS_MAX])
{
    return weir__limits_check_at("/proc", need, list);
}

int weir__limits_require(const struct limits_need *need, char *text, size_t capacity)
{
    struct limit list[WEIR__LIMITS_MAX];
    size_t count = weir__limits_check(need, list);
    text[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        if (list[i].verdict != LIMIT_MISSING)
            continue;
        snprintf(text, capacity, "%s: need %llu, have %llu: %s", list[i].name,
                 (unsigned long long)list[i].need, (unsigned long long)list[i].have, list[i].cure);
        return -ERANGE;
    }
    return 0;
}

/* --- addresses ------------------------------------------------------------------------------ */

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
