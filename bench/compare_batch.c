/*
 * What fits this machine at once, and how a comparison is divided where not all of it does: into
 * batches, each beside the reference and its A/A copy (compare.h). Starts nothing.
 */
#include "bench/compare_batch.h"

#include "bench/preflight.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned most_conns(const struct compare_options *options)
{
    unsigned most = 0;

    for (size_t i = 0; i < options->conns_count; i++)
        most = options->conns[i] > most ? options->conns[i] : most;
    return most;
}

int weir__compare_fits_conns(const struct compare_options *options, uint64_t servers,
                             uint64_t conns, char *text, size_t bytes)
{
    unsigned most = most_conns(options);
    struct limits_need need = {
        .driver_conns = conns,
        .server_conns = most,
        .conns_per_addr = most,
        .connect_burst = weir__shape_connects_at_once(options->shape.kind) ? most : 0,
        .loopback = true,
    };

    if (servers > WEIR__DRIVER_TARGETS_MAX) {
        snprintf(text, bytes, "%" PRIu64 " servers at once; the driver holds %d", servers,
                 WEIR__DRIVER_TARGETS_MAX);
        return -E2BIG;
    }
    return weir__limits_require(&need, text, bytes) < 0 ? -ERANGE : 0;
}

int weir__compare_fits(const struct compare_options *options, uint64_t servers, char *text,
                       size_t bytes)
{
    unsigned most = most_conns(options);
    bool held = weir__shape_holds_conns(options->shape.kind);
    int result =
        weir__compare_fits_conns(options, servers, held ? most * servers : most, text, bytes);
    size_t used = result < 0 ? strlen(text) : 0;

    if (result == -ERANGE && held)
        snprintf(text + used, bytes - used,
                 " (all %" PRIu64 " servers, the A/A copy included, are connected at once)",
                 servers);
    return result;
}

size_t weir__compare_batch(const struct compare_options *options, size_t rows, char *text,
                           size_t bytes)
{
    for (size_t batches = 1; batches <= rows; batches++) {
        size_t batch = (rows + batches - 1) / batches;
        if (weir__compare_fits(options, batch + 2, text, bytes) == 0)
            return batch;
    }
    return weir__compare_fits(options, 3, text, bytes) == 0 ? 1 : 0;
}

/* How many of the engines that are not the reference go into one group; -ERANGE: not even one. */
static int batch_at(const struct compare_options *options, size_t index, size_t *batch, char *text,
                    size_t bytes)
{
    struct compare_options one = *options;
    size_t others = options->engines.count - 1;

    one.conns[0] = options->conns[index];
    one.conns_count = 1;
    *batch = others;
    if (others == 0)
        return weir__compare_fits(&one, 2, text, bytes) < 0 ? -ERANGE : 0;
    *batch = weir__compare_batch(&one, others, text, bytes);
    return *batch > 0 ? 0 : -ERANGE;
}

int weir__compare_parts(const struct compare_options *options, struct compare_part **made,
                        size_t *count, char *text, size_t bytes)
{
    size_t engines = options->engines.count;
    struct compare_part *parts = calloc(options->conns_count * engines, sizeof *parts);

    *made = parts;
    *count = 0;
    if (parts == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < options->conns_count; i++) {
        size_t batch;
        if (batch_at(options, i, &batch, text, bytes) < 0)
            return -ERANGE;
        size_t batches = batch > 0 ? (engines - 1 + batch - 1) / batch : 1;
        for (size_t k = 0; k < batches; k++) {
            size_t first = k * batch, left = engines - 1 - first;
            parts[(*count)++] = (struct compare_part){
                .conns_index = i,
                .first = first,
                .count = left < batch ? left : batch,
                .of = batches,
                .budget_s = weir__plan_share_s(options, i) / (double)batches,
            };
        }
    }
    return 0;
}

size_t weir__compare_part_lineup(const struct compare_options *options,
                                 const struct compare_part *part, size_t reference,
                                 struct lineup *lineup)
{
    size_t count = 0, other = 0;

    for (size_t i = 0; i < options->engines.count; i++) {
        bool here = i == reference;
        if (!here) {
            here = other >= part->first && other < part->first + part->count;
            other++;
        }
        if (here)
            lineup[count++] = lineup[i];
    }
    return count;
}
