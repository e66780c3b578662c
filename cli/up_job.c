/* SPDX-License-Identifier: Apache-2.0
 *
 * up_job.c: jobs of Slurm: the script, its submission, how it stands, and the files that
 * it needs on every node: the worker, the token (mode 0600) and a log, all named after
 * the cluster in the shared folder. */
#include "cli/up_slurm.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SLURM_MS = 60000 };

bool up_slurm_run(struct cli_words *words, const char *input, struct cli_run *run)
{
    *run = (struct cli_run){.arguments = words->items,
                            .input = input,
                            .input_size = input ? strlen(input) : 0,
                            .timeout_ms = SLURM_MS,
                            .to_its_end = true}; /* or a job would be nobody's */
    const bool good = cli_run(run) == 0;
    char line[256];
    run->arguments = NULL;
    if (run->code)
        up_fail("%s cannot be started (%s): is this a machine of the Slurm cluster?",
                words->items[0], strerror(run->code));
    else if (!good && !run->interrupted)
        up_fail("%s: %s", words->items[0],
                run->timed_out ? "no answer"
                               : cli_last_line(run->err, line, sizeof line));
    return good;
}

/* -------------------------------------------------------------------- jobs' states */

static void read_line(const char *line, struct up_queued *job)
{
    const size_t id = strcspn(line, "|\n");
    const char *state = line[id] == '|' ? line + id + 1 : line + id;
    const size_t length = strcspn(state, "|\n");
    const char *reason = state[length] == '|' ? state + length + 1 : state + length;
    snprintf(job->id, sizeof job->id, "%.*s", (int)id, line);
    snprintf(job->state, sizeof job->state, "%.*s", (int)length, state);
    snprintf(job->reason, sizeof job->reason, "%.*s", (int)strcspn(reason, "\n"), reason);
}

bool up_slurm_look(struct up_queue *ret_queue)
{
    struct cli_words words = {.items = NULL};
    struct up_queue queue = {.items = NULL};
    struct cli_run run;
    size_t lines = 1;
    cli_words_split(&words, "squeue --noheader --me --format=%i|%T|%r");
    bool good = up_slurm_run(&words, NULL, &run);
    for (const char *at = run.out; *at; at++)
        lines += *at == '\n';
    queue.items = calloc(lines, sizeof *queue.items);
    good = good && queue.items;
    for (const char *at = run.out; good && *at; at += *at == '\n') {
        read_line(at, &queue.items[queue.count++]);
        at += strcspn(at, "\n");
    }
    cli_run_fini(&run);
    cli_words_fini(&words);
    if (good)
        *ret_queue = queue;
    else
        free(queue.items);
    return good;
}

void up_slurm_queue_fini(struct up_queue *queue)
{
    free(queue->items);
    queue->items = NULL;
}

const struct up_queued *up_slurm_find(const struct up_queue *queue, const char *id)
{
    for (size_t i = 0; i < queue->count; i++)
        if (strcmp(queue->items[i].id, id) == 0)
            return &queue->items[i];
    return NULL;
}

bool up_slurm_runs(const struct up_queued *job)
{
    return strcmp(job->state, "RUNNING") == 0 || strcmp(job->state, "COMPLETING") == 0 ||
           strcmp(job->state, "SUSPENDED") == 0;
}

/* -------------------------------------------------------------------------- files */

static void path_of(const struct up_state *state, const char *end, char *ret_path)
{
    snprintf(ret_path, UP_PATH_MAX + 128, "%s/%s.%s", state->shared, state->name, end);
}

static bool write_file(const char *path, const void *data, size_t size, mode_t mode)
{
    char fresh[UP_PATH_MAX + 160];
    snprintf(fresh, sizeof fresh, "%s.new", path);
    unlink(fresh);
    const int fd =
        open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    bool good = fd >= 0;
    size_t put = 0;
    while (good && put < size) {
        const ssize_t count = write(fd, (const char *)data + put, size - put);
        good = count > 0;
        put += good ? (size_t)count : 0;
    }
    good = good && fsync(fd) == 0;
    if (fd >= 0)
        good = close(fd) == 0 && good;
    if (good && rename(fresh, path) == 0)
        return true;
    const int code = errno;
    unlink(fresh);
    return up_fail("%s cannot be written: %s", path, strerror(code));
}

/* The folder goes into a script and a comment of it: no surprises in its name. */
static bool set_shared(const char *asked, struct up_state *state)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789/._-+@";
    char folder[UP_PATH_MAX], path[PATH_MAX];
    if (!asked && !up_state_folder(folder))
        return false;
    if (!realpath(asked ? asked : folder, path))
        return up_fail("--shared-folder %s: %s", asked ? asked : folder, strerror(errno));
    if (strlen(path) >= sizeof state->shared || strspn(path, plain) != strlen(path))
        return up_fail(
            "--shared-folder %s: only letters, digits and / . _ - + @ may be in "
            "its name",
            path);
    memcpy(state->shared, path, strlen(path) + 1);
    return true;
}

bool up_slurm_prepare(const struct up_options *options, struct up_state *state,
                      int64_t uses)
{
    struct up_worker worker;
    char path[UP_PATH_MAX + 128], token[512];
    if (!set_shared(options->shared, state) || !up_worker_open(options->worker, &worker))
        return false;
    bool good = up_make_token(state, uses, options->days, token) && up_state_save(state);
    if (good) {
        path_of(state, "worker", path);
        good = write_file(path, worker.data, worker.size, 0700);
    }
    if (good && token[0]) {
        path_of(state, "token", path);
        good = write_file(path, token, strlen(token), 0600);
    }
    explicit_bzero(token, sizeof token);
    up_worker_close(&worker);
    return good;
}

