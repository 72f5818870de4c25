/* Conformance: listeners and their options, and what weir_loop_new() granted. */
#include "conformance.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>

/* ---- listeners ------------------------------------------------------------------------------- */

static uint16_t port_of(const struct sockaddr_storage *address)
{
    return ntohs(((const struct sockaddr_in *)address)->sin_port);
}

CONFORMANCE(a_listener_knows_its_address)
{
    struct conf_server server = {.listen.handler = conf_echo};
    conf_start(&server);
    const struct sockaddr_in *address = (const struct sockaddr_in *)&server.address;
    check_int(server.address_bytes, ==, sizeof *address);
    check_int(address->sin_family, ==, AF_INET);
    check_int(ntohl(address->sin_addr.s_addr), ==, INADDR_LOOPBACK);
    check_int(ntohs(address->sin_port), !=, 0);
    conf_stop(&server);
}

CONFORMANCE(ipv6_is_served_like_ipv4)
{
    int probe = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int bound = probe < 0 ? -1 : bind(probe, (struct sockaddr *)&any, sizeof any);
    if (probe >= 0)
        close(probe);
    if (bound < 0)
        cr_skip("this machine has no ::1");
    struct conf_server server = {.listen = {.handler = conf_echo, .address = "::1"}};
    conf_start(&server);
    check_int(server.address.ss_family, ==, AF_INET6);
    int fd = peer_connect(&server);
    peer_echo(fd, 10000, 6);
    peer_close(fd);
    conf_stop(&server);
}

struct attempt {
    struct weir_loop *loop;
    struct weir_listen_options options;
    int result;
    char why[512];
};

static void try_to_listen(void *argument)
{
    struct attempt *attempt = argument;
    struct weir_listener *listener;
    attempt->result =
        weir_listen(attempt->loop, &listener, &attempt->options, attempt->why, sizeof attempt->why);
}

CONFORMANCE(a_port_that_is_taken_is_named)
{
    struct conf_server server = {.listen.handler = conf_echo};
    conf_start(&server);
    uint16_t port = port_of(&server.address);
    struct attempt attempt = {.loop = server.loop, .options = {.handler = conf_echo, .port = port}};
    conf_call(&server, try_to_listen, &attempt);
    check_int(attempt.result, ==, -EADDRINUSE);
    char number[8];
    snprintf(number, sizeof number, "%u", port);
    check(strstr(attempt.why, number) && strstr(attempt.why, "127.0.0.1"), "%s", attempt.why);
    conf_stop(&server);
}

CONFORMANCE(an_unusable_address_is_named)
{
    struct conf_server server = {.listen.handler = conf_echo};
    conf_start(&server);
    static const struct {
        const char *address;
        int result;
    } cases[] = {{"localhorst", -EINVAL}, {"203.0.113.7", -EADDRNOTAVAIL}, {"", -EINVAL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct attempt attempt = {.loop = server.loop,
                                  .options = {.handler = conf_echo, .address = cases[i].address}};
        conf_call(&server, try_to_listen, &attempt);
        check(attempt.result == cases[i].result, "%s: %d: %s", cases[i].address, attempt.result,
              attempt.why);
        check(strstr(attempt.why, cases[i].address), "%s", attempt.why);
    }
    conf_stop(&server);
}

static void look_at_socket(struct weir_conn *conn, void *argument)
{
    int on = 0;
    socklen_t bytes = sizeof on;
    check_int(getsockopt(weir_conn_fd(conn), IPPROTO_TCP, TCP_NODELAY, &on, &bytes), ==, 0);
    check_int(on, !=, 0);
    char name[16] = "";
    bytes = sizeof name;
    check_int(getsockopt(weir_conn_fd(conn), IPPROTO_TCP, TCP_CONGESTION, name, &bytes), ==, 0);
    if (argument)
        check(strcmp(name, argument) == 0, "%s, not %s", name, (char *)argument);
    conf_echo(conn, argument);
}

CONFORMANCE(a_listening_socket_of_the_caller_is_taken_over)
{
    struct sockaddr_storage address;
    socklen_t address_bytes;
    int fd = peer_listen(&address, &address_bytes, 16, 0), off = 0;
    check_int(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &off, sizeof off), ==, 0);
    struct conf_server server = {.listen = {.handler = look_at_socket, .fd = fd}};
    conf_start(&server);
    check_int(port_of(&server.address), ==, port_of(&address));
    int peer = peer_connect(&server);
    peer_echo(peer, 1000, 1);
    peer_close(peer);
    conf_stop(&server); /* and closed by weir: no descriptor is left after the test */
}

