/*
 * What a reactor knows of one descriptor, and the table of these records.
 *
 * A record is 16 bytes and is all that an idle connection costs a reactor in user memory. The table
 * grows by chunks that never move, so a record's address holds until the engine is closed; it is
 * indexed by descriptor. Used by the reactor and by the pollers, on the loop's thread only. Makes
 * no decision about readiness.
 */
#ifndef WEIR_LEGACY_WATCH_H
#define WEIR_LEGACY_WATCH_H

#include <assert.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

#include "core/op.h"

static_assert(WEIR__POLL_IN == POLLIN && WEIR__POLL_OUT == POLLOUT, "POLL speaks as poll(2) does");

/* Directions: of events, of a record's interest, and in its state those known to be ready. */
enum {
    WEIR__IN = 1,
    WEIR__OUT = 2,
    WEIR__PRI = 4,
    WEIR__DIRECTIONS = 7,
};

/* More bits of a record's state. */
enum {
    /* A short read does not mean "drained": EOF, an error or urgent data may stand behind it. */
    WEIR__WATCH_DRAIN = 8,
    WEIR__WATCH_LISTED = 16, /* on the poller's list, through `link` */
};

struct weir__watch {
    struct weir__op *ops; /* held: at most one for input, then one for output, linked by next */
    uint32_t link;        /* the poller's own: place in its array, or next on its list */
    uint16_t generation;  /* counts the descriptors that had this number */
    uint8_t interest;     /* directions the poller was told */
    uint8_t state;        /* edge-triggered: directions not known to be exhausted; and the above */
};
static_assert(sizeof(struct weir__watch) == 16, "this is the idle memory of a connection");

enum { WEIR__WATCH_CHUNK = 1024 };

struct weir__watch_table {
    struct weir__watch **chunks; /* NULL where no descriptor was used yet */
    uint32_t chunk_count;
};

/* The record of a descriptor that has been through weir__watch_need(). */
static inline struct weir__watch *weir__watch_at(const struct weir__watch_table *table, int fd)
{
    uint32_t chunk = (uint32_t)fd / WEIR__WATCH_CHUNK;
    assert(chunk < table->chunk_count && table->chunks[chunk]);
    return &table->chunks[chunk][(uint32_t)fd % WEIR__WATCH_CHUNK];
}

/* The same, or NULL where the table has not grown so far. */
static inline struct weir__watch *weir__watch_find(const struct weir__watch_table *table, int fd)
{
    uint32_t chunk = (uint32_t)fd / WEIR__WATCH_CHUNK;
    if (fd < 0 || chunk >= table->chunk_count || !table->chunks[chunk])
        return NULL;
    return &table->chunks[chunk][(uint32_t)fd % WEIR__WATCH_CHUNK];
}

/* The same; grows the table. 0, -EBADF where no such descriptor is open (looked at only when the
 * table would have to grow: a wild number must not cost memory), or -ENOMEM. */
int weir__watch_need(struct weir__watch_table *table, int fd, struct weir__watch **watch);
void weir__watch_table_deinit(struct weir__watch_table *table);

/* CONNECT, SEND, SEND_BUFS, SENDMSG, POLL for output alone; not ACCEPT, RECV, RECVMSG, POLL for
 * input. */
static inline bool weir__watch_is_output(const struct weir__op *op)
{
    if (weir__likely(op->kind == WEIR__OP_RECV))
        return false;
    switch (op->kind) {
    case WEIR__OP_CONNECT:
    case WEIR__OP_SEND:
    case WEIR__OP_SEND_BUFS:
    case WEIR__OP_SENDMSG:
        return true;
    case WEIR__OP_POLL:
        return !(op->len & (POLLIN | POLLPRI));
    default:
        return false;
    }
}

/* The op held for input, or NULL; the same for output. */
static inline struct weir__op *weir__watch_in(const struct weir__watch *watch)
{
    return watch->ops && !weir__watch_is_output(watch->ops) ? watch->ops : NULL;
}

static inline struct weir__op *weir__watch_out(const struct weir__watch *watch)
{
    struct weir__op *op = watch->ops;
    return op && !weir__watch_is_output(op) ? op->next : op;
}

void weir__watch_put(struct weir__watch *watch, struct weir__op *op);
void weir__watch_take(struct weir__watch *watch, struct weir__op *op);

/* Directions the ops of a record wait for. */
static inline unsigned weir__watch_want(const struct weir__watch *watch)
{
    const struct weir__op *in = weir__watch_in(watch);
    unsigned want;
    if (weir__likely(in && in->kind == WEIR__OP_RECV))
        return in->next ? WEIR__IN | WEIR__OUT : WEIR__IN;
    want = weir__watch_out(watch) ? WEIR__OUT : 0;
    if (in && in->kind == WEIR__OP_POLL)
        want |= (in->len & POLLIN ? WEIR__IN : 0u) | (in->len & POLLOUT ? WEIR__OUT : 0u) |
                (in->len & POLLPRI ? WEIR__PRI : 0u);
    else if (in)
        want |= WEIR__IN;
    return want;
}

#endif
