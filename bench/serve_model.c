/*
 * Serves with a model that owns its whole loop (<weir/model.h>): opens the listening socket, hands
 * it over, and prints the model's counters from a signal handler, because the model has the only
 * thread.
 */
#include "bench/serve.h"

#include "bench/cli.h"

#include <weir/model.h>

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

/* The one server of this process; the report reads `stats` while the model writes them. */
static struct {
    const struct serve_options *options;
    const struct weir_model *model;
    const char *choices;            /* behind the colon; NULL: none */
    struct weir_model_stats *stats; /* in memory that worker processes share */
    struct sockaddr_storage addr;
    socklen_t addr_len;
    bool was_ready;
} server;

/* Appends text to a line that a signal handler builds: nothing of stdio may be used there. */
static size_t put_text(char *line, size_t used, size_t bytes, const char *text)
{
    while (*text != '\0' && used < bytes)
        line[used++] = *text++;
    return used;
}

static size_t put_number(char *line, size_t used, size_t bytes, const char *name, uint64_t value)
{
    char digits[24];
    size_t at = sizeof digits - 1;

    digits[at] = '\0';
    do
        digits[--at] = (char)('0' + value % 10);
    while ((value /= 10) > 0);
    used = put_text(line, used, bytes, name);
    return put_text(line, used, bytes, &digits[at]);
}

/* Async-signal-safe: one write(2) of one JSON line. */
static void report(void)
{
    const struct weir_model_counters sum = weir_model_sum(server.stats);
    char line[512];
    size_t used = 0;
    int saved = errno;

    used = put_text(line, used, sizeof line, "{\"engine\":\"");
    used = put_text(line, used, sizeof line, server.model->name);
    used = put_number(line, used, sizeof line, "\",\"accepted\":", sum.accepted);
    used = put_number(line, used, sizeof line, ",\"closed\":", sum.closed);
    used = put_number(line, used, sizeof line, ",\"requests\":", sum.requests);
    used = put_number(line, used, sizeof line, ",\"refused\":", sum.refused);
    used = put_number(line, used, sizeof line, ",\"bytes_in\":", sum.bytes_in);
    used = put_number(line, used, sizeof line, ",\"bytes_out\":", sum.bytes_out);
    used = put_number(line, used, sizeof line, ",\"errors\":", sum.errors);
    used = put_number(line, used, sizeof line, ",\"deaths\":", sum.deaths);
    used = put_text(line, used, sizeof line, "}\n");
    if (write(STDERR_FILENO, line, used) < 0)
        errno = saved; /* nobody reads it: nothing to be done */
    errno = saved;
}

static void each_second(int number)
{
    (void)number;
    report();
}

static void start_clock(void)
{
    struct sigaction action = {.sa_handler = each_second, .sa_flags = SA_RESTART};
    struct itimerval second = {.it_interval.tv_sec = 1, .it_value.tv_sec = 1};

    sigemptyset(&action.sa_mask);
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &second, NULL);
}

static void on_ready(void *argument, const char *features)
{
    (void)argument;
    server.was_ready = true;
    weir__serve_ready(server.options, server.model->name, (struct sockaddr *)&server.addr,
                      server.addr_len, features);
}

static int refuse(const char *what)
{
    int result = -errno;

    fprintf(stderr, "weir-bench serve: %s %s: %s\n", what, server.options->listen,
            strerror(-result));
    return result;
}

/* Connections inherit the options of the listening socket. */
static int open_listener(const struct serve_options *options)
{
    bool shares_port = server.model->traits & WEIR_MODEL_REUSEPORT;
    int on = 1;
    int fd = socket(options->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return refuse("socket for");
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        (shares_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0) ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, options->congestion,
                   (socklen_t)strlen(options->congestion)) < 0) {
        int result = refuse("socket options for");
        close(fd);
        return result;
    }
    server.addr_len = sizeof server.addr;
    if (bind(fd, (const struct sockaddr *)&options->addr, options->addr_len) < 0 ||
        listen(fd, options->backlog > 0 ? (int)options->backlog : SOMAXCONN) < 0 ||
        getsockname(fd, (struct sockaddr *)&server.addr, &server.addr_len) < 0) {
        int result = refuse("listen on");
        close(fd);
        return result;
    }
    return fd;
}

static int run(const struct serve_options *options, int listen_fd, int stop_fd)
{
    char why[CLI_TEXT_BYTES] = "";
    struct serve_signals signals = {
        .event_fd = stop_fd, .stop = server.model->stop, .report = report};
    struct weir_model_options model_options = {
        .listen_fd = listen_fd,
        .stop_fd = stop_fd,
        .workers = options->workers,
        .backlog = options->backlog,
        .drain_ns = options->drain_ns,
        .choices = server.choices,
        .workload = options->workload,
        .workload_options = &options->workload_options,
    };

    weir__serve_catch(&signals);
    if (options->stats)
        start_clock();
    int result = server.model->serve(&model_options, server.stats, on_ready, NULL, why, sizeof why);
    if (result < 0)
        fprintf(stderr, "weir-bench serve: %s: %s\n", server.model->name,
                why[0] != '\0' ? why : strerror(-result));
    if (result < 0)
        return server.was_ready ? EXIT_FAILED : EXIT_NOTHING_RAN;
    return EXIT_DONE;
}

/* False, and told, where the model does not serve that workload. */
static bool serves(const struct weir_model *model, const char *workload)
{
    char names[128] = "";

    for (size_t i = 0; model->workloads != NULL && model->workloads[i] != NULL; i++) {
        size_t used = strlen(names);

        if (strcmp(model->workloads[i], workload) == 0)
            return true;
        snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? ", " : "", model->workloads[i]);
    }
    if (model->workloads == NULL)
        return true;
    fprintf(stderr, "weir-bench serve: %s serves %s only, not %s\n", model->name, names, workload);
    return false;
}

static int open_and_run(const struct serve_options *options)
{
    int stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (stop_fd < 0) {
        perror("weir-bench serve: eventfd");
        return EXIT_FAILED;
    }
    int listen_fd = open_listener(options);
    int code = listen_fd < 0 ? EXIT_USAGE : run(options, listen_fd, stop_fd);

    if (listen_fd >= 0)
        close(listen_fd);
    close(stop_fd);
    return code;
}

int weir__serve_model(const struct serve_options *options, const struct weir_model *model)
{
    char why[CLI_TEXT_BYTES];
    const char *colon = strchr(options->engine, ':');

    server.options = options;
    server.model = model;
    server.choices = colon != NULL ? colon + 1 : NULL;
    if (weir_model_check(model, server.choices, why, sizeof why) < 0) {
        fprintf(stderr, "weir-bench serve: %s\n", why);
        return EXIT_USAGE;
    }
    if (!serves(model, options->workload->name))
        return EXIT_NOTHING_RAN;
    server.stats =
        mmap(NULL, sizeof *server.stats, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (server.stats == MAP_FAILED) {
        perror("weir-bench serve: memory for the counters");
        return EXIT_FAILED;
    }
    int code = open_and_run(options);

    munmap(server.stats, sizeof *server.stats);
    return code;
}
