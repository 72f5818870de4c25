/*
 * The handler of an engine's connections. The way of an echo is receive, feed, send: the lent
 * buffer that came in goes out again, and nothing is copied.
 */
#include "bench/serve_shard.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

/* What the workload knows of one connection; none for a workload without state. */
struct conn_state {
    bool ready;
    alignas(max_align_t) unsigned char workload[];
};

/* The room is shared by all connections, and sending may wait: so the reply moves to this stack
 * first. */
__attribute__((noinline)) static int send_moved(struct weir_conn *conn,
                                                const struct weir_workload_io *io)
{
    uint8_t reply[WEIR_WORKLOAD_OUT_BYTES];

    assert(io->reply_len <= sizeof reply);
    memcpy(reply, io->reply, io->reply_len);
    return weir_send_all(conn, reply, io->reply_len);
}

static int send_part(struct weir_conn *conn, const struct weir_workload_io *io)
{
    if (io->reply_len == 0)
        return 0;
    if (io->reply_is_static)
        return weir_send_static(conn, io->reply, io->reply_len);
    return io->reply_is_input ? weir_send_all(conn, io->reply, io->reply_len)
                              : send_moved(conn, io);
}

/* Everything but the straight way: several replies in one buffer, replies that are not input, the
 * end. */
__attribute__((noinline)) static bool answer_in_parts(struct shard *shard, struct weir_conn *conn,
                                                      void *state, struct weir_buf *buf,
                                                      struct weir_workload_io *io, int verdict)
{
    const struct weir_workload *workload = shard->options->workload;
    const uint8_t *in = buf->data;
    size_t left = buf->len;

    for (;;) {
        int sent = send_part(conn, io);

        if (verdict < 0)
            shard->refused++;
        if (sent < 0 || verdict != WEIR_WORKLOAD_CONTINUE)
            return false;
        assert(io->consumed > 0 && io->consumed <= left);
        in += io->consumed;
        left -= io->consumed;
        if (left == 0)
            return true;
        io->out = shard->reply_room;
        io->out_capacity = sizeof shard->reply_room;
        verdict = workload->feed(state, in, left, io);
        shard->requests += io->requests;
    }
}

static void *state_of(const struct shard *shard, struct weir_conn *conn)
{
    struct conn_state *kept = weir_conn_state(conn);

    if (!kept->ready) {
        shard->options->workload->init(kept->workload, &shard->options->workload_options);
        kept->ready = true;
    }
    return kept->workload;
}

void weir__shard_handle(struct weir_conn *conn, void *argument)
{
    struct shard *shard = argument;
    const struct weir_workload *workload = shard->options->workload;
    void *state = workload->state_bytes > 0 ? state_of(shard, conn) : NULL;
    struct weir_buf buf = {0};

    while (weir_recv(conn, &buf) > 0) {
        struct weir_workload_io io; /* feed() fills all but these two */
        io.out = shard->reply_room;
        io.out_capacity = sizeof shard->reply_room;
        int verdict = workload->feed(state, buf.data, buf.len, &io);

        shard->requests += io.requests;
        if (__builtin_expect(verdict == WEIR_WORKLOAD_CONTINUE && io.reply_is_input &&
                                 io.consumed == buf.len && io.reply_len > 0,
                             1)) {
            buf.data = (uint8_t *)io.reply; /* a part of the same lent buffer */
            buf.len = (uint32_t)io.reply_len;
            if (weir_send(conn, &buf) < 0) {
                weir_conn_close(conn); /* it failed; the buffer has gone back */
                return;
            }
        } else if (!answer_in_parts(shard, conn, state, &buf, &io, verdict)) {
            weir_buf_put(shard->loop, &buf);
            weir_conn_close(conn);
            return;
        }
    }
}

size_t weir__shard_state_bytes(const struct weir_workload *workload)
{
    if (workload->state_bytes == 0)
        return 0;
    return offsetof(struct conn_state, workload) + workload->state_bytes;
}
