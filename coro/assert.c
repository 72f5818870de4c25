/*
 * What a failed assert() of this library does. The libc's makes its message by vfprintf, which
 * takes more stack than a coroutine has: what one would then read is that of an overflow. This one
 * takes some hundred bytes, and says the same.
 *
 * It is for the library it is linked into (and for a program that links the archive): a shared
 * library exports no such name, so others keep the libc's.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { DIGITS = 12, PARTS = 10 };

/* <assert.h> is not included: the libcs do not agree on the type of `line`. Weak: in an archive
 * that goes beside another one of ours there are two. */
_Noreturn void weir__assert_fail(const char *what, const char *file, unsigned line,
                                 const char *function) __asm__("__assert_fail")
    __attribute__((weak, visibility("hidden")));

static struct iovec text(const char *string)
{
    return (struct iovec){.iov_base = (void *)(uintptr_t)string, .iov_len = strlen(string)};
}

void weir__assert_fail(const char *what, const char *file, unsigned line, const char *function)
{
    char digits[DIGITS], *digit = digits + DIGITS - 1;

    for (*digit = 0; line > 0 || !*digit; line /= 10)
        *--digit = (char)('0' + line % 10);
    struct iovec parts[PARTS] = {
        text(program_invocation_short_name),
        text(": "),
        text(file),
        text(":"),
        text(digit),
        text(": "),
        text(function ? function : "?"),
        text(": Assertion `"),
        text(what),
        text("' failed.\n"),
    };
    if (writev(STDERR_FILENO, parts, PARTS) < 0)
        abort(); /* nobody reads it */
    abort();
}
