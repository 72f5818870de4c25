/*
 * A name server of the tests' own, on a thread and on 127.0.0.1, over UDP and TCP, so that no test
 * asks another. The first label of a name says what becomes of the question:
 *
 *   v4 v6 both    127.0.0.1, ::1, or both         silent   no answer
 *   many          127.0.0.1 to 127.0.0.20         late     no answer to the first two datagrams
 *   long          over UDP cut off, over TCP      fail     SERVFAIL
 *                 127.0.0.1                       other    NXDOMAIN
 */
#ifndef WEIR_TESTS_CORE_DNS_H
#define WEIR_TESTS_CORE_DNS_H

#include <pthread.h>
#include <stdint.h>

struct dns {
    char servers[32];                    /* as weir_resolver_options.servers takes it */
    _Atomic unsigned datagrams, streams; /* questions over UDP and TCP */
    int udp, tcp;
    int stop[2];
    pthread_t thread;
};

/* The sockets alone: whoever opens them answers each datagram with dns_answer(), which waits for
 * one.
 */
void dns_open(struct dns *dns);
void dns_answer(struct dns *dns);
void dns_close(struct dns *dns);

/* With the thread. */
void dns_start(struct dns *dns);
void dns_stop(struct dns *dns);
/* Waits until that many questions have come. */
void dns_await(struct dns *dns, unsigned datagrams);

#endif
