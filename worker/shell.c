/* SPDX-License-Identifier: Apache-2.0
 *
 * shell.c: the worker's loop, one thread for everything: wait for the coordinator, the
 * processes or a signal; step the core with all that happened, then FLUSH; carry out the
 * effects. While the coordinator is away it goes on, and dials again for ever.
 *
 * Out of memory: what the core could not take in is lost, and with it the agreement with
 * the coordinator; so the daemon drops a message's link (both sides then tell each other
 * what they hold), and ends when the event came from one of its own processes. */
#include "common/base/error.h"
#include "common/sys/groups.h"
#include "common/sys/sys.h"
#include "worker/shell_internal.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FILES_BESIDES_PROCESSES 128 /* a program that is open has one too */
#define FILES_OF_A_PROCESS 8
#define FILES_OF_DIALS 128 /* to other workers */
#define ABSENT_MS 1000     /* not answering for so long is worth a line in the log */
#define LINGER_MS 1000

void shell_trace(const char *event, const struct message *message)
{
    char text[2048];
    if (log_level() >= LOG_TRACE)
        log_event(LOG_TRACE, event, "%s", message_print(message, text, sizeof text));
}

/* ---------------------------------------------------------------------- events */

void shell_step(struct shell *shell, struct worker_event *event)
{
    enum worker_event_kind kind = event->kind;
    if (worker_core_step(shell->core, event, &shell->effects) == 0)
        return;
    log_event(LOG_ERROR, "out-of-memory", "event=%d", (int)kind);
    if (kind == WORKER_FLUSH)
        return; /* tried again at the core's deadline */
    if (kind != WORKER_MESSAGE) {
        shell->stage = FAILED;
        return;
    }
    struct worker_event down = {.kind = WORKER_LINK_DOWN,
                                .now_ms = shell->now_ms,
                                .text = "out of memory for a message"};
    net_drop(shell->net, shell->link, down.text);
    shell->link = 0;
    shell_relay_link_down(shell);
    if (worker_core_step(shell->core, &down, &shell->effects) != 0)
        shell->stage = FAILED;
}

static void link_up(struct shell *shell, uint64_t link)
{
    struct worker_event event = {.kind = WORKER_LINK_UP,
                                 .now_ms = shell->now_ms,
                                 .text = shell_lanes_address(shell)};
    shell->link = link;
    shell->absence_told = shell->refusal_told = false;
    log_event(LOG_INFO, "connected", "coordinator=%s", shell->options->address);
    shell_step(shell, &event);
}

static void link_down(struct shell *shell, const char *text)
{
    struct worker_event event = {
        .kind = WORKER_LINK_DOWN, .now_ms = shell->now_ms, .text = text};
    shell->link = 0;
    shell->dialled_ms = shell->now_ms;
    log_event(LOG_WARNING, "coordinator-lost", "reason=\"%s\"", text);
    shell_relay_link_down(shell);
    shell_step(shell, &event);
}

static void take_message(struct shell *shell, struct message **message)
{
    shell_trace("received", *message);
    const struct message *came = *message;
    if (came->kind == MSG_RELAY) {
        shell_relay_receive(shell, came);
        return;
    }
    if (came->kind == MSG_WELCOME) {
        shell->welcomed = shell->link;
        log_event(LOG_INFO, "welcomed", "coordinator=%s version=%s",
                  shell->options->address, came->welcome.version);
    } else if (came->kind == MSG_REFUSED) {
        log_event(LOG_ERROR, "refused", "code=%s reason=\"%s\"",
                  farpool_error_name(came->refused.code), came->refused.text);
    } else if (came->kind == MSG_DRAIN) {
        log_event(LOG_INFO, "draining", "reason=\"%s\"", came->drain.reason);
    }
    struct worker_event event = {
        .kind = WORKER_MESSAGE, .now_ms = shell->now_ms, .message = *message};
    shell_step(shell, &event);
    *message = event.message;
}

/* Once, until a link is up again: it is dialled on, since a list of keys may change. */
static void tell_refusal(struct shell *shell, const char *text)
{
    if (!shell->refusal_told)
        log_event(LOG_ERROR, "refused", "code=%s coordinator=%s reason=\"%s\"",
                  farpool_error_name(FARPOOL_EKEY), shell->options->address, text);
    shell->refusal_told = shell->absence_told = true;
}

static void on_net(void *user, struct net_event *event)
{
    struct shell *shell = user;
    if (shell_is_joining(shell))
        shell_join_event(shell, event);
    else if (event->kind == NET_UP)
        link_up(shell, event->link);
    else if (event->kind == NET_REFUSED)
        tell_refusal(shell, event->text);
    else if (event->link != shell->link)
        return; /* of one that the core has left */
    else if (event->kind == NET_DOWN)
        link_down(shell, event->text);
    else
        take_message(shell, &event->message);
}

