/*
 * The workloads by name. One table serves `serve`, `compare`, `load` and their --help; nobody
 * names a workload's functions directly.
 */
#ifndef WEIR_BENCH_WORKLOADS_H
#define WEIR_BENCH_WORKLOADS_H

#include <weir/workload.h>

/* All workloads, ended by NULL, in the order --help lists them. Static storage. */
extern const struct weir_workload *const weir__workloads[];

/* The workload called `name`, or NULL if there is none. */
const struct weir_workload *weir__workload_find(const char *name);

/* Writes "echo, frame, ..." into text (capacity bytes, NUL included), for the message about a wrong
 * name. */
void weir__workload_names(char *text, size_t capacity);

extern const struct weir_workload weir__workload_echo;
extern const struct weir_workload weir__workload_frame;
extern const struct weir_workload weir__workload_sink;
extern const struct weir_workload weir__workload_source;

/* Writes what `source` answers a request for `count` bytes. */
void weir__source_fill(uint8_t *bytes, size_t count);

#endif
