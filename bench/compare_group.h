/*
 * One group of a comparison: servers that are up at once and driven in turn, and a second copy of
 * the reference. Mostly all engines at one number of connections, or so many of them as the machine
 * holds; --growth has one engine at many. Used by compare.c, ablate.c and growth.c.
 */
#ifndef WEIR_BENCH_COMPARE_GROUP_H
#define WEIR_BENCH_COMPARE_GROUP_H

#include "bench/compare.h"
#include "bench/histogram.h"
#include "bench/progress.h"

/* A server that a group is to have. */
struct lineup {
    const struct engine_choice *choice;
    unsigned conns;
    struct shape shape;
    bool wanted;    /* as the reference */
    double slice_s; /* 0: as the plan has it */
};

/* One server of the group, from start to stop. */
struct contender {
    const struct engine_choice *choice;
    unsigned conns;
    struct shape shape;
    double slice_s; /* 0: as the plan has it */
    bool wanted;    /* as the reference */
    bool is_reference;
    bool is_twin; /* the second copy of the reference */
    struct server server;
    uint32_t target; /* the driver's, while `open` */
    bool open;       /* still measured */
    bool skipped;    /* `why` says why it could not run here */
    bool failed;     /* `why` says how it failed */
    char why[SERVER_TEXT_BYTES];
    struct slice *slices; /* in the order of time */
    size_t slice_count;
    size_t slice_capacity;
    size_t driver_bound_count; /* of the slices */
    uint64_t requests;
    uint64_t errors;
    uint64_t bytes;
    double seconds;
    double spent_s;   /* of its cell's budget, the warm-up included */
    double last_s;    /* of that, its last slice */
    bool over_budget; /* that was not enough for all rounds, or to end a burst */
    bool cut;         /* a burst was ended before its end */
    bool restless;    /* nobody waits for it to be idle: it never is, or to see it takes too long */
    bool conns_served; /* every slice left every connection alive */
    double rss_idle;
    double rss_peak;
    struct memory_per_conn per_conn; /* idle, ramp; unknown in other shapes */
    uint64_t planned, late;          /* open */
    unsigned reached;                /* ramp: connections, by the worst */
    struct histogram latency;
};

struct group {
    const struct compare_options *options;
    struct driver *driver;
    struct progress *progress;
    struct rng *rng;
    const struct lineup *lineup; /* borrowed until weir__group_run returns */
    size_t lineup_count;
    unsigned conns;      /* of each, or of the largest */
    char title[128];     /* "1000 connections" */
    size_t index, total; /* of the groups */
    double budget_s;     /* of this group; where no rounds are given */
    struct plan plan;
    uint64_t started_ns;
    const char *reference;        /* out: its name, NULL: none ran */
    bool reference_fixed;         /* the one wanted or none: nobody takes its place */
    struct contender *contenders; /* the engines in their order, then the twin */
    size_t count;                 /* with the twin, where there is one */
    unsigned rounds;              /* done in full */
    bool driver_lost;             /* the driver process died: nothing more can be measured */
};

/*
 * Starts the servers, measures, stops them. Fills the group; what failed stands in its contenders.
 * 0, or -errno where nothing could be done at all (-ENOMEM; -EPIPE: the driver died; -EINVAL: an
 * engine's options are wrong, which has been told). Whatever the result, weir__group_deinit stops
 * what runs.
 */
int weir__group_run(struct group *group);
void weir__group_deinit(struct group *group);

/* The contender that is the reference or its twin; NULL where there is none. */
struct contender *weir__group_reference(const struct group *group);
struct contender *weir__group_twin(const struct group *group);

/* The line-up of all engines at `conns`, the shape that of the options. The caller frees; NULL: out
 * of memory. `wanted` is the reference's name; NULL: any. */
struct lineup *weir__group_line_up(const struct compare_options *options, unsigned conns,
                                   const char *wanted);

/* Fills one report cell from a contender; strings are those of the contender. */
void weir__group_fill_cell(const struct group *group, const struct contender *contender,
                           struct report_cell *cell);

/* The A/A ratios of the group; unknown where there is no twin. */
struct report_noise weir__group_noise(const struct group *group);

/* A contender's ratios over another of its group; unknown where one of them has no slices. */
struct interval weir__contender_ratio(const struct contender *contender,
                                      const struct contender *other, enum slice_figure figure,
                                      uint64_t seed);

/* compare_servers.c: starts and stops the group's servers. */
int weir__group_start_servers(struct group *group);
void weir__group_stop_servers(struct group *group);
__attribute__((format(printf, 2, 3))) void weir__contender_fail(struct contender *contender,
                                                                const char *format, ...);

#endif
