/*
 * The conformance suite's harness; see conformance.h. The tests are in conformance_*.c. The engine
 * is probed here before anything runs: one that is missing on this machine is a skip that says why
 * (io_uring alone, and only with WEIR_TEST_MAY_SKIP set), and everything else is a failure.
 */
#include "conformance.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <time.h>

#include <criterion/options.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOWER 4
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SLOWER 4
#endif
#endif
#ifndef SLOWER
#define SLOWER 1
#endif

/* ---- checks ---------------------------------------------------------------------------------- */

const char *conf_spec(void)
{
    const char *spec = getenv("WEIR_TEST_ENGINE");
    return spec ? spec : "auto";
}

unsigned conf_scale(unsigned large)
{
    unsigned slower = getenv("WEIR_TEST_SLOWLY") ? 20 : SLOWER;
    return large / slower > 0 ? large / slower : 1;
}

const char *conf_about;

void conf_fail(const char *place, const char *what, const char *format, ...)
{
    static atomic_flag taken = ATOMIC_FLAG_INIT;
    static char line[1024]; /* not on the stack: that may be a coroutine's */
    if (atomic_flag_test_and_set(&taken))
        for (;;)
            pause(); /* another thread is already dying of the same */
    int at = snprintf(line, sizeof line, "%s: %s: %s%scheck failed: %s:", place, conf_spec(),
                      conf_about ? conf_about : "", conf_about ? ": " : "", what);
    va_list arguments;
    va_start(arguments, format);
    at += vsnprintf(line + at, sizeof line - (size_t)at - 1, format, arguments);
    va_end(arguments);
    if ((size_t)at >= sizeof line - 1)
        at = sizeof line - 2;
    line[at++] = '\n';
    if (write(STDERR_FILENO, line, (size_t)at) < 0)
        abort();
    abort();
}

/* io_uring's workers ("iou-wrk-…") look like threads of the process, and end when the kernel likes.
 */
static bool is_kernel_worker(const char *task)
{
    char path[300], name[16] = "";
    snprintf(path, sizeof path, "/proc/self/task/%s/comm", task);
    FILE *file = fopen(path, "re");
    if (!file)
        return true; /* it has just gone */
    bool kernel = fgets(name, sizeof name, file) && !strncmp(name, "iou-", 4);
    fclose(file);
    return kernel;
}

static int entries(const char *path, bool tasks)
{
    DIR *directory = opendir(path);
    check(directory, "%s", path);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(directory));)
        count += entry->d_name[0] != '.' && !(tasks && is_kernel_worker(entry->d_name));
    closedir(directory);
    return count;
}

static void *tell_tid(void *tid)
{
    *(pid_t *)tid = gettid();
    return NULL;
}

/* ThreadSanitizer starts a thread of its own beside a process's first: before we count. And the
 * first one has gone: a thread that was joined still shows for a moment. */
static void start_what_threads_bring(void)
{
    static bool started;
    char path[64];
    pthread_t thread;
    pid_t tid;
    if (!started && pthread_create(&thread, NULL, tell_tid, &tid) == 0) {
        pthread_join(thread, NULL);
        snprintf(path, sizeof path, "/proc/self/task/%d", (int)tid);
        for (int i = 0; access(path, F_OK) == 0 && i < 1000 * PEER_SECONDS; i++)
            usleep(1000);
    }
    started = true;
}

struct conf_process conf_process_look(void)
{
    start_what_threads_bring();
    return (struct conf_process){.fds = entries("/proc/self/fd", false),
                                 .threads = entries("/proc/self/task", true)};
}

struct conf_process conf_process_settled(struct conf_process before)
{
    uint64_t until_ns = weir_now_ns() + PEER_SECONDS * 1000000000ull;
    struct conf_process now = conf_process_look();
    while (now.threads > before.threads && weir_now_ns() < until_ns) {
        usleep(1000);
        now = conf_process_look();
    }
    return now;
}

