/* Names without c-ares: getaddrinfo(3) on the helper threads. As many lookups run as there are
 * threads, and each keeps its own to the end, given up or not. */
#include "core/resolve.h"

#include <netdb.h>
#include <stdlib.h>
#include <string.h>

struct weir__query {
    struct weir__op op; /* the CALL */
    struct weir_loop *loop;
    struct weir__query *newer, *older; /* of the loop's */
    struct weir__lookup *lookup;       /* NULL: given up */
    struct addrinfo *list;
    int family;
    char host[WEIR__NAME_MOST + 1]; /* the caller's may be gone before the thread reads it */
};

struct weir__resolver {
    struct weir__query *queries; /* newest; those that a thread may be at */
};

const char *weir_resolver(void)
{
    return "getaddrinfo on helper threads";
}

int weir_resolver_set(struct weir_loop *loop, const struct weir_resolver_options *options)
{
    return -EOPNOTSUPP;
}

static int error_of(int error)
{
    switch (error) {
    case 0:
        return 0;
    case EAI_NONAME:
    case EAI_NODATA:
    case EAI_ADDRFAMILY:
        return -ENOENT;
    case EAI_AGAIN:
    case EAI_FAIL:
        return -EAGAIN;
    case EAI_MEMORY:
        return -ENOMEM;
    case EAI_SYSTEM:
        return errno ? -errno : -EAGAIN;
    default:
        return -EINVAL;
    }
}

/* On a helper thread. */
static int32_t ask(void *argument)
{
    struct weir__query *query = argument;
    struct addrinfo hints = {.ai_family = query->family, .ai_socktype = SOCK_STREAM};

    return error_of(getaddrinfo(query->host, NULL, &hints, &query->list));
}

static void query_free(struct weir__query *query)
{
    if (query->newer)
        query->newer->older = query->older;
    else
        query->loop->resolver->queries = query->older;
    if (query->older)
        query->older->newer = query->newer;
    if (query->list)
        freeaddrinfo(query->list);
    free(query);
}

static void answered(struct weir__op *op)
{
    struct weir__query *query = weir__container(op, struct weir__query, op);

    if (query->lookup) {
        for (struct addrinfo *at = query->list; at; at = at->ai_next)
            if (!weir__lookup_add(query->lookup, at->ai_addr))
                break;
        weir__lookup_done(query->lookup, op->res);
    }
    query_free(query);
}

/* Not begun: it comes back, and is freed then. */
void weir__query_give_up(struct weir__query *query)
{
    query->lookup = NULL;
    weir__cancel(query->loop, &query->op);
}

static struct weir__query *query_new(struct weir__lookup *lookup)
{
    struct weir_loop *loop = lookup->task->loop;
    struct weir__query *query = calloc(1, sizeof *query);

    if (!loop->resolver)
        loop->resolver = calloc(1, sizeof *loop->resolver);
    if (!query || !loop->resolver) {
        free(query);
        return NULL;
    }
    *query = (struct weir__query){
        .op = {.kind = WEIR__OP_CALL, .fd = -1, .data = query, .call = ask, .done = answered},
        .loop = loop,
        .older = loop->resolver->queries,
        .lookup = lookup,
        .family = lookup->family};
    strcpy(query->host, lookup->host); /* weir_resolve() has looked at its length */
    if (query->older)
        query->older->newer = query;
    loop->resolver->queries = query;
    return query;
}

int weir__lookup(struct weir__lookup *lookup, uint64_t deadline_ns)
{
    struct weir__query *query = query_new(lookup);

    if (!query)
        return -ENOMEM;
    lookup->query = query;
    lookup->task->loop->stats.calls++;
    if (weir__submit(query->loop, &query->op) == WEIR__DONE)
        answered(&query->op);
    return weir__lookup_wait(lookup, deadline_ns);
}

/* What a thread is at comes back in a later run, or is freed with the loop. */
bool weir__resolver_end(struct weir_loop *loop)
{
    return true;
}

void weir__resolver_free(struct weir_loop *loop)
{
    if (!loop->resolver)
        return;
    while (loop->resolver->queries)
        query_free(loop->resolver->queries);
    free(loop->resolver);
}
