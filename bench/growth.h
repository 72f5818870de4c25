/*
 * --growth: what a request costs an engine's server as its connections grow, half of them idle; and
 * what of that is due to the idle ones.
 *
 * Engines are measured one after the other, each in a group of its own servers (compare_group.h):
 * for each number of connections one with so many, of which a share is active, and one that has
 * only the active ones. All are up at once and take turns in random order, so that a drift of the
 * machine meets all alike; a slice is as long as its connections need. The first over the server at
 * about 100 connections is the growth; the first over the second, its own neighbour, is what the
 * idle add: both have the same work to do.
 *
 * growth.c runs it, growth_fit.c is the arithmetic, report_growth.c writes it down.
 */
#ifndef WEIR_BENCH_GROWTH_H
#define WEIR_BENCH_GROWTH_H

#include "bench/compare.h"

enum {
    GROWTH_ACTIVE_DEFAULT = 50, /* percent */
    GROWTH_BASE = 100,          /* connections; where there are none so many, the nearest below */
};

#define GROWTH_CONNS_DEFAULT "1,10,100,1000,2000,10000"

struct growth_point {
    struct report_cell cell;    /* its cpu_ratio is over the base */
    unsigned idle;              /* connections that are not asked */
    struct interval idle_ratio; /* CPU per request with the idle over the same without them */
    double alone_us;            /* CPU per request without them */
};

struct growth_fit {
    struct interval exponent;    /* e in CPU per request ~ connections ^ e, from the base on */
    struct interval ns_per_idle; /* nanoseconds that an idle connection adds to a request */
    enum verdict idle;           /* SLOWER: a request costs more for the idle ones */
};

struct growth_row {
    const char *engine;
    struct growth_point points[CLI_COUNTS_MAX];
    size_t count;
    struct report_noise noise; /* two servers at the base */
    unsigned rounds;
    struct growth_fit fit;
};

struct growth_report {
    struct report head; /* host, work, notes; its cells are none */
    unsigned base;      /* connections */
    const struct growth_row *rows;
    size_t row_count;
};

/* Which of the connections is the base: the most that are GROWTH_BASE or fewer, else the fewest. */
size_t weir__growth_base(const unsigned *conns, size_t count);

/*
 * The fits of a row whose points are filled in. Each point counts by its own interval; where they
 * lie farther from the line than their intervals say, the line's interval is the wider for it.
 * Unknown where there are too few of them: two for the exponent, one for the idle.
 */
struct growth_fit weir__growth_fit(const struct growth_point *points, size_t count, size_t base,
                                   struct interval noise);

/* Runs it and writes all reports. The exit code. */
int weir__growth_run(struct compare_options *options);

/* report_growth.c: the table for people, and the files. */
void weir__growth_table(FILE *out, const struct growth_report *report, bool colour);
int weir__growth_write(enum report_kind kind, FILE *out, const void *growth_report);

#endif
