/*
 * `weir-bench serve` from outside, on an engine that every build has: the ready line, the workloads
 * over a socket, stopping, counters, bad usage. WEIR_BENCH comes from Meson.
 */
#include <criterion/criterion.h>
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "command.h"

TestSuite(serve, .init = command_setup, .fini = command_teardown, .timeout = 120);

/* Starts a server and returns its port. `option` is a further one with its value, or NULL. */
static unsigned start_with(const char *engine, const char *workload, const char *option,
                           const char *value)
{
    char wanted[128];
    unsigned port = 0;

    LAUNCH("serve", "--engine", engine, "--workload", workload, "--listen", "127.0.0.1:0", option,
           value);
    process_expect(&process, false, "\n", COMMAND_SECONDS);
    char *line = process_text(&process, false);
    snprintf(wanted, sizeof wanted, "ready engine=%.*s workload=%s listen=127.0.0.1:%%u features=",
             (int)strcspn(engine, ":"), engine, workload);
    cr_assert_eq(sscanf(line, wanted, &port), 1, "%s", line);
    cr_assert_neq(port, 0);
    free(line);
    return port;
}

static unsigned start(const char *engine, const char *workload)
{
    return start_with(engine, workload, NULL, NULL);
}

static int dial(unsigned port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                               .sin_port = htons((uint16_t)port)};
    struct timeval limit = {.tv_sec = COMMAND_SECONDS};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    cr_assert_geq(fd, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    cr_assert_eq(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0, "%s", strerror(errno));
    return fd;
}

static void expect_echo(int fd, const void *data, size_t bytes)
{
    char *got = malloc(bytes);

    cr_assert_eq(send(fd, data, bytes, MSG_NOSIGNAL), (ssize_t)bytes);
    cr_assert_eq(recv(fd, got, bytes, MSG_WAITALL), (ssize_t)bytes);
    cr_assert_eq(memcmp(got, data, bytes), 0);
    free(got);
}

static void stop(int signal_number)
{
    kill(process.pid, signal_number);
    process_wait(&process, COMMAND_SECONDS);
    expect_exit(process.status, 0);
}

static void echoes_and_stops(const char *engine)
{
    int fd = dial(start(engine, "echo"));

    for (int i = 0; i < 3; i++)
        expect_echo(fd, "hello, world", 12);
    stop(SIGTERM); /* the connection is open and idle */
    close(fd);
}

Test(serve, echoes_on_an_engine_and_stops_at_sigterm)
{
    echoes_and_stops("epoll");
}

Test(serve, echoes_with_a_coroutine_for_each_connection)
{
    echoes_and_stops("epoll:per=connection");
}

Test(serve, echoes_on_a_model_that_is_no_engine)
{
    echoes_and_stops("bare-epoll");
}

Test(serve, echoes_on_processes_of_an_engine)
{
    echoes_and_stops("epoll-prefork:per=connection");
}

Test(serve, echoes_on_shards_of_an_engine)
{
    unsigned port = start_with("epoll-shards:per=connection", "echo", "--workers", "3");
    int fds[24]; /* that all meet one shard happens once in 3^23 */

    for (size_t i = 0; i < 24; i++) {
        fds[i] = dial(port);
        expect_echo(fds[i], "hello, world", 12);
    }
    kill(process.pid, SIGUSR1);
    for (unsigned i = 0; i < 3; i++) {
        char text[32];
        snprintf(text, sizeof text, "\"shard\":%u,", i);
        process_expect(&process, true, text, COMMAND_SECONDS);
    }
    char *lines = process_text(&process, true);
    unsigned served = 0, all = 0, accepted;
    for (const char *at = lines; (at = strstr(at, "\"accepted\":")) != NULL; at++) {
        cr_assert_eq(sscanf(at, "\"accepted\":%u", &accepted), 1);
        served += accepted > 0;
        all += accepted;
    }
    cr_assert_eq(all, 24, "%s", lines);
    cr_assert_geq(served, 2, "%s", lines);
    free(lines);
    stop(SIGTERM);
    for (size_t i = 0; i < 24; i++)
        close(fds[i]);
}

/* Or a shard's counters are missing above: once in a few hundred times they were. */
Test(serve, what_threads_and_processes_write_at_once_is_all_kept)
{
    char *const writers[] = {
        "/bin/sh", "-c", "for i in 1 2 3; do dd if=/dev/zero bs=7 count=20000 & done; wait", NULL};

    expect_exit(process_run(&process, writers, COMMAND_SECONDS), 0);
    cr_assert_eq(lseek(process.out_fd, 0, SEEK_END), 3 * 7 * 20000);
}

