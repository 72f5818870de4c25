/*
 * `echo`: bytes come back as they came. No state, no limit, no request boundaries; the reply is the
 * input itself, so a server that lends buffers copies nothing.
 */
#include "bench/workloads/workloads.h"

#include <assert.h>

static void echo_init(void *state, const struct weir_workload_options *options) {}

static int echo_feed(void *state, const uint8_t *in, size_t in_len, struct weir_workload_io *io)
{
    assert(in_len > 0);
    io->consumed = in_len;
    io->reply = in;
    io->reply_len = in_len;
    io->reply_is_input = true;
    io->reply_is_static = false;
    io->requests = 0;
    return WEIR_WORKLOAD_CONTINUE;
}

const struct weir_workload weir__workload_echo = {
    .name = "echo",
    .summary = "bytes come back as they came",
    .state_bytes = 0,
    .init = echo_init,
    .feed = echo_feed,
};
