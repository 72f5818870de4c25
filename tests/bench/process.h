/* Runs a program to its end for a test and keeps what it wrote. Bounded in time; ends only what it
 * started. */
#ifndef WEIR_TESTS_BENCH_PROCESS_H
#define WEIR_TESTS_BENCH_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct process {
    pid_t pid;
    int status; /* exit status, or 128 + signal */
    char *out;  /* standard output, after process_wait */
    char *err;  /* standard error, the same */
    int out_fd;
    int err_fd;
    unsigned nofile; /* set before process_start: RLIMIT_NOFILE of the child; 0: as it is */
};

/* Starts argv[0]; output goes to memory files. Asserts on failure. `process` was zeroed, or is what
 * an earlier start left, which is freed. */
void process_start(struct process *process, char *const argv[]);

/* Waits until it ends; kills it and fails the test after `seconds`. */
void process_wait(struct process *process, double seconds);

/* Starts and waits. Returns the exit status. */
int process_run(struct process *process, char *const argv[], double seconds);

/* Waits until standard error (or output) holds `text`; fails the test after `seconds`. */
void process_expect(struct process *process, bool err, const char *text, double seconds);

/* What it has written so far; the caller frees. */
char *process_text(const struct process *process, bool err);

void process_free(struct process *process);

#endif
