/*
 * Starts and stops the servers of one group (compare_group.h): all engines at once, then, when it
 * is known which of them is the reference, a second copy of it. Measures nothing.
 */
#include "bench/compare_group.h"

#include "bench/clock.h"
#include "bench/preflight.h"

#include <weir/model.h>

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STOP_TIMEOUT_S     10
#define STOP_INTERRUPTED_S 2 /* someone waits for the prompt */
#define LISTEN_ADDRESS     "127.0.0.1:0"

void weir__contender_fail(struct contender *contender, const char *format, ...)
{
    va_list args;

    contender->open = false;
    if (contender->failed)
        return; /* the first reason is the one to know */
    contender->failed = true;
    va_start(args, format);
    vsnprintf(contender->why, sizeof contender->why, format, args);
    va_end(args);
}

/* The state of the server becomes that of the contender, where it is not serving. */
static void take_server_state(struct contender *contender)
{
    if (contender->server.state == SERVER_SKIPPED) {
        contender->skipped = true;
        snprintf(contender->why, sizeof contender->why, "%s", contender->server.how);
    } else if (contender->server.state == SERVER_FAILED ||
               contender->server.state == SERVER_MISUSED) {
        weir__contender_fail(contender, "%s", contender->server.how);
    }
}

__attribute__((format(printf, 2, 3))) static void skip(struct contender *contender,
                                                       const char *format, ...)
{
    va_list args;

    contender->skipped = true;
    va_start(args, format);
    vsnprintf(contender->why, sizeof contender->why, format, args);
    va_end(args);
}

/* Whether this server could do its cell at all; if not, it is skipped and says why. */
static bool can_serve(struct contender *contender, unsigned workers)
{
    const struct engine_entry *entry = contender->choice->entry;
    const struct limits_cell cell = {
        .engine = contender->choice->name,
        .traits = entry->traits,
        .workers = workers,
        .shape = contender->shape.kind,
        .conns = contender->conns,
    };
    char text[SERVER_TEXT_BYTES];

    if (entry->missing != NULL)
        skip(contender, "%s", entry->missing);
    else if (entry->command == NULL && weir__limits_cell(&cell, text, sizeof text) < 0)
        skip(contender, "%s", text);
    return !contender->skipped;
}

static int start_server(struct contender *contender, const struct compare_options *options)
{
    char workers[16];
    char frame_limit[24];
    unsigned count =
        options->workers > 0 ? options->workers : (unsigned)CPU_COUNT(&options->server_cpus);
    const struct engine_choice *choice = contender->choice;

    if (!can_serve(contender, count))
        return 0;
    char *argv[16] = {
        "/proc/self/exe",          "serve",    "--engine",     choice->name, "--workload",
        (char *)options->workload, "--listen", LISTEN_ADDRESS, "--workers",  workers};
    size_t argc = 10;

    snprintf(workers, sizeof workers, "%u", count);
    if (options->frame_limit_bytes > 0) {
        snprintf(frame_limit, sizeof frame_limit, "%llu",
                 (unsigned long long)options->frame_limit_bytes);
        argv[argc++] = "--max-frame";
        argv[argc++] = frame_limit;
    }
    struct server_spec spec = {
        .name = choice->name,
        .argv = choice->entry->command == NULL ? argv : NULL,
        .command = choice->entry->command,
        .engine = choice->entry->command == NULL ? choice->base : NULL,
        .workload = options->workload,
        .listen = LISTEN_ADDRESS,
        .workers = count,
        .cpus = &options->server_cpus,
    };
    int result = weir__server_start(&contender->server, &spec);

    if (result < 0)
        take_server_state(contender);
    return result;
}

/* Waits until every server that was started is ready or given up. -EINTR: the user wants to stop.
 */
static int wait_until_ready(struct group *group, size_t first, size_t end)
{
    uint64_t deadline_ns =
        weir__clock_ns() + (uint64_t)(group->options->ready_timeout_s * (double)NS_PER_S);

    for (size_t i = first; i < end; i++) {
        struct contender *contender = &group->contenders[i];

        if (contender->server.state != SERVER_STARTING)
            continue;
        while (weir__server_wait_ready(&contender->server, deadline_ns) == -EINTR) {
            if (weir__compare_interrupted)
                return -EINTR;
        }
        take_server_state(contender);
    }
    return 0;
}

