/* Channels; see weir/channel.h. Tasks wait to send only while it is full, and to receive only while
 * it is empty, so a message goes to a waiting task directly or into the ring, never past another.
 */
#include "core/channel.h"

#include <stdlib.h>
#include <string.h>

int weir_channel_init(struct weir_channel *channel, size_t element_bytes, size_t capacity,
                      void *storage, unsigned flags)
{
    uint8_t *messages = storage;

    if (!storage && capacity && element_bytes && !(messages = calloc(capacity, element_bytes)))
        return -ENOMEM;
    *channel = (struct weir_channel){.messages = messages,
                                     .element_bytes = element_bytes,
                                     .capacity = capacity,
                                     .allocated = messages && !storage};
    weir__sync_init(&channel->sync, flags);
    return 0;
}

void weir_channel_deinit(struct weir_channel *channel)
{
    weir__sync_lock(&channel->sync);
    assert(!channel->senders.head && "weir_channel_deinit: a task waits to send");
    assert(!channel->receivers.head && "weir_channel_deinit: a task waits to receive");
    weir__sync_unlock(&channel->sync);
    weir__sync_deinit(&channel->sync);
    if (channel->allocated)
        free(channel->messages);
}

/* A pointer is the usual message, and not worth a call. */
static void copy(const struct weir_channel *channel, void *to, const void *from)
{
    if (channel->element_bytes == sizeof(void *))
        memcpy(to, from, sizeof(void *));
    else if (channel->element_bytes)
        memcpy(to, from, channel->element_bytes);
}

static void *place(const struct weir_channel *channel, size_t index)
{
    if (index >= channel->capacity)
        index -= channel->capacity;
    return channel->messages + index * channel->element_bytes;
}

int weir__channel_put(struct weir_channel *channel, const void *element,
                      struct weir__grants *grants)
{
    if (channel->closed)
        return -EPIPE;
    struct weir__waiter *receiver = weir__queue_take(&channel->receivers);
    if (receiver) {
        copy(channel, receiver->element, element);
        weir__grant(grants, receiver, 0);
        return 0;
    }
    if (channel->count == channel->capacity)
        return -EAGAIN;
    copy(channel, place(channel, channel->first + channel->count++), element);
    return 0;
}

int weir__channel_get(struct weir_channel *channel, void *element, struct weir__grants *grants)
{
    struct weir__waiter *sender;

    if (channel->count) {
        copy(channel, element, place(channel, channel->first));
        channel->first = channel->first + 1 == channel->capacity ? 0 : channel->first + 1;
        channel->count--;
        if ((sender = weir__queue_take(&channel->senders))) {
            copy(channel, place(channel, channel->first + channel->count++), sender->element);
            weir__grant(grants, sender, 0);
        }
        return 0;
    }
    if ((sender = weir__queue_take(&channel->senders))) { /* rendezvous */
        copy(channel, element, sender->element);
        weir__grant(grants, sender, 0);
        return 0;
    }
    return channel->closed ? -EPIPE : -EAGAIN;
}

/* What follows does the same, slower: within a loop, a task waits for what is sent. */
static bool hand_over(struct weir_channel *channel, const void *element)
{
    struct weir__waiter *receiver;

    if (!weir__sync_is_here(&channel->sync) || !(receiver = channel->receivers.head) ||
        receiver->select)
        return false;
    weir__queue_remove(receiver);
    copy(channel, receiver->element, element);
    weir__task_wake(receiver->task, 0);
    return true;
}

static __attribute__((noinline)) int send_or_wait(struct weir_channel *channel, const void *element,
                                                  struct weir_task *task, uint64_t deadline_ns)
{
    struct weir__grants grants = {0};

    weir__sync_enter(&channel->sync);
    int res = weir__channel_put(channel, element, &grants);
    if (res == -EAGAIN && !(res = weir__task_check(task))) {
        struct weir__waiter waiter = {.task = task, .element = (void *)(uintptr_t)element};
        weir__queue_push(&channel->senders, &channel->sync, &waiter);
        return weir__park(&waiter, WEIR__PARK_SEND, deadline_ns);
    }
    weir__sync_leave(&channel->sync, &grants);
    return res;
}

int weir_channel_send(struct weir_channel *channel, const void *element, uint64_t deadline_ns)
{
    struct weir_task *task = weir__task_needed("weir_channel_send");

    return hand_over(channel, element) ? 0 : send_or_wait(channel, element, task, deadline_ns);
}

static __attribute__((noinline)) int recv_or_wait(struct weir_channel *channel, void *element,
                                                  struct weir_task *task, uint64_t deadline_ns)
{
    struct weir__grants grants = {0};

    weir__sync_enter(&channel->sync);
    int res = weir__channel_get(channel, element, &grants);
    if (res == -EAGAIN && !(res = weir__task_check(task))) {
        struct weir__waiter waiter = {.task = task, .element = element};
        weir__queue_push(&channel->receivers, &channel->sync, &waiter);
        return weir__park(&waiter, WEIR__PARK_RECV, deadline_ns);
    }
    weir__sync_leave(&channel->sync, &grants);
    return res;
}

int weir_channel_recv(struct weir_channel *channel, void *element, uint64_t deadline_ns)
{
    struct weir_task *task = weir__task_needed("weir_channel_recv");

    if (!weir__sync_is_here(&channel->sync) || channel->count || channel->senders.head ||
        channel->closed || task->cut)
        return recv_or_wait(channel, element, task, deadline_ns);
    struct weir__waiter waiter; /* not cleared: that takes as long as the rest */
    waiter.task = task;
    waiter.element = element;
    waiter.select = NULL;
    waiter.queue = NULL;
    weir__queue_push(&channel->receivers, &channel->sync, &waiter);
    return weir__park_unguarded(task, &waiter, WEIR__PARK_RECV, deadline_ns);
}

int weir_channel_try_send(struct weir_channel *channel, const void *element)
{
    struct weir__grants grants = {0};

    weir__sync_enter(&channel->sync);
    int res = weir__channel_put(channel, element, &grants);
    weir__sync_leave(&channel->sync, &grants);
    return res;
}

int weir_channel_try_recv(struct weir_channel *channel, void *element)
{
    struct weir__grants grants = {0};

    weir__sync_enter(&channel->sync);
    int res = weir__channel_get(channel, element, &grants);
    weir__sync_leave(&channel->sync, &grants);
    return res;
}

static void end_waits(struct weir__queue *queue, struct weir__grants *grants)
{
    struct weir__waiter *waiter;

    while ((waiter = weir__queue_take(queue)))
        weir__grant(grants, waiter, -EPIPE);
}

void weir_channel_close(struct weir_channel *channel)
{
    struct weir__grants grants = {0};

    weir__sync_enter(&channel->sync);
    channel->closed = true;
    end_waits(&channel->senders, &grants);
    end_waits(&channel->receivers, &grants);
    weir__sync_leave(&channel->sync, &grants);
}

size_t weir_channel_count(struct weir_channel *channel)
{
    weir__sync_enter(&channel->sync);
    size_t count = channel->count;
    weir__sync_unlock(&channel->sync);
    return count;
}
