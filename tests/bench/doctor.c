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

Test(doctor, io_uring_is_tried)
{
    RUN("doctor", "--conns", "1");
    const char *line = line_of("io_uring  ");
    cr_assert(strstr(line, "works") != NULL || strstr(line, "refused") != NULL, "%s", line);
    line_of("seccomp");
    line_of("RLIMIT_MEMLOCK");
}

Test(doctor, a_model_that_cannot_hold_that_many_is_told_and_exits_1)
{
    expect_exit(RUN("doctor", "--conns", "2", "--engine", "iterative"), 1);
    line_of("iterative: it serves 1 connection at once");
    line_of("Not enough");
    expect_exit(RUN("doctor", "--conns", "1", "--engine", "iterative"), 0);
}

Test(doctor, a_pool_needs_what_its_workers_do)
{
    unsigned without, with;

    RUN("doctor", "--conns", "1", "--engine", "epoll-shards", "--workers", "1");
    const char *line = line_of("kernel.threads-max");
    cr_assert_eq(sscanf(line, "kernel.threads-max %*u %u", &without), 1, "%s", line);
    RUN("doctor", "--conns", "1", "--engine", "epoll-shards", "--workers", "11");
    line = line_of("kernel.threads-max");
    cr_assert_eq(sscanf(line, "kernel.threads-max %*u %u", &with), 1, "%s", line);
    cr_assert_eq(with, without + 10);
}

/* The limit of that name in the document. */
static json_t *limit_of(const char *name)
{
    size_t i;
    json_t *limit;

    json_array_foreach(at(document, "limits"), i, limit)
    {
        if (strcmp(json_string_value(at(limit, "name")), name) == 0)
            return limit;
    }
    cr_assert_fail("no limit '%s'", name);
    return NULL;
}

Test(doctor, the_list_is_json_too)
{
    process.nofile = 200;
    expect_exit(RUN("doctor", "--conns", "1000", "--servers", "2", "--json", json_path), 1);
    load_json();
    cr_expect_eq(json_integer_value(at(document, "conns")), 1000);
    cr_expect_eq(json_integer_value(at(document, "servers")), 2);
    cr_expect(json_is_null(at(document, "engine")));
    cr_expect(json_is_false(at(document, "holds")));
    json_t *nofile = limit_of("RLIMIT_NOFILE (driver)");
    cr_expect_eq(json_integer_value(at(nofile, "have")), 200);
    cr_expect_eq(json_integer_value(at(nofile, "need")), 2064);
    cr_expect_str_eq(json_string_value(at(nofile, "verdict")), "missing");
    cr_expect_not_null(strstr(json_string_value(at(nofile, "cure")), "ulimit -Hn 2064"));
    cr_expect_str_eq(json_string_value(at(limit_of("io_uring"), "need")), "works");
}

Test(doctor, json_on_standard_output_is_alone_there)
{
    json_error_t error;

    expect_exit(RUN("doctor", "--conns", "1", "--json", "-"), 0);
    json_t *root = json_loads(process.out, 0, &error);
    cr_assert_not_null(root, "%s in:\n%s", error.text, process.out);
    cr_expect(json_is_true(at(root, "holds")));
    json_decref(root);
    expect_err("Enough for 1 connections");
}

Test(doctor, bad_usage_is_exit_2_and_lists_what_is_valid)
{
    expect_exit(RUN("doctor", "--conns", "0"), 2);
    expect_err("from 1 to 16000000");
    expect_exit(RUN("doctor", "--frob", "1"), 2);
    expect_err("unknown option '--frob'; valid: --conns, --servers, --engine, --workers, --json");
    expect_exit(RUN("doctor", "--engine", "frob"), 2);
    expect_err("unknown engine 'frob'; valid: ");
    expect_exit(RUN("doctor", "--json", "/nonexistent/x"), 2);
    expect_err("cannot write /nonexistent/x");
    cr_assert_str_eq(process.out, "");
}
