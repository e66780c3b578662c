/* SPDX-License-Identifier: Apache-2.0
 *
 * up_state.c: what was started where, in NAME.json below the user's state folder (mode
 * 0600), written beside itself and renamed before and after every start: whatever ends
 * `farpool up`, `farpool down` finds what it left. It has no secrets. */
#include "cli/up.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { TERM_MS = 5000, LOOK_MS = 20 };

/* ------------------------------------------------------------------------ files */

static bool make_folders(char *path)
{
    for (char *at = path + 1;; at++) {
        const char end = *at;
        if (end != '/' && end != '\0')
            continue;
        *at = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST)
            return up_fail("cannot make the folder %s: %s (XDG_STATE_HOME names another)",
                           path, strerror(errno));
        *at = end;
        if (!end)
            return true;
    }
}

static bool folder_path(char ret_folder[UP_PATH_MAX])
{
    const char *home = getenv("HOME"), *state = getenv("XDG_STATE_HOME");
    int length = -1;
    if (state && state[0] == '/')
        length = snprintf(ret_folder, UP_PATH_MAX, "%s/farpool/up", state);
    else if (home && home[0] == '/')
        length = snprintf(ret_folder, UP_PATH_MAX, "%s/.local/state/farpool/up", home);
    return length >= 0 && length < UP_PATH_MAX - 192; /* room for names in it */
}

bool up_state_folder(char ret_folder[UP_PATH_MAX])
{
    if (!folder_path(ret_folder))
        return up_fail("neither XDG_STATE_HOME nor HOME is a folder that can be used");
    return make_folders(ret_folder);
}

bool up_state_file(const char *name, const char *end, char ret_path[UP_PATH_MAX])
{
    char folder[UP_PATH_MAX];
    return folder_path(folder) &&
           snprintf(ret_path, UP_PATH_MAX, "%s/%s.%s", folder, name, end) < UP_PATH_MAX;
}

bool up_name_is_right(const char *name)
{
    size_t length = 0;
    while (isalnum((unsigned char)name[length]) || name[length] == '_' ||
           (length > 0 && name[length] == '-'))
        length++;
    return length > 0 && length <= UP_NAME_MAX && !name[length];
}

/* ------------------------------------------------------------------------- JSON */

json_t *up_process_json(const struct up_process *process)
{
    return json_pack("{s:I, s:I}", "pid", (json_int_t)process->pid, "start",
                     (json_int_t)process->start);
}

bool up_host_is_there(const struct up_host *host)
{
    return host->worker.pid || host->tunnel.pid || host->starting;
}

static json_t *host_json(const struct up_host *host)
{
    return json_pack("{s:s, s:s, s:i, s:i, s:s, s:b, s:o, s:o, s:i, s:s}", "host",
                     host->host, "user", host->user, "port", (int)host->port, "slots",
                     (int)host->slots, "node", host->node, "starting",
                     (int)host->starting, "worker", up_process_json(&host->worker),
                     "tunnel", up_process_json(&host->tunnel), "tunnel_port",
                     (int)host->tunnel_port, "log", host->log);
}

static json_t *state_json(const struct up_state *state)
{
    json_t *hosts = json_array(), *jobs = json_array();
    for (size_t i = 0; i < state->hosts_count; i++)
        if (up_host_is_there(&state->hosts[i]))
            json_array_append_new(hosts, host_json(&state->hosts[i]));
    for (size_t i = 0; i < state->jobs_count; i++)
        json_array_append_new(jobs, json_pack("{s:s, s:b}", "id", state->jobs[i].id,
                                              "base", (int)state->jobs[i].base));
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o}",
                     "name", state->name, "id", state->id, "kind", state->kind,
                     "coordinator", state->address, "key", state->key, "token",
                     state->token, "ssh", state->ssh, "shared", state->shared, "auto",
                     up_process_json(&state->auto_process), "keeper",
                     up_process_json(&state->keeper), "hosts", hosts, "jobs", jobs);
}

static void get_text(const json_t *object, const char *name, char *ret_text, size_t size)
{
    const char *text = json_string_value(json_object_get(object, name));
    snprintf(ret_text, size, "%s", text ? text : "");
}

struct up_process up_process_read(const json_t *object, const char *name)
{
    const json_t *process = json_object_get(object, name);
    return (struct up_process){
        .pid = json_integer_value(json_object_get(process, "pid")),
        .start = (uint64_t)json_integer_value(json_object_get(process, "start"))};
}

static bool get_hosts(const json_t *list, struct up_state *state)
{
    const size_t count = json_array_size(list);
    state->hosts = calloc(count + 1, sizeof *state->hosts);
    if (!state->hosts)
        return false;
    for (size_t i = 0; i < count; i++) {
        struct up_host *host = &state->hosts[state->hosts_count++];
        const json_t *item = json_array_get(list, i);
        get_text(item, "host", host->host, sizeof host->host);
        get_text(item, "user", host->user, sizeof host->user);
        get_text(item, "node", host->node, sizeof host->node);
        get_text(item, "log", host->log, sizeof host->log);
        host->port = (uint32_t)json_integer_value(json_object_get(item, "port"));
        host->slots = (uint32_t)json_integer_value(json_object_get(item, "slots"));
        host->tunnel_port =
            (uint32_t)json_integer_value(json_object_get(item, "tunnel_port"));
        host->starting = json_is_true(json_object_get(item, "starting"));
        host->worker = up_process_read(item, "worker");
        host->tunnel = up_process_read(item, "tunnel");
    }
    return true;
}

