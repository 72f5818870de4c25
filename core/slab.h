/*
 * A slab of equal objects with stable addresses and small indices: connections, tasks,
 * per-connection state. Grows by chunks and never moves or shrinks; the object freed last is handed
 * out first. One thread.
 */
#ifndef WEIR_CORE_SLAB_H
#define WEIR_CORE_SLAB_H

#include <stddef.h>
#include <stdint.h>

enum { WEIR__SLAB_CHUNK = 256 };

struct weir__slab {
    size_t object_bytes;
    uint8_t **chunks;
    uint32_t chunk_count, chunk_capacity;
    uint32_t free; /* index + 1 of the first free object; 0: none */
    uint32_t used;
};

void weir__slab_init(struct weir__slab *slab, size_t object_bytes);
/* All objects are gone with it. */
void weir__slab_deinit(struct weir__slab *slab);
/* A free object and its index. All zero the first time it is handed out; later as it was put, but
 * for the first 4 bytes. NULL when out of memory. */
void *weir__slab_get(struct weir__slab *slab, uint32_t *index);
void weir__slab_put(struct weir__slab *slab, uint32_t index);

/* How many indices there are: 0 .. this - 1, used or free. */
static inline uint32_t weir__slab_size(const struct weir__slab *slab)
{
    return slab->chunk_count * WEIR__SLAB_CHUNK;
}

/* `object_bytes` is the slab's, rounded up to half cache lines; a constant saves a multiplication.
 */
static inline void *weir__slab_at(const struct weir__slab *slab, uint32_t index,
                                  size_t object_bytes)
{
    return slab->chunks[index / WEIR__SLAB_CHUNK] + index % WEIR__SLAB_CHUNK * object_bytes;
}

#endif
