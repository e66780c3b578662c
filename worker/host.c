/* SPDX-License-Identifier: Apache-2.0
 *
 * host.c: the calls of worker/host.h: effects in, events out.
 *
 * host_apply changes the private tables and the rings; whatever it has to answer waits
 * for the next host_poll, which goes through the processes in the order they were
 * started: what each has written, then the answers, then its end. host_sleep makes the
 * processes ring their bells, and looks once more behind a full fence, so that nothing
 * published before is missed.
 *
 * deliver must not call the host: effects are applied after host_poll. */
#include "worker/host_internal.h"

#include "common/base/error.h"
#include "common/sys/affinity.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define LOOK_MS 50      /* host_config.look_ms, when it is 0 */
#define END_LOOK_MS 100 /* after a process was told to end */
#define EPOLL_EVENTS 64

struct worker_event host_event(const struct host *host,
                               const struct host_process *process,
                               enum worker_event_kind kind)
{
    struct worker_event event = {.kind = kind,
                                 .now_ms = host->now_ms,
                                 .process = process->number,
                                 .pid = (int)process->pid};
    return event;
}

void host_deliver(struct host *host, struct worker_event *event)
{
    host->delivered++;
    host->deliver(host->deliver_user, event);
    payload_unref(&event->sizes);
    payload_unref(&event->data);
}

static int open_parts(struct host *host, farpool_error *error)
{
    const struct host_config *config = &host->config;
    int result = 0;
    if (!host_environment_init(host))
        return error_set(error, FARPOOL_ENOMEM, "host: out of memory");
    if (config->scratch != NULL)
        result = scratch_open(config->scratch, &host->scratch, error);
    if (result == 0 && config->bind)
        result = affinity_read(&host->cores, error);
    if (result != 0)
        return result;
    if (config->groups)
        groups_open(host->token, &host->groups);
    host->oom_kills = groups_oom_kills();
    host->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (host->epoll < 0)
        return host_system_error(error, errno, "host: epoll_create1");
    if (host->groups.top[0] != '\0')
        host_guard(host); /* who removes them, if this process is killed */
    return 0;
}

int host_create(const struct host_config *config, struct host **ret_host,
                farpool_error *error)
{
    struct host *host = mem_alloc(sizeof *host);
    if (host == NULL)
        return error_set(error, FARPOOL_ENOMEM, "host: out of memory");
    host->config = *config;
    if (host->config.payload_max == 0 || host->config.payload_max > BODY_BYTES_MAX)
        host->config.payload_max = BODY_BYTES_MAX;
    if (host->config.slots == 0)
        host->config.slots = 1;
    if (host->config.look_ms == 0)
        host->config.look_ms = LOOK_MS;
    snprintf(host->node, sizeof host->node, "%s",
             config->node != NULL ? config->node : "");
    host->generation = (uint32_t)getpid() << 8; /* differs between hosts, mostly */
    host->epoll = -1;
    TAILQ_INIT(&host->shared);
    host_remains_init(host);
    int result = open_parts(host, error);
    if (result != 0)
        host_destroy(host);
    else
        *ret_host = host;
    return result;
}

static void destroy_program(struct host *host, struct host_program *program)
{
    if (program->hashed)
        HASH_DELETE(hh, host->programs, program);
    mem_free(program->path);
    mem_free(program->name);
    mem_free(program->folder);
    mem_free(program->files);
    mem_free(program);
}

void host_destroy(struct host *host)
{
    if (host == NULL)
        return;
    struct host_process *process, *next;
    HASH_ITER (hh, host->processes, process,
               next) /* all at once, before waiting for any */
        host_kill(process);
    HASH_ITER (hh, host->processes, process, next)
        host_process_destroy(host, process);
    host_remains_fini(host);
    host_shared_fini(host);
    struct host_program *program, *next_program;
    HASH_ITER (hh, host->programs, program, next_program)
        destroy_program(host, program);
    scratch_close(host->scratch);
    affinity_free(host->cores);
    host_environment_fini(host);
    mem_free(host->merge.data);
    mem_free(host->merge.sizes);
    if (host->epoll >= 0)
        close(host->epoll);
    mem_free(host);
}

/* The caller's own executable is started by its name in /proc, which is right even when
 * the file was replaced; people, and backtraces, want to see the file's. */
static char *program_name(const char *path)
{
    char target[4096];
    ssize_t length = -1;
    if (strcmp(path, "/proc/self/exe") == 0)
        length = readlink(path, target, sizeof target - 1);
    if (length <= 0)
        return mem_strdup(path);
    target[length] = '\0';
    return mem_strdup(target);
}

