/*
 * Serves a workload on an engine of the runtime. The way of an echo is receive, feed, send: the
 * lent buffer that came in goes out again, and nothing is copied. Counters are printed by a task
 * that sleeps beside the handlers, so that the process needs no second thread: with one, every
 * system call would pay for a shared descriptor table.
 */
#include "bench/serve.h"

#include "bench/cli.h"

#include <weir/weir.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <poll.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SECOND_NS         1000000000ull
#define PRINT_STACK_BYTES (64u << 10)

/* What the workload knows of one connection; none for a workload without state. */
struct conn_state {
    bool ready;
    alignas(max_align_t) unsigned char workload[];
};

/* The one server of this process. */
struct engine_server {
    const struct serve_options *options;
    struct weir_loop *loop;
    int event_fd;
    uint64_t requests;
    uint64_t refused; /* connections closed because the peer broke the protocol */
    uint64_t started_ns;
};

static struct engine_server server;

/* Where feed() puts a reply that is not the input. One thread, and no wait between feed() and the
 * copy. */
static uint8_t reply_room[WEIR_WORKLOAD_OUT_BYTES];

/* The room is shared by all connections, and sending may wait: so the reply moves to this stack
 * first. */
__attribute__((noinline)) static int send_moved(struct weir_conn *conn,
                                                const struct weir_workload_io *io)
{
    uint8_t reply[WEIR_WORKLOAD_OUT_BYTES];

    assert(io->reply_len <= sizeof reply);
    memcpy(reply, io->reply, io->reply_len);
    return weir_send_all(conn, reply, io->reply_len);
}

static int send_part(struct weir_conn *conn, const struct weir_workload_io *io)
{
    if (io->reply_len == 0)
        return 0;
    if (io->reply_is_static)
        return weir_send_static(conn, io->reply, io->reply_len);
    return io->reply_is_input ? weir_send_all(conn, io->reply, io->reply_len)
                              : send_moved(conn, io);
}

/* Everything but the straight way: several replies in one buffer, replies that are not input, the
 * end. */
__attribute__((noinline)) static bool answer_in_parts(struct weir_conn *conn, void *state,
                                                      struct weir_buf *buf,
                                                      struct weir_workload_io *io, int verdict)
{
    const struct weir_workload *workload = server.options->workload;
    const uint8_t *in = buf->data;
    size_t left = buf->len;

    for (;;) {
        int sent = send_part(conn, io);

        if (verdict < 0)
            server.refused++;
        if (sent < 0 || verdict != WEIR_WORKLOAD_CONTINUE)
            return false;
        assert(io->consumed > 0 && io->consumed <= left);
        in += io->consumed;
        left -= io->consumed;
        if (left == 0)
            return true;
        io->out = reply_room;
        io->out_capacity = sizeof reply_room;
        verdict = workload->feed(state, in, left, io);
        server.requests += io->requests;
    }
}

static void *state_of(struct weir_conn *conn, const struct weir_workload *workload)
{
    struct conn_state *kept = weir_conn_state(conn);

    if (!kept->ready) {
        workload->init(kept->workload, &server.options->workload_options);
        kept->ready = true;
    }
    return kept->workload;
}

static void handle(struct weir_conn *conn, void *argument)
{
    const struct weir_workload *workload = argument;
    void *state = workload->state_bytes > 0 ? state_of(conn, workload) : NULL;
    struct weir_buf buf = {0};

    while (weir_recv(conn, &buf) > 0) {
        struct weir_workload_io io; /* feed() fills all but these two */
        io.out = reply_room;
        io.out_capacity = sizeof reply_room;
        int verdict = workload->feed(state, buf.data, buf.len, &io);

        server.requests += io.requests;
        if (__builtin_expect(verdict == WEIR_WORKLOAD_CONTINUE && io.reply_is_input &&
                                 io.consumed == buf.len && io.reply_len > 0,
                             1)) {
            buf.data = (uint8_t *)io.reply; /* a part of the same lent buffer */
            buf.len = (uint32_t)io.reply_len;
            if (weir_send(conn, &buf) < 0) {
                weir_conn_close(conn); /* it failed; the buffer has gone back */
                return;
            }
        } else if (!answer_in_parts(conn, state, &buf, &io, verdict)) {
            weir_buf_put(server.loop, &buf);
            weir_conn_close(conn);
            return;
        }
    }
}

