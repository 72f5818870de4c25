/* Whether a model can do a cell of a table, on a made-up machine. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include <weir/model.h>

#include "machine.h"

TestSuite(cell, .init = machine_setup, .fini = machine_teardown);

static char text[512];

static const struct limits_cell iterative = {
    .engine = "iterative",
    .traits = WEIR_MODEL_BLOCKING | WEIR_MODEL_HOLDS_WORKER,
    .workers = 2,
    .shape = SHAPE_BURST,
    .conns = 1000,
};

static const struct limits_cell pool = {
    .engine = "thread-pool",
    .traits = WEIR_MODEL_BLOCKING | WEIR_MODEL_HOLDS_WORKER | WEIR_MODEL_POOL,
    .workers = 8,
    .shape = SHAPE_CLOSED,
    .conns = 8,
};

static const struct limits_cell thread = {
    .engine = "thread",
    .traits = WEIR_MODEL_BLOCKING | WEIR_MODEL_WORKER_PER_CONN,
    .workers = 2,
    .shape = SHAPE_CLOSED,
    .conns = 1000,
};

static const struct limits_cell forks = {
    .engine = "fork",
    .traits = WEIR_MODEL_BLOCKING | WEIR_MODEL_WORKER_PER_CONN | WEIR_MODEL_PROCESSES,
    .workers = 2,
    .shape = SHAPE_CHURN,
    .conns = 1000,
};

static void expect_done(const struct limits_cell *cell)
{
    cr_expect_eq(weir__limits_cell_at(machine_root, cell, text, sizeof(text)), 0, "%s", text);
    cr_expect_str_eq(text, "");
}

static void expect_reason(const struct limits_cell *cell, const char *begin)
{
    cr_expect_eq(weir__limits_cell_at(machine_root, cell, text, sizeof(text)), -ERANGE);
    cr_expect_eq(strncmp(text, begin, strlen(begin)), 0, "'%s'", text);
}

Test(cell, an_engine_of_the_runtime_can_do_any)
{
    struct limits_cell cell = {.engine = "uring", .workers = 2, .conns = 1000000};
    for (int shape = 0; shape < SHAPE_COUNT; shape++) {
        cell.shape = (enum shape_kind)shape;
        expect_done(&cell);
    }
}

Test(cell, connections_that_stay_are_at_most_the_workers_that_each_keeps)
{
    struct limits_cell cell = iterative;
    cell.shape = SHAPE_IDLE;
    expect_reason(&cell, "iterative: it serves 1 connection at once, each to its end, and 1000 "
                         "stay open: see --shape burst or churn");
    cr_expect(!strstr(text, "--workers"));
    cell.conns = 1;
    expect_done(&cell);
    expect_done(&pool);
    cell = pool;
    cell.conns = 9;
    expect_reason(&cell, "thread-pool: it serves 8 connections at once");
    cr_expect(strstr(text, "--workers"));
}

Test(cell, a_burst_fits_into_the_backlog_of_who_serves_one_at_a_time)
{
    struct limits_cell cell = iterative;
    cell.conns = 4097; /* one is served */
    expect_done(&cell);
    cell.conns = 10000;
    expect_reason(&cell, "iterative: backlog 4096 < 10000: it serves 1 at once, the others wait "
                         "there: sysctl -w net.core.somaxconn=9999");
    cell.traits &= ~(unsigned)WEIR_MODEL_HOLDS_WORKER; /* who accepts all needs no backlog */
    expect_done(&cell);
}

Test(cell, a_backlog_asked_for_counts_where_it_is_shorter)
{
    struct limits_cell cell = iterative;
    cell.backlog = 999;
    expect_done(&cell);
    cell.backlog = 998;
    expect_reason(&cell, "iterative: backlog 998 < 1000: ");
    cr_expect(strstr(text, "--backlog 999"), "'%s'", text);
    cell.conns = 5000;
    cell.backlog = 100000;
    expect_reason(&cell, "iterative: backlog 4096 < 5000: ");
    cr_expect(strstr(text, "net.core.somaxconn=4999"), "'%s'", text);
}

Test(cell, each_listener_of_a_shared_port_has_a_backlog)
{
    struct limits_cell cell = pool;
    cell.shape = SHAPE_BURST;
    cell.conns = 5000;
    expect_reason(&cell, "thread-pool: backlog 4096 < 5000: it serves 8 at once");
    cell.traits |= WEIR_MODEL_REUSEPORT;
    expect_done(&cell);
}

Test(cell, an_unknown_backlog_is_no_reason)
{
    struct limits_cell cell = iterative;
    cell.conns = 10000;
    machine_remove("proc/sys/net/core/somaxconn");
    expect_done(&cell);
}

Test(cell, a_thread_for_each_connection_needs_threads_mappings_and_address_space)
{
    struct limits_cell cell = thread;
    expect_done(&cell);
    cell.conns = 10000;
    machine_write("proc/sys/vm/overcommit_memory", "2\n");
    expect_reason(&cell, "thread: 10000 threads need 1.7 GiB of address space (CommitLimit), "
                         "have 293.0 MiB: sysctl -w vm.overcommit_memory=0");
    machine_write("proc/sys/vm/overcommit_memory", "0\n");
    expect_done(&cell);
    machine_write("proc/sys/vm/max_map_count", "20000\n");
    expect_reason(&cell, "thread: 10000 threads need 21024 of vm.max_map_count, have 20000: ");
    machine_write("proc/sys/vm/max_map_count", "65530\n");
    machine_write("proc/sys/kernel/threads-max", "5000\n");
    expect_reason(&cell, "thread: 10000 threads need 10064 of kernel.threads-max, have 4900: ");
}

Test(cell, threads_of_models_have_small_stacks_and_those_of_shards_the_default)
{
    struct limits_cell cell = pool;
    cell.workers = 100;
    machine_write("proc/sys/vm/overcommit_memory", "2\n");
    expect_done(&cell);
    cell.engine = "epoll-shards";
    cell.traits = WEIR_MODEL_POOL | WEIR_MODEL_REUSEPORT;
    expect_reason(&cell, "epoll-shards: 100 threads need ");
    cr_expect(strstr(text, "of address space (CommitLimit), have 293.0 MiB"), "'%s'", text);
}

Test(cell, a_process_for_each_connection_needs_pids_and_memory)
{
    struct limits_cell cell = forks;
    expect_done(&cell);
    machine_write("sys/fs/cgroup/a/pids.max", "512\n");
    expect_reason(&cell, "fork: 1000 processes need 1064 of cgroup pids.max, have 512: ");
    machine_remove("sys/fs/cgroup/a/pids.max");
    machine_write("proc/sys/kernel/pid_max", "1000\n");
    expect_reason(&cell, "fork: 1000 processes need 1064 of kernel.pid_max, have 900: ");
    cell.conns = 10000;
    expect_reason(&cell, "fork: 10000 processes need 1.2 GiB of memory, have 1.0 GiB: ");
}

Test(cell, a_pool_is_checked_where_the_connections_are_not_known)
{
    struct limits_cell cell = pool;
    cell.conns = 0;
    expect_done(&cell);
    cell.workers = 100000;
    expect_reason(&cell, "thread-pool: 100000 threads need ");
    cell = thread;
    cell.conns = 0;
    expect_done(&cell);
}
