/*
 * Bursts at several numbers of clients as one small table: a row for each engine, a column for each
 * number of clients, the milliseconds between them. The reports print it beside the long one.
 */
#ifndef WEIR_BENCH_REPORT_PIVOT_H
#define WEIR_BENCH_REPORT_PIVOT_H

#include "bench/report_grid.h"

/* Why a cell has no figure, or only a bound. Cells refer to it by its place, from 1. */
struct pivot_notes {
    char **items;
    size_t count;
};

struct pivot {
    struct grid grid;
    struct pivot_notes notes;
    bool any_level; /* something does not differ from the fastest beyond noise */
    bool any_short; /* and of a column there were too few rounds for an interval */
};

/* True where there is such a table to print. */
bool weir__pivot_wanted(const struct report *report);

/* 0 or -ENOMEM; deinit whatever the result. */
int weir__pivot_init(struct pivot *pivot, const struct report *report);
void weir__pivot_deinit(struct pivot *pivot);

/* What stands above it, and the sentences below: calls `line` for each. */
extern const char weir__pivot_title[];
void weir__pivot_legend(const struct pivot *pivot, const struct report *report,
                        void (*line)(void *argument, const char *text), void *argument);

#endif
