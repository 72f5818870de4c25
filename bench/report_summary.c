/*
 * A report in one sentence for each number of connections: which engine serves best, by how much,
 * and how sure that is. The footer prints it first. It repeats verdicts; it makes none.
 */
#include "bench/report_grid.h"

#include <math.h>
#include <string.h>

/* The figure that the verdict of a cell rests on, as a gain over the reference: 0.1 is ten percent
 * better. */
static struct interval gain_of(const struct report *report, const struct report_cell *cell)
{
    bool by_cpu = weir__report_by_cpu(report, cell);
    struct interval ratio = by_cpu ? cell->cpu_ratio : cell->rps_ratio;

    if (by_cpu)
        return (struct interval){1 - ratio.median, 1 - ratio.hi, 1 - ratio.lo};
    return (struct interval){ratio.median - 1, ratio.lo - 1, ratio.hi - 1};
}

/* Appends a name to a list; a full list stays as it is. */
static void append_name(char *names, size_t bytes, const char *name)
{
    size_t used = strlen(names);

    snprintf(names + used, bytes - used, "%s%s", used > 0 ? ", " : "", name);
}

/* What one group says. */
struct summary {
    const struct report *report;
    const struct report_cell *best; /* the fastest of those that are faster than the reference */
    const struct report_cell *reference;
    char level[256];  /* the others that are, and do not differ from it beyond noise */
    char faster[256]; /* those that do */
    char tied[256];   /* no different from the reference */
    char slower[256];
    bool any_ratio;
};

static bool has_verdict(const struct report_cell *cell)
{
    return cell->measured && cell->failed == NULL && cell->has_ratio &&
           cell->verdict != VERDICT_UNKNOWN;
}

static void take_cell(struct summary *summary, const struct report_cell *cell)
{
    if (cell->is_reference && cell->measured)
        summary->reference = cell;
    if (!has_verdict(cell))
        return;
    summary->any_ratio = true;
    if (cell->verdict == VERDICT_SLOWER)
        append_name(summary->slower, sizeof summary->slower, cell->engine);
    if (cell->verdict == VERDICT_WITHIN_NOISE)
        append_name(summary->tied, sizeof summary->tied, cell->engine);
    if (cell->verdict == VERDICT_FASTER &&
        (summary->best == NULL ||
         gain_of(summary->report, cell).median > gain_of(summary->report, summary->best).median))
        summary->best = cell;
}

/* Divides those that are faster than the reference by whether the best of them is better still. */
static void take_faster(struct summary *summary, const struct report *report,
                        const struct report_cell *cell)
{
    const struct report_cell *best = summary->best;

    if (!has_verdict(cell) || cell->verdict != VERDICT_FASTER || cell == best)
        return;
    bool by_cpu = weir__report_by_cpu(report, cell);
    bool level = by_cpu == weir__report_by_cpu(report, best) &&
                 weir__report_ties(report, cell, best, by_cpu ? FIGURE_CPU : FIGURE_RPS);
    if (level)
        append_name(summary->level, sizeof summary->level, cell->engine);
    else
        append_name(summary->faster, sizeof summary->faster, cell->engine);
}

static void append_group(char *text, size_t bytes, const char *what, const char *than,
                         const char *names)
{
    size_t used = strlen(text);

    if (names[0] != '\0' && used < bytes)
        snprintf(text + used, bytes - used, "; %s%s: %s", what, than, names);
}

static void write_summary(const struct summary *summary, char *text, size_t bytes)
{
    const char *reference = summary->reference->engine;
    const struct shape_words *words = weir__shape_words(summary->report->shape.kind);

    if (summary->best != NULL) {
        struct interval gain = gain_of(summary->report, summary->best);
        bool by_cpu = weir__report_by_cpu(summary->report, summary->best);
        snprintf(text, bytes, "%s serves best: %.1f %% %s %s than %s (95 %%: %.1f to %.1f)",
                 summary->best->engine, 100 * gain.median, by_cpu ? "less CPU per" : "more",
                 by_cpu ? words->unit : words->rate, reference, 100 * gain.lo, 100 * gain.hi);
        append_group(text, bytes, "level with it", "", summary->level);
        append_group(text, bytes, "also faster than ", reference, summary->faster);
    } else if (summary->tied[0] != '\0') {
        snprintf(text, bytes, "a tie: nothing is faster than %s beyond noise", reference);
    } else {
        snprintf(text, bytes, "%s serves best: every other is slower", reference);
    }
    append_group(text, bytes, "no different from ", reference, summary->tied);
    append_group(text, bytes, "slower than ", reference, summary->slower);
}

bool weir__report_summary(const struct report *report, unsigned conns, char *text, size_t bytes)
{
    struct summary summary = {.report = report};

    for (size_t i = 0; i < report->cell_count; i++) {
        if (report->cells[i].conns == conns)
            take_cell(&summary, &report->cells[i]);
    }
    if (summary.reference == NULL || !summary.any_ratio)
        return false;
    for (size_t i = 0; i < report->cell_count && summary.best != NULL; i++) {
        if (report->cells[i].conns == conns)
            take_faster(&summary, report, &report->cells[i]);
    }
    write_summary(&summary, text, bytes);
    return true;
}
