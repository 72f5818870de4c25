/* The one place where engines are named. core/ includes no engine's header: each engine exports
 * one struct, declared here. The order is the order in which `auto` tries them. */
#include "config.h"
#include "core/engine.h"

/* clang-format off */
#define WEIR_ENGINE(symbol) extern const struct weir__engine_ops symbol;
#include "core/engine_list.h"
#undef WEIR_ENGINE

const struct weir__engine_ops *const weir__engine_table[] = {
#define WEIR_ENGINE(symbol) &symbol,
#include "core/engine_list.h"
#undef WEIR_ENGINE
    NULL,
};
