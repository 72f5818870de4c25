/*
 * Holds a run against the JSON of an earlier one, cell by cell, for --baseline and
 * --fail-if-slower. Reads both; measures nothing. A difference counts only beyond both runs'
 * intervals: a baseline exists to fail a build, and a build that fails by chance teaches people to
 * ignore it.
 */
#include "bench/report.h"

#include <math.h>
#include <string.h>

/* One figure of one cell in both runs. */
struct pair {
    const char *name;
    const char *unit;
    bool higher_is_better;
    struct interval before;
    struct interval now;
};

static double number_at(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);

    return json_is_number(value) ? json_number_value(value) : NAN;
}

static struct interval interval_at(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);

    return (struct interval){
        .median = number_at(value, "median"),
        .lo = number_at(value, "lo"),
        .hi = number_at(value, "hi"),
    };
}

static const json_t *find_cell(const json_t *baseline, const struct report_cell *cell)
{
    const json_t *cells = json_object_get(baseline, "cells");
    const json_t *candidate;
    size_t i;

    json_array_foreach(cells, i, candidate)
    {
        const char *engine = json_string_value(json_object_get(candidate, "engine"));
        if (engine != NULL && strcmp(engine, cell->engine) == 0 &&
            json_integer_value(json_object_get(candidate, "conns")) == (json_int_t)cell->conns)
            return candidate;
    }
    return NULL;
}

static bool same_text(const json_t *run, const char *key, const char *wanted, char *error,
                      size_t error_bytes)
{
    const char *text = json_string_value(json_object_get(run, key));

    if (text != NULL && strcmp(text, wanted) == 0)
        return true;
    snprintf(error, error_bytes, "its %s is '%s', this run's is '%s'", key, text ? text : "?",
             wanted);
    return false;
}

/* Null, and what an older document lacks, are 0. */
static bool same_number(const json_t *run, const char *key, unsigned wanted, char *error,
                        size_t error_bytes)
{
    json_int_t number = json_integer_value(json_object_get(run, key));

    if (number == (json_int_t)wanted)
        return true;
    snprintf(error, error_bytes, "its %s is %lld, this run's is %u", key, (long long)number,
             wanted);
    return false;
}

/* True where the baseline measured what `plan` is going to measure. */
static bool comparable(const json_t *document, const struct report *plan, char *error,
                       size_t error_bytes)
{
    const json_t *run = json_object_get(document, "run");

    if (!json_is_array(json_object_get(document, "cells")) || !json_is_object(run)) {
        snprintf(error, error_bytes, "it is not the JSON of weir-bench compare (no run or cells)");
        return false;
    }
    if (!same_text(run, "workload", plan->workload, error, error_bytes) ||
        !same_text(run, "shape", weir__shape_words(plan->shape.kind)->name, error, error_bytes) ||
        !same_number(run, "burst_requests", plan->shape.requests, error, error_bytes) ||
        !same_number(run, "active_percent", plan->shape.active, error, error_bytes) ||
        !same_number(run, "rate", plan->shape.rate, error, error_bytes) ||
        !same_number(run, "depth", plan->shape.depth, error, error_bytes) ||
        !same_number(run, "size", plan->size, error, error_bytes))
        return false;
    for (size_t i = 0; i < plan->cell_count; i++) {
        if (find_cell(document, &plan->cells[i]) != NULL)
            return true;
    }
    snprintf(error, error_bytes, "it has none of this run's cells (the same engine and conns)");
    return false;
}

json_t *weir__baseline_load(const char *path, const struct report *plan, char *error,
                            size_t error_bytes)
{
    json_error_t where;
    char why[256];
    json_t *document = json_load_file(path, 0, &where);

    if (document == NULL) {
        if (where.line > 0)
            snprintf(error, error_bytes, "baseline %s: line %d: %s", path, where.line, where.text);
        else
            snprintf(error, error_bytes, "baseline: %s", where.text);
        return NULL;
    }
    if (!comparable(document, plan, why, sizeof why)) {
        snprintf(error, error_bytes, "baseline %s: %s", path, why);
        json_decref(document);
        return NULL;
    }
    return document;
}

