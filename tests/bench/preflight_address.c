/* Addresses to listen on and to connect to, on this machine's sockets. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench/preflight.h"

static char text[512];

Test(address, reads_hosts_and_ports)
{
    struct sockaddr_storage addr;
    socklen_t len;
    cr_assert_eq(weir__limits_address("127.0.0.1:7000", &addr, &len, text, sizeof(text)), 0);
    struct sockaddr_in *in = (struct sockaddr_in *)&addr;
    cr_expect_eq(in->sin_family, AF_INET);
    cr_expect_eq(ntohl(in->sin_addr.s_addr), INADDR_LOOPBACK);
    cr_expect_eq(ntohs(in->sin_port), 7000);
    cr_expect_eq(len, sizeof(*in));
    cr_assert_eq(weir__limits_address("[::1]:65535", &addr, &len, text, sizeof(text)), 0);
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&addr;
    cr_expect_eq(in6->sin6_family, AF_INET6);
    cr_expect_eq(ntohs(in6->sin6_port), 65535);
}

Test(address, refuses_what_is_none)
{
    static const char *const bad[] = {"",        "127.0.0.1", ":7000",  "127.0.0.1:",      "x:y",
                                      "::1:700", "[::1:7000", "[]:700", "127.0.0.1:65536", "h:-1",
                                      "h: 1",    "h:0x10",    "h:"};
    struct sockaddr_storage addr;
    socklen_t len;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_expect_eq(weir__limits_address(bad[i], &addr, &len, text, sizeof(text)), -EINVAL, "'%s'",
                     bad[i]);
        cr_expect(strstr(text, "is not HOST:PORT"), "'%s': '%s'", bad[i], text);
    }
    cr_expect_eq(weir__limits_address("300.300.300.300:1", &addr, &len, text, sizeof(text)),
                 -EINVAL);
    cr_expect(strstr(text, "300.300.300.300: "), "'%s'", text);
}

Test(address, tells_a_taken_port_from_a_free_one)
{
    struct sockaddr_in addr = {.sin_family = AF_INET};
    struct sockaddr_storage storage = {0};
    socklen_t len = sizeof(addr);
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memcpy(&storage, &addr, sizeof(addr));
    cr_expect_eq(weir__limits_listen(&storage, len, text, sizeof(text)), 0, "port 0: '%s'", text);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&addr, len), 0);
    cr_assert_eq(listen(fd, 1), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    memcpy(&storage, &addr, sizeof(addr));
    cr_expect_eq(weir__limits_listen(&storage, len, text, sizeof(text)), -EADDRINUSE);
    char want[64];
    snprintf(want, sizeof(want), "127.0.0.1:%u: ", ntohs(addr.sin_port));
    cr_expect(strstr(text, want) && strstr(text, "another process listens there"), "'%s'", text);
    close(fd);
    cr_expect_eq(weir__limits_listen(&storage, len, text, sizeof(text)), 0, "'%s'", text);
}

Test(address, says_that_no_interface_has_it)
{
    struct sockaddr_storage addr;
    socklen_t len;
    cr_assert_eq(weir__limits_address("192.0.2.1:0", &addr, &len, text, sizeof(text)), 0);
    cr_expect_eq(weir__limits_listen(&addr, len, text, sizeof(text)), -EADDRNOTAVAIL);
    cr_expect(strstr(text, "no interface of this machine has that address"), "'%s'", text);
}
