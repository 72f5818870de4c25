/* One shard accepts for all: who gets which peer, and what happens where nobody has room. */
#include "shards.h"

#include <netinet/in.h>

static void stats_of(struct weir_post *post);

static struct asked_stats {
    struct weir_post post;
    struct weir_loop_stats stats;
    sem_t told;
} asked_stats = {.post.fn = stats_of};

static void stats_of(struct weir_post *post)
{
    weir_loop_stats(weir_loop_self(), &asked_stats.stats);
    sem_post(&asked_stats.told);
}

static const struct weir_loop_stats *stats_now(unsigned shard)
{
    check_int(weir_post(weir_shards_loop(fleet.shards, shard), &asked_stats.post), ==, 0);
    sem_wait(&asked_stats.told);
    return &asked_stats.stats;
}

static void start_acceptor(weir_handler_fn *handler)
{
    sem_init(&asked_stats.told, 0, 0);
    fleet.listen.mode = WEIR_SHARDS_ACCEPTOR;
    fleet.listen.listen.handler = handler;
    fleet_start();
}

CONFORMANCE(an_acceptor_gives_each_shard_as_many_peers)
{
    int fds[10 * SHARDS];

    start_acceptor(conf_echo);
    for (int i = 0; i < 10 * SHARDS; i++) {
        fds[i] = peer_connect(&fleet.address);
        peer_echo(fds[i], 1000, (uint64_t)i);
    }
    for (int i = 0; i < 10 * SHARDS; i++) {
        peer_echo(fds[i], 1000, (uint64_t)i);
        peer_close(fds[i]);
    }
    fleet_stop();
    for (unsigned i = 0; i < SHARDS; i++)
        check_int(fleet.stats[i].accepted, ==, 10);
    check_int(fleet.stats[0].handed_over, ==, 10 * (SHARDS - 1));
}

CONFORMANCE(a_peer_goes_to_the_shard_with_the_fewest_connections)
{
    enum { EACH = 4 };
    int fds[EACH * SHARDS];

    start_acceptor(conf_echo);
    for (int i = 0; i < EACH * SHARDS; i++) { /* in turn, from the first */
        fds[i] = peer_connect(&fleet.address);
        peer_echo(fds[i], 100, (uint64_t)i);
    }
    for (int i = 1; i < EACH * SHARDS; i += SHARDS)
        peer_close(fds[i]);
    while (stats_now(1)->conns > 0)
        usleep(1000);
    for (int i = 1; i < EACH * SHARDS; i += SHARDS) {
        fds[i] = peer_connect(&fleet.address);
        peer_echo(fds[i], 100, (uint64_t)i);
    }
    for (unsigned i = 0; i < SHARDS; i++)
        check_int(stats_now(i)->conns, ==, EACH);
    for (int i = 0; i < EACH * SHARDS; i++)
        peer_close(fds[i]);
    fleet_stop();
}

static atomic_uint closed_count;

static void count_closed(struct weir_conn *conn, void *argument)
{
    check_int(*(int *)weir_conn_state(conn), ==, 1);
    closed_count++;
}

static void mark_state(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    int *state = weir_conn_state(conn);

    while (weir_recv(conn, &buf) > 0) {
        check_int(*state, ==, 0);
        *state = 1;
        check_int(weir_conn_fd(conn), >=, 0);
        weir_send(conn, &buf);
    }
}

CONFORMANCE(what_is_handed_over_is_served_as_the_listener_says)
{
    fleet.listen.listen.state_bytes = sizeof(int);
    fleet.listen.listen.closed = count_closed;
    start_acceptor(mark_state);
    fleet_peers(30, 1);
    fleet_peers(30, 1);
    fleet_stop();
    check_int(closed_count, ==, 60);
    check_int(fleet.sum.accepted, ==, 60);
}

/* Those that find no place wait in the backlog, and each has its turn. */
CONFORMANCE(peers_wait_where_every_shard_is_full)
{
    enum { PEERS = 60 };
    int fds[PEERS];

    fleet.loop.conns_max = 4;
    start_acceptor(conf_echo);
    for (int i = 0; i < PEERS; i++) {
        fds[i] = peer_connect(&fleet.address);
        peer_send_pattern(fds[i], 100, (uint64_t)i, 0);
    }
    for (int i = 0; i < PEERS; i++) {
        peer_recv_pattern(fds[i], 100, (uint64_t)i, 0);
        peer_close(fds[i]);
    }
    fleet_stop();
    check_int(fleet.sum.accepted, ==, PEERS);
    check_int(fleet.sum.accept_drops, ==, 0);
    check_int(fleet.stats[0].accept_pauses, >, 0);
}