/* A server of ours that refuses its arguments was given wrong options behind the engine's colon. */
static int find_misuse(const struct group *group)
{
    for (size_t i = 0; i < group->count; i++) {
        const struct contender *contender = &group->contenders[i];

        if (contender->server.state != SERVER_MISUSED || contender->choice->entry->command != NULL)
            continue;
        weir__compare_complain("%s %s: %s", group->options->ablate ? "--ablate" : "--engines",
                               contender->choice->name, contender->server.how);
        return -EINVAL;
    }
    return 0;
}

static bool is_serving(const struct contender *contender)
{
    return contender->server.state == SERVER_READY;
}

/* Which row the others are held against: the one wanted, or else the first that serves. */
static struct contender *choose_reference(struct group *group)
{
    struct contender *first = NULL;

    for (size_t i = 0; i < group->count; i++) {
        struct contender *contender = &group->contenders[i];

        if (!is_serving(contender))
            continue;
        if (contender->wanted)
            return contender;
        first = first != NULL ? first : contender;
    }
    if (group->reference_fixed)
        return NULL;
    return first;
}

static void contender_init(struct contender *contender, const struct engine_choice *choice,
                           unsigned conns, const struct shape *shape)
{
    contender->choice = choice;
    contender->conns = conns;
    contender->shape = *shape;
    contender->conns_served = true;
    contender->restless = choice->entry->traits & (WEIR_MODEL_SPINS | WEIR_MODEL_WORKER_PER_CONN);
}

static int start_twin(struct group *group)
{
    struct contender *reference = choose_reference(group);

    group->reference = reference != NULL ? reference->choice->name : NULL;
    if (reference == NULL)
        return 0;
    reference->is_reference = true;
    struct contender *twin = &group->contenders[group->count++];

    contender_init(twin, reference->choice, reference->conns, &reference->shape);
    twin->is_twin = true;
    twin->slice_s = reference->slice_s;
    if (start_server(twin, group->options) < 0)
        return 0; /* then the noise is unknown, and it says so */
    return wait_until_ready(group, group->count - 1, group->count);
}

struct lineup *weir__group_line_up(const struct compare_options *options, unsigned conns,
                                   const char *wanted)
{
    const struct engine_list *engines = &options->engines;
    struct lineup *lineup = calloc(engines->count > 0 ? engines->count : 1, sizeof *lineup);

    for (size_t i = 0; lineup != NULL && i < engines->count; i++) {
        const char *name = engines->items[i].name;
        lineup[i] = (struct lineup){
            .choice = &engines->items[i],
            .conns = conns,
            .shape = options->shape,
            .wanted = wanted != NULL && strcmp(name, wanted) == 0,
        };
    }
    return lineup;
}

int weir__group_start_servers(struct group *group)
{
    group->contenders = calloc(group->lineup_count + 1, sizeof *group->contenders);
    if (group->contenders == NULL)
        return -ENOMEM;
    group->count = group->lineup_count;
    for (size_t i = 0; i < group->count; i++) {
        const struct lineup *one = &group->lineup[i];

        contender_init(&group->contenders[i], one->choice, one->conns, &one->shape);
        group->contenders[i].wanted = one->wanted;
        group->contenders[i].slice_s = one->slice_s;
        start_server(&group->contenders[i], group->options);
    }
    int result = wait_until_ready(group, 0, group->count);
    if (result == 0)
        result = find_misuse(group);
    if (result == 0)
        result = start_twin(group);
    return result;
}

void weir__group_stop_servers(struct group *group)
{
    uint64_t patience_s = weir__compare_interrupted ? STOP_INTERRUPTED_S : STOP_TIMEOUT_S;
    uint64_t deadline_ns = weir__clock_ns() + patience_s * NS_PER_S;

    for (size_t i = 0; i < group->count; i++)
        weir__server_terminate(&group->contenders[i].server);
    for (size_t i = 0; i < group->count; i++) {
        struct contender *contender = &group->contenders[i];

        weir__server_reap(&contender->server, deadline_ns);
        if (contender->server.state == SERVER_FAILED && !contender->failed)
            weir__contender_fail(contender, "at its stop: %s", contender->server.how);
    }
}
