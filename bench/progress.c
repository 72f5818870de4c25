/* The progress line and the question whether colours may be used (progress.h). */
#include "bench/progress.h"

#include "bench/clock.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
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
    struct winsize size = {0};
    char text[256];
    va_list args;

    if (!progress->redraws || (progress->drawn && now_ns - progress->drawn_ns < NS_PER_S / 10))
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    /* A line that wraps could not be taken back. */
    if (ioctl(fileno(progress->out), TIOCGWINSZ, &size) == 0 && size.ws_col > 1 &&
        size.ws_col < sizeof text)
        text[size.ws_col - 1] = '\0';
    fprintf(progress->out, "\r\033[K%s", text);
    fflush(progress->out);
    progress->drawn = true;
    progress->drawn_ns = now_ns;
}
