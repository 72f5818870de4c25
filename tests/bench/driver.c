/*
 * The load driver against a server in this test's own threads: what a good server is credited
 * with, and that each way of answering wrongly is noticed, described, and costs one connection
 * only.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/workloads/workloads.h"
#include "tests/bench/driving.h"

#define LONG_SLICE_NS 30000000000u

static void expect_closed_shape(enum driver_workload workload, uint32_t conns, uint32_t size)
{
    start(workload, conns, size);
    expect_clean_slices(conns);
}

Test(driver_closed, echoes_a_hundred_bytes_on_many_connections, .init = bound)
{
    expect_closed_shape(DRIVER_ECHO, 50, 100);
}

Test(driver_closed, echoes_a_single_byte, .init = bound)
{
    expect_closed_shape(DRIVER_ECHO, 3, 1);
}

Test(driver_closed, echoes_requests_longer_than_any_socket_buffer, .init = bound)
{
    expect_closed_shape(DRIVER_ECHO, 2, 6u << 20);
}

Test(driver_closed, echoes_frames, .init = bound)
{
    expect_closed_shape(DRIVER_FRAME, 20, 100);
}

Test(driver_closed, echoes_frames_longer_than_any_socket_buffer, .init = bound)
{
    expect_closed_shape(DRIVER_FRAME, 2, 6u << 20);
}

Test(driver_closed, shares_connections_among_threads, .init = bound)
{
    start_driver(3);
    start_server(DRIVER_ECHO, 20, 64);
    open_target();
    run_slice();
    expect_clean(20);
    stop();
}

Test(driver_closed, leaves_a_thread_without_connections_in_peace, .init = bound)
{
    start_driver(4);
    start_server(DRIVER_ECHO, 2, 64);
    open_target();
    run_slice();
    expect_clean(2);
    stop();
}

Test(driver_closed, keeps_the_connections_of_several_targets_open_between_slices, .init = bound)
{
    uint32_t other;
    start(DRIVER_ECHO, 10, 100);
    target.seed = 7;
    target.conns = 5;
    cr_assert_eq(weir__driver_open(driver, &target, &other), 0);
    cr_assert_neq(id, other);
    for (int i = 0; i < 3; i++) {
        run_slice();
        expect_clean(10);
        cr_assert_eq(weir__driver_slice(driver, other, SLICE_NS, &slice), 0);
        expect_clean(5);
    }
    cr_expect_eq(server.accepted, 15);
    cr_expect_eq(weir__driver_close(driver, other), 0);
    stop();
}

Test(driver_closed, knows_no_server_cpu_without_a_process, .init = bound)
{
    start_driver(1);
    start_server(DRIVER_ECHO, 1, 100);
    target.pid_count = 0;
    open_target();
    run_slice();
    cr_assert(slice.verified);
    cr_assert_eq(slice.server_cpu_ns, -1);
    stop();
}

Test(driver_closed, adds_up_the_cpu_of_thousands_of_processes, .init = bound)
{
    start_driver(1);
    start_server(DRIVER_ECHO, 1, 100);
    target.pid_count = WEIR__DRIVER_PIDS_MAX + 1;
    cr_expect_eq(weir__driver_open(driver, &target, &id), -EINVAL);
    target.pid_count = 10000;
    for (unsigned i = 0; i < target.pid_count; i++)
        target.server_pids[i] = getpid();
    open_target();
    run_slice();
    expect_clean(1);
    /* One takes some 10 us for a request: ten thousand times the same take more than 100. */
    cr_expect_gt(slice.server_cpu_ns, (int64_t)slice.requests * 100000);
    stop();
}

/* --- servers that do one thing wrong -------------------------------------------------------- */

Test(driver_notices, a_flipped_bit, .init = bound)
{
    run_wrong(FAULT_FLIP, 3, 77);
    unsigned want, got;
    const char *at = strstr(slice.first_error, "request 3 byte 77: want 0x");
    cr_assert_not_null(at, "'%s'", slice.first_error);
    cr_assert_eq(sscanf(at, "request 3 byte 77: want 0x%2x, got 0x%2x", &want, &got), 2);
    cr_expect_eq(want ^ got, 1);
    expect_one_failure("request 3 byte 77", 1);
}

Test(driver_notices, a_dropped_byte, .init = bound)
{
    run_wrong(FAULT_DROP, 0, 50);
    expect_one_failure("request 0 byte 5", 1);
}

Test(driver_notices, a_dropped_last_byte, .init = bound)
{
    run_wrong(FAULT_DROP, 2, 99);
    expect_one_failure("request 2: no answer within 2 s (99 of 100 bytes)", 0);
}