static void print_coroutine(struct weir_coro *coro, void *argument)
{
    FILE *out = argument;
    static const char *const names[] = {
        [WEIR_CORO_DONE] = "done",
        [WEIR_CORO_SUSPENDED] = "suspended",
        [WEIR_CORO_RUNNING] = "running",
        [WEIR_CORO_RESUMING] = "resuming",
    };

    fprintf(out, "{\"coroutine\":\"%s\",\"place\":\"%s\",\"status\":\"%s\",\"stack_bytes\":%zu}\n",
            weir_coro_name(coro), weir_coro_place(coro), names[weir_coro_status(coro)],
            weir_coro_stack_bytes(coro));
}

static void print_loop_counters(FILE *out)
{
    struct weir_loop_stats s;

    weir_loop_stats(server.loop, &s);
    fprintf(out,
            "\"conns\":%" PRIu64 ",\"accepted\":%" PRIu64 ",\"closed\":%" PRIu64
            ",\"requests\":%" PRIu64 ",\"refused\":%" PRIu64 ",\"bytes_in\":%" PRIu64
            ",\"bytes_out\":%" PRIu64 ",\"turns\":%" PRIu64 ",\"waits\":%" PRIu64
            ",\"syscalls\":%" PRIu64 ",\"completions\":%" PRIu64 ",\"resumes\":%" PRIu64
            ",\"bursts\":%" PRIu64 ",\"tasks\":%" PRIu64,
            s.conns, s.accepted, s.closed, server.requests, server.refused, s.bytes_in, s.bytes_out,
            s.turns, s.waits, s.syscalls, s.completions, s.resumes, s.bursts, s.tasks);
    fprintf(out,
            ",\"rearms\":%" PRIu64 ",\"enobufs\":%" PRIu64 ",\"overflows\":%" PRIu64
            ",\"wakes\":%" PRIu64 ",\"starved\":%" PRIu64 ",\"accept_pauses\":%" PRIu64
            ",\"accept_drops\":%" PRIu64 ",\"send_errors\":%" PRIu64 ",\"bufs_free\":%" PRIu64
            ",\"bufs\":%" PRIu64 ",\"timers\":%" PRIu64 ",\"calls\":%" PRIu64 ",\"rests\":%" PRIu64,
            s.rearms, s.enobufs, s.overflows, s.wakes, s.starved, s.accept_pauses, s.accept_drops,
            s.send_errors, s.bufs_free, s.bufs, s.timers, s.calls, s.rests);
}

/* One JSON line. Runs on a deep stack: printf takes more than a coroutine has. */
static void print_counters(void *argument)
{
    (void)argument;
    struct weir_coro_stats c;

    weir_coro_pool_stats(weir_loop_coros(server.loop), &c);
    fprintf(stderr, "{\"uptime_s\":%.1f,\"engine\":\"%s\",",
            (double)(weir_now_ns() - server.started_ns) / (double)SECOND_NS,
            weir_loop_engine(server.loop));
    print_loop_counters(stderr);
    fprintf(stderr,
            ",\"stacks_live\":%" PRIu64 ",\"stacks_idle\":%" PRIu64 ",\"stacks_released\":%" PRIu64
            ",\"stacks_resident_bytes\":%" PRIu64 ",\"stacks_trimmed\":%" PRIu64
            ",\"trim_target\":%" PRIu64 "}\n",
            c.live, c.idle, c.released, c.resident_bytes, c.trimmed, c.trim_target);
    fflush(stderr);
}

static void print_everything(void *argument)
{
    print_counters(argument);
    weir_coro_pool_each(weir_loop_coros(server.loop), print_coroutine, stderr);
    fflush(stderr);
}

/* Waits beside the handlers for SIGUSR1, for the next second of --stats, and for the end. */
static void control(void *argument)
{
    (void)argument;
    uint64_t due_ns = server.options->stats ? weir_now_ns() + SECOND_NS : WEIR_FOREVER;

    while (!weir__serve_stopping) {
        int ready = weir_poll(server.loop, server.event_fd, POLLIN, due_ns);
        uint64_t count;

        if (ready > 0 && read(server.event_fd, &count, sizeof count) < 0 && errno != EAGAIN)
            return;
        if (weir__serve_asked) {
            weir__serve_asked = 0;
            weir_coro_call_deep(PRINT_STACK_BYTES, print_everything, NULL);
        }
        if (ready == -ETIME) {
            weir_coro_call_deep(PRINT_STACK_BYTES, print_counters, NULL);
            due_ns += SECOND_NS;
        } else if (ready < 0) {
            return; /* the loop is ending */
        }
    }
}

