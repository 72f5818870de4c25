/* Wrong calls of what tasks wait for each other with: see misuse.c. */
#include "misuse.h"

#include <stdint.h>

static struct weir_mutex mutex;
static struct weir_cond cond;
static struct weir_rwlock rwlock;
static struct weir_sem sem;
static struct weir_wait_group group;
static struct weir_once once;
static struct weir_flight flight;
static struct weir_channel channel;

static void init_all(void)
{
    weir_mutex_init(&mutex, 0);
    weir_cond_init(&cond, &mutex);
    weir_rwlock_init(&rwlock, 0);
    weir_sem_init(&sem, 0, 0);
    weir_wait_group_init(&group, 0);
    weir_once_init(&once, 0);
    weir_flight_init(&flight, 0);
    need(weir_channel_init(&channel, 1, 0, NULL, 0) == 0);
}

#define SYNC(name, expected, ...)                                                                  \
    MISUSE(name, in_task, expected)                                                                \
    {                                                                                              \
        init_all();                                                                                \
        __VA_ARGS__;                                                                               \
    }

SYNC(mutex_locked_twice, "weir_mutex_lock: the task holds it already",
     weir_mutex_lock(&mutex, WEIR_FOREVER), weir_mutex_lock(&mutex, WEIR_FOREVER))
SYNC(mutex_unlocked_by_who_does_not_hold_it, "weir_mutex_unlock: the task does not hold it",
     weir_mutex_unlock(&mutex))
SYNC(mutex_freed_while_held, "weir_mutex_deinit: a task holds it",
     weir_mutex_lock(&mutex, WEIR_FOREVER), weir_mutex_deinit(&mutex))
SYNC(cond_without_its_mutex, "weir_cond_wait: the task does not hold the mutex",
     weir_cond_wait(&cond, WEIR_FOREVER))
SYNC(rwlock_written_twice, "weir_rwlock_*_lock: the task writes already",
     weir_rwlock_write_lock(&rwlock, WEIR_FOREVER), weir_rwlock_read_lock(&rwlock, WEIR_FOREVER))
SYNC(rwlock_of_no_reader, "weir_rwlock_read_unlock: nobody reads", weir_rwlock_read_unlock(&rwlock))
SYNC(rwlock_of_no_writer, "weir_rwlock_write_unlock: the task does not write",
     weir_rwlock_write_unlock(&rwlock))
SYNC(semaphore_of_too_much, "weir_sem_post: more than 2^32 - 1", weir_sem_post(&sem, UINT32_MAX),
     weir_sem_post(&sem, 1))
SYNC(group_done_too_often, "weir_wait_group_done: more than were added",
     weir_wait_group_done(&group))
SYNC(group_freed_too_soon, "weir_wait_group_deinit: not all is done",
     weir_wait_group_add(&group, 1), weir_wait_group_deinit(&group))
SYNC(key_of_nobody, "weir_local_*: no key of weir_local_key_new()", weir_local_set(7, &sem))

static int runs_it_again(void *argument)
{
    return weir_once_run(&once, runs_it_again, NULL, WEIR_FOREVER);
}

static int flies_again(void *argument)
{
    return weir_flight_run(&flight, flies_again, NULL, WEIR_FOREVER);
}

SYNC(once_within_itself, "weir_once_run: from within what it runs",
     weir_once_run(&once, runs_it_again, NULL, WEIR_FOREVER))
SYNC(flight_within_itself, "weir_flight_run: from within what it runs",
     weir_flight_run(&flight, flies_again, NULL, WEIR_FOREVER))

static void waits_for_a_message(void *argument)
{
    char got;
    weir_channel_recv(&channel, &got, WEIR_FOREVER);
}

SYNC(channel_freed_under_a_receiver, "weir_channel_deinit: a task waits to receive",
     need(weir_spawn(loop, NULL, waits_for_a_message, NULL) == 0), need(weir_yield() == 0),
     weir_channel_deinit(&channel))

CALL(mutex_in_no_task, in_message, "weir_mutex_lock\" \": not in a task",
     weir_mutex_lock(&mutex, 1))
CALL(channel_in_no_task, in_message, "weir_channel_recv\" \": not in a task",
     weir_channel_recv(&channel, NULL, 1))
CALL(select_in_no_task, in_message, "weir_select\" \": not in a task", weir_select(NULL, 0, 1))

static void post_of_another(void *argument)
{
    prepare();
    init_all();
    weir_sem_post(&sem, 1); /* from now on it is this loop's */
    on_thread(NULL);
}

MISUSE(semaphore_of_another_thread, post_of_another, "it wants WEIR_ACROSS")
{
    weir_sem_post(&sem, 1);
}
