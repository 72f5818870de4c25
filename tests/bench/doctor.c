/*
 * `weir-bench doctor` from outside: the list of limits, and its exit codes. WEIR_BENCH comes from
 * Meson.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "command.h"

TestSuite(doctor, .init = command_setup, .fini = command_teardown, .timeout = 120);

/* The line of its list that begins with `name`, copied. */
static const char *line_of(const char *name)
{
    static char line[512];
    const char *at = process.out;

    while (at != NULL && strncmp(at, name, strlen(name)) != 0) {
        at = strchr(at, '\n');
        at = at != NULL ? at + 1 : NULL;
    }
    cr_assert_not_null(at, "no line of '%s' in:\n%s", name, process.out);
    snprintf(line, sizeof line, "%.*s", (int)strcspn(at, "\n"), at);
    return line;
}

Test(doctor, limits_that_hold_are_listed_and_exit_0)
{
    expect_exit(RUN("doctor", "--conns", "1"), 0);
    cr_assert_not_null(strstr(line_of("RLIMIT_NOFILE (driver)"), "ok"));
    cr_assert_not_null(strstr(line_of("Enough for 1 connections to each of 4 servers"), "Enough"));
    line_of("net.core.somaxconn");
    line_of("memory");
    cr_assert_null(strchr(process.out, '\033'), "no colours in a pipe");
}

Test(doctor, a_limit_that_does_not_hold_has_value_need_and_cure_and_exits_1)
{
    unsigned have, need;

    process.nofile = 200;
    expect_exit(RUN("doctor", "--conns", "1000"), 1);
    const char *line = line_of("RLIMIT_NOFILE (server)");
    cr_assert_eq(sscanf(line, "RLIMIT_NOFILE (server) %u %u MISSING", &have, &need), 2, "%s", line);
    cr_assert_eq(have, 200);
    cr_assert_eq(need, 1064);
    cr_assert_not_null(strstr(line, "MISSING  ulimit -Hn 1064"), "%s", line);
    line_of("Not enough");
}

Test(doctor, bad_usage_is_exit_2_and_lists_what_is_valid)
{
    expect_exit(RUN("doctor", "--conns", "0"), 2);
    expect_err("from 1 to 16m");
    expect_exit(RUN("doctor", "--frob", "1"), 2);
    expect_err("unknown option '--frob'; valid: --conns, --servers");
    cr_assert_str_eq(process.out, "");
}
