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

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
