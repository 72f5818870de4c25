/* Addresses of names, the part that needs no resolver; see core/resolve.h. */
#include "core/resolve.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

/* ---- numeric addresses ----------------------------------------------------------------------- */

/* The interface behind the % of RFC 4007, by name or number; 0: there is none such. */
static uint32_t scope_of(const char *name)
{
    char *end;
    unsigned long number = strtoul(name, &end, 10);

    if (*name && !*end && number <= UINT32_MAX)
        return (uint32_t)number;
    return if_nametoindex(name);
}

static bool numeric_v6(const char *host, struct sockaddr_in6 *address)
{
    char digits[INET6_ADDRSTRLEN];
    size_t bytes = strcspn(host, "%");

    if (bytes >= sizeof digits)
        return false;
    memcpy(digits, host, bytes);
    digits[bytes] = '\0';
    *address = (struct sockaddr_in6){.sin6_family = AF_INET6};
    if (inet_pton(AF_INET6, digits, &address->sin6_addr) != 1)
        return false;
    if (host[bytes])
        address->sin6_scope_id = scope_of(host + bytes + 1);
    return !host[bytes] || address->sin6_scope_id;
}

static bool numeric(const char *host, struct weir_address *address)
{
    if (numeric_v6(host, &address->v6))
        return true;
    address->v4 = (struct sockaddr_in){.sin_family = AF_INET};
    return inet_pton(AF_INET, host, &address->v4.sin_addr) == 1;
}

/* ---- lookups --------------------------------------------------------------------------------- */

bool weir__lookup_add(struct weir__lookup *lookup, const struct sockaddr *from)
{
    unsigned count = (unsigned)lookup->res;

    if (from->sa_family != AF_INET && from->sa_family != AF_INET6)
        return true;
    if (lookup->family != AF_UNSPEC && from->sa_family != lookup->family)
        return true;
    if (count == lookup->most)
        return false;
    struct weir_address *to = &lookup->addresses[count];
    *to = (struct weir_address){0};
    if (from->sa_family == AF_INET) {
        memcpy(&to->v4, from, to->bytes = sizeof to->v4);
        to->v4.sin_port = htons(lookup->port);
    } else {
        memcpy(&to->v6, from, to->bytes = sizeof to->v6);
        to->v6.sin6_port = htons(lookup->port);
    }
    lookup->res++;
    return true;
}

void weir__lookup_done(struct weir__lookup *lookup, int error)
{
    assert(!lookup->done);
    if (error)
        lookup->res = error;
    else if (lookup->res == 0)
        lookup->res = -ENOENT;
    lookup->done = true;
    lookup->query = NULL;
    if (lookup->waiting)
        weir__task_wake(lookup->task, lookup->res);
}

static void lookup_unwait(struct weir_task *task, int why)
{
    struct weir__lookup *lookup = task->object;

    weir__query_give_up(lookup->query);
    weir__task_wake(task, why);
}

static const struct weir__wait lookup_wait = {"for a name's addresses", lookup_unwait};

int weir__lookup_wait(struct weir__lookup *lookup, uint64_t deadline_ns)
{
    if (lookup->done)
        return lookup->res;
    lookup->waiting = true;
    return weir__task_wait(lookup->task, &lookup_wait, lookup, deadline_ns);
}

int weir_resolve(const char *host, uint16_t port, int family, struct weir_address *addresses,
                 unsigned most, uint64_t deadline_ns)
{
    struct weir_task *task = weir_task_self();
    struct weir__lookup lookup = {.task = task,
                                  .host = host,
                                  .port = port,
                                  .family = family,
                                  .addresses = addresses,
                                  .most = most};
    struct weir_address address;

    assert(task && "weir_resolve: not in a task");
    assert(family == AF_UNSPEC || family == AF_INET || family == AF_INET6);
    assert(most > 0 && "weir_resolve: no room for an address");
    int res = weir__task_check(task);
    if (res)
        return res;
    if (numeric(host, &address)) {
        weir__lookup_add(&lookup, &address.any);
        return lookup.res ? lookup.res : -ENOENT;
    }
    size_t bytes = strlen(host);
    if (bytes == 0 || bytes > WEIR__NAME_MOST)
        return -EINVAL;
    return weir__lookup(&lookup, deadline_ns);
}
