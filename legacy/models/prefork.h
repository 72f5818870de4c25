/*
 * Processes that accept and serve, one connection at a time each: what prefork and
 * prefork-reuseport have in common, which is all but the listening sockets.
 */
#ifndef WEIR_LEGACY_MODELS_PREFORK_H
#define WEIR_LEGACY_MODELS_PREFORK_H

#include "legacy/models/serving.h"

/* The body of weir_model.serve: worker i accepts from listen_fds[i], NOT consumed. */
int weir__prefork_serve(const struct weir_model *model, const int *listen_fds, unsigned workers,
                        const struct weir_model_options *options, struct weir_model_stats *stats,
                        void (*ready)(void *argument, const char *features), void *argument,
                        char *why, size_t why_bytes);

#endif
