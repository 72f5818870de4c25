/* The progress line and the question whether colours may be used (compare_progress.h). */
#include "bench/compare_progress.h"

#include "bench/clock.h"

#include <math.h>
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

void weir__progress_round(struct progress *progress, const char *cell, unsigned round,
                          unsigned rounds, double left_s)
{
    uint64_t now_ns = weir__clock_ns();

    if (!progress->redraws || (progress->drawn && now_ns - progress->drawn_ns < NS_PER_S / 10))
        return;
    unsigned left = (unsigned)fmax(left_s, 0);

    fprintf(progress->out, "\r\033[K%s  round %u/%u  about %u:%02u left", cell, round, rounds,
            left / 60, left % 60);
    fflush(progress->out);
    progress->drawn = true;
    progress->drawn_ns = now_ns;
}
