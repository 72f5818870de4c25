/*
 * Child processes that serve: how one is made, and how its parent learns of its death. What the
 * pool (<weir/procs.h>) and the model that forks for each connection share.
 *
 * The parent has SIGCHLD blocked and reads it from a descriptor. Signals merge: one may stand for
 * many dead, who are then to be asked for by waitpid(2). They must be: only of a child that was
 * waited for does the CPU time appear in its parent's (times(2)), and the bench looks there.
 */
#ifndef WEIR_LEGACY_MODELS_CHILDREN_H
#define WEIR_LEGACY_MODELS_CHILDREN_H

#include <signal.h>
#include <sys/types.h>

struct weir__children {
    int fd;                  /* readable: some may have died */
    sigset_t mask;           /* as it was before, and is in the children */
    struct sigaction action; /* of SIGCHLD, as it was */
};

/* 0 or -errno. Undone by close. One at a time in a process. */
int weir__children_open(struct weir__children *children);
void weir__children_close(struct weir__children *children);

/*
 * Forks. Returns 0 in the child, where SIGTERM calls `stop` and interrupts, and `children` is
 * closed already; its process id in the parent; or -errno. The child dies with the thread that made
 * it. A signal meets it only once it has its own handlers.
 */
pid_t weir__children_fork(struct weir__children *children, void (*stop)(void));

/* Empties the descriptor: before the dead are asked for, so that none goes unnoticed. */
void weir__children_noted(struct weir__children *children);

#endif
