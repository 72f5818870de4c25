/*
 * fork: a process for each connection. The parent accepts, forks, closes its copy; the child serves
 * to the end, and is gone. The parent buries it.
 *
 * How it works: the child inherits the connection, and an address space that is the parent's until
 * one of them writes (copy on write). A blocking server in straight lines then serves any number of
 * clients at once, and what one client breaks is broken for it alone.
 *
 * Who uses it: inetd and xinetd, sshd, vsftpd, Postgres (which adds a pool before itself), CVS and
 * git daemons: few connections that stay, or ones that must be walled off from each other.
 *
 * Where it breaks: fork, exit and wait cost some 270 us, nine times what `prefork` takes for a
 * connection of one request (churn, two clients), and more the more memory the parent has. 10,000
 * clients are 10,000 processes of 130 KiB each (40 of its own, the rest page tables, stack and
 * tables of the kernel), and past RLIMIT_NPROC, kernel.pid_max (32,768 on small machines) or the
 * cgroup's pids.max there are none.
 *
 * Where no process can be made, the connection is turned away and accepting pauses, so that the
 * backlog holds the rest.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "legacy/models/blocking.h"
#include "legacy/models/children.h"
#include "legacy/models/stop.h"

extern const struct weir_model weir__model_fork;

enum {
    PAUSE_MS = 100,
    PID_MOST = 4 << 20, /* the kernel's PID_MAX_LIMIT */
    WORD_BITS = CHAR_BIT * sizeof(unsigned long),
    ALIVE_BYTES = PID_MOST / CHAR_BIT,
};

/* A child looks at its own end of the drain each few ms: time for that, before it is killed. */
#define GRACE_NS 100000000ull

struct server {
    const struct weir_model_options *options;
    struct weir_model_stats *stats;
    struct weir__children children;
    struct weir__acceptor acceptor;
    struct weir__blocking *blocking; /* the parent never writes to it, so it is no memory of its */
    unsigned long *alive;            /* a bit for each process id: no allocation for a child */
    unsigned alive_count;
    unsigned made; /* so far, to spread over the slots of the counters */
};

/* --- children -----------------------------------------------------------------------------------
 */

/* Does not return. */
static void serve_one(struct server *server, int fd)
{
    weir__acceptor_deinit(&server->acceptor);
    close(server->options->listen_fd); /* else the port would be taken while a child lives */
    server->blocking->options = server->options;
    server->blocking->counters = weir__counters(server->stats, server->made);
    weir__blocking_serve(server->blocking, fd);
    _exit(EXIT_SUCCESS);
}

static void note_dead(struct server *server, pid_t pid, int status)
{
    unsigned long bit = 1ul << (size_t)pid % WORD_BITS;
    struct weir_model_counters *counters = server->acceptor.counters;
    if (!(server->alive[(size_t)pid / WORD_BITS] & bit))
        return; /* whoever started this process left us a child */
    server->alive[(size_t)pid / WORD_BITS] &= ~bit;
    server->alive_count--;
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS)
        return;
    weir__count(&counters->deaths, 1);
    weir__count(&counters->errors, 1);
    weir__count(&counters->closed, 1); /* by the kernel */
}

/* All that have died, or, without WNOHANG, until none is left. */
static void bury(struct server *server, int flags)
{
    int status;
    weir__children_noted(&server->children);
    while (server->alive_count > 0) {
        pid_t pid = waitpid(-1, &status, flags);
        if (pid > 0)
            note_dead(server, pid, status);
        else if (pid == 0 || errno != EINTR)
            return;
    }
}

static void signal_all(const struct server *server, int number)
{
    for (size_t i = 0; i < PID_MOST / WORD_BITS; i++)
        for (unsigned long word = server->alive[i]; word; word &= word - 1)
            kill((pid_t)(i * WORD_BITS + (size_t)__builtin_ctzl(word)), number);
}

