/*
 * Reads the host's facts from /proc, /sys and a few calls (host.h says for whom). Every reader
 * gives back "unknown" rather than failing: a container may hide any of these files.
 */
#include "bench/host.h"

#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#if WEIR_HAVE_URING
#define LIBURING_VERSION WEIR_LIBURING_VERSION
#else
#define LIBURING_VERSION NULL
#endif

#ifdef __clang__
#define COMPILER __VERSION__ /* "Clang 14.0.6" */
#else
#define COMPILER "gcc " __VERSION__
#endif

#define VULNERABILITIES "/sys/devices/system/cpu/vulnerabilities"

char *weir__read_text(const char *path)
{
    char text[4096];
    FILE *file = fopen(path, "re");

    if (file == NULL)
        return NULL;
    size_t length = fread(text, 1, sizeof text - 1, file);
    bool failed = ferror(file) != 0;
    fclose(file);
    if (failed)
        return NULL;
    while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == ' '))
        length--;
    text[length] = '\0';
    return strdup(text);
}

static int64_t read_number(const char *path)
{
    char *text = weir__read_text(path);
    char *end;

    if (text == NULL)
        return -1;
    long long number = strtoll(text, &end, 10);
    int64_t result = end == text ? -1 : number;
    free(text);
    return result;
}

/* The value of the first "key : value" line of a /proc file; the caller frees. */
static char *read_field(const char *path, const char *key)
{
    char line[1024];
    char *value = NULL;
    FILE *file = fopen(path, "re");

    if (file == NULL)
        return NULL;
    size_t key_length = strlen(key);
    while (value == NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, key, key_length) != 0)
            continue;
        const char *at = line + key_length;
        at += strspn(at, " \t");
        if (*at++ != ':')
            continue;
        at += strspn(at, " \t");
        value = strndup(at, strcspn(at, "\n"));
    }
    fclose(file);
    return value;
}

int64_t weir__proc_status_number(pid_t pid, const char *name)
{
    char path[64];
    int64_t result = -1;

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    char *value = read_field(path, name);
    if (value != NULL) {
        char *end;
        long long number = strtoll(value, &end, 10);
        if (end != value)
            result = number;
    }
    free(value);
    return result;
}

int64_t weir__proc_status_bytes(pid_t pid, const char *name)
{
    int64_t kib = weir__proc_status_number(pid, name); /* the only unit that file knows */

    return kib < 0 ? -1 : kib * 1024;
}

static char *read_kernel(void)
{
    struct utsname name;
    char *text;

    if (uname(&name) < 0 || asprintf(&text, "%s %s", name.release, name.machine) < 0)
        return NULL;
    return text;
}

static char *read_cpu(void)
{
    /* x86 says "model name"; many ARM kernels only numbers; RISC-V "uarch"; the device tree the
     * board. */
    static const char *const keys[] = {"model name", "Model", "uarch", "cpu model", "CPU part"};

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        char *value = read_field("/proc/cpuinfo", keys[i]);
        if (value != NULL)
            return value;
    }
    return weir__read_text("/proc/device-tree/model");
}

static char *read_hypervisor(void)
{
    char *flags = read_field("/proc/cpuinfo", "flags");
    bool inside = flags != NULL && strstr(flags, " hypervisor") != NULL;

    free(flags);
    if (!inside)
        return NULL;
    char *vendor = weir__read_text("/sys/class/dmi/id/sys_vendor");
    return vendor != NULL ? vendor : strdup("unnamed hypervisor");
}

/* Only glibc tells its version; elsewhere it is unknown. */
#ifdef _CS_GNU_LIBC_VERSION
static char *read_libc(void)
{
    char text[128];
    size_t length = confstr(_CS_GNU_LIBC_VERSION, text, sizeof text);

    return length > 0 && length <= sizeof text ? strdup(text) : NULL;
}
#else
static char *read_libc(void)
{
    return NULL;
}
#endif

static int64_t read_limit(int resource, bool hard)
{
    struct rlimit limit;

    if (getrlimit(resource, &limit) < 0)
        return -1;
    rlim_t value = hard ? limit.rlim_max : limit.rlim_cur;
    return value == RLIM_INFINITY ? -1 : (int64_t)value;
}

