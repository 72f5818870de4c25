/* The list of the pre-flight, and how it words a cure, on a made-up machine. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "machine.h"

TestSuite(limits, .init = machine_setup, .fini = machine_teardown);

static char text[512];

static void set_nofile(rlim_t soft, rlim_t hard)
{
    struct rlimit limit = {soft, hard};
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

Test(limits, hold_on_a_machine_that_has_enough)
{
    machine_check(&machine_thousand);
    cr_assert_geq(machine_count, 23);
    for (size_t i = 0; i < machine_count; i++) {
        cr_expect_eq(machine_list[i].verdict, LIMIT_OK, "%s", machine_list[i].name);
        cr_expect_str_eq(machine_list[i].cure, "", "%s", machine_list[i].name);
    }
}

Test(limits, raise_the_soft_descriptor_limit_by_themselves)
{
    set_nofile(100, 1500);
    machine_check(&machine_thousand);
    machine_expect("RLIMIT_NOFILE (driver)", LIMIT_OK, 1500, 1064, "");
    cr_expect(strstr(machine_find("RLIMIT_NOFILE (server)")->note, "soft 100"));
    struct rlimit now;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &now), 0);
    cr_assert_eq(now.rlim_cur, 1500);
}

Test(limits, tell_need_have_and_cure_of_descriptors)
{
    set_nofile(500, 500);
    machine_check(&machine_thousand);
    machine_expect("RLIMIT_NOFILE (driver)", LIMIT_MISSING, 500, 1064, "ulimit -Hn 1064");
    machine_expect("RLIMIT_NOFILE (server)", LIMIT_MISSING, 500, 1064, "fewer --conns");
    cr_expect_eq(weir__limits_require(&machine_thousand, text, sizeof(text)), -ERANGE);
    cr_expect(strstr(text, "RLIMIT_NOFILE (driver): need 1064, have 500: ulimit -Hn 1064"), "'%s'",
              text);
}

static void expect_none(const char *name)
{
    for (size_t i = 0; i < machine_count; i++)
        cr_expect_str_neq(machine_list[i].name, name);
}

Test(limits, leave_out_a_server_that_is_not_ours)
{
    struct limits_need need = machine_thousand;
    need.server_conns = 0;
    machine_check(&need);
    expect_none("RLIMIT_NOFILE (server)");
}

Test(limits, leave_out_io_uring_where_nobody_asks_for_it)
{
    struct limits_need need = machine_thousand;
    need.uring = NULL;
    machine_check(&need);
    expect_none("io_uring");
    expect_none("seccomp");
}

Test(limits, count_both_ends_on_loopback_and_one_elsewhere)
{
    struct limits_need need = machine_thousand;
    machine_check(&need);
    cr_expect_eq(machine_find("fs.file-max")->need, 2064);
    need.driver_conns = 4000; /* to four servers */
    machine_check(&need);
    cr_expect_eq(machine_find("fs.file-max")->need, 8064);
    need.loopback = false;
    need.server_conns = 0;
    machine_check(&need);
    cr_expect_eq(machine_find("fs.file-max")->need, 4064);
}

/* --- how a cure is worded -------------------------------------------------------------------- */

static void expect_cures(const char *of_host, const char *of_network)
{
    machine_write("proc/sys/fs/file-nr", "0\t0\t1\n");
    machine_write("proc/sys/net/core/somaxconn", "1\n");
    machine_check(&machine_thousand);
    cr_expect_str_eq(machine_find("fs.file-max")->cure, of_host);
    cr_expect(strstr(machine_find("net.core.somaxconn")->cure, of_network) ==
                  machine_find("net.core.somaxconn")->cure,
              "%s", machine_find("net.core.somaxconn")->cure);
}

Test(limits, are_cured_by_root_without_sudo)
{
    expect_cures("sysctl -w fs.file-max=2064", "sysctl -w net.core.somaxconn=1000, else");
}

Test(limits, are_cured_by_others_with_sudo)
{
    machine_write("proc/self/status", "Uid:\t1000\t1000\t1000\t1000\n");
    expect_cures("sudo sysctl -w fs.file-max=2064", "sudo sysctl -w net.core.somaxconn=1000, else");
}

Test(limits, are_cured_outside_of_a_container_that_may_not_set_them)
{
    machine_write("proc/self/mountinfo",
                  "22 27 0:21 / /proc rw,relatime - proc proc rw\n"
                  "23 22 0:21 /sys /proc/sys ro,nosuid,relatime - proc proc rw\n"
                  "24 22 0:21 /x /proc/other rw,nosuid,relatime - proc proc rw\n");
    expect_cures("sysctl -w fs.file-max=2064 on the host (read-only in this container)",
                 "start this container with --sysctl net.core.somaxconn=1000 (read-only here), ");
}

/* --- how a figure is worded ------------------------------------------------------------------- */

static void expect_figure(enum limit_unit unit, uint64_t have, const char *want)
{
    struct limit limit = {.unit = unit, .have = have};
    weir__limit_have(&limit, text, sizeof(text));
    cr_expect_str_eq(text, want);
}

Test(limits, are_told_in_units_that_people_read)
{
    expect_figure(LIMIT_COUNT, 123456789, "123456789");
    expect_figure(LIMIT_COUNT, UINT64_MAX, "unlimited");
    expect_figure(LIMIT_BYTES, 0, "0");
    expect_figure(LIMIT_BYTES, 1536, "1.5 KiB");
    expect_figure(LIMIT_BYTES, 10000ull * (8 << 20), "78.1 GiB");
    struct limit unknown = {.have = 7, .verdict = LIMIT_UNKNOWN};
    weir__limit_have(&unknown, text, sizeof(text));
    cr_expect_str_eq(text, "?");
}
