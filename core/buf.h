/*
 * The pool of lent buffers: one per loop, a fixed number of equal buffers, shared by all
 * connections of the loop. An idle connection owns none. The loop takes the buffer freed last
 * first, so that a quiet server works in a few hot lines.
 *
 * Used by core (connections), and by engines: a reactor takes a buffer when a socket is ready, the
 * proactor keeps its provided-buffer ring filled from here. One thread only; no locks.
 */
#ifndef WEIR_CORE_BUF_H
#define WEIR_CORE_BUF_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

#include "core/op.h"

/* One buffer's record; the bytes are elsewhere. Index 0 is never used: it means "none". */
struct weir__buf {
    uint8_t *data;          /* first valid byte, inside [base, base + pool->buf_bytes), or static */
    uint32_t len;           /* valid bytes from data on */
    uint32_t index;         /* in pool->bufs, 1-based; also the kernel's buffer id */
    struct weir__buf *next; /* free list, or a connection's receive or send queue */
    struct weir__buf *last; /* core's, in the first of a queue: the last of it */
    uint8_t *base;
    void *owner;  /* core's: the connection whose send this is the head of */
    uint8_t lent; /* out of the free list */
    uint8_t fds;  /* core/message.h's: descriptors that came with its bytes */
    /* A cache line of its own: of the first buffer of a chain that is being sent. */
    __attribute__((aligned(64))) struct weir__op tx;
};
static_assert(sizeof(struct weir__buf) == 128, "a record is two cache lines");

struct weir__buf_pool {
    struct weir__buf *bufs; /* [count + 1]; [0] unused */
    uint8_t *memory;
    size_t memory_bytes;
    uint32_t count;
    uint32_t buf_bytes; /* usable bytes of each */
    uint32_t free_count;
    uint32_t reserve; /* of these, for handlers that fill buffers: no receive takes the last ones */
    struct weir__buf *free; /* LIFO */
};

/* count: 1..32767 buffers of buf_bytes each. Returns 0 or -ENOMEM, -EINVAL: then
 * the pool is empty, and deinit has no effect. */
int weir__buf_pool_init(struct weir__buf_pool *pool, uint32_t count, uint32_t buf_bytes);
/* Buffers that are still lent go with it. */
void weir__buf_pool_deinit(struct weir__buf_pool *pool);

/* The hottest free buffer, with len 0 and data == base; NULL when all are lent. */
static inline struct weir__buf *weir__buf_get(struct weir__buf_pool *pool)
{
    struct weir__buf *buf = pool->free;
    if (!buf)
        return NULL;
    assert(!buf->lent);
    pool->free = buf->next;
    pool->free_count--;
    buf->next = NULL;
    buf->lent = 1;
    buf->data = buf->base;
    buf->len = 0;
    return buf;
}

/* The same for what a receive fills, and for static sends: they must not take what handlers wait
 * for, or unread input is never read. NULL when only the reserve is left. */
static inline struct weir__buf *weir__buf_get_to_receive(struct weir__buf_pool *pool)
{
    return pool->free_count > pool->reserve ? weir__buf_get(pool) : NULL;
}

static inline void weir__buf_put(struct weir__buf_pool *pool, struct weir__buf *buf)
{
    assert(buf->lent && buf->tx.state == WEIR__OP_IDLE);
    buf->lent = 0;
    buf->next = pool->free;
    pool->free = buf;
    pool->free_count++;
}

/* Puts a buffer at the end of a queue, of which the caller keeps the first one's index (0: empty).
 */
static inline void weir__buf_queue(struct weir__buf_pool *pool, uint16_t *head,
                                   struct weir__buf *buf)
{
    struct weir__buf *first = *head ? &pool->bufs[*head] : buf;

    if (*head)
        first->last->next = buf;
    else
        *head = (uint16_t)buf->index;
    first->last = buf;
    buf->next = NULL;
}

#endif
