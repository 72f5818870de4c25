/*
 * The options that say how a server is loaded, the same for `compare` and `load`: a child parser of
 * both (argp). Its input is a struct shape; at the end of the command line every default is filled
 * in, and an option that the shape has no use for is refused.
 */
#ifndef WEIR_BENCH_SHAPE_CLI_H
#define WEIR_BENCH_SHAPE_CLI_H

#include "bench/driver.h"
#include "bench/shape.h"

#include <argp.h>

extern const struct argp weir__shape_argp;

/*
 * At the end of the command line: the workload by name, `given` or NULL, where the shape does not
 * bring its own; what the driver calls it, in `*workload`; and where `*size_bytes` is 0, the size
 * that the shape has by default. Returns the name. What does not fit together ends the process.
 */
const char *weir__shape_check_workload(struct argp_state *state, const struct shape *shape,
                                       const char *given, enum driver_workload *workload,
                                       uint32_t *size_bytes);

#endif
