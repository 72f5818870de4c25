/*
 * The workloads, fed every split of a stream: whatever the pieces, the same bytes come back, the
 * same requests are counted, and the same input is refused.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "bench/workloads/workloads.h"

#define STREAM_BYTES 256

struct stream {
    uint8_t bytes[STREAM_BYTES];
    size_t len;
};

/* What a server would have sent, and how it ended. */
struct served {
    uint8_t reply[2 * STREAM_BYTES];
    size_t len;
    uint64_t requests;
    int verdict;
};

struct server {
    const struct weir_workload *workload;
    struct served *served;
    alignas(max_align_t) uint8_t state[WEIR_WORKLOAD_STATE_BYTES];
};

static void server_start(struct server *server, const char *name, uint32_t limit,
                         struct served *served)
{
    struct weir_workload_options options = {.frame_limit_bytes = limit};
    memset(served, 0, sizeof(*served));
    server->workload = weir__workload_find(name);
    server->served = served;
    cr_assert_not_null(server->workload);
    server->workload->init(server->state, &options);
}

/* The loop of <weir/workload.h>, checking its contract on the way. */
static void server_receive(struct server *server, const uint8_t *in, size_t in_len)
{
    struct served *served = server->served;
    static uint8_t room[WEIR_WORKLOAD_OUT_BYTES];
    while (in_len > 0 && served->verdict == WEIR_WORKLOAD_CONTINUE) {
        struct weir_workload_io io = {.out = room, .out_capacity = sizeof(room)};
        int verdict = server->workload->feed(server->state, in, in_len, &io);
        cr_assert(verdict != WEIR_WORKLOAD_CONTINUE || io.consumed > 0);
        cr_assert_leq(io.consumed, in_len);
        const uint8_t *base = io.reply_is_input ? in : room;
        size_t base_len = io.reply_is_input ? io.consumed : sizeof(room);
        cr_assert(io.reply_len == 0 || io.reply_is_static ||
                  (io.reply >= base && io.reply + io.reply_len <= base + base_len));
        cr_assert_leq(served->len + io.reply_len, sizeof(served->reply));
        if (io.reply_len > 0)
            memcpy(served->reply + served->len, io.reply, io.reply_len);
        served->len += io.reply_len;
        served->requests += io.requests;
        served->verdict = verdict;
        in += io.consumed;
        in_len -= io.consumed;
    }
}

static void stream_add_frame(struct stream *stream, uint32_t body_len, uint8_t first)
{
    uint8_t *at = stream->bytes + stream->len;
    cr_assert_leq(stream->len + 4 + body_len, STREAM_BYTES);
    at[0] = (uint8_t)(body_len >> 24);
    at[1] = (uint8_t)(body_len >> 16);
    at[2] = (uint8_t)(body_len >> 8);
    at[3] = (uint8_t)body_len;
    for (uint32_t i = 0; i < body_len; i++)
        at[4 + i] = (uint8_t)(first + i);
    stream->len += 4 + body_len;
}

static void stream_add_header(struct stream *stream, uint32_t body_len)
{
    uint8_t header[4] = {(uint8_t)(body_len >> 24), (uint8_t)(body_len >> 16),
                         (uint8_t)(body_len >> 8), (uint8_t)body_len};
    memcpy(stream->bytes + stream->len, header, 4);
    stream->len += 4;
}

/* Serves `stream` cut at a and b (a <= b <= len) and expects `want`. */
static void expect_split(const char *name, uint32_t limit, const struct stream *stream, size_t a,
                         size_t b, const struct served *want)
{
    static struct server server;
    static struct served got;
    server_start(&server, name, limit, &got);
    server_receive(&server, stream->bytes, a);
    server_receive(&server, stream->bytes + a, b - a);
    server_receive(&server, stream->bytes + b, stream->len - b);
    cr_assert_eq(got.verdict, want->verdict, "split %zu %zu: verdict %d", a, b, got.verdict);
    cr_assert_eq(got.len, want->len, "split %zu %zu: %zu bytes", a, b, got.len);
    cr_assert_eq(memcmp(got.reply, want->reply, got.len), 0, "split %zu %zu: bytes differ", a, b);
    cr_assert_eq(got.requests, want->requests, "split %zu %zu: %lu requests", a, b,
                 (unsigned long)got.requests);
}

/* Every way to cut it into up to three pieces, and one byte at a time. */
static void expect_every_split(const char *name, uint32_t limit, const struct stream *stream,
                               const struct served *want)
{
    for (size_t a = 0; a <= stream->len; a++) {
        for (size_t b = a; b <= stream->len; b++)
            expect_split(name, limit, stream, a, b, want);
    }
    static struct server server;
    static struct served got;
    server_start(&server, name, limit, &got);
    for (size_t i = 0; i < stream->len; i++)
        server_receive(&server, stream->bytes + i, 1);
    cr_assert_eq(got.verdict, want->verdict);
    cr_assert_eq(got.len, want->len);
    cr_assert_eq(memcmp(got.reply, want->reply, got.len), 0);
    cr_assert_eq(got.requests, want->requests);
}

static void served_same(struct served *want, const struct stream *stream, size_t len)
{
    memset(want, 0, sizeof(*want));
    memcpy(want->reply, stream->bytes, len);
    want->len = len;
}

