/*
 * What an idle connection costs, itemised, below the table for people: user memory, io_uring's
 * armed requests, its sockets, and which of the kernel's caches grew by how much.
 */
#include "bench/report_grid.h"

#include <math.h>
#include <string.h>

enum { TEXT_COLUMNS = 80, INDENT = 2 };

void weir__report_thousands(char *text, size_t bytes, double value)
{
    char digits[32];
    int length = snprintf(digits, sizeof digits, "%.0f", value);
    int first = value <= -0.5;
    size_t used = 0;

    for (int i = 0; i < length && used + 2 < bytes; i++) {
        if (i > first && (length - i) % 3 == 0)
            text[used++] = ',';
        text[used++] = digits[i];
    }
    text[used] = '\0';
}

void weir__report_bytes(char *text, size_t bytes, double value, double uncertainty)
{
    char more[32];

    if (isnan(value)) {
        snprintf(text, bytes, "-");
        return;
    }
    weir__report_thousands(text, bytes, value);
    if (isnan(uncertainty))
        return;
    weir__report_thousands(more, sizeof more, uncertainty);
    size_t used = strlen(text);
    snprintf(text + used, bytes - used, " ±%s", more);
}

static void put_number(FILE *out, int width, double value)
{
    char text[32];

    weir__report_bytes(text, sizeof text, value, NAN);
    fprintf(out, "%*s", width, text);
}

static void put_cell(FILE *out, const struct report *report, const struct report_cell *cell)
{
    const struct memory_per_conn *each = &cell->per_conn;
    char kernel[64];

    weir__report_bytes(kernel, sizeof kernel, each->kernel, each->kernel_uncertainty);
    fprintf(out, "%5u  %-23s", cell->conns, cell->engine);
    put_number(out, 7, each->user);
    fputc(weir__report_is_best(report, cell, FIGURE_USER_PER_CONN) ? '*' : ' ', out);
    put_number(out, 9, each->io_uring);
    put_number(out, 9, each->files);
    put_number(out, 7, each->kernel - each->io_uring - each->files);
    fprintf(out, "  %s\n", kernel);
}

/* "uring at 1000: TCP 5,030, sock_inode_cache 1,719, ...", broken before TEXT_COLUMNS. */
static void put_caches(FILE *out, const struct report_cell *cell)
{
    const struct memory_per_conn *each = &cell->per_conn;
    int column = fprintf(out, "%s at %u:", cell->engine, cell->conns);

    for (unsigned i = 0; i < each->grown_count; i++) {
        char bytes[32], item[96];
        weir__report_thousands(bytes, sizeof bytes, each->grown[i].bytes);
        int length = snprintf(item, sizeof item, " %s %s%s", each->grown[i].name, bytes,
                              i + 1 < each->grown_count ? "," : "");
        if (column + length > TEXT_COLUMNS)
            column = fprintf(out, "\n%*s", INDENT, "") - 1;
        column += fprintf(out, "%s", item);
    }
    fputc('\n', out);
}

static bool is_weighed(const struct report_cell *cell)
{
    return cell->measured && !isnan(cell->per_conn.user + cell->per_conn.kernel_uncertainty);
}

void weir__report_put_memory(FILE *out, const struct report *report)
{
    bool itemised = false;

    fputs("\nbytes of one connection\n"
          "conns  engine                    user  io_uring    files  other  kernel\n",
          out);
    for (size_t i = 0; i < report->cell_count; i++) {
        if (!is_weighed(&report->cells[i]))
            continue;
        put_cell(out, report, &report->cells[i]);
        itemised |= !isnan(report->cells[i].per_conn.io_uring);
    }
    fputs(itemised ? "the kernel's caches that grew, bytes of one connection:\n"
                   : "the kernel's parts cannot be told apart here: root may read /proc/slabinfo\n",
          out);
    for (size_t i = 0; i < report->cell_count; i++) {
        const struct report_cell *cell = &report->cells[i];
        if (is_weighed(cell) && !isnan(cell->per_conn.io_uring))
            put_caches(out, cell);
    }
}
