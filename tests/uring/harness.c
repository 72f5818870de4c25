/* Engine, sockets and recording ops for the tests of the proactor; see harness.h. */
#include "harness.h"

#include "core/message.h"

#include <arpa/inet.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <time.h>

#define OFF(feature) WEIR__URING_BIT(feature)
#define NO_MESSAGES  (OFF(MSG_RING_SYNC) | OFF(MSG_RING))

const struct tier tiers[] = {
    {"everything granted", 0, 0},
    {"cooperative task work", OFF(DEFER_TASKRUN), 0},
    {"no set-up flags",
     OFF(DEFER_TASKRUN) | OFF(COOP_TASKRUN) | OFF(SINGLE_ISSUER) | OFF(SUBMIT_ALL), 0},
    {"one-shot recv", OFF(MULTISHOT_RECV), 0},
    {"recv into a pool buffer", OFF(BUFFER_RING), 0},
    {"one-shot accept", OFF(MULTISHOT_ACCEPT), 0},
    {"descriptors of the process", OFF(DIRECT), 0},
    {"wake through a ring", OFF(MSG_RING_SYNC), 0},
    {"wake through an eventfd", NO_MESSAGES, 0},
    {"kernel submission thread", 0, OFF(SQPOLL)},
    {"as on Linux 5.11", ~UINT64_C(0), 0},
};
const size_t tiers_count = sizeof tiers / sizeof tiers[0];

struct criterion_test_params tier_params(void)
{
    struct tier *copy = cr_malloc(sizeof tiers);
    memcpy(copy, tiers, sizeof tiers);
    return cr_make_param_array(struct tier, copy, tiers_count);
}

static void put_chain(struct fixture *fixture, struct weir__buf *buf)
{
    weir__buf_put(&fixture->pool, buf);
}

static void take_bytes(struct recorded *recorded)
{
    struct weir__op *op = &recorded->op;
    cr_assert_not_null(op->buf);
    cr_assert_eq(op->buf->len, (uint32_t)op->res);
    size_t needed = recorded->bytes_count + op->buf->len;
    if (needed > recorded->bytes_room) {
        recorded->bytes_room = 2 * needed;
        recorded->bytes = realloc(recorded->bytes, recorded->bytes_room);
    }
    memcpy(recorded->bytes + recorded->bytes_count, op->buf->data, op->buf->len);
    recorded->bytes_count += op->buf->len;
    if (!recorded->keep)
        put_chain(recorded->fixture, op->buf);
}

static void starve(struct recorded *recorded)
{
    struct fixture *fixture = recorded->fixture;
    cr_assert_lt(fixture->starved_count, RECORDS);
    fixture->starved[fixture->starved_count++] = recorded;
}

static void done(struct weir__op *op)
{
    struct recorded *recorded = (struct recorded *)op;
    bool more = op->flags & WEIR__OP_MORE;
    cr_assert_eq(recorded->finals, 0, "a completion after the final one");
    recorded->last = op->res;
    if (recorded->count < RECORDS)
        recorded->results[recorded->count] = op->res;
    recorded->count++;
    if (op->kind == WEIR__OP_RECV && op->res > 0)
        take_bytes(recorded);
    else if (op->kind == WEIR__OP_RECV)
        cr_assert_null(op->buf);
    if (op->kind == WEIR__OP_RECVMSG && op->res > 0) {
        weir__message_open(op->buf, (uint32_t)op->res, op->flags);
        op->res = (int32_t)op->buf->len;
        take_bytes(recorded);
    }
    if (more)
        return;
    cr_assert_eq(op->state, WEIR__OP_IDLE);
    if (recorded->rearm && op->res > 0)
        cr_assert_eq(recorded->fixture->engine->ops->submit(recorded->fixture->engine, op),
                     WEIR__QUEUED);
    else if (recorded->rearm && op->res == -ENOBUFS)
        starve(recorded);
    else
        recorded->finals = 1;
}

static int call_submit(struct weir__engine_env *env, struct weir__op *op)
{
    struct fixture *fixture = (struct fixture *)((char *)env - offsetof(struct fixture, env));
    weir__op_set_state(op, WEIR__OP_HELD);
    fixture->called = op;
    return WEIR__QUEUED;
}

static int call_cancel(struct weir__engine_env *env, struct weir__op *op)
{
    struct fixture *fixture = (struct fixture *)((char *)env - offsetof(struct fixture, env));
    cr_assert_eq(fixture->called, op);
    return 1;
}

