/*
 * The pool's clock and counters: feeds the trim policy, obeys it, and reports. Called by the
 * loop once a turn; most calls end at the first compare.
 *
 * What enters the window is the PEAK of live coroutines since the last sample, not the count at
 * the instant. A burst that begins and ends between two samples would otherwise never be seen,
 * its stacks would be released, and the next burst would fault them all in again.
 */
#include "internal.h"

#include WEIR_CORO_TRACE

static size_t idle_of(const struct weir__stacks *s)
{
    return s->n_spare - s->n_released;
}

/* The window moves on by `periods`. In all but the last nothing ran (the loop was asleep), so the
 * count was what the last tick left. */
static void sample(struct weir__stacks *s, uint64_t periods)
{
    weir__trim_sample(&s->trim, s->live_at_tick, periods - 1);
    weir__trim_sample(&s->trim, s->live_peak_sample, 1);
    if (s->live_peak_sample > s->live_peak)
        s->live_peak = s->live_peak_sample;
    s->live_peak_sample = s->live;
    s->live_at_tick = s->live;
}

/* How many resident stacks, lent ones included, the policy wants. */
static size_t target_of(const struct weir__stacks *s)
{
    size_t target = weir__trim_target(&s->trim);
    size_t least = s->live + s->pool->options.trim_keep;
    return target > least ? target : least;
}

/* Gives back what of the step's `*room` these stacks need. Returns whether they need more. */
static bool step(struct weir__stacks *s, size_t *room)
{
    size_t target = target_of(s);
    size_t resident = s->live + idle_of(s);
    if (resident <= target)
        return false;
    size_t excess = resident - target;
    size_t most = excess < *room ? excess : *room;
    size_t released = weir__stacks_release(s, most);
    *room -= released;
    s->trim_steps += released > 0;
    weir__trace_trim(s->pool, released, resident - released);
    if (released < most) {
        s->pool->options.trim_off = true; /* locked in memory (mlockall): no use to try again */
        return false;
    }
    return excess > released;
}

/*
 * How many periods until the next call is worth it. With more to release at once: one. With idle
 * stacks that only the window still keeps: as many as it takes before its percentile can fall,
 * for samples missed are made up. Else none, ever: 0.
 */
static uint64_t patience(const struct weir__stacks *s, bool more)
{
    const struct weir_coro_options *o = &s->pool->options;
    if (more)
        return 1;
    if (idle_of(s) <= o->trim_keep)
        return 0;
    uint64_t periods = (uint64_t)(o->trim_window * (100 - o->trim_percentile) / 100);
    return periods > 1 ? periods : 1;
}

/* Between samples: the loop may be about to sleep, and this is what then stays alive. Stacks may
 * have become idle since the last sample found nothing to trim. */
static uint64_t between(struct weir_coro_pool *pool)
{
    bool idle = false;
    for (unsigned i = 0; i < pool->n_sizes; i++) {
        struct weir__stacks *s = &pool->sizes[i];
        s->live_at_tick = s->live;
        idle |= idle_of(s) > pool->options.trim_keep;
    }
    return pool->wake_ns == UINT64_MAX && idle ? pool->next_ns : pool->wake_ns;
}

uint64_t weir_coro_pool_tick(struct weir_coro_pool *pool, uint64_t now_ns)
{
    const struct weir_coro_options *o = &pool->options;
    if (o->trim_off)
        return UINT64_MAX;
    if (weir__likely(now_ns < pool->next_ns))
        return between(pool);
    assert(pool->thread == &weir__thread);
    uint64_t periods = pool->next_ns == 0 ? 1 : (now_ns - pool->next_ns) / o->trim_sample_ns + 1;
    uint64_t soonest = 0;
    size_t room = o->trim_step;
    for (unsigned i = 0; i < pool->n_sizes; i++) {
        struct weir__stacks *s = &pool->sizes[i];
        sample(s, periods);
        uint64_t wait = patience(s, step(s, &room));
        if (wait != 0 && (soonest == 0 || wait < soonest))
            soonest = wait;
    }
    pool->next_ns = now_ns + o->trim_sample_ns;
    pool->wake_ns = soonest == 0 ? UINT64_MAX : now_ns + soonest * o->trim_sample_ns;
    return pool->wake_ns;
}

void weir_coro_pool_stats(const struct weir_coro_pool *pool, struct weir_coro_stats *stats)
{
    *stats = (struct weir_coro_stats){.borrowed = pool->borrowed};
    for (unsigned i = 0; i < pool->n_sizes; i++) {
        const struct weir__stacks *s = &pool->sizes[i];
        size_t peak = s->live_peak > s->live_peak_sample ? s->live_peak : s->live_peak_sample;
        stats->live += s->live;
        stats->live_peak += peak;
        stats->idle += idle_of(s);
        stats->released += s->n_released;
        stats->stacks += s->n_carved;
        stats->resident_bytes += (s->live + idle_of(s)) * s->stack_bytes;
        stats->created += s->created;
        stats->cold_starts += s->cold_starts;
        stats->trimmed += s->trimmed;
        stats->trim_steps += s->trim_steps;
        stats->guards_madvise += s->guards[WEIR_CORO_GUARD_MADVISE];
        stats->guards_mprotect += s->guards[WEIR_CORO_GUARD_MPROTECT];
        stats->guards_canary += s->guards[WEIR_CORO_GUARD_CANARY];
    }
    stats->live -= pool->borrowed;
    stats->trim_target = target_of(&pool->sizes[0]);
}
