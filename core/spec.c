/* Engine specs; see core/spec.h. */
#include "core/spec.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <weir/weir.h>

/* Appends to a text that may be full: snprintf's way, without its traps. */
__attribute__((format(printf, 3, 4))) static void append(char *text, size_t bytes,
                                                         const char *format, ...)
{
    size_t used = bytes > 0 ? strlen(text) : 0;
    va_list arguments;

    va_start(arguments, format);
    if (bytes > 0)
        vsnprintf(text + used, bytes - used, format, arguments);
    va_end(arguments);
}

const struct weir__engine_ops *weir__spec_engine(const char *name, size_t name_bytes)
{
    for (size_t i = 0; weir__engine_table[i]; i++) {
        const char *known = weir__engine_table[i]->name;
        if (strlen(known) == name_bytes && !memcmp(known, name, name_bytes))
            return weir__engine_table[i];
    }
    return NULL;
}

static int unknown_engine(const char *name, size_t name_bytes, char *why, size_t why_bytes)
{
    snprintf(why, why_bytes, "unknown engine \"%.*s\"; there are: auto", (int)name_bytes, name);
    for (size_t i = 0; weir__engine_table[i]; i++)
        append(why, why_bytes, ", %s", weir__engine_table[i]->name);
    return -EINVAL;
}

static int unknown_feature(const struct weir__engine_ops *ops, const char *name, size_t name_bytes,
                           char *why, size_t why_bytes)
{
    snprintf(why, why_bytes, "%s has no feature \"%.*s\"; it has: ", ops->name, (int)name_bytes,
             name);
    if (!ops->feature_names || !ops->feature_names[0])
        append(why, why_bytes, "none");
    for (size_t i = 0; ops->feature_names && ops->feature_names[i]; i++)
        append(why, why_bytes, "%s%s", i ? ", " : "", ops->feature_names[i]);
    return -EINVAL;
}

/* "-name" or "+name". */
static int parse_feature(struct weir__spec *spec, const char *text, size_t bytes, char *why,
                         size_t why_bytes)
{
    if (!spec->ops) {
        snprintf(why, why_bytes, "features belong to a named engine, not to auto");
        return -EINVAL;
    }
    if (bytes < 2 || (*text != '-' && *text != '+')) {
        snprintf(why, why_bytes, "feature \"%.*s\": write -name to force it off, +name to insist",
                 (int)bytes, text);
        return -EINVAL;
    }
    for (size_t i = 0; spec->ops->feature_names && spec->ops->feature_names[i]; i++) {
        const char *known = spec->ops->feature_names[i];
        if (strlen(known) != bytes - 1 || memcmp(known, text + 1, bytes - 1))
            continue;
        uint64_t *mask = *text == '-' ? &spec->options.features_off : &spec->options.features_on;
        *mask |= UINT64_C(1) << i;
        return 0;
    }
    return unknown_feature(spec->ops, text + 1, bytes - 1, why, why_bytes);
}

static bool is(const char *text, size_t bytes, const char *word)
{
    return strlen(word) == bytes && !memcmp(text, word, bytes);
}

static int parse_per(struct weir__spec *spec, const char *value, size_t bytes, char *why,
                     size_t why_bytes)
{
    if (!is(value, bytes, "burst") && !is(value, bytes, "connection")) {
        snprintf(why, why_bytes, "per=%.*s: it is per=burst or per=connection", (int)bytes, value);
        return -EINVAL;
    }
    spec->per_connection = is(value, bytes, "connection");
    return 0;
}

static int parse_ring_bufs(struct weir__spec *spec, const char *value, size_t bytes, char *why,
                           size_t why_bytes)
{
    char *end;
    unsigned long n = bytes ? strtoul(value, &end, 10) : 0;

    if (!bytes || end != value + bytes || n < 1 || n > 32768 || n & (n - 1)) {
        snprintf(why, why_bytes, "ring_bufs=%.*s: a power of two from 1 to 32768", (int)bytes,
                 value);
        return -EINVAL;
    }
    spec->options.ring_bufs = (uint32_t)n;
    return 0;
}

/* One item of the comma list. "features=" may be followed by more features, each an item. */
static int parse_item(struct weir__spec *spec, const char *item, size_t bytes, char *why,
                      size_t why_bytes)
{
    const char *equals = memchr(item, '=', bytes);
    size_t key = equals ? (size_t)(equals - item) : bytes;
    size_t rest = equals ? bytes - key - 1 : 0;

    if (!equals && bytes && (*item == '-' || *item == '+'))
        return parse_feature(spec, item, bytes, why, why_bytes);
    if (equals && is(item, key, "features"))
        return parse_feature(spec, equals + 1, rest, why, why_bytes);
    if (equals && is(item, key, "per"))
        return parse_per(spec, equals + 1, rest, why, why_bytes);
    if (equals && is(item, key, "ring_bufs"))
        return parse_ring_bufs(spec, equals + 1, rest, why, why_bytes);
    snprintf(why, why_bytes,
             "unknown option \"%.*s\"; there are: features=-name,+name,…, per=burst|connection, "
             "ring_bufs=N",
             (int)bytes, item);
    return -EINVAL;
}

int weir__spec_parse(struct weir__spec *spec, const char *text, char *why, size_t why_bytes)
{
    *spec = (struct weir__spec){0};
    if (!text)
        return 0;
    size_t name = strcspn(text, ":");
    if (!is(text, name, "auto")) {
        spec->ops = weir__spec_engine(text, name);
        if (!spec->ops)
            return unknown_engine(text, name, why, why_bytes);
    }
    for (const char *item = text + name; *item;) {
        item++; /* the colon, or a comma */
        size_t bytes = strcspn(item, ",");
        int error = parse_item(spec, item, bytes, why, why_bytes);
        if (error)
            return error;
        item += bytes;
    }
    return 0;
}

void weir__spec_features(const struct weir__engine_ops *ops, uint64_t mask, char *text,
                         size_t text_bytes)
{
    *text = 0;
    for (size_t i = 0; ops->feature_names && ops->feature_names[i]; i++) {
        if (mask >> i & 1)
            append(text, text_bytes, "%s%s", *text ? "," : "", ops->feature_names[i]);
    }
}

/* ---- public ---------------------------------------------------------------------------------- */

const char *const *weir_engines(void)
{
    static const char *names[16]; /* the same whoever fills it in */
    size_t i;

    for (i = 0; weir__engine_table[i]; i++) {
        assert(i + 1 < sizeof names / sizeof *names);
        names[i] = weir__engine_table[i]->name;
    }
    return names;
}

const char *weir_engine_summary(const char *name)
{
    const struct weir__engine_ops *ops = weir__spec_engine(name, strlen(name));

    return ops ? ops->summary : NULL;
}

const char *const *weir_engine_features(const char *name)
{
    const struct weir__engine_ops *ops = weir__spec_engine(name, strlen(name));

    return ops ? ops->feature_names : NULL;
}
