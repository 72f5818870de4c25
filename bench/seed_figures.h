/*
 * The measurement that this project began with: 17 server models, clients at once by requests of
 * 100 bytes, milliseconds. Another machine, other servers and another client: to stand beside our
 * figures, never to be compared with them.
 */
#ifndef WEIR_BENCH_SEED_FIGURES_H
#define WEIR_BENCH_SEED_FIGURES_H

#include <stdbool.h>
#include <stddef.h>

enum { SEED_COLUMNS = 3 };

#define SEED_MACHINE "another machine: 2 cores, 2 GB; its own servers and client"

extern const unsigned weir__seed_conns[SEED_COLUMNS];

/* The milliseconds at weir__seed_conns[column] under that name; NAN: it did not finish there. False
 * where nothing of that name was measured. */
bool weir__seed_figure(const char *seed_name, size_t column, double *ms);

#endif
