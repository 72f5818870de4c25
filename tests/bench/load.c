/*
 * `weir-bench load` from its command line to its exit code, output and JSON, against a server in
 * this test's threads.
 */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/cli.h"
#include "bench/workloads/workloads.h"
#include "command.h"
#include "tests/bench/wrong_server.h"

#define LOAD(...) RUN("load", __VA_ARGS__)

static struct wrong_server server;
static char address[32], self[16];

static void setup(void)
{
    command_setup();
    snprintf(self, sizeof(self), "%d", getpid());
}

TestSuite(load, .init = setup, .fini = command_teardown, .timeout = 120);

static void start_server(size_t wire_bytes)
{
    server.wire_bytes = wire_bytes;
    wrong_server_start(&server);
    snprintf(address, sizeof(address), "127.0.0.1:%u", wrong_server_port(&server));
}

/* The one cell of the document that --json wrote. */
static json_t *read_cell(void)
{
    json_t *cells = at(load_json(), "cells");

    cr_assert_eq(json_array_size(cells), 1);
    return json_array_get(cells, 0);
}

static json_t *read_run(void)
{
    return at(document, "run");
}

static double real_at(json_t *object, const char *key, const char *sub)
{
    json_t *value = at(object, key);
    if (sub)
        value = at(value, sub);
    cr_assert(json_is_number(value), "%s %s", key, sub ? sub : "");
    return json_number_value(value);
}

Test(load, writes_a_cell_of_the_closed_shape)
{
    start_server(100);
    expect_exit(LOAD("--connect", address, "--conns", "20", "--seconds", "0.5", "--slice", "0.05",
                     "--server-pid", self, "--engine", "threads", "--json", json_path),
                EXIT_DONE);
    json_t *cell = read_cell();
    cr_expect_str_eq(json_string_value(at(cell, "engine")), "threads");
    cr_expect_eq(real_at(cell, "conns", NULL), 20);
    cr_expect_geq(real_at(cell, "requests", NULL), 20);
    cr_expect_eq(real_at(cell, "errors", NULL), 0);
    cr_expect(json_is_true(at(cell, "verified")));
    cr_expect_gt(real_at(cell, "rps", "median"), 0);
    cr_expect_gt(real_at(cell, "server_cpu_us_per_request", "median"), 0);
    cr_expect_gt(real_at(cell, "memory", "rss_peak"), 0);
    cr_expect_leq(real_at(cell, "latency_us", "p50"), real_at(cell, "latency_us", "p99"));
    cr_expect_leq(real_at(cell, "latency_us", "p99"), real_at(cell, "latency_us", "max"));
    cr_expect(json_is_boolean(at(cell, "driver_bound")));
    cr_expect(json_is_null(at(cell, "elapsed_ms")));
    cr_expect(json_is_null(at(cell, "vs_reference")));
    cr_expect(json_is_null(at(cell, "skipped")));
    cr_expect_str_eq(json_string_value(at(read_run(), "shape")), "closed");
    cr_expect_str_eq(json_string_value(at(read_run(), "workload")), "echo");
    cr_expect_eq(real_at(read_run(), "size", NULL), 100);
    cr_expect(json_is_object(at(document, "host")));
    expect_out("threads");
    cr_expect_eq(server.accepted, 20);
}

Test(load, knows_no_cpu_of_a_process_that_did_nothing)
{
    char other[16];
    pid_t idle = fork();
    if (idle == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        raise(SIGSTOP); /* from here on it uses no CPU */
        _exit(0);
    }
    cr_assert_eq(waitpid(idle, NULL, WUNTRACED), idle);
    snprintf(other, sizeof(other), "%d", idle);
    start_server(100);
    expect_exit(LOAD("--connect", address, "--conns", "2", "--seconds", "0.3", "--slice", "0.03",
                     "--server-pid", other, "--json", json_path),
                EXIT_DONE);
    kill(idle, SIGKILL);
    cr_expect_eq(waitpid(idle, NULL, 0), idle);
    json_t *cpu = at(read_cell(), "server_cpu_us_per_request");
    cr_expect(json_is_null(at(cpu, "median")));
}

