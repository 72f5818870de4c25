/*
 * What `weir-bench load` was asked for. load_options.c fills it from the command line, load.c does
 * it.
 */
#ifndef WEIR_BENCH_LOAD_H
#define WEIR_BENCH_LOAD_H

#include "bench/driver.h"
#include "bench/report.h"

struct load_options {
    const char *connect; /* as typed */
    const char *workload;
    struct driver_target target;
    const char *engine; /* the name of the row; NULL: `connect` */
    bool loopback;      /* the server is on 127.0.0.0/8 */
    double seconds;
    double slice_s;
    uint64_t bursts; /* 0: as many as fit into `seconds` */
    cpu_set_t driver_cpus, server_cpus;
    bool driver_pinned, server_cpus_known;
    unsigned threads;                /* 0: one for each driver CPU */
    const char *files[REPORT_KINDS]; /* to write; NULL: none */
};

/* Reads the command line. Prints its own message and exits with EXIT_USAGE where it is wrong, and
 * with 0 after --help. */
void weir__load_options_read(struct load_options *options, int argc, char **argv);

#endif
