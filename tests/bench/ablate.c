/*
 * `weir-bench compare --ablate` from outside, on epoll's features, which every Linux has, with runs
 * as short as they can be. What is tested is what is run and told; never how fast.
 */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "command.h"

#define QUICK "--rounds", "2", "--slice", "0.02"

#define ABLATE(...) RUN("compare", "--ablate", __VA_ARGS__)

TestSuite(ablate, .init = command_setup, .fini = command_teardown, .timeout = 120);

/* The words of a ready line; "" where the server has none. */
static const char *first_feature(json_t *cell)
{
    const char *name = json_string_value(json_array_get(at(cell, "features"), 0));

    return name != NULL ? name : "";
}

Test(ablate, each_feature_is_switched_alone_against_the_engine_as_it_comes)
{
    expect_exit(ABLATE("epoll-et", QUICK, "--conns", "3", "--json", json_path), 0);
    json_t *columns = at(load_json(), "columns");
    json_t *cells = at(json_array_get(columns, 0), "cells");
    json_t *features = at(at(document, "ablation"), "features");

    cr_assert_eq(json_array_size(columns), 1);
    cr_assert_eq(json_array_size(cells), json_array_size(features) + 1);
    cr_assert_str_eq(json_string_value(at(json_array_get(cells, 0), "engine")), "epoll-et");
    cr_assert(json_is_null(at(json_array_get(cells, 0), "vs_reference")));
    for (size_t i = 0; i < json_array_size(features); i++) {
        json_t *cell = json_array_get(cells, i + 1);
        json_t *feature = json_array_get(features, i);
        const char *name = json_string_value(at(feature, "feature"));
        bool off = strcmp(json_string_value(at(feature, "switched")), "off") == 0;

        cr_assert_str_eq(json_string_value(at(cell, "engine")),
                         json_string_value(at(feature, "engine")));
        if (!off)
            continue;
        cr_assert(json_is_true(at(cell, "verified")));
        cr_assert(json_is_object(at(cell, "vs_reference")));
        for (size_t j = 0; j < json_array_size(at(cell, "features")); j++)
            cr_assert_str_neq(json_string_value(json_array_get(at(cell, "features"), j)), name);
    }
    cr_assert_str_neq(first_feature(json_array_get(cells, 1)),
                      json_string_value(at(json_array_get(features, 0), "feature")));
}

Test(ablate, without_a_word_five_kinds_of_work_are_run)
{
    static const char *const shapes[] = {"closed", "closed", "closed", "pipeline", "churn"};

    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_max < 4096)
        cr_skip_test("1000 connections of three servers do not fit into %llu descriptors",
                     (unsigned long long)limit.rlim_max);
    expect_exit(ABLATE("epoll", QUICK, "--json", json_path), 0);
    json_t *columns = at(load_json(), "columns");

    cr_assert_eq(json_array_size(columns), 5);
    for (size_t i = 0; i < 5; i++) {
        json_t *run = at(json_array_get(columns, i), "run");
        cr_assert_str_eq(json_string_value(at(run, "shape")), shapes[i]);
        cr_assert_str_eq(json_string_value(at(run, "reference")), "epoll");
    }
    expect_out("1000 conns");
    expect_err("column 5 of 5: churn");
}

Test(ablate, a_shape_alone_is_work_enough)
{
    expect_exit(ABLATE("epoll", QUICK, "--shape", "idle", "--conns", "20", "--json", json_path), 0);
    json_t *columns = at(load_json(), "columns");

    cr_assert_eq(json_array_size(columns), 1);
    cr_assert_str_eq(json_string_value(at(at(json_array_get(columns, 0), "run"), "shape")), "idle");
    expect_out("user B/conn");
}

Test(ablate, a_closed_shape_that_was_named_is_no_default)
{
    expect_exit(ABLATE("epoll", QUICK, "--shape", "closed", "--conns", "2,3"), 0);
    expect_out("2 conns");
    expect_out("3 conns");
}

Test(ablate, the_table_says_what_a_ratio_is_and_what_chance_does)
{
    expect_exit(ABLATE("epoll-et", "--rounds", "8", "--slice", "0.02", "--conns", "3"), 0);
    expect_out("server CPU per request without it,\ndivided by the same with it");
    expect_out("\nwithout\n");
    expect_out("\nA/A ");
}

Test(ablate, a_budget_is_enough_for_an_interval)
{
    expect_exit(ABLATE("epoll", "--budget", "1", "--conns", "2", "--json", json_path), 0);
    json_t *run = at(json_array_get(at(load_json(), "columns"), 0), "run");

    expect_enough_rounds(run, 1);
}

