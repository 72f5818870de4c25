/* coro/overflow.c: what a child process that runs out of a coroutine's stack says and dies of. */
#include "internal.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weir/coro.h>

TestSuite(overflow, .timeout = 60);

struct death {
    char said[4096]; /* on stderr */
    int signal;      /* it died of; 0 for an exit */
    int exit_code;
};

static void silence_core_dump(void)
{
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
}

/* Runs `child` in a process of its own. */
static struct death watch(void (*child)(void *arg), void *arg)
{
    struct death d = {.exit_code = -1};
    int out[2], status;
    cr_assert_eq(pipe(out), 0);
    fflush(NULL);
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        silence_core_dump();
        dup2(out[1], STDERR_FILENO);
        close(out[0]);
        close(out[1]);
        alarm(30);
        child(arg);
        _exit(0);
    }
    close(out[1]);
    size_t n = 0;
    ssize_t got;
    while (n < sizeof d.said - 1 && (got = read(out[0], d.said + n, sizeof d.said - 1 - n)) > 0)
        n += (size_t)got;
    close(out[0]);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status))
        d.signal = WTERMSIG(status);
    else
        d.exit_code = WEXITSTATUS(status);
    return d;
}

/* An emulator (qemu-user) takes the faults of the host's pages for its own. */
static void need_the_kernels_faults(void)
{
    if (getenv("WEIR_TEST_EMULATED") != NULL)
        cr_skip_test("an emulator does not hand on the faults of guard pages");
}

/* --- running out ----------------------------------------------------------------------------- */

static volatile size_t keep_frames;

/* Goes down to `low` in small frames, so that no gap is jumped over and nothing beyond is hit. */
static __attribute__((noinline)) void recurse(const char *low)
{
    volatile char frame[32];
    memset((char *)frame, 1, sizeof frame);
    if ((const char *)frame > low)
        recurse(low);
    keep_frames += (size_t)frame[0];
}

static void recurse_for_ever(void *arg)
{
    recurse(NULL);
}

static void exceed(void)
{
    struct weir_coro *self = weir_coro_self();
    recurse(self->canary_low - 100);
}

struct plan {
    enum weir_coro_guard guard;
    weir_coro_fn *fn;
    void *arg;
    size_t stack_bytes;
};

static void run_plan(void *arg)
{
    const struct plan *plan = arg;
    struct weir_coro_pool *pool;
    struct weir_coro *co;
    if (weir_coro_pool_new(&pool, &(struct weir_coro_options){.guard = plan->guard}) < 0)
        _exit(77);
    weir_coro_new_sized_at(pool, &co, plan->fn, plan->arg, plan->stack_bytes, "deep thinker",
                           "thoughts.c:42");
    weir_coro_resume(co, NULL);
}

static void expect_line(const struct death *d, const char *stack_bytes, const char *cure)
{
    const char *line = strstr(d->said, "weir: ");
    cr_assert_not_null(line, "said: %s", d->said);
    const char *end = strchr(line, '\n');
    cr_assert_not_null(end, "said: %s", d->said);
    static const char *const words[] = {"coroutine 'deep thinker'", "thoughts.c:42", "overflowed"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        const char *at = strstr(line, words[i]);
        cr_expect(at != NULL && at < end, "\"%s\" lacks: %s", words[i], line);
    }
    cr_expect_not_null(strstr(line, stack_bytes), "%s", line);
    cr_expect_not_null(strstr(line, cure), "%s", line);
    cr_expect_null(strstr(end, "weir: "), "one line, not two: %s", d->said);
}

Test(overflow, a_madvise_guard_reports_and_dies_of_the_fault)
{
    need_the_kernels_faults();
    struct plan plan = {WEIR_CORO_GUARD_MADVISE, recurse_for_ever, NULL, 0};
    struct death d = watch(run_plan, &plan);
    if (d.exit_code == 77)
        cr_skip_test("this kernel has no MADV_GUARD_INSTALL");
    cr_expect_eq(d.signal, SIGSEGV);
    expect_line(&d, "8192 bytes", "weir_coro_new_sized");
}

Test(overflow, an_mprotect_guard_reports_and_dies_of_the_fault)
{
    struct plan plan = {WEIR_CORO_GUARD_MPROTECT, recurse_for_ever, NULL, 0};
    struct death d = watch(run_plan, &plan);
    cr_expect_eq(d.signal, SIGSEGV);
    expect_line(&d, "8192 bytes", "weir_coro_new_sized");
}

static void exceed_and_yield(void *arg)
{
    exceed();
    weir_coro_yield(NULL);
}

Test(overflow, a_canary_reports_at_the_next_yield_and_aborts)
{
    struct plan plan = {WEIR_CORO_GUARD_CANARY, exceed_and_yield, NULL, 0};
    struct death d = watch(run_plan, &plan);
    cr_expect_eq(d.signal, SIGABRT);
    expect_line(&d, "8192 bytes", "weir_coro_new_sized");
}

static void exceed_and_return(void *arg)
{
    exceed();
}

Test(overflow, a_canary_reports_at_the_return_too)
{
    struct plan plan = {WEIR_CORO_GUARD_CANARY, exceed_and_return, NULL, 0};
    struct death d = watch(run_plan, &plan);
    cr_expect_eq(d.signal, SIGABRT);
    expect_line(&d, "8192 bytes", "weir_coro_new_sized");
}

Test(overflow, a_larger_stack_is_reported_with_its_size)
{
    need_the_kernels_faults();
    struct plan plan = {WEIR_CORO_GUARD_AUTO, recurse_for_ever, NULL, 65536};
    struct death d = watch(run_plan, &plan);
    expect_line(&d, "65536 bytes", "weir_coro_new_sized");
}

