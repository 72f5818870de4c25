/*
 * What a run found, and the five ways to write it down: a table for people, JSON, CSV, HTML and
 * Markdown. compare.c and load fill a `struct report`; the report_*.c files only read it. Nothing
 * here measures, and nothing here decides a verdict (stats.h does). Unknown figures are NAN or NULL
 * and are written as null, an empty field or "-", never as 0.
 */
#ifndef WEIR_BENCH_REPORT_H
#define WEIR_BENCH_REPORT_H

#include "bench/memory.h"
#include "bench/shape.h"
#include "bench/stats.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct host;

/* One cell: one engine at one number of connections. Strings are borrowed from whoever fills it. */
struct report_cell {
    const char *engine;   /* the row's name, as the user wrote it */
    unsigned conns;       /* connections */
    const char *features; /* what the server was granted, comma-separated; NULL: unknown */
    bool measured;        /* false: the figures below are unknown, `skipped` or `failed` says why */
    uint64_t requests;
    double seconds; /* under load, all slices together */
    uint64_t errors;
    bool verified; /* every byte that came back was compared and right */
    struct interval rps;
    struct interval server_cpu_us; /* per request */
    struct interval elapsed_ms;    /* per burst; unknown in other shapes */
    struct {
        double p50, p90, p99, p999, max; /* microseconds */
    } latency;
    double rss_peak;                 /* bytes, the server's */
    double rss_idle;                 /* bytes, connected and not yet asked anything */
    struct memory_per_conn per_conn; /* idle, ramp; unknown in other shapes */
    struct {
        uint64_t planned; /* requests that were due */
        uint64_t late;    /* those that the driver itself sent late */
    } plan;               /* open */
    struct {
        struct interval ms;       /* per 1000 connections, the median thousand of each ramp */
        double first_ms, last_ms; /* the first thousand, and the last */
        unsigned reached;         /* connections, by the worst ramp */
    } ramp;                       /* ramp */
    bool driver_bound;            /* the driver, not the server, set the pace */
    unsigned slices;              /* measured, a burst that was cut among them */
    bool over_budget;             /* its cell's budget ended it before the others */
    bool cut;                     /* in the middle of a burst */
    bool spins;                   /* stopped outside its own slices */
    const char *seed_name;        /* in the measurement the project began with; NULL: none */
    bool is_reference;
    bool has_ratio; /* the next three are this engine over the reference */
    struct interval cpu_ratio;
    struct interval rps_ratio;
    enum verdict verdict;
    const char *skipped; /* why it could not run here; NULL: it could */
    const char *failed;  /* how it failed: died, wrong bytes, refused; NULL: it did not */
};

/* The second copy of the reference at one number of connections: what "no difference" looks like.
 */
struct report_noise {
    unsigned conns;
    struct interval cpu_ratio;
    struct interval rps_ratio;
};

struct report {
    const struct host *host; /* NULL: leave out */
    const char *tool;        /* "compare" or "load" */
    const char *workload;
    struct shape shape;
    unsigned size;         /* bytes of a request's payload */
    unsigned rounds;       /* slices per server; of the smallest group where groups differ */
    double slice_s;        /* seconds of one slice; NAN for bursts */
    const char *reference; /* NULL: none ran */
    uint64_t seed;
    const char *server_cpus; /* as a list, "0-3"; NULL: unknown */
    const char *driver_cpus;
    bool cpus_shared;       /* both may run on one of them */
    const char *congestion; /* set on the benchmark's own sockets */
    bool interrupted;
    const struct report_cell *cells; /* grouped by conns, engines in the order given */
    size_t cell_count;
    const struct report_noise *noise; /* one for each conns; empty for load */
    size_t noise_count;
    bool seed_names; /* to stand beside ours, where there is room */
    bool seed_figures;
    const char *const *notes; /* whole sentences for the footer */
    size_t note_count;
};

/* The widest of these A/A intervals, per figure; unknown where all are. Of those that have no
 * bounds a median is kept. */
struct report_noise weir__report_noise_widest(const struct report_noise *noise, size_t count);

/* The widest A/A interval of all connection counts, per figure; unknown without an A/A row. */
struct report_noise weir__report_noise_all(const struct report *report);

/* True where the verdict on `cell` is of CPU and not of the rate. */
bool weir__report_by_cpu(const struct report *report, const struct report_cell *cell);

/* True where `cell` holds the best median of its connection group (or ties with it) in the figure.
 */
enum report_figure {
    FIGURE_RPS,
    FIGURE_CPU,
    FIGURE_ELAPSED,
    FIGURE_P50,
    FIGURE_P99,
    FIGURE_P999,
    FIGURE_RSS,
    FIGURE_USER_PER_CONN,
    FIGURE_MAX,
    FIGURE_RAMP,
    FIGURE_COUNT,
};

