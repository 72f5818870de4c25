/*
 * A program that is not Weir's, on <weir/coro.h> and libuv: coroutines that sleep by uv_timer and
 * read by uv_poll, resumed from libuv's callbacks; a uv_prepare drives the pool's clock. Built by
 * embed.py where libuv is installed. Exits 0 if everything arrived in order.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include <weir/coro.h>

enum { MESSAGES = 20, SLEEPERS = 100 };

static unsigned woken;
static unsigned received;
static int fds[2];

static void resume_timer(uv_timer_t *timer)
{
    weir_coro_resume(timer->data, NULL);
}

static void resume_poll(uv_poll_t *poll, int status, int events)
{
    assert(status == 0 && (events & UV_READABLE) != 0);
    weir_coro_resume(poll->data, NULL);
}

/* libuv owns a handle until it is closed, and then calls back: wait for that as well. */
static void resume_closed(uv_handle_t *handle)
{
    weir_coro_resume(handle->data, NULL);
}

static void close_and_wait(uv_handle_t *handle)
{
    uv_close(handle, resume_closed);
    weir_coro_yield(NULL);
}

static void sleep_ms(uv_loop_t *loop, uint64_t ms)
{
    uv_timer_t timer;

    uv_timer_init(loop, &timer);
    timer.data = weir_coro_self();
    uv_timer_start(&timer, resume_timer, ms, 0);
    weir_coro_yield(NULL);
    close_and_wait((uv_handle_t *)&timer);
}

static void sleeper(void *argument)
{
    sleep_ms(argument, 1 + woken % 3);
    woken++;
}

static void sender(void *argument)
{
    for (int i = 0; i < MESSAGES; i++) {
        assert(write(fds[0], &i, sizeof(i)) == sizeof(i));
        sleep_ms(argument, 1);
    }
    close(fds[0]);
}

static void receiver(void *argument)
{
    uv_poll_t poll;
    int message;

    uv_poll_init(argument, &poll, fds[1]);
    poll.data = weir_coro_self();
    uv_poll_start(&poll, UV_READABLE, resume_poll);
    for (;;) {
        weir_coro_yield(NULL);
        ssize_t n = read(fds[1], &message, sizeof(message));
        if (n <= 0)
            break;
        assert(n == sizeof(message) && message == (int)received);
        received++;
    }
    uv_poll_stop(&poll);
    close_and_wait((uv_handle_t *)&poll);
    close(fds[1]);
}

static void tick(uv_prepare_t *prepare)
{
    weir_coro_pool_tick(prepare->data, uv_hrtime());
}

static void start(struct weir_coro_pool *pool, weir_coro_fn *fn, uv_loop_t *loop)
{
    struct weir_coro *co;

    /* libuv's calls want more than the default 8 KiB. */
    assert(weir_coro_new_sized(pool, &co, fn, loop, 32768) == 0);
    weir_coro_resume(co, NULL);
}

int main(void)
{
    struct weir_coro_pool *pool;
    struct weir_coro_stats stats;
    uv_prepare_t prepare;
    uv_loop_t loop;

    alarm(60);
    assert(weir_coro_pool_new(&pool, NULL) == 0);
    assert(uv_loop_init(&loop) == 0);
    assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
    uv_prepare_init(&loop, &prepare);
    prepare.data = pool;
    uv_prepare_start(&prepare, tick);
    uv_unref((uv_handle_t *)&prepare);
    start(pool, receiver, &loop);
    start(pool, sender, &loop);
    for (int i = 0; i < SLEEPERS; i++)
        start(pool, sleeper, &loop);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert(woken == SLEEPERS && received == MESSAGES);
    weir_coro_pool_stats(pool, &stats);
    assert(stats.live == 0);
    uv_close((uv_handle_t *)&prepare, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert(uv_loop_close(&loop) == 0);
    weir_coro_pool_free(pool);
    printf("%u slept, %u received\n", woken, received);
    return 0;
}
