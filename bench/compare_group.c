/*
 * Measures one group (compare_group.h): connect all, warm up, then short slices of every server in
 * random order, round after round. A server that dies or answers wrongly leaves the group; the
 * others go on.
 */
#include "bench/compare_group.h"

#include "bench/clock.h"
#include "bench/driver_load.h"

#include <weir/model.h>

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How long a server whose connections broke may take to be seen dead: a core dump takes its time.
 */
#define DEATH_TIMEOUT_NS (NS_PER_S / 2)
/* How long a server may go on computing after its slice before the next one's: SQPOLL's kernel
 * thread goes on for 0.1 s. */
#define REST_TIMEOUT_NS (NS_PER_S / 4)
/* The clock may not cut off the rounds that an interval needs, unless the group takes this many
 * times its share; and one round there is always. */
#define PATIENCE 2
/* What is left of a cell's budget is no less than this. */
#define BOUND_MIN_S 0.05

static double seconds_since(uint64_t then_ns)
{
    return (double)(weir__clock_ns() - then_ns) / (double)NS_PER_S;
}

struct contender *weir__group_reference(const struct group *group)
{
    for (size_t i = 0; i < group->count; i++) {
        struct contender *contender = &group->contenders[i];
        if (contender->is_reference)
            return contender;
    }
    return NULL;
}

struct contender *weir__group_twin(const struct group *group)
{
    struct contender *last = group->count > 0 ? &group->contenders[group->count - 1] : NULL;

    return last != NULL && last->is_twin ? last : NULL;
}

/* It takes its CPU also where nobody asks anything: so it is stopped outside its own slices. */
static bool spins(const struct contender *contender)
{
    return contender->choice->entry->traits & WEIR_MODEL_SPINS;
}

/* Of all its processes, which may be others than the last time. */
static void weigh(const struct contender *contender, struct memory_reading *reading)
{
    pid_t pids[SERVER_PIDS_MAX];
    unsigned count = weir__server_pids(&contender->server, pids);

    weir__memory_read(pids, count, contender->conns, reading);
}

static int open_target(struct group *group, struct contender *contender)
{
    const struct compare_options *options = group->options;
    struct driver_target target = {
        .addr = contender->server.addr,
        .addr_len = contender->server.addr_len,
        .workload = options->driver_workload,
        .conns = contender->conns,
        .size_bytes = options->size_bytes,
        .shape = contender->shape,
        .seed = options->seed + group->index,
        /* One thread is saturated with one CPU, however many it was given. */
        .server_cpus = weir__server_parallelism(&contender->server,
                                                (unsigned)CPU_COUNT(&options->server_cpus)),
    };

    contender->per_conn = weir__memory_unknown();
    contender->reached = contender->conns;
    target.pid_count = 1; /* the driver finds its descendants, who come and go */
    target.server_pids[0] = contender->server.pid;
    bool weighs = options->shape.kind == SHAPE_IDLE && !options->growth;
    struct memory_reading before, after;
    if (weighs)
        weigh(contender, &before);
    int result = weir__driver_open(group->driver, &target, &contender->target);
    if (result == -EPIPE)
        return result;
    if (result == 0 && weighs) {
        weir__memory_settle(options->shape.settle_s);
        weigh(contender, &after);
        contender->per_conn = weir__memory_per_conn(&before, &after, contender->conns);
    }
    if (result < 0) {
        contender->errors++;
        if (weir__server_alive(&contender->server))
            weir__contender_fail(contender, "%s", weir__driver_error(group->driver));
        else
            weir__contender_fail(contender, "%s", contender->server.how);
        return 0;
    }
    contender->open = true;
    if (spins(contender))
        weir__server_pause(&contender->server);
    return 0;
}

static void close_target(struct group *group, struct contender *contender)
{
    contender->open = false;
    int result = weir__driver_close(group->driver, contender->target);

    if (result == -EPROTO)
        weir__contender_fail(contender, "it sent bytes that nobody asked for");
}

