/* What a loop's tasks are and wait for, as a struct and as text: see <weir/inspect.h>. It only
 * reads, and is never on the way of a request. */
#include <weir/inspect.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <weir/coro_inspect.h>

#include "core/backtrace.h"
#include "core/loop.h"
#include "core/text.h"

#define SECOND_NS 1000000000.0

enum { DUMP_STACK_BYTES = 128 * 1024, LINE_BYTES = 1024 };

/* ---- what a task waits for ------------------------------------------------------------------- */

/* A switch, for the compiler tells of a kind that has no name. */
static const char *op_name(enum weir__op_kind kind)
{
    switch (kind) {
    case WEIR__OP_NONE:
        return "nothing";
    case WEIR__OP_ACCEPT:
        return "a peer to accept";
    case WEIR__OP_CONNECT:
        return "connect";
    case WEIR__OP_RECV:
        return "receive";
    case WEIR__OP_SEND:
        return "send";
    case WEIR__OP_SEND_BUFS:
        return "send";
    case WEIR__OP_RECVMSG:
        return "a message";
    case WEIR__OP_SENDMSG:
        return "a message to be sent";
    case WEIR__OP_POLL:
        return "poll";
    case WEIR__OP_READ:
        return "read";
    case WEIR__OP_WRITE:
        return "write";
    case WEIR__OP_FSYNC:
        return "fsync";
    case WEIR__OP_FILE:
        return "a file operation";
    case WEIR__OP_CLOSE:
        return "close";
    case WEIR__OP_SHUTDOWN:
        return "shutdown";
    case WEIR__OP_CALL:
        return "a blocking call";
    case WEIR__OP_KINDS:
        break;
    }
    return "?";
}

static void describe_op(const struct weir__op *op, char *text, size_t bytes)
{
    if (op->fd < 0)
        snprintf(text, bytes, "for %s", op_name((enum weir__op_kind)op->kind));
    else if (op->fd >= WEIR__ENGINE_FDS)
        snprintf(text, bytes, "for %s on the engine's descriptor %d",
                 op_name((enum weir__op_kind)op->kind), op->fd - WEIR__ENGINE_FDS);
    else
        snprintf(text, bytes, "for %s on descriptor %d", op_name((enum weir__op_kind)op->kind),
                 op->fd);
}

static void describe_wait(const struct weir_task *task, char *text, size_t bytes)
{
    const struct weir__wait *wait = task->wait;

    if (wait == &weir__op_wait || wait == &weir__op_through_wait) {
        describe_op(task->object, text, bytes);
    } else if (wait == &weir__recv_wait || wait == &weir__drain_wait) {
        snprintf(text, bytes, "%s of connection %llu", wait->name,
                 (unsigned long long)weir_conn_id(task->object));
    } else if (wait == &weir__join_wait) {
        const struct weir_task *joined = task->object;
        snprintf(text, bytes, "for task %u to end", joined->index + 1);
    } else {
        snprintf(text, bytes, "%s", wait->name);
    }
}

/* ---- tasks ----------------------------------------------------------------------------------- */

static enum weir_task_state state_of(const struct weir_task *task)
{
    if (task->wait)
        return WEIR_TASK_WAITING;
    if (task == task->loop->task)
        return WEIR_TASK_RUNNING;
    return task == task->loop->runner ? WEIR_TASK_IDLE : WEIR_TASK_RUNNABLE;
}

static void look_at(const struct weir_task *task, struct weir_task_info *info)
{
    *info = (struct weir_task_info){
        .number = task->index + 1,
        .parent = task->home ? task->home->owner->index + 1 : 0,
        .joiner = task->joiner ? task->joiner->index + 1 : 0,
        .cut = task->cut,
        .name = weir_coro_name(task->coro),
        .place = weir_coro_place(task->coro),
        .state = state_of(task),
        .deadline_ns = WEIR_FOREVER,
        .stack_used = weir_coro_stack_used(task->coro),
        .stack_bytes = weir_coro_stack_bytes(task->coro),
        .coro = task->coro,
    };
    if (!task->wait)
        return;
    describe_wait(task, info->waits, sizeof info->waits);
    info->since_ns = task->wait_since_ns;
    if (weir__timer_armed(&task->deadline))
        info->deadline_ns = task->deadline.deadline_ns;
}

void weir_tasks_each(struct weir_loop *loop,
                     void (*fn)(const struct weir_task_info *info, void *argument), void *argument)
{
    assert((!loop->running || weir_loop_self() == loop) && "weir_tasks_each: a foreign thread");
    struct weir_task *task = loop->tasks;

    while (task && task->older)
        task = task->older;
    for (; task; task = task->newer) {
        struct weir_task_info info;
        look_at(task, &info);
        fn(&info, argument);
    }
}

/* ---- text ------------------------------------------------------------------------------------ */

void weir__text_flush(struct weir__text *text)
{
    if (text->used)
        text->fn(text->bytes, text->used, text->argument);
    text->used = 0;
}

