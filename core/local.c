/* Values of a task's own; see weir/local.h. They lie in the task, a bit says which are set. */
#include "core/park.h"

static void (*destructors[WEIR_LOCAL_KEYS])(void *value);
static atomic_int keys;

int weir_local_key_new(void (*destructor)(void *value))
{
    int key = atomic_load(&keys);

    do {
        if (key == WEIR_LOCAL_KEYS)
            return -EAGAIN;
    } while (!atomic_compare_exchange_weak(&keys, &key, key + 1));
    destructors[key] = destructor;
    return key;
}

static void check_key(int key)
{
    assert(key >= 0 && key < atomic_load_explicit(&keys, memory_order_relaxed) &&
           "weir_local_*: no key of weir_local_key_new()");
}

void weir_local_set(int key, void *value)
{
    struct weir_task *task = weir__task_needed("weir_local_set");

    check_key(key);
    task->locals[key] = value;
    task->locals_set |= (uint8_t)(1u << key);
}

void *weir_local_get(int key)
{
    struct weir_task *task = weir__task_needed("weir_local_get");

    check_key(key);
    return task->locals_set & 1u << key ? task->locals[key] : NULL;
}

void weir__locals_end(struct weir_task *task)
{
    while (task->locals_set) {
        int key = __builtin_ctz(task->locals_set);
        task->locals_set &= (uint8_t) ~(1u << key);
        if (destructors[key] && task->locals[key])
            destructors[key](task->locals[key]);
    }
}
