/*
 * Churn and bursts where ports run out, on a made-up machine: they are told, counted, and no
 * failure of the server.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bench/driver_load.h"
#include "tests/bench/driving.h"
#include "tests/bench/machine.h"

/* A hundred ports, none of which can be taken again before a minute is over. */
static void setup(void)
{
    bound();
    machine_setup();
    machine_write("proc/sys/net/ipv4/ip_local_port_range", "50000\t50099\n");
    machine_write("proc/sys/net/ipv4/tcp_tw_reuse", "0\n");
    machine_write("proc/sys/net/ipv4/tcp_timestamps", "1\n");
    weir__drive_root = machine_root;
}

static void hold(unsigned time_wait)
{
    char text[128];
    snprintf(text, sizeof text, "sockets: used 9\nTCP: inuse 1 orphan 0 tw %u alloc 1 mem 1\n",
             time_wait);
    machine_write("proc/net/sockstat", text);
}

TestSuite(driver_ports, .init = setup, .fini = machine_teardown);

/* IPv6 has one loopback address; no test machine need have as few ports as ours says. */
static void start_churn(unsigned threads)
{
    server.ipv6 = true;
    target.shape = (struct shape){.kind = SHAPE_CHURN};
    start_driver(threads);
    start_server(DRIVER_ECHO, 5, 100);
    open_target();
}

Test(driver_ports, that_are_left_are_used_and_then_churn_ends)
{
    hold(40);
    start_churn(1);
    cr_assert_eq(weir__driver_slice(driver, id, 20000000000u, &slice), 0, "%s",
                 weir__driver_error(driver));
    expect_verified(5);
    cr_expect(slice.out_of_ports);
    cr_expect_eq(slice.requests, 60);
    cr_expect_eq(server.accepted, 60);
    stop();
}

Test(driver_ports, are_shared_by_threads)
{
    hold(40);
    start_churn(2);
    cr_assert_eq(weir__driver_slice(driver, id, 20000000000u, &slice), 0, "%s",
                 weir__driver_error(driver));
    expect_verified(5);
    cr_expect(slice.out_of_ports);
    cr_expect_eq(slice.requests, 60);
    stop();
}

Test(driver_ports, that_are_too_few_for_the_clients_are_told_before_any_connects)
{
    hold(96);
    start_churn(1);
    cr_assert_eq(weir__driver_slice(driver, id, SLICE_NS, &slice), -EADDRNOTAVAIL);
    cr_expect_str_eq(weir__driver_error(driver),
                     "out of ports: 96 of the 100 (net.ipv4.ip_local_port_range 50000-50099, 1 "
                     "source address) are in TIME_WAIT: wait a minute, widen the range, or have "
                     "the server on 127.0.0.0/8");
    cr_expect_eq(server.accepted, 0);
    hold(95);
    cr_assert_eq(weir__driver_slice(driver, id, 0, &slice), 0);
    cr_expect_eq(slice.requests, 5);
    stop();
}

Test(driver_ports, that_are_too_few_for_a_burst_are_told_before_any_connects)
{
    hold(99);
    server.ipv6 = true;
    target.shape = (struct shape){.kind = SHAPE_BURST};
    start(DRIVER_ECHO, 2, 100);
    cr_assert_eq(weir__driver_burst(driver, id, 0, &slice), -EADDRNOTAVAIL);
    cr_expect(strstr(weir__driver_error(driver), "99 of the 100 "), "%s",
              weir__driver_error(driver));
    stop();
}

Test(driver_ports, are_multiplied_by_the_addresses_of_127)
{
    hold(10000);
    target.shape = (struct shape){.kind = SHAPE_CHURN};
    start(DRIVER_ECHO, 5, 100);
    run_slice();
    expect_clean(5);
    hold(25599);
    cr_assert_eq(weir__driver_slice(driver, id, 0, &slice), -EADDRNOTAVAIL);
    cr_expect(strstr(weir__driver_error(driver), "25599 of the 25600 "), "%s",
              weir__driver_error(driver));
    stop();
}

Test(driver_ports, in_time_wait_do_not_count_where_the_kernel_takes_them_again)
{
    hold(1000);
    machine_write("proc/sys/net/ipv4/tcp_tw_reuse", "2\n");
    start_churn(1);
    run_slice();
    expect_clean(5);
    cr_expect_not(slice.out_of_ports);
    machine_write("proc/sys/net/ipv4/tcp_timestamps", "0\n");
    cr_expect_eq(weir__driver_slice(driver, id, SLICE_NS, &slice), -EADDRNOTAVAIL);
    stop();
}

Test(driver_ports, that_cannot_be_counted_limit_nothing)
{
    machine_remove("proc/net/sockstat");
    start_churn(1);
    run_slice();
    expect_clean(5);
    stop();
}
