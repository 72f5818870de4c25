/*
 * `weir-bench load` from its command line to its exit code, output and JSON, against a server in
 * this test's threads. This program is its own `weir-bench drive`, as the real one is.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/cli.h"
#include "bench/driver.h"
#include "bench/workloads/workloads.h"
#include "tests/bench/wrong_server.h"

#define ARGS_MAX 24
#define TEXT_MAX 16384

static struct wrong_server server;
static char address[32], self[16], dir[32], json_path[64];
static char out[TEXT_MAX], err[TEXT_MAX];
static json_t *document;
static bool bare; /* the child is to have standard output and error open, and nothing else */

/* The driver process execs this program with "drive" in front: then it is not a test. Criterion
 * owns main, so this happens before it, and reads the arguments where every C library has them. */
__attribute__((constructor)) static void become_driver(void)
{
    char line[256] = {0};
    char *argv[4] = {line};
    int argc = 0;
    FILE *file = fopen("/proc/self/cmdline", "re");
    size_t len = file ? fread(line, 1, sizeof(line) - 1, file) : 0;
    if (file)
        fclose(file);
    for (char *at = line; argc < 4 && at < line + len; at += strlen(at) + 1)
        argv[argc++] = at;
    if (argc == 4 && strcmp(argv[1], "drive") == 0)
        exit(weir_bench_drive(argc - 1, argv + 1));
}

static void setup(void)
{
    alarm(60);
    snprintf(dir, sizeof(dir), "/tmp/weir-load-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    snprintf(json_path, sizeof(json_path), "%s/load.json", dir);
    snprintf(self, sizeof(self), "%d", getpid());
}

static void teardown(void)
{
    char command[64];
    json_decref(document);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    cr_assert_eq(system(command), 0);
}

TestSuite(load, .init = setup, .fini = teardown);

static void start_server(size_t wire_bytes)
{
    server.wire_bytes = wire_bytes;
    wrong_server_start(&server);
    snprintf(address, sizeof(address), "127.0.0.1:%u", wrong_server_port(&server));
}

static void read_back(const char *name, char *text)
{
    char path[64];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file);
    text[fread(text, 1, TEXT_MAX - 1, file)] = '\0';
    fclose(file);
}

static void redirect(const char *name, int fd)
{
    char path[64];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || dup2(file, fd) < 0)
        _exit(99);
}

/* In a child, as the command would run: returns its exit code, and `out` and `err` hold what it
 * said. */
