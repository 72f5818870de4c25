/* bench/memory.c on a /proc made up here, and on the real one. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/memory.h"

static char proc[64];

static void setup(void)
{
    strcpy(proc, "/tmp/weir-memory-XXXXXX");
    cr_assert_not_null(mkdtemp(proc));
}

static void teardown(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", proc);
    cr_assert_eq(system(command), 0);
}

TestSuite(memory, .init = setup, .fini = teardown);

static void put(const char *folder, const char *name, const char *text)
{
    char path[256];

    snprintf(path, sizeof path, "%s/%s", proc, folder);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/%s/%s", proc, folder, name);
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    fputs(text, file);
    fclose(file);
}

Test(memory, of_a_server_is_the_sum_of_its_processes)
{
    pid_t pids[] = {11, 12};

    put("11", "smaps_rollup", "5000-7000 ---p 0 00:00 0 [rollup]\nRss: 900 kB\nPss:   286 kB\n");
    put("12", "smaps_rollup", "Rss: 900 kB\nPss_Dirty: 7 kB\nPss:     14 kB\nPss_Anon: 3 kB\n");
    cr_assert_eq(weir__memory_user_at(proc, pids, 1), 286 * 1024);
    cr_assert_eq(weir__memory_user_at(proc, pids, 2), 300 * 1024);
}

Test(memory, of_a_process_that_cannot_be_read_is_unknown)
{
    pid_t pids[] = {11, 13};

    put("11", "smaps_rollup", "Pss:   286 kB\n");
    cr_assert(isnan(weir__memory_user_at(proc, pids, 2)));
    cr_assert(isnan(weir__memory_user_at(proc, pids, 0)));
    put("13", "smaps_rollup", "nothing\n");
    cr_assert(isnan(weir__memory_user_at(proc, pids, 2)));
}

static const char slabinfo[] =
    "slabinfo - version: 2.1\n"
    "# name  <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> "
    "<batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>\n"
    "TCP        10   26   2432   13    8 : tunables    0    0    0 : slabdata      2      3      "
    "0\n"
    "dentry    100  105    192   21    1 : tunables    0    0    0 : slabdata      5      6      "
    "0\n";

static struct memory_reading reading;

Test(memory, of_the_kernel_is_the_share_of_pages_of_what_is_in_use)
{
    double page = (double)sysconf(_SC_PAGESIZE);

    put(".", "slabinfo", slabinfo);
    put(".", "meminfo", "MemTotal: 9 kB\nSlab:    77 kB\nSReclaimable:  7 kB\n");
    cr_assert_float_eq(weir__memory_slab_at(proc, &reading), (10 / 13. * 8 + 100 / 21.) * page, 1);
    cr_assert_eq(reading.cache_count, 2);
    cr_assert_str_eq(reading.caches[1].name, "dentry");
    cr_assert_float_eq(reading.caches[1].bytes, 100 / 21. * page, 1);
}

Test(memory, of_the_kernel_is_what_meminfo_says_where_slabs_cannot_be_read)
{
    put(".", "meminfo", "MemTotal: 9 kB\nSlab:    77 kB\nSReclaimable:  7 kB\n");
    cr_assert_eq(weir__memory_slab_at(proc, &reading), 77 * 1024);
    cr_assert_eq(reading.cache_count, 0, "they are not told apart");
}

Test(memory, of_the_kernel_is_unknown_where_nothing_can_be_read)
{
    cr_assert(isnan(weir__memory_slab_at(proc, &reading)));
    cr_assert(isnan(weir__memory_sockets_at(proc)));
}

Test(memory, of_sockets_is_tcp_s_and_not_udp_s)
{
    put("net", "sockstat",
        "sockets: used 31\nTCP: inuse 2 orphan 0 tw 5 alloc 2 mem 3\nUDP: inuse 0 mem 9\n");
    cr_assert_eq(weir__memory_sockets_at(proc), 3 * (double)sysconf(_SC_PAGESIZE));
}

Test(memory, of_a_connection_is_the_growth_divided)
{
    static struct memory_reading before = {1000, 50000, 200, 0, .cache_count = 0},
                                 after = {9000, 140000, 900, 4000, .cache_count = 0};
    struct memory_per_conn each = weir__memory_per_conn(&before, &after, 10);

    cr_assert_eq(each.user, 800);
    cr_assert_eq(each.kernel, 9000);
    cr_assert_eq(each.kernel_uncertainty, 20, "of the time before: then nothing was opened");
    cr_assert_eq(each.sockets, 400);
    cr_assert(isnan(each.io_uring) && isnan(each.files), "only the total was read");
}

/* Adds a cache to both; `before` tells how it drifted, too. */
static void grow(struct memory_reading *before, struct memory_reading *after, const char *name,
                 double from, double to, double drift)
{
    struct memory_cache *one = &before->caches[before->cache_count++];
    struct memory_cache *other = &after->caches[after->cache_count++];

    strcpy(one->name, name);
    strcpy(other->name, name);
    one->bytes = from;
    one->drift = drift;
    other->bytes = to;
    before->slab += from;
    after->slab += to;
}

