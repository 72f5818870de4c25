/* Choosing an engine: specs and what is said of bad ones; and `auto` where io_uring is forbidden.
 */
#include <criterion/criterion.h>

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <weir/weir.h>

#include "config.h"
#include "core/spec.h"

static int open_spec(const char *engine, struct weir_loop **loop, char why[512])
{
    struct weir_loop_options options = {.engine = engine};
    *why = 0;
    return weir_loop_new(loop, &options, why, 512);
}

static void refuses(const char *engine, const char *const *parts)
{
    struct weir_loop *loop;
    char why[512];
    int result = open_spec(engine, &loop, why);
    cr_assert_eq(result, -EINVAL, "%s: %d", engine, result);
    cr_assert_null(loop);
    for (; *parts; parts++)
        cr_assert(strstr(why, *parts), "%s: \"%s\" is not in: %s", engine, *parts, why);
}

#define REFUSES(engine, ...) refuses(engine, (const char *const[]){__VA_ARGS__, NULL})

Test(spec, every_engine_of_the_table_has_a_name_and_a_summary)
{
    const char *const *names = weir_engines();
    cr_assert_not_null(names[0]);
    for (; *names; names++) {
        cr_assert(weir_engine_summary(*names)[0]);
        struct weir__spec spec;
        char why[256];
        cr_assert_eq(weir__spec_parse(&spec, *names, why, sizeof why), 0);
        cr_assert_str_eq(spec.ops->name, *names);
    }
    cr_assert_null(weir_engine_summary("no-such"));
    cr_assert_null(weir_engine_features("no-such"));
    cr_assert_null(weir_engine_summary(""));
}

Test(spec, an_unknown_engine_is_answered_with_all_there_are)
{
    REFUSES("epol", "epol", "auto", "epoll", "epoll-et", "poll", "select");
    for (const char *const *names = weir_engines(); *names; names++)
        REFUSES("no-such:per=burst", *names);
    REFUSES("", "auto");
    REFUSES("epoll ", "epoll");
}

Test(spec, who_gives_no_room_for_the_reason_gets_the_error)
{
    struct weir_loop_options options = {.engine = "nonsense"};
    struct weir_loop *loop;
    cr_assert_eq(weir_loop_new(&loop, &options, NULL, 0), -EINVAL);
    cr_assert_null(loop);
}

Test(spec, an_unknown_feature_is_answered_with_the_engines_own)
{
    for (const char *const *names = weir_engines(); *names; names++) {
        char text[128];
        snprintf(text, sizeof text, "%s:features=-no-such", *names);
        const char *const *features = weir_engine_features(*names);
        if (!features || !*features)
            REFUSES(text, "no-such", "none");
        for (; features && *features; features++)
            REFUSES(text, "no-such", *features);
    }
}

Test(spec, an_unknown_option_or_value_is_answered_with_the_valid_ones)
{
    REFUSES("epoll:speed=9", "speed", "per=", "features=", "ring_bufs=");
    REFUSES("epoll:per=request", "per=request", "burst", "connection");
    REFUSES("epoll:features=pwait2", "-name", "+name");
    REFUSES("epoll:ring_bufs=3", "ring_bufs=3", "power of two");
    REFUSES("epoll:ring_bufs=", "power of two");
    REFUSES("epoll:ring_bufs=65536", "power of two");
    REFUSES("epoll:", "per=");
    REFUSES("epoll:per=burst,", "per=");
    REFUSES("auto:features=-pwait2", "auto");
}

Test(spec, every_feature_can_be_forced_off_and_on_in_a_list)
{
    for (const char *const *names = weir_engines(); *names; names++) {
        const char *const *features = weir_engine_features(*names);
        for (unsigned i = 0; features && features[i]; i++) {
            char text[256], why[256];
            struct weir__spec spec;
            snprintf(text, sizeof text, "%s:per=connection,features=-%s,ring_bufs=64", *names,
                     features[i]);
            cr_assert_eq(weir__spec_parse(&spec, text, why, sizeof why), 0, "%s: %s", text, why);
            cr_assert_eq(spec.options.features_off, UINT64_C(1) << i);
            cr_assert_eq(spec.options.features_on, 0);
            cr_assert_eq(spec.options.ring_bufs, 64);
            cr_assert(spec.per_connection);
            snprintf(text, sizeof text, "%s:features=-%s,+%s", *names, features[0], features[i]);
            cr_assert_eq(weir__spec_parse(&spec, text, why, sizeof why), 0, "%s: %s", text, why);
            cr_assert_eq(spec.options.features_off, 1);
            cr_assert_eq(spec.options.features_on, UINT64_C(1) << i);
            cr_assert_not(spec.per_connection);
        }
    }
}