/* True once the server is seen dead; gives one that is dying some time. */
static bool died(struct contender *contender)
{
    uint64_t deadline_ns = weir__clock_ns() + DEATH_TIMEOUT_NS;

    while (weir__server_alive(&contender->server)) {
        if (weir__clock_ns() >= deadline_ns)
            return false;
        struct timespec pause = {.tv_nsec = 5000000};
        nanosleep(&pause, NULL);
    }
    return true;
}

/* A slice with errors ends this contender's part: says how. */
static void judge_errors(struct group *group, struct contender *contender,
                         const struct driver_slice *got)
{
    contender->errors += got->errors;
    if (got->wrong > 0)
        weir__contender_fail(contender, "wrong bytes came back: %s", got->first_error);
    else if (died(contender))
        weir__contender_fail(contender, "%s", contender->server.how);
    else
        weir__contender_fail(contender, "%llu of %u connections failed: %s",
                             (unsigned long long)got->errors, contender->conns, got->first_error);
}

static int append_slice(struct contender *contender, const struct slice *slice)
{
    if (contender->slice_count == contender->slice_capacity) {
        size_t capacity = contender->slice_capacity > 0 ? contender->slice_capacity * 2 : 128;
        struct slice *slices = reallocarray(contender->slices, capacity, sizeof *slices);
        if (slices == NULL)
            return -ENOMEM;
        contender->slices = slices;
        contender->slice_capacity = capacity;
    }
    contender->slices[contender->slice_count++] = *slice;
    return 0;
}

static int record(struct group *group, struct contender *contender, const struct driver_slice *got,
                  double ended_s)
{
    double elapsed_s = (double)got->elapsed_ns / (double)NS_PER_S;
    struct slice slice = {
        .middle_s = ended_s - elapsed_s / 2,
        .elapsed_s = elapsed_s,
        .requests = (double)got->requests,
        .cpu_s = got->server_cpu_ns < 0 ? NAN : (double)got->server_cpu_ns / (double)NS_PER_S,
        .driver_bound = got->driver_bound,
        .cut = got->cut && contender->shape.kind == SHAPE_BURST,
        .ramp = got->ramp,
    };

    contender->requests += got->requests;
    contender->bytes += got->bytes;
    contender->seconds += elapsed_s;
    contender->driver_bound_count += got->driver_bound;
    contender->cut |= slice.cut;
    contender->over_budget |= slice.cut;
    contender->conns_served &= got->cut || got->conns_alive == contender->conns;
    contender->planned += got->planned;
    contender->late += got->late;
    contender->reached =
        got->conns_alive < contender->reached ? got->conns_alive : contender->reached;
    weir__histogram_merge(&contender->latency, &got->latency);
    return append_slice(contender, &slice);
}

/* What is left of its cell's budget; 0: it has none. */
static uint64_t bound_ns(const struct group *group, const struct contender *contender)
{
    double budget_s = group->plan.cell_s;
    double left_s = fmax(budget_s - contender->spent_s, BOUND_MIN_S);

    return budget_s > 0 ? (uint64_t)(left_s * (double)NS_PER_S) : 0;
}

/* True where another slice would take it past its cell's budget. It has had one, then. */
static bool is_spent(const struct group *group, const struct contender *contender)
{
    double budget_s = group->plan.cell_s;

    return contender->cut || (budget_s > 0 && contender->slice_count > 0 &&
                              contender->spent_s + contender->last_s > budget_s);
}

static int drive(struct group *group, struct contender *contender, struct driver_slice *got)
{
    double slice_s = contender->slice_s > 0 ? contender->slice_s : group->plan.slice_s;
    uint64_t began_ns = weir__clock_ns();
    int result;

    weir__server_resume(&contender->server);
    if (contender->shape.kind == SHAPE_BURST)
        result =
            weir__driver_burst(group->driver, contender->target, bound_ns(group, contender), got);
    else
        result = weir__driver_slice(group->driver, contender->target,
                                    (uint64_t)(slice_s * (double)NS_PER_S), got);
    contender->last_s = seconds_since(began_ns);
    contender->spent_s += contender->last_s;
    return result;
}

/*
 * A server that goes on without work, as a kernel thread of io_uring does that polls for a while,
 * would take the CPU from the next one's slice. So the next one waits; but not for a server that
 * never rests.
 */
