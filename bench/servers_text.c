/*
 * What is read about a server: its ready line, its last words, its processes and their memory.
 * Called by servers.c and compare; changes no process.
 */
#include "bench/servers_text.h"

#include "bench/host.h"
#include "bench/preflight.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUR_NAME "weir-bench serve: "

void weir__server_last_words(const struct server *server, char *text, size_t bytes)
{
    char tail[4096];
    off_t size = lseek(server->err_fd, 0, SEEK_END);
    off_t from = size > (off_t)sizeof tail ? size - (off_t)sizeof tail : 0;
    ssize_t got = pread(server->err_fd, tail, sizeof tail, from);

    text[0] = '\0';
    while (got > 0 && (tail[got - 1] == '\n' || tail[got - 1] == ' '))
        got--;
    if (got <= 0)
        return;
    const char *line = memrchr(tail, '\n', (size_t)got);
    line = line != NULL ? line + 1 : tail;
    /* A server of ours names itself first, which its row does already. */
    size_t named = strlen(OUR_NAME);
    if ((size_t)(tail + got - line) > named && memcmp(line, OUR_NAME, named) == 0)
        line += named;
    size_t length = (size_t)(tail + got - line);
    if (length >= bytes)
        length = bytes - 1;
    memcpy(text, line, length);
    text[length] = '\0';
    for (char *at = text; *at != '\0'; at++) {
        if ((unsigned char)*at < ' ')
            *at = ' '; /* it goes into tables and onto terminals */
    }
}

void weir__server_describe_death(struct server *server, int status, bool was_starting)
{
    char words[SERVER_TEXT_BYTES / 2];
    char what[128];
    const char *when = was_starting ? " before it was ready" : "";

    weir__server_last_words(server, words, sizeof words);
    if (WIFSIGNALED(status))
        snprintf(what, sizeof what, "killed by signal %d (%s)%s", WTERMSIG(status),
                 strsignal(WTERMSIG(status)), when);
    else
        snprintf(what, sizeof what, "exited with status %d%s", WEXITSTATUS(status), when);
    snprintf(server->how, sizeof server->how, "%s; %s%s", what,
             words[0] ? "its last words: " : "it said nothing", words);
}

__attribute__((format(printf, 2, 3))) static int refuse(struct server *server, const char *format,
                                                        ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(server->how, sizeof server->how, format, args);
    va_end(args);
    return -EBADMSG;
}

static int take_listen(struct server *server, const char *value)
{
    char why[SERVER_TEXT_BYTES / 2];

    if (weir__limits_address(value, &server->addr, &server->addr_len, why, sizeof why) < 0)
        return refuse(server, "its ready line has no usable address: %s", why);
    return 0;
}

static int take_field(struct server *server, const char *key, const char *value)
{
    if (strcmp(key, "engine") == 0 && server->engine[0] != '\0' &&
        strcmp(value, server->engine) != 0)
        return refuse(server, "asked for engine %s, it says that it is %s", server->engine, value);
    if (strcmp(key, "workload") == 0 && strcmp(value, server->workload) != 0)
        return refuse(server, "asked for workload %s, it says that it serves %s", server->workload,
                      value);
    if (strcmp(key, "listen") == 0)
        return take_listen(server, value);
    if (strcmp(key, "features") == 0) {
        server->has_features = true;
        snprintf(server->features, sizeof server->features, "%s", value);
    }
    return 0;
}

int weir__server_parse_ready(struct server *server, char *line)
{
    char *rest = line;
    char *token = strsep(&rest, " ");
    bool named = server->engine[0] == '\0';

    server->addr_len = 0;
    if (token == NULL || strcmp(token, "ready") != 0)
        return refuse(server, "its first line is not a ready line: '%.80s'", line);
    while ((token = strsep(&rest, " \r")) != NULL) {
        char *value = strchr(token, '=');
        if (value == NULL)
            continue;
        *value++ = '\0';
        named = named || strcmp(token, "engine") == 0;
        int result = take_field(server, token, value);
        if (result < 0)
            return result;
    }
    if (server->addr_len == 0)
        return refuse(server, "its ready line has no listen=ADDRESS:PORT");
    if (!named)
        return refuse(server, "its ready line does not say which engine serves");
    return 0;
}

/* Appends the children of one process, as all its threads list them. */
static unsigned append_children(pid_t pid, pid_t *pids, unsigned count)
{
    char path[300];
    struct dirent *entry;

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    if (tasks == NULL)
        return count;
    while ((entry = readdir(tasks)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%s/children", (int)pid, entry->d_name);
        FILE *file = fopen(path, "re");
        int child;
        if (file == NULL)
            continue;
        while (count < SERVER_PIDS_MAX && fscanf(file, "%d", &child) == 1)
            pids[count++] = child;
        fclose(file);
    }
    closedir(tasks);
    return count;
}

unsigned weir__server_pids(const struct server *server, pid_t pids[SERVER_PIDS_MAX])
{
    unsigned count = 0;

    if (server->pid <= 0)
        return 0;
    pids[count++] = server->pid;
    for (unsigned i = 0; i < count; i++)
        count = append_children(pids[i], pids, count);
    return count;
}

unsigned weir__server_parallelism(const struct server *server, unsigned cpus)
{
    pid_t pids[SERVER_PIDS_MAX];
    unsigned count = weir__server_pids(server, pids);
    int64_t threads = 0;

    for (unsigned i = 0; i < count; i++) {
        int64_t here = weir__proc_status_number(pids[i], "Threads");
        threads += here > 0 ? here : 1;
    }
    if (threads < 1)
        return 1;
    return threads < cpus ? (unsigned)threads : cpus;
}

bool weir__server_memory(const struct server *server, double *rss, double *rss_peak)
{
    pid_t pids[SERVER_PIDS_MAX];
    unsigned count = weir__server_pids(server, pids);
    bool known = count > 0;

    *rss = 0;
    *rss_peak = 0;
    for (unsigned i = 0; i < count; i++) {
        int64_t now = weir__proc_status_bytes(pids[i], "VmRSS");
        int64_t peak = weir__proc_status_bytes(pids[i], "VmHWM");
        if (now < 0 || peak < 0) {
            known = known && i > 0; /* a child may have gone meanwhile; the server itself not */
            continue;
        }
        *rss += (double)now;
        *rss_peak += (double)peak;
    }
    return known;
}
