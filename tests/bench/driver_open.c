/*
 * The open shape of the load driver: that it follows its plan, and whom lateness is charged to.
 */
#include <criterion/criterion.h>

#include "tests/bench/driving.h"

/* As many requests as are planned for these slices, each once. */
static void expect_plan(uint32_t conns, uint32_t rate, uint64_t slice_ns, uint64_t planned)
{
    uint64_t sum = 0;
    target.shape = (struct shape){.kind = SHAPE_OPEN, .rate = rate};
    start(DRIVER_ECHO, conns, 100);
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(weir__driver_slice(driver, id, slice_ns, &slice), 0);
        cr_assert_str_eq(slice.first_error, "");
        cr_assert_eq(slice.requests, slice.planned);
        cr_assert_eq(slice.conns_alive, conns);
        cr_assert_geq(slice.elapsed_ns, slice_ns);
        sum += slice.planned;
    }
    cr_expect_eq(sum, planned);
    cr_expect_eq(server.accepted, conns);
    stop();
}

Test(driver_open, makes_what_was_planned, .init = bound)
{
    expect_plan(10, 5000, SLICE_NS, 1000);
}

Test(driver_open, has_a_plan_of_ten_thousand_a_second_by_default, .init = bound)
{
    expect_plan(10, 0, SLICE_NS, 2000);
}

Test(driver_open, keeps_a_low_rate_over_many_slices, .init = bound)
{
    expect_plan(3, 50, SLICE_NS, 10);
}

Test(driver_open, plans_nothing_in_no_time, .init = bound)
{
    expect_plan(3, 1000, 0, 0);
}

Test(driver_open, has_every_connection_take_its_turn, .init = bound)
{
    server.fault = FAULT_FLIP;
    server.fault_conn = 6;
    server.fault_request = 0;
    target.shape = (struct shape){.kind = SHAPE_OPEN, .rate = 100};
    start(DRIVER_ECHO, 7, 100);
    uint64_t planned = 0;
    for (int i = 0; i < 3 && slice.errors == 0; i++) {
        run_slice(); /* of five requests each */
        planned += slice.planned;
    }
    expect_error("connection 6 request 0 byte 0: want 0x");
    cr_expect_eq(planned, 10);
    stop();
}

Test(driver_open, is_shared_by_threads, .init = bound)
{
    start_driver(3);
    target.shape = (struct shape){.kind = SHAPE_OPEN, .rate = 7000};
    start_server(DRIVER_FRAME, 10, 100);
    open_target();
    for (int i = 0; i < 2; i++) {
        run_slice();
        cr_expect_str_eq(slice.first_error, "");
        cr_expect_eq(slice.requests, slice.planned);
        cr_expect(slice.planned >= 348 && slice.planned <= 352, "%lu",
                  (unsigned long)slice.planned);
    }
    stop();
}

/* The server stands still for half a second: all that was planned meanwhile is late, not only what
 * was in flight. */
Test(driver_open, charges_a_pause_to_every_request_planned_in_it, .init = bound)
{
    server.pause_ms = 500;
    server.pause_at = 10;
    target.shape = (struct shape){.kind = SHAPE_OPEN, .rate = 1000};
    start(DRIVER_ECHO, 1, 100);
    cr_assert_eq(weir__driver_slice(driver, id, 700000000, &slice), 0);
    expect_verified(1);
    cr_expect_eq(slice.planned, 700);
    cr_expect_eq(slice.requests, 700);
    cr_expect_geq(slice.latency.max_ns, 490000000);
    cr_expect_gt(weir__histogram_percentile(&slice.latency, 70), 100000000,
                 "two thirds of the requests were planned within the pause");
    stop();
}

Test(driver_open, gives_up_what_a_server_is_too_slow_for, .init = bound)
{
    server.slow_ms = 100;
    target.answer_timeout_ns = 500000000;
    target.shape = (struct shape){.kind = SHAPE_OPEN, .rate = 1000};
    start(DRIVER_ECHO, 1, 100);
    run_slice();
    cr_expect_str_eq(slice.first_error, "");
    cr_expect_eq(slice.errors, 0);
    cr_expect_eq(slice.planned, 50);
    cr_expect_lt(slice.requests, 20);
    cr_expect_eq(slice.conns_alive, 1);
    run_slice();
    cr_expect_eq(slice.planned, 50);
    cr_expect_lt(slice.requests, 20);
    cr_expect(slice.verified, "%s", slice.first_error);
    stop();
}

static void expect_open_to_fail(enum fault fault, uint32_t byte, const char *text, uint64_t wrong)
{
    target.shape = (struct shape){.kind = SHAPE_OPEN, .rate = 2000};
    run_wrong(fault, 5, byte);
    expect_one_failure(text, wrong);
}

Test(driver_open_notices, a_flipped_bit, .init = bound)
{
    expect_open_to_fail(FAULT_FLIP, 40, "request 5 byte 40: want 0x", 1);
}

Test(driver_open_notices, bytes_that_were_never_sent, .init = bound)
{
    expect_open_to_fail(FAULT_EXTRA, 0, ": 3 bytes more than were sent", 1);
}

Test(driver_open_notices, a_close_within_a_response, .init = bound)
{
    expect_open_to_fail(FAULT_CLOSE_HALF, 40, ": closed by the server after 40 of 100 bytes", 0);
}

Test(driver_open_notices, silence, .init = bound)
{
    expect_open_to_fail(FAULT_SILENT, 0, "request 5: no answer within 2 s (0 of 100 bytes)", 0);
}