Test(load, writes_a_cell_of_bursts)
{
    start_server(104);
    expect_exit(LOAD("--connect", address, "--shape", "burst", "--workload", "frame", "--conns",
                     "10", "--requests-per-conn", "7", "--bursts", "3", "--json", json_path),
                EXIT_DONE);
    json_t *cell = read_cell();
    cr_expect_str_eq(json_string_value(at(cell, "engine")), address);
    cr_expect_eq(real_at(cell, "requests", NULL), 210);
    cr_expect(json_is_true(at(cell, "verified")));
    cr_expect_gt(real_at(cell, "elapsed_ms", NULL), 0);
    cr_expect(json_is_null(at(at(cell, "server_cpu_us_per_request"), "median")));
    cr_expect_eq(server.accepted, 31, "a probe, and three bursts: %u", server.accepted);
}

Test(load, writes_a_cell_of_a_pipeline)
{
    start_server(100);
    expect_exit(LOAD("--connect", address, "--shape", "pipeline", "--depth", "4", "--conns", "3",
                     "--seconds", "0.2", "--slice", "0.05", "--json", json_path),
                EXIT_DONE);
    json_t *cell = read_cell();
    cr_expect(json_is_true(at(cell, "verified")));
    cr_expect_geq(real_at(cell, "requests", NULL), 12);
    cr_expect_eq(real_at(read_run(), "depth", NULL), 4);
    expect_out("pipeline, 4 in flight on each connection");
}

Test(load, writes_a_cell_of_churn)
{
    start_server(100);
    expect_exit(LOAD("--connect", address, "--shape", "churn", "--conns", "3", "--seconds", "0.2",
                     "--slice", "0.05", "--json", json_path),
                EXIT_DONE);
    json_t *cell = read_cell();
    cr_expect(json_is_true(at(cell, "verified")));
    cr_expect_eq(real_at(cell, "requests", NULL), server.accepted - 1, "all but the probe");
    expect_out("connections/s");
}

Test(load, writes_a_cell_of_a_stream)
{
    server.workload = &weir__workload_sink;
    server.piece_bytes = 65536;
    start_server(100);
    expect_exit(LOAD("--connect", address, "--shape", "stream", "--conns", "2", "--seconds", "0.2",
                     "--slice", "0.05", "--json", json_path),
                EXIT_DONE);
    json_t *cell = read_cell();
    cr_expect(json_is_true(at(cell, "verified")));
    cr_expect_gt(real_at(cell, "mib_per_s", "median"), 0);
    cr_expect_eq(real_at(read_run(), "size", NULL), 65536);
    cr_expect_str_eq(json_string_value(at(read_run(), "workload")), "sink");
}

Test(load, writes_a_cell_of_idle_connections)
{
    start_server(100);
    expect_exit(LOAD("--connect", address, "--shape", "idle", "--conns", "20", "--seconds", "0.2",
                     "--slice", "0.05", "--server-pid", self, "--json", json_path),
                EXIT_DONE);
    json_t *cell = read_cell();
    cr_expect(json_is_true(at(cell, "verified")));
    cr_expect_geq(real_at(cell, "requests", NULL), 2);
    cr_expect_eq(real_at(read_run(), "active_percent", NULL), 10);
    /* Only that it was read: this server is a fork of the test runner, with whose other children it
     * shares its pages, and so its part of them moves. */
    cr_expect(json_is_number(at(at(cell, "memory"), "user_per_conn")));
    cr_expect_eq(server.accepted, 20);
}

