/* Ticks and times of the wall clock; see weir/clock.h. */
#include <sys/timerfd.h>
#include <unistd.h>

#include "core/loop.h"

void weir_ticker_start(struct weir_ticker *ticker, uint64_t period_ns)
{
    assert(period_ns > 0);
    *ticker = (struct weir_ticker){.period_ns = period_ns, .next_ns = weir_now_ns() + period_ns};
}

int64_t weir_ticker_wait(struct weir_ticker *ticker)
{
    assert(weir_task_self() && "weir_ticker_wait: not in a task");
    assert(ticker->period_ns && "weir_ticker_wait: the ticker was not started");
    int res = weir_sleep_until(ticker->next_ns); /* past or not: others get their turn */
    if (res)
        return res;
    uint64_t now_ns = weir_now_ns();
    assert(now_ns >= ticker->next_ns);
    uint64_t ticks = (now_ns - ticker->next_ns) / ticker->period_ns + 1;
    ticker->next_ns += ticks * ticker->period_ns;
    return (int64_t)ticks;
}

/* 0: that time has come. -ECANCELED of the timer: the clock was set, which it is to be armed anew
 * for; if the time is past by then, it fires at once. */
static int wait_for_timer(int fd, const struct itimerspec *when)
{
    struct weir_task *task = weir_task_self();
    uint64_t expired;

    for (;;) {
        struct weir__op op = {.kind = WEIR__OP_POLL, .fd = fd, .len = WEIR__POLL_IN};
        if (timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, when, NULL) &&
            errno != ECANCELED)
            return -errno;
        int res = weir__task_op(task, &op, WEIR_FOREVER);
        if (res < 0)
            return res;
        if (read(fd, &expired, sizeof expired) == sizeof expired)
            return 0;
        if (errno != ECANCELED && errno != EAGAIN)
            return -errno;
    }
}

int weir_sleep_until_wall(struct timespec utc)
{
    struct itimerspec when = {.it_value = utc};
    struct weir_task *task = weir_task_self();

    assert(task && "weir_sleep_until_wall: not in a task");
    int res = weir__task_check(task);
    if (res)
        return res;
    if (utc.tv_sec == 0 && utc.tv_nsec == 0) /* that would disarm it */
        when.it_value.tv_nsec = 1;
    int fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    res = wait_for_timer(fd, &when);
    close(fd);
    return res;
}
