/* Conformance: child processes. */
#include "conformance.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "config.h"

const char *conf_no_children(void)
{
    int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (fd >= 0)
        close(fd);
    return fd < 0 && errno == ENOSYS ? "there is no pidfd_open() here" : NULL;
}

static void run_children(weir_task_fn *fn)
{
    if (conf_no_children())
        cr_skip("%s", conf_no_children());
    conf_run(NULL, fn, NULL);
}

static struct weir_process_options shell(const char *script)
{
    static const char *arguments[4];
    arguments[0] = "sh";
    arguments[1] = "-c";
    arguments[2] = script;
    return (struct weir_process_options){.arguments = arguments};
}

static int run(const struct weir_process_options *options)
{
    struct weir_process process;
    int status = -1, again = -1;
    check_int(weir_process_spawn(&process, options), ==, 0);
    check_int(weir_process_wait(&process, &status, WEIR_FOREVER), ==, 0);
    check_int(weir_process_wait(&process, &again, WEIR_FOREVER), ==, 0);
    check_int(again, ==, status);
    check_int(weir_process_signal(&process, SIGTERM), ==, -ESRCH);
    weir_process_close(&process);
    check(waitpid(process.pid, NULL, WNOHANG) < 0 && errno == ECHILD, "a zombie is left");
    return status;
}

static void run_some(void *argument)
{
    struct weir_process_options options = shell("exit 7");
    int status = run(&options);
    check(WIFEXITED(status) && WEXITSTATUS(status) == 7, "%x", status);
    options = shell("kill -KILL $$");
    status = run(&options);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%x", status);
}

CONFORMANCE(a_child_ends_with_its_status)
{
    run_children(run_some);
}

static void spawn_in_vain(void *argument)
{
    struct weir_process process;
    struct weir_process_options options = shell("exit 0");
    options.file = "/nowhere/sh";
    options.input.kind = options.output.kind = WEIR_STDIO_PIPE;
    check_int(weir_process_spawn(&process, &options), ==, -ENOENT);
    options.file = "weir-no-such-program";
    check_int(weir_process_spawn(&process, &options), ==, -ENOENT);
    options = shell("exit 0");
    options.directory = "/nowhere";
    check_int(weir_process_spawn(&process, &options), ==,
              WEIR_HAVE_SPAWN_CHDIR ? -ENOENT : -EOPNOTSUPP);
    options = shell("exit 0");
    options.input = (struct weir_stdio){.kind = WEIR_STDIO_FD, .fd = -1};
    check_int(weir_process_spawn(&process, &options), ==, -EBADF);
}

CONFORMANCE(a_program_that_is_not_there_leaves_nothing_behind)
{
    run_children(spawn_in_vain);
}

static size_t read_all(int fd, char *text, size_t bytes)
{
    size_t at = 0;
    int64_t got;
    while ((got = weir_fd_read(fd, text + at, bytes - at, WEIR_FOREVER)) > 0)
        at += (size_t)got;
    check_int(got, ==, 0);
    return at;
}

static void check_output(const struct weir_process_options *options, const char *expected)
{
    static char text[4096];
    struct weir_process process;
    int status;
    check_int(weir_process_spawn(&process, options), ==, 0);
    check_int(process.error, ==, -1);
    size_t bytes = read_all(process.output, text, sizeof text);
    check(bytes == strlen(expected) && memcmp(text, expected, bytes) == 0, "\"%.*s\", not \"%s\"",
          (int)bytes, text, expected);
    check_int(weir_process_wait(&process, &status, WEIR_FOREVER), ==, 0);
    check_int(status, ==, 0);
    weir_process_close(&process);
}

static void talk_to_cat(void *argument)
{
    struct weir_process process;
    struct weir_process_options options = shell("cat; echo end >&2");
    char text[64];
    options.input.kind = options.output.kind = options.error.kind = WEIR_STDIO_PIPE;
    check_int(weir_process_spawn(&process, &options), ==, 0);
    for (int i = 0; i < 3; i++) {
        check_int(weir_fd_write_all(process.input, "meow", 4, WEIR_FOREVER), ==, 4);
        check_int(weir_fd_read(process.output, text, sizeof text, WEIR_FOREVER), ==, 4);
    }
    weir_process_close_input(&process);
    check_int(read_all(process.output, text, sizeof text), ==, 0);
    check_int(read_all(process.error, text, sizeof text), ==, 4);
    check_int(weir_process_wait(&process, NULL, WEIR_FOREVER), ==, 0);
    weir_process_close(&process);
}