/* Tells all, waits for the drain, kills the rest. */
static void end_children(struct server *server)
{
    struct pollfd news = {.fd = server->children.fd, .events = POLLIN};
    uint64_t limit_ns = weir__now_ns() + server->options->drain_ns + GRACE_NS, now_ns;
    signal_all(server, SIGTERM);
    for (;;) {
        bury(server, WNOHANG);
        now_ns = weir__now_ns();
        if (server->alive_count == 0 || now_ns >= limit_ns)
            break;
        poll(&news, 1, (int)((limit_ns - now_ns) / 1000000 + 1));
    }
    signal_all(server, SIGKILL);
    bury(server, 0);
}

/* --- the parent ---------------------------------------------------------------------------------
 */

static void fork_for(struct server *server, int fd)
{
    pid_t pid = weir__children_fork(&server->children, weir__stop_interrupts);
    if (pid == 0)
        serve_one(server, fd);
    if (pid < 0) {
        server->acceptor.resume_ns = weir__now_ns() + PAUSE_MS * 1000000ull;
        weir__accepted_close(server->acceptor.counters, fd, (int)pid);
        return;
    }
    server->alive[(size_t)pid / WORD_BITS] |= 1ul << (size_t)pid % WORD_BITS;
    server->alive_count++;
    server->made++;
    close(fd);
}

/* Until stop_fd is readable. 0, or -errno: accepting cannot go on. */
static int run(struct server *server)
{
    struct pollfd fds[] = {{.fd = server->options->stop_fd, .events = POLLIN},
                           {.fd = server->children.fd, .events = POLLIN},
                           {.events = POLLIN}};
    for (;;) {
        int pause_ms = weir__acceptor_pause_ms(&server->acceptor);
        fds[2].fd = pause_ms == 0 ? server->options->listen_fd : -1;
        int n = poll(fds, 3, pause_ms == 0 ? -1 : pause_ms);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0 && fds[0].revents)
            return 0;
        if (n > 0 && fds[1].revents)
            bury(server, WNOHANG);
        if (n <= 0 || !fds[2].revents)
            continue;
        int fd = weir__accept(&server->acceptor, 0);
        if (fd >= 0)
            fork_for(server, fd);
        else if (fd != -EAGAIN && fd != -EBUSY && fd != -EINTR)
            return fd;
    }
}

static int open_and_run(struct server *server, void (*ready)(void *argument, const char *features),
                        void *argument)
{
    int listen_fd = server->options->listen_fd, flags = fcntl(listen_fd, F_GETFL);
    if (flags < 0)
        return -errno;
    int rc = weir__acceptor_init(&server->acceptor, listen_fd, weir__counters(server->stats, 0));
    if (rc < 0)
        return rc;
    rc = weir__children_open(&server->children);
    if (rc == 0) {
        fcntl(listen_fd, F_SETFL, flags | O_NONBLOCK);
        weir__stop_init(server->options);
        ready(argument, server->stats->features);
        rc = run(server);
        end_children(server);
        fcntl(listen_fd, F_SETFL, flags);
        weir__children_close(&server->children);
    }
    weir__acceptor_deinit(&server->acceptor);
    return rc;
}

static int serve(const struct weir_model_options *options, struct weir_model_stats *stats,
                 void (*ready)(void *argument, const char *features), void *argument, char *why,
                 size_t why_bytes)
{
    struct server server = {.options = options, .stats = stats};
    server.blocking = aligned_alloc(alignof(struct weir__blocking), sizeof *server.blocking);
    server.alive = mmap(NULL, ALIVE_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int rc = -ENOMEM;
    if (server.blocking && server.alive != MAP_FAILED)
        rc = open_and_run(&server, ready, argument);
    if (rc < 0)
        weir__model_fail(&weir__model_fork, -rc, "accepting",
                         "hand in a listening socket, descriptors, and 1 MiB of memory", why,
                         why_bytes);
    if (server.alive != MAP_FAILED)
        munmap(server.alive, ALIVE_BYTES);
    free(server.blocking);
    return rc;
}

const struct weir_model weir__model_fork = {
    .name = "fork",
    .summary = "a process per connection; children reaped",
    .seed_name = "multiprocess",
    .traits = WEIR_MODEL_BLOCKING | WEIR_MODEL_PROCESSES | WEIR_MODEL_HOLDS_WORKER |
              WEIR_MODEL_WORKER_PER_CONN,
    .serve = serve,
};
