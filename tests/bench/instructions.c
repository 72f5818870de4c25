/*
 * `weir-bench instructions` from outside: it counts what a stepped server executes, and says why it
 * cannot. WEIR_BENCH comes from Meson.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

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
    char *argv[] = {WEIR_BENCH, "instructions", "--engines", "epoll", "--conns",
                    "1",        "--requests",   "1000000",   NULL};

    cr_assert_eq(count("bare-epoll", "1"), 0); /* skips where nothing can be traced */
    process_free(&process);
    process_start(&process, argv);
    cr_assert_eq(kill(counted_server(process.pid), SIGKILL), 0);
    process_wait(&process, SECONDS);
    cr_assert_eq(process.status, 1, "%s%s", process.out, process.err);
    cr_assert_not_null(strstr(process.out, "failed: the server ended while it was counted"), "%s",
                       process.out);
}
