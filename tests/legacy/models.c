/* The harness of the conformance suite of the models; see models.h. */
#include "tests/legacy/models.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* --- what is under test -------------------------------------------------------------------------
 */

const char *subject_spec(void)
{
    const char *spec = getenv("WEIR_TEST_MODEL");
    return spec ? spec : "iterative";
}

const struct weir_model *subject_model(void)
{
    const char *spec = subject_spec();
    size_t bytes = strcspn(spec, ":");
    for (size_t i = 0; weir_models[i]; i++)
        if (strlen(weir_models[i]->name) == bytes && !strncmp(weir_models[i]->name, spec, bytes))
            return weir_models[i];
    return NULL;
}

bool subject_is(unsigned traits)
{
    const struct weir_model *model = subject_model();
    return model && (model->traits & traits) == traits;
}

bool subject_serves(const char *workload)
{
    const struct weir_model *model = subject_model();
    if (!model || !model->workloads)
        return true;
    for (size_t i = 0; model->workloads[i]; i++)
        if (!strcmp(model->workloads[i], workload))
            return true;
    return false;
}

void need_workload(const char *workload)
{
    if (!subject_serves(workload))
        cr_skip_test("%s does not serve %s", subject_spec(), workload);
}

enum { WORKERS = 2 }; /* where the connections do not ask for more */

unsigned at_once(unsigned wish)
{
    if (!subject_is(WEIR_MODEL_HOLDS_WORKER) || subject_is(WEIR_MODEL_WORKER_PER_CONN))
        return wish;
    /* Which listener of a shared port a connection comes to is the kernel's choice: two may come to
     * one worker while others have none. */
    return subject_is(WEIR_MODEL_POOL) && !subject_is(WEIR_MODEL_REUSEPORT) ? wish : 1;
}

/* Whether the name is `end`, or ends with it, options aside. */
static bool is_kind(const char *end)
{
    const char *spec = subject_spec();
    size_t bytes = strcspn(spec, ":"), end_bytes = strlen(end);
    return bytes >= end_bytes && !strncmp(spec + bytes - end_bytes, end, end_bytes);
}

/* An engine in several threads or processes: each prints its own counters. */
static bool is_sharded(void)
{
    return !subject_model() && (is_kind("-shards") || is_kind("-prefork"));
}

void need_worker_processes(void)
{
    if (!subject_is(WEIR_MODEL_PROCESSES) && !(is_sharded() && is_kind("-prefork")))
        cr_skip_test("%s has no worker processes", subject_spec());
}

/* --- the server ---------------------------------------------------------------------------------
 */

double clock_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void pause_ms(unsigned ms)
{
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&pause, NULL);
}

enum { ARGUMENTS = 32 };

static void begin(struct process *process, const char *engine, const char *const *options,
                  const char *workers)
{
    char *argv[ARGUMENTS] = {WEIR_BENCH,     "serve",    "--engine",
                             (char *)engine, "--listen", "127.0.0.1:0"};
    size_t count = 6;
    if (workers) {
        argv[count++] = "--workers";
        argv[count++] = (char *)workers;
    }
    for (; *options; options++) {
        cr_assert_lt(count, ARGUMENTS - 1);
        argv[count++] = (char *)*options;
    }
    /* Workers that outlive the server become children of the test, which so learns of them. */
    cr_assert_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    process_start(process, argv);
}

int server_run(struct process *process, const char *engine, const char *const *options)
{
    begin(process, engine, options, NULL);
    process_wait(process, LIMIT_S);
    return process->status;
}

void server_start(struct server *server, unsigned conns, const char *const *words)
{
    const char *options[ARGUMENTS] = {"--workload"};
    char workers[16];
    unsigned port = 0;
    for (size_t count = 1; *words && count < ARGUMENTS - 1; count++)
        options[count] = *words++;
    bool holds = subject_is(WEIR_MODEL_HOLDS_WORKER);
    snprintf(workers, sizeof workers, "%u", holds && conns > WORKERS ? conns : WORKERS);
    begin(&server->process, subject_spec(), options,
          subject_is(WEIR_MODEL_POOL) || is_sharded() ? workers : NULL);
    process_expect(&server->process, false, "\n", LIMIT_S);
    char *line = process_text(&server->process, false);
    char *at = strstr(line, "listen=127.0.0.1:");
    cr_assert(at && sscanf(at, "listen=127.0.0.1:%u ", &port) == 1 && port > 0, "%s", line);
    free(line);
    server->address = (struct sockaddr_in){.sin_family = AF_INET,
                                           .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                           .sin_port = htons((uint16_t)port)};
}

static void expect_no_report(const char *said)
{
    static const char *const signs[] = {"Sanitizer", "runtime error", "ssertion"};
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        cr_assert_null(strstr(said, signs[i]), "the server said:\n%s", said);
}

