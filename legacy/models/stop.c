/* The end of a classic model: stop.h. */
#include "legacy/models/stop.h"

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/time.h>

#include "legacy/models/serving.h"

enum { TICK_US = 5000 };

static atomic_bool stopping;
static _Atomic uint64_t limit_ns;
static uint64_t drain_ns;

void weir__stop_init(const struct weir_model_options *options)
{
    drain_ns = options->drain_ns;
    atomic_store(&limit_ns, UINT64_MAX);
    atomic_store(&stopping, false);
    if (weir__readable(options->stop_fd))
        weir__stop_begin();
}

void weir__stop_begin(void)
{
    uint64_t none = UINT64_MAX;
    atomic_compare_exchange_strong(&limit_ns, &none, weir__now_ns() + drain_ns);
    atomic_store(&stopping, true);
}

bool weir__stopping(void)
{
    return atomic_load_explicit(&stopping, memory_order_relaxed);
}

uint64_t weir__stop_left_ns(void)
{
    uint64_t limit = atomic_load(&limit_ns);
    if (limit == UINT64_MAX)
        return UINT64_MAX;
    uint64_t now = weir__now_ns();
    return now < limit ? limit - now : 0;
}

static void tick(int number)
{
    (void)number;
}

void weir__stop_interrupts(void)
{
    struct sigaction action = {.sa_handler = tick}; /* no SA_RESTART: that is its use */
    struct itimerval ticks = {.it_interval.tv_usec = TICK_US, .it_value.tv_usec = TICK_US};
    weir__stop_begin();
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &ticks, NULL);
}
