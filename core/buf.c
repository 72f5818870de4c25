/* The pool of lent buffers; see core/buf.h. Allocates once, at init. */
#include "core/buf.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Buffers of a power-of-two size would all start in the same few cache sets: 256 buffers of 16 KiB
 * touch 64 lines of a 1 MiB L2 and miss it. An odd number of lines between them spreads them. */
enum { CACHE_LINE = 64, SPREAD_LINES = 5 };

int weir__buf_pool_init(struct weir__buf_pool *pool, uint32_t count, uint32_t buf_bytes)
{
    *pool = (struct weir__buf_pool){0};
    if (count == 0 || count > 32767 || buf_bytes < 64 || buf_bytes > 1u << 26)
        return -EINVAL;
    size_t stride =
        (buf_bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE + SPREAD_LINES * CACHE_LINE;
    struct weir__buf *bufs = aligned_alloc(CACHE_LINE, sizeof *bufs * (count + 1));
    if (!bufs)
        return -ENOMEM;
    void *memory = mmap(NULL, stride * count, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        int error = errno;
        free(bufs);
        return -error;
    }
    pool->bufs = bufs;
    pool->memory = memory;
    pool->memory_bytes = stride * count;
    pool->count = count;
    pool->buf_bytes = buf_bytes;
    for (uint32_t i = count; i > 0; i--) {
        struct weir__buf *buf = &pool->bufs[i];
        *buf = (struct weir__buf){.index = i, .base = pool->memory + stride * (i - 1)};
        buf->next = pool->free;
        pool->free = buf;
    }
    pool->free_count = count;
    return 0;
}

void weir__buf_pool_deinit(struct weir__buf_pool *pool)
{
    if (!pool->memory)
        return;
    free(pool->bufs);
    munmap(pool->memory, pool->memory_bytes);
    *pool = (struct weir__buf_pool){0};
}
