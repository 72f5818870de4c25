/*
 * The runner of the stand-in for Criterion: keeps the list of tests, runs each in a forked process
 * with a time limit, and reports TAP on stdout. Called by main() below, or by a suite's own.
 */
#include <criterion/criterion.h>

#include <errno.h>
#include <fnmatch.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SKIPPED = 77, FAILED = 1 };

/* What a test tells its parent beside its exit status. */
struct report {
    bool failed;
    bool skipped;
    char reason[256];
};

struct standin_run_options criterion_options;

static struct standin_test *tests;
static struct standin_suite *suites;
static struct report *report;
static const char *filter;
static int number;

/* LeakSanitizer asks this at the end of each process, where its search is most of what a small test
 * costs: WEIR_TEST_LEAKS=off is for programs that are run many times in other ways. */
int __lsan_is_turned_off(void) __attribute__((visibility("default")));
int __lsan_is_turned_off(void)
{
    const char *leaks = getenv("WEIR_TEST_LEAKS");

    return leaks && strcmp(leaks, "off") == 0;
}

void standin_add_test(struct standin_test *test)
{
    struct standin_test **at = &tests;

    /* In order of suite and name, as Criterion runs them. */
    while (*at != NULL &&
           (strcmp((*at)->suite, test->suite) < 0 ||
            (strcmp((*at)->suite, test->suite) == 0 && strcmp((*at)->name, test->name) < 0)))
        at = &(*at)->next;
    test->next = *at;
    *at = test;
}

void standin_add_suite(struct standin_suite *suite)
{
    suite->next = suites;
    suites = suite;
}

void standin_fail(bool fatal, const char *file, int line, const char *what, const char *format, ...)
{
    va_list arguments;

    report->failed = true;
    fprintf(stderr, "%s:%d: %s:", file, line, what);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    if (fatal)
        _exit(FAILED);
}

void standin_skip(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(report->reason, sizeof(report->reason), format, arguments);
    va_end(arguments);
    report->skipped = true;
    _exit(SKIPPED);
}

static struct standin_options suite_options(const char *name)
{
    for (struct standin_suite *suite = suites; suite != NULL; suite = suite->next)
        if (strcmp(suite->name, name) == 0)
            return suite->options;
    return (struct standin_options){0};
}

__attribute__((noreturn)) static void run_here(const struct standin_test *test, void *param)
{
    struct standin_options suite = suite_options(test->suite);
    void (*init)(void) = test->options.init != NULL ? test->options.init : suite.init;
    void (*fini)(void) = test->options.fini != NULL ? test->options.fini : suite.fini;

    if (init != NULL)
        init();
    if (test->run != NULL)
        test->run();
    else
        test->run_with(param);
    if (fini != NULL)
        fini();
    /* By exit, not _exit: sanitizers report what they found at the end. */
    exit(report->failed ? FAILED : 0);
}

static double seconds_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* 0, or -ETIME: then it was killed. */
static int wait_for(pid_t pid, double timeout, int *status)
{
    double deadline = seconds_now() + timeout;
    struct timespec nap = {.tv_nsec = 200000};

    for (;;) {
        pid_t done = waitpid(pid, status, timeout > 0 ? WNOHANG : 0);

        if (done == pid)
            return 0;
        if (done == 0 && seconds_now() > deadline) {
            kill(pid, SIGKILL);
            waitpid(pid, status, 0);
            return -ETIME;
        }
        nanosleep(&nap, NULL);
        if (nap.tv_nsec < 5000000)
            nap.tv_nsec *= 2;
    }
}

/* Why the test failed, in `why`; 1 if it did, 0 if not. */
static int judge(const struct standin_options *options, int status, char *why, size_t why_bytes)
{
    if (report->failed) {
        snprintf(why, why_bytes, "an assertion failed");
        return 1;
    }
    if (WIFSIGNALED(status)) {
        snprintf(why, why_bytes, "signal %d: %s", WTERMSIG(status), strsignal(WTERMSIG(status)));
        return WTERMSIG(status) != options->signal;
    }
    snprintf(why, why_bytes, "exit %d%s", WEXITSTATUS(status),
             options->signal != 0 ? ", and not the signal that was due" : "");
    return options->signal != 0 || WEXITSTATUS(status) != options->exit_code;
}

