/*
 * prefork-handoff: one parent accepts, and passes each connection to a worker that is free
 * (SCM_RIGHTS); the worker serves it to its end, then asks for another.
 *
 * How it works: who accepts is one process, so it can choose: it knows who is free, and may weigh,
 * count or log before anybody serves. A worker that is free writes its number into a pipe that all
 * share; the parent accepts only while it knows of one, so what is too much waits in the backlog,
 * not in a queue of its own. The one that became free last is taken first: its caches are warm.
 *
 * Who uses it: supervisors that own the port and keep it over restarts and upgrades (mod_fcgid,
 * Passenger; systemd hands over the listener itself), sshd and Postgres in spirit: one accepts, and
 * another process serves.
 *
 * Where it breaks: at connection N + 1 that stays, as prefork; and earlier where they are short:
 * each costs 1.4 times what one costs that a worker accepts itself (48 us against 34, churn, two
 * clients: poll, sendmsg, recvmsg, close, the pipe, two wake-ups), and all wait for the parent, who
 * is alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "legacy/models/blocking.h"
#include "legacy/models/passing.h"
#include "legacy/models/stop.h"

extern const struct weir_model weir__model_prefork_handoff;

enum { PAUSE_MS = 100, NUMBERS = 64 };

struct handoff {
    struct weir__passing passing; /* first */
    int free_fd;                  /* the workers' end of the pipe */
    unsigned free_count;
    unsigned *free; /* numbers of workers, the last one is next */
};

/* --- a worker -----------------------------------------------------------------------------------
 */

static void say_free(const struct handoff *handoff, unsigned index)
{
    /* The pipe has room for each worker's number, which it writes once a connection. */
    while (write(handoff->free_fd, &index, sizeof index) < 0 && errno == EINTR)
        ;
}

/* What it was passed and may not have, because of descriptors, was closed by the kernel. */
static void note_loss(struct weir_model_counters *counters)
{
    struct weir__acceptor pause = {.resume_ns = weir__now_ns() + PAUSE_MS * 1000000ull};
    weir__count(&counters->errors, 1);
    weir__count(&counters->closed, 1);
    weir__acceptor_sleep(&pause);
}

static int work(void *argument, unsigned index)
{
    struct handoff *handoff = argument;
    struct weir__passing *passing = &handoff->passing;
    int channel = weir__passing_become_worker(passing, index);
    struct weir__blocking *blocking =
        aligned_alloc(alignof(struct weir__blocking), sizeof *blocking);
    if (!blocking)
        return EXIT_FAILURE;
    blocking->options = passing->options;
    blocking->counters = weir__counters(passing->stats, index);
    /* A predecessor may have died before it took out what it had asked for. */
    if (!weir__readable(channel))
        say_free(handoff, index);
    for (;;) {
        bool stopping = weir__stopping();
        int fd = weir__passing_receive(channel, stopping ? MSG_DONTWAIT : 0);
        if (fd >= 0)
            weir__blocking_serve(blocking, fd);
        else if (fd == -EMFILE)
            note_loss(blocking->counters);
        else if (stopping || fd != -EINTR)
            return stopping ? EXIT_SUCCESS : EXIT_FAILURE;
        if (fd != -EINTR)
            say_free(handoff, index);
    }
}

/* --- the parent ---------------------------------------------------------------------------------
 */

static void take_numbers(struct weir__passing *passing)
{
    struct handoff *handoff = (struct handoff *)passing;
    unsigned numbers[NUMBERS];
    for (ssize_t got; (got = read(passing->news_fd, numbers, sizeof numbers)) > 0;)
        for (size_t i = 0; i < (size_t)got / sizeof *numbers; i++)
            handoff->free[handoff->free_count++] = numbers[i];
}

/* It is free no more, and what it wrote last may still be in the pipe. The successor says anew. */
static void forget(void *argument, unsigned index)
{
    struct handoff *handoff = argument;
    unsigned kept = 0;
    take_numbers(&handoff->passing);
    for (unsigned i = 0; i < handoff->free_count; i++)
        if (handoff->free[i] != index)
            handoff->free[kept++] = handoff->free[i];
    handoff->free_count = kept;
}

static bool is_one_free(const struct weir__passing *passing)
{
    return ((const struct handoff *)passing)->free_count > 0;
}

static int pass(struct weir__passing *passing, int fd)
{
    struct handoff *handoff = (struct handoff *)passing;
    if (handoff->free_count == 0)
        return -EAGAIN; /* it died with the connection in the parent's hand */
    unsigned index = handoff->free[handoff->free_count - 1];
    int rc = weir__passing_send(passing->channels[index][0], fd);
    handoff->free_count -= rc == 0;
    return rc;
}

static int serve(const struct weir_model_options *options, struct weir_model_stats *stats,
                 void (*ready)(void *argument, const char *features), void *argument, char *why,
                 size_t why_bytes)
{
    struct handoff handoff = {.passing = {.model = &weir__model_prefork_handoff,
                                          .options = options,
                                          .stats = stats,
                                          .workers = weir__pool_size(options),
                                          .news = take_numbers,
                                          .wanted = is_one_free,
                                          .pass = pass,
                                          .work = work,
                                          .stop = weir__stop_interrupts,
                                          .died = forget}};
    int ends[2];
    handoff.free = malloc(handoff.passing.workers * sizeof *handoff.free);
    if (!handoff.free || pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
        int error = handoff.free ? errno : ENOMEM;
        free(handoff.free);
        return weir__model_fail(&weir__model_prefork_handoff, error, "its pipe",
                                "give it descriptors", why, why_bytes);
    }
    handoff.passing.news_fd = ends[0];
    handoff.free_fd = ends[1];
    int rc = weir__passing_serve(&handoff.passing, ready, argument, why, why_bytes);
    close(ends[0]);
    close(ends[1]);
    free(handoff.free);
    return rc;
}

const struct weir_model weir__model_prefork_handoff = {
    .name = "prefork-handoff",
    .summary = "one parent accepts and passes descriptors (SCM_RIGHTS)",
    .traits =
        WEIR_MODEL_BLOCKING | WEIR_MODEL_POOL | WEIR_MODEL_PROCESSES | WEIR_MODEL_HOLDS_WORKER,
    .serve = serve,
};
