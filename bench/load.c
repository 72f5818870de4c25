/*
 * `weir-bench load`: one server, ours or not, under the load driver for some seconds, and one cell
 * of a report about it. Slices (or bursts) follow each other without a pause; their medians and
 * intervals are those of `compare`, though with nothing to compare against.
 */
#include "bench/load.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/cli.h"
#include "bench/clock.h"
#include "bench/host.h"
#include "bench/preflight.h"
#include "bench/progress.h"
#include "bench/report.h"

#define SAMPLES_MAX (1u << 20)

struct load {
    const struct load_options *options;
    struct report_files files;
    struct progress progress;
    struct driver *driver;
    uint32_t target_id;
    struct driver_slice slice; /* the latest */

    /* one of each for a slice with requests */
    double *rps, *cpu_us, *elapsed_ms;
    double *ramp_ms, *ramp_first_ms, *ramp_last_ms; /* ramp: per 1000 connections */
    size_t samples, cpu_samples;

    /* of all slices */
    uint64_t requests, errors, elapsed_ns, connect_retries, planned, late;
    unsigned rounds, bound_rounds, cut_rounds;
    bool out_of_ports; /* churn */
    uint32_t reached;  /* ramp: connections, by the worst */
    struct histogram latency;
    double rss_idle;
    struct memory_per_conn per_conn;
    char first_error[WEIR__DRIVER_TEXT_BYTES];
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    interrupted = 1;
}

static bool is_burst(const struct load_options *options)
{
    return options->target.shape.kind == SHAPE_BURST;
}

static bool holds_conns(const struct load_options *options)
{
    return weir__shape_holds_conns(options->target.shape.kind);
}

/* --- before the run ------------------------------------------------------------------------- */

static int check_limits(const struct load_options *options)
{
    char text[CLI_TEXT_BYTES], have[32], want[32];
    struct limit list[WEIR__LIMITS_MAX];
    const struct limits_need need = {
        .driver_conns = options->target.conns,
        .conns_per_addr = options->target.conns,
        .connect_burst =
            weir__shape_connects_at_once(options->target.shape.kind) && options->loopback
                ? options->target.conns
                : 0,
        .loopback = options->loopback,
    };
    if (weir__limits_require(&need, text, sizeof(text)) < 0) {
        fprintf(stderr, "weir-bench load: --conns %u: %s\n", options->target.conns, text);
        return -ERANGE;
    }
    size_t count = weir__limits_check(&need, list);
    for (size_t i = 0; i < count; i++) {
        if (list[i].verdict != LIMIT_WARN)
            continue;
        weir__limit_have(&list[i], have, sizeof(have));
        weir__limit_need(&list[i], want, sizeof(want));
        fprintf(stderr, "weir-bench load: warning: %s is %s, %s would be better: %s\n",
                list[i].name, have, want, list[i].cure);
    }
    return 0;
}

static int start_driver(struct load *load)
{
    const struct load_options *options = load->options;
    const struct driver_options driver_options = {
        .cpus = options->driver_pinned ? &options->driver_cpus : NULL,
        .threads = options->threads,
        .interrupted = &interrupted,
    };
    int rc = weir__driver_new(&load->driver, &driver_options);
    if (rc < 0)
        fprintf(stderr, "weir-bench load: %s\n",
                load->driver ? weir__driver_error(load->driver) : strerror(-rc));
    return rc;
}

/* Some shapes open nothing before they are timed: one connection shows that there is a server at
 * all. */
static int probe(struct load *load)
{
    struct driver_target one = load->options->target;
    one.conns = 1;
    one.shape = (struct shape){.kind = SHAPE_CLOSED};
    int rc = weir__driver_open(load->driver, &one, &load->target_id);
    return rc < 0 ? rc : weir__driver_close(load->driver, load->target_id);
}

