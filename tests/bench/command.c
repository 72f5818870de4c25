/* Running weir-bench (command.h). */
#include "command.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/clock.h"

struct process process;
char directory[64];
char json_path[128];
json_t *document;

void command_setup(void)
{
    strcpy(directory, "/tmp/weir-command-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    snprintf(json_path, sizeof json_path, "%s/r.json", directory);
}

void command_teardown(void)
{
    char command[80];

    json_decref(document);
    process_free(&process);
    snprintf(command, sizeof command, "rm -rf %s", directory);
    cr_assert_eq(system(command), 0);
}

static uint64_t launched_ns;

void launch(const char *const *args)
{
    enum { MOST = 64 };
    char *argv[MOST] = {WEIR_BENCH};

    for (size_t i = 1; *args; i++) {
        cr_assert_lt(i, MOST - 1);
        argv[i] = (char *)*args++;
    }
    launched_ns = weir__clock_ns();
    process_start(&process, argv);
}

int run(const char *const *args)
{
    launch(args);
    process_wait(&process, COMMAND_SECONDS);
    return process.status;
}

void expect_exit(int got, int want)
{
    cr_assert_eq(got, want, "exit status %d, want %d\nout:\n%s\nerr:\n%s", got, want, process.out,
                 process.err);
}

void expect_out(const char *part)
{
    cr_assert_not_null(strstr(process.out, part), "no '%s' in:\n%s", part, process.out);
}

void expect_err(const char *part)
{
    cr_assert_not_null(strstr(process.err, part), "no '%s' in:\n%s", part, process.err);
}

json_t *load_json(void)
{
    json_error_t error;

    json_decref(document);
    document = json_load_file(json_path, 0, &error);
    cr_assert_not_null(document, "%s: line %d: %s", json_path, error.line, error.text);
    return document;
}

json_t *at(json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);

    cr_assert_not_null(value, "no field '%s'", key);
    return value;
}

void expect_enough_rounds(json_t *run, unsigned budget_s)
{
    json_int_t rounds = json_integer_value(at(run, "rounds"));
    uint64_t took_ns = weir__clock_ns() - launched_ns;

    cr_assert(rounds >= 8 || took_ns > 2 * budget_s * NS_PER_S, "only %d rounds in %d ms",
              (int)rounds, (int)(took_ns / 1000000));
}