/* ---- a loop on its own thread ---------------------------------------------------------------- */

static void loop_finish(struct weir_loop *loop, struct weir_loop_stats *stats)
{
    weir_loop_stats(loop, stats);
    check_int(stats->tasks, ==, 0);
    check_int(stats->conns, ==, 0);
    check_int(stats->accepted, <=, stats->closed);
}

static void *server_main(void *argument)
{
    struct conf_server *server = argument;
    char why[512] = "";
    server->options.engine = conf_spec();
    int result = weir_loop_new(&server->loop, &server->options, why, sizeof why);
    check(result == 0, "weir_loop_new: %d: %s", result, why);
    server->per_burst = weir_loop_per_burst(server->loop);
    if (server->listen.handler) {
        result = weir_listen(server->loop, &server->listener, &server->listen, why, sizeof why);
        check(result == 0, "weir_listen: %d: %s", result, why);
        server->address_bytes = sizeof server->address;
        check_int(weir_listener_address(server->listener, &server->address, &server->address_bytes),
                  ==, 0);
    }
    if (server->setup)
        server->setup(server);
    sem_post(&server->ready);
    server->result = weir_loop_run(server->loop);
    loop_finish(server->loop, &server->stats);
    if (server->ended)
        server->ended(server);
    weir_loop_free(server->loop); /* it asserts that every buffer came back */
    return NULL;
}

static void await(sem_t *semaphore, const char *what)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PEER_SECONDS;
    int failed;
    do
        failed = sem_timedwait(semaphore, &until);
    while (failed && errno == EINTR);
    check(!failed, "waited %d s for %s", PEER_SECONDS, what);
}

void conf_start(struct conf_server *server)
{
    sem_init(&server->ready, 0, 0);
    check_int(pthread_create(&server->thread, NULL, server_main, server), ==, 0);
    await(&server->ready, "the loop to start");
}

void conf_join(struct conf_server *server)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PEER_SECONDS;
    int failed = pthread_timedjoin_np(server->thread, NULL, &until);
    check(!failed, "weir_loop_run() had not returned after %d s", PEER_SECONDS);
    sem_destroy(&server->ready);
    check_int(server->result, ==, 0);
}

void conf_stop(struct conf_server *server)
{
    weir_loop_stop(server->loop);
    conf_join(server);
}

struct call {
    struct weir_post post;
    void (*fn)(void *argument);
    void *argument;
    sem_t done;
};

static void call_run(struct weir_post *post)
{
    struct call *call = (struct call *)post;
    call->fn(call->argument);
    sem_post(&call->done);
}

void conf_call(struct conf_server *server, void (*fn)(void *argument), void *argument)
{
    struct call call = {.post.fn = call_run, .fn = fn, .argument = argument};
    sem_init(&call.done, 0, 0);
    check_int(weir_post(server->loop, &call.post), ==, 0);
    await(&call.done, "a call on the loop's thread");
    sem_destroy(&call.done);
}

struct stats_call {
    struct weir_loop *loop;
    struct weir_loop_stats *stats;
};

static void stats_run(void *argument)
{
    struct stats_call *call = argument;
    weir_loop_stats(call->loop, call->stats);
}

void conf_stats(struct conf_server *server, struct weir_loop_stats *stats)
{
    conf_call(server, stats_run, &(struct stats_call){server->loop, stats});
}

void conf_await_conns(struct conf_server *server, uint64_t conns)
{
    uint64_t until_ns = weir_now_ns() + PEER_SECONDS * 1000000000ull;
    struct weir_loop_stats stats;
    for (;;) {
        conf_stats(server, &stats);
        if (stats.conns == conns)
            return;
        check(weir_now_ns() < until_ns, "%llu connections, not %llu",
              (unsigned long long)stats.conns, (unsigned long long)conns);
        usleep(1000);
    }
}