static int open_target(struct load *load)
{
    int rc = holds_conns(load->options) ? 0 : probe(load);
    const struct driver_target *target = &load->options->target;
    bool weighs = rc == 0 && target->shape.kind == SHAPE_IDLE; /* a ramp has the driver do it */
    struct memory_reading before, after;
    load->per_conn = weir__memory_unknown();
    if (weighs)
        weir__memory_read(target->server_pids, target->pid_count, target->conns, &before);
    if (rc == 0)
        rc = weir__driver_open(load->driver, target, &load->target_id);
    if (rc == 0 && weighs) {
        weir__memory_settle(target->shape.settle_s);
        weir__memory_read(target->server_pids, target->pid_count, target->conns, &after);
        load->per_conn = weir__memory_per_conn(&before, &after, target->conns);
    }
    if (rc < 0)
        fprintf(stderr, "weir-bench load: %s: %s\n", load->options->connect,
                weir__driver_error(load->driver));
    return rc;
}

static double server_memory(const struct driver_target *target, const char *name)
{
    double total = target->pid_count > 0 ? 0 : NAN;
    for (unsigned i = 0; i < target->pid_count; i++) {
        int64_t bytes = weir__proc_status_bytes(target->server_pids[i], name);
        total += bytes < 0 ? NAN : (double)bytes;
    }
    return total;
}

/* --- the run -------------------------------------------------------------------------------- */

static size_t rounds_at_most(const struct load_options *options)
{
    if (options->bursts > 0)
        return options->bursts;
    if (is_burst(options))
        return SAMPLES_MAX;
    double slices = ceil(options->seconds / options->slice_s);
    return slices < SAMPLES_MAX ? (size_t)slices : SAMPLES_MAX;
}

static int prepare_samples(struct load *load)
{
    size_t most = rounds_at_most(load->options);
    load->rps = calloc(most, sizeof(double));
    load->cpu_us = calloc(most, sizeof(double));
    load->elapsed_ms = calloc(most, sizeof(double));
    load->ramp_ms = calloc(most, sizeof(double));
    load->ramp_first_ms = calloc(most, sizeof(double));
    load->ramp_last_ms = calloc(most, sizeof(double));
    bool all = load->rps && load->cpu_us && load->elapsed_ms && load->ramp_ms &&
               load->ramp_first_ms && load->ramp_last_ms;
    return all ? 0 : -ENOMEM;
}

static void add_slice(struct load *load)
{
    const struct driver_slice *slice = &load->slice;
    load->rounds++;
    load->bound_rounds += slice->driver_bound;
    load->requests += slice->requests;
    load->errors += slice->errors;
    load->elapsed_ns += slice->elapsed_ns;
    load->connect_retries += slice->connect_retries;
    load->planned += slice->planned;
    load->late += slice->late;
    load->cut_rounds += slice->cut;
    load->out_of_ports |= slice->out_of_ports;
    if (load->rounds == 1 || slice->conns_alive < load->reached)
        load->reached = slice->conns_alive;
    if (slice->weighed)
        load->per_conn = slice->per_conn;
    weir__histogram_merge(&load->latency, &slice->latency);
    if (load->first_error[0] == '\0')
        memcpy(load->first_error, slice->first_error, sizeof(load->first_error));
    if (slice->requests == 0 || slice->elapsed_ns == 0)
        return;
    load->rps[load->samples] = (double)slice->requests * 1e9 / (double)slice->elapsed_ns;
    load->ramp_ms[load->samples] = slice->ramp.median_ms;
    load->ramp_first_ms[load->samples] = slice->ramp.first_ms;
    load->ramp_last_ms[load->samples] = slice->ramp.last_ms;
    load->elapsed_ms[load->samples++] = (double)slice->elapsed_ns / 1e6;
    if (slice->server_cpu_ns > 0) /* 0 is no figure: the process named is not the one that served */
        load->cpu_us[load->cpu_samples++] =
            (double)slice->server_cpu_ns / 1e3 / (double)slice->requests;
}

static bool goes_on(const struct load *load, uint64_t began_ns)
{
    const struct load_options *options = load->options;
    if (interrupted || load->out_of_ports || load->rounds >= rounds_at_most(options))
        return false;
    if (is_burst(options) && options->bursts > 0)
        return true;
    bool alive = load->rounds == 0 || load->slice.conns_alive > 0;
    if (load->slice.cut && options->target.shape.kind == SHAPE_RAMP)
        return false; /* it would come no farther, and stand still as long again */
    return alive && (double)(weir__clock_ns() - began_ns) < options->seconds * 1e9;
}