Test(driver_notices, bytes_that_were_never_sent, .init = bound)
{
    run_wrong(FAULT_EXTRA, 4, 0);
    expect_one_failure("request 4: 3 bytes more than were sent", 1);
}

Test(driver_notices, a_response_given_twice, .init = bound)
{
    run_wrong(FAULT_REPEAT, 5, 0);
    expect_one_failure("request 5 byte ", 1);
}

Test(driver_notices, an_early_close, .init = bound)
{
    run_wrong(FAULT_CLOSE, 1, 0);
    expect_one_failure("request 1: closed by the server after 0 of 100 bytes", 0);
}

Test(driver_notices, a_close_within_a_response, .init = bound)
{
    run_wrong(FAULT_CLOSE_HALF, 1, 40);
    expect_one_failure("request 1: closed by the server after 40 of 100 bytes", 0);
}

Test(driver_notices, a_reset, .init = bound)
{
    run_wrong(FAULT_RESET, 1, 0);
    expect_one_failure("request 1: Connection reset by peer after 0 of 100 bytes", 0);
}

Test(driver_notices, silence, .init = bound)
{
    run_wrong(FAULT_SILENT, 1, 0);
    expect_one_failure("request 1: no answer within 2 s (0 of 100 bytes)", 0);
}

Test(driver_notices, responses_of_another_connection, .init = bound)
{
    server.fault = FAULT_SWAP;
    server.fault_request = 3;
    start(DRIVER_ECHO, 2, 100);
    /* One slice, which ends with its last connection. */
    cr_assert_eq(weir__driver_slice(driver, id, LONG_SLICE_NS, &slice), 0);
    cr_expect_eq(slice.wrong, 2);
    cr_expect_eq(slice.requests, 6);
    expect_error("request 3 byte ");
    cr_expect_eq(weir__driver_slice(driver, id, SLICE_NS, &slice), -ENOTCONN);
    cr_expect_str_eq(weir__driver_error(driver),
                     "no connection is left: Transport endpoint is not connected");
    weir__driver_free(driver);
}

Test(driver_notices, a_wrong_frame_length, .init = bound)
{
    server.fault = FAULT_FLIP;
    server.fault_byte = 3;
    start(DRIVER_FRAME, 1, 256);
    run_slice();
    cr_expect_str_eq(slice.first_error, "connection 0 request 0 byte 3: want 0x00, got 0x01");
    weir__driver_free(driver);
}

Test(driver_notices, bytes_waiting_when_the_target_is_closed, .init = bound)
{
    server.fault = FAULT_LATE_EXTRA;
    start(DRIVER_ECHO, 1, 100);
    cr_assert_eq(weir__driver_slice(driver, id, 0, &slice), 0);
    cr_assert_eq(slice.requests, 1);
    sem_post(&server.say_extra);
    sem_wait(&server.extra_arrived);
    cr_expect_eq(weir__driver_close(driver, id), -EPROTO);
    cr_expect_str_eq(weir__driver_error(driver), "connection 0: 3 bytes more than were sent");
    weir__driver_free(driver);
}

/* --- the workloads as servers --------------------------------------------------------------- */

static void start_workload(const struct weir_workload *workload, size_t piece_bytes,
                           enum driver_workload as, uint32_t conns, uint32_t size)
{
    server.workload = workload;
    server.options.frame_limit_bytes = 1000;
    server.piece_bytes = piece_bytes;
    start(as, conns, size);
}

Test(driver_and_workloads, agree_on_echo, .init = bound)
{
    start_workload(&weir__workload_echo, 4096, DRIVER_ECHO, 8, 100);
    run_slice();
    expect_clean(8);
    stop();
}

Test(driver_and_workloads, agree_on_frames_of_exactly_the_limit, .init = bound)
{
    start_workload(&weir__workload_frame, 65536, DRIVER_FRAME, 8, 1000);
    run_slice();
    expect_clean(8);
    cr_expect_eq(server.refused, 0);
    stop();
}

Test(driver_and_workloads, agree_on_frames_that_come_three_bytes_at_a_time, .init = bound)
{
    start_workload(&weir__workload_frame, 3, DRIVER_FRAME, 8, 20);
    run_slice();
    expect_clean(8);
    stop();
}

