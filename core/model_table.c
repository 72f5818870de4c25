/* The server models that are not engines, by name; the classic ones join the bare ones here. */
#include "config.h"

#include <weir/model.h>

#if WEIR_HAVE_URING
extern const struct weir_model weir__model_bare_uring;
#endif
extern const struct weir_model weir__model_bare_epoll;

const struct weir_model *const weir_models[] = {
    &weir__model_bare_epoll,
#if WEIR_HAVE_URING
    &weir__model_bare_uring,
#endif
    NULL,
};
