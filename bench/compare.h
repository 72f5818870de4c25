/*
 * A comparison: options in, a report and an exit code out. compare_cli.c reads the command line
 * into `struct compare_options`; compare.c runs the groups (one for each number of connections) and
 * writes the reports; compare_group.c measures one group; compare_pairs.c and compare_plan.c are
 * the arithmetic.
 */
#ifndef WEIR_BENCH_COMPARE_H
#define WEIR_BENCH_COMPARE_H

#include "bench/cli.h"
#include "bench/driver.h"
#include "bench/report.h"
#include "bench/servers.h"

#include <signal.h>

struct compare_options {
    struct engine_list engines; /* with `ablate`, that one */
    bool ablate;                /* its features are compared, not engines: ablate.h */
    const char *reference;      /* a row's name; NULL: epoll, else the first that runs */
    /* Slices of the others between two of the reference; 0: one of each in a round. */
    unsigned reference_every;
    const char *workload;
    enum driver_workload driver_workload;
    struct shape shape;
    unsigned conns[CLI_COUNTS_MAX];
    size_t conns_count;
    bool conns_usual; /* nobody named them */
    uint32_t size_bytes;
    uint64_t frame_limit_bytes; /* 0: the workload's own */
    double budget_s;            /* for the whole run, where rounds is 0 */
    bool budget_given;
    double cell_budget_s; /* for one cell; 0: from the budget, none where rounds are given */
    bool seed_names, seed_figures; /* report.h */
    bool growth;     /* not engines are compared, but numbers of connections: growth.h */
    unsigned rounds; /* 0: as many as the budget allows */
    double slice_s;  /* 0: chosen from the budget */
    uint64_t seed;
    cpu_set_t server_cpus;
    cpu_set_t driver_cpus;
    unsigned workers;        /* 0: the CPUs given to the server */
    unsigned driver_threads; /* 0: one for each of the driver's CPUs */
    double ready_timeout_s;
    const char *files[REPORT_KINDS]; /* paths; NULL: none */
    const char *baseline;            /* path; NULL: none */
    struct baseline_rule rule;
    unsigned runs_before; /* of the same command, each like this one: for the progress */
    unsigned runs_after;
};

/* One slice of one contender. Times are seconds of CLOCK_MONOTONIC. */
struct slice {
    double middle_s;  /* when it was */
    double elapsed_s; /* how long it took */
    double requests;
    double cpu_s; /* the server's; NAN: unknown */
    bool driver_bound;
    bool cut;                /* a burst that was ended at its bound: it has no time that it took */
    struct driver_ramp ramp; /* ramp */
};

enum slice_figure {
    SLICE_RPS,
    SLICE_CPU,     /* microseconds per request */
    SLICE_ELAPSED, /* milliseconds */
    SLICE_RAMP,    /* milliseconds for each 1000 connections: the median thousand */
    SLICE_RAMP_FIRST,
    SLICE_RAMP_LAST,
};

/* The figure of one slice; NAN where it is unknown. */
double weir__slice_figure(const struct slice *slice, enum slice_figure figure);

/* Median and interval of one figure over slices in the order in which they were measured. */
struct interval weir__slices_interval(const struct slice *slices, size_t count,
                                      enum slice_figure figure, uint64_t seed);

/*
 * The paired ratios of `subject` over `reference`: each slice against the mean of the nearest
 * reference slices before and after it in time (one of them at the ends), so that a drift of the
 * machine cancels. Both in the order of time. Returns the interval of the median; unknown where a
 * side has no slice.
 */
struct interval weir__pairs_interval(const struct slice *subject, size_t subject_count,
                                     const struct slice *reference, size_t reference_count,
                                     enum slice_figure figure, uint64_t seed);

