/*
 * The switch itself, on a machine without Criterion too (AArch64 under qemu-user): a plain
 * program that prints TAP. What it covers has to hold for every switch_* there is.
 */
#include <weir/coro.h>

#include <fenv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unwind.h>

static struct weir_coro_pool *pool;
static unsigned tests, failed;
static bool ok;

static void check(bool holds, const char *what, int line)
{
    if (holds)
        return;
    ok = false;
    printf("# line %d: %s\n", line, what);
}
#define CHECK(what) check((what), #what, __LINE__)

static void run(const char *name, void (*test)(void))
{
    ok = true;
    test();
    failed += !ok;
    printf("%sok %u - %s\n", ok ? "" : "not ", ++tests, name);
}

/* --- values ---------------------------------------------------------------------------------- */

static void echo_plus_one(void *arg)
{
    char *value = arg;
    for (;;)
        value = weir_coro_yield(value + 1);
}

static void values_go_both_ways(void)
{
    static char text[100];
    struct weir_coro *co;
    CHECK(weir_coro_new(pool, &co, echo_plus_one, text) == 0);
    CHECK(weir_coro_resume(co, NULL) == text + 1);
    for (int i = 0; i < 90; i++)
        CHECK(weir_coro_resume(co, text + i) == text + i + 1);
    weir_coro_free(co);
}

/* --- registers ------------------------------------------------------------------------------- */

/* More values live across a yield than there are callee-saved registers, integer and floating. */
static void hold_many(void *arg)
{
    const long seed = *(long *)arg;
    volatile long from = seed;
    long a = from, b = a * 3, c = b ^ 5, d = c + 7, e = d * 9, f = e ^ 11, g = f + 13, h = g * 15,
         i = h ^ 17, j = i + 19;
    double p = (double)a, q = p * 1.5, r = q + 2, s = r * 1.25, t = s + 3, u = t * 1.125, v = u + 4,
           w = v * 2;
    for (int n = 0; n < 100; n++) {
        weir_coro_yield(NULL);
        a += 1, b += a, c += b, d += c, e += d, f += e, g += f, h += g, i += h, j += i;
        p += 1, q += p, r += q, s += r, t += s, u += t, v += u, w += v;
    }
    long sum = a + b + c + d + e + f + g + h + i + j;
    *(long *)arg = sum + (long)(p + q + r + s + t + u + v + w);
}

static void every_coroutine_keeps_its_registers(void)
{
    enum { N = 8 };
    long alone[N], together[N];
    struct weir_coro *co[N];
    for (long n = 0; n < N; n++) { /* one after the other */
        alone[n] = n;
        weir_coro_new(pool, &co[n], hold_many, &alone[n]);
        while (weir_coro_resume(co[n], NULL), weir_coro_status(co[n]) != WEIR_CORO_DONE)
            ;
    }
    for (long n = 0; n < N; n++) {
        together[n] = n;
        weir_coro_new(pool, &co[n], hold_many, &together[n]);
    }
    for (int turn = 0; turn <= 100; turn++) /* interleaved */
        for (int n = 0; n < N; n++)
            weir_coro_resume(co[n], NULL);
    for (int n = 0; n < N; n++) {
        CHECK(weir_coro_status(co[n]) == WEIR_CORO_DONE);
        CHECK(alone[n] == together[n]);
        CHECK(n == 0 || together[n] != together[n - 1]);
    }
}

/* --- alignment ------------------------------------------------------------------------------- */

static void note_alignment(void *arg)
{
    _Alignas(16) volatile char aligned[16];
    char text[64];
    aligned[0] = 1;
    snprintf(text, sizeof text, "%.1f", 0.5); /* saves vector registers, aligned */
    *(bool *)arg = (uintptr_t)aligned % 16 == 0 && strcmp(text, "0.5") == 0;
}

static void a_stack_is_aligned_as_the_abi_wants(void)
{
    bool aligned = false;
    struct weir_coro *co;
    weir_coro_new_sized(pool, &co, note_alignment, &aligned, 65536);
    weir_coro_resume(co, NULL);
    CHECK(aligned);
}

/* --- nesting and handing over ---------------------------------------------------------------- */

static void nest(void *arg)
{
    int *depth = arg;
    if (++*depth < 50) {
        struct weir_coro *co;
        CHECK(weir_coro_new(pool, &co, nest, depth) == 0);
        weir_coro_resume(co, NULL);
        CHECK(weir_coro_status(weir_coro_self()) == WEIR_CORO_RUNNING);
    }
    weir_coro_yield(NULL);
}

static void coroutines_resume_coroutines(void)
{
    int depth = 0;
    struct weir_coro *co;
    weir_coro_new(pool, &co, nest, &depth);
    CHECK(weir_coro_resume(co, NULL) == NULL);
    CHECK(depth == 50);
    CHECK(weir_coro_self() == NULL);
}

struct ring {
    struct weir_coro *next;
    int *hops;
};

static void pass_round(void *arg)
{
    struct ring *self = arg;
    while (--*self->hops > 0)
        weir_coro_hand_over(self->next, NULL);
    weir_coro_yield(self);
}

