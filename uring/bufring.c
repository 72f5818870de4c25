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

/*
 * How many buffers the ring is kept filled with. The kernel takes them in turn, so every one of
 * them comes into use, and each costs cache: as much of it as a receive fills. Too few cost as
 * well, for a receive that finds none ends and must be armed again. So the ring follows what a turn
 * takes: at once where that grows, and down by half after many turns that needed less; and where
 * receives are large, it has no more buffers than what they fill together stays in the cache beside
 * the socket's own memory, and those that are being sent. (Copying 64 KiB to one of two took
 * 4.4 us, of four 5.4 and of 64 7.9: more than arming those receives again that found none.)
 */
enum {
    FILL_LEAST = 4,
    FILL_LEAST_LARGE = 2,
    FILL_UNTRIED = 64,
    FILL_WINDOW_TURNS = 4096,
    FILL_BYTES = 192 * 1024,
    SIZE_WINDOW_BUFS = 64, /* over which the mean size of a receive is taken */
};

static uint32_t power_of_two(uint32_t least)
{
    uint32_t n = 1;
    while (n < least)
        n *= 2;
    return n;
}

int weir__uring_bufs_open(struct weir__uring *uring, uint32_t target, int fixed)
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
    uring->buf_ring_most = target;
    uring->buf_ring_least = fixed || target < FILL_LEAST ? target : FILL_LEAST;
    uring->buf_ring_target = uring->buf_ring_least;
    uring->base.recv_most = uring->buf_ring_target;
    uring->buf_ring_cap = target < FILL_UNTRIED || fixed ? target : FILL_UNTRIED;
    uring->buf_ring_filled = 0;
    io_uring_buf_ring_init(uring->buf_ring);
    return 0;
}

/* What the ring may hold for the receives there were of late to stay in the cache. */
static void follow_size(struct weir__uring *uring, uint32_t taken)
{
    uring->buf_ring_taken += taken;
    if (uring->buf_ring_taken < SIZE_WINDOW_BUFS)
        return;
    uint64_t received = uring->buf_ring_received > 0 ? uring->buf_ring_received : 1;
    uint64_t fit = (uint64_t)uring->buf_ring_taken * FILL_BYTES / received;
    uint32_t cap = fit < uring->buf_ring_most ? (uint32_t)fit : uring->buf_ring_most;
    bool fixed = uring->buf_ring_least == uring->buf_ring_most;
    uint32_t least = fixed ? uring->buf_ring_most : FILL_LEAST_LARGE;
    uring->buf_ring_cap = cap > least ? cap : least;
    uring->buf_ring_taken = 0;
    uring->buf_ring_received = 0;
}

static void follow_load(struct weir__uring *uring)
{
    uint32_t filled = uring->buf_ring_filled; /* may exceed a target that was just lowered */
    uint32_t target = uring->buf_ring_target;
    uint32_t taken = filled < target ? target - filled : 0;
    uint32_t wanted = taken + (uint32_t)(uring->counters.enobufs - uring->buf_ring_enobufs);
    uring->buf_ring_enobufs = uring->counters.enobufs;
    if (wanted > uring->buf_ring_peak)
        uring->buf_ring_peak = wanted;
    follow_size(uring, taken);
    bool window_ends = ++uring->buf_ring_turns >= FILL_WINDOW_TURNS;
    while (wanted > target - target / 4 && target < uring->buf_ring_cap)
        target *= 2;
    if (window_ends && uring->buf_ring_peak < target * 3 / 8 && target / 2 >= uring->buf_ring_least)
        target /= 2;
    if (target > uring->buf_ring_cap)
        target = uring->buf_ring_cap;
    if (window_ends || target > uring->buf_ring_target) {
        uring->buf_ring_turns = 0;
        uring->buf_ring_peak = 0;
    }
    uring->buf_ring_target = target;
    uring->base.recv_most = target;
}

void weir__uring_bufs_refill(struct weir__uring *uring)
{
    struct weir__buf_pool *pool = uring->base.env->bufs;
    int added = 0;
    if (!uring->buf_ring)
        return;
    follow_load(uring);
    while (uring->buf_ring_filled < uring->buf_ring_target) {
        struct weir__buf *buf = weir__buf_get_to_receive(pool);
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
