/*
 * Opening the ring: ask for the best set-up, step down one kernel release at a time, then find out
 * what else this kernel grants. What is forced off is not asked for; what is forced on and cannot
 * be had fails the open. Called by engine.c.
 */
#include "uring/internal.h"

#include <stdio.h>
#include <string.h>

enum {
    SQ_LEAST = 64,
    SQ_MOST = 1024,
    CQ_MOST = 65536,
    SQPOLL_IDLE_MS = 100,
    OP_PROBES = 256,
    PROBE_TRIES = 100
};

const char *const weir__uring_feature_names[] = {
    [WEIR__URING_DEFER_TASKRUN] = "defer_taskrun",
    [WEIR__URING_COOP_TASKRUN] = "coop_taskrun",
    [WEIR__URING_SINGLE_ISSUER] = "single_issuer",
    [WEIR__URING_SUBMIT_ALL] = "submit_all",
    [WEIR__URING_NO_SQARRAY] = "no_sqarray",
    [WEIR__URING_REGISTERED_RING] = "registered_ring",
    [WEIR__URING_MULTISHOT_ACCEPT] = "multishot_accept",
    [WEIR__URING_MULTISHOT_RECV] = "multishot_recv",
    [WEIR__URING_BUFFER_RING] = "buffer_ring",
    [WEIR__URING_DIRECT] = "direct_descriptors",
    [WEIR__URING_CQE_SKIP] = "cqe_skip",
    [WEIR__URING_QUIET_SENDS] = "quiet_sends",
    [WEIR__URING_ABS_TIMER] = "abs_timer",
    [WEIR__URING_MIN_WAIT] = "min_wait",
    [WEIR__URING_NO_IOWAIT] = "no_iowait",
    [WEIR__URING_MSG_RING_SYNC] = "msg_ring_sync",
    [WEIR__URING_MSG_RING] = "msg_ring",
    [WEIR__URING_REST] = "rest",
    [WEIR__URING_FILE_OPS] = "file_ops",
    [WEIR__URING_SEND_ZC] = "send_zc",
    [WEIR__URING_SQPOLL] = "sqpoll",
    [WEIR__URING_FEATURES] = NULL,
};

/* Flags of io_uring_setup, newest kernel first: the order in which they are given up. */
static const struct {
    uint64_t feature;
    unsigned flag;
} setup_flags[] = {
    {WEIR__URING_BIT(NO_SQARRAY), WEIR__SETUP_NO_SQARRAY},
    {WEIR__URING_BIT(DEFER_TASKRUN), IORING_SETUP_DEFER_TASKRUN},
    {WEIR__URING_BIT(SINGLE_ISSUER), IORING_SETUP_SINGLE_ISSUER},
    {WEIR__URING_BIT(COOP_TASKRUN), IORING_SETUP_COOP_TASKRUN},
    {WEIR__URING_BIT(SUBMIT_ALL), IORING_SETUP_SUBMIT_ALL},
    {WEIR__URING_BIT(SQPOLL), IORING_SETUP_SQPOLL},
};
enum { SETUP_FLAGS = sizeof setup_flags / sizeof setup_flags[0] };

static uint64_t least_bit(uint64_t bits)
{
    return bits & (~bits + 1);
}

static int refuse(uint64_t missing, const char *cause, char *why, size_t why_bytes)
{
    int bit = __builtin_ctzll(least_bit(missing));
    const char *name = bit < WEIR__URING_FEATURES ? weir__uring_feature_names[bit] : "unknown";
    snprintf(why, why_bytes, "io_uring feature %s: %s; leave out features=+%s", name, cause, name);
    return -EOPNOTSUPP;
}

