/*
 * One group of a comparison: all servers at one number of connections, and a second copy of the
 * reference. Used by compare.c only.
 */
#ifndef WEIR_BENCH_COMPARE_GROUP_H
#define WEIR_BENCH_COMPARE_GROUP_H

#include "bench/compare.h"
#include "bench/histogram.h"
#include "bench/progress.h"

/* One server of the group, from start to stop. */
struct contender {
    const struct engine_choice *choice;
    bool is_twin; /* the second copy of the reference */
    struct server server;
    uint32_t target; /* the driver's, while `open` */
    bool open;       /* still measured */
    bool skipped;    /* `why` says why it could not run here */
    bool failed;     /* `why` says how it failed */
    char why[SERVER_TEXT_BYTES];
    unsigned pid_count;
    struct slice *slices; /* in the order of time */
    size_t slice_count;
    size_t slice_capacity;
    size_t driver_bound_count; /* of the slices */
    uint64_t requests;
    uint64_t errors;
    uint64_t bytes;
    double seconds;
    bool restless;     /* it computes without end: nobody waits for it */
    bool conns_served; /* every slice left every connection alive */
    double rss_idle;
    double rss_peak;
    struct memory_per_conn per_conn; /* idle; unknown in other shapes */
    struct histogram latency;
};

struct group {
    const struct compare_options *options;
    struct driver *driver;
    struct progress *progress;
    struct rng *rng;
    unsigned conns;
    size_t index; /* of the groups */
    struct plan plan;
    uint64_t started_ns;
    const char *reference;        /* in: wanted, NULL: any; out: the one used, NULL: none ran */
    bool reference_fixed;         /* the user named it: nobody takes its place */
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

/* Fills one report cell from a contender; strings are those of the contender. */
void weir__group_fill_cell(const struct group *group, const struct contender *contender,
                           struct report_cell *cell);

/* The A/A ratios of the group; unknown where there is no twin. */
struct report_noise weir__group_noise(const struct group *group);

/* compare_servers.c: starts and stops the group's servers. */
int weir__group_start_servers(struct group *group);
void weir__group_stop_servers(struct group *group);
__attribute__((format(printf, 2, 3))) void weir__contender_fail(struct contender *contender,
                                                                const char *format, ...);

#endif
