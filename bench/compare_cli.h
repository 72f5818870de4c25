/*
 * Between the two halves of compare's command line: compare_cli.c reads the options,
 * compare_check.c checks every value and every pair of values that must agree.
 */
#ifndef WEIR_BENCH_COMPARE_CLI_H
#define WEIR_BENCH_COMPARE_CLI_H

#include "bench/compare.h"

#define COMPARE_ENGINES_DEFAULT "uring,epoll,poll"
#define COMPARE_CONNS_DEFAULT   "100,200,1000"

/* The command line while it is being read. */
struct reading {
    struct compare_options *options;
    struct engine_catalog catalog;
    const char *engines; /* NULL, as the next two: not said */
    const char *ablate;
    const char *conns;
    bool server_cpus_given, driver_cpus_given, percent_given;
};

/* At the end of the command line: fills in what was not said. A mistake ends the process. */
void weir__compare_check(struct argp_state *state, struct reading *reading);

#endif
