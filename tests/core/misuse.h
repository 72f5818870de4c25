/* Wrong calls, each in a process of its own that ends by an assertion: see misuse.c. */
#ifndef WEIR_TESTS_CORE_MISUSE_H
#define WEIR_TESTS_CORE_MISUSE_H

#include <criterion/criterion.h>

#include <weir/weir.h>

extern struct weir_loop *loop;
extern struct weir_conn *conn; /* of weir_connect(); its peer is silent */

void needs(int condition, const char *what);
#define need(condition) needs((condition), #condition)

/* In a task: opens the connection. */
void prepare(void);
/* Where a row runs. */
void in_task(void *argument);
void in_message(void *argument);
void on_thread(void *argument);
void before_it_runs(void *argument);
/* Runs fn there, in a process that is to say `expected` and to die of an assertion. */
void dies(void (*where)(void *), void (*fn)(void), const char *expected);

#define MISUSE(name, where, expected)                                                              \
    static void name(void);                                                                        \
    Test(misuse, name)                                                                             \
    {                                                                                              \
        dies(where, name, expected);                                                               \
    }                                                                                              \
    static void name(void)
#define CALL(name, where, expected, call)                                                          \
    MISUSE(name, where, expected)                                                                  \
    {                                                                                              \
        call;                                                                                      \
    }

#endif
