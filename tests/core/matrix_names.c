/* The matrix: names, where a server of our own says when. See matrix.h. */
#include "matrix.h"

#include <poll.h>

#include <weir/dial.h>

#include "dns.h"

static struct dns dns;
static const char *name;
static bool asked;

static void resolve_set_up(const struct matrix_cell *cell)
{
    dns_open(&dns);
    struct weir_resolver_options options = {
        .servers = dns.servers, .try_ns = PEER_SECONDS * WEIR_SECOND, .tries = 1};
    check_int(weir_resolver_set(weir_loop_self(), &options), ==, 0);
    name = cell->fails ? "fail.weir.test" : "v4.weir.test";
    asked = false;
}

static int64_t resolve_call(uint64_t deadline_ns)
{
    struct weir_address address;
    asked = true;
    int count = weir_resolve(name, 80, AF_INET, &address, 1, deadline_ns);
    if (count > 0)
        check_int(ntohl(address.v4.sin_addr.s_addr), ==, INADDR_LOOPBACK);
    return count;
}

/* The question has been sent when the call waits. There is no answer before it. */
static void resolve_answer(void)
{
    if (asked)
        dns_answer(&dns);
}

static void answer_all(void *argument)
{
    while (weir_poll(weir_loop_self(), dns.udp, POLLIN, WEIR_FOREVER) > 0)
        dns_answer(&dns);
}

/* A lookup that was given up does not stand in the way of the next. */
static void resolve_after(const struct matrix_cell *cell)
{
    struct weir_task *server;
    name = "v4.weir.test";
    check_int(weir_spawn(weir_loop_self(), &server, answer_all, NULL), ==, 0);
    check_int(resolve_call(WEIR_FOREVER), ==, 1);
    weir_task_cancel(server);
    check_int(weir_join(server, WEIR_FOREVER), ==, 0);
}

static void resolve_tear_down(void)
{
    dns_close(&dns);
}

MATRIX_ROW(resolve) = {
    .name = "weir_resolve",
    .set_up = resolve_set_up,
    .call = resolve_call,
    .complete = resolve_answer,
    .result = 1,
    .fail = resolve_answer,
    .error = -EAGAIN,
    .after = resolve_after,
    .tear_down = resolve_tear_down,
};
