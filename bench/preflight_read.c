/*
 * Reads the system for the pre-flight checks (preflight_check.h): numbers of /proc and /sys, the
 * cgroups of this process, its limits. Says nothing about what they mean.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/preflight_check.h"

static FILE *open_below(const struct check *check, const char *file)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", check->root, file);
    return fopen(path, "re");
}

bool weir__check_exists(const struct check *check, const char *file)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", check->root, file);
    return access(path, F_OK) == 0;
}

/* As strtoull, and "max" as the files of cgroups have it. */
static uint64_t number(const char *text, char **end)
{
    size_t blank = strspn(text, " \t\n");
    if (strncmp(text + blank, "max", 3) != 0)
        return strtoull(text, end, 10);
    *end = (char *)text + blank + 3;
    return UINT64_MAX;
}

int weir__check_numbers(const struct check *check, const char *file, uint64_t *values, int capacity)
{
    char text[256];
    FILE *stream = open_below(check, file);
    if (!stream)
        return 0;
    size_t len = fread(text, 1, sizeof(text) - 1, stream);
    fclose(stream);
    text[len] = '\0';
    int count = 0;
    char *at = text, *end;
    for (; count < capacity; count++, at = end) {
        values[count] = number(at, &end);
        if (end == at)
            break;
    }
    return count;
}

bool weir__check_number(const struct check *check, const char *file, uint64_t *value)
{
    return weir__check_numbers(check, file, value, 1) == 1;
}

bool weir__check_keyed(const struct check *check, const char *file, const char *key, int base,
                       uint64_t *value)
{
    char line[512], *at, *end;
    bool found = false;
    FILE *stream = open_below(check, file);
    if (!stream)
        return false;
    while (!found && fgets(line, sizeof(line), stream)) {
        at = strstr(line, key);
        if (!at)
            continue;
        at += strlen(key);
        *value = strtoull(at, &end, base);
        found = end != at;
    }
    fclose(stream);
    return found;
}

bool weir__check_release(const struct check *check, unsigned *major, unsigned *minor)
{
    FILE *stream = open_below(check, "proc/sys/kernel/osrelease");
    if (!stream)
        return false;
    bool found = fscanf(stream, "%u.%u", major, minor) == 2;
    fclose(stream);
    return found;
}

uint64_t weir__check_rlimit(__rlimit_resource_t resource)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
        return UINT64_MAX;
    return limit.rlim_cur;
}

/* --- cgroups -------------------------------------------------------------------------------- */

/* True where the comma list has the word. */
static bool has_word(const char *list, const char *word)
{
    size_t bytes = strlen(word);
    for (const char *at = list; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, word, bytes) == 0 && (at[bytes] == ',' || at[bytes] == '\0'))
            return true;
    }
    return false;
}

/* The cgroup of this process: of the controller's own hierarchy, else of the unified one. A line is
 * "4:memory:/a/b", or "0::/a/b". */
static bool find_cgroup(const struct check *check, const char *controller, char *folder,
                        size_t capacity)
{
    char line[512];
    bool found = false, own = false;
    FILE *stream = open_below(check, "proc/self/cgroup");
    if (!stream)
        return false;
    while (!own && fgets(line, sizeof(line), stream)) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = '\0';
        own = has_word(++controllers, controller);
        if (own)
            snprintf(folder, capacity, "sys/fs/cgroup/%s%s", controller, path);
        else if (controllers[0] == '\0')
            snprintf(folder, capacity, "sys/fs/cgroup%s", path);
        else
            continue;
        found = true;
    }
    fclose(stream);
    return found;
}

bool weir__check_cgroup(const struct check *check, const char *controller,
                        bool (*reads)(const struct check *check, const char *folder,
                                      uint64_t *left),
                        uint64_t *left)
{
    static const char top[] = "sys/fs/cgroup";
    char folder[512];
    bool limited = false;
    if (!find_cgroup(check, controller, folder, sizeof(folder)))
        return false;
    /* In a container the path may be the host's, of which only the top is seen: a folder that is
     * not there counts for nothing. */
    while (strlen(folder) >= strlen(top)) {
        uint64_t here;
        if (reads(check, folder, &here)) {
            *left = !limited || here < *left ? here : *left;
            limited = true;
        }
        *strrchr(folder, '/') = '\0';
    }
    return limited;
}
