/*
 * Turns a report into rows and columns of text (report_grid.h). Decides which figures a shape shows
 * and how many digits they are worth; the footer is in report_footer.c.
 */
#include "bench/report_grid.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What a column shows. */
enum column {
    COLUMN_CONNS,
    COLUMN_ENGINE,
    COLUMN_ELAPSED,
    COLUMN_RPS,
    COLUMN_RPS_RATIO,
    COLUMN_CPU,
    COLUMN_CPU_RATIO,
    COLUMN_P50,
    COLUMN_P99,
    COLUMN_P999,
    COLUMN_RSS,
    COLUMN_VERDICT,
    COLUMN_USER_PER_CONN,
    COLUMN_KERNEL_PER_CONN,
    COLUMN_MAX,
    COLUMN_RAMP,
    COLUMN_RAMP_FIRST,
    COLUMN_RAMP_LAST,
};

static const enum column closed_columns[] = {
    COLUMN_CONNS, COLUMN_ENGINE, COLUMN_RPS,  COLUMN_RPS_RATIO, COLUMN_CPU,     COLUMN_CPU_RATIO,
    COLUMN_P50,   COLUMN_P99,    COLUMN_P999, COLUMN_RSS,       COLUMN_VERDICT,
};
static const enum column burst_columns[] = {
    COLUMN_CONNS,     COLUMN_ENGINE, COLUMN_ELAPSED, COLUMN_RPS, COLUMN_RPS_RATIO, COLUMN_CPU,
    COLUMN_CPU_RATIO, COLUMN_P50,    COLUMN_P99,     COLUMN_RSS, COLUMN_VERDICT,
};

static const enum column idle_columns[] = {
    COLUMN_CONNS, COLUMN_ENGINE,    COLUMN_USER_PER_CONN, COLUMN_KERNEL_PER_CONN,
    COLUMN_RPS,   COLUMN_RPS_RATIO, COLUMN_CPU,           COLUMN_CPU_RATIO,
    COLUMN_P99,   COLUMN_RSS,       COLUMN_VERDICT,
};

/* The table for people tells memory apart, see report_memory.c. */
static const enum column idle_brief_columns[] = {
    COLUMN_CONNS,     COLUMN_ENGINE, COLUMN_RPS,     COLUMN_CPU,
    COLUMN_CPU_RATIO, COLUMN_P99,    COLUMN_VERDICT,
};

/* What is sent one way has no latency. */
static const enum column stream_columns[] = {
    COLUMN_CONNS, COLUMN_ENGINE,    COLUMN_RPS, COLUMN_RPS_RATIO,
    COLUMN_CPU,   COLUMN_CPU_RATIO, COLUMN_RSS, COLUMN_VERDICT,
};

static const enum column open_columns[] = {
    COLUMN_CONNS, COLUMN_ENGINE, COLUMN_RPS,  COLUMN_RPS_RATIO, COLUMN_CPU,     COLUMN_CPU_RATIO,
    COLUMN_P50,   COLUMN_P99,    COLUMN_P999, COLUMN_MAX,       COLUMN_VERDICT,
};
static const enum column ramp_columns[] = {
    COLUMN_CONNS,           COLUMN_ENGINE, COLUMN_RAMP,      COLUMN_RAMP_FIRST,
    COLUMN_RAMP_LAST,       COLUMN_CPU,    COLUMN_CPU_RATIO, COLUMN_USER_PER_CONN,
    COLUMN_KERNEL_PER_CONN, COLUMN_P99,    COLUMN_VERDICT,
};

/* One server alone has nothing to be compared with. */
static const enum column closed_load_columns[] = {
    COLUMN_CONNS, COLUMN_ENGINE, COLUMN_RPS,  COLUMN_CPU,
    COLUMN_P50,   COLUMN_P99,    COLUMN_P999, COLUMN_RSS,
};
static const enum column burst_load_columns[] = {
    COLUMN_CONNS, COLUMN_ENGINE, COLUMN_ELAPSED, COLUMN_RPS,
    COLUMN_CPU,   COLUMN_P50,    COLUMN_P99,     COLUMN_RSS,
};

