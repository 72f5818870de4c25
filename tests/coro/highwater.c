/* coro/highwater.c: how deep stacks were, by the place that spawned on them. */
#include <criterion/criterion.h>
#include <alloca.h>
#include <errno.h>
#include <string.h>
#include <weir/coro_inspect.h>

static struct weir_coro_pool *pool;

static void new_pool(void)
{
    const struct weir_coro_options options = {.measure_stacks = true, .colours = 1};

    cr_assert_eq(weir_coro_pool_new(&pool, &options), 0);
}

static void free_pool(void)
{
    weir_coro_pool_free(pool);
}

TestSuite(highwater, .init = new_pool, .fini = free_pool, .timeout = 60);

static __attribute__((noinline)) void touch(size_t bytes)
{
    char *room = alloca(bytes);

    memset(room, 1, bytes);
    __asm__ volatile("" : : "r"(room) : "memory");
}

static void deep_and_back(void *arg)
{
    touch(*(size_t *)arg);
    weir_coro_yield(NULL);
}

static void spawn(struct weir_coro **co, size_t *bytes, const char *place)
{
    cr_assert_eq(weir_coro_new_at(pool, co, deep_and_back, bytes, "deep", place), 0);
    weir_coro_resume(*co, NULL);
}

struct wanted {
    const char *place;
    struct weir_coro_highwater found;
    unsigned entries;
};

static void compare(const struct weir_coro_highwater *entry, void *arg)
{
    struct wanted *wanted = arg;

    wanted->entries++;
    if (strcmp(entry->place, wanted->place) == 0)
        wanted->found = *entry;
}

static struct weir_coro_highwater of_place(const char *place)
{
    struct wanted wanted = {.place = place};

    cr_assert_eq(weir_coro_pool_highwater(pool, compare, &wanted), 0);
    return wanted.found;
}

/* A quarter more, 1 KiB at least, and not twice as much as that needs. */
static void expect_class(const struct weir_coro_highwater *entry)
{
    size_t more = entry->peak_bytes / 4 > 1024 ? entry->peak_bytes / 4 : 1024;
    size_t needed = entry->peak_bytes + more, class_bytes = entry->class_bytes;

    cr_expect_geq(class_bytes, needed);
    cr_expect(class_bytes == 4096 || class_bytes / 2 < needed);
    cr_expect_eq(class_bytes & (class_bytes - 1), 0);
}

Test(highwater, the_deepest_of_a_place_is_kept_and_those_that_ended_are_counted)
{
    static const char shallow[] = "shallow.c:1", deep[] = "deep.c:2";
    size_t bytes[] = {5000, 100, 200};
    struct weir_coro *co;

    for (int i = 0; i < 2; i++) {
        spawn(&co, &bytes[i], deep);
        weir_coro_resume(co, NULL);
    }
    spawn(&co, &bytes[2], shallow);
    weir_coro_free(co); /* it is dropped */
    struct weir_coro_highwater high = of_place(deep), low = of_place(shallow);
    cr_expect_eq(high.count, 2);
    cr_expect_geq(high.peak_bytes, 5000);
    expect_class(&high);
    cr_expect_eq(low.count, 1);
    cr_expect_geq(low.peak_bytes, 200);
    cr_expect_geq(high.peak_bytes, low.peak_bytes + 4500); /* a sanitizer's frames are in both */
    cr_expect_leq(high.peak_bytes, low.peak_bytes + 5500);
    expect_class(&low);
}

Test(highwater, one_that_lives_shows_what_it_has_touched_until_now)
{
    static const char place[] = "live.c:1";
    size_t bytes = 3000;
    struct weir_coro *co;

    spawn(&co, &bytes, place);
    cr_expect_geq(of_place(place).peak_bytes, 3000);
    cr_expect_eq(of_place(place).count, 0);
    weir_coro_resume(co, NULL);
    cr_expect_eq(of_place(place).count, 1);
}

Test(highwater, places_beyond_the_table_share_an_entry)
{
    static char places[300][8];
    struct wanted wanted = {.place = "(others)"};
    size_t bytes = 10;
    struct weir_coro *co;

    for (int i = 0; i < 300; i++) {
        spawn(&co, &bytes, places[i]);
        weir_coro_resume(co, NULL);
    }
    cr_assert_eq(weir_coro_pool_highwater(pool, compare, &wanted), 0);
    cr_expect_eq(wanted.entries, 256);
    cr_expect_eq(wanted.found.count, 45);
}

Test(highwater, without_the_option_nothing_is_measured)
{
    struct weir_coro_pool *plain;

    cr_assert_eq(weir_coro_pool_new(&plain, NULL), 0);
    cr_expect_eq(weir_coro_pool_highwater(plain, compare, NULL), -ENOTSUP);
    weir_coro_pool_free(plain);
}
