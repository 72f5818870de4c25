/* Each reason for a failed open is told apart, with its cure. Mirrors uring/explain.c.
 *
 * The sysctl is not set here, for it would forbid io_uring to everyone on this machine: what is
 * read from /proc is read from a folder of the test's own. */
#include "harness.h"

#include <sys/stat.h>

static char proc[] = "/tmp/weir-uring-proc-XXXXXX";

static void write_file(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", proc, name);
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file, "%s", path);
    fputs(text, file);
    fclose(file);
}

static void make_proc(const char *disabled, const char *group, const char *status)
{
    static const char *const folders[] = {"", "/sys", "/sys/kernel", "/self"};
    char path[256];
    cr_assert_not_null(mkdtemp(proc));
    for (int i = 1; i < 4; i++) {
        snprintf(path, sizeof path, "%s%s", proc, folders[i]);
        cr_assert_eq(mkdir(path, 0700), 0);
    }
    if (disabled)
        write_file("sys/kernel/io_uring_disabled", disabled);
    if (group)
        write_file("sys/kernel/io_uring_group", group);
    if (status)
        write_file("self/status", status);
}

static void remove_proc(void)
{
    static const char *const names[] = {"sys/kernel/io_uring_disabled",
                                        "sys/kernel/io_uring_group",
                                        "self/status",
                                        "sys/kernel",
                                        "sys",
                                        "self",
                                        ""};
    char path[256];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", proc, names[i]);
        remove(path);
    }
}

static const char *explain(int error)
{
    static char why[256];
    struct weir__uring_host host;
    weir__uring_host_read(&host, proc);
    weir__uring_explain(error, &host, why, sizeof why);
    remove_proc();
    cr_assert(!strchr(why, '\n'));
    cr_assert_lt(strlen(why), sizeof why - 1, "cut off: %s", why);
    return why;
}

static void says(const char *why, const char *what)
{
    cr_assert(strstr(why, what), "'%s' says nothing of '%s'", why, what);
}

Test(explain, forbidden_to_all_by_sysctl)
{
    make_proc("2\n", "-1\n", "Name:\tx\nSeccomp:\t0\n");
    cr_assert_str_eq(explain(-EPERM),
                     "io_uring_setup: EPERM: kernel.io_uring_disabled=2; set it to 0, or "
                     "--engines epoll");
}

Test(explain, forbidden_by_sysctl_even_under_a_seccomp_filter)
{
    make_proc("2\n", "-1\n", "Name:\tx\nSeccomp:\t2\n");
    says(explain(-EPERM), "kernel.io_uring_disabled=2");
}

Test(explain, allowed_to_a_group_by_sysctl)
{
    make_proc("1\n", "992\n", "Seccomp:\t0\n");
    const char *why = explain(-EPERM);
    says(why, "kernel.io_uring_disabled=1");
    says(why, "group 992");
}

Test(explain, blocked_by_a_seccomp_filter)
{
    make_proc("0\n", "-1\n", "Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n");
    says(explain(-EPERM), "blocked by seccomp");
}

Test(explain, forbidden_by_something_else)
{
    make_proc("0\n", "-1\n", "Seccomp:\t0\n");
    says(explain(-EACCES), "security module");
}

Test(explain, an_older_kernel_has_no_such_sysctl)
{
    make_proc(NULL, NULL, "Seccomp:\t2\n");
    struct weir__uring_host host;
    weir__uring_host_read(&host, proc);
    cr_assert_eq(host.disabled, -1);
    cr_assert_eq(host.group, -1);
    cr_assert_eq(host.seccomp, 2);
    says(explain(-EPERM), "seccomp");
}

Test(explain, what_cannot_be_read_is_unknown)
{
    make_proc("garbage\n", "", "no such line\n");
    struct weir__uring_host host;
    weir__uring_host_read(&host, proc);
    cr_assert_eq(host.disabled, -1);
    cr_assert_eq(host.group, -1);
    cr_assert_eq(host.seccomp, -1);
    cr_assert_gt(strlen(host.release), 0);
    says(explain(-EPERM), "security module");
}

Test(explain, every_error_has_its_own_words)
{
    static const int errors[] = {EPERM, ENOMEM, ENOSYS, EMFILE, ENFILE, EINVAL, EIO};
    struct weir__uring_host host = {
        .group = -1, .memlock = 8 << 20, .nofile = 1024, .release = "5.4.0-test"};
    char why[7][256];
    for (int i = 0; i < 7; i++) {
        weir__uring_explain(-errors[i], &host, why[i], sizeof why[i]);
        for (int j = 0; j < i; j++)
            cr_assert_str_neq(why[i], why[j]);
    }
    says(why[1], "8192 KiB");
    says(why[2], "5.4.0-test");
    says(why[3], "1024");
    says(why[4], "fs.file-max");
    host.memlock = UINT64_MAX;
    weir__uring_explain(-ENOMEM, &host, why[0], sizeof why[0]);
    says(why[0], "cgroup");
}
