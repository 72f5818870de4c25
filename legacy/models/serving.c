/* What all classic models are made of: serving.h. */
#include "legacy/models/serving.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "legacy/models/stop.h"

enum { PAUSE_MS = 100 };

bool weir__readable(int fd)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    return poll(&ready, 1, 0) > 0;
}

unsigned weir__pool_size(const struct weir_model_options *options)
{
    cpu_set_t cpus;
    if (options->workers > 0)
        return options->workers;
    return sched_getaffinity(0, sizeof cpus, &cpus) < 0 ? 1 : (unsigned)CPU_COUNT(&cpus);
}

int weir__model_fail(const struct weir_model *model, int error, const char *what, const char *cure,
                     char *why, size_t why_bytes)
{
    snprintf(why, why_bytes, "%s: %s: %s; %s", model->name, what, strerror(error), cure);
    return -error;
}

/* --- accepting
 * ------------------------------------------------------------------------------------
 */

static int open_reserve(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int weir__acceptor_init(struct weir__acceptor *acceptor, int listen_fd,
                        struct weir_model_counters *counters)
{
    *acceptor = (struct weir__acceptor){.listen_fd = listen_fd, .counters = counters};
    acceptor->reserve_fd = open_reserve();
    return acceptor->reserve_fd < 0 ? acceptor->reserve_fd : 0;
}

void weir__acceptor_deinit(struct weir__acceptor *acceptor)
{
    if (acceptor->reserve_fd >= 0)
        close(acceptor->reserve_fd);
    acceptor->reserve_fd = -1;
}

static bool is_shortage(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

/* What accept(2) passes on from the connection, which is gone. */
static bool is_the_peers(int error)
{
    return error == ECONNABORTED || error == EPROTO || error == ENOPROTOOPT || error == ENETDOWN ||
           error == ENETUNREACH || error == EHOSTDOWN || error == EHOSTUNREACH || error == ENONET ||
           error == EPERM;
}

/* Gives the reserve up for the oldest connection. It is kept if the reserve can be had again. */
static int accept_on_reserve(struct weir__acceptor *acceptor, int flags)
{
    weir__count(&acceptor->counters->errors, 1);
    acceptor->resume_ns = weir__now_ns() + PAUSE_MS * 1000000ull;
    /* The shortage is told before the queue is looked at: it may be empty, and the call block. */
    if (acceptor->reserve_fd >= 0 && weir__readable(acceptor->listen_fd)) {
        close(acceptor->reserve_fd);
        int fd = accept4(acceptor->listen_fd, NULL, NULL, flags | SOCK_CLOEXEC);
        acceptor->reserve_fd = open_reserve();
        if (fd >= 0 && acceptor->reserve_fd >= 0) {
            acceptor->resume_ns = 0;
            weir__count(&acceptor->counters->accepted, 1);
            return fd;
        }
        if (fd >= 0)
            close(fd);
    }
    if (acceptor->reserve_fd < 0)
        acceptor->reserve_fd = open_reserve();
    return -EBUSY;
}

int weir__accept(struct weir__acceptor *acceptor, int flags)
{
    for (;;) {
        int fd = accept4(acceptor->listen_fd, NULL, NULL, flags | SOCK_CLOEXEC);
        if (fd >= 0) {
            weir__count(&acceptor->counters->accepted, 1);
            return fd;
        }
        if (is_shortage(errno))
            return accept_on_reserve(acceptor, flags);
        if (errno == EINTR ? weir__stopping() : !is_the_peers(errno))
            return -errno;
    }
}

void weir__accepted_close(struct weir_model_counters *counters, int fd, int result)
{
    /* A peer that resets its connection is its own affair. */
    if (result < 0 && result != -ECONNRESET && result != -EPIPE)
        weir__count(&counters->errors, 1);
    weir__count(&counters->closed, 1);
    close(fd);
}

int weir__acceptor_pause_ms(struct weir__acceptor *acceptor)
{
    uint64_t now_ns = weir__now_ns();
    if (acceptor->resume_ns > now_ns)
        return (int)((acceptor->resume_ns - now_ns) / 1000000 + 1);
    acceptor->resume_ns = 0;
    return 0;
}

void weir__acceptor_sleep(struct weir__acceptor *acceptor)
{
    for (int ms; !weir__stopping() && (ms = weir__acceptor_pause_ms(acceptor)) > 0;)
        usleep(ms < 10 ? (useconds_t)ms * 1000 : 10000);
}

int weir__listen_again(int listen_fd, unsigned backlog, int flags)
{
    struct sockaddr_storage addr;
    socklen_t addr_bytes = sizeof addr, name_bytes;
    char congestion[16] = "";
    int on = 1;

    if (getsockname(listen_fd, (struct sockaddr *)&addr, &addr_bytes) < 0)
        return -errno;
    int fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd < 0)
        return -errno;
    name_bytes = sizeof congestion;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0 ||
        getsockopt(listen_fd, IPPROTO_TCP, TCP_CONGESTION, congestion, &name_bytes) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion, name_bytes) < 0 ||
        bind(fd, (const struct sockaddr *)&addr, addr_bytes) < 0 ||
        listen(fd, backlog > 0 ? (int)backlog : SOMAXCONN) < 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

/* --- a connection's part of the workload ---------------------------------------------------------
 */

static void add_piece(struct weir__answer *answer, const struct weir_workload_io *io)
{
    answer->bytes += io->reply_len;
    if (answer->count > 0 && !io->reply_is_static &&
        !(answer->is_static >> (answer->count - 1) & 1)) {
        struct iovec *last = &answer->pieces[answer->count - 1];
        if ((uint8_t *)last->iov_base + last->iov_len == io->reply) {
            last->iov_len += io->reply_len;
            return;
        }
    }
    if (io->reply_is_static)
        answer->is_static |= 1u << answer->count;
    answer->pieces[answer->count++] = (struct iovec){(void *)io->reply, io->reply_len};
}

void weir__session_feed(struct weir__session *session, const struct weir_model_options *options,
                        struct weir_model_counters *counters, const uint8_t *in, size_t bytes,
                        uint8_t *room, struct weir__answer *answer)
{
    size_t used = 0;
    uint64_t requests = 0;
    answer->count = 0;
    answer->is_static = 0;
    answer->bytes = answer->consumed = 0;
    do {
        struct weir_workload_io io = {.out = room + used, .out_capacity = WEIR__ROOM_BYTES - used};
        answer->verdict = options->workload->feed(session->state, in + answer->consumed,
                                                  bytes - answer->consumed, &io);
        assert(answer->verdict != WEIR_WORKLOAD_CONTINUE || io.consumed > 0);
        answer->consumed += io.consumed;
        requests += io.requests;
        if (io.reply_len > 0)
            add_piece(answer, &io);
        if (io.reply_len > 0 && !io.reply_is_input && !io.reply_is_static)
            used += io.reply_len;
    } while (answer->verdict == WEIR_WORKLOAD_CONTINUE && answer->consumed < bytes &&
             answer->count < WEIR__ANSWER_PIECES &&
             WEIR__ROOM_BYTES - used >= WEIR_WORKLOAD_OUT_BYTES);
    weir__count(&counters->requests, requests);
    if (answer->verdict < 0)
        weir__count(&counters->refused, 1);
}

bool weir__answer_sent(struct weir__answer *answer, size_t bytes)
{
    unsigned gone = 0;
    assert(bytes <= answer->bytes);
    answer->bytes -= bytes;
    while (gone < answer->count && bytes >= answer->pieces[gone].iov_len)
        bytes -= answer->pieces[gone++].iov_len;
    answer->count -= gone;
    answer->is_static >>= gone;
    memmove(answer->pieces, answer->pieces + gone, answer->count * sizeof *answer->pieces);
    if (answer->count == 0)
        return true;
    answer->pieces[0].iov_base = (uint8_t *)answer->pieces[0].iov_base + bytes;
    answer->pieces[0].iov_len -= bytes;
    return false;
}
