/* The report as a GitHub-flavoured Markdown table with its footer as a list, for pull requests and
 * notes. */
#include "bench/report_pivot.h"

#include <errno.h>

/* A bar would end the cell, and a newline the row; engine names and reasons come from outside. */
void weir__markdown_escape(FILE *out, const char *text)
{
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '|' || *at == '*' || *at == '_' || *at == '<' || *at == '`' || *at == '\\')
            fputc('\\', out);
        fputc(*at == '\n' ? ' ' : *at, out);
    }
}

static void put_row(FILE *out, const struct grid *grid, const struct grid_row *row)
{
    fputc('|', out);
    for (size_t i = 0; i < grid->column_count; i++) {
        const char *mark = row->best[i] || row->bad[i] ? "**" : "";

        fprintf(out, " %s%s", mark, row->level[i] ? "≈ " : "");
        weir__markdown_escape(
            out, row->kind == GRID_MESSAGE && i == grid->message_at ? row->message : row->text[i]);
        fprintf(out, "%s |", mark);
    }
    fputc('\n', out);
}

static void put_footer_line(void *argument, const char *heading, const char *text)
{
    FILE *out = argument;

    fprintf(out, "- %s: ", heading);
    weir__markdown_escape(out, text);
    fputc('\n', out);
}

void weir__grid_put_markdown(FILE *out, const struct grid *grid)
{
    fputc('|', out);
    for (size_t i = 0; i < grid->column_count; i++) {
        fputc(' ', out);
        weir__markdown_escape(out, grid->headers[i]);
        fputs(" |", out);
    }
    fputs("\n|", out);
    for (size_t i = 0; i < grid->column_count; i++)
        fputs(grid->left[i] ? " :-- |" : " --: |", out);
    fputc('\n', out);
    for (size_t i = 0; i < grid->row_count; i++)
        put_row(out, grid, &grid->rows[i]);
}

static void put_legend_line(void *argument, const char *text)
{
    FILE *out = argument;

    fputs("- ", out);
    weir__markdown_escape(out, text);
    fputc('\n', out);
}

static void put_pivot(FILE *out, const struct report *report)
{
    struct pivot pivot;

    if (weir__pivot_init(&pivot, report) == 0) {
        fprintf(out, "%s:\n\n", weir__pivot_title);
        weir__grid_put_markdown(out, &pivot.grid);
        fputc('\n', out);
        weir__pivot_legend(&pivot, report, put_legend_line, out);
        fputc('\n', out);
    }
    weir__pivot_deinit(&pivot);
}

int weir__report_write_markdown(FILE *out, const struct report *report)
{
    char title[256];
    struct grid grid;

    if (weir__grid_init(&grid, report, false) < 0)
        return -ENOMEM;
    weir__grid_title(report, title, sizeof title);
    fputs("**weir-bench**: ", out);
    weir__markdown_escape(out, title);
    fputs("\n\n", out);
    weir__grid_put_markdown(out, &grid);
    fputs("\nBold: best of its column and number of connections, or no worse beyond noise; "
          "[95 % interval].\n\n",
          out);
    if (weir__pivot_wanted(report))
        put_pivot(out, report);
    weir__footer_walk(report, put_footer_line, out);
    weir__grid_deinit(&grid);
    return ferror(out) ? -EIO : 0;
}
