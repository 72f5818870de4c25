/*
 * The load driver's shapes beside the closed one, against a server in this test's own threads: what
 * a good server is credited with, and that each way of answering wrongly is noticed and described.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "bench/workloads/workloads.h"
#include "tests/bench/driving.h"

/* --- pipeline ------------------------------------------------------------------------------- */

static void expect_pipeline(enum driver_workload workload, uint32_t conns, uint32_t size,
                            uint32_t depth)
{
    target.shape = (struct shape){.kind = SHAPE_PIPELINE, .depth = depth};
    start(workload, conns, size);
    expect_clean_slices(conns);
}

Test(driver_pipeline, has_sixteen_in_flight_on_each_connection_by_default, .init = bound)
{
    expect_pipeline(DRIVER_ECHO, 20, 100, 0);
}

Test(driver_pipeline, of_depth_one_is_a_closed_loop, .init = bound)
{
    expect_pipeline(DRIVER_ECHO, 3, 100, 1);
}

Test(driver_pipeline, deeper_than_one_send_can_gather, .init = bound)
{
    expect_pipeline(DRIVER_FRAME, 2, 10, 500);
}

Test(driver_pipeline, of_single_bytes, .init = bound)
{
    expect_pipeline(DRIVER_ECHO, 2, 1, 100);
}

Test(driver_pipeline, longer_than_any_socket_buffer_does_not_lock_up, .init = bound)
{
    expect_pipeline(DRIVER_FRAME, 2, 1u << 20, 16);
}

/* The server sends back what it has before it reads on, so that both directions fill. */
Test(driver_pipeline, whose_echo_runs_right_behind_the_request_does_not_lock_up, .init = bound)
{
    server.workload = &weir__workload_echo;
    server.piece_bytes = 10000;
    expect_pipeline(DRIVER_ECHO, 3, 300000, 16);
}

Test(driver_pipeline, of_frames_that_are_cut_anywhere, .init = bound)
{
    server.workload = &weir__workload_frame;
    server.piece_bytes = 7;
    expect_pipeline(DRIVER_FRAME, 3, 20, 16);
}

Test(driver_pipeline, asks_as_many_as_its_depth_even_in_no_time, .init = bound)
{
    target.shape = (struct shape){.kind = SHAPE_PIPELINE, .depth = 4};
    start(DRIVER_ECHO, 5, 100);
    cr_assert_eq(weir__driver_slice(driver, id, 0, &slice), 0);
    expect_clean(5);
    cr_expect_eq(slice.requests, 20);
    stop();
}

/* One connection goes wrong, the others go on. */
static void expect_pipeline_to_fail(enum fault fault, uint32_t request, uint32_t byte,
                                    const char *text, uint64_t wrong)
{
    target.shape = (struct shape){.kind = SHAPE_PIPELINE, .depth = 8};
    run_wrong(fault, request, byte);
    expect_one_failure(text, wrong);
}

Test(driver_pipeline_notices, a_flipped_bit, .init = bound)
{
    expect_pipeline_to_fail(FAULT_FLIP, 11, 77, "request 11 byte 77: want 0x", 1);
}

Test(driver_pipeline_notices, a_dropped_byte, .init = bound)
{
    expect_pipeline_to_fail(FAULT_DROP, 3, 50, "request 3 byte 5", 1);
}

Test(driver_pipeline_notices, bytes_that_were_never_sent, .init = bound)
{
    expect_pipeline_to_fail(FAULT_EXTRA, 5, 0, "request 6 byte 0: want 0x", 1);
}

Test(driver_pipeline_notices, a_response_given_twice, .init = bound)
{
    expect_pipeline_to_fail(FAULT_REPEAT, 5, 0, "request 5 byte ", 1);
}

Test(driver_pipeline_notices, a_close_within_a_response, .init = bound)
{
    expect_pipeline_to_fail(FAULT_CLOSE_HALF, 9, 40,
                            "request 9: closed by the server after 40 of 100 bytes", 0);
}

Test(driver_pipeline_notices, silence, .init = bound)
{
    expect_pipeline_to_fail(FAULT_SILENT, 9, 0, "request 9: no answer within 2 s (0 of 100 bytes)",
                            0);
}

Test(driver_pipeline_notices, bytes_after_the_last_response, .init = bound)
{
    server.fault = FAULT_EXTRA;
    server.fault_request = 3;
    target.shape = (struct shape){.kind = SHAPE_PIPELINE, .depth = 4};
    start(DRIVER_ECHO, 1, 100);
    cr_assert_eq(weir__driver_slice(driver, id, 0, &slice), 0);
    int closed = weir__driver_close(driver, id);
    cr_expect(slice.wrong == 1 || closed == -EPROTO, "%lu %d", (unsigned long)slice.wrong, closed);
    weir__driver_free(driver);
}

