/*
 * Starts, watches and stops the server processes (servers.h has the rules). The ready line and the
 * words of the dead are read in servers_text.c. Standard error goes to a memory file: nobody need
 * drain it while slices are being measured, and its last line is still there when the process is
 * not.
 */
#include "bench/servers.h"

#include "bench/cli.h"
#include "bench/clock.h"
#include "bench/servers_text.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Beyond this the oldest words of a chatty server are dropped. */
#define STDERR_BYTES_MAX (1 << 20)

static int fail(struct server *server, int result, const char *what)
{
    server->state = SERVER_FAILED;
    snprintf(server->how, sizeof server->how, "%s: %s", what, strerror(-result));
    return result;
}

static void close_fds(struct server *server)
{
    if (server->out_fd >= 0)
        close(server->out_fd);
    if (server->err_fd >= 0)
        close(server->err_fd);
    server->out_fd = -1;
    server->err_fd = -1;
}

/* In the child: never returns. Reports a failed exec on its standard error, which is kept. */
static void become_server(const struct server_spec *spec, pid_t parent, int out_fd, int err_fd)
{
    sigset_t none;

    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(EXIT_FAILED); /* compare was gone before the line above */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    if (dup2(out_fd, STDOUT_FILENO) < 0 || dup2(err_fd, STDERR_FILENO) < 0)
        _exit(EXIT_FAILED);
    if (spec->cpus != NULL && sched_setaffinity(0, sizeof *spec->cpus, spec->cpus) < 0) {
        perror("cannot run on the server's CPUs");
        _exit(EXIT_FAILED);
    }
    char workers[16];
    snprintf(workers, sizeof workers, "%u", spec->workers);
    setenv("WEIR_NAME", spec->name, 1);
    setenv("WEIR_WORKLOAD", spec->workload, 1);
    setenv("WEIR_LISTEN", spec->listen, 1);
    setenv("WEIR_WORKERS", workers, 1);
    if (spec->argv != NULL) {
        execv(spec->argv[0], spec->argv);
        perror(spec->argv[0]);
    } else {
        char *command;
        if (asprintf(&command, "exec %s", spec->command) >= 0)
            execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        perror("/bin/sh");
    }
    _exit(EXIT_FAILED);
}

static int open_pipes(struct server *server, int *child_out)
{
    int pipe_fds[2];

    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return -errno;
    server->out_fd = pipe_fds[0];
    *child_out = pipe_fds[1];
    server->err_fd = memfd_create("weir-server-stderr", MFD_CLOEXEC);
    if (server->err_fd < 0)
        return -errno;
    if (fcntl(server->out_fd, F_SETFL, O_NONBLOCK) < 0 ||
        fcntl(server->err_fd, F_SETFL, O_APPEND) < 0)
        return -errno;
    return 0;
}

int weir__server_start(struct server *server, const struct server_spec *spec)
{
    pid_t parent = getpid();
    int child_out = -1;

    assert((spec->argv == NULL) != (spec->command == NULL));
    memset(server, 0, sizeof *server);
    server->out_fd = -1;
    server->err_fd = -1;
    snprintf(server->engine, sizeof server->engine, "%s", spec->engine ? spec->engine : "");
    snprintf(server->workload, sizeof server->workload, "%s", spec->workload);
    int result = open_pipes(server, &child_out);
    if (result == 0) {
        server->pid = fork();
        if (server->pid == 0)
            become_server(spec, parent, child_out, server->err_fd);
        if (server->pid < 0)
            result = -errno;
    }
    if (child_out >= 0)
        close(child_out);
    if (result < 0) {
        close_fds(server);
        server->pid = 0;
        return fail(server, result, "cannot start the server");
    }
    setpgid(server->pid, server->pid); /* both sides do: whichever comes first */
    server->state = SERVER_STARTING;
    return 0;
}

/* Before its ready line a server of ours tells by its exit status why it will not serve. */
static enum server_state refusal(int status, bool was_starting)
{
    if (!was_starting || !WIFEXITED(status))
        return SERVER_FAILED;
    if (WEXITSTATUS(status) == EXIT_NOTHING_RAN)
        return SERVER_SKIPPED;
    return WEXITSTATUS(status) == EXIT_USAGE ? SERVER_MISUSED : SERVER_FAILED;
}

/* Takes the exit status in, once waitpid gave it. */
static void bury(struct server *server, int status)
{
    bool was_starting = server->state == SERVER_STARTING;

    /* Whatever it left behind in its group must not keep its port or its CPU. */
    kill(-server->pid, SIGKILL);
    server->pid = 0;
    server->state = refusal(status, was_starting);
    if (server->state == SERVER_FAILED) {
        weir__server_describe_death(server, status, was_starting);
    } else {
        weir__server_last_words(server, server->how, sizeof server->how);
        if (server->how[0] == '\0')
            snprintf(server->how, sizeof server->how, "it refused, and did not say why");
    }
    close_fds(server);
}