static const enum column idle_load_columns[] = {
    COLUMN_CONNS, COLUMN_ENGINE, COLUMN_USER_PER_CONN, COLUMN_KERNEL_PER_CONN,
    COLUMN_RPS,   COLUMN_CPU,    COLUMN_P50,           COLUMN_P99,
    COLUMN_RSS,
};
static const enum column idle_brief_load_columns[] = {
    COLUMN_CONNS, COLUMN_ENGINE, COLUMN_RPS, COLUMN_CPU, COLUMN_P50, COLUMN_P99, COLUMN_RSS,
};
static const enum column open_load_columns[] = {
    COLUMN_CONNS, COLUMN_ENGINE, COLUMN_RPS, COLUMN_CPU, COLUMN_P50,
    COLUMN_P99,   COLUMN_P999,   COLUMN_MAX, COLUMN_RSS,
};
static const enum column ramp_load_columns[] = {
    COLUMN_CONNS,         COLUMN_ENGINE,          COLUMN_RAMP,
    COLUMN_RAMP_FIRST,    COLUMN_RAMP_LAST,       COLUMN_CPU,
    COLUMN_USER_PER_CONN, COLUMN_KERNEL_PER_CONN, COLUMN_P99,
};
static const enum column stream_load_columns[] = {
    COLUMN_CONNS, COLUMN_ENGINE, COLUMN_RPS, COLUMN_CPU, COLUMN_RSS,
};

#define COLUMNS(list, count) (*(count) = sizeof(list) / sizeof((list)[0]), (list))

static const enum column *columns_of(const struct report *report, bool brief, size_t *count)
{
    bool load = strcmp(report->tool, "load") == 0;

    switch (report->shape.kind) {
    case SHAPE_BURST:
        return load ? COLUMNS(burst_load_columns, count) : COLUMNS(burst_columns, count);
    case SHAPE_IDLE:
        if (brief)
            return load ? COLUMNS(idle_brief_load_columns, count)
                        : COLUMNS(idle_brief_columns, count);
        return load ? COLUMNS(idle_load_columns, count) : COLUMNS(idle_columns, count);
    case SHAPE_OPEN:
        return load ? COLUMNS(open_load_columns, count) : COLUMNS(open_columns, count);
    case SHAPE_RAMP:
        return load ? COLUMNS(ramp_load_columns, count) : COLUMNS(ramp_columns, count);
    case SHAPE_STREAM:
        return load ? COLUMNS(stream_load_columns, count) : COLUMNS(stream_columns, count);
    default:
        return load ? COLUMNS(closed_load_columns, count) : COLUMNS(closed_columns, count);
    }
}

/* Three significant digits, but never an exponent: 0.123, 5.21, 41.3, 1234. */
static void format_figure(char *text, size_t bytes, double value)
{
    if (isnan(value))
        snprintf(text, bytes, "-");
    else if (value >= 1000)
        weir__report_thousands(text, bytes, value);
    else
        snprintf(text, bytes, "%.*f",
                 value >= 100  ? 0
                 : value >= 10 ? 1
                 : value >= 1  ? 2
                               : 3,
                 value);
}

void weir__report_elapsed(char *text, size_t bytes, const struct report_cell *cell)
{
    bool at_least = isnan(cell->elapsed_ms.median) && cell->cut;

    if (at_least)
        snprintf(text, bytes, ">");
    format_figure(text + at_least, bytes - at_least,
                  at_least ? cell->seconds * 1e3 : cell->elapsed_ms.median);
}

