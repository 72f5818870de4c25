/* The slab: stable addresses, small indices, the object freed last first. */
#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

#include "core/slab.h"

enum { OBJECTS = 3 * WEIR__SLAB_CHUNK + 7, BYTES = 130 };

Test(slab, objects_keep_their_address_and_their_index_while_it_grows)
{
    struct weir__slab slab;
    static uint8_t *objects[OBJECTS];
    static uint32_t indices[OBJECTS];
    weir__slab_init(&slab, BYTES);
    cr_assert_eq(weir__slab_size(&slab), 0);
    for (uint32_t i = 0; i < OBJECTS; i++) {
        objects[i] = weir__slab_get(&slab, &indices[i]);
        cr_assert_not_null(objects[i]);
        cr_assert_eq((uintptr_t)objects[i] % 32, 0);
        for (int j = 0; j < BYTES; j++)
            cr_assert_eq(objects[i][j], 0);
        memset(objects[i], (int)(i % 251), BYTES);
    }
    cr_assert_eq(slab.used, OBJECTS);
    cr_assert(weir__slab_size(&slab) >= OBJECTS);
    for (uint32_t i = 0; i < OBJECTS; i++) {
        cr_assert_eq(weir__slab_at(&slab, indices[i], slab.object_bytes), objects[i]);
        cr_assert_eq(objects[i][0], i % 251);
        cr_assert_eq(objects[i][BYTES - 1], i % 251);
    }
    weir__slab_deinit(&slab);
}

Test(slab, an_object_of_a_line_and_a_half_lies_in_two_lines)
{
    struct weir__slab slab;
    uint32_t index;
    weir__slab_init(&slab, 96);
    for (uint32_t i = 0; i < OBJECTS; i++) {
        uintptr_t object = (uintptr_t)weir__slab_get(&slab, &index);
        cr_assert_eq((object + 95) / 64 - object / 64, 1);
    }
    cr_assert_eq(slab.object_bytes, 96, "and takes no more memory than that");
    weir__slab_deinit(&slab);
}

Test(slab, what_was_freed_last_is_taken_first_with_all_but_its_first_word)
{
    struct weir__slab slab;
    uint32_t first, second, again;
    weir__slab_init(&slab, BYTES);
    uint8_t *one = weir__slab_get(&slab, &first), *two = weir__slab_get(&slab, &second);
    memset(one, 1, BYTES);
    memset(two, 2, BYTES);
    weir__slab_put(&slab, first);
    weir__slab_put(&slab, second);
    cr_assert_eq(slab.used, 0);
    cr_assert_eq(weir__slab_get(&slab, &again), two);
    cr_assert_eq(again, second);
    cr_assert_eq(two[4], 2);
    cr_assert_eq(two[BYTES - 1], 2);
    cr_assert_eq(weir__slab_get(&slab, &again), one);
    cr_assert_eq(again, first);
    weir__slab_deinit(&slab);
}

Test(slab, a_random_life_never_lends_an_object_twice)
{
    struct weir__slab slab;
    static bool lent[4 * WEIR__SLAB_CHUNK];
    static uint32_t held[OBJECTS];
    uint32_t count = 0, index;
    weir__slab_init(&slab, 8);
    srand(7);
    for (int step = 0; step < 100000; step++) {
        if (count < OBJECTS && (count == 0 || rand() % 5 < 3)) {
            cr_assert_not_null(weir__slab_get(&slab, &index));
            cr_assert(index < 4 * WEIR__SLAB_CHUNK && !lent[index]);
            lent[index] = true;
            held[count++] = index;
        } else {
            uint32_t at = (uint32_t)rand() % count;
            lent[held[at]] = false;
            weir__slab_put(&slab, held[at]);
            held[at] = held[--count];
        }
        cr_assert_eq(slab.used, count);
    }
    weir__slab_deinit(&slab);
}
