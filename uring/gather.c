/*
 * Gathering: how many completions a wait asks for, and for how long.
 *
 * A server that wakes for each request pays for the waking; one that wakes for several pays once.
 * So under load a wait asks for about as many completions as the last ones brought, and settles for
 * what there is once it has lasted as long as serving that many takes.
 *
 * It follows the load by itself. Where completions come further apart than twice what one costs,
 * that is where the server would be idle for half the time, the batch shrinks from turn to turn
 * until a wait ends with the first completion, as it always does for one connection: its peer is
 * waiting for us. Where they come closer, it grows, but only so far that the peers that do not wait
 * for us have as much to do as we have with those that do, lest all of them wait for us and we for
 * them: a third of what they can send without us, where they are as fast as we are, and more where
 * they are slower. (Asking for half took a quarter of the throughput at 16 connections.) How much
 * they can send is found by trying: now and then one wait asks for what would allow a batch twice
 * as large, and waits longer. The ops held do not tell it: most connections may be quiet, and those
 * that come and go hold nothing while they are being made.
 *
 * No completion is held up for longer than 128 us, or 640 by a try: one wait in four thousand, or
 * in 64 while the load changes. And only where the server is busy most of the time.
 */
#include "uring/internal.h"

#include <time.h>

enum {
    NS_PER_S = 1000000000,
    GATHER_MOST_US = 128,
    TRY_MOST_US = 640,
    GATHER_MARGIN = 4, /* a quarter more than lately: so a batch grows while the load allows */
    GATHER_PART = 3,   /* of what peers can send, where they are as fast as we are */
    SLOWER_MOST = 2,   /* how much slower than us they may count: a pause is no slowness */
    WEIGH_EVERY = 64,  /* waits: reading the thread's CPU time is a system call */
    TRY_EVERY = 64,    /* weighings: too few requests meet a try to show in their p99.9 */
    COST_FIRST_NS = 4000,
};

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

struct weir__uring_gather_clocks weir__uring_gather_read_clocks(void)
{
    return (struct weir__uring_gather_clocks){
        .cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID),
        .wall_ns = clock_ns(CLOCK_MONOTONIC),
    };
}

void weir__uring_gather_init(struct weir__uring_gather *gather)
{
    *gather =
        (struct weir__uring_gather){.bound = 1, .cost_ns = COST_FIRST_NS, .pace_ns = COST_FIRST_NS};
}

/* What the load alone would have the next wait ask for. */
static uint32_t like_lately(const struct weir__uring_gather *gather)
{
    uint32_t recent = gather->recent;
    return (recent + recent / GATHER_MARGIN + WEIR__URING_RECENT_ONE / 4) / WEIR__URING_RECENT_ONE;
}

static uint32_t larger(const struct weir__uring_gather *gather)
{
    uint32_t most = WEIR__URING_GATHER_MOST;
    return 2 * gather->bound < most ? 2 * gather->bound : most;
}

void weir__uring_gather_weigh(struct weir__uring_gather *gather,
                              struct weir__uring_gather_clocks now)
{
    if (gather->completions > 0 && gather->weighed.wall_ns > 0) {
        gather->cost_ns = (now.cpu_ns - gather->weighed.cpu_ns) / gather->completions;
        gather->pace_ns = (now.wall_ns - gather->weighed.wall_ns) / gather->completions;
    }
    gather->weighed = now;
    gather->waits = gather->completions = 0;
    if (gather->until_try > 0)
        gather->until_try--;
    else
        gather->trying = like_lately(gather) > 1;
}

/* The largest batch that leaves enough to do to peers that can send so much. */
static uint32_t leaves_them_busy(const struct weir__uring_gather *gather, uint32_t supply)
{
    uint64_t ours = gather->cost_ns + 1, theirs = gather->pace_ns + 1;

    if (theirs > SLOWER_MOST * ours)
        theirs = SLOWER_MOST * ours;
    return (uint32_t)(supply * 2 * theirs / (GATHER_PART * (ours + theirs)));
}

/* A try may have met a pause of the peers: so it halves the bound at most, and where it moves the
 * bound as far as it may, the next one follows soon. */
static void take_try(struct weir__uring_gather *gather, uint32_t came)
{
    uint32_t least = gather->bound > 1 ? gather->bound / 2 : 1, most = larger(gather);
    uint32_t bound = leaves_them_busy(gather, came);

    bound = bound < least ? least : bound > most ? most : bound;
    bool as_far_as_it_may = bound != gather->bound && (bound == least || bound == most);
    gather->until_try = as_far_as_it_may ? 0 : TRY_EVERY;
    gather->bound = bound;
    gather->trying = false;
}

bool weir__uring_gather_learn(struct weir__uring_gather *gather, unsigned asked, uint32_t came)
{
    gather->recent = (gather->recent + came * WEIR__URING_RECENT_ONE) / 2;
    gather->completions += came;
    if (weir__unlikely(gather->trying && asked > 1))
        take_try(gather, came);
    return ++gather->waits >= WEIGH_EVERY;
}

unsigned weir__uring_gather_wanted(const struct weir__uring_gather *gather)
{
    uint32_t wanted = like_lately(gather);

    if (weir__unlikely(gather->trying))
        return larger(gather) * GATHER_PART;
    if (wanted > gather->bound)
        wanted = gather->bound;
    return wanted > 1 ? wanted : 1;
}

unsigned weir__uring_gather_us(const struct weir__uring_gather *gather, unsigned wanted)
{
    uint64_t us = gather->cost_ns * wanted / 1000, most = GATHER_MOST_US;

    if (gather->trying)
        most = TRY_MOST_US;
    return us < 1 ? 1 : (unsigned)(us > most ? most : us);
}
