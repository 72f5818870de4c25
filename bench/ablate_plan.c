/*
 * The arithmetic of an ablation (ablate.h): columns, rows, what a switch took along, what a ratio
 * means. No process, no output.
 */
#include "bench/ablate.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A request alone, many at once, large ones, many in one packet, and connections that come and go:
 * each is where some feature has its work. */
static const struct ablation_work usual_work[] = {
    {"1 conn", {.kind = SHAPE_CLOSED}, 100, 1},
    {"1000 conns", {.kind = SHAPE_CLOSED}, 100, 1000},
    {"16 KiB", {.kind = SHAPE_CLOSED}, 16 << 10, 50},
    {"depth 16", {.kind = SHAPE_PIPELINE, .depth = 16}, 100, 50},
    {"churn", {.kind = SHAPE_CHURN}, 100, 50},
};

enum { USUAL_WORK = sizeof usual_work / sizeof usual_work[0] };

size_t weir__ablate_work(const struct compare_options *options, struct ablation_work *work)
{
    static_assert(USUAL_WORK <= (int)ABLATION_COLUMNS_MAX, "work has room for them");
    if (options->conns_count == 0) {
        memcpy(work, usual_work, sizeof usual_work);
        return USUAL_WORK;
    }
    assert(options->conns_count <= ABLATION_COLUMNS_MAX);
    for (size_t i = 0; i < options->conns_count; i++)
        work[i] = (struct ablation_work){
            .shape = options->shape, .size_bytes = options->size_bytes, .conns = options->conns[i]};
    return options->conns_count;
}

bool weir__ablate_holds(const char *names, const char *name)
{
    size_t length = strlen(name);

    for (const char *at = names; *at != '\0';) {
        size_t one = strcspn(at, ",");
        if (one == length && memcmp(at, name, one) == 0)
            return true;
        at += one + (at[one] == ',');
    }
    return false;
}

static int add_row(const char *base, const char *feature, bool on, struct ablation_row *row)
{
    *row = (struct ablation_row){.feature = feature, .on = on};
    if (asprintf(&row->spec, "%s%sfeatures=%c%s", base, strchr(base, ':') != NULL ? "," : ":",
                 on ? '+' : '-', feature) < 0) {
        row->spec = NULL;
        return -ENOMEM;
    }
    return 0;
}

int weir__ablate_rows(const char *base, const char *const *features, const char *granted,
                      struct ablation_row *rows, size_t capacity)
{
    size_t count = 0;
    int result = 0;

    for (int on = 0; on <= 1; on++) {
        for (size_t i = 0; features[i] != NULL && result == 0; i++) {
            if (weir__ablate_holds(granted, features[i]) == (bool)on || count == capacity)
                continue;
            result = add_row(base, features[i], on, &rows[count]);
            count += result == 0;
        }
    }
    for (size_t i = 0; result < 0 && i < count; i++)
        free(rows[i].spec);
    return result < 0 ? result : (int)count;
}

/* The names of `all` that `some` does not hold, but for `except`. */
static void names_beyond(const char *all, const char *some, const char *except, char *text,
                         size_t bytes)
{
    char name[64];
    size_t used = 0;

    text[0] = '\0';
    for (const char *at = all; *at != '\0' && used < bytes;) {
        size_t length = strcspn(at, ",");

        snprintf(name, sizeof name, "%.*s", (int)length, at);
        if (strcmp(name, except) != 0 && !weir__ablate_holds(some, name))
            used += (size_t)snprintf(text + used, bytes - used, "%s%s", used > 0 ? "," : "", name);
        at += length + (at[length] == ',');
    }
}

static bool same_names(const char *one, const char *other)
{
    char beyond[ABLATION_NAMES_BYTES];

    names_beyond(one, other, "", beyond, sizeof beyond);
    if (beyond[0] != '\0')
        return false;
    names_beyond(other, one, "", beyond, sizeof beyond);
    return beyond[0] == '\0';
}

void weir__ablate_take_granted(struct ablation_row *rows, size_t index, const char *plain,
                               const char *granted)
{
    struct ablation_row *row = &rows[index];

    snprintf(row->granted, sizeof row->granted, "%s", granted);
    names_beyond(plain, granted, row->feature, row->also_off, sizeof row->also_off);
    names_beyond(granted, plain, row->feature, row->also_on, sizeof row->also_on);
    row->state = ABLATION_MEASURED;
    if (same_names(plain, granted)) {
        row->state = ABLATION_SAME;
        snprintf(row->why, sizeof row->why, "it changes nothing here");
    }
    for (size_t i = 0; i < index && row->state == ABLATION_MEASURED; i++) {
        char name[ABLATION_NAMES_BYTES / 2];

        if (rows[i].state != ABLATION_MEASURED || !same_names(rows[i].granted, granted))
            continue;
        weir__ablation_row_name(&rows[i], name, sizeof name);
        row->state = ABLATION_SAME;
        snprintf(row->why, sizeof row->why, "the same as %s", name);
    }
}

struct ablation_worth weir__ablate_worth(const struct report_cell *cell, struct interval noise,
                                         bool on)
{
    struct ablation_worth worth = {.ratio = weir__interval_unknown()};

    if (!cell->measured || cell->failed != NULL || !cell->has_ratio)
        return worth;
    struct interval over = cell->cpu_ratio;

    /* The row is the engine with it: turned over, it is without over with, too. */
    worth.ratio = on ? (struct interval){1 / over.median, 1 / over.hi, 1 / over.lo} : over;
    switch (weir__stats_verdict(worth.ratio, noise, false)) {
    case VERDICT_SLOWER:
        worth.verdict = WORTH_PAYS;
        break;
    case VERDICT_FASTER:
        worth.verdict = WORTH_COSTS;
        break;
    case VERDICT_WITHIN_NOISE:
        worth.verdict = WORTH_NOTHING;
        break;
    case VERDICT_UNKNOWN:
        break;
    }
    return worth;
}
