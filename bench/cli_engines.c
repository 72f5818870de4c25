/*
 * The engine list of --engines, and the option list behind an engine's colon (cli.h has the
 * grammar). Knows names only from the catalog it is given. Called before anything starts; never
 * prints.
 */
#include "bench/cli.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    unsigned groups;
} group_names[] = {
    {"coroutines", GROUP_COROUTINES},
    {"reactors", GROUP_REACTORS},
    {"blocking", GROUP_BLOCKING},
    {"all", ~0u},
};

enum { GROUP_NAMES = sizeof group_names / sizeof group_names[0] };

/* Where a list is being built, and where its first mistake is told. */
struct parse {
    struct engine_list *list;
    const struct engine_catalog *catalog;
    char *error;
    size_t error_bytes;
};

__attribute__((format(printf, 3, 4))) static int mistake(struct parse *parse, int result,
                                                         const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(parse->error, parse->error_bytes, format, args);
    va_end(args);
    return result;
}

int weir__catalog_add(struct engine_catalog *catalog, const struct engine_entry *entry)
{
    if (weir__catalog_find(catalog, entry->name) != NULL)
        return -EEXIST;
    if (catalog->count == CLI_ENGINES_MAX)
        return -ENOSPC;
    catalog->entries[catalog->count++] = *entry;
    return 0;
}

const struct engine_entry *weir__catalog_find(const struct engine_catalog *catalog,
                                              const char *name)
{
    for (size_t i = 0; i < catalog->count; i++) {
        if (strcmp(catalog->entries[i].name, name) == 0)
            return &catalog->entries[i];
    }
    return NULL;
}

void weir__catalog_names(const struct engine_catalog *catalog, char *text, size_t bytes)
{
    size_t used = 0;

    text[0] = '\0';
    for (size_t i = 0; i < catalog->count + GROUP_NAMES && used < bytes; i++) {
        bool group = i >= catalog->count;
        const char *name = group ? group_names[i - catalog->count].name : catalog->entries[i].name;
        const char *before = i == 0 ? "" : i == catalog->count ? "; groups: " : ", ";
        int wrote = snprintf(text + used, bytes - used, "%s%s", before, name);

        if (wrote < 0)
            return;
        used += (size_t)wrote;
    }
}

static void choice_deinit(struct engine_choice *choice)
{
    free(choice->name);
    free(choice->base);
    free(choice->options);
    memset(choice, 0, sizeof *choice);
}

void weir__engine_list_deinit(struct engine_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        choice_deinit(&list->items[i]);
    list->count = 0;
}

int weir__engine_list_find(const struct engine_list *list, const char *name)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->items[i].name, name) == 0)
            return (int)i;
    }
    return -ENOENT;
}

static int add_choice(struct parse *parse, const struct engine_entry *entry, const char *options,
                      bool from_group)
{
    struct engine_list *list = parse->list;

    if (list->count == CLI_ENGINES_MAX)
        return mistake(parse, -E2BIG, "more than %d engines in one comparison", CLI_ENGINES_MAX);
    struct engine_choice *choice = &list->items[list->count];

    memset(choice, 0, sizeof *choice);
    choice->entry = entry;
    choice->from_group = from_group;
    choice->base = strdup(entry->name);
    if (options != NULL)
        choice->options = strdup(options);
    if (asprintf(&choice->name, "%s%s%s", entry->name, options ? ":" : "", options ? options : "") <
        0)
        choice->name = NULL;
    if (choice->base == NULL || choice->name == NULL || (options && !choice->options)) {
        choice_deinit(choice);
        return mistake(parse, -ENOMEM, "out of memory");
    }
    list->count++;
    return 0;
}

static int add_group(struct parse *parse, unsigned groups, const char *name)
{
    bool any = false;

    for (size_t i = 0; i < parse->catalog->count; i++) {
        const struct engine_entry *entry = &parse->catalog->entries[i];

        if (groups != ~0u && (entry->groups & groups) == 0)
            continue;
        any = true;
        if (weir__engine_list_find(parse->list, entry->name) >= 0)
            continue;
        int result = add_choice(parse, entry, NULL, true);
        if (result < 0)
            return result;
    }
    if (!any)
        return mistake(parse, -ENOENT, "the group '%s' has no members in this build", name);
    return 0;
}

static int add_engine(struct parse *parse, char *token)
{
    char names[CLI_TEXT_BYTES];
    char *colon = strchr(token, ':');
    const char *options = NULL;

    for (size_t i = 0; i < GROUP_NAMES; i++) {
        if (strcmp(token, group_names[i].name) == 0)
            return add_group(parse, group_names[i].groups, token);
    }
    if (colon != NULL) {
        *colon = '\0';
        options = colon + 1;
    }
    const struct engine_entry *entry = weir__catalog_find(parse->catalog, token);
    if (entry == NULL) {
        weir__catalog_names(parse->catalog, names, sizeof names);
        return mistake(parse, -ENOENT, "unknown engine '%s'; valid: %s", token, names);
    }
    if (options != NULL && *options == '\0')
        return mistake(parse, -EINVAL, "'%s:' has a colon but no option after it", token);
    return add_choice(parse, entry, options, false);
}

