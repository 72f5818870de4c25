/* What --growth found (growth.h), as a table and as files. */
#include "bench/growth.h"
#include "bench/report_grid.h"

#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMN_ENGINE, COLUMN_CONNS, COLUMN_CPU, COLUMN_GROWTH, COLUMN_IDLE, COLUMN_NS, COLUMNS };

static const char legend[] =
    "growth: CPU per request over that of the same engine's server at the base; the idle add: over "
    "that of a server which has only the active connections, its neighbour in time";

/* --- the grid -----------------------------------------------------------------------------------
 */

static void put_ratio(char *text, size_t bytes, struct interval ratio, bool brief)
{
    if (isnan(ratio.median))
        snprintf(text, bytes, "-");
    else if (!weir__interval_bounded(ratio))
        snprintf(text, bytes, "%.3f ±?", ratio.median);
    else if (brief)
        snprintf(text, bytes, "%.3f ±%.3f", ratio.median,
                 fmax(ratio.median - ratio.lo, ratio.hi - ratio.median));
    else
        snprintf(text, bytes, "%.3f [%.3f, %.3f]", ratio.median, ratio.lo, ratio.hi);
}

static void put_percent(char *text, size_t bytes, struct interval ratio)
{
    if (isnan(ratio.median))
        snprintf(text, bytes, "-");
    else if (!weir__interval_bounded(ratio))
        snprintf(text, bytes, "%+.1f %%", 100 * (ratio.median - 1));
    else
        snprintf(text, bytes, "%+.1f %% [%+.1f, %+.1f]", 100 * (ratio.median - 1),
                 100 * (ratio.lo - 1), 100 * (ratio.hi - 1));
}

/* Unknown where the base did not run, and for the base itself. */
static struct interval over_base(const struct growth_point *point)
{
    return point->cell.has_ratio ? point->cell.cpu_ratio : weir__interval_unknown();
}

static void fill_row(const struct growth_report *report, const struct growth_row *row, size_t i,
                     struct grid_row *out, bool brief)
{
    const struct growth_point *point = &row->points[i];
    size_t bytes = sizeof out->text[0];

    out->first_of_group = i == 0;
    out->cell = &point->cell;
    snprintf(out->text[COLUMN_ENGINE], bytes, "%s", row->engine);
    snprintf(out->text[COLUMN_CONNS], bytes, "%u", point->cell.conns);
    if (!point->cell.measured || point->cell.failed != NULL) {
        out->kind = GRID_MESSAGE;
        out->failed = point->cell.failed != NULL;
        snprintf(out->message, sizeof out->message, "%s: %s", out->failed ? "FAILED" : "skipped",
                 out->failed           ? point->cell.failed
                 : point->cell.skipped ? point->cell.skipped
                                       : "not measured");
        return;
    }
    out->kind = GRID_FIGURES;
    snprintf(out->text[COLUMN_CPU], bytes, "%.2f", point->cell.server_cpu_us.median);
    if (point->cell.conns == report->base)
        snprintf(out->text[COLUMN_GROWTH], bytes, "1");
    else
        put_ratio(out->text[COLUMN_GROWTH], bytes, over_base(point), brief);
    put_percent(out->text[COLUMN_IDLE], bytes, point->idle_ratio);
    snprintf(out->text[COLUMN_NS], bytes, "-");
    if (point->idle > 0 && !isnan(point->idle_ratio.median))
        snprintf(out->text[COLUMN_NS], bytes, "%.3g",
                 (point->idle_ratio.median - 1) * point->alone_us * 1e3 / point->idle);
    out->bad[COLUMN_IDLE] =
        weir__stats_verdict(point->idle_ratio, row->noise.cpu_ratio, false) == VERDICT_SLOWER;
}

static int make_grid(struct grid *grid, const struct growth_report *report, bool brief)
{
    static const char *const headers[COLUMNS] = {
        "engine", "conns", "CPU us/req", "growth", "the idle add", "ns each",
    };
    size_t rows = 0;

    memset(grid, 0, sizeof *grid);
    for (size_t i = 0; i < report->row_count; i++)
        rows += report->rows[i].count;
    grid->rows = calloc(rows + 1, sizeof *grid->rows);
    if (grid->rows == NULL)
        return -ENOMEM;
    grid->column_count = COLUMNS;
    grid->message_at = COLUMN_CPU;
    grid->left[COLUMN_ENGINE] = true;
    for (size_t i = 0; i < COLUMNS; i++)
        snprintf(grid->headers[i], sizeof grid->headers[i], "%s", headers[i]);
    for (size_t i = 0; i < report->row_count; i++)
        for (size_t k = 0; k < report->rows[i].count; k++)
            fill_row(report, &report->rows[i], k, &grid->rows[grid->row_count++], brief);
    return 0;
}

