/*
 * What a figure depends on besides the code: kernel, CPU, limits, mitigations, congestion control.
 * Read from /proc and /sys before a run; the reports print it. Nothing here changes the host, and
 * what cannot be read is NULL or -1, never a guess.
 */
#ifndef WEIR_BENCH_HOST_H
#define WEIR_BENCH_HOST_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { HOST_MITIGATIONS_MAX = 32 };

struct host_mitigation {
    char *name;  /* "spectre_v2" */
    char *state; /* the kernel's words: "Mitigation: …", "Vulnerable", "Not affected" */
};

/* Strings belong to the struct. */
struct host {
    char *kernel;     /* "6.18.44 x86_64" */
    char *cpu;        /* the model's name */
    char *hypervisor; /* "KVM"; NULL: none seen */
    char *governor;   /* cpufreq's, of CPU 0 */
    char *libc;       /* "glibc 2.36" */
    char *compiler;   /* that built weir-bench */
    char *congestion_default;
    char *port_range;     /* "32768-60999" */
    const char *liburing; /* its version; NULL: built without */
    int cores;            /* CPUs online */
    double load_average;  /* of the last minute, when read; NAN: unknown */
    int64_t memory_bytes;
    int64_t nofile;      /* soft RLIMIT_NOFILE; -1: unlimited or unknown */
    int64_t nofile_hard; /* the same, hard */
    int64_t memlock_bytes;
    int64_t somaxconn;
    int64_t max_map_count;
    int64_t io_uring_disabled; /* the sysctl; -1: this kernel has none */
    struct host_mitigation mitigations[HOST_MITIGATIONS_MAX];
    size_t mitigation_count;
};

/* Fills `host`. Never fails: what cannot be read stays unknown. */
void weir__host_read(struct host *host);

void weir__host_deinit(struct host *host);

/* Ticks of all CPUs since boot, and those that the hypervisor gave to others meanwhile. */
struct host_ticks {
    uint64_t all;
    uint64_t stolen;
};

/* 0, or -EIO where /proc/stat does not say. */
int weir__host_ticks(struct host_ticks *ticks);

/* The congestion control that both ends of every benchmark connection set: cubic where the kernel
 * has it, else reno. Static storage. */
const char *weir__host_congestion(void);

/* Reads one whole small file, without its last newline; NULL if it cannot be read. The caller
 * frees. */
char *weir__read_text(const char *path);

/* A "Name:   123" line of /proc/PID/status; -1 if there is none. */
int64_t weir__proc_status_number(pid_t pid, const char *name);

/* A "Name:   123 kB" line of /proc/PID/status in bytes; -1 if there is none. */
int64_t weir__proc_status_bytes(pid_t pid, const char *name);

#endif
