/*
 * Scopes: tasks that begin and end together ("structured concurrency", as in libdill's bundles and
 * Trio's nurseries).
 *
 * A scope owns the tasks spawned in it and does not end before them. When one of them fails, when
 * its deadline passes, or when someone cancels it, every wait within it ends: those under way, and
 * all to come until the scope is closed. Within it are its tasks, the opener until it closes it,
 * and the scopes that any of these open. A wait that has its result keeps it.
 *
 *     static int fetch_both(struct site *a, struct site *b)
 *     {
 *         weir_scope_auto(scope, weir_now_ns() + 2 * WEIR_SECOND);
 *         int error = weir_scope_spawn(&scope, fetch, a);
 *         if (!error)
 *             error = weir_scope_spawn(&scope, fetch, b);
 *         if (error)
 *             weir_scope_cancel(&scope);
 *         return weir_scope_close(&scope);
 *     }
 *
 * Everything here is for the loop's thread. Nothing allocates but the spawn of a task.
 */
#ifndef WEIR_SCOPE_H
#define WEIR_SCOPE_H

#include <stdbool.h>
#include <stdint.h>

#include <weir/coro.h>
#include <weir/private.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct weir_task;

#define WEIR_SECOND      UINT64_C(1000000000) /* in the nanoseconds that deadlines count */
#define WEIR_MILLISECOND UINT64_C(1000000)

/* A task of a scope: >= 0, or -errno, which ends the scope. */
typedef int weir_child_fn(void *argument);

enum weir_scope_flags {
    /* A cancel or a deadline from outside does not reach in before it is closed: for cleaning up,
     * with a deadline of its own. (The end of a stopping loop's drain_ns reaches everything.) */
    WEIR_SHIELD = 1,
};

/* Memory of the opener, on its stack as a rule. All fields are weir's own. */
struct weir_scope {
    struct weir_scope *outer;   /* that the opener was in before */
    struct weir_task *owner;    /* the opener; NULL: not open */
    struct weir_task *children; /* newest first */
    struct weir_scope *reached; /* the next to be looked at by a cancel under way */
    struct weir__timer deadline;
    uint32_t live; /* children that have not ended */
    int16_t cut;   /* 0, or what waits within end with */
    bool shield;
    bool listed; /* for `reached` */
    int result;
};

/* Opens a scope in the running task, within the one it is in. When deadline_ns passes, it ends with
 * -ETIME; WEIR_FOREVER is none, and deadlines further out hold as they did. In a task; close it in
 * the same one, those opened last first. */
void weir_scope_open(struct weir_scope *scope, uint64_t deadline_ns, unsigned flags);

/* Waits until all tasks of the scope have ended, and closes it. Nothing cuts this short: a cancel
 * reaches the tasks, and they end by it. 0, or why the scope ended early, the first reason: what a
 * task returned (-errno), -ETIME (its deadline), -ECANCELED (weir_scope_cancel()). What ended an
 * outer scope is not told here but by that scope, and by the opener's next wait in it. */
int weir_scope_close(struct weir_scope *scope);

/* Declares a scope and opens it; it is closed at the end of the block, however that is left. */
#define weir_scope_auto(name, deadline_ns)                                                         \
    struct weir_scope name __attribute__((cleanup(weir_scope_leave)));                             \
    weir_scope_open(&name, (deadline_ns), 0)
/* For weir_scope_auto(): closes it unless it was closed already. */
void weir_scope_leave(struct weir_scope *scope);

/* Ends the scope: its waits get -ECANCELED. Again, or one that has ended: no effect. Any task of
 * the loop. */
void weir_scope_cancel(struct weir_scope *scope);

/* Starts fn(argument) as a task of the scope; it runs when the caller waits. Any task of the loop,
 * as long as the scope is open. 0; why the scope ends, if it does: nothing was started; -EAGAIN
 * (out of stacks or memory). With `task` not NULL it gets a handle for weir_task_cancel(), which is
 * valid until the scope is closed. A task of a scope is not joined. */
int weir_scope_spawn_at(struct weir_scope *scope, struct weir_task **task, weir_child_fn *fn,
                        void *argument, const char *name, const char *place);
#define weir_scope_spawn(scope, fn, argument)                                                      \
    weir_scope_spawn_at(scope, NULL, fn, argument, #fn, WEIR_CORO_PLACE)

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