Test(driver_pipeline, refuses_a_depth_out_of_range, .init = bound)
{
    target.shape = (struct shape){.kind = SHAPE_PIPELINE, .depth = 1};
    start(DRIVER_ECHO, 1, 100);
    target.shape.depth = SHAPE_DEPTH_MAX + 1;
    cr_expect_eq(weir__driver_open(driver, &target, &id), -EINVAL);
    weir__driver_free(driver);
}

/* --- churn ---------------------------------------------------------------------------------- */

static void start_churn(enum driver_workload workload, uint32_t conns, uint32_t size)
{
    target.shape = (struct shape){.kind = SHAPE_CHURN};
    start(workload, conns, size);
}

Test(driver_churn, makes_a_connection_for_each_request, .init = bound)
{
    uint64_t requests = 0;
    start_churn(DRIVER_ECHO, 10, 100);
    cr_expect_eq(server.accepted, 0, "nothing is open before the first slice");
    for (int i = 0; i < 3; i++) {
        run_slice();
        expect_clean(10);
        requests += slice.requests;
        cr_expect_eq(server.accepted, requests);
    }
    stop();
}

Test(driver_churn, of_frames, .init = bound)
{
    start_churn(DRIVER_FRAME, 5, 100);
    run_slice();
    expect_clean(5);
    stop();
}

Test(driver_churn, of_requests_longer_than_any_socket_buffer, .init = bound)
{
    start_churn(DRIVER_ECHO, 2, 6u << 20);
    run_slice();
    expect_clean(2);
    stop();
}

Test(driver_churn, each_client_connects_once_even_in_no_time, .init = bound)
{
    start_churn(DRIVER_ECHO, 7, 100);
    cr_assert_eq(weir__driver_slice(driver, id, 0, &slice), 0);
    expect_clean(7);
    cr_expect_eq(slice.requests, 7);
    cr_expect_eq(server.accepted, 7);
    stop();
}

/* The 14th connection goes wrong, whichever client has it; all clients begin the next slice. */
static void expect_one_client_to_fail(enum fault fault, const char *text, uint64_t wrong)
{
    server.fault = fault;
    server.fault_conn = 13;
    server.fault_byte = 40;
    target.answer_timeout_ns = ANSWER_TIMEOUT_NS;
    start_churn(DRIVER_ECHO, 5, 100);
    run_until_failure();
    expect_error(text);
    cr_expect_eq(slice.errors, 1);
    cr_expect_eq(slice.wrong, wrong);
    cr_expect_not(slice.verified);
    cr_expect_eq(slice.conns_alive, 4);
    run_slice();
    cr_expect(slice.verified);
    cr_expect_eq(slice.conns_alive, 5);
    stop();
}

Test(driver_churn_notices, a_flipped_bit, .init = bound)
{
    expect_one_client_to_fail(FAULT_FLIP, " byte 40: want 0x", 1);
}

Test(driver_churn_notices, a_close_without_an_answer, .init = bound)
{
    expect_one_client_to_fail(FAULT_CLOSE, ": closed by the server after 0 of 100 bytes", 0);
}

Test(driver_churn_notices, a_reset, .init = bound)
{
    expect_one_client_to_fail(FAULT_RESET, ": Connection reset by peer after ", 0);
}

Test(driver_churn_notices, bytes_that_were_never_sent, .init = bound)
{
    expect_one_client_to_fail(FAULT_EXTRA, ": 3 bytes more than were sent", 1);
}

Test(driver_churn_notices, silence, .init = bound)
{
    expect_one_client_to_fail(FAULT_SILENT, ": no answer within 2 s (0 of 100 bytes)", 0);
}

Test(driver_churn_notices, a_server_that_does_not_close, .init = bound)
{
    expect_one_client_to_fail(FAULT_NEVER_CLOSE, ": the server did not close within 2 s", 0);
}

Test(driver_churn_notices, that_nothing_listens, .init = bound)
{
    start_churn(DRIVER_ECHO, 3, 100);
    ((struct sockaddr_in *)&target.addr)->sin_port = htons(port_without_listener());
    cr_assert_eq(weir__driver_open(driver, &target, &id), 0, "%s", weir__driver_error(driver));
    run_slice();
    cr_expect_eq(slice.errors, 3);
    cr_expect_eq(slice.requests, 0);
    cr_expect_not(slice.verified);
    expect_error(": connect: Connection refused");
    stop();
}

