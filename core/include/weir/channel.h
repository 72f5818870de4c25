/*
 * Channels: bounded queues of messages from task to task, of one loop or of several.
 *
 *     struct weir_channel lines;
 *     weir_channel_init(&lines, sizeof(struct line *), 16, NULL, 0);
 *
 *     weir_channel_send(&lines, &line, WEIR_FOREVER);             // one task
 *     while (weir_channel_recv(&lines, &line, WEIR_FOREVER) == 0) // another
 *         ...
 *
 * A message is element_bytes bytes, copied in and out; to hand something large over, send its
 * address. Any number of tasks may send and receive. Messages arrive in the order they were sent,
 * and tasks that wait are served first come, first served. Flags, deadlines, errors and what a
 * cancel means are as in weir/sync.h: a message that was taken for a task arrives there, though a
 * cancel comes before it runs, and a send that gave an error sent nothing.
 */
#ifndef WEIR_CHANNEL_H
#define WEIR_CHANNEL_H

#include <stddef.h>
#include <stdint.h>

#include <weir/sync.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct weir_conn;

/* Memory of the caller. All fields are weir's own. */
struct weir_channel {
    struct weir__sync sync;
    struct weir__queue senders, receivers;
    uint8_t *messages;
    size_t element_bytes, capacity, first, count;
    bool closed, allocated;
};

/* For `capacity` messages that nobody has received yet; 0: a send waits for a receiver
 * ("rendezvous"). element_bytes may be 0. `storage` is capacity * element_bytes of the caller's,
 * any alignment, or NULL: allocated. Flags: 0 or WEIR_ACROSS. 0, or -ENOMEM. */
int weir_channel_init(struct weir_channel *channel, size_t element_bytes, size_t capacity,
                      void *storage, unsigned flags);
/* Asserts that no task waits; messages that are left are dropped. */
void weir_channel_deinit(struct weir_channel *channel);

/* Waits in a task for room. 0; -EPIPE: closed, also while it waited; -ETIME, -ECANCELED. */
int weir_channel_send(struct weir_channel *channel, const void *element, uint64_t deadline_ns);
/* Waits in a task for a message. 0; -EPIPE: closed, and no message is left; -ETIME, -ECANCELED. */
int weir_channel_recv(struct weir_channel *channel, void *element, uint64_t deadline_ns);
/* The same without a wait: -EAGAIN. With WEIR_ACROSS any thread, in a task or not. */
int weir_channel_try_send(struct weir_channel *channel, const void *element);
int weir_channel_try_recv(struct weir_channel *channel, void *element);
/* No more is sent; what was is still received. Sends that wait end with -EPIPE, unsent. Again: no
 * effect. With WEIR_ACROSS any thread. */
void weir_channel_close(struct weir_channel *channel);
/* Messages in it now. Another thread may change that at once. */
size_t weir_channel_count(struct weir_channel *channel);

/* ---- one of several -------------------------------------------------------------------------- */

/*
 *     struct weir_case cases[] = {weir_case_recv(&lines, &line), weir_case_input(conn)};
 *     switch (weir_select(cases, 2, weir_now_ns() + WEIR_SECOND)) {
 *     case 0: ...              // `line` was received, or cases[0].res is -EPIPE
 *     case 1: ...              // weir_recv_until(conn, ...) does not wait
 *     default: ...             // -ETIME, -ECANCELED
 */
enum { WEIR_CASES_MAX = 32 };

enum weir_case_kind { WEIR_CASE_RECV, WEIR_CASE_SEND, WEIR_CASE_POLL, WEIR_CASE_INPUT };

/* Made by weir_case_...(). Memory of the caller; may be used again. */
struct weir_case {
    int kind;
    int res;  /* of the one that happened: what its call gives, >= 0 or -errno */
    void *of; /* channel or connection */
    void *element;
    int fd, events;
    void *own[12]; /* weir's own */
};

/* weir_channel_recv(): 0, or -EPIPE. */
static inline struct weir_case weir_case_recv(struct weir_channel *channel, void *element)
{
    struct weir_case one = {WEIR_CASE_RECV, 0, channel, element, -1, 0, {NULL}};
    return one;
}

/* weir_channel_send(): 0, or -EPIPE. */
static inline struct weir_case weir_case_send(struct weir_channel *channel, const void *element)
{
    struct weir_case one = {WEIR_CASE_SEND, 0, channel, (void *)(uintptr_t)element, -1, 0, {NULL}};
    return one;
}

/* weir_poll(): a descriptor that is not weir's is ready; the events, or -EBADF. */
static inline struct weir_case weir_case_poll(int fd, int events)
{
    struct weir_case one = {WEIR_CASE_POLL, 0, NULL, NULL, fd, events, {NULL}};
    return one;
}

/* weir_recv_until() on the connection would not wait: bytes, an end, an error. Nothing is received
 * yet. 0; -ESHUTDOWN: it closed meanwhile and is gone. */
static inline struct weir_case weir_case_input(struct weir_conn *conn)
{
    struct weir_case one = {WEIR_CASE_INPUT, 0, conn, NULL, -1, 0, {NULL}};
    return one;
}

/* Waits in a task until one of `count` cases, 1 to WEIR_CASES_MAX, can happen; exactly one does.
 * Its index; -ETIME, -ECANCELED: none did. Where several can at once, each is as likely, but for
 * descriptors: the engine is asked about those only when nothing else can happen. One of the cases
 * may be a connection's input, for which no other task may wait; no descriptor may be in two of
 * them. A channel may, with both directions, too. */
int weir_select(struct weir_case *cases, unsigned count, uint64_t deadline_ns);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
