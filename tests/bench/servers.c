/* bench/servers.c with a server that is none of ours, in every way it can end. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/clock.h"
#include "bench/servers.h"

static struct server server;

static void teardown(void)
{
    weir__server_deinit(&server);
}

TestSuite(servers, .fini = teardown, .timeout = 60);

/* FAKE_SERVER comes from Meson. Seconds are what the ready line may take. */
static int start(const char *mode, double seconds)
{
    static char command[512];
    struct server_spec spec = {
        .name = "fake", .command = command, .workload = "echo", .listen = "127.0.0.1:0"};

    snprintf(command, sizeof command, "%s %s", FAKE_SERVER, mode);
    cr_assert_eq(weir__server_start(&server, &spec), 0, "%s", server.how);
    return weir__server_wait_ready(&server,
                                   weir__clock_ns() + (uint64_t)(seconds * (double)NS_PER_S));
}

static void expect_how(const char *part)
{
    cr_assert_not_null(strstr(server.how, part), "how: %s", server.how);
}

Test(servers, a_ready_server_has_an_address_and_features_and_stops_when_told)
{
    cr_assert_eq(start("good", 20), 0, "%s", server.how);
    cr_assert_eq(server.state, SERVER_READY);
    cr_assert_eq(server.addr.ss_family, AF_INET);
    cr_assert(server.has_features);
    cr_assert_str_eq(server.features, "one,two");
    cr_assert(weir__server_alive(&server));
    weir__server_terminate(&server);
    weir__server_reap(&server, weir__clock_ns() + 20 * NS_PER_S);
    cr_assert_eq(server.state, SERVER_STOPPED, "%s", server.how);
    cr_assert_not(weir__server_alive(&server));
}

Test(servers, a_ready_server_takes_connections)
{
    cr_assert_eq(start("good", 20), 0, "%s", server.how);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    char got[4] = "";

    cr_assert_eq(connect(fd, (struct sockaddr *)&server.addr, server.addr_len), 0);
    cr_assert_eq(send(fd, "abc", 3, 0), 3);
    cr_assert_eq(recv(fd, got, 3, MSG_WAITALL), 3);
    cr_assert_str_eq(got, "abc");
    close(fd);
}

Test(servers, its_memory_and_its_processes_are_known)
{
    pid_t pids[SERVER_PIDS_MAX];
    double rss;
    double peak;

    cr_assert_eq(start("good", 20), 0, "%s", server.how);
    cr_assert_eq(weir__server_pids(&server, pids), 1);
    cr_assert_eq(pids[0], server.pid);
    cr_assert(weir__server_memory(&server, &rss, &peak));
    cr_assert_gt(rss, 0);
    cr_assert_geq(peak, rss);
    cr_assert_eq(weir__server_parallelism(&server, 8), 1, "it has one thread");
}

Test(servers, exit_status_3_before_ready_is_a_skip_with_its_last_words)
{
    cr_assert_eq(start("refuse", 20), -EOPNOTSUPP);
    cr_assert_eq(server.state, SERVER_SKIPPED);
    cr_assert_str_eq(server.how, "this machine is too small");
}

Test(servers, exit_status_2_before_ready_is_misuse)
{
    cr_assert_lt(start("misused", 20), 0);
    cr_assert_eq(server.state, SERVER_MISUSED);
}

Test(servers, a_command_that_does_not_exist_fails_with_the_shell_s_words)
{
    struct server_spec spec = {
        .name = "none", .command = "/nonexistent/server", .workload = "echo", .listen = ""};

    cr_assert_eq(weir__server_start(&server, &spec), 0);
    cr_assert_eq(weir__server_wait_ready(&server, weir__clock_ns() + 20 * NS_PER_S), -ECHILD);
    cr_assert_eq(server.state, SERVER_FAILED);
    expect_how("exited with status 127 before it was ready");
    expect_how("/nonexistent/server");
}

Test(servers, a_server_that_says_nothing_is_given_up_in_time)
{
    cr_assert_eq(start("silent", 0.3), -ECHILD);
    cr_assert_eq(server.state, SERVER_FAILED);
    expect_how("no ready line in time");
    cr_assert_eq(server.pid, 0, "and is gone");
}