Test(driver_and_workloads, agree_that_a_frame_past_the_limit_ends_its_connection, .init = bound)
{
    start_workload(&weir__workload_frame, 65536, DRIVER_FRAME, 3, 1001);
    run_slice();
    cr_expect_eq(slice.errors, 3);
    cr_expect_eq(slice.wrong, 0);
    cr_expect_eq(slice.requests, 0);
    expect_error("request 0: ");
    expect_error(" after 0 of 1005 bytes");
    cr_expect_eq(server.refused, 3);
    target.size_bytes = 100;
    server.wire_bytes = 104;
    open_target();
    run_slice();
    expect_clean(3);
    weir__driver_free(driver);
}

/* --- bursts --------------------------------------------------------------------------------- */

static void run_burst(void)
{
    cr_assert_eq(weir__driver_burst(driver, id, 0, &slice), 0, "%s", weir__driver_error(driver));
}

Test(driver_burst, serves_all_clients_again_and_again, .init = bound)
{
    target.shape.kind = SHAPE_BURST;
    target.shape.requests = 20;
    start(DRIVER_ECHO, 100, 100);
    for (uint32_t i = 1; i <= 4; i++) {
        run_burst();
        expect_clean(100);
        cr_assert_eq(slice.requests, 2000);
        cr_assert_eq(server.accepted, 100 * i);
    }
    cr_expect_eq(weir__driver_slice(driver, id, SLICE_NS, &slice), -ENOTCONN);
    stop();
}

Test(driver_burst, leaves_the_open_connections_alone, .init = bound)
{
    start_driver(2);
    target.shape.requests = 5;
    start_server(DRIVER_FRAME, 10, 100);
    open_target();
    run_slice();
    expect_clean(10);
    run_burst();
    expect_clean(10);
    cr_assert_eq(slice.requests, 50);
    run_slice();
    expect_clean(10);
    cr_assert_eq(server.accepted, 20);
    stop();
}

Test(driver_burst, asks_a_hundred_times_by_default, .init = bound)
{
    target.shape.kind = SHAPE_BURST;
    start(DRIVER_ECHO, 3, 10);
    run_burst();
    cr_assert_eq(slice.requests, 300);
    stop();
}

Test(driver_burst, counts_a_client_that_failed, .init = bound)
{
    server.fault = FAULT_CLOSE;
    server.fault_conn = 3;
    server.fault_request = 7;
    target.shape.kind = SHAPE_BURST;
    target.shape.requests = 10;
    start(DRIVER_ECHO, 8, 100);
    run_burst();
    cr_expect_eq(slice.errors, 1);
    cr_expect_eq(slice.conns_alive, 7);
    cr_expect_eq(slice.requests, 77);
    expect_error("request 7: closed by the server");
    stop();
}

Test(driver_burst, counts_connects_that_had_to_be_repeated, .init = bound)
{
    server.backlog = -1;
    server.accept_delay_ms = 500;
    target.shape.kind = SHAPE_BURST;
    target.shape.requests = 1;
    start(DRIVER_ECHO, 6, 100);
    run_burst();
    expect_clean(6);
    cr_expect_gt(slice.connect_retries, 0);
    cr_expect_gt(slice.elapsed_ns, 900000000);
    stop();
}

Test(driver_burst, notices_a_server_that_does_not_close, .init = bound)
{
    server.fault = FAULT_NEVER_CLOSE;
    target.shape.kind = SHAPE_BURST;
    target.shape.requests = 2;
    target.answer_timeout_ns = ANSWER_TIMEOUT_NS;
    start(DRIVER_ECHO, 3, 100);
    run_burst();
    cr_expect_eq(slice.errors, 1);
    cr_expect_eq(slice.requests, 6);
    expect_error(": the server did not close within 2 s");
    stop();
}

/* The last waits for longer than the answer timeout, and never while nobody is served. */
Test(driver_burst, lets_clients_wait_for_a_server_that_serves_one_at_a_time, .init = bound)
{
    server.one_by_one_ms = 500;
    target.shape.kind = SHAPE_BURST;
    target.shape.requests = 3;
    target.answer_timeout_ns = ANSWER_TIMEOUT_NS;
    start(DRIVER_ECHO, 6, 100);
    run_burst();
    expect_clean(6);
    cr_expect_eq(slice.requests, 18);
    cr_expect_gt(slice.latency.max_ns, ANSWER_TIMEOUT_NS);
    cr_expect_not(slice.cut);
    stop();
}