static int by_name(const void *a, const void *b)
{
    const struct host_mitigation *left = a;
    const struct host_mitigation *right = b;

    return strcmp(left->name, right->name);
}

static void read_mitigations(struct host *host)
{
    DIR *folder = opendir(VULNERABILITIES);
    struct dirent *entry;

    if (folder == NULL)
        return;
    while ((entry = readdir(folder)) != NULL && host->mitigation_count < HOST_MITIGATIONS_MAX) {
        char path[sizeof VULNERABILITIES + 1 + sizeof entry->d_name];

        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", VULNERABILITIES, entry->d_name);
        char *state = weir__read_text(path);
        char *name = strdup(entry->d_name);
        if (state == NULL || name == NULL) {
            free(state);
            free(name);
            continue;
        }
        host->mitigations[host->mitigation_count++] = (struct host_mitigation){name, state};
    }
    closedir(folder);
    qsort(host->mitigations, host->mitigation_count, sizeof host->mitigations[0], by_name);
}

static double read_load_average(void)
{
    double one_minute;

    return getloadavg(&one_minute, 1) == 1 ? one_minute : NAN;
}

int weir__host_ticks(struct host_ticks *ticks)
{
    uint64_t value[8] = {0}; /* user nice system idle iowait irq softirq steal */
    FILE *file = fopen("/proc/stat", "re");

    *ticks = (struct host_ticks){0};
    if (file == NULL)
        return -EIO;
    int got = fscanf(file,
                     "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
                     " %" SCNu64 " %" SCNu64,
                     &value[0], &value[1], &value[2], &value[3], &value[4], &value[5], &value[6],
                     &value[7]);
    fclose(file);
    if (got != 8)
        return -EIO;
    for (size_t i = 0; i < 8; i++)
        ticks->all += value[i];
    ticks->stolen = value[7];
    return 0;
}

static char *read_port_range(void)
{
    char *text = weir__read_text("/proc/sys/net/ipv4/ip_local_port_range");

    for (char *at = text; at != NULL && *at != '\0'; at++) {
        if (*at == '\t' || *at == ' ')
            *at = '-';
    }
    return text;
}

void weir__host_read(struct host *host)
{
    char *memory = read_field("/proc/meminfo", "MemTotal");

    memset(host, 0, sizeof *host);
    host->kernel = read_kernel();
    host->cpu = read_cpu();
    host->hypervisor = read_hypervisor();
    host->governor = weir__read_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    host->libc = read_libc();
    host->compiler = strdup(COMPILER);
    host->congestion_default = weir__read_text("/proc/sys/net/ipv4/tcp_congestion_control");
    host->port_range = read_port_range();
    host->liburing = LIBURING_VERSION;
    host->cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    host->load_average = read_load_average();
    host->memory_bytes = memory != NULL ? strtoll(memory, NULL, 10) * 1024 : -1;
    host->nofile = read_limit(RLIMIT_NOFILE, false);
    host->nofile_hard = read_limit(RLIMIT_NOFILE, true);
    host->memlock_bytes = read_limit(RLIMIT_MEMLOCK, false);
    host->somaxconn = read_number("/proc/sys/net/core/somaxconn");
    host->max_map_count = read_number("/proc/sys/vm/max_map_count");
    host->io_uring_disabled = read_number("/proc/sys/kernel/io_uring_disabled");
    read_mitigations(host);
    free(memory);
}

void weir__host_deinit(struct host *host)
{
    for (size_t i = 0; i < host->mitigation_count; i++) {
        free(host->mitigations[i].name);
        free(host->mitigations[i].state);
    }
    free(host->kernel);
    free(host->cpu);
    free(host->hypervisor);
    free(host->governor);
    free(host->libc);
    free(host->compiler);
    free(host->congestion_default);
    free(host->port_range);
    memset(host, 0, sizeof *host);
}

const char *weir__host_congestion(void)
{
    static const char *const wanted[] = {"cubic", "reno"};
    const char *found = "reno";
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return found;
    for (size_t i = 0; i < 2; i++) {
        if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, wanted[i], (socklen_t)strlen(wanted[i])) ==
            0) {
            found = wanted[i];
            break;
        }
    }
    close(fd);
    return found;
}