/* What may be asked for together, of what is wished. */
static uint64_t compatible(uint64_t wish, uint64_t on)
{
    if (wish & WEIR__URING_BIT(SQPOLL)) /* a kernel thread runs the completions then */
        wish &= ~(WEIR__URING_BIT(DEFER_TASKRUN) | WEIR__URING_BIT(COOP_TASKRUN));
    if (!(wish & WEIR__URING_BIT(SINGLE_ISSUER)))
        wish &= ~WEIR__URING_BIT(DEFER_TASKRUN);
    if (on & WEIR__URING_BIT(COOP_TASKRUN) && !(on & WEIR__URING_BIT(DEFER_TASKRUN)))
        wish &= ~WEIR__URING_BIT(DEFER_TASKRUN);
    if (wish & WEIR__URING_BIT(DEFER_TASKRUN)) /* the stronger of the two */
        wish &= ~WEIR__URING_BIT(COOP_TASKRUN);
    return wish;
}

static uint64_t all_setup_features(void)
{
    uint64_t all = 0;
    for (int i = 0; i < SETUP_FLAGS; i++)
        all |= setup_flags[i].flag ? setup_flags[i].feature : 0;
    return all & ~WEIR__URING_BIT(SQPOLL);
}

static int ring_init(struct weir__uring *uring, const struct weir__uring_tuning *size,
                     uint64_t features)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
        .cq_entries = size->cq_entries,
        .sq_thread_idle = SQPOLL_IDLE_MS,
    };
    for (int i = 0; i < SETUP_FLAGS; i++)
        params.flags |= features & setup_flags[i].feature ? setup_flags[i].flag : 0;
    int error = io_uring_queue_init_params(size->sq_entries, &uring->ring, &params);
    if (error == 0)
        uring->features = features;
    else
        uring->ring.ring_fd = -1;
    return error;
}

/* Gives up one feature after the other until the kernel knows them all. */
static int ring_init_stepping_down(struct weir__uring *uring, const struct weir__uring_tuning *size,
                                   const struct weir__engine_options *options)
{
    uint64_t on = options->features_on;
    uint64_t wish = (all_setup_features() | on) & ~options->features_off;
    uint64_t setup_mask = all_setup_features() | WEIR__URING_BIT(SQPOLL);
    uint64_t tried = 0;
    int error = -EINVAL;
    wish &= setup_mask;
    for (int i = -1; i < SETUP_FLAGS && error == -EINVAL; i++) {
        if (i >= 0)
            wish &= ~setup_flags[i].feature;
        uint64_t set = compatible(wish, on);
        if (i >= 0 && set == tried)
            continue;
        tried = set;
        error = ring_init(uring, size, set);
    }
    /* liburing from 2.6 on asks for it by itself, where the kernel knows it. */
    if (error == 0 && uring->ring.flags & WEIR__SETUP_NO_SQARRAY)
        uring->features |= WEIR__URING_BIT(NO_SQARRAY) & ~options->features_off;
    return error;
}

static uint32_t power_of_two_within(uint32_t n, uint32_t least, uint32_t most)
{
    uint32_t power = least;
    while (power < n && power < most)
        power *= 2;
    return power;
}

/* The queues are walked round and round, so small ones stay in the cache: the submission queue
 * need not hold a whole turn, for it can be flushed; the completion queue should. */
static struct weir__uring_tuning sizes(const struct weir__engine_options *options,
                                       const struct weir__uring_tuning *tuning)
{
    struct weir__uring_tuning size = {0};
    if (tuning)
        size = *tuning;
    uint32_t conns = options->conns_max ? options->conns_max : SQ_MOST;
    if (size.sq_entries == 0)
        size.sq_entries = power_of_two_within(conns, SQ_LEAST, SQ_MOST);
    if (size.cq_entries == 0)
        size.cq_entries = power_of_two_within(conns, 4 * size.sq_entries, CQ_MOST);
    return size;
}