int host_set_program(struct host *host, const struct hash *hash, const char *path,
                     const char *folder)
{
    farpool_error error;
    struct host_program *old, *program = mem_alloc(sizeof *program);
    if (program == NULL)
        return FARPOOL_ENOMEM;
    program->program = *hash;
    program->path = mem_strdup(path);
    program->name = program_name(path);
    program->folder = folder != NULL ? mem_strdup(folder) : NULL;
    if (program->path == NULL || program->name == NULL ||
        (folder != NULL && program->folder == NULL)) {
        destroy_program(host, program);
        return FARPOOL_ENOMEM;
    }
    if (host->scratch != NULL && folder != NULL &&
        (program->files = scratch_list(folder, &error)) == NULL) {
        destroy_program(host, program);
        return error.code;
    }
    HASH_FIND(hh, host->programs, hash, sizeof *hash, old);
    if (old != NULL)
        destroy_program(host, old);
    program->hashed = true;
    HASH_ADD(hh, host->programs, program, sizeof program->program, program);
    if (!program->hashed) {
        destroy_program(host, program);
        return FARPOOL_ENOMEM;
    }
    return 0;
}

const char *host_scratch_folder(const struct host *host, uint32_t *ret_leftovers)
{
    if (host->scratch == NULL)
        return NULL;
    *ret_leftovers = host->scratch->leftovers;
    return host->scratch->path;
}

bool host_owns(const struct host *host, int pid)
{
    const struct host_process *process;
    if (pid == host->guardian.pid)
        return true;
    for (process = host->processes; process != NULL; process = process->hh.next) {
        if (process->pid == pid)
            return true;
    }
    return false;
}

/* Effects ------------------------------------------------------------------------- */

static void start(struct host *host, struct worker_effect *effect)
{
    struct host_process *process = mem_alloc(sizeof *process);
    bool added = process != NULL;
    host->started = true;
    if (effect->name[0] != '\0')
        host_guard(host); /* an initializer may start something; else it can wait */
    if (added) {
        process->number = effect->process;
        process->pidfd = process->bell = process->answers = process->group = -1;
        process->init_block = ARENA_NONE;
        process->pipes[0] = (struct host_pipe){.fd = -1, .number = 1};
        process->pipes[1] = (struct host_pipe){.fd = -1, .number = 2};
        TAILQ_INIT(&process->gives);
        STAILQ_INIT(&process->relays);
        process->hashed = true;
        HASH_ADD(hh, host->processes, number, sizeof process->number, process);
        added = process->hashed;
    }
    if (!added) {
        mem_free(process);
        host->lost_start = true;
        host->lost_process = effect->process;
    } else if (!host_start(host, process, effect)) {
        process->state = PROCESS_UNBORN;
    }
    host_guard(host);
    payload_unref(&effect->data);
}

static void give(struct host *host, struct host_process *process,
                 struct worker_effect *effect)
{
    if (process != NULL && process->state < PROCESS_ENDING) {
        if (host_give(process, effect)) {
            host_group_limit(host, process);
            host_push(host, process);
        } else {
            /* Its tasks go back to the core with the process's end. */
            process->state = PROCESS_ENDING;
            process->code = FARPOOL_ENOMEM;
            snprintf(process->text, sizeof process->text, "out of memory on this node");
            host_kill(process);
        }
    }
    payload_unref(&effect->span.sizes);
    payload_unref(&effect->span.data);
}

void host_apply(struct host *host, struct worker_effect *effect)
{
    struct host_process *process;
    HASH_FIND(hh, host->processes, &effect->process, sizeof effect->process, process);
    if (effect->kind == WORKER_PROCESS_START)
        start(host, effect);
    else if (effect->kind == WORKER_PROCESS_GIVE)
        give(host, process, effect);
    else if (process == NULL)
        return; /* it has ended, and that was told */
    else if (effect->kind == WORKER_PROCESS_TAKE_BACK) {
        process->take_back = true;
        process->take_back_count += effect->count;
    } else if (effect->kind == WORKER_PROCESS_CANCEL) {
        host_cancel(process, effect);
    } else if (effect->kind == WORKER_PROCESS_SAMPLE) {
        process->sample = true;
        process->measure = process->measure || effect->limited;
    } else if (effect->kind == WORKER_PROCESS_CLOSE) {
        process->closing = true;
        if (process->state < PROCESS_ENDING)
            host_push(host, process);
    } else if (effect->kind == WORKER_PROCESS_KILL) {
        process->killed = true;
        host_kill(process);
    }
}

/* Events -------------------------------------------------------------------------- */

/* What an epoll event of a process may have been about. */
static void look_at(struct host *host, uint64_t number)
{
    struct host_process *process;
    if (number == HOST_GUARDIAN)
        host_guardian_ended(host);
    HASH_FIND(hh, host->processes, &number, sizeof number, process);
    if (process == NULL)
        return; /* UINT64_MAX: a bell, which only has to wake */
    struct pollfd exit = {.fd = process->pidfd, .events = POLLIN};
    process->printing = true;
    if (process->pidfd >= 0 && poll(&exit, 1, 0) == 1)
        process->exited = true;
}

static void look_at_files(struct host *host)
{
    struct epoll_event events[EPOLL_EVENTS];
    int count;
    do {
        count = epoll_wait(host->epoll, events, EPOLL_EVENTS, 0);
        for (int i = 0; i < count; i++)
            look_at(host, events[i].data.u64);
    } while (count == EPOLL_EVENTS);
}

