/*
 * Why io_uring cannot be had here, told apart, each with its cure. Called once, by a failed open().
 */
#include "uring/uring.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>

static long read_number(const char *proc, const char *name)
{
    char path[256];
    long value = -1;
    snprintf(path, sizeof path, "%s/%s", proc, name);
    FILE *file = fopen(path, "re");
    if (!file)
        return -1;
    if (fscanf(file, "%ld", &value) != 1)
        value = -1;
    fclose(file);
    return value;
}

static long read_seccomp(const char *proc)
{
    char path[256], line[256];
    long mode = -1;
    snprintf(path, sizeof path, "%s/self/status", proc);
    FILE *file = fopen(path, "re");
    if (!file)
        return -1;
    while (mode < 0 && fgets(line, sizeof line, file))
        if (strncmp(line, "Seccomp:", 8) == 0)
            mode = strtol(line + 8, NULL, 10);
    fclose(file);
    return mode;
}

static uint64_t limit(int resource)
{
    struct rlimit now;
    if (getrlimit(resource, &now) < 0 || now.rlim_cur == RLIM_INFINITY)
        return UINT64_MAX;
    return now.rlim_cur;
}

void weir__uring_host_read(struct weir__uring_host *host, const char *proc)
{
    struct utsname name;
    *host = (struct weir__uring_host){
        .disabled = read_number(proc, "sys/kernel/io_uring_disabled"),
        .group = read_number(proc, "sys/kernel/io_uring_group"),
        .seccomp = read_seccomp(proc),
        .memlock = limit(RLIMIT_MEMLOCK),
        .nofile = limit(RLIMIT_NOFILE),
    };
    if (uname(&name) == 0)
        snprintf(host->release, sizeof host->release, "%.64s", name.release);
}

/* EPERM has three doors; the kernel closes the sysctl's before a filter's answer can be known, but
 * the filter is asked first, so a sysctl of 2 is a cause whatever else is. */
static void explain_eperm(const struct weir__uring_host *host, char *why, size_t why_bytes)
{
    if (host->disabled == 2)
        snprintf(why, why_bytes,
                 "io_uring_setup: EPERM: kernel.io_uring_disabled=2; set it to 0, "
                 "or --engines epoll");
    else if (host->disabled == 1)
        snprintf(why, why_bytes,
                 "io_uring_setup: EPERM: kernel.io_uring_disabled=1 lets in only group %ld "
                 "(kernel.io_uring_group) and CAP_SYS_ADMIN; join it, set the former to 0, or "
                 "--engines epoll",
                 host->group);
    else if (host->seccomp == 2)
        snprintf(why, why_bytes,
                 "io_uring_setup: EPERM: blocked by seccomp; allow io_uring_setup, "
                 "io_uring_enter and io_uring_register in the container's profile, "
                 "or --engines epoll");
    else
        snprintf(why, why_bytes,
                 "io_uring_setup: EPERM: neither the sysctl nor seccomp forbids it, "
                 "so a security module does (see the audit log); --engines epoll");
}

static void explain_enomem(const struct weir__uring_host *host, char *why, size_t why_bytes)
{
    if (host->memlock == UINT64_MAX)
        snprintf(why, why_bytes,
                 "io_uring_setup: ENOMEM: no kernel memory for the rings; raise the "
                 "memory limit of the cgroup, or --engines epoll");
    else
        snprintf(
            why, why_bytes,
            "io_uring_setup: ENOMEM: no memory for the rings; before Linux 5.12 (here %s) they "
            "count as locked, of %llu KiB allowed: raise it (ulimit -l), else the cgroup's "
            "memory, or --engines epoll",
            host->release, (unsigned long long)(host->memlock / 1024));
}

static void explain_enosys(const struct weir__uring_host *host, char *why, size_t why_bytes)
{
    if (host->seccomp == 2)
        snprintf(why, why_bytes,
                 "io_uring_setup: ENOSYS: blocked by seccomp, or not in kernel %s "
                 "(Linux 5.11 needed); allow io_uring in the container's profile, "
                 "or --engines epoll",
                 host->release);
    else
        snprintf(why, why_bytes,
                 "io_uring_setup: ENOSYS: kernel %s has no io_uring (too old, or "
                 "built without CONFIG_IO_URING; 5.11 needed); --engines epoll",
                 host->release);
}

void weir__uring_explain(int error, const struct weir__uring_host *host, char *why,
                         size_t why_bytes)
{
    switch (-error) {
    case EPERM:
    case EACCES:
        explain_eperm(host, why, why_bytes);
        break;
    case ENOMEM:
        explain_enomem(host, why, why_bytes);
        break;
    case ENOSYS:
        explain_enosys(host, why, why_bytes);
        break;
    case EMFILE:
        snprintf(why, why_bytes,
                 "io_uring_setup: EMFILE: all %llu descriptors of the process are "
                 "in use; raise the limit (ulimit -n)",
                 (unsigned long long)host->nofile);
        break;
    case ENFILE:
        snprintf(why, why_bytes,
                 "io_uring_setup: ENFILE: all descriptors of the machine are in "
                 "use; raise fs.file-max");
        break;
    case EINVAL:
        snprintf(why, why_bytes,
                 "io_uring_setup: EINVAL: kernel %s refuses even a plain ring "
                 "(5.11 needed); --engines epoll",
                 host->release);
        break;
    default:
        snprintf(why, why_bytes, "io_uring_setup: %s; --engines epoll", strerror(-error));
    }
}
