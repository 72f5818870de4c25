/* Conformance: addresses that need no name server, and connecting to the first that answers. */
#include "conformance.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>

/* ---- addresses ------------------------------------------------------------------------------- */

static int find(const char *host, int family, struct weir_address *address)
{
    return weir_resolve(host, 443, family, address, 1, WEIR_FOREVER);
}

static void find_numeric(void *argument)
{
    struct weir_address address;
    char text[INET6_ADDRSTRLEN];
    check_int(find("192.0.2.7", AF_UNSPEC, &address), ==, 1);
    check_int(address.any.sa_family, ==, AF_INET);
    check_int(address.bytes, ==, sizeof(struct sockaddr_in));
    check_int(ntohs(address.v4.sin_port), ==, 443);
    check(!strcmp(inet_ntop(AF_INET, &address.v4.sin_addr, text, sizeof text), "192.0.2.7"));
    check_int(find("fe80::a%lo", AF_INET6, &address), ==, 1);
    check_int(address.bytes, ==, sizeof(struct sockaddr_in6));
    check_int(ntohs(address.v6.sin6_port), ==, 443);
    check_int(address.v6.sin6_scope_id, ==, if_nametoindex("lo"));
    check(!strcmp(inet_ntop(AF_INET6, &address.v6.sin6_addr, text, sizeof text), "fe80::a"));
    check_int(find("fe80::a%7", AF_UNSPEC, &address), ==, 1);
    check_int(address.v6.sin6_scope_id, ==, 7);
}

CONFORMANCE(a_numeric_address_is_taken_as_it_is)
{
    conf_run(NULL, find_numeric, NULL);
}

static void find_no_name(void *argument)
{
    struct weir_address address;
    char long_name[300] = "";
    memset(long_name, 'a', sizeof long_name - 1);
    check_int(find("192.0.2.7", AF_INET6, &address), ==, -ENOENT);
    check_int(find("::1", AF_INET, &address), ==, -ENOENT);
    check_int(find("", AF_UNSPEC, &address), ==, -EINVAL);
    check_int(find(long_name, AF_UNSPEC, &address), ==, -EINVAL);
}

CONFORMANCE(what_cannot_be_a_name_is_not_looked_up)
{
    conf_run(NULL, find_no_name, NULL);
}

static void find_localhost(void *argument)
{
    struct weir_address address;
    check_int(find("localhost", AF_INET, &address), ==, 1);
    check_int(address.any.sa_family, ==, AF_INET);
    check_int(ntohl(address.v4.sin_addr.s_addr) >> 24, ==, 127);
    check_int(ntohs(address.v4.sin_port), ==, 443);
}

CONFORMANCE(names_of_the_hosts_file_need_no_server)
{
    conf_run(NULL, find_localhost, NULL);
}

/* ---- connections ----------------------------------------------------------------------------- */

/* Where nobody answers, where somebody does, and where nobody listens. */
struct places {
    struct peer_full full;
    struct sockaddr_storage open, shut;
    int listening;
};

static void places_open(struct places *places)
{
    socklen_t bytes;
    peer_fill(&places->full);
    places->listening = peer_listen(&places->open, &bytes, 16, 0);
    peer_close(peer_listen(&places->shut, &bytes, 1, 0));
}

static void places_close(struct places *places)
{
    peer_unfill(&places->full);
    peer_close(places->listening);
}

/* 's'ilent, 'o'pen, 'r'efusing, 'u'nreachable: this machine has no such address. */
static unsigned addresses_of(const struct places *places, const char *pattern,
                             struct weir_address *addresses)
{
    unsigned count = 0;
    for (; pattern[count]; count++) {
        const void *from = pattern[count] == 's'   ? &places->full.address
                           : pattern[count] == 'o' ? &places->open
                                                   : &places->shut;
        addresses[count] = (struct weir_address){.bytes = sizeof addresses->v4};
        memcpy(&addresses[count].v4, from, sizeof addresses->v4);
        if (pattern[count] == 'u')
            addresses[count].v4.sin_family = AF_IRDA;
    }
    return count;
}

static int dial(const struct places *places, const char *pattern, struct weir_conn **conn,
                uint64_t delay_ns, uint64_t deadline_ns)
{
    struct weir_address addresses[16];
    unsigned count = addresses_of(places, pattern, addresses);
    return weir_dial_addresses(conn, addresses, count, delay_ns, deadline_ns);
}

/* It leads to `open`, and works; nothing else is left. */
static void check_won(const struct places *places, struct weir_conn *conn)
{
    struct sockaddr_in peer;
    socklen_t bytes = sizeof peer;
    struct weir_loop_stats stats;
    struct weir_buf buf = {0};
    check_int(getpeername(weir_conn_fd(conn), (struct sockaddr *)&peer, &bytes), ==, 0);
    check_int(peer.sin_port, ==, ((const struct sockaddr_in *)&places->open)->sin_port);
    int fd = accept4(places->listening, NULL, NULL, SOCK_CLOEXEC);
    check_int(fd, >=, 0);
    peer_send(fd, "hello", 5);
    check_int(weir_recv(conn, &buf), ==, 5);
    check_int(weir_recv_until(conn, &buf, 0), ==, -ETIME);
    conf_settle();
    weir_loop_stats(weir_loop_self(), &stats);
    check_int(stats.conns, ==, 1);
    check_int(stats.tasks, ==, 1);
    weir_conn_close(conn);
    peer_close(fd);
}

