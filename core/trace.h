/* Static tracepoints: real ones (sys/sdt.h) where systemtap's header is there, else nothing. */
#ifndef WEIR_CORE_TRACE_H
#define WEIR_CORE_TRACE_H

#include "config.h"

#include WEIR_TRACE

#endif
