/*
 * The table for people: aligned columns, units in the header, the best of each column and group
 * marked. One glance tells the winner; the footer tells what it rests on.
 */
#include "bench/report_pivot.h"

#include <math.h>
#include <string.h>
#include <sys/ioctl.h>

#define BOLD_GREEN "\033[1;32m"
#define RED        "\033[31m"
#define DIM        "\033[2m"
#define BOLD       "\033[1m"
#define RESET      "\033[0m"

struct style {
    FILE *out;
    bool colour;
};

/* A grid and how it is laid out here. */
struct layout {
    const struct grid *grid;
    size_t widths[GRID_COLUMNS_MAX];
    bool shown[GRID_COLUMNS_MAX];
    size_t last; /* the last column shown */
};

/* Columns that a text takes: bytes, but for UTF-8's continuations. */
static size_t width_of(const char *text)
{
    size_t width = 0;

    for (const char *at = text; *at != '\0'; at++)
        width += ((unsigned char)*at & 0xc0) != 0x80;
    return width;
}

static void put_padded(const struct style *style, const char *text, size_t width, bool left,
                       const char *ansi)
{
    size_t length = width_of(text);
    size_t pad = width > length ? width - length : 0;

    if (!left)
        fprintf(style->out, "%*s", (int)pad, "");
    if (ansi != NULL && style->colour && text[0] != '\0')
        fprintf(style->out, "%s%s" RESET, ansi, text);
    else
        fputs(text, style->out);
    if (left)
        fprintf(style->out, "%*s", (int)pad, "");
}

static size_t total_width(const struct layout *layout)
{
    size_t total = 0;

    for (size_t i = 0; i < layout->grid->column_count; i++)
        total += layout->shown[i] ? layout->widths[i] + 2 : 0;
    return total > 2 ? total - 2 : 0;
}

/* Leaves out what a narrow terminal can do without, until the rest fits. */
static void fit(struct layout *layout, size_t columns)
{
    for (unsigned rank = GRID_DROP_FIRST;
         rank >= GRID_DROP_LAST && columns > 0 && total_width(layout) > columns; rank--) {
        for (size_t i = 0; i < layout->grid->column_count; i++) {
            if (layout->grid->drop_rank[i] == rank)
                layout->shown[i] = false;
        }
    }
}

/* The columns of the terminal that `out` is; 0: it is none, and any width will do. */
static size_t terminal_columns(FILE *out)
{
    struct winsize size;

    return ioctl(fileno(out), TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

static void lay_out(struct layout *layout, const struct grid *grid, size_t columns)
{
    layout->grid = grid;
    for (size_t column = 0; column < grid->column_count; column++) {
        layout->shown[column] = true;
        layout->widths[column] = width_of(grid->headers[column]);
        for (size_t i = 0; i < grid->row_count; i++) {
            size_t width = width_of(grid->rows[i].text[column]);
            if (width > layout->widths[column])
                layout->widths[column] = width;
        }
    }
    fit(layout, columns);
    for (size_t i = 0; i < grid->column_count; i++) {
        if (layout->shown[i])
            layout->last = i;
    }
}

static const char *verdict_colour(const struct grid_row *row)
{
    if (row->cell != NULL && row->cell->failed != NULL)
        return RED;
    if (row->cell == NULL || !row->cell->has_ratio)
        return NULL;
    if (row->cell->verdict == VERDICT_FASTER)
        return BOLD_GREEN;
    return row->cell->verdict == VERDICT_SLOWER ? RED : NULL;
}

static void put_row(const struct style *style, const struct layout *layout,
                    const struct grid_row *row)
{
    for (size_t i = 0; i <= layout->last; i++) {
        const char *ansi = row->kind == GRID_NOISE ? DIM
                           : row->best[i]          ? BOLD_GREEN
                           : row->level[i]         ? BOLD
                           : row->bad[i]           ? RED
                                                   : NULL;
        const char *mark = row->best[i] || row->bad[i] ? "*" : row->level[i] ? "≈" : "";

        if (row->kind == GRID_MESSAGE && row->message[0] == '\0') { /* a heading */
            put_padded(style, row->text[i], 0, true, BOLD);
            break;
        }
        if (row->kind == GRID_MESSAGE && i == layout->grid->message_at) {
            put_padded(style, row->message, 0, true, row->failed ? RED : DIM);
            break;
        }
        if (!layout->shown[i])
            continue;
        bool left = layout->grid->left[i];
        bool last = i == layout->last;
        if (last && ansi == NULL)
            ansi = verdict_colour(row);
        /* The mark is there in colour, too: colour alone is lost in a copy, and on some eyes. */
        put_padded(style, row->text[i], last && left ? 0 : layout->widths[i], left, ansi);
        put_padded(style, mark, last ? 0 : 2, true, NULL);
    }
    fputc('\n', style->out);
}

static void put_line(const struct style *style, const struct layout *layout)
{
    for (size_t i = total_width(layout); i > 0; i--)
        fputc('-', style->out);
    fputc('\n', style->out);
}

static void put_headers(const struct style *style, const struct layout *layout)
{
    for (size_t i = 0; i <= layout->last; i++) {
        if (!layout->shown[i])
            continue;
        bool left = layout->grid->left[i];
        put_padded(style, layout->grid->headers[i],
                   i == layout->last && left ? 0 : layout->widths[i], left, BOLD);
        fputs(i == layout->last ? "\n" : "  ", style->out);
    }
}

static void put_footer_line(void *argument, const char *heading, const char *text)
{
    const struct style *style = argument;

    fprintf(style->out, "%-12s %s\n", heading, text);
}

void weir__grid_put(FILE *out, const struct grid *grid, bool colour)
{
    struct style style = {out, colour};
    struct layout layout = {0};

    lay_out(&layout, grid, terminal_columns(out));
    put_headers(&style, &layout);
    for (size_t i = 0; i < grid->row_count; i++) {
        if (grid->rows[i].first_of_group)
            put_line(&style, &layout);
        put_row(&style, &layout, &grid->rows[i]);
    }
    put_line(&style, &layout);
}

static void put_legend_line(void *argument, const char *text)
{
    fprintf(argument, "%s\n", text);
}

static void put_pivot(FILE *out, const struct report *report, bool colour)
{
    struct pivot pivot;

    if (weir__pivot_init(&pivot, report) == 0) {
        fprintf(out, "\n%s\n\n", weir__pivot_title);
        weir__grid_put(out, &pivot.grid, colour);
        weir__pivot_legend(&pivot, report, put_legend_line, out);
    }
    weir__pivot_deinit(&pivot);
}

void weir__report_table(FILE *out, const struct report *report, bool colour)
{
    struct style style = {out, colour};
    char title[256];
    struct grid grid;

    if (weir__grid_init(&grid, report, true) < 0) {
        fputs("weir-bench: out of memory for the table\n", stderr);
        return;
    }
    weir__grid_title(report, title, sizeof title);
    fprintf(out, "%s\n\n", title);
    weir__grid_put(out, &grid, colour);
    if (strcmp(report->tool, "compare") == 0) {
        fputs("* best of its column, or no worse than the best beyond noise; ± the farther end of "
              "the 95 % interval\n",
              out);
        if (weir__pivot_wanted(report))
            put_pivot(out, report, colour);
    }
    if (weir__shape_weighs(report->shape.kind))
        weir__report_put_memory(out, report);
    fputc('\n', out);
    weir__footer_walk(report, put_footer_line, &style);
    weir__grid_deinit(&grid);
}