Test(servers, a_server_that_says_something_else_is_given_up)
{
    cr_assert_eq(start("babble", 20), -ECHILD);
    expect_how("not a ready line");
}

Test(servers, a_death_is_seen_with_its_signal_and_last_words)
{
    cr_assert_eq(start("die 1", 20), 0, "%s", server.how);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    cr_assert_eq(connect(fd, (struct sockaddr *)&server.addr, server.addr_len), 0);
    cr_assert_eq(send(fd, "abc", 3, 0), 3);
    for (int i = 0; i < 4000 && weir__server_alive(&server); i++)
        usleep(5000);
    close(fd);
    cr_assert_eq(server.state, SERVER_FAILED);
    expect_how("killed by signal 6");
    expect_how("its last words: I cannot go on");
}

Test(servers, a_deaf_server_is_killed_and_that_is_a_failure)
{
    cr_assert_eq(start("deaf", 20), 0, "%s", server.how);
    pid_t pid = server.pid;

    weir__server_terminate(&server);
    weir__server_reap(&server, weir__clock_ns() + NS_PER_S / 5);
    cr_assert_eq(server.state, SERVER_FAILED);
    expect_how("was killed");
    cr_assert_eq(kill(pid, 0), -1);
    cr_assert_eq(errno, ESRCH);
}

/* R, S, T ...: the third field of /proc/PID/stat. */
static char state_of(pid_t pid)
{
    char path[64], name[64], state = '?';

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    cr_assert_not_null(file);
    cr_assert_eq(fscanf(file, "%*d (%63[^)]) %c", name, &state), 2);
    fclose(file);
    return state;
}

static void expect_stopped(bool stopped)
{
    for (int i = 0; i < 4000 && (state_of(server.pid) == 'T') != stopped; i++)
        usleep(5000);
    cr_assert_eq(state_of(server.pid) == 'T', stopped);
}

Test(servers, one_that_is_paused_stands_still_until_it_is_resumed)
{
    cr_assert_eq(start("good", 20), 0, "%s", server.how);
    weir__server_pause(&server);
    expect_stopped(true);
    cr_assert(weir__server_alive(&server));
    weir__server_resume(&server);
    expect_stopped(false);
}

Test(servers, one_that_is_paused_can_be_told_to_stop)
{
    cr_assert_eq(start("good", 20), 0, "%s", server.how);
    weir__server_pause(&server);
    expect_stopped(true);
    weir__server_terminate(&server);
    weir__server_reap(&server, weir__clock_ns() + 20 * NS_PER_S);
    cr_assert_eq(server.state, SERVER_STOPPED, "%s", server.how);
}

static int parse(const char *text)
{
    char line[256];

    snprintf(line, sizeof line, "%s", text);
    memset(server.how, 0, sizeof server.how);
    return weir__server_parse_ready(&server, line);
}

Test(servers, a_ready_line_must_name_the_engine_the_workload_and_an_address)
{
    memset(&server, 0, sizeof server);
    server.out_fd = server.err_fd = -1;
    strcpy(server.engine, "uring");
    strcpy(server.workload, "echo");
    cr_assert_eq(parse("ready engine=uring workload=echo listen=127.0.0.1:7000 features="), 0);
    cr_assert_str_eq(server.features, "");
    cr_assert_eq(parse("ready engine=uring listen=[::1]:7000"), 0);
    cr_assert_eq(server.addr.ss_family, AF_INET6);
    cr_assert_lt(parse("ready engine=epoll workload=echo listen=127.0.0.1:7000"), 0);
    expect_how("asked for engine uring, it says that it is epoll");
    cr_assert_lt(parse("ready workload=echo listen=127.0.0.1:7000"), 0);
    expect_how("which engine");
    cr_assert_lt(parse("ready engine=uring workload=frame listen=127.0.0.1:7000"), 0);
    expect_how("workload");
    cr_assert_lt(parse("ready engine=uring workload=echo"), 0);
    expect_how("no listen=");
    cr_assert_lt(parse("ready engine=uring listen=nowhere"), 0);
    cr_assert_lt(parse("readyish engine=uring"), 0);
}
