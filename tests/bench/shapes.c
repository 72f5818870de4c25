/*
 * Every shape on every engine of this build and on the bare loops, from outside: `weir-bench
 * compare` with runs as short as they can be. What is tested is that all of them serve it, with all
 * bytes verified, and that the reports tell it in the shape's own words; never how fast.
 */
#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "command.h"

#define QUICK "--rounds", "2", "--slice", "0.02"

TestSuite(shapes, .init = command_setup, .fini = command_teardown, .timeout = 120);

/* All cells served, every byte right, none skipped but those that say they cannot run here. */
static void expect_all_verified(void)
{
    json_t *cell;
    size_t i, measured = 0;

    load_json();
    json_array_foreach(at(document, "cells"), i, cell)
    {
        const char *engine = json_string_value(at(cell, "engine"));

        cr_assert(json_is_null(at(cell, "failed")), "%s: %s", engine,
                  json_string_value(at(cell, "failed")));
        if (json_is_string(at(cell, "skipped")))
            continue;
        measured++;
        cr_assert(json_is_true(at(cell, "verified")), "%s", engine);
        cr_assert_gt(json_integer_value(at(cell, "requests")), 0, "%s", engine);
        cr_assert_eq(json_integer_value(at(cell, "errors")), 0, "%s", engine);
    }
    cr_assert_gt(measured, 0);
}

#define ALL "--engines", "all,uring:per=connection,epoll:per=connection"

/* --- pipeline ------------------------------------------------------------------------------- */

Test(shapes, pipeline_is_served_by_all)
{
    expect_exit(RUN("compare", ALL, "--shape", "pipeline", "--depth", "8", "--conns", "3", QUICK,
                    "--json", json_path),
                0);
    expect_all_verified();
    expect_out("echo, pipeline, 8 in flight on each connection, 100-byte requests");
    cr_assert_str_eq(json_string_value(at(at(document, "run"), "shape")), "pipeline");
    cr_assert_eq(json_integer_value(at(at(document, "run"), "depth")), 8);
}

Test(shapes, pipeline_of_large_frames_is_served_by_all)
{
    expect_exit(RUN("compare", ALL, "--shape", "pipeline", "--workload", "frame", "--size", "200k",
                    "--conns", "2", QUICK, "--json", json_path),
                0);
    expect_all_verified();
    cr_assert_eq(json_integer_value(at(at(document, "run"), "depth")), 16);
}

Test(shapes, pipeline_of_large_echoes_is_served_by_all)
{
    expect_exit(RUN("compare", ALL, "--shape", "pipeline", "--size", "1m", "--conns", "2", QUICK,
                    "--json", json_path),
                0);
    expect_all_verified();
}

Test(shapes, pipeline_of_a_liar_is_exit_1_with_the_first_wrong_byte)
{
    expect_exit(RUN("compare", "--engines", "liar", "--server-command",
                    "liar=" FAKE_SERVER " wrong 40", "--shape", "pipeline", "--conns", "2", QUICK),
                1);
    expect_out("want 0x");
}

/* --- churn ---------------------------------------------------------------------------------- */

Test(shapes, churn_is_served_by_all)
{
    expect_exit(RUN("compare", ALL, "--shape", "churn", "--conns", "5", QUICK, "--json", json_path),
                0);
    expect_all_verified();
    expect_out("echo, churn: connect, one request, close, 100-byte requests");
    expect_out("connections/s");
    expect_out("CPU us/conn");
    cr_assert_str_eq(json_string_value(at(at(document, "run"), "shape")), "churn");
}

Test(shapes, churn_of_frames_is_served_by_all_that_serve_frames)
{
    expect_exit(RUN("compare", ALL, "--shape", "churn", "--workload", "frame", "--conns", "5",
                    QUICK, "--json", json_path),
                0);
    expect_all_verified();
}

Test(shapes, churn_loads_any_server)
{
    expect_exit(RUN("compare", "--engines", "a", GOOD("a"), "--shape", "churn", "--conns", "3",
                    QUICK, "--json", json_path),
                0);
    expect_all_verified();
}

Test(shapes, churn_of_a_server_that_dies_is_exit_1_and_says_how)
{
    expect_exit(RUN("compare", "--engines", "mortal", "--server-command",
                    "mortal=" FAKE_SERVER " die 30", "--shape", "churn", "--conns", "3", QUICK),
                1);
    expect_out("its last words: I cannot go on");
}

