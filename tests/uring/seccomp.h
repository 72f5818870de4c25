/*
 * Makes a system call fail with an error of choice, from now on, in this process and its children:
 * a seccomp filter, in plain BPF. For tests that run in a process of their own, as Criterion's do.
 */
#ifndef WEIR_TESTS_URING_SECCOMP_H
#define WEIR_TESTS_URING_SECCOMP_H

#include <stdint.h>

enum { SECCOMP_ANY = -1 };

/* Fails `call` (an __NR_…) with `error`, where its argument number `argument` (or SECCOMP_ANY) has
 * any of the bits `mask` set, in its low 32 bits. */
void seccomp_fail(long call, int error, int argument, uint32_t mask);

/* The same for the first so many of these calls; the later ones pass. Once in a process. */
void seccomp_fail_times(long call, int error, int argument, uint32_t mask, int times);

#endif