CONFORMANCE(a_child_is_written_to_and_read_from)
{
    run_children(talk_to_cat);
}

static void look_from_inside(void *argument)
{
    static const char *environment[] = {"WORD=weir", "PATH=/usr/bin:/bin", NULL};
    int ends[2];

    check_int(pipe2(ends, O_CLOEXEC), ==, 0); /* the child's, so it blocks */
    check_int(write(ends[1], "given\n", 6), ==, 6);
    close(ends[1]);
    struct weir_process_options options = shell("echo $WORD; pwd; cat");
    options.environment = environment;
    options.directory = "/";
    options.input = (struct weir_stdio){.kind = WEIR_STDIO_FD, .fd = ends[0]};
    options.output.kind = WEIR_STDIO_PIPE;
    options.error.kind = WEIR_STDIO_NULL;
    check_output(&options, "weir\n/\ngiven\n");
    close(ends[0]);
}

CONFORMANCE(a_child_has_the_environment_directory_and_descriptors_it_was_given)
{
    if (WEIR_HAVE_SPAWN_CHDIR)
        run_children(look_from_inside);
}

/* What this thread blocks and ignores is not the child's to suffer from. */
static void look_at_signals(void *argument)
{
    struct weir_process_options options = shell("kill -USR1 $$; exit 0");
    sigset_t all, before;
    struct sigaction ignore = {.sa_handler = SIG_IGN}, was;
    sigfillset(&all);
    check_int(pthread_sigmask(SIG_BLOCK, &all, &before), ==, 0);
    check_int(sigaction(SIGUSR1, &ignore, &was), ==, 0);
    int status = run(&options);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1, "%x", status);
    check_int(sigaction(SIGUSR1, &was, NULL), ==, 0);
    check_int(pthread_sigmask(SIG_SETMASK, &before, NULL), ==, 0);
}

CONFORMANCE(a_child_begins_with_no_signal_blocked_or_ignored)
{
    run_children(look_at_signals);
}

static void wait_in_vain(void *argument)
{
    check_int(weir_process_wait(argument, NULL, WEIR_FOREVER), ==, -ECANCELED);
}

static void outlive(void *argument)
{
    struct weir_process process;
    struct weir_process_options options = shell("echo up; read forever");
    struct weir_task *waiter;
    int other[2];
    char text[8];

    check_int(pipe2(other, 0), ==, 0); /* inheritable, and yet not inherited */
    options.input.kind = options.output.kind = WEIR_STDIO_PIPE;
    options.flags = WEIR_PROCESS_GROUP;
    check_int(weir_process_spawn(&process, &options), ==, 0);
    close(other[1]);
    if (WEIR_HAVE_SPAWN_CLOSEFROM)
        check_int(weir_fd_read(other[0], text, 1, WEIR_FOREVER), ==, 0);
    close(other[0]);
    check_int(weir_fd_read(process.output, text, sizeof text, WEIR_FOREVER), ==, 3);
    check_int(getpgid(process.pid), ==, process.pid);
    check_int(weir_process_wait(&process, NULL, weir_now_ns() + 1000000), ==, -ETIME);
    check_int(weir_spawn(weir_loop_self(), &waiter, wait_in_vain, &process), ==, 0);
    conf_settle();
    weir_task_cancel(waiter);
    check_int(weir_join(waiter, WEIR_FOREVER), ==, 0);
    check_int(weir_process_signal(&process, 0), ==, 0); /* it was left alone */
    weir_process_close(&process);
    check(waitpid(process.pid, NULL, WNOHANG) < 0 && errno == ECHILD, "a zombie is left");
}

CONFORMANCE(a_child_outlives_a_wait_but_not_its_close)
{
    run_children(outlive);
}

/* In a task that is cancelled, closing waits all the same. */
static void close_cancelled(void *argument)
{
    struct weir_process process;
    struct weir_process_options options = shell("read forever");
    options.input.kind = WEIR_STDIO_PIPE;
    check_int(weir_process_spawn(&process, &options), ==, 0);
    weir_task_cancel(weir_task_self());
    check_int(weir_process_wait(&process, NULL, WEIR_FOREVER), ==, -ECANCELED);
    weir_process_close(&process);
    check(waitpid(process.pid, NULL, WNOHANG) < 0 && errno == ECHILD, "a zombie is left");
    check_int(weir_process_spawn(&process, &options), ==, -ECANCELED);
}

CONFORMANCE(a_cancelled_task_leaves_no_child_and_no_zombie)
{
    run_children(close_cancelled);
}
