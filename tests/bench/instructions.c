/*
 * `weir-bench instructions` from outside: it counts what a stepped server executes, and says why it
 * cannot. WEIR_BENCH comes from Meson.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "command.h"

TestSuite(instructions, .init = command_setup, .fini = command_teardown, .timeout = 240);

static int count(const char *engines, const char *conns)
{
    int status = RUN("instructions", "--engines", engines, "--conns", conns, "--requests", "12");

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
    expect_exit(count("bare-epoll,epoll", "1,4"), 0);
    cr_assert_gt(figure("bare-epoll", 4), 10);
    cr_assert_lt(figure("bare-epoll", 4), figure("bare-epoll", 1), "%s", process.out);
    cr_assert_lt(figure("epoll", 4), figure("epoll", 1), "%s", process.out);
    cr_assert_lt(figure("bare-epoll", 1), figure("epoll", 1), "%s", process.out);
}

Test(instructions, an_unknown_engine_exits_2_and_the_valid_ones_are_named)
{
    expect_exit(count("nothing", "1"), 2);
    expect_err("unknown engine 'nothing'; valid: ");
}

Test(instructions, too_many_connections_are_refused)
{
    expect_exit(count("epoll", "5000"), 2);
    expect_err("at most 4096");
}

Test(instructions, a_server_with_wrong_options_is_a_failed_row)
{
    expect_exit(count("epoll:features=+nonsense", "1"), 1);
    expect_out("failed: ");
}

/* The server that is being counted, once it is. */
static pid_t counted_server(pid_t parent)
{
    char path[64], line[128];
    int child = 0, tracer = 0;

    while (tracer == 0) {
        usleep(1000);
        snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)parent, (int)parent);
        FILE *file = fopen(path, "r");
        cr_assert_not_null(file, "it ended: %s", path);
        child = fscanf(file, "%d", &child) == 1 ? child : 0;
        fclose(file);
        snprintf(path, sizeof path, "/proc/%d/status", child);
        file = child ? fopen(path, "r") : NULL;
        while (file && fgets(line, sizeof line, file))
            sscanf(line, "TracerPid: %d", &tracer);
        if (file)
            fclose(file);
    }
    return child;
}

Test(instructions, a_server_that_dies_is_a_failed_row)
{
    expect_exit(count("bare-epoll", "1"), 0); /* skips where nothing can be traced */
    LAUNCH("instructions", "--engines", "epoll", "--conns", "1", "--requests", "1000000");
    cr_assert_eq(kill(counted_server(process.pid), SIGKILL), 0);
    process_wait(&process, COMMAND_SECONDS);
    expect_exit(process.status, 1);
    expect_out("failed: the server ended while it was counted");
}
