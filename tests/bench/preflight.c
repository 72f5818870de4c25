/* The pre-flight checks, on a made-up /proc and on this machine's sockets. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/preflight.h"

static char root[64];
static struct limit list[WEIR__LIMITS_MAX];
static size_t count;
static char text[512];

static void write_file(const char *name, const char *content)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", root, name);
    for (char *slash = path + strlen(root) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
        *slash = '\0';
        mkdir(path, 0700);
    }
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    fputs(content, file);
    fclose(file);
}

/* A machine on which nothing is missing for a thousand connections. */
static void setup(void)
{
    snprintf(root, sizeof(root), "/tmp/weir-limits-XXXXXX");
    cr_assert_not_null(mkdtemp(root));
    write_file("proc/sys/fs/nr_open", "1048576\n");
    write_file("proc/sys/fs/file-nr", "1000\t0\t500000\n");
    write_file("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n");
    write_file("proc/sys/net/core/somaxconn", "4096\n");
    write_file("proc/sys/net/ipv4/tcp_syncookies", "1\n");
    write_file("proc/sys/net/ipv4/tcp_max_syn_backlog", "128\n");
    write_file("proc/sys/net/ipv4/tcp_mem", "10000\t20000\t40000\n");
    write_file("proc/sys/net/ipv4/tcp_max_tw_buckets", "65536\n");
    write_file("proc/sys/fs/epoll/max_user_watches", "100000\n");
    write_file("proc/sys/vm/max_map_count", "65530\n");
    write_file("proc/sys/vm/overcommit_memory", "0\n");
    write_file("proc/sys/kernel/threads-max", "30000\n");
    write_file("proc/sys/kernel/pid_max", "32768\n");
    write_file("proc/sys/kernel/osrelease", "6.1.0-13-amd64\n");
    write_file("proc/loadavg", "0.00 0.01 0.05 1/100 1234\n");
    write_file("proc/net/sockstat",
               "sockets: used 20\nTCP: inuse 4 orphan 0 tw 50 alloc 4 mem 8\n");
    write_file("proc/self/cgroup", "0::/\n");
    write_file("proc/self/status", "Uid:\t0\t0\t0\t0\nCapEff:\t0000000000000000\nSeccomp:\t0\n");
    write_file("proc/self/uid_map", "         0          0 4294967295\n");
    write_file("proc/meminfo", "MemTotal: 9 kB\nMemAvailable:  1048576 kB\n");
}

static void teardown(void)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", root);
    cr_assert_eq(system(command), 0);
}

TestSuite(limits, .init = setup, .fini = teardown);

static const struct limits_need thousand = {
    .driver_conns = 1000,
    .server_conns = 1000,
    .conns_per_addr = 1000,
    .connect_burst = 1000,
    .loopback = true,
};

static void check(const struct limits_need *need)
{
    count = weir__limits_check_at(root, need, list);
    cr_assert_leq(count, WEIR__LIMITS_MAX);
}

static const struct limit *find(const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(list[i].name, name) == 0)
            return &list[i];
    }
    cr_assert_fail("no line for %s", name);
    return NULL;
}

static void expect_line(const char *name, enum limit_verdict verdict, uint64_t have, uint64_t need,
                        const char *cure)
{
    const struct limit *limit = find(name);
    cr_expect_eq(limit->verdict, verdict, "%s: %d", name, limit->verdict);
    cr_expect_eq(limit->have, have, "%s: have %lu", name, (unsigned long)limit->have);
    cr_expect_eq(limit->need, need, "%s: need %lu", name, (unsigned long)limit->need);
    cr_expect(strstr(limit->cure, cure), "%s: '%s'", name, limit->cure);
}