/* --- stream --------------------------------------------------------------------------------- */

static void start_stream(const struct weir_workload *workload, uint32_t conns, uint32_t size)
{
    bool out = strcmp(workload->name, "source") == 0;
    server.workload = workload;
    if (server.piece_bytes == 0)
        server.piece_bytes = 65536;
    target.answer_timeout_ns = ANSWER_TIMEOUT_NS;
    target.shape.kind = SHAPE_STREAM;
    start(out ? DRIVER_SOURCE : DRIVER_SINK, conns, size);
}

static void expect_stream(const struct weir_workload *workload, uint32_t conns, uint32_t size)
{
    start_stream(workload, conns, size);
    for (int i = 0; i < 3; i++) {
        run_slice();
        cr_assert_str_eq(slice.first_error, "");
        cr_assert(slice.verified);
        cr_assert_geq(slice.requests, conns, "each connection has its part");
        cr_assert_eq(slice.bytes, slice.requests * size);
        cr_assert_eq(slice.conns_alive, conns);
        cr_assert_eq(slice.latency.count, workload == &weir__workload_sink ? 0 : slice.requests);
        cr_assert_gt(slice.server_cpu_ns, 0);
    }
    cr_expect_eq(server.accepted, conns);
    stop();
}

Test(driver_stream, towards_the_server_counts_what_it_acknowledged, .init = bound)
{
    expect_stream(&weir__workload_sink, 5, 65536);
}

Test(driver_stream, towards_the_server_in_messages_of_a_byte, .init = bound)
{
    expect_stream(&weir__workload_sink, 2, 1);
}

Test(driver_stream, towards_the_server_in_messages_longer_than_any_socket_buffer, .init = bound)
{
    server.piece_bytes = 300000;
    expect_stream(&weir__workload_sink, 2, 12u << 20);
}

Test(driver_stream, from_the_server_is_compared_byte_for_byte, .init = bound)
{
    expect_stream(&weir__workload_source, 5, 65536);
}

Test(driver_stream, from_the_server_in_messages_of_a_byte, .init = bound)
{
    expect_stream(&weir__workload_source, 2, 1);
}

Test(driver_stream, from_the_server_in_the_longest_messages, .init = bound)
{
    expect_stream(&weir__workload_source, 2, WEIR_SOURCE_LIMIT_BYTES);
}

Test(driver_stream, has_a_message_of_each_connection_even_in_no_time, .init = bound)
{
    start_stream(&weir__workload_sink, 4, 100000);
    cr_assert_eq(weir__driver_slice(driver, id, 0, &slice), 0);
    cr_expect(slice.verified, "%s", slice.first_error);
    cr_expect_geq(slice.requests, 4);
    stop();
}

/* A sink or source that serves well for one message and more, and then does one thing wrong. */
static enum { LIE, MUTE, CHATTER, HANG_UP, FLIP, TOO_MUCH } wrong_way;

static int wrong_feed(const struct weir_workload *good, void *state, const uint8_t *in,
                      size_t in_len, struct weir_workload_io *io)
{
    static uint8_t longer[100001];
    int verdict = good->feed(state, in, in_len, io);
    if (wrong_way == CHATTER && io->reply_len == 0) {
        io->reply = io->out;
        io->reply_len = 3;
        memset(io->out, 7, 3);
    }
    if (wrong_way == HANG_UP)
        return WEIR_WORKLOAD_CLOSE;
    if (io->reply_len == 0)
        return verdict;
    if (wrong_way == LIE)
        io->out[7] ^= 1;
    if (wrong_way == MUTE)
        io->reply_len = 0;
    if (wrong_way == FLIP || wrong_way == TOO_MUCH) {
        memcpy(longer, io->reply, io->reply_len);
        longer[wrong_way == FLIP ? 4321 : 0] ^= wrong_way == FLIP;
        io->reply = longer;
        io->reply_len += wrong_way == TOO_MUCH;
    }
    return verdict;
}

static int wrong_sink(void *state, const uint8_t *in, size_t in_len, struct weir_workload_io *io)
{
    return wrong_feed(&weir__workload_sink, state, in, in_len, io);
}

static int wrong_source(void *state, const uint8_t *in, size_t in_len, struct weir_workload_io *io)
{
    return wrong_feed(&weir__workload_source, state, in, in_len, io);
}

