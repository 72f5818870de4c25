/* What some libcs lack in <spawn.h>: musl, and glibc before 2.34. */
#ifndef WEIR_CORE_SPAWN_H
#define WEIR_CORE_SPAWN_H

#include <errno.h>
#include <spawn.h>

#include "config.h"

#if WEIR_HAVE_SPAWN_CHDIR
static inline int weir__spawn_chdir(posix_spawn_file_actions_t *actions, const char *directory)
{
    return posix_spawn_file_actions_addchdir_np(actions, directory);
}
#else
static inline int weir__spawn_chdir(posix_spawn_file_actions_t *actions, const char *directory)
{
    (void)actions;
    (void)directory;
    return EOPNOTSUPP;
}
#endif

#if WEIR_HAVE_SPAWN_CLOSEFROM
static inline int weir__spawn_close_from(posix_spawn_file_actions_t *actions, int fd)
{
    return posix_spawn_file_actions_addclosefrom_np(actions, fd);
}
#else
static inline int weir__spawn_close_from(posix_spawn_file_actions_t *actions, int fd)
{
    (void)actions;
    (void)fd;
    return 0;
}
#endif

#endif