static void stop_loop(void)
{
    weir_loop_stop(server.loop);
}

static int open_listener(const struct serve_options *options, struct weir_listener **listener)
{
    char host[NI_MAXHOST];
    char port[NI_MAXSERV];
    char why[CLI_TEXT_BYTES];
    size_t state_bytes = options->workload->state_bytes;

    int failed = getnameinfo((const struct sockaddr *)&options->addr, options->addr_len, host,
                             sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
    if (failed != 0) {
        fprintf(stderr, "weir-bench serve: --listen %s: %s\n", options->listen,
                gai_strerror(failed));
        return -EINVAL;
    }
    unsigned number = 0;
    sscanf(port, "%u", &number);
    struct weir_listen_options listen_options = {
        .address = host,
        .port = (uint16_t)number,
        .backlog = (int)options->backlog,
        .congestion = options->congestion,
        .state_bytes = state_bytes > 0 ? offsetof(struct conn_state, workload) + state_bytes : 0,
        .handler = handle,
        .argument = (void *)options->workload,
    };
    int result = weir_listen(server.loop, listener, &listen_options, why, sizeof why);
    if (result < 0)
        fprintf(stderr, "weir-bench serve: %s\n", why);
    return result;
}

static int open_loop(const struct serve_options *options)
{
    char why[CLI_TEXT_BYTES] = "";
    struct weir_coro_options coro = {.stack_bytes = options->stack_bytes};
    struct weir_loop_options loop_options = {
        .engine = options->engine,
        .bufs = options->bufs,
        .buf_bytes = options->buf_bytes,
        .drain_ns = options->drain_ns,
        .coro = options->stack_bytes > 0 ? &coro : NULL,
    };
    int result = weir_loop_new(&server.loop, &loop_options, why, sizeof why);

    if (result < 0) {
        fprintf(stderr, "weir-bench serve: %s\n", why[0] != '\0' ? why : strerror(-result));
        return result == -EINVAL ? EXIT_USAGE : EXIT_NOTHING_RAN;
    }
    const char *note = weir_loop_engine_note(server.loop);
    if (note[0] != '\0')
        fprintf(stderr, "weir-bench serve: %s\n", note);
    return EXIT_DONE;
}

static int serve_until_stopped(const struct serve_options *options)
{
    struct weir_listener *listener;
    struct sockaddr_storage addr;
    socklen_t addr_len = sizeof addr;
    struct serve_signals signals = {
        .event_fd = server.event_fd,
        .wake_on_usr1 = true,
        .stop = stop_loop,
    };

    if (open_listener(options, &listener) < 0)
        return EXIT_USAGE;
    int result = weir_listener_address(listener, &addr, &addr_len);
    if (result == 0)
        result = weir_spawn(server.loop, NULL, control, NULL);
    if (result < 0) {
        fprintf(stderr, "weir-bench serve: starting up: %s\n", strerror(-result));
        return EXIT_FAILED;
    }
    weir__serve_catch(&signals);
    server.started_ns = weir_now_ns();
    weir__serve_ready(options, weir_loop_engine(server.loop), (struct sockaddr *)&addr, addr_len,
                      weir_loop_features(server.loop));
    result = weir_loop_run(server.loop);
    if (result < 0)
        fprintf(stderr, "weir-bench serve: the %s engine failed: %s\n",
                weir_loop_engine(server.loop), strerror(-result));
    return result < 0 ? EXIT_FAILED : EXIT_DONE;
}

int weir__serve_engine(const struct serve_options *options)
{
    server = (struct engine_server){.options = options};
    server.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (server.event_fd < 0) {
        perror("weir-bench serve: eventfd");
        return EXIT_FAILED;
    }
    int code = open_loop(options);
    if (code == EXIT_DONE) {
        code = serve_until_stopped(options);
        weir_loop_free(server.loop);
    }
    close(server.event_fd);
    return code;
}
