/* Stub. */
#include "core/park.h"
bool weir__select_claim(struct weir__waiter *waiter)
{
    return true;
}
void weir__select_unwait(struct weir_task *task, int why) {}
