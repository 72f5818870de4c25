/* The driver's pieces that need no process: payload windows, source addresses, the verdict. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/driver_load.h"

Test(payload, no_two_connections_share_a_window_at_one_request)
{
    static uint8_t seen[WEIR__PAYLOAD_PLACES];
    struct drive_payload payload;
    cr_assert_eq(weir__drive_payload_init(&payload, 100, 1), 0);
    for (uint32_t conn = 0; conn < WEIR__PAYLOAD_PLACES; conn++) {
        size_t place = (size_t)(weir__drive_payload_at(&payload, conn, 77) - payload.block);
        cr_assert_lt(place, WEIR__PAYLOAD_PLACES);
        cr_assert_eq(seen[place]++, 0);
    }
    weir__drive_payload_deinit(&payload);
}

Test(payload, no_two_of_65536_requests_of_a_connection_share_a_window)
{
    static uint8_t seen[WEIR__PAYLOAD_PLACES];
    struct drive_payload payload;
    cr_assert_eq(weir__drive_payload_init(&payload, 100, 2), 0);
    for (uint64_t i = 0; i < WEIR__PAYLOAD_PLACES; i++) {
        uint64_t seq = UINT32_MAX - 1000 + i; /* across the wrap of 32 bits */
        size_t place = (size_t)(weir__drive_payload_at(&payload, 5, seq) - payload.block);
        cr_assert_eq(seen[place]++, 0);
    }
    weir__drive_payload_deinit(&payload);
}

Test(payload, windows_at_different_places_differ_within_eight_bytes)
{
    struct drive_payload payload;
    cr_assert_eq(weir__drive_payload_init(&payload, 8, 3), 0);
    const uint8_t *first = weir__drive_payload_at(&payload, 0, 0);
    for (uint32_t i = 0; i < WEIR__PAYLOAD_PLACES; i++) {
        const uint8_t *other = payload.block + i;
        cr_assert(other == first || memcmp(other, first, 8) != 0);
    }
    weir__drive_payload_deinit(&payload);
}

Test(payload, the_seed_decides)
{
    struct drive_payload a, b, c;
    cr_assert_eq(weir__drive_payload_init(&a, 64, 9), 0);
    cr_assert_eq(weir__drive_payload_init(&b, 64, 9), 0);
    cr_assert_eq(weir__drive_payload_init(&c, 64, 10), 0);
    cr_assert_eq(memcmp(weir__drive_payload_at(&a, 3, 4), weir__drive_payload_at(&b, 3, 4), 64), 0);
    cr_assert_neq(memcmp(weir__drive_payload_at(&a, 3, 4), weir__drive_payload_at(&c, 3, 4), 64),
                  0);
    weir__drive_payload_deinit(&a);
    weir__drive_payload_deinit(&b);
    weir__drive_payload_deinit(&c);
}

static void set_address(struct drive_target *target, const char *text)
{
    struct sockaddr_in *in = (struct sockaddr_in *)&target->spec.addr;
    in->sin_family = AF_INET;
    inet_pton(AF_INET, text, &in->sin_addr);
}

Test(sources, spread_over_the_loopback_addresses)
{
    static struct drive_target target;
    set_address(&target, "127.0.0.1");
    target.spec.conns = 40000;
    cr_expect_eq(weir__drive_source(&target, 0, false), 0);
    cr_expect_eq(weir__drive_source(&target, 13999, false), 0);
    cr_expect_eq(weir__drive_source(&target, 14000, false), 1);
    cr_expect_eq(weir__drive_source(&target, 39999, false), 2);
}

Test(sources, of_neighbouring_bursts_and_of_open_connections_are_all_different)
{
    static struct drive_target target;
    set_address(&target, "127.0.0.1");
    target.spec.conns = 28001;
    for (target.bursts = 0; target.bursts < 64; target.bursts++) {
        uint32_t first = weir__drive_source(&target, 0, true);
        cr_expect_eq(first, 4 + 3 * target.bursts);
        cr_expect_eq(weir__drive_source(&target, 28000, true), first + 2);
    }
}

Test(sources, of_churn_take_turns_so_that_the_ports_of_none_run_out)
{
    static struct drive_target target;
    static uint32_t seen[1000];
    set_address(&target, "127.0.0.1");
    target.spec.conns = 10;
    for (uint64_t made = 0; made < 1000000; made++) {
        uint32_t source = weir__drive_churn_source(&target, made);
        cr_assert(source > 0 && source < 1000);
        cr_assert_leq(++seen[source], WEIR__DRIVE_SOURCE_CONNS);
    }
}

Test(sources, elsewhere_are_left_to_the_kernel)
{
    static struct drive_target target;
    set_address(&target, "192.0.2.1");
    target.spec.conns = 40000;
    cr_expect_eq(weir__drive_source(&target, 39999, false), 0);
    cr_expect_eq(weir__drive_source(&target, 39999, true), 0);
    cr_expect_eq(weir__drive_churn_source(&target, 39999), 0);
}

Test(idle, the_active_connections_are_spread_evenly_and_as_many_as_said)
{
    for (uint32_t percent = 1; percent <= 100; percent++) {
        const struct shape shape = {.kind = SHAPE_IDLE, .active = percent};
        uint32_t active = 0;
        for (uint32_t id = 0; id < 1000; id++) {
            active += weir__shape_is_active(&shape, id);
            cr_assert_leq(id * percent / 100, active, "%u of %u at %u %%", active, id, percent);
            cr_assert_geq(id * percent / 100 + 1, active);
        }
        cr_assert_eq(active, percent * 10);
        cr_assert(weir__shape_is_active(&shape, 0));
    }
}

