/*
 * What compare and load say while they run, on standard error: one line that redraws itself on a
 * terminal, plain lines otherwise. Called between slices only, never during one.
 */
#ifndef WEIR_BENCH_PROGRESS_H
#define WEIR_BENCH_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct progress {
    FILE *out;
    bool redraws; /* a terminal that can */
    bool drawn;   /* a line stands there unfinished */
    uint64_t drawn_ns;
};

void weir__progress_init(struct progress *progress);

/* One finished line that stays. */
__attribute__((format(printf, 2, 3))) void weir__progress_say(struct progress *progress,
                                                              const char *format, ...);

/* The line that changes: where in the run we are. Draws at most ten times a second; nothing where
 * output is piped. */
__attribute__((format(printf, 2, 3))) void weir__progress_show(struct progress *progress,
                                                               const char *format, ...);

/* Removes the changing line. */
void weir__progress_clear(struct progress *progress);

/* True where colours may be used on `out`: a terminal, no NO_COLOR, and TERM is not dumb. */
bool weir__colour_wanted(FILE *out);

#endif
