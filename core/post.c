/* Messages from other threads: a stack that any thread pushes to and the loop takes whole (Treiber,
 * 1986), turned round to keep each sender's order. The engine is only woken when the loop may
 * sleep. */
#include "core/loop.h"

#include <errno.h>

/* The head once no more is taken. */
static struct weir_post closed_mark;

static int push(struct weir_loop *loop, struct weir_post *post)
{
    struct weir_post *head = atomic_load(&loop->posts);

    do {
        if (head == &closed_mark)
            return -ESHUTDOWN;
        post->next = head;
    } while (!atomic_compare_exchange_weak(&loop->posts, &head, post));
    weir__loop_wake(loop);
    return 0;
}

int weir_post(struct weir_loop *loop, struct weir_post *post)
{
    assert(post->fn && "weir_post: no function");
    atomic_fetch_add(&loop->callers, 1);
    int error = push(loop, post);
    atomic_fetch_sub(&loop->callers, 1);
    return error;
}

void weir__loop_wake(struct weir_loop *loop)
{
    /* Who clears the flag wakes: of many posts to a sleeping loop one pays the system call. */
    if (!atomic_exchange(&loop->sleeping, false))
        return;
    int error = loop->ops->wake(loop->engine);
    assert(!error && "the engine cannot be woken: its descriptor was closed by someone else");
    (void)error;
}

bool weir__posts_pending(struct weir_loop *loop)
{
    return atomic_load(&loop->posts) != NULL;
}

static void run(struct weir_post *newest)
{
    struct weir_post *oldest = NULL, *next;

    for (; newest; newest = next) {
        next = newest->next;
        newest->next = oldest;
        oldest = newest;
    }
    for (; oldest; oldest = next) {
        next = oldest->next; /* fn may free it */
        oldest->fn(oldest);
    }
}

bool weir__posts_run(struct weir_loop *loop)
{
    if (!atomic_load_explicit(&loop->posts, memory_order_relaxed))
        return false;
    run(atomic_exchange(&loop->posts, NULL));
    return true;
}

void weir__posts_close(struct weir_loop *loop)
{
    struct weir_post *newest = atomic_exchange(&loop->posts, &closed_mark);

    if (newest != &closed_mark)
        run(newest);
}
