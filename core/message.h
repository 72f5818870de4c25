/*
 * Messages in lent buffers: what a RECVMSG op puts there, and how it is read.
 *
 * The layout is the kernel's, of a multishot recvmsg with provided buffers (struct
 * io_uring_recvmsg_out), and a reactor makes the same of recvmsg(2): this head, room for the
 * sender's address, room for control messages where descriptors may come (WEIR__OP_FDS), and then
 * the payload. Used by core and, for weir__message_receive(), by engines.
 */
#ifndef WEIR_CORE_MESSAGE_H
#define WEIR_CORE_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include <weir/net.h>

#include "core/buf.h"

struct weir__message {
    uint32_t name_bytes; /* of the sender's address; may be more than there was room for */
    uint32_t control_bytes;
    uint32_t payload_bytes; /* that the message had; may be more than there was room for */
    uint32_t flags;         /* MSG_TRUNC, MSG_CTRUNC, … */
};
static_assert(sizeof(struct weir__message) == 16, "as the kernel writes it");

enum {
    WEIR__NAME_ROOM = sizeof(struct sockaddr_storage),
    WEIR__CONTROL_ROOM = CMSG_SPACE(WEIR_FDS_MAX * sizeof(int)),
    WEIR__MESSAGE_ROOM = 512, /* the least size of buffers that carry messages */
};
static_assert(sizeof(struct weir__message) % sizeof(size_t) == 0 &&
                  WEIR__NAME_ROOM % sizeof(size_t) == 0,
              "the control messages are aligned");

/* Where the payload begins, for an op with these flags. */
static inline uint32_t weir__message_head(unsigned op_flags)
{
    return (uint32_t)sizeof(struct weir__message) + WEIR__NAME_ROOM +
           (op_flags & WEIR__OP_FDS ? WEIR__CONTROL_ROOM : 0u);
}

/* recvmsg(2) into a buffer of `bytes` bytes at `base`, without blocking: the bytes written, head
 * and all, or -errno. Descriptors are CLOEXEC. */
int32_t weir__message_receive(int fd, uint8_t *base, uint32_t bytes, unsigned op_flags);

/* Makes a buffer that a RECVMSG op completed with, with `res` bytes, one of its payload: data, len,
 * fds. */
void weir__message_open(struct weir__buf *buf, uint32_t res, unsigned op_flags);
static inline const struct weir__message *weir__message_of(const struct weir__buf *buf)
{
    return (const struct weir__message *)buf->base;
}
/* The sender's address in the buffer, and its length, 0 where there is none. */
socklen_t weir__message_from(const struct weir__buf *buf, const struct sockaddr **from);
/* Takes its descriptors over, or closes them. */
void weir__message_take_fds(struct weir__buf *buf, struct weir_fds *fds);
void weir__message_drop_fds(struct weir__buf *buf);

/* What SCM_RIGHTS takes on the sender's stack. */
struct weir__rights {
    _Alignas(struct cmsghdr) char space[WEIR__CONTROL_ROOM];
};
/* Adds descriptors to a message; 0 of them: none. */
void weir__rights_add(struct msghdr *message, struct weir__rights *rights, const int *fds,
                      unsigned count);

#endif