Test(load, writes_a_cell_of_an_open_load)
{
    start_server(100);
    expect_exit(LOAD("--connect", address, "--shape", "open", "--rate", "20", "--conns", "3",
                     "--seconds", "0.5", "--json", json_path),
                EXIT_DONE);
    json_t *cell = read_cell();
    cr_expect(json_is_true(at(cell, "verified")));
    cr_expect_eq(real_at(cell, "requests", NULL), 10, "half a second, in one slice");
    cr_expect_eq(real_at(cell, "open", "planned"), 10);
    cr_expect_eq(real_at(cell, "open", "planned_per_s"), 20);
    cr_expect_eq(real_at(read_run(), "rate", NULL), 20);
    cr_expect_eq(real_at(read_run(), "slice_s", NULL), 0.5);
    expect_out("open, 20 requests/s planned");
}

Test(load, says_that_a_server_did_not_keep_up_with_the_plan)
{
    server.slow_ms = 5;
    start_server(100);
    expect_exit(LOAD("--connect", address, "--shape", "open", "--rate", "2000", "--conns", "1",
                     "--seconds", "0.1", "--slice", "0.1", "--json", json_path),
                EXIT_DONE);
    json_t *cell = read_cell();
    cr_expect_eq(real_at(cell, "open", "planned"), 200);
    cr_expect_eq(real_at(cell, "requests", NULL), 200, "what is overdue is made up for");
    cr_expect(json_is_false(at(at(cell, "open"), "kept")));
    cr_expect_geq(real_at(cell, "latency_us", "max"), 500000);
    expect_out("did not keep");
}

Test(load, writes_a_cell_of_a_ramp)
{
    start_server(100);
    expect_exit(LOAD("--connect", address, "--shape", "ramp", "--conns", "20", "--seconds", "0.01",
                     "--server-pid", self, "--json", json_path),
                EXIT_DONE);
    json_t *cell = read_cell();
    cr_expect(json_is_true(at(cell, "verified")));
    cr_expect_eq(real_at(cell, "requests", NULL), 20);
    cr_expect_eq(real_at(cell, "ramp", "reached"), 20);
    cr_expect_gt(real_at(at(cell, "ramp"), "ms_per_1000", "median"), 0);
    cr_expect(json_is_number(at(at(cell, "memory"), "user_per_conn")));
    cr_expect_eq(server.accepted, 21, "a probe, and a ramp: %u", server.accepted);
}

Test(load, puts_the_table_aside_when_json_goes_to_standard_output)
{
    json_error_t error;
    start_server(100);
    expect_exit(LOAD("--connect", address, "--conns", "2", "--seconds", "0.1", "--json", "-"),
                EXIT_DONE);
    document = json_loads(process.out, 0, &error);
    cr_expect_not_null(document, "%s", error.text);
    expect_err(address); /* the table */
}

Test(load, shows_the_first_wrong_byte_and_exits_with_1)
{
    server.fault = FAULT_FLIP;
    server.fault_byte = 42;
    start_server(100);
    expect_exit(LOAD("--connect", address, "--conns", "4", "--seconds", "0.2", "--json", json_path),
                EXIT_FAILED);
    expect_err("connection 0 request 0 byte 42: want 0x");
    json_t *cell = read_cell();
    cr_expect_eq(real_at(cell, "errors", NULL), 1);
    cr_expect(json_is_false(at(cell, "verified")));
}

Test(load, stops_when_no_connection_is_left)
{
    server.fault = FAULT_CLOSE;
    start_server(100);
    expect_exit(LOAD("--connect", address, "--conns", "1", "--seconds", "30"), EXIT_FAILED);
    expect_err("1 connections failed; the first: connection 0 request 0: closed by the "
               "server after 0 of 100 bytes");
}

Test(load, exits_with_3_where_nothing_listens)
{
    snprintf(address, sizeof(address), "127.0.0.1:%u", port_without_listener());
    expect_exit(LOAD("--connect", address), EXIT_NOTHING_RAN);
    expect_err("Connection refused: nothing listens there");
    expect_exit(LOAD("--connect", address, "--shape", "burst"), EXIT_NOTHING_RAN);
    expect_err("Connection refused: nothing listens there");
}

