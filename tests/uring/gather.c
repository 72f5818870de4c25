/* How many completions a wait asks for, and for how long. Mirrors uring/gather.c. */
#include "harness.h"

#include "uring/internal.h"

enum { US = 1000, ONE = WEIR__URING_RECENT_ONE, MOST = WEIR__URING_GATHER_MOST };

static struct weir__uring_gather gather;

static void set_up(void)
{
    weir__uring_gather_init(&gather);
}

TestSuite(gather, .init = set_up);

static unsigned wanted_after(unsigned recent)
{
    gather.recent = recent * ONE;
    return weir__uring_gather_wanted(&gather);
}

/* So much CPU and so much time for each completion. */
static void weigh(uint64_t cost_ns, uint64_t pace_ns)
{
    struct weir__uring_gather_clocks clocks = gather.weighed;

    if (gather.completions == 0 || clocks.wall_ns == 0) {
        clocks = (struct weir__uring_gather_clocks){1 * US, 1 * US};
        weir__uring_gather_weigh(&gather, clocks);
        gather.completions = 50;
    }
    clocks.cpu_ns += gather.completions * cost_ns;
    clocks.wall_ns += gather.completions * pace_ns;
    weir__uring_gather_weigh(&gather, clocks);
}

/* A server under load for so many weighings. Its peers send so many completions in a wait, if it
 * asks for them, and then wait for answers. Returns what it asks for in the end. */
static unsigned serve(unsigned weighings, unsigned supply, uint64_t cost_ns, uint64_t pace_ns)
{
    while (weighings > 0) {
        unsigned asked = weir__uring_gather_wanted(&gather);
        if (weir__uring_gather_learn(&gather, asked, asked < supply ? asked + 1 : supply)) {
            weigh(cost_ns, pace_ns);
            weighings--;
        }
    }
    gather.trying = false;
    return weir__uring_gather_wanted(&gather);
}

Test(gather, a_wait_asks_for_a_quarter_more_than_lately)
{
    gather.bound = MOST;
    cr_assert_eq(wanted_after(0), 1);
    cr_assert_eq(wanted_after(1), 1);
    cr_assert_eq(wanted_after(2), 2);
    cr_assert_eq(wanted_after(4), 5);
    cr_assert_eq(wanted_after(16), 20);
    cr_assert_eq(wanted_after(1000), MOST);
}

Test(gather, at_first_a_wait_ends_with_the_first_completion)
{
    cr_assert_eq(wanted_after(1000), 1);
}

Test(gather, one_connection_is_never_gathered_for)
{
    for (int waits = 0; waits < 10000; waits++) {
        cr_assert_eq(weir__uring_gather_wanted(&gather), 1);
        if (weir__uring_gather_learn(&gather, 1, 1))
            weigh(4 * US, 4 * US);
    }
}

Test(gather, waits_that_bring_less_shrink_the_batch_until_the_first_completion_ends_one)
{
    gather.bound = MOST;
    unsigned before = wanted_after(MOST);
    for (int waits = 0; before > 1; waits++) {
        weir__uring_gather_learn(&gather, 1, 1);
        unsigned wanted = weir__uring_gather_wanted(&gather);
        cr_assert_leq(wanted, before);
        cr_assert_lt(waits, 16);
        before = wanted;
    }
}

Test(gather, a_batch_grows_to_a_third_of_what_peers_as_fast_as_we_can_send)
{
    cr_assert_eq(serve(60, 30, 4 * US, 4 * US), 10);
    cr_assert_eq(serve(200, 1000, 4 * US, 4 * US), MOST, "there are more of them now");
    cr_assert_eq(serve(200, 12, 4 * US, 4 * US), 4, "and now fewer");
    cr_assert_eq(serve(200, 2, 4 * US, 4 * US), 1);
}

Test(gather, peers_slower_than_we_are_leave_room_for_a_larger_batch)
{
    cr_assert_eq(serve(60, 55, 4 * US, 4 * US), 18);
    cr_assert_eq(serve(200, 55, 4 * US, 8 * US), 24);
    cr_assert_eq(serve(200, 55, 4 * US, 8000 * US), 24, "a pause is no slowness");
}

Test(gather, one_pause_of_the_peers_halves_the_batch_and_no_more)
{
    serve(60, 1000, 4 * US, 4 * US);
    gather.trying = true;
    weir__uring_gather_learn(&gather, weir__uring_gather_wanted(&gather), 1);
    cr_assert_eq(wanted_after(1000), MOST / 2);
    cr_assert_eq(serve(2, 1000, 4 * US, 4 * US), MOST, "the next try comes soon");
}

Test(gather, one_flood_doubles_the_batch_and_no_more)
{
    gather.trying = true;
    weir__uring_gather_learn(&gather, weir__uring_gather_wanted(&gather), 1000);
    cr_assert_eq(wanted_after(1000), 2);
}

Test(gather, a_turn_that_did_not_wait_is_no_try)
{
    serve(60, 1000, 4 * US, 4 * US);
    gather.trying = true;
    weir__uring_gather_learn(&gather, 0, 1);
    cr_assert(gather.trying);
    cr_assert_eq(gather.bound, MOST);
}

Test(gather, a_wait_lasts_as_long_as_serving_what_it_gathers_takes)
{
    weigh(9 * US, 9 * US);
    cr_assert_eq(weir__uring_gather_us(&gather, 4), 36);
    weigh(2 * US, 9 * US);
    cr_assert_eq(weir__uring_gather_us(&gather, 4), 8);
}

Test(gather, a_wait_for_several_has_an_end_within_bounds)
{
    weigh(1000 * US, 1000 * US);
    cr_assert_eq(weir__uring_gather_us(&gather, MOST), 128);
    gather.trying = true;
    cr_assert_eq(weir__uring_gather_us(&gather, MOST), 640);
    weigh(0, 0);
    cr_assert_eq(weir__uring_gather_us(&gather, 2), 1, "0 would be no bound at all");
}

Test(gather, waits_that_bring_nothing_leave_the_cost_as_it_was)
{
    weigh(9 * US, 9 * US);
    weir__uring_gather_weigh(&gather, (struct weir__uring_gather_clocks){90000 * US, 90000 * US});
    cr_assert_eq(weir__uring_gather_us(&gather, 4), 36);
}

Test(gather, the_clocks_are_the_threads_own_time_and_the_worlds)
{
    struct weir__uring_gather_clocks before = weir__uring_gather_read_clocks();
    usleep(20000);
    struct weir__uring_gather_clocks after = weir__uring_gather_read_clocks();
    cr_assert_geq(after.wall_ns - before.wall_ns, 20000 * US);
    cr_assert_lt(after.cpu_ns - before.cpu_ns, 20000 * US, "asleep");
}
