/*
 * The same work through Boost.Context, for coro_switch.c to compare with: coro_peer_boost.cpp
 * where Boost is found, coro_peer_none.c elsewhere. The benchmark alone knows it.
 */
#ifndef WEIR_BENCH_CORO_PEER_H
#define WEIR_BENCH_CORO_PEER_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

bool peer_exists(void);

/* `n` contexts that only switch back, each on 8 KiB; switched to round about, `pairs` in all. */
void *peer_switch_new(size_t n);
void peer_switch_run(void *peer, size_t pairs);
void peer_switch_free(void *peer);

/* Fibers from a warm pool, made, run to their end and destroyed, one after the other. */
void peer_create_run(size_t fibers);

#ifdef __cplusplus
}
#endif

#endif
