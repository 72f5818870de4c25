/*
 * `weir-bench compare` from outside: servers that are none of ours, so that nothing here depends on
 * an engine, and every promise of the command line: exit codes, JSON, files, failures,
 * interruption. No test depends on a figure; WEIR_BENCH and FAKE_SERVER come from Meson.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "command.h"

#define QUICK "--rounds", "8", "--slice", "0.02", "--conns", "4"

/* Chunks that a server is sure to see in those rounds: one of each connection in each slice. */
#define SOME "20"

#define COMPARE(...) RUN("compare", __VA_ARGS__)

TestSuite(compare, .init = command_setup, .fini = command_teardown, .timeout = 120);

static void expect_number(json_t *object, const char *key)
{
    cr_assert(json_is_number(at(object, key)), "'%s' is no number", key);
}

static void expect_interval(json_t *object)
{
    cr_assert(json_is_object(object));
    double lo = json_number_value(at(object, "lo"));
    double median = json_number_value(at(object, "median"));
    double hi = json_number_value(at(object, "hi"));

    expect_number(object, "lo");
    expect_number(object, "median");
    expect_number(object, "hi");
    cr_assert(lo <= median && median <= hi, "%g %g %g", lo, median, hi);
    cr_assert_gt(median, 0);
}

static json_t *cell_of(const char *engine)
{
    json_t *cell;
    size_t i;

    json_array_foreach(at(document, "cells"), i, cell)
    {
        if (strcmp(json_string_value(at(cell, "engine")), engine) == 0)
            return cell;
    }
    cr_assert_fail("no cell of %s", engine);
    return NULL;
}

static void check_host(json_t *host)
{
    static const char *const strings[] = {"kernel", "cpu"};
    static const char *const numbers[] = {"cores", "nofile"};

    for (size_t i = 0; i < 2; i++) {
        cr_assert(json_is_string(at(host, strings[i])) || json_is_null(at(host, strings[i])));
        expect_number(host, numbers[i]);
    }
    cr_assert(json_is_object(at(host, "mitigations")));
    cr_assert(json_is_string(at(host, "liburing")) || json_is_null(at(host, "liburing")));
}

static void check_run(json_t *run)
{
    cr_assert_str_eq(json_string_value(at(run, "workload")), "echo");
    cr_assert_str_eq(json_string_value(at(run, "shape")), "closed");
    cr_assert_eq(json_integer_value(at(run, "size")), 100);
    cr_assert_eq(json_integer_value(at(run, "rounds")), 8);
    cr_assert_float_eq(json_number_value(at(run, "slice_s")), 0.02, 1e-9);
    cr_assert_str_eq(json_string_value(at(run, "reference")), "a");
    cr_assert_eq(json_integer_value(at(run, "seed")), 7);
    json_t *noise = at(run, "noise");
    expect_number(noise, "cpu_ratio_lo");
    expect_number(noise, "cpu_ratio_hi");
    cr_assert_leq(json_number_value(at(noise, "cpu_ratio_lo")),
                  json_number_value(at(noise, "cpu_ratio_hi")));
}

static void check_cell(json_t *cell, bool is_reference)
{
    static const char *const verdicts[] = {"faster", "slower", "within-noise"};
    static const char *const latencies[] = {"p50", "p90", "p99", "p999", "max"};

    cr_assert_eq(json_integer_value(at(cell, "conns")), 4);
    cr_assert_eq(json_array_size(at(cell, "features")), 2);
    cr_assert_gt(json_integer_value(at(cell, "requests")), 0);
    cr_assert_gt(json_number_value(at(cell, "seconds")), 8 * 0.02 * 0.9);
    cr_assert_eq(json_integer_value(at(cell, "errors")), 0);
    cr_assert(json_is_integer(at(cell, "errors")));
    cr_assert(json_is_true(at(cell, "verified")));
    expect_interval(at(cell, "rps"));
    expect_interval(at(cell, "server_cpu_us_per_request"));
    for (size_t i = 0; i < 5; i++)
        expect_number(at(cell, "latency_us"), latencies[i]);
    cr_assert(json_is_null(at(cell, "elapsed_ms")));
    expect_number(at(cell, "memory"), "rss_peak");
    expect_number(at(cell, "memory"), "rss_idle");
    cr_assert(json_is_null(at(at(cell, "memory"), "kernel_per_conn")));
    cr_assert(json_is_boolean(at(cell, "driver_bound")));
    cr_assert(json_is_null(at(cell, "skipped")));
    json_t *versus = at(cell, "vs_reference");
    if (is_reference) {
        cr_assert(json_is_null(versus));
        return;
    }
    expect_interval(at(versus, "cpu"));
    expect_interval(at(versus, "rps"));
    const char *verdict = json_string_value(at(versus, "verdict"));
    cr_assert_not_null(verdict);
    cr_assert(strcmp(verdict, verdicts[0]) == 0 || strcmp(verdict, verdicts[1]) == 0 ||
              strcmp(verdict, verdicts[2]) == 0);
}

