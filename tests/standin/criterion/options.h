/* Stand-in for Criterion's options; they are in criterion.h. */
#include <criterion/criterion.h>
