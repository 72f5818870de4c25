/* Fills the block of random bytes that driver_payload.h describes. Called once for a target, never
 * later. */
#include "bench/driver_payload.h"

#include <errno.h>
#include <stdlib.h>

#include "bench/workloads/workloads.h"

/* splitmix64, from Vigna's public domain xoshiro page: any seed is a good one. */
static uint64_t random_next(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

int weir__drive_payload_init(struct drive_payload *payload, uint32_t size, uint64_t seed)
{
    size_t len = (size_t)WEIR__PAYLOAD_PLACES + size;
    payload->block = malloc(len);
    if (!payload->block)
        return -ENOMEM;
    payload->mask = WEIR__PAYLOAD_PLACES - 1;
    payload->shift = (uint32_t)random_next(&seed);
    for (size_t i = 0; i < len; i++)
        payload->block[i] = (uint8_t)(random_next(&seed) >> 56);
    return 0;
}

void weir__drive_payload_fix(struct drive_payload *payload, uint32_t size)
{
    payload->mask = 0;
    weir__source_fill(payload->block, size);
}

void weir__drive_payload_deinit(struct drive_payload *payload)
{
    free(payload->block);
    payload->block = NULL;
}
