/*
 * An ablation as a table of features by kinds of work, and in words (report_ablation.h). The files
 * are in report_ablation_files.c. Repeats verdicts; makes none.
 */
#include "bench/report_ablation.h"

#include "bench/cli.h"
#include "bench/report_ablation_grid.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

enum {
    WORDS_COLUMN = 12, /* what a line of words is set in by */
    WIDTH = 80,        /* where no terminal says */
};

const char *weir__ablation_verdict_name(enum ablation_verdict verdict)
{
    static const char *const names[] = {
        [WORTH_UNKNOWN] = NULL,
        [WORTH_NOTHING] = "no-difference",
        [WORTH_PAYS] = "pays",
        [WORTH_COSTS] = "costs",
    };

    return names[verdict];
}

void weir__ablation_row_name(const struct ablation_row *row, char *text, size_t bytes)
{
    snprintf(text, bytes, "%s %s", row->on ? "with" : "without", row->feature);
}

/* "a,b" becomes "a, b". */
static void spaced(const char *names, char *text, size_t bytes)
{
    size_t used = 0;

    for (const char *at = names; *at != '\0' && used + 2 < bytes; at++) {
        text[used++] = *at;
        if (*at == ',')
            text[used++] = ' ';
    }
    text[used] = '\0';
}

void weir__ablation_along(const struct ablation_row *row, char *text, size_t bytes)
{
    char off[ABLATION_NAMES_BYTES];
    char on[ABLATION_NAMES_BYTES];

    spaced(row->also_off, off, sizeof off);
    spaced(row->also_on, on, sizeof on);
    snprintf(text, bytes, "%s%s%s%s%s", off[0] != '\0' ? "also off: " : "", off,
             off[0] != '\0' && on[0] != '\0' ? "; " : "", on[0] != '\0' ? "on instead: " : "", on);
}

/* "1.021±.010"; in full "1.021 [1.011, 1.030]". */
static void format_ratio(char *text, size_t bytes, struct interval ratio, bool brief)
{
    char farther[32];

    if (isnan(ratio.median)) {
        snprintf(text, bytes, "-");
        return;
    }
    if (!weir__interval_bounded(ratio)) {
        snprintf(text, bytes, brief ? "%.3f±?" : "%.3f [?]", ratio.median);
        return;
    }
    snprintf(farther, sizeof farther, "%.3f",
             fmax(ratio.median - ratio.lo, ratio.hi - ratio.median));
    if (brief)
        snprintf(text, bytes, "%.3f±%s", ratio.median, farther + (farther[0] == '0'));
    else
        snprintf(text, bytes, "%.3f [%.3f, %.3f]", ratio.median, ratio.lo, ratio.hi);
}

/* Idle connections are about memory, too. */
static bool shows_memory(const struct ablation_column *column)
{
    return column->report.shape.kind == SHAPE_IDLE;
}

static void format_memory(char *text, size_t bytes, const struct report_cell *cell)
{
    if (!cell->measured || isnan(cell->per_conn.user))
        snprintf(text, bytes, "-");
    else
        snprintf(text, bytes, "%.0f", cell->per_conn.user);
}

static void add_headers(struct grid *grid, const struct ablation_report *report)
{
    snprintf(grid->headers[0], GRID_TEXT_BYTES, "feature");
    grid->left[0] = true;
    grid->column_count = 1;
    grid->message_at = 1;
    for (size_t i = 0; i < report->column_count; i++) {
        const struct ablation_column *column = &report->columns[i];

        snprintf(grid->headers[grid->column_count++], GRID_TEXT_BYTES, "%s", column->name);
        if (shows_memory(column))
            snprintf(grid->headers[grid->column_count++], GRID_TEXT_BYTES, "user B/conn");
    }
}

static struct grid_row *add_row(struct grid *grid, enum grid_row_kind kind, const char *name)
{
    struct grid_row *row = &grid->rows[grid->row_count++];

    row->kind = kind;
    snprintf(row->text[0], GRID_TEXT_BYTES, "%s", name);
    return row;
}

static void add_figures(struct grid *grid, const struct ablation_report *report, size_t index,
                        const char *name, bool brief)
{
    struct grid_row *row = add_row(grid, GRID_FIGURES, name);
    size_t at = 1;

    for (size_t i = 0; i < report->column_count; i++) {
        const struct ablation_column *column = &report->columns[i];
        const struct report_cell *cell = &column->report.cells[index + 1];
        const struct ablation_worth *worth = &column->worth[index];

        if (cell->failed != NULL)
            snprintf(row->text[at], GRID_TEXT_BYTES, "failed");
        else
            format_ratio(row->text[at], GRID_TEXT_BYTES, worth->ratio, brief);
        row->best[at] = worth->verdict == WORTH_PAYS;
        row->bad[at] = worth->verdict == WORTH_COSTS || cell->failed != NULL;
        at++;
        if (shows_memory(column))
            format_memory(row->text[at++], GRID_TEXT_BYTES, cell);
    }
}

