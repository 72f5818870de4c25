/*
 * <weir/coro.h> from C++: it compiles with the strictest warnings, its macros work, and an
 * exception may be thrown and caught within one coroutine (but not out of it).
 */
#include <weir/coro.h>

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

static void throw_and_catch(void *arg)
{
    std::string *said = static_cast<std::string *>(arg);
    try {
        weir_coro_yield(nullptr);
        throw std::runtime_error("thrown");
    } catch (const std::exception &e) {
        *said = e.what();
        weir_coro_yield(nullptr);
        *said += " and caught";
    }
}

static bool works()
{
    weir_coro_options options = weir_coro_options();
    weir_coro_pool *pool;
    weir_coro *co;
    std::string said;
    options.max_coros = 10;
    if (weir_coro_pool_new(&pool, &options) != 0)
        return false;
    if (weir_coro_new_sized(pool, &co, throw_and_catch, &said, 65536) != 0)
        return false;
    while (weir_coro_resume(co, nullptr), weir_coro_status(co) != WEIR_CORO_DONE)
        ;
    weir_coro_pool_free(pool);
    return said == "thrown and caught";
}

int main()
{
    std::printf("%sok 1 - the header serves C++, and exceptions stay inside\n1..1\n",
                works() ? "" : "not ");
    return EXIT_SUCCESS;
}