static void set_nofile(rlim_t soft, rlim_t hard)
{
    struct rlimit limit = {soft, hard};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

Test(limits, hold_on_a_machine_that_has_enough)
{
    check(&thousand);
    cr_assert_geq(count, 8);
    for (size_t i = 0; i < count; i++) {
        cr_expect_eq(list[i].verdict, LIMIT_OK, "%s", list[i].name);
        cr_expect_str_eq(list[i].cure, "", "%s", list[i].name);
    }
}

Test(limits, raise_the_soft_descriptor_limit_by_themselves)
{
    set_nofile(100, 1500);
    check(&thousand);
    expect_line("RLIMIT_NOFILE (driver)", LIMIT_OK, 1500, 1064, "");
    struct rlimit now;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &now), 0);
    cr_assert_eq(now.rlim_cur, 1500);
}

Test(limits, tell_need_have_and_cure_of_descriptors)
{
    set_nofile(500, 500);
    check(&thousand);
    expect_line("RLIMIT_NOFILE (driver)", LIMIT_MISSING, 500, 1064, "ulimit -Hn 1064");
    expect_line("RLIMIT_NOFILE (server)", LIMIT_MISSING, 500, 1064, "fewer --conns");
    cr_expect_eq(weir__limits_require(&thousand, text, sizeof(text)), -ERANGE);
    cr_expect(strstr(text, "RLIMIT_NOFILE (driver): need 1064, have 500: ulimit -Hn 1064"), "'%s'",
              text);
}

Test(limits, leave_out_a_server_that_is_not_ours)
{
    struct limits_need need = thousand;
    need.server_conns = 0;
    check(&need);
    for (size_t i = 0; i < count; i++)
        cr_expect_str_neq(list[i].name, "RLIMIT_NOFILE (server)");
}

Test(limits, count_only_the_files_others_have_left)
{
    write_file("proc/sys/fs/file-nr", "499000\t0\t500000\n");
    check(&thousand);
    expect_line("fs.file-max", LIMIT_MISSING, 1000, 2064, "fs.file-max=501064");
}

Test(limits, warn_where_ports_will_be_slow_and_refuse_where_there_are_too_few)
{
    write_file("proc/sys/net/ipv4/ip_local_port_range", "40000\t41499\n");
    check(&thousand);
    expect_line("net.ipv4.ip_local_port_range", LIMIT_WARN, 750, 1000, "slow");
    write_file("proc/sys/net/ipv4/ip_local_port_range", "40000\t40999\n");
    struct limits_need need = thousand;
    need.conns_per_addr = 1001;
    check(&need);
    expect_line("net.ipv4.ip_local_port_range", LIMIT_MISSING, 1000, 1001, "1024 65535");
}

Test(limits, need_no_more_ports_than_one_source_address_uses_on_loopback)
{
    struct limits_need need = thousand;
    need.conns_per_addr = 200000;
    check(&need);
    expect_line("net.ipv4.ip_local_port_range", LIMIT_OK, 14116, 14000, "");
    need.loopback = false;
    check(&need);
    expect_line("net.ipv4.ip_local_port_range", LIMIT_MISSING, 28232, 200000, "several addresses");
}

Test(limits, warn_of_a_short_backlog)
{
    write_file("proc/sys/net/core/somaxconn", "128\n");
    check(&thousand);
    expect_line("net.core.somaxconn", LIMIT_WARN, 128, 1000, "net.core.somaxconn=1000");
    write_file("proc/sys/net/ipv4/tcp_syncookies", "0\n");
    check(&thousand);
    expect_line("net.ipv4.tcp_max_syn_backlog", LIMIT_WARN, 128, 1000, "tcp_syncookies=1");
}

Test(limits, look_at_conntrack_only_where_there_is_one)
{
    write_file("proc/sys/net/netfilter/nf_conntrack_max", "2000\n");
    write_file("proc/sys/net/netfilter/nf_conntrack_count", "1500\n");
    check(&thousand);
    expect_line("net.netfilter.nf_conntrack_max", LIMIT_MISSING, 500, 1000,
                "nf_conntrack_max=2500");
}