static void let_it_rest(struct contender *contender)
{
    uint64_t deadline_ns = weir__clock_ns() + REST_TIMEOUT_NS;
    struct server_cpu cpu = {.still = contender->restless};

    while (!cpu.still && !contender->restless) {
        weir__drive_server_cpu_read(&contender->server.pid, 1, &cpu);
        if (cpu.settled_ns < 0)
            return; /* unknown */
        contender->restless = !cpu.still && weir__clock_ns() >= deadline_ns;
    }
}

/* One slice of one contender. A failure of the server is its own; only the driver's is returned. */
static int measure(struct group *group, struct contender *contender, bool warm_up)
{
    static struct driver_slice got; /* 19 KiB, and compare has one thread */

    if (!weir__server_alive(&contender->server)) {
        contender->errors += contender->conns;
        weir__contender_fail(contender, "%s", contender->server.how);
        return 0;
    }
    int result = drive(group, contender, &got);
    double ended_s = (double)weir__clock_ns() / (double)NS_PER_S;

    if (result == -EPIPE)
        return result;
    if (result < 0) {
        contender->errors++;
        weir__contender_fail(contender, "%s",
                             died(contender) ? contender->server.how
                                             : weir__driver_error(group->driver));
        return 0;
    }
    if (got.weighed)
        contender->per_conn = got.per_conn;
    /* A ramp that was cut off has shown how far it comes, and would stand still as long again. */
    bool enough = got.cut && contender->shape.kind == SHAPE_RAMP;
    if (!warm_up || got.errors > 0 || got.cut)
        result = record(group, contender, &got, ended_s);
    if (got.errors > 0)
        judge_errors(group, contender, &got);
    else if (enough)
        close_target(group, contender);
    else
        let_it_rest(contender);
    if (spins(contender))
        weir__server_pause(&contender->server);
    return result;
}

/* Seconds left of this group's rounds and of the groups to come. */
static double seconds_left(const struct group *group, unsigned round)
{
    const struct plan *plan = &group->plan;
    double round_s =
        plan->slice_s * (double)weir__plan_slices(group->count, group->options->reference_every);
    double group_s = plan->rounds_fixed ? plan->rounds * round_s : plan->group_s;
    double left_s = plan->rounds_fixed ? (plan->rounds - round) * round_s
                                       : group_s - seconds_since(group->started_ns);
    size_t groups_left = group->total - group->index - 1 + group->options->runs_after;

    return fmax(left_s, 0) + (double)groups_left * group_s;
}

/* Where the command is: this group's place among those of all its runs. */
static size_t place(const struct group *group)
{
    return group->options->runs_before + group->index + 1;
}

static size_t places(const struct group *group)
{
    const struct compare_options *options = group->options;

    return options->runs_before + group->total + options->runs_after;
}

static void show(struct group *group, const struct contender *contender, unsigned round)
{
    unsigned left_s = (unsigned)seconds_left(group, round);

    weir__progress_show(group->progress, "[%zu/%zu] %s  %s%s  round %u/%u  about %u:%02u left",
                        place(group), places(group), group->title, contender->choice->name,
                        contender->is_twin ? " (A/A)" : "", round, group->plan.rounds, left_s / 60,
                        left_s % 60);
}

/* Every open contender, in random order; some take the reference more than once. */
static int run_round(struct group *group, bool warm_up, unsigned round)
{
    unsigned order[2 * (CLI_ENGINES_MAX + 1)];
    const struct contender *reference = weir__group_reference(group);
    size_t count = weir__plan_round(group->rng, group->count,
                                    reference != NULL ? (size_t)(reference - group->contenders) : 0,
                                    reference != NULL ? group->options->reference_every : 0, order);

    for (size_t i = 0; i < count && !weir__compare_interrupted; i++) {
        struct contender *contender = &group->contenders[order[i]];

        if (!contender->open)
            continue;
        if (is_spent(group, contender)) {
            contender->over_budget = true;
            continue;
        }
        show(group, contender, round);
        int result = measure(group, contender, warm_up);
        if (result < 0)
            return result;
        if (contender->failed)
            close_target(group, contender);
    }
    return 0;
}

