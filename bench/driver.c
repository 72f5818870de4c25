/*
 * The parent's end of the load driver: starts the process, and turns every call of driver.h into
 * one message and its answer. Holds no measurement and no connection itself.
 */
#include "bench/driver.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/driver_wire.h"

#define CONTROL_FD 3
/* How much longer than a call can take the driver may be silent before it counts as stuck. */
#define STUCK_NS 30000000000u
/* And how long it may take to end what it does once the user wants to stop. */
#define INTERRUPTED_MS 1000u

/* What driver.h calls the defaults, and what bounds the calls on a target. */
struct target_bounds {
    uint64_t connect_ns, answer_ns;
    uint64_t slice_ns; /* beyond the duration */
    uint32_t requests;
};

struct driver {
    pid_t pid; /* 0: it has been waited for */
    int control;
    const volatile sig_atomic_t *interrupted; /* NULL: none */
    char error[WEIR__DRIVER_TEXT_BYTES];
    struct target_bounds bounds[WEIR__DRIVER_TARGETS_MAX];
    struct drive_request request;
    struct drive_reply reply;
};

/* --- starting ------------------------------------------------------------------------------- */

/* By its name first: Valgrind follows that, while for the link it would be Valgrind itself. A
 * program that was replaced meanwhile has a name that ends in " (deleted)" and is found by the
 * link only. */
static void exec_self(void)
{
    static const char self[] = "/proc/self/exe";
    char path[4096];
    ssize_t n = readlink(self, path, sizeof(path) - 1);
    if (n > 0) {
        path[n] = '\0';
        execl(path, "weir-bench", "drive", "--control", "3", (char *)NULL);
    }
    execl(self, "weir-bench", "drive", "--control", "3", (char *)NULL);
}

/* In the child, never returns. Calls what is async-signal-safe only, but for no_exec (tests). */
static void child_run(int control, pid_t parent, bool no_exec)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || dup2(control, CONTROL_FD) < 0)
        _exit(127);
    /* Descriptors that others forgot to mark would keep a dead server's sockets open. On kernels
     * before 5.9 the call is missing, and we rely on the marks. */
    syscall(SYS_close_range, CONTROL_FD + 1, ~0u, 0);
    if (no_exec)
        _exit(weir__drive_serve(CONTROL_FD));
    exec_self();
    _exit(126);
}

static int spawn(struct driver *driver, bool no_exec)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    /* main.c sees to it that 0, 1 and 2 are open: dup2() would leave close-on-exec as it is. */
    assert(no_exec || pair[1] != CONTROL_FD);
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        child_run(pair[1], parent, no_exec);
    int rc = pid < 0 ? -errno : 0;
    close(pair[1]);
    if (rc < 0) {
        close(pair[0]);
        return rc;
    }
    driver->pid = pid;
    driver->control = pair[0];
    return 0;
}

/* --- asking --------------------------------------------------------------------------------- */

/* The driver is gone, or is to go: waits for it and says how it ended. */
static int driver_died(struct driver *driver)
{
    int status = 0;
    pid_t pid = -1;
    while (driver->pid > 0 && (pid = waitpid(driver->pid, &status, 0)) < 0 && errno == EINTR)
        ;
    driver->pid = 0;
    char *text = driver->error;
    if (pid < 0)
        snprintf(text, WEIR__DRIVER_TEXT_BYTES, "the load driver is not running any more");
    else if (WIFSIGNALED(status))
        snprintf(text, WEIR__DRIVER_TEXT_BYTES, "the load driver died of signal %d (%s)",
                 WTERMSIG(status), strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status) == 126)
        snprintf(text, WEIR__DRIVER_TEXT_BYTES,
                 "the load driver could not be started: /proc/self/exe is not to be executed");
    else
        snprintf(text, WEIR__DRIVER_TEXT_BYTES, "the load driver ended with status %d",
                 WEXITSTATUS(status));
    return -EPIPE;
}

static bool is_interrupted(const struct driver *driver)
{
    return driver->interrupted != NULL && *driver->interrupted;
}

/* Waits for the reply, or the end of the driver. */
static int await_reply(struct driver *driver, uint64_t bound_ns)
{
    uint64_t left_ms = (bound_ns + STUCK_NS) / 1000000 + 1;
    struct pollfd fd = {.fd = driver->control, .events = POLLIN};
    while (left_ms > 0) {
        if (is_interrupted(driver) && left_ms > INTERRUPTED_MS)
            left_ms = INTERRUPTED_MS;
        uint64_t step_ms = left_ms < 1000 ? left_ms : 1000;
        int n = poll(&fd, 1, (int)step_ms);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
        left_ms -= step_ms;
    }
    kill(driver->pid, SIGKILL);
    driver_died(driver);
    snprintf(driver->error, sizeof(driver->error), "the load driver was %s, and was killed",
             is_interrupted(driver) ? "interrupted" : "stuck");
    return -EPIPE;
}

