/*
 * What an ablation found, and how it is written down: a table of features by kinds of work, the
 * same in words, and under them the reports of compare as they are. ablate.c fills it; nothing here
 * measures.
 */
#ifndef WEIR_BENCH_REPORT_ABLATION_H
#define WEIR_BENCH_REPORT_ABLATION_H

#include "bench/report.h"

enum {
    ABLATION_COLUMNS_MAX = 10,
    ABLATION_ROWS_MAX = 47, /* with the reference, the engines that one list holds */
    ABLATION_NAMES_BYTES = 512,
};

enum ablation_state {
    ABLATION_MEASURED,
    ABLATION_SAME, /* the engine is as in an earlier row, or as it comes: nothing to measure */
    ABLATION_NOT_GRANTED, /* asked for and refused */
    ABLATION_FAILED,      /* the server did not start */
};

/* One feature, switched. */
struct ablation_row {
    const char *feature; /* the engine's word; borrowed */
    bool on;             /* switched on; else off */
    char *spec;          /* as for --engines: "uring:features=-multishot_recv" */
    enum ablation_state state;
    char granted[ABLATION_NAMES_BYTES];  /* so switched; comma-separated, like the next two */
    char also_off[ABLATION_NAMES_BYTES]; /* what went with it */
    char also_on[ABLATION_NAMES_BYTES];  /* what came in its place */
    char why[ABLATION_NAMES_BYTES];      /* where it was not measured */
};

enum ablation_verdict {
    WORTH_UNKNOWN,
    WORTH_NOTHING, /* beyond noise */
    WORTH_PAYS,    /* the server needs more CPU without it */
    WORTH_COSTS,   /* and less */
};

/* Server CPU per request without the feature over the same with it: above 1 it pays. */
struct ablation_worth {
    struct interval ratio;
    enum ablation_verdict verdict;
};

struct ablation_column {
    char name[32];
    struct report report; /* its cells: the engine as it comes, then one for each row */
    struct ablation_worth worth[ABLATION_ROWS_MAX]; /* of each row */
};

struct ablation_report {
    const char *engine;  /* with its options: the reference */
    const char *granted; /* to the engine as it comes; NULL: unknown */
    const struct ablation_row *rows;
    size_t row_count;
    const struct ablation_column *columns;
    size_t column_count;
    bool interrupted;
};

/* "pays", "costs", "no-difference"; NULL where unknown. */
const char *weir__ablation_verdict_name(enum ablation_verdict verdict);

/* "without multishot_recv", "with sqpoll". */
void weir__ablation_row_name(const struct ablation_row *row, char *text, size_t bytes);

/* The table for people, and what it says in words. */
void weir__ablation_table(FILE *out, const struct ablation_report *report, bool colour);

/* The files. 0, or -errno of the first write that failed. */
int weir__ablation_write(enum report_kind kind, FILE *out, const void *ablation_report);

/* Calls `line` with a heading and a text for each thing to be said: which features pay and where,
 * which cost, which make no difference, which could not be tried. */
void weir__ablation_words(const struct ablation_report *report,
                          void (*line)(void *argument, const char *heading, const char *text),
                          void *argument);

#endif
