/* coro/coro.c: the life of a coroutine, and who may be asked what. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <weir/coro.h>

static struct weir_coro_pool *pool;

static void new_pool(void)
{
    cr_assert_eq(weir_coro_pool_new(&pool, NULL), 0);
}

static void free_pool(void)
{
    weir_coro_pool_free(pool);
}

TestSuite(coro, .init = new_pool, .fini = free_pool, .timeout = 60);

static struct weir_coro_stats stats(void)
{
    struct weir_coro_stats s;
    weir_coro_pool_stats(pool, &s);
    return s;
}

static void return_at_once(void *arg)
{
    if (arg != NULL)
        *(bool *)arg = true;
}

static void yield_for_ever(void *arg)
{
    for (;;)
        weir_coro_yield(arg);
}

Test(coro, nothing_runs_before_the_first_resume)
{
    bool ran = false;
    struct weir_coro *co;
    cr_assert_eq(weir_coro_new(pool, &co, return_at_once, &ran), 0);
    cr_expect_eq(weir_coro_status(co), WEIR_CORO_SUSPENDED);
    cr_expect_not(ran);
    cr_expect_null(weir_coro_resume(co, NULL));
    cr_expect(ran);
}

Test(coro, the_first_resumes_value_is_dropped_and_later_ones_arrive)
{
    struct weir_coro *co;
    int token;
    weir_coro_new(pool, &co, yield_for_ever, &token);
    cr_expect_eq(weir_coro_resume(co, pool), &token);
    cr_expect_eq(weir_coro_resume(co, NULL), &token);
}

Test(coro, one_that_returned_is_done_and_its_stack_is_lent_next)
{
    struct weir_coro *first, *second;
    weir_coro_new(pool, &first, return_at_once, NULL);
    weir_coro_resume(first, NULL);
    cr_expect_eq(weir_coro_status(first), WEIR_CORO_DONE);
    cr_expect_eq(stats().live, 0);
    weir_coro_new(pool, &second, return_at_once, NULL);
    cr_expect_eq(first, second);
    cr_expect_eq(stats().stacks, 1);
    cr_expect_eq(stats().created, 2);
}

Test(coro, one_that_is_kept_stays_until_it_is_freed)
{
    struct weir_coro *kept, *other;
    weir_coro_new(pool, &kept, return_at_once, NULL);
    weir_coro_keep(kept);
    weir_coro_resume(kept, NULL);
    weir_coro_new(pool, &other, return_at_once, NULL);
    cr_expect_neq(kept, other);
    cr_expect_eq(weir_coro_status(kept), WEIR_CORO_DONE);
    cr_expect_eq(stats().live, 2, "a kept one still holds its stack");
    weir_coro_free(kept);
    cr_expect_eq(stats().live, 1);
}

Test(coro, freeing_a_suspended_one_gives_its_stack_back)
{
    struct weir_coro *co, *next;
    weir_coro_new(pool, &co, yield_for_ever, NULL);
    weir_coro_resume(co, NULL);
    weir_coro_free(co);
    cr_expect_eq(weir_coro_status(co), WEIR_CORO_DONE);
    weir_coro_new(pool, &next, return_at_once, NULL);
    cr_expect_eq(next, co);
    weir_coro_free(next); /* never resumed */
    cr_expect_eq(stats().live, 0);
}

static struct weir_coro *inner;

static void look_at_statuses(void *arg)
{
    struct weir_coro *outer = arg;
    cr_expect_eq(weir_coro_self(), inner);
    cr_expect_eq(weir_coro_status(inner), WEIR_CORO_RUNNING);
    cr_expect_eq(weir_coro_status(outer), WEIR_CORO_RESUMING);
}

static void resume_inner(void *arg)
{
    struct weir_coro *self = weir_coro_self();
    cr_expect_eq(weir_coro_status(self), WEIR_CORO_RUNNING);
    weir_coro_new(pool, &inner, look_at_statuses, self);
    weir_coro_resume(inner, NULL);
    cr_expect_eq(weir_coro_self(), self);
    cr_expect_eq(weir_coro_status(self), WEIR_CORO_RUNNING);
    cr_expect_eq(weir_coro_status(inner), WEIR_CORO_DONE);
}

Test(coro, status_and_self_tell_who_runs)
{
    struct weir_coro *co;
    cr_expect_null(weir_coro_self());
    weir_coro_new(pool, &co, resume_inner, NULL);
    weir_coro_resume(co, NULL);
    cr_expect_null(weir_coro_self());
}