/* --- in words -----------------------------------------------------------------------------------
 */

static const char *idle_words(enum verdict verdict)
{
    switch (verdict) {
    case VERDICT_SLOWER:
        return "a request costs more for the idle connections";
    case VERDICT_FASTER:
        return "a request costs less beside idle connections";
    case VERDICT_WITHIN_NOISE:
        return "idle connections cost a request nothing that noise does not";
    case VERDICT_UNKNOWN:
        break;
    }
    return "too few slices to tell";
}

static void say_fit(const struct growth_report *report, const struct growth_row *row, char *text,
                    size_t bytes)
{
    const struct growth_fit *fit = &row->fit;
    size_t used = (size_t)snprintf(text, bytes, "%s", idle_words(fit->idle));

    if (weir__interval_bounded(fit->ns_per_idle))
        used += (size_t)snprintf(text + used, bytes - used,
                                 "; fitted: %.3g ns [%.3g, %.3g] for each idle one",
                                 fit->ns_per_idle.median, fit->ns_per_idle.lo, fit->ns_per_idle.hi);
    if (weir__interval_bounded(fit->exponent) && used < bytes)
        used += (size_t)snprintf(text + used, bytes - used,
                                 "; in all, CPU per request ~ connections^%.3f [%.3f, %.3f] from "
                                 "%u on",
                                 fit->exponent.median, fit->exponent.lo, fit->exponent.hi,
                                 report->base);
    if (weir__interval_bounded(row->noise.cpu_ratio) && used < bytes)
        snprintf(text + used, bytes - used, "; two servers alike differ by %.1f %%",
                 100 * weir__stats_noise_floor(row->noise.cpu_ratio));
}

static void walk_words(const struct growth_report *report, weir__footer_fn *line, void *argument)
{
    char text[640];

    for (size_t i = 0; i < report->row_count; i++) {
        say_fit(report, &report->rows[i], text, sizeof text);
        line(argument, report->rows[i].engine, text);
    }
    for (size_t i = 0; i < report->head.note_count; i++)
        line(argument, "note", report->head.notes[i]);
    weir__footer_host(&report->head, line, argument);
}

static void title_of(const struct growth_report *report, char *text, size_t bytes)
{
    snprintf(text, bytes,
             "%s, closed loop on %u %% of the connections, %u-byte requests: server CPU per "
             "request by connections, base %u; seed %" PRIu64 "%s",
             report->head.workload, report->head.shape.active, report->head.size, report->base,
             report->head.seed, report->head.interrupted ? "; INTERRUPTED" : "");
}

static void put_line(void *argument, const char *heading, const char *text)
{
    fprintf(argument, "%-12s %s\n", heading, text);
}

void weir__growth_table(FILE *out, const struct growth_report *report, bool colour)
{
    struct grid grid;
    char title[256];

    if (make_grid(&grid, report, true) < 0) {
        fputs("weir-bench: out of memory for the table\n", stderr);
        return;
    }
    title_of(report, title, sizeof title);
    fprintf(out, "%s\n\n", title);
    weir__grid_put(out, &grid, colour);
    fprintf(out, "%s\n* more than noise; ±, [ ]: 95 %%\n\n", legend);
    walk_words(report, put_line, out);
    weir__grid_deinit(&grid);
}

/* --- files --------------------------------------------------------------------------------------
 */

static json_t *real_or_null(double value)
{
    return isnan(value) ? json_null() : json_real(value);
}

static json_t *point_object(const struct growth_point *point)
{
    const struct report_cell *cell = &point->cell;
    const char *why = cell->failed != NULL ? cell->failed : cell->skipped;

    return json_pack("{s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:s?}", "conns", (int)cell->conns,
                     "idle", (int)point->idle, "requests",
                     cell->measured ? json_integer((json_int_t)cell->requests) : json_null(),
                     "verified", cell->measured ? json_boolean(cell->verified) : json_null(),
                     "server_cpu_us_per_request", weir__json_interval(cell->server_cpu_us),
                     "over_base", weir__json_interval(over_base(point)), "idle_over_without",
                     weir__json_interval(point->idle_ratio), "without_idle_cpu_us_per_request",
                     real_or_null(point->alone_us), cell->failed ? "failed" : "skipped", why);
}

