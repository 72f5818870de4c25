/*
 * The report as one HTML page that needs nothing from elsewhere: no script, no font, no image. Bars
 * show requests/s and CPU per request (elapsed ms in a burst) of each group; light or dark as the
 * reader's system is.
 */
#include "bench/report_pivot.h"

#include <errno.h>
#include <math.h>
#include <string.h>

static const char *const style_sheet =
    ":root{color-scheme:light dark;--fg:#1c1e21;--bg:#fff;--dim:#666c75;--line:#d9dce1;"
    "--bar:#8aa4c8;--best:#2e8b57;--bad:#b3261e}\n"
    "@media(prefers-color-scheme:dark){:root{--fg:#e6e8eb;--bg:#16181c;--dim:#9aa1ab;"
    "--line:#33373e;--bar:#4a648c;--best:#4fbf85;--bad:#ff8a80}}\n"
    "body{font:15px/1.5 system-ui,sans-serif;color:var(--fg);background:var(--bg);"
    "margin:2rem auto;max-width:76rem;padding:0 1rem}\n"
    "h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}p.title{color:var(--dim)}\n"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}\n"
    "th,td{padding:.25rem .6rem;text-align:right;white-space:nowrap}\n"
    "th{border-bottom:2px solid var(--line)}.l{text-align:left}.m{white-space:normal}\n"
    "tr.group td{border-top:1px solid var(--line)}tr.noise td{color:var(--dim)}\n"
    ".best,.faster{font-weight:700;color:var(--best)}.slower,.failed{color:var(--bad)}\n"
    ".bars{display:grid;grid-template-columns:max-content 1fr max-content;gap:.2rem .8rem;"
    "align-items:center}\n"
    ".track{background:var(--line);height:.9rem;border-radius:2px}\n"
    ".bar{background:var(--bar);height:100%;border-radius:2px}.bar.top{background:var(--best)}\n"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;color:var(--dim)}"
    "dt{font-weight:600}dd{margin:0;overflow-wrap:anywhere}\n";

void weir__html_escape(FILE *out, const char *text)
{
    for (const char *at = text; *at != '\0'; at++) {
        switch (*at) {
        case '&':
            fputs("&amp;", out);
            break;
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        case '"':
            fputs("&quot;", out);
            break;
        default:
            fputc(*at, out);
        }
    }
}

static void put_table_cell(FILE *out, const struct grid *grid, const struct grid_row *row,
                           size_t column)
{
    const char *verdict = "";

    if (column + 1 == grid->column_count && row->cell != NULL && row->cell->has_ratio &&
        row->cell->verdict != VERDICT_WITHIN_NOISE && row->cell->verdict != VERDICT_UNKNOWN)
        verdict = weir__stats_verdict_name(row->cell->verdict);
    fprintf(out, "<td class=\"%s %s %s\">", grid->left[column] ? "l" : "",
            row->best[column]  ? "best"
            : row->bad[column] ? "slower"
                               : "",
            verdict);
    weir__html_escape(out, row->text[column]);
    fputs("</td>", out);
}

static void put_table_row(FILE *out, const struct grid *grid, const struct grid_row *row)
{
    fprintf(out, "<tr class=\"%s %s\">", row->first_of_group ? "group" : "",
            row->kind == GRID_NOISE ? "noise" : "");
    size_t columns = row->kind == GRID_MESSAGE ? grid->message_at : grid->column_count;

    for (size_t i = 0; i < columns; i++)
        put_table_cell(out, grid, row, i);
    if (row->kind == GRID_MESSAGE) {
        fprintf(out, "<td class=\"l m %s\" colspan=\"%zu\">", row->failed ? "failed" : "",
                grid->column_count - grid->message_at);
        weir__html_escape(out, row->message);
        fputs("</td>", out);
    }
    fputs("</tr>\n", out);
}

void weir__grid_put_html(FILE *out, const struct grid *grid)
{
    fputs("<div class=\"wide\"><table>\n<thead><tr>", out);
    for (size_t i = 0; i < grid->column_count; i++) {
        fprintf(out, "<th class=\"%s\">", grid->left[i] ? "l" : "");
        weir__html_escape(out, grid->headers[i]);
        fputs("</th>", out);
    }
    fputs("</tr></thead>\n<tbody>\n", out);
    for (size_t i = 0; i < grid->row_count; i++)
        put_table_row(out, grid, &grid->rows[i]);
    fputs("</tbody></table></div>\n", out);
}

