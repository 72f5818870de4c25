/*
 * An ablation as JSON, CSV, HTML and Markdown (report_ablation.h). Each holds the table of features
 * and, column by column, the same cells that compare writes.
 */
#include "bench/report_ablation_grid.h"

#include "config.h"

#include <errno.h>
#include <string.h>

/* ---- JSON ------------------------------------------------------------------------------------ */

static const char *state_name(enum ablation_state state)
{
    static const char *const names[] = {
        [ABLATION_MEASURED] = "measured",
        [ABLATION_SAME] = "same",
        [ABLATION_NOT_GRANTED] = "not-granted",
        [ABLATION_FAILED] = "failed",
    };

    return names[state];
}

static json_t *string_or_null(const char *text)
{
    json_t *string = text != NULL && text[0] != '\0' ? json_string(text) : NULL;

    return string != NULL ? string : json_null();
}

static json_t *worth_array(const struct ablation_report *report, size_t row)
{
    json_t *array = json_array();

    for (size_t i = 0; i < report->column_count; i++) {
        const struct ablation_worth *worth = &report->columns[i].worth[row];
        json_t *one = weir__json_interval(worth->ratio);

        json_object_set_new(one, "column", string_or_null(report->columns[i].name));
        json_object_set_new(one, "verdict",
                            string_or_null(weir__ablation_verdict_name(worth->verdict)));
        json_array_append_new(array, one);
    }
    return array;
}

static json_t *feature_object(const struct ablation_report *report, size_t index)
{
    const struct ablation_row *row = &report->rows[index];

    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o}", "feature", row->feature,
                     "switched", row->on ? "on" : "off", "engine", row->spec, "state",
                     state_name(row->state), "why", string_or_null(row->why), "also_off",
                     weir__json_names(row->also_off), "also_on", weir__json_names(row->also_on),
                     "cpu_without_over_with", worth_array(report, index));
}

static json_t *column_object(const struct ablation_column *column)
{
    json_t *whole = weir__report_json(&column->report);
    json_t *object =
        json_pack("{s:s, s:O, s:O}", "name", column->name, "run", json_object_get(whole, "run"),
                  "cells", json_object_get(whole, "cells"));

    json_decref(whole);
    return object;
}

static json_t *document_of(const struct ablation_report *report)
{
    json_t *features = json_array();
    json_t *columns = json_array();
    json_t *host = json_null();

    for (size_t i = 0; i < report->row_count; i++)
        json_array_append_new(features, feature_object(report, i));
    for (size_t i = 0; i < report->column_count; i++)
        json_array_append_new(columns, column_object(&report->columns[i]));
    if (report->column_count > 0) {
        json_t *whole = weir__report_json(&report->columns[0].report);
        host = json_incref(json_object_get(whole, "host"));
        json_decref(whole);
    }
    return json_pack("{s:s, s:o, s:{s:s, s:o, s:o, s:b}, s:o}", "weir", WEIR_VERSION, "host", host,
                     "ablation", "engine", report->engine, "granted",
                     weir__json_names(report->granted), "features", features, "interrupted",
                     report->interrupted, "columns", columns);
}

/* ---- the others ------------------------------------------------------------------------------ */

static int write_csv(FILE *out, const struct ablation_report *report)
{
    weir__csv_header(out);
    for (size_t i = 0; i < report->column_count; i++)
        weir__csv_cells(out, &report->columns[i].report);
    return ferror(out) ? -EIO : 0;
}

static void put_markdown_line(void *argument, const char *heading, const char *text)
{
    FILE *out = argument;

    fprintf(out, "- %s: ", heading);
    weir__markdown_escape(out, text);
    fputc('\n', out);
}

static int write_markdown(FILE *out, const struct ablation_report *report)
{
    struct grid grid;

    if (weir__ablation_grid(&grid, report, false) < 0)
        return -ENOMEM;
    fputs("**weir-bench**: what each feature of ", out);
    weir__markdown_escape(out, report->engine);
    fputs(" is worth: server CPU per request without it, divided by the same with it; above 1 the "
          "feature pays.\n\n",
          out);
    weir__grid_put_markdown(out, &grid);
    weir__grid_deinit(&grid);
    fputs("\nBold: beyond noise; [95 % interval].\n\n", out);
    weir__ablation_footer(report, put_markdown_line, out);
    for (size_t i = 0; i < report->column_count; i++) {
        if (weir__grid_init(&grid, &report->columns[i].report, false) < 0)
            return -ENOMEM;
        fputs("\n### ", out);
        weir__markdown_escape(out, report->columns[i].name);
        fputs("\n\n", out);
        weir__grid_put_markdown(out, &grid);
        weir__grid_deinit(&grid);
    }
    return ferror(out) ? -EIO : 0;
}

static void put_html_line(void *argument, const char *heading, const char *text)
{
    FILE *out = argument;

    fprintf(out, "<dt>%s</dt><dd>", heading);
    weir__html_escape(out, text);
    fputs("</dd>\n", out);
}

static int write_html(FILE *out, const struct ablation_report *report)
{
    struct grid grid;

    if (weir__ablation_grid(&grid, report, false) < 0)
        return -ENOMEM;
    weir__html_begin(out);
    fputs("<p class=\"title\">What each feature of ", out);
    weir__html_escape(out, report->engine);
    fputs(" is worth: server CPU per request without it, divided by the same with it. Above 1 the "
          "feature pays.</p>\n",
          out);
    weir__grid_put_html(out, &grid);
    weir__grid_deinit(&grid);
    fputs("<p class=\"title\">Green: it pays, beyond noise; red: it costs. [95 % interval]</p>\n"
          "<h2>In words</h2>\n<dl>\n",
          out);
    weir__ablation_footer(report, put_html_line, out);
    fputs("</dl>\n", out);
    for (size_t i = 0; i < report->column_count; i++) {
        if (weir__grid_init(&grid, &report->columns[i].report, false) < 0)
            return -ENOMEM;
        fputs("<h2>", out);
        weir__html_escape(out, report->columns[i].name);
        fputs("</h2>\n", out);
        weir__grid_put_html(out, &grid);
        weir__grid_deinit(&grid);
    }
    weir__html_end(out);
    return ferror(out) ? -EIO : 0;
}

int weir__ablation_write(enum report_kind kind, FILE *out, const void *ablation_report)
{
    const struct ablation_report *report = ablation_report;

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
