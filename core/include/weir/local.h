/*
 * Values of a task's own: a request's number for the log, a transaction, what a callback deep below
 * wants and no parameter carries.
 *
 *     static int request_key; // = weir_local_key_new(NULL), once
 *
 *     weir_local_set(request_key, request);
 *     ...
 *     struct request *request = weir_local_get(request_key);
 *
 * A value lasts until its task ends. A connection's handler is a task of its own for that only per
 * connection; where handlers run per burst of input, one task runs many of them, and a value lasts
 * until the handler returns: what belongs to the connection is kept in weir_conn_state(). Tasks
 * inherit nothing from those that spawn them. With a destructor a value must not lie on the task's
 * stack: its function has returned by then.
 */
#ifndef WEIR_LOCAL_H
#define WEIR_LOCAL_H

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

enum { WEIR_LOCAL_KEYS = 8 }; /* in a process */

/* A key for all tasks of all loops, for as long as the process lasts. When a task ends,
 * `destructor` (may be NULL) is called in it for its value, if that is not NULL; it must not wait,
 * and may set values, whose destructors are called, too. Not called where a task does not end: its
 * engine broke, see weir_loop_free(). Any thread. The key (>= 0), or -EAGAIN: all are taken. */
int weir_local_key_new(void (*destructor)(void *value));
/* Sets the running task's value. In a task. */
void weir_local_set(int key, void *value);
/* What it was set to, or NULL. In a task. */
void *weir_local_get(int key);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