static void a_hand_over_keeps_the_resumer(void)
{
    enum { N = 10 };
    int hops = 1001;
    struct ring ring[N];
    struct weir_coro *co[N];
    for (int i = 0; i < N; i++) {
        ring[i].hops = &hops;
        weir_coro_new(pool, &co[i], pass_round, &ring[i]);
    }
    for (int i = 0; i < N; i++)
        ring[i].next = co[(i + 1) % N];
    CHECK(weir_coro_resume(co[0], NULL) == &ring[1000 % N]);
    for (int i = 0; i < N; i++) {
        CHECK(weir_coro_status(co[i]) == WEIR_CORO_SUSPENDED);
        weir_coro_free(co[i]);
    }
}

/* --- a borrowed stack ------------------------------------------------------------------------ */

static void go_deep(void *arg)
{
    volatile char large[100000];
    memset((char *)large, 7, sizeof large);
    long *sum = arg;
    for (size_t i = 0; i < sizeof large; i += 1000) {
        *sum += large[i];
        if (i % 10000 == 0)
            weir_coro_yield(sum);
    }
}

static void call_deep(void *arg)
{
    struct weir_coro *self = weir_coro_self();
    CHECK(weir_coro_call_deep(200000, go_deep, arg) == 0);
    CHECK(weir_coro_self() == self);
    weir_coro_yield(NULL);
}

static void a_deep_call_may_yield(void)
{
    long sum = 0;
    struct weir_coro *co;
    weir_coro_new(pool, &co, call_deep, &sum);
    for (int i = 0; i < 10; i++)
        CHECK(weir_coro_resume(co, NULL) == &sum);
    CHECK(weir_coro_resume(co, NULL) == NULL);
    CHECK(sum == 700);
    CHECK(weir_coro_status(co) == WEIR_CORO_SUSPENDED);
    weir_coro_free(co);
    sum = 0;
    weir_coro_new(pool, &co, call_deep, &sum);
    weir_coro_resume(co, NULL);
    weir_coro_free(co); /* while it is down there */
    struct weir_coro_stats stats;
    weir_coro_pool_stats(pool, &stats);
    CHECK(stats.borrowed == 0);
}

/* --- floating point environment -------------------------------------------------------------- */

static void round_up_and_yield(void *arg)
{
    fesetround(FE_UPWARD);
    weir_coro_yield(NULL);
    *(int *)arg = fegetround();
}

/* ucontext alone saves it; the others leave it to the thread, as the header says. */
static void the_rounding_mode_is_documented(void)
{
    int inside = -1;
    struct weir_coro *co;
    weir_coro_new(pool, &co, round_up_and_yield, &inside);
    weir_coro_resume(co, NULL);
    int outside = fegetround();
    CHECK(outside == (SWITCH_SAVES_ROUNDING ? FE_TONEAREST : FE_UPWARD));
    fesetround(FE_TONEAREST);
    weir_coro_resume(co, NULL);
    CHECK(inside == (SWITCH_SAVES_ROUNDING ? FE_UPWARD : FE_TONEAREST));
    fesetround(FE_TONEAREST);
}

/* --- unwinding ------------------------------------------------------------------------------- */

static _Unwind_Reason_Code count_frame(struct _Unwind_Context *context, void *arg)
{
    int *frames = arg;
    (void)context;
    return ++*frames > 100 ? _URC_NORMAL_STOP : _URC_NO_REASON;
}

static __attribute__((noinline)) void unwind(void *arg)
{
    int frames = 0;
    _Unwind_Reason_Code code = _Unwind_Backtrace(count_frame, &frames);
    CHECK(code == _URC_END_OF_STACK);
    *(int *)arg = frames;
}

static void unwind_here_and_after_a_yield(void *arg)
{
    int first, second;
    unwind(&first);
    weir_coro_yield(NULL);
    unwind(&second);
    CHECK(first == second);
    *(int *)arg = first;
}

static void an_unwinder_stops_at_the_entry(void)
{
    int frames = 0;
    struct weir_coro *co;
    weir_coro_new_sized(pool, &co, unwind_here_and_after_a_yield, &frames, 65536);
    weir_coro_resume(co, NULL);
    weir_coro_resume(co, NULL);
    /* unwind, its caller, run() and the entry; an unwinder may or may not count the last. */
    CHECK(frames >= 3 && frames <= 6);
}

int main(void)
{
    int rc = weir_coro_pool_new(&pool, NULL);
    if (rc < 0) {
        printf("Bail out! weir_coro_pool_new: %s\n", strerror(-rc));
        return EXIT_FAILURE;
    }
    run("values go both ways", values_go_both_ways);
    run("every coroutine keeps its registers", every_coroutine_keeps_its_registers);
    run("a stack is aligned as the ABI wants", a_stack_is_aligned_as_the_abi_wants);
    run("coroutines resume coroutines", coroutines_resume_coroutines);
    run("a hand-over keeps the resumer", a_hand_over_keeps_the_resumer);
    run("a deep call may yield", a_deep_call_may_yield);
    run("the rounding mode is the thread's", the_rounding_mode_is_documented);
    run("an unwinder stops at the entry", an_unwinder_stops_at_the_entry);
    weir_coro_pool_free(pool);
    printf("1..%u\n", tests);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
