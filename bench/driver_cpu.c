/*
 * CPU lists as people type them, and the CPU time of the processes being measured. No state.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/driver_load.h"

/* Reads digits at *text and moves past them. -1: none, or past CPU_SETSIZE. */
static int read_cpu(const char **text)
{
    int cpu = -1;
    while (**text >= '0' && **text <= '9') {
        cpu = (cpu < 0 ? 0 : cpu) * 10 + (**text - '0');
        if (cpu >= CPU_SETSIZE)
            return -1;
        (*text)++;
    }
    return cpu;
}

int weir__driver_cpus_parse(const char *text, cpu_set_t *cpus)
{
    CPU_ZERO(cpus);
    for (;;) {
        int first = read_cpu(&text);
        int last = first;
        if (*text == '-') {
            text++;
            last = read_cpu(&text);
        }
        if (first < 0 || last < first)
            return -EINVAL;
        for (int cpu = first; cpu <= last; cpu++)
            CPU_SET(cpu, cpus);
        if (*text == '\0')
            return CPU_COUNT(cpus);
        if (*text++ != ',')
            return -EINVAL;
    }
}

int64_t weir__drive_server_cpu_ns(const pid_t *pids, unsigned count)
{
    int64_t total = 0;
    for (unsigned i = 0; i < count; i++) {
        clockid_t clock;
        struct timespec ts;
        if (clock_getcpuclockid(pids[i], &clock) != 0 || clock_gettime(clock, &ts) < 0)
            return -1;
        total += (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
    }
    return count > 0 ? total : -1;
}

/*
 * A running thread's time is brought up to date at ticks and switches only
 * (kernel/time/posix-cpu-timers.c sums sum_exec_runtime), so a server still on its way from its
 * last send to its wait would be read short.
 */
int64_t weir__drive_server_cpu_settled_ns(const pid_t *pids, unsigned count)
{
    const struct timespec pause = {.tv_nsec = 100000};
    int64_t before = weir__drive_server_cpu_ns(pids, count);
    for (int i = 0; i < 50 && before >= 0; i++) {
        nanosleep(&pause, NULL);
        int64_t now = weir__drive_server_cpu_ns(pids, count);
        if (now == before)
            break;
        before = now;
    }
    return before;
}
