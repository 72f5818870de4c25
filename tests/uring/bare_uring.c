/* The baseline serves honestly: every byte, every close, short of buffers and when told to stop.
 * Mirrors uring/bare_uring.c. */
#include "harness.h"
#include "seccomp.h"

#include <weir/model.h>

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>

extern const struct weir_model weir__model_bare_uring;

static struct {
    pthread_t thread;
    uint16_t port;
    int listen_fd, stop_fd, answer;
    struct weir_model_stats stats;
    char why[256], granted[256];
    pthread_mutex_t lock;
    pthread_cond_t is_ready;
    int ready, ended; /* with answer: under the lock */
} server = {.lock = PTHREAD_MUTEX_INITIALIZER, .is_ready = PTHREAD_COND_INITIALIZER};

static void ready(void *argument, const char *features)
{
    cr_assert_eq(argument, &server);
    pthread_mutex_lock(&server.lock);
    snprintf(server.granted, sizeof server.granted, "%s", features);
    server.ready = 1;
    pthread_cond_signal(&server.is_ready);
    pthread_mutex_unlock(&server.lock);
}

static void *serve(void *unused)
{
    (void)unused;
    struct weir_model_options options = {
        .listen_fd = server.listen_fd, .stop_fd = server.stop_fd, .drain_ns = 2000000000};
    int answer = weir__model_bare_uring.serve(&options, &server.stats, ready, &server, server.why,
                                              sizeof server.why);
    pthread_mutex_lock(&server.lock);
    server.answer = answer;
    server.ended = 1;
    pthread_cond_signal(&server.is_ready);
    pthread_mutex_unlock(&server.lock);
    return NULL;
}

static void start(void)
{
    server.listen_fd = listener(&server.port);
    server.stop_fd = eventfd(0, EFD_CLOEXEC);
    cr_assert_eq(pthread_create(&server.thread, NULL, serve, NULL), 0);
    pthread_mutex_lock(&server.lock);
    while (!server.ready && !server.ended)
        pthread_cond_wait(&server.is_ready, &server.lock);
    int ended = server.ended;
    pthread_mutex_unlock(&server.lock);
    if (ended && server.answer < 0 && getenv("WEIR_TEST_MAY_SKIP"))
        cr_skip_test("%s", server.why);
    cr_assert(!ended, "%d: %s", server.answer, server.why);
    cr_assert(strstr(server.granted, "multishot_recv"));
}

static void stop(void)
{
    uint64_t one = 1;
    cr_assert_eq(write(server.stop_fd, &one, sizeof one), sizeof one);
    pthread_join(server.thread, NULL);
    cr_assert_eq(server.answer, 0, "%s", server.why);
    cr_assert_eq(server.stats.slots[0].accepted, server.stats.slots[0].closed);
    close(server.stop_fd);
    close(server.listen_fd);
}

static void exchange(int fd, const uint8_t *out, uint8_t *in, size_t bytes)
{
    cr_assert_eq(send(fd, out, bytes, 0), (ssize_t)bytes);
    cr_assert_eq(recv(fd, in, bytes, MSG_WAITALL), (ssize_t)bytes);
    cr_assert_eq(memcmp(in, out, bytes), 0);
}

Test(bare_uring, small_requests_come_back, .timeout = 30)
{
    enum { CONNS = 50, ROUNDS = 20, BYTES = 100 };
    int fds[CONNS];
    uint8_t out[BYTES], in[BYTES];
    start();
    for (int i = 0; i < CONNS; i++)
        fds[i] = connect_to(server.port);
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < CONNS; i++) {
            memset(out, round * 31 + i, BYTES);
            exchange(fds[i], out, in, BYTES);
        }
    for (int i = 0; i < CONNS; i++)
        close(fds[i]);
    stop();
    cr_assert_eq(server.stats.slots[0].accepted, CONNS);
    cr_assert_eq(server.stats.slots[0].bytes_in, (uint64_t)CONNS * ROUNDS * BYTES);
    cr_assert_eq(server.stats.slots[0].bytes_out, server.stats.slots[0].bytes_in);
    cr_assert_eq(server.stats.slots[0].errors, 0);
}

/* More connections with more in flight than there are buffers: receives end and are armed again. */
Test(bare_uring, more_in_flight_than_buffers_come_back_whole, .timeout = 30)
{
    enum { CONNS = 64, BYTES = 256 * 1024 };
    int fds[CONNS];
    size_t sent[CONNS] = {0}, got[CONNS] = {0}, all = 0;
    static uint8_t chunk[65536];
    start();
    for (int i = 0; i < CONNS; i++) {
        fds[i] = connect_to(server.port);
        fcntl(fds[i], F_SETFL, O_NONBLOCK);
    }
    while (all < (size_t)CONNS * BYTES) {
        struct pollfd polled[CONNS];
        for (int i = 0; i < CONNS; i++)
            polled[i] = (struct pollfd){fds[i], sent[i] < BYTES ? POLLIN | POLLOUT : POLLIN, 0};
        cr_assert_gt(poll(polled, CONNS, 5000), 0, "stuck");
        for (int i = 0; i < CONNS; i++) {
            size_t most = BYTES - sent[i] < sizeof chunk ? BYTES - sent[i] : sizeof chunk;
            for (size_t at = 0; at < most; at++)
                chunk[at] = (uint8_t)((sent[i] + at) * 13 + (size_t)i + ((sent[i] + at) >> 8));
            ssize_t n = most ? write(fds[i], chunk, most) : 0;
            sent[i] += n > 0 ? (size_t)n : 0;
            n = read(fds[i], chunk, sizeof chunk);
            for (ssize_t at = 0; at < n; at++, got[i]++, all++)
                cr_assert_eq(chunk[at], (uint8_t)(got[i] * 13 + (size_t)i + (got[i] >> 8)));
        }
    }
    for (int i = 0; i < CONNS; i++)
        close(fds[i]);
    stop();
    cr_assert_eq(server.stats.slots[0].bytes_out, (uint64_t)CONNS * BYTES);
}

