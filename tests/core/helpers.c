/* The helper threads: started on demand, bounded, and every call answered once. */
#include <criterion/criterion.h>

#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/engine.h"
#include "core/helpers.h"

static sem_t notified, begun, go;
static unsigned done_count;
static int32_t done_sum;

static int notify(void *argument)
{
    sem_post(&notified);
    return 0;
}

static void done(struct weir__op *op)
{
    done_count++;
    done_sum += op->res;
}

static void setup(void)
{
    sem_init(&notified, 0, 0);
    sem_init(&begun, 0, 0);
    sem_init(&go, 0, 0);
}

static void reap_until(struct weir__helpers *helpers, unsigned count)
{
    while (done_count < count) {
        sem_wait(&notified);
        weir__helpers_reap(helpers);
    }
    cr_assert_eq(done_count, count);
    cr_assert_eq(helpers->held, 0);
}

static int32_t one(void *argument)
{
    return 1;
}

static int32_t hold(void *argument)
{
    sem_post(&begun);
    sem_wait(&go);
    return 100;
}

TestSuite(helpers, .init = setup, .timeout = 60);

Test(helpers, every_call_is_answered_once)
{
    enum { CALLS = 500 };
    struct weir__helpers helpers;
    struct weir__op *ops = calloc(CALLS, sizeof *ops);
    cr_assert_eq(weir__helpers_init(&helpers, 3, CALLS, notify, NULL), 0);
    for (int i = 0; i < CALLS; i++) {
        ops[i] = (struct weir__op){.kind = WEIR__OP_CALL, .call = one, .done = done};
        cr_assert_eq(weir__helpers_submit(&helpers, &ops[i]), WEIR__QUEUED);
        cr_assert_eq(ops[i].state, WEIR__OP_HELD);
    }
    reap_until(&helpers, CALLS);
    cr_assert_eq(done_sum, CALLS);
    cr_assert(helpers.threads >= 1 && helpers.threads <= 3);
    weir__helpers_deinit(&helpers);
    free(ops);
}

Test(helpers, no_thread_is_started_before_the_first_call)
{
    struct weir__helpers helpers;
    cr_assert_eq(weir__helpers_init(&helpers, 8, 8, notify, NULL), 0);
    cr_assert_eq(helpers.threads, 0);
    cr_assert_not(weir__helpers_finished(&helpers));
    cr_assert_eq(weir__helpers_reap(&helpers), 0);
    weir__helpers_deinit(&helpers);
}

Test(helpers, a_full_queue_refuses_and_a_queued_call_is_taken_back)
{
    struct weir__helpers helpers;
    struct weir__op ops[4];
    for (int i = 0; i < 4; i++)
        ops[i] = (struct weir__op){.kind = WEIR__OP_CALL, .call = i ? one : hold, .done = done};
    cr_assert_eq(weir__helpers_init(&helpers, 1, 2, notify, NULL), 0);
    cr_assert_eq(weir__helpers_submit(&helpers, &ops[0]), WEIR__QUEUED);
    sem_wait(&begun);
    cr_assert_eq(weir__helpers_submit(&helpers, &ops[1]), WEIR__QUEUED);
    cr_assert_eq(weir__helpers_submit(&helpers, &ops[2]), WEIR__QUEUED);
    cr_assert_eq(weir__helpers_submit(&helpers, &ops[3]), -EBUSY);
    cr_assert_eq(ops[3].state, WEIR__OP_IDLE);

    cr_assert_eq(weir__helpers_cancel(&helpers, &ops[0]), 0); /* it has begun */
    cr_assert_eq(weir__helpers_cancel(&helpers, &ops[2]), 1);
    cr_assert_eq(weir__helpers_reap(&helpers), 1);
    cr_assert_eq(ops[2].res, -ECANCELED);
    cr_assert_eq(weir__helpers_submit(&helpers, &ops[3]), WEIR__QUEUED); /* behind ops[1] */
    sem_post(&go);
    reap_until(&helpers, 4);
    cr_assert_eq(done_sum, 100 + 1 + 1 - ECANCELED);
    weir__helpers_deinit(&helpers);
}

static int32_t blocked_signals(void *argument)
{
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    return sigismember(&blocked, SIGTERM) == 1 && sigismember(&blocked, SIGINT) == 1;
}

Test(helpers, signals_are_left_to_the_loop)
{
    struct weir__helpers helpers;
    struct weir__op op = {.kind = WEIR__OP_CALL, .call = blocked_signals, .done = done};
    cr_assert_eq(weir__helpers_init(&helpers, 1, 1, notify, NULL), 0);
    cr_assert_eq(weir__helpers_submit(&helpers, &op), WEIR__QUEUED);
    reap_until(&helpers, 1);
    cr_assert_eq(op.res, 1);
    weir__helpers_deinit(&helpers);
}

