/*
 * Conformance of the models whose workers are processes: kill -9. Who was served by another worker
 * notices nothing, who was served by this one sees its end, and a successor takes its place. A
 * worker does not outlive the server.
 */
#include "tests/legacy/models.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

TestSuite(models_kill, .timeout = 3 * LIMIT_S);

static void need_pool_of_processes(void)
{
    need_worker_processes();
    if (subject_is(WEIR_MODEL_WORKER_PER_CONN))
        cr_skip_test("%s has no workers that wait for connections", subject_spec());
}

/* --- who holds a connection --------------------------------------------------------------------
 */

/* The inode of the server's end. */
static unsigned long inode_of_peer(const struct server *server, int fd)
{
    struct sockaddr_in own;
    socklen_t bytes = sizeof own;
    char line[512];
    unsigned long inode = 0;
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&own, &bytes), 0);
    FILE *file = fopen("/proc/net/tcp", "re");
    cr_assert_not_null(file);
    while (inode == 0 && fgets(line, sizeof line, file)) {
        unsigned local, remote;
        unsigned long found;
        if (sscanf(line, " %*d: %*8X:%4X %*8X:%4X %*X %*X:%*X %*X:%*X %*X %*d %*d %lu", &local,
                   &remote, &found) == 3 &&
            local == ntohs(server->address.sin_port) && remote == ntohs(own.sin_port))
            inode = found;
    }
    fclose(file);
    cr_assert_neq(inode, 0, "nobody holds the connection");
    return inode;
}

static bool holds(pid_t pid, unsigned long inode)
{
    char path[64], wanted[48];
    bool found = false;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    snprintf(wanted, sizeof wanted, "socket:[%lu]", inode);
    DIR *directory = opendir(path);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        char link[sizeof path + sizeof entry->d_name + 1], target[64] = "";
        snprintf(link, sizeof link, "%s/%s", path, entry->d_name);
        if (readlink(link, target, sizeof target - 1) > 0)
            found |= !strcmp(target, wanted);
    }
    if (directory)
        closedir(directory);
    return found;
}

/* The one worker that holds the connection. Two would be a leak: killing one would not end it. */
static pid_t worker_of(const struct server *server, int fd)
{
    unsigned long inode = inode_of_peer(server, fd);
    pid_t children[CHILDREN_MOST], worker = 0;
    double until_s = clock_s() + LIMIT_S;
    for (unsigned holders = 2; holders > 1;) {
        cr_assert_lt(clock_s(), until_s, "%u processes hold one connection", holders);
        unsigned count = children_of(server->process.pid, children);
        holders = holds(server->process.pid, inode);
        for (unsigned i = 0; i < count; i++) {
            if (!holds(children[i], inode))
                continue;
            worker = children[i];
            holders++;
        }
    }
    cr_assert_gt(worker, 0, "the connection is held by no worker");
    return worker;
}

/* --- killing ------------------------------------------------------------------------------------
 */

static unsigned kill_workers(const struct server *server)
{
    pid_t children[CHILDREN_MOST];
    unsigned count = children_of(server->process.pid, children);
    for (unsigned i = 0; i < count; i++)
        cr_assert(kill(children[i], SIGKILL) == 0 || errno == ESRCH);
    return count;
}

Test(models_kill, a_worker_takes_its_own_connections_with_it_and_no_other)
{
    enum { CONNS = 6 };
    struct server server = {0};
    int fds[CONNS];
    pid_t workers[CONNS] = {0};
    unsigned conns = at_once(CONNS), lost = 0;
    need_worker_processes();
    if (!strncmp(subject_spec(), "uring", 5))
        cr_skip_test("%s has connections that are no descriptors", subject_spec());
    SERVER_START(&server, conns, "echo");
    for (unsigned i = 0; i < conns; i++) {
        fds[i] = client(&server);
        expect_text(fds[i], "before");
    }
    for (unsigned i = 0; i < conns; i++)
        workers[i] = worker_of(&server, fds[i]);
    cr_assert_eq(kill(workers[0], SIGKILL), 0);
    expect_end(fds[0]);
    for (unsigned i = 0; i < conns; i++) {
        if (workers[i] == workers[0]) {
            expect_end(fds[i]);
            lost++;
        } else {
            expect_text(fds[i], "as if nothing had been");
        }
    }
    if (subject_is(WEIR_MODEL_HOLDS_WORKER))
        cr_assert_eq(lost, 1);
    for (unsigned i = 0; i < lost; i++)
        await_service(&server);
    for (unsigned i = 0; i < conns; i++)
        close(fds[i]);
    server_stop(&server);
}

Test(models_kill, each_death_is_counted_and_has_a_successor)
{
    enum { DEATHS = 4 };
    struct server server = {0};
    pid_t children[CHILDREN_MOST];
    need_pool_of_processes();
    SERVER_START(&server, 2, "echo");
    await_service(&server);
    unsigned workers = children_of(server.process.pid, children);
    cr_assert_gt(workers, 0);
    for (unsigned i = 0; i < DEATHS; i++) {
        cr_assert_eq(kill(children[i % workers], SIGKILL), 0);
        if (subject_model())
            await_counter(&server, "deaths", i + 1);
        double until_s = clock_s() + LIMIT_S;
        pid_t dead = children[i % workers];
        bool is_there = true;
        for (unsigned count = 0; count != workers || is_there; pause_ms(1)) {
            cr_assert_lt(clock_s(), until_s, "%u of %u workers are there", count, workers);
            count = children_of(server.process.pid, children);
            is_there = false;
            for (unsigned j = 0; j < count; j++)
                is_there |= children[j] == dead;
        }
        await_service(&server);
    }
    if (subject_model())
        cr_assert_eq(server_counter(&server, "deaths"), DEATHS);
    server_stop(&server);
}

Test(models_kill, when_all_workers_die_at_once_others_come)
{
    struct server server = {0};
    need_pool_of_processes();
    SERVER_START(&server, 2, "echo");
    for (int i = 0; i < 3; i++) {
        int fd = client(&server);
        expect_text(fd, "before");
        cr_assert_gt(kill_workers(&server), 0);
        expect_end(fd);
        close(fd);
        await_service(&server);
    }
    server_stop(&server);
}

Test(models_kill, a_worker_that_dies_in_the_drain_is_not_waited_for)
{
    enum { BYTES = 16 << 20 };
    struct server server = {0};
    need_worker_processes();
    uint8_t *data = pattern(BYTES, 1);
    SERVER_START(&server, 1, "echo", "--drain", "7200");
    int stuck = client_small(&server);
    send_until_stuck(stuck, data, BYTES);
    cr_assert_eq(kill(server.process.pid, SIGTERM), 0);
    pause_ms(50);
    cr_assert_gt(kill_workers(&server), 0, "it did not wait for the peer");
    server_ends(&server, 0);
    expect_end(stuck);
    close(stuck);
    free(data);
}

Test(models_kill, no_worker_outlives_the_server)
{
    enum { CONNS = 4 };
    struct server server = {0};
    int fds[CONNS];
    unsigned conns = at_once(CONNS);
    need_worker_processes();
    SERVER_START(&server, conns, "echo");
    for (unsigned i = 0; i < conns; i++) {
        fds[i] = client(&server);
        expect_text(fds[i], "before");
    }
    cr_assert_eq(kill(server.process.pid, SIGKILL), 0);
    server_ends(&server, 128 + SIGKILL);
    for (unsigned i = 0; i < conns; i++) {
        expect_end(fds[i]);
        close(fds[i]);
    }
}
