/*
 * What a switch costs, and a coroutine's whole life, beside Boost.Context in the same run.
 * Rounds of all rows are interleaved; a row shows the median of its rounds and of the paired
 * ratios. It asserts nothing about time.
 */
#include <weir/coro.h>

#include "coro_peer.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ROUNDS 41
#define BATCH  20000 /* pairs, or lives, in a round: a few hundred microseconds */

static const size_t counts[] = {1, 100, 1000, 10000};
#define COUNTS (sizeof counts / sizeof *counts)

struct row {
    double ours[ROUNDS], peers[ROUNDS], ratios[ROUNDS];
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values)
{
    qsort(values, ROUNDS, sizeof *values, compare);
    return values[ROUNDS / 2];
}

/* --- ours ------------------------------------------------------------------------------------ */

struct ours {
    struct weir_coro **co;
    size_t n, next;
};

static void switch_back(void *arg)
{
    for (;;)
        weir_coro_yield(NULL);
}

static void return_at_once(void *arg) {}

static void ours_new(struct ours *o, struct weir_coro_pool *pool, size_t n)
{
    *o = (struct ours){.co = calloc(n, sizeof(struct weir_coro *)), .n = n};
    assert(o->co != NULL);
    for (size_t i = 0; i < n; i++) {
        int rc = weir_coro_new(pool, &o->co[i], switch_back, NULL);
        assert(rc == 0);
        (void)rc;
        weir_coro_resume(o->co[i], NULL);
    }
}

static void ours_run(struct ours *o, size_t pairs)
{
    size_t at = o->next;
    for (size_t i = 0; i < pairs; i++) {
        weir_coro_resume(o->co[at], NULL);
        if (++at == o->n)
            at = 0;
    }
    o->next = at;
}

/* As a run queue does it, which knows who is next but one. */
static void ours_run_prefetched(struct ours *o, size_t pairs)
{
    size_t at = o->next, ahead = (at + 2) % o->n;
    for (size_t i = 0; i < pairs; i++) {
        weir_coro_prefetch(o->co[ahead]);
        weir_coro_resume(o->co[at], NULL);
        if (++at == o->n)
            at = 0;
        if (++ahead == o->n)
            ahead = 0;
    }
    o->next = at;
}

static void ours_create_run(struct weir_coro_pool *pool, size_t lives)
{
    for (size_t i = 0; i < lives; i++) {
        struct weir_coro *co;
        weir_coro_new(pool, &co, return_at_once, NULL);
        weir_coro_resume(co, NULL);
    }
}

/* --- rounds ---------------------------------------------------------------------------------- */

static double per_pair(uint64_t from_ns)
{
    return (double)(now_ns() - from_ns) / BATCH;
}

static void finish_round(struct row *row, int round)
{
    row->ratios[round] = row->peers[round] > 0 ? row->ours[round] / row->peers[round] : 0;
}

static void switch_round(struct row *row, int round, struct ours *ours, void *peer,
                         void (*run)(struct ours *ours, size_t pairs))
{
    run(ours, ours->n); /* once round first: the row before left the caches full of its own */
    uint64_t from = now_ns();
    run(ours, BATCH);
    row->ours[round] = per_pair(from);
    if (peer != NULL)
        peer_switch_run(peer, ours->n);
    from = now_ns();
    if (peer != NULL)
        peer_switch_run(peer, BATCH);
    row->peers[round] = peer != NULL ? per_pair(from) : 0;
    finish_round(row, round);
}

static void create_round(struct row *row, int round, struct weir_coro_pool *pool)
{
    uint64_t from = now_ns();
    ours_create_run(pool, BATCH);
    row->ours[round] = per_pair(from);
    from = now_ns();
    if (peer_exists())
        peer_create_run(BATCH);
    row->peers[round] = peer_exists() ? per_pair(from) : 0;
    finish_round(row, round);
}

static void print(const char *what, size_t n, struct row *row)
{
    char name[64];
    snprintf(name, sizeof name, n == 0 ? "%s" : "%s, %zu live", what, n);
    printf("%-42s %11.1f", name, median(row->ours));
    if (peer_exists())
        printf(" %11.1f %9.2f\n", median(row->peers), median(row->ratios));
    else
        printf(" %11s %9s\n", "-", "-");
}

int main(void)
{
    static struct row switches[COUNTS], prefetched[COUNTS], create;
    struct ours ours[COUNTS];
    void *peers[COUNTS] = {NULL};
    struct weir_coro_pool *pool;
    int rc = weir_coro_pool_new(&pool, NULL);
    if (rc < 0) {
        fprintf(stderr, "weir_coro_pool_new: error %d\n", -rc);
        return EXIT_FAILURE;
    }
    for (size_t i = 0; i < COUNTS; i++) {
        ours_new(&ours[i], pool, counts[i]);
        if (peer_exists())
            peers[i] = peer_switch_new(counts[i]);
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < COUNTS; i++) {
            switch_round(&switches[i], round, &ours[i], peers[i], ours_run);
            switch_round(&prefetched[i], round, &ours[i], peers[i], ours_run_prefetched);
        }
        create_round(&create, round, pool);
    }
    printf("%-42s %11s %11s %9s\n", "ns, median", "weir-coro", "Boost", "ratio");
    for (size_t i = 0; i < COUNTS; i++)
        print("resume + yield", counts[i], &switches[i]);
    for (size_t i = 0; i < COUNTS; i++)
        print("the same, prefetched 2 ahead", counts[i], &prefetched[i]);
    print("create + run + destroy, warm pool", 0, &create);
    for (size_t i = 0; i < COUNTS; i++) {
        free(ours[i].co);
        if (peers[i] != NULL)
            peer_switch_free(peers[i]);
    }
    weir_coro_pool_free(pool);
    return EXIT_SUCCESS;
}
