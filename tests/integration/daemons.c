/* SPDX-License-Identifier: Apache-2.0
 *
 * daemons.c: see daemons.h. A daemon is started by fork and exec, with a file as stderr
 * and stdout, so that it never waits for a test to read; it dies with the thread that
 * started it (PR_SET_PDEATHSIG). Waiting for a line is waiting for inotify's word that
 * the file has grown. Its own log lines tell when it is ready. */
#include "daemons.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define START_MS 20000
#define ARGUMENTS_MAX 40

struct daemon {
    pid_t pid;
    bool reaped;
    int status;
    int pidfd;
    int output;  /* the file */
    int changes; /* inotify */
    char path[64];
    char *text;
    size_t size, capacity;
    size_t seen; /* up to there daemon_wait_line has looked */
    char line[4200];
};

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

static void complain(struct daemon *daemon, const char *what, const char *text)
{
    fprintf(stderr, "daemons: pid %d: %s \"%s\"; it has written:\n%s\n", (int)daemon->pid,
            what, text, daemon_output(daemon));
}

/* ------------------------------------------------------------------ one process */

static void become(const char *const *argv, int output, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(126);
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
    union {
        const char *const *in;
        char *const *out;
    } cast = {.in = argv};
    execv(argv[0], cast.out);
    fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

int daemon_start(const char *const *argv, struct daemon **ret_daemon)
{
    struct daemon *daemon = calloc(1, sizeof *daemon);
    if (daemon == NULL)
        abort();
    snprintf(daemon->path, sizeof daemon->path, "/tmp/farpool-daemon-XXXXXX");
    daemon->output = mkostemp(daemon->path, O_CLOEXEC | O_APPEND);
    daemon->changes = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (daemon->output < 0 || daemon->changes < 0 ||
        inotify_add_watch(daemon->changes, daemon->path, IN_MODIFY) < 0)
        abort();
    unlink(daemon->path);
    pid_t parent = getpid();
    daemon->pid = fork();
    if (daemon->pid == 0)
        become(argv, daemon->output, parent);
    if (daemon->pid < 0)
        abort();
    daemon->pidfd = (int)syscall(SYS_pidfd_open, daemon->pid, 0);
    *ret_daemon = daemon;
    return 0;
}

pid_t daemon_pid(const struct daemon *daemon)
{
    return daemon->reaped ? 0 : daemon->pid;
}

static void read_output(struct daemon *daemon)
{
    ssize_t n;
    do {
        if (daemon->capacity - daemon->size < 4097) {
            daemon->capacity = 2 * daemon->capacity + 8192;
            daemon->text = realloc(daemon->text, daemon->capacity);
            if (daemon->text == NULL)
                abort();
        }
        n = pread(daemon->output, daemon->text + daemon->size, 4096, (off_t)daemon->size);
        daemon->size += n > 0 ? (size_t)n : 0;
        daemon->text[daemon->size] = '\0';
    } while (n > 0);
}

const char *daemon_output(struct daemon *daemon)
{
    read_output(daemon);
    return daemon->text == NULL ? "" : daemon->text;
}

static void reap(struct daemon *daemon, int flags)
{
    if (!daemon->reaped && waitpid(daemon->pid, &daemon->status, flags) == daemon->pid)
        daemon->reaped = true;
}

/* Until it writes, or ends, or the time is over. */
static void wait_for_any(struct daemon *daemon, uint64_t until)
{
    struct pollfd items[2] = {
        {.fd = daemon->changes, .events = POLLIN},
        {.fd = daemon->reaped ? -1 : daemon->pidfd, .events = POLLIN}};
    char events[4096];
    uint64_t now = now_ms();
    poll(items, 2, until > now ? (int)(until - now) : 0);
    while (read(daemon->changes, events, sizeof events) > 0)
        ;
    reap(daemon, WNOHANG);
    read_output(daemon);
}

/* Looks through the whole lines that were not looked at before. */
static bool find_line(struct daemon *daemon, const char *text)
{
    while (daemon->text != NULL) {
        char *start = daemon->text + daemon->seen, *end = strchr(start, '\n');
        if (end == NULL)
            return false;
        snprintf(daemon->line, sizeof daemon->line, "%.*s", (int)(end - start), start);
        daemon->seen += (size_t)(end - start) + 1;
        if (strstr(daemon->line, text) != NULL)
            return true;
    }
    return false;
}

int daemon_wait_line(struct daemon *daemon, const char *text, int timeout_ms,
                     const char **ret_line)
{
    uint64_t until = now_ms() + (uint64_t)timeout_ms;
    reap(daemon, WNOHANG);
    read_output(daemon);
    while (!find_line(daemon, text)) {
        if (now_ms() >= until || daemon->reaped) {
            complain(daemon, daemon->reaped ? "ended without saying" : "did not say",
                     text);
            return -1;
        }
        wait_for_any(daemon, until);
    }
    if (ret_line != NULL)
        *ret_line = daemon->line;
    return 0;
}

int daemon_signal(struct daemon *daemon, int signal)
{
    reap(daemon, WNOHANG);
    if (!daemon->reaped && kill(daemon->pid, signal) == 0)
        return 0;
    complain(daemon, "has ended before it was sent", strsignal(signal));
    return -1;
}

int daemon_wait_end(struct daemon *daemon, int timeout_ms, int *ret_status)
{
    uint64_t until = now_ms() + (uint64_t)timeout_ms;
    reap(daemon, WNOHANG);
    while (!daemon->reaped) {
        if (now_ms() >= until) {
            complain(daemon, "did not", "end");
            return -1;
        }
        wait_for_any(daemon, until);
    }
    read_output(daemon);
    if (ret_status != NULL)
        *ret_status = daemon->status;
    return 0;
}

void daemon_close(struct daemon **pointer)
{
    struct daemon *daemon = *pointer;
    *pointer = NULL;
    if (daemon == NULL)
        return;
    reap(daemon, WNOHANG);
    if (!daemon->reaped)
        kill(daemon->pid, SIGKILL);
    reap(daemon, 0);
    close(daemon->output);
    close(daemon->changes);
    if (daemon->pidfd >= 0)
        close(daemon->pidfd);
    free(daemon->text);
    free(daemon);
}

/* -------------------------------------------------------------------- a cluster */

struct cluster {
    char folder[64];
    char address[128];
    const char *const *coordinator_arguments, *const *worker_arguments;
    struct daemon *coordinator;
    struct daemon *workers[CLUSTER_WORKERS_MAX];
    int workers_count; /* numbers given out */
};

static void add_arguments(const char **argv, int *argc, const char *const *more)
{
    for (; more != NULL && *more != NULL; more++) {
        if (*argc == ARGUMENTS_MAX)
            abort();
        argv[(*argc)++] = *more;
    }
    argv[*argc] = NULL;
}

static int start_coordinator(struct cluster *cluster)
{
    const char *argv[ARGUMENTS_MAX + 1] = {FARPOOL_COORDINATOR_PATH, "--listen",
                                           cluster->address};
    int argc = 3;
    const char *line;
    add_arguments(argv, &argc, cluster->coordinator_arguments);
    if (daemon_start(argv, &cluster->coordinator) != 0 ||
        daemon_wait_line(cluster->coordinator, " listening ", START_MS, &line) != 0)
        return -1;
    if (sscanf(strstr(line, "address="), "address=%127s", cluster->address) != 1)
        return -1;
    return 0;
}

static int start_worker(struct cluster *cluster, int slots, int *ret_worker)
{
    if (cluster->workers_count == CLUSTER_WORKERS_MAX) {
        fprintf(stderr, "daemons: more than %d workers\n", CLUSTER_WORKERS_MAX);
        return -1;
    }
    int number = cluster->workers_count;
    char slots_text[16], name[16], cache[128], scratch[128];
    snprintf(slots_text, sizeof slots_text, "%d", slots);
    snprintf(name, sizeof name, "n%d", number);
    snprintf(cache, sizeof cache, "%s/cache-%s", cluster->folder, name);
    snprintf(scratch, sizeof scratch, "%s/scratch", cluster->folder);
    const char *argv[ARGUMENTS_MAX + 1] = {FARPOOL_WORKER_PATH,
                                           "--coordinator",
                                           cluster->address,
                                           "--slots",
                                           slots_text,
                                           "--name",
                                           name,
                                           "--cache",
                                           cache,
                                           "--scratch",
                                           scratch};
    int argc = 11;
    add_arguments(argv, &argc, cluster->worker_arguments);
    if (daemon_start(argv, &cluster->workers[number]) != 0)
        return -1;
    cluster->workers_count++;
    if (ret_worker != NULL)
        *ret_worker = number;
    return 0;
}

static int wait_for_worker(struct cluster *cluster, int worker)
{
    return daemon_wait_line(cluster->workers[worker], " welcomed ", START_MS, NULL);
}

int cluster_start_with(int workers, int slots, const char *const *coordinator_arguments,
                       const char *const *worker_arguments, struct cluster **ret_cluster)
{
    struct cluster *cluster = calloc(1, sizeof *cluster);
    if (cluster == NULL)
        abort();
    snprintf(cluster->folder, sizeof cluster->folder, "/tmp/farpool-cluster-XXXXXX");
    snprintf(cluster->address, sizeof cluster->address, "tcp://127.0.0.1:*");
    cluster->coordinator_arguments = coordinator_arguments;
    cluster->worker_arguments = worker_arguments;
    int result = mkdtemp(cluster->folder) == NULL ? -1 : start_coordinator(cluster);
    for (int i = 0; result == 0 && i < workers; i++)
        result = start_worker(cluster, slots, NULL);
    for (int i = 0; result == 0 && i < workers; i++)
        result = wait_for_worker(cluster, i);
    if (result != 0) {
        cluster_stop(&cluster);
        return -1;
    }
    *ret_cluster = cluster;
    return 0;
}

int cluster_start(int workers, int slots, struct cluster **ret_cluster)
{
    return cluster_start_with(workers, slots, NULL, NULL, ret_cluster);
}

const char *cluster_address(const struct cluster *cluster)
{
    return cluster->address;
}

const char *cluster_folder(const struct cluster *cluster)
{
    return cluster->folder;
}

pid_t cluster_coordinator_pid(const struct cluster *cluster)
{
    return cluster->coordinator == NULL ? 0 : daemon_pid(cluster->coordinator);
}

pid_t cluster_worker_pid(const struct cluster *cluster, int worker)
{
    struct daemon *daemon = cluster->workers[worker];
    return daemon == NULL ? 0 : daemon_pid(daemon);
}

struct daemon *cluster_coordinator(struct cluster *cluster)
{
    return cluster->coordinator;
}

struct daemon *cluster_worker(struct cluster *cluster, int worker)
{
    return cluster->workers[worker];
}

int cluster_add_worker(struct cluster *cluster, int slots, int *ret_worker)
{
    int worker = -1;
    if (start_worker(cluster, slots, &worker) != 0 ||
        wait_for_worker(cluster, worker) != 0)
        return -1;
    if (ret_worker != NULL)
        *ret_worker = worker;
    return 0;
}

static int kill_daemon(struct daemon *daemon)
{
    if (daemon == NULL || daemon_signal(daemon, SIGKILL) != 0)
        return -1;
    return daemon_wait_end(daemon, START_MS, NULL);
}

int cluster_kill_worker(struct cluster *cluster, int worker)
{
    return kill_daemon(cluster->workers[worker]);
}

int cluster_kill_coordinator(struct cluster *cluster)
{
    return kill_daemon(cluster->coordinator);
}

int cluster_restart_coordinator(struct cluster *cluster)
{
    daemon_close(&cluster->coordinator);
    int result = start_coordinator(cluster);
    for (int i = 0; result == 0 && i < cluster->workers_count; i++) {
        reap(cluster->workers[i], WNOHANG);
        if (cluster_worker_pid(cluster, i) != 0)
            result = wait_for_worker(cluster, i);
    }
    return result;
}

static int remove_entry(const char *path, const struct stat *status, int type,
                        struct FTW *place)
{
    (void)status;
    (void)type;
    (void)place;
    remove(path);
    return 0;
}

void cluster_stop(struct cluster **pointer)
{
    struct cluster *cluster = *pointer;
    *pointer = NULL;
    if (cluster == NULL)
        return;
    for (int i = 0; i < cluster->workers_count; i++)
        daemon_close(&cluster->workers[i]);
    daemon_close(&cluster->coordinator);
    nftw(cluster->folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(cluster);
}
