/* Conformance of the models: the counters that SIGUSR1 prints, and bad usage. */
#include "tests/legacy/models.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TestSuite(models_count, .timeout = 3 * LIMIT_S);
TestSuite(models_usage, .timeout = 3 * LIMIT_S);

Test(models_count, connections_and_bytes_are_counted)
{
    enum { CONNS = 10, BYTES = 1000 };
    struct server server = {0};
    unsigned conns = at_once(2);
    uint8_t *data = pattern(BYTES, 1);
    SERVER_START(&server, conns, "echo");
    for (unsigned i = 0; i < CONNS; i += conns) {
        int fds[2];
        for (unsigned j = 0; j < conns; j++) {
            fds[j] = client(&server);
            expect_echo(fds[j], data, BYTES);
        }
        for (unsigned j = 0; j < conns; j++)
            close(fds[j]);
    }
    await_counter(&server, "closed", CONNS);
    cr_assert_eq(server_counter(&server, "accepted"), CONNS);
    cr_assert_eq(server_counter(&server, "closed"), CONNS);
    cr_assert_eq(server_counter(&server, "bytes_in"), CONNS * BYTES);
    cr_assert_eq(server_counter(&server, "bytes_out"), CONNS * BYTES);
    cr_assert_eq(server_counter(&server, "refused"), 0);
    free(data);
    server_stop(&server);
}

/* A blocking call goes on, and a connection is not hurt by it. */
Test(models_count, printing_them_disturbs_nobody)
{
    struct server server = {0};
    SERVER_START(&server, 1, "echo");
    int fd = client(&server);
    expect_text(fd, "before");
    for (int i = 0; i < 20; i++) {
        cr_assert_eq(server_counter(&server, "accepted"), 1);
        expect_text(fd, "between");
    }
    close(fd);
    await_counter(&server, "closed", 1);
    if (subject_model())
        cr_assert_eq(server_counter(&server, "errors"), 0);
    server_stop(&server);
}

/* --- bad usage ----------------------------------------------------------------------------------
 */

static void expect_refusal(const char *engine, const char *option, const char *value,
                           const char *says)
{
    struct process process = {0};
    int status = server_run(&process, engine, (const char *const[]){option, value, NULL});
    cr_assert_eq(status, 2, "exit status %d; it said:\n%s", status, process.err);
    cr_assert_not_null(strstr(process.err, says), "no '%s' in:\n%s", says, process.err);
    cr_assert_str_eq(process.out, "", "no ready line");
    process_free(&process);
}

Test(models_usage, an_option_that_it_does_not_have_is_told_with_those_it_has)
{
    char engine[128];
    const struct weir_model *model = subject_model();
    snprintf(engine, sizeof engine, "%.*s:nonsense=here", (int)strcspn(subject_spec(), ":"),
             subject_spec());
    expect_refusal(engine, NULL, NULL, "nonsense");
    for (const struct weir_model_choice *c = model ? model->choices : NULL; c && c->key; c++) {
        char says[64];
        snprintf(engine, sizeof engine, "%s:%s=nonsense", model->name, c->key);
        snprintf(says, sizeof says, "%s=%s (default)", c->key, c->values[0]);
        expect_refusal(engine, NULL, NULL, says);
    }
}

Test(models_usage, workers_that_cannot_be_are_told)
{
    expect_refusal(subject_spec(), "--workers", "0", "workers");
    expect_refusal(subject_spec(), "--workers", "100000", "workers");
}