/* The first child of the server, not `other`; waits until there is one. */
static pid_t worker_besides(pid_t other)
{
    char path[64], line[256] = "";

    snprintf(path, sizeof path, "/proc/%d/task/%d/children", process.pid, process.pid);
    for (int tries = 0; tries < COMMAND_SECONDS * 100; tries++, usleep(10000)) {
        FILE *file = fopen(path, "r");
        if (file == NULL)
            return -1;
        char *got = fgets(line, sizeof line, file);
        fclose(file);
        for (char *at = got; at != NULL && *at != '\0';) {
            pid_t pid = (pid_t)strtol(at, &at, 10);
            if (pid > 0 && pid != other)
                return pid;
            at += strspn(at, " \n");
        }
    }
    return -1;
}

Test(serve, a_worker_process_of_an_engine_that_is_killed_gets_a_successor)
{
    unsigned port = start_with("epoll-prefork", "echo", "--workers", "1");
    pid_t worker = worker_besides(0);

    if (worker < 0)
        cr_skip_test("this kernel does not list children");
    int fd = dial(port);
    expect_echo(fd, "hello, world", 12);
    cr_assert_eq(kill(worker, SIGKILL), 0);
    char byte;
    cr_assert_leq(recv(fd, &byte, 1, 0), 0, "its connections end with it");
    close(fd);
    process_expect(&process, true, "starting its successor", COMMAND_SECONDS);
    cr_assert_gt(worker_besides(worker), 0);
    /* Between the two nobody listens, and a peer is refused. */
    errno = ECONNREFUSED;
    for (int tries = 0; tries < COMMAND_SECONDS * 100 && errno == ECONNREFUSED; tries++) {
        struct sockaddr_in addr = {.sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                   .sin_port = htons((uint16_t)port)};
        fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0)
            break;
        close(fd);
        usleep(10000);
    }
    expect_echo(fd, "hello again", 11);
    kill(process.pid, SIGUSR1);
    process_expect(&process, true, "\"shard\":0,", COMMAND_SECONDS);
    stop(SIGTERM);
    close(fd);
}

Test(serve, shards_that_cannot_all_start_end_the_server)
{
    struct rlimit few = {.rlim_cur = 40, .rlim_max = 40};

    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    LAUNCH("serve", "--engine", "epoll-shards", "--workers", "60", "--listen", "127.0.0.1:0");
    process_wait(&process, COMMAND_SECONDS);
    cr_assert(process.status == 2 || process.status == 3, "exit status %d", process.status);
    expect_err("Too many open files");
    char *out = process_text(&process, false);
    cr_assert_null(strstr(out, "ready"), "%s", out);
    free(out);
}

Test(serve, stops_at_sigint_too)
{
    start("epoll", "echo");
    stop(SIGINT);
}

Test(serve, frames_come_back_however_they_are_cut)
{
    int fd = dial(start("epoll", "frame"));
    unsigned char frame[4 + 300] = {0, 0, 1, 44};
    unsigned char got[sizeof frame];

    for (size_t i = 4; i < sizeof frame; i++)
        frame[i] = (unsigned char)i;
    for (size_t cut = 1; cut < 7; cut++) {
        cr_assert_eq(send(fd, frame, cut, MSG_NOSIGNAL), (ssize_t)cut);
        usleep(20000); /* so that the server most likely sees two pieces; either way is right */
        cr_assert_eq(send(fd, frame + cut, sizeof frame - cut, MSG_NOSIGNAL),
                     (ssize_t)(sizeof frame - cut));
        cr_assert_eq(recv(fd, got, sizeof got, MSG_WAITALL), (ssize_t)sizeof got);
        cr_assert_eq(memcmp(got, frame, sizeof frame), 0);
    }
    close(fd);
    stop(SIGTERM);
}

Test(serve, a_frame_beyond_the_limit_closes_that_connection_alone)
{
    unsigned port = start_with("epoll", "frame", "--max-frame", "1k");
    int good = dial(port);
    int bad = dial(port);
    char byte;

    expect_echo(good, "\0\0\0\3abc", 7);
    cr_assert_eq(send(bad, "\0\0\4\1x", 5, MSG_NOSIGNAL), 5); /* 1025 bytes */
    errno = 0; /* an end of the stream leaves it alone */
    cr_assert_leq(recv(bad, &byte, 1, 0), 0, "closed, by end or by reset");
    cr_assert_neq(errno, EAGAIN);
    expect_echo(good, "\0\0\0\3def", 7);
    kill(process.pid, SIGUSR1);
    process_expect(&process, true, "\"refused\":1,", COMMAND_SECONDS);
    close(good);
    close(bad);
    stop(SIGTERM);
}

Test(serve, a_large_message_goes_through_one_connection)
{
    enum { BYTES = 1 << 20 };
    int fd = dial(start("epoll", "echo"));
    char *data = malloc(BYTES);
    char *got = malloc(BYTES);
    size_t sent = 0;
    size_t received = 0;

    for (size_t i = 0; i < BYTES; i++)
        data[i] = (char)(i * 2654435761u >> 13);
    while (received < BYTES) {
        size_t part = BYTES - sent < 65536 ? BYTES - sent : 65536;
        if (part > 0)
            cr_assert_eq(send(fd, data + sent, part, MSG_NOSIGNAL), (ssize_t)part);
        sent += part;
        ssize_t n = recv(fd, got + received, BYTES - received, 0);
        cr_assert_gt(n, 0);
        received += (size_t)n;
    }
    cr_assert_eq(memcmp(data, got, BYTES), 0);
    free(data);
    free(got);
    close(fd);
    stop(SIGTERM);
}