Test(compare, the_json_has_every_field_that_is_promised)
{
    expect_exit(COMPARE("--engines", "a,b", GOOD("a"), GOOD("b"), QUICK, "--seed", "7", "--json",
                        json_path),
                0);
    load_json();

    cr_assert(json_is_string(at(document, "weir")));
    check_host(at(document, "host"));
    check_run(at(document, "run"));
    cr_assert_eq(json_array_size(at(document, "cells")), 2);
    check_cell(cell_of("a"), true);
    check_cell(cell_of("b"), false);
}

Test(compare, a_burst_has_elapsed_milliseconds)
{
    expect_exit(COMPARE("--engines", "a,b", GOOD("a"), GOOD("b"), "--shape", "burst",
                        "--requests-per-conn", "5", "--rounds", "8", "--conns", "3,6", "--json",
                        json_path),
                0);
    load_json();
    json_t *cell;
    size_t i;

    cr_assert_eq(json_array_size(at(document, "cells")), 4);
    cr_assert(json_is_null(at(at(document, "run"), "slice_s")));
    json_array_foreach(at(document, "cells"), i, cell)
    {
        cr_assert_gt(json_number_value(at(cell, "elapsed_ms")), 0);
        cr_assert_eq(json_integer_value(at(cell, "requests")),
                     8 * 5 * json_integer_value(at(cell, "conns")));
    }
    expect_out("elapsed ms, by clients at once");
}

Test(compare, a_budget_alone_runs_enough_rounds_for_an_interval)
{
    expect_exit(COMPARE("--engines", "a,b", GOOD("a"), GOOD("b"), "--budget", "1", "--conns", "2",
                        "--json", json_path),
                0);
    load_json();

    expect_enough_rounds(at(document, "run"), 1);
}

Test(compare, all_other_files_are_written_too)
{
    char csv[128];
    char html[128];
    char markdown[128];
    struct stat stat_now;

    snprintf(csv, sizeof csv, "%s/r.csv", directory);
    snprintf(html, sizeof html, "%s/r.html", directory);
    snprintf(markdown, sizeof markdown, "%s/r.md", directory);
    expect_exit(COMPARE("--engines", "a", GOOD("a"), QUICK, "--csv", csv, "--html", html,
                        "--markdown", markdown),
                0);
    cr_assert(stat(csv, &stat_now) == 0 && stat_now.st_size > 0);
    cr_assert(stat(html, &stat_now) == 0 && stat_now.st_size > 0);
    cr_assert(stat(markdown, &stat_now) == 0 && stat_now.st_size > 0);
}

Test(compare, json_on_standard_output_is_nothing_but_json)
{
    expect_exit(COMPARE("--engines", "a", GOOD("a"), QUICK, "--json", "-"), 0);
    document = json_loads(process.out, 0, NULL);
    cr_assert_not_null(document, "%s", process.out);
    expect_err("requests/s");
}

Test(compare, piped_output_has_plain_lines_and_no_escapes)
{
    expect_exit(COMPARE("--engines", "a", GOOD("a"), QUICK), 0);
    cr_assert_null(strchr(process.out, '\033'));
    cr_assert_null(strchr(process.err, '\033'));
    cr_assert_null(strchr(process.err, '\r'));
    expect_err("4 connections: 8 rounds done\n");
}

/* Runs compare on a terminal of so many columns and returns all it showed. */
static char *on_a_terminal(unsigned short columns, const char *no_color)
{
    static char text[1 << 20];
    struct winsize size = {.ws_row = 24, .ws_col = columns};
    size_t used = 0;
    int terminal;
    int status;
    pid_t pid = forkpty(&terminal, NULL, NULL, &size);

    if (pid < 0)
        cr_skip_test("no pseudo-terminal is to be had here: %s", strerror(errno));
    if (pid == 0) {
        setenv("TERM", "xterm", 1);
        if (no_color != NULL)
            setenv("NO_COLOR", no_color, 1);
        else
            unsetenv("NO_COLOR");
        execl(WEIR_BENCH, WEIR_BENCH, "compare", "--engines", "alpha,beta", GOOD("alpha"),
              GOOD("beta"), QUICK, (char *)NULL);
        _exit(127);
    }
    for (ssize_t got; (got = read(terminal, text + used, sizeof text - 1 - used)) > 0;)
        used += (size_t)got; /* a terminal whose other end has closed is an error, and the end */
    text[used] = '\0';
    close(terminal);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s", text);
    return text;
}

