/*
 * wake(): another thread, or a signal handler, makes wait() return. In order of preference:
 *
 *   msg_ring_sync  a message put on our ring by io_uring_register(2), from a thread without a ring
 *   msg_ring       a message sent through a two-entry ring that belongs to this engine
 *   neither        an eventfd that the ring has a read armed on
 *
 * All three make system calls only and take no lock, so that a signal handler may interrupt any of
 * them and wake again.
 */
#include "uring/internal.h"

#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Of the sender ring: whoever finds it in use leaves word, and the user sends once more. */
enum sender_state { SENDER_FREE, SENDER_BUSY, SENDER_AGAIN };

static struct io_uring_sqe message_to(int ring_fd)
{
    return (struct io_uring_sqe){
        .opcode = IORING_OP_MSG_RING,
        .fd = ring_fd,
        .off = WEIR__URING_TAG_WAKE, /* the user_data our ring sees */
    };
}

static int send_without_ring(const struct weir__uring *uring)
{
    struct io_uring_sqe message = message_to(uring->ring.ring_fd);
    long error = syscall(__NR_io_uring_register, -1, WEIR__REGISTER_SEND_MSG_RING, &message, 1);
    return error < 0 ? -errno : 0;
}

static int send_once(struct weir__uring *uring)
{
    struct io_uring *sender = &uring->wake.sender_ring;
    struct io_uring_cqe *cqe;
    int answer;
    if (io_uring_sq_ready(sender) == 0) /* else one is left that the kernel did not take */
        *io_uring_get_sqe(sender) = message_to(uring->ring.ring_fd);
    do
        answer = io_uring_submit(sender);
    while (answer == -EINTR);
    if (answer < 0)
        return answer;
    do
        answer = io_uring_wait_cqe(sender, &cqe); /* no system call where it is there already */
    while (answer == -EINTR);
    if (answer < 0)
        return answer;
    answer = cqe->res;
    io_uring_cqe_seen(sender, cqe);
    return answer < 0 ? answer : 0;
}

static int send_through_ring(struct weir__uring *uring)
{
    int state = SENDER_FREE, error;
    while (!atomic_compare_exchange_weak(&uring->wake.sender, &state,
                                         state == SENDER_FREE ? SENDER_BUSY : SENDER_AGAIN))
        ;
    if (state != SENDER_FREE)
        return 0; /* whoever uses it sends for us */
    do {
        atomic_store(&uring->wake.sender, SENDER_BUSY);
        error = send_once(uring);
        state = SENDER_BUSY;
    } while (!atomic_compare_exchange_strong(&uring->wake.sender, &state, SENDER_FREE));
    return error;
}

static int write_eventfd(const struct weir__uring *uring)
{
    uint64_t one = 1;
    return write(uring->wake.eventfd, &one, sizeof one) == sizeof one ? 0 : -errno;
}

int weir__uring_wake(struct weir__engine *engine)
{
    struct weir__uring *uring = (struct weir__uring *)engine;
    int saved = errno, error; /* a signal handler must leave errno alone */
    if (atomic_exchange(&uring->wake.sent, 1))
        return 0;
    if (weir__uring_has(uring, WEIR__URING_BIT(MSG_RING_SYNC)))
        error = send_without_ring(uring);
    else if (weir__uring_has(uring, WEIR__URING_BIT(MSG_RING)))
        error = send_through_ring(uring);
    else
        error = write_eventfd(uring);
    if (error < 0)
        atomic_store(&uring->wake.sent, 0);
    if (error == -EOVERFLOW)
        error = 0; /* our completion queue is full: wait() has no reason to block */
    errno = saved;
    return error;
}

void weir__uring_wake_reaped(struct weir__uring *uring, int tag)
{
    assert(tag == WEIR__URING_TAG_WAKE || tag == WEIR__URING_TAG_EVENTFD);
    if (tag == WEIR__URING_TAG_EVENTFD)
        uring->wake.eventfd_armed = 0;
    uring->counters.wakes++;
    /* Before the loop looks at what it was woken for: who comes later wakes it again. */
    atomic_store(&uring->wake.sent, 0);
}

void weir__uring_wake_arm(struct weir__uring *uring)
{
    struct weir__uring_wake *wake = &uring->wake;
    if (wake->eventfd < 0 || wake->eventfd_armed)
        return;
    struct io_uring_sqe *sqe = weir__uring_get_sqe(uring);
    if (!sqe) {
        uring->hurry = 1; /* nothing would end the next wait: it only makes room to try again */
        return;
    }
    sqe->opcode = IORING_OP_READ;
    sqe->fd = wake->eventfd;
    sqe->addr = (uint64_t)(uintptr_t)&wake->eventfd_value;
    sqe->len = sizeof wake->eventfd_value;
    sqe->user_data = WEIR__URING_TAG_EVENTFD;
    wake->eventfd_armed = 1;
}

/* Tries the tiers in order, once, on ourselves. */
int weir__uring_wake_open(struct weir__uring *uring, uint64_t features_off)
{
    struct weir__uring_wake *wake = &uring->wake;
    uint64_t sync_bit = WEIR__URING_BIT(MSG_RING_SYNC), ring_bit = WEIR__URING_BIT(MSG_RING);
    wake->eventfd = -1;
    wake->sender_ring.ring_fd = -1;
    if (!(features_off & sync_bit) && send_without_ring(uring) == 0) {
        uring->features |= sync_bit;
        return 0;
    }
    if (!(features_off & ring_bit) && io_uring_queue_init(2, &wake->sender_ring, 0) == 0) {
        if (send_once(uring) == 0) {
            uring->features |= ring_bit;
            return 0;
        }
        io_uring_queue_exit(&wake->sender_ring);
    }
    wake->sender_ring.ring_fd = -1;
    wake->eventfd = eventfd(0, EFD_CLOEXEC);
    if (wake->eventfd < 0)
        return -errno;
    weir__uring_wake_arm(uring);
    return 0;
}

void weir__uring_wake_close(struct weir__uring *uring)
{
    struct weir__uring_wake *wake = &uring->wake;
    if (wake->sender_ring.ring_fd >= 0)
        io_uring_queue_exit(&wake->sender_ring);
    if (wake->eventfd < 0)
        return;
    int fd = wake->eventfd;
    /* The armed read writes into our memory: let it finish, and do not arm another. */
    write_eventfd(uring);
    wake->eventfd = -1;
    while (wake->eventfd_armed && weir__uring_wait(&uring->base, WEIR__FOREVER) >= 0)
        ;
    close(fd);
}