static void deliver_sample(struct host *host, struct host_process *process)
{
    struct worker_event event = host_event(host, process, WORKER_PROCESS_SAMPLED);
    process->sample = false;
    if (process->map != NULL && process->state == PROCESS_SERVING)
        event.running = host_running(process, &event.give, &event.first, &event.began_ms,
                                     &event.share_ppm);
    if (event.running && process->measure)
        host_used(process, event.give, event.first, &event.cpu_ms, &event.memory_bytes);
    process->measure = false;
    host_deliver(host, &event);
}

static void poll_process(struct host *host, struct host_process *process)
{
    bool ended = process->exited || process->state == PROCESS_UNBORN;
    const bool printing = process->printing && process->map != NULL;
    const struct host_owner owner = host_output_owner(process);
    if (printing)
        host_output_read(host, process);
    if (process->state < PROCESS_ENDING)
        host_drain(host, process);
    if (host->merge.process != NULL)
        return; /* no memory for what it published: nothing may overtake that */
    if (printing)
        host_output_tell(host, process, &owner);
    if (ended && process->state < PROCESS_ENDING && ring_ready(&process->out))
        return; /* no memory for the rest */
    if (ended) {
        host_gone(host, process);
        return;
    }
    if (process->take_back)
        host_take_back(host, process);
    if (process->sample)
        deliver_sample(host, process);
    host_group_limit(host, process);
    if (process->state < PROCESS_ENDING)
        host_push(host, process);
}

/* A process for which there was not even memory to remember it. */
static void deliver_lost_start(struct host *host)
{
    struct host_process nothing = {.number = host->lost_process};
    struct worker_event event = host_event(host, &nothing, WORKER_PROCESS_GONE);
    host->lost_start = false;
    event.exit_status = -1;
    event.code = FARPOOL_ENOMEM;
    event.text = "cannot start a process: out of memory";
    host_deliver(host, &event);
}

int host_poll(struct host *host, uint64_t now_ms,
              void (*deliver)(void *user, struct worker_event *event), void *user)
{
    host->now_ms = now_ms;
    host->deliver = deliver;
    host->deliver_user = user;
    host->delivered = 0;
    host->no_memory = false;
    if (host->woken || now_ms != host->looked_ms) {
        host->woken = false;
        host->looked_ms = now_ms;
        look_at_files(host);
    }
    if (host->lost_start)
        deliver_lost_start(host);
    struct host_process *process, *next;
    HASH_ITER (hh, host->processes, process, next) {
        if (!host_merge_flush(host))
            break;
        poll_process(host, process);
    }
    host_wake_processes(host);
    host_sweep(host, now_ms);
    return host->delivered;
}

/* Whether it may have published something and go on with another task. */
static bool may_be_quiet(const struct host_process *process)
{
    const struct give *give = TAILQ_FIRST(&process->gives);
    return give != NULL &&
           (give->end - give->published > 1 || TAILQ_NEXT(give, link) != NULL);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* When to look for what the process has told quietly, or printed. */
static uint64_t look_due(const struct host *host, const struct host_process *process)
{
    const struct give *give = TAILQ_FIRST(&process->gives);
    uint32_t period_ms = host->config.look_ms;
    if (!may_be_quiet(process) && !process->printing)
        return UINT64_MAX;
    if (!process->printing && give->unseen_ms > period_ms)
        period_ms = give->unseen_ms;
    return worker_tick(host->looked_ms + host->config.look_ms / 2, period_ms);
}

uint64_t host_deadline(const struct host *host)
{
    const struct host_process *process, *next;
    uint64_t deadline = host_sweep_deadline(host);
    HASH_ITER (hh, host->processes, process, next) {
        uint64_t due_ms = look_due(host, process);
        /* An embedding program that is idle is not woken by its end. */
        if (process->closing || process->killed)
            due_ms = earlier(due_ms, host->looked_ms + END_LOOK_MS);
        deadline = earlier(deadline, due_ms);
    }
    return deadline;
}

/* Sleeping ------------------------------------------------------------------------ */

int host_fd(const struct host *host)
{
    return host->epoll;
}

static void set_asleep(struct host *host, uint32_t asleep)
{
    struct host_process *process, *next;
    HASH_ITER (hh, host->processes, process, next)
        if (process->map != NULL)
            atomic_store_explicit(&process->map->control->host_asleep, asleep,
                                  memory_order_relaxed);
}

static bool has_news(struct host *host, struct host_process *process)
{
    if (process->state == PROCESS_UNBORN || process->take_back || process->sample)
        return true;
    if (process->exited)
        return true;
    if (process->state == PROCESS_ENDING)
        return false; /* its pidfd tells */
    host_push(host, process);
    return ring_ready(&process->out);
}

bool host_sleep(struct host *host)
{
    set_asleep(host, 1);
    atomic_thread_fence(memory_order_seq_cst);
    bool news = host->no_memory || host->lost_start || host->merge.process != NULL;
    struct host_process *process, *next;
    HASH_ITER (hh, host->processes, process, next)
        news = news || has_news(host, process);
    host_wake_processes(host);
    if (news)
        host_wake(host);
    return !news;
}

void host_wake(struct host *host)
{
    set_asleep(host, 0);
    host->woken = true;
}