Test(compare, a_terminal_sees_progress_and_colours_and_a_table_that_fits)
{
    char *text = on_a_terminal(80, NULL);

    cr_assert_not_null(strstr(text, "\r\033[K[1/1] 4 connections"), "%s", text);
    cr_assert_not_null(strstr(text, "left"));
    cr_assert_not_null(strstr(text, "\033[1mconns\033[0m"), "%s", text);
    cr_assert_null(strstr(text, "p99.9 us"), "80 columns have no room for it");
    cr_assert_not_null(strstr(text, "verdict"));
    const char *rule = strstr(text, "\n-----");
    cr_assert_not_null(rule);
    cr_assert_leq(strspn(rule + 1, "-"), 80);
}

Test(compare, a_narrow_terminal_never_wraps_the_line_of_progress)
{
    static const char begins[] = "\r\033[K[1/1]";
    char *text = on_a_terminal(30, NULL);
    unsigned lines = 0;

    for (const char *at = text; (at = strstr(at, begins)) != NULL; lines++) {
        at += strlen("\r\033[K");
        cr_assert_lt(strcspn(at, "\r\n"), 30, "%s", text);
    }
    cr_assert_gt(lines, 0);
}

Test(compare, no_color_keeps_the_progress_and_drops_the_colours)
{
    char *text = on_a_terminal(80, "1");

    cr_assert_not_null(strstr(text, "\r\033[K[1/1] 4 connections"), "%s", text);
    cr_assert_null(strstr(text, "\033[1m"), "%s", text);
    cr_assert_null(strstr(text, "\033[2m"));
}

Test(compare, a_model_that_cannot_run_is_a_row_that_says_why)
{
    expect_exit(COMPARE("--engines", "a,small", GOOD("a"), "--server-command",
                        "small=" FAKE_SERVER " refuse", QUICK, "--json", json_path),
                0);
    load_json();
    json_t *cell = cell_of("small");

    expect_out("skipped: this machine is too small");
    cr_assert_str_eq(json_string_value(at(cell, "skipped")), "this machine is too small");
    cr_assert(json_is_null(at(cell, "requests")), "unknown is null, never 0");
    cr_assert(json_is_null(at(cell, "rps")));
}

Test(compare, a_server_command_that_engines_does_not_name_is_a_row_as_well)
{
    expect_exit(
        COMPARE("--engines", "a", GOOD("a"), GOOD("b"), GOOD("c"), QUICK, "--json", json_path), 0);
    load_json();

    cr_assert_not_null(cell_of("b"));
    cr_assert_not_null(cell_of("c"));
}

Test(compare, nothing_that_could_run_is_exit_3)
{
    expect_exit(
        COMPARE("--engines", "small", "--server-command", "small=" FAKE_SERVER " refuse", QUICK),
        3);
}

Test(compare, another_reference_is_taken_and_said_only_where_none_was_named)
{
    const char *refuse = "small=" FAKE_SERVER " refuse";

    expect_exit(COMPARE("--engines", "small,a", "--server-command", refuse, GOOD("a"), QUICK,
                        "--reference", "small", "--json", json_path),
                0);
    expect_out("the reference did not run");
    load_json();
    cr_assert(json_is_null(at(cell_of("a"), "vs_reference")));
}

Test(compare, a_server_that_dies_has_a_row_that_says_how_and_the_others_finish)
{
    expect_exit(COMPARE("--engines", "a,mortal", GOOD("a"), "--server-command",
                        "mortal=" FAKE_SERVER " die " SOME, QUICK, "--json", json_path),
                1);
    load_json();
    json_t *mortal = cell_of("mortal");

    expect_out("killed by signal 6");
    expect_out("its last words: I cannot go on");
    cr_assert_not_null(strstr(json_string_value(at(mortal, "failed")), "killed by signal 6"));
    cr_assert_not(json_is_true(at(mortal, "verified")));
    check_cell(cell_of("a"), true);
    cr_assert_eq(json_integer_value(at(at(document, "run"), "rounds")), 8);
}

