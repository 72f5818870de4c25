/* The small table of bursts (report_pivot.h). */
#include "bench/report_pivot.h"

#include "bench/seed_figures.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* Without intervals, what lies closer to the fastest than this is not told apart from it. */
#define LEVEL_SHARE 0.05

const char weir__pivot_title[] = "elapsed ms, by clients at once";

/* Where the columns of one table are. */
struct columns {
    size_t conns[GRID_COLUMNS_MAX]; /* the first cell of each number of clients */
    size_t conns_count;
    size_t first; /* of the table's columns, for these */
    size_t seeds; /* and for the seeds' figures; 0: none */
};

/* --- notes --------------------------------------------------------------------------------------
 */

/* The number of a note with that text, which is taken; 0: out of memory. */
static size_t note_number(struct pivot_notes *notes, char *text)
{
    for (size_t i = 0; text != NULL && i < notes->count; i++) {
        if (strcmp(notes->items[i], text) == 0) {
            free(text);
            return i + 1;
        }
    }
    char **items = reallocarray(notes->items, notes->count + 1, sizeof *items);

    if (items != NULL)
        notes->items = items;
    if (items == NULL || text == NULL) {
        free(text);
        return 0;
    }
    notes->items[notes->count++] = text;
    return notes->count;
}

__attribute__((format(printf, 1, 2))) static char *compose(const char *format, ...)
{
    va_list args;
    char *text;

    va_start(args, format);
    int length = vasprintf(&text, format, args);
    va_end(args);
    return length < 0 ? NULL : text;
}

/* Reasons of the pre-flight begin with the engine's name; all do here. */
static char *reason_of(const struct report_cell *cell)
{
    const char *why = cell->failed != NULL ? cell->failed : cell->skipped;
    size_t name = strlen(cell->engine);
    bool named = why != NULL && strncmp(why, cell->engine, name) == 0 && !cell->failed;

    if (why == NULL)
        why = "not measured";
    return compose("%s%s%s%s", named ? "" : cell->engine, named ? "" : ": ",
                   cell->failed != NULL ? "FAILED: " : "", why);
}

static char *bound_of(const struct report *report, const struct report_cell *cell)
{
    return compose("%s at %u: %" PRIu64 " of %" PRIu64
                   " requests were answered in %.1f s, when its cell's budget (--cell-budget) "
                   "was over",
                   cell->engine, cell->conns, cell->requests,
                   (uint64_t)cell->conns * report->shape.requests, cell->seconds);
}

/* --- cells --------------------------------------------------------------------------------------
 */

static bool is_timed(const struct report_cell *cell)
{
    return cell->measured && cell->failed == NULL && !isnan(cell->elapsed_ms.median);
}

static const struct report_cell *fastest_at(const struct report *report, unsigned conns)
{
    const struct report_cell *fastest = NULL;

    for (size_t i = 0; i < report->cell_count; i++) {
        const struct report_cell *cell = &report->cells[i];

        if (cell->conns != conns || !is_timed(cell))
            continue;
        if (fastest == NULL || cell->elapsed_ms.median < fastest->elapsed_ms.median)
            fastest = cell;
    }
    return fastest;
}

/* Rounds enough for an interval, and the ratio that has it; the reference is its own. */
static bool is_bounded(const struct report_cell *cell)
{
    return cell->is_reference ? cell->slices >= STATS_SAMPLES_MIN
                              : cell->has_ratio && weir__interval_bounded(cell->rps_ratio);
}

static double share_of_noise(const struct report *report, unsigned conns)
{
    for (size_t i = 0; i < report->noise_count; i++) {
        double off = fabs(report->noise[i].rps_ratio.median - 1);
        if (report->noise[i].conns == conns && off > LEVEL_SHARE)
            return off;
    }
    return LEVEL_SHARE;
}

static bool is_level(const struct report *report, const struct report_cell *cell,
                     const struct report_cell *fastest)
{
    if (is_bounded(cell) && is_bounded(fastest))
        return weir__report_ties(report, cell, fastest, FIGURE_ELAPSED);
    return cell->elapsed_ms.median <=
           fastest->elapsed_ms.median * (1 + share_of_noise(report, cell->conns));
}

static void fill_cell(struct pivot *pivot, const struct report *report, struct grid_row *row,
                      size_t column, const struct report_cell *cell)
{
    const struct report_cell *fastest = fastest_at(report, cell->conns);
    size_t bytes = sizeof row->text[column];
    char figure[GRID_TEXT_BYTES / 2] = "—";
    char *why;

    if (is_timed(cell)) {
        weir__report_elapsed(row->text[column], bytes, cell);
        row->best[column] = cell == fastest;
        row->level[column] = cell != fastest && is_level(report, cell, fastest);
        pivot->any_level |= row->level[column];
        pivot->any_short |= !is_bounded(cell);
        return;
    }
    if (cell->cut && cell->failed == NULL) {
        weir__report_elapsed(figure, sizeof figure, cell);
        why = bound_of(report, cell);
    } else {
        why = reason_of(cell);
    }
    snprintf(row->text[column], bytes, "%s [%zu]", figure, note_number(&pivot->notes, why));
}

