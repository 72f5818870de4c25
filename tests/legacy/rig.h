/*
 * What the tests of legacy/ stand on: one engine with a pool of buffers, a stub for the helper
 * threads, tasks that note what completed, and pairs of sockets. Everything is bounded in time.
 */
#ifndef WEIR_TESTS_LEGACY_RIG_H
#define WEIR_TESTS_LEGACY_RIG_H

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/engine.h"
#include "legacy/reactor.h"

/* One text, four tests: epoll.name, epoll_et.name, poll.name, select.name. */
#define ENGINE_TEST(name)                                                                          \
    static void run_##name(const struct weir__engine_ops *engine_ops);                             \
    Test(epoll, name)                                                                              \
    {                                                                                              \
        run_##name(&weir__engine_epoll);                                                           \
    }                                                                                              \
    Test(epoll_et, name)                                                                           \
    {                                                                                              \
        run_##name(&weir__engine_epoll_et);                                                        \
    }                                                                                              \
    Test(poll, name)                                                                               \
    {                                                                                              \
        run_##name(&weir__engine_poll);                                                            \
    }                                                                                              \
    Test(select, name)                                                                             \
    {                                                                                              \
        run_##name(&weir__engine_select);                                                          \
    }                                                                                              \
    static void run_##name(const struct weir__engine_ops *engine_ops)

enum { RIG_BUFS = 128, RIG_BUF_BYTES = 4096, RIG_LIMIT_S = 20 };

struct rig {
    struct weir__engine_env env; /* first: the stub finds the rig by it */
    const struct weir__engine_ops *ops;
    struct weir__engine *engine;
    struct weir__buf_pool bufs;
    struct weir__op *call; /* what the stub was given last */
    int calls, call_cancels;
};

/* An op and what became of it. */
struct task {
    struct weir__op op; /* first */
    struct rig *rig;
    int dones; /* completions, by done() or at submit */
    bool more; /* of the last */
    uint64_t bytes;
    uint8_t *sink; /* RECV: where bytes go; NULL: only counted */
    uint64_t sink_bytes;
    bool keep;              /* RECV: buffers stay lent, in `kept` */
    struct weir__buf *kept; /* LIFO */
    bool cancel_in_done;
    int fds[64], fd_count; /* ACCEPT */
    struct weir__buf *last_buf;
};

void rig_open(struct rig *rig, const struct weir__engine_ops *ops);
void rig_open_with(struct rig *rig, const struct weir__engine_ops *ops,
                   const struct weir__engine_options *options, uint32_t buf_count,
                   uint32_t buf_bytes);
/* Every buffer must be back. */
void rig_close(struct rig *rig);

void task_init(struct task *task, struct rig *rig, enum weir__op_kind kind, int fd);
/* Submits; a task that is done at once is noted as completed. Returns what submit() returned. */
int task_submit(struct task *task);
/* The usual ones. */
int task_recv(struct task *task, struct rig *rig, int fd);
int task_send(struct task *task, struct rig *rig, int fd, const void *data, uint32_t len);
int task_close(struct rig *rig, int fd);
void task_cancel(struct task *task);
void task_put_kept(struct task *task);

/* Waits until `*value` is at least `least`; fails the test after RIG_LIMIT_S. */
void rig_until(struct rig *rig, const int *value, int least);
void rig_until_bytes(struct rig *rig, const uint64_t *value, uint64_t least);
/* A wait as if for ever: fails the test where it does not end by itself. */
int rig_wait(struct rig *rig);
/* A wait that does not block, `times` times. */
int rig_turns(struct rig *rig, int times);
struct weir__engine_counters rig_counters(struct rig *rig);
uint64_t rig_now_ns(void);

/* Non-blocking, CLOEXEC. */
void local_pair(int fds[2]);
int tcp_listener(int backlog, struct sockaddr_storage *address, socklen_t *address_bytes);
/* Waits until a listener's backlog is full: further connects there wait. */
void await_full_backlog(int listener);
/* Blocks until `bytes` bytes are there, and takes them. */
void read_whole(int fd, void *data, size_t bytes);
void tcp_pair(int fds[2]);
int tcp_socket(void);
void set_reset_on_close(int fd);
/* Skips under Valgrind, which minds the limit of descriptors itself: its accept takes the
 * connection and closes it, where the kernel leaves it in the queue, and what comes in messages it
 * does not limit. */
void need_the_kernels_limit(void);
/* Bytes that tell where they stand. */
void fill_pattern(uint8_t *data, size_t bytes, uint32_t seed);

#endif