/* "1.086 [1.077, 1.093]", or in brief "1.086 ±0.009" with the farther of the two ends. */
static void format_ratio(char *text, size_t bytes, struct interval ratio, bool brief)
{
    if (isnan(ratio.median))
        snprintf(text, bytes, "-");
    else if (!weir__interval_bounded(ratio))
        snprintf(text, bytes, brief ? "%.3f ±?" : "%.3f [?]", ratio.median);
    else if (brief)
        snprintf(text, bytes, "%.3f ±%.3f", ratio.median,
                 fmax(ratio.median - ratio.lo, ratio.hi - ratio.median));
    else
        snprintf(text, bytes, "%.3f [%.3f, %.3f]", ratio.median, ratio.lo, ratio.hi);
}

static void format_verdict(char *text, size_t bytes, const struct report *report,
                           const struct report_cell *cell)
{
    if (cell->failed != NULL) {
        snprintf(text, bytes, "failed");
        return;
    }
    if (cell->is_reference) {
        snprintf(text, bytes, "reference");
        return;
    }
    if (cell->cut && cell->slices == 1) {
        snprintf(text, bytes, "cut off");
        return;
    }
    const char *name = cell->has_ratio ? weir__stats_verdict_name(cell->verdict) : NULL;

    if (name == NULL)
        snprintf(text, bytes, cell->has_ratio ? "too few slices" : "-");
    else
        snprintf(text, bytes, "%s%s", name, weir__report_by_cpu(report, cell) ? " (cpu)" : "");
}

static void header_of(const struct report *report, enum column column, char *text, size_t bytes)
{
    const struct shape_words *words = weir__shape_words(report->shape.kind);
    const char *const names[] = {
        [COLUMN_CONNS] = "conns",
        [COLUMN_ENGINE] = "engine",
        [COLUMN_ELAPSED] = "elapsed ms",
        [COLUMN_RPS] = words->rate,
        [COLUMN_CPU] = words->cpu,
        [COLUMN_P50] = "p50 us",
        [COLUMN_P99] = "p99 us",
        [COLUMN_P999] = "p99.9 us",
        [COLUMN_RSS] = "peak MiB",
        [COLUMN_VERDICT] = "verdict",
        [COLUMN_USER_PER_CONN] = "user B/conn",
        [COLUMN_KERNEL_PER_CONN] = "kernel B/conn",
        [COLUMN_MAX] = "max us",
        [COLUMN_RAMP] = "ms/1000",
        [COLUMN_RAMP_FIRST] = "first",
        [COLUMN_RAMP_LAST] = "last",
    };
    const char *reference = report->reference ? report->reference : "reference";

    if (column == COLUMN_RPS_RATIO)
        snprintf(text, bytes, "%s vs %s", words->rate_short, reference);
    else if (column == COLUMN_CPU_RATIO)
        snprintf(text, bytes, "CPU vs %s", reference);
    else
        snprintf(text, bytes, "%s", names[column]);
}

static enum report_figure figure_of(enum column column)
{
    switch (column) {
    case COLUMN_ELAPSED:
        return FIGURE_ELAPSED;
    case COLUMN_RPS:
        return FIGURE_RPS;
    case COLUMN_CPU:
        return FIGURE_CPU;
    case COLUMN_P50:
        return FIGURE_P50;
    case COLUMN_P99:
        return FIGURE_P99;
    case COLUMN_P999:
        return FIGURE_P999;
    case COLUMN_RSS:
        return FIGURE_RSS;
    case COLUMN_USER_PER_CONN:
        return FIGURE_USER_PER_CONN;
    case COLUMN_MAX:
        return FIGURE_MAX;
    case COLUMN_RAMP:
        return FIGURE_RAMP;
    default:
        return FIGURE_COUNT;
    }
}

static void fill_text(const struct report *report, const struct report_cell *cell,
                      enum column column, bool brief, char *text, size_t bytes)
{
    struct interval unknown = weir__interval_unknown();

