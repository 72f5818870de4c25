/* Conformance: messages from other threads, and between loops. */
#include "conformance.h"

enum { SENDERS = 4 };

struct message {
    struct weir_post post;
    unsigned sender, number;
};

static unsigned next_number[SENDERS];
static _Atomic unsigned received;

static void receive(struct weir_post *post)
{
    struct message *message = (struct message *)post;
    check_int(message->number, ==, next_number[message->sender]);
    next_number[message->sender]++;
    free(message);
    received++;
}

struct sender {
    struct weir_loop *loop;
    unsigned number, messages;
    bool slowly;
    pthread_t thread;
};

static void *send_messages(void *argument)
{
    struct sender *sender = argument;
    for (unsigned i = 0; i < sender->messages; i++) {
        struct message *message = malloc(sizeof *message);
        *message = (struct message){.post.fn = receive, .sender = sender->number, .number = i};
        check_int(weir_post(sender->loop, &message->post), ==, 0);
        if (sender->slowly)
            usleep(500); /* long enough for the loop to sleep in between */
    }
    return NULL;
}

static void several_threads_post(unsigned messages, bool slowly)
{
    struct conf_server server = {.listen.handler = conf_echo};
    conf_start(&server);
    struct sender senders[SENDERS];
    for (unsigned i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){server.loop, i, messages, slowly, 0};
        check_int(pthread_create(&senders[i].thread, NULL, send_messages, &senders[i]), ==, 0);
    }
    for (unsigned i = 0; i < SENDERS; i++)
        check_int(pthread_join(senders[i].thread, NULL), ==, 0);
    struct weir_loop_stats stats;
    conf_stats(&server, &stats); /* itself a message, behind all of them */
    check_int(received, ==, SENDERS * messages);
    conf_stop(&server);
}

CONFORMANCE(posts_of_every_thread_arrive_in_its_order)
{
    several_threads_post(conf_scale(20000), false);
}

CONFORMANCE(posts_wake_a_sleeping_loop)
{
    several_threads_post(50, true);
}

static void set_flag(struct weir_post *post)
{
    received++;
}

static struct weir_post early_post = {.fn = set_flag}, late_post = {.fn = set_flag};

static void post_before_run(struct conf_server *server)
{
    check_int(weir_post(server->loop, &early_post), ==, 0);
}

static void post_after_end(struct conf_server *server)
{
    check_int(weir_post(server->loop, &late_post), ==, -ESHUTDOWN);
}

CONFORMANCE(a_post_before_the_run_arrives_and_one_after_the_end_is_refused)
{
    struct conf_server server = {
        .listen.handler = conf_echo, .setup = post_before_run, .ended = post_after_end};
    conf_start(&server);
    conf_stop(&server);
    check_int(received, ==, 1);
}

/* Every post that was taken runs, even those that race the end. */
static _Atomic bool racing;

static void *post_until_refused(void *argument)
{
    struct conf_server *server = argument;
    unsigned taken = 0;
    for (;;) {
        struct message *message = malloc(sizeof *message);
        *message = (struct message){.post.fn = receive, .number = taken};
        int result = weir_post(server->loop, &message->post);
        racing = true;
        if (result == 0) {
            taken++;
            continue;
        }
        check_int(result, ==, -ESHUTDOWN);
        free(message);
        return (void *)(uintptr_t)taken;
    }
}

static sem_t refused;

static void wait_for_refusal(struct conf_server *server)
{
    sem_wait(&refused); /* the loop must live while the other thread still posts to it */
}

CONFORMANCE(every_post_taken_before_the_end_runs)
{
    sem_init(&refused, 0, 0);
    struct conf_server server = {.listen.handler = conf_echo, .ended = wait_for_refusal};
    conf_start(&server);
    pthread_t thread;
    check_int(pthread_create(&thread, NULL, post_until_refused, &server), ==, 0);
    while (!racing)
        usleep(100);
    weir_loop_stop(server.loop);
    void *taken;
    check_int(pthread_join(thread, &taken), ==, 0);
    sem_post(&refused);
    conf_join(&server);
    check_int(received, ==, (uintptr_t)taken);
}

static void spawned_by_post(void *argument)
{
    check_int(weir_sleep_until(weir_now_ns() + 100000), ==, 0);
    received++;
}

static void spawn_from_post(struct weir_post *post)
{
    check(weir_task_self() == NULL, "a message is not a task");
    check_int(weir_spawn(weir_loop_self(), NULL, spawned_by_post, NULL), ==, 0);
}

CONFORMANCE(a_post_may_spawn_a_task)
{
    struct conf_server server = {.listen.handler = conf_echo};
    conf_start(&server);
    struct weir_post post = {.fn = spawn_from_post};
    check_int(weir_post(server.loop, &post), ==, 0);
    struct weir_loop_stats stats;
    do
        conf_stats(&server, &stats);
    while (!received);
    conf_stop(&server);
}

/* ---- two loops ------------------------------------------------------------------------------- */

struct ball {
    struct weir_post post;
    struct conf_server *sides[2];
    unsigned side, left;
    sem_t done;
};

static void hit(struct weir_post *post)
{
    struct ball *ball = (struct ball *)post;
    check(weir_loop_self() == ball->sides[ball->side]->loop, "on the wrong loop");
    if (ball->left-- == 0) {
        sem_post(&ball->done);
        return;
    }
    ball->side = !ball->side;
    check_int(weir_post(ball->sides[ball->side]->loop, &ball->post), ==, 0);
}

CONFORMANCE(two_loops_post_to_each_other)
{
    struct conf_server left = {.listen.handler = conf_echo}, right = {.listen.handler = conf_echo};
    conf_start(&left);
    conf_start(&right);
    struct ball ball = {.post.fn = hit, .sides = {&left, &right}, .left = conf_scale(2000)};
    sem_init(&ball.done, 0, 0);
    check_int(weir_post(left.loop, &ball.post), ==, 0);
    sem_wait(&ball.done);
    conf_stop(&left);
    conf_stop(&right);
}
