/* Reads --shape and what belongs to it (shape_cli.h). */
#include "bench/shape_cli.h"

#include "bench/cli.h"

enum {
    KEY_SHAPE = 1024, /* past the keys of those who call */
    KEY_REQUESTS,
    KEY_DEPTH,
};

static const struct argp_option options[] = {
    {.name = "shape",
     .key = KEY_SHAPE,
     .arg = "NAME",
     .doc = "closed: one request in flight on each connection; burst: all clients connect at once, "
            "send --requests-per-conn each and close; pipeline: --depth requests in flight on each "
            "connection; churn: clients that connect, send one request and close, again and "
            "again. Default: closed"},
    {.name = "requests-per-conn",
     .key = KEY_REQUESTS,
     .arg = "N",
     .doc = "Requests of each client of a burst. Default: 100"},
    {.name = "depth",
     .key = KEY_DEPTH,
     .arg = "N",
     .doc = "pipeline: requests in flight on each connection, 1 to 4096. Default: 16"},
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
}

static void refuse_unless(struct argp_state *state, const struct shape *shape, enum shape_kind kind,
                          const char *option)
{
    if (shape->kind != kind)
        argp_error(state, "--%s is for --shape %s, not %s", option, weir__shape_words(kind)->name,
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
    case ARGP_KEY_END:
        if (shape->depth > 0)
            refuse_unless(state, shape, SHAPE_PIPELINE, "depth");
        weir__shape_fill(shape);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp weir__shape_argp = {options, parse_option, NULL, NULL, NULL, NULL, NULL};
