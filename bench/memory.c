/* Reads what connections cost (memory.h). */
#include "bench/memory.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOOK_ON_S 0.1
/* The counters of /proc/meminfo are gathered from all CPUs once a second (vmstat_update). */
#define GATHERED_S 1.2

static FILE *open_in(const char *proc, const char *name)
{
    char path[512];

    snprintf(path, sizeof path, "%s/%s", proc, name);
    return fopen(path, "re");
}

/* The "Name:  123 kB" line of a file, in bytes; NAN where there is none. */
static double kilobytes_line(FILE *file, const char *name)
{
    char line[256];
    unsigned long long value;
    size_t length = strlen(name);

    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, name, length) == 0 && sscanf(line + length, ": %llu kB", &value) == 1)
            return (double)value * 1024;
    }
    return NAN;
}

double weir__memory_user_at(const char *proc, const pid_t *pids, unsigned count)
{
    double total = count > 0 ? 0 : NAN;

    for (unsigned i = 0; i < count; i++) {
        char name[64];

        snprintf(name, sizeof name, "%d/smaps_rollup", (int)pids[i]);
        FILE *file = open_in(proc, name);
        if (file == NULL)
            return NAN;
        total += kilobytes_line(file, "Pss");
        fclose(file);
    }
    return total;
}

/* Exact, and root's to read. NAN where it cannot be read. */
static double slabs_of_slabinfo(const char *proc)
{
    FILE *file = open_in(proc, "slabinfo");
    char line[512];
    double pages = 0;
    bool any = false;

    if (file == NULL)
        return NAN;
    while (fgets(line, sizeof line, file) != NULL) {
        unsigned long per_slab, slabs;
        const char *data = strstr(line, ": slabdata");

        if (data == NULL || sscanf(line, "%*s %*u %*u %*u %*u %lu", &per_slab) != 1 ||
            sscanf(data, ": slabdata %*u %lu", &slabs) != 1)
            continue;
        pages += (double)per_slab * (double)slabs;
        any = true;
    }
    fclose(file);
    return any ? pages * (double)sysconf(_SC_PAGESIZE) : NAN;
}

double weir__memory_slab_at(const char *proc)
{
    double bytes = slabs_of_slabinfo(proc);
    FILE *file = isnan(bytes) ? open_in(proc, "meminfo") : NULL;

    if (file != NULL) {
        bytes = kilobytes_line(file, "Slab");
        fclose(file);
    }
    return bytes;
}

double weir__memory_sockets_at(const char *proc)
{
    FILE *file = open_in(proc, "net/sockstat");
    char line[256];
    double bytes = NAN;

    if (file == NULL)
        return NAN;
    while (fgets(line, sizeof line, file) != NULL) {
        const char *mem = strncmp(line, "TCP:", 4) == 0 ? strstr(line, " mem ") : NULL;
        if (mem != NULL)
            bytes = strtod(mem + 5, NULL) * (double)sysconf(_SC_PAGESIZE);
    }
    fclose(file);
    return bytes;
}

static void wait_s(double seconds)
{
    struct timespec pause = {(time_t)seconds, (long)((seconds - floor(seconds)) * 1e9)};
    nanosleep(&pause, NULL);
}

void weir__memory_read(const pid_t *pids, unsigned count, struct memory_reading *reading)
{
    double first = weir__memory_slab_at("/proc");

    wait_s(isnan(slabs_of_slabinfo("/proc")) ? GATHERED_S : LOOK_ON_S);
    reading->slab = weir__memory_slab_at("/proc");
    reading->slab_drift = fabs(reading->slab - first);
    reading->sockets = weir__memory_sockets_at("/proc");
    reading->user = weir__memory_user_at("/proc", pids, count);
}

struct memory_per_conn weir__memory_per_conn(const struct memory_reading *before,
                                             const struct memory_reading *after, unsigned conns)
{
    struct memory_per_conn each = {
        .user = (after->user - before->user) / conns,
        .kernel = (after->slab - before->slab) / conns,
        .kernel_uncertainty = before->slab_drift / conns,
        .sockets = (after->sockets - before->sockets) / conns,
    };

    if (!(each.kernel > each.kernel_uncertainty))
        each.kernel = NAN;
    if (each.sockets < 0)
        each.sockets = NAN;
    return each;
}

struct memory_per_conn weir__memory_unknown(void)
{
    return (struct memory_per_conn){NAN, NAN, NAN, NAN};
}
