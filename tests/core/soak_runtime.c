/*
 * Soak: rounds of spawn, connect, wait, cancel and close in one loop, which listens to itself;
 * resident memory does not grow. Prints TAP.
 *
 * WEIR_SOAK_ROUNDS=1000000 build/tests/core/soak-runtime epoll uring    (20000 unless it says so)
 */
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <weir/weir.h>

enum { TOGETHER = 8, ALLOWED_KIB = 1024, SECONDS_FOR_20000 = 100 };

static struct weir_loop *loop;
static struct sockaddr_storage address;
static socklen_t address_bytes;
static uint64_t rounds, ends[4];
static long early_kib, late_kib;

static void need(int condition, const char *what)
{
    if (condition)
        return;
    printf("Bail out! %s\n", what);
    fflush(stdout);
    _exit(1);
}

static long resident_kib(void)
{
    static char line[256];
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    need(file && fgets(line, sizeof line, file), "/proc/self/statm");
    need(sscanf(line, "%*d %ld", &pages) == 1, line);
    fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static void measure(void *kib)
{
    *(long *)kib = resident_kib();
}

static void echo(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    while (weir_recv(conn, &buf) > 0)
        weir_send(conn, &buf);
}

/* How a client ends: of itself; by its answer; by a cancel while it waits; by a deadline. */
enum kind { AT_ONCE, ANSWERED, CANCELLED, EXPIRED };

static int client(void *argument)
{
    enum kind kind = (enum kind)(uintptr_t)argument;
    struct weir_conn *conn;
    struct weir_buf buf = {0};
    int res = weir_connect(loop, &conn, (struct sockaddr *)&address, address_bytes, WEIR_FOREVER);

    if (res == 0) {
        if (kind == ANSWERED)
            need(weir_send_all(conn, "x", 1) == 1, "send");
        if (kind != AT_ONCE)
            res = weir_recv_until(conn, &buf,
                                  kind == EXPIRED ? weir_now_ns() + 100000 : WEIR_FOREVER);
        weir_buf_put(loop, &buf);
        weir_conn_abort(conn); /* leaves no TIME_WAIT, of which there are only so many */
    }
    need(res == (int[]){0, 1, -ECANCELED, -ETIME}[kind], "how a client ended");
    ends[kind]++;
    return 0;
}

static void some_rounds(void)
{
    struct weir_task *tasks[TOGETHER];
    struct weir_scope scope;

    weir_scope_open(&scope, WEIR_FOREVER, 0);
    for (uintptr_t i = 0; i < TOGETHER; i++)
        need(weir_scope_spawn_at(&scope, &tasks[i], client, (void *)(i % 4), "client", "") == 0,
             "spawn");
    for (unsigned i = 0; i < TOGETHER; i++) {
        need(weir_yield() == 0, "yield");
        if (i % 4 == CANCELLED) /* some while they connect */
            weir_task_cancel(tasks[i]);
    }
    need(weir_scope_close(&scope) == 0, "scope");
}

static void all_rounds(void *argument)
{
    struct weir_loop_stats stats;

    for (uint64_t round = 0; round < rounds; round += TOGETHER) {
        some_rounds();
        if (!early_kib && round >= rounds / 4)
            need(weir_coro_call_deep(65536, measure, &early_kib) == 0, "stack");
    }
    do { /* the last closes */
        need(weir_yield() == 0, "yield");
        weir_loop_stats(loop, &stats);
    } while (stats.conns > 0);
    need(stats.tasks == 1, "tasks are left");
    need(weir_coro_call_deep(65536, measure, &late_kib) == 0, "stack");
    weir_loop_stop(loop);
}

static int soak(const char *engine)
{
    struct weir_loop_options options = {.engine = engine};
    struct weir_listen_options listen = {.handler = echo};
    struct weir_listener *listener;
    char why[256] = "";

    early_kib = late_kib = 0;
    memset(ends, 0, sizeof ends);
    need(weir_loop_new(&loop, &options, why, sizeof why) == 0, why);
    need(weir_listen(loop, &listener, &listen, why, sizeof why) == 0, why);
    need(weir_listener_address(listener, &address, &address_bytes) == 0, "address");
    need(weir_spawn(loop, NULL, all_rounds, NULL) == 0, "spawn");
    need(weir_loop_run(loop) == 0, "run");
    weir_loop_free(loop);
    printf("# %s: %" PRIu64 " at once, %" PRIu64 " answered, %" PRIu64 " cancelled, %" PRIu64
           " expired; %ld KiB after a quarter, %ld at the end\n",
           engine, ends[AT_ONCE], ends[ANSWERED], ends[CANCELLED], ends[EXPIRED], early_kib,
           late_kib);
    return late_kib - early_kib <= ALLOWED_KIB;
}

int main(int count, char **engines)
{
    const char *asked = getenv("WEIR_SOAK_ROUNDS");
    int failed = 0;

    rounds = asked ? strtoull(asked, NULL, 10) : 20000;
    alarm((unsigned)(rounds * SECONDS_FOR_20000 / 20000 + SECONDS_FOR_20000));
    printf("1..%d\n", count - 1);
    for (int i = 1; i < count; i++) {
        int fits = soak(engines[i]);
        failed += !fits;
        printf("%sok %d - %s: memory stays as it is over %" PRIu64 " rounds\n", fits ? "" : "not ",
               i, engines[i], rounds);
        fflush(stdout);
    }
    return failed > 0;
}
