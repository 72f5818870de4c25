/* coro/inspect.c: where a coroutine that does not run stands, and how much of its stack it uses. */
#include <criterion/criterion.h>
#include <alloca.h>
#include <errno.h>
#include <string.h>
#include <weir/coro_inspect.h>

static struct weir_coro_pool *pool;
static bool has_registers; /* not with ucontext */

static void yields(void *arg)
{
    weir_coro_yield(arg);
}

static void new_pool(void)
{
    struct weir_coro_registers registers;
    struct weir_coro *co;

    cr_assert_eq(weir_coro_pool_new(&pool, NULL), 0);
    cr_assert_eq(weir_coro_new(pool, &co, yields, NULL), 0);
    int res = weir_coro_registers(co, 0, &registers);
    cr_assert(res == 0 || res == -ENOTSUP);
    has_registers = res == 0;
    weir_coro_free(co);
}

static void free_pool(void)
{
    weir_coro_pool_free(pool);
}

TestSuite(coro_inspect, .init = new_pool, .fini = free_pool, .timeout = 60);

static __attribute__((noinline)) void yields_below(void *arg)
{
    size_t bytes = *(size_t *)arg;
    char *room = alloca(bytes);

    memset(room, 1, bytes);
    weir_coro_yield(room);
    __asm__ volatile("" : : "r"(room) : "memory");
}

Test(coro_inspect, the_deeper_it_is_the_more_of_its_stack_is_in_use)
{
    size_t used[2], bytes[2] = {16, 3000};

    for (int i = 0; i < 2; i++) {
        struct weir_coro *co;
        cr_assert_eq(weir_coro_new(pool, &co, yields_below, &bytes[i]), 0);
        cr_assert_not_null(weir_coro_resume(co, NULL));
        used[i] = weir_coro_stack_used(co);
        cr_expect_null(weir_coro_resume(co, NULL));
        cr_expect_eq(weir_coro_stack_used(co), 0, "one that is done");
    }
    cr_expect_gt(used[0], 0);
    cr_expect_geq(used[1], used[0] + 2900);
    cr_expect_leq(used[1], used[0] + 3400);
}

static void looks_at_itself(void *arg)
{
    struct weir_coro *self = weir_coro_self();
    struct weir_coro_registers registers;
    size_t *used = arg;

    *used = weir_coro_stack_used(self);
    cr_expect_eq(weir_coro_registers(self, 0, &registers), -EBUSY);
    cr_expect_eq(weir_coro_registers(self, 1, &registers), -ENOENT);
}

Test(coro_inspect, one_that_runs_has_its_registers_in_the_processor)
{
    struct weir_coro_registers registers;
    struct weir_coro *co;
    size_t used = 0;

    weir_coro_new(pool, &co, looks_at_itself, &used);
    weir_coro_resume(co, NULL);
    cr_expect_gt(used, 0);
    cr_expect_lt(used, weir_coro_stack_bytes(co));
    cr_expect_eq(weir_coro_registers(co, 0, &registers), -ENOENT, "one that is done");
}

static void yields_deep(void *arg)
{
    cr_expect_eq(weir_coro_call_deep(20000, yields_below, arg), 0);
}

Test(coro_inspect, a_deep_call_has_two_stacks_to_look_at)
{
    struct weir_coro_registers deep, own;
    struct weir_coro *co;
    size_t bytes = 10000;

    if (!has_registers)
        return;
    weir_coro_new(pool, &co, yields_deep, &bytes);
    char *room = weir_coro_resume(co, NULL);
    cr_assert_eq(weir_coro_registers(co, 0, &deep), 0);
    cr_assert_eq(weir_coro_registers(co, 1, &own), 0);
    cr_expect_eq(weir_coro_registers(co, 2, &deep), -ENOENT);
    cr_expect_leq(deep.sp, (uintptr_t)room);
    cr_expect_gt(deep.sp, (uintptr_t)room - 2048);
    cr_expect_lt(own.sp, (uintptr_t)co);
    cr_expect_gt(own.sp, (uintptr_t)co - 2048);
    cr_expect_lt(weir_coro_stack_used(co), 4096, "of its own stack");
    weir_coro_free(co);
}
