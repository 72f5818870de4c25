/* The progress line and the question whether colours may be used (progress.h). */
#include "bench/progress.h"

#include "bench/clock.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_capable_terminal(FILE *out)
{
    const char *term = getenv("TERM");

    return isatty(fileno(out)) && (term == NULL || strcmp(term, "dumb") != 0);
}

bool weir__colour_wanted(FILE *out)
{
    const char *no_colour = getenv("NO_COLOR");

    return is_capable_terminal(out) && (no_colour == NULL || no_colour[0] == '\0');
}

void weir__progress_init(struct progress *progress)
{
    *progress = (struct progress){.out = stderr, .redraws = is_capable_terminal(stderr)};
}

void weir__progress_clear(struct progress *progress)
{
    if (progress->drawn)
        fputs("\r\033[K", progress->out);
    progress->drawn = false;
    fflush(progress->out);
}

void weir__progress_say(struct progress *progress, const char *format, ...)
{
    va_list args;

    weir__progress_clear(progress);
    va_start(args, format);
    vfprintf(progress->out, format, args);
    va_end(args);
    fputc('\n', progress->out);
    fflush(progress->out);
}

void weir__progress_show(struct progress *progress, const char *format, ...)
{
    uint64_t now_ns = weir__clock_ns();
    va_list args;

    if (!progress->redraws || (progress->drawn && now_ns - progress->drawn_ns < NS_PER_S / 10))
        return;
    fputs("\r\033[K", progress->out);
    va_start(args, format);
    vfprintf(progress->out, format, args);
    va_end(args);
    fflush(progress->out);
    progress->drawn = true;
    progress->drawn_ns = now_ns;
}
