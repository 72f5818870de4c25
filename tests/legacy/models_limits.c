/*
 * Conformance of the models: what they ask for cannot be had. Descriptors run out by RLIMIT_NOFILE;
 * threads and processes by a seccomp filter that asks this test about each clone of the server, for
 * no limit of them holds for root.
 */
#include "tests/legacy/models.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

TestSuite(models_limits, .timeout = 3 * LIMIT_S);

/* A server that tries again and again at once takes a processor for itself. */
static void expect_no_spinning(const struct server *server)
{
    if (subject_is(WEIR_MODEL_SPINS))
        return;
    double began_s = clock_s(), cpu_s = cpu_of(server);
    pause_ms(500);
    cpu_s = cpu_of(server) - cpu_s;
    cr_assert_lt(cpu_s, (clock_s() - began_s) / 2, "%g s of CPU in %g s", cpu_s,
                 clock_s() - began_s);
}

/* --- descriptors --------------------------------------------------------------------------------
 */

enum { DESCRIPTORS = 40, CLIENTS = 50 };

/* Takes the answers that come until none has come for a while; connections that have ended are
 * closed and become -1. Returns how many were served. */
static unsigned take_answers(int fds[CLIENTS], bool served[CLIENTS])
{
    unsigned count = 0;
    for (;;) {
        struct pollfd polls[CLIENTS];
        for (int i = 0; i < CLIENTS; i++)
            polls[i] = (struct pollfd){.fd = served[i] ? -1 : fds[i], .events = POLLIN};
        if (poll(polls, CLIENTS, 300) == 0)
            return count;
        for (int i = 0; i < CLIENTS; i++) {
            char answer;
            if (!polls[i].revents)
                continue;
            served[i] = recv(fds[i], &answer, 1, 0) == 1;
            count += served[i];
            if (!served[i]) {
                close(fds[i]);
                fds[i] = -1;
            }
        }
    }
}

Test(models_limits, out_of_descriptors_it_serves_those_it_has_and_later_the_rest)
{
    struct server server = {.process.nofile = DESCRIPTORS};
    int fds[CLIENTS];
    bool served[CLIENTS] = {false};
    SERVER_START(&server, 2, "echo");
    await_service(&server);
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = client(&server);
        if (send(fds[i], "x", 1, MSG_NOSIGNAL) < 0) /* turned away already */
            cr_assert(errno == ECONNRESET || errno == EPIPE);
    }
    cr_assert_gt(take_answers(fds, served), 0, "nobody is served");
    expect_no_spinning(&server);
    for (int i = 0; i < CLIENTS; i++)
        if (served[i])
            expect_text(fds[i], "still");
    for (int i = 0; i < CLIENTS; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    for (int i = 0; i < 5; i++)
        await_service(&server);
    await_counter(&server, "closed", server_counter(&server, "accepted"));
    server_stop(&server);
}

/* --- threads and processes ----------------------------------------------------------------------
 */

static struct {
    pthread_t thread;
    sem_t installed;
    int fd;
    atomic_bool refuse;
    atomic_uint passes; /* clones that are let through all the same */
    atomic_uint refused;
} clones;

/* A call that a signal interrupts meanwhile is gone, ENOENT, and comes again. */
static void *answer_clones(void *unused)
{
    while (sem_wait(&clones.installed) != 0)
        ;
    for (;;) {
        struct seccomp_notif call = {0};
        if (ioctl(clones.fd, SECCOMP_IOCTL_NOTIF_RECV, &call) < 0) {
            if (errno == EINTR || errno == ENOENT)
                continue;
            return unused;
        }
        struct seccomp_notif_resp answer = {.id = call.id};
        bool refuse = atomic_load(&clones.refuse);
        if (refuse && atomic_load(&clones.passes) > 0) {
            atomic_fetch_sub(&clones.passes, 1);
            refuse = false;
        }
        if (refuse)
            answer.error = -EAGAIN;
        else
            answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        if (ioctl(clones.fd, SECCOMP_IOCTL_NOTIF_SEND, &answer) == 0)
            atomic_fetch_add(&clones.refused, refuse);
    }
}

