/*
 * Shards: several loops side by side, each on a thread of its own with its own engine, connections,
 * stacks and buffers. They share nothing but messages (weir_post()), so that none waits for another
 * and a handler needs no lock for what belongs to its shard.
 *
 *     struct weir_shards_options options = {0};
 *     struct weir_shards_listen_options listen = {.listen = {.port = 7000, .handler = echo}};
 *     int error = weir_shards_new(&shards, &options, why, sizeof why);
 *     if (!error)
 *         error = weir_shards_listen(shards, &listen, NULL, why, sizeof why);
 *     if (!error)
 *         error = weir_shards_run(shards);
 *     weir_shards_free(shards);
 *
 * A coroutine never moves to another thread, and neither does what it holds. Many things are of the
 * thread that a function began on, and a function that changed threads at a wait would not know:
 *   - errno and every other thread-local variable. A compiler may take such an address once and
 *     keep it over a call, as in C no call changes the thread, and glibc declares errno's to be
 *     constant: wrong even where each use comes after the move (LLVM issue 98479; "Disabling TLS
 *     address caching to help QEMU", gcc mailing list, July 2021);
 *   - locks: a mutex is to be unlocked by the thread that locked it (pthread_mutex_unlock(3p));
 *   - the ring: one thread alone may submit, and only it finishes what has completed
 *     (IORING_SETUP_SINGLE_ISSUER and _DEFER_TASKRUN, io_uring_setup(2));
 *   - stacks, buffers and run queues, which would need atomic operations on every request;
 *   - what watches a program: sanitizers, Valgrind and debuggers know a stack by its thread.
 * So work is spread where it comes in, connection by connection, and what has to be elsewhere is
 * sent there as a message. A coroutine that would compute for long calls weir_blocking().
 */
#ifndef WEIR_SHARDS_H
#define WEIR_SHARDS_H

#include <stddef.h>
#include <sys/socket.h>

#include <weir/weir.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct weir_shards;

struct weir_shards_options {
    unsigned count;                       /* 0: as many as CPUs that this process may use */
    const struct weir_loop_options *loop; /* of each; NULL: defaults */
    /* Shard i is kept on CPU cpus[i % cpu_count], with the threads of its blocking calls; that is
     * undone for the calling thread by weir_shards_free(). NULL: the system chooses. */
    const unsigned *cpus;
    unsigned cpu_count;
    /* Called for each shard on its thread, one after another, once all loops are open: to spawn its
     * first tasks, or listen by itself. 0, or -errno, which weir_shards_new() returns. May be NULL.
     */
    int (*setup)(struct weir_loop *loop, unsigned index, void *argument);
    /* The same once its loop has ended; others may still run. May be NULL. */
    void (*ended)(struct weir_loop *loop, unsigned index, void *argument);
    void *argument;
};

/* Opens all loops or none: the first on the calling thread, which is the one to run and free them
 * (so that one shard is a process with one thread), the others on new threads, which block all
 * signals but SIGURG, the one that weir_watchdog_start() takes if not told otherwise. The options
 * are copied. 0, or -errno with one line in `why`: what weir_loop_new() or `setup` returned;
 * -EAGAIN where a thread cannot be had; -EINVAL for a CPU that cannot be; -EOPNOTSUPP where `auto`
 * found another engine for a shard than for the first: name one then. *shards is set once all loops
 * are open and before `setup` is called; until then it is NULL. */
int weir_shards_new(struct weir_shards **shards, const struct weir_shards_options *options,
                    char *why, size_t why_bytes);

enum weir_shards_mode {
    /* Each shard has a listener of its own on the same port, and the kernel spreads peers over them
     * by a hash of their addresses (SO_REUSEPORT, Linux 3.9; socket(7)). */
    WEIR_SHARDS_REUSEPORT,
    /* The first shard accepts, and hands each peer to the shard with the fewest connections (of all
     * kinds; with equally many they take turns), itself included. It suits few connections that
     * work much, which a hash spreads badly, and a socket that the caller opened; a peer costs a
     * message, and its descriptor is the process's (io_uring's accepted ones are not, otherwise).
     * Where every shard is at its conns_max, or too many messages are under way, accepting pauses.
     * One that was on its way to a shard that stops is closed, as those in the backlog are. */
    WEIR_SHARDS_ACCEPTOR,
};

struct weir_shards_listen_options {
    /* As for weir_listen(), for every shard; `reuseport` is set besides where the mode asks. */
    struct weir_listen_options listen;
    enum weir_shards_mode mode;
    /* listen.argument of each shard, by index; not copied. NULL: the same for all. */
    void *const *arguments;
};

/* Listens for all shards or none. After weir_shards_new() and before weir_shards_run(), on the same
 * thread; any number of times. The listeners end with their loops. `address` (may be NULL) gets
 * where they listen. What weir_listen() returns, with one line in `why`. */
int weir_shards_listen(struct weir_shards *shards, const struct weir_shards_listen_options *options,
                       struct sockaddr_storage *address, char *why, size_t why_bytes);

/* Serves until weir_shards_stop(), also where nothing is left to do: a message may come. A shard
 * that ends, because its engine broke or by weir_loop_stop(), ends all. Once, on the thread of
 * weir_shards_new(). 0, or the -errno of the shard that failed. */
int weir_shards_run(struct weir_shards *shards);

/* weir_loop_stop() for all: each drains as its options say. Any thread, and from a signal handler,
 * until weir_shards_free() is called. Before weir_shards_run(): that ends at once. */
void weir_shards_stop(struct weir_shards *shards);

/* Frees the loops, each on its thread, and ends the threads. Not while they run. NULL: nothing. */
void weir_shards_free(struct weir_shards *shards);

unsigned weir_shards_count(const struct weir_shards *shards);
/* The loop of shard `index`, until weir_shards_free(): for weir_post() from any thread; what else
 * is done to it is for its own thread, or, once weir_shards_run() has returned, for the caller of
 * that (weir_loop_stats()). */
struct weir_loop *weir_shards_loop(const struct weir_shards *shards, unsigned index);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
