/*
 * `sink`: takes bytes and discards them. A message is a 4-byte big-endian length and as many bytes;
 * a length of 0 asks for an acknowledgement: 8 bytes, big-endian, the bytes of all messages taken
 * since the one before. So a sender knows what has arrived, and nothing else is ever answered.
 */
#include "bench/workloads/workloads.h"

#include <assert.h>
#include <string.h>

enum { HEADER_BYTES = 4, ACK_BYTES = 8 };

struct sink_state {
    uint64_t taken;
    uint32_t body_left;
    uint32_t length;     /* of the header so far */
    uint8_t header_held; /* bytes of it: 0 .. 3 between calls */
};
static_assert(sizeof(struct sink_state) <= WEIR_WORKLOAD_STATE_BYTES, "fits a slot");

static void sink_init(void *state, const struct weir_workload_options *options)
{
    memset(state, 0, sizeof(struct sink_state));
}

static void acknowledge(struct sink_state *sink, struct weir_workload_io *io)
{
    for (int i = 0; i < ACK_BYTES; i++)
        io->out[i] = (uint8_t)(sink->taken >> (56 - 8 * i));
    io->reply = io->out;
    io->reply_len = ACK_BYTES;
    sink->taken = 0;
}

static int sink_feed(void *state, const uint8_t *in, size_t in_len, struct weir_workload_io *io)
{
    struct sink_state *sink = state;
    size_t at = 0;

    assert(in_len > 0 && io->out_capacity >= ACK_BYTES);
    io->reply_len = 0;
    io->reply_is_input = io->reply_is_static = false;
    io->requests = 0;
    while (at < in_len && io->reply_len == 0) {
        if (sink->body_left > 0) {
            size_t left = in_len - at;
            size_t body = sink->body_left < left ? sink->body_left : left;
            at += body;
            sink->taken += body;
            sink->body_left -= (uint32_t)body;
            io->requests += sink->body_left == 0;
            continue;
        }
        sink->length = sink->length << 8 | in[at++];
        if (++sink->header_held < HEADER_BYTES)
            continue;
        sink->header_held = 0;
        sink->body_left = sink->length;
        if (sink->length == 0)
            acknowledge(sink, io);
    }
    io->consumed = at;
    return WEIR_WORKLOAD_CONTINUE;
}

const struct weir_workload weir__workload_sink = {
    .name = "sink",
    .summary = "bytes are discarded: 4-byte big-endian length, then the body; length 0 asks for an "
               "acknowledgement",
    .state_bytes = sizeof(struct sink_state),
    .init = sink_init,
    .feed = sink_feed,
};