/* What one group may take. */
struct plan {
    double slice_s;    /* seconds; of a closed loop */
    unsigned rounds;   /* expected, or exact where fixed */
    bool rounds_fixed; /* else the clock ends the group */
    double group_s;    /* seconds for one group, start to stop; 0 where rounds are fixed */
    double cell_s;     /* seconds that one server may be driven for; 0: any */
    bool warms_up;     /* a round before the first is not counted */
};

/* How one group of `contenders` servers, the A/A copy included, spends `group_s` seconds. */
struct plan weir__plan_group(const struct compare_options *options, unsigned conns,
                             unsigned contenders, double group_s);

/* The shortest slice in which so many connections are served some times over. */
double weir__plan_least_slice_s(unsigned conns);

/* Seconds of the budget for the group of options->conns[index]: equal parts; but of bursts, whose
 * length is given, by what they will take. */
double weir__plan_share_s(const struct compare_options *options, size_t index);

/* A budget that is enough for the work: 60 seconds, in bursts what so many engines need for a few
 * of each. */
double weir__plan_default_s(const struct compare_options *options);

/* Slices of one round: see compare_options.reference_every. */
size_t weir__plan_slices(size_t contenders, unsigned reference_every);

/*
 * The order of one round, as places among the contenders: every one once, in random order; with
 * `reference_every` not 0, the reference before each so many of the others instead. Returns how
 * many, weir__plan_slices(); `order` has room for twice the contenders.
 */
size_t weir__plan_round(struct rng *rng, size_t contenders, size_t reference,
                        unsigned reference_every, unsigned *order);

/* Seconds that a group of this size needs beside its slices: start, connect, warm-up, stop. */
double weir__plan_overhead_s(unsigned conns, unsigned contenders, double slice_s);

/* Set by SIGINT, SIGTERM and SIGHUP; everything that loops looks at it. */
extern volatile sig_atomic_t weir__compare_interrupted;
void weir__compare_catch_signals(void);

/* A line on standard error, after the command's name. */
void weir__compare_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Runs the comparison and writes all reports. The exit code of CLI.md. */
int weir__compare_run(struct compare_options *options);

/*
 * The same in steps, for ablate.c, which makes one report of many runs: check everything that can
 * be refused before a server starts; measure; look. Exit codes; what went wrong has been told.
 * `options` stay the caller's and must live as long; files and baselines are none of the steps'.
 */
struct compare;
int weir__compare_new(struct compare **compare, struct compare_options *options);
int weir__compare_measure(struct compare *compare);
struct report weir__compare_report(const struct compare *compare); /* borrows all it points to */
int weir__compare_code(const struct compare *compare);
void weir__compare_free(struct compare *compare);

/* Starts the load driver, and moves this process, which works between slices, off the servers' CPUs
 * and beside it. 0, or -errno, which has been told; `*driver` is to be freed whatever the result.
 */
int weir__compare_driver(const struct compare_options *options, struct driver **driver);

/* Whether so many servers fit that have so many connections, all together. The same as below. */
int weir__compare_fits_conns(const struct compare_options *options, uint64_t servers,
                             uint64_t conns, char *text, size_t bytes);

/* Whether so many servers, each with so many connections, fit this machine's limits and the driver.
 * 0, or -errno with a line in `text`. */
int weir__compare_fits(const struct compare_options *options, uint64_t servers, char *text,
                       size_t bytes);

/* The most of `rows` engines that go into one group with the reference and its copy, so that they
 * take as few and as equal groups as possible; 0: not even one fits, and `text` says why. */
size_t weir__compare_batch(const struct compare_options *options, size_t rows, char *text,
                           size_t bytes);

/* The subcommand: `weir-bench compare …`. */
int weir_bench_compare(int argc, char **argv);

/* The names that --engines knows in this build. */
void weir__catalog_build(struct engine_catalog *catalog);

/* The names with what they are and the features they know, for the end of --help. The caller frees;
 * NULL when out of memory. `before` comes first. */
char *weir__catalog_help(const struct engine_catalog *catalog, const char *before);

#endif