static void call_deep(void *arg)
{
    weir_coro_call_deep(16384, recurse_for_ever, NULL);
}

Test(overflow, of_a_borrowed_stack_is_reported_as_such)
{
    need_the_kernels_faults();
    struct plan plan = {WEIR_CORO_GUARD_AUTO, call_deep, NULL, 0};
    struct death d = watch(run_plan, &plan);
    expect_line(&d, "16384 bytes", "weir_coro_call_deep");
}

static void *run_plan_in_thread(void *arg)
{
    run_plan(arg);
    return NULL;
}

static void start_thread(void *arg)
{
    pthread_t thread;
    pthread_create(&thread, NULL, run_plan_in_thread, arg);
    pthread_join(thread, NULL);
}

Test(overflow, in_another_thread_is_reported_too)
{
    need_the_kernels_faults();
    struct plan plan = {WEIR_CORO_GUARD_AUTO, recurse_for_ever, NULL, 0};
    struct death d = watch(start_thread, &plan);
    cr_expect_eq(d.signal, SIGSEGV);
    expect_line(&d, "8192 bytes", "weir_coro_new_sized");
}

/* --- faults that are not ours ----------------------------------------------------------------- */

/* In the first page, and not 0: UBSan ends the process before a store through a null pointer. */
#define FAULT_AT 64

static void say_and_exit(int signal, siginfo_t *info, void *context)
{
    static const char text[] = "the handler before\n";
    if ((uintptr_t)info->si_addr == FAULT_AT && write(STDERR_FILENO, text, sizeof text - 1) > 0)
        _exit(0);
    _exit(1);
}

static void fault_in_the_first_page(void *arg)
{
    (void)arg;
    static volatile uintptr_t at = FAULT_AT; /* the compiler is not to know */
    *(volatile int *)at = 1;
}

static void chained(void *arg)
{
    struct sigaction action = {.sa_sigaction = say_and_exit, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGSEGV, &action, NULL);
    struct plan plan = {WEIR_CORO_GUARD_AUTO, fault_in_the_first_page, NULL, 0};
    run_plan(&plan);
}

Test(overflow, another_fault_goes_to_the_handler_before)
{
    struct death d = watch(chained, NULL);
    cr_expect_not_null(strstr(d.said, "the handler before\n"), "signal %d, said: %s", d.signal,
                       d.said);
    cr_expect_null(strstr(d.said, "weir:"));
}

static void by_default(void *arg)
{
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
    struct plan plan = {WEIR_CORO_GUARD_AUTO, fault_in_the_first_page, NULL, 0};
    run_plan(&plan);
}

Test(overflow, another_fault_kills_where_nobody_handled_it)
{
    struct death d = watch(by_default, NULL);
    cr_expect_eq(d.signal, SIGSEGV);
    cr_expect_null(strstr(d.said, "weir:"), "said: %s", d.said);
}

static void be_sent_one(void *arg)
{
    signal(SIGBUS, SIG_DFL);
    struct weir_coro_pool *pool;
    weir_coro_pool_new(&pool, NULL);
    kill(getpid(), SIGBUS);
    sleep(5);
}

Test(overflow, a_signal_that_somebody_sent_kills_as_before)
{
    struct death d = watch(be_sent_one, NULL);
    cr_expect_eq(d.signal, SIGBUS, "exit %d", d.exit_code);
}

static void be_sent_one_ignored(void *arg)
{
    signal(SIGBUS, SIG_IGN);
    struct weir_coro_pool *pool;
    weir_coro_pool_new(&pool, NULL);
    kill(getpid(), SIGBUS);
    _exit(7);
}

Test(overflow, a_signal_that_somebody_sent_is_ignored_as_before)
{
    struct death d = watch(be_sent_one_ignored, NULL);
    cr_expect_eq(d.signal, 0);
    cr_expect_eq(d.exit_code, 7);
}

static void ignored_fault(void *arg)
{
    signal(SIGSEGV, SIG_IGN);
    struct plan plan = {WEIR_CORO_GUARD_AUTO, fault_in_the_first_page, NULL, 0};
    run_plan(&plan);
}

Test(overflow, another_fault_kills_though_it_was_ignored)
{
    struct death d = watch(ignored_fault, NULL);
    cr_expect_eq(d.signal, SIGSEGV);
}

/* --- the alternate stack ---------------------------------------------------------------------- */

Test(overflow, a_thread_gets_an_alternate_stack_and_loses_it_with_its_last_pool)
{
    stack_t off = {.ss_flags = SS_DISABLE}, now;
    sigaltstack(&off, NULL);
    struct weir_coro_pool *first, *second;
    weir_coro_pool_new(&first, NULL);
    weir_coro_pool_new(&second, NULL);
    sigaltstack(NULL, &now);
    cr_expect_not(now.ss_flags & SS_DISABLE);
    weir_coro_pool_free(first);
    sigaltstack(NULL, &now);
    cr_expect_not(now.ss_flags & SS_DISABLE);
    weir_coro_pool_free(second);
    sigaltstack(NULL, &now);
    cr_expect(now.ss_flags & SS_DISABLE);
}

Test(overflow, a_threads_own_alternate_stack_is_left_alone)
{
    static char mine[65536];
    stack_t set = {.ss_sp = mine, .ss_size = sizeof mine}, now;
    sigaltstack(&set, NULL);
    struct weir_coro_pool *pool;
    weir_coro_pool_new(&pool, NULL);
    sigaltstack(NULL, &now);
    cr_expect_eq(now.ss_sp, mine);
    weir_coro_pool_free(pool);
    sigaltstack(NULL, &now);
    cr_expect_eq(now.ss_sp, mine);
}
