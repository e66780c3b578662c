/* SPDX-License-Identifier: Apache-2.0
 *
 * host_start.c: starting a process of a pool.
 *
 * A process gets its shared memory and the host's bell at fixed descriptors, /dev/null as
 * stdin, and no other descriptor; no blocked or ignored signal; a process group of its
 * own, so that a kill reaches what it started, and a control group where there are some.
 * Everything is made before it is started (host_spawn.c), and unmade when something
 * fails. Why an executable could not be started is found out in host_why.c. */
#include "worker/host_internal.h"

#include "common/base/error.h"
#include "common/sys/affinity.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

struct start {
    int memory, bell, answers;
    int ends[2]; /* the process's ends of its pipes */
    char channel[96];
    char folder[SCRATCH_PATH_MAX]; /* "": the program's */
    struct host_variables variables;
};

/* A descriptor out of the way of the fixed numbers; closes the given one. */
static int raise_fd(int fd)
{
    if (fd < 0 || fd >= HOST_FD_HIGH)
        return fd;
    int high = fcntl(fd, F_DUPFD_CLOEXEC, HOST_FD_HIGH);
    int number = errno == EINVAL ? EMFILE : errno; /* HOST_FD_HIGH is over the limit */
    close(fd);
    errno = number;
    return high;
}

