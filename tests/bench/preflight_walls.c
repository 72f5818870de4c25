/*
 * Every wall of the pre-flight, on a made-up machine: that it holds, that it does not, and that it
 * cannot be read. The table has what is one file; the tests below it the rest.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "machine.h"

TestSuite(walls, .init = machine_setup, .fini = machine_teardown);

static const struct wall {
    const char *name;
    const char *file;   /* of which it is read */
    const char *enough; /* what stands there where it just holds */
    const char *scarce; /* and where it does not */
    enum limit_verdict verdict;
    uint64_t have, need;
    const char *cure;
} walls[] = {
    {"fs.nr_open", "proc/sys/fs/nr_open", "1064\n", "1000\n", LIMIT_WARN, 1000, 1064,
     "fs.nr_open=1064"},
    {"fs.file-max", "proc/sys/fs/file-nr", "1000\t0\t3064\n", "499000\t0\t500000\n", LIMIT_MISSING,
     1000, 2064, "fs.file-max=501064"},
    {"fs.epoll.max_user_watches", "proc/sys/fs/epoll/max_user_watches", "2064\n", "2000\n",
     LIMIT_MISSING, 2000, 2064, "fs.epoll.max_user_watches=2064"},
    {"net.ipv4.ip_local_port_range", "proc/sys/net/ipv4/ip_local_port_range", "40000\t41999\n",
     "40000\t41499\n", LIMIT_WARN, 750, 1000, "slow"},
    {"net.ipv4.tcp_max_tw_buckets", "proc/sys/net/ipv4/tcp_max_tw_buckets", "1050\n", "1000\n",
     LIMIT_WARN, 950, 1000, "net.ipv4.tcp_max_tw_buckets=1050"},
    {"net.ipv4.tcp_max_tw_buckets", "proc/net/sockstat",
     "TCP: inuse 4 orphan 0 tw 64536 alloc 4 mem 8\n",
     "TCP: inuse 4 orphan 0 tw 65000 alloc 4 mem 8\n", LIMIT_WARN, 536, 1000,
     "net.ipv4.tcp_max_tw_buckets=66000"},
    {"net.core.somaxconn", "proc/sys/net/core/somaxconn", "1000\n", "128\n", LIMIT_WARN, 128, 1000,
     "net.core.somaxconn=1000"},
    {"net.ipv4.tcp_max_syn_backlog", "proc/sys/net/ipv4/tcp_max_syn_backlog", "1000\n", "128\n",
     LIMIT_WARN, 128, 1000, "net.ipv4.tcp_syncookies=1, or net.ipv4.tcp_max_syn_backlog=1000"},
    {"net.ipv4.tcp_mem", "proc/sys/net/ipv4/tcp_mem", "100\t2383\t4000\n", "100\t200\t400\n",
     LIMIT_WARN, 192, 2375, "net.ipv4.tcp_mem='2383 2383 4766'"},
    {"net.ipv4.tcp_mem", "proc/net/sockstat", "TCP: inuse 4 orphan 0 tw 0 alloc 4 mem 17625\n",
     "TCP: inuse 4 orphan 0 tw 0 alloc 4 mem 19000\n", LIMIT_WARN, 1000, 2375,
     "net.ipv4.tcp_mem='21375 21375 42750'"},
    {"memory", "proc/meminfo", "MemAvailable: 57500 kB\n", "MemAvailable: 4096 kB\n", LIMIT_MISSING,
     4096 * 1024, 1000 * (9728 + 49152), "56 MiB"},
    {"vm.max_map_count", "proc/sys/vm/max_map_count", "3024\n", "3000\n", LIMIT_MISSING, 3000, 3024,
     "vm.max_map_count=3024"},
    {"kernel.threads-max", "proc/sys/kernel/threads-max", "1164\n", "1100\n", LIMIT_MISSING, 1000,
     1064, "kernel.threads-max=1164"},
    {"kernel.pid_max", "proc/sys/kernel/pid_max", "1164\n", "1100\n", LIMIT_MISSING, 1000, 1064,
     "kernel.pid_max=1164"},
    {"kernel.threads-max", "proc/loadavg", "0.00 0.01 0.05 1/28936 1234\n",
     "0.00 0.01 0.05 1/29000 1234\n", LIMIT_MISSING, 1000, 1064, "kernel.threads-max=30064"},
};

#define WALLS (sizeof(walls) / sizeof(walls[0]))

Test(walls, hold_where_there_is_just_enough)
{
    for (size_t i = 0; i < WALLS; i++) {
        machine_teardown();
        machine_setup();
        machine_write(walls[i].file, walls[i].enough);
        machine_check(&machine_thousand);
        machine_expect(walls[i].name, LIMIT_OK, walls[i].need, walls[i].need, "");
    }
}

