/* Which features are granted, forced off and forced on; and opens that fail. Mirrors uring/setup.c.
 */
#include "harness.h"
#include "seccomp.h"
#include "uring/internal.h"

#include <fcntl.h>
#include <dirent.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static struct fixture fixture;

static uint64_t granted(uint64_t off, uint64_t on)
{
    fixture_open(&fixture,
                 (struct fixture_options){.engine = {.features_off = off, .features_on = on}});
    uint64_t features = fixture.engine->ops->features(fixture.engine);
    fixture_close(&fixture);
    return features;
}

/* Opens what is expected to fail. Nothing must be left behind. */
static int open_failing(uint64_t off, uint64_t on, char why[256])
{
    struct weir__engine *engine;
    struct weir__engine_options options = {.features_off = off, .features_on = on};
    cr_assert_eq(weir__buf_pool_init(&fixture.pool, 64, 1024), 0);
    fixture.env = (struct weir__engine_env){.bufs = &fixture.pool};
    why[0] = 0;
    int error = weir__engine_uring.open(&engine, &fixture.env, &options, why, 256);
    cr_assert_lt(error, 0);
    cr_assert(why[0] != 0 && !strchr(why, '\n'), "'%s'", why);
    cr_assert_eq(fixture.pool.free_count, fixture.pool.count);
    weir__buf_pool_deinit(&fixture.pool);
    return error;
}

static void says(const char *why, const char *what)
{
    cr_assert(strstr(why, what), "'%s' says nothing of '%s'", why, what);
}