static struct pair ratio_pair(const struct report_cell *cell, const json_t *old, bool use_cpu)
{
    const json_t *ratios = json_object_get(old, "vs_reference");
    struct interval unknown = weir__interval_unknown();

    if (use_cpu)
        return (struct pair){"cpu over the reference", "", false, interval_at(ratios, "cpu"),
                             cell->has_ratio ? cell->cpu_ratio : unknown};
    return (struct pair){"rps over the reference", "", true, interval_at(ratios, "rps"),
                         cell->has_ratio ? cell->rps_ratio : unknown};
}

static struct pair figure_pair(const struct report *report, const struct report_cell *cell,
                               const json_t *old, bool by_ratio)
{
    bool use_cpu =
        weir__report_by_cpu(report, cell) || json_is_true(json_object_get(old, "driver_bound"));

    if (by_ratio)
        return ratio_pair(cell, old, use_cpu);
    if (use_cpu)
        return (struct pair){"server CPU per request", " us", false,
                             interval_at(old, "server_cpu_us_per_request"), cell->server_cpu_us};
    return (struct pair){"requests", "/s", true, interval_at(old, "rps"), cell->rps};
}

/* By how much now is slower than before, in percent; negative is faster. */
static double slower_percent(const struct pair *pair)
{
    double factor = pair->now.median / pair->before.median;

    return 100 * (pair->higher_is_better ? 1 - factor : factor - 1);
}

/* True where the two intervals do not touch. A baseline without bounds counts as exact. */
static bool beyond_intervals(const struct pair *pair)
{
    double lo = isnan(pair->before.lo) ? pair->before.median : pair->before.lo;
    double hi = isnan(pair->before.hi) ? pair->before.median : pair->before.hi;

    return pair->now.hi < lo || pair->now.lo > hi;
}

static bool judge(const struct report *report, const struct report_cell *cell, const json_t *old,
                  const struct baseline_rule *rule, FILE *out)
{
    struct pair pair = figure_pair(report, cell, old, rule->by_ratio);

    fprintf(out, "  %-24s %6u conns: ", cell->engine, cell->conns);
    if (!cell->measured || cell->failed != NULL) {
        fprintf(out, "not measured: %s\n", cell->failed ? cell->failed : cell->skipped);
        return false;
    }
    if (isnan(pair.before.median) || !weir__interval_bounded(pair.now)) {
        fprintf(out, "not judged: %s unknown in one of the two runs\n", pair.name);
        return false;
    }
    double percent = slower_percent(&pair);
    bool outside = beyond_intervals(&pair);
    bool regressed = !isnan(rule->percent) && outside && percent > rule->percent;

    fprintf(out, "%s %.5g%s, was %.5g%s: %.1f %% %s%s%s\n", pair.name, pair.now.median, pair.unit,
            pair.before.median, pair.unit, fabs(percent), percent > 0 ? "slower" : "faster",
            outside ? "" : ", within the intervals", regressed ? ": REGRESSED" : "");
    return regressed;
}

unsigned weir__baseline_compare(const struct report *report, const json_t *baseline,
                                const struct baseline_rule *rule, FILE *out)
{
    const char *reference =
        json_string_value(json_object_get(json_object_get(baseline, "run"), "reference"));
    unsigned regressions = 0;

    fprintf(out, "\nAgainst the baseline:\n");
    if (rule->by_ratio && (reference == NULL || report->reference == NULL ||
                           strcmp(reference, report->reference) != 0)) {
        fprintf(out, "  not judged: its ratios are over %s, this run's over %s\n",
                reference ? reference : "nothing",
                report->reference ? report->reference : "nothing");
        return 0;
    }
    for (size_t i = 0; i < report->cell_count; i++) {
        const json_t *old = find_cell(baseline, &report->cells[i]);
        if (old != NULL)
            regressions += judge(report, &report->cells[i], old, rule, out);
    }
    return regressions;
}
