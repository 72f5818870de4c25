/*
 * The groups of a comparison, and which engines are in each: compare_batch.c divides, compare.c
 * runs them one after the other.
 */
#ifndef WEIR_BENCH_COMPARE_BATCH_H
#define WEIR_BENCH_COMPARE_BATCH_H

#include "bench/compare_group.h"

/* One group: some or all engines at one number of connections. */
struct compare_part {
    size_t conns_index;
    size_t first, count; /* of the engines that are not the reference */
    size_t of;           /* so many groups this number of connections takes */
    double budget_s;
};

/* Divides the whole run. The caller frees `*parts`, whatever the result. 0; -ENOMEM; -ERANGE where
 * one engine beside the reference is too much already, `text` says why. */
int weir__compare_parts(const struct compare_options *options, struct compare_part **parts,
                        size_t *count, char *text, size_t bytes);

/* Leaves of `lineup`, which is of all engines, those of the part and the reference, in their order;
 * `reference` is its place among the engines. Returns how many. */
size_t weir__compare_part_lineup(const struct compare_options *options,
                                 const struct compare_part *part, size_t reference,
                                 struct lineup *lineup);

#endif
