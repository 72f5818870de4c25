/*
 * The shapes of a load: how the driver uses its connections. One table of names, words and units
 * serves the command lines of `compare` and `load` and all reports, so that a shape is told the
 * same way everywhere. Nothing here drives: driver_closed.c and its neighbours do.
 */
#ifndef WEIR_BENCH_SHAPE_H
#define WEIR_BENCH_SHAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum shape_kind {
    SHAPE_CLOSED,   /* one request in flight on each connection */
    SHAPE_BURST,    /* clients connect at once, ask some times, and close */
    SHAPE_PIPELINE, /* `depth` requests in flight on each connection */
    SHAPE_CHURN,    /* clients that connect, ask once, and close, again and again */
    SHAPE_STREAM,   /* bytes one way, in large messages */
    SHAPE_IDLE,     /* connections of which a share is asked, as in closed */
    SHAPE_OPEN,     /* requests on a plan, at a fixed rate */
    SHAPE_RAMP,     /* connections are added to a number and held */
    SHAPE_COUNT,
};

/* Seen from the server. */
enum shape_direction {
    SHAPE_IN = 1, /* it takes: the default */
    SHAPE_OUT,    /* it sends */
};

#define SHAPE_REQUESTS_DEFAULT 100u
#define SHAPE_DEPTH_DEFAULT    16u
#define SHAPE_DEPTH_MAX        4096u
#define SHAPE_ACTIVE_DEFAULT   10u
#define SHAPE_RATE_DEFAULT     10000u
#define SHAPE_RATE_MIN         10u /* some in a second, the longest slice that is chosen */
#define SHAPE_RATE_MAX         100000000u

/* A shape and what it needs to know; zero is the default of each number. */
struct shape {
    enum shape_kind kind;
    uint32_t requests;              /* burst: of each client */
    uint32_t depth;                 /* pipeline: requests in flight on each connection */
    enum shape_direction direction; /* stream */
    uint32_t
        settle_s; /* idle, ramp: seconds that connections are left alone before they are weighed */
    uint32_t active; /* idle: percent of the connections that are asked; 0 elsewhere: all */
    uint32_t rate;   /* open: requests a second, of all connections together */
    bool given;      /* somebody chose it */
};

/* What people read about a shape. */
struct shape_words {
    const char *name;       /* as typed: --shape NAME */
    const char *rate;       /* "requests/s" */
    const char *rate_short; /* "req/s" */
    const char *cpu;        /* "CPU us/req" */
    const char *unit;       /* "request": what CPU is told per */
    bool by_cpu;            /* the verdict is of server CPU, whoever the bottleneck was */
    bool by_bytes;          /* told per MiB, whatever the size of a request */
};

/* Connections are open from one slice to the next. */
static inline bool weir__shape_holds_conns(enum shape_kind kind)
{
    return kind != SHAPE_BURST && kind != SHAPE_CHURN && kind != SHAPE_RAMP;
}

/* What its connections cost in memory is told. */
static inline bool weir__shape_weighs(enum shape_kind kind)
{
    return kind == SHAPE_IDLE || kind == SHAPE_RAMP;
}

/* All clients may connect at the same moment, as far as the backlogs are concerned. */
static inline bool weir__shape_connects_at_once(enum shape_kind kind)
{
    return kind == SHAPE_BURST || kind == SHAPE_CHURN;
}

/* Static storage. */
const struct shape_words *weir__shape_words(enum shape_kind kind);

/* True where connection `id` has its part: all do, but in the idle shape, where they are spread
 * evenly and the first is always one. */
static inline bool weir__shape_is_active(const struct shape *shape, uint32_t id)
{
    return shape->active == 0 || (uint64_t)id * shape->active % 100 < shape->active;
}

/* The workload that a shape brings along, "sink" or "source"; NULL where any will do. */
const char *weir__shape_workload(const struct shape *shape);

/* Bytes of a request where nothing was said. */
uint32_t weir__shape_size(enum shape_kind kind);

/* The shape called `name`; -ENOENT where there is none. */
int weir__shape_find(const char *name);

/* Puts the defaults where nothing was said; what the shape has no use for becomes 0. */
void weir__shape_fill(struct shape *shape);

/* Writes "closed, burst, ..." into text (capacity bytes, NUL included). */
void weir__shape_names(char *text, size_t capacity);

#endif