Test(driver_burst, is_cut_off_at_its_bound_and_tells_what_was_done_by_then, .init = bound)
{
    server.fault = FAULT_SILENT;
    server.fault_conn = 2;
    server.fault_request = 7;
    target.shape.kind = SHAPE_BURST;
    target.shape.requests = 10;
    start(DRIVER_ECHO, 5, 100);
    cr_assert_eq(weir__driver_burst(driver, id, 1000000000, &slice), 0);
    cr_expect(slice.cut);
    cr_expect(slice.verified, "what came back was right: %s", slice.first_error);
    cr_expect_eq(slice.errors, 0);
    cr_expect_eq(slice.conns_alive, 4);
    cr_expect_eq(slice.requests, 47);
    cr_expect_geq(slice.elapsed_ns, 1000000000);
    run_burst();
    expect_clean(5);
    cr_expect_not(slice.cut);
    stop();
}

Test(driver_burst, is_cut_off_by_a_reset, .init = bound)
{
    char request[100];
    start_driver(1);
    start_server(DRIVER_ECHO, 1, 100);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    ((struct sockaddr_in *)&target.addr)->sin_port = 0;
    cr_assert_eq(bind(listener, (struct sockaddr *)&target.addr, target.addr_len), 0);
    cr_assert_eq(listen(listener, 8), 0);
    cr_assert_eq(getsockname(listener, (struct sockaddr *)&target.addr, &target.addr_len), 0);
    target.shape.kind = SHAPE_BURST;
    open_target();
    cr_assert_eq(weir__driver_burst(driver, id, 100000000, &slice), 0);
    cr_expect(slice.cut);
    cr_expect_eq(slice.requests, 0);
    int fd = accept(listener, NULL, NULL);
    cr_expect_eq(recv(fd, request, sizeof(request), MSG_WAITALL), sizeof(request));
    cr_expect_lt(recv(fd, request, sizeof(request), 0), 0);
    cr_expect_eq(errno, ECONNRESET);
    stop();
}

/* --- what cannot be opened, and processes that go ------------------------------------------- */

Test(driver_open, says_that_nothing_listens, .init = bound)
{
    start_driver(1);
    start_server(DRIVER_ECHO, 3, 100);
    ((struct sockaddr_in *)&target.addr)->sin_port = htons(port_without_listener());
    cr_expect_eq(weir__driver_open(driver, &target, &id), -ECONNREFUSED);
    cr_expect_str_eq(weir__driver_error(driver),
                     "connection 0: connect: Connection refused: nothing listens there");
    target.shape.kind = SHAPE_BURST;
    target.shape.requests = 1;
    open_target();
    run_burst();
    cr_expect_eq(slice.errors, 3);
    cr_expect_eq(slice.requests, 0);
    cr_expect_not(slice.verified);
    expect_error(": connect: Connection refused");
    stop();
}