Test(walls, are_told_with_value_need_and_cure_where_they_do_not_hold)
{
    for (size_t i = 0; i < WALLS; i++) {
        machine_teardown();
        machine_setup();
        machine_write(walls[i].file, walls[i].scarce);
        machine_check(&machine_thousand);
        machine_expect(walls[i].name, walls[i].verdict, walls[i].have, walls[i].need,
                       walls[i].cure);
    }
}

static void expect_unknown(const char *name)
{
    machine_check(&machine_thousand);
    const struct limit *limit = machine_find(name);
    cr_expect_eq(limit->verdict, LIMIT_UNKNOWN, "%s: %d", name, limit->verdict);
    cr_expect_str_eq(limit->cure, "cannot be read here");
}

Test(walls, are_unknown_where_the_file_is_missing_or_says_nothing)
{
    for (size_t i = 0; i < WALLS; i++) {
        machine_teardown();
        machine_setup();
        machine_write(walls[i].file, "nothing\n");
        expect_unknown(walls[i].name);
        machine_remove(walls[i].file);
        expect_unknown(walls[i].name);
    }
}

/* --- the network ----------------------------------------------------------------------------- */

Test(walls, ports_are_too_few_where_the_whole_range_is)
{
    machine_write("proc/sys/net/ipv4/ip_local_port_range", "40000\t40998\n");
    machine_check(&machine_thousand);
    machine_expect("net.ipv4.ip_local_port_range", LIMIT_MISSING, 999, 1000, "1024 65535");
}

Test(walls, ports_come_from_as_many_source_addresses_as_it_takes_on_loopback)
{
    struct limits_need need = machine_thousand;
    need.conns_per_addr = 200000;
    machine_check(&need);
    machine_expect("net.ipv4.ip_local_port_range", LIMIT_OK, 14116, 14000, "");
    cr_expect(strstr(machine_find("net.ipv4.ip_local_port_range")->note, "15 addresses"));
    need.loopback = false;
    machine_check(&need);
    machine_expect("net.ipv4.ip_local_port_range", LIMIT_MISSING, 28232, 200000,
                   "several addresses");
}

Test(walls, a_short_syn_backlog_is_no_wall_where_cookies_serve_the_rest)
{
    machine_write("proc/sys/net/ipv4/tcp_max_syn_backlog", "128\n");
    machine_write("proc/sys/net/ipv4/tcp_syncookies", "1\n");
    machine_check(&machine_thousand);
    machine_expect("net.ipv4.tcp_max_syn_backlog", LIMIT_OK, 128, 1000, "");
    cr_expect(strstr(machine_find("net.ipv4.tcp_max_syn_backlog")->note, "serves the rest"));
}

Test(walls, connection_tracking_is_one_only_where_it_is_on)
{
    static const char name[] = "net.netfilter.nf_conntrack_max";
    machine_check(&machine_thousand);
    for (size_t i = 0; i < machine_count; i++)
        cr_expect_str_neq(machine_list[i].name, name);
    machine_write("proc/sys/net/netfilter/nf_conntrack_max", "2500\n");
    expect_unknown(name); /* without the count */
    machine_write("proc/sys/net/netfilter/nf_conntrack_count", "1500\n");
    machine_check(&machine_thousand);
    machine_expect(name, LIMIT_OK, 1000, 1000, "");
    machine_write("proc/sys/net/netfilter/nf_conntrack_max", "2499\n");
    machine_check(&machine_thousand);
    machine_expect(name, LIMIT_MISSING, 999, 1000, "nf_conntrack_max=2500");
}

/* --- memory ---------------------------------------------------------------------------------- */

static const uint64_t memory_need = 1000 * (9728 + 49152);

Test(walls, a_memory_cgroup_is_one_of_version_2_and_its_cache_does_not_count)
{
    machine_write("sys/fs/cgroup/a/b/memory.max", "max\n");
    machine_check(&machine_thousand);
    machine_expect("cgroup memory", LIMIT_OK, UINT64_MAX, memory_need, "");
    machine_write("sys/fs/cgroup/a/b/memory.max", "10000000\n");
    machine_write("sys/fs/cgroup/a/b/memory.current", "9000000\n");
    machine_write("sys/fs/cgroup/a/b/memory.stat", "anon 4000000\ninactive_file 5000000\n");
    machine_check(&machine_thousand);
    machine_expect("cgroup memory", LIMIT_MISSING, 6000000, memory_need, "by 51 MiB");
}

Test(walls, a_memory_cgroup_is_one_of_version_1)
{
    machine_write("proc/self/cgroup", "4:cpu,memory:/a\n0::/\n");
    machine_write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n");
    machine_check(&machine_thousand);
    machine_expect("cgroup memory", LIMIT_OK, UINT64_MAX, memory_need, "");
    machine_write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "10000000\n");
    machine_write("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "9000000\n");
    machine_write("sys/fs/cgroup/memory/a/memory.stat",
                  "inactive_file 1\ntotal_inactive_file 5000000\n");
    machine_check(&machine_thousand);
    machine_expect("cgroup memory", LIMIT_MISSING, 6000000, memory_need, "memory.limit_in_bytes");
}

