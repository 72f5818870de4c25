/* The timing wheel; see core/timer.h. A timer hangs in the level of the highest base-64 digit in
 * which its tick differs from now, so every occupied slot of a level lies ahead of now's digit, and
 * the first slot of the lowest occupied level is the earliest. */
#include "core/timer.h"

#include <assert.h>
#include <stddef.h>

enum { DUE_SLOT = WEIR__WHEEL_LEVELS * WEIR__WHEEL_SLOTS, SLOT_MASK = WEIR__WHEEL_SLOTS - 1 };

static uint64_t ticks_at_or_after(uint64_t deadline_ns)
{
    uint64_t ticks = deadline_ns >> WEIR__TICK_SHIFT;
    uint64_t part = deadline_ns & ((1u << WEIR__TICK_SHIFT) - 1);
    bool last = ticks == UINT64_MAX >> WEIR__TICK_SHIFT; /* there is no tick after it */
    return ticks + (part != 0 && !last);
}

static void list_init(struct weir__timer *head)
{
    head->next = head->prev = head;
}

static void list_add(struct weir__timer *head, struct weir__timer *timer)
{
    timer->prev = head->prev;
    timer->next = head;
    head->prev->next = timer;
    head->prev = timer;
}

static void list_del(struct weir__timer *timer)
{
    timer->prev->next = timer->next;
    timer->next->prev = timer->prev;
    timer->next = timer->prev = NULL;
}

/* Moves all of `from` to the end of `to`. */
static void list_splice(struct weir__timer *to, struct weir__timer *from)
{
    if (from->next == from)
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

void weir__wheel_init(struct weir__wheel *wheel, uint64_t now_ns)
{
    *wheel = (struct weir__wheel){.now_ticks = now_ns >> WEIR__TICK_SHIFT};
    for (size_t i = 0; i <= DUE_SLOT; i++)
        list_init(&wheel->slots[i]);
}

static void place(struct weir__wheel *wheel, struct weir__timer *timer)
{
    uint64_t ticks = ticks_at_or_after(timer->deadline_ns);
    if (ticks <= wheel->now_ticks) {
        timer->slot = DUE_SLOT;
    } else {
        unsigned level =
            (63 - (unsigned)__builtin_clzll(ticks ^ wheel->now_ticks)) / WEIR__WHEEL_BITS;
        unsigned digit = ticks >> (level * WEIR__WHEEL_BITS) & SLOT_MASK;
        timer->slot = (uint16_t)(level * WEIR__WHEEL_SLOTS + digit);
        wheel->occupied[level] |= UINT64_C(1) << digit;
    }
    list_add(&wheel->slots[timer->slot], timer);
}

void weir__timer_arm(struct weir__wheel *wheel, struct weir__timer *timer, uint64_t deadline_ns)
{
    assert(!weir__timer_armed(timer) && timer->fire);
    timer->deadline_ns = deadline_ns;
    wheel->armed++;
    place(wheel, timer);
}

void weir__timer_disarm(struct weir__wheel *wheel, struct weir__timer *timer)
{
    if (!weir__timer_armed(timer))
        return;
    wheel->armed--;
    list_del(timer);
    /* While advance() fires, timers hang in its own list, and the slot they name is empty. */
    struct weir__timer *head = &wheel->slots[timer->slot];
    if (timer->slot != DUE_SLOT && head->next == head)
        wheel->occupied[timer->slot / WEIR__WHEEL_SLOTS] &=
            ~(UINT64_C(1) << (timer->slot % WEIR__WHEEL_SLOTS));
}

uint64_t weir__wheel_next_ns(const struct weir__wheel *wheel)
{
    if (wheel->slots[DUE_SLOT].next != &wheel->slots[DUE_SLOT])
        return 0;
    for (unsigned level = 0; level < WEIR__WHEEL_LEVELS; level++) {
        if (!wheel->occupied[level])
            continue;
        unsigned shift = level * WEIR__WHEEL_BITS;
        uint64_t digit = (uint64_t)__builtin_ctzll(wheel->occupied[level]);
        uint64_t above = wheel->now_ticks >> shift & ~(uint64_t)SLOT_MASK;
        return (above | digit) << shift << WEIR__TICK_SHIFT;
    }
    return UINT64_MAX;
}

/* The slots of a level that lie in (from, to], as bits. */
static uint64_t slots_passed(uint64_t from, uint64_t to)
{
    uint64_t count = to - from;
    if (count >= WEIR__WHEEL_SLOTS)
        return UINT64_MAX;
    uint64_t bits = (UINT64_C(1) << count) - 1;
    unsigned turn = (from + 1) & SLOT_MASK;
    return turn ? bits << turn | bits >> (WEIR__WHEEL_SLOTS - turn) : bits;
}

static void collect_passed(struct weir__wheel *wheel, uint64_t to_ticks, struct weir__timer *passed)
{
    list_splice(passed, &wheel->slots[DUE_SLOT]);
    for (unsigned level = 0; level < WEIR__WHEEL_LEVELS; level++) {
        unsigned shift = level * WEIR__WHEEL_BITS;
        uint64_t from = wheel->now_ticks >> shift, to = to_ticks >> shift;
        if (from == to)
            break;
        uint64_t bits = slots_passed(from, to) & wheel->occupied[level];
        wheel->occupied[level] &= ~bits;
        for (; bits; bits &= bits - 1) {
            unsigned digit = (unsigned)__builtin_ctzll(bits);
            list_splice(passed, &wheel->slots[level * WEIR__WHEEL_SLOTS + digit]);
        }
    }
    wheel->now_ticks = to_ticks;
}

unsigned weir__wheel_advance(struct weir__wheel *wheel, uint64_t now_ns)
{
    uint64_t to_ticks = now_ns >> WEIR__TICK_SHIFT;
    struct weir__timer passed, *timer;
    unsigned fired = 0;

    if (to_ticks < wheel->now_ticks)
        to_ticks = wheel->now_ticks;
    list_init(&passed);
    collect_passed(wheel, to_ticks, &passed);
    /* One at a time from the front: fire() may disarm any other, also one of this list. */
    while ((timer = passed.next) != &passed) {
        list_del(timer);
        if (ticks_at_or_after(timer->deadline_ns) > to_ticks) {
            place(wheel, timer);
            continue;
        }
        wheel->armed--;
        fired++;
        timer->fire(timer);
    }
    return fired;
}
