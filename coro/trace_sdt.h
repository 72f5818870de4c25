/* The probe of the trim policy: see core/trace_sdt.h. */
#ifndef WEIR__CORO_TRACE_H
#define WEIR__CORO_TRACE_H

#include <sys/sdt.h>

#define weir__trace_trim(pool, released, resident)                                                 \
    DTRACE_PROBE3(weir, trim, pool, released, resident)

#endif