/* In the unit of the shape. */
static double latest_rate(const struct load *load)
{
    const struct driver_target *target = &load->options->target;
    bool by_bytes = weir__shape_words(target->shape.kind)->by_bytes;
    double rps = load->samples > 0 ? load->rps[load->samples - 1] : 0;
    return by_bytes ? rps * target->size_bytes / (1 << 20) : rps;
}

static int run(struct load *load)
{
    const struct load_options *options = load->options;
    uint64_t began_ns = weir__clock_ns();
    int rc = 0;
    while (rc == 0 && goes_on(load, began_ns)) {
        if (is_burst(options))
            rc = weir__driver_burst(load->driver, load->target_id, 0, &load->slice);
        else
            rc = weir__driver_slice(load->driver, load->target_id,
                                    (uint64_t)(options->slice_s * 1e9), &load->slice);
        if (rc == 0) {
            add_slice(load);
            weir__progress_show(&load->progress, "%s: %.1f s, %.0f %s, %llu errors",
                                options->connect, (double)(weir__clock_ns() - began_ns) / 1e9,
                                latest_rate(load),
                                weir__shape_words(options->target.shape.kind)->rate,
                                (unsigned long long)load->errors);
        }
    }
    weir__progress_clear(&load->progress);
    if (rc == -EADDRNOTAVAIL && load->rounds > 0) {
        load->out_of_ports = true;
        rc = 0;
    }
    if (rc < 0)
        fprintf(stderr, "weir-bench load: %s\n", weir__driver_error(load->driver));
    return rc;
}

/* --- the report ----------------------------------------------------------------------------- */

static double percentile_us(const struct load *load, double percent)
{
    if (load->latency.count == 0)
        return NAN;
    return (double)weir__histogram_percentile(&load->latency, percent) / 1e3;
}

static struct interval interval_of(const struct load *load, const double *values, size_t count)
{
    return weir__stats_bootstrap(values, count, STATS_BLOCK, load->options->target.seed);
}

static void fill_cell(const struct load *load, struct report_cell *cell)
{
    const struct load_options *options = load->options;
    size_t ramps = options->target.shape.kind == SHAPE_RAMP ? load->samples : 0;
    *cell = (struct report_cell){
        .engine = options->engine,
        .conns = options->target.conns,
        .measured = load->requests > 0,
        .requests = load->requests,
        .seconds = (double)load->elapsed_ns / 1e9,
        .errors = load->errors,
        .verified = load->requests > 0 && load->errors == 0,
        .rps = interval_of(load, load->rps, load->samples),
        .server_cpu_us = interval_of(load, load->cpu_us, load->cpu_samples),
        .elapsed_ms = is_burst(options) ? interval_of(load, load->elapsed_ms, load->samples)
                                        : weir__interval_unknown(),
        .latency = {percentile_us(load, 50), percentile_us(load, 90), percentile_us(load, 99),
                    percentile_us(load, 99.9), percentile_us(load, 100)},
        .rss_peak = server_memory(&options->target, "VmHWM"),
        .rss_idle = load->rss_idle,
        .per_conn = load->per_conn,
        .driver_bound = 2 * load->bound_rounds > load->rounds,
        .cpu_ratio = weir__interval_unknown(),
        .rps_ratio = weir__interval_unknown(),
        .verdict = VERDICT_UNKNOWN,
        .plan = {load->planned, load->late},
        .ramp = {interval_of(load, load->ramp_ms, ramps),
                 interval_of(load, load->ramp_first_ms, ramps).median,
                 interval_of(load, load->ramp_last_ms, ramps).median, load->reached},
        .failed = load->errors > 0 ? load->first_error : NULL,
    };
}

