/*
 * Option parsing that every subcommand shares: argp, but an unknown option is told together with
 * those there are (cli.h). Exits on bad usage, like argp itself; so only subcommands' own parsers
 * may call it.
 */
#include "bench/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* argp adds these to every program. */
static const char *const built_in[] = {"help", "usage", "version"};

enum { BUILT_IN = sizeof built_in / sizeof built_in[0] };

static bool is_end(const struct argp_option *option)
{
    return option->name == NULL && option->key == 0 && option->doc == NULL && option->group == 0;
}

/* The options of the parser, then those of its children; NULL at the end. One level is enough. */
static const struct argp_option *first_option(const struct argp *argp)
{
    return is_end(argp->options) ? NULL : argp->options;
}

static const struct argp_option *next_option(const struct argp *argp,
                                             const struct argp_option *option)
{
    const struct argp_child *child = argp->children;
    const struct argp_option *list = argp->options;

    if (!is_end(++option))
        return option;
    while (child != NULL && child->argp != NULL) {
        const struct argp_option *end = list;

        while (!is_end(end))
            end++;
        list = child++->argp->options;
        if (end == option && !is_end(list))
            return list;
    }
    return NULL;
}

/* 1: known and takes no argument; 2: known and takes one; 0: unknown. */
static int find_option(const struct argp *argp, const char *name, size_t length)
{
    int found = 0;
    int beginnings = 0;

    for (size_t i = 0; i < BUILT_IN; i++) {
        if (strncmp(built_in[i], name, length) == 0)
            found = 1;
    }
    for (const struct argp_option *option = first_option(argp); option != NULL;
         option = next_option(argp, option)) {
        if (option->name == NULL || strncmp(option->name, name, length) != 0)
            continue;
        int kind = option->arg != NULL && (option->flags & OPTION_ARG_OPTIONAL) == 0 ? 2 : 1;
        if (option->name[length] == '\0')
            return kind;
        found = kind;
        beginnings++;
    }
    /* An ambiguous beginning is for argp to tell: it names the candidates. */
    return beginnings > 1 ? 1 : found;
}

static void list_options(const struct argp *argp, char *text, size_t bytes)
{
    size_t used = 0;

    text[0] = '\0';
    for (const struct argp_option *option = first_option(argp); option != NULL;
         option = next_option(argp, option)) {
        if (option->name == NULL || (option->flags & OPTION_HIDDEN) || used >= bytes)
            continue;
        int wrote = snprintf(text + used, bytes - used, "--%s, ", option->name);
        if (wrote > 0)
            used += (size_t)wrote;
    }
    if (used < bytes)
        snprintf(text + used, bytes - used, "--help");
}

int weir__cli_check_options(const struct argp *argp, int argc, char **argv, char *error,
                            size_t bytes)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (argv[i][0] != '-' || argv[i][1] == '\0')
            continue;
        bool is_long = argv[i][1] == '-';
        const char *name = argv[i] + 2;
        size_t length = is_long ? strcspn(name, "=") : 0;
        int kind = is_long ? find_option(argp, name, length) : strchr("?V", argv[i][1]) != NULL;
        if (kind == 0) {
            char names[1024];
            list_options(argp, names, sizeof names);
            snprintf(error, bytes, "unknown option '%.*s'; valid: %s", (int)strcspn(argv[i], "="),
                     argv[i], names);
            return -EINVAL;
        }
        if (kind == 2 && name[length] != '=')
            i++; /* the next argument is its value, whatever it looks like */
    }
    return 0;
}

void weir__cli_parse(const struct argp *argp, int argc, char **argv, void *input)
{
    char error[1536];

    argp_err_exit_status = EXIT_USAGE;
    setenv("ARGP_HELP_FMT", "opt-doc-col=34", 0); /* the longest option has room before its text */
    if (weir__cli_check_options(argp, argc, argv, error, sizeof error) < 0) {
        fprintf(stderr, "%s: %s\n", argv[0], error);
        exit(EXIT_USAGE);
    }
    error_t result = argp_parse(argp, argc, argv, 0, NULL, input);
    if (result != 0) {
        fprintf(stderr, "%s: %s\n", argv[0], strerror(result));
        exit(EXIT_USAGE);
    }
}

uint64_t weir__cli_count(struct argp_state *state, const char *option, const char *text,
                         bool binary, uint64_t min, uint64_t max)
{
    uint64_t value = min;

    if (weir__parse_count(text, binary, min, max, &value) < 0)
        argp_error(state, "--%s %s: want a whole number from %llu to %llu (k, m and g may follow)",
                   option, text, (unsigned long long)min, (unsigned long long)max);
    return value;
}

double weir__cli_seconds(struct argp_state *state, const char *option, const char *text, double min,
                         double max)
{
    double value = min;

    if (weir__parse_real(text, min, max, &value) < 0)
        argp_error(state, "--%s %s: want seconds from %g to %g", option, text, min, max);
    return value;
}

void weir__cli_cpus(struct argp_state *state, const char *option, const char *text, bool own,
                    cpu_set_t *cpus)
{
    cpu_set_t all;
    cpu_set_t both;
    char have[256];

    if (weir__cpus_parse(text, cpus) < 1)
        argp_error(state, "--%s %s: want a list of CPUs, as 0-3,6", option, text);
    if (!own)
        return;
    if (sched_getaffinity(0, sizeof all, &all) < 0)
        argp_failure(state, EXIT_USAGE, errno, "sched_getaffinity");
    CPU_AND(&both, cpus, &all);
    if (CPU_EQUAL(&both, cpus))
        return;
    weir__cpus_format(&all, have, sizeof have);
    argp_error(state, "--%s %s: this process may use CPUs %s only", option, text, have);
}

void weir__cli_wrap(FILE *out, unsigned column, unsigned width, const char *text)
{
    const unsigned indent = column;

    while (*text != '\0') {
        unsigned length = (unsigned)strcspn(text, " ");

        if (column + 1 + length > width && column > indent) {
            fprintf(out, "\n%*s", (int)indent, "");
            column = indent;
        }
        fprintf(out, " %.*s", (int)length, text);
        column += 1 + length;
        text += length + strspn(text + length, " ");
    }
    fputc('\n', out);
}