static void log_process(const struct worker_event *event)
{
    if (event->kind == WORKER_PROCESS_READY)
        log_event(LOG_DEBUG, "process-ready", "process=%llu pid=%d",
                  (unsigned long long)event->process, event->pid);
    else if (event->kind == WORKER_PROCESS_GONE && event->code != 0)
        log_event(
            LOG_WARNING, "process-failed", "process=%llu pid=%d code=%s reason=\"%s\"",
            (unsigned long long)event->process, event->pid,
            farpool_error_name(event->code), event->text == NULL ? "" : event->text);
    else if (event->kind == WORKER_PROCESS_GONE)
        log_event(LOG_DEBUG, "process-gone", "process=%llu pid=%d exit=%d signal=%d",
                  (unsigned long long)event->process, event->pid, event->exit_status,
                  event->signal);
}

/* Its client is told as well: here it is for who looks for what went wrong. */
static void log_output(struct shell *shell, const struct worker_event *event)
{
    const char *name = event->fd == STDERR_FILENO ? "stderr" : "stdout";
    const char *at = event->output, *end = at + event->output_bytes;
    struct logs_line line = {.time_ms = log_time_ms(),
                             .level = LOG_INFO,
                             .fd = (uint32_t)event->fd,
                             .pid = (uint32_t)event->pid,
                             .pool = event->pool};
    while (at < end) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        line.text = at;
        line.size = (size_t)(line_end - at);
        logs_add(shell->logs, &line);
        if (log_level() >= LOG_DEBUG)
            log_print(LOG_DEBUG, name, "process=%llu pid=%d line=\"%.*s\"",
                      (unsigned long long)event->process, event->pid, (int)line.size, at);
        at = line_end + 1;
    }
}

static void on_host(void *user, struct worker_event *event)
{
    struct shell *shell = user;
    log_process(event);
    if (event->kind == WORKER_PROCESS_OUTPUT)
        log_output(shell, event);
    if (event->kind == WORKER_PROCESS_GONE)
        shell_relay_gone(shell, event->process);
    shell_step(shell, event);
}

/* ------------------------------------------------------------------------ loop */

static bool is_running(const struct shell *shell)
{
    return shell->stage != ENDED && shell->stage != FAILED;
}

/* Everything that is there, then the core's decisions. */
static void run_batch(struct shell *shell)
{
    net_poll(shell->net, shell->now_ms, on_net, shell);
    shell_lanes_poll(shell);
    shell_relay_turn(shell);
    host_poll(shell->host, shell->now_ms, on_host, shell);
    shell_reap_orphans(shell);
    shell_work_on_cache(shell);
    shell_step_answers(shell);
    shell_step_shared(shell);
    shell_look_at_site(shell);
    struct worker_event flush = {.kind = WORKER_FLUSH, .now_ms = shell->now_ms};
    shell_step(shell, &flush);
    shell_carry_out(shell);
    net_flush(shell->net);
    shell_lanes_flush(shell);
    shell_join_finish(shell);
}

static void tell_absence(struct shell *shell)
{
    if (shell->link != 0 || shell->absence_told ||
        shell->now_ms - shell->dialled_ms < ABSENT_MS)
        return;
    shell->absence_told = true;
    log_event(
        LOG_WARNING, "coordinator-absent",
        "coordinator=%s reason=\"nobody answers%s: farpool doctor --coordinator %s tells why\"",
        shell->options->address,
        shell_is_joining(shell) ? ", or one with another key than the token's" : "",
        shell->options->address);
}

static void tell_manager(struct shell *shell)
{
    if (shell->stage != SERVING)
        notify_status(&shell->notify, "draining: finishing what runs");
    else if (shell->link != 0 && shell->link == shell->welcomed)
        notify_status(&shell->notify, "connected to %s", shell->options->address);
    else
        notify_status(&shell->notify, "not connected, dialing %s",
                      shell->options->address);
    notify_turn(&shell->notify, shell->now_ms);
}