Test(driver_open, gives_up_on_a_server_that_never_accepts, .init = bound)
{
    start_driver(1);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in addr = {.sin_family = AF_INET};
    socklen_t len = sizeof(addr);
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    cr_assert_eq(bind(fd, (struct sockaddr *)&addr, len), 0);
    cr_assert_eq(listen(fd, 0), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    memcpy(&target.addr, &addr, sizeof(addr));
    target.addr_len = len;
    target.conns = 10;
    target.size_bytes = 10;
    target.connect_timeout_ns = 200000000;
    cr_expect_eq(weir__driver_open(driver, &target, &id), -ETIMEDOUT);
    cr_expect(strstr(weir__driver_error(driver), "its backlog is too short"), "'%s'",
              weir__driver_error(driver));
    weir__driver_free(driver);
}

Test(driver_open, tells_the_cure_where_descriptors_run_out, .init = bound)
{
    const struct rlimit few = {30, 30};
    start_driver(1);
    cr_assert_eq(prlimit(weir__driver_pid(driver), RLIMIT_NOFILE, &few, NULL), 0);
    start_server(DRIVER_ECHO, 100, 100);
    cr_expect_eq(weir__driver_open(driver, &target, &id), -EMFILE);
    cr_expect_str_eq(weir__driver_error(driver),
                     "socket: Too many open files: raise ulimit -n, or use fewer connections");
    target.conns = 10;
    open_target();
    run_slice();
    expect_clean(10);
    stop();
}

Test(driver_open, reaches_a_server_on_ipv6, .init = bound)
{
    if (access("/proc/net/if_inet6", F_OK) != 0)
        cr_skip_test("this kernel has no IPv6");
    server.ipv6 = true;
    start(DRIVER_ECHO, 3, 100);
    run_slice();
    expect_clean(3);
    stop();
}

Test(driver_open, refuses_a_target_out_of_range, .init = bound)
{
    start_driver(1);
    start_server(DRIVER_ECHO, 0, 100);
    cr_expect_eq(weir__driver_open(driver, &target, &id), -EINVAL);
    target.conns = 1;
    target.size_bytes = 0;
    cr_expect_eq(weir__driver_open(driver, &target, &id), -EINVAL);
    target.size_bytes = (16u << 20) + 1;
    cr_expect_eq(weir__driver_open(driver, &target, &id), -EINVAL);
    cr_expect_eq(weir__driver_slice(driver, 0, SLICE_NS, &slice), -ENOENT);
    cr_expect_eq(weir__driver_slice(driver, 1u << 31, SLICE_NS, &slice), -ENOENT);
    cr_expect_str_eq(weir__driver_error(driver), "target 2147483648 is not open");
    weir__driver_free(driver);
}

Test(driver_open, reuses_the_place_of_a_closed_target, .init = bound)
{
    start_driver(1);
    start_server(DRIVER_ECHO, 1, 16);
    for (unsigned i = 0; i < 2 * WEIR__DRIVER_TARGETS_MAX; i++) {
        open_target();
        cr_assert_eq(id, 0);
        cr_assert_eq(weir__driver_close(driver, id), 0);
    }
    for (unsigned i = 0; i < WEIR__DRIVER_TARGETS_MAX; i++)
        open_target();
    cr_assert_eq(weir__driver_open(driver, &target, &id), -ENOSPC);
    weir__driver_free(driver);
}

Test(driver_process, refuses_cpus_that_do_not_exist, .init = bound)
{
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(CPU_SETSIZE - 1, &cpus);
    struct driver_options options = {.no_exec = true, .cpus = &cpus};
    cr_assert_eq(weir__driver_new(&driver, &options), -EINVAL);
    cr_assert(strstr(weir__driver_error(driver), "driver CPUs: "), "'%s'",
              weir__driver_error(driver));
    weir__driver_free(driver);
}

Test(driver_process, runs_where_it_is_told_to, .init = bound)
{
    cpu_set_t cpus, seen;
    CPU_ZERO(&cpus);
    cr_assert_eq(sched_getaffinity(0, sizeof(cpus), &cpus), 0);
    int cpu = 0;
    while (!CPU_ISSET(cpu, &cpus))
        cpu++;
    CPU_ZERO(&cpus);
    CPU_SET(cpu, &cpus);
    struct driver_options options = {.no_exec = true, .cpus = &cpus};
    cr_assert_eq(weir__driver_new(&driver, &options), 0);
    cr_assert_eq(sched_getaffinity(weir__driver_pid(driver), sizeof(seen), &seen), 0);
    cr_assert(CPU_EQUAL(&cpus, &seen));
    start_server(DRIVER_ECHO, 4, 100);
    open_target();
    run_slice();
    expect_clean(4);
    stop();
}

Test(driver_process, its_death_is_noticed_and_told, .init = bound)
{
    start(DRIVER_ECHO, 1, 100);
    kill(weir__driver_pid(driver), SIGKILL);
    cr_expect_eq(weir__driver_slice(driver, id, SLICE_NS, &slice), -EPIPE);
    cr_expect_str_eq(weir__driver_error(driver), "the load driver died of signal 9 (Killed)");
    cr_expect_eq(weir__driver_slice(driver, id, SLICE_NS, &slice), -EPIPE);
    cr_expect_str_eq(weir__driver_error(driver), "the load driver is not running any more");
    weir__driver_free(driver);
}

Test(driver_process, outlives_the_signals_that_are_its_parent_s_to_handle, .init = bound)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    start(DRIVER_ECHO, 2, 100);
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        kill(weir__driver_pid(driver), signals[i]);
        run_slice();
    }
    stop();
}

Test(driver_process, dies_with_its_parent, .init = bound)
{
    int pair[2];
    pid_t driver_pid = 0;
    int status;
    cr_assert_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    cr_assert_eq(pipe(pair), 0);
    pid_t parent = fork();
    if (parent == 0) {
        start_driver(1);
        driver_pid = weir__driver_pid(driver);
        if (write(pair[1], &driver_pid, sizeof(driver_pid)) != sizeof(driver_pid))
            _exit(1);
        pause();
    }
    cr_assert_eq(read(pair[0], &driver_pid, sizeof(driver_pid)), sizeof(driver_pid));
    kill(parent, SIGKILL);
    cr_assert_eq(waitpid(parent, &status, 0), parent);
    cr_assert_eq(waitpid(driver_pid, &status, 0), driver_pid);
}

Test(driver_process, ends_when_it_is_freed, .init = bound)
{
    start_driver(1);
    pid_t pid = weir__driver_pid(driver);
    weir__driver_free(driver);
    cr_assert_eq(kill(pid, 0), -1);
    cr_assert_eq(errno, ESRCH);
    weir__driver_free(NULL);
}