void up_slurm_remove_files(const struct up_state *state)
{
    char path[UP_PATH_MAX + 128];
    glob_t found;
    path_of(state, "worker", path);
    unlink(path);
    path_of(state, "token", path);
    unlink(path);
    path_of(state, "*.log", path);
    if (glob(path, 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc; i++)
            unlink(found.gl_pathv[i]);
        globfree(&found);
    }
}

void up_slurm_last_words(const struct up_state *state, const char *id, char text[256])
{
    char path[UP_PATH_MAX + 128], end[64], tail[4096];
    snprintf(end, sizeof end, "%s.log", id);
    path_of(state, end, path);
    FILE *file = fopen(path, "re");
    size_t size = 0;
    if (file && (fseek(file, -(long)sizeof tail + 1, SEEK_END) == 0 ||
                 fseek(file, 0, SEEK_SET) == 0))
        size = fread(tail, 1, sizeof tail - 1, file);
    if (file)
        fclose(file);
    tail[size] = '\0';
    cli_last_line(tail, text, 256);
}

/* ------------------------------------------------------------------------- script */

static void write_head(FILE *file, const struct up_options *options,
                       const struct up_state *state, int64_t nodes)
{
    fprintf(file,
            "#!/bin/sh\n"
            "#SBATCH --job-name=farpool-%s\n"
            "#SBATCH --nodes=%lld\n"
            "#SBATCH --ntasks-per-node=1\n"
            "#SBATCH --requeue\n"
            "#SBATCH --open-mode=append\n"
            "#SBATCH --output=%s/%s.%%j.log\n",
            state->name, (long long)nodes, state->shared, state->name);
    if (options->slots > 0)
        fprintf(file, "#SBATCH --cpus-per-task=%lld\n", (long long)options->slots);
    else
        fputs("#SBATCH --exclusive\n", file);
    /* Slurm before 23 does not tell a job its end. */
    fputs(
        "unset FARPOOL_KEY FARPOOL_JOIN FARPOOL_COORDINATOR\n"
        "if [ -z \"$SLURM_JOB_END_TIME\" ]; then\n"
        "    end=$(date -d \"$(squeue -h -j \"$SLURM_JOB_ID\" -o %e)\" +%s 2>/dev/null) &&\n"
        "        export SLURM_JOB_END_TIME=\"$end\"\n"
        "fi\n",
        file);
}

/* The workers end one by one, and that of one is no reason to end the others. Their names
 * have the job, so that `farpool down` drains no other worker of a node. */
static char *write_script(const struct up_options *options, const struct up_state *state,
                          int64_t nodes, int64_t idle_s)
{
    char path[UP_PATH_MAX + 128], *text = NULL;
    size_t size;
    FILE *file = open_memstream(&text, &size);
    if (!file)
        return NULL;
    write_head(file, options, state, nodes);
    fputs("exec srun --ntasks-per-node=1 --cpu-bind=none --kill-on-bad-exit=0 --wait=0",
          file);
    fputs(" sh -c 'exec \"$0\" --name=\"$SLURMD_NODENAME.$SLURM_JOB_ID\" \"$@\"'", file);
    path_of(state, "worker", path);
    fprintf(file, " %s", path);
    for (size_t i = 0; i < options->worker_options.count; i++) {
        fputc(' ', file);
        cli_quote(file, options->worker_options.items[i]);
    }
    fputs(" --coordinator=", file);
    cli_quote(file, state->address);
    fprintf(file, " --labels=up=%s", state->name);
    if (state->token[0])
        fprintf(file, " --join=%s/%s.token", state->shared, state->name);
    if (options->slots > 0)
        fprintf(file, " --slots=%lld", (long long)options->slots);
    if (idle_s > 0)
        fprintf(file, " --idle=%lld", (long long)idle_s);
    fputc('\n', file);
    fclose(file);
    return text;
}

bool up_slurm_submit(const struct up_options *options, struct up_state *state,
                     int64_t nodes, int64_t idle_s, bool base)
{
    struct cli_words words = {.items = NULL};
    struct cli_run run = {.out = NULL};
    char *script = write_script(options, state, nodes, idle_s), id[32];
    if (!script)
        return up_fail("out of memory");
    cli_words_split(&words, "sbatch --parsable");
    for (size_t i = 0; i < options->sbatch_options.count; i++)
        cli_words_add(&words, "%s", options->sbatch_options.items[i]);
    bool good = up_slurm_run(&words, script, &run);
    if (good) {
        const size_t digits = strspn(run.out, "0123456789");
        snprintf(id, sizeof id, "%.*s", (int)digits, run.out);
        good = digits > 0 ? up_state_add_job(state, id, base)
                          : up_fail("sbatch told no job's id: %s", run.out);
    }
    cli_run_fini(&run);
    cli_words_fini(&words);
    free(script);
    return good;
}

/* ------------------------------------------------------------------ seen from inside */

bool up_is_ours(const struct up_state *state, const farpool_node_status *node)
{
    char label[UP_NAME_MAX + 4];
    const char *labels = node->labels;
    const int length = snprintf(label, sizeof label, "up=%s", state->name);
    for (; labels && *labels; labels = strchr(labels, ','), labels += labels != NULL)
        if (strcspn(labels, ",") == (size_t)length &&
            strncmp(labels, label, (size_t)length) == 0)
            return true;
    return false;
}

uint64_t up_count_nodes(const struct up_state *state,
                        const farpool_cluster_status *status, uint64_t *ret_slots)
{
    uint64_t count = 0, slots = 0;
    for (size_t i = 0; i < status->nodes_count; i++)
        if (up_is_ours(state, &status->nodes[i])) {
            count++;
            slots += status->nodes[i].slots;
        }
    *ret_slots = slots;
    return count;
}
