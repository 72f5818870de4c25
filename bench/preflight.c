/*
 * The pre-flight of preflight.h: runs the checks, which stand by subject in preflight_files.c,
 * preflight_network.c, preflight_memory.c, preflight_tasks.c and preflight_uring.c, and says what
 * they found. Called by the commands before they start anything.
 */
#include "bench/preflight.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "bench/preflight_check.h"

/* --- the list ------------------------------------------------------------------------------- */

static struct limit *add_line(struct check *check, const char *name, uint64_t have, uint64_t need)
{
    assert(check->count < WEIR__LIMITS_MAX);
    struct limit *limit = &check->list[check->count++];
    memset(limit, 0, sizeof(*limit));
    limit->name = name;
    limit->have = have;
    limit->need = need;
    return limit;
}

struct limit *weir__check_add(struct check *check, const char *name, uint64_t have, uint64_t need,
                              enum limit_verdict otherwise, const char *cure, ...)
{
    struct limit *limit = add_line(check, name, have, need);
    limit->verdict = have >= need ? LIMIT_OK : otherwise;
    if (have >= need)
        return limit;
    va_list args;
    va_start(args, cure);
    vsnprintf(limit->cure, sizeof(limit->cure), cure, args);
    va_end(args);
    return limit;
}

struct limit *weir__check_free(struct check *check, const char *name, uint64_t need,
                               const char *note)
{
    struct limit *limit = add_line(check, name, UINT64_MAX, need);
    snprintf(limit->note, sizeof(limit->note), "%s", note);
    return limit;
}

struct limit *weir__check_unknown(struct check *check, const char *name, uint64_t need)
{
    struct limit *limit = add_line(check, name, 0, need);
    limit->verdict = LIMIT_UNKNOWN;
    snprintf(limit->cure, sizeof(limit->cure), "cannot be read here");
    return limit;
}

/* Containers have /proc/sys (or all of /proc) mounted read-only. A line of mountinfo is "36 35 98:0
 * /root /mount/point ro,nosuid ..."; a later mount covers an earlier one. */
static bool sysctls_are_read_only(const struct check *check)
{
    char path[512], line[1024], point[256], options[256];
    bool read_only = false;
    snprintf(path, sizeof(path), "%s/proc/self/mountinfo", check->root);
    FILE *stream = fopen(path, "re");
    if (!stream)
        return false;
    while (fgets(line, sizeof(line), stream)) {
        if (sscanf(line, "%*s %*s %*s %*s %255s %255s", point, options) == 2 &&
            (strcmp(point, "/proc") == 0 || strcmp(point, "/proc/sys") == 0))
            read_only = strncmp(options, "ro", 2) == 0 && (options[2] == ',' || options[2] == 0);
    }
    fclose(stream);
    return read_only;
}

const char *weir__check_sysctl(const struct check *check, enum sysctl_scope scope,
                               const char *format, ...)
{
    static char text[200];
    char setting[120];
    uint64_t uid = 0;
    va_list args;
    va_start(args, format);
    vsnprintf(setting, sizeof(setting), format, args);
    va_end(args);
    weir__check_keyed(check, "proc/self/status", "Uid:", 10, &uid);
    if (!sysctls_are_read_only(check))
        snprintf(text, sizeof(text), "%ssysctl -w %s", uid == 0 ? "" : "sudo ", setting);
    else if (scope == SYSCTL_HOST)
        snprintf(text, sizeof(text), "sysctl -w %s on the host (read-only in this container)",
                 setting);
    else
        snprintf(text, sizeof(text), "start this container with --sysctl %s (read-only here)",
                 setting);
    return text;
}

/* --- the checks ----------------------------------------------------------------------------- */

int weir__limits_raise_nofile(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return -errno;
    if (limit.rlim_cur == limit.rlim_max)
        return 0;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &limit) < 0 ? -errno : 0;
}

size_t weir__limits_check_at(const char *root, const struct limits_need *need,
                             struct limit list[WEIR__LIMITS_MAX])
{
    struct check check = {.root = root, .need = need, .list = list};
    weir__check_files(&check);
    weir__check_network(&check);
    weir__check_memory(&check);
    weir__check_tasks(&check);
    if (need->uring)
        weir__check_uring(&check);
    return check.count;
}

size_t weir__limits_check(const struct limits_need *need, struct limit list[WEIR__LIMITS_MAX])
{
    return weir__limits_check_at("", need, list);
}

static void put_amount(const struct limit *limit, uint64_t amount, char *text, size_t capacity)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)amount;
    size_t step = 0;
    if (amount == UINT64_MAX)
        snprintf(text, capacity, "unlimited");
    else if (limit->unit == LIMIT_COUNT || amount == 0)
        snprintf(text, capacity, "%llu", (unsigned long long)amount);
    else {
        for (; value >= 1024; step++)
            value /= 1024;
        snprintf(text, capacity, "%.1f %s", value, units[step]);
    }
}

void weir__limit_need(const struct limit *limit, char *text, size_t capacity)
{
    if (limit->unit == LIMIT_WORD)
        snprintf(text, capacity, "%s", limit->need_word);
    else
        put_amount(limit, limit->need, text, capacity);
}

void weir__limit_have(const struct limit *limit, char *text, size_t capacity)
{
    if (limit->verdict == LIMIT_UNKNOWN)
        snprintf(text, capacity, "?");
    else if (limit->unit == LIMIT_WORD)
        snprintf(text, capacity, "%s", limit->have_word);
    else
        put_amount(limit, limit->have, text, capacity);
}

int weir__limits_require(const struct limits_need *need, char *text, size_t capacity)
{
    struct limit list[WEIR__LIMITS_MAX];
    char want[32], have[32];
    size_t count = weir__limits_check(need, list);
    text[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        if (list[i].verdict != LIMIT_MISSING)
            continue;
        weir__limit_need(&list[i], want, sizeof(want));
        weir__limit_have(&list[i], have, sizeof(have));
        snprintf(text, capacity, "%s: need %s, have %s: %s", list[i].name, want, have,
                 list[i].cure);
        return -ERANGE;
    }
    return 0;
}
