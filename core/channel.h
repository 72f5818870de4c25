/* The two steps of a channel, under its guard: channel.c and select.c. */
#ifndef WEIR_CORE_CHANNEL_H
#define WEIR_CORE_CHANNEL_H

#include "core/park.h"

/* 0, -EPIPE, or -EAGAIN: the task would have to wait in channel->senders, ->receivers. */
int weir__channel_put(struct weir_channel *channel, const void *element,
                      struct weir__grants *grants);
int weir__channel_get(struct weir_channel *channel, void *element, struct weir__grants *grants);

#endif