static bool anyone_left(const struct group *group)
{
    for (size_t i = 0; i < group->count; i++) {
        if (group->contenders[i].open && !is_spent(group, &group->contenders[i]))
            return true;
    }
    return false;
}

static bool rounds_over(const struct group *group)
{
    double spent_s = seconds_since(group->started_ns);

    if (weir__compare_interrupted || !anyone_left(group))
        return true;
    if (group->plan.rounds_fixed)
        return group->rounds >= group->plan.rounds;
    if (spent_s < group->plan.group_s || group->rounds == 0)
        return false;
    return group->rounds >= STATS_SAMPLES_MIN || spent_s > PATIENCE * group->plan.group_s;
}

static int connect_all(struct group *group)
{
    for (size_t i = 0; i < group->count && !weir__compare_interrupted; i++) {
        struct contender *contender = &group->contenders[i];

        if (contender->server.state != SERVER_READY)
            continue;
        weir__progress_show(group->progress, "[%zu/%zu] %s  connecting to %s", place(group),
                            places(group), group->title, contender->choice->name);
        int result = open_target(group, contender);
        if (result < 0)
            return result;
    }
    return 0;
}

/* At rest, with all connections open; unknown stays NAN. */
static void read_idle_memory(struct group *group)
{
    for (size_t i = 0; i < group->count; i++) {
        struct contender *contender = &group->contenders[i];
        double peak;

        contender->rss_peak = NAN;
        if (!contender->open ||
            !weir__server_memory(&contender->server, &contender->rss_idle, &peak))
            contender->rss_idle = NAN;
    }
}

static void read_peak_memory(struct group *group)
{
    for (size_t i = 0; i < group->count; i++) {
        struct contender *contender = &group->contenders[i];
        double now;
        double peak;

        if (contender->open && weir__server_memory(&contender->server, &now, &peak))
            contender->rss_peak = peak;
    }
}

static int run_rounds(struct group *group)
{
    int result = group->plan.warms_up ? run_round(group, true, 0) : 0;

    while (result == 0 && !rounds_over(group)) {
        result = run_round(group, false, group->rounds + 1);
        if (result == 0 && !weir__compare_interrupted)
            group->rounds++;
    }
    for (size_t i = 0; i < group->count && group->rounds < group->plan.rounds; i++) {
        struct contender *contender = &group->contenders[i];
        contender->over_budget |= group->plan.rounds_fixed && is_spent(group, contender);
    }
    return result;
}

static void count_ready(const struct group *group)
{
    size_t ready = 0;

    for (size_t i = 0; i < group->count; i++)
        ready += group->contenders[i].open && !group->contenders[i].is_twin;
    weir__progress_say(group->progress, "%s: %zu of %zu servers connected, reference %s",
                       group->title, ready, group->lineup_count,
                       group->reference ? group->reference : "none");
}

int weir__group_run(struct group *group)
{
    group->started_ns = weir__clock_ns();
    weir__progress_show(group->progress, "[%zu/%zu] %s  starting the servers", place(group),
                        places(group), group->title);
    int result = weir__group_start_servers(group);
    if (result == -EINTR)
        return 0; /* the user stopped it: nothing was measured, and that is no error */
    if (result < 0)
        return result;
    group->plan =
        weir__plan_group(group->options, group->conns, (unsigned)group->count, group->budget_s);
    result = connect_all(group);
    if (result == 0) {
        count_ready(group);
        read_idle_memory(group);
        result = run_rounds(group);
        read_peak_memory(group);
    }
    weir__progress_clear(group->progress);
    for (size_t i = 0; i < group->count && result == 0; i++) {
        if (group->contenders[i].open)
            close_target(group, &group->contenders[i]);
    }
    weir__group_stop_servers(group);
    group->driver_lost = result == -EPIPE;
    return result;
}

void weir__group_deinit(struct group *group)
{
    for (size_t i = 0; i < group->count; i++) {
        weir__server_deinit(&group->contenders[i].server);
        free(group->contenders[i].slices);
    }
    free(group->contenders);
    group->contenders = NULL;
    group->count = 0;
}
