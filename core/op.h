/*
 * Operations: one request to the kernel, from submit until its *final* completion.
 *
 * An op is memory of its owner: it lives on the waiting coroutine's stack, in a connection slot,
 * in a listener, or in a buffer record. From submit() on the engine holds it; it comes
 * back with the final completion, and only then may its memory be used for anything else,
 * cancellation included. `res` means what a CQE's `res` means, on every engine.
 *
 * This file is the contract between core/ and the engines; it makes no system call itself.
 */
#ifndef WEIR_CORE_OP_H
#define WEIR_CORE_OP_H

#include <assert.h>
#include <stdint.h>
#include <stddef.h>

#include "core/trace.h"

#define weir__likely(x)   __builtin_expect(!!(x), 1)
#define weir__unlikely(x) __builtin_expect(!!(x), 0)

struct weir__buf;
struct weir__op;

/* What an op asks for, with the fields it reads (fd always, unless said otherwise). */
enum weir__op_kind {
    WEIR__OP_NONE,
    WEIR__OP_ACCEPT,    /* multishot; res = descriptor, see fd, made CLOEXEC                    */
    WEIR__OP_CONNECT,   /* data = struct sockaddr, len = its length; res = 0                     */
    WEIR__OP_RECV,      /* multishot; res = bytes in op->buf, lent to the owner; 0 at EOF         */
    WEIR__OP_SEND,      /* data, len; completes when all is sent; res = len or -errno            */
    WEIR__OP_SEND_BUFS, /* buf = chain through weir__buf.next; all sent; res = bytes or -errno   */
    WEIR__OP_RECVMSG, /* multishot; res = bytes of op->buf, laid out as core/message.h says, lent to
                          the owner. Datagram and Unix sockets of the process only              */
    WEIR__OP_SENDMSG, /* data = struct msghdr; one message, a part of it on a stream; res = bytes */
    WEIR__OP_POLL,    /* len = WEIR__POLL_IN|…; one-shot; res = those that hold                */
    WEIR__OP_READ,    /* data, len, offset (-1: the file's own position); may be short         */
    WEIR__OP_WRITE,   /* the same                                                              */
    WEIR__OP_FSYNC,   /* len = 1: data only                                                    */
    WEIR__OP_FILE,    /* len = enum weir__file_code, data = struct weir__file_call             */
    WEIR__OP_CLOSE,   /* no other op may be held on fd                                         */
    WEIR__OP_SHUTDOWN, /* len = SHUT_RD, SHUT_WR, SHUT_RDWR                                     */
    WEIR__OP_CALL,     /* run op->call(op->data) on a helper thread; no fd; res = its result    */
    WEIR__OP_KINDS
};

/* Descriptors from here on are the engine's, and no process descriptors. */
enum { WEIR__ENGINE_FDS = 1 << 30 };

/* What POLL waits for: the bits of poll(2), for users of weir_poll() give those. They have names
 * here because its header belongs to legacy/, where it is checked that they are the same. */
enum weir__poll_events { WEIR__POLL_IN = 1, WEIR__POLL_OUT = 4 };

/* What FILE does, as <weir/file.h> has it, with the fields it reads of a struct weir__file_call.
 * The op's fd is the file, or the directory that `path` begins in. */
enum weir__file_code {
    WEIR__FILE_OPEN,     /* path, flags, mode; res = a descriptor of the process */
    WEIR__FILE_CLOSE,    /* none */
    WEIR__FILE_STAT,     /* path, flags, mask, out */
    WEIR__FILE_RENAME,   /* path, to_dir, to_path, flags */
    WEIR__FILE_UNLINK,   /* path, flags */
    WEIR__FILE_MKDIR,    /* path, mode */
    WEIR__FILE_ALLOCATE, /* mode, offset, bytes */
    WEIR__FILE_TRUNCATE, /* bytes */
    WEIR__FILE_CODES
};

struct weir__file_call {
    const char *path, *to_path;
    struct statx *out;
    int64_t offset, bytes;
    int32_t to_dir;
    uint32_t flags, mode, mask;
};

/*
 *            submit                       completion without MORE
 *   IDLE ───────────────▶ HELD ──────────────────────────────▶ IDLE
 *                          │  ▲ completion with MORE (multishot): done() is called, op stays
 *                   cancel ▼  │
 *                       CANCELLING ──────▶ IDLE, with -ECANCELED or the real result
 *
 * Only weir__op_set_state() changes it.
 */
enum weir__op_state { WEIR__OP_IDLE, WEIR__OP_HELD, WEIR__OP_CANCELLING };

