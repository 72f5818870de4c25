/* Conformance: reading and writing pipes and other descriptors that can be polled. */
#include "conformance.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

static char out[300000], in[300000];

static void write_much(void *argument)
{
    pattern_fill(out, sizeof out, 1, 0);
    check_int(weir_fd_write_all(*(int *)argument, out, sizeof out, WEIR_FOREVER), ==, sizeof out);
    close(*(int *)argument);
}

static void read_to_the_end(int fd, size_t expected)
{
    size_t at = 0;
    int64_t got;
    while ((got = weir_fd_read(fd, in + at, sizeof in - at, WEIR_FOREVER)) > 0)
        at += (size_t)got;
    check_int(got, ==, 0);
    check_int(at, ==, expected);
    pattern_check(in, at, 1, 0);
}

static void through_a_pipe(void *argument)
{
    int ends[2];
    check_int(weir_pipe(ends), ==, 0);
    for (int i = 0; i < 2; i++) {
        check_int(fcntl(ends[i], F_GETFD), ==, FD_CLOEXEC);
        check_int(fcntl(ends[i], F_GETFL) & O_NONBLOCK, ==, O_NONBLOCK);
    }
    check_int(weir_spawn(weir_loop_self(), NULL, write_much, &ends[1]), ==, 0);
    read_to_the_end(ends[0], sizeof out);
    close(ends[0]);
}

CONFORMANCE(what_is_written_to_a_pipe_is_read_to_its_end)
{
    conf_run(NULL, through_a_pipe, NULL);
}

/* Both block, as what a program inherits does: the loop goes on all the same, and the flags stay.
 */
static void through_a_blocking_pipe(void *argument)
{
    int ends[2];
    check_int(pipe2(ends, O_CLOEXEC), ==, 0);
    check_int(weir_fd_read(ends[0], in, 1, weir_now_ns() + 1000000), ==, -ETIME);
    check_int(weir_spawn(weir_loop_self(), NULL, write_much, &ends[1]), ==, 0);
    conf_settle();
    check_int(fcntl(ends[0], F_GETFL) & O_NONBLOCK, ==, 0);
    check_int(fcntl(ends[1], F_GETFL) & O_NONBLOCK, ==, 0);
    read_to_the_end(ends[0], sizeof out);
    close(ends[0]);
}

CONFORMANCE(a_pipe_that_blocks_does_not_stop_the_loop)
{
    conf_run(NULL, through_a_blocking_pipe, NULL);
}

static void read_events(void *argument)
{
    uint64_t *sum = argument, value;
    int fd = (int)*sum;
    for (*sum = 0; *sum < 6; *sum += value)
        check_int(weir_fd_read(fd, &value, sizeof value, WEIR_FOREVER), ==, sizeof value);
}

static int open_terminal(int *user)
{
    char path[64];
    int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    check(terminal >= 0, "posix_openpt: errno %d", errno);
    check_int(grantpt(terminal), ==, 0);
    check_int(unlockpt(terminal), ==, 0);
    check_int(ptsname_r(terminal, path, sizeof path), ==, 0);
    *user = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    check(*user >= 0, "%s: errno %d", path, errno);
    return terminal;
}

struct line {
    int fd;
    int64_t got;
    char text[16];
};

static void read_line(void *argument)
{
    struct line *line = argument;
    line->got = weir_fd_read(line->fd, line->text, sizeof line->text, WEIR_FOREVER);
}

/* An eventfd can be asked not to wait; a terminal's driver cannot. */
static void events_and_a_terminal(void *argument)
{
    struct weir_loop *loop = weir_loop_self();
    struct weir_task *reader;
    int events = eventfd(0, EFD_CLOEXEC), user, terminal = open_terminal(&user);
    uint64_t sum = (uint64_t)events;
    struct line line = {.fd = user};

    check_int(weir_spawn(loop, &reader, read_events, &sum), ==, 0);
    for (uint64_t i = 1; i <= 3; i++) {
        conf_settle();
        check_int(weir_fd_write(events, &i, sizeof i, WEIR_FOREVER), ==, sizeof i);
    }
    check_int(weir_join(reader, WEIR_FOREVER), ==, 0);
    check_int(sum, ==, 6);

    check_int(weir_spawn(loop, &reader, read_line, &line), ==, 0);
    conf_settle();
    check_int(weir_fd_write_all(terminal, "hello\n", 6, WEIR_FOREVER), ==, 6);
    check_int(weir_join(reader, WEIR_FOREVER), ==, 0);
    check_int(line.got, ==, 6);
    check(memcmp(line.text, "hello\n", 6) == 0);
    check_int(weir_fd_read(terminal, in, sizeof in, WEIR_FOREVER), ==, 7); /* its echo */
    check_int(weir_fd_write_all(user, "you\n", 4, WEIR_FOREVER), ==, 4);
    check_int(weir_fd_read(terminal, in, sizeof in, WEIR_FOREVER), ==, 5);
    check(memcmp(in, "you\r\n", 5) == 0, "%.5s", in);
    close(terminal);
    close(user);
    close(events);
}

CONFORMANCE(eventfds_and_terminals_are_read_and_written)
{
    conf_run(NULL, events_and_a_terminal, NULL);
}

