/* Failing system calls by a seccomp filter; see seccomp.h. */
#include "seccomp.h"

#include <criterion/criterion.h>

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LOW = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0 };

/* Answers `call` with `verdict` where its argument has a bit of the mask. With the flag for it, the
 * descriptor of the filter's listener. -errno where that fails. */
static int install(long call, uint32_t verdict, int argument, uint32_t mask, unsigned flags)
{
    uint32_t at = (uint32_t)offsetof(struct seccomp_data, args) +
                  8 * (uint32_t)(argument < 0 ? 0 : argument) + LOW;
    struct sock_filter any[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, verdict),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_filter some[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, mask, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, verdict),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof any / sizeof any[0], .filter = any};
    if (argument != SECCOMP_ANY)
        program = (struct sock_fprog){.len = sizeof some / sizeof some[0], .filter = some};
    cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    long fd = syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
    return fd < 0 ? -errno : (int)fd;
}

void seccomp_fail(long call, int error, int argument, uint32_t mask)
{
    int rc = install(call, SECCOMP_RET_ERRNO | (uint32_t)error, argument, mask, 0);
    cr_assert_eq(rc, 0, "seccomp: %s", strerror(-rc));
}

static struct {
    int fd, error, times;
} refusals;

/* The filter's listener, which itself never makes the call. A call interrupted meanwhile (by a
 * signal, or by io_uring's own work) is gone, ENOENT, and comes again: it was not refused. */
static void *refuse_some(void *unused)
{
    for (;;) {
        struct seccomp_notif call = {0};
        if (ioctl(refusals.fd, SECCOMP_IOCTL_NOTIF_RECV, &call) < 0) {
            if (errno == EINTR || errno == ENOENT)
                continue;
            return unused;
        }
        struct seccomp_notif_resp answer = {.id = call.id};
        if (refusals.times > 0)
            answer.error = -refusals.error;
        else
            answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        if (ioctl(refusals.fd, SECCOMP_IOCTL_NOTIF_SEND, &answer) == 0)
            refusals.times -= refusals.times > 0;
    }
}

void seccomp_fail_times(long call, int error, int argument, uint32_t mask, int times)
{
    pthread_t thread;
    refusals.error = error;
    refusals.times = times;
    refusals.fd =
        install(call, SECCOMP_RET_USER_NOTIF, argument, mask, SECCOMP_FILTER_FLAG_NEW_LISTENER);
    if (refusals.fd < 0)
        cr_skip_test("seccomp without a listener of ours: %s", strerror(-refusals.fd));
    cr_assert_eq(pthread_create(&thread, NULL, refuse_some, NULL), 0);
    pthread_detach(thread);
}