Test(limits, foresee_the_kernel_memory_of_connections)
{
    write_file("proc/meminfo", "MemAvailable: 4096 kB\n");
    check(&thousand);
    expect_line("memory", LIMIT_MISSING, 4096 * 1024, 9728000, "9 MiB");
    write_file("proc/sys/net/ipv4/tcp_mem", "100\t200\t400\n");
    check(&thousand);
    expect_line("net.ipv4.tcp_mem", LIMIT_WARN, 192, 2375, "'2383 2383 4766'");
}

Test(limits, call_unknown_what_cannot_be_read)
{
    teardown();
    check(&thousand);
    cr_expect_eq(find("net.core.somaxconn")->verdict, LIMIT_UNKNOWN);
    cr_expect_eq(find("fs.file-max")->verdict, LIMIT_UNKNOWN);
    cr_expect_eq(find("memory")->verdict, LIMIT_UNKNOWN);
    setup();
}

Test(address, reads_hosts_and_ports)
{
    struct sockaddr_storage addr;
    socklen_t len;
    cr_assert_eq(weir__limits_address("127.0.0.1:7000", &addr, &len, text, sizeof(text)), 0);
    struct sockaddr_in *in = (struct sockaddr_in *)&addr;
    cr_expect_eq(in->sin_family, AF_INET);
    cr_expect_eq(ntohl(in->sin_addr.s_addr), INADDR_LOOPBACK);
    cr_expect_eq(ntohs(in->sin_port), 7000);
    cr_expect_eq(len, sizeof(*in));
    cr_assert_eq(weir__limits_address("[::1]:65535", &addr, &len, text, sizeof(text)), 0);
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&addr;
    cr_expect_eq(in6->sin6_family, AF_INET6);
    cr_expect_eq(ntohs(in6->sin6_port), 65535);
}

Test(address, refuses_what_is_none)
{
    static const char *const bad[] = {"",        "127.0.0.1", ":7000",  "127.0.0.1:",      "x:y",
                                      "::1:700", "[::1:7000", "[]:700", "127.0.0.1:65536", "h:-1",
                                      "h: 1",    "h:0x10",    "h:"};
    struct sockaddr_storage addr;
    socklen_t len;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_expect_eq(weir__limits_address(bad[i], &addr, &len, text, sizeof(text)), -EINVAL, "'%s'",
                     bad[i]);
        cr_expect(strstr(text, "is not HOST:PORT"), "'%s': '%s'", bad[i], text);
    }
    cr_expect_eq(weir__limits_address("300.300.300.300:1", &addr, &len, text, sizeof(text)),
                 -EINVAL);
    cr_expect(strstr(text, "300.300.300.300: "), "'%s'", text);
}

Test(address, tells_a_taken_port_from_a_free_one)
{
    struct sockaddr_in addr = {.sin_family = AF_INET};
    struct sockaddr_storage storage = {0};
    socklen_t len = sizeof(addr);
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memcpy(&storage, &addr, sizeof(addr));
    cr_expect_eq(weir__limits_listen(&storage, len, text, sizeof(text)), 0, "port 0: '%s'", text);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&addr, len), 0);
    cr_assert_eq(listen(fd, 1), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    memcpy(&storage, &addr, sizeof(addr));
    cr_expect_eq(weir__limits_listen(&storage, len, text, sizeof(text)), -EADDRINUSE);
    char want[64];
    snprintf(want, sizeof(want), "127.0.0.1:%u: ", ntohs(addr.sin_port));
    cr_expect(strstr(text, want) && strstr(text, "another process listens there"), "'%s'", text);
    close(fd);
    cr_expect_eq(weir__limits_listen(&storage, len, text, sizeof(text)), 0, "'%s'", text);
}

Test(address, says_that_no_interface_has_it)
{
    struct sockaddr_storage addr;
    socklen_t len;
    cr_assert_eq(weir__limits_address("192.0.2.1:0", &addr, &len, text, sizeof(text)), 0);
    cr_expect_eq(weir__limits_listen(&addr, len, text, sizeof(text)), -EADDRNOTAVAIL);
    cr_expect(strstr(text, "no interface of this machine has that address"), "'%s'", text);
}
