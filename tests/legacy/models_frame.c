/* Conformance of the models: `frame`, and the two of one-way streams, `sink` and `source`. */
#include "tests/legacy/models.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

TestSuite(models_frame, .timeout = 3 * LIMIT_S);
TestSuite(models_stream, .timeout = 3 * LIMIT_S);

enum { HEADER_BYTES = 4 };

static void put_length(uint8_t *at, uint32_t length)
{
    uint32_t wire = htobe32(length);
    memcpy(at, &wire, HEADER_BYTES);
}

/* A header and so many bytes of body; the caller frees. */
static uint8_t *frame(size_t body)
{
    uint8_t *data = pattern(HEADER_BYTES + body, (uint32_t)body);
    put_length(data, (uint32_t)body);
    return data;
}

static void expect_frame(int fd, size_t body)
{
    uint8_t *data = frame(body);
    expect_echo(fd, data, HEADER_BYTES + body);
    free(data);
}

Test(models_frame, a_frame_of_any_length_comes_back)
{
    static const size_t bodies[] = {0, 1, 100, 65536, 1 << 20};
    struct server server = {0};
    need_workload("frame");
    SERVER_START(&server, 1, "frame");
    int fd = client(&server);
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        expect_frame(fd, bodies[i]);
    expect_frame(fd, 0);
    close(fd);
    await_counter(&server, "requests", 6);
    cr_assert_eq(server_counter(&server, "requests"), 6);
    server_stop(&server);
}

Test(models_frame, a_frame_cut_anywhere_is_one_frame)
{
    struct server server = {0};
    need_workload("frame");
    uint8_t *data = frame(300);
    SERVER_START(&server, 1, "frame");
    int fd = client(&server);
    for (size_t cut = 1; cut < 7; cut++) {
        send_whole(fd, data, cut);
        pause_ms(3); /* so that most likely the server sees two pieces; either way is right */
        talk(fd, data + cut, HEADER_BYTES + 300 - cut, data, HEADER_BYTES + 300);
    }
    close(fd);
    free(data);
    server_stop(&server);
}

Test(models_frame, many_frames_in_one_write_are_all_answered)
{
    enum { FRAMES = 500, BODY = 60, WHOLE = HEADER_BYTES + BODY };
    struct server server = {0};
    need_workload("frame");
    uint8_t *data = pattern(FRAMES * WHOLE, 2);
    for (int i = 0; i < FRAMES; i++)
        put_length(data + (size_t)i * WHOLE, BODY);
    SERVER_START(&server, 1, "frame");
    int fd = client(&server);
    expect_echo(fd, data, FRAMES * WHOLE);
    close(fd);
    await_counter(&server, "requests", FRAMES);
    free(data);
    server_stop(&server);
}

Test(models_frame, too_long_a_frame_ends_its_connection_after_the_answers_before_it)
{
    static const uint8_t three[] = {
        0, 0, 0, 3,   'a', 'b', 'c', 0,
        0, 0, 1, 'd', 0,   16,  0,   1}; /* two good ones, then 1 MiB and a byte */
    struct server server = {0};
    unsigned conns = at_once(2);
    need_workload("frame");
    SERVER_START(&server, conns, "frame");
    int good = conns > 1 ? client(&server) : -1;
    if (conns > 1)
        expect_frame(good, 10);
    int bad = client(&server);
    talk(bad, three, sizeof three, three, sizeof three - HEADER_BYTES);
    expect_eof(bad);
    close(bad);
    if (conns == 1)
        good = client(&server);
    expect_frame(good, 10);
    close(good);
    await_counter(&server, "refused", 1);
    cr_assert_eq(server_counter(&server, "refused"), 1);
    server_stop(&server);
}

Test(models_frame, the_longest_frame_can_be_set)
{
    uint8_t header[HEADER_BYTES];
    struct server server = {0};
    need_workload("frame");
    SERVER_START(&server, 1, "frame", "--max-frame", "1k");
    int fd = client(&server);
    expect_frame(fd, 1024);
    put_length(header, 1025);
    send_whole(fd, header, sizeof header);
    expect_eof(fd);
    close(fd);
    server_stop(&server);
}

/* --- one way ------------------------------------------------------------------------------------
 */

Test(models_stream, sink_acknowledges_every_byte_that_it_took)
{
    enum { BYTES = 4 << 20 };
    struct server server = {0};
    uint8_t end[HEADER_BYTES] = {0}, ack[8];
    uint64_t taken = htobe64(BYTES);
    need_workload("sink");
    uint8_t *message = frame(BYTES);
    memcpy(ack, &taken, sizeof ack);
    SERVER_START(&server, 1, "sink");
    int fd = client(&server);
    for (int i = 0; i < 3; i++) {
        send_whole(fd, message, HEADER_BYTES + BYTES);
        talk(fd, end, sizeof end, ack, sizeof ack);
    }
    close(fd);
    free(message);
    server_stop(&server);
}

Test(models_stream, source_sends_as_much_as_is_asked_for)
{
    enum { BYTES = 1 << 20, TIMES = 8 };
    struct server server = {0};
    uint8_t asks[TIMES * HEADER_BYTES];
    need_workload("source");
    uint8_t *all = malloc((size_t)TIMES * BYTES);
    for (int i = 0; i < TIMES; i++) {
        put_length(asks + i * HEADER_BYTES, BYTES);
        for (size_t at = 0; at < BYTES; at++)
            all[(size_t)i * BYTES + at] = (uint8_t)(at % 251);
    }
    SERVER_START(&server, 1, "source");
    int fd = client(&server);
    talk(fd, asks, sizeof asks, all, (size_t)TIMES * BYTES); /* all ahead */
    talk(fd, asks, HEADER_BYTES, all, BYTES);
    close(fd);
    free(all);
    server_stop(&server);
}

Test(models_stream, a_slow_reader_of_source_gets_every_byte)
{
    enum { BYTES = 1 << 20, TIMES = 16 };
    struct server server = {0};
    uint8_t asks[TIMES * HEADER_BYTES];
    need_workload("source");
    uint8_t *all = malloc((size_t)TIMES * BYTES);
    for (int i = 0; i < TIMES; i++) {
        put_length(asks + i * HEADER_BYTES, BYTES);
        for (size_t at = 0; at < BYTES; at++)
            all[(size_t)i * BYTES + at] = (uint8_t)(at % 251);
    }
    SERVER_START(&server, 1, "source");
    int fd = client_small(&server);
    send_whole(fd, asks, sizeof asks);
    pause_ms(20);
    receive_whole(fd, all, 1000);
    pause_ms(20);
    receive_whole(fd, all + 1000, (size_t)TIMES * BYTES - 1000);
    close(fd);
    free(all);
    server_stop(&server);
}