/* What a row that was not measured has in the place of figures; the words tell the details. */
static const char *short_reason(const struct ablation_row *row)
{
    switch (row->state) {
    case ABLATION_SAME:
        return row->why;
    case ABLATION_NOT_GRANTED:
        return "not granted here";
    case ABLATION_FAILED:
        return "FAILED to start";
    case ABLATION_MEASURED:
        break;
    }
    return "";
}

static void add_feature(struct grid *grid, const struct ablation_report *report, size_t index,
                        bool brief)
{
    const struct ablation_row *row = &report->rows[index];
    char name[GRID_TEXT_BYTES];
    char along[2 * ABLATION_NAMES_BYTES];

    if (brief)
        snprintf(name, sizeof name, "  %s", row->feature);
    else
        weir__ablation_row_name(row, name, sizeof name);
    if (row->state != ABLATION_MEASURED) {
        struct grid_row *message = add_row(grid, GRID_MESSAGE, name);
        message->failed = row->state == ABLATION_FAILED;
        snprintf(message->message, sizeof message->message, "%s", short_reason(row));
        return;
    }
    add_figures(grid, report, index, name, brief);
    weir__ablation_along(row, along, sizeof along);
    if (along[0] == '\0')
        return;
    struct grid_row *message = add_row(grid, GRID_MESSAGE, "");
    snprintf(message->message, sizeof message->message, "%.600s", along);
}

static void add_noise(struct grid *grid, const struct ablation_report *report, bool brief)
{
    struct grid_row *row = add_row(grid, GRID_NOISE, brief ? "A/A" : "A/A: nothing switched");
    size_t at = 1;

    row->first_of_group = true;
    for (size_t i = 0; i < report->column_count; i++) {
        const struct ablation_column *column = &report->columns[i];
        struct report_noise noise = weir__report_noise_all(&column->report);

        format_ratio(row->text[at++], GRID_TEXT_BYTES, noise.cpu_ratio, brief);
        if (shows_memory(column))
            format_memory(row->text[at++], GRID_TEXT_BYTES, &column->report.cells[0]);
    }
}

int weir__ablation_grid(struct grid *grid, const struct ablation_report *report, bool brief)
{
    memset(grid, 0, sizeof *grid);
    /* At most two for each feature, two headings, the engine as it comes, and the noise. */
    grid->rows = calloc(2 * report->row_count + 4, sizeof *grid->rows);
    if (grid->rows == NULL)
        return -ENOMEM;
    add_headers(grid, report);
    for (size_t i = 0; i < report->row_count; i++) {
        bool first = i == 0 || report->rows[i - 1].on != report->rows[i].on;

        if (brief && first)
            add_row(grid, GRID_MESSAGE, report->rows[i].on ? "with" : "without")->first_of_group =
                true;
        add_feature(grid, report, i, brief);
        if (!brief && first)
            grid->rows[0].first_of_group = true;
    }
    add_noise(grid, report, brief);
    return 0;
}

/* ---- in words -------------------------------------------------------------------------------- */

struct words {
    weir__footer_fn *line;
    void *argument;
};

__attribute__((format(printf, 4, 5))) static size_t append(char *text, size_t bytes, size_t used,
                                                           const char *format, ...)
{
    va_list args;

    if (used >= bytes)
        return used;
    va_start(args, format);
    int length = vsnprintf(text + used, bytes - used, format, args);
    va_end(args);
    return length > 0 ? used + (size_t)length : used;
}

static bool has_verdict(const struct ablation_report *report, size_t row,
                        enum ablation_verdict verdict)
{
    for (size_t i = 0; i < report->column_count; i++) {
        if (report->columns[i].worth[row].verdict == verdict)
            return true;
    }
    return false;
}

/* "multishot_recv: 1.310 at 1000 conns, 1.121 at depth 16". */
static void say_verdict(const struct words *words, const struct ablation_report *report,
                        size_t index, enum ablation_verdict verdict, const char *heading)
{
    const struct ablation_row *row = &report->rows[index];
    char along[2 * ABLATION_NAMES_BYTES];
    char text[3 * ABLATION_NAMES_BYTES];
    bool first = true;

    weir__ablation_along(row, along, sizeof along);
    size_t used = append(text, sizeof text, 0, "%s", row->feature);
    if (along[0] != '\0')
        used = append(text, sizeof text, used, " (%s)", along);
    for (size_t i = 0; i < report->column_count; i++) {
        const struct ablation_column *column = &report->columns[i];

        if (column->worth[index].verdict != verdict)
            continue;
        used = append(text, sizeof text, used, "%s %.3f at %s", first ? ":" : ",",
                      column->worth[index].ratio.median, column->name);
        first = false;
    }
    words->line(words->argument, heading, text);
}

