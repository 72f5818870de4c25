/*
 * One shard accepts for all: each peer goes to the shard with the fewest connections, as a message
 * with its descriptor. Peers that find every shard at its conns_max stay in the backlog: accepting
 * pauses until a connection of any of them closes. See WEIR_SHARDS_ACCEPTOR in weir/shards.h.
 *
 * A descriptor that is handed over is one of the process. io_uring could accept into the ring's own
 * table and send the slot on (IORING_MSG_SEND_FD, Linux 6.0), but that is two more requests for
 * each peer, on a thread that has to be fast, and where the other ring has no slot or no room for
 * the completion the sender has to notice and to try again; so it is not done.
 *
 * The acceptor's thread calls new, free, add, peer and full; the others adopt() and conn_gone().
 */
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "core/loop.h"

enum {
    UNDER_WAY_MOST = 256,   /* messages: where they are not taken so fast, accepting pauses */
    LACKING_NS = 100000000, /* a shard that could not take a peer gets none for so long */
    CACHE_LINE = 64,
    NOT_NOW = UINT32_MAX / 2, /* added to its connections, for the sake of comparing */
};

/* A peer on its way. */
struct handed {
    struct weir_post post;
    struct weir__handover *handover;
    struct handed *next; /* in `back` or `spare` */
    unsigned to;
    int fd;
};

struct taker {
    alignas(CACHE_LINE) struct weir_listener *listener;
    atomic_uint under_way; /* to it */
    _Atomic uint64_t lacking_until_ns;
};

/* Of the acceptor: while it pauses, whoever makes room sends `room`, once. */
enum { ROOM_UNASKED, ROOM_ASKED, ROOM_POSTED };

struct weir__handover {
    struct weir__handover *next; /* of the same shards */
    unsigned count, turn;
    struct handed *spare;          /* the acceptor's */
    _Atomic(struct handed *) back; /* given back by the others */
    atomic_int room_state;
    struct weir_post room;
    struct handed messages[UNDER_WAY_MOST];
    struct taker takers[];
};

static struct weir_loop *loop_of(const struct weir__handover *handover, unsigned index)
{
    return handover->takers[index].listener->loop;
}

/* ---- the acceptor's side --------------------------------------------------------------------- */

static uint32_t load_of(struct weir__handover *handover, unsigned index, uint64_t now_ns)
{
    struct taker *taker = &handover->takers[index];
    const struct weir_loop *loop = loop_of(handover, index);
    /* First what is under way, which becomes a connection before it is taken off. */
    uint32_t conns = atomic_load(&taker->under_way);

    conns += __atomic_load_n(&loop->conn_count, __ATOMIC_RELAXED);
    bool not_now = conns >= loop->conns_max || atomic_load(&taker->lacking_until_ns) > now_ns;
    return conns + (not_now ? NOT_NOW : 0);
}

static bool has_message(struct weir__handover *handover)
{
    if (!handover->spare)
        handover->spare = atomic_exchange(&handover->back, NULL);
    return handover->spare != NULL;
}

static bool has_room(struct weir__handover *handover)
{
    uint64_t now_ns = loop_of(handover, 0)->now_ns;

    if (!has_message(handover))
        return false;
    for (unsigned i = 0; i < handover->count; i++)
        if (load_of(handover, i, now_ns) < NOT_NOW)
            return true;
    return false;
}

bool weir__handover_full(struct weir__handover *handover)
{
    int unasked = ROOM_UNASKED;

    if (has_room(handover))
        return false;
    atomic_compare_exchange_strong(&handover->room_state, &unasked, ROOM_ASKED);
    return !has_room(handover); /* what came before that was not told */
}

/* Those with equally many take turns. */
static unsigned choose(struct weir__handover *handover)
{
    uint64_t now_ns = loop_of(handover, 0)->now_ns;
    uint32_t least = UINT32_MAX;
    unsigned chosen = 0;

    for (unsigned n = 0; n < handover->count; n++) {
        unsigned index = (handover->turn + n) % handover->count;
        uint32_t load = load_of(handover, index, now_ns);
        if (load >= least)
            continue;
        least = load;
        chosen = index;
    }
    handover->turn = chosen + 1;
    return chosen;
}