/* Those of a server that could not wait for them are children of the test now. */
static void await_orphans(void)
{
    double until_s = clock_s() + LIMIT_S;
    for (pid_t gone; (gone = waitpid(-1, NULL, WNOHANG)) >= 0;) {
        cr_assert_lt(clock_s(), until_s, "a worker has outlived the server");
        if (gone == 0)
            pause_ms(1);
    }
    cr_assert_eq(errno, ECHILD);
}

void server_ends(struct server *server, int status)
{
    process_wait(&server->process, LIMIT_S);
    cr_assert_eq(server->process.status, status, "exit status %d, want %d; it said:\n%s",
                 server->process.status, status, server->process.err);
    expect_no_report(server->process.err);
    if (status == 0) {
        pid_t left = waitpid(-1, NULL, WNOHANG);
        cr_assert(left < 0 && errno == ECHILD, "process %d of the server is left", (int)left);
    }
    await_orphans();
    process_free(&server->process);
}

void server_stop(struct server *server)
{
    cr_assert_eq(kill(server->process.pid, SIGTERM), 0);
    server_ends(server, 0);
}

/* --- its counters -------------------------------------------------------------------------------
 */

/* How many lines of counters there are. Those past the first `skip` say what follows `key`, in the
 * last one of each shard: the sum, once `shards` of them have said it. */
static unsigned read_counters(const struct server *server, const char *key, unsigned skip,
                              uint64_t *sum, unsigned *shards)
{
    char *text = process_text(&server->process, true);
    uint64_t values[WORKERS] = {0};
    bool seen[WORKERS] = {false};
    unsigned lines = 0;
    for (char *at = text, *end; (end = strchr(at, '\n')); at = end + 1) {
        *end = '\0';
        if (!strstr(at, "\"accepted\":") || ++lines <= skip)
            continue;
        const char *value = strstr(at, key), *shard = strstr(at, "\"shard\":");
        unsigned index = shard ? (unsigned)strtoul(shard + 8, NULL, 10) : 0;
        cr_assert(value && index < WORKERS, "no %s in %s", key, at);
        values[index] = strtoull(value + strlen(key), NULL, 10);
        seen[index] = true;
    }
    free(text);
    *sum = *shards = 0;
    for (unsigned i = 0; i < WORKERS; i++) {
        *sum += values[i];
        *shards += seen[i];
    }
    return lines;
}

uint64_t server_counter(struct server *server, const char *name)
{
    char key[64];
    uint64_t sum;
    unsigned wanted = is_sharded() ? WORKERS : 1, shards;
    if (WITH_TSAN && !strcmp(subject_spec(), "thread"))
        cr_skip_test("ThreadSanitizer holds a signal back while accept(2) blocks");
    double until_s = clock_s() + LIMIT_S, again_s = 0;
    snprintf(key, sizeof key, "\"%s\":", name);
    unsigned before = read_counters(server, key, 0, &sum, &shards), lines;
    do {
        double now_s = clock_s();
        cr_assert_lt(now_s, until_s, "SIGUSR1 printed nothing");
        /* A shard that has not put away its last question may overlook this one. */
        if (again_s == 0 || (is_sharded() && now_s > again_s)) {
            cr_assert_eq(kill(server->process.pid, SIGUSR1), 0);
            again_s = now_s + 0.5;
        }
        pause_ms(1);
        lines = read_counters(server, key, before, &sum, &shards);
    } while (shards < wanted);
    if (!is_sharded())
        cr_assert_eq(lines, before + 1, "one signal, %u lines", lines - before);
    return sum;
}

void await_counter(struct server *server, const char *name, uint64_t least)
{
    double until_s = clock_s() + LIMIT_S;
    uint64_t value;
    while ((value = server_counter(server, name)) < least) {
        cr_assert_lt(clock_s(), until_s, "%s is still %llu, not %llu", name,
                     (unsigned long long)value, (unsigned long long)least);
        pause_ms(2);
    }
}

/* --- what /proc tells ---------------------------------------------------------------------------
 */

/* Entries but for "." and "..", and the kernel's own workers that io_uring shows as threads. */
static unsigned entries(const char *path, bool tasks)
{
    unsigned count = 0;
    DIR *directory = opendir(path);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        char comm[320], name[16] = "";
        if (entry->d_name[0] == '.')
            continue;
        snprintf(comm, sizeof comm, "%s/%s/comm", path, entry->d_name);
        FILE *file = tasks ? fopen(comm, "re") : NULL;
        if (file && !fgets(name, sizeof name, file))
            name[0] = '\0';
        if (file)
            fclose(file);
        count += strncmp(name, "iou-", 4) != 0;
    }
    if (directory)
        closedir(directory);
    return count;
}

struct look {
    char state;
    pid_t parent;
    double cpu_s;
};

