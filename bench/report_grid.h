/*
 * A report as rows and columns of text, which the table, the Markdown and the HTML then dress.
 * Built by report_grid.c from a struct report; knows nothing of terminals or tags.
 */
#ifndef WEIR_BENCH_REPORT_GRID_H
#define WEIR_BENCH_REPORT_GRID_H

#include "bench/report.h"

enum {
    GRID_COLUMNS_MAX = 38, /* the seeds' table: 32 numbers of clients and some */
    GRID_TEXT_BYTES = 64,
    GRID_DROP_LAST = 1,  /* drop_rank of the last column to be left out */
    GRID_DROP_FIRST = 5, /* and of the first */
};

enum grid_row_kind {
    GRID_FIGURES, /* one cell with its figures */
    GRID_NOISE,   /* the A/A row of a group */
    GRID_MESSAGE, /* the first columns, then `message` across the rest: grid.message_at */
};

struct grid_row {
    enum grid_row_kind kind;
    bool first_of_group;            /* a line may stand above it */
    bool failed;                    /* a message that tells of a failure, not of a skip */
    const struct report_cell *cell; /* NULL for GRID_NOISE */
    char text[GRID_COLUMNS_MAX][GRID_TEXT_BYTES];
    bool best[GRID_COLUMNS_MAX];
    bool level[GRID_COLUMNS_MAX]; /* with the best, as far as one can tell */
    bool bad[GRID_COLUMNS_MAX];   /* marked as well, as something to mind */
    char message[640];
};

struct grid {
    size_t column_count;
    size_t message_at; /* the column at which a row's message begins */
    char headers[GRID_COLUMNS_MAX][GRID_TEXT_BYTES];
    bool left[GRID_COLUMNS_MAX]; /* set left, not right */
    /* A narrow terminal leaves out the highest first; 0: stays. */
    unsigned drop_rank[GRID_COLUMNS_MAX];
    struct grid_row *rows;
    size_t row_count;
};

/* Fills `grid`; `brief` writes an interval as one ± figure. 0 or -ENOMEM. */
int weir__grid_init(struct grid *grid, const struct report *report, bool brief);
void weir__grid_deinit(struct grid *grid);

/* The grid as lines of text, as many columns of it as a terminal has room for. */
void weir__grid_put(FILE *out, const struct grid *grid, bool colour);

/* The same as Markdown, and as an element of a page of HTML. */
void weir__grid_put_markdown(FILE *out, const struct grid *grid);
void weir__grid_put_html(FILE *out, const struct grid *grid);

/* Text inside of those. */
void weir__markdown_escape(FILE *out, const char *text);
void weir__html_escape(FILE *out, const char *text);

/* What stands before and behind the body of a page of ours. */
void weir__html_begin(FILE *out);
void weir__html_end(FILE *out);

/* One line that says what was run: "echo, closed loop, 100-byte requests; 40 rounds of 0.10 s; seed
 * 7". */
void weir__grid_title(const struct report *report, char *text, size_t bytes);

/* Which engine serves best at `conns`, by how much, how surely, in one sentence. False where no
 * verdict was possible. */
bool weir__report_summary(const struct report *report, unsigned conns, char *text, size_t bytes);

/* The milliseconds of a burst; ">1,234" of one that was ended then; "-" where there was none. */
void weir__report_elapsed(char *text, size_t bytes, const struct report_cell *cell);

/* 171203.4 becomes "171,203". */
void weir__report_thousands(char *text, size_t bytes, double value);
/* "9,412 ±130", whole bytes; without the uncertainty where that is unknown. */
void weir__report_bytes(char *text, size_t bytes, double value, double uncertainty);

/* What a connection costs in memory, itemised, in 80 columns. */
void weir__report_put_memory(FILE *out, const struct report *report);

/* The footer's lines: host, limits, mitigations, features, noise, notes. Calls `line` with a
 * heading ("host") and its text for each. */
typedef void weir__footer_fn(void *argument, const char *heading, const char *text);
void weir__footer_walk(const struct report *report, weir__footer_fn *line, void *argument);

/* report_shape.c: what open and ramp add to the footer, to the JSON of a cell (null in other
 * shapes) and to the CSV's figures (empty there). */
void weir__report_shape_lines(const struct report *report, weir__footer_fn *line, void *argument);
void weir__report_shape_json(json_t *object, const struct report *report,
                             const struct report_cell *cell);
void weir__report_shape_csv(FILE *out, const struct report *report, const struct report_cell *cell);
#define REPORT_SHAPE_CSV                                                                           \
    "planned_per_s,planned,late,ramp_ms_per_1000_median,ramp_ms_per_1000_lo,"                      \
    "ramp_ms_per_1000_hi,ramp_first_ms,ramp_last_ms,ramp_reached"

/* Of these, the ones about the machine. */
void weir__footer_host(const struct report *report, weir__footer_fn *line, void *argument);

#endif
