/* Paths of Unix sockets: made by bind(2), and removed by whoever made them. */
#ifndef WEIR_CORE_UNIX_PATH_H
#define WEIR_CORE_UNIX_PATH_H

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

struct weir__unix_path {
    dev_t device; /* the file's, so that one that has taken its place stays */
    ino_t inode;
    char text[sizeof(struct sockaddr_un)];
};

/* "unix:/path" or "unix:@abstract". 0; -EINVAL for what begins otherwise, -ENAMETOOLONG. */
int weir__unix_parse(const char *text, struct sockaddr_un *address, socklen_t *bytes);
/* Binds; a path gets the permissions `mode`, 0: what umask leaves. `*path` is what to remove, from
 * the heap, or NULL where there is nothing (not a Unix socket, or an abstract name). 0 or -errno.
 */
int weir__bind(int fd, const struct sockaddr *address, socklen_t bytes, mode_t mode,
               struct weir__unix_path **path);
/* Removes it, if it is still the one, and frees. NULL: no effect. */
void weir__unix_path_remove(struct weir__unix_path *path);

#endif
