/*
 * Whether one server of a table can do its cell: what its model's nature costs (a worker for each
 * connection, clients left in the backlog) against what the machine has.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <weir/model.h>

#include "bench/preflight_check.h"

/* How many connections it serves side by side. */
static uint64_t at_once(const struct limits_cell *cell)
{
    if (!(cell->traits & WEIR_MODEL_HOLDS_WORKER) || cell->traits & WEIR_MODEL_WORKER_PER_CONN)
        return UINT64_MAX;
    return cell->traits & WEIR_MODEL_POOL && cell->workers > 0 ? cell->workers : 1;
}

/* In shapes that hold their connections the others would never be served. */
static int check_held(const struct limits_cell *cell, char *text, size_t capacity)
{
    uint64_t served = at_once(cell);
    bool pool = cell->traits & WEIR_MODEL_POOL;
    if (!weir__shape_holds_conns(cell->shape) || cell->conns <= served)
        return 0;
    snprintf(text, capacity,
             "%s: it serves %llu connection%s at once, each to its end, and %llu stay open: see "
             "--shape burst or churn%s",
             cell->engine, (unsigned long long)served, served == 1 ? "" : "s",
             (unsigned long long)cell->conns, pool ? ", or --workers" : "");
    return -ERANGE;
}

/* Where connections end, the others wait in the backlog; those it has no room for wait whole
 * seconds for their SYN to be sent again. */
static int check_backlog(const struct check *check, const struct limits_cell *cell, char *text,
                         size_t capacity)
{
    uint64_t served = at_once(cell), most;
    if (!weir__shape_connects_at_once(cell->shape) || cell->conns <= served)
        return 0;
    uint64_t listeners = cell->traits & WEIR_MODEL_REUSEPORT ? served : 1;
    uint64_t need = (cell->conns - served - 1) / listeners + 1; /* of each listener */
    if (!weir__check_number(check, "proc/sys/net/core/somaxconn", &most))
        return 0; /* unknown is no reason to refuse */
    uint64_t have = cell->backlog > 0 && cell->backlog < most ? cell->backlog : most;
    if (need <= have)
        return 0;
    snprintf(text, capacity,
             "%s: backlog %llu < %llu: it serves %llu at once, the others wait there: ",
             cell->engine, (unsigned long long)(have * listeners), (unsigned long long)cell->conns,
             (unsigned long long)served);
    size_t used = strlen(text);
    if (need > most)
        snprintf(text + used, capacity - used, "%s",
                 weir__check_sysctl(check, SYSCTL_NETWORK, "net.core.somaxconn=%llu",
                                    (unsigned long long)need));
    else
        snprintf(text + used, capacity - used, "--backlog %llu", (unsigned long long)need);
    return -ERANGE;
}

int weir__limits_nature_at(const char *root, const struct limits_cell *cell, char *text,
                           size_t capacity)
{
    const struct check check = {.root = root};
    text[0] = '\0';
    int rc = check_held(cell, text, capacity);
    return rc < 0 ? rc : check_backlog(&check, cell, text, capacity);
}

uint64_t weir__limits_workers(const struct limits_cell *cell, struct limits_need *need)
{
    uint64_t workers = 0;
    if (cell->traits & WEIR_MODEL_WORKER_PER_CONN)
        workers = cell->conns;
    else if (cell->traits & WEIR_MODEL_POOL)
        workers = cell->workers;
    if (cell->traits & WEIR_MODEL_PROCESSES)
        need->processes = workers;
    else
        need->threads = workers;
    /* Shards of an engine have no reason to choose. */
    bool classic = cell->traits & (WEIR_MODEL_BLOCKING | WEIR_MODEL_REACTOR);
    need->stack_bytes = classic ? WEIR_MODEL_STACK_BYTES : 0;
    return workers;
}

static int check_workers(const char *root, const struct limits_cell *cell, char *text,
                         size_t capacity)
{
    struct limit list[WEIR__LIMITS_MAX];
    struct limits_need need = {0};
    struct check check = {.root = root, .need = &need, .list = list};
    char want[32], have[32];
    uint64_t workers = weir__limits_workers(cell, &need);
    if (workers == 0)
        return 0;
    weir__check_memory(&check);
    weir__check_tasks(&check);
    for (size_t i = 0; i < check.count; i++) {
        if (list[i].verdict != LIMIT_MISSING)
            continue;
        weir__limit_need(&list[i], want, sizeof(want));
        weir__limit_have(&list[i], have, sizeof(have));
        snprintf(text, capacity, "%s: %llu %s need %s of %s, have %s: %s", cell->engine,
                 (unsigned long long)workers, need.processes > 0 ? "processes" : "threads", want,
                 list[i].name, have, list[i].cure);
        return -ERANGE;
    }
    return 0;
}

int weir__limits_cell_at(const char *root, const struct limits_cell *cell, char *text,
                         size_t capacity)
{
    int rc = weir__limits_nature_at(root, cell, text, capacity);
    return rc < 0 ? rc : check_workers(root, cell, text, capacity);
}

int weir__limits_cell(const struct limits_cell *cell, char *text, size_t capacity)
{
    return weir__limits_cell_at("", cell, text, capacity);
}
