/*
 * What every test of the proactor needs: an engine with its pool, ops that record what became of
 * them, sockets, and a way to run the engine until something holds, bounded in time.
 */
#ifndef WEIR_TESTS_URING_HARNESS_H
#define WEIR_TESTS_URING_HARNESS_H

#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/socket.h>

#include "uring/uring.h"

enum { RECORDS = 64, TURN_NS = 20 * 1000 * 1000 };
#define PATIENCE_NS UINT64_C(15000000000) /* only to end a hang, and before the test's own time */

/* An op and all its results. */
struct recorded {
    struct weir__op op;
    struct fixture *fixture;
    int count;    /* completions */
    int finals;   /* of those, without MORE: 0 or 1 for each submission */
    int32_t last; /* res of the last one */
    int32_t results[RECORDS];
    uint8_t *bytes; /* RECV: what was received, in order */
    size_t bytes_count, bytes_room;
    bool keep;                  /* RECV: buffers stay lent */
    struct recorded *next_live; /* of all not forgotten: reachable where a test ends early */
    bool rearm; /* submit again when ended by anything but EOF, an error or a cancel */
};

struct fixture {
    struct weir__engine *engine;
    struct weir__buf_pool pool;
    struct weir__engine_env env;
    struct weir__op *called;           /* CALL ops given to the helper threads that we play */
    struct recorded *starved[RECORDS]; /* want to be armed again once a buffer is back */
    int starved_count;
};

struct fixture_options {
    struct weir__engine_options engine;
    struct weir__uring_tuning tuning;
    uint32_t bufs, buf_bytes;
};

void fixture_open(struct fixture *fixture, struct fixture_options options);
/* Also checks that every buffer came back. */
void fixture_close(struct fixture *fixture);

/* An op of this kind on fd, idle. */
struct recorded *record(struct fixture *fixture, enum weir__op_kind kind, int fd);
void forget(struct recorded *recorded);
/* Submits; a DONE answer is recorded like a completion. */
void submit(struct recorded *recorded);
void cancel(struct recorded *recorded);
/* Turns the engine until the op has ended, or the test fails. Returns the last result. */
int32_t finish(struct recorded *recorded);
int32_t submit_and_finish(struct recorded *recorded);
/* Arms again what found no buffer, as far as there are some now. Every turn does. */
void feed_starved(struct fixture *fixture);
/* One turn that does not block for long. */
int turn(struct fixture *fixture);
int turn_now(struct fixture *fixture);

#define RUN_UNTIL(fixture, condition)                                                              \
    do {                                                                                           \
        for (uint64_t end_ns_ = clock_ns() + PATIENCE_NS; !(condition) && clock_ns() < end_ns_;)   \
            cr_assert(turn(fixture) >= 0);                                                         \
        cr_assert(condition);                                                                      \
    } while (0)

uint64_t clock_ns(void);
struct weir__engine_counters counters(struct fixture *fixture);
struct weir__uring_counters more_counters(struct fixture *fixture);

/* A connected pair of Unix stream sockets. */
void pair(int fds[2]);
/* A connected pair over 127.0.0.1. */
void tcp_pair(int fds[2]);
/* Waits until a TCP socket has got so many bytes in all. (The sender sees that 40 ms later: the
 * kernel delays what acknowledges them.) */
void await_arrival(int fd, uint64_t bytes);
/* A listener on 127.0.0.1 and its port. */
int listener(uint16_t *port);
int connect_to(uint16_t port);

/* The tiers that each test of a matter runs on: features forced off. */
struct tier {
    char name[32];
    uint64_t off, on;
};
extern const struct tier tiers[];
extern const size_t tiers_count;
/* A copy in memory that Criterion may free. */
struct criterion_test_params tier_params(void);

#endif
