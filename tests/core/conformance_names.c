/* Conformance: names, looked up by c-ares at a server of our own. */
#include "conformance.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "dns.h"

static struct dns dns;
static struct weir_resolver_options resolver;

static void with_server(weir_task_fn *fn)
{
    dns_start(&dns);
    conf_run(NULL, fn, NULL);
    dns_stop(&dns);
}

/* In a task, first. */
static void use_server(unsigned lookups)
{
    resolver = (struct weir_resolver_options){
        .servers = dns.servers, .lookups = lookups, .try_ns = 30 * WEIR_SECOND};
    check_int(weir_resolver_set(weir_loop_self(), &resolver), ==, 0);
}

static int find(const char *host, int family, struct weir_address *addresses, unsigned most)
{
    return weir_resolve(host, 80, family, addresses, most, WEIR_FOREVER);
}

static void check_v4(const struct weir_address *address, uint32_t expected)
{
    check_int(address->any.sa_family, ==, AF_INET);
    check_int(address->bytes, ==, sizeof address->v4);
    check_int(ntohl(address->v4.sin_addr.s_addr), ==, expected);
    check_int(ntohs(address->v4.sin_port), ==, 80);
}

static void check_v6_loopback(const struct weir_address *address)
{
    check_int(address->any.sa_family, ==, AF_INET6);
    check_int(address->bytes, ==, sizeof address->v6);
    check(IN6_IS_ADDR_LOOPBACK(&address->v6.sin6_addr));
    check_int(ntohs(address->v6.sin6_port), ==, 80);
}

static void find_each(void *argument)
{
    struct weir_address addresses[32];
    use_server(0);
    check_int(find("v4.weir.test", AF_UNSPEC, addresses, 32), ==, 1);
    check_v4(addresses, INADDR_LOOPBACK);
    check_int(find("v6.weir.test", AF_UNSPEC, addresses, 32), ==, 1);
    check_v6_loopback(addresses);
    check_int(find("both.weir.test", AF_UNSPEC, addresses, 32), ==, 2);
    check_v6_loopback(&addresses[0]); /* RFC 6724: ::1 precedes 127.0.0.1 */
    check_v4(&addresses[1], INADDR_LOOPBACK);
    check_int(find("both.weir.test", AF_INET, addresses, 32), ==, 1);
    check_v4(addresses, INADDR_LOOPBACK);
    check_int(find("both.weir.test", AF_INET6, addresses, 32), ==, 1);
    check_v6_loopback(addresses);
    check_int(find("many.weir.test", AF_INET, addresses, 32), ==, 20);
    check_int(find("many.weir.test", AF_INET, addresses, 3), ==, 3);
    check_int(dns.streams, ==, 0);
}

CONFORMANCE(a_name_has_the_addresses_that_its_server_says)
{
    with_server(find_each);
}

static void find_nothing(void *argument)
{
    struct weir_address addresses[2];
    use_server(0);
    check_int(find("none.weir.test", AF_UNSPEC, addresses, 2), ==, -ENOENT);
    check_int(find("v4.weir.test", AF_INET6, addresses, 2), ==, -ENOENT);
    check_int(find("fail.weir.test", AF_INET, addresses, 2), ==, -EAGAIN);
    check_int(find("no..name", AF_INET, addresses, 2), ==, -EINVAL);
}

CONFORMANCE(a_name_without_addresses_is_told_from_a_server_that_fails)
{
    with_server(find_nothing);
}

static void find_by_stream(void *argument)
{
    struct weir_address address;
    use_server(0);
    for (unsigned i = 1; i <= 3; i++) {
        check_int(find("long.weir.test", AF_INET, &address, 1), ==, 1);
        check_v4(&address, INADDR_LOOPBACK);
    }
    check_int(dns.streams, >, 0);
}

CONFORMANCE(an_answer_that_was_cut_off_is_asked_for_by_TCP)
{
    with_server(find_by_stream);
}

static void find_late(void *argument)
{
    struct weir_address address;
    use_server(0);
    resolver.try_ns = 10 * WEIR_MILLISECOND;
    resolver.tries = 8;
    check_int(weir_resolver_set(weir_loop_self(), &resolver), ==, 0);
    check_int(find("late.weir.test", AF_INET, &address, 1), ==, 1);
    check_int(dns.datagrams, >=, 3);
    resolver.try_ns = WEIR_MILLISECOND;
    resolver.tries = 2;
    check_int(weir_resolver_set(weir_loop_self(), &resolver), ==, 0);
    check_int(find("silent.weir.test", AF_INET, &address, 1), ==, -EAGAIN);
}