Test(ablate, all_files_are_written)
{
    static const char *const names[] = {"r.csv", "r.html", "r.md"};
    char paths[3][128];
    struct stat stat_now;

    for (size_t i = 0; i < 3; i++)
        snprintf(paths[i], sizeof paths[i], "%s/%s", directory, names[i]);
    expect_exit(ABLATE("epoll", QUICK, "--conns", "2", "--csv", paths[0], "--html", paths[1],
                       "--markdown", paths[2]),
                0);
    for (size_t i = 0; i < 3; i++)
        cr_assert(stat(paths[i], &stat_now) == 0 && stat_now.st_size > 0, "%s", paths[i]);
}

Test(ablate, options_of_the_engine_stay_as_they_are)
{
    expect_exit(ABLATE("epoll:per=connection", QUICK, "--conns", "2", "--json", json_path), 0);
    json_t *features = at(at(load_json(), "ablation"), "features");
    const char *spec = json_string_value(at(json_array_get(features, 0), "engine"));

    cr_assert_eq(strncmp(spec, "epoll:per=connection,features=", 30), 0, "%s", spec);
}

Test(ablate, rows_whose_connections_do_not_fit_at_once_are_measured_in_parts)
{
    /* 4 servers of 20 connections do not fit, 3 do: each feature is run by itself. */
    process.nofile = 64 + 3 * 20 + 10;
    expect_exit(ABLATE("epoll-et", QUICK, "--conns", "20", "--json", json_path), 0);
    json_t *features = at(at(load_json(), "ablation"), "features");
    json_t *column = json_array_get(at(document, "columns"), 0);
    size_t switched = 0;

    for (size_t i = 0; i < json_array_size(features); i++)
        switched +=
            strcmp(json_string_value(at(json_array_get(features, i), "state")), "measured") == 0;
    cr_assert_eq(json_array_size(at(at(at(column, "run"), "noise"), "by_conns")), switched);
    for (size_t i = 0; i < json_array_size(at(column, "cells")); i++) {
        json_t *cell = json_array_get(at(column, "cells"), i);
        cr_assert(json_is_true(at(cell, "verified")) || !json_is_null(at(cell, "skipped")));
    }
    expect_out("they were divided");
}

Test(ablate, a_usual_column_that_does_not_fit_is_left_out_and_said)
{
    process.nofile = 500;
    expect_exit(ABLATE("epoll", QUICK, "--json", json_path), 0);
    cr_assert_eq(json_array_size(at(load_json(), "columns")), 4);
    expect_err("1000 conns is left out: ");
}

Test(ablate, connections_that_were_asked_for_and_do_not_fit_are_refused)
{
    process.nofile = 500;
    expect_exit(ABLATE("epoll", QUICK, "--conns", "1000"), 2);
    expect_err("RLIMIT_NOFILE");
}

Test(ablate, an_interruption_still_tells_what_there_is)
{
    LAUNCH("compare", "--ablate", "epoll", "--rounds", "8", "--slice", "2", "--conns", "2",
           "--json", json_path);
    process_expect(&process, true, "servers connected", 30);
    kill(process.pid, SIGINT);
    process_wait(&process, COMMAND_SECONDS);
    expect_exit(process.status, 130);
    expect_out("INTERRUPTED");
    json_t *ablation = at(load_json(), "ablation"); /* json_is_true() looks twice */
    cr_assert(json_is_true(at(ablation, "interrupted")));
}

Test(ablate, what_does_not_go_together_is_refused)
{
    expect_exit(ABLATE("epoll", "--engines", "poll"), 2);
    expect_err("leave out --engines");
    expect_exit(ABLATE("epoll", "--reference", "epoll"), 2);
    expect_err("leave out --reference");
    expect_exit(ABLATE("epoll", "--baseline", "/dev/null"), 2);
    expect_err("--ablate has none");
    expect_exit(ABLATE("epoll,select"), 2);
    expect_err("one engine at a time");
    expect_exit(ABLATE("reactors"), 2);
    expect_err("one engine at a time");
}

Test(ablate, an_engine_without_features_names_those_that_have_some)
{
    expect_exit(ABLATE("poll"), 2);
    expect_err("it has no features to switch; these have: ");
    expect_err("epoll-et");
}

Test(ablate, an_unknown_engine_or_option_lists_the_valid_ones)
{
    expect_exit(ABLATE("nonsense"), 2);
    expect_err("unknown engine 'nonsense'; valid: ");
    expect_exit(ABLATE("epoll:colour=red"), 2);
    expect_err("--ablate epoll:colour=red: unknown option");
}