/* False: the process has gone. */
static bool look_at(pid_t pid, struct look *look)
{
    char path[64], text[512];
    unsigned long user, kernel;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    size_t got = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file)
        fclose(file);
    text[got] = '\0';
    const char *name_end = strrchr(text, ')'); /* a name may hold anything */
    if (!name_end || sscanf(name_end + 1, " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
                            &look->state, &look->parent, &user, &kernel) != 4)
        return false;
    look->cpu_s = (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
    return true;
}

static unsigned find_children(pid_t parent, pid_t children[CHILDREN_MOST], unsigned *zombies)
{
    unsigned count = 0;
    DIR *directory = opendir("/proc");
    cr_assert_not_null(directory);
    *zombies = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        pid_t pid = (pid_t)atoi(entry->d_name);
        struct look look;
        if (pid <= 0 || !look_at(pid, &look) || look.parent != parent)
            continue;
        if (look.state == 'Z')
            (*zombies)++;
        else if (count < CHILDREN_MOST)
            children[count++] = pid;
    }
    closedir(directory);
    return count;
}

unsigned children_of(pid_t parent, pid_t children[CHILDREN_MOST])
{
    unsigned zombies;
    return find_children(parent, children, &zombies);
}

static void signal_all(const struct server *server, int number)
{
    pid_t children[CHILDREN_MOST];
    unsigned count = children_of(server->process.pid, children);
    cr_assert_eq(kill(server->process.pid, number), 0);
    for (unsigned i = 0; i < count; i++)
        cr_assert(kill(children[i], number) == 0 || errno == ESRCH);
}

void server_freeze(const struct server *server)
{
    struct look look;
    double until_s = clock_s() + LIMIT_S;
    signal_all(server, SIGSTOP);
    while (look_at(server->process.pid, &look) && look.state != 'T') {
        cr_assert_lt(clock_s(), until_s, "it does not stop");
        pause_ms(1);
    }
}

void server_thaw(const struct server *server)
{
    signal_all(server, SIGCONT);
}

double cpu_of(const struct server *server)
{
    pid_t children[CHILDREN_MOST];
    unsigned count = children_of(server->process.pid, children);
    struct look look = {0};
    double sum = look_at(server->process.pid, &look) ? look.cpu_s : 0;
    for (unsigned i = 0; i < count; i++)
        sum += look_at(children[i], &look) ? look.cpu_s : 0;
    return sum;
}

static void add_footprint(struct footprint *sum, pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    sum->threads += entries(path, true);
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    sum->descriptors += entries(path, false);
    sum->processes++;
}

struct footprint footprint_of(const struct server *server)
{
    struct footprint sum = {0};
    pid_t children[CHILDREN_MOST];
    unsigned count = find_children(server->process.pid, children, &sum.zombies);
    add_footprint(&sum, server->process.pid);
    for (unsigned i = 0; i < count; i++)
        add_footprint(&sum, children[i]);
    return sum;
}

void await_footprint(const struct server *server, struct footprint most)
{
    double until_s = clock_s() + LIMIT_S;
    for (;;) {
        struct footprint now = footprint_of(server);
        if (now.processes <= most.processes && now.zombies <= most.zombies &&
            now.threads <= most.threads && now.descriptors <= most.descriptors)
            return;
        cr_assert_lt(clock_s(), until_s,
                     "%u processes, not %u; %u zombies, not %u; %u threads, not %u; "
                     "%u descriptors, not %u",
                     now.processes, most.processes, now.zombies, most.zombies, now.threads,
                     most.threads, now.descriptors, most.descriptors);
        pause_ms(5);
    }
}

/* --- clients ------------------------------------------------------------------------------------
 */

