/* Signals as waits; see weir/clock.h. One task polls the signalfd; the others wait in line behind
 * it, and whoever leaves the first place passes it on. */
#include <pthread.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "core/loop.h"

int weir_signals_open(struct weir_signals *signals, const sigset_t *set)
{
    sigset_t before;
    int fd = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);

    if (fd < 0)
        return -errno;
    *signals = (struct weir_signals){.fd = fd};
    pthread_sigmask(SIG_BLOCK, set, &before);
    sigemptyset(&signals->unblock);
    for (int number = 1; number <= SIGRTMAX; number++)
        if (sigismember(set, number) == 1 && sigismember(&before, number) == 0)
            sigaddset(&signals->unblock, number);
    return 0;
}

/* ---- the line -------------------------------------------------------------------------------- */

static void line_unwait(struct weir_task *task, int why)
{
    struct weir_signals *signals = task->object;
    struct weir_task **link = &signals->first, *before = NULL;

    while (*link != task) {
        before = *link;
        link = &before->next;
    }
    *link = task->next;
    if (signals->last == task)
        signals->last = before;
    weir__task_wake(task, why);
}

static const struct weir__wait line_wait = {"for a signal, behind another task", line_unwait};

static int wait_in_line(struct weir_signals *signals, struct weir_task *task, uint64_t deadline_ns)
{
    int res = weir__task_check(task);

    if (res)
        return res;
    task->next = NULL;
    if (signals->last)
        signals->last->next = task;
    else
        signals->first = task;
    signals->last = task;
    return weir__task_wait(task, &line_wait, signals, deadline_ns);
}

static void pass_on(struct weir_signals *signals)
{
    struct weir_task *next = signals->first;

    signals->poller = next;
    if (!next)
        return;
    signals->first = next->next;
    if (!signals->first)
        signals->last = NULL;
    weir__task_wake(next, 0);
}

/* ---- waiting --------------------------------------------------------------------------------- */

static int take(int fd, struct weir_signal *signal)
{
    struct signalfd_siginfo info;

    if (read(fd, &info, sizeof info) != sizeof info)
        return -errno;
    *signal = (struct weir_signal){.number = (int)info.ssi_signo,
                                   .code = info.ssi_code,
                                   .pid = (int)info.ssi_pid,
                                   .uid = (int)info.ssi_uid,
                                   .value = (int64_t)info.ssi_ptr};
    return 0;
}

static int poll_and_take(struct weir_signals *signals, struct weir_task *task,
                         struct weir_signal *signal, uint64_t deadline_ns)
{
    for (;;) {
        struct weir__op op = {.kind = WEIR__OP_POLL, .fd = signals->fd, .len = WEIR__POLL_IN};
        if (signals->closed)
            return -ESHUTDOWN;
        int res = weir__task_op(task, &op, deadline_ns);
        if (res < 0)
            return res;
        res = take(signals->fd, signal);
        if (res != -EAGAIN)
            return res;
    }
}

int weir_signal_wait(struct weir_signals *signals, struct weir_signal *signal, uint64_t deadline_ns)
{
    struct weir_task *task = weir_task_self();
    int res = 0;

    assert(task && "weir_signal_wait: not in a task");
    assert(!signals->closed && "weir_signal_wait: closed");
    signals->waiting++;
    if (signals->poller)
        res = wait_in_line(signals, task, deadline_ns);
    else
        signals->poller = task;
    if (!res) {
        res = poll_and_take(signals, task, signal, deadline_ns);
        pass_on(signals);
    }
    if (--signals->waiting == 0 && signals->closer)
        weir__task_wake(signals->closer, 0);
    return res;
}

static const struct weir__wait close_wait = {"for those to leave who wait for signals",
                                             weir__goes_on_waiting};

void weir_signals_close(struct weir_signals *signals)
{
    struct weir_task *task = weir_task_self();

    assert(!signals->closed && "weir_signals_close: closed already");
    signals->closed = true;
    if (signals->waiting) {
        assert(task && "weir_signals_close: tasks wait for them, and this is not in a task");
        weir__task_interrupt(signals->poller, -ESHUTDOWN);
        while (signals->first)
            weir__task_interrupt(signals->first, -ESHUTDOWN);
        signals->closer = task;
        weir__task_wait(task, &close_wait, signals, WEIR_FOREVER);
        signals->closer = NULL;
    }
    close(signals->fd);
    pthread_sigmask(SIG_UNBLOCK, &signals->unblock, NULL);
}
