/*
 * The bytes of requests: windows of one block of random bytes, 65,536 places a window can start
 * at. Sending and comparing touch only the block, which stays in the second-level cache; nothing
 * is generated per request.
 *
 * Both multipliers are odd, so for 65,536 connections at one sequence number all places differ,
 * and so do those of 65,536 requests in a row of one connection (driver.h promises this).
 */
#ifndef WEIR_BENCH_DRIVER_PAYLOAD_H
#define WEIR_BENCH_DRIVER_PAYLOAD_H

#include <stdint.h>

#define WEIR__PAYLOAD_PLACES 65536u

struct drive_payload {
    uint8_t *block; /* WEIR__PAYLOAD_PLACES + size bytes; owned */
    uint32_t shift; /* from the seed */
    uint32_t mask;  /* of the places used: all, or one */
};

/* Makes the block for windows of `size` bytes. Returns 0 or -ENOMEM. */
int weir__drive_payload_init(struct drive_payload *payload, uint32_t size, uint64_t seed);

/* Makes all payloads the one that `source` sends. */
void weir__drive_payload_fix(struct drive_payload *payload, uint32_t size);

void weir__drive_payload_deinit(struct drive_payload *payload);

/* What connection `conn` sends as its request `seq`, and wants back. */
static inline const uint8_t *weir__drive_payload_at(const struct drive_payload *payload,
                                                    uint32_t conn, uint64_t seq)
{
    uint32_t place = payload->shift + conn * 0x9e3779b1u + (uint32_t)seq * 0x85ebca6bu;
    return payload->block + (place & payload->mask);
}

#endif