/* --- stream --------------------------------------------------------------------------------- */

/* The two figures of a stream are those of its messages, in MiB. */
static void expect_mebibytes(double message_mib)
{
    json_t *cell;
    size_t i;

    json_array_foreach(at(document, "cells"), i, cell)
    {
        if (json_is_string(at(cell, "skipped")))
            continue;
        double rps = json_number_value(at(at(cell, "rps"), "median"));
        double mib = json_number_value(at(at(cell, "mib_per_s"), "median"));
        double cpu = json_number_value(at(at(cell, "server_cpu_us_per_request"), "median"));
        double per = json_number_value(at(at(cell, "server_cpu_us_per_mib"), "median"));

        cr_assert_gt(rps, 0);
        cr_assert_float_eq(mib / (rps * message_mib), 1, 1e-3);
        cr_assert_float_eq(per * message_mib / cpu, 1, 1e-3);
    }
}

static void expect_stream(const char *direction, const char *size, double message_mib)
{
    expect_exit(RUN("compare", ALL, "--shape", "stream", "--direction", direction, "--size", size,
                    "--conns", "3", QUICK, "--json", json_path),
                0);
    expect_all_verified();
    expect_mebibytes(message_mib);
    expect_out("MiB/s");
    expect_out("CPU us/MiB");
}

Test(shapes, stream_towards_the_server_is_served_by_all)
{
    expect_stream("in", "64k", 1.0 / 16);
    cr_assert_str_eq(json_string_value(at(at(document, "run"), "workload")), "sink");
    expect_out("sink, stream towards the server, 65536-byte messages");
    cr_assert_null(strstr(process.out, "serves echo"), "the bare loops do, too: %s", process.out);
}

Test(shapes, stream_from_the_server_is_served_by_all)
{
    expect_stream("out", "64k", 1.0 / 16);
    cr_assert_str_eq(json_string_value(at(at(document, "run"), "workload")), "source");
    expect_out("source, stream from the server, 65536-byte messages");
    cr_assert_null(strstr(process.out, "serves echo"), "the bare loops do, too: %s", process.out);
}

Test(shapes, stream_in_messages_of_many_buffers)
{
    expect_stream("in", "3m", 3);
    expect_stream("out", "1m", 1);
}

Test(shapes, stream_has_messages_of_64_kib_by_default)
{
    expect_exit(RUN("compare", "--engines", "epoll", "--shape", "stream", "--conns", "2", QUICK,
                    "--json", json_path),
                0);
    expect_all_verified();
    cr_assert_eq(json_integer_value(at(at(document, "run"), "size")), 65536);
    cr_assert_str_eq(json_string_value(at(at(document, "run"), "workload")), "sink");
}

Test(shapes, stream_to_a_server_that_knows_no_sink_is_exit_1)
{
    expect_exit(RUN("compare", "--engines", "echo", GOOD("echo"), "--shape", "stream", "--conns",
                    "1", QUICK),
                1);
    expect_out("bytes more than were sent");
}

/* --- idle ----------------------------------------------------------------------------------- */

/* Null where it is unknown here, and never 0. */
static void expect_number_or_null(json_t *object, const char *key)
{
    json_t *value = at(object, key);

    cr_assert(json_is_null(value) || json_is_number(value), "'%s'", key);
}

Test(shapes, idle_is_served_by_all_and_tells_what_a_connection_costs)
{
    json_t *cell;
    size_t i;

    expect_exit(RUN("compare", ALL, "--shape", "idle", "--active", "20", "--settle", "1", "--conns",
                    "50", QUICK, "--json", json_path),
                0);
    expect_all_verified();
    expect_out("echo, closed loop on 20 % of the connections, the others idle");
    expect_out("bytes of one connection\nconns  engine ");
    expect_out("both ends of a connection together");
    cr_assert_eq(json_integer_value(at(at(document, "run"), "active_percent")), 20);
    cr_assert_eq(json_integer_value(at(at(document, "run"), "settle_s")), 1);
    json_array_foreach(at(document, "cells"), i, cell)
    {
        if (json_is_string(at(cell, "skipped")))
            continue;
        json_t *memory = at(cell, "memory");
        cr_assert(access("/proc/self/smaps_rollup", R_OK) != 0 ||
                  json_is_number(at(memory, "user_per_conn")));
        expect_number_or_null(memory, "kernel_per_conn");
        expect_number_or_null(memory, "kernel_per_conn_uncertainty");
        expect_number_or_null(memory, "sockets_per_conn");
        expect_number_or_null(memory, "io_uring_per_conn");
        expect_number_or_null(memory, "files_per_conn");
    }
}

