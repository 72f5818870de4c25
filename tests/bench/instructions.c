/*
 * `weir-bench instructions` from outside: it counts what a stepped server executes, and says why it
 * cannot. WEIR_BENCH comes from Meson.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "process.h"

enum { SECONDS = 100 };

static struct process process;

static void teardown(void)
{
    process_free(&process);
}

TestSuite(instructions, .fini = teardown, .timeout = 240);

static int count(const char *engines, const char *conns)
{
    char *argv[] = {WEIR_BENCH,      "instructions", "--engines",
                    (char *)engines, "--conns",      (char *)conns,
                    "--requests",    "12",           NULL};
    int status = process_run(&process, argv, SECONDS);

    if (strstr(process.out, "ptrace is not permitted"))
        cr_skip_test("ptrace is not permitted here");
    return status;
}

/* The figure of the row for so many connections; 0 where there is none. */
static double figure(const char *name, unsigned conns)
{
    char line[128];
    const char *at = process.out;

    for (; at; at = strchr(at, '\n')) {
        at += *at == '\n';
        unsigned row_conns;
        double row_figure;
        if (sscanf(at, "%127s %u %lf", line, &row_conns, &row_figure) == 3 &&
            strcmp(line, name) == 0 && row_conns == conns)
            return row_figure;
        if (*at == '\0')
            break;
    }
    return 0;
}

Test(instructions, a_batch_of_requests_takes_less_for_each_than_one_alone)
{
    cr_assert_eq(count("bare-epoll,epoll", "1,4"), 0, "%s%s", process.out, process.err);
    cr_assert_gt(figure("bare-epoll", 4), 10);
    cr_assert_lt(figure("bare-epoll", 4), figure("bare-epoll", 1), "%s", process.out);
    cr_assert_lt(figure("epoll", 4), figure("epoll", 1), "%s", process.out);
    cr_assert_lt(figure("bare-epoll", 1), figure("epoll", 1), "%s", process.out);
}

Test(instructions, an_unknown_engine_exits_2_and_the_valid_ones_are_named)
{
    cr_assert_eq(count("nothing", "1"), 2);
    cr_assert_not_null(strstr(process.err, "unknown engine 'nothing'; valid: "), "%s", process.err);
}

Test(instructions, too_many_connections_are_refused)
{
    cr_assert_eq(count("epoll", "5000"), 2);
    cr_assert_not_null(strstr(process.err, "at most 4096"), "%s", process.err);
}

Test(instructions, a_server_with_wrong_options_is_a_failed_row)
{
    cr_assert_eq(count("epoll:features=+nonsense", "1"), 1, "%s", process.out);
    cr_assert_not_null(strstr(process.out, "failed: "), "%s", process.out);
}
