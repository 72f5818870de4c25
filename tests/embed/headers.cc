// The public headers in a C++ program that is not Weir's: they compile without a warning, and what
// they declare links. Built by embed.py where there is a C++ compiler.
#include <cstdio>
#include <cstdlib>

#include <weir/coro.h>
#include <weir/weir.h>

static void twice(void *argument)
{
    weir_coro_yield(argument);
}

int main()
{
    struct weir_coro_pool *pool = nullptr;
    struct weir_coro *co = nullptr;
    int value = 1;

    if (weir_coro_pool_new(&pool, nullptr) != 0 || weir_coro_new(pool, &co, twice, &value) != 0)
        return EXIT_FAILURE;
    if (weir_coro_resume(co, nullptr) != &value || weir_coro_resume(co, nullptr) != nullptr)
        return EXIT_FAILURE;
    weir_coro_pool_free(pool);
    if (weir_engines()[0] == nullptr || weir_now_ns() == 0)
        return EXIT_FAILURE;
    std::printf("best engine built in: %s\n", weir_engines()[0]);
    return EXIT_SUCCESS;
}
