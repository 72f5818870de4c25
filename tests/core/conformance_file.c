/* Conformance: files. What an engine does itself and what its helper threads do gives the same. */
#include "conformance.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* A directory for one test, and a path in it. */
struct scratch {
    char directory[32], path[48];
    int fd; /* of the directory */
};

static void scratch_make(struct scratch *scratch)
{
    strcpy(scratch->directory, "/tmp/weir-files-XXXXXX");
    check(mkdtemp(scratch->directory), "errno %d", errno);
    snprintf(scratch->path, sizeof scratch->path, "%s/file", scratch->directory);
    scratch->fd = open(scratch->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    check(scratch->fd >= 0, "errno %d", errno);
}

/* Nothing but the file may be left. */
static void scratch_remove(struct scratch *scratch)
{
    unlink(scratch->path);
    check_int(rmdir(scratch->directory), ==, 0);
    close(scratch->fd);
}

/* Runs `body` as a task with a scratch directory. */
static void with_scratch(const struct weir_loop_options *options, weir_task_fn *body)
{
    struct scratch scratch;
    scratch_make(&scratch);
    conf_run(options, body, &scratch);
    scratch_remove(&scratch);
}

static int open_new(const char *path)
{
    int fd = weir_file_open(AT_FDCWD, path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    check_int(fd, >=, 0);
    return fd;
}

static int64_t size_of(int fd)
{
    struct statx seen;
    check_int(weir_file_stat(fd, "", AT_EMPTY_PATH, STATX_SIZE, &seen), ==, 0);
    return (int64_t)seen.stx_size;
}

/* ---- reading and writing --------------------------------------------------------------------- */

static void use_a_file(void *argument)
{
    static char data[100000], back[100000];
    struct scratch *scratch = argument;
    int fd = open_new(scratch->path);
    pattern_fill(data, sizeof data, 1, 0);
    for (size_t at = 0; at < sizeof data;) {
        int wrote = weir_file_write(fd, data + at, sizeof data - at, (int64_t)at);
        check_int(wrote, >, 0);
        at += (size_t)wrote;
    }
    check_int(weir_file_sync(fd, 1), ==, 0);
    check_int(weir_file_sync(fd, 0), ==, 0);
    for (size_t at = 0; at < sizeof back;) {
        int got = weir_file_read(fd, back + at, sizeof back - at, (int64_t)at);
        check_int(got, >, 0);
        at += (size_t)got;
    }
    pattern_check(back, sizeof back, 1, 0);
    check_int(weir_file_read(fd, back, 100, sizeof data), ==, 0);
    check_int(weir_file_read(fd, back, 100, sizeof data - 7), ==, 7);

    /* -1 is the file's own position. */
    check_int(lseek(fd, 1000, SEEK_SET), ==, 1000);
    check_int(weir_file_read(fd, back, 500, -1), ==, 500);
    pattern_check(back, 500, 1, 1000);
    check_int(weir_file_write(fd, "weir", 4, -1), ==, 4);
    check_int(lseek(fd, 0, SEEK_CUR), ==, 1504);
    check_int(weir_file_read(fd, back, 4, 1500), ==, 4);
    check(memcmp(back, "weir", 4) == 0, "%.4s", back);
    check_int(weir_file_close(fd), ==, 0);
}

CONFORMANCE(files_are_written_synced_and_read_back)
{
    with_scratch(NULL, use_a_file);
}

struct slice {
    int fd;
    unsigned number;
};

static void write_and_read_slice(void *argument)
{
    struct slice *slice = argument;
    char data[512], back[512];
    pattern_fill(data, sizeof data, slice->number, 0);
    int64_t offset = slice->number * 512;
    check_int(weir_file_write(slice->fd, data, 512, offset), ==, 512);
    check_int(weir_file_read(slice->fd, back, 512, offset), ==, 512);
    pattern_check(back, sizeof back, slice->number, 0);
}

static void use_a_file_at_once(void *argument)
{
    static struct slice slices[64];
    static struct weir_task *tasks[64];
    struct scratch *scratch = argument;
    int fd = open_new(scratch->path);
    for (unsigned i = 0; i < 64; i++) {
        slices[i] = (struct slice){fd, i};
        check_int(weir_spawn(weir_loop_self(), &tasks[i], write_and_read_slice, &slices[i]), ==, 0);
    }
    for (unsigned i = 0; i < 64; i++)
        check_int(weir_join(tasks[i], WEIR_FOREVER), ==, 0);
    check_int(weir_file_close(fd), ==, 0);
}

CONFORMANCE(many_tasks_use_one_file)
{
    with_scratch(NULL, use_a_file_at_once);
}

static void use_pieces(void *argument)
{
    struct scratch *scratch = argument;
    char data[700], back[700] = "";
    struct iovec out[3] = {{data, 300}, {data + 300, 1}, {data + 301, 399}};
    struct iovec in[2] = {{back, 20}, {back + 20, 680}};
    int fd = open_new(scratch->path);
    pattern_fill(data, sizeof data, 3, 0);
    check_int(weir_file_writev(fd, out, 3, 50), ==, 700);
    check_int(size_of(fd), ==, 750);
    check_int(weir_file_readv(fd, in, 2, 50), ==, 700);
    pattern_check(back, sizeof back, 3, 0);
    check_int(weir_file_readv(fd, in, 2, 740), ==, 10);
    check_int(weir_file_readv(fd, in, 2, 750), ==, 0);

    check_int(lseek(fd, 100, SEEK_SET), ==, 100);
    check_int(weir_file_readv(fd, in, 1, -1), ==, 20);
    pattern_check(back, 20, 3, 50);
    check_int(weir_file_writev(fd, out, 1, -1), ==, 300);
    check_int(lseek(fd, 0, SEEK_CUR), ==, 420);

    struct iovec *many = calloc(1025, sizeof *many);
    check_int(weir_file_readv(fd, many, 1025, 0), ==, -EINVAL);
    check_int(weir_file_readv(fd, many, 1024, 0), ==, 0);
    free(many);
    check_int(weir_file_close(fd), ==, 0);
}

CONFORMANCE(pieces_of_memory_are_written_and_read_in_order)
{
    with_scratch(NULL, use_pieces);
}

static void use_a_pipe(void *argument)
{
    int ends[2];
    char back[8] = "";
    struct iovec piece = {back, sizeof back};
    check_int(pipe2(ends, O_CLOEXEC), ==, 0);
    check_int(weir_file_write(ends[1], "weir", 4, 1000), ==, 4);
    check_int(weir_file_read(ends[0], back, sizeof back, 2000), ==, 4);
    check(strcmp(back, "weir") == 0, "%.8s", back);
    check_int(weir_file_write(ends[1], "s", 1, -1), ==, 1);
    check_int(weir_file_readv(ends[0], &piece, 1, 0), ==, 1);
    check_int(weir_file_close(ends[1]), ==, 0);
    check_int(weir_file_read(ends[0], back, sizeof back, 0), ==, 0);
    check_int(weir_file_close(ends[0]), ==, 0);
}

CONFORMANCE(in_a_pipe_an_offset_does_not_count)
{
    conf_run(NULL, use_a_pipe, NULL);
}

/* ---- names ----------------------------------------------------------------------------------- */

enum { NOREPLACE = 1 }; /* RENAME_NOREPLACE, which not every libc has */

static void use_names(void *argument)
{
    struct scratch *scratch = argument;
    struct statx seen;
    int dir = scratch->fd;
    check_int(weir_file_mkdir(dir, "below", 0700), ==, 0);
    check_int(weir_file_mkdir(dir, "below", 0700), ==, -EEXIST);
    int fd = weir_file_open(dir, "below/one", O_WRONLY | O_CREAT | O_EXCL, 0640);
    check_int(fd, >=, 0);
    check_int(fcntl(fd, F_GETFD) & FD_CLOEXEC, ==, FD_CLOEXEC);
    check_int(weir_file_write(fd, "12345", 5, 0), ==, 5);
    check_int(weir_file_close(fd), ==, 0);
    check_int(weir_file_stat(dir, "below/one", 0, STATX_BASIC_STATS, &seen), ==, 0);
    check_int(seen.stx_size, ==, 5);
    check_int(seen.stx_mode & ~umask(umask(0)), ==, (S_IFREG | 0640) & ~umask(umask(0)));

    check_int(weir_file_rename(dir, "below/one", dir, "two", 0), ==, 0);
    check_int(weir_file_stat(dir, "below/one", 0, STATX_SIZE, &seen), ==, -ENOENT);
    check_int(weir_file_rename(dir, "two", dir, "below", NOREPLACE), ==, -EEXIST);
    check_int(weir_file_stat(dir, "two", 0, STATX_SIZE, &seen), ==, 0);
    check_int(weir_file_unlink(dir, "two", 0), ==, 0);
    check_int(weir_file_unlink(dir, "two", 0), ==, -ENOENT);
    check_int(weir_file_unlink(dir, "below", AT_REMOVEDIR), ==, 0);
    check_int(weir_file_stat(dir, "below", 0, STATX_SIZE, &seen), ==, -ENOENT);
}

CONFORMANCE(files_are_made_looked_at_renamed_and_removed)
{
    with_scratch(NULL, use_names);
}

static void use_room(void *argument)
{
    struct scratch *scratch = argument;
    int fd = open_new(scratch->path);
    int res = weir_file_allocate(fd, 0, 1000, 500);
    check(res == 0 || res == -EOPNOTSUPP, "%d", res);
    check_int(size_of(fd), ==, res == 0 ? 1500 : 0);
    check_int(weir_file_truncate(fd, 3000), ==, 0);
    check_int(size_of(fd), ==, 3000);
    check_int(weir_file_truncate(fd, 7), ==, 0);
    check_int(size_of(fd), ==, 7);
    if (res == 0)
        check_int(weir_file_allocate(fd, FALLOC_FL_KEEP_SIZE, 0, 5000), ==, 0);
    check_int(size_of(fd), ==, 7);
    check_int(weir_file_close(fd), ==, 0);
}

CONFORMANCE(a_file_is_extended_and_cut)
{
    with_scratch(NULL, use_room);
}

/* ---- errors ---------------------------------------------------------------------------------- */

static void fail_by_descriptor(int fd, int expected)
{
    char byte = 0;
    struct iovec piece = {&byte, 1};
    check_int(weir_file_read(fd, &byte, 1, 0), ==, expected);
    check_int(weir_file_write(fd, &byte, 1, 0), ==, -EBADF);
    check_int(weir_file_readv(fd, &piece, 1, 0), ==, expected);
    check_int(weir_file_writev(fd, &piece, 1, 0), ==, -EBADF);
    check_int(weir_file_allocate(fd, 0, 0, 1), ==, -EBADF);
}

static void fail_in_all_ways(void *argument)
{
    struct scratch *scratch = argument;
    struct statx seen;
    char byte = 0;
    int dir = scratch->fd;
    fail_by_descriptor(dir, -EISDIR); /* which is open for reading alone */
    int fd = open_new(scratch->path);
    check_int(weir_file_read(fd, &byte, 1, -2), ==, -EINVAL);
    check_int(weir_file_allocate(fd, 0, 0, 0), ==, -EINVAL);
    check_int(weir_file_allocate(fd, 1 << 30, 0, 1), ==, -EOPNOTSUPP);
    check_int(weir_file_truncate(fd, -1), ==, -EINVAL);
    check_int(weir_file_close(fd), ==, 0);
    check_int(weir_file_close(fd), ==, -EBADF);
    fail_by_descriptor(fd, -EBADF);
    check_int(weir_file_sync(fd, 0), ==, -EBADF);
    check_int(weir_file_truncate(fd, 1), ==, -EBADF);
    check_int(weir_file_stat(fd, "", AT_EMPTY_PATH, STATX_SIZE, &seen), ==, -EBADF);

    check_int(weir_file_open(dir, "no/file", O_RDONLY, 0), ==, -ENOENT);
    check_int(weir_file_open(dir, "file", O_WRONLY | O_CREAT | O_EXCL, 0600), ==, -EEXIST);
    check_int(weir_file_open(dir, "file/below", O_RDONLY, 0), ==, -ENOTDIR);
    check_int(weir_file_open(dir, ".", O_WRONLY, 0), ==, -EISDIR);
    check_int(weir_file_open(fd, "file", O_RDONLY, 0), ==, -EBADF);
    check_int(weir_file_stat(dir, "", 0, STATX_SIZE, &seen), ==, -ENOENT);
    check_int(weir_file_rename(dir, "none", dir, "file", 0), ==, -ENOENT);
    check_int(weir_file_rename(dir, "file", dir, "other", 1u << 31), ==, -EINVAL);
    check_int(weir_file_unlink(dir, "file", AT_REMOVEDIR), ==, -ENOTDIR);
    check_int(weir_file_unlink(dir, "file", 1 << 30), ==, -EINVAL);
    check_int(weir_file_mkdir(dir, "file", 0700), ==, -EEXIST);
    check_int(weir_file_mkdir(dir, "no/directory", 0700), ==, -ENOENT);
}

CONFORMANCE(a_call_on_a_file_that_fails_says_why)
{
    with_scratch(NULL, fail_in_all_ways);
}

static void run_out_of_room(void *argument)
{
    struct scratch *scratch = argument;
    char data[100] = "";
    int full = weir_file_open(AT_FDCWD, "/dev/full", O_WRONLY, 0);
    check_int(full, >=, 0);
    check_int(weir_file_write(full, data, sizeof data, 0), ==, -ENOSPC);
    check_int(weir_file_close(full), ==, 0);

    int fd = open_new(scratch->path);
    check_int(weir_file_write(fd, data, sizeof data, 4090), ==, 6);
    check_int(weir_file_write(fd, data, sizeof data, 4096), ==, -EFBIG);
    check_int(weir_file_truncate(fd, 4097), ==, -EFBIG);
    int res = weir_file_allocate(fd, 0, 4096, 1);
    check(res == -EFBIG || res == -EOPNOTSUPP, "%d", res);
    check_int(size_of(fd), ==, 4096);
    check_int(weir_file_close(fd), ==, 0);
}

CONFORMANCE(a_file_that_may_not_grow_says_so)
{
    struct rlimit before, small;
    signal(SIGXFSZ, SIG_IGN);
    check_int(getrlimit(RLIMIT_FSIZE, &before), ==, 0);
    small = before;
    small.rlim_cur = 4096;
    check_int(setrlimit(RLIMIT_FSIZE, &small), ==, 0);
    with_scratch(NULL, run_out_of_room);
    check_int(setrlimit(RLIMIT_FSIZE, &before), ==, 0);
}

/* ---- cut short ------------------------------------------------------------------------------- */

static void open_cancelled(void *argument)
{
    struct scratch *scratch = argument;
    int fd = open_new(scratch->path);
    char byte = 1;
    weir_task_cancel(weir_task_self());
    check_int(weir_file_open(AT_FDCWD, scratch->path, O_RDONLY, 0), ==, -ECANCELED);
    check_int(weir_file_write(fd, &byte, 1, 0), ==, -ECANCELED);
    check_int(weir_file_unlink(AT_FDCWD, scratch->path, 0), ==, -ECANCELED);
    check_int(weir_file_close(fd), ==, 0);
    struct stat seen;
    check_int(stat(scratch->path, &seen), ==, 0);
    check_int(seen.st_size, ==, 0);
}

CONFORMANCE(a_cancelled_task_does_nothing_to_files_but_closes_them)
{
    with_scratch(NULL, open_cancelled);
}

static void open_past_the_deadline(void *argument)
{
    struct scratch *scratch = argument;
    int fd = open_new(scratch->path);
    weir_scope_auto(scope, weir_now_ns());
    while (weir_yield() == 0)
        ;
    check_int(weir_file_open(AT_FDCWD, scratch->path, O_RDONLY, 0), ==, -ETIME);
    check_int(weir_file_sync(fd, 0), ==, -ETIME);
    check_int(weir_file_close(fd), ==, 0);
    check_int(weir_scope_close(&scope), ==, -ETIME);
    check_int(weir_file_unlink(AT_FDCWD, scratch->path, 0), ==, 0);
}

CONFORMANCE(past_the_deadline_of_its_scope_a_call_on_a_file_is_not_begun)
{
    with_scratch(NULL, open_past_the_deadline);
}

struct opening {
    const char *path;
    int flags, result;
};

static void open_it(void *argument)
{
    struct opening *opening = argument;
    opening->result = weir_file_open(AT_FDCWD, opening->path, opening->flags, 0600);
    if (opening->result >= 0)
        check_int(weir_file_close(opening->result), ==, 0);
}

static void cancel_many_opens(void *argument)
{
    static struct opening openings[50];
    static struct weir_task *tasks[50];
    struct scratch *scratch = argument;
    for (int i = 0; i < 50; i++) {
        openings[i] = (struct opening){scratch->path, O_RDWR | O_CREAT, 0};
        check_int(weir_spawn(weir_loop_self(), &tasks[i], open_it, &openings[i]), ==, 0);
    }
    check_int(weir_yield(), ==, 0);
    for (int i = 0; i < 50; i++)
        weir_task_cancel(tasks[i]);
    for (int i = 0; i < 50; i++) {
        check_int(weir_join(tasks[i], WEIR_FOREVER), ==, 0);
        check(openings[i].result >= 0 || openings[i].result == -ECANCELED, "%d",
              openings[i].result);
    }
}

/* With one helper most wait in its queue, or in line before that. */
CONFORMANCE(a_cancelled_open_loses_no_descriptor)
{
    with_scratch(&(struct weir_loop_options){.helpers_max = 1, .calls_max = 10}, cancel_many_opens);
}

/* Opening a FIFO for reading blocks until somebody writes: here, after it was to end. (With O_CREAT
 * also on io_uring, which tries without blocking first.) */
static void open_a_fifo(void *argument)
{
    struct scratch *scratch = argument;
    struct opening opening = {scratch->path, O_RDONLY | O_CREAT, 0};
    struct weir_task *task;
    check_int(mkfifo(scratch->path, 0600), ==, 0);
    for (int cancelled = 0; cancelled < 2; cancelled++) {
        check_int(weir_spawn(weir_loop_self(), &task, open_it, &opening), ==, 0);
        conf_settle();
        if (cancelled)
            weir_task_cancel(task);
        conf_settle();
        int writer = open(scratch->path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        check_int(writer, >=, 0);
        check_int(weir_join(task, WEIR_FOREVER), ==, 0);
        check(opening.result >= 0 || (cancelled && opening.result == -ECANCELED), "%d",
              opening.result);
        close(writer);
    }
}

CONFORMANCE(an_open_that_waits_is_cut_short_or_waited_for)
{
    with_scratch(NULL, open_a_fifo);
}

static int open_within(void *argument)
{
    open_it(argument);
    return 0;
}

static void open_a_fifo_for_a_time(void *argument)
{
    struct scratch *scratch = argument;
    struct opening opening = {scratch->path, O_RDONLY | O_CREAT, 0};
    check_int(mkfifo(scratch->path, 0600), ==, 0);
    uint64_t deadline_ns = weir_now_ns() + WEIR_MILLISECOND;
    weir_scope_auto(scope, deadline_ns);
    check_int(weir_scope_spawn(&scope, open_within, &opening), ==, 0);
    while (weir_yield() == 0)
        ; /* until the scope has ended */
    int writer = open(scratch->path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    check_int(writer, >=, 0);
    check_int(weir_scope_close(&scope), ==, -ETIME);
    check(opening.result >= 0 || opening.result == -ETIME, "%d", opening.result);
    close(writer);
}

CONFORMANCE(the_deadline_of_a_scope_reaches_an_open_in_it)
{
    with_scratch(NULL, open_a_fifo_for_a_time);
}
