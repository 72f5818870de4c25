/* Reads --shape and what belongs to it (shape_cli.h). */
#include "bench/shape_cli.h"

#include "bench/cli.h"
#include "bench/workloads/workloads.h"

#include <string.h>

enum {
    KEY_SHAPE = 1024, /* past the keys of those who call */
    KEY_REQUESTS,
    KEY_DEPTH,
    KEY_DIRECTION,
    KEY_ACTIVE,
    KEY_SETTLE,
    KEY_RATE,
};

static const struct argp_option options[] = {
    {.name = "shape",
     .key = KEY_SHAPE,
     .arg = "NAME",
     .doc = "closed: one request in flight on each connection; burst: all clients connect at once, "
            "send --requests-per-conn each and close; pipeline: --depth requests in flight on each "
            "connection; churn: clients that connect, send one request and close, again and "
            "again; stream: bytes one way, in large messages; idle: connections of which --active "
            "percent are used as in closed, and what the others cost in memory; open: --rate "
            "requests a second on a plan, latency from the planned time; ramp: connections are "
            "added to --conns and "
            "held, time per thousand and memory. Default: closed"},
    {.name = "requests-per-conn",
     .key = KEY_REQUESTS,
     .arg = "N",
     .doc = "Requests of each client of a burst. Default: 100"},
    {.name = "depth",
     .key = KEY_DEPTH,
     .arg = "N",
     .doc = "pipeline: requests in flight on each connection, 1 to 4096. Default: 16"},
    {.name = "direction",
     .key = KEY_DIRECTION,
     .arg = "in|out",
     .doc = "stream: in, towards the server (workload sink), or out, from it (workload source). "
            "Default: in"},
    {.name = "active",
     .key = KEY_ACTIVE,
     .arg = "PERCENT",
     .doc = "idle: share of the connections that are asked, 1 to 100. Default: 10"},
    {.name = "rate",
     .key = KEY_RATE,
     .arg = "N",
     .doc = "open: requests a second of all connections together, evenly planned, 10 to 100m (k "
            "and m may follow). Default: 10k"},
    {.name = "settle",
     .key = KEY_SETTLE,
     .arg = "SECONDS",
     .doc = "idle, ramp: how long the connections are left alone before their memory is read, 1 to "
            "600: "
            "those of uring rest after 4 to 8. Default: not at all"},
    {0},
};

static void read_shape(struct argp_state *state, const char *name, struct shape *shape)
{
    char names[CLI_TEXT_BYTES];
    int kind = weir__shape_find(name);

    weir__shape_names(names, sizeof names);
    if (kind < 0)
        argp_error(state, "unknown shape '%s'; valid: %s", name, names);
    shape->kind = (enum shape_kind)kind;
    shape->given = true;
}

static enum shape_direction read_direction(struct argp_state *state, const char *text)
{
    if (strcmp(text, "in") == 0)
        return SHAPE_IN;
    if (strcmp(text, "out") != 0)
        argp_error(state, "unknown direction '%s'; valid: in, out", text);
    return SHAPE_OUT;
}

static void refuse_unless(struct argp_state *state, const struct shape *shape, enum shape_kind kind,
                          const char *option)
{
    if (shape->kind != kind)
        argp_error(state, "--%s is for --shape %s, not %s", option, weir__shape_words(kind)->name,
                   weir__shape_words(shape->kind)->name);
}

static void refuse_settle(struct argp_state *state, const struct shape *shape)
{
    if (!weir__shape_weighs(shape->kind))
        argp_error(state, "--settle is for --shape idle or ramp, not %s",
                   weir__shape_words(shape->kind)->name);
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct shape *shape = state->input;

    switch (key) {
    case KEY_SHAPE:
        read_shape(state, arg, shape);
        return 0;
    case KEY_REQUESTS:
        shape->requests =
            (uint32_t)weir__cli_count(state, "requests-per-conn", arg, false, 1, 1000000000);
        return 0;
    case KEY_DEPTH:
        shape->depth = (uint32_t)weir__cli_count(state, "depth", arg, false, 1, SHAPE_DEPTH_MAX);
        return 0;
    case KEY_DIRECTION:
        shape->direction = read_direction(state, arg);
        return 0;
    case KEY_ACTIVE:
        shape->active = (uint32_t)weir__cli_count(state, "active", arg, false, 1, 100);
        return 0;
    case KEY_SETTLE:
        shape->settle_s = (uint32_t)weir__cli_count(state, "settle", arg, false, 1, 600);
        return 0;
    case KEY_RATE:
        shape->rate =
            (uint32_t)weir__cli_count(state, "rate", arg, false, SHAPE_RATE_MIN, SHAPE_RATE_MAX);
        return 0;
    case ARGP_KEY_END:
        if (shape->rate > 0)
            refuse_unless(state, shape, SHAPE_OPEN, "rate");
        if (shape->depth > 0)
            refuse_unless(state, shape, SHAPE_PIPELINE, "depth");
        if (shape->direction > 0)
            refuse_unless(state, shape, SHAPE_STREAM, "direction");
        if (shape->active > 0)
            refuse_unless(state, shape, SHAPE_IDLE, "active");
        if (shape->settle_s > 0)
            refuse_settle(state, shape);
        weir__shape_fill(shape);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp weir__shape_argp = {options, parse_option, NULL, NULL, NULL, NULL, NULL};

const char *weir__shape_check_workload(struct argp_state *state, const struct shape *shape,
                                       const char *given, enum driver_workload *workload,
                                       uint32_t *size_bytes)
{
    char names[CLI_TEXT_BYTES];
    const char *brought = weir__shape_workload(shape);
    const char *name = brought != NULL ? brought : given != NULL ? given : "echo";
    int found = weir__driver_workload_find(name);

    weir__workload_names(names, sizeof names);
    if (given != NULL && weir__workload_find(given) == NULL)
        argp_error(state, "unknown workload '%s'; valid: %s", given, names);
    if (found < 0)
        argp_error(state, "the load driver does not speak '%s'", name);
    if (given != NULL && strcmp(given, name) != 0)
        argp_error(state, "--shape stream brings its own workload: %s with this --direction", name);
    if (brought == NULL && found >= DRIVER_SINK)
        argp_error(state, "the workload %s is for --shape stream", name);
    if (*size_bytes == 0)
        *size_bytes = weir__shape_size(shape->kind);
    if (found == DRIVER_SOURCE && *size_bytes > WEIR_SOURCE_LIMIT_BYTES)
        argp_error(state, "--size %u: the longest message of source is %u bytes", *size_bytes,
                   WEIR_SOURCE_LIMIT_BYTES);
    *workload = (enum driver_workload)found;
    return name;
}
