/*
 * The provided-buffer ring: the buffers that the kernel may receive into. It holds a bounded share
 * of the loop's pool and is refilled from there once per wait(), the buffers freed last first.
 * Who owns what: a buffer in this ring is out of the pool; a completion passes it to its op's
 * owner, and it comes back through the pool. See io_uring_register_buf_ring(3).
 */
#include "uring/internal.h"

#include <sys/mman.h>

/* One group per ring: every connection shares it. */
enum { GROUP = 0, KERNEL_MAX_ENTRIES = 32768 };

static uint32_t power_of_two(uint32_t least)
{
    uint32_t n = 1;
    while (n < least)
        n *= 2;
    return n;
}

int weir__uring_bufs_open(struct weir__uring *uring, uint32_t target)
{
    uint32_t entries = power_of_two(target);
    assert(target > 0 && entries <= KERNEL_MAX_ENTRIES);
    size_t bytes = entries * sizeof(struct io_uring_buf);
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -errno;
    struct io_uring_buf_reg request = {
        .ring_addr = (uint64_t)(uintptr_t)memory,
        .ring_entries = entries,
        .bgid = GROUP,
    };
    int error = io_uring_register_buf_ring(&uring->ring, &request, 0);
    if (error < 0) {
        munmap(memory, bytes);
        return error;
    }
    uring->buf_ring = memory;
    uring->buf_ring_bytes = bytes;
    uring->buf_ring_entries = entries;
    uring->buf_ring_target = target;
    uring->buf_ring_filled = 0;
    io_uring_buf_ring_init(uring->buf_ring);
    return 0;
}

void weir__uring_bufs_refill(struct weir__uring *uring)
{
    struct weir__buf_pool *pool = uring->base.env->bufs;
    int added = 0;
    if (!uring->buf_ring)
        return;
    while (uring->buf_ring_filled < uring->buf_ring_target) {
        struct weir__buf *buf = weir__buf_get(pool);
        if (!buf)
            break;
        io_uring_buf_ring_add(uring->buf_ring, buf->base, pool->buf_bytes, (uint16_t)buf->index,
                              (int)uring->buf_ring_entries - 1, added++);
        uring->buf_ring_filled++;
    }
    if (added > 0)
        io_uring_buf_ring_advance(uring->buf_ring, added);
}

void weir__uring_bufs_close(struct weir__uring *uring)
{
    struct weir__buf_pool *pool = uring->base.env->bufs;
    if (!uring->buf_ring)
        return;
    io_uring_unregister_buf_ring(&uring->ring, GROUP);
    /* The kernel takes them in order: what is left are the last ones added. */
    while (uring->buf_ring_filled > 0) {
        uint16_t slot = (uint16_t)(uring->buf_ring->tail - uring->buf_ring_filled--);
        uint32_t index = uring->buf_ring->bufs[slot & (uring->buf_ring_entries - 1)].bid;
        weir__buf_put(pool, &pool->bufs[index]);
    }
    munmap(uring->buf_ring, uring->buf_ring_bytes);
    uring->buf_ring = NULL;
}
