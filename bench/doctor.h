/* The subcommand `weir-bench doctor …`; returns its exit code. */
#ifndef WEIR_BENCH_DOCTOR_H
#define WEIR_BENCH_DOCTOR_H

int weir_bench_doctor(int argc, char **argv);

#endif
