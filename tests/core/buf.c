/* The pool of lent buffers. */
#include <criterion/criterion.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/buf.h"

static void write_all_and_return(uint32_t count, uint32_t buf_bytes)
{
    struct weir__buf_pool pool;
    static struct weir__buf *held[32768];
    cr_assert_eq(weir__buf_pool_init(&pool, count, buf_bytes), 0);
    cr_assert_eq(pool.free_count, count);
    for (uint32_t i = 0; i < count; i++) {
        held[i] = weir__buf_get(&pool);
        cr_assert_not_null(held[i]);
        cr_assert(held[i]->index >= 1 && held[i]->index <= count);
        cr_assert_eq(held[i], &pool.bufs[held[i]->index]);
        cr_assert_eq(held[i]->len, 0);
        memset(held[i]->data, (int)(i & 0xff), buf_bytes);
    }
    cr_assert_null(weir__buf_get(&pool));
    cr_assert_eq(pool.free_count, 0);
    for (uint32_t i = 0; i < count; i++) { /* no two share a byte */
        cr_assert_eq(held[i]->data[0], (uint8_t)i);
        cr_assert_eq(held[i]->data[buf_bytes - 1], (uint8_t)i);
        weir__buf_put(&pool, held[i]);
    }
    cr_assert_eq(pool.free_count, count);
    weir__buf_pool_deinit(&pool);
}

Test(buf, every_buffer_is_lent_once_and_is_as_large_as_it_says)
{
    write_all_and_return(1, 64);
    write_all_and_return(7, 100);
    write_all_and_return(256, 16384);
    write_all_and_return(32767, 65);
}

Test(buf, the_one_returned_last_is_lent_first_and_is_whole_again)
{
    struct weir__buf_pool pool;
    cr_assert_eq(weir__buf_pool_init(&pool, 8, 1000), 0);
    struct weir__buf *first = weir__buf_get(&pool), *second = weir__buf_get(&pool);
    cr_assert_neq(first, second);
    first->data += 100; /* narrowed by a handler */
    first->len = 5;
    weir__buf_put(&pool, second);
    weir__buf_put(&pool, first);
    cr_assert_eq(weir__buf_get(&pool), first);
    cr_assert_eq(first->data, first->base);
    cr_assert_eq(first->len, 0);
    weir__buf_put(&pool, first);
    weir__buf_pool_deinit(&pool);
}

Test(buf, a_queue_keeps_the_order_in_which_buffers_came)
{
    struct weir__buf_pool pool;
    struct weir__buf *bufs[3];
    uint16_t head = 0;
    cr_assert_eq(weir__buf_pool_init(&pool, 3, 1000), 0);
    for (int i = 0; i < 3; i++) {
        bufs[i] = weir__buf_get(&pool);
        weir__buf_queue(&pool, &head, bufs[i]);
    }
    cr_assert_eq(head, bufs[0]->index);
    cr_assert_eq(bufs[0]->next, bufs[1]);
    cr_assert_eq(bufs[1]->next, bufs[2]);
    cr_assert_null(bufs[2]->next);
    for (int i = 0; i < 3; i++)
        weir__buf_put(&pool, bufs[i]);
    weir__buf_pool_deinit(&pool);
}

Test(buf, sizes_out_of_range_are_refused)
{
    struct weir__buf_pool pool;
    cr_assert_eq(weir__buf_pool_init(&pool, 0, 1000), -EINVAL);
    cr_assert_eq(weir__buf_pool_init(&pool, 32768, 1000), -EINVAL);
    cr_assert_eq(weir__buf_pool_init(&pool, 1, 63), -EINVAL);
    cr_assert_eq(weir__buf_pool_init(&pool, 1, (1u << 26) + 1), -EINVAL);
    weir__buf_pool_deinit(&pool); /* of one that was refused: no effect */
}

/* Lets this process map so much more than it has. */
static void limit_growth(uint64_t bytes)
{
    struct rlimit limit;
    unsigned long pages;
    FILE *statm = fopen("/proc/self/statm", "r");
    cr_assert_not_null(statm);
    cr_assert_eq(fscanf(statm, "%lu", &pages), 1);
    fclose(statm);
    cr_assert_eq(getrlimit(RLIMIT_AS, &limit), 0);
    limit.rlim_cur = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + bytes;
    cr_assert_eq(setrlimit(RLIMIT_AS, &limit), 0);
}

Test(buf, without_memory_there_is_no_pool)
{
    struct weir__buf_pool pool;
    limit_growth(32 << 20); /* sanitizers want some, too */
    cr_assert_eq(weir__buf_pool_init(&pool, 256, 1 << 20), -ENOMEM);
    cr_assert_null(pool.memory, "deinit would unmap what is not ours");
    weir__buf_pool_deinit(&pool);
}
