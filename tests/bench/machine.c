/* The made-up machine of machine.h. */
#include "machine.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char machine_root[64];
struct limit machine_list[WEIR__LIMITS_MAX];
size_t machine_count;

static const struct limits_uring uring_works = {.text = "defer_taskrun"};

const struct limits_need machine_thousand = {
    .driver_conns = 1000,
    .server_conns = 1000,
    .conns_per_addr = 1000,
    .connect_burst = 1000,
    .loopback = true,
    .threads = 1000,
    .stack_bytes = 64 << 10,
    .uring = &uring_works,
};

void machine_write(const char *file, const char *content)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", machine_root, file);
    for (char *slash = path + strlen(machine_root) + 1; (slash = strchr(slash, '/'));
         *slash++ = '/') {
        *slash = '\0';
        mkdir(path, 0700);
    }
    FILE *stream = fopen(path, "w");
    cr_assert_not_null(stream, "%s", path);
    fputs(content, stream);
    fclose(stream);
}

void machine_remove(const char *file)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", machine_root, file);
    cr_assert_eq(unlink(path), 0, "%s", path);
}

void machine_limit(__rlimit_resource_t resource, rlim_t soft)
{
    struct rlimit limit;
    cr_assert_eq(getrlimit(resource, &limit), 0);
    limit.rlim_cur = soft;
    cr_assert_eq(setrlimit(resource, &limit), 0);
}

void machine_setup(void)
{
    snprintf(machine_root, sizeof(machine_root), "/tmp/weir-limits-XXXXXX");
    cr_assert_not_null(mkdtemp(machine_root));
    machine_write("proc/sys/fs/nr_open", "1048576\n");
    machine_write("proc/sys/fs/file-nr", "1000\t0\t500000\n");
    machine_write("proc/sys/fs/epoll/max_user_watches", "100000\n");
    machine_write("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n");
    machine_write("proc/sys/net/ipv4/tcp_max_tw_buckets", "65536\n");
    machine_write("proc/sys/net/core/somaxconn", "4096\n");
    machine_write("proc/sys/net/ipv4/tcp_syncookies", "0\n");
    machine_write("proc/sys/net/ipv4/tcp_max_syn_backlog", "2048\n");
    machine_write("proc/sys/net/ipv4/tcp_mem", "10000\t20000\t40000\n");
    machine_write("proc/sys/vm/max_map_count", "65530\n");
    machine_write("proc/sys/vm/overcommit_memory", "0\n");
    machine_write("proc/sys/kernel/threads-max", "30000\n");
    machine_write("proc/sys/kernel/pid_max", "32768\n");
    machine_write("proc/sys/kernel/osrelease", "6.1.0-13-amd64\n");
    machine_write("proc/sys/kernel/io_uring_disabled", "0\n");
    machine_write("proc/loadavg", "0.00 0.01 0.05 1/100 1234\n");
    machine_write("proc/meminfo", "MemTotal: 9 kB\nMemAvailable:  1048576 kB\n"
                                  "CommitLimit:  400000 kB\nCommitted_AS:  100000 kB\n");
    machine_write("proc/net/sockstat",
                  "sockets: used 20\nTCP: inuse 4 orphan 0 tw 50 alloc 4 mem 8\n"
                  "UDP: inuse 0 mem 0\n");
    machine_write("proc/self/cgroup", "0::/a/b\n");
    machine_write("proc/self/mountinfo", "22 27 0:21 / /proc rw,relatime - proc proc rw\n");
    machine_write("proc/self/status",
                  "Name:\tx\nUid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\nSeccomp:\t0\n");
    machine_write("proc/self/uid_map", "         0          0 4294967295\n");
}

void machine_teardown(void)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", machine_root);
    cr_assert_eq(system(command), 0);
}

void machine_check(const struct limits_need *need)
{
    machine_count = weir__limits_check_at(machine_root, need, machine_list);
    cr_assert_leq(machine_count, WEIR__LIMITS_MAX);
}

const struct limit *machine_find(const char *name)
{
    for (size_t i = 0; i < machine_count; i++) {
        if (strcmp(machine_list[i].name, name) == 0)
            return &machine_list[i];
    }
    cr_assert_fail("no line for %s", name);
    return NULL;
}

void machine_expect(const char *name, enum limit_verdict verdict, uint64_t have, uint64_t need,
                    const char *cure)
{
    const struct limit *limit = machine_find(name);
    cr_expect_eq(limit->verdict, verdict, "%s: %d", name, limit->verdict);
    cr_expect_eq(limit->have, have, "%s: have %llu", name, (unsigned long long)limit->have);
    cr_expect_eq(limit->need, need, "%s: need %llu", name, (unsigned long long)limit->need);
    cr_expect(strstr(limit->cure, cure), "%s: '%s'", name, limit->cure);
    cr_expect_eq(limit->cure[0] == '\0', verdict == LIMIT_OK, "%s: '%s'", name, limit->cure);
}