Test(memory, of_a_connection_is_told_apart_by_the_caches_that_grew)
{
    static struct memory_reading before, after;

    grow(&before, &after, "dentry", 1000, 4000, 0);
    grow(&before, &after, "io_kiocb", 0, 2560, 0);
    grow(&before, &after, "kmalloc-512", 5120, 10240, 0);
    grow(&before, &after, "TCP", 0, 50000, 0);
    grow(&before, &after, "vm_area_struct", 700, 800, 100);
    grow(&before, &after, "filp", 900, 600, 0);
    struct memory_per_conn each = weir__memory_per_conn(&before, &after, 10);
    cr_assert_eq(each.io_uring, 256 + 512);
    cr_assert_eq(each.files, 300 + 5000 - 30);
    cr_assert_eq(each.kernel, each.io_uring + each.files + 10);
    cr_assert_eq(each.grown_count, 4, "neither what shrank nor what drifts anyway");
    cr_assert_str_eq(each.grown[0].name, "TCP");
    cr_assert_eq(each.grown[0].bytes, 5000);
    cr_assert_str_eq(each.grown[1].name, "kmalloc-512");
    cr_assert_str_eq(each.grown[2].name, "dentry");
    cr_assert_str_eq(each.grown[3].name, "io_kiocb");
}

Test(memory, of_a_connection_without_a_request_is_not_io_uring_s)
{
    static struct memory_reading before, after;

    grow(&before, &after, "io_kiocb", 2560, 2560, 0);
    grow(&before, &after, "kmalloc-192", 0, 590, 0);
    struct memory_per_conn each = weir__memory_per_conn(&before, &after, 10);
    cr_assert_eq(each.io_uring, 0);
    cr_assert_eq(each.kernel, 59);
}

Test(memory, of_a_connection_names_the_caches_that_grew_most_where_they_are_many)
{
    static struct memory_reading before, after;
    char name[MEMORY_NAME_BYTES];

    for (int i = 0; i < 3 * MEMORY_GROWN; i++) {
        snprintf(name, sizeof name, "cache%d", i);
        grow(&before, &after, name, 0, 1000 + 100.0 * (i * 7 % (3 * MEMORY_GROWN)), 0);
    }
    struct memory_per_conn each = weir__memory_per_conn(&before, &after, 10);
    cr_assert_eq(each.grown_count, MEMORY_GROWN);
    for (int i = 0; i < MEMORY_GROWN; i++)
        cr_assert_eq(each.grown[i].bytes, 100 + 10.0 * (3 * MEMORY_GROWN - 1 - i));
}

Test(memory, of_a_connection_that_is_lost_in_the_drift_is_unknown)
{
    static struct memory_reading before = {1000, 50000, 200, 8000, .cache_count = 0},
                                 after = {9000, 50150, 100, 4000, .cache_count = 0};
    struct memory_per_conn each = weir__memory_per_conn(&before, &after, 10);

    cr_assert(isnan(each.kernel));
    cr_assert_eq(each.kernel_uncertainty, 20);
    cr_assert(isnan(each.sockets), "others gave theirs back meanwhile");
    before.slab = NAN;
    cr_assert(isnan(weir__memory_per_conn(&before, &after, 10).kernel));
}

Test(memory, of_this_process_grows_with_what_it_writes_to)
{
    const size_t bytes = 16u << 20;
    pid_t self = getpid();
    struct memory_reading before, after;

    weir__memory_read(&self, 1, 1, &before);
    void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(map, MAP_FAILED);
    memset(map, 1, bytes);
    weir__memory_read(&self, 1, 1, &after);
    if (isnan(before.user))
        cr_skip_test("this kernel has no smaps_rollup");
    cr_assert_geq(weir__memory_per_conn(&before, &after, 1).user, (double)bytes * 0.9);
    cr_assert(before.slab > 0 && before.slab_drift >= 0);
    munmap(map, bytes);
}
