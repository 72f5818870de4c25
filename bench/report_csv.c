/*
 * The report as CSV (RFC 4180, but with "\n" as line end): one header line, one line per cell,
 * units in the header, unknown as an empty field. For spreadsheets and R.
 */
#include "bench/report_grid.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

static void put_text(FILE *out, const char *text)
{
    if (text == NULL)
        return;
    if (strpbrk(text, ",\"\r\n") == NULL) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '"')
            fputc('"', out);
        fputc(*at, out);
    }
    fputc('"', out);
}

static void put_number(FILE *out, double value)
{
    fputc(',', out);
    if (!isnan(value))
        fprintf(out, "%.9g", value);
}

static void put_interval(FILE *out, struct interval value)
{
    put_number(out, value.median);
    put_number(out, value.lo);
    put_number(out, value.hi);
}

/* Messages as MiB; empty in shapes that are told in requests. */
static void put_stream(FILE *out, const struct report *report, const struct report_cell *cell)
{
    bool by_bytes = weir__shape_words(report->shape.kind)->by_bytes;

    put_number(out, by_bytes ? weir__report_shown(report, cell, FIGURE_RPS) : NAN);
    put_number(out, by_bytes ? weir__report_shown(report, cell, FIGURE_CPU) : NAN);
}

static void put_figures(FILE *out, const struct report *report, const struct report_cell *cell)
{
    struct interval unknown = weir__interval_unknown();

    fprintf(out, ",%" PRIu64 ",%.6g,%" PRIu64 ",%s", cell->requests, cell->seconds, cell->errors,
            cell->verified ? "true" : "false");
    put_interval(out, cell->rps);
    put_number(out, cell->latency.p50);
    put_number(out, cell->latency.p90);
    put_number(out, cell->latency.p99);
    put_number(out, cell->latency.p999);
    put_number(out, cell->latency.max);
    put_interval(out, cell->server_cpu_us);
    put_interval(out, cell->elapsed_ms);
    put_number(out, cell->rss_peak);
    put_number(out, cell->rss_idle);
    put_number(out, cell->per_conn.kernel);
    fprintf(out, ",%s", cell->driver_bound ? "true" : "false");
    put_interval(out, cell->has_ratio ? cell->rps_ratio : unknown);
    put_interval(out, cell->has_ratio ? cell->cpu_ratio : unknown);
    const char *verdict = cell->has_ratio ? weir__stats_verdict_name(cell->verdict) : NULL;
    fprintf(out, ",%s", verdict != NULL ? verdict : "");
    put_stream(out, report, cell);
    put_number(out, cell->per_conn.user);
    put_number(out, cell->per_conn.kernel_uncertainty);
    put_number(out, cell->per_conn.sockets);
    put_number(out, cell->per_conn.io_uring);
    put_number(out, cell->per_conn.files);
    fprintf(out, ",%u,%s,%s", cell->slices, cell->over_budget ? "true" : "false",
            cell->cut ? "true" : "false");
    weir__report_shape_csv(out, report, cell);
}

static const char *const figure_columns =
    "requests,seconds,errors,verified,rps_median,rps_lo,rps_hi,"
    "latency_p50_us,latency_p90_us,latency_p99_us,latency_p999_us,latency_max_us,"
    "server_cpu_us_per_request_median,server_cpu_us_per_request_lo,server_cpu_us_per_request_hi,"
    "elapsed_ms_median,elapsed_ms_lo,elapsed_ms_hi,"
    "rss_peak_bytes,rss_idle_bytes,kernel_per_conn_bytes,driver_bound,"
    "vs_reference_rps_median,vs_reference_rps_lo,vs_reference_rps_hi,"
    "vs_reference_cpu_median,vs_reference_cpu_lo,vs_reference_cpu_hi,verdict,"
    "mib_per_s_median,server_cpu_us_per_mib_median,"
    "user_per_conn_bytes,kernel_per_conn_uncertainty_bytes,sockets_per_conn_bytes,"
    "io_uring_per_conn_bytes,files_per_conn_bytes,slices,over_budget,cut," REPORT_SHAPE_CSV;

static void put_no_figures(FILE *out)
{
    fputc(',', out);
    for (const char *at = figure_columns; *at != '\0'; at++) {
        if (*at == ',')
            fputc(',', out);
    }
}

void weir__csv_header(FILE *out)
{
    fprintf(out, "workload,shape,size_bytes,engine,conns,%s,features,skipped,failed\n",
            figure_columns);
}

void weir__csv_cells(FILE *out, const struct report *report)
{
    for (size_t i = 0; i < report->cell_count; i++) {
        const struct report_cell *cell = &report->cells[i];

        fprintf(out, "%s,%s,%u,", report->workload, weir__shape_words(report->shape.kind)->name,
                report->size);
        put_text(out, cell->engine);
        fprintf(out, ",%u", cell->conns);
        if (cell->measured)
            put_figures(out, report, cell);
        else
            put_no_figures(out);
        fputc(',', out);
        put_text(out, cell->features);
        fputc(',', out);
        put_text(out, cell->skipped);
        fputc(',', out);
        put_text(out, cell->failed);
        fputc('\n', out);
    }
}

int weir__report_write_csv(FILE *out, const struct report *report)
{
    weir__csv_header(out);
    weir__csv_cells(out, report);
    return ferror(out) ? -EIO : 0;
}
