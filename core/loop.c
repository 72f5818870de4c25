/* The loop: opening an engine, the turn, stopping. See core/loop.h for who does what. */
#include "core/loop.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "core/park.h"
#include "core/spec.h"

__thread struct weir_loop *weir__running_loop;

uint64_t weir_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Some milliseconds old, for a third of the price: where no timer waits, nothing needs better. */
static uint64_t coarse_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- ops ------------------------------------------------------------------------------------- */

static int submit_once(struct weir_loop *loop, struct weir__op *op)
{
    if (op->kind == WEIR__OP_CALL)
        return weir__helpers_submit(&loop->helpers, op);
    return loop->ops->submit(loop->engine, op);
}

/* Who waits for room with the helpers must not hold up who waits for the engine. */
static struct weir__op_queue *line_of(struct weir_loop *loop, const struct weir__op *op)
{
    return weir__op_is_for_helpers(op) ? &loop->refused_by_helpers : &loop->refused_by_engine;
}

static void mark_refused(struct weir__op *op)
{
    weir__op_set_state(op, WEIR__OP_HELD); /* by us, for now */
    op->engine_bits = WEIR__REFUSED;
    op->flags &= (uint8_t)~WEIR__OP_QUIET; /* someone may wait for its end by then */
}

int weir__submit(struct weir_loop *loop, struct weir__op *op)
{
    struct weir__op_queue *line = line_of(loop, op);

    assert(op->state == WEIR__OP_IDLE);
    op->engine_bits = 0;
    loop->stats.ops++;
    weir__trace_op_submit(op, op->kind, op->fd);
    /* Behind those that wait already, or a connection's ops could overtake each other. */
    int res = line->head ? -EBUSY : submit_once(loop, op);
    if (res == WEIR__DONE || res == WEIR__QUEUED)
        return res;
    if (res == -EBUSY) {
        mark_refused(op);
        weir__op_queue_push(line, op);
        return WEIR__QUEUED;
    }
    op->res = res;
    return WEIR__DONE;
}

static bool take(struct weir__op_queue *line, struct weir__op *op)
{
    struct weir__op **link, *before = NULL;

    for (link = &line->head; *link; before = *link, link = &(*link)->next) {
        if (*link != op)
            continue;
        *link = op->next;
        if (line->tail == op)
            line->tail = before;
        return true;
    }
    return false;
}

/* One at a time from the front, each out of the line before anything is called: done() may cancel
 * any other op, also one of this line. */
static void retry(struct weir_loop *loop, struct weir__op_queue *line)
{
    while (line->head) {
        struct weir__op *op = line->head;
        take(line, op);
        weir__op_set_state(op, WEIR__OP_IDLE);
        op->engine_bits = 0;
        int res = submit_once(loop, op);
        if (res == WEIR__QUEUED)
            continue;
        if (res == -EBUSY) { /* back to where it was */
            mark_refused(op);
            op->next = line->head;
            line->head = op;
            line->tail = line->tail ? line->tail : op;
            return;
        }
        weir__op_set_state(op, WEIR__OP_HELD);
        weir__op_complete(op, res == WEIR__DONE ? op->res : res, 0);
    }
}

void weir__refused_retry(struct weir_loop *loop)
{
    while (loop->cancelled.head) {
        struct weir__op *op = loop->cancelled.head;
        take(&loop->cancelled, op);
        weir__op_complete(op, -ECANCELED, 0);
    }
    retry(loop, &loop->refused_by_engine);
    retry(loop, &loop->refused_by_helpers);
}

void weir__cancel(struct weir_loop *loop, struct weir__op *op)
{
    if (op->state != WEIR__OP_HELD)
        return;
    if (op->engine_bits == WEIR__REFUSED && take(line_of(loop, op), op)) {
        weir__op_set_state(op, WEIR__OP_CANCELLING);
        weir__op_queue_push(&loop->cancelled, op);
    } else if (op->kind == WEIR__OP_CALL) {
        weir__op_set_state(op, WEIR__OP_CANCELLING);
        weir__helpers_cancel(&loop->helpers, op);
    } else {
        loop->ops->cancel(loop->engine, op);
    }
}

static int env_call_submit(struct weir__engine_env *env, struct weir__op *op)
{
    return weir__helpers_submit(&weir__container(env, struct weir_loop, env)->helpers, op);
}