void conf_run(const struct weir_loop_options *options, weir_task_fn *fn, void *argument)
{
    struct weir_loop_options mine = options ? *options : (struct weir_loop_options){0};
    mine.engine = conf_spec();
    struct weir_loop *loop;
    char why[512] = "";
    int result = weir_loop_new(&loop, &mine, why, sizeof why);
    check(result == 0, "weir_loop_new: %d: %s", result, why);
    check_int(weir_spawn(loop, NULL, fn, argument), ==, 0);
    check_int(weir_loop_run(loop), ==, 0);
    struct weir_loop_stats stats;
    loop_finish(loop, &stats);
    weir_loop_free(loop);
}

void conf_settle(void)
{
    for (int i = 0; i < 8; i++)
        check_int(weir_yield(), ==, 0);
    check_int(weir_sleep_until(weir_now_ns() + 1000000), ==, 0);
    check_int(weir_yield(), ==, 0);
}

void conf_echo(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    while (weir_recv(conn, &buf) > 0)
        weir_send(conn, &buf);
}

void conf_echo_copying(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    while (weir_recv(conn, &buf) > 0)
        if (weir_send_all(conn, buf.data, buf.len) < 0)
            break;
    weir_buf_put(weir_conn_loop(conn), &buf);
}

void conf_discard(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    while (weir_recv(conn, &buf) > 0)
        ;
}

/* ---- the other end --------------------------------------------------------------------------- */

int peer_socket(int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(fd >= 0, "socket: errno %d", errno);
    struct timeval limit = {.tv_sec = PEER_SECONDS};
    int on = 1;
    check_int(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), ==, 0);
    check_int(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit), ==, 0);
    if (family != AF_UNIX)
        check_int(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), ==, 0);
    return fd;
}

/* In the thread of a ring the kernel's own work for that may interrupt a connect, which goes on all
 * the same: see connect(2), EINTR. */
void peer_connect_address(int fd, const struct sockaddr_storage *address, socklen_t address_bytes)
{
    struct pollfd until = {.fd = fd, .events = POLLOUT};
    int error = 0;
    socklen_t bytes = sizeof error;
    if (connect(fd, (const struct sockaddr *)address, address_bytes) == 0)
        return;
    check(errno == EINTR, "connect: errno %d", errno);
    while (poll(&until, 1, PEER_SECONDS * 1000) < 0)
        check(errno == EINTR, "poll: errno %d", errno);
    check_int(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes), ==, 0);
    check_int(error, ==, 0);
}

void peer_connect_fd(int fd, const struct conf_server *server)
{
    peer_connect_address(fd, &server->address, server->address_bytes);
}

int peer_connect_sized(const struct conf_server *server, int receive_bytes, int send_bytes)
{
    int fd = peer_socket(server->address.ss_family);
    if (receive_bytes)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
    if (send_bytes)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_bytes, sizeof send_bytes);
    peer_connect_fd(fd, server);
    return fd;
}

int peer_connect(const struct conf_server *server)
{
    return peer_connect_sized(server, 0, 0);
}

int peer_listen(struct sockaddr_storage *address, socklen_t *address_bytes, int backlog,
                int receive_bytes)
{
    int fd = peer_socket(AF_INET);
    if (receive_bytes)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    check_int(bind(fd, (struct sockaddr *)&any, sizeof any), ==, 0);
    check_int(listen(fd, backlog), ==, 0);
    *address_bytes = sizeof *address;
    check_int(getsockname(fd, (struct sockaddr *)address, address_bytes), ==, 0);
    return fd;
}

void peer_fill(struct peer_full *full)
{
    struct tcp_info info = {0};
    socklen_t bytes = sizeof info;
    full->listening = peer_listen(&full->address, &full->address_bytes, 0, 0);
    full->filling = peer_socket(AF_INET);
    check_int(connect(full->filling, (struct sockaddr *)&full->address, full->address_bytes), ==,
              0);
    do /* of a listening socket these are the length of its backlog, and the most */
        check_int(getsockopt(full->listening, IPPROTO_TCP, TCP_INFO, &info, &bytes), ==, 0);
    while (info.tcpi_unacked <= info.tcpi_sacked);
}

