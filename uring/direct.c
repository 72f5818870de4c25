/*
 * Direct descriptors: accepted connections that live in a table of the ring instead of the
 * process's. A request on one looks nothing up and counts no reference, and RLIMIT_NOFILE does not
 * count it. In memory it is the same: what a connection takes is its socket, not its number. To
 * core they are numbers like others, from WEIR__URING_DIRECT_FD up.
 *
 * Here: the table, and what is done to one without an op: a descriptor of the process for it, and
 * closing it. Its requests are submit.c's. See io_uring_register_files(3).
 */
#include "uring/internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    SLOTS_MOST = 1 << 20, /* the kernel's IORING_MAX_FIXED_FILES */
    /* What a multishot accept takes beyond conns_max before it is stopped: a whole backlog. A peer
     * for whom there is no slot would be lost, for the kernel looks for one when it has accepted.
     */
    BEYOND_CONNS_MAX = SOMAXCONN,
    INSTALL_TRIES = 100
};

static uint32_t slots_allowed(const struct weir__engine_options *options)
{
    struct rlimit nofile = {0};
    uint64_t wanted =
        options->conns_max ? (uint64_t)options->conns_max + BEYOND_CONNS_MAX : SLOTS_MOST;
    getrlimit(RLIMIT_NOFILE, &nofile); /* the kernel holds a table to it, too */
    uint64_t most = nofile.rlim_cur < SLOTS_MOST ? nofile.rlim_cur : SLOTS_MOST;
    return (uint32_t)(wanted < most ? wanted : most);
}

int weir__uring_direct_open(struct weir__uring *uring, const struct weir__engine_options *options)
{
    uint32_t slots = slots_allowed(options);
    int error = slots ? io_uring_register_files_sparse(&uring->ring, slots) : -EMFILE;
    if (error == 0)
        uring->direct_slots = slots;
    return error;
}

/* The connections are closed by now. */
void weir__uring_direct_close(struct weir__uring *uring)
{
    for (uint32_t slot = 0; uring->process_fds && slot < uring->direct_slots; slot++)
        if (uring->process_fds[slot])
            close(uring->process_fds[slot] - 1);
    free(uring->process_fds);
}

/* The answer, if it is among the completions that are not reaped yet. */
static struct io_uring_cqe *answer_to(struct weir__uring *uring, uint64_t token)
{
    struct io_uring_cq *cq = &uring->ring.cq;
    unsigned head = *cq->khead, ready = io_uring_cq_ready(&uring->ring);
    for (unsigned i = 0; i < ready; i++) {
        struct io_uring_cqe *cqe = &cq->cqes[(head + i) & cq->ring_mask];
        if (cqe->user_data == token)
            return cqe;
    }
    return NULL;
}

/* The kernel installs it inside the enter that takes the request, so the answer is there when that
 * returns, if there is room for it among the completions. If not, who reaps it closes it. */
static int install(struct weir__uring *uring, uint32_t slot)
{
    struct io_uring_sqe *sqe = weir__uring_get_sqe(uring);
    if (!sqe)
        return -EBUSY;
    uint64_t token = ++uring->installs * (WEIR__URING_TAG_MASK + 1) | WEIR__URING_TAG_INSTALL;
    sqe->opcode = WEIR__OP_FIXED_FD_INSTALL_OPCODE;
    sqe->flags = IOSQE_FIXED_FILE;
    sqe->fd = (int32_t)slot;
    sqe->user_data = token;
    for (int tries = 0; tries < INSTALL_TRIES; tries++) { /* interrupted, or short of memory */
        weir__uring_flush(uring);
        if (weir__uring_sq_left(uring) == 0)
            break;
    }
    struct io_uring_cqe *cqe = answer_to(uring, token);
    if (!cqe)
        return -EBUSY;
    cqe->user_data = WEIR__URING_TAG_NOBODY; /* it was heard */
    return cqe->res;
}

int weir__uring_process_fd(struct weir__engine *engine, int32_t fd)
{
    struct weir__uring *uring = (struct weir__uring *)engine;
    if (!weir__uring_is_direct(fd))
        return fd;
    uint32_t slot = weir__uring_slot(fd);
    assert(slot < uring->direct_slots);
    if (!uring->process_fds)
        uring->process_fds = calloc(uring->direct_slots, sizeof *uring->process_fds);
    if (!uring->process_fds)
        return -ENOMEM;
    if (!uring->process_fds[slot]) {
        int installed = install(uring, slot);
        if (installed < 0)
            return installed;
        uring->process_fds[slot] = installed + 1;
    }
    return uring->process_fds[slot] - 1;
}

static void close_process_fd(struct weir__uring *uring, uint32_t slot)
{
    if (!uring->process_fds || !uring->process_fds[slot])
        return;
    close(uring->process_fds[slot] - 1);
    uring->process_fds[slot] = 0;
}

void weir__uring_drop_fd(struct weir__engine *engine, int32_t fd)
{
    struct weir__uring *uring = (struct weir__uring *)engine;
    int none = -1;
    if (!weir__uring_is_direct(fd)) {
        close(fd);
        return;
    }
    close_process_fd(uring, weir__uring_slot(fd));
    io_uring_register_files_update(&uring->ring, weir__uring_slot(fd), &none, 1);
}

/* weir__reset_at_close(), as a request; it is carried out in its place in the queue, before the
 * close that follows. The fields are those of Linux 6.7, for which liburing 2.3 has no names. */
static int reset_at_close(struct weir__uring *uring, uint32_t slot)
{
    static const struct linger reset = {.l_onoff = 1};
    static const uint32_t level_and_name[2] = {SOL_SOCKET, SO_LINGER};
    struct io_uring_sqe *sqe = weir__uring_get_sqe(uring);
    if (!sqe)
        return -EBUSY;
    sqe->opcode = IORING_OP_URING_CMD;
    sqe->cmd_op = WEIR__SOCKET_SETSOCKOPT;
    sqe->flags = IOSQE_FIXED_FILE;
    sqe->fd = (int32_t)slot;
    memcpy(&sqe->addr, level_and_name, sizeof level_and_name);
    sqe->file_index = sizeof reset; /* optlen */
    sqe->addr3 = (uint64_t)(uintptr_t)&reset;
    sqe->user_data = WEIR__URING_TAG_NOBODY;
    return 0;
}

int weir__uring_before_close(struct weir__uring *uring, const struct weir__op *op)
{
    int reset = op->flags & WEIR__OP_RESET;
    if (weir__uring_is_direct(op->fd)) {
        close_process_fd(uring, weir__uring_slot(op->fd));
        return reset ? reset_at_close(uring, weir__uring_slot(op->fd)) : 0;
    }
    if (reset)
        weir__reset_at_close(op->fd);
    return 0;
}
