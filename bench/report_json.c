/*
 * The JSON of CLI.md, for compare and load. CI parses it: names and meanings stay. Fields that
 * CLI.md does not name are additions. Unknown is null, never 0.
 */
#include "bench/report_grid.h"

#include "bench/host.h"
#include "config.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* Five digits after the point are beyond what any of these figures is good to, and keep files
 * readable. */
static json_t *real_or_null(double value)
{
    if (isnan(value) || isinf(value))
        return json_null();
    return json_real(round(value * 1e5) / 1e5);
}

static json_t *whole_or_null(double value)
{
    return isnan(value) ? json_null() : json_integer((json_int_t)value);
}

static json_t *number_or_null(int64_t value)
{
    return value < 0 ? json_null() : json_integer(value);
}

/* What a shape has no use for is 0. */
static json_t *known_or_null(uint32_t value)
{
    return value > 0 ? json_integer(value) : json_null();
}

/* Host strings come from files: what is not UTF-8 is unknown, like what is not there. */
static json_t *string_or_null(const char *text)
{
    json_t *string = text != NULL ? json_string(text) : NULL;

    return string != NULL ? string : json_null();
}

json_t *weir__json_interval(struct interval value)
{
    return json_pack("{s:o, s:o, s:o}", "median", real_or_null(value.median), "lo",
                     real_or_null(value.lo), "hi", real_or_null(value.hi));
}

static json_t *host_object(const struct host *host)
{
    json_t *mitigations = json_object();

    if (host == NULL) {
        json_decref(mitigations);
        return json_null();
    }
    for (size_t i = 0; i < host->mitigation_count; i++)
        json_object_set_new(mitigations, host->mitigations[i].name,
                            string_or_null(host->mitigations[i].state));
    return json_pack(
        "{s:o, s:o, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
        "s:o}",
        "kernel", string_or_null(host->kernel), "cpu", string_or_null(host->cpu), "cores",
        host->cores, "liburing", string_or_null(host->liburing), "mitigations", mitigations,
        "nofile", number_or_null(host->nofile), "nofile_hard", number_or_null(host->nofile_hard),
        "memory", number_or_null(host->memory_bytes), "memlock",
        number_or_null(host->memlock_bytes), "somaxconn", number_or_null(host->somaxconn),
        "max_map_count", number_or_null(host->max_map_count), "congestion_control_default",
        string_or_null(host->congestion_default), "port_range", string_or_null(host->port_range),
        "hypervisor", string_or_null(host->hypervisor), "governor", string_or_null(host->governor),
        "libc", string_or_null(host->libc), "compiler", string_or_null(host->compiler),
        "load_average", real_or_null(host->load_average));
}

static json_t *noise_object(const struct report_noise *noise)
{
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o}", "cpu_ratio_median", real_or_null(noise->cpu_ratio.median),
        "cpu_ratio_lo", real_or_null(noise->cpu_ratio.lo), "cpu_ratio_hi",
        real_or_null(noise->cpu_ratio.hi), "rps_ratio_median",
        real_or_null(noise->rps_ratio.median), "rps_ratio_lo", real_or_null(noise->rps_ratio.lo),
        "rps_ratio_hi", real_or_null(noise->rps_ratio.hi));
}

static json_t *noise_all_object(const struct report *report)
{
    struct report_noise all = weir__report_noise_all(report);
    json_t *object = noise_object(&all);
    json_t *by_conns = json_array();

    for (size_t i = 0; i < report->noise_count; i++) {
        json_t *one = noise_object(&report->noise[i]);
        json_object_set_new(one, "conns", json_integer(report->noise[i].conns));
        json_array_append_new(by_conns, one);
    }
    json_object_set_new(object, "by_conns", by_conns);
    return object;
}

static json_t *notes_array(const struct report *report)
{
    json_t *notes = json_array();

    for (size_t i = 0; i < report->note_count; i++)
        json_array_append_new(notes, string_or_null(report->notes[i]));
    return notes;
}

static json_t *run_object(const struct report *report)
{
    return json_pack(
        "{s:s, s:s, s:i, s:i, s:o, s:o, s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:o, s:o, "
        "s:o}",
        "workload", report->workload, "shape", weir__shape_words(report->shape.kind)->name, "size",
        (int)report->size, "rounds", (int)report->rounds, "slice_s", real_or_null(report->slice_s),
        "reference", string_or_null(report->reference), "noise", noise_all_object(report), "seed",
        (json_int_t)report->seed, "burst_requests", known_or_null(report->shape.requests), "depth",
        known_or_null(report->shape.depth), "active_percent", known_or_null(report->shape.active),
        "server_cpus", string_or_null(report->server_cpus), "driver_cpus",
        string_or_null(report->driver_cpus), "congestion_control",
        string_or_null(report->congestion), "interrupted", report->interrupted, "notes",
        notes_array(report), "settle_s", known_or_null(report->shape.settle_s), "rate",
        known_or_null(report->shape.rate));
}

json_t *weir__json_names(const char *names)
{
    if (names == NULL)
        return json_null();
    json_t *array = json_array();

    for (const char *at = names; *at != '\0';) {
        size_t length = strcspn(at, ",");
        if (length > 0)
            json_array_append_new(array, json_stringn(at, length));
        at += length + (at[length] == ',');
    }
    return array;
}

static json_t *ratio_object(const struct report_cell *cell)
{
    if (!cell->has_ratio)
        return json_null();
    return json_pack("{s:o, s:o, s:o}", "cpu", weir__json_interval(cell->cpu_ratio), "rps",
                     weir__json_interval(cell->rps_ratio), "verdict",
                     string_or_null(weir__stats_verdict_name(cell->verdict)));
}