Test(compare, an_exit_status_is_told_apart_from_a_signal)
{
    expect_exit(COMPARE("--engines", "a,mortal", GOOD("a"), "--server-command",
                        "mortal=" FAKE_SERVER " exit " SOME, QUICK),
                1);
    expect_out("exited with status 7; its last words: I will not go on");
}

Test(compare, wrong_bytes_are_exit_1_and_the_first_difference_is_shown)
{
    expect_exit(COMPARE("--engines", "a,liar", GOOD("a"), "--server-command",
                        "liar=" FAKE_SERVER " wrong " SOME, QUICK, "--json", json_path),
                1);
    load_json();
    json_t *liar = cell_of("liar");

    expect_out("wrong bytes came back: ");
    expect_out("want 0x");
    cr_assert_not(json_is_true(at(liar, "verified")));
    check_cell(cell_of("a"), true);
}

Test(compare, bytes_that_nobody_asked_for_are_wrong_bytes)
{
    expect_exit(COMPARE("--engines", "a,rude", GOOD("a"), "--server-command",
                        "rude=" FAKE_SERVER " unasked", QUICK),
                1);
    expect_out("FAILED: wrong bytes came back: ");
}

Test(compare, a_reference_that_dies_leaves_the_others_without_a_failure_of_theirs)
{
    expect_exit(COMPARE("--engines", "mortal,a", "--server-command",
                        "mortal=" FAKE_SERVER " die " SOME, GOOD("a"), QUICK, "--json", json_path),
                1);
    load_json();

    cr_assert(json_is_null(at(cell_of("a"), "failed")));
    cr_assert(json_is_true(at(cell_of("a"), "verified")));
}

Test(compare, a_server_that_never_gets_ready_fails_in_time)
{
    expect_exit(COMPARE("--engines", "a,mute", GOOD("a"), "--server-command",
                        "mute=" FAKE_SERVER " silent", QUICK, "--ready-timeout", "0.5"),
                1);
    expect_out("no ready line in time");
}

/* Multiplies what the run found, so that the next one is slower than ever. */
static void doctor_baseline(double rps, double cpu)
{
    static const char *const keys[] = {"median", "lo", "hi"};
    load_json();
    json_t *cell;
    size_t i;

    json_array_foreach(at(document, "cells"), i, cell)
    {
        for (size_t k = 0; k < 3; k++) {
            json_t *one = json_object_get(at(cell, "rps"), keys[k]);
            json_t *other = json_object_get(at(cell, "server_cpu_us_per_request"), keys[k]);
            json_object_set_new(at(cell, "rps"), keys[k], json_real(json_number_value(one) * rps));
            json_object_set_new(at(cell, "server_cpu_us_per_request"), keys[k],
                                json_real(json_number_value(other) * cpu));
        }
    }
    cr_assert_eq(json_dump_file(document, json_path, 0), 0);
}

Test(compare, slower_than_the_baseline_is_exit_4)
{
    expect_exit(COMPARE("--engines", "a,b", GOOD("a"), GOOD("b"), QUICK, "--json", json_path), 0);
    doctor_baseline(1000, 0.001);
    expect_exit(COMPARE("--engines", "a,b", GOOD("a"), GOOD("b"), QUICK, "--baseline", json_path,
                        "--fail-if-slower", "50"),
                4);
    expect_out("REGRESSED");
    expect_exit(COMPARE("--engines", "a,b", GOOD("a"), GOOD("b"), QUICK, "--baseline", json_path),
                0);
    expect_out("Against the baseline");
}

Test(compare, faster_than_the_baseline_is_exit_0)
{
    expect_exit(COMPARE("--engines", "a,b", GOOD("a"), GOOD("b"), QUICK, "--json", json_path), 0);
    doctor_baseline(0.001, 1000);
    expect_exit(COMPARE("--engines", "a,b", GOOD("a"), GOOD("b"), QUICK, "--baseline", json_path,
                        "--fail-if-slower", "5"),
                0);
}

Test(compare, a_file_that_cannot_be_written_is_told_before_the_run)
{
    char proof[160];
    char command[256];

    snprintf(proof, sizeof proof, "%s/started", directory);
    snprintf(command, sizeof command, "a=touch %s", proof);
    expect_exit(COMPARE("--engines", "a", "--server-command", command, QUICK, "--json",
                        "/nonexistent/r.json"),
                2);
    expect_err("/nonexistent/r.json");
    expect_err("No such file or directory");
    cr_assert_lt(access(proof, F_OK), 0, "no server was started");
}

