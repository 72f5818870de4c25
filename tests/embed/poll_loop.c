/*
 * A program that is not Weir's, on <weir/coro.h> alone: coroutines in a plain poll loop of its own.
 * Pairs of coroutines talk over socket pairs; one that would block yields, and the loop resumes it
 * when poll says so. Built by embed.py. Exits 0 if every message was answered.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <weir/coro.h>

enum { PAIRS = 50, MESSAGES = 200, BYTES = 1000 };

/* One end of a pair: what its coroutine waits for. */
struct end {
    int fd;
    short waits_for;
    struct weir_coro *co;
};

static struct end ends[2 * PAIRS];
static unsigned alive;
static unsigned answered;

static void wait_for(struct end *end, short events)
{
    end->waits_for = events;
    weir_coro_yield(end);
    end->waits_for = 0;
}

static void write_all(struct end *end, const char *data, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = write(end->fd, data + done, len - done);

        if (n > 0)
            done += (size_t)n;
        else
            wait_for(end, POLLOUT);
    }
}

/* 1, or 0 at the end of the stream. */
static int read_all(struct end *end, char *data, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = read(end->fd, data + done, len - done);

        if (n == 0)
            return 0;
        if (n > 0)
            done += (size_t)n;
        else if (errno == EAGAIN)
            wait_for(end, POLLIN);
        else
            return 0;
    }
    return 1;
}

static void ask(void *argument)
{
    struct end *end = argument;
    char question[BYTES];
    char answer[BYTES];

    for (int i = 0; i < MESSAGES; i++) {
        memset(question, 'a' + i % 26, sizeof(question));
        write_all(end, question, sizeof(question));
        assert(read_all(end, answer, sizeof(answer)));
        assert(memcmp(question, answer, sizeof(answer)) == 0);
        answered++;
    }
    close(end->fd);
    alive--;
}

static void answer(void *argument)
{
    struct end *end = argument;
    char message[BYTES];

    while (read_all(end, message, sizeof(message)))
        write_all(end, message, sizeof(message));
    close(end->fd);
    alive--;
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void run_until_done(struct weir_coro_pool *pool)
{
    while (alive > 0) {
        struct pollfd fds[2 * PAIRS];
        struct end *waiting[2 * PAIRS];
        nfds_t count = 0;

        for (int i = 0; i < 2 * PAIRS; i++) {
            if (ends[i].waits_for == 0)
                continue;
            waiting[count] = &ends[i];
            fds[count++] = (struct pollfd){.fd = ends[i].fd, .events = ends[i].waits_for};
        }
        weir_coro_pool_tick(pool, now_ns());
        int ready = poll(fds, count, 10000);
        assert(ready > 0);
        for (nfds_t i = 0; i < count; i++)
            if (fds[i].revents != 0)
                weir_coro_resume(waiting[i]->co, NULL);
    }
}

int main(void)
{
    struct weir_coro_pool *pool;
    struct weir_coro_stats stats;

    alarm(60);
    assert(weir_coro_pool_new(&pool, NULL) == 0);
    for (int i = 0; i < PAIRS; i++) {
        int fds[2];

        assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
        for (int side = 0; side < 2; side++) {
            struct end *end = &ends[2 * i + side];

            end->fd = fds[side];
            assert(weir_coro_new(pool, &end->co, side == 0 ? ask : answer, end) == 0);
            alive++;
        }
    }
    for (int i = 0; i < 2 * PAIRS; i++)
        weir_coro_resume(ends[i].co, NULL);
    run_until_done(pool);
    weir_coro_pool_stats(pool, &stats);
    assert(answered == PAIRS * MESSAGES);
    assert(stats.created == 2 * PAIRS && stats.live == 0 && stats.live_peak == 2 * PAIRS);
    weir_coro_pool_free(pool);
    printf("%u messages answered\n", answered);
    return 0;
}