Test(idle, in_other_shapes_all_are_active)
{
    const struct shape closed = {.kind = SHAPE_CLOSED};
    for (uint32_t id = 0; id < 1000; id++)
        cr_assert(weir__shape_is_active(&closed, id));
}

Test(connect, that_ran_out_of_ports_says_what_to_do)
{
    cr_expect(strstr(weir__drive_connect_cure(-EADDRNOTAVAIL), "TIME_WAIT") &&
              strstr(weir__drive_connect_cure(-EADDRNOTAVAIL), "net.ipv4.ip_local_port_range"));
    cr_expect_str_eq(weir__drive_connect_cure(-ECONNREFUSED), ": nothing listens there");
    cr_expect_str_eq(weir__drive_connect_cure(-EPERM), "");
}

static struct driver_slice judged(double driver_busy, unsigned server_cpus, int64_t before,
                                  int64_t after)
{
    static struct driver_slice out;
    memset(&out, 0, sizeof(out));
    out.requests = 10;
    out.elapsed_ns = 1000;
    out.driver_busy = driver_busy;
    weir__drive_judge(&out, server_cpus, before, after);
    return out;
}

Test(verdict, the_driver_was_the_bottleneck_if_only_it_was_busy)
{
    cr_expect(judged(0.97, 1, 0, 500).driver_bound);
    cr_expect_not(judged(0.97, 1, 0, 990).driver_bound, "both were busy");
    cr_expect(judged(0.97, 2, 0, 990).driver_bound, "the server had a second CPU");
    cr_expect_not(judged(0.60, 1, 0, 500).driver_bound, "both were idle at times");
    cr_expect_not(judged(0.60, 1, 0, 990).driver_bound);
    cr_expect(judged(0.97, 1, -1, -1).driver_bound, "nothing is known of the server");
}

Test(verdict, server_cpu_is_known_or_not)
{
    cr_expect_eq(judged(0.5, 1, 200, 700).server_cpu_ns, 500);
    cr_expect_eq(judged(0.5, 1, -1, 700).server_cpu_ns, -1);
    cr_expect_eq(judged(0.5, 1, 200, -1).server_cpu_ns, -1);
}

Test(server_cpu, counts_this_process_and_not_one_that_is_gone)
{
    pid_t self[2] = {getpid(), getpid()};
    int64_t once = weir__drive_server_cpu_ns(self, 1);
    cr_expect_gt(once, 0);
    cr_expect_geq(weir__drive_server_cpu_ns(self, 2), 2 * once);
    cr_expect_eq(weir__drive_server_cpu_ns(self, 0), -1);
    self[1] = fork();
    if (self[1] == 0)
        _exit(0);
    cr_assert_eq(waitpid(self[1], NULL, 0), self[1]);
    cr_expect_eq(weir__drive_server_cpu_ns(self, 2), -1);
    struct server_cpu cpu;
    weir__drive_server_cpu_read(self, 2, &cpu);
    cr_expect_eq(cpu.at_once_ns, -1);
    cr_expect_eq(cpu.settled_ns, -1);
    cr_expect_not(cpu.still);
}

/* Uses CPU time until `own` has so much. */
static void spend(int64_t ns)
{
    while (weir__drive_server_cpu_ns((pid_t[]){getpid()}, 1) < ns)
        ;
}

Test(server_cpu, includes_children_that_live_that_are_dead_and_that_were_buried)
{
    enum { SPENT_NS = 100000000, TICKS_NS = 20000000 };
    int steps[2];
    char byte;
    cr_assert_eq(pipe(steps), 0);
    pid_t self = getpid(), child = fork();
    if (child == 0) {
        pid_t grandchild = fork();
        if (grandchild == 0) {
            spend(SPENT_NS);
            _exit(0);
        }
        waitpid(grandchild, NULL, 0);
        spend(2 * SPENT_NS); /* its own half, and its child's */
        (void)!write(steps[1], "x", 1);
        pause();
    }
    cr_assert_eq(read(steps[0], &byte, 1), 1);
    int64_t own = weir__drive_server_cpu_ns(&self, 1);
    cr_expect_geq(own, 2 * SPENT_NS - TICKS_NS, "of %ju", (uintmax_t)own);
    siginfo_t info;
    kill(child, SIGKILL);
    cr_assert_eq(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    cr_expect_geq(weir__drive_server_cpu_ns(&self, 1), 2 * SPENT_NS - TICKS_NS, "a zombie");
    cr_assert_eq(waitpid(child, NULL, 0), child);
    cr_expect_geq(weir__drive_server_cpu_ns(&self, 1), 2 * SPENT_NS - TICKS_NS, "buried");
    cr_expect_lt(weir__drive_server_cpu_ns(&self, 1), 10 * (int64_t)SPENT_NS, "counted twice");
}

Test(server_cpu, of_a_process_that_waits_stands_still)
{
    struct server_cpu cpu = {0};
    int began[2];
    char byte;
    cr_assert_eq(pipe(began), 0);
    pid_t child = fork();
    if (child == 0) {
        (void)!write(began[1], "x", 1);
        pause();
        _exit(0);
    }
    cr_assert_eq(read(began[0], &byte, 1), 1); /* it has used some CPU, however busy the machine */
    for (int i = 0; i < 1000 && !cpu.still; i++)
        weir__drive_server_cpu_read(&child, 1, &cpu);
    kill(child, SIGKILL);
    cr_assert_eq(waitpid(child, NULL, 0), child);
    cr_expect(cpu.still);
    cr_expect_gt(cpu.settled_ns, 0);
    cr_expect_geq(cpu.settled_ns, cpu.at_once_ns);
}
