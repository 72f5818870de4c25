/* Child processes that serve: children.h. */
#include "legacy/models/children.h"

#include <errno.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

static void (*stop_child)(void);

int weir__children_open(struct weir__children *children)
{
    /* A parent's parent may have had it ignored, which fork and exec pass on: then the kernel
     * would bury the children, and their CPU time with them. */
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t death;
    sigemptyset(&death);
    sigaddset(&death, SIGCHLD);
    children->fd = signalfd(-1, &death, SFD_NONBLOCK | SFD_CLOEXEC);
    if (children->fd < 0)
        return -errno;
    sigaction(SIGCHLD, &action, &children->action);
    pthread_sigmask(SIG_BLOCK, &death, &children->mask);
    return 0;
}

void weir__children_close(struct weir__children *children)
{
    weir__children_noted(children);
    close(children->fd);
    sigaction(SIGCHLD, &children->action, NULL);
    pthread_sigmask(SIG_SETMASK, &children->mask, NULL);
}

static void on_term(int number)
{
    int saved = errno;
    (void)number;
    stop_child();
    errno = saved;
}

/* All signals are blocked still. */
static void become_child(struct weir__children *children, pid_t parent, void (*stop)(void))
{
    static const int harmless[] = {SIGINT, SIGUSR1, SIGALRM};
    /* SA_ONSTACK: it may meet a coroutine on its small stack. */
    struct sigaction action = {.sa_handler = on_term, .sa_flags = SA_ONSTACK};

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(0); /* it was gone before the line above */
    stop_child = stop;
    sigaction(SIGTERM, &action, NULL);
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
        signal(harmless[i], SIG_IGN);
    sigaction(SIGCHLD, &children->action, NULL);
    close(children->fd);
    pthread_sigmask(SIG_SETMASK, &children->mask, NULL);
}

pid_t weir__children_fork(struct weir__children *children, void (*stop)(void))
{
    pid_t parent = getpid();
    sigset_t all, saved;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &saved);
    pid_t pid = fork();
    if (pid == 0) {
        become_child(children, parent, stop);
        return 0;
    }
    int error = errno;
    pthread_sigmask(SIG_SETMASK, &saved, NULL);
    return pid < 0 ? -error : pid;
}

void weir__children_noted(struct weir__children *children)
{
    struct signalfd_siginfo info;
    while (read(children->fd, &info, sizeof info) > 0)
        ;
}