void weir__text_add(struct weir__text *text, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    int bytes = vsnprintf(text->bytes + text->used, LINE_BYTES, format, arguments);
    va_end(arguments);
    text->used += bytes < LINE_BYTES ? (size_t)bytes : LINE_BYTES - 1;
    /* At the end of a line, unless lines are long without measure. */
    bool last = text->used && text->bytes[text->used - 1] == '\n';
    if (sizeof text->bytes - text->used < (last ? 4 : 1) * LINE_BYTES)
        weir__text_flush(text);
}

struct dump {
    struct weir_loop *loop;
    weir_dump_fn *fn;
    void *argument;
    unsigned flags;
};

struct dumping {
    const struct dump *dump;
    uint64_t now_ns;
    struct weir__text text;
};

static double seconds(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns > from_ns ? (double)(to_ns - from_ns) / SECOND_NS : 0;
}

static void add_task(const struct weir_task_info *info, void *argument)
{
    struct dumping *dumping = argument;
    struct weir__text *text = &dumping->text;
    static const char *const states[] = {[WEIR_TASK_RUNNING] = "running",
                                         [WEIR_TASK_RUNNABLE] = "runnable",
                                         [WEIR_TASK_WAITING] = "waits",
                                         [WEIR_TASK_IDLE] = "idle"};

    weir__text_add(text, "task %u %s (%s): %s", info->number, info->name, info->place,
                   states[info->state]);
    if (info->state == WEIR_TASK_WAITING)
        weir__text_add(text, " %.3f s %s", seconds(info->since_ns, dumping->now_ns), info->waits);
    if (info->deadline_ns != WEIR_FOREVER)
        weir__text_add(text, ", for %.3f s more", seconds(dumping->now_ns, info->deadline_ns));
    if (info->stack_used)
        weir__text_add(text, "; stack %zu of %zu", info->stack_used, info->stack_bytes);
    if (info->parent)
        weir__text_add(text, "; in a scope of task %u", info->parent);
    if (info->joiner)
        weir__text_add(text, "; joined by task %u", info->joiner);
    if (info->cut)
        weir__text_add(text, "; %s", info->cut == -ETIME ? "past a deadline" : "cancelled");
    weir__text_add(text, "\n");
    if (!(dumping->dump->flags & WEIR_DUMP_BRIEF) && !weir__backtrace_lacks)
        weir__backtrace(info->coro, text);
}

unsigned weir__count_runnable(const struct weir_loop *loop)
{
    unsigned count = 0;

    for (struct weir_task *task = loop->run_head; task; task = task->next)
        count++;
    for (struct weir_task *task = loop->yielded_head; task; task = task->next)
        count++;
    return count;
}

static void dump_deep(void *argument)
{
    const struct dump *dump = argument;
    struct weir_loop *loop = dump->loop;
    struct dumping dumping = {.dump = dump, .now_ns = weir_now_ns()};

    dumping.text.fn = dump->fn;
    dumping.text.argument = dump->argument;
    weir__text_add(&dumping.text, "weir: loop of %s; tasks: %u, connections: %u, runnable: %u\n",
                   loop->ops->name, loop->task_count, loop->conn_count, weir__count_runnable(loop));
    if (!(dump->flags & WEIR_DUMP_BRIEF) && weir__backtrace_lacks)
        weir__text_add(&dumping.text, "no back-traces: %s\n", weir__backtrace_lacks);
    weir_tasks_each(loop, add_task, &dumping);
    weir__text_flush(&dumping.text);
}

int weir_dump_to(struct weir_loop *loop, weir_dump_fn *fn, void *argument, unsigned flags)
{
    struct dump dump = {.loop = loop, .fn = fn, .argument = argument, .flags = flags};

    assert(fn && !(flags & ~(unsigned)WEIR_DUMP_BRIEF));
    assert((!loop->running || weir_loop_self() == loop) && "weir_dump: a foreign thread");
    return weir_coro_call_deep(DUMP_STACK_BYTES, dump_deep, &dump);
}

/* ---- to a descriptor, and on demand ---------------------------------------------------------- */

struct sink {
    int fd, error;
};

static void write_all(const char *text, size_t bytes, void *argument)
{
    struct sink *sink = argument;

    while (bytes > 0 && !sink->error) {
        ssize_t wrote = write(sink->fd, text, bytes);
        if (wrote < 0 && errno != EINTR)
            sink->error = -errno;
        if (wrote > 0) {
            text += wrote;
            bytes -= (size_t)wrote;
        }
    }
}

int weir_dump(struct weir_loop *loop, int fd, unsigned flags)
{
    struct sink sink = {.fd = fd};
    int res = weir_dump_to(loop, write_all, &sink, flags);

    return res ? res : sink.error;
}

static void dump_asked(struct weir_post *post)
{
    struct weir_loop *loop = weir__container(post, struct weir_loop, dump_post);

    atomic_store(&loop->dump_asked, false); /* who asks from here on sees what comes to be now */
    weir_dump(loop, STDERR_FILENO, 0);
}

int weir_dump_request(struct weir_loop *loop)
{
    if (atomic_exchange(&loop->dump_asked, true))
        return 0;
    loop->dump_post.fn = dump_asked;
    int error = weir_post(loop, &loop->dump_post);
    if (error)
        atomic_store(&loop->dump_asked, false);
    return error;
}
