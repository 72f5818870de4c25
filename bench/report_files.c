/*
 * The files of a report: opened before the run, so that a place that cannot be written to is told
 * then, and written after it, whole or not at all (report.h). Used by compare and load.
 */
#include "bench/report.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_temporary(struct report_file *file)
{
    mode_t mask = umask(0);

    umask(mask);
    int fd = mkostemp(file->temporary, O_CLOEXEC);
    if (fd < 0)
        return -errno;
    /* mkostemp makes files for their owner alone; a report is as public as the umask says. */
    if (fchmod(fd, 0666 & ~mask) < 0 || (file->stream = fdopen(fd, "w")) == NULL) {
        int result = -errno;
        close(fd);
        unlink(file->temporary);
        return result;
    }
    return 0;
}

static int open_stdout(struct report_file *file)
{
    int fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);

    if (fd < 0)
        return -errno;
    file->stream = fdopen(fd, "w");
    return file->stream != NULL ? 0 : -errno;
}

int weir__report_file_open(struct report_file *file, const char *path)
{
    struct stat stat_now;
    int result;

    memset(file, 0, sizeof *file);
    if (strcmp(path, "-") == 0)
        return open_stdout(file);
    if (stat(path, &stat_now) == 0 && S_ISDIR(stat_now.st_mode))
        return -EISDIR;
    if (stat(path, &stat_now) == 0 && !S_ISREG(stat_now.st_mode)) {
        /* A device or a pipe (/dev/stdout, a named pipe) is written to, not replaced. */
        file->stream = fopen(path, "we");
        return file->stream != NULL ? 0 : -errno;
    }
    if (access(path, F_OK) == 0 && access(path, W_OK) < 0)
        return -errno;
    file->path = strdup(path);
    if (file->path == NULL || asprintf(&file->temporary, "%s.XXXXXX", path) < 0) {
        file->temporary = NULL;
        result = -ENOMEM;
    } else {
        result = open_temporary(file);
    }
    if (result < 0) {
        free(file->path);
        free(file->temporary);
        memset(file, 0, sizeof *file);
    }
    return result;
}

int weir__report_file_commit(struct report_file *file)
{
    int result = 0;

    assert(file->stream != NULL);
    if (fflush(file->stream) != 0 || ferror(file->stream))
        result = errno != 0 ? -errno : -EIO;
    if (fclose(file->stream) != 0 && result == 0)
        result = -errno;
    file->stream = NULL;
    if (file->temporary != NULL) {
        if (result == 0 && rename(file->temporary, file->path) < 0)
            result = -errno;
        if (result < 0)
            unlink(file->temporary);
    }
    free(file->path);
    free(file->temporary);
    memset(file, 0, sizeof *file);
    return result;
}

void weir__report_file_discard(struct report_file *file)
{
    if (file->stream != NULL)
        fclose(file->stream);
    if (file->temporary != NULL)
        unlink(file->temporary);
    free(file->path);
    free(file->temporary);
    memset(file, 0, sizeof *file);
}

static bool is_open(const struct report_files *files, const char *path)
{
    for (int kind = 0; kind < REPORT_KINDS; kind++) {
        if (files->paths[kind] != NULL && strcmp(files->paths[kind], path) == 0)
            return true;
    }
    return false;
}

int weir__report_files_open(struct report_files *files, const char *const *paths, const char *who)
{
    for (int kind = 0; kind < REPORT_KINDS; kind++) {
        const char *path = paths[kind];

        if (path == NULL)
            continue;
        if (is_open(files, path)) {
            fprintf(stderr, "%s: two results cannot both go to %s; nothing was run\n", who, path);
            return -EINVAL;
        }
        int result = weir__report_file_open(&files->files[kind], path);
        if (result < 0) {
            fprintf(stderr, "%s: cannot write %s: %s; nothing was run\n", who, path,
                    strerror(-result));
            return result;
        }
        files->paths[kind] = path;
    }
    return 0;
}

FILE *weir__report_files_table(const struct report_files *files)
{
    for (int kind = 0; kind < REPORT_KINDS; kind++) {
        const char *path = files->paths[kind];
        if (path != NULL && (strcmp(path, "-") == 0 || strcmp(path, "/dev/stdout") == 0))
            return stderr;
    }
    return stdout;
}

int weir__report_files_write_with(struct report_files *files, weir__report_write_fn *write,
                                  const void *what, const char *who)
{
    int worst = 0;

    for (int kind = 0; kind < REPORT_KINDS; kind++) {
        if (files->paths[kind] == NULL)
            continue;
        int result = write((enum report_kind)kind, files->files[kind].stream, what);
        int committed = weir__report_file_commit(&files->files[kind]);
        if (result == 0)
            result = committed;
        if (result < 0) {
            fprintf(stderr, "%s: writing %s: %s\n", who, files->paths[kind], strerror(-result));
            worst = result;
        }
    }
    return worst;
}

static int write_report(enum report_kind kind, FILE *out, const void *report)
{
    static int (*const writers[REPORT_KINDS])(FILE *, const struct report *) = {
        [REPORT_JSON] = weir__report_write_json,
        [REPORT_CSV] = weir__report_write_csv,
        [REPORT_HTML] = weir__report_write_html,
        [REPORT_MARKDOWN] = weir__report_write_markdown,
    };

    return writers[kind](out, report);
}

int weir__report_files_write(struct report_files *files, const struct report *report,
                             const char *who)
{
    return weir__report_files_write_with(files, write_report, report, who);
}

void weir__report_files_discard(struct report_files *files)
{
    for (int kind = 0; kind < REPORT_KINDS; kind++)
        weir__report_file_discard(&files->files[kind]);
}