static json_t *latency_object(const struct report_cell *cell)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "p50", real_or_null(cell->latency.p50), "p90",
                     real_or_null(cell->latency.p90), "p99", real_or_null(cell->latency.p99),
                     "p999", real_or_null(cell->latency.p999), "max",
                     real_or_null(cell->latency.max));
}

static struct interval times(struct interval value, double factor)
{
    return (struct interval){value.median * factor, value.lo * factor, value.hi * factor};
}

static void add_stream(json_t *object, const struct report *report, const struct report_cell *cell)
{
    double mib = weir__report_unit(report);

    if (!weir__shape_words(report->shape.kind)->by_bytes) {
        json_object_set_new(object, "mib_per_s", json_null());
        json_object_set_new(object, "server_cpu_us_per_mib", json_null());
        return;
    }
    json_object_set_new(object, "mib_per_s", weir__json_interval(times(cell->rps, mib)));
    json_object_set_new(object, "server_cpu_us_per_mib",
                        weir__json_interval(times(cell->server_cpu_us, 1 / mib)));
}

/* Null where they cannot be told apart. */
static json_t *caches_or_null(const struct memory_per_conn *each)
{
    json_t *object = isnan(each->io_uring) ? json_null() : json_object();

    for (unsigned i = 0; json_is_object(object) && i < each->grown_count; i++)
        json_object_set_new(object, each->grown[i].name, whole_or_null(each->grown[i].bytes));
    return object;
}

static json_t *memory_object(const struct report_cell *cell)
{
    const struct memory_per_conn *each = &cell->per_conn;

    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "rss_peak",
                     whole_or_null(cell->rss_peak), "rss_idle", whole_or_null(cell->rss_idle),
                     "kernel_per_conn", whole_or_null(each->kernel), "kernel_per_conn_uncertainty",
                     whole_or_null(each->kernel_uncertainty), "sockets_per_conn",
                     whole_or_null(each->sockets), "user_per_conn", whole_or_null(each->user),
                     "io_uring_per_conn", whole_or_null(each->io_uring), "files_per_conn",
                     whole_or_null(each->files), "caches_per_conn", caches_or_null(each));
}

static void add_measured(json_t *object, const struct report *report,
                         const struct report_cell *cell)
{
    json_object_set_new(object, "requests", json_integer((json_int_t)cell->requests));
    json_object_set_new(object, "seconds", real_or_null(cell->seconds));
    json_object_set_new(object, "errors", json_integer((json_int_t)cell->errors));
    json_object_set_new(object, "verified", json_boolean(cell->verified));
    json_object_set_new(object, "rps", weir__json_interval(cell->rps));
    add_stream(object, report, cell);
    json_object_set_new(object, "latency_us", latency_object(cell));
    json_object_set_new(object, "server_cpu_us_per_request",
                        weir__json_interval(cell->server_cpu_us));
    json_object_set_new(object, "elapsed_ms", real_or_null(cell->elapsed_ms.median));
    json_object_set_new(object, "elapsed_ms_lo", real_or_null(cell->elapsed_ms.lo));
    json_object_set_new(object, "elapsed_ms_hi", real_or_null(cell->elapsed_ms.hi));
    json_object_set_new(object, "memory", memory_object(cell));
    json_object_set_new(object, "driver_bound", json_boolean(cell->driver_bound));
    json_object_set_new(object, "vs_reference", ratio_object(cell));
    json_object_set_new(object, "slices", json_integer(cell->slices));
    json_object_set_new(object, "over_budget", json_boolean(cell->over_budget));
    json_object_set_new(object, "cut", json_boolean(cell->cut));
}

static void add_unknown(json_t *object)
{
    static const char *const keys[] = {
        "requests",
        "seconds",
        "errors",
        "verified",
        "rps",
        "mib_per_s",
        "server_cpu_us_per_mib",
        "latency_us",
        "server_cpu_us_per_request",
        "elapsed_ms",
        "elapsed_ms_lo",
        "elapsed_ms_hi",
        "memory",
        "driver_bound",
        "vs_reference",
        "slices",
        "over_budget",
        "cut",
    };

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        json_object_set_new(object, keys[i], json_null());
}

static json_t *cell_object(const struct report *report, const struct report_cell *cell)
{
    json_t *object = json_pack("{s:o, s:i, s:o}", "engine", string_or_null(cell->engine), "conns",
                               (int)cell->conns, "features", weir__json_names(cell->features));

    if (cell->measured)
        add_measured(object, report, cell);
    else
        add_unknown(object);
    json_object_set_new(object, "seed_name", string_or_null(cell->seed_name));
    weir__report_shape_json(object, report, cell);
    json_object_set_new(object, "skipped", string_or_null(cell->skipped));
    json_object_set_new(object, "failed", string_or_null(cell->failed));
    return object;
}

json_t *weir__report_json(const struct report *report)
{
    json_t *cells = json_array();

    for (size_t i = 0; i < report->cell_count; i++)
        json_array_append_new(cells, cell_object(report, &report->cells[i]));
    return json_pack("{s:s, s:o, s:o, s:o}", "weir", WEIR_VERSION, "host",
                     host_object(report->host), "run", run_object(report), "cells", cells);
}

int weir__json_dump(FILE *out, json_t *document)
{
    if (document == NULL)
        return -ENOMEM;
    int result = json_dumpf(document, out, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
    json_decref(document);
    if (result < 0 || fputc('\n', out) == EOF)
        return -EIO;
    return 0;
}

int weir__report_write_json(FILE *out, const struct report *report)
{
    return weir__json_dump(out, weir__report_json(report));
}