static int make_socket(void)
{
    struct timeval limit = {.tv_sec = LIMIT_S};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_geq(fd, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static int dial(const struct server *server, int receive_bytes)
{
    int fd = make_socket();
    if (receive_bytes > 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
    cr_assert_eq(connect(fd, (const struct sockaddr *)&server->address, sizeof server->address), 0,
                 "connect: %s", strerror(errno));
    return fd;
}

int client(const struct server *server)
{
    return dial(server, 0);
}

int client_small(const struct server *server)
{
    return dial(server, 4096);
}

void close_by_reset(int fd)
{
    struct linger linger = {.l_onoff = 1};
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    close(fd);
}

void half_close(int fd)
{
    cr_assert_eq(shutdown(fd, SHUT_WR), 0, "shutdown: %s", strerror(errno));
}

void talk(int fd, const void *out, size_t out_bytes, const void *in, size_t in_bytes)
{
    static uint8_t got[65536];
    for (size_t sent = 0, back = 0; sent < out_bytes || back < in_bytes;) {
        struct pollfd either = {.fd = fd};
        either.events = (short)((sent < out_bytes ? POLLOUT : 0) | (back < in_bytes ? POLLIN : 0));
        cr_assert_eq(poll(&either, 1, LIMIT_S * 1000), 1,
                     "silence after %zu of %zu bytes out, %zu of %zu back", sent, out_bytes, back,
                     in_bytes);
        if (either.revents & POLLOUT) {
            ssize_t n =
                send(fd, (const char *)out + sent, out_bytes - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
            cr_assert(n >= 0 || errno == EAGAIN, "send: %s", strerror(errno));
            sent += n > 0 ? (size_t)n : 0;
        }
        if (!(either.revents & ~POLLOUT))
            continue;
        size_t room = in_bytes - back < sizeof got ? in_bytes - back : sizeof got;
        ssize_t n = recv(fd, got, room, MSG_DONTWAIT);
        cr_assert(n > 0 || (n < 0 && errno == EAGAIN), "recv after %zu of %zu bytes: %zd %s", back,
                  in_bytes, n, strerror(errno));
        if (n > 0)
            cr_assert_eq(memcmp(got, (const char *)in + back, (size_t)n), 0,
                         "other bytes after %zu", back);
        back += n > 0 ? (size_t)n : 0;
    }
}

void send_whole(int fd, const void *data, size_t bytes)
{
    talk(fd, data, bytes, NULL, 0);
}

void receive_whole(int fd, const void *expected, size_t bytes)
{
    talk(fd, NULL, 0, expected, bytes);
}

void expect_echo(int fd, const void *data, size_t bytes)
{
    talk(fd, data, bytes, data, bytes);
}

void expect_text(int fd, const char *text)
{
    expect_echo(fd, text, strlen(text));
}

void expect_eof(int fd)
{
    char byte;
    ssize_t n = recv(fd, &byte, 1, 0);
    cr_assert_eq(n, 0, "no end of the stream: %zd %s", n, n < 0 ? strerror(errno) : "byte");
}

void expect_end(int fd)
{
    static char drop[65536];
    ssize_t n;
    do
        n = recv(fd, drop, sizeof drop, 0);
    while (n > 0);
    cr_assert(n == 0 || errno == ECONNRESET || errno == EPIPE, "it has not ended: %s",
              strerror(errno));
}

bool is_served(int fd, const char *text)
{
    char answer[64];
    size_t bytes = strlen(text);
    cr_assert_leq(bytes, sizeof answer);
    if (send(fd, text, bytes, MSG_NOSIGNAL) < 0) {
        cr_assert(errno == ECONNRESET || errno == EPIPE, "send: %s", strerror(errno));
        return false;
    }
    ssize_t n = recv(fd, answer, bytes, MSG_WAITALL);
    if (n < 0)
        cr_assert(errno == ECONNRESET || errno == EPIPE, "recv: %s", strerror(errno));
    if (n <= 0)
        return false;
    cr_assert_eq(n, (ssize_t)bytes);
    cr_assert_eq(memcmp(answer, text, bytes), 0);
    return true;
}

void await_service(const struct server *server)
{
    double until_s = clock_s() + LIMIT_S;
    for (bool served = false; !served; pause_ms(1)) {
        cr_assert_lt(clock_s(), until_s, "turned away again and again");
        const struct sockaddr_in *address = &server->address;
        int fd = make_socket();
        if (connect(fd, (const struct sockaddr *)address, sizeof *address) == 0)
            served = is_served(fd, "is anybody there");
        else /* where each worker has a listener of its own, there may be none */
            cr_assert(errno == ECONNREFUSED || errno == ECONNRESET, "%s", strerror(errno));
        close(fd);
    }
}

void await_arrival(int fd)
{
    double until_s = clock_s() + LIMIT_S;
    for (int unacknowledged = 1; unacknowledged;) {
        cr_assert_eq(ioctl(fd, SIOCOUTQ, &unacknowledged), 0);
        cr_assert_lt(clock_s(), until_s, "%d bytes have not arrived", unacknowledged);
        if (unacknowledged)
            pause_ms(1);
    }
}

size_t send_until_stuck(int fd, const uint8_t *data, size_t bytes)
{
    size_t at = 0;
    struct pollfd room = {.fd = fd, .events = POLLOUT};
    while (at < bytes && poll(&room, 1, 100) == 1) {
        ssize_t n = send(fd, data + at, bytes - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        cr_assert(n > 0 || errno == EAGAIN, "send: %s", strerror(errno));
        at += n > 0 ? (size_t)n : 0;
    }
    return at;
}

uint8_t *pattern(size_t bytes, uint32_t seed)
{
    uint8_t *data = malloc(bytes);
    uint32_t x = seed * 2654435761u + 1;
    cr_assert_not_null(data);
    for (size_t i = 0; i < bytes; i++) {
        x = x * 1664525u + 1013904223u;
        data[i] = (uint8_t)(x >> 24);
    }
    return data;
}