CONFORMANCE(two_loops_share_a_port_with_reuseport)
{
    struct conf_server one = {.listen = {.handler = conf_echo, .reuseport = 1}};
    conf_start(&one);
    struct conf_server two = {
        .listen = {.handler = conf_echo, .reuseport = 1, .port = port_of(&one.address)}};
    conf_start(&two);
    for (unsigned i = 0; i < 40; i++) {
        int fd = peer_connect(&one);
        peer_echo(fd, 100, i);
        peer_close(fd);
    }
    conf_stop(&one);
    conf_stop(&two);
    check_int(one.stats.accepted + two.stats.accepted, ==, 40);
    check_int(one.stats.accepted, >, 0);
    check_int(two.stats.accepted, >, 0);
}

CONFORMANCE(accepted_sockets_have_nodelay_and_the_congestion_control_asked_for)
{
    static char reno[] = "reno";
    struct conf_server server = {
        .listen = {.handler = look_at_socket, .congestion = reno, .argument = reno}};
    conf_start(&server);
    int fd = peer_connect(&server);
    peer_echo(fd, 100, 1);
    peer_close(fd);
    struct attempt attempt = {.loop = server.loop,
                              .options = {.handler = conf_echo, .congestion = "no-such"}};
    conf_call(&server, try_to_listen, &attempt);
    check_int(attempt.result, <, 0);
    check(strstr(attempt.why, "no-such"), "%s", attempt.why);
    conf_stop(&server);
}

static void close_listener(void *argument)
{
    weir_listener_close(argument);
}

/* The socket closes once the engine has let go of it, some turns later. */
static void await_refusal(const struct conf_server *server)
{
    uint64_t until_ns = weir_now_ns() + PEER_SECONDS * 1000000000ull;
    for (int result = 0; result == 0;) {
        int fd = peer_socket(AF_INET);
        result = connect(fd, (struct sockaddr *)&server->address, server->address_bytes);
        if (result < 0 && errno == ECONNRESET)
            result = 0; /* taken into the backlog that went with the socket */
        check(result == 0 || errno == ECONNREFUSED, "connect: errno %d", errno);
        check_int(weir_now_ns(), <, until_ns);
        peer_close(fd);
    }
}

CONFORMANCE(closing_a_listener_leaves_its_connections_and_ends_the_loop_with_the_last)
{
    struct conf_server server = {.listen.handler = conf_echo};
    conf_start(&server);
    int one = peer_connect(&server), two = peer_connect(&server);
    peer_echo(one, 100, 1);
    peer_echo(two, 100, 1);
    conf_call(&server, close_listener, server.listener);
    await_refusal(&server);
    peer_echo(one, 5000, 2);
    peer_echo(two, 5000, 2);
    peer_close(one);
    peer_echo(two, 100, 3);
    peer_close(two);
    conf_join(&server);
}

static void close_listener_of(struct conf_server *server)
{
    weir_listener_close(server->listener);
}

CONFORMANCE(a_listener_may_be_closed_after_the_loop_has_stopped)
{
    struct conf_server server = {.listen.handler = conf_echo, .ended = close_listener_of};
    conf_start(&server);
    conf_stop(&server);
}

CONFORMANCE(several_listeners_serve_on_one_loop)
{
    struct conf_server server = {.listen.handler = conf_echo};
    conf_start(&server);
    struct attempt attempt = {.loop = server.loop, .options = {.handler = conf_discard}};
    conf_call(&server, try_to_listen, &attempt);
    check_int(attempt.result, ==, 0);
    int fd = peer_connect(&server);
    peer_echo(fd, 100, 1);
    peer_close(fd);
    conf_stop(&server);
}

/* ---- what was granted ------------------------------------------------------------------------ */

CONFORMANCE(a_feature_forced_off_is_not_granted)
{
    struct conf_server server = {.listen.handler = conf_echo};
    conf_start(&server);
    char granted[1024], forced[1024];
    snprintf(granted, sizeof granted, ",%s,", weir_loop_features(server.loop));
    snprintf(forced, sizeof forced, "%s", conf_spec());
    for (char *name = strchr(forced, '-'); name;) {
        char *end = name + 1 + strcspn(name + 1, ",:"), ended = *end;
        bool of_list = name[-1] == '=' || name[-1] == ',';
        *end = 0;
        char wanted[64];
        snprintf(wanted, sizeof wanted, ",%s,", name + 1);
        check(!of_list || !strstr(granted, wanted), "%s is granted: %s", name, granted);
        *end = ended;
        name = strchr(end, '-');
    }
    conf_stop(&server);
}

CONFORMANCE(the_engine_is_the_one_named)
{
    struct conf_server server = {.listen.handler = conf_echo};
    conf_start(&server);
    const char *spec = conf_spec(), *engine = weir_loop_engine(server.loop);
    size_t length = strcspn(spec, ":");
    if (strncmp(spec, "auto", 4)) {
        check(strlen(engine) == length && !strncmp(engine, spec, length), "%s", engine);
        check(!*weir_loop_engine_note(server.loop), "%s", weir_loop_engine_note(server.loop));
    }
    check_int(server.per_burst, ==, !strstr(spec, "per=connection"));
    conf_stop(&server);
}
