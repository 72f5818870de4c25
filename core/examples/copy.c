/* A file copier: a scope of tasks, each with one block of the file in flight.
 *
 *     copy FROM TO [engine]
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <weir/weir.h>

enum { TASKS = 8, BLOCK_BYTES = 256 * 1024 };
static char blocks[TASKS][BLOCK_BYTES];

static const char *from_path, *to_path;
static int from, to;
static int64_t next_block;        /* its offset */
static const char *failed, *whom; /* the first call that did so, and its file; NULL: none */
static int error;

/* Printing is too deep for a coroutine's stack: main() says what it was. */
static int check(const char *call, const char *path, int res)
{
    if (res < 0 && !failed) {
        failed = call;
        whom = path;
        error = -res;
    }
    return res;
}

/* How much it was, or -errno. A read may be short, and a write, too. */
static int copy_block(char *block, int64_t offset)
{
    int bytes = 0, done = 0, n = 1;
    for (; n > 0 && bytes < BLOCK_BYTES; bytes += n) {
        n = weir_file_read(from, block + bytes, (size_t)(BLOCK_BYTES - bytes), offset + bytes);
        if (check("read", from_path, n) < 0)
            return n;
    }
    for (; done < bytes; done += n) {
        n = weir_file_write(to, block + done, (size_t)(bytes - done), offset + done);
        if (check("write", to_path, n) < 0)
            return n;
    }
    return bytes;
}

static int copy_blocks(void *block)
{
    int bytes = BLOCK_BYTES;
    while (bytes == BLOCK_BYTES) {
        next_block += BLOCK_BYTES;
        bytes = copy_block(block, next_block - BLOCK_BYTES);
    }
    return bytes; /* an error ends the scope, and with it the other tasks */
}

static int open_both(void)
{
    struct statx source, target;
    from = check("open", from_path, weir_file_open(AT_FDCWD, from_path, O_RDONLY, 0));
    to = -1;
    if (from < 0)
        return from;
    int res = weir_file_stat(from, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &source);
    if (check("stat", from_path, res) < 0)
        return res;
    if (weir_file_stat(AT_FDCWD, to_path, 0, STATX_INO, &target) == 0 &&
        target.stx_ino == source.stx_ino && target.stx_dev_minor == source.stx_dev_minor &&
        target.stx_dev_major == source.stx_dev_major)
        return check("copy onto itself", to_path, -EINVAL);
    int flags = O_WRONLY | O_CREAT | O_TRUNC, mode = source.stx_mode & 0777;
    to = check("open", to_path, weir_file_open(AT_FDCWD, to_path, flags, (mode_t)mode));
    return to;
}

static void copy_file(void *argument)
{
    if (open_both() >= 0) {
        weir_scope_auto(scope, WEIR_FOREVER);
        for (int i = 0; i < TASKS; i++)
            if (check("spawn", from_path, weir_scope_spawn(&scope, copy_blocks, blocks[i])) < 0)
                weir_scope_cancel(&scope);
    }
    if (to >= 0)
        check("close", to_path, weir_file_close(to));
    if (from >= 0)
        weir_file_close(from);
}

int main(int count, char **arguments)
{
    struct weir_loop_options options = {.engine = count > 3 ? arguments[3] : "auto"};
    struct weir_loop *loop;
    char why[256] = "usage: copy FROM TO [engine]";
    if (count < 3 || weir_loop_new(&loop, &options, why, sizeof why)) {
        fprintf(stderr, "copy: %s\n", why);
        return 2;
    }
    from_path = arguments[1];
    to_path = arguments[2];
    if (check("spawn", from_path, weir_spawn(loop, NULL, copy_file, NULL)) == 0)
        check("run", from_path, weir_loop_run(loop));
    weir_loop_free(loop);
    if (failed)
        fprintf(stderr, "copy: %s %s: %s\n", failed, whom, strerror(error));
    return failed ? 1 : 0;
}
