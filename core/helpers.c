/* The helper threads; see core/helpers.h. */
#include "core/helpers.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/engine.h"

/* As io_uring has it: where there are no positions the offset does not count. */
static ssize_t transfer(const struct weir__op *op, bool own_position)
{
    bool reads = op->kind == WEIR__OP_READ;
    off_t offset = (off_t)op->offset;

    if (op->flags & WEIR__OP_VECTORED) {
        const struct iovec *pieces = op->data;
        int count = op->len < INT_MAX ? (int)op->len : INT_MAX;
        if (own_position)
            return reads ? readv(op->fd, pieces, count) : writev(op->fd, pieces, count);
        return reads ? preadv(op->fd, pieces, count, offset)
                     : pwritev(op->fd, pieces, count, offset);
    }
    if (own_position)
        return reads ? read(op->fd, op->data, op->len) : write(op->fd, op->data, op->len);
    return reads ? pread(op->fd, op->data, op->len, offset)
                 : pwrite(op->fd, op->data, op->len, offset);
}

static ssize_t perform_transfer(const struct weir__op *op)
{
    ssize_t res = transfer(op, op->offset == UINT64_MAX);

    return res < 0 && errno == ESPIPE ? transfer(op, true) : res;
}

static int perform_file_call(const struct weir__op *op)
{
    const struct weir__file_call *call = op->data;

    switch ((enum weir__file_code)op->len) {
    case WEIR__FILE_OPEN:
        return openat(op->fd, call->path, (int)call->flags, call->mode);
    case WEIR__FILE_CLOSE:
        return close(op->fd);
    case WEIR__FILE_STAT:
        return statx(op->fd, call->path, (int)call->flags, call->mask, call->out);
    case WEIR__FILE_RENAME: /* no function of every libc */
        return (int)syscall(SYS_renameat2, op->fd, call->path, call->to_dir, call->to_path,
                            call->flags);
    case WEIR__FILE_UNLINK:
        return unlinkat(op->fd, call->path, (int)call->flags);
    case WEIR__FILE_MKDIR:
        return mkdirat(op->fd, call->path, call->mode);
    case WEIR__FILE_ALLOCATE:
        return fallocate(op->fd, (int)call->mode, call->offset, call->bytes);
    case WEIR__FILE_TRUNCATE:
        return ftruncate(op->fd, call->bytes);
    default:
        assert(!"a file op of no kind");
        return -1;
    }
}

int32_t weir__op_perform(const struct weir__op *op)
{
    ssize_t res = -1;

    switch (op->kind) {
    case WEIR__OP_READ:
    case WEIR__OP_WRITE:
        res = perform_transfer(op);
        break;
    case WEIR__OP_FSYNC:
        res = op->len ? fdatasync(op->fd) : fsync(op->fd);
        break;
    case WEIR__OP_FILE:
        res = perform_file_call(op);
        break;
    case WEIR__OP_CALL:
        return op->call(op->data);
    default:
        assert(!"an op that no helper performs");
    }
    return res < 0 ? -errno : (int32_t)res;
}

static void push(struct weir__op **head, struct weir__op **tail, struct weir__op *op)
{
    op->next = NULL;
    if (*tail)
        (*tail)->next = op;
    else
        *head = op;
    *tail = op;
}

static struct weir__op *pop(struct weir__op **head, struct weir__op **tail)
{
    struct weir__op *op = *head;
    *head = op->next;
    if (!*head)
        *tail = NULL;
    return op;
}

static void *helper_main(void *argument)
{
    struct weir__helpers *helpers = argument;

    pthread_mutex_lock(&helpers->lock);
    while (!helpers->ending) {
        if (!helpers->queue_head) {
            helpers->idle++;
            pthread_cond_wait(&helpers->more, &helpers->lock);
            helpers->idle--;
            continue;
        }
        struct weir__op *op = pop(&helpers->queue_head, &helpers->queue_tail);
        helpers->queued--;
        pthread_mutex_unlock(&helpers->lock);
        op->res = weir__op_perform(op);
        pthread_mutex_lock(&helpers->lock);
        bool first = !helpers->done_head;
        push(&helpers->done_head, &helpers->done_tail, op);
        if (first) {
            /* Under the lock: deinit cannot free what notify touches before we let go. */
            helpers->notify(helpers->argument);
        }
    }
    pthread_mutex_unlock(&helpers->lock);
    return NULL;
}