static bool reap_now(struct server *server)
{
    int status;
    pid_t pid = waitpid(server->pid, &status, WNOHANG);

    if (pid != server->pid)
        return false;
    bury(server, status);
    return true;
}

static void kill_and_wait(struct server *server)
{
    int status;

    kill(-server->pid, SIGKILL);
    kill(server->pid, SIGKILL);
    while (waitpid(server->pid, &status, 0) < 0 && errno == EINTR)
        ;
    server->pid = 0;
    close_fds(server);
}

/* It lives, but is of no use: says why, and ends it. */
static int give_up(struct server *server, const char *why)
{
    char words[SERVER_TEXT_BYTES / 2];

    weir__server_last_words(server, words, sizeof words);
    kill_and_wait(server);
    server->state = SERVER_FAILED;
    if (why != NULL)
        snprintf(server->how, sizeof server->how, "%s%s%s", why,
                 words[0] ? "; its last words: " : "", words);
    return -ECHILD;
}

/* Reads what there is of the ready line. 1: complete; 0: not yet; -EPIPE: the end. */
static int read_line(struct server *server)
{
    for (;;) {
        size_t room = sizeof server->line - 1 - server->line_length;
        if (room == 0)
            return -EMSGSIZE;
        ssize_t got = read(server->out_fd, server->line + server->line_length, room);
        if (got < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        if (got == 0)
            return -EPIPE;
        server->line_length += (size_t)got;
        server->line[server->line_length] = '\0';
        char *end = strchr(server->line, '\n');
        if (end != NULL) {
            *end = '\0';
            return 1;
        }
    }
}

/* Its standard output ended: the process is dying, or closed it in error. */
static int wait_for_death(struct server *server, uint64_t deadline_ns)
{
    while (!reap_now(server)) {
        if (weir__clock_ns() >= deadline_ns)
            return give_up(server, "it closed its standard output without a ready line");
        struct timespec pause = {.tv_nsec = 2000000};
        nanosleep(&pause, NULL);
    }
    return server->state == SERVER_SKIPPED ? -EOPNOTSUPP : -ECHILD;
}

int weir__server_wait_ready(struct server *server, uint64_t deadline_ns)
{
    if (server->state == SERVER_READY)
        return 0;
    if (server->state != SERVER_STARTING)
        return server->state == SERVER_SKIPPED ? -EOPNOTSUPP : -ECHILD;
    for (;;) {
        int got = read_line(server);
        if (got == 1) {
            if (weir__server_parse_ready(server, server->line) < 0)
                return give_up(server, NULL);
            server->state = SERVER_READY;
            return 0;
        }
        if (got == -EMSGSIZE)
            return give_up(server, "its first line is not a ready line");
        if (got < 0)
            return wait_for_death(server, deadline_ns);
        uint64_t now_ns = weir__clock_ns();
        if (now_ns >= deadline_ns)
            return give_up(server, "no ready line in time");
        struct pollfd ready = {.fd = server->out_fd, .events = POLLIN};
        if (poll(&ready, 1, (int)((deadline_ns - now_ns) / 1000000) + 1) < 0 && errno == EINTR)
            return -EINTR;
    }
}

/* Nobody reads a server's output after the ready line: empty the pipe so that it never blocks. */
static void discard_output(struct server *server)
{
    char scrap[4096];
    struct stat stat;

    while (read(server->out_fd, scrap, sizeof scrap) > 0)
        ;
    if (fstat(server->err_fd, &stat) == 0 && stat.st_size > STDERR_BYTES_MAX &&
        ftruncate(server->err_fd, 0) < 0)
        return; /* then it grows on; the run is bounded */
}

bool weir__server_alive(struct server *server)
{
    if (server->state != SERVER_READY)
        return false;
    if (reap_now(server))
        return false;
    discard_output(server);
    return true;
}

void weir__server_pause(struct server *server)
{
    if (server->pid <= 0 || server->paused)
        return;
    kill(-server->pid, SIGSTOP);
    server->paused = true;
}

void weir__server_resume(struct server *server)
{
    if (server->pid > 0 && server->paused)
        kill(-server->pid, SIGCONT);
    server->paused = false;
}

void weir__server_terminate(struct server *server)
{
    if (server->pid > 0)
        kill(server->pid, SIGTERM);
    weir__server_resume(server);
}

void weir__server_reap(struct server *server, uint64_t deadline_ns)
{
    int status = 0;

    if (server->pid <= 0)
        return;
    for (;;) {
        pid_t pid = waitpid(server->pid, &status, WNOHANG);
        if (pid == server->pid)
            break;
        discard_output(server);
        if (weir__clock_ns() >= deadline_ns) {
            give_up(server, "it did not stop when asked to, and was killed");
            return;
        }
        struct timespec pause = {.tv_nsec = 2000000};
        nanosleep(&pause, NULL);
    }
    bury(server, status);
    if (status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM))
        server->state = SERVER_STOPPED;
}

void weir__server_deinit(struct server *server)
{
    if (server->pid > 0)
        kill_and_wait(server);
    close_fds(server);
    server->state = SERVER_NONE;
}