Test(workload_table, finds_each_by_name_and_nothing_else)
{
    char names[64];
    cr_assert_eq(weir__workload_find("echo"), &weir__workload_echo);
    cr_assert_eq(weir__workload_find("frame"), &weir__workload_frame);
    cr_assert_null(weir__workload_find("ech"));
    cr_assert_null(weir__workload_find(""));
    weir__workload_names(names, sizeof(names));
    cr_assert_str_eq(names, "echo, frame, sink, source");
    weir__workload_names(names, 6);
    cr_assert_str_eq(names, "echo,");
    for (size_t i = 0; weir__workloads[i]; i++)
        cr_assert_leq(weir__workloads[i]->state_bytes, WEIR_WORKLOAD_STATE_BYTES);
}

Test(workload_echo, answers_every_split_with_the_input_itself)
{
    struct stream stream = {.len = 40};
    struct served want;
    for (size_t i = 0; i < stream.len; i++)
        stream.bytes[i] = (uint8_t)(i * 37);
    served_same(&want, &stream, stream.len);
    expect_every_split("echo", 0, &stream, &want);

    struct weir_workload_io io = {0};
    weir__workload_echo.feed(NULL, stream.bytes, stream.len, &io);
    cr_assert(io.reply_is_input && io.reply == stream.bytes && io.reply_len == stream.len);
}

Test(workload_frame, answers_frames_of_many_sizes_in_every_split)
{
    struct stream stream = {0};
    struct served want;
    static const uint32_t sizes[] = {0, 1, 2, 3, 0, 0, 17, 5, 32};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        stream_add_frame(&stream, sizes[i], (uint8_t)(i * 31));
    served_same(&want, &stream, stream.len);
    want.requests = 9;
    expect_every_split("frame", 0, &stream, &want);
}

Test(workload_frame, takes_a_body_of_exactly_the_limit)
{
    struct stream stream = {0};
    struct served want;
    stream_add_frame(&stream, 20, 1);
    served_same(&want, &stream, stream.len);
    want.requests = 1;
    expect_every_split("frame", 20, &stream, &want);
}

Test(workload_frame, refuses_a_body_past_the_limit_after_answering_what_came_before)
{
    struct stream stream = {0};
    struct served want;
    stream_add_frame(&stream, 20, 1);
    stream_add_frame(&stream, 0, 0);
    size_t good = stream.len;
    stream_add_frame(&stream, 21, 1);
    served_same(&want, &stream, good);
    want.requests = 2;
    want.verdict = -EMSGSIZE;
    expect_every_split("frame", 20, &stream, &want);
}

Test(workload_frame, refuses_the_longest_length_there_is)
{
    struct stream stream = {0};
    struct served want = {.verdict = -EMSGSIZE};
    stream_add_header(&stream, UINT32_MAX);
    expect_every_split("frame", 0, &stream, &want);
}

Test(workload_frame, allows_one_mebibyte_by_default_and_no_more)
{
    struct stream stream = {0};
    struct served want;
    stream_add_header(&stream, 1u << 20);
    served_same(&want, &stream, 4);
    expect_every_split("frame", 0, &stream, &want);

    stream.len = 0;
    stream_add_header(&stream, (1u << 20) + 1);
    memset(&want, 0, sizeof(want));
    want.verdict = -EMSGSIZE;
    expect_every_split("frame", 0, &stream, &want);
}

Test(workload_frame, answers_an_unfinished_body_before_its_end_has_come)
{
    struct stream stream = {0};
    static struct server server;
    static struct served got;
    stream_add_frame(&stream, 100, 3);
    server_start(&server, "frame", 0, &got);
    server_receive(&server, stream.bytes, 60);
    cr_assert_eq(got.len, 60);
    cr_assert_eq(got.requests, 0);
}

static void served_sum(struct served *want, uint64_t sum)
{
    for (int i = 0; i < 8; i++)
        want->reply[want->len++] = (uint8_t)(sum >> (56 - 8 * i));
}

Test(workload_sink, answers_only_who_asks_and_with_the_bytes_since_the_last_answer)
{
    struct stream stream = {0};
    struct served want = {.requests = 4};
    static const uint32_t sizes[] = {5, 40, 0, 1, 0, 0, 9};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        stream_add_frame(&stream, sizes[i], (uint8_t)(i * 31));
    served_sum(&want, 45);
    served_sum(&want, 1);
    served_sum(&want, 0);
    expect_every_split("sink", 0, &stream, &want);
}

Test(workload_sink, takes_bodies_past_the_limit_of_frames)
{
    static uint8_t body[100000];
    struct stream stream = {0};
    static struct server server;
    static struct served got;
    stream_add_header(&stream, 20 * sizeof(body));
    server_start(&server, "sink", 0, &got);
    server_receive(&server, stream.bytes, stream.len);
    for (int i = 0; i < 20; i++)
        server_receive(&server, body, sizeof(body));
    cr_assert_eq(got.len, 0);
    cr_assert_eq(got.requests, 1);
    server_receive(&server, (const uint8_t *)"\0\0\0\0", 4);
    cr_assert_eq(got.len, 8);
    cr_assert_eq(memcmp(got.reply, "\0\0\0\0\0\x1e\x84\x80", 8), 0, "two million");
}

Test(workload_source, answers_each_length_with_as_many_bytes)
{
    struct stream stream = {0};
    struct served want = {.requests = 4};
    static const uint32_t sizes[] = {3, 300, 0, 7};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        stream_add_header(&stream, sizes[i]);
        for (uint32_t k = 0; k < sizes[i]; k++)
            want.reply[want.len++] = (uint8_t)(k % 251);
    }
    expect_every_split("source", 0, &stream, &want);
}

Test(workload_source, refuses_more_than_its_limit)
{
    struct stream stream = {0};
    struct served want = {.verdict = -EMSGSIZE};
    stream_add_header(&stream, WEIR_SOURCE_LIMIT_BYTES + 1);
    expect_every_split("source", 0, &stream, &want);
}