static void expect_counters(const char *text)
{
    char *line = strdup(text);

    *strchrnul(line, '\n') = '\0';
    json_t *object = json_loads(line, 0, NULL);
    cr_assert_not_null(object, "no JSON: %s", line);
    cr_assert(json_is_integer(json_object_get(object, "accepted")), "%s", line);
    cr_assert_gt(json_integer_value(json_object_get(object, "bytes_in")), 0, "%s", line);
    json_decref(object);
    free(line);
}

static void counts(const char *engine, const char *option, int signal_number)
{
    int fd = dial(start_with(engine, "echo", option, NULL));

    expect_echo(fd, "count me", 8);
    if (signal_number > 0)
        kill(process.pid, signal_number);
    process_expect(&process, true, "\"bytes_in\":8", COMMAND_SECONDS);
    char *text = process_text(&process, true);
    const char *line = strstr(text, "\"bytes_in\":8");
    while (line > text && line[-1] != '\n')
        line--;
    expect_counters(line);
    free(text);
    close(fd);
    stop(SIGTERM);
}

Test(serve, stats_prints_json_each_second)
{
    counts("epoll", "--stats", 0);
    counts("bare-epoll", "--stats", 0);
}

Test(serve, sigusr1_prints_the_counters_once)
{
    counts("epoll", NULL, SIGUSR1);
    counts("bare-epoll", NULL, SIGUSR1);
}

Test(serve, sigusr1_lists_the_coroutines)
{
    int fd = dial(start("epoll:per=connection", "echo"));

    expect_echo(fd, "x", 1);
    kill(process.pid, SIGUSR1);
    process_expect(&process, true, "{\"coroutine\":\"", COMMAND_SECONDS);
    close(fd);
    stop(SIGTERM);
}

static void refuses(const char *option, const char *value, int status, const char *says)
{
    expect_exit(RUN("serve", option, value), status);
    expect_err(says);
    cr_assert_str_eq(process.out, "", "no ready line");
}

Test(serve, bad_usage_is_exit_2_and_lists_what_is_valid)
{
    refuses("--engine", "kqueue", 2, "unknown engine 'kqueue'; valid: auto, ");
    refuses("--engine", "epoll:per=foo", 2, "per=burst");
    refuses("--engine", "bare-epoll:per=burst", 2, "has no option 'per=burst'");
    refuses("--workload", "ftp", 2, "unknown workload 'ftp'; valid: echo, frame");
    refuses("--listen", "7000", 2, "--listen 7000");
    refuses("--drain", "soon", 2, "--drain soon");
    refuses("--buf-bytes", "1", 2, "--buf-bytes 1");
    refuses("--frob", "1", 2, "unknown option '--frob'; valid: --engine");
}

Test(serve, an_address_that_is_taken_or_not_ours_is_told)
{
    unsigned port = start("epoll", "echo");
    struct process first = process;
    char address[32];

    memset(&process, 0, sizeof process);
    snprintf(address, sizeof address, "127.0.0.1:%u", port);
    refuses("--listen", address, 2, address);
    refuses("--listen", "192.0.2.1:7000", 2, "192.0.2.1");
    process_free(&process);
    process = first;
    stop(SIGTERM);
}

Test(serve, a_model_of_echo_alone_cannot_serve_frames)
{
    expect_exit(RUN("serve", "--engine", "bare-epoll", "--workload", "frame"), 3);
    expect_err("serves echo, sink, source only");
}

/* Through a shell, which limits the address space of what it starts. */
static int run_within(const char *arguments)
{
    char command[512];

    snprintf(command, sizeof command, "ulimit -v 400000 && exec %s %s", WEIR_BENCH, arguments);
    return process_run(&process, (char *[]){"/bin/sh", "-c", command, NULL}, COMMAND_SECONDS);
}

Test(serve, a_pool_that_the_machine_cannot_start_is_refused_with_the_cure)
{
    if (run_within("--version") != 0)
        cr_skip("the address sanitizer needs all of the address space");
    expect_exit(run_within("serve --engine epoll-shards --workers 1024 --listen 127.0.0.1:0"), 3);
    expect_err("epoll-shards: 1024 threads need ");
    expect_err(" of address space (RLIMIT_AS), have 390.6 MiB: ulimit -v unlimited");
}

Test(serve, help_lists_every_option_with_its_default)
{
    expect_exit(RUN("serve", "--help"), 0);
    expect_out("--drain");
    expect_out("Default: 5");
    expect_exit(RUN("dance"), 2);
    expect_err("valid: compare, serve, load, doctor");
}
