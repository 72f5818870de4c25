/*
 * What the shapes `open` and `ramp` have to tell beyond the columns of all: the plan and whether it
 * was kept; how far a ramp came. As JSON, as fields of the CSV, and as lines of the footer.
 */
#include "bench/report_grid.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Below this share of the plan's rate it was not kept. */
#define KEPT_SHARE 0.98
/* More of its requests late, and it was the driver that did not keep it. */
#define LATE_SHARE 0.01

bool weir__report_plan_kept(const struct report *report, const struct report_cell *cell)
{
    return cell->rps.median >= KEPT_SHARE * report->shape.rate;
}

static json_t *real(double value)
{
    return isnan(value) ? json_null() : json_real(value);
}

void weir__report_shape_json(json_t *object, const struct report *report,
                             const struct report_cell *cell)
{
    json_t *open = json_null(), *ramp = json_null();

    if (cell->measured && report->shape.kind == SHAPE_OPEN)
        open = json_pack("{s:i, s:I, s:I, s:b}", "planned_per_s", (int)report->shape.rate,
                         "planned", (json_int_t)cell->plan.planned, "late",
                         (json_int_t)cell->plan.late, "kept", weir__report_plan_kept(report, cell));
    if (cell->measured && report->shape.kind == SHAPE_RAMP)
        ramp = json_pack("{s:o, s:o, s:o, s:i}", "ms_per_1000", weir__json_interval(cell->ramp.ms),
                         "first_ms", real(cell->ramp.first_ms), "last_ms", real(cell->ramp.last_ms),
                         "reached", (int)cell->ramp.reached);
    json_object_set_new(object, "open", open);
    json_object_set_new(object, "ramp", ramp);
}

static void put_real(FILE *out, bool known, double value)
{
    fputc(',', out);
    if (known && !isnan(value))
        fprintf(out, "%.9g", value);
}

void weir__report_shape_csv(FILE *out, const struct report *report, const struct report_cell *cell)
{
    bool open = report->shape.kind == SHAPE_OPEN, ramp = report->shape.kind == SHAPE_RAMP;

    put_real(out, open, report->shape.rate);
    put_real(out, open, (double)cell->plan.planned);
    put_real(out, open, (double)cell->plan.late);
    put_real(out, ramp, cell->ramp.ms.median);
    put_real(out, ramp, cell->ramp.ms.lo);
    put_real(out, ramp, cell->ramp.ms.hi);
    put_real(out, ramp, cell->ramp.first_ms);
    put_real(out, ramp, cell->ramp.last_ms);
    put_real(out, ramp, cell->ramp.reached);
}

static void tell_plan(const struct report *report, const struct report_cell *cell, char *text,
                      size_t bytes)
{
    char rate[32], planned[32], late[32], all[32];

    weir__report_thousands(rate, sizeof rate, cell->rps.median);
    weir__report_thousands(planned, sizeof planned, report->shape.rate);
    weir__report_thousands(late, sizeof late, (double)cell->plan.late);
    weir__report_thousands(all, sizeof all, (double)cell->plan.planned);
    if ((double)cell->plan.late > LATE_SHARE * (double)cell->plan.planned)
        snprintf(
            text, bytes,
            "%s at %u: the driver did not keep its plan: %s of %s requests left over 1 ms late "
            "on a free connection, and their latency holds that, too",
            cell->engine, cell->conns, late, all);
    else if (!weir__report_plan_kept(report, cell))
        snprintf(text, bytes,
                 "%s at %u: the server did not keep up: %s of %s planned requests/s; latency, from "
                 "the planned time, grows for as long as that goes on",
                 cell->engine, cell->conns, rate, planned);
}

static void tell_ramp(const struct report_cell *cell, char *text, size_t bytes)
{
    if (cell->ramp.reached < cell->conns)
        snprintf(text, bytes, "%s: %u of %u connections were reached, then no more were answered",
                 cell->engine, cell->ramp.reached, cell->conns);
}

void weir__report_shape_lines(const struct report *report, weir__footer_fn *line, void *argument)
{
    if (report->shape.kind == SHAPE_RAMP)
        line(argument, "ramp",
             "ms for each 1000 connections, a connection being there once a request on it is "
             "answered: the median thousand, the first and the last");
    for (size_t i = 0; i < report->cell_count; i++) {
        const struct report_cell *cell = &report->cells[i];
        char text[512] = "";

        if (cell->measured && report->shape.kind == SHAPE_OPEN)
            tell_plan(report, cell, text, sizeof text);
        if (cell->measured && report->shape.kind == SHAPE_RAMP)
            tell_ramp(cell, text, sizeof text);
        if (text[0] != '\0')
            line(argument, weir__shape_words(report->shape.kind)->name, text);
    }
}
