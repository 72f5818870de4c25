/* What the microbenchmarks share: rounds that interleave their rows, medians, one table. They print
 * figures and assert nothing about time; `meson test --benchmark` runs them. */
#ifndef WEIR_BENCH_MICRO_H
#define WEIR_BENCH_MICRO_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MICRO_ROUNDS = 31 };

static inline uint64_t micro_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline int micro_compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Sorts the rounds and prints median and quartiles. */
static inline void micro_print(const char *name, const char *unit, double *rounds)
{
    qsort(rounds, MICRO_ROUNDS, sizeof *rounds, micro_compare);
    printf("%-44s %9.1f %s  (quartiles %.1f to %.1f)\n", name, rounds[MICRO_ROUNDS / 2], unit,
           rounds[MICRO_ROUNDS / 4], rounds[MICRO_ROUNDS * 3 / 4]);
}

#endif
