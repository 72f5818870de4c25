/*
 * What stands under a table: the host, its limits and mitigations, what each engine was granted,
 * the noise floor and the notes. The table, the Markdown and the HTML print the same lines in their
 * own dress.
 */
#include "bench/report_grid.h"

#include "bench/host.h"

#include <inttypes.h>
#include <stdarg.h>
#include <math.h>
#include <string.h>

struct footer {
    weir__footer_fn *line;
    void *argument;
};

__attribute__((format(printf, 3, 4))) static void say(const struct footer *footer,
                                                      const char *heading, const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    footer->line(footer->argument, heading, text);
}

/* "20000", "unlimited or unknown". */
static const char *number(char text[32], int64_t value)
{
    if (value < 0)
        return "unlimited or unknown";
    snprintf(text, 32, "%" PRId64, value);
    return text;
}

/* Else one server alone was driven, which may be anybody's and anywhere. */
static bool is_compare(const struct report *report)
{
    return strcmp(report->tool, "compare") == 0;
}

static void say_host(const struct footer *footer, const struct report *report)
{
    const struct host *host = report->host;
    char nofile[32];
    char memlock[32];
    char backlog[32];

    say(footer, "host", "%s, %d cores, %.1f GiB%s%s; Linux %s; %s; compiled by %s",
        host->cpu ? host->cpu : "unknown CPU", host->cores,
        (double)host->memory_bytes / (1024.0 * 1024 * 1024), host->hypervisor ? ", virtual: " : "",
        host->hypervisor ? host->hypervisor : "", host->kernel ? host->kernel : "?",
        host->libc ? host->libc : "unknown libc", host->compiler);
    say(footer, "limits", "descriptors %s, memlock %s bytes, somaxconn %s",
        number(nofile, host->nofile), number(memlock, host->memlock_bytes),
        number(backlog, host->somaxconn));
    say(footer, "TCP", "congestion control %s on the %s sockets (system default: %s), TCP_NODELAY",
        report->congestion ? report->congestion : "as the system has it",
        is_compare(report) ? "benchmark's loopback" : "driver's",
        host->congestion_default ? host->congestion_default : "unknown");
    say(footer, "liburing", "%s", host->liburing ? host->liburing : "not in this build");
}

/* Only what costs time: a mitigation in force, or a hole left open. */
static void say_mitigations(const struct footer *footer, const struct host *host)
{
    char text[960] = "";
    size_t used = 0;

    for (size_t i = 0; i < host->mitigation_count && used < sizeof text; i++) {
        const struct host_mitigation *one = &host->mitigations[i];
        const char *state = one->state;

        if (strcmp(state, "Not affected") == 0)
            continue;
        if (strncmp(state, "Mitigation: ", 12) == 0)
            state += 12;
        int wrote = snprintf(text + used, sizeof text - used, "%s%s: %.*s", used > 0 ? "; " : "",
                             one->name, (int)strcspn(state, ";,"), state);
        if (wrote < 0)
            break;
        used += (size_t)wrote;
    }
    say(footer, "mitigations", "%s", used > 0 ? text : "none needed, or unknown");
}

static void say_cpus(const struct footer *footer, const struct report *report)
{
    if (report->server_cpus == NULL && report->driver_cpus == NULL)
        return;
    say(footer, "CPUs", "servers on %s, driver on %s%s%s%s",
        report->server_cpus ? report->server_cpus : "any",
        report->driver_cpus ? report->driver_cpus : "any",
        report->cpus_shared ? ": shared, so " : "",
        report->cpus_shared ? weir__shape_words(report->shape.kind)->rate : "",
        report->cpus_shared ? " measure both together" : "");
}

static void say_features(const struct footer *footer, const struct report *report)
{
    for (size_t i = 0; i < report->cell_count; i++) {
        const struct report_cell *cell = &report->cells[i];
        bool told = cell->features == NULL || cell->features[0] == '\0';

        for (size_t j = 0; j < i && !told; j++) {
            const struct report_cell *before = &report->cells[j];
            told = before->features != NULL && strcmp(before->engine, cell->engine) == 0;
        }
        if (!told)
            say(footer, "granted", "%s: %s", cell->engine, cell->features);
    }
}

static void say_noise(const struct footer *footer, const struct report *report)
{
    const struct shape_words *words = weir__shape_words(report->shape.kind);
    struct report_noise all = weir__report_noise_all(report);

    if (!weir__interval_bounded(all.rps_ratio)) {
        if (is_compare(report))
            say(footer, "noise", "unknown: fewer than %d slices of the reference and its copy",
                STATS_SAMPLES_MIN);
        return;
    }
    say(footer, "noise",
        "two copies of %s differ by up to %.1f %% in %s and %.1f %% in CPU; a tie is what lies "
        "within the A/A row of its own group",
        report->reference, 100 * weir__stats_noise_floor(all.rps_ratio), words->rate,
        100 * weir__stats_noise_floor(all.cpu_ratio));
}

static void say_driver_bound(const struct footer *footer, const struct report *report)
{
    const struct shape_words *words = weir__shape_words(report->shape.kind);
    size_t bound = 0;

    for (size_t i = 0; i < report->cell_count; i++)
        bound += report->cells[i].measured && report->cells[i].driver_bound;
    if (bound > 0)
        say(footer, "driver",
            "in %zu of %zu cells the load driver was the bottleneck: there %s is the driver's%s%s",
            bound, report->cell_count, words->rate,
            is_compare(report) ? ", and the verdict is of CPU per " : "",
            is_compare(report) ? words->unit : "");
}

static void say_memory(const struct footer *footer, const struct report *report)
{
    if (!weir__shape_weighs(report->shape.kind))
        return;
    say(footer, "memory",
        "user: what the server's own pages (Pss) grew by for each connection while all opened; "
        "kernel: what the slabs of the whole machine grew by, both ends of a connection together "
        "(both are on this machine), ± what they moved meanwhile on their own; - is lost in that; "
        "of it io_uring: armed requests (io_kiocb, and kmalloc-* where that grew); files: sockets, "
        "files, dentries, inodes; other: epoll's entries, the driver's too, and the rest");
}

static void say_summaries(const struct footer *footer, const struct report *report)
{
    for (size_t i = 0; i < report->cell_count; i++) {
        unsigned conns = report->cells[i].conns;
        char heading[32];
        char text[1024];

        if (i > 0 && report->cells[i - 1].conns == conns)
            continue;
        snprintf(heading, sizeof heading, "at %u", conns);
        if (weir__report_summary(report, conns, text, sizeof text))
            say(footer, heading, "%s", text);
    }
}

void weir__footer_host(const struct report *report, weir__footer_fn *line, void *argument)
{
    struct footer footer = {line, argument};

    say_cpus(&footer, report);
    if (report->host != NULL) {
        say_host(&footer, report);
        say_mitigations(&footer, report->host);
    }
}

void weir__footer_walk(const struct report *report, weir__footer_fn *line, void *argument)
{
    struct footer footer = {line, argument};

    say_summaries(&footer, report);
    say_memory(&footer, report);
    weir__report_shape_lines(report, line, argument);
    say_driver_bound(&footer, report);
    say_noise(&footer, report);
    for (size_t i = 0; i < report->note_count; i++)
        say(&footer, "note", "%s", report->notes[i]);
    say_features(&footer, report);
    weir__footer_host(report, line, argument);
}
