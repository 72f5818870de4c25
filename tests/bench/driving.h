/*
 * A load driver with one target, a wrong_server in this test's own threads: how the driver's tests
 * start both, run slices, and what they expect of one. All of it is for one test at a time.
 */
#ifndef WEIR_TESTS_BENCH_DRIVING_H
#define WEIR_TESTS_BENCH_DRIVING_H

#include "bench/driver.h"
#include "tests/bench/wrong_server.h"

#define SLICE_NS 50000000u
/* Some tests wait for it; no good answer takes as long. */
#define ANSWER_TIMEOUT_NS 2000000000u

extern struct wrong_server server;
extern struct driver *driver;
extern struct driver_target target; /* a test sets its shape and time limits before it is opened */
extern struct driver_slice slice;   /* the last one's result */
extern uint32_t id;                 /* of the target opened last */

/* The .init of every test: one that hangs dies of SIGALRM. (Criterion's .timeout leaks, which
 * LeakSanitizer minds.) */
void bound(void);

/* The driver first: it is forked before this process has threads. */
void start_driver(unsigned threads);
void start_server(enum driver_workload workload, uint32_t conns, uint32_t size);
void open_target(void);
/* All three, with one thread. */
void start(enum driver_workload workload, uint32_t conns, uint32_t size);
/* Closes the target, which must be in order, and ends the driver. */
void stop(void);

void run_slice(void);
/* A slow machine needs several slices to come to what goes wrong. */
void run_until_failure(void);

/* Nothing went wrong, and so many connections are open. */
void expect_verified(uint32_t conns);
/* And each of them was answered. */
void expect_clean(uint32_t conns);
/* Runs slices, which are clean, on the connections that were made at first, and stops. */
void expect_clean_slices(uint32_t conns);
/* The slice's first error contains `text`. */
void expect_error(const char *text);

/* Runs until connection 2 of 5 has gone wrong so, in the shape that the target has. */
void run_wrong(enum fault fault, uint32_t request, uint32_t byte);
/* It alone failed, and the others went on and go on; ends the driver. */
void expect_one_failure(const char *text, uint64_t wrong);

#endif
