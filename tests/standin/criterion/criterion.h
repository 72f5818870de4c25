/*
 * A stand-in for Criterion: the part of its interface that the suites use, so that the same tests
 * run where Criterion cannot. It cannot under ThreadSanitizer (its workers map their image at an
 * address that the sanitizer keeps for itself; Criterion issue 274), nor for another architecture,
 * where nobody packages it. Each test runs in a process of its own, forked, one after another; the
 * report is TAP. Chosen in the root meson.build; never installed.
 *
 * Differences that a test may notice: a failed assertion ends the process without .fini, and may
 * stand in any thread; --jobs is taken and ignored.
 */
#ifndef STANDIN_CRITERION_H
#define STANDIN_CRITERION_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct standin_options {
    int sentinel; /* so that a list of none is still an initializer */
    void (*init)(void);
    void (*fini)(void);
    double timeout; /* seconds; 0: the default of criterion_options */
    int signal;     /* the test is to die of it */
    int exit_code;  /* the test is to exit with it */
    bool disabled;
    const char *description;
};

struct criterion_test_params {
    size_t size;
    void *params;
    size_t length;
    void (*cleanup)(struct criterion_test_params *params);
};

struct standin_test {
    const char *suite;
    const char *name;
    void (*run)(void);
    void (*run_with)(void *param);
    struct criterion_test_params (*params)(void);
    struct standin_options options;
    struct standin_test *next;
};

struct standin_suite {
    const char *name;
    struct standin_options options;
    struct standin_suite *next;
};

void standin_add_test(struct standin_test *test);
void standin_add_suite(struct standin_suite *suite);

/* Ends the test if fatal, else notes that it failed. */
__attribute__((format(printf, 5, 6))) void standin_fail(bool fatal, const char *file, int line,
                                                        const char *what, const char *format, ...);
__attribute__((noreturn, format(printf, 1, 2))) void standin_skip(const char *format, ...);

/* ---- running: what a suite with a main() of its own calls ------------------------------------ */

struct criterion_test_set;

struct standin_run_options {
    double timeout; /* seconds for a test that names none; 0: none */
};
extern struct standin_run_options criterion_options;

struct criterion_test_set *criterion_initialize(void);
int criterion_handle_args(int count, char **arguments, bool handle_unknown);
int criterion_run_all_tests(struct criterion_test_set *set);
void criterion_finalize(struct criterion_test_set *set);

/* ---- defining tests -------------------------------------------------------------------------- */

