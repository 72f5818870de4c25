/* The threads of a classic model: threads.h. */
#include "legacy/models/threads.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "legacy/models/stop.h"

/* A connection that is being served: on the stack of its thread. */
struct seat {
    struct seat *next, **link;
    int fd;
};

static struct {
    const struct weir_model_options *options;
    void (*body)(void *argument);
    int failed_fd; /* eventfd: readable once `error` is set */
    pthread_attr_t attributes;
    pthread_cond_t all_ended;

    pthread_mutex_t lock; /* of what follows */
    struct seat *seats;
    unsigned running;
    bool has_ended; /* `ended` is to be joined */
    pthread_t ended;
    int error;
} threads;

int weir__threads_init(const struct weir_model_options *options, void (*body)(void *argument))
{
    pthread_condattr_t monotonic;
    threads.options = options;
    threads.body = body;
    threads.seats = NULL;
    threads.running = 0;
    threads.has_ended = false;
    threads.error = 0;
    pthread_mutex_init(&threads.lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&threads.all_ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_attr_init(&threads.attributes);
    pthread_attr_setstacksize(&threads.attributes, WEIR_MODEL_STACK_BYTES);
    threads.failed_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return threads.failed_fd < 0 ? -errno : 0;
}

/* --- from start to end ---------------------------------------------------------------------------
 */

/* Each thread that ends joins the one that ended before it. So however many come and go, one at
 * most is left to be joined, and nobody has to look for it. */
static void end_thread(void)
{
    pthread_mutex_lock(&threads.lock);
    bool has_before = threads.has_ended;
    pthread_t before = threads.ended;
    threads.has_ended = true;
    threads.ended = pthread_self();
    if (--threads.running == 0)
        pthread_cond_signal(&threads.all_ended);
    pthread_mutex_unlock(&threads.lock);
    if (has_before)
        pthread_join(before, NULL);
}

static void *run(void *argument)
{
    threads.body(argument);
    end_thread();
    return NULL;
}

int weir__threads_start(void *argument)
{
    pthread_t thread;
    pthread_mutex_lock(&threads.lock);
    threads.running++;
    pthread_mutex_unlock(&threads.lock);
    int error = pthread_create(&thread, &threads.attributes, run, argument);
    if (error == 0)
        return 0;
    pthread_mutex_lock(&threads.lock);
    threads.running--;
    pthread_mutex_unlock(&threads.lock);
    return -error;
}

void weir__threads_fail(int error)
{
    assert(error < 0);
    pthread_mutex_lock(&threads.lock);
    if (threads.error == 0)
        threads.error = error;
    pthread_mutex_unlock(&threads.lock);
    eventfd_write(threads.failed_fd, 1);
}

int weir__threads_watch(void)
{
    struct pollfd ends[] = {{.fd = threads.options->stop_fd, .events = POLLIN},
                            {.fd = threads.failed_fd, .events = POLLIN}};
    while (poll(ends, 2, -1) < 0)
        if (errno != EINTR)
            return -errno;
    pthread_mutex_lock(&threads.lock);
    int error = threads.error;
    pthread_mutex_unlock(&threads.lock);
    return error;
}

/* --- connections ---------------------------------------------------------------------------------
 */

static void take_seat(struct seat *seat)
{
    pthread_mutex_lock(&threads.lock);
    seat->next = threads.seats;
    seat->link = &threads.seats;
    if (seat->next)
        seat->next->link = &seat->next;
    threads.seats = seat;
    pthread_mutex_unlock(&threads.lock);
}

/* Before the descriptor is closed: its number may be another connection's at once. */
static void leave_seat(struct seat *seat)
{
    pthread_mutex_lock(&threads.lock);
    *seat->link = seat->next;
    if (seat->next)
        seat->next->link = seat->link;
    pthread_mutex_unlock(&threads.lock);
}

void weir__threads_serve(struct weir__blocking *blocking, int fd)
{
    struct seat seat = {.fd = fd};
    struct weir__session session;
    int rc;
    weir__session_init(&session, blocking->options);
    take_seat(&seat);
    do
        rc = weir__blocking_step(blocking, fd, &session);
    while (rc > 0);
    leave_seat(&seat);
    if (rc < 0 && weir__stop_left_ns() == 0)
        rc = -ETIME;
    weir__accepted_close(blocking->counters, fd, rc);
}

/* --- the end -------------------------------------------------------------------------------------
 */

/* Who takes a seat later than this knows of the stop, and receives without waiting. */
static void cut_all(int how)
{
    pthread_mutex_lock(&threads.lock);
    for (struct seat *seat = threads.seats; seat; seat = seat->next)
        shutdown(seat->fd, how);
    pthread_mutex_unlock(&threads.lock);
}

/* Until none is running, or the drain is over. */
static void wait_for_all(void)
{
    uint64_t left_ns = weir__stop_left_ns(), limit_ns = weir__now_ns() + left_ns;
    struct timespec limit = {.tv_sec = (time_t)(limit_ns / 1000000000u),
                             .tv_nsec = (long)(limit_ns % 1000000000u)};
    pthread_mutex_lock(&threads.lock);
    while (threads.running > 0)
        if (pthread_cond_timedwait(&threads.all_ended, &threads.lock, &limit) == ETIMEDOUT)
            break;
    pthread_mutex_unlock(&threads.lock);
}

void weir__threads_finish(void)
{
    weir__stop_begin();
    /* Not a signal to who waits in accept: that could come just before its call. */
    shutdown(threads.options->listen_fd, SHUT_RD);
    cut_all(SHUT_RD);
    wait_for_all();
    cut_all(SHUT_RDWR);
    pthread_mutex_lock(&threads.lock);
    while (threads.running > 0)
        pthread_cond_wait(&threads.all_ended, &threads.lock);
    pthread_mutex_unlock(&threads.lock);
    if (threads.has_ended)
        pthread_join(threads.ended, NULL);
    if (threads.failed_fd >= 0)
        close(threads.failed_fd);
    pthread_attr_destroy(&threads.attributes);
    pthread_cond_destroy(&threads.all_ended);
    pthread_mutex_destroy(&threads.lock);
}

int weir__threads_run(const struct weir_model *model, int started, char *why, size_t why_bytes)
{
    int rc = started < 0 ? started : weir__threads_watch();
    if (started < 0)
        weir__model_fail(model, -rc, "starting its threads",
                         "lower --workers, or raise ulimit -u, ulimit -n and kernel.threads-max",
                         why, why_bytes);
    else if (rc < 0)
        weir__model_fail(model, -rc, "accepting", "hand in a listening socket", why, why_bytes);
    weir__threads_finish();
    return rc;
}
