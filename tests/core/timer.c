/* The timing wheel, against a model that looks at every timer. */
#include <criterion/criterion.h>

#include <stdlib.h>

#include "core/timer.h"

static uint64_t state = 88172645463325252u;

static uint64_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* Any length of time, short and long ones equally often. */
static uint64_t random_span_ns(void)
{
    return next_random() >> (20 + next_random() % 44);
}

struct model_timer {
    struct weir__timer timer;
    bool armed;
    uint64_t armed_deadline_ns;
};

static uint64_t model_now_ns;
static unsigned fired_count;

static void fire(struct weir__timer *timer)
{
    struct model_timer *model = (struct model_timer *)timer;
    cr_assert(model->armed, "fired without being armed");
    cr_assert(model->armed_deadline_ns <= model_now_ns, "fired early");
    cr_assert_not(weir__timer_armed(timer));
    model->armed = false;
    fired_count++;
}

enum { TIMERS = 500, TICK_NS = 1 << WEIR__TICK_SHIFT };

static struct model_timer timers[TIMERS];

static void arm(struct weir__wheel *wheel, struct model_timer *model, uint64_t deadline_ns)
{
    model->timer.fire = fire;
    model->armed = true;
    model->armed_deadline_ns = deadline_ns;
    weir__timer_arm(wheel, &model->timer, deadline_ns);
}

/* What the wheel says against what the model knows. */
static void compare(const struct weir__wheel *wheel)
{
    uint64_t armed = 0, earliest_ns = UINT64_MAX;
    for (int i = 0; i < TIMERS; i++) {
        if (!timers[i].armed)
            continue;
        armed++;
        if (timers[i].armed_deadline_ns < earliest_ns)
            earliest_ns = timers[i].armed_deadline_ns;
        cr_assert(timers[i].armed_deadline_ns + TICK_NS > model_now_ns,
                  "a timer that was due more than a tick ago has not fired");
    }
    cr_assert_eq(wheel->armed, armed);
    uint64_t next_ns = weir__wheel_next_ns(wheel);
    if (!armed)
        cr_assert_eq(next_ns, UINT64_MAX);
    else
        cr_assert(next_ns < UINT64_MAX && next_ns <= earliest_ns + TICK_NS,
                  "next at %llu, but one is due at %llu", (unsigned long long)next_ns,
                  (unsigned long long)earliest_ns);
}

Test(timer, a_random_life_agrees_with_the_model, .timeout = 100)
{
    struct weir__wheel wheel;
    model_now_ns = next_random() >> 20;
    weir__wheel_init(&wheel, model_now_ns);
    for (unsigned step = 0; step < 40000; step++) {
        struct model_timer *model = &timers[next_random() % TIMERS];
        if (next_random() % 3 == 0) {
            weir__timer_disarm(&wheel, &model->timer);
            model->armed = false;
        } else if (!model->armed) {
            bool past = next_random() % 16 == 0;
            uint64_t span_ns = random_span_ns();
            uint64_t past_ns = span_ns < model_now_ns ? model_now_ns - span_ns : 0;
            arm(&wheel, model, past ? past_ns : model_now_ns + span_ns);
        }
        if (next_random() % 4)
            continue;
        /* To the next deadline, or some way; one look in a while at all of them. */
        uint64_t next_ns = weir__wheel_next_ns(&wheel);
        if (next_random() % 2 && next_ns != UINT64_MAX && next_ns > model_now_ns)
            model_now_ns = next_ns;
        else
            model_now_ns += random_span_ns() >> 12;
        weir__wheel_advance(&wheel, model_now_ns);
        compare(&wheel);
    }
    cr_assert(fired_count > 1000, "only %u fired", fired_count);
}

Test(timer, going_to_next_ns_again_and_again_fires_everything_in_few_steps)
{
    struct weir__wheel wheel;
    weir__wheel_init(&wheel, 12345);
    for (int i = 0; i < TIMERS; i++)
        arm(&wheel, &timers[i], 12345 + (next_random() >> 1));
    unsigned steps = 0;
    while (wheel.armed) {
        model_now_ns = weir__wheel_next_ns(&wheel);
        cr_assert_neq(model_now_ns, UINT64_MAX);
        weir__wheel_advance(&wheel, model_now_ns);
        cr_assert(++steps <= TIMERS * WEIR__WHEEL_LEVELS, "it wakes for nothing");
    }
    cr_assert_eq(fired_count, TIMERS);
}

