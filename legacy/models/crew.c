/* Reactors of callbacks in threads: crew.h. */
#include "legacy/models/crew.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "legacy/models/stop.h"

static int open_member(struct weir__crew *crew, struct weir_model_stats *stats, unsigned index)
{
    struct weir__crew_member *member =
        aligned_alloc(alignof(struct weir__crew_member), sizeof *member);
    if (!member)
        return -ENOMEM;
    crew->members[crew->count++] = member;
    member->crew = crew;
    member->mailbox = (struct weir__handler){.fd = -1};
    member->post_fd = member->listen_fd = -1;
    member->in_thread = false;
    member->result = 0;
    return weir__callbacks_open(&member->reactor, crew->options, weir__counters(stats, index),
                                &weir__readiness_epoll);
}

int weir__crew_open(struct weir__crew *crew, const struct weir_model_options *options,
                    struct weir_model_stats *stats, unsigned count)
{
    *crew = (struct weir__crew){.options = options};
    crew->quit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (crew->quit_fd < 0)
        return -errno;
    crew->members = calloc(count, sizeof(struct weir__crew_member *));
    int rc = crew->members ? 0 : -ENOMEM;
    for (unsigned i = 0; i < count && rc == 0; i++)
        rc = open_member(crew, stats, i);
    return rc;
}

int weir__crew_stops(struct weir__crew *crew, unsigned index)
{
    struct weir__callbacks *reactor = &crew->members[index]->reactor;
    int rc = weir__callbacks_stop_on(reactor, crew->options->stop_fd);
    return rc < 0 ? rc : weir__callbacks_stop_on(reactor, crew->quit_fd);
}

static void serve_member(struct weir__crew_member *member)
{
    member->result = weir__callbacks_serve(&member->reactor);
    if (member->result < 0)
        eventfd_write(member->crew->quit_fd, 1);
}

static void *run_thread(void *argument)
{
    struct weir__crew_member *member = argument;
    serve_member(member);
    if (member->result == 0)
        weir__callbacks_drain(&member->reactor);
    return NULL;
}

static int start_threads(struct weir__crew *crew)
{
    for (unsigned i = 1; i < crew->count; i++) {
        struct weir__crew_member *member = crew->members[i];
        int error = pthread_create(&member->thread, NULL, run_thread, member);
        if (error)
            return -error;
        member->in_thread = true;
    }
    return 0;
}

/* 0, or what the first that failed returned. */
static int join_threads(struct weir__crew *crew)
{
    int rc = crew->members[0]->result;
    for (unsigned i = 1; i < crew->count; i++) {
        struct weir__crew_member *member = crew->members[i];
        if (member->in_thread)
            pthread_join(member->thread, NULL);
        rc = rc < 0 ? rc : member->result;
    }
    return rc;
}

int weir__crew_run(struct weir__crew *crew, const char *features,
                   void (*ready)(void *argument, const char *features), void *argument)
{
    struct weir__crew_member *first = crew->members[0];
    weir__stop_init(crew->options);
    int started = start_threads(crew);
    if (started < 0) {
        eventfd_write(crew->quit_fd, 1);
    } else {
        ready(argument, features);
        serve_member(first);
    }
    if (crew->stopped)
        crew->stopped(crew);
    if (started == 0 && first->result == 0)
        weir__callbacks_drain(&first->reactor);
    int rc = join_threads(crew);
    return started < 0 ? started : rc;
}

void weir__crew_close(struct weir__crew *crew)
{
    for (unsigned i = 0; i < crew->count; i++) {
        struct weir__crew_member *member = crew->members[i];
        int fds[] = {member->listen_fd, member->mailbox.fd, member->post_fd};
        weir__callbacks_close(&member->reactor);
        for (int at = 0; at < 3; at++)
            if (fds[at] >= 0)
                close(fds[at]);
        free(member);
    }
    free(crew->members);
    if (crew->quit_fd >= 0)
        close(crew->quit_fd);
}