Test(shapes, idle_has_a_tenth_active_by_default)
{
    expect_exit(RUN("compare", "--engines", "epoll", "--shape", "idle", "--conns", "10", QUICK,
                    "--json", json_path),
                0);
    expect_all_verified();
    cr_assert_eq(json_integer_value(at(at(document, "run"), "active_percent")), 10);
}

/* --- open ----------------------------------------------------------------------------------- */

Test(shapes, open_is_served_by_all_and_tells_its_plan)
{
    json_t *cell;
    size_t i;

    expect_exit(RUN("compare", ALL, "--shape", "open", "--rate", "1k", "--conns", "3", QUICK,
                    "--json", json_path),
                0);
    expect_all_verified();
    expect_out("echo, open, 1,000 requests/s planned, 100-byte requests");
    cr_assert_eq(json_integer_value(at(at(document, "run"), "rate")), 1000);
    json_array_foreach(at(document, "cells"), i, cell)
    {
        if (json_is_string(at(cell, "skipped")))
            continue;
        cr_assert_eq(json_integer_value(at(cell, "requests")), 40);
        cr_assert_eq(json_integer_value(at(at(cell, "open"), "planned")), 40);
        cr_assert(json_is_integer(at(at(cell, "open"), "late")));
        cr_assert(json_is_boolean(at(at(cell, "open"), "kept")));
        cr_assert(json_is_null(at(cell, "ramp")));
    }
}

Test(shapes, a_baseline_of_another_rate_is_refused)
{
    expect_exit(RUN("compare", "--engines", "a", GOOD("a"), "--shape", "open", "--rate", "500",
                    "--conns", "2", QUICK, "--json", json_path),
                0);
    expect_exit(RUN("compare", "--engines", "a", GOOD("a"), "--shape", "open", "--conns", "2",
                    QUICK, "--baseline", json_path),
                2);
    expect_err("its rate is 500, this run's is 10000");
}

/* --- ramp ----------------------------------------------------------------------------------- */

Test(shapes, ramp_is_served_by_all_and_tells_what_a_thousand_takes)
{
    json_t *cell;
    size_t i;

    expect_exit(RUN("compare", "--engines", "coroutines,reactors", "--shape", "ramp", "--conns",
                    "70", QUICK, "--json", json_path),
                0);
    expect_all_verified();
    expect_out("echo, ramp: connections added and held, 100-byte requests");
    expect_out("ms/1000");
    expect_out("bytes of one connection\nconns  engine ");
    json_array_foreach(at(document, "cells"), i, cell)
    {
        if (json_is_string(at(cell, "skipped")))
            continue;
        json_t *ramp = at(cell, "ramp");
        cr_assert_eq(json_integer_value(at(cell, "requests")), 140);
        cr_assert_eq(json_integer_value(at(ramp, "reached")), 70);
        cr_assert_gt(json_number_value(at(at(ramp, "ms_per_1000"), "median")), 0);
        cr_assert_gt(json_number_value(at(ramp, "first_ms")), 0);
        cr_assert_gt(json_number_value(at(ramp, "last_ms")), 0);
        expect_number_or_null(at(cell, "memory"), "kernel_per_conn");
        cr_assert(json_is_null(at(cell, "open")));
    }
}

Test(shapes, ramp_tells_how_far_a_server_came_that_holds_one_at_a_time)
{
    expect_exit(RUN("compare", "--engines", "epoll,iterative", "--shape", "ramp", "--conns", "3",
                    QUICK, "--json", json_path),
                0);
    expect_all_verified();
    json_t *cell = json_array_get(at(document, "cells"), 1);
    cr_assert_str_eq(json_string_value(at(cell, "engine")), "iterative");
    cr_assert_eq(json_integer_value(at(at(cell, "ramp"), "reached")), 1);
    cr_assert(json_is_null(at(cell, "vs_reference")), "it did less");
    cr_assert(json_is_null(at(at(cell, "memory"), "user_per_conn")));
    expect_out("iterative: 1 of 3 connections were reached, then no more were answered");
}

