/* bench/cli.c and cli_engines.c: the engine list's grammar, and lists of numbers and CPUs. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "bench/cli.h"

static struct engine_catalog catalog;
static struct engine_list list;
static char error[CLI_TEXT_BYTES];

static void setup(void)
{
    static const struct engine_entry entries[] = {
        {"uring", GROUP_COROUTINES, 0, NULL, NULL, NULL, NULL, NULL, NULL},
        {"epoll", GROUP_COROUTINES | GROUP_REACTORS, 0, NULL, NULL, NULL, NULL, NULL, NULL},
        {"poll", GROUP_COROUTINES | GROUP_REACTORS, 0, NULL, NULL, NULL, NULL, NULL, NULL},
        {"bare-epoll", 0, 0, NULL, NULL, NULL, NULL, NULL, NULL},
    };

    catalog.count = 0;
    for (size_t i = 0; i < 4; i++)
        cr_assert_eq(weir__catalog_add(&catalog, &entries[i]), 0);
}

static void teardown(void)
{
    weir__engine_list_deinit(&list);
}

TestSuite(cli, .init = setup, .fini = teardown);

static int parse(const char *text)
{
    weir__engine_list_deinit(&list);
    return weir__engine_list_parse(&list, text, &catalog, error, sizeof error);
}

static void expect_names(const char *first, const char *second, const char *third)
{
    const char *names[] = {first, second, third};
    size_t count = 0;

    for (; count < 3 && names[count] != NULL; count++) {
        cr_assert_lt(count, list.count);
        cr_assert_str_eq(list.items[count].name, names[count]);
    }
    cr_assert_eq(list.count, count);
}

Test(cli, plain_names_are_rows_in_their_order)
{
    cr_assert_eq(parse("poll,uring,bare-epoll"), 0, "%s", error);
    expect_names("poll", "uring", "bare-epoll");
    cr_assert_null(list.items[0].options);
}

Test(cli, options_and_features_continue_the_engine_before_them)
{
    cr_assert_eq(parse("uring,uring:per=connection,features=-multishot_recv,-buffer_ring,epoll"), 0,
                 "%s", error);
    expect_names("uring", "uring:per=connection,features=-multishot_recv,-buffer_ring", "epoll");
    cr_assert_str_eq(list.items[1].base, "uring");
    cr_assert_str_eq(list.items[1].options, "per=connection,features=-multishot_recv,-buffer_ring");
}

Test(cli, an_engine_with_options_may_follow_one_with_options)
{
    cr_assert_eq(parse("uring:features=-a,+b,per=burst,epoll:per=connection"), 0, "%s", error);
    expect_names("uring:features=-a,+b,per=burst", "epoll:per=connection", NULL);
}

Test(cli, a_flag_without_a_value_is_an_option)
{
    cr_assert_eq(parse("uring:sync,epoll"), 0, "%s", error);
    expect_names("uring:sync", "epoll", NULL);
}

Test(cli, a_group_stands_for_its_members_that_are_not_listed_yet)
{
    cr_assert_eq(parse("poll,reactors"), 0, "%s", error);
    expect_names("poll", "epoll", NULL);
    cr_assert_eq(parse("coroutines"), 0, "%s", error);
    expect_names("uring", "epoll", "poll");
    cr_assert_eq(parse("all"), 0, "%s", error);
    cr_assert_eq(list.count, 4);
}

Test(cli, a_group_without_members_is_an_error)
{
    cr_assert_eq(parse("blocking"), -ENOENT);
    cr_assert_not_null(strstr(error, "'blocking' has no members"), "%s", error);
}

Test(cli, an_unknown_name_lists_the_valid_ones)
{
    cr_assert_eq(parse("uring,kqueue"), -ENOENT);
    cr_assert_str_eq(error, "unknown engine 'kqueue'; valid: uring, epoll, poll, bare-epoll; "
                            "groups: coroutines, reactors, blocking, all");
    cr_assert_eq(list.count, 0);
}

Test(cli, the_same_row_twice_is_an_error_and_other_options_are_another_row)
{
    cr_assert_eq(parse("uring,epoll,uring"), -EEXIST);
    cr_assert_not_null(strstr(error, "'uring' is listed twice"), "%s", error);
    cr_assert_eq(parse("uring,uring:per=connection"), 0, "%s", error);
    cr_assert_eq(parse("uring:per=connection,uring:per=connection"), -EEXIST);
}

Test(cli, options_without_an_engine_say_how_to_write_them)
{
    cr_assert_eq(parse("per=connection"), -EINVAL);
    cr_assert_eq(parse("uring,per=connection"), -EINVAL);
    cr_assert_not_null(strstr(error, "uring:per=connection"), "%s", error);
    cr_assert_eq(parse("uring,-multishot_recv"), -EINVAL);
    cr_assert_not_null(strstr(error, "uring:features=-name"), "%s", error);
    cr_assert_eq(parse("uring:per=burst,-multishot_recv"), -EINVAL);
    cr_assert_not_null(strstr(error, "continues no features"), "%s", error);
}

Test(cli, empty_names_are_errors)
{
    cr_assert_eq(parse(""), -EINVAL);
    cr_assert_eq(parse("uring,,epoll"), -EINVAL);
    cr_assert_eq(parse("uring,"), -EINVAL);
    cr_assert_eq(parse("uring:"), -EINVAL);
}

Test(cli, options_longer_than_their_bound_are_refused)
{
    char text[CLI_OPTIONS_BYTES * 3] = "uring:features=-a";

    while (strlen(text) < CLI_OPTIONS_BYTES * 2)
        strcat(text, ",-multishot_recv");
    cr_assert_eq(parse(text), -E2BIG);
}

Test(cli, an_option_list_is_walked_pair_by_pair)
{
    const char *cursor = "per=connection,features=-a,+b,sync,x=1";
    static const char *const want[][2] = {
        {"per", "connection"}, {"features", "-a,+b"}, {"sync", ""}, {"x", "1"}};
    char key[16];
    char value[32];

    for (size_t i = 0; i < 4; i++) {
        cr_assert_eq(weir__option_next(&cursor, key, sizeof key, value, sizeof value), 1);
        cr_assert_str_eq(key, want[i][0]);
        cr_assert_str_eq(value, want[i][1]);
    }
    cr_assert_eq(weir__option_next(&cursor, key, sizeof key, value, sizeof value), 0);
    cursor = "=1";
    cr_assert_eq(weir__option_next(&cursor, key, sizeof key, value, sizeof value), -EINVAL);
}

Test(cli, counts_take_suffixes_and_refuse_the_rest)
{
    uint64_t value;

    cr_assert_eq(weir__parse_count("100", false, 1, 1000, &value), 0);
    cr_assert_eq(value, 100);
    cr_assert_eq(weir__parse_count("2k", false, 1, 5000, &value), 0);
    cr_assert_eq(value, 2000);
    cr_assert_eq(weir__parse_count("64K", true, 1, 1 << 20, &value), 0);
    cr_assert_eq(value, 65536);
    cr_assert_eq(weir__parse_count("1m", false, 1, 1000, &value), -ERANGE);
    cr_assert_eq(weir__parse_count("0", false, 1, 1000, &value), -ERANGE);
    cr_assert_eq(weir__parse_count("-1", false, 0, 1000, &value), -EINVAL);
    cr_assert_eq(weir__parse_count("1x", false, 0, 1000, &value), -EINVAL);
    cr_assert_eq(weir__parse_count("1kk", false, 0, 1u << 31, &value), -EINVAL);
    cr_assert_eq(weir__parse_count("", false, 0, 1000, &value), -EINVAL);
    cr_assert_eq(weir__parse_count("99999999999999999999", false, 0, UINT64_MAX, &value), -ERANGE);
    cr_assert_eq(weir__parse_count("18446744073709551615g", false, 0, UINT64_MAX, &value), -ERANGE);
}

Test(cli, real_numbers_stay_in_their_range)
{
    double value;

    cr_assert_eq(weir__parse_real("0.25", 0, 1, &value), 0);
    cr_assert_eq(value, 0.25);
    cr_assert_eq(weir__parse_real("nan", 0, 1, &value), -EINVAL);
    cr_assert_eq(weir__parse_real("inf", 0, 1, &value), -ERANGE);
    cr_assert_eq(weir__parse_real("2", 0, 1, &value), -ERANGE);
    cr_assert_eq(weir__parse_real("1s", 0, 1, &value), -EINVAL);
}

Test(cli, a_list_of_connections_has_each_number_once)
{
    unsigned counts[4];

    cr_assert_eq(weir__parse_counts("100,2k,1", counts, 4, error, sizeof error), 3);
    cr_assert_eq(counts[1], 2000);
    cr_assert_lt(weir__parse_counts("100,100", counts, 4, error, sizeof error), 0);
    cr_assert_lt(weir__parse_counts("100,0", counts, 4, error, sizeof error), 0);
    cr_assert_lt(weir__parse_counts("", counts, 4, error, sizeof error), 0);
    cr_assert_eq(weir__parse_counts("1,2,3,4,5", counts, 4, error, sizeof error), -E2BIG);
}

Test(cli, a_list_of_cpus_has_numbers_and_ranges)
{
    cpu_set_t cpus;

    cr_assert_eq(weir__cpus_parse("0", &cpus), 1);
    cr_assert(CPU_ISSET(0, &cpus));
    cr_assert_eq(weir__cpus_parse("2-4,9,1023", &cpus), 5);
    cr_assert(CPU_ISSET(2, &cpus) && CPU_ISSET(3, &cpus) && CPU_ISSET(4, &cpus));
    cr_assert(CPU_ISSET(9, &cpus) && CPU_ISSET(1023, &cpus));
    cr_assert_eq(weir__cpus_parse("1,1-2", &cpus), 2);
}

Test(cli, a_list_of_cpus_refuses_everything_else)
{
    cpu_set_t cpus;
    static const char *const bad[] = {"",    ",",    "1,",    ",1",  "a",    "1-",         "-1",
                                      "3-2", "1 ,2", "1-2-3", "0x1", "1024", "99999999999"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_expect_eq(weir__cpus_parse(bad[i], &cpus), -EINVAL, "'%s'", bad[i]);
}

Test(cli, cpus_are_written_as_ranges)
{
    char text[64];
    cpu_set_t cpus;

    CPU_ZERO(&cpus);
    weir__cpus_format(&cpus, text, sizeof text);
    cr_assert_str_eq(text, "");
    for (int cpu = 0; cpu < 4; cpu++)
        CPU_SET(cpu, &cpus);
    CPU_SET(6, &cpus);
    weir__cpus_format(&cpus, text, sizeof text);
    cr_assert_str_eq(text, "0-3,6");
}

Test(cli, the_split_uses_every_cpu_and_shares_none_unless_there_is_but_one)
{
    cpu_set_t all, server, driver, both;

    cr_assert_eq(sched_getaffinity(0, sizeof all, &all), 0);
    cr_assert_eq(weir__cpus_split(&server, &driver), 0);
    CPU_OR(&both, &server, &driver);
    cr_assert(CPU_EQUAL(&both, &all));
    cr_assert_gt(CPU_COUNT(&server), 0);
    cr_assert_gt(CPU_COUNT(&driver), 0);
    CPU_AND(&both, &server, &driver);
    cr_assert_eq(CPU_COUNT(&both), CPU_COUNT(&all) == 1 ? 1 : 0);
}
