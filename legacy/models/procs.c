/* The pool of worker processes: <weir/procs.h>. Owns nothing of what the workers serve. */
#include <weir/procs.h>

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "legacy/models/children.h"
#include "legacy/models/serving.h"

enum { PAUSE_MS_FIRST = 10, PAUSE_MS_MOST = 1000, SETTLED_MS = 1000 };

/* A worker looks at its own end of the drain each few ms: time for that, before it is killed. */
#define GRACE_NS 100000000ull

struct place {
    pid_t pid;           /* 0: empty, a successor is due */
    unsigned pause_ms;   /* before the last start; 0: it was made at once */
    uint64_t started_ns; /* or the attempt, where the fork failed */
    uint64_t due_ns;
};

struct weir_procs {
    struct weir_procs_options options;
    struct weir__children children;
    unsigned empty;
    struct place places[];
};

/* 0 or -errno; the place is then empty still. Does not return in the worker. */
static int start(struct weir_procs *procs, unsigned index)
{
    struct place *place = &procs->places[index];
    assert(place->pid == 0);
    place->started_ns = weir__now_ns();
    pid_t pid = weir__children_fork(&procs->children, procs->options.stop);
    if (pid == 0)
        _exit(procs->options.work(procs->options.argument, index));
    if (pid < 0)
        return (int)pid;
    place->pid = pid;
    procs->empty--;
    return 0;
}

/* The longer, the more often in a row it was needed. */
static void plan_successor(struct place *place)
{
    uint64_t now_ns = weir__now_ns();
    if (now_ns - place->started_ns >= SETTLED_MS * 1000000ull)
        place->pause_ms = 0;
    else if (place->pause_ms == 0)
        place->pause_ms = PAUSE_MS_FIRST;
    else
        place->pause_ms = place->pause_ms < PAUSE_MS_MOST / 2 ? 2 * place->pause_ms : PAUSE_MS_MOST;
    place->due_ns = now_ns + place->pause_ms * 1000000ull;
}

/* Whether the worker has died; then its place is empty. */
static bool bury(struct weir_procs *procs, unsigned index, int flags)
{
    struct place *place = &procs->places[index];
    pid_t pid;
    do
        pid = waitpid(place->pid, NULL, flags);
    while (pid < 0 && errno == EINTR);
    if (pid == 0)
        return false;
    place->pid = 0;
    procs->empty++;
    return true;
}

static void bury_all_dead(struct weir_procs *procs)
{
    const struct weir_procs_options *options = &procs->options;
    for (unsigned i = 0; i < options->workers; i++) {
        if (procs->places[i].pid == 0 || !bury(procs, i, WNOHANG))
            continue;
        if (options->deaths)
            weir__count(options->deaths, 1);
        if (options->died)
            options->died(options->argument, i);
        plan_successor(&procs->places[i]);
    }
}

int weir_procs_tend(struct weir_procs *procs)
{
    struct pollfd news = {.fd = procs->children.fd, .events = POLLIN};
    if (poll(&news, 1, 0) > 0) {
        weir__children_noted(&procs->children);
        bury_all_dead(procs);
    }
    uint64_t now_ns = weir__now_ns(), next_ns = UINT64_MAX;
    for (unsigned i = 0; procs->empty > 0 && i < procs->options.workers; i++) {
        struct place *place = &procs->places[i];
        if (place->pid == 0 && place->due_ns <= now_ns && start(procs, i) < 0)
            plan_successor(place);
        if (place->pid == 0 && place->due_ns < next_ns)
            next_ns = place->due_ns;
    }
    if (next_ns == UINT64_MAX)
        return -1;
    return next_ns > now_ns ? (int)((next_ns - now_ns) / 1000000 + 1) : 0;
}

int weir_procs_open(struct weir_procs **out, const struct weir_procs_options *options)
{
    assert(options->workers > 0 && options->workers <= WEIR_PROCS_MAX);
    assert(options->work && options->stop);
    struct weir_procs *procs = calloc(1, sizeof *procs + options->workers * sizeof *procs->places);
    if (!procs)
        return -ENOMEM;
    procs->options = *options;
    procs->empty = options->workers;
    int rc = weir__children_open(&procs->children);
    if (rc < 0) {
        free(procs);
        return rc;
    }
    for (unsigned i = 0; i < options->workers && rc == 0; i++)
        rc = start(procs, i);
    if (rc < 0) {
        weir_procs_close(procs);
        return rc;
    }
    *out = procs;
    return 0;
}

int weir_procs_fd(const struct weir_procs *procs)
{
    return procs->children.fd;
}

pid_t weir_procs_pid(const struct weir_procs *procs, unsigned index)
{
    assert(index < procs->options.workers);
    return procs->places[index].pid;
}

int weir_procs_run(struct weir_procs *procs, int stop_fd)
{
    struct pollfd fds[] = {{.fd = stop_fd, .events = POLLIN},
                           {.fd = procs->children.fd, .events = POLLIN}};
    for (;;) {
        int timeout_ms = weir_procs_tend(procs);
        int n = poll(fds, 2, timeout_ms);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0 && fds[0].revents != 0)
            return 0;
    }
}

static void signal_all(struct weir_procs *procs, int number)
{
    for (unsigned i = 0; i < procs->options.workers; i++)
        if (procs->places[i].pid > 0)
            kill(procs->places[i].pid, number);
}

unsigned weir_procs_close(struct weir_procs *procs)
{
    struct pollfd news = {.fd = procs->children.fd, .events = POLLIN};
    unsigned workers = procs->options.workers, killed = 0;
    uint64_t limit_ns = weir__now_ns() + procs->options.drain_ns + GRACE_NS;

    signal_all(procs, SIGTERM);
    for (;;) {
        weir__children_noted(&procs->children);
        for (unsigned i = 0; i < workers; i++)
            if (procs->places[i].pid > 0)
                bury(procs, i, WNOHANG);
        uint64_t now_ns = weir__now_ns();
        if (procs->empty == workers || now_ns >= limit_ns)
            break;
        poll(&news, 1, (int)((limit_ns - now_ns) / 1000000 + 1));
    }
    killed = workers - procs->empty;
    signal_all(procs, SIGKILL);
    for (unsigned i = 0; i < workers; i++)
        if (procs->places[i].pid > 0)
            bury(procs, i, 0);
    assert(procs->empty == workers);
    weir__children_close(&procs->children);
    free(procs);
    return killed;
}
