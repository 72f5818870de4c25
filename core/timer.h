/*
 * Timers: a hierarchical timing wheel (Varghese and Lauck, 1987), so that arming and cancelling are
 * a few stores whatever their number: almost every timer of a server is a deadline that is
 * cancelled.
 *
 * Used by the loop for deadlines, sleeps and its own housekeeping. One thread. A timer never fires
 * early, and at most one tick (65.5 us) plus the loop's own delay late.
 */
#ifndef WEIR_CORE_TIMER_H
#define WEIR_CORE_TIMER_H

#include <stdbool.h>
#include <stdint.h>

#include <weir/private.h> /* struct weir__timer */

enum {
    WEIR__TICK_SHIFT = 16, /* a tick is 2^16 ns */
    WEIR__WHEEL_BITS = 6,
    WEIR__WHEEL_SLOTS = 1 << WEIR__WHEEL_BITS,
    WEIR__WHEEL_LEVELS = (64 - WEIR__TICK_SHIFT) / WEIR__WHEEL_BITS, /* 8: all 48 bits of ticks */
};

struct weir__wheel {
    uint64_t now_ticks;
    uint64_t armed;
    uint64_t occupied[WEIR__WHEEL_LEVELS];                                /* bit per slot */
    struct weir__timer slots[WEIR__WHEEL_LEVELS * WEIR__WHEEL_SLOTS + 1]; /* heads; the last: due */
};

void weir__wheel_init(struct weir__wheel *wheel, uint64_t now_ns);
/* `timer` must not be armed; `fire` is set. A deadline in the past fires at the next advance. */
void weir__timer_arm(struct weir__wheel *wheel, struct weir__timer *timer, uint64_t deadline_ns);
/* Of a timer that is not armed: no effect. */
void weir__timer_disarm(struct weir__wheel *wheel, struct weir__timer *timer);
static inline bool weir__timer_armed(const struct weir__timer *timer)
{
    return timer->next;
}
/* When advance() is next worth calling, at or before the earliest deadline's tick; UINT64_MAX:
 * never. */
uint64_t weir__wheel_next_ns(const struct weir__wheel *wheel);
/* Fires all that is due at now_ns; how many. Time that goes backwards counts as standing still. */
unsigned weir__wheel_advance(struct weir__wheel *wheel, uint64_t now_ns);

#endif
