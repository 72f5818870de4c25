/*
 * What the subcommands' command lines share: numbers with suffixes, lists of counts, and the engine
 * list, whose grammar the examples in `--help` show:
 *
 *     uring,uring:per=connection,features=-multishot_recv,-buffer_ring,epoll
 *
 * Every parser returns 0 or -errno, never exits, and puts one line for the user into a caller's
 * buffer: what is wrong, and what would be right.
 */
#ifndef WEIR_BENCH_CLI_H
#define WEIR_BENCH_CLI_H

#include <argp.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Exit codes of every subcommand, as CLI.md promises them. */
enum exit_code {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,      /* a server failed, or bytes came back wrong */
    EXIT_USAGE = 2,       /* bad usage, or the machine's limits forbid it */
    EXIT_NOTHING_RAN = 3, /* nothing could run here */
    EXIT_SLOWER = 4,      /* slower than the baseline */
    EXIT_INTERRUPTED = 130,
};

enum {
    CLI_TEXT_BYTES = 512,   /* for messages */
    CLI_COUNTS_MAX = 32,    /* values in --conns */
    CLI_ENGINES_MAX = 128,  /* rows of one comparison */
    CLI_OPTIONS_BYTES = 256 /* of one engine */
};

/* The groups of --engines. */
enum engine_group {
    GROUP_COROUTINES = 1, /* the runtime's engines: one handler source, resumed as coroutines */
    GROUP_REACTORS = 2,   /* readiness says who may be served */
    GROUP_BLOCKING = 4,   /* blocking calls, by processes or threads */
};

struct weir_model;

/* One name that --engines knows. */
struct engine_entry {
    const char *name;
    unsigned groups;                /* enum engine_group */
    unsigned traits;                /* enum weir_model_trait, of a model */
    const char *seed_name;          /* in the measurement the project began with; NULL: not there */
    const struct weir_model *model; /* NULL: an engine, or no code of ours */
    const char *summary;            /* one line for --help; may be NULL */
    const char *command;            /* a shell command instead of our own serve; NULL: ours */
    const char *missing;            /* why this build has no such engine; NULL: it has */
    const char *const *features;    /* that can be switched, NULL at the end; NULL: none */
};

/* All names there are, best first. */
struct engine_catalog {
    struct engine_entry entries[CLI_ENGINES_MAX];
    size_t count;
};

/* One row asked for. Free a list with weir__engine_list_deinit. */
struct engine_choice {
    char *name;    /* the whole text: "uring:per=connection" */
    char *base;    /* "uring" */
    char *options; /* "per=connection"; NULL: none */
    const struct engine_entry *entry;
    bool from_group;
};

struct engine_list {
    struct engine_choice items[CLI_ENGINES_MAX];
    size_t count;
};

/*
 * argp says only that an option is unknown; this says which there are. Looks through the arguments
 * for an option that `argp` does not have (a unique beginning counts as the option; there are no
 * short ones but -? and -V). 0, or -EINVAL with a line in `error`.
 */
int weir__cli_check_options(const struct argp *argp, int argc, char **argv, char *error,
                            size_t bytes);

/* Checks the options as above, then parses. Mistakes are printed after the subcommand's name, and
 * exit with EXIT_USAGE, as argp's own do. */
void weir__cli_parse(const struct argp *argp, int argc, char **argv, void *input);

/*
 * The value `text` of --`option`, for the parsers of the subcommands: what is wrong with it, and
 * what would be right, is printed, and the process exits with EXIT_USAGE. A count may end in k, m
 * or g, of 1024 where `binary`. CPUs that are to be this process's `own` must be among those it may
 * use.
 */
uint64_t weir__cli_count(struct argp_state *state, const char *option, const char *text,
                         bool binary, uint64_t min, uint64_t max);
double weir__cli_seconds(struct argp_state *state, const char *option, const char *text, double min,
                         double max);
void weir__cli_cpus(struct argp_state *state, const char *option, const char *text, bool own,
                    cpu_set_t *cpus);

/* Words after `column`, wrapped at `width` and set in under it (argp would begin a wrapped line at
 * the margin), and the end of the line. The columns before it are the caller's. */
void weir__cli_wrap(FILE *out, unsigned column, unsigned width, const char *text);

/* Adds a name. -EEXIST if it is there, -ENOSPC when the catalog is full. Strings are borrowed. */
int weir__catalog_add(struct engine_catalog *catalog, const struct engine_entry *entry);

/* The entry called exactly `name`, or NULL. */
const struct engine_entry *weir__catalog_find(const struct engine_catalog *catalog,
                                              const char *name);

/* Writes "uring, epoll, poll; groups: coroutines, …, all" for messages and --help. */
void weir__catalog_names(const struct engine_catalog *catalog, char *text, size_t bytes);

/*
 * Reads a comma list of engines. A token that starts with + or - continues a features list; one
 * with '=' and no earlier ':' continues the options of the engine before it, if that has a colon;
 * every other token is an engine or a group (coroutines, reactors, blocking, all), which stands for
 * its members that are not in the list already. The same engine with the same options twice is
 * -EEXIST; an unknown one -ENOENT; a malformed one -EINVAL. On failure `list` is empty.
 */
int weir__engine_list_parse(struct engine_list *list, const char *text,
                            const struct engine_catalog *catalog, char *error, size_t bytes);

void weir__engine_list_deinit(struct engine_list *list);

/* The position of the row called `name`, or -ENOENT. */
int weir__engine_list_find(const struct engine_list *list, const char *name);

/* Walks "key=value,key=value"; a token that starts with + or - belongs to the value before it.
 * Copies one pair per call and moves *cursor on. 1: a pair; 0: the end; -EINVAL: no key, or too
 * long. An option without '=' has an empty value. */
int weir__option_next(const char **cursor, char *key, size_t key_bytes, char *value,
                      size_t value_bytes);

/* Whole numbers with an optional k, m or g (1024-based where `binary`, else 1000). -EINVAL,
 * -ERANGE. */
int weir__parse_count(const char *text, bool binary, uint64_t min, uint64_t max, uint64_t *value);

/* A decimal number in [min, max]. -EINVAL, -ERANGE. */
int weir__parse_real(const char *text, double min, double max, double *value);

/* "100,200,1000" or "1k,2k": counts of 1 or more, none twice. Returns how many, or -errno. */
int weir__parse_counts(const char *text, unsigned *counts, size_t capacity, char *error,
                       size_t bytes);

/* Reads a CPU list as taskset -c does: "0", "2-3,6". Returns the number of CPUs, or -EINVAL.
 * Whether they exist is seen when they are used. */
int weir__cpus_parse(const char *text, cpu_set_t *cpus);

/* True where a CPU is in both. */
bool weir__cpus_overlap(const cpu_set_t *one, const cpu_set_t *other);

/* Writes `cpus` as "0-3,6". */
void weir__cpus_format(const cpu_set_t *cpus, char *text, size_t bytes);

/*
 * Divides the CPUs this process may use between server and driver, at a core's border where there
 * is more than one core, so that no hardware thread of one shares a core with the other. With one
 * CPU both get it. Returns 0 or -errno of sched_getaffinity.
 */
int weir__cpus_split(cpu_set_t *server, cpu_set_t *driver);

#endif
