/* What report_ablation.c gives the writers of report_ablation_files.c. */
#ifndef WEIR_BENCH_REPORT_ABLATION_GRID_H
#define WEIR_BENCH_REPORT_ABLATION_GRID_H

#include "bench/report_ablation.h"
#include "bench/report_grid.h"

/* The table of features by columns; `brief` as weir__grid_init's, and set narrow. 0 or -ENOMEM;
 * weir__grid_deinit frees. */
int weir__ablation_grid(struct grid *grid, const struct ablation_report *report, bool brief);

/* "also off: multishot_recv; on instead: coop_taskrun"; "" where nothing else differs. */
void weir__ablation_along(const struct ablation_row *row, char *text, size_t bytes);

/* The words, then what was run, the notes and the host. */
void weir__ablation_footer(const struct ablation_report *report, weir__footer_fn *line,
                           void *argument);

#endif
