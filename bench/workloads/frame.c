/*
 * `frame`: a 4-byte big-endian body length, then the body; the same frame comes back. A body
 * longer than the limit is refused: what came before it is answered, then the connection is to be
 * closed.
 *
 * A body is answered piece by piece as it arrives, so the state is 12 bytes whatever the limit,
 * and the reply is nearly always the input itself. Only a header split over two reads is
 * different: its first bytes are held back until the length is known to be allowed, then the four
 * come from `out`, in a call of their own.
 */
#include "bench/workloads/workloads.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define HEADER_BYTES 4

struct frame_state {
    uint32_t limit_bytes;
    uint32_t body_left; /* of the frame whose header has been read; then header_held == 0 */
    uint8_t header[HEADER_BYTES]; /* the first header_held bytes of a split header */
    uint8_t header_held;          /* 0 .. 3 between calls */
};
static_assert(sizeof(struct frame_state) <= WEIR_WORKLOAD_STATE_BYTES, "fits a slot");

static void frame_init(void *state, const struct weir_workload_options *options)
{
    struct frame_state *frame = state;
    memset(frame, 0, sizeof(*frame));
    frame->limit_bytes = options && options->frame_limit_bytes > 0 ? options->frame_limit_bytes
                                                                   : WEIR_FRAME_LIMIT_BYTES;
}

static uint32_t load_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The rest of a split header: all four bytes are answered from `out` once the length is allowed. */
static int feed_split_header(struct frame_state *frame, const uint8_t *in, size_t in_len,
                             struct weir_workload_io *io)
{
    size_t missing = HEADER_BYTES - (size_t)frame->header_held;
    size_t take = in_len < missing ? in_len : missing;
    memcpy(frame->header + frame->header_held, in, take);
    io->consumed = take;
    if (take < missing) {
        frame->header_held += (uint8_t)take;
        return WEIR_WORKLOAD_CONTINUE;
    }
    uint32_t body = load_be32(frame->header);
    if (body > frame->limit_bytes)
        return -EMSGSIZE;
    memcpy(io->out, frame->header, HEADER_BYTES);
    io->reply = io->out;
    io->reply_len = HEADER_BYTES;
    frame->header_held = 0;
    frame->body_left = body;
    io->requests = body == 0;
    return WEIR_WORKLOAD_CONTINUE;
}

static int frame_feed(void *state, const uint8_t *in, size_t in_len, struct weir_workload_io *io)
{
    struct frame_state *frame = state;
    assert(in_len > 0 && io->out_capacity >= HEADER_BYTES);
    io->consumed = 0;
    io->reply_len = 0;
    io->reply = in;
    io->reply_is_input = true;
    io->reply_is_static = false;
    io->requests = 0;
    if (frame->header_held > 0) {
        io->reply_is_input = false;
        return feed_split_header(frame, in, in_len, io);
    }

    size_t at = 0; /* in[0, at) is whole headers and allowed bodies: the reply */
    for (;;) {
        size_t left = in_len - at;
        size_t body = frame->body_left < left ? frame->body_left : left;
        at += body;
        frame->body_left -= (uint32_t)body;
        io->requests += body > 0 && frame->body_left == 0;
        if (in_len - at < HEADER_BYTES)
            break;
        uint32_t next = load_be32(in + at);
        if (next > frame->limit_bytes) {
            io->consumed = io->reply_len = at;
            return -EMSGSIZE;
        }
        at += HEADER_BYTES;
        frame->body_left = next;
        io->requests += next == 0;
    }
    io->reply_len = at;
    /* What is left is less than a header, or part of a body that is not all here: then it is
     * nothing. */
    frame->header_held = (uint8_t)(in_len - at);
    memcpy(frame->header, in + at, frame->header_held);
    io->consumed = in_len;
    return WEIR_WORKLOAD_CONTINUE;
}

const struct weir_workload weir__workload_frame = {
    .name = "frame",
    .summary = "4-byte big-endian length, then the body; the same frame comes back",
    .state_bytes = sizeof(struct frame_state),
    .init = frame_init,
    .feed = frame_feed,
};