    switch (column) {
    case COLUMN_CONNS:
        snprintf(text, bytes, "%u", cell->conns);
        break;
    case COLUMN_ENGINE:
        snprintf(text, bytes, "%s", cell->engine);
        break;
    case COLUMN_RPS_RATIO:
        format_ratio(text, bytes, cell->has_ratio ? cell->rps_ratio : unknown, brief);
        break;
    case COLUMN_CPU_RATIO:
        format_ratio(text, bytes, cell->has_ratio ? cell->cpu_ratio : unknown, brief);
        break;
    case COLUMN_USER_PER_CONN:
        weir__report_bytes(text, bytes, cell->per_conn.user, NAN);
        break;
    case COLUMN_KERNEL_PER_CONN:
        weir__report_bytes(text, bytes, cell->per_conn.kernel, cell->per_conn.kernel_uncertainty);
        break;
    case COLUMN_ELAPSED:
        weir__report_elapsed(text, bytes, cell);
        break;
    case COLUMN_RAMP_FIRST:
        format_figure(text, bytes, cell->ramp.first_ms);
        break;
    case COLUMN_RAMP_LAST:
        format_figure(text, bytes, cell->ramp.last_ms);
        break;
    case COLUMN_RSS:
        format_figure(text, bytes, cell->rss_peak / (1024 * 1024));
        break;
    case COLUMN_VERDICT:
        format_verdict(text, bytes, report, cell);
        break;
    default:
        format_figure(text, bytes, weir__report_shown(report, cell, figure_of(column)));
        break;
    }
}

static void fill_figures(struct grid_row *row, const struct report *report,
                         const struct report_cell *cell, bool brief)
{
    size_t count;
    const enum column *columns = columns_of(report, brief, &count);

    row->kind = GRID_FIGURES;
    row->cell = cell;
    for (size_t i = 0; i < count; i++) {
        enum report_figure figure = figure_of(columns[i]);

        fill_text(report, cell, columns[i], brief, row->text[i], sizeof row->text[i]);
        if (figure != FIGURE_COUNT)
            row->best[i] = weir__report_is_best(report, cell, figure);
    }
}

static void fill_message(struct grid_row *row, const struct report_cell *cell)
{
    row->kind = GRID_MESSAGE;
    row->cell = cell;
    row->failed = cell->failed != NULL;
    snprintf(row->text[0], sizeof row->text[0], "%u", cell->conns);
    snprintf(row->text[1], sizeof row->text[1], "%s", cell->engine);
    snprintf(row->message, sizeof row->message, "%s: %s", cell->failed ? "FAILED" : "skipped",
             cell->failed    ? cell->failed
             : cell->skipped ? cell->skipped
                             : "not measured");
}

static void fill_noise(struct grid_row *row, const struct report *report,
                       const struct report_noise *noise, bool brief)
{
    size_t count;
    const enum column *columns = columns_of(report, brief, &count);

    row->kind = GRID_NOISE;
    for (size_t i = 0; i < count; i++) {
        char *text = row->text[i];
        size_t bytes = sizeof row->text[i];

        if (columns[i] == COLUMN_CONNS)
            snprintf(text, bytes, "%u", noise->conns);
        else if (columns[i] == COLUMN_ENGINE)
            snprintf(text, bytes, "%s (A/A)", report->reference);
        else if (columns[i] == COLUMN_RPS_RATIO)
            format_ratio(text, bytes, noise->rps_ratio, brief);
        else if (columns[i] == COLUMN_CPU_RATIO)
            format_ratio(text, bytes, noise->cpu_ratio, brief);
        else if (columns[i] == COLUMN_VERDICT)
            snprintf(text, bytes, "noise floor");
    }
}

static const struct report_noise *noise_of(const struct report *report, unsigned conns)
{
    for (size_t i = 0; i < report->noise_count; i++) {
        if (report->noise[i].conns == conns)
            return &report->noise[i];
    }
    return NULL;
}

