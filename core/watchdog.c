/* The watchdog: a thread that looks whether each running loop gets on, and asks the thread of one
 * that does not, by a signal, what it is at. See <weir/inspect.h>.
 *
 * A loop counts what it begins to run (resumes, and handlers in a burst) and says which task runs,
 * by relaxed stores in lines it writes anyway. All else is read by the signal's handler, in the
 * loop's own thread, so that nothing is read while it changes. */
#include <weir/inspect.h>

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/backtrace.h"
#include "core/loop.h"

#define ANSWER_NS  200000000ull
#define LEAST_NS   1000000ull
#define NAME_BYTES 128

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the list of loops, and of `dog` */
static struct weir_loop *loops;
static __thread bool is_dog;

static void lock_all(void)
{
    assert(!is_dog && "weir_watchdog_options.fn: it starts or stops a loop, or the watchdog");
    pthread_mutex_lock(&lock);
}

static struct {
    struct weir_watchdog_options options;
    struct sigaction before;
    pthread_t thread;
    pthread_cond_t stopping;
    bool runs, stops;
} dog;

enum { NOT_ASKED, ASKED, ANSWERING };

/* What the handler is asked, and what it answers. One at a time. */
static struct {
    atomic_uint state;
    sem_t answered;
    struct weir_loop *loop;
    uint64_t turn;
    bool moved_on;
    uint32_t task;
    char name[NAME_BYTES], place[NAME_BYTES];
    uintptr_t pcs[WEIR__FRAMES_MOST];
    unsigned pc_count;
} question;

static uint64_t begun_of(const struct weir_loop *loop)
{
    return __atomic_load_n(&loop->stats.resumes, __ATOMIC_RELAXED) +
           __atomic_load_n(&loop->stats.bursts, __ATOMIC_RELAXED);
}

void weir__watchdog_enter(struct weir_loop *loop)
{
    lock_all();
    loop->watched = (struct weir__watched){.next = loops, .thread = pthread_self()};
    loops = loop;
    pthread_mutex_unlock(&lock);
}

void weir__watchdog_leave(struct weir_loop *loop)
{
    struct weir_loop **at = &loops;

    lock_all();
    while (*at != loop)
        at = &(*at)->watched.next;
    *at = loop->watched.next;
    pthread_mutex_unlock(&lock);
}

/* ---- in the loop's thread -------------------------------------------------------------------- */

static void copy_name(char *to, const char *from)
{
    size_t bytes = strnlen(from, NAME_BYTES - 1);

    memcpy(to, from, bytes);
    to[bytes] = '\0';
}

/* On the thread's alternate stack. Only what signal-safety(7) allows, and libunwind, which is. */
static void answer(int number, siginfo_t *info, void *context)
{
    unsigned asked = ASKED;
    int before = errno;

    if (!atomic_compare_exchange_strong(&question.state, &asked, ANSWERING))
        return; /* too late, or from somebody else */
    struct weir_loop *loop = question.loop;
    question.moved_on = weir_loop_self() != loop || !loop->task || begun_of(loop) != question.turn;
    if (!question.moved_on) {
        question.task = loop->task->index + 1;
        copy_name(question.name, weir_coro_name(loop->task->coro));
        copy_name(question.place, weir_coro_place(loop->task->coro));
        question.pc_count = weir__backtrace_here(context, question.pcs, WEIR__FRAMES_MOST);
    }
    sem_post(&question.answered);
    errno = before;
}

/* ---- in the watchdog's ----------------------------------------------------------------------- */

static void print_hold(const struct weir_hold *hold, void *argument)
{
    fprintf(stderr, "weir: task %u %s (%s) holds its loop for %.3f s\n%s", hold->task, hold->name,
            hold->place, (double)hold->held_ns / 1e9, hold->trace);
}

static void drop_text(const char *text, size_t bytes, void *argument) {}

