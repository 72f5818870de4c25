/*
 * Name resolution: resolve.c has the part that is the same everywhere, numeric addresses; below it
 * lies what this build has: resolve_cares.c or resolve_helpers.c.
 *
 * A lookup lies on the stack of the task that waits for it. What may outlive that wait (c-ares
 * cannot take back a query, nor a thread leave getaddrinfo) has a record on the heap that points to
 * the lookup, until that is given up.
 */
#ifndef WEIR_CORE_RESOLVE_H
#define WEIR_CORE_RESOLVE_H

#include <weir/dial.h>

#include "core/loop.h"

struct weir__query; /* the record on the heap */

struct weir__lookup {
    struct weir_task *task;
    const char *host;
    uint16_t port;
    int family;
    struct weir_address *addresses; /* out */
    unsigned most;
    struct weir__query *query;
    struct weir__lookup *next; /* in a line of such */
    bool done;                 /* res holds */
    bool waiting;              /* in weir__lookup_wait() */
    int res;
};

enum {
    WEIR__NAME_MOST = 254, /* characters of a host name, a last dot included: RFC 1035, 2.3.4 */
};

/* Looks a name up, that is not a numeric address. As weir_resolve(). */
int weir__lookup(struct weir__lookup *lookup, uint64_t deadline_ns);

/* Of resolve.c, for both. Adds an address, and says whether there was room. */
bool weir__lookup_add(struct weir__lookup *lookup, const struct sockaddr *address);
/* Waits until weir__lookup_done(), or gives the query up: lookup->query is told by `give_up`. */
int weir__lookup_wait(struct weir__lookup *lookup, uint64_t deadline_ns);
/* The end of a lookup that was not given up: `error`, or else as many as were added. */
void weir__lookup_done(struct weir__lookup *lookup, int error);
/* Nobody waits for it any more. */
void weir__query_give_up(struct weir__query *query);

#endif