enum weir__op_flags {
    WEIR__OP_MULTISHOT = 1, /* in: keep completing (ACCEPT, RECV); the engine may still end it   */
    WEIR__OP_MORE = 2,      /* out: set at done() while the engine still holds the op            */
    WEIR__OP_QUIET = 4,     /* in, SEND_BUFS: nobody waits for its end, so success alone need not
                               end a wait(); it is told when wait() returns for another reason.
                               CLOSE: the next wait() at the latest performs it, and the engine may
                               call it done before that                                          */
    WEIR__OP_REST = 8,      /* in, RECV without MULTISHOT: input is not expected soon, so memory
                               while it waits counts, and not how fast it is then                */
    WEIR__OP_RESET = 16,    /* in, CLOSE: what is unsent is dropped, and the peer gets a reset    */
    WEIR__OP_VECTORED = 32, /* in, READ, WRITE: data = struct iovec[len]                          */
    WEIR__OP_FDS = 64,      /* in, RECVMSG: descriptors may come, too. ACCEPT: the descriptors it
                               gives are the process's                                           */
    WEIR__OP_ZERO_COPY = 128, /* in, SEND: the kernel may send from the memory itself; it completes
                               when that is done with it                                         */

    /* core's, of a connection's receive: it is not to be armed; recv.c. The bit is RESET's, which
     * is a CLOSE's. */
    WEIR__OP_TAKEN = WEIR__OP_RESET,
};

/* Called on the loop's thread while the engine reaps. Never runs user code, never waits; it may
 * submit and cancel other ops. On entry op->res (and op->buf for RECV) are the result. */
typedef void weir__op_done_fn(struct weir__op *op);

struct weir__op {
    uint8_t kind;        /* enum weir__op_kind */
    uint8_t state;       /* enum weir__op_state */
    uint8_t flags;       /* enum weir__op_flags */
    uint8_t engine_bits; /* the engine's own, while held */
    int32_t fd; /* of the process; or as ACCEPT gave it, which may mean something to this engine
                   alone: see process_fd() and drop_fd() of core/engine.h */
    int32_t res;
    union {
        uint32_t len;
        uint32_t owner_index; /* RECV, RECVMSG, CLOSE: its owner's own, as `owner` is */
    };
    union {
        void *data;            /* buffer, struct sockaddr, argument of call */
        struct weir__buf *buf; /* RECV, RECVMSG: out. SEND_BUFS: in */
    };
    union {
        uint64_t offset; /* READ, WRITE; for SEND, ACCEPT and multishot RECVMSG the engine's
                            own, while held */
        int32_t (*call)(void *argument); /* CALL */
        void *owner; /* one-shot RECVMSG, RECV, CLOSE: no engine touches it, which spares every slot
                        a word */
    };
    weir__op_done_fn *done;
    struct weir__op *next; /* the engine's queues, or core's queue of refused ops */
};
static_assert(sizeof(struct weir__op) == 48, "an op is part of every connection slot");

static inline void weir__op_set_state(struct weir__op *op, enum weir__op_state to)
{
    if (to == WEIR__OP_IDLE)
        assert(op->state != WEIR__OP_IDLE);
    else
        assert(op->state == (to == WEIR__OP_HELD ? WEIR__OP_IDLE : WEIR__OP_HELD));
    op->state = (uint8_t)to;
}

/* Engines report every completion through this: `more` says that the op stays armed. */
static inline void weir__op_complete(struct weir__op *op, int32_t res, int more)
{
    weir__trace_op_complete(op, op->kind, res);
    op->res = res;
    if (more) {
        assert(op->state != WEIR__OP_IDLE);
        op->flags |= WEIR__OP_MORE;
    } else {
        weir__op_set_state(op, WEIR__OP_IDLE);
        op->flags &= (uint8_t)~WEIR__OP_MORE;
    }
    op->done(op);
}

/* Whether helper threads can perform it: what has no readiness to wait for. */
static inline int weir__op_is_for_helpers(const struct weir__op *op)
{
    return op->kind == WEIR__OP_READ || op->kind == WEIR__OP_WRITE || op->kind == WEIR__OP_FSYNC ||
           op->kind == WEIR__OP_FILE || op->kind == WEIR__OP_CALL;
}

/* Performs an op for helpers and blocks meanwhile. Returns what becomes the op's res; touches no
 * field of the op. In core/helpers.c. */
int32_t weir__op_perform(const struct weir__op *op);

/* From now on close(2) resets: what is unsent is dropped and no TIME_WAIT is left. For engines, at
 * a CLOSE that asks for it. In core/conn.c. */
void weir__reset_at_close(int fd);

#endif
