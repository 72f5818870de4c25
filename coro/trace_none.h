/* No sys/sdt.h at build time: no probe. */
#ifndef WEIR__CORO_TRACE_H
#define WEIR__CORO_TRACE_H

#define weir__trace_trim(pool, released, resident) ((void)0)

#endif