static int wait_ms(const struct shell *shell)
{
    uint64_t deadline = worker_core_deadline(shell->core), now = sys_now_ms();
    if (net_deadline(shell->net) < deadline)
        deadline = net_deadline(shell->net);
    if (shell_lanes_deadline(shell) < deadline)
        deadline = shell_lanes_deadline(shell);
    if (shell_relay_deadline(shell) < deadline)
        deadline = shell_relay_deadline(shell);
    if (host_deadline(shell->host) < deadline)
        deadline = host_deadline(shell->host);
    if (notify_deadline(&shell->notify) < deadline)
        deadline = notify_deadline(&shell->notify);
    if (shell_site_deadline(shell) < deadline)
        deadline = shell_site_deadline(shell);
    if (memory_deadline(&shell->memory) < deadline)
        deadline = memory_deadline(&shell->memory);
    uint64_t told = shell->dialled_ms + ABSENT_MS;
    if (shell->link == 0 && !shell->absence_told && told < deadline)
        deadline = told;
    if (deadline == UINT64_MAX)
        return -1;
    if (deadline <= now)
        return 0;
    return deadline - now < INT_MAX ? (int)(deadline - now) : INT_MAX;
}

static void wait_for_events(struct shell *shell)
{
    bool sleep = STAILQ_EMPTY(&shell->answers) && STAILQ_EMPTY(&shell->shared_answers) &&
                 !cache_is_busy(shell->cache) && host_sleep(shell->host);
    int timeout_ms = sleep ? wait_ms(shell) : 0;
    struct pollfd fds[NET_WAIT_FDS + LANES_WAIT_FDS + 2];
    nfds_t count = (nfds_t)net_wait_begin(shell->net, fds, &timeout_ms);
    const struct pollfd *lanes = &fds[count];
    count += (nfds_t)shell_lanes_wait_begin(shell, &fds[count], &timeout_ms);
    struct pollfd *signals = &fds[count];
    fds[count++] = (struct pollfd){.fd = shell->signals, .events = POLLIN};
    fds[count++] = (struct pollfd){.fd = host_fd(shell->host), .events = POLLIN};
    if (poll(fds, count, timeout_ms) < 0 && errno != EINTR) {
        log_event(LOG_ERROR, "poll", "reason=\"%s\"", strerror(errno));
        shell->stage = FAILED;
    }
    if (sleep)
        host_wake(shell->host);
    net_wait_end(shell->net, fds);
    shell_lanes_wait_end(shell, lanes);
    shell->now_ms = sys_now_ms();
    if (signals->revents != 0)
        shell_take_signals(shell);
}

static void loop(struct shell *shell)
{
    struct worker_counts counts;
    while (is_running(shell)) {
        wait_for_events(shell);
        run_batch(shell);
        worker_core_counts(shell->core, &counts);
        memory_turn(&shell->memory, counts.held + counts.unacked > 0, shell->now_ms);
        tell_absence(shell);
        tell_manager(shell);
    }
}

/* --------------------------------------------------------------- start and end */

static int open_host(struct shell *shell, farpool_error *error)
{
    const struct worker_place *place = &shell->options->place;
    struct host_config config = {.node = shell->options->core.node,
                                 .capture_output = true,
                                 .reaper = true,
                                 .guarded = true,
                                 .groups = place->groups,
                                 .on_relay = shell_relay_send,
                                 .user = shell,
                                 .payload_max = BODY_BYTES_MAX,
                                 .spin = sys_cores() > 1,
                                 .look_ms = shell->options->core.results_wait_ms,
                                 .slots = shell->options->core.slots,
                                 .scratch = place->scratch,
                                 .pass = place->pass_count > 0 ? place->pass : NULL,
                                 .withhold = worker_withheld,
                                 .set = place->set,
                                 .bind = place->bind,
                                 .resources = place->resources,
                                 .resources_count = place->resources_count};
    return host_create(&config, &shell->host, error);
}

/* As many as there are descriptors for: without them ZeroMQ does not go on. */
static uint32_t lanes_max(uint64_t files, uint32_t most)
{
    farpool_error error;
    while (most > 0 && sys_need_files(files + FILES_OF_DIALS + most, &error) != 0)
        most /= 2;
    return most;
}

static int open_shell(struct shell *shell, farpool_error *error)
{
    const struct worker_options *options = shell->options;
    struct worker_config config = options->core;
    uint64_t files =
        (uint64_t)FILES_OF_A_PROCESS * config.slots + FILES_BESIDES_PROCESSES;
    shell->now_ms = shell->dialled_ms = sys_now_ms();
    if (notify_open(&shell->notify, shell->now_ms, error) != 0)
        log_event(LOG_WARNING, "notify", "reason=\"%s\"", error->text);
    sys_random_id(&config.worker);
    shell->id = config.worker;
    config.logs = shell->logs;
    int result = shell->logs != NULL ? sys_need_files(files, error)
                                     : error_set(error, FARPOOL_ENOMEM, "out of memory");
    config.lanes_max = lanes_max(files, config.lanes_max);
    if (result == 0)
        result = shell_open_signals(shell, error);
    if (result == 0)
        result = cache_open(options->cache, config.node, options->cache_bytes,
                            &shell->cache, error);
    shell->store = store_create(options->core.node, options->share_bytes);
    if (result == 0 && shell->store == NULL)
        result = error_set(error, FARPOOL_ENOMEM, "out of memory");
    if (result == 0)
        result = open_host(shell, error);
    if (result == 0 && worker_core_create(&config, shell->now_ms, &shell->core) != 0)
        result = error_set(error, FARPOOL_ENOMEM, "out of memory");
    if (result == 0)
        result = shell_join_dial(shell, error);
    return result;
}

