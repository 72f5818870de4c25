/*
 * A workload: what a server answers, without any input or output of its own.
 *
 * A workload is state per connection plus "here are bytes: say how many you took and what to
 * send". It never reads, writes, waits, allocates or looks at a clock, so the same object code
 * serves under coroutines, callbacks, threads and processes, and a comparison of I/O models
 * compares nothing else.
 *
 * The server's loop, whatever its model:
 *
 *     while (in_len > 0) {
 *         struct weir_workload_io io = {.out = room, .out_capacity = sizeof(room)};
 *         int verdict = workload->feed(state, in, in_len, &io);
 *         send io.reply_len bytes at io.reply (they may lie inside `in`: see weir_workload_io)
 *         if (verdict != WEIR_WORKLOAD_CONTINUE)
 *             close the connection, and count it as refused if verdict < 0
 *         in += io.consumed, in_len -= io.consumed;
 *     }
 */
#ifndef WEIR_WORKLOAD_H
#define WEIR_WORKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Room a server must offer in weir_workload_io.out; every workload here makes do with it. */
#define WEIR_WORKLOAD_OUT_BYTES 4096

/* Upper bound of weir_workload.state_bytes, so that a slot can embed the state. */
#define WEIR_WORKLOAD_STATE_BYTES 64

enum weir_workload_verdict {
    WEIR_WORKLOAD_CONTINUE = 0, /* carry on: feed the rest, or wait for more input */
    WEIR_WORKLOAD_CLOSE = 1,    /* send the reply of this call, then close: a normal end */
};

/* What a person may set; zero means the default. Read by init only, which copies what it needs. */
struct weir_workload_options {
    uint32_t frame_limit_bytes; /* `frame`: longest body taken; 0: WEIR_FRAME_LIMIT_BYTES */
};

/* Default of frame_limit_bytes. */
#define WEIR_FRAME_LIMIT_BYTES (1u << 20)

/* The longest message of `source`. */
#define WEIR_SOURCE_LIMIT_BYTES (1u << 20)

/* One call of feed: the caller sets `out` and `out_capacity`, feed sets all the others. */
struct weir_workload_io {
    uint8_t *out;        /* room for a reply that is not a piece of the input; caller's memory */
    size_t out_capacity; /* bytes at out, at least WEIR_WORKLOAD_OUT_BYTES */

    size_t consumed;      /* leading bytes of the input that are done with once the reply is sent */
    const uint8_t *reply; /* inside `in[0, consumed)` if reply_is_input, anywhere if
                             reply_is_static, else inside `out` */
    size_t reply_len;     /* bytes at reply; 0: nothing to send */
    bool reply_is_input;  /* the reply is a range of the input: send the lent buffer itself */
    bool reply_is_static; /* the reply is memory that never changes nor goes: send it from there */
    uint32_t requests; /* requests completed by this call; 0 where the protocol has no such unit */
};

struct weir_workload {
    const char *name;    /* as typed: --workload NAME */
    const char *summary; /* one line for --help */
    size_t state_bytes;  /* per connection, <= WEIR_WORKLOAD_STATE_BYTES; may be 0 */

    /* Makes `state` (state_bytes, aligned for any object, caller's memory) ready for a new
     * connection. `options` may be NULL: all defaults. There is nothing to undo: no deinit. */
    void (*init)(void *state, const struct weir_workload_options *options);

    /*
     * Takes received bytes and says what to send. `in_len` must be > 0; `in` stays the caller's.
     * Whatever the split of the stream into calls, the bytes replied in total are the same.
     *
     * Each call gets somewhere: on WEIR_WORKLOAD_CONTINUE, consumed > 0. The reply must be sent
     * before the replies of later calls; if it is in `out` it must have left it, or `out` must be
     * another buffer, before the next call.
     *
     * Returns an enum weir_workload_verdict, or -errno where the peer broke the protocol: send the
     * reply of this call (good requests before the bad one), close, count. -EMSGSIZE: a request
     * longer than the limit. After anything but WEIR_WORKLOAD_CONTINUE the state must not be fed
     * again.
     *
     * Any thread, one at a time for one state.
     */
    int (*feed)(void *state, const uint8_t *in, size_t in_len, struct weir_workload_io *io);
};

#ifdef __cplusplus
}
#endif

#endif