static bool get_jobs(const json_t *list, struct up_state *state)
{
    const size_t count = json_array_size(list);
    state->jobs = calloc(UP_JOBS_MAX, sizeof *state->jobs);
    for (size_t i = 0; state->jobs && i < count && i < UP_JOBS_MAX; i++) {
        struct up_job *job = &state->jobs[state->jobs_count++];
        const json_t *item = json_array_get(list, i);
        get_text(item, "id", job->id, sizeof job->id);
        job->base = json_is_true(json_object_get(item, "base"));
    }
    return state->jobs != NULL;
}

int up_state_load(const char *name, struct up_state *ret_state)
{
    char path[UP_PATH_MAX];
    json_error_t error;
    struct up_state state = {.hosts = NULL};
    if (!up_state_file(name, "json", path))
        return -1;
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return 0;
    if (access(path, R_OK) != 0) {
        up_fail("cannot read %s: %s (XDG_STATE_HOME names another folder)", path,
                strerror(errno));
        return -1;
    }
    json_t *root = json_load_file(path, 0, &error);
    get_text(root, "name", state.name, sizeof state.name);
    if (strcmp(state.name, name) != 0) {
        up_fail("%s: %s", path, root ? "it is not of this name" : error.text);
        json_decref(root);
        return -1;
    }
    get_text(root, "kind", state.kind, sizeof state.kind);
    get_text(root, "coordinator", state.address, sizeof state.address);
    get_text(root, "key", state.key, sizeof state.key);
    get_text(root, "token", state.token, sizeof state.token);
    get_text(root, "ssh", state.ssh, sizeof state.ssh);
    get_text(root, "shared", state.shared, sizeof state.shared);
    get_text(root, "id", state.id, sizeof state.id);
    state.auto_process = up_process_read(root, "auto");
    state.keeper = up_process_read(root, "keeper");
    const bool good = get_hosts(json_object_get(root, "hosts"), &state) &&
                      get_jobs(json_object_get(root, "jobs"), &state);
    json_decref(root);
    if (!good) {
        up_state_fini(&state);
        up_fail("out of memory");
        return -1;
    }
    *ret_state = state;
    return 1;
}

static bool write_file(const char *path, json_t *root)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
    if (!file) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    const bool written = json_dumpf(root, file, JSON_INDENT(2)) == 0;
    const bool flushed = fflush(file) == 0 && fsync(fd) == 0;
    return fclose(file) == 0 && written && flushed;
}

bool up_write_json(const char *path, json_t *root)
{
    char fresh[UP_PATH_MAX + 4];
    snprintf(fresh, sizeof fresh, "%s.new", path);
    const bool good = root && write_file(fresh, root) && rename(fresh, path) == 0;
    const int code = root ? errno : ENOMEM;
    json_decref(root);
    errno = code;
    return good;
}

bool up_state_save(const struct up_state *state)
{
    char path[UP_PATH_MAX];
    return up_state_file(state->name, "json", path) &&
           (up_write_json(path, state_json(state)) ||
            up_fail("%s cannot be written: %s", path, strerror(errno)));
}

void up_state_remove(const struct up_state *state)
{
    char path[UP_PATH_MAX];
    if (up_state_file(state->name, "json", path))
        unlink(path);
}

void up_state_fini(struct up_state *state)
{
    free(state->hosts);
    free(state->jobs);
    state->hosts = NULL;
    state->jobs = NULL;
}

bool up_state_add_job(struct up_state *state, const char *id, bool base)
{
    if (!state->jobs)
        state->jobs = calloc(UP_JOBS_MAX, sizeof *state->jobs);
    if (!state->jobs || state->jobs_count == UP_JOBS_MAX)
        return up_fail("more than %d jobs", UP_JOBS_MAX);
    struct up_job *job = &state->jobs[state->jobs_count++];
    snprintf(job->id, sizeof job->id, "%s", id);
    job->base = base;
    return up_state_save(state);
}

void up_state_drop_job(struct up_state *state, const char *id)
{
    size_t kept = 0;
    for (size_t i = 0; i < state->jobs_count; i++)
        if (strcmp(state->jobs[i].id, id) != 0)
            state->jobs[kept++] = state->jobs[i];
    state->jobs_count = kept;
}

/* -------------------------------------------------------- processes of this machine */

struct up_process up_process_find(int64_t pid)
{
    struct up_process process = {.pid = pid};
    char path[64], text[1024], state = 'Z';
    snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
    FILE *file = pid > 0 ? fopen(path, "re") : NULL;
    const size_t size = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file)
        fclose(file);
    text[size] = '\0';
    const char *at = strrchr(text, ')'); /* the name before it may have anything */
    if (at && at[1] == ' ')
        state = at[2];
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    if (!at || state == 'Z')
        return (struct up_process){.pid = 0};
    process.start = strtoull(at, NULL, 10);
    return process;
}

bool up_process_is_there(const struct up_process *process)
{
    return process->pid > 0 && up_process_find(process->pid).pid > 0 &&
           up_process_find(process->pid).start == process->start;
}

void up_process_end(const struct up_process *process)
{
    const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000L};
    if (up_process_is_there(process))
        kill((pid_t)process->pid, SIGTERM);
    for (int i = 0; i < TERM_MS / LOOK_MS && up_process_is_there(process); i++)
        nanosleep(&pause, NULL);
    if (up_process_is_there(process))
        kill((pid_t)process->pid, SIGKILL);
}
