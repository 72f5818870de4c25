/*
 * What happens when a coroutine runs out of stack: one line that names it, and death. A fault in
 * a guard page comes here as a signal, on the thread's alternate stack, since the coroutine has
 * none left; a broken canary comes from coro.c. Faults that are not ours go to whoever handled
 * them before.
 *
 * In the handler only what signal-safety(7) allows: no stdio, no locks, no allocation.
 */
#include "internal.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef AT_MINSIGSTKSZ /* Linux 5.14; 0 from getauxval before */
#define AT_MINSIGSTKSZ 51
#endif

#define HANDLER_BYTES 32768 /* for the handler itself and for those it chains to */

static struct sigaction before_segv, before_bus;

/* --- the line -------------------------------------------------------------------------------- */

struct line {
    char text[1024];
    size_t n;
};

static void add(struct line *l, const char *text)
{
    size_t bytes = strlen(text);
    size_t room = sizeof l->text - 1 - l->n; /* one for the newline */
    if (bytes > room)
        bytes = room;
    memcpy(l->text + l->n, text, bytes);
    l->n += bytes;
}

static void add_number(struct line *l, size_t number)
{
    char digits[24];
    char *at = digits + sizeof digits - 1;
    *at = '\0';
    do
        *--at = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    add(l, at);
}

static void report(const struct weir_coro *co)
{
    const struct weir__stacks *stacks = co->deep != NULL ? co->deep->stacks : co->stacks;
    struct line l = {.n = 0};
    add(&l, "weir: coroutine '");
    add(&l, weir_coro_name(co));
    add(&l, "' (spawned at ");
    add(&l, weir_coro_place(co));
    add(&l, ") overflowed its stack of ");
    add_number(&l, stacks->stack_bytes);
    add(&l, co->deep != NULL
                ? " bytes, borrowed by weir_coro_call_deep; ask that for more"
                : " bytes; give it more (weir_coro_new_sized, or stack_bytes of the "
                  "weir_coro_options), or make its deep call through weir_coro_call_deep");
    l.text[l.n++] = '\n';
    const char *at = l.text;
    while (l.n > 0) {
        ssize_t wrote = write(STDERR_FILENO, at, l.n);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            return; /* stderr is gone, and so is everybody one could tell */
        at += wrote;
        l.n -= (size_t)wrote;
    }
}

_Noreturn void weir__overflow_canary(const struct weir_coro *co)
{
    report(co);
    abort();
}

/* --- the handler ----------------------------------------------------------------------------- */

/* Whether `address` is in the gap below the stack of the running coroutine. */
static bool is_overflow(const struct weir_coro *co, const char *address)
{
    if (co == NULL)
        return false;
    size_t page_bytes = co->stacks->pool->page_bytes;
    return address < co->low && address >= co->low - page_bytes;
}

static void pass_on(int signal, siginfo_t *info, void *context)
{
    const struct sigaction *before = signal == SIGSEGV ? &before_segv : &before_bus;
    if (before->sa_flags & SA_SIGINFO) {
        before->sa_sigaction(signal, info, context);
    } else if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN) {
        before->sa_handler(signal);
    } else if (before->sa_handler == SIG_DFL || info->si_code > 0) { /* no fault can be ignored */
        /* Back to the instruction, which faults again, and now for good. */
        struct sigaction by_default = {.sa_handler = SIG_DFL};
        sigaction(signal, &by_default, NULL);
        if (info->si_code <= 0) /* somebody sent it: nothing will fault again */
            raise(signal);
    }
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
    int saved_errno = errno;
    const struct weir_coro *co = weir__thread.current;
    if (info->si_code > 0 && is_overflow(co, info->si_addr)) {
        report(co);
        struct sigaction by_default = {.sa_handler = SIG_DFL};
        sigaction(signal, &by_default, NULL);
        return; /* to fault again: a core file then shows the place */
    }
    pass_on(signal, info, context);
    errno = saved_errno;
}

static void install_handler(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    sigaction(SIGSEGV, &action, &before_segv);
    sigaction(SIGBUS, &action, &before_bus);
}

/* --- the thread's alternate stack ------------------------------------------------------------ */

static int give_signal_stack(struct weir__thread *t)
{
    stack_t now;
    if (sigaltstack(NULL, &now) < 0)
        return -errno;
    if (!(now.ss_flags & SS_DISABLE))
        return 0; /* the thread has its own */
    size_t frame = getauxval(AT_MINSIGSTKSZ);
    size_t bytes = HANDLER_BYTES + (frame != 0 ? frame : (size_t)MINSIGSTKSZ);
    void *stack = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED)
        return -errno;
    stack_t ours = {.ss_sp = stack, .ss_size = bytes};
    if (sigaltstack(&ours, NULL) < 0) {
        int rc = -errno;
        munmap(stack, bytes);
        return rc;
    }
    t->signal_stack = stack;
    t->signal_stack_bytes = bytes;
    return 0;
}

int weir__overflow_watch(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, install_handler);
    struct weir__thread *t = &weir__thread;
    return t->pools == NULL ? give_signal_stack(t) : 0;
}

void weir__overflow_unwatch(void)
{
    struct weir__thread *t = &weir__thread;
    if (t->pools != NULL || t->signal_stack == NULL)
        return;
    stack_t now;
    stack_t off = {.ss_flags = SS_DISABLE};
    if (sigaltstack(NULL, &now) == 0 && now.ss_sp == t->signal_stack && sigaltstack(&off, NULL) < 0)
        return; /* in use this moment: rather leak it */
    munmap(t->signal_stack, t->signal_stack_bytes);
    t->signal_stack = NULL;
}
