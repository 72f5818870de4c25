/* Connecting to names: attempts in a scope of their own, staggered, of which one wins.
 *
 * Version 2 of "happy eyeballs" (RFC 8305), but that the first attempt waits for the answers of
 * both families (its section 3 would have it go ahead with what came first). */
#include <errno.h>
#include <string.h>

#include <weir/dial.h>

#include "core/loop.h"

#define ATTEMPT_DELAY_NS (250 * WEIR_MILLISECOND) /* RFC 8305, section 5 */

struct dial {
    struct weir_scope scope;
    const struct weir_address *addresses;
    unsigned count;
    unsigned begun, trying; /* attempts that were spawned; of these still at it */
    unsigned taken;         /* by attempts that run */
    uint64_t last_ns;       /* when one was begun */
    struct weir_conn *won;
    int error; /* of those that failed, the most telling */
};

/* That this machine has no way there says less than what came from the network: it is what an
 * attempt over IPv6 gives where there is none. */
static bool is_local(int error)
{
    return error == -ENETUNREACH || error == -EADDRNOTAVAIL || error == -EAFNOSUPPORT;
}

static void failed(struct dial *dial, int error)
{
    if (!dial->error || !is_local(error) || is_local(dial->error))
        dial->error = error;
}

static int attempt(void *argument);

/* Where there is no stack for it that one has failed. */
static void begin_next(struct dial *dial)
{
    while (dial->begun < dial->count) {
        int res = weir_scope_spawn(&dial->scope, attempt, dial);
        dial->last_ns = weir_now_ns();
        dial->begun++;
        if (!res) {
            dial->trying++;
            return;
        }
        dial->taken++;
        failed(dial, res);
    }
}

static int attempt(void *argument)
{
    struct dial *dial = argument;
    const struct weir_address *address = &dial->addresses[dial->taken++];
    struct weir_conn *conn;
    int res = weir_connect(weir_loop_self(), &conn, &address->any, address->bytes, WEIR_FOREVER);

    dial->trying--;
    if (res == 0 && dial->won) { /* both came in one turn */
        weir_conn_close(conn);
        return 0;
    }
    if (res == 0) {
        dial->won = conn;
        weir_scope_cancel(&dial->scope);
        return 0;
    }
    failed(dial, res);
    begin_next(dial);
    if (!dial->trying)
        weir_scope_cancel(&dial->scope);
    return 0;
}

static int outcome(struct dial *dial, int ended)
{
    if (dial->won) /* though the deadline may have passed, or a cancel come, with it */
        return 0;
    if (ended == -ETIME)
        return ended;
    ended = weir__task_check(weir_task_self());
    return ended ? ended : dial->error;
}

int weir_dial_addresses(struct weir_conn **conn, const struct weir_address *addresses,
                        unsigned count, uint64_t delay_ns, uint64_t deadline_ns)
{
    struct dial dial = {.addresses = addresses, .count = count};

    assert(weir_task_self() && "weir_dial_addresses: not in a task");
    if (count == 0)
        return -EINVAL;
    if (delay_ns == 0)
        delay_ns = ATTEMPT_DELAY_NS;
    weir_scope_open(&dial.scope, deadline_ns, 0);
    begin_next(&dial);
    while (dial.begun < count) {
        uint64_t next_ns =
            delay_ns < WEIR_FOREVER - dial.last_ns ? dial.last_ns + delay_ns : WEIR_FOREVER;
        if (weir_now_ns() >= next_ns)
            begin_next(&dial);
        else if (weir_sleep_until(next_ns))
            break;
    }
    int res = outcome(&dial, weir_scope_close(&dial.scope));
    if (res == 0)
        *conn = dial.won;
    return res;
}

/* IPv6 and IPv4 in turns, beginning with that of the first; what is left of one at the end. */
static void interleave(struct weir_address *addresses, unsigned count)
{
    int first = addresses[0].any.sa_family;

    for (unsigned i = 1; i < count; i++) {
        bool want_first = i % 2 == 0;
        unsigned from = i;
        while (from < count && (addresses[from].any.sa_family == first) != want_first)
            from++;
        if (from == count)
            return;
        struct weir_address next = addresses[from];
        memmove(&addresses[i + 1], &addresses[i], (from - i) * sizeof next);
        addresses[i] = next;
    }
}

int weir_dial(struct weir_conn **conn, const char *host, uint16_t port, uint64_t deadline_ns)
{
    struct weir_address addresses[WEIR_DIAL_ADDRESSES];

    assert(weir_task_self() && "weir_dial: not in a task");
    int count = weir_resolve(host, port, AF_UNSPEC, addresses, WEIR_DIAL_ADDRESSES, deadline_ns);
    if (count < 0)
        return count;
    interleave(addresses, (unsigned)count);
    return weir_dial_addresses(conn, addresses, (unsigned)count, 0, deadline_ns);
}
