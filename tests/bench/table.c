/*
 * `weir-bench compare` with more engines than the machine holds at once, with engines that are too
 * slow for the rest, and the tables that are made of them. From outside, with servers that are none
 * of ours where that will do; no test depends on a figure.
 */
#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "command.h"

#define COMPARE(...) RUN("compare", __VA_ARGS__)
#define SLOW(name)   "--server-command", name "=" FAKE_SERVER " slow 100"

TestSuite(table, .init = command_setup, .fini = command_teardown, .timeout = 120);

static json_t *cell_of(const char *engine, unsigned conns)
{
    json_t *cell;
    size_t i;

    json_array_foreach(at(document, "cells"), i, cell)
    {
        if (strcmp(json_string_value(at(cell, "engine")), engine) == 0 &&
            json_integer_value(at(cell, "conns")) == conns)
            return cell;
    }
    cr_assert_fail("no cell of %s at %u", engine, conns);
    return NULL;
}

Test(table, servers_that_do_not_fit_at_once_are_measured_in_batches_beside_the_reference)
{
    process.nofile = 464; /* less 64: four servers of 100 connections */
    expect_exit(COMPARE("--engines", "a,b,c,d,e", GOOD("a"), GOOD("b"), GOOD("c"), GOOD("d"),
                        GOOD("e"), "--conns", "4,100", "--rounds", "8", "--slice", "0.02",
                        "--reference", "c", "--json", json_path),
                0);
    load_json();

    expect_err("4 connections: 5 of 5 servers connected, reference c");
    expect_err("100 connections, batch 1 of 2: 3 of 3 servers connected, reference c");
    expect_err("100 connections, batch 2 of 2: 3 of 3 servers connected, reference c");
    expect_out("at 100 connections the 6 servers are too many for this machine at once: they were "
               "measured in 2 batches");
    cr_assert_eq(json_array_size(at(document, "cells")), 10);
    for (const char *name = "abde"; *name != '\0'; name++) {
        json_t *cell = cell_of((char[]){*name, '\0'}, 100);
        cr_assert(json_is_true(at(cell, "verified")));
        cr_assert(json_is_string(at(at(cell, "vs_reference"), "verdict")));
    }
    cr_assert(json_is_true(at(cell_of("c", 100), "verified")));
    cr_assert(json_is_null(at(cell_of("c", 100), "vs_reference")));
}

Test(table, where_not_even_one_fits_beside_the_reference_it_says_so_first)
{
    process.nofile = 200;
    expect_exit(COMPARE("--engines", "a,b", GOOD("a"), GOOD("b"), "--conns", "100"), 2);
    expect_err("all 3 servers, the A/A copy included, are connected at once");
}

Test(table, a_burst_past_its_cell_s_budget_tells_what_was_done_by_then)
{
    expect_exit(COMPARE("--engines", "a,sloth", GOOD("a"), SLOW("sloth"), "--conns", "4", "--shape",
                        "burst", "--requests-per-conn", "50", "--rounds", "3", "--cell-budget", "1",
                        "--json", json_path),
                0);
    load_json();
    json_t *sloth = cell_of("sloth", 4);

    cr_assert(json_is_true(at(sloth, "cut")));
    cr_assert(json_is_true(at(sloth, "over_budget")));
    cr_assert(json_is_null(at(sloth, "elapsed_ms")));
    cr_assert(json_is_null(at(sloth, "failed")));
    cr_assert_gt(json_integer_value(at(sloth, "requests")), 0);
    cr_assert_lt(json_integer_value(at(sloth, "requests")), 4 * 50);
    expect_out("of 200 requests in ");
    json_t *a = cell_of("a", 4);
    cr_assert(json_is_false(at(a, "cut")));
    cr_assert_gt(json_number_value(at(a, "elapsed_ms")), 0);
}

Test(table, past_its_cell_s_budget_a_server_has_fewer_rounds)
{
    expect_exit(COMPARE("--engines", "a,b", GOOD("a"), GOOD("b"), "--conns", "2", "--slice", "0.1",
                        "--rounds", "30", "--cell-budget", "0.5", "--json", json_path),
                0);
    load_json();

    cr_assert(json_is_true(at(cell_of("b", 2), "over_budget")));
    cr_assert(json_is_true(at(cell_of("b", 2), "verified")));
    cr_assert_gt(json_integer_value(at(cell_of("b", 2), "slices")), 0);
    cr_assert_leq(json_integer_value(at(cell_of("b", 2), "slices")), 5);
    expect_out("the budget of a cell (--cell-budget) ended before the others");
}

