/* Which sentences stand under a comparison (compare_notes.h). */
#include "bench/compare_notes.h"

#include "bench/host.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void weir__note(struct notes *notes, const char *format, ...)
{
    va_list args;
    char *text;

    va_start(args, format);
    int length = vasprintf(&text, format, args);
    va_end(args);
    if (length < 0)
        return;
    if (notes->count == NOTES_MAX) {
        free(text);
        return;
    }
    notes->items[notes->count++] = text;
}

void weir__notes_deinit(struct notes *notes)
{
    for (size_t i = 0; i < notes->count; i++)
        free(notes->items[i]);
    notes->count = 0;
}

void weir__notes_group(struct notes *notes, const struct group *group, const char *wanted)
{
    const struct contender *twin = weir__group_twin(group);

    if (weir__compare_interrupted && group->rounds == 0)
        return;
    if (group->reference == NULL)
        weir__note(notes, "at %s the reference did not run: no ratios and no verdicts",
                   group->title);
    else if (wanted != NULL && strcmp(wanted, group->reference) != 0)
        weir__note(notes, "at %s %s could not run; the reference is %s instead", group->title,
                   wanted, group->reference);
    if (group->rounds > 0 && group->rounds < STATS_SAMPLES_MIN)
        weir__note(
            notes,
            "at %s there was time for %u round%s; intervals and verdicts need %d: raise --budget, "
            "or give --rounds",
            group->title, group->rounds, group->rounds == 1 ? "" : "s", STATS_SAMPLES_MIN);
    if (twin != NULL && (twin->failed || twin->skipped))
        weir__note(notes, "at %s the reference's second copy failed: %s", group->title, twin->why);
}

void weir__notes_batches(struct notes *notes, const struct compare_options *options,
                         const struct compare_part *part)
{
    weir__note(notes,
               "at %u connections the %zu servers are too many for this machine at once: they were "
               "measured in %zu batches, each beside the reference and an A/A copy of it; ratios "
               "and verdicts are each batch's own, the reference's figures those of the first",
               options->conns[part->conns_index], options->engines.count + 1, part->of);
}

/* Appends a name; a full list stays as it is. */
__attribute__((format(printf, 3, 4))) static void append(char *text, size_t bytes,
                                                         const char *format, ...)
{
    size_t used = strlen(text);
    va_list args;

    va_start(args, format);
    vsnprintf(text + used, bytes - used, format, args);
    va_end(args);
}

void weir__notes_cells(struct notes *notes, const struct report_cell *cells, size_t count,
                       const struct shape *shape)
{
    char spent[768] = "", spins[256] = "";

    for (size_t i = 0; i < count; i++) {
        const struct report_cell *cell = &cells[i];
        const char *comma = spent[0] != '\0' ? ", " : "";

        if (cell->over_budget && cell->cut && cell->slices == 1)
            append(spent, sizeof spent, "%s%s (%" PRIu64 " of %" PRIu64 " requests in %.1f s)",
                   comma, cell->engine, cell->requests, (uint64_t)cell->conns * shape->requests,
                   cell->seconds);
        else if (cell->over_budget)
            append(spent, sizeof spent, "%s%s (%u slice%s)", comma, cell->engine, cell->slices,
                   cell->slices == 1 ? "" : "s");
        if (cell->spins && cell->measured)
            append(spins, sizeof spins, "%s%s", spins[0] != '\0' ? ", " : "", cell->engine);
    }
    if (spent[0] != '\0')
        weir__note(notes,
                   "at %u connections the budget of a cell (--cell-budget) ended before the "
                   "others, with what they had done by then: %s",
                   cells[0].conns, spent);
    if (spins[0] != '\0')
        weir__note(notes,
                   "at %u connections these take their CPU also when nobody asks: they were "
                   "stopped (SIGSTOP) outside their own slices: %s",
                   cells[0].conns, spins);
}

/* What others did to the machine meanwhile is part of the result. */
void weir__notes_neighbours(struct notes *notes, const struct host *host,
                            const struct host_ticks *before, bool first_run)
{
    struct host_ticks now;
    double load = host->load_average;

    /* Later runs of one command would find the load of the earlier. */
    if (first_run && load > host->cores * 0.5)
        weir__note(
            notes,
            "the load average was %.1f on %d CPUs before the run: other programs are at work, and "
            "the figures are noisier for it",
            load, host->cores);
    if (before->all == 0 || weir__host_ticks(&now) < 0 || now.all <= before->all)
        return;
    double stolen = (double)(now.stolen - before->stolen) / (double)(now.all - before->all);
    if (stolen > 0.01)
        weir__note(notes, "the hypervisor gave %.1f %% of the CPU time to others during the run",
                   100 * stolen);
}
