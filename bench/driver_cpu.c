/*
 * The CPU time of the processes being measured. No state.
 */
#include "bench/driver_load.h"

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
 * A running thread's time is brought up to date at ticks and switches only (the kernel's
 * posix-cpu-timers.c sums sum_exec_runtime), so a server still on its way from its last send to its
 * wait would be read short. One that is still running after 5 ms is taken for one that never waits.
 */
void weir__drive_server_cpu_read(const pid_t *pids, unsigned count, struct server_cpu *cpu)
{
    const struct timespec pause = {.tv_nsec = 100000};
    cpu->at_once_ns = cpu->settled_ns = weir__drive_server_cpu_ns(pids, count);
    cpu->still = false;
    for (int i = 0; i < 50 && cpu->settled_ns >= 0 && !cpu->still; i++) {
        nanosleep(&pause, NULL);
        int64_t now_ns = weir__drive_server_cpu_ns(pids, count);
        cpu->still = now_ns == cpu->settled_ns;
        cpu->settled_ns = now_ns;
    }
}