static void expect_stream_failure(const struct weir_workload *good, const char *text,
                                  uint64_t wrong)
{
    struct weir_workload workload = *good;
    workload.feed = good == &weir__workload_sink ? wrong_sink : wrong_source;
    start_stream(&workload, 1, 100000);
    run_slice();
    expect_error(text);
    cr_expect_eq(slice.errors, 1);
    cr_expect_eq(slice.wrong, wrong);
    cr_expect_eq(slice.conns_alive, 0);
    cr_expect_not(slice.verified);
    weir__driver_free(driver);
}

Test(driver_stream_notices, a_sum_that_is_not_what_was_sent, .init = bound)
{
    wrong_way = LIE;
    expect_stream_failure(&weir__workload_sink, " byte 7 of the acknowledgement of ", 1);
    cr_expect_eq(slice.requests, 0, "nothing is known to have arrived");
}

Test(driver_stream_notices, a_sink_that_does_not_acknowledge, .init = bound)
{
    wrong_way = MUTE;
    expect_stream_failure(&weir__workload_sink, ": no answer within 2 s", 0);
}

Test(driver_stream_notices, a_sink_that_answers_unasked, .init = bound)
{
    wrong_way = CHATTER;
    expect_stream_failure(&weir__workload_sink, " bytes more than were sent", 1);
}

Test(driver_stream_notices, a_sink_that_hangs_up, .init = bound)
{
    wrong_way = HANG_UP;
    expect_stream_failure(&weir__workload_sink, ": ", 0);
}

Test(driver_stream_notices, a_flipped_bit_of_a_source, .init = bound)
{
    wrong_way = FLIP;
    expect_stream_failure(&weir__workload_source, "request 0 byte 4321: want 0x", 1);
}

Test(driver_stream_notices, a_byte_too_many_of_a_source, .init = bound)
{
    wrong_way = TOO_MUCH;
    expect_stream_failure(&weir__workload_source, "request 1 byte 1: want 0x", 1);
}

Test(driver_stream, needs_a_workload_of_its_own, .init = bound)
{
    start_stream(&weir__workload_sink, 1, 100);
    target.workload = DRIVER_ECHO;
    cr_expect_eq(weir__driver_open(driver, &target, &id), -EINVAL);
    target.workload = DRIVER_SINK;
    target.shape.kind = SHAPE_CLOSED;
    cr_expect_eq(weir__driver_open(driver, &target, &id), -EINVAL);
    target.workload = DRIVER_SOURCE;
    target.shape.kind = SHAPE_STREAM;
    target.size_bytes = WEIR_SOURCE_LIMIT_BYTES + 1;
    cr_expect_eq(weir__driver_open(driver, &target, &id), -EINVAL);
    weir__driver_free(driver);
}

/* --- idle ----------------------------------------------------------------------------------- */

static void expect_active(uint32_t conns, uint32_t percent, uint64_t active)
{
    target.shape = (struct shape){.kind = SHAPE_IDLE, .active = percent};
    start(DRIVER_ECHO, conns, 100);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(weir__driver_slice(driver, id, 0, &slice), 0); /* one request of each */
        expect_verified(conns);
        cr_assert_eq(slice.requests, active);
    }
    run_slice();
    expect_verified(conns);
    cr_assert_geq(slice.requests, active);
    cr_expect_eq(server.accepted, conns);
    stop();
}

Test(driver_idle, asks_a_tenth_of_the_connections_by_default, .init = bound)
{
    expect_active(50, 0, 5);
}

Test(driver_idle, asks_the_share_that_was_said, .init = bound)
{
    expect_active(40, 30, 12);
}

Test(driver_idle, asks_one_connection_at_least, .init = bound)
{
    expect_active(3, 1, 1);
}

Test(driver_idle, of_a_hundred_percent_is_the_closed_loop, .init = bound)
{
    expect_active(7, 100, 7);
}

Test(driver_idle_notices, that_an_idle_connection_was_closed, .init = bound)
{
    server.fault = FAULT_CLOSE_AT_ONCE;
    server.fault_conn = 7;
    target.shape.kind = SHAPE_IDLE;
    start(DRIVER_ECHO, 20, 100);
    run_until_failure();
    expect_error("closed by the server while it was idle");
    cr_expect_eq(slice.errors, 1);
    cr_expect_eq(slice.conns_alive, 19);
    run_slice();
    cr_expect(slice.verified);
    weir__driver_free(driver);
}

Test(driver_idle_notices, a_flipped_bit_on_an_active_connection, .init = bound)
{
    server.fault = FAULT_FLIP;
    server.fault_request = 3;
    target.shape.kind = SHAPE_IDLE;
    start(DRIVER_ECHO, 10, 100);
    run_until_failure();
    expect_error("request 3 byte 0: want 0x");
    cr_expect_eq(slice.wrong, 1);
    weir__driver_free(driver);
}