Test(bare_uring, what_came_before_a_half_close_is_answered, .timeout = 30)
{
    uint8_t out[20000], in[20001];
    start();
    for (int round = 0; round < 20; round++) {
        int fd = connect_to(server.port);
        memset(out, round, sizeof out);
        cr_assert_eq(send(fd, out, sizeof out, 0), sizeof out);
        shutdown(fd, SHUT_WR);
        cr_assert_eq(recv(fd, in, sizeof in, MSG_WAITALL), sizeof out);
        cr_assert_eq(memcmp(in, out, sizeof out), 0);
        close(fd);
    }
    stop();
    cr_assert_eq(server.stats.slots[0].errors, 0);
}

Test(bare_uring, a_reset_ends_one_connection_and_no_other, .timeout = 30)
{
    struct linger reset = {1, 0};
    uint8_t out[8192] = {1}, in[8192];
    start();
    int good = connect_to(server.port);
    for (int round = 0; round < 50; round++) {
        int bad = connect_to(server.port);
        setsockopt(bad, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        cr_assert_eq(send(bad, out, sizeof out, 0), sizeof out);
        close(bad);
        exchange(good, out, in, 1000);
    }
    close(good);
    stop();
    cr_assert_eq(server.stats.slots[0].accepted, 51);
}

Test(bare_uring, told_to_stop_it_closes_idle_connections, .timeout = 30)
{
    uint8_t byte = 7, in;
    start();
    int fd = connect_to(server.port);
    exchange(fd, &byte, &in, 1);
    stop();
    cr_assert_eq(recv(fd, &in, 1, 0), 0);
    close(fd);
}

/* Told by its count of errors: one for each pause that fits into the time, not as many as it can.
 */
Test(bare_uring, out_of_descriptors_it_pauses_and_serves_the_rest, .timeout = 30)
{
    enum { CONNS = 4, LIMIT = 64, PAUSE_NS = 100 * 1000 * 1000 };
    int fds[CONNS], spare[LIMIT], spares = 0;
    uint8_t byte = 7, in;
    struct rlimit low;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    getrlimit(RLIMIT_NOFILE, &low);
    low.rlim_cur = LIMIT;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    start();
    to.sin_port = htons(server.port);
    for (int i = 0; i < CONNS; i++)
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
    while ((spare[spares] = dup(server.stop_fd)) >= 0)
        spares++;
    close(spare[--spares]);
    uint64_t start_ns = clock_ns();
    for (int i = 0; i < CONNS; i++) {
        cr_assert_eq(connect(fds[i], (struct sockaddr *)&to, sizeof to), 0);
        if (i == 0)
            exchange(fds[0], &byte, &in, 1); /* it has the last descriptor */
    }
    for (int i = 0; i < 2000; i++)
        exchange(fds[0], &byte, &in, 1);
    while (spares > 0)
        close(spare[--spares]);
    for (int i = 0; i < CONNS; i++)
        exchange(fds[i], &byte, &in, 1);
    for (int i = 0; i < CONNS; i++)
        close(fds[i]);
    uint64_t pauses = (clock_ns() - start_ns) / PAUSE_NS;
    stop();
    cr_assert_eq(server.stats.slots[0].accepted, CONNS);
    cr_assert_geq(server.stats.slots[0].errors, 1);
    cr_assert_leq(server.stats.slots[0].errors, pauses + 1);
}

/* ---- the kernel says no --------------------------------------------------------------------- */

static void need_io_uring(void)
{
    struct fixture fixture;
    fixture_open(&fixture, (struct fixture_options){0}); /* skips where there is none */
    fixture_close(&fixture);
}

static void refuses(const char *why)
{
    server.listen_fd = listener(&server.port);
    server.stop_fd = eventfd(0, EFD_CLOEXEC);
    serve(NULL);
    cr_assert_lt(server.answer, 0);
    cr_assert_null(strchr(server.why, '\n'));
    cr_assert(strstr(server.why, why), "'%s' says nothing of '%s'", server.why, why);
    cr_assert_eq(server.granted[0], 0, "it said that it serves");
}

Test(bare_uring, forbidden_by_seccomp_it_names_the_filter, .timeout = 20)
{
    seccomp_fail(__NR_io_uring_setup, EPERM, SECCOMP_ANY, 0);
    refuses("seccomp");
}

Test(bare_uring, without_a_buffer_ring_it_names_the_kernel_it_needs, .timeout = 20)
{
    need_io_uring();
    seccomp_fail(__NR_io_uring_register, EINVAL, 1, 16); /* buffer rings are 22; the probe is 8 */
    refuses("Linux 6.0");
}

Test(bare_uring, without_a_multishot_receive_it_names_the_kernel_it_needs, .timeout = 20)
{
    need_io_uring();
    seccomp_fail(__NR_io_uring_register, EINVAL, 1, 8);
    refuses("Linux 6.0");
}
