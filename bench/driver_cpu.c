/*
 * The CPU time of the servers being measured: of their processes, of the descendants that these
 * have at the moment, and of those that have died. No state.
 *
 * A process that was waited for leaves its time with its parent (cutime and cstime of
 * /proc/PID/stat), so a server that forks for each connection is measured whole. That sum is kept
 * in nanoseconds, and shown in ticks: it may be 20 ms short, at each reading anew, not more and
 * more. One whose parent ignores SIGCHLD leaves it with nobody.
 */
#include "bench/driver_load.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SETTLE_NS 5000000u
enum { TRIES_LEAST = 3 };

struct family {
    pid_t *pids;
    size_t count, room;
};

static bool add(struct family *family, pid_t pid)
{
    if (family->count == family->room) {
        size_t room = family->room > 0 ? 2 * family->room : 64;
        pid_t *pids = realloc(family->pids, room * sizeof *pids);
        if (pids == NULL)
            return false;
        family->pids = pids;
        family->room = room;
    }
    family->pids[family->count++] = pid;
    return true;
}

/* Those that one thread has made; not the driver itself, which in tests is the server's child. */
static bool add_children(struct family *family, pid_t pid, const char *thread)
{
    char path[300];
    int child;
    bool added = true;
    snprintf(path, sizeof path, "/proc/%d/task/%s/children", (int)pid, thread);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return true; /* gone, or a kernel that does not list them */
    while (added && fscanf(file, "%d", &child) == 1)
        added = child == getpid() || add(family, child);
    fclose(file);
    return added;
}

static bool add_children_of_all(struct family *family, pid_t pid)
{
    char path[64];
    bool added = true;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    for (struct dirent *entry; tasks != NULL && added && (entry = readdir(tasks)) != NULL;)
        added = entry->d_name[0] == '.' || add_children(family, pid, entry->d_name);
    if (tasks != NULL)
        closedir(tasks);
    return added;
}

/* How many threads it has, and the time of the dead it has waited for. False: it is gone. */
static bool read_stat(pid_t pid, long *threads, int64_t *waited_ns)
{
    char path[64], line[1024];
    long long user, kernel;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    bool known = file != NULL && fgets(line, sizeof line, file) != NULL;
    if (file != NULL)
        fclose(file);
    const char *name_end = known ? strrchr(line, ')') : NULL; /* a name may hold anything */
    if (name_end == NULL || sscanf(name_end + 1,
                                   " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %lld %lld "
                                   "%*d %*d %ld",
                                   &user, &kernel, threads) != 3)
        return false;
    *waited_ns = (user + kernel) * (1000000000 / sysconf(_SC_CLK_TCK));
    return true;
}

/* -1: it is gone. */
static int64_t own_ns(pid_t pid)
{
    clockid_t clock;
    struct timespec ts;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &ts) < 0)
        return -1;
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Of all in the family, to which their descendants are added. */
static int64_t family_ns(struct family *family)
{
    size_t roots = family->count;
    int64_t total = 0;
    for (size_t i = 0; i < family->count; i++) {
        pid_t pid = family->pids[i];
        char thread[16];
        long threads = 1;
        int64_t waited_ns = 0, own = own_ns(pid);
        bool lives = own >= 0 && read_stat(pid, &threads, &waited_ns);
        if (!lives && i < roots)
            return -1;
        if (!lives)
            continue; /* its parent's to tell */
        total += own + waited_ns;
        snprintf(thread, sizeof thread, "%d", (int)pid);
        if (!(threads > 1 ? add_children_of_all(family, pid) : add_children(family, pid, thread)))
            return -1;
    }
    return total;
}

/* The family's memory is to be freed, whatever comes back. */
static int64_t look_at(const pid_t *pids, unsigned count, struct family *family)
{
    bool added = count > 0;
    *family = (struct family){0};
    for (unsigned i = 0; i < count && added; i++)
        added = add(family, pids[i]);
    return added ? family_ns(family) : -1;
}

int64_t weir__drive_server_cpu_ns(const pid_t *pids, unsigned count)
{
    struct family family;
    int64_t total = look_at(pids, count, &family);
    free(family.pids);
    return total;
}

pid_t *weir__drive_server_pids(const pid_t *pids, unsigned count, unsigned *all)
{
    struct family family;
    bool known = look_at(pids, count, &family) >= 0;
    if (!known)
        free(family.pids);
    *all = known ? (unsigned)family.count : 0;
    return known ? family.pids : NULL;
}

/*
 * A running thread's time is brought up to date at ticks and switches only (the kernel's
 * posix-cpu-timers.c sums sum_exec_runtime), so a server still on its way from its last send to its
 * wait would be read short. One that is still running after 5 ms is taken for one that never waits;
 * but one of thousands of processes is looked at a few times, however long that takes.
 */
void weir__drive_server_cpu_read(const pid_t *pids, unsigned count, struct server_cpu *cpu)
{
    const struct timespec pause = {.tv_nsec = 100000};
    uint64_t limit_ns = weir__drive_now_ns() + SETTLE_NS;
    cpu->at_once_ns = cpu->settled_ns = weir__drive_server_cpu_ns(pids, count);
    cpu->still = false;
    for (int i = 0; cpu->settled_ns >= 0 && !cpu->still &&
                    (i < TRIES_LEAST || weir__drive_now_ns() < limit_ns);
         i++) {
        nanosleep(&pause, NULL);
        int64_t now_ns = weir__drive_server_cpu_ns(pids, count);
        cpu->still = now_ns == cpu->settled_ns;
        cpu->settled_ns = now_ns;
    }
}
