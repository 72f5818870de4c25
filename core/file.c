/* Waits on files; see weir/file.h. Each is one op. */
#include <weir/file.h>

#include "core/loop.h"

/* The most that one read(2) or write(2) moves. */
enum { BYTES_MAX = 0x7ffff000 };

static struct weir_task *running(void)
{
    struct weir_task *task = weir_task_self();

    assert(task && "weir_file_*: not in a task");
    return task;
}

static int transfer(enum weir__op_kind kind, int fd, const void *data, size_t bytes, int64_t offset)
{
    struct weir__op op = {.kind = (uint8_t)kind,
                          .fd = fd,
                          .data = (void *)(uintptr_t)data,
                          .len = bytes < BYTES_MAX ? (uint32_t)bytes : BYTES_MAX,
                          .offset = (uint64_t)offset};

    return weir__task_op(running(), &op, WEIR_FOREVER);
}

int weir_file_read(int fd, void *data, size_t bytes, int64_t offset)
{
    return transfer(WEIR__OP_READ, fd, data, bytes, offset);
}

int weir_file_write(int fd, const void *data, size_t bytes, int64_t offset)
{
    return transfer(WEIR__OP_WRITE, fd, data, bytes, offset);
}

static int transfer_pieces(enum weir__op_kind kind, int fd, const struct iovec *pieces,
                           unsigned count, int64_t offset)
{
    struct weir__op op = {.kind = (uint8_t)kind,
                          .flags = WEIR__OP_VECTORED,
                          .fd = fd,
                          .data = (void *)(uintptr_t)pieces,
                          .len = count,
                          .offset = (uint64_t)offset};

    return weir__task_op(running(), &op, WEIR_FOREVER);
}

int weir_file_readv(int fd, const struct iovec *pieces, unsigned count, int64_t offset)
{
    return transfer_pieces(WEIR__OP_READ, fd, pieces, count, offset);
}

int weir_file_writev(int fd, const struct iovec *pieces, unsigned count, int64_t offset)
{
    return transfer_pieces(WEIR__OP_WRITE, fd, pieces, count, offset);
}

int weir_file_sync(int fd, int data_only)
{
    struct weir__op op = {.kind = WEIR__OP_FSYNC, .fd = fd, .len = data_only != 0};

    return weir__task_op(running(), &op, WEIR_FOREVER);
}

static struct weir__op file_op(enum weir__file_code code, int fd, struct weir__file_call *call)
{
    return (struct weir__op){.kind = WEIR__OP_FILE, .fd = fd, .len = code, .data = call};
}

static int file_call(enum weir__file_code code, int fd, struct weir__file_call call)
{
    struct weir__op op = file_op(code, fd, &call);

    return weir__task_op(running(), &op, WEIR_FOREVER);
}

int weir_file_close(int fd)
{
    struct weir__op op = file_op(WEIR__FILE_CLOSE, fd, NULL);
    int res = weir__task_op_through(running(), &op);

    return res == -EINTR ? 0 : res; /* Linux has given the descriptor up by then */
}

int weir_file_open(int dir, const char *path, int flags, mode_t mode)
{
    return file_call(WEIR__FILE_OPEN, dir,
                     (struct weir__file_call){
                         .path = path, .flags = (uint32_t)(flags | O_CLOEXEC), .mode = mode});
}

int weir_file_stat(int dir, const char *path, int flags, unsigned mask, struct statx *out)
{
    return file_call(
        WEIR__FILE_STAT, dir,
        (struct weir__file_call){.path = path, .flags = (uint32_t)flags, .mask = mask, .out = out});
}

int weir_file_rename(int dir, const char *path, int to_dir, const char *to_path, unsigned flags)
{
    return file_call(WEIR__FILE_RENAME, dir,
                     (struct weir__file_call){
                         .path = path, .to_dir = to_dir, .to_path = to_path, .flags = flags});
}

int weir_file_unlink(int dir, const char *path, int flags)
{
    return file_call(WEIR__FILE_UNLINK, dir,
                     (struct weir__file_call){.path = path, .flags = (uint32_t)flags});
}

int weir_file_mkdir(int dir, const char *path, mode_t mode)
{
    return file_call(WEIR__FILE_MKDIR, dir, (struct weir__file_call){.path = path, .mode = mode});
}

int weir_file_allocate(int fd, int mode, int64_t offset, int64_t bytes)
{
    return file_call(
        WEIR__FILE_ALLOCATE, fd,
        (struct weir__file_call){.mode = (uint32_t)mode, .offset = offset, .bytes = bytes});
}

int weir_file_truncate(int fd, int64_t bytes)
{
    return file_call(WEIR__FILE_TRUNCATE, fd, (struct weir__file_call){.bytes = bytes});
}