void peer_unfill(struct peer_full *full)
{
    peer_close(full->filling);
    peer_close(full->listening);
}

void peer_send(int fd, const void *data, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        ssize_t sent = send(fd, (const char *)data + at, bytes - at, MSG_NOSIGNAL);
        check(sent > 0, "send after %zu of %zu bytes: errno %d", at, bytes, errno);
        at += (size_t)sent;
    }
}

size_t peer_recv(int fd, void *data, size_t bytes)
{
    size_t at = 0;
    while (at < bytes) {
        ssize_t got = recv(fd, (char *)data + at, bytes - at, 0);
        check(got >= 0, "recv after %zu of %zu bytes: errno %d", at, bytes, errno);
        if (got == 0)
            break;
        at += (size_t)got;
    }
    return at;
}

void peer_expect(int fd, const void *data, size_t bytes)
{
    char got[4096];
    check(bytes <= sizeof got);
    check_int(peer_recv(fd, got, bytes), ==, bytes);
    check(memcmp(got, data, bytes) == 0, "\"%.*s\" came, not \"%.*s\"", (int)bytes, got, (int)bytes,
          (const char *)data);
}

int peer_end(int fd, uint64_t *bytes)
{
    char data[16384];
    uint64_t total = 0;
    ssize_t got;
    /* A ring through which this thread woke a loop interrupts it once when it is torn down. */
    while ((got = recv(fd, data, sizeof data, 0)) > 0 || (got < 0 && errno == EINTR))
        total += got > 0 ? (uint64_t)got : 0;
    check(got == 0 || errno == ECONNRESET, "recv after %llu bytes: errno %d",
          (unsigned long long)total, errno);
    if (bytes)
        *bytes = total;
    return got == 0 ? 0 : -ECONNRESET;
}

void peer_await_arrival(int fd)
{
    uint64_t until_ns = weir_now_ns() + PEER_SECONDS * 1000000000ull;
    int unacknowledged = 1;
    for (;;) {
        check_int(ioctl(fd, SIOCOUTQ, &unacknowledged), ==, 0);
        if (unacknowledged == 0)
            return;
        check(weir_now_ns() < until_ns, "%d bytes have not arrived", unacknowledged);
        usleep(1000);
    }
}

void peer_send_fds(int fd, const void *data, size_t bytes, const int *fds, unsigned count)
{
    _Alignas(struct cmsghdr) char space[CMSG_SPACE(64 * sizeof(int))] = {0};
    struct iovec part = {(void *)(uintptr_t)data, bytes};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = space,
                             .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(head), fds, count * sizeof(int));
    check_int(sendmsg(fd, &message, 0), ==, bytes);
}

void peer_shutdown(int fd)
{
    check_int(shutdown(fd, SHUT_WR), ==, 0);
}

void peer_close(int fd)
{
    check_int(close(fd), ==, 0);
}

void peer_reset(int fd)
{
    struct linger now = {.l_onoff = 1};
    check_int(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now), ==, 0);
    check_int(close(fd), ==, 0);
}