static void hand_over_to(void *arg)
{
    void *got = weir_coro_hand_over(arg, "handed");
    weir_coro_yield(got);
}

static void yield_what_comes(void *arg)
{
    void *got = weir_coro_yield("ready");
    weir_coro_yield(got);
}

Test(coro, a_hand_over_passes_its_value_and_its_resumer)
{
    struct weir_coro *from, *to;
    weir_coro_new(pool, &to, yield_what_comes, NULL);
    weir_coro_new(pool, &from, hand_over_to, to);
    cr_expect_str_eq(weir_coro_resume(to, NULL), "ready");
    cr_expect_str_eq(weir_coro_resume(from, NULL), "handed",
                     "`to` yields to the resumer of `from`");
    cr_expect_eq(weir_coro_status(from), WEIR_CORO_SUSPENDED);
    cr_expect_str_eq(weir_coro_resume(from, "back"), "back");
}

static void hand_over_and_return(void *arg)
{
    weir_coro_hand_over(arg, NULL);
}

Test(coro, one_that_was_handed_over_to_may_return)
{
    struct weir_coro *from, *to;
    weir_coro_new(pool, &to, return_at_once, NULL);
    weir_coro_new(pool, &from, hand_over_and_return, to);
    cr_expect_null(weir_coro_resume(from, NULL));
    cr_expect_eq(weir_coro_status(to), WEIR_CORO_DONE);
    cr_expect_eq(weir_coro_status(from), WEIR_CORO_SUSPENDED);
    cr_expect_null(weir_coro_resume(from, NULL));
    cr_expect_eq(weir_coro_status(from), WEIR_CORO_DONE);
    cr_expect_eq(stats().live, 0);
}

Test(coro, name_place_and_data_are_those_given)
{
    struct weir_coro *co, *plain;
    weir_coro_new(pool, &co, yield_for_ever, NULL);
    cr_expect_str_eq(weir_coro_name(co), "yield_for_ever");
    cr_expect_not_null(strstr(weir_coro_place(co), "coro.c:"));
    cr_expect_null(weir_coro_data(co));
    weir_coro_set_data(co, pool);
    cr_expect_eq(weir_coro_data(co), pool);
    weir_coro_new_at(pool, &plain, yield_for_ever, NULL, NULL, NULL);
    cr_expect_str_eq(weir_coro_name(plain), "?");
    cr_expect_str_eq(weir_coro_place(plain), "?");
    weir_coro_free(co);
    weir_coro_new(pool, &co, yield_for_ever, NULL);
    cr_expect_null(weir_coro_data(co), "a new coroutine does not inherit the old one's data");
}

static void use_stack(void *arg)
{
    volatile char bytes[20000];
    memset((char *)bytes, 1, sizeof bytes);
    weir_coro_yield(NULL);
    *(size_t *)arg = sizeof bytes * (size_t)bytes[sizeof bytes - 1];
}

Test(coro, a_larger_stack_comes_from_the_next_larger_size)
{
    struct weir_coro *co;
    size_t used = 0;
    cr_assert_eq(weir_coro_new_sized(pool, &co, use_stack, &used, 30000), 0);
    cr_expect_eq(weir_coro_stack_bytes(co), 32768);
    weir_coro_resume(co, NULL);
    weir_coro_resume(co, NULL);
    cr_expect_eq(used, 20000);
    cr_expect_eq(weir_coro_new_sized(pool, &co, use_stack, &used, 8192 * 128), 0);
    cr_expect_eq(weir_coro_new_sized(pool, &co, use_stack, &used, 8192 * 128 + 1), -E2BIG);
}

static void plain_call(void *arg)
{
    *(struct weir_coro **)arg = weir_coro_self();
}

Test(coro, a_deep_call_outside_any_coroutine_is_a_call)
{
    struct weir_coro *self = inner = (struct weir_coro *)pool;
    cr_expect_eq(weir_coro_call_deep(SIZE_MAX, plain_call, &self), 0);
    cr_expect_null(self);
    cr_expect_eq(stats().stacks, 0);
}

static void deeper(void *arg)
{
    int *levels = arg;
    if (--*levels > 0)
        cr_expect_eq(weir_coro_call_deep(20000, deeper, arg), 0);
    else
        cr_expect_eq(stats().borrowed, 3);
    weir_coro_yield(NULL);
}

