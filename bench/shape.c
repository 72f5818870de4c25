/* The table of shapes (shape.h). */
#include "bench/shape.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct shape_words words[SHAPE_COUNT] = {
    [SHAPE_CLOSED] = {"closed", "requests/s", "req/s", "CPU us/req", "request", false, false},
    [SHAPE_BURST] = {"burst", "requests/s", "req/s", "CPU us/req", "request", false, false},
    [SHAPE_PIPELINE] = {"pipeline", "requests/s", "req/s", "CPU us/req", "request", false, false},
    [SHAPE_CHURN] = {"churn", "connections/s", "conn/s", "CPU us/conn", "connection", true, false},
    [SHAPE_STREAM] = {"stream", "MiB/s", "MiB/s", "CPU us/MiB", "MiB", true, true},
    [SHAPE_IDLE] = {"idle", "requests/s", "req/s", "CPU us/req", "request", false, false},
    [SHAPE_RAMP] = {"ramp", "connections/s", "conn/s", "CPU us/conn", "connection", true, false},
    [SHAPE_OPEN] = {"open", "requests/s", "req/s", "CPU us/req", "request", false, false},
};

const struct shape_words *weir__shape_words(enum shape_kind kind)
{
    return &words[kind];
}

int weir__shape_find(const char *name)
{
    for (int kind = 0; kind < SHAPE_COUNT; kind++) {
        if (strcmp(words[kind].name, name) == 0)
            return kind;
    }
    return -ENOENT;
}

void weir__shape_names(char *text, size_t capacity)
{
    size_t used = 0;
    text[0] = '\0';
    for (int kind = 0; kind < SHAPE_COUNT && used < capacity; kind++) {
        int n =
            snprintf(text + used, capacity - used, "%s%s", used > 0 ? ", " : "", words[kind].name);
        used += (size_t)n;
    }
}

static uint32_t number(uint32_t given, uint32_t otherwise)
{
    return given > 0 ? given : otherwise;
}

void weir__shape_fill(struct shape *shape)
{
    const struct shape given = *shape;
    *shape = (struct shape){.kind = given.kind, .given = given.given};
    if (given.kind == SHAPE_BURST)
        shape->requests = number(given.requests, SHAPE_REQUESTS_DEFAULT);
    if (given.kind == SHAPE_PIPELINE)
        shape->depth = number(given.depth, SHAPE_DEPTH_DEFAULT);
    if (given.kind == SHAPE_IDLE)
        shape->active = number(given.active, SHAPE_ACTIVE_DEFAULT);
    if (weir__shape_weighs(given.kind))
        shape->settle_s = given.settle_s;
    if (given.kind == SHAPE_OPEN)
        shape->rate = number(given.rate, SHAPE_RATE_DEFAULT);
    if (given.kind == SHAPE_STREAM)
        shape->direction = given.direction > 0 ? given.direction : SHAPE_IN;
}

const char *weir__shape_workload(const struct shape *shape)
{
    if (shape->kind != SHAPE_STREAM)
        return NULL;
    return shape->direction == SHAPE_OUT ? "source" : "sink";
}

uint32_t weir__shape_size(enum shape_kind kind)
{
    return kind == SHAPE_STREAM ? 64u << 10 : 100;
}