static int run_one(const struct standin_test *test, void *param, size_t param_index)
{
    double suite_timeout = suite_options(test->suite).timeout;
    double timeout = test->options.timeout > 0 ? test->options.timeout
                     : suite_timeout > 0       ? suite_timeout
                                               : criterion_options.timeout;
    double began = seconds_now();
    char why[128] = "";
    char which[32] = "";
    int status;

    memset(report, 0, sizeof(*report));
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        run_here(test, param);
    int failed = 1;
    if (pid < 0)
        snprintf(why, sizeof(why), "fork: %s", strerror(errno));
    else if (wait_for(pid, timeout, &status) < 0)
        snprintf(why, sizeof(why), "not done in %g s", timeout);
    else if (report->skipped)
        failed = 0;
    else
        failed = judge(&test->options, status, why, sizeof(why));
    if (param != NULL)
        snprintf(which, sizeof(which), " [%zu]", param_index);
    printf("%sok %d - %s::%s%s  (%.2fs)", failed ? "not " : "", ++number, test->suite, test->name,
           which, seconds_now() - began);
    printf("%s%s\n", report->skipped ? " # SKIP" : "", report->skipped ? report->reason : "");
    if (failed)
        printf("# %s\n", why);
    return failed;
}

static int run_test(const struct standin_test *test)
{
    int failures = 0;

    if (test->params == NULL)
        return run_one(test, NULL, 0);
    struct criterion_test_params params = test->params();
    for (size_t i = 0; i < params.length; i++)
        failures += run_one(test, (char *)params.params + i * params.size, i);
    if (params.cleanup != NULL)
        params.cleanup(&params);
    return failures;
}

static bool chosen(const struct standin_test *test)
{
    char name[256];

    snprintf(name, sizeof(name), "%s/%s", test->suite, test->name);
    return !test->options.disabled && (filter == NULL || fnmatch(filter, name, 0) == 0);
}

struct criterion_test_set *criterion_initialize(void)
{
    report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (report == MAP_FAILED) {
        perror("mmap");
        exit(FAILED);
    }
    return NULL;
}

/* 1 if the tests are to be run. Options that change nothing here are taken and ignored. */
int criterion_handle_args(int count, char **arguments, bool handle_unknown)
{
    (void)handle_unknown;
    for (int i = 1; i < count; i++) {
        if (strncmp(arguments[i], "--filter=", 9) == 0)
            filter = arguments[i] + 9;
        else if (strcmp(arguments[i], "--filter") == 0 && i + 1 < count)
            filter = arguments[++i];
        if (strcmp(arguments[i], "--list") == 0) {
            for (struct standin_test *test = tests; test != NULL; test = test->next)
                printf("%s/%s\n", test->suite, test->name);
            return 0;
        }
    }
    return 1;
}

/* 1 if none failed. */
int criterion_run_all_tests(struct criterion_test_set *set)
{
    int failures = 0;

    (void)set;
    printf("TAP version 13\n");
    for (struct standin_test *test = tests; test != NULL; test = test->next)
        if (chosen(test))
            failures += run_test(test);
    printf("1..%d\n", number);
    fflush(stdout);
    return failures == 0;
}

void criterion_finalize(struct criterion_test_set *set)
{
    (void)set;
    munmap(report, sizeof(*report));
}

__attribute__((weak)) int main(int count, char **arguments)
{
    struct criterion_test_set *set = criterion_initialize();
    int failed = 0;

    if (criterion_handle_args(count, arguments, true))
        failed = !criterion_run_all_tests(set);
    criterion_finalize(set);
    return failed;
}
