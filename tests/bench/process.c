/* Child processes of the tests (process.h). */
#include "process.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void pause_a_little(void)
{
    struct timespec pause = {.tv_nsec = 5000000};

    nanosleep(&pause, NULL);
}

/* What threads and processes write at once must all arrive. To a plain file it does, for the kernel
 * locks the offset they share; a memfd has no such lock (FMODE_ATOMIC_POS),
 * and one write may overwrite another. Appending is under the lock of the inode. */
static int open_record(const char *name)
{
    int fd = memfd_create(name, MFD_CLOEXEC);

    cr_assert_geq(fd, 0);
    cr_assert_eq(fcntl(fd, F_SETFL, O_APPEND), 0);
    return fd;
}

void process_start(struct process *process, char *const argv[])
{
    unsigned nofile = process->nofile;

    process_free(process);
    process->nofile = nofile;
    process->out_fd = open_record("out");
    process->err_fd = open_record("err");
    process->pid = fork();
    cr_assert_geq(process->pid, 0);
    if (process->pid > 0)
        return;
    struct rlimit limit = {process->nofile, process->nofile};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (process->nofile > 0 && setrlimit(RLIMIT_NOFILE, &limit) < 0)
        _exit(126);
    dup2(process->out_fd, STDOUT_FILENO);
    dup2(process->err_fd, STDERR_FILENO);
    execv(argv[0], argv);
    _exit(127);
}

char *process_text(const struct process *process, bool err)
{
    struct stat stat_now;
    int fd = err ? process->err_fd : process->out_fd;

    cr_assert_eq(fstat(fd, &stat_now), 0);
    char *text = calloc(1, (size_t)stat_now.st_size + 1);
    cr_assert_not_null(text);
    cr_assert_eq(pread(fd, text, (size_t)stat_now.st_size, 0), stat_now.st_size);
    return text;
}

static bool ended(struct process *process)
{
    int status;

    if (waitpid(process->pid, &status, WNOHANG) != process->pid)
        return false;
    process->pid = 0;
    process->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return true;
}

void process_wait(struct process *process, double seconds)
{
    double deadline_s = now_s() + seconds;

    while (!ended(process)) {
        if (now_s() > deadline_s) {
            kill(process->pid, SIGKILL);
            waitpid(process->pid, NULL, 0);
            char *err = process_text(process, true);
            cr_assert_fail("still running after %g s; it said:\n%s", seconds, err);
        }
        pause_a_little();
    }
    process->out = process_text(process, false);
    process->err = process_text(process, true);
}

int process_run(struct process *process, char *const argv[], double seconds)
{
    process_start(process, argv);
    process_wait(process, seconds);
    return process->status;
}

void process_expect(struct process *process, bool err, const char *text, double seconds)
{
    double deadline_s = now_s() + seconds;

    for (;;) {
        char *so_far = process_text(process, err);
        bool found = strstr(so_far, text) != NULL;

        if (!found && now_s() > deadline_s) {
            kill(process->pid, SIGKILL);
            cr_assert_fail("no '%s' within %g s in:\n%s", text, seconds, so_far);
        }
        free(so_far);
        if (found)
            return;
        pause_a_little();
    }
}

void process_free(struct process *process)
{
    if (process->pid > 0) {
        kill(process->pid, SIGKILL);
        waitpid(process->pid, NULL, 0);
    }
    free(process->out);
    free(process->err);
    if (process->out_fd > 0) {
        close(process->out_fd);
        close(process->err_fd);
    }
    memset(process, 0, sizeof *process);
}
