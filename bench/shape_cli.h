/*
 * The options that say how a server is loaded, the same for `compare` and `load`: a child parser of
 * both (argp). Its input is a struct shape; at the end of the command line every default is filled
 * in, and an option that the shape has no use for is refused.
 */
#ifndef WEIR_BENCH_SHAPE_CLI_H
#define WEIR_BENCH_SHAPE_CLI_H

#include "bench/shape.h"

#include <argp.h>

extern const struct argp weir__shape_argp;

#endif