int weir__helpers_init(struct weir__helpers *helpers, uint32_t threads_max, uint32_t queued_max,
                       int (*notify)(void *argument), void *argument)
{
    *helpers = (struct weir__helpers){.threads_max = threads_max,
                                      .queued_max = queued_max,
                                      .notify = notify,
                                      .argument = argument};
    helpers->ids = calloc(threads_max, sizeof *helpers->ids);
    if (!helpers->ids)
        return -ENOMEM;
    pthread_mutex_init(&helpers->lock, NULL);
    pthread_cond_init(&helpers->more, NULL);
    return 0;
}

void weir__helpers_deinit(struct weir__helpers *helpers)
{
    if (!helpers->ids)
        return;
    pthread_mutex_lock(&helpers->lock);
    helpers->ending = true;
    pthread_cond_broadcast(&helpers->more);
    pthread_mutex_unlock(&helpers->lock);
    for (uint32_t i = 0; i < helpers->threads; i++)
        pthread_join(helpers->ids[i], NULL);
    pthread_cond_destroy(&helpers->more);
    pthread_mutex_destroy(&helpers->lock);
    free(helpers->ids);
    *helpers = (struct weir__helpers){0};
}

/* Signals are the loop's: a helper that took SIGTERM would be a surprise to everyone. */
static int start_helper(struct weir__helpers *helpers)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&helpers->ids[helpers->threads], NULL, helper_main, helpers);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error)
        return -error;
    helpers->threads++;
    return 0;
}

int weir__helpers_submit(struct weir__helpers *helpers, struct weir__op *op)
{
    int error = 0;

    pthread_mutex_lock(&helpers->lock);
    if (helpers->queued >= helpers->queued_max) {
        pthread_mutex_unlock(&helpers->lock);
        return -EBUSY;
    }
    if (helpers->idle <= helpers->queued && helpers->threads < helpers->threads_max)
        error = start_helper(helpers);
    if (error && !helpers->threads) {
        pthread_mutex_unlock(&helpers->lock);
        return -EAGAIN;
    }
    weir__op_set_state(op, WEIR__OP_HELD);
    push(&helpers->queue_head, &helpers->queue_tail, op);
    helpers->queued++;
    helpers->held++;
    pthread_cond_signal(&helpers->more);
    pthread_mutex_unlock(&helpers->lock);
    return WEIR__QUEUED;
}

int weir__helpers_cancel(struct weir__helpers *helpers, struct weir__op *op)
{
    struct weir__op **link, *before = NULL;
    int taken = 0;

    pthread_mutex_lock(&helpers->lock);
    for (link = &helpers->queue_head; *link; before = *link, link = &(*link)->next) {
        if (*link != op)
            continue;
        *link = op->next;
        if (helpers->queue_tail == op)
            helpers->queue_tail = before;
        helpers->queued--;
        op->res = -ECANCELED;
        push(&helpers->done_head, &helpers->done_tail, op);
        taken = 1;
        break;
    }
    pthread_mutex_unlock(&helpers->lock);
    if (taken)
        helpers->notify(helpers->argument);
    return taken;
}

bool weir__helpers_full(struct weir__helpers *helpers)
{
    if (!helpers->held)
        return false;
    pthread_mutex_lock(&helpers->lock);
    bool full = helpers->queued >= helpers->queued_max;
    pthread_mutex_unlock(&helpers->lock);
    return full;
}

bool weir__helpers_finished(struct weir__helpers *helpers)
{
    if (!helpers->held)
        return false;
    pthread_mutex_lock(&helpers->lock);
    bool finished = helpers->done_head;
    pthread_mutex_unlock(&helpers->lock);
    return finished;
}

unsigned weir__helpers_reap(struct weir__helpers *helpers)
{
    unsigned count = 0;

    if (!helpers->held)
        return 0;
    pthread_mutex_lock(&helpers->lock);
    struct weir__op *op = helpers->done_head;
    helpers->done_head = helpers->done_tail = NULL;
    pthread_mutex_unlock(&helpers->lock);
    while (op) {
        struct weir__op *next = op->next;
        helpers->held--;
        count++;
        weir__op_complete(op, op->res, 0);
        op = next;
    }
    return count;
}
