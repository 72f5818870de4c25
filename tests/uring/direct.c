/* Accepted connections in the ring's own table, and what is done to them without an op. */
#include "harness.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>

static struct fixture fixture;
static struct recorded *accept_op;
static int listening;
static uint16_t port;

static void open_sized(struct weir__uring_tuning tuning)
{
    fixture_open(&fixture, (struct fixture_options){.tuning = tuning});
    if (!(fixture.engine->ops->features(fixture.engine) & WEIR__URING_BIT(DIRECT)))
        cr_skip("this kernel is older than Linux 6.8");
    listening = listener(&port);
    accept_op = record(&fixture, WEIR__OP_ACCEPT, listening);
    accept_op->op.flags = WEIR__OP_MULTISHOT;
    submit(accept_op);
}

static void open_direct(void)
{
    open_sized((struct weir__uring_tuning){0});
}

static void close_all(void)
{
    cancel(accept_op);
    cr_assert_eq(finish(accept_op), -ECANCELED);
    forget(accept_op);
    close(listening);
    fixture_close(&fixture);
}

static int process_fd(int fd)
{
    return fixture.engine->ops->process_fd(fixture.engine, fd);
}

static void drop_fd(int fd)
{
    fixture.engine->ops->drop_fd(fixture.engine, fd);
}

/* What accept gave for a new connection. */
static int accept_client(int *client)
{
    int before = accept_op->count;
    *client = connect_to(port);
    RUN_UNTIL(&fixture, accept_op->count > before);
    cr_assert_geq(accept_op->last, 0);
    return accept_op->last;
}

static int32_t perform(enum weir__op_kind kind, int fd, void *data, uint32_t len)
{
    struct recorded *op = record(&fixture, kind, fd);
    op->op.data = data;
    op->op.len = len;
    int32_t res = submit_and_finish(op);
    forget(op);
    return res;
}

static int32_t end_of(int client)
{
    char byte;
    return read(client, &byte, 1) < 0 ? -errno : 0;
}

static int lowest_free(void)
{
    int fd = dup(STDERR_FILENO);
    close(fd);
    return fd;
}

Test(direct, every_op_works_on_one, .timeout = 20)
{
    char byte;
    int client, free_before;
    open_direct();
    client = connect_to(port);
    free_before = lowest_free();
    RUN_UNTIL(&fixture, accept_op->count == 1);
    int fd = accept_op->last;
    cr_assert_eq(lowest_free(), free_before, "it took a descriptor of the process");
    cr_assert_eq(perform(WEIR__OP_POLL, fd, NULL, POLLOUT), POLLOUT);
    cr_assert_eq(perform(WEIR__OP_SEND, fd, "a", 1), 1);
    cr_assert_eq(read(client, &byte, 1), 1);
    cr_assert_eq(write(client, "b", 1), 1);
    struct recorded *recv_op = record(&fixture, WEIR__OP_RECV, fd);
    recv_op->op.flags = 0;
    cr_assert_eq(submit_and_finish(recv_op), 1);
    cr_assert_eq(*recv_op->bytes, 'b');
    forget(recv_op);
    cr_assert_eq(write(client, "c", 1), 1);
    cr_assert_eq(perform(WEIR__OP_READ, fd, &byte, 1), 1);
    cr_assert_eq(byte, 'c');
    cr_assert_eq(perform(WEIR__OP_SHUTDOWN, fd, NULL, SHUT_WR), 0);
    cr_assert_eq(end_of(client), 0);
    cr_assert_eq(perform(WEIR__OP_CLOSE, fd, NULL, 0), 0);
    cr_assert_eq(perform(WEIR__OP_SHUTDOWN, fd, NULL, SHUT_WR), -EBADF);
    close(client);
    close_all();
}

Test(direct, a_close_that_asks_for_it_resets, .timeout = 20)
{
    int client;
    open_direct();
    int fd = accept_client(&client);
    struct recorded *close_op = record(&fixture, WEIR__OP_CLOSE, fd);
    close_op->op.flags = WEIR__OP_RESET;
    cr_assert_eq(submit_and_finish(close_op), 0);
    cr_assert_eq(end_of(client), -ECONNRESET);
    forget(close_op);
    close(client);
    close_all();
}

