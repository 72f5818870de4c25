/*
 * Server models that are not engines: they own their whole loop, and serve a workload (or, the bare
 * ones, only a few) to be measured against the runtime. For the benchmark and the tests; not
 * installed.
 */
#ifndef WEIR_MODEL_H
#define WEIR_MODEL_H

#include <stdint.h>
#include <stddef.h>

struct weir_workload;

struct weir_model_options {
    int listen_fd;     /* listening, blocking; NOT consumed */
    int stop_fd;       /* becomes readable when the model is to stop; NOT consumed */
    unsigned workers;  /* threads or processes of a pool; 0: the model's default */
    uint64_t drain_ns; /* how long what is in flight may take after stop */
    const struct weir_workload *workload; /* NULL: echo */
};

struct weir_model_stats {
    uint64_t accepted, closed, bytes_in, bytes_out, errors;
    char features[256]; /* comma list of what was granted; "" if nothing is worth saying */
};

struct weir_model {
    const char *name;
    const char *summary;
    const char *const *workloads; /* those it serves, NULL at the end; NULL: any */
    /* Serves until stop_fd is readable. `ready` is called once, when connections are accepted, with
     * what was granted. 0, or -errno with what failed, why and the cure in `why`. */
    int (*serve)(const struct weir_model_options *options, struct weir_model_stats *stats,
                 void (*ready)(void *argument, const char *features), void *argument, char *why,
                 size_t why_bytes);
};

/* NULL-terminated (core/model_table.c). */
extern const struct weir_model *const weir_models[];

#endif
