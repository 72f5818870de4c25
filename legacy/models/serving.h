/*
 * What all classic models are made of: counting, accepting, and one connection's part of the
 * workload. A model's own file holds its loop, and reads as the textbook of that model; whatever
 * two of them would write alike is here or in a neighbour (stop.h, blocking.h).
 *
 * Nothing here knows a workload: all is asked of `struct weir_workload`.
 */
#ifndef WEIR_LEGACY_MODELS_SERVING_H
#define WEIR_LEGACY_MODELS_SERVING_H

#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include <time.h>

#include <weir/model.h>
#include <weir/workload.h>

enum {
    WEIR__IN_BYTES = 64 * 1024,                     /* received at once */
    WEIR__ROOM_BYTES = 4 * WEIR_WORKLOAD_OUT_BYTES, /* for replies that are not input */
    WEIR__ANSWER_PIECES = 16,
};

static inline uint64_t weir__now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* --- counting: the slots of struct weir_model_stats ---------------------------------------------
 */

/* Worker `index`'s. Past WEIR_MODEL_SLOTS workers share one. */
static inline struct weir_model_counters *weir__counters(struct weir_model_stats *stats,
                                                         unsigned index)
{
    return &stats->slots[index % WEIR_MODEL_SLOTS];
}

/* A few ns where no other worker writes to the same slot. */
static inline void weir__count(uint64_t *counter, uint64_t more)
{
    __atomic_fetch_add(counter, more, __ATOMIC_RELAXED);
}

/* Whether a read or accept would find something: poll(2) that does not wait. */
bool weir__readable(int fd);

/* Workers of a pool: as asked for, or as many as there are CPUs to run on. */
unsigned weir__pool_size(const struct weir_model_options *options);

/* Writes "MODEL: WHAT: REASON; CURE" and returns -error. */
int weir__model_fail(const struct weir_model *model, int error, const char *what, const char *cure,
                     char *why, size_t why_bytes);

/* --- accepting
 * ------------------------------------------------------------------------------------
 */

/*
 * Accepts from one listening socket, also where descriptors run out: then a reserve is given up to
 * take the oldest connection in, which is turned away if there is still no other. So that its peer
 * learns of it, and the queue moves. One for each thread that accepts.
 */
struct weir__acceptor {
    int listen_fd;  /* NOT consumed */
    int reserve_fd; /* -1: could not be had again yet */
    struct weir_model_counters *counters;
    uint64_t resume_ns; /* after -EBUSY: do not accept before; else 0 */
};

/* 0, or -errno where not even the reserve can be had. Undone by deinit. */
int weir__acceptor_init(struct weir__acceptor *acceptor, int listen_fd,
                        struct weir_model_counters *counters);
void weir__acceptor_deinit(struct weir__acceptor *acceptor);

/*
 * One connection, close-on-exec, with `flags` of accept4(2). Blocks where the listener does. What
 * is one connection's failure alone is passed over. -EAGAIN: none waits. -EINTR: a signal, and the
 * server is stopping. -EBUSY: out of descriptors or memory: go on serving, and accept nothing
 * before resume_ns. -EINVAL: the listener was shut down. Another: accepting cannot go on.
 */
int weir__accept(struct weir__acceptor *acceptor, int flags);

/* Counts the end of a connection that weir__accept() gave, with what ended it (0, or -errno), and
 * closes it.
 */
void weir__accepted_close(struct weir_model_counters *counters, int fd, int result);

/* Milliseconds until accepting may go on, rounded up; 0: it may. */
int weir__acceptor_pause_ms(struct weir__acceptor *acceptor);

/* The same, slept through; ends early where the server is stopping. For those who only accept. */
void weir__acceptor_sleep(struct weir__acceptor *acceptor);

/* Another listening socket on the port of `listen_fd`, which has SO_REUSEPORT: with its options,
 * non-blocking or not as `flags` of socket(2) say. The descriptor, or -errno. */
int weir__listen_again(int listen_fd, unsigned backlog, int flags);

/* --- a connection's part of the workload ---------------------------------------------------------
 */

struct weir__session {
    alignas(max_align_t) unsigned char state[WEIR_WORKLOAD_STATE_BYTES];
};

static inline void weir__session_init(struct weir__session *session,
                                      const struct weir_model_options *options)
{
    options->workload->init(session->state, options->workload_options);
}

/* What to send for some input. The pieces lie in the input, in the room given, or in memory that
 * never changes (bit i of is_static). */
struct weir__answer {
    struct iovec pieces[WEIR__ANSWER_PIECES];
    unsigned count;
    uint32_t is_static;
    size_t bytes;    /* of all pieces */
    size_t consumed; /* of the input; less than all where the room or the pieces were full */
    int verdict;     /* enum weir_workload_verdict, or -errno: refused; both after the pieces */
};

/* Feeds `in` (bytes > 0) for as long as pieces and room (WEIR__ROOM_BYTES) suffice; what is left is
 * to be fed once these are sent. Counts requests and refusals. */
void weir__session_feed(struct weir__session *session, const struct weir_model_options *options,
                        struct weir_model_counters *counters, const uint8_t *in, size_t bytes,
                        uint8_t *room, struct weir__answer *answer);

/* Drops `bytes` that were sent from the front of the answer. Returns true once nothing is left. */
bool weir__answer_sent(struct weir__answer *answer, size_t bytes);

#endif