static void a_file(void *argument)
{
    char path[] = "/tmp/weir-conformance-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    check(fd >= 0, "%s: errno %d", path, errno);
    unlink(path);
    pattern_fill(out, sizeof out, 1, 0);
    check_int(weir_fd_write_all(fd, out, sizeof out, WEIR_FOREVER), ==, sizeof out);
    check_int(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), ==, 0);
    check_int(lseek(fd, 0, SEEK_SET), ==, 0);
    read_to_the_end(fd, sizeof out);
    close(fd);
    check_int(weir_fd_read(fd, in, 1, WEIR_FOREVER), ==, -EBADF);
    check_int(weir_fd_write(fd, in, 1, WEIR_FOREVER), ==, -EBADF);
}

CONFORMANCE(a_file_in_the_place_of_a_pipe_is_read_and_written)
{
    conf_run(NULL, a_file, NULL);
}

static _Atomic int signals;

static void count_signal(int number)
{
    signals++;
}

static bool is_pending(int number)
{
    sigset_t pending;
    check_int(sigpending(&pending), ==, 0);
    return sigismember(&pending, number);
}

static void write_for_nobody(void *argument)
{
    int ends[2];
    sigset_t set, before;
    check_int(weir_pipe(ends), ==, 0);
    close(ends[0]);
    check_int(weir_fd_write(ends[1], "x", 1, WEIR_FOREVER), ==, -EPIPE);
    check_int(signals, ==, 0);

    /* One that waited before is not taken away, and one of ours does not wait. */
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    check_int(pthread_sigmask(SIG_BLOCK, &set, &before), ==, 0);
    check_int(sigismember(&before, SIGPIPE), ==, 0);
    check_int(weir_fd_write(ends[1], "x", 1, WEIR_FOREVER), ==, -EPIPE);
    check(!is_pending(SIGPIPE));
    check_int(pthread_kill(pthread_self(), SIGPIPE), ==, 0);
    check_int(weir_fd_write(ends[1], "x", 1, WEIR_FOREVER), ==, -EPIPE);
    check(is_pending(SIGPIPE));
    check_int(signals, ==, 0);
    check_int(pthread_sigmask(SIG_SETMASK, &before, NULL), ==, 0);
    check_int(signals, ==, 1);
    close(ends[1]);
}

CONFORMANCE(a_write_that_nobody_reads_says_so_without_a_signal)
{
    struct sigaction mine = {.sa_handler = count_signal}, before, after;
    check_int(sigaction(SIGPIPE, &mine, &before), ==, 0);
    conf_run(NULL, write_for_nobody, NULL);
    check_int(sigaction(SIGPIPE, &before, &after), ==, 0);
    check(after.sa_handler == count_signal, "the disposition is the program's");
}

static void read_in_vain(void *argument)
{
    check_int(weir_fd_read(*(int *)argument, in, 1, WEIR_FOREVER), ==, -ECANCELED);
    check_int(weir_fd_read(*(int *)argument, in, 1, WEIR_FOREVER), ==, -ECANCELED);
}

static void write_in_vain(void *argument)
{
    while (weir_fd_write(*(int *)argument, out, sizeof out, WEIR_FOREVER) != -ECANCELED)
        ;
}

static void cancel_both(void *argument)
{
    struct weir_loop *loop = weir_loop_self();
    struct weir_task *reader, *writer;
    int ends[2];
    check_int(weir_pipe(ends), ==, 0);
    check_int(weir_spawn(loop, &reader, read_in_vain, &ends[0]), ==, 0);
    conf_settle();
    weir_task_cancel(reader);
    check_int(weir_join(reader, WEIR_FOREVER), ==, 0);
    check_int(weir_spawn(loop, &writer, write_in_vain, &ends[1]), ==, 0);
    conf_settle();
    weir_task_cancel(writer);
    check_int(weir_join(writer, WEIR_FOREVER), ==, 0);
    check_int(weir_fd_write(ends[1], "x", 1, weir_now_ns() + 1000000), ==, -ETIME);
    check_int(weir_fd_read(ends[0], in, 1, 0), ==, 1); /* what is there is not late */
    close(ends[0]);
    close(ends[1]);
}

CONFORMANCE(tasks_at_a_pipe_are_cancelled)
{
    conf_run(NULL, cancel_both, NULL);
}

/* ---- the others' turn ------------------------------------------------------------------------ */

static void raise_flag(void *argument)
{
    *(bool *)argument = true;
}

static void never_wait(void *argument)
{
    int ends[2];
    char byte;
    bool ran = false;
    check_int(weir_pipe(ends), ==, 0);
    check_int(weir_spawn(weir_loop_self(), NULL, raise_flag, &ran), ==, 0);
    for (int i = 0; i < 10000 && !ran; i++) {
        check_int(weir_fd_write(ends[1], "x", 1, WEIR_FOREVER), ==, 1);
        check_int(weir_fd_read(ends[0], &byte, 1, WEIR_FOREVER), ==, 1);
    }
    check(ran, "the other task never ran");
    ran = false;
    check_int(weir_spawn(weir_loop_self(), NULL, raise_flag, &ran), ==, 0);
    for (int i = 0; i < 10000 && !ran; i++)
        check_int(weir_poll(weir_loop_self(), ends[1], POLLOUT, WEIR_FOREVER), ==, POLLOUT);
    check(ran, "the other task never ran");
    close(ends[0]);
    close(ends[1]);
}

CONFORMANCE(a_task_whose_descriptor_is_always_ready_lets_others_run)
{
    conf_run(NULL, never_wait, NULL);
}
