/* `weir-bench instructions`; see instructions.c. */
#ifndef WEIR_BENCH_INSTRUCTIONS_H
#define WEIR_BENCH_INSTRUCTIONS_H

/* Returns the exit code. */
int weir_bench_instructions(int argc, char **argv);

#endif