/* Ring memory can be scarce (memlock, on kernels before 5.12): less of it serves as well. */
static int ring_open(struct weir__uring *uring, const struct weir__engine_options *options,
                     const struct weir__uring_tuning *tuning)
{
    struct weir__uring_tuning size = sizes(options, tuning);
    int error = ring_init_stepping_down(uring, &size, options);
    while (error == -ENOMEM && size.sq_entries > SQ_LEAST) {
        size.sq_entries /= 2;
        size.cq_entries /= 2;
        error = ring_init_stepping_down(uring, &size, options);
    }
    return error;
}

/* Opcodes without which there is no serving; every kernel that has EXT_ARG has them. */
static const unsigned char needed_opcodes[] = {
    IORING_OP_ACCEPT,  IORING_OP_CONNECT,  IORING_OP_RECV,         IORING_OP_SEND,
    IORING_OP_SENDMSG, IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL, IORING_OP_READ,
    IORING_OP_WRITE,   IORING_OP_FSYNC,    IORING_OP_CLOSE,        IORING_OP_SHUTDOWN,
};

static int probe_opcodes(struct weir__uring *uring, struct io_uring_probe *probe, char *why,
                         size_t why_bytes)
{
    const unsigned needed = IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE;
    int error = io_uring_register_probe(&uring->ring, probe, OP_PROBES);
    if (error < 0 || (uring->ring.features & needed) != needed) {
        snprintf(why, why_bytes,
                 "io_uring: this kernel's is too old: Linux 5.11 is the oldest that "
                 "serves; upgrade it, or use epoll");
        return -ENOSYS;
    }
    for (size_t i = 0; i < sizeof needed_opcodes; i++)
        if (!io_uring_opcode_supported(probe, needed_opcodes[i])) {
            snprintf(why, why_bytes,
                     "io_uring: this kernel lacks operation %d, which serving "
                     "needs; use epoll",
                     needed_opcodes[i]);
            return -ENOSYS;
        }
    return 0;
}

/* Whether the kernel knows a request's flags: it checks those (EINVAL) before it looks at the
 * descriptor, and the descriptor given is bad (EBADF). */
static int knows(struct weir__uring *uring, uint8_t opcode, uint16_t ioprio, uint8_t flags)
{
    struct io_uring_sqe *sqe = weir__uring_get_sqe(uring);
    int answer = 0;
    if (!sqe)
        return 0;
    sqe->opcode = opcode;
    sqe->ioprio = ioprio;
    sqe->flags = flags;
    sqe->fd = -1;
    sqe->user_data = WEIR__URING_TAG_NOBODY; /* nobody's, should it come after the last try */
    for (int tries = 0; tries < PROBE_TRIES && io_uring_cq_ready(&uring->ring) == 0; tries++)
        io_uring_submit_and_wait(&uring->ring, 1); /* may be interrupted, or short of memory */
    for (struct io_uring_cqe *cqe; io_uring_peek_cqe(&uring->ring, &cqe) == 0;) {
        answer = cqe->res; /* the last one's: an earlier probe's may have come late */
        io_uring_cqe_seen(&uring->ring, cqe);
    }
    return answer == -EBADF;
}

static int knows_abs_timer(struct weir__uring *uring)
{
    struct __kernel_timespec at = {.tv_nsec = 1};
    struct io_uring_getevents_arg argument = {.ts = (uint64_t)(uintptr_t)&at};
    unsigned flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG | WEIR__ENTER_ABS_TIMER;
    return io_uring_enter2((unsigned)uring->enter_fd, 0, 0, flags | uring->enter_flags,
                           (void *)&argument, sizeof argument) == 0;
}

static void grant(struct weir__uring *uring, uint64_t feature, int granted)
{
    if (granted)
        uring->features |= feature;
}

