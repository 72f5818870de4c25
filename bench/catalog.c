/*
 * The names of --engines in this build: the runtime's engines, then the models that are not
 * engines. Nothing else in bench/ names an engine.
 */
#include "bench/compare.h"

#include <weir/model.h>
#include <weir/weir.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HELP_INDENT = 13, /* of the text behind an engine's name */
    HELP_WIDTH = 78,
};

static unsigned groups_of_engine(const char *name)
{
    /* Every engine here but the proactor is told of readiness. */
    return strcmp(name, "uring") == 0 ? GROUP_COROUTINES : GROUP_COROUTINES | GROUP_REACTORS;
}

static unsigned groups_of_model(const struct weir_model *model)
{
    return (model->traits & WEIR_MODEL_BLOCKING ? GROUP_BLOCKING : 0u) |
           (model->traits & WEIR_MODEL_REACTOR ? GROUP_REACTORS : 0u);
}

static void add(struct engine_catalog *catalog, const struct engine_entry *entry)
{
    if (weir__catalog_add(catalog, entry) < 0)
        fprintf(stderr, "weir-bench: engine %s is left out: named twice, or too many\n",
                entry->name);
}

/* What the engine is called in the measurement that the project began with; NULL: not there. */
static const char *seed_name_of_engine(const char *name)
{
    static const char *const names[][2] = {
        {"epoll", "epollreactorsingleprocess_corouline"},
        {"epoll-et", "epollreactorsingleprocess_corouline, edge-triggered"},
        {"poll", "poll"},
        {"select", "select"},
        {"uring-prefork", "epollreactorprocesspollcoroutine"},
        {"epoll-prefork", "epollreactorprocesspollcoroutine"},
    };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i][0], name) == 0)
            return names[i][1];
    }
    return NULL;
}

static void add_engine(struct engine_catalog *catalog, const char *name)
{
    struct engine_entry entry = {
        .name = name,
        .summary = weir_engine_summary(name),
        .groups = groups_of_engine(name),
        .seed_name = seed_name_of_engine(name),
        .features = weir_engine_features(name),
    };

    add(catalog, &entry);
}

/* An engine, several times side by side. */
static void add_spread(struct engine_catalog *catalog, const char *name, const char *engine,
                       unsigned traits, const char *summary)
{
    struct engine_entry entry = {
        .name = name,
        .summary = summary,
        .groups = groups_of_engine(engine),
        .seed_name = seed_name_of_engine(name),
        .traits = WEIR_MODEL_POOL | WEIR_MODEL_REUSEPORT | traits,
        .features = weir_engine_features(engine),
    };

    if (weir_engine_summary(engine) != NULL)
        add(catalog, &entry);
}

static void add_model(struct engine_catalog *catalog, const struct weir_model *model)
{
    struct engine_entry entry = {
        .name = model->name,
        .summary = model->summary,
        .groups = groups_of_model(model),
        .traits = model->traits,
        .seed_name = model->seed_name,
        .model = model,
    };

    add(catalog, &entry);
}

/* Names that a build without liburing still knows, so that their rows say why they are empty. */
static void add_missing(struct engine_catalog *catalog, const char *name)
{
    struct engine_entry entry = {
        .name = name,
        .groups = strncmp(name, "uring", 5) == 0 ? GROUP_COROUTINES : 0,
        .summary = "not in this build",
        .missing =
            "this build has no io_uring: liburing >= 2.3 was not found when it was configured",
    };

    if (weir__catalog_find(catalog, name) == NULL)
        weir__catalog_add(catalog, &entry);
}

void weir__catalog_build(struct engine_catalog *catalog)
{
    const char *const *engines = weir_engines();

    catalog->count = 0;
    for (size_t i = 0; engines[i] != NULL; i++)
        add_engine(catalog, engines[i]);
    add_spread(catalog, "uring-prefork", "uring", WEIR_MODEL_PROCESSES,
               "uring in each of --workers processes");
    add_spread(catalog, "epoll-prefork", "epoll", WEIR_MODEL_PROCESSES,
               "epoll in each of --workers processes");
    add_spread(catalog, "uring-shards", "uring", 0, "uring on each of --workers threads");
    add_spread(catalog, "epoll-shards", "epoll", 0, "epoll on each of --workers threads");
    for (size_t i = 0; weir_models[i] != NULL; i++)
        add_model(catalog, weir_models[i]);
    add_missing(catalog, "uring");
    add_missing(catalog, "uring-prefork");
    add_missing(catalog, "uring-shards");
    add_missing(catalog, "bare-uring");
}

static void put_entry(FILE *out, const struct engine_entry *entry)
{
    const char *const *features = entry->features;
    char text[1024];
    size_t used = (size_t)snprintf(text, sizeof text, "%s.%s", entry->summary ? entry->summary : "",
                                   features != NULL && features[0] != NULL ? " Features:" : "");

    for (size_t i = 0; features != NULL && features[i] != NULL && used < sizeof text; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, " %s%c", features[i],
                                 features[i + 1] != NULL ? ',' : '.');
    fprintf(out, "  %-11s", entry->name);
    weir__cli_wrap(out, HELP_INDENT, HELP_WIDTH, text);
}

char *weir__catalog_help(const struct engine_catalog *catalog, const char *before)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);

    if (out == NULL)
        return NULL;
    fprintf(out, "%s\n\nEngines:\n", before);
    for (size_t i = 0; i < catalog->count; i++)
        put_entry(out, &catalog->entries[i]);
    fputs("\nOptions of the runtime's engines, behind a colon: per=burst (default: a coroutine is "
          "lent for each burst of input) or per=connection; features=-NAME,+NAME forces features "
          "off or on; ring_bufs=N.\n",
          out);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