/* Sends driver->request, fills driver->reply. `bound_ns`: the longest the driver may take. */
static int ask(struct driver *driver, enum drive_verb verb, uint64_t bound_ns)
{
    driver->error[0] = '\0';
    if (driver->pid == 0)
        return driver_died(driver);
    driver->request.verb = verb;
    size_t bytes = weir__drive_request_bytes(&driver->request);
    ssize_t n;
    do {
        n = send(driver->control, &driver->request, bytes, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n != (ssize_t)bytes)
        return driver_died(driver);
    int rc = await_reply(driver, bound_ns);
    if (rc < 0)
        return rc;
    do {
        n = recv(driver->control, &driver->reply, sizeof(driver->reply), 0);
    } while (n < 0 && errno == EINTR);
    if (n != sizeof(driver->reply))
        return driver_died(driver);
    memcpy(driver->error, driver->reply.error, sizeof(driver->error));
    return driver->reply.result;
}

int weir__driver_workload_find(const char *name)
{
    static const char *const names[] = {
        [DRIVER_ECHO] = "echo",
        [DRIVER_FRAME] = "frame",
        [DRIVER_SINK] = "sink",
        [DRIVER_SOURCE] = "source",
    };
    for (int i = 0; i <= DRIVER_SOURCE; i++) {
        if (strcmp(names[i], name) == 0)
            return i;
    }
    return -ENOENT;
}

/* --- the calls of driver.h ------------------------------------------------------------------ */

int weir__driver_new(struct driver **out, const struct driver_options *options)
{
    struct driver *driver = calloc(1, sizeof(*driver));
    *out = driver;
    if (!driver)
        return -ENOMEM;
    driver->control = -1;
    driver->interrupted = options->interrupted;
    int rc = spawn(driver, options->no_exec);
    if (rc < 0) {
        snprintf(driver->error, sizeof(driver->error), "starting the load driver: %s",
                 strerror(-rc));
        return rc;
    }
    driver->request.pinned = options->cpus != NULL;
    if (options->cpus)
        driver->request.cpus = *options->cpus;
    unsigned threads = options->threads;
    if (threads == 0)
        threads = options->cpus ? (unsigned)CPU_COUNT(options->cpus) : 1;
    driver->request.threads = threads < CPU_SETSIZE ? threads : CPU_SETSIZE;
    return ask(driver, DRIVE_START, 0);
}

void weir__driver_free(struct driver *driver)
{
    if (!driver)
        return;
    if (driver->control >= 0)
        close(driver->control); /* it ends by itself now */
    const struct timespec pause = {.tv_nsec = 1000000};
    for (int i = 0; driver->pid > 0 && i < 2000; i++) {
        if (waitpid(driver->pid, NULL, WNOHANG) == driver->pid)
            driver->pid = 0;
        else
            nanosleep(&pause, NULL);
    }
    if (driver->pid > 0) {
        kill(driver->pid, SIGKILL);
        waitpid(driver->pid, NULL, 0);
    }
    free(driver);
}

pid_t weir__driver_pid(const struct driver *driver)
{
    return driver->pid;
}

const char *weir__driver_error(const struct driver *driver)
{
    return driver->error;
}

int weir__driver_open(struct driver *driver, const struct driver_target *target,
                      uint32_t *target_id)
{
    uint64_t connect_ns = target->connect_timeout_ns;
    if (connect_ns == 0)
        connect_ns = weir__driver_connect_timeout_ns(target->conns);
    if (target->pid_count > WEIR__DRIVER_PIDS_MAX) {
        snprintf(driver->error, sizeof(driver->error), "%u server processes, at most %d",
                 target->pid_count, WEIR__DRIVER_PIDS_MAX);
        return -EINVAL;
    }
    driver->request.target = *target;
    int rc = ask(driver, DRIVE_OPEN, connect_ns);
    if (rc < 0)
        return rc;
    *target_id = driver->reply.target_id;
    assert(*target_id < WEIR__DRIVER_TARGETS_MAX);
    uint64_t answer_ns =
        target->answer_timeout_ns > 0 ? target->answer_timeout_ns : WEIR__DRIVER_ANSWER_TIMEOUT_NS;
    uint64_t settle_ns = target->shape.settle_s * 1000000000ull;
    driver->bounds[*target_id] = (struct target_bounds){
        .connect_ns = connect_ns,
        .answer_ns = answer_ns,
        .slice_ns = target->shape.kind == SHAPE_RAMP ? connect_ns + settle_ns : 3 * answer_ns,
        .requests = target->shape.requests > 0 ? target->shape.requests : SHAPE_REQUESTS_DEFAULT,
    };
    return 0;
}

/* What driver.h promises where nothing was said. */
static uint64_t burst_bound_ns(const struct target_bounds *bounds)
{
    return bounds->connect_ns + bounds->answer_ns * (bounds->requests + 1ull);
}

static const struct target_bounds *bounds_of(const struct driver *driver, uint32_t target_id)
{
    return &driver->bounds[target_id % WEIR__DRIVER_TARGETS_MAX]; /* the driver checks the id */
}

int weir__driver_slice(struct driver *driver, uint32_t target_id, uint64_t duration_ns,
                       struct driver_slice *out)
{
    driver->request.target_id = target_id;
    driver->request.duration_ns = duration_ns;
    int rc = ask(driver, DRIVE_SLICE, duration_ns + bounds_of(driver, target_id)->slice_ns);
    if (rc == 0)
        *out = driver->reply.slice;
    return rc;
}

int weir__driver_burst(struct driver *driver, uint32_t target_id, uint64_t bound_ns,
                       struct driver_slice *out)
{
    const struct target_bounds *bounds = bounds_of(driver, target_id);
    if (bound_ns == 0)
        bound_ns = burst_bound_ns(bounds);
    driver->request.target_id = target_id;
    driver->request.duration_ns = bound_ns;
    int rc = ask(driver, DRIVE_BURST, bound_ns);
    if (rc == 0)
        *out = driver->reply.slice;
    return rc;
}

int weir__driver_close(struct driver *driver, uint32_t target_id)
{
    driver->request.target_id = target_id;
    return ask(driver, DRIVE_CLOSE, 0);
}