static void probe_enter(struct weir__uring *uring, uint64_t off)
{
    uring->enter_fd = uring->ring.ring_fd;
    if (!(off & WEIR__URING_BIT(REGISTERED_RING)) && io_uring_register_ring_fd(&uring->ring) == 1) {
        uring->enter_fd = uring->ring.enter_ring_fd;
        uring->enter_flags = IORING_ENTER_REGISTERED_RING;
        grant(uring, WEIR__URING_BIT(REGISTERED_RING), 1);
    }
    if (!(off & WEIR__URING_BIT(NO_IOWAIT)) && uring->ring.features & WEIR__FEAT_NO_IOWAIT) {
        uring->enter_flags |= WEIR__ENTER_NO_IOWAIT;
        grant(uring, WEIR__URING_BIT(NO_IOWAIT), 1);
    }
    if (!(off & WEIR__URING_BIT(MIN_WAIT)))
        grant(uring, WEIR__URING_BIT(MIN_WAIT),
              (uring->ring.features & WEIR__FEAT_MIN_TIMEOUT) != 0);
    if (!(off & WEIR__URING_BIT(ABS_TIMER)))
        grant(uring, WEIR__URING_BIT(ABS_TIMER), knows_abs_timer(uring));
    if (!(off & WEIR__URING_BIT(CQE_SKIP)))
        grant(uring, WEIR__URING_BIT(CQE_SKIP), (uring->ring.features & IORING_FEAT_CQE_SKIP) != 0);
}

/* From Linux 5.19 on a send with MSG_WAITALL goes on by itself. Where it may not (MSG_DONTWAIT),
 * 5.19 and 6.0 answer EAGAIN and forget what has gone, which then would be sent twice. Mended
 * in 6.1
 * ("io_uring/net: don't lose partial send/recv on fail"). */
int weir__uring_counts_partial_sends(const struct io_uring_probe *probe)
{
    return !io_uring_opcode_supported(probe, WEIR__OP_SOCKET_OPCODE) ||
           io_uring_opcode_supported(probe, WEIR__OP_SENDMSG_ZC_OPCODE);
}

enum { RING_BUFS = 256, RING_BUFS_MOST = 32768 };

static void probe_requests(struct weir__uring *uring, const struct io_uring_probe *probe,
                           const struct weir__engine_options *options)
{
    uint64_t off = options->features_off;
    /* With a kernel thread submitting, no enter says when a send was carried out. */
    if (!(off & WEIR__URING_BIT(QUIET_SENDS)))
        grant(uring, WEIR__URING_BIT(QUIET_SENDS),
              weir__uring_has(uring, WEIR__URING_BIT(CQE_SKIP)) &&
                  !weir__uring_has(uring, WEIR__URING_BIT(SQPOLL)) &&
                  weir__uring_counts_partial_sends(probe));
    uint32_t bufs = options->ring_bufs ? options->ring_bufs : RING_BUFS;
    /* A quarter of the pool, at least one, is never lent to the kernel: handlers take buffers. */
    uint32_t count = uring->base.env->bufs->count, share = count - (count < 8 ? 1 : count / 4);
    bufs = bufs < share ? bufs : share;
    if (bufs > 0 && !(off & WEIR__URING_BIT(BUFFER_RING)))
        grant(uring, WEIR__URING_BIT(BUFFER_RING),
              weir__uring_bufs_open(uring, bufs < RING_BUFS_MOST ? bufs : RING_BUFS_MOST,
                                    options->ring_bufs > 0) == 0);
    if (!(off & WEIR__URING_BIT(SEND_ZC)))
        grant(uring, WEIR__URING_BIT(SEND_ZC),
              io_uring_opcode_supported(probe, WEIR__OP_SEND_ZC_OPCODE));
    /* Without that ring every receive begins with a poll. */
    if (!(off & WEIR__URING_BIT(REST)))
        grant(uring, WEIR__URING_BIT(REST), uring->buf_ring != NULL);
    if (!(off & WEIR__URING_BIT(MULTISHOT_ACCEPT)))
        grant(uring, WEIR__URING_BIT(MULTISHOT_ACCEPT),
              io_uring_opcode_supported(probe, WEIR__OP_SOCKET_OPCODE) &&
                  knows(uring, IORING_OP_ACCEPT, IORING_ACCEPT_MULTISHOT, 0));
    if (!(off & WEIR__URING_BIT(MULTISHOT_RECV)) && uring->buf_ring)
        grant(uring, WEIR__URING_BIT(MULTISHOT_RECV),
              io_uring_opcode_supported(probe, WEIR__OP_SEND_ZC_OPCODE) &&
                  knows(uring, IORING_OP_RECV, IORING_RECV_MULTISHOT, IOSQE_BUFFER_SELECT));
}