static void call_deeper(void *arg)
{
    cr_expect_eq(weir_coro_call_deep(SIZE_MAX, deeper, arg), -E2BIG);
    cr_expect_eq(weir_coro_call_deep(20000, deeper, arg), 0);
}

Test(coro, deep_calls_nest_and_count_as_borrowed)
{
    int levels = 3;
    struct weir_coro *co;
    weir_coro_new(pool, &co, call_deeper, &levels);
    for (int i = 0; i < 3; i++) {
        weir_coro_resume(co, NULL);
        cr_expect_eq(stats().borrowed, (uint64_t)(3 - i));
        cr_expect_eq(stats().live, 1);
    }
    weir_coro_resume(co, NULL);
    cr_expect_eq(weir_coro_status(co), WEIR_CORO_DONE);
    cr_expect_eq(stats().borrowed, 0);
}

Test(coro, freeing_one_inside_deep_calls_gives_every_stack_back)
{
    for (int round = 0; round < 3; round++) {
        int levels = 3;
        struct weir_coro *co;
        weir_coro_new(pool, &co, call_deeper, &levels);
        weir_coro_resume(co, NULL);
        cr_expect_eq(stats().borrowed, 3);
        weir_coro_free(co);
        cr_expect_eq(stats().borrowed, 0);
        cr_expect_eq(stats().live, 0);
        cr_expect_eq(stats().stacks, 4);
        cr_expect_eq(stats().idle, 4);
    }
}

static void count_one(struct weir_coro *co, void *arg)
{
    size_t *counts = arg;
    counts[(uintptr_t)weir_coro_data(co)]++;
}

Test(coro, each_finds_all_that_live_and_no_other)
{
    enum { N = COSTLY ? 2500 : 5000 }; /* more than one slab */
    static struct weir_coro *co[N];
    static size_t counts[N];
    for (uintptr_t i = 0; i < N; i++) {
        cr_assert_eq(weir_coro_new(pool, &co[i], yield_for_ever, NULL), 0);
        weir_coro_set_data(co[i], (void *)i);
    }
    for (int i = 0; i < N; i += 3)
        weir_coro_free(co[i]);
    cr_assert_eq(weir_coro_pool_each(pool, count_one, counts), 0);
    for (int i = 0; i < N; i++)
        cr_expect_eq(counts[i], i % 3 == 0 ? 0 : 1, "coroutine %d seen %zu times", i, counts[i]);
}

/* A long random life, against a model that knows what each coroutine should yield next. */
static void count_up(void *arg)
{
    uintptr_t end = (uintptr_t)arg;
    for (uintptr_t i = 1; i <= end; i++)
        weir_coro_yield((void *)i);
}

Test(coro, a_random_life_keeps_to_the_model)
{
    enum { N = 64, STEPS = COSTLY ? 5000 : 200000 };
    struct weir_coro *co[N] = {NULL};
    uintptr_t at[N] = {0}, end[N] = {0};
    uint64_t random = 88172645463325252, live = 0;
    for (int step = 0; step < STEPS; step++) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        size_t i = random % N;
        if (co[i] == NULL) {
            end[i] = random >> 32 & 15;
            at[i] = 0;
            cr_assert_eq(weir_coro_new(pool, &co[i], count_up, (void *)end[i]), 0);
            live++;
        } else if ((random >> 40 & 31) == 0) {
            weir_coro_free(co[i]);
            co[i] = NULL;
            live--;
        } else {
            uintptr_t got = (uintptr_t)weir_coro_resume(co[i], NULL);
            cr_assert_eq(got, at[i] == end[i] ? 0 : at[i] + 1);
            at[i]++;
            if (got == 0) {
                cr_assert_eq(weir_coro_status(co[i]), WEIR_CORO_DONE);
                co[i] = NULL;
                live--;
            }
        }
        cr_assert_eq(stats().live, live);
    }
    cr_expect_leq(stats().stacks, N);
}

static void yield_outside(void)
{
    weir_coro_yield(NULL);
}

#include <signal.h>

Test(coro, yielding_outside_a_coroutine_is_a_bug_and_asserts, .signal = SIGABRT)
{
    yield_outside();
}

Test(coro, resuming_one_that_is_done_is_a_bug_and_asserts, .signal = SIGABRT)
{
    struct weir_coro *co;
    weir_coro_new(pool, &co, return_at_once, NULL);
    weir_coro_resume(co, NULL);
    weir_coro_resume(co, NULL);
}
