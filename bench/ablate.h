/*
 * An ablation: what each feature of one engine is worth on this machine. The engine as it comes is
 * the reference; each row is the same engine with one feature switched, off where it is granted, on
 * where it is not. A column is a kind of work, measured by a run of compare (compare.h).
 *
 * ablate.c asks the engine what it is granted and runs the columns; ablate_plan.c is the
 * arithmetic, without a process; report_ablation.c writes it down.
 */
#ifndef WEIR_BENCH_ABLATE_H
#define WEIR_BENCH_ABLATE_H

#include "bench/compare.h"
#include "bench/report_ablation.h"

/* What a column does. */
struct ablation_work {
    const char *name; /* of the five that are run by default; NULL: told by its connections */
    struct shape shape;
    uint32_t size_bytes;
    unsigned conns;
};

/* The columns that `options` ask for: with conns_count 0, five that bring out what features are
 * for. `work` has room for ABLATION_COLUMNS_MAX; options name no more. Returns how many. */
size_t weir__ablate_work(const struct compare_options *options, struct ablation_work *work);

/* The rows of one engine: all its features, those granted (comma-separated, of its ready line)
 * switched off, then the others switched on. `base` is the engine with its options, as the user
 * wrote it. Returns how many, or -ENOMEM; the caller frees the specs. */
int weir__ablate_rows(const char *base, const char *const *features, const char *granted,
                      struct ablation_row *rows, size_t capacity);

/* Takes in what the engine was granted with row `index` switched: what else differs, and whether
 * that leaves anything to measure that no row before it measures already. */
void weir__ablate_take_granted(struct ablation_row *rows, size_t index, const char *plain,
                               const char *granted);

/* True where the comma-separated `names` hold `name`. */
bool weir__ablate_holds(const char *names, const char *name);

/* What a cell says, whose ratio is of CPU per request over the reference's. */
struct ablation_worth weir__ablate_worth(const struct report_cell *cell, struct interval noise,
                                         bool on);

/* Runs it and writes all reports. `options->engines` holds the one engine. The exit code. */
int weir__ablate_run(struct compare_options *options);

#endif
