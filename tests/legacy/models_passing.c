/* Connections that one process accepts and others serve: descriptors through a socket, with the
 * socket full and with no descriptor left; and what becomes of one that a dead worker had not taken
 * out. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "legacy/models/passing.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "legacy/models/stop.h"
#include "tests/legacy/rig.h"

enum { MOST = 100000 };

static void channel(int ends[2])
{
    cr_assert(eq(int, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0));
}

static void expect_end(int fd)
{
    char byte;
    cr_assert(eq(int, (int)recv(fd, &byte, 1, MSG_WAITALL), 0));
}

TestSuite(passing, .timeout = 60);

Test(passing, what_comes_out_is_the_same_connection_and_closed_on_exec)
{
    int ends[2], pair[2];
    char text[8] = "";
    channel(ends);
    cr_assert(eq(int, socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0));
    cr_assert(eq(int, weir__passing_send(ends[0], pair[0]), 0));
    close(pair[0]);
    int fd = weir__passing_receive(ends[1], 0);
    cr_assert(ge(int, fd, 0));
    cr_assert(eq(int, fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC));
    cr_assert(eq(int, (int)send(fd, "hello", 5, 0), 5));
    cr_assert(eq(int, (int)recv(pair[1], text, 5, MSG_WAITALL), 5));
    cr_assert(eq(str, text, (char *)"hello"));
    close(fd);
    expect_end(pair[1]);
}

Test(passing, an_empty_socket_and_one_without_a_sender_are_told_apart)
{
    int ends[2];
    channel(ends);
    cr_assert(eq(int, weir__passing_receive(ends[1], MSG_DONTWAIT), -EAGAIN));
    close(ends[0]);
    cr_assert(eq(int, weir__passing_receive(ends[1], 0), -EPIPE));
}

Test(passing, a_full_socket_takes_no_more_until_one_is_taken_out_and_loses_none)
{
    int ends[2], pair[2], count = 0, taken = 0, rc;
    channel(ends);
    cr_assert(eq(int, socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0));
    while (count < MOST && (rc = weir__passing_send(ends[0], pair[0])) == 0)
        count++;
    cr_assert(eq(int, rc, -EAGAIN));
    cr_assert(ge(int, count, 64));
    for (int fd; (fd = weir__passing_receive(ends[1], MSG_DONTWAIT)) >= 0; taken++)
        close(fd);
    cr_assert(eq(int, taken, count));
    cr_assert(eq(int, weir__passing_send(ends[0], pair[0]), 0));
}

Test(passing, where_no_descriptor_is_left_the_peer_sees_the_end_and_the_next_is_taken_again)
{
    struct rlimit saved, low;
    int ends[2], first[2], second[2];
    need_the_kernels_limit();
    channel(ends);
    cr_assert(eq(int, socketpair(AF_UNIX, SOCK_STREAM, 0, first), 0));
    cr_assert(eq(int, socketpair(AF_UNIX, SOCK_STREAM, 0, second), 0));
    cr_assert(eq(int, weir__passing_send(ends[0], first[0]), 0));
    cr_assert(eq(int, weir__passing_send(ends[0], second[0]), 0));
    close(first[0]);
    close(second[0]);
    cr_assert(eq(int, getrlimit(RLIMIT_NOFILE, &saved), 0));
    low = (struct rlimit){.rlim_cur = 0, .rlim_max = saved.rlim_max};
    cr_assert(eq(int, setrlimit(RLIMIT_NOFILE, &low), 0));
    int rc = weir__passing_receive(ends[1], 0);
    cr_assert(eq(int, setrlimit(RLIMIT_NOFILE, &saved), 0));
    cr_assert(eq(int, rc, -EMFILE));
    expect_end(first[1]);
    int fd = weir__passing_receive(ends[1], 0);
    cr_assert(ge(int, fd, 0));
    cr_assert(eq(int, (int)send(second[1], "x", 1, 0), 1));
    char byte = 0;
    cr_assert(eq(int, (int)recv(fd, &byte, 1, 0), 1));
}

/* --- the parent ---------------------------------------------------------------------------------
 */

/* Shared by the workers and the test. The first life of the only worker dies holding nothing, once
 * something waits in its socket. */
