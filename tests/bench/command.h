/*
 * `weir-bench` as who types it has it: run to its end, its exit status, what it printed, and the
 * JSON that it wrote into a directory of the test's own. One command at a time. For tests that
 * include <jansson.h>; WEIR_BENCH and FAKE_SERVER come from Meson.
 */
#ifndef WEIR_TESTS_BENCH_COMMAND_H
#define WEIR_TESTS_BENCH_COMMAND_H

#include <jansson.h>

#include "process.h"

enum { COMMAND_SECONDS = 100 };

extern struct process process; /* the command that runs, or the last one */
extern char directory[64];     /* of this test; what is in it goes with it */
extern char json_path[128];    /* a file there */
extern json_t *document;       /* what load_json() read last */

/* .init and .fini of the suite. */
void command_setup(void);
void command_teardown(void);

/* Starts weir-bench with these arguments (the first NULL ends them), and only with RUN waits until
 * it ends: that is its exit status. */
#define LAUNCH(...) launch((const char *const[]){__VA_ARGS__, NULL})
#define RUN(...)    run((const char *const[]){__VA_ARGS__, NULL})
void launch(const char *const *args);
int run(const char *const *args);

/* The option for a server that is none of ours and serves well. */
#define GOOD(name) "--server-command", name "=" FAKE_SERVER " good"

/* All of these tell what it printed where they fail. */
void expect_exit(int got, int want);
void expect_out(const char *part);
void expect_err(const char *part);

/* Reads json_path. What was read before is no more. */
json_t *load_json(void);
/* The field of that name, which must be there. */
json_t *at(json_t *object, const char *key);
/* The rounds that an interval needs were had, or twice the budget went: the machine is too busy. */
void expect_enough_rounds(json_t *run, unsigned budget_s);

#endif
