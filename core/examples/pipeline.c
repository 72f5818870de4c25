/* Runs programs that read each other's output, as `a | b | c` of a shell does, and says how each
 * has ended.
 *
 *     pipeline [-e engine] a its-arguments... '|' b its-arguments... '|' c ...
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <weir/weir.h>

enum { STAGES_MOST = 16 };

struct pipeline {
    char **arguments;
    int count, statuses[STAGES_MOST];
    int error; /* of the program that did not start */
};

/* Starts a program between two descriptors of the caller's. The pipes are made here and not by
 * WEIR_STDIO_PIPE, as both of their ends are for programs. */
static int start(struct weir_process *stage, char **arguments, int input, int output)
{
    struct weir_process_options options = {
        .arguments = (const char *const *)arguments,
        .input = {.kind = WEIR_STDIO_FD, .fd = input},
        .output = {.kind = WEIR_STDIO_FD, .fd = output},
    };

    return weir_process_spawn(stage, &options);
}

/* Where the program's arguments end; a '|' there becomes the NULL that execve(2) wants. */
static char **end_of(char **arguments, int *is_last)
{
    while (*arguments && strcmp(*arguments, "|") != 0)
        arguments++;
    *is_last = !*arguments;
    *arguments = NULL;
    return arguments;
}

static void start_all(struct pipeline *pipeline, struct weir_process *stages)
{
    int count = 0, input = STDIN_FILENO, is_last = 0, error = 0;
    char **arguments = pipeline->arguments;

    for (; !is_last && count < STAGES_MOST && !error; count += !error) {
        int ends[2] = {-1, STDOUT_FILENO};
        char **next = end_of(arguments, &is_last) + 1;
        if (!is_last && pipe2(ends, O_CLOEXEC)) {
            error = -errno;
            break;
        }
        error = arguments[0] ? start(&stages[count], arguments, input, ends[1]) : -ENOENT;
        if (input != STDIN_FILENO)
            close(input);
        if (ends[1] != STDOUT_FILENO)
            close(ends[1]);
        input = ends[0];
        arguments = next;
    }
    if (input > STDIN_FILENO)
        close(input);
    pipeline->count = count;
    pipeline->error = error || is_last ? error : -E2BIG;
}

/* Nothing is printed here: stdio wants more stack than a coroutine has. */
static void run(void *argument)
{
    struct pipeline *pipeline = argument;
    struct weir_process stages[STAGES_MOST];

    start_all(pipeline, stages);
    for (int i = 0; i < pipeline->count; i++) {
        weir_process_wait(&stages[i], &pipeline->statuses[i], WEIR_FOREVER);
        weir_process_close(&stages[i]);
    }
}

static void report(const struct pipeline *pipeline)
{
    for (int i = 0; i < pipeline->count; i++) {
        int status = pipeline->statuses[i];
        if (WIFSIGNALED(status))
            fprintf(stderr, "%d: signal %d\n", i + 1, WTERMSIG(status));
        else
            fprintf(stderr, "%d: exit %d\n", i + 1, WEXITSTATUS(status));
    }
    if (pipeline->error)
        fprintf(stderr, "%d: %s\n", pipeline->count + 1, strerror(-pipeline->error));
}

int main(int count, char **arguments)
{
    int named = count > 2 && !strcmp(arguments[1], "-e");
    struct weir_loop_options options = {.engine = named ? arguments[2] : "auto"};
    struct pipeline pipeline = {.arguments = arguments + (named ? 3 : 1)};
    struct weir_loop *loop;
    char why[256];

    if (weir_loop_new(&loop, &options, why, sizeof why)) {
        fprintf(stderr, "pipeline: %s\n", why);
        return 1;
    }
    int error = weir_spawn(loop, NULL, run, &pipeline);
    if (!error)
        error = weir_loop_run(loop);
    weir_loop_free(loop);
    report(&pipeline);
    return error || pipeline.error;
}
