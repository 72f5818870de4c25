/*
 * Requests on files. Most are carried out by the kernel's own worker threads, some at once where
 * the answer is in memory. What this kernel has no request for, the helper threads do (submit.c).
 */
#include "uring/internal.h"

static const uint8_t opcodes[WEIR__FILE_CODES] = {
    [WEIR__FILE_OPEN] = IORING_OP_OPENAT,        [WEIR__FILE_CLOSE] = IORING_OP_CLOSE,
    [WEIR__FILE_STAT] = IORING_OP_STATX,         [WEIR__FILE_RENAME] = IORING_OP_RENAMEAT,
    [WEIR__FILE_UNLINK] = IORING_OP_UNLINKAT,    [WEIR__FILE_MKDIR] = IORING_OP_MKDIRAT,
    [WEIR__FILE_ALLOCATE] = IORING_OP_FALLOCATE, [WEIR__FILE_TRUNCATE] = WEIR__OP_FTRUNCATE_OPCODE,
};

uint32_t weir__uring_file_codes(const struct io_uring_probe *probe)
{
    uint32_t codes = 0;
    for (unsigned code = 0; code < WEIR__FILE_CODES; code++)
        codes |= (uint32_t)io_uring_opcode_supported(probe, opcodes[code]) << code;
    return codes;
}

void weir__uring_fill_transfer(struct weir__uring *uring, struct weir__op *op,
                               struct io_uring_sqe *sqe)
{
    if (op->flags & WEIR__OP_VECTORED)
        sqe->opcode = op->kind == WEIR__OP_READ ? IORING_OP_READV : IORING_OP_WRITEV;
    else
        sqe->opcode = op->kind == WEIR__OP_READ ? IORING_OP_READ : IORING_OP_WRITE;
    sqe->addr = (uint64_t)(uintptr_t)op->data;
    sqe->len = op->len;
    sqe->off = op->offset;
}

void weir__uring_fill_fsync(struct weir__uring *uring, struct weir__op *op,
                            struct io_uring_sqe *sqe)
{
    sqe->opcode = IORING_OP_FSYNC;
    sqe->fsync_flags = op->len == 1 ? IORING_FSYNC_DATASYNC : 0;
}

/* Where the fields go: each request's io_*_prep() in the kernel's io_uring/. */
void weir__uring_fill_file(struct weir__uring *uring, struct weir__op *op, struct io_uring_sqe *sqe)
{
    const struct weir__file_call *call = op->data;
    sqe->opcode = opcodes[op->len];
    if (op->len != WEIR__FILE_CLOSE) {
        sqe->addr = (uint64_t)(uintptr_t)call->path;
        sqe->open_flags = call->flags; /* one field with all the others' flags */
    }
    switch ((enum weir__file_code)op->len) {
    case WEIR__FILE_OPEN:
    case WEIR__FILE_MKDIR:
        sqe->len = call->mode;
        break;
    case WEIR__FILE_STAT:
        sqe->len = call->mask;
        sqe->off = (uint64_t)(uintptr_t)call->out;
        break;
    case WEIR__FILE_RENAME:
        sqe->len = (uint32_t)call->to_dir;
        sqe->off = (uint64_t)(uintptr_t)call->to_path;
        break;
    case WEIR__FILE_ALLOCATE:
        sqe->len = call->mode;
        sqe->off = (uint64_t)call->offset;
        sqe->addr = (uint64_t)call->bytes;
        break;
    case WEIR__FILE_TRUNCATE:
        sqe->off = (uint64_t)call->bytes;
        break;
    default:
        break;
    }
}

/* A cancel interrupts a worker thread in what it may leave (opening a FIFO). Trap: of that some
 * requests tell what the kernel keeps to itself elsewhere (seen on 6.18 of opening). */
int32_t weir__uring_file_result(const struct weir__op *op, int32_t res)
{
    enum { ERESTARTSYS_OF_THE_KERNEL = 512 };
    if (res == -ERESTARTSYS_OF_THE_KERNEL)
        res = -EINTR;
    return res == -EINTR && op->state == WEIR__OP_CANCELLING ? -ECANCELED : res;
}