Test(load, tells_bad_usage_with_what_would_be_right)
{
    static const struct {
        const char *option, *value, *says;
    } bad[] = {
        {"--connect", "127.0.0.1", "'127.0.0.1' is not HOST:PORT"},
        {"--workload", "gopher", "unknown workload 'gopher'; valid: echo, frame"},
        {"--shape", "round",
         "unknown shape 'round'; valid: closed, burst, pipeline, churn, stream, idle, open, ramp"},
        {"--conns", "0", "--conns 0: want a whole number from 1 to 16000000"},
        {"--size", "17m", "--size 17m: want a whole number from 1 to 16777216"},
        {"--seconds", "soon", "--seconds soon: want seconds from 0.001 to 86400"},
        {"--driver-cpus", "1-", "--driver-cpus 1-: want a list of CPUs"},
        {"--velocity", "5", "unknown option '--velocity'; valid: --connect, --workload"},
        {"-c", "5", "unknown option '-c'; valid: --connect"},
        {"--driver-cpus", "1023", "--driver-cpus 1023: this process may use CPUs"},
        {"--server-pid", "7,x", "--server-pid x: want a whole number"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        expect_exit(LOAD(bad[i].option, bad[i].value), EXIT_USAGE);
        expect_err(bad[i].says);
    }
    expect_exit(LOAD("--conns", "5"), EXIT_USAGE);
    expect_err("--connect HOST:PORT is missing");
    expect_exit(LOAD("--connect", "127.0.0.1:1", "more"), EXIT_USAGE);
}

Test(load, is_the_only_way_to_start_a_driver)
{
    expect_exit(RUN("drive"), EXIT_USAGE);
    expect_exit(RUN("drive", "--control", "x"), EXIT_USAGE);
}

Test(load, says_that_server_and_driver_share_a_cpu_though_not_all)
{
    char cpu[16];
    cpu_set_t mine;
    cr_assert_eq(sched_getaffinity(0, sizeof(mine), &mine), 0);
    weir__cpus_format(&mine, cpu, sizeof(cpu));
    cpu[strcspn(cpu, "-,")] = '\0';
    char two[32];
    snprintf(two, sizeof(two), "%s,1023", cpu);
    start_server(100);
    expect_exit(LOAD("--connect", address, "--conns", "2", "--seconds", "0.05", "--driver-cpus",
                     cpu, "--server-cpus", two),
                EXIT_DONE);
    expect_out(": shared, so requests/s measure both together");
}

Test(load, prints_help)
{
    expect_exit(LOAD("--help"), EXIT_DONE);
    expect_out("--requests-per-conn=N");
    expect_out("Exit status:");
}

Test(load, tells_too_few_descriptors_before_anything_starts)
{
    start_server(100);
    process.nofile = 200;
    expect_exit(LOAD("--connect", address, "--conns", "1000"), EXIT_USAGE);
    expect_err("--conns 1000: RLIMIT_NOFILE (driver): need 1064, have 200: ");
    cr_expect_eq(server.accepted, 0);
}

Test(load, tells_a_file_that_cannot_be_written_before_anything_starts)
{
    start_server(100);
    expect_exit(LOAD("--connect", address, "--json", "/proc/no/such/place.json"), EXIT_USAGE);
    expect_err("cannot write /proc/no/such/place.json: ");
    cr_expect_eq(server.accepted, 0);
}

Test(load, works_with_standard_input_closed)
{
    char command[256];
    char *argv[] = {"/bin/sh", "-c", command, NULL};
    start_server(100);
    snprintf(command, sizeof(command),
             "exec %s load --connect %s --conns 2 --seconds 0.05 <&- 3>&- 4>&- 5>&- 6>&- 7>&-",
             WEIR_BENCH, address);
    expect_exit(process_run(&process, argv, COMMAND_SECONDS), EXIT_DONE);
}
