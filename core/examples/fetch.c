/* An HTTP fetcher: the first address of the host that answers is asked ("happy eyeballs"), and all
 * of it, the look-up of the name included, has one deadline.
 *
 *     fetch http://HOST[:PORT][/PATH] [seconds [engine [name-servers]]]
 *
 * The body goes to stdout, the status line to stderr. Exit: 0 for 2xx, 1 otherwise, 2 bad usage. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <weir/weir.h>

static const char *url, *servers;
static char host[256], authority[300];
static unsigned port = 80;
static double seconds;
static int path_at, error, status;

/* The status line, then the head up to its empty line, then the body. */
static int print_answer(struct weir_conn *conn, uint64_t deadline_ns)
{
    struct weir_buf buf = {0};
    char head[16384];
    size_t head_bytes = 0;
    bool in_body = false;
    int res;

    while ((res = weir_recv_until(conn, &buf, deadline_ns)) > 0) {
        uint32_t at = 0;
        for (; at < buf.len && !in_body && head_bytes < sizeof head - 1; at++) {
            head[head_bytes++] = (char)buf.data[at];
            in_body = head_bytes >= 4 && !memcmp(head + head_bytes - 4, "\r\n\r\n", 4);
        }
        if (!in_body && head_bytes == sizeof head - 1)
            break;
        fwrite(buf.data + at, 1, buf.len - at, stdout);
    }
    weir_buf_put(weir_conn_loop(conn), &buf);
    head[head_bytes] = '\0';
    if (res == 0 && (!in_body || sscanf(head, "HTTP/1.%*1[01] %3d", &status) != 1))
        return -EPROTO;
    if (in_body)
        fprintf(stderr, "%.*s\n", (int)strcspn(head, "\r"), head);
    return res > 0 ? -EPROTO : res;
}

/* HTTP/1.0, for an answer to 1.1 may come in chunks. */
static int ask(uint64_t deadline_ns)
{
    struct weir_conn *conn;
    char request[2048];
    const char *path = url[path_at] ? url + path_at : "/";
    int bytes =
        snprintf(request, sizeof request,
                 "GET %s HTTP/1.0\r\nHost: %s\r\nConnection: close\r\n\r\n", path, authority);
    if (bytes >= (int)sizeof request)
        return -EINVAL;
    int res = weir_dial(&conn, host, (uint16_t)port, deadline_ns);
    if (res < 0)
        return res;
    res = weir_send_all_until(conn, request, (size_t)bytes, deadline_ns);
    if (res >= 0)
        res = print_answer(conn, deadline_ns);
    weir_conn_close(conn);
    return res;
}

static void fetch(void *argument)
{
    struct weir_resolver_options options = {.servers = servers};

    error = servers ? weir_resolver_set(weir_loop_self(), &options) : 0;
    if (!error)
        error = ask(weir_now_ns() + (uint64_t)(seconds * 1e9));
}

/* Of the host, in brackets if it is an IPv6 address, the port and the path. */
static bool parse_url(void)
{
    int more = 0;

    if (sscanf(url, "http://[%255[^]]]%n", host, &path_at) != 1 || !path_at)
        if (sscanf(url, "http://%255[^][:/]%n", host, &path_at) != 1)
            return false;
    if (url[path_at] == ':' && (sscanf(url + path_at, ":%5u%n", &port, &more) != 1 || port > 65535))
        return false;
    path_at += more;
    snprintf(authority, sizeof authority, "%.*s", path_at - 7, url + 7);
    return url[path_at] == '/' || !url[path_at];
}

int main(int count, char **arguments)
{
    /* It prints in its coroutine, of which there are few: these may have large stacks. */
    struct weir_coro_options coro = {.stack_bytes = 128 * 1024};
    struct weir_loop_options options = {.coro = &coro};
    struct weir_loop *loop;
    char why[256];

    url = count > 1 ? arguments[1] : "";
    seconds = count > 2 ? atof(arguments[2]) : 10;
    options.engine = count > 3 ? arguments[3] : "auto";
    servers = count > 4 ? arguments[4] : NULL;
    if (!parse_url()) {
        fprintf(stderr, "fetch http://HOST[:PORT][/PATH] [seconds [engine [name-servers]]]\n");
        return 2;
    }
    if (weir_loop_new(&loop, &options, why, sizeof why)) {
        fprintf(stderr, "fetch: %s\n", why);
        return 1;
    }
    int failed = weir_spawn(loop, NULL, fetch, NULL);
    failed = failed ? failed : weir_loop_run(loop);
    weir_loop_free(loop);
    error = failed ? failed : error;
    if (error)
        fprintf(stderr, "fetch: %s: %s\n", host,
                error == -ETIME    ? "no answer in time"
                : error == -ENOENT ? "no such name"
                : error == -EPROTO ? "that is not HTTP"
                                   : strerror(-error));
    return error || status / 100 != 2;
}