static int env_call_cancel(struct weir__engine_env *env, struct weir__op *op)
{
    return weir__helpers_cancel(&weir__container(env, struct weir_loop, env)->helpers, op);
}

/* On a helper thread. */
static int calls_finished(void *argument)
{
    weir__loop_wake(argument);
    return 0;
}

/* ---- opening --------------------------------------------------------------------------------- */

static uint32_t or_default(uint32_t value, uint32_t otherwise)
{
    return value ? value : otherwise;
}

static uint32_t conns_allowed(void)
{
    struct rlimit limit;
    uint32_t own = 64; /* descriptors that are not connections */

    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur == RLIM_INFINITY ||
        limit.rlim_cur > UINT32_MAX)
        return 1u << 20;
    return limit.rlim_cur > 2 * own ? (uint32_t)limit.rlim_cur - own : own;
}

static int open_auto(struct weir_loop *loop, struct weir__engine_options *options, char *why,
                     size_t why_bytes)
{
    int error = -ENOSYS;

    for (size_t i = 0; weir__engine_table[i]; i++) {
        char reason[192] = "";
        loop->ops = weir__engine_table[i];
        error = loop->ops->open(&loop->engine, &loop->env, options, reason, sizeof reason);
        if (!error) {
            size_t used = strlen(loop->note);
            snprintf(loop->note + used, sizeof loop->note - used, "using %s", loop->ops->name);
            return 0;
        }
        size_t used = strlen(loop->note);
        snprintf(loop->note + used, sizeof loop->note - used, "%s unavailable: %s; ",
                 loop->ops->name, reason);
    }
    snprintf(why, why_bytes, "no engine works here: %s", loop->note);
    return error;
}

static int open_engine(struct weir_loop *loop, const struct weir_loop_options *options, char *why,
                       size_t why_bytes)
{
    struct weir__spec spec;
    int error = weir__spec_parse(&spec, options->engine, why, why_bytes);

    if (error)
        return error;
    loop->per_burst = !spec.per_connection;
    spec.options.conns_max = loop->conns_max;
    if (options->ring_bufs)
        spec.options.ring_bufs = options->ring_bufs;
    loop->ops = spec.ops;
    error = spec.ops ? spec.ops->open(&loop->engine, &loop->env, &spec.options, why, why_bytes)
                     : open_auto(loop, &spec.options, why, why_bytes);
    if (error)
        return error;
    weir__spec_features(loop->ops, loop->ops->features(loop->engine), loop->features,
                        sizeof loop->features);
    return 0;
}

static void accept_again(struct weir__timer *timer)
{
    weir__listeners_resume(weir__container(timer, struct weir_loop, accept_timer));
}

static void stop_deadline(struct weir__timer *timer)
{
    weir_loop_stop_now(weir__container(timer, struct weir_loop, stop_timer));
}

static void linger_look(struct weir__timer *timer)
{
    weir__conns_linger(weir__container(timer, struct weir_loop, linger_timer), false);
}

/* The turn that follows is all. */
static void stacks_again(struct weir__timer *timer)
{
    (void)timer;
}

static uint16_t share_of(uint32_t bufs, uint32_t part)
{
    return (uint16_t)(bufs / part > 2 ? bufs / part : 2);
}

static void set_limits(struct weir_loop *loop, const struct weir_loop_options *options)
{
    loop->conns_max = or_default(options->conns_max, conns_allowed());
    /* A send's result is an int32_t: one chain, that much and a buffer or as much again of static
     * memory, stays below it. */
    uint32_t unsent_most = (uint32_t)INT32_MAX / 2 - loop->bufs.buf_bytes;
    loop->unsent_max = or_default(options->unsent_max, 256 * 1024);
    if (loop->unsent_max > unsent_most)
        loop->unsent_max = unsent_most;
    loop->drain_ns = options->drain_ns ? options->drain_ns : UINT64_C(5000000000);
    /* No connection alone may hold the pool: a quarter of it unsent, an eighth unread. */
    loop->bufs.reserve = loop->bufs.count / 8;
    loop->rx_bufs_max = share_of(loop->bufs.count, 8);
    loop->tx_bufs_max = share_of(loop->bufs.count, 4);
}