#define STANDIN_ADD(Suite, Name)                                                                   \
    __attribute__((constructor)) static void standin_add_##Suite##_##Name(void)                    \
    {                                                                                              \
        standin_add_test(&standin_test_##Suite##_##Name);                                          \
    }

#define Test(Suite, Name, ...)                                                                     \
    static void standin_run_##Suite##_##Name(void);                                                \
    static struct standin_test standin_test_##Suite##_##Name = {                                   \
        .suite = #Suite,                                                                           \
        .name = #Name,                                                                             \
        .run = standin_run_##Suite##_##Name,                                                       \
        .options = {.sentinel = 0, ##__VA_ARGS__}};                                                \
    STANDIN_ADD(Suite, Name)                                                                       \
    static void standin_run_##Suite##_##Name(void)

#define TestSuite(Name, ...)                                                                       \
    static struct standin_suite standin_suite_##Name = {                                           \
        .name = #Name, .options = {.sentinel = 0, ##__VA_ARGS__}};                                 \
    __attribute__((constructor)) static void standin_add_suite_##Name(void)                        \
    {                                                                                              \
        standin_add_suite(&standin_suite_##Name);                                                  \
    }                                                                                              \
    struct standin_suite

/* ---- assertions ------------------------------------------------------------------------------ */

#define STANDIN_CHECK(Fatal, Condition, What, ...)                                                 \
    do {                                                                                           \
        if (!(Condition))                                                                          \
            standin_fail(Fatal, __FILE__, __LINE__, What, " " __VA_ARGS__);                        \
    } while (0)

#define cr_assert(C, ...)        STANDIN_CHECK(true, C, #C, ##__VA_ARGS__)
#define cr_expect(C, ...)        STANDIN_CHECK(false, C, #C, ##__VA_ARGS__)
#define cr_assert_not(C, ...)    STANDIN_CHECK(true, !(C), "!(" #C ")", ##__VA_ARGS__)
#define cr_expect_not(C, ...)    STANDIN_CHECK(false, !(C), "!(" #C ")", ##__VA_ARGS__)
#define cr_assert_fail(...)      standin_fail(true, __FILE__, __LINE__, "fail", " " __VA_ARGS__)
#define cr_expect_fail(...)      standin_fail(false, __FILE__, __LINE__, "fail", " " __VA_ARGS__)
#define cr_fatal                 cr_assert_fail
#define cr_fail                  cr_expect_fail
#define cr_skip_test(...)        standin_skip(" " __VA_ARGS__)
#define cr_skip                  cr_skip_test
#define cr_assert_null(P, ...)   STANDIN_CHECK(true, (P) == NULL, #P " == NULL", ##__VA_ARGS__)
#define cr_expect_null(P, ...)   STANDIN_CHECK(false, (P) == NULL, #P " == NULL", ##__VA_ARGS__)
#define cr_assert_not_null(P, ...)                                                                 \
    STANDIN_CHECK(true, (P) != NULL, #P " != NULL", ##__VA_ARGS__)
#define cr_expect_not_null(P, ...)                                                                 \
    STANDIN_CHECK(false, (P) != NULL, #P " != NULL", ##__VA_ARGS__)

#define STANDIN_COMPARE(Fatal, A, Operator, B, ...)                                                \
    STANDIN_CHECK(Fatal, (A)Operator(B), #A " " #Operator " " #B, ##__VA_ARGS__)
#define cr_assert_eq(A, B, ...)  STANDIN_COMPARE(true, A, ==, B, ##__VA_ARGS__)
#define cr_expect_eq(A, B, ...)  STANDIN_COMPARE(false, A, ==, B, ##__VA_ARGS__)
#define cr_assert_neq(A, B, ...) STANDIN_COMPARE(true, A, !=, B, ##__VA_ARGS__)
#define cr_expect_neq(A, B, ...) STANDIN_COMPARE(false, A, !=, B, ##__VA_ARGS__)
#define cr_assert_lt(A, B, ...)  STANDIN_COMPARE(true, A, <, B, ##__VA_ARGS__)
#define cr_expect_lt(A, B, ...)  STANDIN_COMPARE(false, A, <, B, ##__VA_ARGS__)
#define cr_assert_leq(A, B, ...) STANDIN_COMPARE(true, A, <=, B, ##__VA_ARGS__)
#define cr_expect_leq(A, B, ...) STANDIN_COMPARE(false, A, <=, B, ##__VA_ARGS__)
#define cr_assert_gt(A, B, ...)  STANDIN_COMPARE(true, A, >, B, ##__VA_ARGS__)
#define cr_expect_gt(A, B, ...)  STANDIN_COMPARE(false, A, >, B, ##__VA_ARGS__)
#define cr_assert_geq(A, B, ...) STANDIN_COMPARE(true, A, >=, B, ##__VA_ARGS__)
#define cr_expect_geq(A, B, ...) STANDIN_COMPARE(false, A, >=, B, ##__VA_ARGS__)

#define STANDIN_STRINGS(Fatal, A, Operator, B, ...)                                                \
    STANDIN_CHECK(Fatal, strcmp(A, B) Operator 0, #A " " #Operator " " #B, ##__VA_ARGS__)
#define cr_assert_str_eq(A, B, ...)  STANDIN_STRINGS(true, A, ==, B, ##__VA_ARGS__)
#define cr_expect_str_eq(A, B, ...)  STANDIN_STRINGS(false, A, ==, B, ##__VA_ARGS__)
#define cr_assert_str_neq(A, B, ...) STANDIN_STRINGS(true, A, !=, B, ##__VA_ARGS__)
#define cr_expect_str_neq(A, B, ...) STANDIN_STRINGS(false, A, !=, B, ##__VA_ARGS__)

#define STANDIN_ARRAYS(Fatal, A, B, Bytes, ...)                                                    \
    STANDIN_CHECK(Fatal, memcmp(A, B, Bytes) == 0, #A " == " #B, ##__VA_ARGS__)
#define cr_assert_arr_eq(A, B, Bytes, ...) STANDIN_ARRAYS(true, A, B, Bytes, ##__VA_ARGS__)
#define cr_expect_arr_eq(A, B, Bytes, ...) STANDIN_ARRAYS(false, A, B, Bytes, ##__VA_ARGS__)

#define STANDIN_FLOATS(Fatal, A, B, Epsilon, ...)                                                  \
    STANDIN_CHECK(Fatal, fabs((double)(A) - (double)(B)) <= (Epsilon), #A " == " #B, ##__VA_ARGS__)
#define cr_assert_float_eq(A, B, E, ...) STANDIN_FLOATS(true, A, B, E, ##__VA_ARGS__)
#define cr_expect_float_eq(A, B, E, ...) STANDIN_FLOATS(false, A, B, E, ##__VA_ARGS__)

/* Criterion's keep memory where its workers can see it; a forked test sees all of it. */
#define cr_malloc  malloc
#define cr_calloc  calloc
#define cr_realloc realloc
#define cr_free    free

#endif