static int load(const char *const *args)
{
    const char *argv[ARGS_MAX] = {"load"};
    int argc = 1, status;
    for (; *args; args++) {
        cr_assert_lt(argc, ARGS_MAX - 1);
        argv[argc++] = *args;
    }
    pid_t child = fork();
    if (child == 0) {
        redirect("out", STDOUT_FILENO);
        redirect("err", STDERR_FILENO);
        for (int fd = 0; bare && fd < 1024; fd = fd == 0 ? 3 : fd + 1)
            close(fd);
        int code = weir_bench_load(argc, (char **)argv);
        fflush(NULL);
        _exit(code);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    read_back("out", out);
    read_back("err", err);
    cr_assert(WIFEXITED(status), "'%s'", err);
    return WEXITSTATUS(status);
}

#define LOAD(...) load((const char *const[]){__VA_ARGS__, NULL})

/* The one cell of the document that --json wrote. */
static json_t *read_cell(void)
{
    json_error_t error;
    json_decref(document);
    document = json_load_file(json_path, 0, &error);
    cr_assert_not_null(document, "%s", error.text);
    cr_assert_eq(json_array_size(json_object_get(document, "cells")), 1);
    return json_array_get(json_object_get(document, "cells"), 0);
}

static double real_at(json_t *object, const char *key, const char *sub)
{
    json_t *value = json_object_get(object, key);
    if (sub)
        value = json_object_get(value, sub);
    cr_assert(json_is_number(value), "%s %s", key, sub ? sub : "");
    return json_number_value(value);
}

Test(load, writes_a_cell_of_the_closed_shape)
{
    start_server(100);
    cr_assert_eq(LOAD("--connect", address, "--conns", "20", "--seconds", "0.5", "--slice", "0.05",
                      "--server-pid", self, "--engine", "threads", "--json", json_path),
                 EXIT_DONE, "%s", err);
    json_t *cell = read_cell();
    cr_expect_str_eq(json_string_value(json_object_get(cell, "engine")), "threads");
    cr_expect_eq(real_at(cell, "conns", NULL), 20);
    cr_expect_geq(real_at(cell, "requests", NULL), 20);
    cr_expect_eq(real_at(cell, "errors", NULL), 0);
    cr_expect(json_is_true(json_object_get(cell, "verified")));
    cr_expect_gt(real_at(cell, "rps", "median"), 0);
    cr_expect_gt(real_at(cell, "server_cpu_us_per_request", "median"), 0);
    cr_expect_gt(real_at(cell, "memory", "rss_peak"), 0);
    cr_expect_leq(real_at(cell, "latency_us", "p50"), real_at(cell, "latency_us", "p99"));
    cr_expect_leq(real_at(cell, "latency_us", "p99"), real_at(cell, "latency_us", "max"));
    cr_expect(json_is_boolean(json_object_get(cell, "driver_bound")));
    cr_expect(json_is_null(json_object_get(cell, "elapsed_ms")));
    cr_expect(json_is_null(json_object_get(cell, "vs_reference")));
    cr_expect(json_is_null(json_object_get(cell, "skipped")));
    json_t *run = json_object_get(document, "run");
    cr_expect_str_eq(json_string_value(json_object_get(run, "shape")), "closed");
    cr_expect_str_eq(json_string_value(json_object_get(run, "workload")), "echo");
    cr_expect_eq(real_at(run, "size", NULL), 100);
    cr_expect(json_is_object(json_object_get(document, "host")));
    cr_expect(strstr(out, "threads"), "'%s'", out);
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
    cr_assert_eq(LOAD("--connect", address, "--conns", "2", "--seconds", "0.3", "--slice", "0.03",
                      "--server-pid", other, "--json", json_path),
                 EXIT_DONE, "%s", err);
    kill(idle, SIGKILL);
    cr_expect_eq(waitpid(idle, NULL, 0), idle);
    json_t *cpu = json_object_get(read_cell(), "server_cpu_us_per_request");
    cr_expect(json_is_null(json_object_get(cpu, "median")));
}

Test(load, writes_a_cell_of_bursts)
{
    start_server(104);
    cr_assert_eq(LOAD("--connect", address, "--shape", "burst", "--workload", "frame", "--conns",
                      "10", "--requests-per-conn", "7", "--bursts", "3", "--json", json_path),
                 EXIT_DONE, "%s", err);
    json_t *cell = read_cell();
    cr_expect_str_eq(json_string_value(json_object_get(cell, "engine")), address);
    cr_expect_eq(real_at(cell, "requests", NULL), 210);
    cr_expect(json_is_true(json_object_get(cell, "verified")));
    cr_expect_gt(real_at(cell, "elapsed_ms", NULL), 0);
    cr_expect(json_is_null(
        json_object_get(json_object_get(cell, "server_cpu_us_per_request"), "median")));
    cr_expect_eq(server.accepted, 31, "a probe, and three bursts: %u", server.accepted);
}

static json_t *read_run(void)
{
    return json_object_get(document, "run");
}

Test(load, writes_a_cell_of_a_pipeline)
{
    start_server(100);
    cr_assert_eq(LOAD("--connect", address, "--shape", "pipeline", "--depth", "4", "--conns", "3",
                      "--seconds", "0.2", "--slice", "0.05", "--json", json_path),
                 EXIT_DONE, "%s", err);
    json_t *cell = read_cell();
    cr_expect(json_is_true(json_object_get(cell, "verified")));
    cr_expect_geq(real_at(cell, "requests", NULL), 12);
    cr_expect_eq(real_at(read_run(), "depth", NULL), 4);
    cr_expect(strstr(out, "pipeline, 4 in flight on each connection"), "'%s'", out);
}

Test(load, writes_a_cell_of_churn)
{
    start_server(100);
    cr_assert_eq(LOAD("--connect", address, "--shape", "churn", "--conns", "3", "--seconds", "0.2",
                      "--slice", "0.05", "--json", json_path),
                 EXIT_DONE, "%s", err);
    json_t *cell = read_cell();
    cr_expect(json_is_true(json_object_get(cell, "verified")));
    cr_expect_eq(real_at(cell, "requests", NULL), server.accepted - 1, "all but the probe");
    cr_expect(strstr(out, "connections/s"), "'%s'", out);
}

Test(load, writes_a_cell_of_a_stream)
{
    server.workload = &weir__workload_sink;
    server.piece_bytes = 65536;
    start_server(100);
    cr_assert_eq(LOAD("--connect", address, "--shape", "stream", "--conns", "2", "--seconds", "0.2",
                      "--slice", "0.05", "--json", json_path),
                 EXIT_DONE, "%s", err);
    json_t *cell = read_cell();
    cr_expect(json_is_true(json_object_get(cell, "verified")));
    cr_expect_gt(real_at(cell, "mib_per_s", "median"), 0);
    cr_expect_eq(real_at(read_run(), "size", NULL), 65536);
    cr_expect_str_eq(json_string_value(json_object_get(read_run(), "workload")), "sink");
}

Test(load, writes_a_cell_of_idle_connections)
{
    start_server(100);
    cr_assert_eq(LOAD("--connect", address, "--shape", "idle", "--conns", "20", "--seconds", "0.2",
                      "--slice", "0.05", "--server-pid", self, "--json", json_path),
                 EXIT_DONE, "%s", err);
    json_t *cell = read_cell();
    cr_expect(json_is_true(json_object_get(cell, "verified")));
    cr_expect_geq(real_at(cell, "requests", NULL), 2);
    cr_expect_eq(real_at(read_run(), "active_percent", NULL), 10);
    /* Only that it was read: this server is a fork of the test runner, with whose other children it
     * shares its pages, and so its part of them moves. */
    cr_expect(json_is_number(json_object_get(json_object_get(cell, "memory"), "user_per_conn")));
    cr_expect_eq(server.accepted, 20);
}

Test(load, puts_the_table_aside_when_json_goes_to_standard_output)
{
    json_error_t error;
    start_server(100);
    cr_assert_eq(LOAD("--connect", address, "--conns", "2", "--seconds", "0.1", "--json", "-"),
                 EXIT_DONE, "%s", err);
    document = json_loads(out, 0, &error);
    cr_expect_not_null(document, "%s", error.text);
    cr_expect(strstr(err, address), "the table: '%s'", err);
}

Test(load, shows_the_first_wrong_byte_and_exits_with_1)
{
    server.fault = FAULT_FLIP;
    server.fault_byte = 42;
    start_server(100);
    cr_expect_eq(
        LOAD("--connect", address, "--conns", "4", "--seconds", "0.2", "--json", json_path),
        EXIT_FAILED);
    cr_expect(strstr(err, "connection 0 request 0 byte 42: want 0x"), "'%s'", err);
    json_t *cell = read_cell();
    cr_expect_eq(real_at(cell, "errors", NULL), 1);
    cr_expect(json_is_false(json_object_get(cell, "verified")));
}

Test(load, stops_when_no_connection_is_left)
{
    server.fault = FAULT_CLOSE;
    start_server(100);
    cr_expect_eq(LOAD("--connect", address, "--conns", "1", "--seconds", "30"), EXIT_FAILED);
    cr_expect(strstr(err, "1 connections failed; the first: connection 0 request 0: closed by the "
                          "server after 0 of 100 bytes"),
              "'%s'", err);
}

Test(load, exits_with_3_where_nothing_listens)
{
    struct sockaddr_in addr = {.sin_family = AF_INET};
    socklen_t len = sizeof(addr);
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&addr, len), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    snprintf(address, sizeof(address), "127.0.0.1:%u", ntohs(addr.sin_port));
    cr_expect_eq(LOAD("--connect", address), EXIT_NOTHING_RAN);
    cr_expect(strstr(err, "Connection refused: nothing listens there"), "'%s'", err);
    cr_expect_eq(LOAD("--connect", address, "--shape", "burst"), EXIT_NOTHING_RAN);
    cr_expect(strstr(err, "Connection refused: nothing listens there"), "'%s'", err);
}