void fixture_open(struct fixture *fixture, struct fixture_options options)
{
    char why[256] = "";
    *fixture = (struct fixture){0};
    fixture->env = (struct weir__engine_env){&fixture->pool, call_submit, call_cancel};
    cr_assert_eq(weir__buf_pool_init(&fixture->pool, options.bufs ? options.bufs : 64,
                                     options.buf_bytes ? options.buf_bytes : 1024),
                 0);
    int error = weir__uring_open_tuned(&fixture->engine, &fixture->env, &options.engine,
                                       &options.tuning, why, sizeof why);
    if (error < 0 && getenv("WEIR_TEST_MAY_SKIP") != NULL)
        cr_skip_test("%s", why);
    cr_assert_eq(error, 0, "open: %s: %s", strerror(-error), why);
}

void fixture_close(struct fixture *fixture)
{
    fixture->engine->ops->close(fixture->engine);
    cr_assert_eq(fixture->pool.free_count, fixture->pool.count, "a buffer was lost");
    weir__buf_pool_deinit(&fixture->pool);
}

static struct recorded *live;

struct recorded *record(struct fixture *fixture, enum weir__op_kind kind, int fd)
{
    struct recorded *recorded = calloc(1, sizeof *recorded);
    recorded->fixture = fixture;
    recorded->op = (struct weir__op){.kind = (uint8_t)kind, .fd = fd, .done = done};
    if (kind == WEIR__OP_RECV || kind == WEIR__OP_RECVMSG || kind == WEIR__OP_ACCEPT)
        recorded->op.flags = WEIR__OP_MULTISHOT;
    recorded->next_live = live;
    live = recorded;
    return recorded;
}

void forget(struct recorded *recorded)
{
    struct recorded **link = &live;
    cr_assert_eq(recorded->op.state, WEIR__OP_IDLE, "the op is still held");
    while (*link != recorded)
        link = &(*link)->next_live;
    *link = recorded->next_live;
    free(recorded->bytes);
    free(recorded);
}

void submit(struct recorded *recorded)
{
    struct weir__engine *engine = recorded->fixture->engine;
    recorded->finals = 0;
    int answer = engine->ops->submit(engine, &recorded->op);
    cr_assert(answer == WEIR__QUEUED || answer == WEIR__DONE, "submit answered %d", answer);
    if (answer == WEIR__DONE) {
        cr_assert_eq(recorded->op.state, WEIR__OP_IDLE);
        done(&recorded->op);
    }
}

void cancel(struct recorded *recorded)
{
    recorded->fixture->engine->ops->cancel(recorded->fixture->engine, &recorded->op);
}

uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void feed_starved(struct fixture *fixture)
{
    int count = fixture->starved_count;
    fixture->starved_count = 0;
    for (int i = 0; i < count; i++)
        submit(fixture->starved[i]);
}

int turn(struct fixture *fixture)
{
    feed_starved(fixture);
    return fixture->engine->ops->wait(fixture->engine, clock_ns() + TURN_NS);
}

int turn_now(struct fixture *fixture)
{
    feed_starved(fixture);
    return fixture->engine->ops->wait(fixture->engine, 0);
}

int32_t finish(struct recorded *recorded)
{
    RUN_UNTIL(recorded->fixture, recorded->finals == 1);
    return recorded->last;
}

int32_t submit_and_finish(struct recorded *recorded)
{
    submit(recorded);
    return finish(recorded);
}

struct weir__engine_counters counters(struct fixture *fixture)
{
    struct weir__engine_counters now;
    fixture->engine->ops->counters(fixture->engine, &now);
    return now;
}

struct weir__uring_counters more_counters(struct fixture *fixture)
{
    struct weir__uring_counters now;
    weir__uring_counters(fixture->engine, &now);
    return now;
}

void pair(int fds[2])
{
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
}

void await_arrival(int fd, uint64_t bytes)
{
    struct tcp_info info = {0};
    for (uint64_t end_ns = clock_ns() + PATIENCE_NS; clock_ns() < end_ns;) {
        socklen_t info_bytes = sizeof info;
        cr_assert_eq(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &info_bytes), 0);
        if (info.tcpi_bytes_received >= bytes)
            break;
        usleep(100);
    }
    cr_assert_eq(info.tcpi_bytes_received, bytes);
}

int listener(uint16_t *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(fd >= 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    cr_assert_eq(listen(fd, 128), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&at, &bytes), 0);
    *port = ntohs(at.sin_port);
    return fd;
}

int connect_to(uint16_t port)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(fd >= 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

void tcp_pair(int fds[2])
{
    uint16_t port;
    int fd = listener(&port);
    fds[1] = connect_to(port);
    fds[0] = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    cr_assert(fds[0] >= 0);
    close(fd);
}
