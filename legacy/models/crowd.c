/* The clients of a loop that serves by blocking calls: crowd.h. */
#include "legacy/models/crowd.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_WORDS = 1024 / WEIR__CROWD_WORD_BITS };

int weir__crowd_init(struct weir__crowd *crowd, const struct weir_model_options *options,
                     struct weir_model_counters *counters)
{
    *crowd = (struct weir__crowd){.listen_flags = -1};
    int rc = weir__acceptor_init(&crowd->acceptor, options->listen_fd, counters);
    if (rc < 0)
        return rc;
    crowd->blocking = aligned_alloc(alignof(struct weir__blocking), sizeof *crowd->blocking);
    if (!crowd->blocking)
        return -ENOMEM;
    crowd->blocking->options = options;
    crowd->blocking->counters = counters;
    crowd->listen_flags = fcntl(options->listen_fd, F_GETFL);
    if (crowd->listen_flags < 0 ||
        fcntl(options->listen_fd, F_SETFL, crowd->listen_flags | O_NONBLOCK) < 0)
        return -errno;
    return 0;
}

static int make_room(struct weir__crowd *crowd, unsigned word)
{
    unsigned words = crowd->words ? crowd->words : FIRST_WORDS;
    if (word < crowd->words)
        return 0;
    while (words <= word)
        words *= 2;
    unsigned long *open = realloc(crowd->open, words * sizeof *open);
    if (!open)
        return -ENOMEM;
    crowd->open = open;
    struct weir__session *sessions =
        realloc(crowd->sessions, (size_t)words * WEIR__CROWD_WORD_BITS * sizeof *sessions);
    if (!sessions)
        return -ENOMEM;
    crowd->sessions = sessions;
    memset(open + crowd->words, 0, (words - crowd->words) * sizeof *open);
    crowd->words = words;
    return 0;
}

int weir__crowd_accept(struct weir__crowd *crowd)
{
    int fd = weir__accept(&crowd->acceptor, 0);
    if (fd < 0)
        return fd;
    unsigned word = (unsigned)fd / WEIR__CROWD_WORD_BITS;
    int rc = make_room(crowd, word);
    if (rc < 0) {
        weir__accepted_close(crowd->acceptor.counters, fd, rc);
        return -EAGAIN;
    }
    crowd->open[word] |= 1ul << fd % WEIR__CROWD_WORD_BITS;
    if (word >= crowd->used_words)
        crowd->used_words = word + 1;
    weir__session_init(&crowd->sessions[fd], crowd->blocking->options);
    return fd;
}

void weir__crowd_drop(struct weir__crowd *crowd, int fd, int error)
{
    unsigned long *word = &crowd->open[(unsigned)fd / WEIR__CROWD_WORD_BITS];
    assert(*word >> fd % WEIR__CROWD_WORD_BITS & 1);
    *word &= ~(1ul << fd % WEIR__CROWD_WORD_BITS);
    while (crowd->used_words > 0 && crowd->open[crowd->used_words - 1] == 0)
        crowd->used_words--;
    weir__accepted_close(crowd->acceptor.counters, fd, error);
}

bool weir__crowd_serve(struct weir__crowd *crowd, int fd)
{
    int rc = weir__blocking_step(crowd->blocking, fd, &crowd->sessions[fd]);
    if (rc <= 0)
        weir__crowd_drop(crowd, fd, rc);
    return rc > 0;
}

void weir__crowd_finish(struct weir__crowd *crowd)
{
    while (crowd->used_words > 0)
        for (unsigned at = 0; at < crowd->used_words; at++)
            for (unsigned long bits = crowd->open[at]; bits; bits &= bits - 1)
                weir__crowd_serve(crowd, (int)(at * WEIR__CROWD_WORD_BITS) + __builtin_ctzl(bits));
    if (crowd->listen_flags >= 0)
        fcntl(crowd->acceptor.listen_fd, F_SETFL, crowd->listen_flags);
    weir__acceptor_deinit(&crowd->acceptor);
    free(crowd->blocking);
    free(crowd->sessions);
    free(crowd->open);
}
