/* No sys/sdt.h at build time: no probes. trace_sdt.h says what each has. */
#ifndef WEIR_CORE_TRACE_NONE_H
#define WEIR_CORE_TRACE_NONE_H

#define weir__trace_task_spawn(task, name, place) ((void)0)
#define weir__trace_task_resume(task)             ((void)0)
#define weir__trace_task_suspend(task)            ((void)0)
#define weir__trace_task_wait(task, kind, object) ((void)0)
#define weir__trace_task_end(task)                ((void)0)
#define weir__trace_op_submit(op, kind, fd)       ((void)0)
#define weir__trace_op_complete(op, kind, res)    ((void)0)
#define weir__trace_wait_enter(loop, deadline_ns) ((void)0)
#define weir__trace_wait_leave(loop, res)         ((void)0)
#define weir__trace_scope_cancel(scope, why)      ((void)0)

#endif