static int loop_init(struct weir_loop *loop, const struct weir_loop_options *options, char *why,
                     size_t why_bytes)
{
    loop->thread = &weir__running_loop;
    weir__rest_init(&loop->rest);
    int error = weir__buf_pool_init(&loop->bufs, or_default(options->bufs, 1024),
                                    or_default(options->buf_bytes, 64 * 1024));
    if (error) {
        snprintf(why, why_bytes, "lent buffers: %s; bufs is 1 to 32767, buf_bytes 64 to 64 Mi",
                 strerror(-error));
        return error;
    }
    error = weir_coro_pool_new(&loop->coros, options->coro);
    if (error) {
        snprintf(why, why_bytes, "stack pool: %s", strerror(-error));
        return error;
    }
    error = weir__helpers_init(&loop->helpers, or_default(options->helpers_max, 4),
                               or_default(options->calls_max, 1024), calls_finished, loop);
    if (error) {
        snprintf(why, why_bytes, "helper threads: %s", strerror(-error));
        return error;
    }
    weir__slab_init(&loop->conn_slab, sizeof(struct weir_conn));
    weir__slab_init(&loop->task_slab, sizeof(struct weir_task));
    set_limits(loop, options);
    loop->env = (struct weir__engine_env){
        .bufs = &loop->bufs, .call_submit = env_call_submit, .call_cancel = env_call_cancel};
    loop->accept_timer.fire = accept_again;
    loop->stacks_timer.fire = stacks_again;
    loop->stop_timer.fire = stop_deadline;
    loop->linger_timer.fire = linger_look;
    loop->now_ns = weir_now_ns();
    weir__wheel_init(&loop->wheel, loop->now_ns);
    return open_engine(loop, options, why, why_bytes);
}

/* The helpers first: what a call that ends late writes and wakes must still be there. */
static void loop_deinit(struct weir_loop *loop)
{
    weir__helpers_deinit(&loop->helpers);
    if (loop->failed)
        weir__conns_abandon(loop);
    if (loop->engine)
        loop->ops->close(loop->engine);
    weir__dgrams_free(loop);
    weir__resolver_free(loop);
    weir__listeners_free(loop);
    weir__rest_deinit(&loop->rest);
    if (loop->runner)
        weir_coro_free(loop->runner->coro);
    weir__slab_deinit(&loop->conn_slab);
    weir__slab_deinit(&loop->task_slab);
    weir_coro_pool_free(loop->coros);
    assert(loop->failed || loop->bufs.free_count == loop->bufs.count);
    weir__buf_pool_deinit(&loop->bufs);
    free(loop);
}

int weir_loop_new(struct weir_loop **out, const struct weir_loop_options *options, char *why,
                  size_t why_bytes)
{
    static const struct weir_loop_options defaults;
    struct weir_loop *loop = calloc(1, sizeof *loop);

    *out = NULL;
    if (!loop) {
        snprintf(why, why_bytes, "out of memory");
        return -ENOMEM;
    }
    int error = loop_init(loop, options ? options : &defaults, why, why_bytes);
    if (error) {
        loop_deinit(loop);
        return error;
    }
    *out = loop;
    return 0;
}

/* ---- the turn -------------------------------------------------------------------------------- */

/* What yielded goes behind what was woken. */
static void queue_yielded(struct weir_loop *loop)
{
    if (!loop->yielded_head)
        return;
    if (loop->run_tail)
        loop->run_tail->next = loop->yielded_head;
    else
        loop->run_head = loop->yielded_head;
    loop->run_tail = loop->yielded_tail;
    loop->yielded_head = loop->yielded_tail = NULL;
}

enum { WOKEN_MOST = 256 };

/* Runs the tasks that are runnable now, and of those that become so meanwhile so many more: tasks
 * that wake each other do not pay for a turn each time, nor keep the others from theirs. */
static void run_tasks(struct weir_loop *loop)
{
    queue_yielded(loop);
    struct weir_task *last = loop->run_tail;
    uint64_t ran = 0;
    for (unsigned more = WOKEN_MOST; loop->run_head && more > 0; more -= !last) {
        struct weir_task *task = loop->run_head, *next = task->next;
        loop->run_head = next;
        if (!next)
            loop->run_tail = NULL;
        if (task == last)
            last = NULL;
        if (next && next->next) /* one ahead is too late: the run between is shorter than a miss */
            weir_coro_prefetch(next->next->coro);
        weir__task_resume(task);
        ran++;
    }
    if (ran > loop->stats.run_peak)
        loop->stats.run_peak = ran;
}