/* True where compare has a child that is stopped and has `word` among its arguments. */
static bool has_stopped_child(const char *word)
{
    char path[64], name[64], state = '?', line[512] = "";
    int child;

    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)process.pid, (int)process.pid);
    FILE *children = fopen(path, "re");
    bool found = false;
    while (children != NULL && !found && fscanf(children, "%d", &child) == 1) {
        snprintf(path, sizeof path, "/proc/%d/stat", child);
        FILE *file = fopen(path, "re");
        if (file == NULL || fscanf(file, "%*d (%63[^)]) %c", name, &state) != 2)
            state = '?';
        if (file != NULL)
            fclose(file);
        snprintf(path, sizeof path, "/proc/%d/cmdline", child);
        file = fopen(path, "re");
        size_t bytes = file != NULL ? fread(line, 1, sizeof line - 1, file) : 0;
        if (file != NULL)
            fclose(file);
        found = state == 'T' && memmem(line, bytes, word, strlen(word)) != NULL;
    }
    if (children != NULL)
        fclose(children);
    return found;
}

Test(table, a_model_that_never_rests_is_stopped_while_others_are_measured)
{
    LAUNCH("compare", "--engines", "a,nonblocking", GOOD("a"), "--conns", "2", "--rounds", "8",
           "--slice", "0.2", "--json", json_path);
    process_expect(&process, true, "servers connected", COMMAND_SECONDS);
    bool stopped = false;
    for (int i = 0; i < 400 && !stopped; i++) {
        stopped = has_stopped_child("nonblocking");
        usleep(5000);
    }
    process_wait(&process, COMMAND_SECONDS);
    expect_exit(process.status, 0);
    if (access("/proc/thread-self/children", R_OK) < 0)
        cr_skip_test("this kernel does not list children");
    cr_assert(stopped);
    load_json();
    cr_assert(json_is_true(at(cell_of("nonblocking", 2), "verified")));
    expect_out("they were stopped (SIGSTOP) outside their own slices: nonblocking");
}

Test(table, what_a_model_does_not_take_is_told_before_anything_starts)
{
    static const struct {
        const char *option, *value, *says;
    } mistakes[] = {
        {"--engines", "iterative:reply=io", "iterative has no option 'reply=io'; it takes none"},
        {"--engines", "iterative,epoll,iterative", "'iterative' is listed twice"},
        {"--workers", "0", "from 1 to 1024"},
        {"--workers", "100000", "from 1 to 1024"},
        {"--cell-budget", "0", "seconds from"},
    };

    for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        expect_exit(COMPARE(mistakes[i].option, mistakes[i].value), 2);
        expect_err(mistakes[i].says);
        cr_assert_str_eq(process.out, "");
    }
}

Test(table, a_burst_larger_than_the_machine_holds_is_told_before_anything_starts)
{
    process.nofile = 1000;
    expect_exit(COMPARE("--engines", "a", GOOD("a"), "--shape", "burst", "--conns", "5000"), 2);
    expect_err("5064");
    expect_err("ulimit -Hn");
}

Test(table, growth_holds_each_engine_against_itself_with_and_without_idle_connections)
{
    expect_exit(COMPARE("--growth", "--engines", "a,b", GOOD("a"), GOOD("b"), "--conns", "1,8,40",
                        "--rounds", "8", "--slice", "0.02", "--json", json_path),
                0);
    load_json();
    json_t *engines = at(at(document, "growth"), "engines");

    cr_assert_eq(json_integer_value(at(at(document, "growth"), "base_conns")), 40);
    cr_assert_eq(json_array_size(engines), 2);
    json_t *points = at(json_array_get(engines, 1), "points");
    cr_assert_eq(json_array_size(points), 3);
    json_t *first = json_array_get(points, 0), *second = json_array_get(points, 1);
    cr_assert_eq(json_integer_value(at(first, "idle")), 0);
    cr_assert(json_is_null(at(at(first, "idle_over_without"), "median")), "there are none");
    cr_assert_eq(json_integer_value(at(second, "idle")), 4);
    cr_assert_gt(json_number_value(at(at(second, "idle_over_without"), "median")), 0);
    cr_assert_gt(json_number_value(at(at(second, "over_base"), "median")), 0);
    cr_assert(json_is_true(at(second, "verified")));
    expect_err("a, growth to 40 connections: 5 of 5 servers connected, reference a");
    expect_out("the idle add");
}

Test(table, growth_says_how_many_descriptors_the_numbers_asked_for_need)
{
    process.nofile = 200;
    expect_exit(COMPARE("--growth", "--engines", "a", GOOD("a"), "--conns", "10,100,1000"), 2);
    expect_err("ulimit -Hn");
    cr_assert_str_eq(process.out, "");
}

Test(table, growth_leaves_out_what_does_not_fit_of_the_usual_numbers)
{
    process.nofile = 464;
    expect_exit(COMPARE("--growth", "--engines", "a", GOOD("a"), "--rounds", "1", "--slice", "0.02",
                        "--json", json_path),
                0);
    load_json();
    json_t *engine = json_array_get(at(at(document, "growth"), "engines"), 0);

    cr_assert_eq(json_array_size(at(engine, "points")), 3);
    expect_out("10000 connections are left out: ");
}

Test(table, growth_is_no_other_comparison)
{
    expect_exit(COMPARE("--growth", "--shape", "closed"), 2);
    expect_err("--growth is of --shape idle, not closed");
    expect_exit(COMPARE("--growth", "--reference", "epoll"), 2);
    expect_exit(COMPARE("--seed-names"), 2);
    expect_err("for --shape burst");
}