Test(helpers, file_ops_are_performed_as_they_are)
{
    struct weir__helpers helpers;
    char path[] = "/tmp/weir-helpers-XXXXXX", back[8] = "";
    int fd = mkostemp(path, O_CLOEXEC);
    cr_assert(fd >= 0);
    unlink(path);
    struct weir__op ops[] = {
        {.kind = WEIR__OP_WRITE, .fd = fd, .data = "weirs", .len = 5, .offset = 3},
        {.kind = WEIR__OP_FSYNC, .fd = fd},
        {.kind = WEIR__OP_FSYNC, .fd = fd, .len = 1},
        {.kind = WEIR__OP_READ, .fd = fd, .data = back, .len = 8, .offset = 4},
        {.kind = WEIR__OP_READ, .fd = -1, .data = back, .len = 8},
    };
    static const int32_t expected[] = {5, 0, 0, 4, -EBADF};
    cr_assert_eq(weir__helpers_init(&helpers, 1, 1, notify, NULL), 0);
    for (unsigned i = 0; i < 5; i++) {
        ops[i].done = done;
        cr_assert_eq(weir__helpers_submit(&helpers, &ops[i]), WEIR__QUEUED);
        reap_until(&helpers, i + 1);
        cr_assert_eq(ops[i].res, expected[i], "op %u: %d", i, ops[i].res);
    }
    cr_assert_str_eq(back, "eirs");
    weir__helpers_deinit(&helpers);
    close(fd);
}

/* By weir__op_perform() alone: what becomes of it is its op's. */
static int32_t perform_file(enum weir__file_code code, int fd, struct weir__file_call call)
{
    struct weir__op op = {.kind = WEIR__OP_FILE, .fd = fd, .len = code, .data = &call};
    return weir__op_perform(&op);
}

Test(helpers, calls_on_files_read_the_fields_they_are_said_to)
{
    char directory[] = "/tmp/weir-helpers-XXXXXX";
    struct statx seen;
    cr_assert(mkdtemp(directory));
    int dir = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cr_assert(dir >= 0);
    struct weir__file_call one = {.path = "one",
                                  .flags = O_RDWR | O_CREAT | O_CLOEXEC,
                                  .mode = 0600,
                                  .bytes = 3,
                                  .out = &seen};
    struct weir__file_call two = {.path = "one", .to_dir = dir, .to_path = "two"};
    int fd = perform_file(WEIR__FILE_OPEN, dir, one);
    cr_assert(fd >= 0);
    cr_assert_eq(perform_file(WEIR__FILE_TRUNCATE, fd, one), 0);
    one.flags = 0;
    one.mask = STATX_SIZE;
    cr_assert_eq(perform_file(WEIR__FILE_STAT, dir, one), 0);
    cr_assert_eq(seen.stx_size, 3);
    cr_assert_eq(perform_file(WEIR__FILE_RENAME, dir, two), 0);
    cr_assert_eq(perform_file(WEIR__FILE_STAT, dir, one), -ENOENT);
    cr_assert_eq(perform_file(WEIR__FILE_CLOSE, fd, (struct weir__file_call){0}), 0);
    cr_assert_eq(perform_file(WEIR__FILE_ALLOCATE, fd, one), -EBADF);
    cr_assert_eq(perform_file(WEIR__FILE_MKDIR, dir, one), 0);
    one.flags = AT_REMOVEDIR;
    cr_assert_eq(perform_file(WEIR__FILE_UNLINK, dir, one), 0);
    two = (struct weir__file_call){.path = "two"};
    cr_assert_eq(perform_file(WEIR__FILE_UNLINK, dir, two), 0);
    close(dir);
    cr_assert_eq(rmdir(directory), 0);
}

Test(helpers, pieces_move_at_an_offset_or_at_the_position_or_where_there_is_none)
{
    char back[6] = "";
    struct iovec out[2] = {{"we", 2}, {"irs", 3}}, in[2] = {{back, 1}, {back + 1, 4}};
    int ends[2], fd = memfd_create("helpers", MFD_CLOEXEC);
    struct weir__op op = {.kind = WEIR__OP_WRITE,
                          .flags = WEIR__OP_VECTORED,
                          .fd = fd,
                          .data = out,
                          .len = 2,
                          .offset = 10};
    cr_assert(fd >= 0 && pipe2(ends, O_CLOEXEC) == 0);
    cr_assert_eq(weir__op_perform(&op), 5);
    cr_assert_eq(lseek(fd, 0, SEEK_CUR), 0);
    op.fd = ends[1];
    cr_assert_eq(weir__op_perform(&op), 5);
    op = (struct weir__op){.kind = WEIR__OP_READ,
                           .flags = WEIR__OP_VECTORED,
                           .fd = fd,
                           .data = in,
                           .len = 2,
                           .offset = 10};
    cr_assert_eq(weir__op_perform(&op), 5);
    cr_assert_str_eq(back, "weirs");
    op.offset = UINT64_MAX;
    cr_assert_eq(weir__op_perform(&op), 5);
    cr_assert_eq(lseek(fd, 0, SEEK_CUR), 5);
    op.fd = ends[0];
    op.offset = 7;
    cr_assert_eq(weir__op_perform(&op), 5);
    cr_assert_str_eq(back, "weirs");
    close(fd);
    close(ends[0]);
    close(ends[1]);
}