/* A descriptor of the process is made for one where a kernel thread submits, too, but not at once.
 */
static void probe_direct(struct weir__uring *uring, const struct io_uring_probe *probe,
                         const struct weir__engine_options *options)
{
    if (!(options->features_off & WEIR__URING_BIT(DIRECT)))
        grant(uring, WEIR__URING_BIT(DIRECT),
              !weir__uring_has(uring, WEIR__URING_BIT(SQPOLL)) &&
                  io_uring_opcode_supported(probe, WEIR__OP_FIXED_FD_INSTALL_OPCODE) &&
                  weir__uring_direct_open(uring, options) == 0);
}

/* A kernel that lacks some of them has the others all the same. */
static void probe_files(struct weir__uring *uring, const struct io_uring_probe *probe, uint64_t off)
{
    if (off & WEIR__URING_BIT(FILE_OPS))
        return;
    uring->file_codes = weir__uring_file_codes(probe);
    grant(uring, WEIR__URING_BIT(FILE_OPS), uring->file_codes != 0);
}

static const char *cause_of_refusal(uint64_t missing, const struct weir__engine_options *options)
{
    uint64_t feature = least_bit(missing);
    if (feature & options->features_off)
        return "both forced on and forced off";
    if (feature == WEIR__URING_BIT(NO_SQARRAY) && WEIR__SETUP_NO_SQARRAY == 0)
        return "Weir was built with a liburing older than 2.5";
    if (feature & (WEIR__URING_BIT(DEFER_TASKRUN) | WEIR__URING_BIT(COOP_TASKRUN) |
                   WEIR__URING_BIT(DIRECT)) &&
        options->features_on & WEIR__URING_BIT(SQPOLL))
        return "does not go with sqpoll";
    return "this kernel does not grant it with the other features asked for";
}

int weir__uring_setup(struct weir__uring *uring, const struct weir__engine_options *options,
                      const struct weir__uring_tuning *tuning, char *why, size_t why_bytes)
{
    _Alignas(struct io_uring_probe) char
        space[sizeof(struct io_uring_probe) + OP_PROBES * sizeof(struct io_uring_probe_op)] = {0};
    struct io_uring_probe *probe = (struct io_uring_probe *)space;
    int error = ring_open(uring, options, tuning);
    if (error < 0) {
        struct weir__uring_host host;
        weir__uring_host_read(&host, "/proc");
        weir__uring_explain(error, &host, why, why_bytes);
        return error;
    }
    for (unsigned i = 0; uring->ring.sq.array && !(uring->features & WEIR__URING_BIT(NO_SQARRAY)) &&
                         i < uring->ring.sq.ring_entries;
         i++)
        uring->ring.sq.array[i] = i; /* once and for all: a slot is always its own index */
    error = probe_opcodes(uring, probe, why, why_bytes);
    if (error < 0)
        return error;
    probe_enter(uring, options->features_off);
    probe_requests(uring, probe, options);
    probe_direct(uring, probe, options);
    probe_files(uring, probe, options->features_off);
    error = weir__uring_wake_open(uring, options->features_off);
    if (error < 0) {
        snprintf(why, why_bytes, "io_uring: eventfd: %s; raise the limit on open files (ulimit -n)",
                 strerror(-error));
        return error;
    }
    uint64_t missing = options->features_on & ~uring->features;
    if (missing)
        return refuse(missing, cause_of_refusal(missing, options), why, why_bytes);
    return 0;
}