static void adopt(struct weir_post *post);

bool weir__handover_peer(struct weir__handover *handover, int fd)
{
    struct weir_listener *acceptor = handover->takers[0].listener;
    struct weir_loop *loop = acceptor->loop;
    unsigned to = choose(handover);

    if (to == 0 || !has_message(handover))
        return weir__listener_serve(acceptor, fd);
    struct handed *handed = handover->spare;
    handover->spare = handed->next;
    *handed = (struct handed){.post.fn = adopt, .handover = handover, .to = to, .fd = fd};
    atomic_fetch_add(&handover->takers[to].under_way, 1);
    if (weir_post(loop_of(handover, to), &handed->post) == 0) {
        loop->stats.handed_over++;
        return true;
    }
    /* It has ended, and so do all: as peers whom a loop that stops has just accepted. */
    atomic_fetch_sub(&handover->takers[to].under_way, 1);
    handed->next = handover->spare;
    handover->spare = handed;
    loop->ops->drop_fd(loop->engine, fd);
    return true;
}

static void resume(struct weir_post *post)
{
    struct weir__handover *handover = weir__container(post, struct weir__handover, room);

    atomic_store(&handover->room_state, ROOM_UNASKED);
    weir__listeners_resume(loop_of(handover, 0));
}

/* ---- the others' ----------------------------------------------------------------------------- */

/* Where the acceptor sees this too late, its timer has it look again. */
void weir__handover_conn_gone(struct weir__handover *handover)
{
    int asked = ROOM_ASKED;

    if (atomic_load(&handover->room_state) == ROOM_ASKED &&
        atomic_compare_exchange_strong(&handover->room_state, &asked, ROOM_POSTED))
        weir_post(loop_of(handover, 0), &handover->room); /* or it has ended */
}

static void give_back(struct weir__handover *handover, struct handed *handed)
{
    handed->next = atomic_load(&handover->back);
    while (!atomic_compare_exchange_weak(&handover->back, &handed->next, handed))
        ;
}

static void adopt(struct weir_post *post)
{
    struct handed *handed = weir__container(post, struct handed, post);
    struct weir__handover *handover = handed->handover;
    struct taker *taker = &handover->takers[handed->to];
    struct weir_loop *loop = taker->listener->loop;
    int fd = handed->fd;

    give_back(handover, handed);
    if (loop->stopping)
        loop->ops->drop_fd(loop->engine, fd);
    else if (!weir__listener_serve(taker->listener, fd))
        atomic_store(&taker->lacking_until_ns, weir_now_ns() + LACKING_NS);
    atomic_fetch_sub(&taker->under_way, 1);
    weir__handover_conn_gone(handover); /* it was counted twice for a moment */
}

/* ---- life ------------------------------------------------------------------------------------ */

struct weir__handover *weir__handover_new(struct weir__handover **list, unsigned count)
{
    size_t bytes = sizeof(struct weir__handover) + count * sizeof(struct taker);
    struct weir__handover *handover = aligned_alloc(CACHE_LINE, bytes);

    if (!handover)
        return NULL;
    memset(handover, 0, bytes);
    handover->count = count;
    handover->room.fn = resume;
    for (unsigned i = 0; i < UNDER_WAY_MOST; i++) {
        handover->messages[i].next = handover->spare;
        handover->spare = &handover->messages[i];
    }
    handover->next = *list;
    *list = handover;
    return handover;
}

void weir__handover_add(struct weir__handover *handover, unsigned index,
                        struct weir_listener *listener)
{
    handover->takers[index].listener = listener;
    if (index > 0)
        return;
    for (unsigned i = 1; i < handover->count; i++) { /* what its socket says is for all */
        handover->takers[i].listener->local = listener->local;
        handover->takers[i].listener->fds = listener->fds;
    }
}

void weir__handovers_free(struct weir__handover *list)
{
    while (list) {
        struct weir__handover *handover = list;
        list = handover->next;
        free(handover);
    }
}