Test(load, tells_bad_usage_with_what_would_be_right)
{
    static const struct {
        const char *option, *value, *says;
    } bad[] = {
        {"--connect", "127.0.0.1", "'127.0.0.1' is not HOST:PORT"},
        {"--workload", "gopher", "unknown workload 'gopher'; valid: echo, frame"},
        {"--shape", "round",
         "unknown shape 'round'; valid: closed, burst, pipeline, churn, stream, idle"},
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
        cr_expect_eq(LOAD(bad[i].option, bad[i].value), EXIT_USAGE, "%s", bad[i].option);
        cr_expect(strstr(err, bad[i].says), "'%s'", err);
    }
    cr_expect_eq(LOAD("--conns", "5"), EXIT_USAGE);
    cr_expect(strstr(err, "--connect HOST:PORT is missing"), "'%s'", err);
    cr_expect_eq(LOAD("--connect", "127.0.0.1:1", "more"), EXIT_USAGE);
}

Test(load, is_the_only_way_to_start_a_driver)
{
    char *argv[] = {"drive", NULL}, *worse[] = {"drive", "--control", "x", NULL};
    cr_assert_not_null(freopen("/dev/null", "w", stderr));
    cr_expect_eq(weir_bench_drive(1, argv), EXIT_USAGE);
    cr_expect_eq(weir_bench_drive(3, worse), EXIT_USAGE);
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
    cr_expect_eq(LOAD("--connect", address, "--conns", "2", "--seconds", "0.05", "--driver-cpus",
                      cpu, "--server-cpus", two),
                 EXIT_DONE, "%s", err);
    cr_expect(strstr(out, ": shared, so requests/s measure both together"), "'%s'", out);
}

