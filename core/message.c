/* Messages in lent buffers; see core/message.h. */
#include "core/message.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* buf->fds: how many descriptors are in its control messages, and whether there were more. */
enum { FDS_COUNT = 0x7f, FDS_TRUNCATED = 0x80 };
static_assert((int)WEIR_FDS_MAX <= (int)FDS_COUNT, "they are counted in seven bits");

int32_t weir__message_receive(int fd, uint8_t *base, uint32_t bytes, unsigned op_flags)
{
    struct weir__message *head = (struct weir__message *)base;
    uint32_t at = weir__message_head(op_flags);
    struct iovec payload = {.iov_base = base + at, .iov_len = bytes - at};
    struct msghdr message = {
        .msg_name = head + 1, .msg_namelen = WEIR__NAME_ROOM, .msg_iov = &payload, .msg_iovlen = 1};
    ssize_t n;

    if (op_flags & WEIR__OP_FDS) {
        message.msg_control = base + at - WEIR__CONTROL_ROOM;
        message.msg_controllen = WEIR__CONTROL_ROOM;
    }
    do
        n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_TRUNC | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    *head = (struct weir__message){.name_bytes = message.msg_namelen,
                                   .control_bytes = (uint32_t)message.msg_controllen,
                                   .payload_bytes = (uint32_t)n,
                                   .flags = (uint32_t)message.msg_flags};
    return (int32_t)at + (int32_t)((size_t)n < payload.iov_len ? (size_t)n : payload.iov_len);
}

/* ---- descriptors that came ------------------------------------------------------------------- */

/* The control messages of a buffer, as the macros of cmsg(3) take them. */
static struct msghdr control_of(const struct weir__buf *buf)
{
    const struct weir__message *head = weir__message_of(buf);

    return (struct msghdr){.msg_control = (char *)(head + 1) + WEIR__NAME_ROOM,
                           .msg_controllen = head->control_bytes};
}

/* Writes up to WEIR_FDS_MAX descriptors to `fds`; more than that the room did not hold. */
static unsigned read_fds(const struct weir__buf *buf, int *fds)
{
    struct msghdr message = control_of(buf);
    unsigned count = 0;

    for (struct cmsghdr *part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        size_t bytes = part->cmsg_len - CMSG_LEN(0);
        assert(count + bytes / sizeof(int) <= WEIR_FDS_MAX);
        memcpy(fds + count, CMSG_DATA(part), bytes);
        count += (unsigned)(bytes / sizeof(int));
    }
    return count;
}

void weir__message_open(struct weir__buf *buf, uint32_t res, unsigned op_flags)
{
    const struct weir__message *head = weir__message_of(buf);
    uint32_t at = weir__message_head(op_flags);
    int fds[WEIR_FDS_MAX];

    assert(res >= at);
    buf->data = buf->base + at;
    buf->len = res - at;
    buf->fds = 0;
    if (!(op_flags & WEIR__OP_FDS))
        return;
    buf->fds = (uint8_t)(read_fds(buf, fds) | (head->flags & MSG_CTRUNC ? FDS_TRUNCATED : 0));
}

socklen_t weir__message_from(const struct weir__buf *buf, const struct sockaddr **from)
{
    const struct weir__message *head = weir__message_of(buf);

    *from = head->name_bytes ? (const struct sockaddr *)(head + 1) : NULL;
    return head->name_bytes < WEIR__NAME_ROOM ? head->name_bytes : WEIR__NAME_ROOM;
}

void weir__message_take_fds(struct weir__buf *buf, struct weir_fds *fds)
{
    fds->truncated = buf->fds & FDS_TRUNCATED;
    fds->count = buf->fds & FDS_COUNT ? read_fds(buf, fds->fds) : 0;
    buf->fds = 0;
}

void weir__message_drop_fds(struct weir__buf *buf)
{
    struct weir_fds fds;

    weir__message_take_fds(buf, &fds);
    weir_fds_close(&fds);
}

void weir_fds_close(struct weir_fds *fds)
{
    for (unsigned i = 0; i < fds->count; i++)
        close(fds->fds[i]);
    fds->count = 0;
}

/* ---- descriptors that go --------------------------------------------------------------------- */

void weir__rights_add(struct msghdr *message, struct weir__rights *rights, const int *fds,
                      unsigned count)
{
    if (!count)
        return;
    assert(count <= WEIR_FDS_MAX && "more descriptors than WEIR_FDS_MAX in one message");
    memset(rights, 0, sizeof *rights);
    message->msg_control = rights->space;
    message->msg_controllen = CMSG_SPACE(count * sizeof(int));
    struct cmsghdr *part = CMSG_FIRSTHDR(message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(part), fds, count * sizeof(int));
}
