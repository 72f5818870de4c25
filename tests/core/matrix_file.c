/* The matrix: waits on files that are not for bytes. What has begun on a helper thread goes on to
 * its end. See matrix.h. */
#include "matrix.h"

#include <fcntl.h>
#include <sys/stat.h>

static char directory[32], path[48], other_path[48];
static int fd;

static void name(char *out, const char *end)
{
    strcpy(stpcpy(out, directory), end);
}

static void directory_set_up(void)
{
    strcpy(directory, "/tmp/weir-matrix-XXXXXX");
    check(mkdtemp(directory), "errno %d", errno);
    name(path, "/one");
    name(other_path, "/two");
    fd = -1;
}

static void directory_tear_down(void)
{
    if (fd >= 0)
        close(fd);
    unlink(path);
    unlink(other_path);
    check_int(rmdir(directory), ==, 0);
}

static void nothing(void) {}

/* ---- open ------------------------------------------------------------------------------------ */

/* Of a FIFO, which waits for the other end. O_CREAT: io_uring then does not try without blocking
 * first, which for a FIFO would do. */
static void open_set_up(const struct matrix_cell *cell)
{
    directory_set_up();
    check_int(mkfifo(path, 0600), ==, 0);
    name(other_path, cell->fails ? "/one/below" : "/one");
}

static int64_t open_call(uint64_t deadline_ns)
{
    int opened = weir_file_open(AT_FDCWD, other_path, O_RDONLY | O_CREAT, 0600);
    if (opened < 0)
        return opened;
    check_int(weir_file_close(opened), ==, 0);
    return 1;
}

static void open_complete(void)
{
    fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    check_int(fd, >=, 0);
}

MATRIX_ROW(file_open) = {
    .name = "weir_file_open",
    .flags = MATRIX_NO_DEADLINE | MATRIX_MAY_FINISH,
    .set_up = open_set_up,
    .call = open_call,
    .complete = open_complete,
    .result = 1,
    .fail = nothing,
    .error = -ENOTDIR,
    .tear_down = directory_tear_down,
};

/* ---- close ----------------------------------------------------------------------------------- */

static void close_set_up(const struct matrix_cell *cell)
{
    directory_set_up();
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    check_int(fd, >=, 0);
    if (cell->fails)
        close(fd);
}

static int64_t close_call(uint64_t deadline_ns)
{
    int closed = fd;
    fd = -1;
    return weir_file_close(closed);
}

MATRIX_ROW(file_close) = {
    .name = "weir_file_close",
    .flags = MATRIX_UNCUT,
    .set_up = close_set_up,
    .call = close_call,
    .complete = nothing,
    .fail = nothing,
    .error = -EBADF,
    .tear_down = directory_tear_down,
};

/* ---- rename, for all that changes what names there are --------------------------------------- */

static void rename_set_up(const struct matrix_cell *cell)
{
    directory_set_up();
    if (!cell->fails)
        check_int(mknod(path, S_IFREG | 0600, 0), ==, 0);
}

static int64_t rename_call(uint64_t deadline_ns)
{
    return weir_file_rename(AT_FDCWD, path, AT_FDCWD, other_path, 0);
}

/* Nothing was done where it says so. */
static void rename_after(const struct matrix_cell *cell)
{
    check_int(access(path, F_OK), ==, cell->result == 0 || cell->fails ? -1 : 0);
    check_int(access(other_path, F_OK), ==, cell->result == 0 ? 0 : -1);
}

MATRIX_ROW(file_rename) = {
    .name = "weir_file_rename",
    .flags = MATRIX_NO_DEADLINE | MATRIX_MAY_FINISH,
    .set_up = rename_set_up,
    .call = rename_call,
    .complete = nothing,
    .fail = nothing,
    .error = -ENOENT,
    .after = rename_after,
    .tear_down = directory_tear_down,
};