CONFORMANCE(a_question_without_an_answer_is_asked_again)
{
    with_server(find_late);
}

static void find_too_long(void *argument)
{
    struct weir_address address;
    use_server(0);
    uint64_t deadline_ns = weir_now_ns() + 3 * WEIR_MILLISECOND;
    check_int(weir_resolve("silent.weir.test", 80, AF_UNSPEC, &address, 1, deadline_ns), ==,
              -ETIME);
    check_int(weir_now_ns(), >=, deadline_ns);
    check_int(weir_resolve("silent.weir.test", 80, AF_UNSPEC, &address, 1, 0), ==, -ETIME);
    check_int(weir_resolver_set(weir_loop_self(), &resolver), ==, 0); /* none is in flight */
    check_int(find("v4.weir.test", AF_INET, &address, 1), ==, 1);
}

CONFORMANCE(a_lookup_ends_at_its_deadline)
{
    with_server(find_too_long);
}

static void find_until_cancelled(void *argument)
{
    struct weir_address address;
    check_int(find("silent.weir.test", AF_UNSPEC, &address, 1), ==, -ECANCELED);
    check_int(find("v4.weir.test", AF_UNSPEC, &address, 1), ==, -ECANCELED);
    check_int(find("127.0.0.1", AF_UNSPEC, &address, 1), ==, -ECANCELED);
}

static void find_once(void *argument)
{
    struct weir_address address;
    check_int(find(argument, AF_INET, &address, 1), ==, 1);
    check_v4(&address, INADDR_LOOPBACK);
}

static void cancel_some(void *argument)
{
    struct weir_task *given_up[3], *kept;
    use_server(0);
    for (int i = 0; i < 3; i++)
        check_int(weir_spawn(weir_loop_self(), &given_up[i], find_until_cancelled, NULL), ==, 0);
    weir_task_cancel(given_up[0]);
    conf_settle();
    weir_task_cancel(given_up[1]);
    check_int(weir_spawn(weir_loop_self(), &kept, find_once, "v4.weir.test"), ==, 0);
    check_int(weir_join(kept, WEIR_FOREVER), ==, 0);
    check_int(weir_resolver_set(weir_loop_self(), &resolver), ==, -EBUSY);
    weir_task_cancel(given_up[2]);
    for (int i = 0; i < 3; i++)
        check_int(weir_join(given_up[i], WEIR_FOREVER), ==, 0);
    check_int(weir_resolver_set(weir_loop_self(), &resolver), ==, 0);
}

CONFORMANCE(a_cancelled_lookup_leaves_the_others_alone)
{
    with_server(cancel_some);
}

enum { MANY = 40 };

static void find_many(void *argument)
{
    struct weir_task *tasks[MANY], *given_up;
    use_server(3);
    for (unsigned i = 0; i < MANY; i++) {
        if (i == MANY / 2)
            check_int(weir_spawn(weir_loop_self(), &given_up, find_until_cancelled, NULL), ==, 0);
        check_int(weir_spawn(weir_loop_self(), &tasks[i], find_once,
                             i % 2 ? "v4.weir.test" : "long.weir.test"),
                  ==, 0);
    }
    check_int(weir_yield(), ==, 0); /* all are in line */
    weir_task_cancel(given_up);
    for (unsigned i = 0; i < MANY; i++)
        check_int(weir_join(tasks[i], WEIR_FOREVER), ==, 0);
    check_int(weir_join(given_up, WEIR_FOREVER), ==, 0);
    check_int(weir_resolver_set(weir_loop_self(), &resolver), ==, 0);
}

CONFORMANCE(more_lookups_than_may_be_in_flight_wait_in_line)
{
    with_server(find_many);
}

static void give_up_and_end(void *argument)
{
    use_server(0);
    for (int i = 0; i < 2; i++)
        check_int(weir_spawn(weir_loop_self(), NULL, find_until_cancelled, NULL), ==, 0);
    conf_settle();
    dns_await(&dns, 2);
    weir_loop_stop(weir_loop_self());
    weir_loop_stop_now(weir_loop_self());
}

CONFORMANCE(a_loop_that_stops_waits_for_no_name_server)
{
    with_server(give_up_and_end);
}