static int descriptors(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    cr_assert_not_null(folder);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

Test(setup, every_feature_has_a_name)
{
    int count = 0;
    for (; weir__engine_uring.feature_names[count]; count++)
        for (int i = 0; i < count; i++)
            cr_assert_str_neq(weir__engine_uring.feature_names[i],
                              weir__engine_uring.feature_names[count]);
    cr_assert_eq(count, WEIR__URING_FEATURES);
}

Test(setup, each_feature_can_be_forced_off_alone)
{
    uint64_t all = granted(0, 0);
    for (int bit = 0; bit < WEIR__URING_FEATURES; bit++) {
        uint64_t features = granted(UINT64_C(1) << bit, 0);
        cr_assert_eq(features & UINT64_C(1) << bit, 0, "%s", weir__engine_uring.feature_names[bit]);
    }
    cr_assert_eq(granted(0, 0), all);
}

Test(setup, nothing_is_granted_when_all_is_forced_off)
{
    cr_assert_eq(granted(~UINT64_C(0), 0), 0);
}

Test(setup, whatever_is_granted_can_be_forced_on)
{
    uint64_t all = granted(0, 0);
    cr_assert_eq(granted(0, all) & all, all);
}

Test(setup, the_weaker_of_two_tiers_can_be_forced_on)
{
    uint64_t features = granted(0, WEIR__URING_BIT(COOP_TASKRUN));
    cr_assert(features & WEIR__URING_BIT(COOP_TASKRUN));
    cr_assert_eq(features & WEIR__URING_BIT(DEFER_TASKRUN), 0);
}

Test(setup, the_submission_thread_is_there_only_when_asked_for)
{
    cr_assert_eq(granted(0, 0) & WEIR__URING_BIT(SQPOLL), 0);
    uint64_t features = granted(0, WEIR__URING_BIT(SQPOLL));
    cr_assert(features & WEIR__URING_BIT(SQPOLL));
    cr_assert_eq(features & WEIR__URING_BIT(DEFER_TASKRUN), 0);
}

Test(setup, what_does_not_go_together_is_refused_by_name)
{
    char why[256];
    granted(0, 0);
    uint64_t both = WEIR__URING_BIT(SQPOLL) | WEIR__URING_BIT(DEFER_TASKRUN);
    cr_assert_eq(open_failing(0, both, why), -EOPNOTSUPP);
    says(why, "defer_taskrun");
    says(why, "sqpoll");
    cr_assert_eq(open_failing(WEIR__URING_BIT(BUFFER_RING), WEIR__URING_BIT(MULTISHOT_RECV), why),
                 -EOPNOTSUPP);
    says(why, "multishot_recv");
    cr_assert_eq(open_failing(WEIR__URING_BIT(CQE_SKIP), WEIR__URING_BIT(CQE_SKIP), why),
                 -EOPNOTSUPP);
    says(why, "both forced on and forced off");
    cr_assert_eq(open_failing(0, UINT64_C(1) << 60, why), -EOPNOTSUPP);
    says(why, "unknown");
}

Test(setup, a_failed_open_leaves_no_descriptor)
{
    char why[256];
    granted(0, 0);
    int before = descriptors();
    open_failing(0, UINT64_C(1) << 60, why);
    open_failing(~UINT64_C(0), 1, why);
    cr_assert_eq(descriptors(), before);
}

Test(setup, opening_and_closing_leaves_no_descriptor)
{
    granted(0, 0);
    int before = descriptors();
    for (size_t i = 0; i < tiers_count; i++)
        granted(tiers[i].off, tiers[i].on);
    cr_assert_eq(descriptors(), before);
}

/* ---- the kernel says no --------------------------------------------------------------------- */

Test(setup, forbidden_by_seccomp_the_filter_is_named)
{
    char why[256];
    seccomp_fail(__NR_io_uring_setup, EPERM, SECCOMP_ANY, 0);
    cr_assert_eq(open_failing(0, 0, why), -EPERM);
    says(why, "io_uring_setup: EPERM");
    says(why, "seccomp");
    says(why, "epoll");
}

Test(setup, hidden_by_seccomp_the_filter_and_the_kernel_are_named)
{
    char why[256];
    seccomp_fail(__NR_io_uring_setup, ENOSYS, SECCOMP_ANY, 0);
    cr_assert_eq(open_failing(0, 0, why), -ENOSYS);
    says(why, "seccomp");
    says(why, "5.11");
}

Test(setup, refused_ring_memory_names_the_limit)
{
    char why[256];
    struct rlimit limit = {1 << 20, 1 << 20};
    setrlimit(RLIMIT_MEMLOCK, &limit);
    seccomp_fail(__NR_io_uring_setup, ENOMEM, SECCOMP_ANY, 0);
    cr_assert_eq(open_failing(0, 0, why), -ENOMEM);
    says(why, "ENOMEM");
    says(why, "1024 KiB");
    says(why, "ulimit -l");
}

/* Rings of 1024, 512, 256 and 128 entries are refused, one of 64 is not. */
Test(setup, short_of_ring_memory_a_smaller_ring_serves)
{
    char why[256];
    seccomp_fail(__NR_io_uring_setup, ENOMEM, 0, ~UINT32_C(127));
    granted(0, 0);
    seccomp_fail(__NR_io_uring_setup, ENOMEM, 0, ~UINT32_C(63));
    cr_assert_eq(open_failing(0, 0, why), -ENOMEM);
}

Test(setup, without_a_descriptor_left_the_limit_is_named)
{
    char why[256];
    granted(0, 0);
    struct rlimit old, none = {0};
    getrlimit(RLIMIT_NOFILE, &old);
    none.rlim_max = old.rlim_max;
    setrlimit(RLIMIT_NOFILE, &none);
    int error = open_failing(0, 0, why);
    setrlimit(RLIMIT_NOFILE, &old);
    cr_assert_eq(error, -EMFILE);
    says(why, "EMFILE");
    says(why, "ulimit -n");
}

Test(setup, a_kernel_that_cannot_probe_is_too_old)
{
    char why[256];
    granted(0, 0); /* skips where there is none */
    seccomp_fail(__NR_io_uring_register, EINVAL, SECCOMP_ANY, 0);
    cr_assert_eq(open_failing(0, 0, why), -ENOSYS);
    says(why, "too old");
    says(why, "5.11");
}

/* Registration opcodes refused one by one, as older kernels do: the open steps down and serves. */
static void serves_without_registering(unsigned opcode_bits)
{
    seccomp_fail(__NR_io_uring_register, EINVAL, 1, opcode_bits);
    uint64_t features = granted(0, 0);
    cr_assert_eq(features & (WEIR__URING_BIT(BUFFER_RING) | WEIR__URING_BIT(MULTISHOT_RECV) |
                             WEIR__URING_BIT(MSG_RING_SYNC) | WEIR__URING_BIT(REGISTERED_RING)),
                 0);
}

Test(setup, a_kernel_without_buffer_rings_is_served_without)
{
    /* 20 to 31: ring descriptors, buffer rings, messages without a ring; the probe is 8. */
    serves_without_registering(16);
}

/* Set-up flags refused, as by old kernels, the newest first. Argument 1 of io_uring_setup is a
 * pointer, which a filter cannot follow: so the ladder is walked by forcing. */
Test(setup, each_rung_of_the_ladder_serves)
{
    uint64_t off = 0;
    static const uint64_t rungs[] = {
        WEIR__URING_BIT(NO_SQARRAY),    WEIR__URING_BIT(DEFER_TASKRUN),
        WEIR__URING_BIT(SINGLE_ISSUER), WEIR__URING_BIT(COOP_TASKRUN),
        WEIR__URING_BIT(SUBMIT_ALL),
    };
    for (size_t i = 0; i < sizeof rungs / sizeof rungs[0]; i++) {
        off |= rungs[i];
        cr_assert_eq(granted(off, 0) & off, 0);
    }
}

/* What one says whose newest operation is `last`. */
static const struct io_uring_probe *kernel_until(unsigned last)
{
    _Alignas(struct io_uring_probe) static uint8_t
        memory[sizeof(struct io_uring_probe) + 64 * sizeof(struct io_uring_probe_op)];
    struct io_uring_probe *kernel = (struct io_uring_probe *)memory;
    memset(memory, 0, sizeof memory);
    kernel->last_op = (uint8_t)last;
    kernel->ops_len = (uint8_t)(last + 1);
    for (unsigned op = 0; op <= last; op++)
        kernel->ops[op].flags = IO_URING_OP_SUPPORTED;
    return kernel;
}

static int counts_partial_sends(unsigned last)
{
    return weir__uring_counts_partial_sends(kernel_until(last));
}

Test(setup, a_kernel_that_forgets_what_it_sent_gets_no_quiet_sends)
{
    cr_assert(counts_partial_sends(39), "Linux 5.17");
    cr_assert(counts_partial_sends(40), "Linux 5.18");
    cr_assert_not(counts_partial_sends(46), "Linux 5.19");
    cr_assert_not(counts_partial_sends(47), "Linux 6.0");
    cr_assert(counts_partial_sends(48), "Linux 6.1");
    if (granted(0, 0) & WEIR__URING_BIT(MSG_RING_SYNC)) /* Linux 6.13 */
        cr_assert(granted(0, 0) & WEIR__URING_BIT(QUIET_SENDS));
}

Test(setup, an_older_kernel_leaves_what_it_cannot_do_to_files_to_the_helper_threads)
{
    uint32_t all = (1u << WEIR__FILE_CODES) - 1, mkdir = 1u << WEIR__FILE_MKDIR;
    uint32_t truncate = 1u << WEIR__FILE_TRUNCATE;
    cr_assert_eq(weir__uring_file_codes(kernel_until(36)), all & ~truncate & ~mkdir, "Linux 5.11");
    cr_assert_eq(weir__uring_file_codes(kernel_until(39)), all & ~truncate, "Linux 5.15");
    cr_assert_eq(weir__uring_file_codes(kernel_until(55)), all, "Linux 6.9");
}

/* What a refused probe is not told of, it would not be served with. */
Test(setup, short_of_memory_for_a_moment_a_probe_asks_again, .timeout = 20)
{
    uint64_t all = granted(0, 0);
    seccomp_fail_times(__NR_io_uring_enter, EAGAIN, 1, UINT32_MAX, 3); /* to_submit > 0 */
    cr_assert_eq(granted(0, 0), all);
}

Test(setup, short_of_memory_for_long_a_probe_gives_up, .timeout = 20)
{
    granted(0, 0);
    seccomp_fail(__NR_io_uring_enter, ENOMEM, 1, UINT32_MAX);
    uint64_t probed = WEIR__URING_BIT(MULTISHOT_ACCEPT) | WEIR__URING_BIT(MULTISHOT_RECV);
    fixture_open(&fixture, (struct fixture_options){0});
    cr_assert_eq(fixture.engine->ops->features(fixture.engine) & probed, 0);
}

Test(setup, a_ring_as_large_as_asked_for_is_clamped_to_what_the_kernel_allows)
{
    fixture_open(&fixture,
                 (struct fixture_options){.engine = {.conns_max = 1000000, .ring_bufs = 1000000}});
    cr_assert_eq(turn_now(&fixture), 0);
    fixture_close(&fixture);
}