void weir__html_begin(FILE *out)
{
    fprintf(out,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
            "<title>weir-bench</title>\n<style>\n%s</style>\n</head>\n<body>\n"
            "<h1>weir-bench</h1>\n",
            style_sheet);
}

void weir__html_end(FILE *out)
{
    fputs("</body>\n</html>\n", out);
}

static double largest(const struct report *report, unsigned conns, enum report_figure figure)
{
    double most = 0;

    for (size_t i = 0; i < report->cell_count; i++) {
        double value = weir__report_figure(&report->cells[i], figure);
        if (report->cells[i].conns == conns && !isnan(value))
            most = fmax(most, value);
    }
    return most;
}

static void put_bars(FILE *out, const struct report *report, unsigned conns,
                     enum report_figure figure, const char *what)
{
    double most = largest(report, conns, figure);

    if (most <= 0)
        return;
    fprintf(out, "<h2>%s, %u connections</h2>\n<div class=\"bars\">\n", what, conns);
    for (size_t i = 0; i < report->cell_count; i++) {
        const struct report_cell *cell = &report->cells[i];
        double value = weir__report_figure(cell, figure);

        if (cell->conns != conns || isnan(value))
            continue;
        fputs("<span>", out);
        weir__html_escape(out, cell->engine);
        fprintf(out,
                "</span><div class=\"track\"><div class=\"bar%s\" style=\"width:%.1f%%\"></div>"
                "</div><span>%.5g</span>\n",
                weir__report_is_best(report, cell, figure) ? " top" : "", 100 * value / most,
                weir__report_shown(report, cell, figure));
    }
    fputs("</div>\n", out);
}

static void put_all_bars(FILE *out, const struct report *report)
{
    bool burst = report->shape.kind == SHAPE_BURST;
    const struct shape_words *words = weir__shape_words(report->shape.kind);
    char rate[64], cpu[96];

    snprintf(rate, sizeof rate, "%s (more is better)", words->rate);
    snprintf(cpu, sizeof cpu, "Server CPU, microseconds per %s (less is better)", words->unit);

    for (size_t i = 0; i < report->cell_count; i++) {
        unsigned conns = report->cells[i].conns;

        if (i > 0 && report->cells[i - 1].conns == conns)
            continue;
        if (burst)
            put_bars(out, report, conns, FIGURE_ELAPSED, "Elapsed ms (less is better)");
        else
            put_bars(out, report, conns, FIGURE_RPS, rate);
        put_bars(out, report, conns, FIGURE_CPU, cpu);
    }
}

static void put_footer_line(void *argument, const char *heading, const char *text)
{
    FILE *out = argument;

    fprintf(out, "<dt>%s</dt><dd>", heading);
    weir__html_escape(out, text);
    fputs("</dd>\n", out);
}

static void put_legend_line(void *argument, const char *text)
{
    FILE *out = argument;

    fputs("<p class=\"title\">", out);
    weir__html_escape(out, text);
    fputs("</p>\n", out);
}

static void put_pivot(FILE *out, const struct report *report)
{
    struct pivot pivot;

    if (weir__pivot_init(&pivot, report) == 0) {
        fprintf(out, "<h2>%s</h2>\n", weir__pivot_title);
        weir__grid_put_html(out, &pivot.grid);
        weir__pivot_legend(&pivot, report, put_legend_line, out);
    }
    weir__pivot_deinit(&pivot);
}

int weir__report_write_html(FILE *out, const struct report *report)
{
    char title[256];
    struct grid grid;

    if (weir__grid_init(&grid, report, false) < 0)
        return -ENOMEM;
    weir__grid_title(report, title, sizeof title);
    weir__html_begin(out);
    fputs("<p class=\"title\">", out);
    weir__html_escape(out, title);
    fputs("</p>\n", out);
    weir__grid_put_html(out, &grid);
    fputs("<p class=\"title\">Green: best of its column and number of connections, or no worse "
          "beyond noise. [95 % interval]</p>\n",
          out);
    if (weir__pivot_wanted(report))
        put_pivot(out, report);
    put_all_bars(out, report);
    fputs("<h2>What it rests on</h2>\n<dl>\n", out);
    weir__footer_walk(report, put_footer_line, out);
    fputs("</dl>\n", out);
    weir__html_end(out);
    weir__grid_deinit(&grid);
    return ferror(out) ? -EIO : 0;
}
