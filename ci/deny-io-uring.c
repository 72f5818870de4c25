/*
 * Runs a command where io_uring is forbidden, as in many containers: io_uring_setup fails with
 * EPERM, by a seccomp filter that the command and all its children inherit and cannot take off.
 * `ci/test --without-io-uring` and tests/ci run the suites under it. Needs no privilege.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The same number on every architecture: it came after they were unified. */
#ifndef __NR_io_uring_setup
#define __NR_io_uring_setup 425
#endif

static int deny_io_uring(void)
{
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {
        .len = sizeof(program) / sizeof(program[0]),
        .filter = program,
    };

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -errno;
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
        return -errno;
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: deny-io-uring COMMAND [ARGUMENT...]\n"
                        "Runs COMMAND where io_uring_setup fails with EPERM.\n");
        return 2;
    }
    int result = deny_io_uring();
    if (result < 0) {
        fprintf(stderr, "deny-io-uring: cannot install a seccomp filter: %s\n", strerror(-result));
        return 126;
    }
    if (syscall(__NR_io_uring_setup, 0, NULL) != -1 || errno != EPERM) {
        fprintf(stderr, "deny-io-uring: the filter is installed, yet io_uring_setup answers %s\n",
                strerror(errno));
        return 126;
    }
    execvp(argv[1], argv + 1);
    fprintf(stderr, "deny-io-uring: %s: %s\n", argv[1], strerror(errno));
    return 127;
}