Test(direct, a_dropped_one_is_closed_at_once_and_its_slot_free, .timeout = 20)
{
    int client, other;
    open_direct();
    int fd = accept_client(&client);
    drop_fd(fd);
    cr_assert_eq(end_of(client), 0);
    cr_assert_eq(accept_client(&other), fd);
    drop_fd(fd);
    close(client);
    close(other);
    close_all();
}

Test(direct, one_of_the_process_is_made_once_and_closed_with_it, .timeout = 20)
{
    int client;
    struct sockaddr_storage address;
    socklen_t bytes = sizeof address;
    open_direct();
    for (int round = 0; round < 2; round++) {
        int fd = accept_client(&client), own = process_fd(fd);
        cr_assert_geq(own, 0);
        cr_assert_eq(fcntl(own, F_GETFD), FD_CLOEXEC);
        cr_assert_eq(getpeername(own, (struct sockaddr *)&address, &bytes), 0);
        cr_assert_eq(process_fd(fd), own);
        if (round == 0)
            cr_assert_eq(perform(WEIR__OP_CLOSE, fd, NULL, 0), 0);
        else
            drop_fd(fd);
        cr_assert_eq(end_of(client), 0);
        cr_assert_eq(fcntl(own, F_GETFD), -1);
        close(client);
    }
    close_all();
}

Test(direct, without_a_descriptor_of_the_process_left_none_is_made, .timeout = 20)
{
    struct rlimit old, none;
    int client;
    open_direct();
    int fd = accept_client(&client);
    getrlimit(RLIMIT_NOFILE, &old);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = old.rlim_max};
    setrlimit(RLIMIT_NOFILE, &none);
    int without = process_fd(fd);
    setrlimit(RLIMIT_NOFILE, &old);
    cr_assert_eq(without, -EMFILE);
    cr_assert_geq(process_fd(fd), 0);
    drop_fd(fd);
    close(client);
    close_all();
}

/* Its answer would have to stand behind completions that nobody has reaped. */
Test(direct, without_room_for_the_answer_one_of_the_process_is_made_later, .timeout = 20)
{
    int client;
    open_sized((struct weir__uring_tuning){.sq_entries = 4, .cq_entries = 8});
    int fd = accept_client(&client);
    struct recorded *idle = record(&fixture, WEIR__OP_POLL, fd);
    for (int i = 0; i < 9; i++)
        weir__uring_inject_stray(fixture.engine, &idle->op, 1);
    int free_before = lowest_free();
    cr_assert_eq(process_fd(fd), -EBUSY);
    turn_now(&fixture);
    turn_now(&fixture);
    cr_assert_eq(lowest_free(), free_before, "one was made, and lost");
    cr_assert_geq(process_fd(fd), 0);
    forget(idle);
    drop_fd(fd);
    close(client);
    close_all();
}

/* The kernel has accepted the one for whom there was no slot, and drops it. */
Test(direct, beyond_the_table_connections_get_descriptors_of_the_process, .timeout = 20)
{
    enum { SLOTS = 20, CLIENTS = 30 };
    struct rlimit old, low;
    int clients[CLIENTS], direct = 0;
    getrlimit(RLIMIT_NOFILE, &old);
    low = (struct rlimit){.rlim_cur = SLOTS, .rlim_max = old.rlim_max};
    cr_assert_leq(lowest_free(), SLOTS - 8);
    setrlimit(RLIMIT_NOFILE, &low);
    open_direct();
    setrlimit(RLIMIT_NOFILE, &old);
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = connect_to(port);
    RUN_UNTIL(&fixture, accept_op->count == CLIENTS - 1);
    for (int i = 0; i < CLIENTS - 1; i++) {
        direct += process_fd(accept_op->results[i]) != accept_op->results[i];
        drop_fd(accept_op->results[i]);
    }
    cr_assert_eq(direct, SLOTS);
    for (int i = 0; i < CLIENTS; i++) {
        cr_assert_eq(end_of(clients[i]), 0);
        close(clients[i]);
    }
    cr_assert_eq(accept_op->finals, 0);
    close_all();
}