Test(spec, features_are_written_as_a_comma_list)
{
    const char *const *names = weir_engines();
    char text[512], one[64];
    for (; *names; names++) {
        const struct weir__engine_ops *ops = weir__spec_engine(*names, strlen(*names));
        weir__spec_features(ops, 0, text, sizeof text);
        cr_assert_str_eq(text, "");
        if (!ops->feature_names || !ops->feature_names[0])
            continue;
        weir__spec_features(ops, 1, one, sizeof one);
        cr_assert_str_eq(one, ops->feature_names[0]);
        weir__spec_features(ops, UINT64_MAX, text, sizeof text);
        cr_assert_eq(strncmp(text, one, strlen(one)), 0);
        cr_assert(strlen(text) < 512 - 1);
    }
}

/* Meson starts the conformance suite with each feature off; one that it does not know goes
 * untested. */
Test(spec, every_feature_of_io_uring_is_forced_off_by_a_conformance_run)
{
    const char *listed = getenv("WEIR_TEST_URING_FEATURES");
    const char *const *features = weir_engine_features("uring");
    if (!listed || !features)
        cr_skip("no list given, or no io_uring in this build");
    char text[1024], wanted[80];
    snprintf(text, sizeof text, ",%s,", listed);
    for (; *features; features++) {
        snprintf(wanted, sizeof wanted, ",%s,", *features);
        cr_assert(strstr(text, wanted), "%s is not in uring_features of tests/core/meson.build",
                  *features);
    }
}

/* ---- auto ------------------------------------------------------------------------------------ */

static void run_task(void *argument)
{
    cr_assert_eq(weir_sleep_until(weir_now_ns() + 100000), 0);
    ++*(int *)argument;
}

static void works(struct weir_loop *loop)
{
    int runs = 0;
    cr_assert_eq(weir_spawn(loop, NULL, run_task, &runs), 0);
    cr_assert_eq(weir_loop_run(loop), 0);
    cr_assert_eq(runs, 1);
    weir_loop_free(loop);
}

Test(spec, auto_takes_the_first_engine_that_works_and_says_which)
{
    struct weir_loop *loop;
    char why[512], wanted[64];
    cr_assert_eq(weir_loop_new(&loop, NULL, why, sizeof why), 0, "%s", why);
    snprintf(wanted, sizeof wanted, "using %s", weir_loop_engine(loop));
    cr_assert(strstr(weir_loop_engine_note(loop), wanted), "%s", weir_loop_engine_note(loop));
    cr_assert(weir_loop_per_burst(loop));
    works(loop);
    cr_assert_eq(open_spec("auto:per=connection", &loop, why), 0, "%s", why);
    cr_assert_not(weir_loop_per_burst(loop));
    works(loop);
}

static void forbid(int number, int error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static void auto_without_io_uring(int error, const char *name)
{
    struct weir_loop *loop;
    char why[512];
    if (!WEIR_HAVE_URING)
        cr_skip("no io_uring in this build");
    forbid(SYS_io_uring_setup, error);
    cr_assert_eq(open_spec("auto", &loop, why), 0, "%s", why);
    const char *note = weir_loop_engine_note(loop);
    cr_assert_str_eq(weir_loop_engine(loop), "epoll");
    cr_assert(strstr(note, "uring") && strstr(note, name) && strstr(note, "using epoll"), "%s",
              note);
    works(loop);
    int result = open_spec("uring", &loop, why);
    cr_assert_eq(result, -error, "%d: %s", result, why);
    cr_assert(strstr(why, name), "%s", why);
}

Test(spec, auto_falls_back_where_seccomp_forbids_io_uring)
{
    auto_without_io_uring(EPERM, "EPERM");
}

Test(spec, auto_falls_back_where_the_kernel_lacks_io_uring)
{
    auto_without_io_uring(ENOSYS, "ENOSYS");
}
