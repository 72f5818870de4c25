/* Stand-in for Criterion's parameterized tests; see criterion.h. Each parameter is a test. */
#ifndef STANDIN_CRITERION_PARAMETERIZED_H
#define STANDIN_CRITERION_PARAMETERIZED_H

#include <criterion/criterion.h>

#define ParameterizedTestParameters(Suite, Name)                                                   \
    static struct criterion_test_params standin_params_##Suite##_##Name(void)

/* The body takes a pointer to the parameter's own type; the runner only has its address. */
#define ParameterizedTest(Param, Suite, Name, ...)                                                 \
    static void standin_run_##Suite##_##Name(Param);                                               \
    static struct standin_test standin_test_##Suite##_##Name = {                                   \
        .suite = #Suite,                                                                           \
        .name = #Name,                                                                             \
        .run_with = (void (*)(void *))(void (*)(void))standin_run_##Suite##_##Name,                \
        .params = standin_params_##Suite##_##Name,                                                 \
        .options = {.sentinel = 0, ##__VA_ARGS__}};                                                \
    STANDIN_ADD(Suite, Name)                                                                       \
    static void standin_run_##Suite##_##Name(Param)

static inline struct criterion_test_params
standin_params(size_t size, void *params, size_t length,
               void (*cleanup)(struct criterion_test_params *params))
{
    return (struct criterion_test_params){size, params, length, cleanup};
}

/* cr_make_param_array(Type, Array, Length) or (Type, Array, Length, Cleanup). */
#define STANDIN_PARAMS(Type, Array, Length, Cleanup, ...)                                          \
    standin_params(sizeof(Type), (void *)(Array), Length, Cleanup)
#define cr_make_param_array(Type, Array, ...) STANDIN_PARAMS(Type, Array, __VA_ARGS__, NULL, 0)

#endif
