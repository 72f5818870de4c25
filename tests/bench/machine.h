/* A made-up machine for the pre-flight: files below a folder of its own, as /proc and /sys have. */
#ifndef WEIR_TESTS_BENCH_MACHINE_H
#define WEIR_TESTS_BENCH_MACHINE_H

#include <sys/resource.h>

#include "bench/preflight.h"

/* Where proc and sys are. */
extern char machine_root[64];
/* What machine_check() found. */
extern struct limit machine_list[WEIR__LIMITS_MAX];
extern size_t machine_count;

/* A machine on which nothing is missing for a thousand connections and as many threads; nothing
 * tracks connections, and the cgroup is /a/b of version 2, without limits. */
void machine_setup(void);
void machine_teardown(void);

/* `file` is below the root: "proc/sys/fs/nr_open". */
void machine_write(const char *file, const char *content);
void machine_remove(const char *file);
/* The soft limit, of this process: tests run in one of their own. The hard one stays. */
void machine_limit(__rlimit_resource_t resource, rlim_t soft);

/* A thousand connections to one server, a thread for each, and io_uring, which works. */
extern const struct limits_need machine_thousand;

void machine_check(const struct limits_need *need);
/* The line of that name; fails the test where there is none. */
const struct limit *machine_find(const char *name);
/* Expects it to be so, and `cure` to be a part of its cure. */
void machine_expect(const char *name, enum limit_verdict verdict, uint64_t have, uint64_t need,
                    const char *cure);

#endif