Test(compare, two_results_in_one_file_are_refused)
{
    expect_exit(COMPARE("--engines", "a", GOOD("a"), QUICK, "--json", "-", "--csv", "-"), 2);
    expect_err("two results cannot both go to -");
    cr_assert_str_eq(process.out, "");
}

Test(compare, a_closed_standard_output_does_not_put_the_table_into_a_file)
{
    char command[1024];
    char *argv[] = {"/bin/sh", "-c", command, NULL};

    snprintf(command, sizeof command,
             "exec %s compare --engines a --server-command 'a=%s good' --rounds 1 --slice 0.01 "
             "--conns 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16 --json %s >&-",
             WEIR_BENCH, FAKE_SERVER, json_path);
    expect_exit(process_run(&process, argv, COMMAND_SECONDS), 0);
    load_json();
}

Test(compare, too_few_descriptors_are_told_before_the_run_with_need_and_cure)
{
    process.nofile = 200;
    expect_exit(COMPARE("--engines", "a", GOOD("a"), "--rounds", "8", "--conns", "1000"), 2);
    expect_err("200");
    expect_err("ulimit -Hn");
}

Test(compare, bad_usage_is_exit_2_and_lists_what_is_valid)
{
    static const struct {
        const char *option, *value, *says;
    } mistakes[] = {
        {"--engines", "kqueue", "unknown engine 'kqueue'; valid: "},
        {"--engines", "epoll,epoll", "listed twice"},
        {"--reference", "kqueue", "is not among the engines; valid: uring, epoll, poll"},
        {"--workload", "ftp", "unknown workload 'ftp'; valid: echo, frame"},
        {"--shape", "round",
         "unknown shape 'round'; valid: closed, burst, pipeline, churn, stream, idle, open, ramp"},
        {"--conns", "0", "'0' is not a number of connections"},
        {"--size", "0", "from 1 to 16777216"},
        {"--slice", "0", "seconds from"},
        {"--server-cpus", "x", "list of CPUs"},
        {"--driver-cpus", "1023", "may use CPUs"},
        {"--server-command", "x", "NAME=COMMAND"},
        {"--fail-if-slower", "5", "needs --baseline"},
        {"--frobnicate", "5", "unknown option '--frobnicate'; valid: --engines"},
    };

    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        expect_exit(COMPARE(mistakes[i].option, mistakes[i].value), 2);
        expect_err(mistakes[i].says);
        cr_assert_str_eq(process.out, "");
    }
    expect_exit(COMPARE("--rounds", "8", "--budget", "5"), 2);
}

Test(compare, interrupted_it_prints_what_there_is_and_stops_its_servers)
{
    char pid_file[128];
    char command[320];

    snprintf(pid_file, sizeof pid_file, "%s/pid", directory);
    snprintf(command, sizeof command, "a=sh -c 'echo $$ > %s; exec %s good'", pid_file,
             FAKE_SERVER);
    LAUNCH("compare", "--engines", "a", "--server-command", command, "--conns", "4", "--rounds",
           "100000", "--slice", "0.02", "--json", json_path);
    process_expect(&process, true, "servers connected", COMMAND_SECONDS);
    usleep(300000); /* somewhere in the rounds; wherever it is, the promise is the same */
    kill(process.pid, SIGINT);
    process_wait(&process, COMMAND_SECONDS);
    expect_exit(process.status, 130);
    expect_out("INTERRUPTED");
    load_json();
    cr_assert(json_is_true(at(at(document, "run"), "interrupted")));
    FILE *file = fopen(pid_file, "r");
    int pid = 0;
    cr_assert_not_null(file);
    cr_assert_eq(fscanf(file, "%d", &pid), 1);
    fclose(file);
    cr_assert_lt(kill(pid, 0), 0, "its server is still there");
}

Test(compare, interrupted_in_a_long_slice_it_does_not_wait_for_its_end)
{
    LAUNCH("compare", "--engines", "a", GOOD("a"), "--conns", "4", "--slice", "3600", "--rounds",
           "8");
    process_expect(&process, true, "servers connected", COMMAND_SECONDS);
    kill(process.pid, SIGINT);
    process_wait(&process, COMMAND_SECONDS);
    expect_exit(process.status, 130);
    expect_out("INTERRUPTED");
}
