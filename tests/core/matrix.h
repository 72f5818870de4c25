/*
 * The matrix: every wait of the runtime x every way it can end, on every engine.
 *
 * A *row* is one wait: a struct of functions, below. An *outcome* (matrix.c) is who ends the wait
 * and when: it completes; it fails; it is cancelled (by its task, its scope, an outer scope, a
 * failing sibling, the loop's stop) or its deadline (its own, its scope's) passes: before it
 * begins, in the turn it begins, while it waits, together with its completion, after it. Each
 * outcome is a test that takes every row through it; a cell that fails names both.
 *
 * To add a wait: write in a matrix_*.c of tests/core/meson.build
 *     MATRIX_ROW(recv) = {.name = "weir_recv_until", .set_up = recv_set_up, ...};
 * That is all. For each cell the frame calls, on the loop's thread: set_up(); call() in a task of
 * its own; complete() or fail() if the outcome says so, once that task waits (so they must not wait
 * themselves; what they begin outside, the loop sees in its next turn); then, when call() has
 * returned, after() and tear_down(). It checks itself what call() returned, that all later waits of
 * a cancelled task end, too, and that no task, connection, buffer, timer or descriptor is left.
 * Only one cell runs at a time, so what a row sets up may lie in static variables.
 */
#ifndef WEIR_TESTS_CORE_MATRIX_H
#define WEIR_TESTS_CORE_MATRIX_H

#include "conformance.h"

enum { MATRIX_BUFS = 64 }; /* of the loop; unsent_max is twice a buffer's 4096 bytes */

enum matrix_flags {
    /* Has no deadline: call() ignores it, and the frame runs it in a scope with that deadline. */
    MATRIX_NO_DEADLINE = 1,
    /* Once begun it may go on to its end: a cancel or deadline may come too late. The frame then
     * completes it, and takes either result. */
    MATRIX_MAY_FINISH = 2,
    /* Nothing cuts it short, by its own rule: the frame completes it, and wants the result. */
    MATRIX_UNCUT = 4,
    /* The loop's end may complete it, or take back a result that nobody has seen. */
    MATRIX_ENDS_WITH_LOOP = 8,
    /* It waits more than once: who was woken may yet be cut short. */
    MATRIX_STEPS = 16,
};

/* What happens to it in this cell. */
struct matrix_cell {
    bool completes; /* complete() is going to be called */
    bool fails;     /* fail() is going to be called */
    bool completed; /* complete() was called: what it gave must not be lost */
    int64_t result; /* what call() returned; for after() */
};

struct matrix_row {
    const char *name; /* of the call */
    unsigned flags;   /* enum matrix_flags */
    /* Why it cannot be had here, or NULL; NULL: it always can. */
    const char *(*missing)(void);
    void (*set_up)(const struct matrix_cell *cell);
    /* The wait, nothing else; it checks what it got beside its result. */
    int64_t (*call)(uint64_t deadline_ns);
    void (*complete)(void); /* makes call() return `result`; may come before call() */
    int64_t result;
    void (*fail)(void); /* makes it return `error`; NULL: it cannot fail, as cannot_fail says */
    int64_t error;
    const char *cannot_fail;
    /* In a task that may wait: checks that nothing was lost and that a following wait works. If
     * cell->completed and cell->result < 0, what complete() gave is still to be had (or the row
     * says why not). Not called where the loop stops. NULL: there is nothing to lose. */
    void (*after)(const struct matrix_cell *cell);
    void (*tear_down)(void); /* must not wait; may be NULL */
    struct matrix_row *next; /* the frame's own */
};

void matrix_add(struct matrix_row *row);

#define MATRIX_ROW(id)                                                                             \
    static struct matrix_row row_of_##id;                                                          \
    __attribute__((constructor)) static void add_row_of_##id(void)                                 \
    {                                                                                              \
        matrix_add(&row_of_##id);                                                                  \
    }                                                                                              \
    static struct matrix_row row_of_##id

/* A connection of weir_connect() and its peer, a plain non-blocking socket; for rows. */
struct matrix_pair {
    struct weir_conn *conn;
    int peer;
};
void matrix_pair_open(struct matrix_pair *pair);
void matrix_pair_close(struct matrix_pair *pair); /* with a reset */
/* Sends the pattern of seed 1 until neither socket takes more, and says how many bytes they have.
 * Nothing is on its way then, so that there is no room until the peer reads. */
size_t matrix_pair_fill(const struct matrix_pair *pair);

#endif
