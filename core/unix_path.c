/* Paths of Unix sockets; see core/unix_path.h. */
#include "core/unix_path.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int weir__unix_parse(const char *text, struct sockaddr_un *address, socklen_t *bytes)
{
    static const char scheme[] = "unix:";
    size_t skip = sizeof scheme - 1;

    if (strncmp(text, scheme, skip) || !text[skip])
        return -EINVAL;
    text += skip;
    size_t length = strlen(text);
    if (length >= sizeof address->sun_path)
        return -ENAMETOOLONG;
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(address->sun_path, text, length);
    *bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    if (text[0] == '@')
        address->sun_path[0] = '\0'; /* unix(7): the name is all bytes after it */
    else
        ++*bytes;
    return 0;
}

static bool is_path(const struct sockaddr *address, socklen_t bytes)
{
    return address->sa_family == AF_UNIX && bytes > offsetof(struct sockaddr_un, sun_path) &&
           ((const struct sockaddr_un *)address)->sun_path[0];
}

/* Through the socket before there is a path, so that it never lets in more than `mode` does; then
 * by the path, for what umask took away. */
static int bind_path(int fd, const struct sockaddr *address, socklen_t bytes, mode_t mode,
                     struct weir__unix_path *path)
{
    struct stat made;

    memcpy(path->text, ((const struct sockaddr_un *)address)->sun_path,
           bytes - offsetof(struct sockaddr_un, sun_path));
    if ((mode && fchmod(fd, mode)) || bind(fd, address, bytes))
        return -errno;
    if ((mode && chmod(path->text, mode)) || lstat(path->text, &made)) {
        int error = errno;
        unlink(path->text);
        return -error;
    }
    path->device = made.st_dev;
    path->inode = made.st_ino;
    return 0;
}

int weir__bind(int fd, const struct sockaddr *address, socklen_t bytes, mode_t mode,
               struct weir__unix_path **path)
{
    *path = NULL;
    if (!is_path(address, bytes))
        return bind(fd, address, bytes) ? -errno : 0;
    struct weir__unix_path *made = calloc(1, sizeof *made);
    if (!made)
        return -ENOMEM;
    int error = bytes > sizeof(struct sockaddr_un) ? -EINVAL /* as bind(2) has it */
                                                   : bind_path(fd, address, bytes, mode, made);
    if (error)
        free(made);
    else
        *path = made;
    return error;
}

void weir__unix_path_remove(struct weir__unix_path *path)
{
    struct stat now;

    if (path && !lstat(path->text, &now) && now.st_dev == path->device && now.st_ino == path->inode)
        unlink(path->text);
    free(path);
}