/* Whether the loop's thread has answered. */
static bool ask(struct weir_loop *loop, uint64_t begun)
{
    struct timespec until;
    unsigned asked = ASKED;

    question.loop = loop;
    question.turn = begun;
    atomic_store(&question.state, ASKED);
    clock_gettime(CLOCK_REALTIME, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + ANSWER_NS;
    until.tv_sec += (time_t)(ns / 1000000000u);
    until.tv_nsec = (long)(ns % 1000000000u);
    if (pthread_kill(loop->watched.thread, dog.options.signal_number) == 0)
        while (sem_timedwait(&question.answered, &until) < 0)
            if (errno != EINTR) {
                if (atomic_compare_exchange_strong(&question.state, &asked, NOT_ASKED))
                    return false;
                while (sem_wait(&question.answered) < 0)
                    ;
                break;
            }
    atomic_store(&question.state, NOT_ASKED);
    return true;
}

static void accuse(struct weir_loop *loop, uint64_t begun, uint64_t held_ns)
{
    struct weir__text text = {.fn = drop_text};
    struct weir_hold hold = {.held_ns = held_ns, .name = "?", .place = "?", .trace = text.bytes};

    if (!ask(loop, begun)) {
        weir__text_add(&text, "    its thread blocks signal %d: neither name nor back-trace\n",
                       dog.options.signal_number);
    } else {
        if (question.moved_on)
            return;
        hold.task = question.task;
        hold.name = question.name;
        hold.place = question.place;
        weir__backtrace_names(question.pcs, question.pc_count, &text);
        if (weir__backtrace_lacks)
            weir__text_add(&text, "    no back-trace: %s\n", weir__backtrace_lacks);
    }
    text.bytes[text.used] = '\0';
    dog.options.fn(&hold, dog.options.argument);
}

static void look_at(struct weir_loop *loop, uint64_t now_ns)
{
    struct weir__watched *watched = &loop->watched;
    uint64_t begun = begun_of(loop);

    if (!__atomic_load_n(&loop->task, __ATOMIC_RELAXED) || begun != watched->begun ||
        !watched->since_ns) {
        *watched = (struct weir__watched){
            .next = watched->next, .thread = watched->thread, .begun = begun, .since_ns = now_ns};
        return;
    }
    if (watched->told || now_ns - watched->since_ns < dog.options.limit_ns)
        return;
    watched->told = true;
    accuse(loop, begun, now_ns - watched->since_ns);
}

static void *watch(void *argument)
{
    uint64_t step_ns = dog.options.limit_ns / 4;
    struct timespec until;

    if (step_ns < LEAST_NS)
        step_ns = LEAST_NS;
    is_dog = true;
    pthread_mutex_lock(&lock);
    while (!dog.stops) {
        uint64_t now_ns = weir_now_ns();
        for (struct weir_loop *loop = loops; loop; loop = loop->watched.next)
            look_at(loop, now_ns);
        now_ns = weir_now_ns() + step_ns;
        until = (struct timespec){.tv_sec = (time_t)(now_ns / 1000000000u),
                                  .tv_nsec = (long)(now_ns % 1000000000u)};
        pthread_cond_timedwait(&dog.stopping, &lock, &until);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

/* ---- start and stop -------------------------------------------------------------------------- */

static int take_signal(int number)
{
    struct sigaction action = {.sa_sigaction = answer,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};

    if (sigaction(number, NULL, &dog.before) < 0)
        return -errno;
    if (dog.before.sa_handler != SIG_DFL && dog.before.sa_handler != SIG_IGN)
        return -EBUSY;
    sigfillset(&action.sa_mask);
    return sigaction(number, &action, NULL) < 0 ? -errno : 0;
}

static int start_thread(void)
{
    pthread_condattr_t attributes;
    sigset_t all, before;

    sigfillset(&all);
    dog.stops = false;
    sem_init(&question.answered, 0, 0);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&dog.stopping, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&dog.thread, NULL, watch, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -error;
}

int weir_watchdog_start(const struct weir_watchdog_options *options)
{
    int res = -EBUSY;

    assert(options->limit_ns > 0 && "weir_watchdog_start: no limit");
    lock_all();
    if (!dog.runs) {
        dog.options = *options;
        if (!dog.options.fn)
            dog.options.fn = print_hold;
        if (!dog.options.signal_number)
            dog.options.signal_number = SIGURG;
        res = take_signal(dog.options.signal_number);
        if (!res && (res = start_thread()))
            sigaction(dog.options.signal_number, &dog.before, NULL);
        dog.runs = !res;
    }
    pthread_mutex_unlock(&lock);
    return res;
}

void weir_watchdog_stop(void)
{
    lock_all();
    bool runs = dog.runs;
    dog.stops = true;
    if (runs)
        pthread_cond_signal(&dog.stopping);
    pthread_mutex_unlock(&lock);
    if (!runs)
        return;
    pthread_join(dog.thread, NULL);
    sigaction(dog.options.signal_number, &dog.before, NULL);
    pthread_cond_destroy(&dog.stopping);
    sem_destroy(&question.answered);
    dog.runs = false;
}