static json_t *row_object(const struct growth_row *row)
{
    const char *verdict = weir__stats_verdict_name(row->fit.idle);
    json_t *points = json_array();

    for (size_t i = 0; i < row->count; i++)
        json_array_append_new(points, point_object(&row->points[i]));
    return json_pack("{s:s, s:i, s:o, s:o, s:s?, s:o, s:o}", "engine", row->engine, "rounds",
                     (int)row->rounds, "ns_per_idle_conn_and_request",
                     weir__json_interval(row->fit.ns_per_idle), "exponent",
                     weir__json_interval(row->fit.exponent), "idle_verdict", verdict, "noise",
                     weir__json_interval(row->noise.cpu_ratio), "points", points);
}

static json_t *document_of(const struct growth_report *report)
{
    json_t *document = weir__report_json(&report->head);
    json_t *engines = json_array();

    for (size_t i = 0; i < report->row_count; i++)
        json_array_append_new(engines, row_object(&report->rows[i]));
    json_object_set_new(
        document, "growth",
        json_pack("{s:i, s:o}", "base_conns", (int)report->base, "engines", engines));
    return document;
}

static void put_csv_interval(FILE *out, struct interval value)
{
    const double values[] = {value.median, value.lo, value.hi};

    for (size_t i = 0; i < 3; i++)
        fprintf(out, isnan(values[i]) ? "," : ",%.6g", values[i]);
}

static int write_csv(FILE *out, const struct growth_report *report)
{
    fputs("engine,conns,idle,server_cpu_us_per_request_median,server_cpu_us_per_request_lo,"
          "server_cpu_us_per_request_hi,over_base_median,over_base_lo,over_base_hi,"
          "idle_over_without_median,idle_over_without_lo,idle_over_without_hi\n",
          out);
    for (size_t i = 0; i < report->row_count; i++) {
        for (size_t k = 0; k < report->rows[i].count; k++) {
            const struct growth_point *point = &report->rows[i].points[k];

            fprintf(out, "\"%s\",%u,%u", report->rows[i].engine, point->cell.conns, point->idle);
            put_csv_interval(out, point->cell.server_cpu_us);
            put_csv_interval(out, over_base(point));
            put_csv_interval(out, point->idle_ratio);
            fputc('\n', out);
        }
    }
    return ferror(out) ? -EIO : 0;
}

static void put_markdown_line(void *argument, const char *heading, const char *text)
{
    FILE *out = argument;

    fprintf(out, "- %s: ", heading);
    weir__markdown_escape(out, text);
    fputc('\n', out);
}

static int write_markdown(FILE *out, const struct growth_report *report)
{
    struct grid grid;
    char title[256];

    if (make_grid(&grid, report, false) < 0)
        return -ENOMEM;
    title_of(report, title, sizeof title);
    fputs("**weir-bench**: ", out);
    weir__markdown_escape(out, title);
    fputs("\n\n", out);
    weir__grid_put_markdown(out, &grid);
    fprintf(out, "\n%s. Bold: more than noise; [95 %% interval].\n\n", legend);
    walk_words(report, put_markdown_line, out);
    weir__grid_deinit(&grid);
    return ferror(out) ? -EIO : 0;
}

static void put_html_line(void *argument, const char *heading, const char *text)
{
    FILE *out = argument;

    fprintf(out, "<dt>%s</dt><dd>", heading);
    weir__html_escape(out, text);
    fputs("</dd>\n", out);
}

static int write_html(FILE *out, const struct growth_report *report)
{
    struct grid grid;
    char title[256];

    if (make_grid(&grid, report, false) < 0)
        return -ENOMEM;
    title_of(report, title, sizeof title);
    weir__html_begin(out);
    fputs("<p class=\"title\">", out);
    weir__html_escape(out, title);
    fputs("</p>\n", out);
    weir__grid_put_html(out, &grid);
    fprintf(out, "<p class=\"title\">%s. [95 %% interval]</p>\n<dl>\n", legend);
    walk_words(report, put_html_line, out);
    fputs("</dl>\n", out);
    weir__html_end(out);
    weir__grid_deinit(&grid);
    return ferror(out) ? -EIO : 0;
}

int weir__growth_write(enum report_kind kind, FILE *out, const void *growth_report)
{
    const struct growth_report *report = growth_report;

    switch (kind) {
    case REPORT_JSON:
        return weir__json_dump(out, document_of(report));
    case REPORT_CSV:
        return write_csv(out, report);
    case REPORT_HTML:
        return write_html(out, report);
    case REPORT_MARKDOWN:
        return write_markdown(out, report);
    case REPORT_KINDS:
        break;
    }
    return -EINVAL;
}