static void fill_seeds(struct grid_row *row, size_t column, const char *seed_name)
{
    for (size_t i = 0; i < SEED_COLUMNS; i++) {
        char *text = row->text[column + i];
        double ms;

        if (seed_name == NULL || !weir__seed_figure(seed_name, i, &ms))
            continue;
        if (isnan(ms))
            snprintf(text, sizeof row->text[0], "—");
        else
            weir__report_thousands(text, sizeof row->text[0], ms);
    }
}

/* --- the table ----------------------------------------------------------------------------------
 */

static void find_columns(const struct report *report, struct columns *columns)
{
    memset(columns, 0, sizeof *columns);
    columns->first = report->seed_names ? 2 : 1;
    for (size_t i = 0; i < report->cell_count; i++) {
        bool first = i == 0 || report->cells[i - 1].conns != report->cells[i].conns;

        if (first && columns->conns_count < GRID_COLUMNS_MAX - 2 - SEED_COLUMNS)
            columns->conns[columns->conns_count++] = i;
    }
    if (report->seed_figures)
        columns->seeds = columns->first + columns->conns_count;
}

static void fill_headers(struct grid *grid, const struct report *report,
                         const struct columns *columns)
{
    size_t bytes = sizeof grid->headers[0];

    snprintf(grid->headers[0], bytes, "engine");
    grid->left[0] = true;
    if (report->seed_names) {
        snprintf(grid->headers[1], bytes, "in the seeds");
        grid->left[1] = true;
        grid->drop_rank[1] = GRID_DROP_LAST + 1;
    }
    for (size_t i = 0; i < columns->conns_count; i++)
        snprintf(grid->headers[columns->first + i], bytes, "%u",
                 report->cells[columns->conns[i]].conns);
    grid->column_count = columns->first + columns->conns_count;
    for (size_t i = 0; columns->seeds > 0 && i < SEED_COLUMNS; i++) {
        snprintf(grid->headers[columns->seeds + i], bytes, "seeds' %u", weir__seed_conns[i]);
        grid->drop_rank[columns->seeds + i] = GRID_DROP_LAST;
        grid->column_count++;
    }
}

static const struct report_cell *cell_at(const struct report *report, const char *engine,
                                         unsigned conns)
{
    for (size_t i = 0; i < report->cell_count; i++) {
        if (report->cells[i].conns == conns && strcmp(report->cells[i].engine, engine) == 0)
            return &report->cells[i];
    }
    return NULL;
}

static void fill_row(struct pivot *pivot, const struct report *report,
                     const struct columns *columns, const struct report_cell *first)
{
    struct grid_row *row = &pivot->grid.rows[pivot->grid.row_count++];

    row->kind = GRID_FIGURES;
    row->first_of_group = pivot->grid.row_count == 1;
    snprintf(row->text[0], sizeof row->text[0], "%s", first->engine);
    if (report->seed_names)
        snprintf(row->text[1], sizeof row->text[1], "%s", first->seed_name ? first->seed_name : "");
    for (size_t i = 0; i < columns->conns_count; i++) {
        unsigned conns = report->cells[columns->conns[i]].conns;
        const struct report_cell *cell = cell_at(report, first->engine, conns);

        if (cell != NULL)
            fill_cell(pivot, report, row, columns->first + i, cell);
    }
    if (columns->seeds > 0)
        fill_seeds(row, columns->seeds, first->seed_name);
}

bool weir__pivot_wanted(const struct report *report)
{
    bool several = report->cell_count > 0 &&
                   report->cells[0].conns != report->cells[report->cell_count - 1].conns;

    return report->shape.kind == SHAPE_BURST && strcmp(report->tool, "compare") == 0 &&
           (several || report->seed_names || report->seed_figures);
}

int weir__pivot_init(struct pivot *pivot, const struct report *report)
{
    struct columns columns;
    struct grid *grid = &pivot->grid;

    memset(pivot, 0, sizeof *pivot);
    grid->rows = calloc(report->cell_count + 1, sizeof *grid->rows);
    if (grid->rows == NULL)
        return -ENOMEM;
    find_columns(report, &columns);
    fill_headers(grid, report, &columns);
    for (size_t i = 0; i < report->cell_count && report->cells[i].conns == report->cells[0].conns;
         i++)
        fill_row(pivot, report, &columns, &report->cells[i]);
    return 0;
}

void weir__pivot_deinit(struct pivot *pivot)
{
    for (size_t i = 0; i < pivot->notes.count; i++)
        free(pivot->notes.items[i]);
    free(pivot->notes.items);
    weir__grid_deinit(&pivot->grid);
}

void weir__pivot_legend(const struct pivot *pivot, const struct report *report,
                        void (*line)(void *argument, const char *text), void *argument)
{
    char text[1024];

    snprintf(
        text, sizeof text, "* fastest of its column%s%s; > not done when its time was over",
        pivot->any_level ? "; ≈ no slower beyond noise" : "",
        pivot->any_level && pivot->any_short
            ? " (where fewer than 8 bursts give no interval: within 5 %, or what two copies of "
              "the reference differed by)"
            : "");
    line(argument, text);
    if (report->seed_figures)
        line(argument, "seeds': " SEED_MACHINE "; beside ours to look at, not to compare");
    for (size_t i = 0; i < pivot->notes.count; i++) {
        snprintf(text, sizeof text, "[%zu] %s", i + 1, pivot->notes.items[i]);
        line(argument, text);
    }
}