/* Appends ",token" to the options of the engine before it. */
static int continue_options(struct parse *parse, const char *token)
{
    struct engine_list *list = parse->list;
    struct engine_choice *last = list->count > 0 ? &list->items[list->count - 1] : NULL;
    char *options;
    char *name;

    if (last == NULL || last->options == NULL)
        return mistake(parse, -EINVAL, "'%s' follows no engine with a colon; write %s:%s", token,
                       last ? last->base : "ENGINE",
                       token[0] == '+' || token[0] == '-' ? "features=-name" : token);
    if (strlen(last->options) + strlen(token) + 2 > CLI_OPTIONS_BYTES)
        return mistake(parse, -E2BIG, "the options of '%s' are longer than %d bytes", last->base,
                       CLI_OPTIONS_BYTES);
    if (asprintf(&options, "%s,%s", last->options, token) < 0)
        return mistake(parse, -ENOMEM, "out of memory");
    if (asprintf(&name, "%s:%s", last->base, options) < 0) {
        free(options);
        return mistake(parse, -ENOMEM, "out of memory");
    }
    free(last->options);
    free(last->name);
    last->options = options;
    last->name = name;
    return 0;
}

/* The key whose value a token with a leading + or - goes on with. */
static bool last_key_is_features(const char *options)
{
    const char *at = strrchr(options, '=');

    if (at == NULL)
        return false;
    const char *key = at;
    while (key > options && key[-1] != ',')
        key--;
    return at - key == 8 && strncmp(key, "features", 8) == 0;
}

static int take_token(struct parse *parse, char *token)
{
    struct engine_list *list = parse->list;
    struct engine_choice *last = list->count > 0 ? &list->items[list->count - 1] : NULL;
    const char *colon = strchr(token, ':');
    const char *equals = strchr(token, '=');

    if (token[0] == '\0')
        return mistake(parse, -EINVAL, "empty name in the list of engines");
    if (token[0] == '+' || token[0] == '-') {
        if (last != NULL && last->options != NULL && !last_key_is_features(last->options))
            return mistake(parse, -EINVAL, "'%s' continues no features=… list", token);
        return continue_options(parse, token);
    }
    if (equals != NULL && (colon == NULL || colon > equals))
        return continue_options(parse, token);
    return add_engine(parse, token);
}

static int refuse_doubles(struct parse *parse)
{
    const struct engine_list *list = parse->list;

    for (size_t i = 0; i < list->count; i++) {
        for (size_t j = i + 1; j < list->count; j++) {
            if (strcmp(list->items[i].name, list->items[j].name) == 0)
                return mistake(parse, -EEXIST,
                               "engine '%s' is listed twice; the A/A row compares the reference "
                               "with itself already",
                               list->items[i].name);
        }
    }
    return 0;
}

int weir__engine_list_parse(struct engine_list *list, const char *text,
                            const struct engine_catalog *catalog, char *error, size_t bytes)
{
    struct parse parse = {list, catalog, error, bytes};
    int result = 0;
    char *copy = strdup(text);

    assert(bytes > 0);
    error[0] = '\0';
    list->count = 0;
    if (copy == NULL)
        return mistake(&parse, -ENOMEM, "out of memory");
    char *rest = copy;
    for (char *token; result == 0 && (token = strsep(&rest, ",")) != NULL;)
        result = take_token(&parse, token);
    if (result == 0)
        result = refuse_doubles(&parse);
    if (result < 0)
        weir__engine_list_deinit(list);
    free(copy);
    return result;
}

int weir__option_next(const char **cursor, char *key, size_t key_bytes, char *value,
                      size_t value_bytes)
{
    const char *at = *cursor;

    if (at == NULL || *at == '\0')
        return 0;
    const char *end = at + strcspn(at, ",");
    while (*end == ',' && (end[1] == '+' || end[1] == '-'))
        end += 1 + strcspn(end + 1, ",");
    const char *key_end = at + strcspn(at, "=,");
    if (key_end > end)
        key_end = end;
    const char *value_at = key_end < end ? key_end + 1 : end;
    size_t key_length = (size_t)(key_end - at);
    size_t value_length = (size_t)(end - value_at);

    if (key_length == 0 || key_length >= key_bytes || value_length >= value_bytes)
        return -EINVAL;
    memcpy(key, at, key_length);
    key[key_length] = '\0';
    memcpy(value, value_at, value_length);
    value[value_length] = '\0';
    *cursor = *end == ',' ? end + 1 : end;
    return 1;
}