static sem_t held, let_go;

static void hold(struct weir_post *post)
{
    sem_post(&held);
    sem_wait(&let_go);
}

/* Messages are bounded: while the others take none, accepting pauses. */
CONFORMANCE(peers_wait_where_no_shard_takes_them)
{
    enum { PEERS = 440 };
    static struct weir_post posts[SHARDS];
    static int fds[PEERS];

    sem_init(&held, 0, 0);
    sem_init(&let_go, 0, 0);
    start_acceptor(conf_echo);
    for (unsigned i = 1; i < SHARDS; i++) {
        posts[i].fn = hold;
        check_int(weir_post(weir_shards_loop(fleet.shards, i), &posts[i]), ==, 0);
        sem_wait(&held);
    }
    for (int i = 0; i < PEERS; i++) {
        fds[i] = peer_connect(&fleet.address);
        peer_send_pattern(fds[i], 100, (uint64_t)i, 0);
    }
    while (stats_now(0)->accept_pauses == 0)
        usleep(1000);
    for (unsigned i = 1; i < SHARDS; i++)
        sem_post(&let_go);
    for (int i = 0; i < PEERS; i++) {
        peer_recv_pattern(fds[i], 100, (uint64_t)i, 0);
        peer_close(fds[i]);
    }
    fleet_stop();
    check_int(fleet.sum.accepted, ==, PEERS);
    check_int(fleet.sum.accept_drops, ==, 0);
}

static atomic_uint begun;

/* Its loop is stopping when it gets to know of that, and takes no more messages meanwhile. */
static void hold_at_the_end(struct weir_conn *conn, void *argument)
{
    struct weir_buf buf = {0};
    int result = weir_recv(conn, &buf);

    if (result > 0) {
        begun++;
        result = weir_recv_until(conn, &buf, WEIR_FOREVER);
    }
    if (result != -ECANCELED || weir_loop_self() != weir_shards_loop(fleet.shards, 1))
        return;
    sem_post(&held);
    sem_wait(&let_go);
}

CONFORMANCE(a_peer_on_its_way_to_a_shard_that_stops_is_closed)
{
    int fds[SHARDS], late[2 * SHARDS];

    sem_init(&held, 0, 0);
    sem_init(&let_go, 0, 0);
    start_acceptor(hold_at_the_end);
    for (unsigned i = 0; i < SHARDS; i++) {
        fds[i] = peer_connect(&fleet.address);
        peer_send(fds[i], "x", 1);
        while (begun == i)
            usleep(1000);
    }
    weir_loop_stop(weir_shards_loop(fleet.shards, 1));
    sem_wait(&held);
    for (int i = 0; i < 2 * SHARDS; i++)
        late[i] = peer_connect(&fleet.address);
    while (stats_now(0)->handed_over + stats_now(0)->conns < 3 * SHARDS)
        usleep(1000);
    sem_post(&let_go);
    for (int i = 0; i < 2 * SHARDS; i++) {
        check_int(peer_end(late[i], NULL), <=, 0);
        peer_close(late[i]);
    }
    for (unsigned i = 0; i < SHARDS; i++)
        peer_close(fds[i]);
    fleet_join(0);
    check_int(fleet.stats[1].accepted, ==, 1);
}

static atomic_bool stop_connecting;
static atomic_uint connected;

static void *connect_and_go(void *argument)
{
    while (!stop_connecting) {
        int fd = peer_socket(AF_INET);
        if (connect(fd, (struct sockaddr *)&fleet.address.address, sizeof(struct sockaddr_in)) == 0)
            connected++;
        close(fd);
    }
    return NULL;
}

CONFORMANCE(a_stop_while_peers_come_leaves_nothing_open)
{
    pthread_t threads[2];

    start_acceptor(conf_echo);
    for (int i = 0; i < 2; i++)
        check_int(pthread_create(&threads[i], NULL, connect_and_go, NULL), ==, 0);
    while (connected < conf_scale(1000))
        usleep(1000);
    fleet_stop();
    stop_connecting = true;
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    check_int(fleet.sum.accepted, >, 0);
}

CONFORMANCE(an_acceptor_takes_a_socket_of_the_caller_s)
{
    struct sockaddr_storage address;
    socklen_t bytes;

    fleet.listen.listen.fd = peer_listen(&address, &bytes, 64, 0);
    start_acceptor(conf_echo);
    check(memcmp(&address, &fleet.address.address, bytes) == 0);
    fleet_peers(9, 2);
    fleet_stop();
    check_int(fleet.sum.accepted, ==, 9);
}
