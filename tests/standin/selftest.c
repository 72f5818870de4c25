/*
 * Tests that pass, fail, skip, crash and hang on purpose: what tests/standin says of each is
 * checked by selftest.py, which runs this.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <criterion/parameterized.h>

#include <signal.h>
#include <unistd.h>

static int prepared;

static void prepare(void)
{
    prepared = 7;
}

static void forbid(void)
{
    _exit(prepared == 7 ? 3 : 4);
}

TestSuite(suite, .init = prepare);

Test(suite, a_passes)
{
    cr_assert_eq(prepared, 7);
    cr_assert(eq(int, prepared, 7), "with %s", "a message");
    cr_expect_str_eq("a", "a");
    cr_assert_float_eq(1.0, 1.1, 0.2);
}

Test(suite, b_assertion_fails)
{
    cr_assert_eq(prepared, 8, "it is %d", prepared);
    _exit(0);
}

Test(suite, c_expectation_fails)
{
    cr_expect_lt(2, 1);
    cr_expect_null(NULL);
}

Test(suite, d_skips)
{
    cr_skip_test("no %s here", "moon");
}

Test(suite, e_crashes)
{
    raise(SIGSEGV);
}

Test(suite, f_dies_as_it_is_to, .signal = SIGABRT)
{
    raise(SIGABRT);
}

Test(suite, g_was_to_die, .signal = SIGABRT)
{
}

Test(suite, h_hangs, .timeout = 0.2)
{
    for (;;)
        pause();
}

Test(suite, i_exits_with_3_in_fini, .fini = forbid, .exit_code = 3)
{
}

Test(suite, j_new_assertion_fails)
{
    cr_assert(eq(str, "a", "b"));
}

Test(suite, k_disabled, .disabled = true)
{
    cr_assert_fail("it ran");
}

ParameterizedTestParameters(suite, l_parameters)
{
    static int params[] = {1, 2, 3};
    return cr_make_param_array(int, params, 3);
}

ParameterizedTest(int *param, suite, l_parameters)
{
    cr_assert_neq(*param, 2);
}
