/* The slab; see core/slab.h. */
#include "core/slab.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Chunks begin at a cache line and objects are multiples of half of one: equal as they are, none
 * lies in more lines than its size needs. */
enum { CACHE_LINE = 64, GRAIN = 32 };

void weir__slab_init(struct weir__slab *slab, size_t object_bytes)
{
    *slab = (struct weir__slab){.object_bytes = (object_bytes + GRAIN - 1) / GRAIN * GRAIN};
}

void weir__slab_deinit(struct weir__slab *slab)
{
    for (uint32_t i = 0; i < slab->chunk_count; i++)
        free(slab->chunks[i]);
    free(slab->chunks);
    *slab = (struct weir__slab){0};
}

static int grow_directory(struct weir__slab *slab)
{
    uint32_t capacity = slab->chunk_capacity ? 2 * slab->chunk_capacity : 16;
    uint8_t **chunks = realloc(slab->chunks, capacity * sizeof *chunks);
    if (!chunks)
        return -1;
    slab->chunks = chunks;
    slab->chunk_capacity = capacity;
    return 0;
}

static int grow(struct weir__slab *slab)
{
    if (slab->chunk_count == slab->chunk_capacity && grow_directory(slab))
        return -1;
    size_t bytes = slab->object_bytes * WEIR__SLAB_CHUNK;
    uint8_t *chunk = aligned_alloc(CACHE_LINE, bytes);
    if (!chunk)
        return -1;
    memset(chunk, 0, bytes);
    uint32_t first = weir__slab_size(slab);
    slab->chunks[slab->chunk_count++] = chunk;
    for (uint32_t i = WEIR__SLAB_CHUNK; i > 0; i--) {
        slab->used++;
        weir__slab_put(slab, first + i - 1);
    }
    return 0;
}

void *weir__slab_get(struct weir__slab *slab, uint32_t *index)
{
    if (!slab->free && grow(slab))
        return NULL;
    *index = slab->free - 1;
    uint32_t *object = weir__slab_at(slab, *index, slab->object_bytes);
    slab->free = *object;
    *object = 0;
    slab->used++;
    return object;
}

void weir__slab_put(struct weir__slab *slab, uint32_t index)
{
    assert(slab->used > 0 && index < weir__slab_size(slab));
    uint32_t *object = weir__slab_at(slab, index, slab->object_bytes);
    *object = slab->free;
    slab->free = index + 1;
    slab->used--;
}
