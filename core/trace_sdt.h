/* Probes of the provider "weir", each a nop and a note in the file: see `readelf -n`, and
 * `bpftrace -e 'usdt:libweir.so:weir:task__wait { ... }'`. */
#ifndef WEIR_CORE_TRACE_SDT_H
#define WEIR_CORE_TRACE_SDT_H

#include <sys/sdt.h>

#define weir__trace_task_spawn(task, name, place)                                                  \
    DTRACE_PROBE3(weir, task__spawn, task, name, place)
#define weir__trace_task_resume(task)  DTRACE_PROBE1(weir, task__resume, task)
#define weir__trace_task_suspend(task) DTRACE_PROBE1(weir, task__suspend, task)
#define weir__trace_task_wait(task, kind, object)                                                  \
    DTRACE_PROBE3(weir, task__wait, task, kind, object)
#define weir__trace_task_end(task)             DTRACE_PROBE1(weir, task__end, task)
#define weir__trace_op_submit(op, kind, fd)    DTRACE_PROBE3(weir, op__submit, op, kind, fd)
#define weir__trace_op_complete(op, kind, res) DTRACE_PROBE3(weir, op__complete, op, kind, res)
#define weir__trace_wait_enter(loop, deadline_ns)                                                  \
    DTRACE_PROBE2(weir, wait__enter, loop, deadline_ns)
#define weir__trace_wait_leave(loop, res)    DTRACE_PROBE2(weir, wait__leave, loop, res)
#define weir__trace_scope_cancel(scope, why) DTRACE_PROBE2(weir, scope__cancel, scope, why)

#endif