/* The names of those measured rows that have neither verdict, in one line. */
static void say_rest(const struct words *words, const struct ablation_report *report, bool unknown,
                     const char *heading, const char *begin)
{
    char text[2048];
    size_t used = append(text, sizeof text, 0, "%s", begin);
    bool any = false;

    for (size_t i = 0; i < report->row_count; i++) {
        if (report->rows[i].state != ABLATION_MEASURED || has_verdict(report, i, WORTH_PAYS) ||
            has_verdict(report, i, WORTH_COSTS) || has_verdict(report, i, WORTH_NOTHING) == unknown)
            continue;
        used = append(text, sizeof text, used, "%s %s", any ? "," : "", report->rows[i].feature);
        any = true;
    }
    if (any)
        words->line(words->argument, heading, text);
}

static void say_not_measured(const struct words *words, const struct ablation_report *report)
{
    for (size_t i = 0; i < report->row_count; i++) {
        const struct ablation_row *row = &report->rows[i];
        char text[2 * ABLATION_NAMES_BYTES];

        if (row->state == ABLATION_MEASURED || row->state == ABLATION_SAME)
            continue;
        snprintf(text, sizeof text, "%s: %s", row->feature, row->why);
        words->line(words->argument, row->state == ABLATION_FAILED ? "FAILED" : "not granted",
                    text);
    }
}

/* What went wrong with single cells, the engine as it comes included. */
static void say_failures(const struct words *words, const struct ablation_report *report)
{
    for (size_t i = 0; i < report->column_count; i++) {
        const struct ablation_column *column = &report->columns[i];

        for (size_t j = 0; j < column->report.cell_count; j++) {
            const struct report_cell *cell = &column->report.cells[j];
            bool run = j == 0 || report->rows[j - 1].state == ABLATION_MEASURED;
            const char *why = cell->failed != NULL ? cell->failed : cell->skipped;
            char text[2 * ABLATION_NAMES_BYTES];

            if (!run || why == NULL)
                continue;
            snprintf(text, sizeof text, "%s at %s: %s", cell->engine, column->name, why);
            words->line(words->argument, cell->failed != NULL ? "FAILED" : "skipped", text);
        }
    }
}

void weir__ablation_words(const struct ablation_report *report, weir__footer_fn *line,
                          void *argument)
{
    struct words words = {line, argument};

    for (size_t i = 0; i < report->row_count; i++) {
        if (has_verdict(report, i, WORTH_PAYS))
            say_verdict(&words, report, i, WORTH_PAYS, "pays");
    }
    for (size_t i = 0; i < report->row_count; i++) {
        if (has_verdict(report, i, WORTH_COSTS))
            say_verdict(&words, report, i, WORTH_COSTS, "costs");
    }
    say_rest(&words, report, false, "no matter", "no difference beyond noise in any column:");
    say_rest(&words, report, true, "unknown",
             "too few slices for an interval (raise --budget or --rounds):");
    say_not_measured(&words, report);
    say_failures(&words, report);
}

void weir__ablation_footer(const struct ablation_report *report, weir__footer_fn *line,
                           void *argument)
{
    char text[ABLATION_NAMES_BYTES * 2];

    weir__ablation_words(report, line, argument);
    for (size_t i = 0; i < report->column_count; i++) {
        weir__grid_title(&report->columns[i].report, text, sizeof text);
        line(argument, report->columns[i].name, text);
    }
    for (size_t i = 0; i < report->column_count; i++) {
        const struct report *one = &report->columns[i].report;

        for (size_t j = 0; j < one->note_count; j++)
            line(argument, "note", one->notes[j]);
    }
    if (report->granted != NULL) {
        spaced(report->granted, text, sizeof text);
        line(argument, "granted", text);
    }
    if (report->column_count > 0)
        weir__footer_host(&report->columns[0].report, line, argument);
}

/* ---- the table ------------------------------------------------------------------------------- */

struct lines {
    FILE *out;
    unsigned width;
};

static void put_line(void *argument, const char *heading, const char *text)
{
    const struct lines *lines = argument;

    fprintf(lines->out, "%-*s", WORDS_COLUMN, heading);
    weir__cli_wrap(lines->out, WORDS_COLUMN, lines->width, text);
}

void weir__ablation_table(FILE *out, const struct ablation_report *report, bool colour)
{
    struct winsize size;
    struct lines lines = {out, WIDTH};
    struct grid grid;

    if (ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 2 * WORDS_COLUMN)
        lines.width = size.ws_col;
    if (weir__ablation_grid(&grid, report, true) < 0) {
        fputs("weir-bench: out of memory for the table\n", stderr);
        return;
    }
    fprintf(out,
            "What each feature of %s is worth: server CPU per request without it,\n"
            "divided by the same with it. Above 1 the feature pays.%s\n\n",
            report->engine, report->interrupted ? " INTERRUPTED" : "");
    weir__grid_put(out, &grid, colour);
    weir__grid_deinit(&grid);
    fputs("* beyond noise: the interval lies beyond 1 by more than the A/A row does\n"
          "± the farther end of the 95 % interval\n\n",
          out);
    weir__ablation_footer(report, put_line, &lines);
}
