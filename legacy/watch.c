/* The table of descriptor records; see watch.h. */
#include "legacy/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

static int grow_directory(struct weir__watch_table *table, uint32_t chunk)
{
    uint32_t count = table->chunk_count ? table->chunk_count : 16;
    while (count <= chunk)
        count *= 2;
    struct weir__watch **chunks = realloc(table->chunks, sizeof *chunks * count);
    if (!chunks)
        return -ENOMEM;
    memset(chunks + table->chunk_count, 0, sizeof *chunks * (count - table->chunk_count));
    table->chunks = chunks;
    table->chunk_count = count;
    return 0;
}

int weir__watch_need(struct weir__watch_table *table, int fd, struct weir__watch **watch)
{
    *watch = weir__watch_find(table, fd);
    if (*watch)
        return 0;
    if (fcntl(fd, F_GETFD) < 0)
        return -errno;
    uint32_t chunk = (uint32_t)fd / WEIR__WATCH_CHUNK;
    if (chunk >= table->chunk_count) {
        int rc = grow_directory(table, chunk);
        if (rc < 0)
            return rc;
    }
    table->chunks[chunk] = calloc(WEIR__WATCH_CHUNK, sizeof **table->chunks);
    if (!table->chunks[chunk])
        return -ENOMEM;
    *watch = weir__watch_at(table, fd);
    return 0;
}

void weir__watch_table_deinit(struct weir__watch_table *table)
{
    for (uint32_t i = 0; i < table->chunk_count; i++)
        free(table->chunks[i]);
    free(table->chunks);
    *table = (struct weir__watch_table){0};
}

void weir__watch_put(struct weir__watch *watch, struct weir__op *op)
{
    struct weir__op **link = &watch->ops;
    if (weir__watch_is_output(op)) {
        assert(!weir__watch_out(watch) && "two tasks wait for the output of one descriptor");
        if (*link)
            link = &(*link)->next;
    }
    assert((weir__watch_is_output(op) || !weir__watch_in(watch)) &&
           "two tasks wait for the input of one descriptor");
    op->next = *link;
    *link = op;
}

void weir__watch_take(struct weir__watch *watch, struct weir__op *op)
{
    assert(watch->ops);
    struct weir__op **link = watch->ops == op ? &watch->ops : &watch->ops->next;
    assert(*link == op);
    *link = op->next;
    op->next = NULL;
}
