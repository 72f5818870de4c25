/* The figures of seed_figures.h, as they were published. */
#include "bench/seed_figures.h"

#include <math.h>
#include <string.h>

#define UNFINISHED NAN

const unsigned weir__seed_conns[SEED_COLUMNS] = {100, 200, 1000};

/* The coroutines' row has one more figure, 7,953,127 ms, of a number of clients that is not told.
 */
static const struct {
    const char *name;
    double ms[SEED_COLUMNS];
} rows[] = {
    {"singleprocess", {424, 795, UNFINISHED}},
    {"multiprocess", {891, 1498, 7683}},
    {"multithread", {461, 875, 4820}},
    {"processpool1", {394, 686, 1099203}},
    {"processpool2", {464, 687, 335470}},
    {"threadpool", {357, 658, 458326}},
    {"leaderandfollower", {356, 617, 825855}},
    {"select", {347, 785, 581370}},
    {"poll", {340, 851, 319311}},
    {"epoll", {374, 844, 38038}},
    {"epollreactorsingleprocess", {1455, 2992, 11763}},
    {"epollreactorsingleprocess_et", {1783, 3559, 12193}},
    {"epollreactorsingleprocess_corouline", {165, 350, 1711}},
    {"epollreactorthreadpoll", {1448, 2839, 11038}},
    {"epollreactorthreadpollhsha", {1131, 2211, 10291}},
    {"epollreactorthreadpollms", {1597, 3203, 11282}},
    {"epollreactorprocesspollcoroutine", {1172, 2240, 10597}},
};

bool weir__seed_figure(const char *seed_name, size_t column, double *ms)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(rows[i].name, seed_name) != 0)
            continue;
        *ms = rows[i].ms[column];
        return true;
    }
    return false;
}