static void fill_rows(struct grid *grid, const struct report *report, bool brief)
{
    for (size_t i = 0; i < report->cell_count; i++) {
        const struct report_cell *cell = &report->cells[i];
        bool first = i == 0 || report->cells[i - 1].conns != cell->conns;
        bool last = i + 1 == report->cell_count || report->cells[i + 1].conns != cell->conns;
        const struct report_noise *noise = last ? noise_of(report, cell->conns) : NULL;

        grid->rows[grid->row_count].first_of_group = first;
        if (cell->measured)
            fill_figures(&grid->rows[grid->row_count++], report, cell, brief);
        if (!cell->measured || cell->failed != NULL)
            fill_message(&grid->rows[grid->row_count++], cell);
        if (noise != NULL && !isnan(noise->rps_ratio.median))
            fill_noise(&grid->rows[grid->row_count++], report, noise, brief);
    }
}

/* Which columns a narrow terminal can do without, the highest first; 0: none of them. */
static unsigned drop_rank_of(enum column column)
{
    switch (column) {
    case COLUMN_P999:
        return 5;
    case COLUMN_RSS:
        return 4;
    case COLUMN_P50:
        return 3;
    case COLUMN_P99:
        return 2;
    case COLUMN_CPU:
        return GRID_DROP_LAST;
    default:
        return 0;
    }
}

int weir__grid_init(struct grid *grid, const struct report *report, bool brief)
{
    memset(grid, 0, sizeof *grid);
    grid->message_at = 2; /* behind connections and engine */
    const enum column *columns = columns_of(report, brief, &grid->column_count);

    /* At most: figures and a message for each cell, and one noise row for each group. */
    grid->rows = calloc(report->cell_count * 2 + report->noise_count + 1, sizeof *grid->rows);
    if (grid->rows == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < grid->column_count; i++) {
        header_of(report, columns[i], grid->headers[i], sizeof grid->headers[i]);
        grid->drop_rank[i] = drop_rank_of(columns[i]);
        grid->left[i] = columns[i] == COLUMN_ENGINE || columns[i] == COLUMN_VERDICT;
    }
    fill_rows(grid, report, brief);
    return 0;
}

void weir__grid_deinit(struct grid *grid)
{
    free(grid->rows);
    memset(grid, 0, sizeof *grid);
}

static void describe_shape(const struct shape *shape, char *text, size_t bytes)
{
    char rate[32];

    switch (shape->kind) {
    case SHAPE_BURST:
        snprintf(text, bytes, "burst, %u requests a client", shape->requests);
        break;
    case SHAPE_PIPELINE:
        snprintf(text, bytes, "pipeline, %u in flight on each connection", shape->depth);
        break;
    case SHAPE_IDLE:
        snprintf(text, bytes, "closed loop on %u %% of the connections, the others idle",
                 shape->active);
        break;
    case SHAPE_STREAM:
        snprintf(text, bytes, "stream %s",
                 shape->direction == SHAPE_OUT ? "from the server" : "towards the server");
        break;
    case SHAPE_CHURN:
        snprintf(text, bytes, "churn: connect, one request, close");
        break;
    case SHAPE_OPEN:
        weir__report_thousands(rate, sizeof rate, shape->rate);
        snprintf(text, bytes, "open, %s requests/s planned", rate);
        break;
    case SHAPE_RAMP:
        snprintf(text, bytes, "ramp: connections added and held");
        break;
    default:
        snprintf(text, bytes, "%s loop", weir__shape_words(shape->kind)->name);
        break;
    }
}

void weir__grid_title(const struct report *report, char *text, size_t bytes)
{
    char work[128];
    char slices[96];

    describe_shape(&report->shape, work, sizeof work);
    if (isnan(report->slice_s))
        snprintf(slices, sizeof slices, "%u rounds", report->rounds);
    else
        snprintf(slices, sizeof slices, "%u rounds of %.3g s", report->rounds, report->slice_s);
    snprintf(text, bytes, "%s, %s, %u-byte %s; %s; seed %" PRIu64 "%s", report->workload, work,
             report->size, report->shape.kind == SHAPE_STREAM ? "messages" : "requests", slices,
             report->seed, report->interrupted ? "; INTERRUPTED" : "");
}
