/*
 * Numbers, lists and CPU sets as the command lines write them (cli.h). The engine list has a file
 * of its own, cli_engines.c. Called before anything starts; never exits and never prints.
 */
#include "bench/cli.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int weir__parse_count(const char *text, bool binary, uint64_t min, uint64_t max, uint64_t *value)
{
    char *end;

    if (text[0] < '0' || text[0] > '9')
        return -EINVAL;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno != 0)
        return -ERANGE;

    static const char suffixes[] = "kmg";
    uint64_t unit = binary ? 1024 : 1000;
    uint64_t scale = 1;

    if (*end != '\0') {
        const char *suffix = strchr(suffixes, *end | 0x20);
        if (suffix == NULL || end[1] != '\0')
            return -EINVAL;
        for (const char *s = suffixes; s <= suffix; s++)
            scale *= unit;
    }
    uint64_t scaled;
    if (__builtin_mul_overflow((uint64_t)number, scale, &scaled) || scaled < min || scaled > max)
        return -ERANGE;
    *value = scaled;
    return 0;
}

int weir__parse_real(const char *text, double min, double max, double *value)
{
    char *end;

    errno = 0;
    double number = strtod(text, &end);
    if (end == text || *end != '\0' || isnan(number))
        return -EINVAL;
    if (errno == ERANGE || number < min || number > max)
        return -ERANGE;
    *value = number;
    return 0;
}

static int add_count(const char *token, unsigned *counts, size_t count, char *error, size_t bytes)
{
    uint64_t value;

    if (weir__parse_count(token, false, 1, 16 * 1000 * 1000, &value) < 0) {
        snprintf(error, bytes, "'%s' is not a number of connections from 1 to 16m", token);
        return -EINVAL;
    }
    for (size_t i = 0; i < count; i++) {
        if (counts[i] == value) {
            snprintf(error, bytes, "%u connections are asked for twice", counts[i]);
            return -EEXIST;
        }
    }
    counts[count] = (unsigned)value;
    return 0;
}

int weir__parse_counts(const char *text, unsigned *counts, size_t capacity, char *error,
                       size_t bytes)
{
    size_t count = 0;
    int result = 0;
    char *copy = strdup(text);

    if (copy == NULL)
        return -ENOMEM;
    char *rest = copy;
    for (char *token; result == 0 && (token = strsep(&rest, ",")) != NULL;) {
        if (count == capacity) {
            snprintf(error, bytes, "more than %zu numbers of connections", capacity);
            result = -E2BIG;
            break;
        }
        result = add_count(token, counts, count, error, bytes);
        count += result == 0;
    }
    free(copy);
    return result < 0 ? result : (int)count;
}

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

int weir__cpus_parse(const char *text, cpu_set_t *cpus)
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

bool weir__cpus_overlap(const cpu_set_t *one, const cpu_set_t *other)
{
    cpu_set_t both;

    CPU_AND(&both, one, other);
    return CPU_COUNT(&both) > 0;
}

void weir__cpus_format(const cpu_set_t *cpus, char *text, size_t bytes)
{
    size_t used = 0;

    text[0] = '\0';
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, cpus))
            continue;
        int last = cpu;
        while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, cpus))
            last++;
        char range[32];
        if (last == cpu)
            snprintf(range, sizeof range, "%d", cpu);
        else
            snprintf(range, sizeof range, "%d-%d", cpu, last);
        int wrote = snprintf(text + used, bytes - used, "%s%s", used > 0 ? "," : "", range);
        if (wrote < 0 || (size_t)wrote >= bytes - used)
            return; /* truncated: the text is for people */
        used += (size_t)wrote;
        cpu = last;
    }
}

/* The first CPU of the core that `cpu` belongs to; itself where the kernel does not say. */
static int core_of(int cpu)
{
    char path[96];
    int first = cpu;

    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return cpu;
    if (fscanf(file, "%d", &first) != 1)
        first = cpu;
    fclose(file);
    return first;
}

int weir__cpus_split(cpu_set_t *server, cpu_set_t *driver)
{
    cpu_set_t all;
    cpu_set_t cores;

    if (sched_getaffinity(0, sizeof all, &all) < 0)
        return -errno;
    CPU_ZERO(&cores);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &all))
            CPU_SET(core_of(cpu), &cores);
    }
    /* One core with two hardware threads is still better divided than shared. */
    bool by_core = CPU_COUNT(&cores) > 1;
    const cpu_set_t *units = by_core ? &cores : &all;
    int half = CPU_COUNT(units) / 2;
    int seen = 0;

    CPU_ZERO(server);
    CPU_ZERO(driver);
    for (int unit = 0; unit < CPU_SETSIZE; unit++) {
        if (!CPU_ISSET(unit, units))
            continue;
        cpu_set_t *side = seen++ < half ? server : driver;
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
            if (CPU_ISSET(cpu, &all) && (by_core ? core_of(cpu) : cpu) == unit)
                CPU_SET(cpu, side);
        }
    }
    if (half == 0)
        *server = *driver;
    return 0;
}