/* Every clone of this thread and of its children is answered by another from now on. */
static void watch_clones(void)
{
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_clone, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_clone3, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = sizeof program / sizeof *program, .filter = program};
    sem_init(&clones.installed, 0, 0);
    cr_assert_eq(pthread_create(&clones.thread, NULL, answer_clones, NULL), 0);
    cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    clones.fd = (int)syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER,
                             SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter);
    if (clones.fd < 0)
        cr_skip_test("seccomp without a listener of ours: %s", strerror(errno));
    sem_post(&clones.installed);
}

/* Sanitizers make threads of their own: ThreadSanitizer at the start, the search for leaks at the
 * end. */
static void need_clones_of_its_own_only(void)
{
    const char *options = getenv("ASAN_OPTIONS");
    char all[512];
    if (WITH_TSAN)
        cr_skip_test("ThreadSanitizer starts a thread first");
    snprintf(all, sizeof all, "%s%sdetect_leaks=0", options ? options : "", options ? ":" : "");
    cr_assert_eq(setenv("ASAN_OPTIONS", all, 1), 0);
}

Test(models_limits, a_client_for_whom_no_worker_can_be_made_is_turned_away)
{
    struct server server = {0};
    if (!subject_is(WEIR_MODEL_WORKER_PER_CONN))
        cr_skip_test("%s makes no worker for a connection", subject_spec());
    watch_clones();
    SERVER_START(&server, 2, "echo");
    int first = client(&server);
    expect_text(first, "before");
    atomic_store(&clones.refuse, true);
    for (int i = 0; i < 5; i++) {
        int fd = client(&server);
        cr_assert(!is_served(fd, "in vain"));
        close(fd);
        expect_text(first, "meanwhile");
    }
    cr_assert_geq(atomic_load(&clones.refused), 1);
    await_counter(&server, "errors", 5);
    expect_no_spinning(&server);
    atomic_store(&clones.refuse, false);
    for (int i = 0; i < 5; i++)
        await_service(&server);
    expect_text(first, "after");
    close(first);
    await_counter(&server, "closed", server_counter(&server, "accepted"));
    server_stop(&server);
}

Test(models_limits, a_worker_that_cannot_be_replaced_now_is_replaced_later)
{
    struct server server = {0};
    pid_t children[CHILDREN_MOST];
    need_worker_processes();
    if (subject_is(WEIR_MODEL_WORKER_PER_CONN))
        cr_skip_test("%s replaces none", subject_spec());
    watch_clones();
    SERVER_START(&server, 2, "echo");
    await_service(&server);
    unsigned workers = children_of(server.process.pid, children);
    atomic_store(&clones.refuse, true);
    for (unsigned i = 0; i < workers; i++)
        cr_assert_eq(kill(children[i], SIGKILL), 0);
    double until_s = clock_s() + LIMIT_S;
    while (atomic_load(&clones.refused) < 2) {
        cr_assert_lt(clock_s(), until_s, "it does not try again");
        pause_ms(1);
    }
    expect_no_spinning(&server);
    atomic_store(&clones.refuse, false);
    await_service(&server);
    while (children_of(server.process.pid, children) < workers) {
        cr_assert_lt(clock_s(), until_s, "too few workers came back");
        pause_ms(1);
    }
    server_stop(&server);
}

Test(models_limits, a_pool_that_cannot_start_its_workers_says_so)
{
    struct process process = {0};
    if (!subject_is(WEIR_MODEL_POOL))
        cr_skip_test("%s has no pool", subject_spec());
    need_clones_of_its_own_only();
    watch_clones();
    /* The test's own, that of the server, is the last to pass. */
    atomic_store(&clones.passes, 1);
    atomic_store(&clones.refuse, true);
    int status =
        server_run(&process, subject_spec(), (const char *const[]){"--workers", "4", NULL});
    atomic_store(&clones.refuse, false); /* the test looks for leaks of its own */
    cr_assert_eq(status, 3, "exit status %d; it said:\n%s", status, process.err);
    cr_assert_not_null(strstr(process.err, "Resource temporarily unavailable"), "it said:\n%s",
                       process.err);
    cr_assert_str_eq(process.out, "", "no ready line");
    process_free(&process);
}
