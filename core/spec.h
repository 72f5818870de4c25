/*
 * An engine as a person names it: "epoll", "uring:features=-multishot_recv,-buffer_ring",
 * "poll:per=connection,ring_bufs=64". Parsing and choosing; used by loop.c and by tools that check
 * a name before they start anything.
 */
#ifndef WEIR_CORE_SPEC_H
#define WEIR_CORE_SPEC_H

#include <stdbool.h>
#include <stddef.h>

#include "core/engine.h"

struct weir__spec {
    const struct weir__engine_ops *ops; /* NULL: auto */
    struct weir__engine_options options;
    bool per_connection;
};

/* 0, or -EINVAL and one line that lists what is valid. NULL means "auto". */
int weir__spec_parse(struct weir__spec *spec, const char *text, char *why, size_t why_bytes);
/* The names of the features in `mask`, comma separated. */
void weir__spec_features(const struct weir__engine_ops *ops, uint64_t mask, char *text,
                         size_t text_bytes);
const struct weir__engine_ops *weir__spec_engine(const char *name, size_t name_bytes);

#endif
