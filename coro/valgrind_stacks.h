/*
 * valgrind_none.h for builds with Valgrind's headers. Without being told of each stack, Memcheck
 * takes a switch between neighbours for a push or a pop of what lies between. Outside Valgrind
 * the requests are a few no-ops, once for each stack carved and never on a switch.
 */
#ifndef WEIR__CORO_VALGRIND_H
#define WEIR__CORO_VALGRIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <valgrind/memcheck.h>

struct weir__valgrind {
    unsigned *ids; /* of each stack; NULL outside Valgrind */
};

static inline bool weir__valgrind_runs(void)
{
    return RUNNING_ON_VALGRIND;
}

static inline void weir__valgrind_carved(struct weir__valgrind *v, size_t slots, size_t i,
                                         char *low, char *end)
{
    if (!weir__valgrind_runs())
        return;
    if (v->ids == NULL)
        v->ids = calloc(slots, sizeof *v->ids);
    if (v->ids != NULL)
        v->ids[i] = VALGRIND_STACK_REGISTER(low, end);
}

static inline void weir__valgrind_look_at(const char *low, const char *end)
{
    (void)VALGRIND_MAKE_MEM_DEFINED(low, end - low);
}

static inline void weir__valgrind_gone(struct weir__valgrind *v, size_t carved)
{
    for (size_t i = 0; v->ids != NULL && i < carved; i++)
        VALGRIND_STACK_DEREGISTER(v->ids[i]);
    free(v->ids);
    v->ids = NULL;
}

#endif