/* --- seen from the server ------------------------------------------------------------------- */

Test(shapes, pipeline_has_its_depth_on_the_wire)
{
    expect_exit(RUN("compare", "--engines", "a", "--server-command", "a=" FAKE_SERVER " deep 800",
                    "--shape", "pipeline", "--depth", "8", "--conns", "2", QUICK),
                0);
    expect_exit(RUN("compare", "--engines", "a", "--server-command", "a=" FAKE_SERVER " deep 801",
                    "--shape", "pipeline", "--depth", "8", "--conns", "2", QUICK),
                1);
    expect_out("exited with status 7");
}

Test(shapes, churn_asks_once_on_each_connection)
{
    expect_exit(RUN("compare", "--engines", "a", "--server-command", "a=" FAKE_SERVER " once",
                    "--shape", "churn", "--conns", "3", QUICK),
                0);
    expect_exit(RUN("compare", "--engines", "a", "--server-command", "a=" FAKE_SERVER " once",
                    "--conns", "3", QUICK),
                1);
    expect_out("asked a second time");
}

Test(shapes, idle_asks_on_the_active_connections_and_no_others)
{
    expect_exit(RUN("compare", "--engines", "a", "--server-command", "a=" FAKE_SERVER " few 2",
                    "--shape", "idle", "--active", "20", "--conns", "10", QUICK),
                0);
    expect_exit(RUN("compare", "--engines", "a", "--server-command", "a=" FAKE_SERVER " few 2",
                    "--shape", "idle", "--active", "30", "--conns", "10", QUICK),
                1);
    expect_out("exited with status 7");
}

/* --- the command line ----------------------------------------------------------------------- */

Test(shapes, options_of_another_shape_are_told)
{
    static const struct {
        const char *option, *value, *says;
    } mistakes[] = {
        {"--depth", "4", "--depth is for --shape pipeline, not closed"},
        {"--direction", "in", "--direction is for --shape stream, not closed"},
        {"--direction", "up", "unknown direction 'up'; valid: in, out"},
        {"--workload", "sink", "the workload sink is for --shape stream"},
        {"--active", "5", "--active is for --shape idle, not closed"},
        {"--settle", "5", "--settle is for --shape idle or ramp, not closed"},
        {"--rate", "5k", "--rate is for --shape open, not closed"},
        {"--rate", "9", "--rate 9: want a whole number from 10 to 100000000"},
        {"--rate", "101m", "--rate 101m: want a whole number from 10 to 100000000"},
        {"--rate", "fast", "--rate fast: want a whole number from 10 to 100000000"},
        {"--settle", "0", "--settle 0: want a whole number from 1 to 600"},
        {"--active", "101", "--active 101: want a whole number from 1 to 100"},
        {"--depth", "0", "--depth 0: want a whole number from 1 to 4096"},
        {"--shape", "pipe",
         "unknown shape 'pipe'; valid: closed, burst, pipeline, churn, stream, idle, open, ramp"},
    };

    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        expect_exit(RUN("compare", mistakes[i].option, mistakes[i].value), 2);
        expect_err(mistakes[i].says);
        expect_exit(RUN("load", "--connect", "127.0.0.1:1", mistakes[i].option, mistakes[i].value),
                    2);
        expect_err(mistakes[i].says);
    }
}

Test(shapes, a_stream_brings_its_own_workload)
{
    expect_exit(RUN("compare", "--shape", "stream", "--workload", "echo"), 2);
    expect_err("--shape stream brings its own workload: sink with this --direction");
    expect_exit(RUN("compare", "--shape", "stream", "--direction", "out", "--size", "2m"), 2);
    expect_err("--size 2097152: the longest message of source is 1048576 bytes");
}

Test(shapes, a_baseline_of_another_depth_is_refused)
{
    expect_exit(RUN("compare", "--engines", "a", GOOD("a"), "--shape", "pipeline", "--depth", "2",
                    "--conns", "2", QUICK, "--json", json_path),
                0);
    expect_exit(RUN("compare", "--engines", "a", GOOD("a"), "--shape", "pipeline", "--depth", "3",
                    "--conns", "2", QUICK, "--baseline", json_path),
                2);
    expect_err("its depth is 2, this run's is 3");
}
