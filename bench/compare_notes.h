/*
 * What a reader of a comparison should know beside its figures: whole sentences for the footer.
 * compare.c has one `struct notes`; which sentences there are is decided in compare_notes.c.
 */
#ifndef WEIR_BENCH_COMPARE_NOTES_H
#define WEIR_BENCH_COMPARE_NOTES_H

#include "bench/compare_batch.h"

enum { NOTES_MAX = 128 };

struct notes {
    char *items[NOTES_MAX];
    size_t count;
};

/* Past NOTES_MAX, or out of memory, it is left out. */
__attribute__((format(printf, 2, 3))) void weir__note(struct notes *notes, const char *format, ...);
void weir__notes_deinit(struct notes *notes);

/* A group that has run: its reference, that it should have been `wanted` (NULL: any), and its
 * rounds. */
void weir__notes_group(struct notes *notes, const struct group *group, const char *wanted);

/* Before the groups of one number of connections run in more than one. */
void weir__notes_batches(struct notes *notes, const struct compare_options *options,
                         const struct compare_part *part);

/* All cells of one number of connections: whose budget ended them, and who was stopped between
 * slices. */
void weir__notes_cells(struct notes *notes, const struct report_cell *cells, size_t count,
                       const struct shape *shape);

/* What the machine did beside the run. */
struct host;
struct host_ticks;
void weir__notes_neighbours(struct notes *notes, const struct host *host,
                            const struct host_ticks *before, bool first_run);

#endif