struct shared {
    struct weir_model_stats stats;
    atomic_int lives, served, refused, ready;
};

static struct shared *shared;
static const struct weir_model model = {.name = "test"};

static int work(void *argument, unsigned index)
{
    int own = weir__passing_become_worker(argument, index);
    bool dies = ++shared->lives == 1;
    while (dies && !weir__stopping())
        if (weir__readable(own))
            raise(SIGKILL);
    for (int fd; (fd = weir__passing_receive(own, 0)) != -EINTR || !weir__stopping();) {
        if (fd < 0)
            continue;
        shared->served++;
        close(fd);
    }
    return 0;
}

/* Full at first, twice. */
static int pass(struct weir__passing *passing, int fd)
{
    if (shared->refused++ < 2)
        return -EAGAIN;
    return weir__passing_send(passing->channels[0][0], fd);
}

static int turn_away(struct weir__passing *passing, int fd)
{
    (void)passing;
    (void)fd;
    return -EPERM;
}

static void note_ready(void *argument, const char *features)
{
    (void)argument;
    (void)features;
    shared->ready = 1;
}

struct parent {
    pid_t pid;
    int stop_fd, listen_fd;
    struct sockaddr_storage address;
    socklen_t address_bytes;
};

static void start(struct parent *parent, int (*with)(struct weir__passing *passing, int fd))
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    cr_assert(ne(ptr, shared, MAP_FAILED));
    parent->listen_fd = tcp_listener(64, &parent->address, &parent->address_bytes);
    parent->stop_fd = eventfd(0, EFD_NONBLOCK);
    parent->pid = fork();
    if (parent->pid == 0) {
        struct weir_model_options options = {.listen_fd = parent->listen_fd,
                                             .stop_fd = parent->stop_fd,
                                             .drain_ns = RIG_LIMIT_S * 1000000000ull};
        struct weir__passing passing = {.model = &model,
                                        .options = &options,
                                        .stats = &shared->stats,
                                        .workers = 1,
                                        .news_fd = -1,
                                        .pass = with,
                                        .work = work,
                                        .stop = weir__stop_interrupts};
        char why[128];
        _exit(weir__passing_serve(&passing, note_ready, NULL, why, sizeof why) == 0 ? 0 : 1);
    }
    for (int i = 0; i < RIG_LIMIT_S * 1000 && !shared->ready; i++)
        usleep(1000);
    cr_assert(eq(int, shared->ready, 1));
}

static int dial(const struct parent *parent)
{
    struct timeval limit = {.tv_sec = RIG_LIMIT_S};
    int fd = tcp_socket();
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    cr_assert(
        eq(int, connect(fd, (const struct sockaddr *)&parent->address, parent->address_bytes), 0));
    return fd;
}

static void stop(struct parent *parent)
{
    int status;
    cr_assert(eq(int, eventfd_write(parent->stop_fd, 1), 0));
    cr_assert(eq(int, waitpid(parent->pid, &status, 0), parent->pid));
    cr_assert(eq(int, status, 0));
    cr_assert(eq(int, fcntl(parent->listen_fd, F_GETFL) & O_NONBLOCK, 0),
              "the listener was left changed");
}

Test(passing, what_a_dead_worker_had_not_taken_out_its_successor_serves)
{
    struct parent parent;
    start(&parent, pass);
    int fd = dial(&parent);
    expect_end(fd);
    cr_assert(eq(int, shared->lives, 2));
    cr_assert(eq(int, shared->served, 1));
    cr_assert(ge(int, shared->refused, 3), "it was not tried again");
    cr_assert(eq(u64, weir_model_sum(&shared->stats).deaths, 1));
    stop(&parent);
}

Test(passing, one_that_cannot_be_passed_at_all_is_turned_away_and_counted)
{
    struct parent parent;
    start(&parent, turn_away);
    int fds[3];
    for (int i = 0; i < 3; i++)
        fds[i] = dial(&parent);
    for (int i = 0; i < 3; i++)
        expect_end(fds[i]);
    stop(&parent);
    struct weir_model_counters sum = weir_model_sum(&shared->stats);
    cr_assert(eq(u64, sum.accepted, 3));
    cr_assert(eq(u64, sum.closed, 3));
    cr_assert(eq(u64, sum.errors, 3));
}
