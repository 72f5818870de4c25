/*
 * A small server for the driver's tests, in threads of the test itself: it echoes fixed-size
 * requests, and can be told to do one thing wrong, on one connection, at one request.
 */
#ifndef WEIR_TESTS_BENCH_WRONG_SERVER_H
#define WEIR_TESTS_BENCH_WRONG_SERVER_H

#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <weir/workload.h>

enum fault {
    FAULT_NONE,
    FAULT_FLIP,          /* one bit of byte fault_byte */
    FAULT_DROP,          /* byte fault_byte is left out */
    FAULT_EXTRA,         /* three bytes more */
    FAULT_REPEAT,        /* the previous response once more, instead of this one */
    FAULT_CLOSE,         /* close without an answer */
    FAULT_CLOSE_HALF,    /* close after fault_byte bytes of it */
    FAULT_RESET,         /* the same with a reset */
    FAULT_SILENT,        /* no answer any more */
    FAULT_CLOSE_AT_ONCE, /* close before anything is asked */
    FAULT_NEVER_CLOSE,   /* all answers right, but the end of the peer is not followed */
    FAULT_SWAP,          /* connections 0 and 1 get each other's responses from then on */
    FAULT_LATE_EXTRA,    /* a right answer, and after say_extra three bytes nobody asked for */
};

struct wrong_server {
    /* set before wrong_server_start */
    _Atomic size_t wire_bytes; /* of a request; less is allowed later; a stream echo whatever the
                                  bytes say */
    enum fault fault;
    uint32_t fault_conn, fault_request, fault_byte; /* counted from 0 */
    /* Instead of all that: serve this workload as it is, `piece_bytes` received at a time. */
    const struct weir_workload *workload;
    struct weir_workload_options options;
    size_t piece_bytes;
    bool ipv6;                   /* listen on ::1 instead */
    int backlog;                 /* 0: 1024; -1: as short as the kernel has it */
    unsigned accept_delay_ms;    /* from the first connection to its accept */
    unsigned pause_at, pause_ms; /* before the answer of that request it stands still for so long */
    unsigned slow_ms;            /* before each answer */
    unsigned close_after;        /* > 0: connection fault_conn is closed after so many answers */
    unsigned one_by_one_ms; /* > 0: serves each connection to its end, after such a pause, before
                               it accepts the next */

    /* set by wrong_server_start */
    struct sockaddr_storage addr;
    socklen_t addr_len;
    int listen_fd;
    pthread_t acceptor;
    atomic_uint accepted;
    atomic_uint refused; /* connections that the workload refused */
    sem_t say_extra, extra_arrived;
};

/* Listens on a free port of 127.0.0.1 (or ::1) and serves until the process ends. Asserts that it
 * can. */
void wrong_server_start(struct wrong_server *server);

/* The port it took. */
uint16_t wrong_server_port(const struct wrong_server *server);

/* A port of 127.0.0.1 that is bound, and not listened on. */
uint16_t port_without_listener(void);

#endif
