/*
 * The ramp shape of the load driver: how far it comes, what it tells, and what it holds.
 */
#include <criterion/criterion.h>
#include <arpa/inet.h>

#include "bench/driver_load.h"
#include "tests/bench/driving.h"

static void start_ramp(enum driver_workload workload, uint32_t conns)
{
    target.shape = (struct shape){.kind = SHAPE_RAMP};
    start(workload, conns, 100);
    cr_expect_eq(server.accepted, 0, "nothing is open before the first slice");
}

Test(driver_ramp, opens_all_and_begins_anew_in_each_slice, .init = bound)
{
    start_ramp(DRIVER_FRAME, 200);
    for (uint32_t i = 1; i <= 3; i++) {
        run_slice();
        expect_clean(200);
        cr_expect_eq(slice.requests, 200);
        cr_expect_eq(server.accepted, 200 * i);
        cr_expect_not(slice.cut);
        cr_expect_gt(slice.ramp.median_ms, 0);
        cr_expect_eq(slice.weighed, i == 1);
    }
    stop();
}

Test(driver_ramp, is_shared_by_threads, .init = bound)
{
    start_driver(3);
    target.shape = (struct shape){.kind = SHAPE_RAMP};
    start_server(DRIVER_ECHO, 301, 100);
    open_target();
    run_slice();
    expect_clean(301);
    cr_expect_eq(slice.requests, 301);
    stop();
}

Test(driver_ramp, tells_what_it_reached_where_a_server_takes_no_more, .init = bound)
{
    server.one_by_one_ms = 1;
    target.answer_timeout_ns = 500000000;
    start_ramp(DRIVER_ECHO, 20);
    for (int i = 0; i < 2; i++) {
        run_slice();
        cr_expect(slice.cut);
        cr_expect(slice.verified, "%s", slice.first_error);
        cr_expect_eq(slice.errors, 0);
        cr_expect_eq(slice.requests, 1);
        cr_expect_eq(slice.conns_alive, 1);
    }
    stop();
}

Test(driver_ramp, stops_where_connecting_fails, .init = bound)
{
    start_ramp(DRIVER_ECHO, 500);
    ((struct sockaddr_in *)&target.addr)->sin_port = htons(port_without_listener());
    cr_assert_eq(weir__driver_open(driver, &target, &id), 0, "%s", weir__driver_error(driver));
    run_slice();
    cr_expect_eq(slice.requests, 0);
    cr_expect_eq(slice.errors, 1, "the others are not tried");
    expect_error(": connect: Connection refused");
    stop();
}

static void expect_one_held_to_fail(enum fault fault, const char *text, uint64_t wrong)
{
    server.fault = fault;
    server.fault_conn = 2;
    start_ramp(DRIVER_ECHO, 5);
    run_slice();
    expect_error(text);
    cr_expect_eq(slice.errors, 1);
    cr_expect_eq(slice.wrong, wrong);
    cr_expect_not(slice.verified);
    stop();
}

Test(driver_ramp_notices, a_flipped_bit, .init = bound)
{
    expect_one_held_to_fail(FAULT_FLIP, " byte 0: want 0x", 1);
}

Test(driver_ramp_notices, bytes_that_were_never_sent, .init = bound)
{
    expect_one_held_to_fail(FAULT_EXTRA, ": 3 bytes more than were sent", 1);
}

Test(driver_ramp_notices, a_connection_that_was_not_held, .init = bound)
{
    server.close_after = 1;
    expect_one_held_to_fail(FAULT_NONE, ": closed by the server while it was held", 0);
}

/* --- the figures ---------------------------------------------------------------------------- */

/* Connection i of 2500 is there after as many ms as its thousand says. */
Test(ramp_steps, are_the_thousands_in_the_order_in_which_connections_came)
{
    static uint64_t done_ns[2500];
    struct driver_ramp ramp;
    for (uint32_t i = 0; i < 2500; i++)
        done_ns[2499 - i] = 1000000 * (i < 1000 ? 50 : i < 2000 ? 80 : 1000);
    cr_assert_eq(weir__drive_ramp_steps(done_ns, 2500, 10000000, &ramp), 0);
    cr_expect_float_eq(ramp.first_ms, 40, 1e-9);
    cr_expect_float_eq(ramp.last_ms, 30, 1e-9, "the last 500 are no thousand");
    cr_expect_float_eq(ramp.median_ms, 35, 1e-9);
}

Test(ramp_steps, of_less_than_a_thousand_are_told_per_thousand)
{
    uint64_t done_ns[10];
    struct driver_ramp ramp;
    for (uint32_t i = 0; i < 10; i++)
        done_ns[i] = 1000000 * (i + 1);
    cr_assert_eq(weir__drive_ramp_steps(done_ns, 10, 0, &ramp), 0);
    cr_expect_float_eq(ramp.median_ms, 1000, 1e-9);
    cr_expect_float_eq(ramp.first_ms, 1000, 1e-9);
    cr_expect_float_eq(ramp.last_ms, 1000, 1e-9);
}

Test(ramp_steps, of_nothing_are_unknown)
{
    struct driver_ramp ramp = {1, 1, 1};
    cr_assert_eq(weir__drive_ramp_steps(NULL, 0, 0, &ramp), 0);
    cr_expect_eq(ramp.median_ms + ramp.first_ms + ramp.last_ms, 0);
}
