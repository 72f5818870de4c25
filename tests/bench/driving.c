/* A load driver with one target (driving.h). */
#include "tests/bench/driving.h"

#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

struct wrong_server server;
struct driver *driver;
struct driver_target target;
struct driver_slice slice;
uint32_t id;

void bound(void)
{
    alarm(60);
}

void start_driver(unsigned threads)
{
    struct driver_options options = {.no_exec = true, .threads = threads};
    cr_assert_eq(weir__driver_new(&driver, &options), 0, "%s", weir__driver_error(driver));
}

void start_server(enum driver_workload workload, uint32_t conns, uint32_t size)
{
    bool framed = workload == DRIVER_FRAME || workload == DRIVER_SINK;
    server.wire_bytes = size + (framed ? 4 : 0);
    wrong_server_start(&server);
    target.workload = workload;
    target.conns = conns;
    target.size_bytes = size;
    target.seed = 42;
    target.addr_len = server.addr_len;
    memcpy(&target.addr, &server.addr, sizeof(server.addr));
    target.pid_count = 1;
    target.server_pids[0] = getpid();
}

void open_target(void)
{
    cr_assert_eq(weir__driver_open(driver, &target, &id), 0, "%s", weir__driver_error(driver));
}

void start(enum driver_workload workload, uint32_t conns, uint32_t size)
{
    start_driver(1);
    start_server(workload, conns, size);
    open_target();
}

void stop(void)
{
    cr_expect_eq(weir__driver_close(driver, id), 0, "%s", weir__driver_error(driver));
    weir__driver_free(driver);
}

void run_slice(void)
{
    cr_assert_eq(weir__driver_slice(driver, id, SLICE_NS, &slice), 0, "%s",
                 weir__driver_error(driver));
}

void run_until_failure(void)
{
    do
        run_slice();
    while (slice.errors == 0);
}

void expect_verified(uint32_t conns)
{
    cr_assert_str_eq(slice.first_error, "");
    cr_assert_eq(slice.errors, 0);
    cr_assert_eq(slice.wrong, 0);
    cr_assert_eq(slice.bytes, slice.requests * server.wire_bytes);
    cr_assert_eq(slice.latency.count, slice.requests);
    cr_assert(slice.verified);
    cr_assert_eq(slice.conns_alive, conns);
    cr_assert_gt(slice.elapsed_ns, 0);
    cr_assert_gt(slice.server_cpu_ns, 0);
    cr_assert_gt(slice.driver_cpu_ns, 0);
    cr_assert(slice.driver_busy > 0 && slice.driver_busy <= 1);
    cr_assert_leq(slice.latency.max_ns, slice.elapsed_ns);
}

void expect_clean(uint32_t conns)
{
    expect_verified(conns);
    cr_assert_geq(slice.requests, conns);
}

void expect_clean_slices(uint32_t conns)
{
    for (int i = 0; i < 3; i++) {
        run_slice();
        expect_clean(conns);
    }
    cr_expect_eq(server.accepted, conns);
    stop();
}

void expect_error(const char *text)
{
    cr_expect(strstr(slice.first_error, text), "'%s' is not in '%s'", text, slice.first_error);
}

void run_wrong(enum fault fault, uint32_t request, uint32_t byte)
{
    server.fault = fault;
    server.fault_conn = 2;
    server.fault_request = request;
    server.fault_byte = byte;
    target.answer_timeout_ns = ANSWER_TIMEOUT_NS;
    start(DRIVER_ECHO, 5, 100);
    run_until_failure();
}

void expect_one_failure(const char *text, uint64_t wrong)
{
    expect_error(text);
    expect_error("connection 2 ");
    cr_expect_eq(slice.errors, 1);
    cr_expect_eq(slice.wrong, wrong);
    cr_expect_not(slice.verified);
    cr_expect_geq(slice.requests, 4);
    cr_expect_eq(slice.conns_alive, 4);
    run_slice();
    cr_expect(slice.verified);
    cr_expect_eq(slice.conns_alive, 4);
    weir__driver_free(driver);
}