Test(walls, the_narrowest_cgroup_on_the_way_up_is_the_one)
{
    machine_write("sys/fs/cgroup/a/b/memory.max", "2000000\n");
    machine_write("sys/fs/cgroup/a/memory.max", "1000000\n");
    machine_write("sys/fs/cgroup/memory.max", "3000000\n");
    machine_check(&machine_thousand);
    machine_expect("cgroup memory", LIMIT_MISSING, 1000000, memory_need, "raise");
    /* A container sees its own at the top, and the path of the host. */
    machine_write("proc/self/cgroup", "0::/of/the/host\n");
    machine_check(&machine_thousand);
    machine_expect("cgroup memory", LIMIT_MISSING, 3000000, memory_need, "raise");
}

Test(walls, cgroups_are_unknown_where_the_process_does_not_know_its_own)
{
    machine_remove("proc/self/cgroup");
    expect_unknown("cgroup memory");
    expect_unknown("cgroup pids.max");
}

/* Of a thousand threads with stacks of so many bytes, and 96 KiB each for buffers. */
static uint64_t space_of(uint64_t stack_bytes)
{
    return (128ull << 20) + 1000 * (stack_bytes + (96 << 10));
}

/* In sizes that leave a sanitizer the address space it takes. */
Test(walls, stacks_count_against_the_address_space_of_a_process)
{
    struct limits_need need = machine_thousand;
    machine_limit(RLIMIT_AS, 1ull << 50);
    machine_check(&need);
    machine_expect("address space (RLIMIT_AS)", LIMIT_OK, 1ull << 50, space_of(64 << 10), "");
    need.stack_bytes = 1ull << 42;
    machine_check(&need);
    machine_expect("address space (RLIMIT_AS)", LIMIT_MISSING, 1ull << 50, space_of(1ull << 42),
                   "ulimit -v unlimited");
}

Test(walls, stacks_count_against_the_commit_limit_where_overcommit_is_strict)
{
    static const char name[] = "address space (CommitLimit)";
    struct limits_need need = machine_thousand;
    need.stack_bytes = 8 << 20;
    machine_check(&need);
    cr_expect_eq(machine_find(name)->have, UINT64_MAX);
    machine_write("proc/sys/vm/overcommit_memory", "2\n");
    machine_check(&machine_thousand);
    machine_expect(name, LIMIT_OK, 300000 * 1024, space_of(64 << 10), "");
    machine_check(&need);
    machine_expect(name, LIMIT_MISSING, 300000 * 1024, space_of(8ull << 20),
                   "vm.overcommit_memory=0");
    machine_write("proc/meminfo", "MemAvailable:  1048576 kB\n");
    expect_unknown(name);
    machine_remove("proc/sys/vm/overcommit_memory");
    expect_unknown(name);
}

/* --- workers --------------------------------------------------------------------------------- */

Test(walls, a_pids_cgroup_is_one)
{
    machine_write("sys/fs/cgroup/a/b/pids.max", "max\n");
    machine_write("sys/fs/cgroup/a/b/pids.current", "100\n");
    machine_check(&machine_thousand);
    machine_expect("cgroup pids.max", LIMIT_OK, UINT64_MAX, 1064, "");
    machine_write("sys/fs/cgroup/a/b/pids.max", "1163\n");
    machine_check(&machine_thousand);
    machine_expect("cgroup pids.max", LIMIT_MISSING, 1063, 1064, "raise it by 1: ");
}

static void set_user(const char *uid, const char *caps, const char *map)
{
    char status[128];
    snprintf(status, sizeof(status), "Uid:\t%s\nCapEff:\t%s\nSeccomp:\t0\n", uid, caps);
    machine_write("proc/self/status", status);
    machine_write("proc/self/uid_map", map);
}

Test(walls, a_users_threads_are_limited_but_for_root_and_who_may_exceed_it)
{
    static const char name[] = "RLIMIT_NPROC", whole[] = "0 0 4294967295\n", none[] = "0000000000";
    machine_limit(RLIMIT_NPROC, 1063);
    set_user("0", none, whole);
    machine_check(&machine_thousand);
    machine_expect(name, LIMIT_OK, UINT64_MAX, 1064, "");
    set_user("1000", none, whole);
    machine_check(&machine_thousand);
    machine_expect(name, LIMIT_MISSING, 1063, 1064, "ulimit -u 1064");
    set_user("1000", "0001000000", whole); /* CAP_SYS_RESOURCE */
    machine_check(&machine_thousand);
    machine_expect(name, LIMIT_OK, UINT64_MAX, 1064, "");
    set_user("0", "0001000000", "0 1000 1\n"); /* root of a user namespace only */
    machine_check(&machine_thousand);
    machine_expect(name, LIMIT_MISSING, 1063, 1064, "ulimit -u 1064");
    set_user("0", none, "0 0 65536\n"); /* and of one that has the machine's first users */
    machine_check(&machine_thousand);
    machine_expect(name, LIMIT_MISSING, 1063, 1064, "ulimit -u 1064");
    machine_remove("proc/self/status");
    expect_unknown(name);
    machine_limit(RLIMIT_NPROC, 1064);
    machine_check(&machine_thousand);
    machine_expect(name, LIMIT_OK, 1064, 1064, "");
}

