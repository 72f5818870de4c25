/*
 * Stand-in for Criterion's newer assertions, cr_assert(eq(int, a, b)): each criterion is an
 * expression here, so cr_assert takes it as it is. See ../criterion.h.
 */
#ifndef STANDIN_CRITERION_NEW_ASSERT_H
#define STANDIN_CRITERION_NEW_ASSERT_H

#include <criterion/criterion.h>

#define STANDIN_ORDER_str(A, Operator, B)  (strcmp(A, B) Operator 0)
#define STANDIN_ORDER_int(A, Operator, B)  ((A)Operator(B))
#define STANDIN_ORDER_uint(A, Operator, B) ((A)Operator(B))
#define STANDIN_ORDER_long(A, Operator, B) ((A)Operator(B))
#define STANDIN_ORDER_sz(A, Operator, B)   ((A)Operator(B))
#define STANDIN_ORDER_ptr(A, Operator, B)  ((A)Operator(B))
#define STANDIN_ORDER_chr(A, Operator, B)  ((A)Operator(B))
#define STANDIN_ORDER_dbl(A, Operator, B)  ((A)Operator(B))
#define STANDIN_ORDER_i32(A, Operator, B)  ((A)Operator(B))
#define STANDIN_ORDER_i64(A, Operator, B)  ((A)Operator(B))
#define STANDIN_ORDER_u8(A, Operator, B)   ((A)Operator(B))
#define STANDIN_ORDER_u16(A, Operator, B)  ((A)Operator(B))
#define STANDIN_ORDER_u32(A, Operator, B)  ((A)Operator(B))
#define STANDIN_ORDER_u64(A, Operator, B)  ((A)Operator(B))

#define eq(Tag, A, B)  STANDIN_ORDER_##Tag(A, ==, B)
#define ne(Tag, A, B)  STANDIN_ORDER_##Tag(A, !=, B)
#define lt(Tag, A, B)  STANDIN_ORDER_##Tag(A, <, B)
#define le(Tag, A, B)  STANDIN_ORDER_##Tag(A, <=, B)
#define gt(Tag, A, B)  STANDIN_ORDER_##Tag(A, >, B)
#define ge(Tag, A, B)  STANDIN_ORDER_##Tag(A, >=, B)
#define zero(Tag, A)   STANDIN_ORDER_##Tag(A, ==, 0)
#define not(Condition) (!(Condition))

#endif