Test(timer, a_million_are_armed_and_disarmed)
{
    enum { MANY = 1000000 };
    static struct weir__wheel wheel;
    struct model_timer *many = calloc(MANY, sizeof *many);
    cr_assert(many);
    weir__wheel_init(&wheel, 0);
    for (int i = 0; i < MANY; i++)
        arm(&wheel, &many[i], random_span_ns());
    cr_assert_eq(wheel.armed, MANY);
    for (int i = 0; i < MANY; i++)
        weir__timer_disarm(&wheel, &many[i].timer);
    cr_assert_eq(wheel.armed, 0);
    cr_assert_eq(weir__wheel_next_ns(&wheel), UINT64_MAX);
    model_now_ns = UINT64_MAX;
    cr_assert_eq(weir__wheel_advance(&wheel, UINT64_MAX), 0);
    free(many);
}

/* ---- fire() that touches other timers -------------------------------------------------------- */

static struct weir__wheel shared_wheel;
static struct weir__timer left, right;
static unsigned left_fired, right_fired;

static void fire_left(struct weir__timer *timer)
{
    left_fired++;
    weir__timer_disarm(&shared_wheel, &right);
}

static void fire_right(struct weir__timer *timer)
{
    right_fired++;
    weir__timer_disarm(&shared_wheel, &left);
}

Test(timer, one_that_fires_may_disarm_another_that_is_due)
{
    weir__wheel_init(&shared_wheel, 0);
    left.fire = fire_left;
    right.fire = fire_right;
    for (unsigned i = 1; i <= 20; i++) {
        uint64_t now_ns = (uint64_t)i * 1000000000;
        weir__timer_arm(&shared_wheel, &left, now_ns - 1000 * i);
        weir__timer_arm(&shared_wheel, &right, now_ns - 1000);
        cr_assert_eq(weir__wheel_advance(&shared_wheel, now_ns + TICK_NS), 1);
        cr_assert_eq(left_fired + right_fired, i);
        cr_assert_eq(shared_wheel.armed, 0);
    }
}

static void fire_again(struct weir__timer *timer)
{
    left_fired++;
    weir__timer_arm(&shared_wheel, timer,
                    0); /* in the past: at the next advance, not in this one */
}

Test(timer, one_that_arms_itself_in_the_past_fires_once_an_advance)
{
    weir__wheel_init(&shared_wheel, 1000000000);
    left.fire = fire_again;
    weir__timer_arm(&shared_wheel, &left, 0);
    cr_assert_eq(weir__wheel_next_ns(&shared_wheel), 0);
    for (unsigned i = 1; i <= 5; i++) {
        cr_assert_eq(weir__wheel_advance(&shared_wheel, 1000000000), 1);
        cr_assert_eq(left_fired, i);
    }
}

Test(timer, time_that_goes_back_stands_still)
{
    weir__wheel_init(&shared_wheel, 5000000000);
    left.fire = fire_left;
    weir__timer_arm(&shared_wheel, &left, 6000000000);
    cr_assert_eq(weir__wheel_advance(&shared_wheel, 1000000000), 0);
    cr_assert_eq(weir__wheel_advance(&shared_wheel, 5999000000), 0);
    cr_assert_eq(weir__wheel_advance(&shared_wheel, 6000000000 + TICK_NS), 1);
}

Test(timer, the_latest_deadlines_there_are_stay_in_the_wheel)
{
    weir__wheel_init(&shared_wheel, 1000000000);
    left.fire = fire_again;
    for (uint64_t before = 1; before <= 1u << 17; before *= 2) {
        weir__timer_arm(&shared_wheel, &left, UINT64_MAX - before);
        cr_assert_lt(left.slot, WEIR__WHEEL_LEVELS * WEIR__WHEEL_SLOTS);
        cr_assert_gt(weir__wheel_next_ns(&shared_wheel), 1000000000);
        weir__timer_disarm(&shared_wheel, &left);
        cr_assert_eq(weir__wheel_next_ns(&shared_wheel), UINT64_MAX);
    }
}