static bool watch(const struct host *host, int fd, uint32_t events, uint64_t number)
{
    struct epoll_event event = {.events = events, .data.u64 = number};
    return epoll_ctl(host->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static bool open_pipe(const struct host *host, struct host_process *process, int which,
                      struct start *start)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return false;
    start->ends[which] = raise_fd(ends[1]);
    process->pipes[which].fd = ends[0];
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    return start->ends[which] >= 0 && watch(host, ends[0], EPOLLIN, process->number);
}

static bool open_files(struct host *host, struct host_process *process,
                       struct start *start)
{
    start->memory = raise_fd(start->memory);
    process->bell = raise_fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    start->bell = process->bell;
    if (!host_shared_open(process, &start->answers))
        return false;
    process->answers = raise_fd(process->answers);
    start->answers = raise_fd(start->answers);
    if (process->answers < 0 || start->answers < 0)
        return false;
    /* Edge: each ring of the bell is told once, and nobody need read it. */
    if (start->memory < 0 || start->bell < 0 ||
        !watch(host, process->bell, EPOLLIN | EPOLLET, UINT64_MAX))
        return false;
    for (int which = 0; host->config.capture_output && which < 2; which++)
        if (!open_pipe(host, process, which, start))
            return false;
    return true;
}

static bool fail(struct host_process *process, int code, const char *what)
{
    process->code = code;
    snprintf(process->text, sizeof process->text, "cannot start a process: %s", what);
    return false;
}

static bool fail_errno(struct host_process *process, int number)
{
    farpool_error error;
    process->code = host_system_error(&error, number, "cannot start a process");
    snprintf(process->text, sizeof process->text, "%s", error.text);
    return false;
}

static bool make_channel(struct host *host, struct host_process *process,
                         const struct id *pool, struct start *start)
{
    farpool_error error;
    uint32_t generation = ++host->generation;
    int code =
        host_map_create(host, pool, generation, &process->map, &start->memory, &error);
    if (code != 0) {
        process->code = code;
        snprintf(process->text, sizeof process->text, "%s", error.text);
        return false;
    }
    struct host_map *map = process->map;
    struct channel_control *control = map->control;
    ring_init(&process->in, &control->in, map->base + map->at.in, CHANNEL_RING_BYTES,
              (uint16_t)generation);
    ring_init(&process->relay, &control->relay, map->base + map->at.relay,
              CHANNEL_RING_BYTES, (uint16_t)generation);
    ring_init(&process->out, &control->out, map->base + map->at.out, CHANNEL_RING_BYTES,
              (uint16_t)generation);
    if (arena_init(&process->in_arena, 0, map->at.in_arena_bytes) != 0)
        return fail(process, FARPOOL_ENOMEM, "out of memory");
    snprintf(start->channel, sizeof start->channel, "%u:%d:%d:%d:%u", CHANNEL_VERSION,
             CHANNEL_FD_MEMORY, CHANNEL_FD_BELL, (int)getpid(), generation);
    return true;
}

/* A process inherits the cores of the thread that starts it. */
static bool bind_to_slot(const struct host *host, struct host_process *process,
                         uint32_t slot)
{
    int number = host->cores != NULL ? affinity_bind(host->cores, slot) : 0;
    if (number == 0)
        return true;
    process->code = FARPOOL_ESYSTEM;
    snprintf(process->text, sizeof process->text,
             "cannot start a process: cannot bind it to a core for slot %u: %s", slot,
             strerror(number));
    return false;
}

static bool make_folder(struct host *host, struct host_process *process,
                        const struct host_program *program, struct start *start)
{
    if (host->scratch == NULL)
        return true;
    int number = scratch_make(host->scratch, process->number, program->folder,
                              program->files, start->folder);
    process->scratch = number == 0;
    if (process->scratch)
        return true;
    const bool full = number == ENOSPC || number == EDQUOT;
    process->code = full ? FARPOOL_ENOSPACE : FARPOOL_ESYSTEM;
    snprintf(process->text, sizeof process->text,
             "cannot start a process: cannot make its folder %.600s: %s", start->folder,
             strerror(number));
    return false;
}

static bool make_variables(const struct host *host, struct host_process *process,
                           const struct host_program *program, uint32_t slot,
                           struct start *start)
{
    const struct host_place place = {.channel = start->channel,
                                     .libraries = program->folder,
                                     .folder = start->folder,
                                     .slot = slot,
                                     .process = process->number};
    return host_variables_make(host, &place, &start->variables) ||
           fail(process, FARPOOL_ENOMEM, "out of memory");
}

static bool start_program(struct host *host, struct host_process *process,
                          const struct host_program *program, uint32_t slot,
                          struct start *start)
{
    if (!bind_to_slot(host, process, slot))
        return false;
    host_group_make(host, process);
    const struct host_spawn spawn = {.path = program->path,
                                     .folder = start->folder[0] != '\0' ? start->folder
                                                                        : program->folder,
                                     .name = program->name,
                                     .variables = start->variables.all,
                                     .memory = start->memory,
                                     .bell = start->bell,
                                     .answers = start->answers,
                                     .ends = {start->ends[0], start->ends[1]},
                                     .group = process->group};
    int number = host_spawn(&spawn, &process->pid);
    if (host->cores != NULL)
        affinity_restore(host->cores);
    if (number != 0) {
        process->pid = 0;
        process->code = host_why_not_started(program->path, number, process->text,
                                             sizeof process->text);
        return false;
    }
    process->pidfd = (int)syscall(SYS_pidfd_open, process->pid, 0);
    if (process->pidfd < 0 && errno == ESRCH) {
        process->exited = true; /* reaped by someone else in this process already */
        process->pid = 0;       /* and perhaps another's by now */
        return true;
    }
    if (process->pidfd < 0 || !watch(host, process->pidfd, EPOLLIN, process->number)) {
        fail_errno(process, errno);
        host_kill(process);
        return false;
    }
    return true;
}

static void finish(struct start *start)
{
    int fds[] = {start->memory, start->answers, start->ends[0], start->ends[1]};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    host_variables_fini(&start->variables);
}

bool host_start(struct host *host, struct host_process *process,
                const struct worker_effect *effect)
{
    struct start start = {.memory = -1, .bell = -1, .answers = -1, .ends = {-1, -1}};
    struct host_program *program;
    HASH_FIND(hh, host->programs, &effect->program, sizeof effect->program, program);
    if (program == NULL)
        return fail(process, FARPOOL_EPROGRAM, "its program is not on this node");
    process->program_hash = effect->program;
    process->pool = effect->pool;
    snprintf(process->program, sizeof process->program, "%s", program->name);
    snprintf(process->initializer, sizeof process->initializer, "%s", effect->name);

    bool started = make_channel(host, process, &effect->pool, &start);
    if (started && !host_push_init(process, effect->name, effect->data))
        started = fail(process, FARPOOL_ENOMEM, "no room for the initializer's argument");
    started = started && make_folder(host, process, program, &start) &&
              make_variables(host, process, program, effect->slot, &start);
    if (started && !open_files(host, process, &start))
        started = fail_errno(process, errno);
    if (started)
        started = start_program(host, process, program, effect->slot, &start);
    finish(&start);
    return started;
}