static void dial_in_turns(void *argument)
{
    struct places places;
    struct weir_conn *conn;
    places_open(&places);
    check_int(dial(&places, "o", &conn, WEIR_FOREVER, WEIR_FOREVER), ==, 0);
    check_won(&places, conn);
    check_int(dial(&places, "rruro", &conn, WEIR_FOREVER, WEIR_FOREVER), ==, 0);
    check_won(&places, conn);
    places_close(&places);
}

CONFORMANCE(a_failed_attempt_is_followed_by_the_next_at_once)
{
    conf_run(NULL, dial_in_turns, NULL);
}

static void dial_past_silence(void *argument)
{
    struct places places;
    struct weir_conn *conn;
    places_open(&places);
    check_int(dial(&places, "so", &conn, 1, WEIR_FOREVER), ==, 0);
    check_won(&places, conn);
    check_int(dial(&places, "sssroooss", &conn, WEIR_MILLISECOND, WEIR_FOREVER), ==, 0);
    check_won(&places, conn);
    places_close(&places);
}

CONFORMANCE(an_attempt_that_does_not_answer_is_overtaken)
{
    conf_run(NULL, dial_past_silence, NULL);
}

static void dial_in_vain(void *argument)
{
    struct places places;
    struct weir_conn *conn;
    places_open(&places);
    check_int(dial(&places, "rr", &conn, 0, WEIR_FOREVER), ==, -ECONNREFUSED);
    check_int(dial(&places, "uru", &conn, 0, WEIR_FOREVER), ==, -ECONNREFUSED);
    check_int(dial(&places, "u", &conn, 0, WEIR_FOREVER), ==, -EAFNOSUPPORT);
    check_int(dial(&places, "", &conn, 0, WEIR_FOREVER), ==, -EINVAL);
    places_close(&places);
}

CONFORMANCE(where_all_attempts_fail_the_most_telling_error_is_told)
{
    conf_run(NULL, dial_in_vain, NULL);
}

static void dial_too_long(void *argument)
{
    struct places places;
    struct weir_conn *conn;
    struct weir_loop_stats stats;
    places_open(&places);
    uint64_t deadline_ns = weir_now_ns() + 5 * WEIR_MILLISECOND;
    check_int(dial(&places, "srss", &conn, WEIR_MILLISECOND, deadline_ns), ==, -ETIME);
    check_int(weir_now_ns(), >=, deadline_ns);
    check_int(dial(&places, "s", &conn, 0, 0), ==, -ETIME);
    conf_settle();
    weir_loop_stats(weir_loop_self(), &stats);
    check_int(stats.conns, ==, 0);
    check_int(stats.tasks, ==, 1);
    places_close(&places);
}

CONFORMANCE(dialling_ends_at_its_deadline)
{
    conf_run(NULL, dial_too_long, NULL);
}

static void dial_until_cancelled(void *argument)
{
    struct weir_conn *conn;
    check_int(dial(argument, "ss", &conn, 1, WEIR_FOREVER), ==, -ECANCELED);
    check_int(dial(argument, "o", &conn, 0, WEIR_FOREVER), ==, -ECANCELED);
}

static int dial_in_scope(void *argument)
{
    struct weir_conn *conn;
    check_int(dial(argument, "ss", &conn, 1, WEIR_FOREVER), ==, -ETIME);
    return 0;
}

static void cancel_dials(void *argument)
{
    struct places places;
    struct weir_task *before, *during;
    struct weir_scope scope;
    places_open(&places);
    check_int(weir_spawn(weir_loop_self(), &before, dial_until_cancelled, &places), ==, 0);
    weir_task_cancel(before);
    check_int(weir_spawn(weir_loop_self(), &during, dial_until_cancelled, &places), ==, 0);
    conf_settle();
    weir_task_cancel(during);
    check_int(weir_join(before, WEIR_FOREVER), ==, 0);
    check_int(weir_join(during, WEIR_FOREVER), ==, 0);
    weir_scope_open(&scope, weir_now_ns() + WEIR_MILLISECOND, 0);
    check_int(weir_scope_spawn(&scope, dial_in_scope, &places), ==, 0);
    check_int(weir_scope_close(&scope), ==, -ETIME);
    places_close(&places);
}

CONFORMANCE(dialling_ends_with_its_task_and_its_scope)
{
    conf_run(NULL, cancel_dials, NULL);
}

static void dial_a_name(void *argument)
{
    struct places places;
    struct weir_conn *conn;
    places_open(&places);
    uint16_t port = ntohs(((struct sockaddr_in *)&places.open)->sin_port);
    check_int(weir_dial(&conn, "localhost", port, WEIR_FOREVER), ==, 0);
    check_won(&places, conn);
    check_int(weir_dial(&conn, "127.0.0.1", port, WEIR_FOREVER), ==, 0);
    check_won(&places, conn);
    port = ntohs(((struct sockaddr_in *)&places.shut)->sin_port);
    check_int(weir_dial(&conn, "localhost", port, WEIR_FOREVER), ==, -ECONNREFUSED);
    check_int(weir_dial(&conn, "", port, WEIR_FOREVER), ==, -EINVAL);
    places_close(&places);
}

CONFORMANCE(a_name_is_dialled)
{
    conf_run(NULL, dial_a_name, NULL);
}
