/* What a timer costs: armed and cancelled among a million others, and fired. */
#include "core/timer.h"

#include <assert.h>

#include "bench/micro/micro.h"

enum { STANDING = 1000000, BATCH = 100000 };

static uint64_t fired;

static void fire(struct weir__timer *timer)
{
    (void)timer;
    fired++;
}

/* Deadlines as servers have them: seconds to a minute ahead. */
static uint64_t deadline(uint64_t now_ns, uint32_t *random)
{
    *random = *random * 1664525u + 1013904223u;
    return now_ns + UINT64_C(1000000000) + (uint64_t)(*random >> 8) * 3500;
}

int main(void)
{
    static struct weir__wheel wheel;
    struct weir__timer *standing = calloc(STANDING, sizeof *standing);
    struct weir__timer *batch = calloc(BATCH, sizeof *batch);
    double arm[MICRO_ROUNDS], disarm[MICRO_ROUNDS], expire[MICRO_ROUNDS];
    uint64_t now_ns = micro_now_ns();
    uint32_t random = 1;

    assert(standing && batch);
    weir__wheel_init(&wheel, now_ns);
    for (size_t i = 0; i < STANDING; i++) {
        standing[i].fire = fire;
        weir__timer_arm(&wheel, &standing[i], deadline(now_ns, &random) + UINT64_C(3600000000000));
    }
    for (size_t i = 0; i < BATCH; i++)
        batch[i].fire = fire;
    for (int round = 0; round < MICRO_ROUNDS; round++) {
        uint64_t t0 = micro_now_ns();
        for (size_t i = 0; i < BATCH; i++)
            weir__timer_arm(&wheel, &batch[i], deadline(now_ns, &random));
        uint64_t t1 = micro_now_ns();
        for (size_t i = 0; i < BATCH; i++)
            weir__timer_disarm(&wheel, &batch[i]);
        uint64_t t2 = micro_now_ns();
        for (size_t i = 0; i < BATCH; i++)
            weir__timer_arm(&wheel, &batch[i], deadline(now_ns, &random));
        uint64_t before = fired, t3 = micro_now_ns();
        for (int step = 0; step < 70; step++)
            weir__wheel_advance(&wheel, now_ns += UINT64_C(1000000000));
        uint64_t t4 = micro_now_ns();
        assert(fired - before == BATCH);
        arm[round] = (double)(t1 - t0) / BATCH;
        disarm[round] = (double)(t2 - t1) / BATCH;
        expire[round] = (double)(t4 - t3) / BATCH;
    }
    micro_print("timer: arm, 1,000,000 standing", "ns", arm);
    micro_print("timer: cancel", "ns", disarm);
    micro_print("timer: cascade and fire", "ns", expire);
    free(standing);
    free(batch);
    return 0;
}
