/*
 * Names and connections to them: host names become addresses, and of these the first that answers
 * becomes the connection ("happy eyeballs", RFC 8305).
 *
 *     struct weir_conn *conn;
 *     int error = weir_dial(&conn, "example.org", 80, weir_now_ns() + 5 * WEIR_SECOND);
 *
 * Names are looked up by c-ares: DNS queries over sockets that the loop waits for beside its
 * others, and /etc/hosts. A Weir built without it asks getaddrinfo(3) on the loop's helper threads,
 * of which there are helpers_max; weir_resolver() tells which. Everything here is for the loop's
 * thread, and what waits, for a task.
 */
#ifndef WEIR_DIAL_H
#define WEIR_DIAL_H

#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct weir_loop;
struct weir_conn;

/* An address with its port, as connect(2) takes it. */
struct weir_address {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    };
    socklen_t bytes;
};

/* ---- names ----------------------------------------------------------------------------------- */

/* "c-ares 1.18.1", or "getaddrinfo on helper threads". Any thread. */
const char *weir_resolver(void);

/* Looks `host` up and writes its addresses with `port`, the best first (RFC 6724), into the
 * caller's array, at most `most` of them: how many (> 0). A numeric address ("192.0.2.1",
 * "2001:db8::1", "fe80::1%eth0") is taken as it is. `family` is AF_UNSPEC, AF_INET or AF_INET6. In
 * a task, for as long as the deadline; `host` is not used after the call.
 *
 * -ENOENT: there is no such name, or it has no address of the family; -EAGAIN: no server answered,
 * or none that could say; -EINVAL: not a name; -ENOMEM; -ETIME, -ECANCELED: given up. Nothing is
 * left of a lookup that was given up, but for getaddrinfo: that call goes on to its end on its
 * thread, and weir_loop_free() waits for it. */
int weir_resolve(const char *host, uint16_t port, int family, struct weir_address *addresses,
                 unsigned most, uint64_t deadline_ns);

/* Every number may be 0, for what c-ares or resolv.conf(5) says. */
struct weir_resolver_options {
    const char *servers; /* "192.0.2.53,[2001:db8::53]:5353"; NULL: those of resolv.conf(5) */
    uint64_t try_ns;     /* how long the first query waits for its answer */
    unsigned tries;      /* queries to each server */
    unsigned lookups;    /* in flight at once, further ones wait in line; 0: 128 */
};
/* How a loop looks names up from now on. Not while lookups are in flight: -EBUSY. -EINVAL: these
 * are no servers; -EOPNOTSUPP: built without c-ares, where the system decides. */
int weir_resolver_set(struct weir_loop *loop, const struct weir_resolver_options *options);

/* ---- connections ----------------------------------------------------------------------------- */

enum { WEIR_DIAL_ADDRESSES = 16 /* of a name are tried, at most */ };

/* Connects to a name: looks it up, and tries its addresses in the order of weir_resolve(), but
 * IPv6 and IPv4 in turns. An attempt begins when the one before failed, or did not answer for
 * 250 ms. The first to succeed is *conn, as from weir_connect(), and the others are closed. In a
 * task. 0; an error of weir_resolve(); -ETIME, -ECANCELED; or, where all attempts failed, what the
 * last of them said that reached a network (-ECONNREFUSED, -ETIMEDOUT…). */
int weir_dial(struct weir_conn **conn, const char *host, uint16_t port, uint64_t deadline_ns);

/* The same to addresses that the caller has, in that order. `delay_ns` is from one attempt to the
 * next; 0: 250 ms, of which RFC 8305 recommends never less than 10. -EINVAL: there are none. */
int weir_dial_addresses(struct weir_conn **conn, const struct weir_address *addresses,
                        unsigned count, uint64_t delay_ns, uint64_t deadline_ns);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
