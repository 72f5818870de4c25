/* The server models that are not engines, by name, and what is common to all: their choices and
 * counters. */
#include "config.h"

#include <weir/model.h>

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#if WEIR_HAVE_URING
extern const struct weir_model weir__model_bare_uring;
#endif
extern const struct weir_model weir__model_bare_epoll;
extern const struct weir_model weir__model_epoll_loop;
extern const struct weir_model weir__model_epoll_reactor;
extern const struct weir_model weir__model_epoll_reactor_et;
extern const struct weir_model weir__model_fork;
extern const struct weir_model weir__model_hsha;
extern const struct weir_model weir__model_iterative;
extern const struct weir_model weir__model_leader_follower;
extern const struct weir_model weir__model_main_sub;
extern const struct weir_model weir__model_main_sub_procs;
extern const struct weir_model weir__model_nonblocking;
extern const struct weir_model weir__model_poll_loop;
extern const struct weir_model weir__model_poll_reactor;
extern const struct weir_model weir__model_prefork;
extern const struct weir_model weir__model_prefork_handoff;
extern const struct weir_model weir__model_prefork_reuseport;
extern const struct weir_model weir__model_reactor_threads;
extern const struct weir_model weir__model_select_loop;
extern const struct weir_model weir__model_select_reactor;
extern const struct weir_model weir__model_thread;
extern const struct weir_model weir__model_thread_pool;

const struct weir_model *const weir_models[] = {
    &weir__model_iterative,
    &weir__model_nonblocking,
    &weir__model_fork,
    &weir__model_thread,
    &weir__model_prefork,
    &weir__model_prefork_reuseport,
    &weir__model_prefork_handoff,
    &weir__model_thread_pool,
    &weir__model_leader_follower,
    &weir__model_select_loop,
    &weir__model_poll_loop,
    &weir__model_epoll_loop,
    &weir__model_epoll_reactor,
    &weir__model_epoll_reactor_et,
    &weir__model_select_reactor,
    &weir__model_poll_reactor,
    &weir__model_reactor_threads,
    &weir__model_hsha,
    &weir__model_main_sub,
    &weir__model_main_sub_procs,
    &weir__model_bare_epoll,
#if WEIR_HAVE_URING
    &weir__model_bare_uring,
#endif
    NULL,
};

struct weir_model_counters weir_model_sum(const struct weir_model_stats *stats)
{
    struct weir_model_counters sum = {0};
    for (size_t i = 0; i < WEIR_MODEL_SLOTS; i++) {
        const struct weir_model_counters *slot = &stats->slots[i];
        sum.accepted += __atomic_load_n(&slot->accepted, __ATOMIC_RELAXED);
        sum.closed += __atomic_load_n(&slot->closed, __ATOMIC_RELAXED);
        sum.bytes_in += __atomic_load_n(&slot->bytes_in, __ATOMIC_RELAXED);
        sum.bytes_out += __atomic_load_n(&slot->bytes_out, __ATOMIC_RELAXED);
        sum.requests += __atomic_load_n(&slot->requests, __ATOMIC_RELAXED);
        sum.refused += __atomic_load_n(&slot->refused, __ATOMIC_RELAXED);
        sum.errors += __atomic_load_n(&slot->errors, __ATOMIC_RELAXED);
        sum.deaths += __atomic_load_n(&slot->deaths, __ATOMIC_RELAXED);
    }
    return sum;
}

/* --- choices: "key=value,key=value" ------------------------------------------------------------
 */

static bool is_text(const char *text, size_t bytes, const char *other)
{
    return strlen(other) == bytes && memcmp(text, other, bytes) == 0;
}

/* The model's own string for the value that starts at `text`; NULL: it has none such. */
static const char *value_of(const struct weir_model_choice *choice, const char *text, size_t bytes)
{
    for (size_t i = 0; choice->values[i]; i++)
        if (is_text(text, bytes, choice->values[i]))
            return choice->values[i];
    return NULL;
}

static const struct weir_model_choice *choice_of(const struct weir_model *model, const char *text,
                                                 size_t bytes)
{
    for (const struct weir_model_choice *c = model->choices; c && c->key; c++)
        if (is_text(text, bytes, c->key))
            return c;
    return NULL;
}

static int refuse(const struct weir_model *model, const char *token, size_t bytes, char *why,
                  size_t why_bytes)
{
    int used = snprintf(why, why_bytes, "%s has no option '%.*s'%s", model->name, (int)bytes, token,
                        model->choices ? "" : "; it takes none");
    if (!model->choices)
        return -EINVAL;
    const char *between = "; valid: ";
    for (const struct weir_model_choice *c = model->choices; c->key; c++)
        for (size_t i = 0; c->values[i] && used >= 0 && (size_t)used < why_bytes; i++) {
            used += snprintf(why + used, why_bytes - (size_t)used, "%s%s=%s%s", between, c->key,
                             c->values[i], i == 0 ? " (default)" : "");
            between = ", ";
        }
    return -EINVAL;
}

int weir_model_check(const struct weir_model *model, const char *choices, char *why,
                     size_t why_bytes)
{
    for (const char *at = choices; at;) {
        size_t bytes = strcspn(at, ","), key_bytes = strcspn(at, "=,");
        const struct weir_model_choice *choice = choice_of(model, at, key_bytes);
        if (!choice || key_bytes == bytes ||
            !value_of(choice, at + key_bytes + 1, bytes - key_bytes - 1))
            return refuse(model, at, bytes, why, why_bytes);
        at = at[bytes] ? at + bytes + 1 : NULL;
    }
    return 0;
}

const char *weir_model_chosen(const struct weir_model *model, const char *choices, const char *key)
{
    const struct weir_model_choice *choice = choice_of(model, key, strlen(key));
    assert(choice);
    const char *value = choice->values[0];
    for (const char *at = choices; at;) {
        size_t bytes = strcspn(at, ","), key_bytes = strcspn(at, "=,");
        if (is_text(at, key_bytes, key) && key_bytes < bytes)
            value = value_of(choice, at + key_bytes + 1, bytes - key_bytes - 1);
        at = at[bytes] ? at + bytes + 1 : NULL;
    }
    assert(value);
    return value;
}