static bool has_work(struct weir_loop *loop)
{
    if (loop->run_head || loop->yielded_head || loop->tx_conns.head || loop->cancelled.head)
        return true;
    if (loop->ready.head && !loop->ready_budget) /* see weir__conns_run() */
        return true;
    if (loop->starved.head && weir__bufs_to_receive(loop) > 0) /* see weir__conns_feed() */
        return true;
    /* An op refused for want of room in the engine goes in after the next flush; one refused for
     * want of room with the helpers when a helper is done, which wakes us. */
    return loop->refused_by_engine.head ||
           (loop->refused_by_helpers.head && !weir__helpers_full(&loop->helpers));
}

static uint64_t wait_deadline(struct weir_loop *loop)
{
    uint64_t trim_ns = weir_coro_pool_tick(loop->coros, loop->now_ns);

    if (has_work(loop))
        return 0;
    uint64_t timer_ns = loop->wheel.armed ? weir__wheel_next_ns(&loop->wheel) : WEIR_FOREVER;
    uint64_t deadline_ns = timer_ns < trim_ns ? timer_ns : trim_ns;
    /* From here a post wakes us; what was posted before is seen below (both sides sequentially
     * consistent). */
    atomic_store(&loop->sleeping, true);
    if (weir__posts_pending(loop) || atomic_load(&loop->stop_asked) != loop->stopping ||
        weir__helpers_finished(&loop->helpers))
        deadline_ns = 0;
    return deadline_ns;
}

static void begin_stop(struct weir_loop *loop)
{
    uint64_t now_ns = weir_now_ns();

    loop->stopping = true;
    if (loop->drain_ns < WEIR_FOREVER - now_ns)
        weir__timer_arm(&loop->wheel, &loop->stop_timer, now_ns + loop->drain_ns);
    weir__listeners_stop(loop);
    weir__dgrams_stop(loop);
    weir__rest_end(loop);
    for (uint32_t i = 0; i < weir__slab_size(&loop->conn_slab); i++) {
        struct weir_conn *conn = weir__conn_at(loop, i);
        if (conn->flags & CONN_OPEN)
            weir__conn_stop(conn);
    }
}

/* What has come into the sockets by now is received before idle connections are closed, or their
 * peers would get a reset in place of an answer: some turns that do not wait, until they bring
 * nothing. Two in a row, for a receive may take two (a poll, then itself). Bounded, for peers that
 * never pause. */
static void approach_stop(struct weir_loop *loop)
{
    enum { BARREN_ENOUGH = 2, RECEIVED_IN_A_TURN = 64 };

    if (!loop->last_turns) {
        loop->last_turns = loop->conn_count / RECEIVED_IN_A_TURN + BARREN_ENOUGH + 2;
        loop->barren = 0;
        weir__listeners_stop(loop);
    }
    if (loop->barren >= BARREN_ENOUGH || --loop->last_turns == 0 || !loop->conn_count)
        begin_stop(loop);
}

static int turn(struct weir_loop *loop)
{
    loop->stats.turns++;
    weir__posts_run(loop);
    if (atomic_load_explicit(&loop->stop_asked, memory_order_relaxed) && !loop->stopping)
        approach_stop(loop);
    run_tasks(loop);
    weir__conns_run(loop);
    if (loop->cancelled.head || loop->refused_by_engine.head || loop->refused_by_helpers.head)
        weir__refused_retry(loop);
    weir__conns_flush(loop);
    if (loop->starved.head)
        weir__conns_feed(loop);
    if (loop->buf_waiters)
        weir__bufs_feed(loop);
    if (loop->stopping && loop->owned && !loop->task_count)
        weir__conns_close_orphans(loop);
    bool goes_on = (loop->last_turns || loop->held) && !loop->stopping;
    if (!loop->open_listeners && !loop->conn_count && !loop->task_count && !goes_on &&
        weir__dgrams_end(loop) && weir__rest_end(loop) && weir__resolver_end(loop))
        return 0;

    uint64_t deadline_ns = wait_deadline(loop);
    weir__trace_wait_enter(loop, deadline_ns);
    int res = loop->ops->wait(loop->engine, deadline_ns);
    weir__trace_wait_leave(loop, res);
    atomic_store_explicit(&loop->sleeping, false, memory_order_relaxed);
    if (res < 0)
        return res;
    loop->barren = res ? 0 : loop->barren + 1;
    weir__helpers_reap(&loop->helpers);
    loop->now_ns = loop->wheel.armed ? weir_now_ns() : coarse_now_ns();
    if (loop->wheel.armed)
        weir__wheel_advance(&loop->wheel, loop->now_ns);
    return 1;
}

