/* What the way through each engine costs, without a network: an op that is ready at once (a poll of
 * a pipe with a byte in it), from submit to its completion, one at a time and 64 in one turn. */
#include "core/engine.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "bench/micro/micro.h"

enum { WIDTH = 64, OPS = 6400, ENGINES_MAX = 8 };

struct rig {
    const struct weir__engine_ops *ops;
    struct weir__engine *engine;
    struct weir__buf_pool bufs;
    struct weir__engine_env env;
    double one[MICRO_ROUNDS], many[MICRO_ROUNDS];
};

static int pipes[WIDTH][2];
static unsigned completed;

static void done(struct weir__op *op)
{
    assert(op->res > 0);
    completed++;
}

static int no_call(struct weir__engine_env *env, struct weir__op *op)
{
    (void)env, (void)op;
    return -EBUSY;
}

static double run(struct rig *rig, unsigned width)
{
    struct weir__op ops[WIDTH] = {0};
    uint64_t start = micro_now_ns();

    for (unsigned n = 0; n < OPS; n += width) {
        completed = 0;
        for (unsigned i = 0; i < width; i++) {
            ops[i] = (struct weir__op){
                .kind = WEIR__OP_POLL, .fd = pipes[i][0], .len = POLLIN, .done = done};
            if (rig->ops->submit(rig->engine, &ops[i]) == WEIR__DONE)
                completed++;
        }
        while (completed < width) {
            int res = rig->ops->wait(rig->engine, WEIR__FOREVER);
            assert(res >= 0);
            (void)res;
        }
    }
    return (double)(micro_now_ns() - start) / OPS;
}

static unsigned open_all(struct rig *rigs)
{
    struct weir__engine_options options = {.conns_max = 1024};
    unsigned count = 0;
    char why[256];

    for (size_t i = 0; weir__engine_table[i]; i++) {
        struct rig *rig = &rigs[count];
        assert(count < ENGINES_MAX);
        weir__buf_pool_init(&rig->bufs, 512, 4096);
        rig->env = (struct weir__engine_env){
            .bufs = &rig->bufs, .call_submit = no_call, .call_cancel = no_call};
        rig->ops = weir__engine_table[i];
        if (rig->ops->open(&rig->engine, &rig->env, &options, why, sizeof why))
            printf("%s: left out: %s\n", rig->ops->name, why);
        else
            count++;
    }
    return count;
}

int main(void)
{
    static struct rig rigs[ENGINES_MAX];
    unsigned count = open_all(rigs);

    for (unsigned i = 0; i < WIDTH; i++) {
        if (pipe(pipes[i]) || write(pipes[i][1], "x", 1) != 1) {
            perror("pipe");
            return 1;
        }
    }
    for (int round = 0; round < MICRO_ROUNDS; round++) {
        for (unsigned i = 0; i < count; i++) {
            rigs[i].one[round] = run(&rigs[i], 1);
            rigs[i].many[round] = run(&rigs[i], WIDTH);
        }
    }
    for (unsigned i = 0; i < count; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s: submit to complete, 1 an enter", rigs[i].ops->name);
        micro_print(name, "ns", rigs[i].one);
        snprintf(name, sizeof name, "%s: submit to complete, %d an enter", rigs[i].ops->name,
                 WIDTH);
        micro_print(name, "ns", rigs[i].many);
        rigs[i].ops->close(rigs[i].engine);
        weir__buf_pool_deinit(&rigs[i].bufs);
    }
    return 0;
}