/* --- io_uring -------------------------------------------------------------------------------- */

static void expect_words(const struct limits_uring *uring, const char *name,
                         enum limit_verdict verdict, const char *have, const char *cure)
{
    struct limits_need need = machine_thousand;
    char text[64];
    need.uring = uring;
    machine_check(&need);
    const struct limit *limit = machine_find(name);
    weir__limit_have(limit, text, sizeof(text));
    cr_expect_eq(limit->verdict, verdict, "%s: %d", name, limit->verdict);
    cr_expect_str_eq(text, have, "%s", name);
    cr_expect(strstr(limit->cure, cure), "%s: '%s'", name, limit->cure);
    cr_expect_eq(limit->cure[0] == '\0', verdict == LIMIT_OK, "%s: '%s'", name, limit->cure);
}

static const struct limits_uring works = {.text = "buffer_ring"};
static const struct limits_uring refused = {.result = -EPERM, .text = "EPERM: because"};
static const struct limits_uring needed = {
    .result = -EPERM, .needed = true, .text = "EPERM: because"};

Test(walls, io_uring_is_tried_and_its_own_words_are_the_cure)
{
    expect_words(&works, "io_uring", LIMIT_OK, "works", "");
    cr_expect_str_eq(machine_find("io_uring")->note, "buffer_ring");
    expect_words(&refused, "io_uring", LIMIT_WARN, "refused", "EPERM: because");
    expect_words(&needed, "io_uring", LIMIT_MISSING, "refused", "EPERM: because");
}

Test(walls, the_sysctl_against_io_uring_is_one_where_it_keeps_this_process_out)
{
    static const char name[] = "kernel.io_uring_disabled";
    machine_write("proc/sys/kernel/io_uring_group", "-1\n");
    expect_words(&refused, name, LIMIT_OK, "0", ""); /* something else keeps it out */
    machine_write("proc/sys/kernel/io_uring_disabled", "1\n");
    expect_words(&works, name, LIMIT_OK, "1", "");
    expect_words(&needed, name, LIMIT_MISSING, "1", "kernel.io_uring_disabled=0");
    cr_expect(strstr(machine_find(name)->note, "allowed to group -1"));
    machine_write("proc/sys/kernel/io_uring_disabled", "2\n");
    expect_words(&refused, name, LIMIT_WARN, "2", "kernel.io_uring_disabled=0");
    machine_write("proc/sys/kernel/io_uring_disabled", "?\n");
    expect_unknown(name);
}

Test(walls, a_seccomp_filter_is_one_where_io_uring_does_not_pass_it)
{
    expect_words(&refused, "seccomp", LIMIT_OK, "no filter", "");
    machine_write("proc/self/status", "Uid:\t0\nSeccomp:\t2\nSeccomp_filters:\t1\n");
    expect_words(&works, "seccomp", LIMIT_OK, "a filter", "");
    cr_expect(strstr(machine_find("seccomp")->note, "lets io_uring pass"));
    expect_words(&refused, "seccomp", LIMIT_WARN, "a filter", "allow io_uring_setup");
    machine_remove("proc/self/status");
    expect_unknown("seccomp");
}

Test(walls, locked_memory_is_one_for_rings_of_old_kernels)
{
    struct limits_need need = machine_thousand;
    need.uring = &needed;
    machine_limit(RLIMIT_MEMLOCK, 65536);
    machine_check(&need);
    machine_expect("RLIMIT_MEMLOCK", LIMIT_OK, 65536, 0, "");
    machine_write("proc/sys/kernel/osrelease", "5.11.22-generic\n");
    machine_check(&need);
    machine_expect("RLIMIT_MEMLOCK", LIMIT_MISSING, 65536, 2 << 20, "ulimit -l unlimited");
    machine_write("proc/sys/kernel/osrelease", "5.12.0\n");
    machine_check(&need);
    machine_expect("RLIMIT_MEMLOCK", LIMIT_OK, 65536, 0, "");
    machine_remove("proc/sys/kernel/osrelease");
    expect_unknown("RLIMIT_MEMLOCK");
}