static void close_shell(struct shell *shell)
{
    struct answer *answer;
    key_wipe(&shell->joining);
    shell_lanes_close(shell, shell->stage == ENDED ? LINGER_MS : 0);
    net_close(shell->net, shell->stage == ENDED ? LINGER_MS : 0);
    if (shell->core != NULL)
        worker_core_destroy(shell->core);
    worker_effects_fini(&shell->effects);
    host_destroy(shell->host);
    shell_relay_fini(shell);
    shell_shared_fini(shell);
    while ((answer = STAILQ_FIRST(&shell->answers)) != NULL) {
        STAILQ_REMOVE_HEAD(&shell->answers, entry);
        mem_free(answer);
    }
    cache_close(shell->cache);
    if (shell->signals >= 0)
        close(shell->signals);
    notify_close(&shell->notify);
}

static void tell_groups(const struct shell *shell)
{
    const struct groups *groups = host_groups(shell->host);
    if (!shell->options->place.groups)
        log_event(LOG_INFO, "groups", "use=none reason=\"--groups none\"");
    else if (groups->top[0] == '\0')
        log_event(LOG_INFO, "groups", "use=none reason=\"%s\"", groups->why);
    else if (!groups->memory)
        log_event(LOG_INFO, "groups", "use=kill folder=%s reason=\"%s\"", groups->top,
                  groups->why);
    else
        log_event(LOG_INFO, "groups", "use=kill,memory folder=%s", groups->top);
    if (groups->leftovers > 0)
        log_event(LOG_INFO, "groups-left",
                  "workers=%u note=\"the control groups of workers that were killed are "
                  "removed\"",
                  groups->leftovers);
}

static void tell_start(const struct shell *shell)
{
    const struct worker_options *options = shell->options;
    uint32_t leftovers = 0;
    const char *scratch = host_scratch_folder(shell->host, &leftovers);
    log_event(LOG_INFO, "started",
              "node=%s slots=%u coordinator=%s cache=%s scratch=%s pid=%d",
              options->core.node, options->core.slots, options->address,
              cache_folder(shell->cache), scratch, (int)getpid());
    tell_groups(shell);
    log_event(LOG_INFO, "shared-uid",
              "uid=%u note=\"the programs of all pools run as this user: they can read "
              "and change each other's files, and end each other's processes\"",
              (unsigned)geteuid());
    if (leftovers > 0)
        log_event(LOG_INFO, "scratch-left",
                  "workers=%u note=\"the scratch folders of "
                  "workers that were killed are being removed\"",
                  leftovers);
    if (options->place.slots_asked > 0)
        log_event(LOG_WARNING, "slots-limited",
                  "slots=%u wanted=%u reason=\"--resources has no more to share out\"",
                  options->core.slots, options->place.slots_asked);
}

int worker_run(const struct worker_options *options)
{
    struct shell shell = {
        .options = options, .notify = {.fd = -1}, .signals = -1, .stage = SERVING};
    farpool_error error;
    STAILQ_INIT(&shell.answers);
    STAILQ_INIT(&shell.shared_answers);
    SLIST_INIT(&shell.lanes.dials);
    memory_open(&shell.memory);
    log_open("worker", options->level);
    shell.logs = logs_create(LOGS_OWN_BYTES, LOGS_PRINTED_BYTES);
    log_keep(shell.logs);
    if (open_shell(&shell, &error) == 0) {
        tell_start(&shell);
        notify_ready(&shell.notify);
        loop(&shell);
    } else {
        log_event(LOG_ERROR, "start", "code=%s reason=\"%s\"",
                  farpool_error_name(error.code), error.text);
        shell.stage = FAILED;
    }
    bool ended = shell.stage == ENDED;
    close_shell(&shell);
    log_keep(NULL);
    logs_destroy(shell.logs);
    return ended ? EXIT_ENDED : EXIT_FAILED;
}