static uint64_t pattern_word(uint64_t seed, uint64_t index)
{
    uint64_t word = (index + seed * 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
    return word ^ (word >> 29);
}

void pattern_fill(void *data, size_t bytes, uint64_t seed, uint64_t offset)
{
    uint8_t *at = data;
    while (bytes) {
        uint64_t word = pattern_word(seed, offset / 8);
        size_t skip = offset % 8, part = 8 - skip < bytes ? 8 - skip : bytes;
        memcpy(at, (uint8_t *)&word + skip, part);
        at += part;
        offset += part;
        bytes -= part;
    }
}

void pattern_check(const void *data, size_t bytes, uint64_t seed, uint64_t offset)
{
    const uint8_t *at = data;
    while (bytes) {
        uint64_t word = pattern_word(seed, offset / 8);
        size_t skip = offset % 8, part = 8 - skip < bytes ? 8 - skip : bytes;
        check(memcmp(at, (uint8_t *)&word + skip, part) == 0,
              "stream %llu differs within %zu bytes from %llu", (unsigned long long)seed, part,
              (unsigned long long)offset);
        at += part;
        offset += part;
        bytes -= part;
    }
}

void peer_send_pattern(int fd, size_t bytes, uint64_t seed, uint64_t offset)
{
    char data[16384];
    while (bytes) {
        size_t part = bytes < sizeof data ? bytes : sizeof data;
        pattern_fill(data, part, seed, offset);
        peer_send(fd, data, part);
        offset += part;
        bytes -= part;
    }
}

void peer_recv_pattern(int fd, size_t bytes, uint64_t seed, uint64_t offset)
{
    char data[16384];
    while (bytes) {
        size_t part = bytes < sizeof data ? bytes : sizeof data;
        check_int(peer_recv(fd, data, part), ==, part);
        pattern_check(data, part, seed, offset);
        offset += part;
        bytes -= part;
    }
}

void peer_echo(int fd, size_t bytes, uint64_t seed)
{
    peer_send_pattern(fd, bytes, seed, 0);
    peer_recv_pattern(fd, bytes, seed, 0);
}

static void *pump_main(void *argument)
{
    struct peer_pump *pump = argument;
    size_t piece = pump->piece_bytes ? pump->piece_bytes : 65536;
    char *data = malloc(piece);
    check(data);
    for (size_t at = 0; at < pump->bytes;) {
        size_t part = pump->bytes - at < piece ? pump->bytes - at : piece;
        pattern_fill(data, part, pump->seed, at);
        peer_send(pump->fd, data, part);
        at += part;
        pump->sent = at;
    }
    if (pump->shutdown)
        peer_shutdown(pump->fd);
    free(data);
    return NULL;
}

void peer_pump_start(struct peer_pump *pump)
{
    check_int(pthread_create(&pump->thread, NULL, pump_main, pump), ==, 0);
}

void peer_pump_join(struct peer_pump *pump)
{
    check_int(pthread_join(pump->thread, NULL), ==, 0);
}

/* ---- main ------------------------------------------------------------------------------------ */

/* 1: the engine runs here; 0: skip; -1: it should run, and does not. */
static int probe(void)
{
    struct weir_loop *loop;
    char why[512] = "";
    int result =
        weir_loop_new(&loop, &(struct weir_loop_options){.engine = conf_spec()}, why, sizeof why);
    if (result < 0) {
        bool may_skip = getenv("WEIR_TEST_MAY_SKIP") && strstr(conf_spec(), "uring");
        bool skip = may_skip && result != -EINVAL;
        printf(skip ? "TAP version 13\n1..0 # SKIP %s: %s\n" : "Bail out! %s: %s\n", conf_spec(),
               why);
        return skip ? 0 : -1;
    }
    fprintf(stderr, "engine %s granted %s%s%s\n", weir_loop_engine(loop), weir_loop_features(loop),
            *weir_loop_engine_note(loop) ? "; " : "", weir_loop_engine_note(loop));
    weir_loop_free(loop);
    return 1;
}

/* Visible, whatever -fvisibility says: Criterion's workers look main up by its name to divert it.
 */
__attribute__((visibility("default"))) int main(int count, char **arguments)
{
    struct criterion_test_set *tests = criterion_initialize();
    criterion_options.timeout = 3 * PEER_SECONDS;
    int failed = 0;
    if (criterion_handle_args(count, arguments, true)) {
        int runs = probe();
        failed = runs < 0 || (runs > 0 && !criterion_run_all_tests(tests));
    }
    criterion_finalize(tests);
    return failed;
}
