/*
 * The pre-flight checks of descriptors: of a process, of the machine, and of what epoll watches.
 */
#include <errno.h>
#include <stdio.h>

#include "bench/preflight_check.h"

static void check_nofile(struct check *check, const char *name, uint64_t conns, uint64_t soft)
{
    if (conns == 0)
        return;
    uint64_t need = conns + WEIR__LIMITS_SPARE_FDS, have = weir__check_rlimit(RLIMIT_NOFILE);
    struct limit *limit =
        weir__check_add(check, name, have, need, LIMIT_MISSING,
                        "ulimit -Hn %llu (as root, or limits.conf, or systemd's LimitNOFILE, or a "
                        "container's --ulimit nofile=%llu), or fewer --conns",
                        (unsigned long long)need, (unsigned long long)need);
    if (soft < have)
        snprintf(limit->note, sizeof(limit->note), "soft %llu; the commands raise it themselves",
                 (unsigned long long)soft);
}

static void check_nr_open(struct check *check)
{
    uint64_t most = check->need->driver_conns > check->need->server_conns
                        ? check->need->driver_conns
                        : check->need->server_conns;
    uint64_t have, need = most + WEIR__LIMITS_SPARE_FDS;
    if (!weir__check_number(check, "proc/sys/fs/nr_open", &have)) {
        weir__check_unknown(check, "fs.nr_open", need);
        return;
    }
    /* Only what RLIMIT_NOFILE can be raised to: wanting it is reported there already. */
    weir__check_add(
        check, "fs.nr_open", have, need, LIMIT_WARN, "%s, before RLIMIT_NOFILE is raised",
        weir__check_sysctl(check, SYSCTL_HOST, "fs.nr_open=%llu", (unsigned long long)need));
}

static void check_file_max(struct check *check)
{
    uint64_t nr[3];
    uint64_t need = weir__check_ends(check->need) + WEIR__LIMITS_SPARE_FDS;
    if (weir__check_numbers(check, "proc/sys/fs/file-nr", nr, 3) < 3) {
        weir__check_unknown(check, "fs.file-max", need);
        return;
    }
    uint64_t have = nr[2] > nr[0] ? nr[2] - nr[0] : 0; /* what others have not taken */
    weir__check_add(check, "fs.file-max", have, need, LIMIT_MISSING, "%s",
                    weir__check_sysctl(check, SYSCTL_HOST, "fs.file-max=%llu",
                                       (unsigned long long)(nr[0] + need)));
}

/* Counts every descriptor in every epoll of one user: the driver's, and those of reactors. */
static void check_watches(struct check *check)
{
    static const char name[] = "fs.epoll.max_user_watches";
    uint64_t have, need = weir__check_ends(check->need) + WEIR__LIMITS_SPARE_FDS;
    if (!weir__check_number(check, "proc/sys/fs/epoll/max_user_watches", &have))
        weir__check_unknown(check, name, need);
    else
        weir__check_add(check, name, have, need, LIMIT_MISSING, "%s",
                        weir__check_sysctl(check, SYSCTL_HOST, "fs.epoll.max_user_watches=%llu",
                                           (unsigned long long)need));
}

void weir__check_files(struct check *check)
{
    uint64_t soft = weir__check_rlimit(RLIMIT_NOFILE);
    weir__limits_raise_nofile(); /* where it fails, check_nofile shows what there is */
    check_nofile(check, "RLIMIT_NOFILE (driver)", check->need->driver_conns, soft);
    check_nofile(check, "RLIMIT_NOFILE (server)", check->need->server_conns, soft);
    check_nr_open(check);
    check_file_max(check);
    check_watches(check);
}