static int report(struct load *load)
{
    const struct load_options *options = load->options;
    char driver_cpus[CLI_TEXT_BYTES], server_cpus[CLI_TEXT_BYTES], retries[160], cuts[160];
    const char *notes[3];
    size_t note_count = 0;
    struct report_cell cell;
    struct host host;
    weir__cpus_format(&options->driver_cpus, driver_cpus, sizeof(driver_cpus));
    weir__cpus_format(&options->server_cpus, server_cpus, sizeof(server_cpus));
    snprintf(retries, sizeof(retries),
             "%llu connects were repeated after a second: the server's backlog was full",
             (unsigned long long)load->connect_retries);
    snprintf(cuts, sizeof(cuts), "%u of %u bursts were cut off, and count as far as they came",
             load->cut_rounds, load->rounds);
    if (load->connect_retries > 0)
        notes[note_count++] = retries;
    if (load->cut_rounds > 0 && is_burst(options))
        notes[note_count++] = cuts;
    weir__host_read(&host);
    fill_cell(load, &cell);
    if (load->out_of_ports)
        notes[note_count++] =
            "it ended early: no ports were left to connect from, as each connection that ends "
            "holds "
            "one for a while (TIME_WAIT): widen net.ipv4.ip_local_port_range, or load a server on "
            "127.0.0.0/8";
    const struct report document = {
        .host = &host,
        .tool = "load",
        .workload = options->workload,
        .shape = options->target.shape,
        .size = options->target.size_bytes,
        .rounds = load->rounds,
        .slice_s = is_burst(options) ? NAN : options->slice_s,
        .seed = options->target.seed,
        .server_cpus = options->server_cpus_known ? server_cpus : NULL,
        .driver_cpus = options->driver_pinned ? driver_cpus : NULL,
        .cpus_shared = options->server_cpus_known && options->driver_pinned &&
                       weir__cpus_overlap(&options->server_cpus, &options->driver_cpus),
        .congestion = weir__host_congestion(),
        .interrupted = interrupted,
        .cells = &cell,
        .cell_count = 1,
        .notes = notes,
        .note_count = note_count,
    };
    FILE *out = weir__report_files_table(&load->files);
    weir__report_table(out, &document, weir__colour_wanted(out));
    fflush(out);
    int rc = weir__report_files_write(&load->files, &document, "weir-bench load");
    weir__host_deinit(&host);
    return rc;
}

/* --- all of it ------------------------------------------------------------------------------ */

/* The exit code; messages have been printed. */
static int load_server(struct load *load)
{
    if (check_limits(load->options) < 0 ||
        weir__report_files_open(&load->files, load->options->files, "weir-bench load") < 0)
        return EXIT_USAGE;
    int rc = start_driver(load);
    if (rc < 0)
        return rc == -EINVAL ? EXIT_USAGE : EXIT_FAILED;
    if (prepare_samples(load) < 0)
        return EXIT_FAILED;
    rc = open_target(load);
    if (rc < 0 && interrupted)
        return EXIT_INTERRUPTED;
    if (rc < 0)
        return rc == -EPIPE ? EXIT_FAILED : EXIT_NOTHING_RAN;
    load->rss_idle =
        holds_conns(load->options) ? server_memory(&load->options->target, "VmRSS") : NAN;

    int ran = run(load);
    int closed = ran == 0 ? weir__driver_close(load->driver, load->target_id) : 0;
    if (closed < 0 && load->first_error[0] == '\0') {
        load->errors++;
        snprintf(load->first_error, sizeof(load->first_error), "%s",
                 weir__driver_error(load->driver));
    }
    int reported = report(load);
    if (load->errors > 0)
        fprintf(stderr, "weir-bench load: %s: %llu connections failed; the first: %s\n",
                load->options->connect, (unsigned long long)load->errors, load->first_error);
    if (load->errors > 0 || reported < 0)
        return EXIT_FAILED;
    if (interrupted)
        return EXIT_INTERRUPTED;
    if (ran == -EADDRNOTAVAIL)
        return EXIT_NOTHING_RAN;
    if (ran < 0)
        return EXIT_FAILED;
    return load->requests > 0 ? EXIT_DONE : EXIT_NOTHING_RAN;
}

int weir_bench_load(int argc, char **argv)
{
    static struct load load;
    struct load_options options;
    struct sigaction action = {.sa_handler = on_signal};
    weir__load_options_read(&options, argc, argv);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    memset(&load, 0, sizeof(load));
    load.options = &options;
    weir__progress_init(&load.progress);
    int code = load_server(&load);
    weir__driver_free(load.driver);
    weir__report_files_discard(&load.files);
    free(load.rps);
    free(load.cpu_us);
    free(load.elapsed_ms);
    free(load.ramp_ms);
    free(load.ramp_first_ms);
    free(load.ramp_last_ms);
    return code;
}
