/*
 * The pre-flight checks of io_uring: what lets it in or not, and what the library found when it was
 * asked for (struct limits_uring). Without it epoll serves, so that a refusal is fatal only where
 * it was named.
 */
#include <stdio.h>

#include "bench/preflight_check.h"

/* Of the rings of one loop, before Linux 5.12 counted them as ordinary memory. */
#define RING_BYTES (2u << 20)

static enum limit_verdict refused(const struct check *check)
{
    return check->need->uring->needed ? LIMIT_MISSING : LIMIT_WARN;
}

static struct limit *add_words(struct check *check, const char *name, const char *have,
                               const char *need, bool holds, const char *cure)
{
    struct limit *limit = weir__check_add(check, name, holds, 1, refused(check), "%s", cure);
    limit->unit = LIMIT_WORD;
    limit->have_word = have;
    limit->need_word = need;
    return limit;
}

static void add_unknown_words(struct check *check, const char *name, const char *need)
{
    struct limit *limit = weir__check_unknown(check, name, 0);
    limit->unit = LIMIT_WORD;
    limit->need_word = need;
}

/* What the sysctl or a filter forbids may be allowed to this process all the same. */
static bool works(const struct check *check)
{
    return check->need->uring->result == 0;
}

static void check_disabled(struct check *check)
{
    static const char name[] = "kernel.io_uring_disabled";
    static const char *const words[] = {"0", "1", "2"};
    uint64_t disabled, group;
    if (!weir__check_exists(check, "proc/sys/kernel/io_uring_disabled"))
        return; /* before Linux 6.6 nothing of the kind forbids it */
    if (!weir__check_number(check, "proc/sys/kernel/io_uring_disabled", &disabled) ||
        disabled > 2) {
        add_unknown_words(check, name, "0");
        return;
    }
    struct limit *limit =
        add_words(check, name, words[disabled], "0", disabled == 0 || works(check),
                  weir__check_sysctl(check, SYSCTL_HOST, "kernel.io_uring_disabled=0"));
    if (disabled == 1 && weir__check_number(check, "proc/sys/kernel/io_uring_group", &group))
        snprintf(limit->note, sizeof(limit->note),
                 "allowed to group %lld (kernel.io_uring_group) and CAP_SYS_ADMIN",
                 (long long)group);
}

static void check_seccomp(struct check *check)
{
    static const char *const modes[] = {"no filter", "strict", "a filter"};
    uint64_t mode;
    if (!weir__check_keyed(check, "proc/self/status", "Seccomp:", 10, &mode) || mode > 2) {
        add_unknown_words(check, "seccomp", "no filter");
        return;
    }
    struct limit *limit =
        add_words(check, "seccomp", modes[mode], "no filter", mode == 0 || works(check),
                  "allow io_uring_setup, io_uring_enter and io_uring_register in the container's "
                  "profile (--security-opt seccomp=PROFILE)");
    if (mode != 0 && works(check))
        snprintf(limit->note, sizeof(limit->note), "it lets io_uring pass");
}

static void check_memlock(struct check *check)
{
    static const char name[] = "RLIMIT_MEMLOCK";
    uint64_t have = weir__check_rlimit(RLIMIT_MEMLOCK);
    unsigned major, minor;
    struct limit *limit;
    if (!weir__check_release(check, &major, &minor)) {
        limit = weir__check_unknown(check, name, RING_BYTES);
    } else if (major > 5 || (major == 5 && minor >= 12)) {
        limit = weir__check_free(check, name, 0, "rings do not count since Linux 5.12");
        limit->have = have;
    } else {
        limit = weir__check_add(check, name, have, RING_BYTES, refused(check),
                                "ulimit -l unlimited (as root, or limits.conf, or systemd's "
                                "LimitMEMLOCK, or a container's --ulimit memlock=-1)");
    }
    limit->unit = LIMIT_BYTES;
}

static void check_probe(struct check *check)
{
    const struct limits_uring *uring = check->need->uring;
    struct limit *limit = add_words(check, "io_uring", works(check) ? "works" : "refused", "works",
                                    works(check), uring->text);
    if (works(check))
        snprintf(limit->note, sizeof(limit->note), "%s", uring->text);
}

void weir__check_uring(struct check *check)
{
    check_disabled(check);
    check_seccomp(check);
    check_memlock(check);
    check_probe(check);
}