Test(load, prints_help)
{
    cr_expect_eq(LOAD("--help"), EXIT_DONE);
    cr_expect(strstr(out, "--requests-per-conn=N") && strstr(out, "Exit status:"), "'%s'", out);
}

Test(load, tells_too_few_descriptors_before_anything_starts)
{
    struct rlimit limit = {200, 200};
    start_server(100);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    cr_expect_eq(LOAD("--connect", address, "--conns", "1000"), EXIT_USAGE);
    cr_expect(strstr(err, "--conns 1000: RLIMIT_NOFILE (driver): need 1064, have 200: "), "'%s'",
              err);
    cr_expect_eq(server.accepted, 0);
}

Test(load, tells_a_file_that_cannot_be_written_before_anything_starts)
{
    start_server(100);
    cr_expect_eq(LOAD("--connect", address, "--json", "/proc/no/such/place.json"), EXIT_USAGE);
    cr_expect(strstr(err, "cannot write /proc/no/such/place.json: "), "'%s'", err);
    cr_expect_eq(server.accepted, 0);
}

/* Then the socket pair is 0 and 3, and 3 is already where the driver wants its end. */
Test(load, works_with_standard_input_closed)
{
    start_server(100);
    bare = true;
    cr_expect_eq(LOAD("--connect", address, "--conns", "2", "--seconds", "0.05"), EXIT_DONE, "%s",
                 err);
}