/* The median of `figure` in `cell`; NAN where unknown. */
double weir__report_figure(const struct report_cell *cell, enum report_figure figure);

/* The same in the unit that people read: a stream is told in MiB. */
double weir__report_shown(const struct report *report, const struct report_cell *cell,
                          enum report_figure figure);

/* What a figure per message has to be multiplied with to be one per second in MiB: MiB of a
 * message; 1 in shapes that are told in requests. */
double weir__report_unit(const struct report *report);

/* True where `cell` is the best of its connection group in `figure`, or ties with the best. */
bool weir__report_is_best(const struct report *report, const struct report_cell *cell,
                          enum report_figure figure);

/* True where `best` is so little better than `cell` in `figure` that their difference is noise. */
bool weir__report_ties(const struct report *report, const struct report_cell *cell,
                       const struct report_cell *best, enum report_figure figure);

/* The table for people. `colour` asks for ANSI bold and colours (a terminal without NO_COLOR). */
void weir__report_table(FILE *out, const struct report *report, bool colour);

/* The JSON document of CLI.md, a new reference; NULL only when out of memory. */
json_t *weir__report_json(const struct report *report);

/* Each of these writes a whole document. 0, or -errno of the first write that failed. */
int weir__report_write_json(FILE *out, const struct report *report);
int weir__report_write_csv(FILE *out, const struct report *report);
int weir__report_write_html(FILE *out, const struct report *report);
int weir__report_write_markdown(FILE *out, const struct report *report);

/* open: true where about as many requests a second were made as were planned. */
bool weir__report_plan_kept(const struct report *report, const struct report_cell *cell);

/* Parts of these, for documents of several reports. */
json_t *weir__json_interval(struct interval value);
json_t *weir__json_names(const char *names); /* comma-separated; NULL: null */
void weir__csv_header(FILE *out);
void weir__csv_cells(FILE *out, const struct report *report);
int weir__json_dump(FILE *out, json_t *document); /* takes the document; NULL: -ENOMEM */

/*
 * A file that is opened before the run and appears, whole, after it: the text goes to a temporary
 * name beside `path`, which weir__report_file_commit() renames over it. "-" is standard output.
 */
struct report_file {
    char *path;
    char *temporary;
    FILE *stream;
};

/* 0, or -errno with nothing left behind. `file` may then be discarded without a close. */
int weir__report_file_open(struct report_file *file, const char *path);

/* Flushes, renames and closes. 0, or -errno with `path` as it was before. */
int weir__report_file_commit(struct report_file *file);

/* Closes and removes the temporary; does nothing to a file never opened or already committed. */
void weir__report_file_discard(struct report_file *file);

/* All files of one run; all zero is none. `who` begins the messages on standard error. */
enum report_kind { REPORT_JSON, REPORT_CSV, REPORT_HTML, REPORT_MARKDOWN, REPORT_KINDS };
struct report_files {
    const char *paths[REPORT_KINDS]; /* of those that are open; borrowed */
    struct report_file files[REPORT_KINDS];
};

/* Opens those of `paths` that are not NULL. 0, or -errno of the first that cannot be written to or
 * is there twice, which has been told. */
int weir__report_files_open(struct report_files *files, const char *const *paths, const char *who);

/* Where the table goes: standard error where one of the files is standard output. */
FILE *weir__report_files_table(const struct report_files *files);

/* Writes and commits all. 0, or -errno of one that failed, which has been told. */
int weir__report_files_write(struct report_files *files, const struct report *report,
                             const char *who);

/* The same of something else: `write` writes one kind of file of it, as the writers above do. */
typedef int weir__report_write_fn(enum report_kind kind, FILE *out, const void *what);
int weir__report_files_write_with(struct report_files *files, weir__report_write_fn *write,
                                  const void *what, const char *who);

/* Discards what is not committed. */
void weir__report_files_discard(struct report_files *files);

/* What is held against a baseline. */
struct baseline_rule {
    double percent; /* slower by more than this regresses; NAN: only report */
    bool by_ratio;  /* compare each engine's ratio over the reference, not its own figure: holds
                       between  machines and days of different speed, and says nothing about the
                       reference */
};

/*
 * Reads a baseline document and checks that `plan`, whose cells need no figures yet, has cells in
 * common with it and measures the same work. A new reference; NULL with one line in `error`.
 */
json_t *weir__baseline_load(const char *path, const struct report *plan, char *error,
                            size_t error_bytes);

/*
 * Holds a finished run against the baseline: requests per second, or CPU per request where either
 * run was driver-bound. A cell regresses where it is slower by more than rule->percent and the two
 * intervals do not touch. One line per cell that both know goes to `out`. Returns the number of
 * regressions.
 */
unsigned weir__baseline_compare(const struct report *report, const json_t *baseline,
                                const struct baseline_rule *rule, FILE *out);

#endif
