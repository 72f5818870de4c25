/*
 * weir-bench: the one benchmark binary. Picks the subcommand and gives it its arguments, under a
 * name of its own for messages ("weir-bench serve").
 */
#include "bench/cli.h"
#include "bench/compare.h"
#include "bench/doctor.h"
#include "bench/driver.h"
#include "bench/instructions.h"
#include "bench/serve.h"
#include "config.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary; /* NULL: not for people */
    char *title;
} commands[] = {
    {"compare", weir_bench_compare, "compare I/O models under one load driver",
     "weir-bench compare"},
    {"serve", weir_bench_serve, "serve one workload with one I/O model", "weir-bench serve"},
    {"load", weir_bench_load, "drive any server of the protocol, and verify it", "weir-bench load"},
    {"doctor", weir_bench_doctor, "list the limits between here and N connections",
     "weir-bench doctor"},
    {"instructions", weir_bench_instructions, "count a request's instructions in user space",
     "weir-bench instructions"},
    {"drive", weir_bench_drive, NULL, "weir-bench drive"},
};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void usage(FILE *out)
{
    fprintf(out, "Usage: weir-bench COMMAND [OPTION...]\n\n");
    for (size_t i = 0; i < COMMANDS; i++) {
        if (commands[i].summary != NULL)
            fprintf(out, "  %-13s %s\n", commands[i].name, commands[i].summary);
    }
    fprintf(out,
            "\n'weir-bench COMMAND --help' lists a command's options, with units and defaults.\n");
}

/* Where one of them is closed, the first file or socket opened would take its place, and the table
 * would be written there. */
static void open_standard_descriptors(void)
{
    while (true) {
        int fd = open("/dev/null", O_RDWR);
        if (fd > STDERR_FILENO)
            close(fd);
        if (fd < 0 || fd > STDERR_FILENO)
            return;
    }
}

int main(int argc, char **argv)
{
    open_standard_descriptors();
    argp_program_version = "weir-bench " WEIR_VERSION;
    if (argc < 2) {
        usage(stderr);
        return EXIT_USAGE;
    }
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name) != 0)
            continue;
        argv[1] = commands[i].title;
        return commands[i].run(argc - 1, argv + 1);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        usage(stdout);
        return EXIT_DONE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts(argp_program_version);
        return EXIT_DONE;
    }
    fprintf(stderr,
            "weir-bench: unknown command '%s'; valid: compare, serve, load, doctor, "
            "instructions\n",
            argv[1]);
    return EXIT_USAGE;
}