int weir_loop_run(struct weir_loop *loop)
{
    struct weir_loop *before = weir__running_loop;
    int res;

    assert(weir__loop_here(loop) && "weir_loop_run: another thread opened the loop");
    assert(!loop->running && "weir_loop_run: it runs already");
    assert(!loop->ended && "weir_loop_run: the loop has ended");
    weir__running_loop = loop;
    loop->running = true;
    loop->now_ns = weir_now_ns();
    weir__watchdog_enter(loop);
    do {
        res = turn(loop);
    } while (res > 0 || (res == 0 && weir__posts_run(loop)));
    if (!res) /* the last closes, for which nothing waited */
        res = loop->ops->wait(loop->engine, 0);
    /* Of a broken engine nothing comes back, so nothing that waits can go on. */
    if (res < 0) {
        loop->failed = loop->stopping = true;
        weir__parked_abandon(loop);
    }
    if (loop->stopping) {
        loop->ended = true;
        weir__posts_close(loop);
        weir__timer_disarm(&loop->wheel, &loop->stop_timer);
    }
    loop->running = false;
    weir__watchdog_leave(loop);
    weir__running_loop = before;
    return res < 0 ? res : 0;
}

/* ---- stopping -------------------------------------------------------------------------------- */

void weir_loop_stop(struct weir_loop *loop)
{
    atomic_fetch_add(&loop->callers, 1);
    atomic_store(&loop->stop_asked, true);
    weir__loop_wake(loop);
    atomic_fetch_sub(&loop->callers, 1);
}

void weir_loop_stop_now(struct weir_loop *loop)
{
    assert(weir__loop_here(loop) && "weir_loop_stop_now: a foreign thread");
    assert(atomic_load(&loop->stop_asked) && "weir_loop_stop_now: call weir_loop_stop first");
    if (!loop->stopping)
        begin_stop(loop);
    loop->cut = true;
    weir__tasks_cut(loop);
    weir__conns_linger(loop, true);
}

/* Nothing runs any more, so each turn only lets the engine finish what is being closed. */
void weir_loop_free(struct weir_loop *loop)
{
    if (!loop)
        return;
    assert(weir__loop_here(loop) && "weir_loop_free: another thread opened the loop");
    assert(!loop->running && !loop->task && "weir_loop_free: the loop is running");
    if (!loop->ended) {
        weir_loop_stop(loop);
        loop->drain_ns = 1;
        weir_loop_run(loop); /* where it fails, there is no more to close in good order */
    }
    /* Who asked for the end, or posted what led to it, may still be on the way out of that call. */
    while (atomic_load(&loop->callers) > 0)
        sched_yield();
    loop_deinit(loop);
}

/* ---- looking at it --------------------------------------------------------------------------- */

struct weir_loop *weir_loop_self(void)
{
    return weir__running_loop;
}

const char *weir_loop_engine(const struct weir_loop *loop)
{
    return loop->ops->name;
}

const char *weir_loop_engine_note(const struct weir_loop *loop)
{
    return loop->note;
}

const char *weir_loop_features(const struct weir_loop *loop)
{
    return loop->features;
}

int weir_loop_per_burst(const struct weir_loop *loop)
{
    return loop->per_burst;
}

struct weir_coro_pool *weir_loop_coros(const struct weir_loop *loop)
{
    return loop->coros;
}

void weir_loop_stats(const struct weir_loop *loop, struct weir_loop_stats *stats)
{
    struct weir__engine_counters engine = {0};

    loop->ops->counters(loop->engine, &engine);
    *stats = loop->stats;
    stats->waits = engine.waits;
    stats->syscalls = engine.syscalls;
    stats->completions = engine.completions;
    stats->rearms = engine.rearms;
    stats->enobufs = engine.enobufs;
    stats->overflows = engine.overflows;
    stats->wakes = engine.wakes;
    stats->conns = loop->conn_count;
    stats->tasks = loop->task_count;
    stats->bufs = loop->bufs.count;
    stats->bufs_free = loop->bufs.free_count;
    stats->timers = loop->wheel.armed;
    stats->runnable = weir__count_runnable(loop);
}
