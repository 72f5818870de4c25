/*
 * `source`: sends as many bytes as it is asked for. A request is a 4-byte big-endian length, at
 * most WEIR_SOURCE_LIMIT_BYTES; byte i of the answer is i mod 251. All answers come from one block
 * that is written once, so a server copies nothing.
 */
#include "bench/workloads/workloads.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

enum { HEADER_BYTES = 4 };

struct source_state {
    uint32_t length;     /* of the request so far */
    uint8_t header_held; /* bytes of it: 0 .. 3 between calls */
};
static_assert(sizeof(struct source_state) <= WEIR_WORKLOAD_STATE_BYTES, "fits a slot");

static uint8_t block[WEIR_SOURCE_LIMIT_BYTES];

static void fill_block(void)
{
    weir__source_fill(block, sizeof block);
}

void weir__source_fill(uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        bytes[i] = (uint8_t)(i % 251);
}

static void source_init(void *state, const struct weir_workload_options *options)
{
    static pthread_once_t filled = PTHREAD_ONCE_INIT;
    pthread_once(&filled, fill_block);
    memset(state, 0, sizeof(struct source_state));
}

static int source_feed(void *state, const uint8_t *in, size_t in_len, struct weir_workload_io *io)
{
    struct source_state *source = state;

    assert(in_len > 0);
    io->reply_len = 0;
    io->reply_is_input = false;
    io->reply_is_static = true;
    io->requests = 0;
    io->consumed = 0;
    while (io->consumed < in_len && source->header_held < HEADER_BYTES) {
        source->length = source->length << 8 | in[io->consumed++];
        source->header_held++;
    }
    if (source->header_held < HEADER_BYTES)
        return WEIR_WORKLOAD_CONTINUE;
    if (source->length > WEIR_SOURCE_LIMIT_BYTES)
        return -EMSGSIZE;
    io->reply = block;
    io->reply_len = source->length;
    io->requests = 1;
    source->header_held = 0;
    return WEIR_WORKLOAD_CONTINUE;
}

const struct weir_workload weir__workload_source = {
    .name = "source",
    .summary = "4-byte big-endian length asks for as many bytes",
    .state_bytes = sizeof(struct source_state),
    .init = source_init,
    .feed = source_feed,
};
