/*
 * The pre-flight checks of workers: how many threads and processes the machine, the user and the
 * cgroup allow. The kernel counts both alike.
 */
#include <stdio.h>

#include "bench/preflight_check.h"

/* The driver's and the servers' own. */
#define SPARE_TASKS 64u

#define CAP_SYS_ADMIN_BIT    21
#define CAP_SYS_RESOURCE_BIT 24

/* All threads that there are: "0.00 0.01 0.05 1/166 1234". */
static bool tasks_now(const struct check *check, uint64_t *now)
{
    return weir__check_keyed(check, "proc/loadavg", "/", 10, now);
}

static void check_sysctl(struct check *check, const char *name, const char *file, uint64_t need)
{
    uint64_t most, now;
    if (!weir__check_number(check, file, &most) || !tasks_now(check, &now))
        weir__check_unknown(check, name, need);
    else
        weir__check_add(check, name, most > now ? most - now : 0, need, LIMIT_MISSING, "%s",
                        weir__check_sysctl(check, SYSCTL_HOST, "%s=%llu", name,
                                           (unsigned long long)(now + need)));
}

/* The kernel asks no such limit of the machine's root, nor of these capabilities; in a user
 * namespace neither counts. */
static bool is_exempt(const struct check *check, bool *known)
{
    uint64_t uid, caps, map[3];
    *known = weir__check_keyed(check, "proc/self/status", "Uid:", 10, &uid) &&
             weir__check_keyed(check, "proc/self/status", "CapEff:", 16, &caps) &&
             weir__check_numbers(check, "proc/self/uid_map", map, 3) == 3;
    if (!*known || map[0] != 0 || map[1] != 0 || map[2] != UINT32_MAX)
        return false;
    return uid == 0 || caps >> CAP_SYS_ADMIN_BIT & 1 || caps >> CAP_SYS_RESOURCE_BIT & 1;
}

static void check_nproc(struct check *check, uint64_t need)
{
    static const char name[] = "RLIMIT_NPROC";
    bool known;
    bool exempt = is_exempt(check, &known);
    uint64_t have = weir__check_rlimit(RLIMIT_NPROC);
    if (exempt) {
        weir__check_free(check, name, need, "root's do not count");
    } else if (!known && have < need) {
        weir__check_unknown(check, name, need);
    } else {
        weir__check_add(check, name, have, need, LIMIT_MISSING,
                        "ulimit -u %llu (as root, or limits.conf, or systemd's LimitNPROC)",
                        (unsigned long long)need);
    }
}

static bool pids_left(const struct check *check, const char *folder, uint64_t *left)
{
    char file[600];
    uint64_t most, now;
    snprintf(file, sizeof(file), "%s/pids.max", folder);
    if (!weir__check_number(check, file, &most))
        return false;
    snprintf(file, sizeof(file), "%s/pids.current", folder);
    if (!weir__check_number(check, file, &now))
        now = 0;
    *left = most == UINT64_MAX ? most : most > now ? most - now : 0;
    return true;
}

static void check_cgroup(struct check *check, uint64_t need)
{
    static const char name[] = "cgroup pids.max";
    uint64_t left = UINT64_MAX;
    if (!weir__check_exists(check, "proc/self/cgroup")) {
        weir__check_unknown(check, name, need);
        return;
    }
    weir__check_cgroup(check, "pids", pids_left, &left);
    weir__check_add(check, name, left, need, LIMIT_MISSING,
                    "raise it by %llu: systemd's TasksMax, a container's --pids-limit",
                    (unsigned long long)(need - left));
}

void weir__check_tasks(struct check *check)
{
    uint64_t need = check->need->threads + check->need->processes + SPARE_TASKS;
    check_sysctl(check, "kernel.threads-max", "proc/sys/kernel/threads-max", need);
    check_sysctl(check, "kernel.pid_max", "proc/sys/kernel/pid_max", need);
    check_nproc(check, need);
    check_cgroup(check, need);
}
