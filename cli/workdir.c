/* SPDX-License-Identifier: Apache-2.0
 *
 * workdir.c: the folder that the commands of `farpool map` run in: the one it was called
 * in, so that relative file names mean the same on nodes that share it. Each process of a
 * pool goes there when it starts (the initializer below). Where it cannot, it says so in
 * a line on its standard error, which comes to this program as every such line does, and
 * stays in its scratch folder. All other lines are passed on as the library would do. */
#include "cli/workdir.h"
#include "cli/cli.h"
#include "common/base/printable.h"

#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOT_THERE "\tfarpool-workdir " /* ERRNO USER; no program begins a line so */
#define SCRATCH "..."                  /* as in GNU parallel */

/* ----------------------------------------------------------------- in the processes */

static const char *called = "map"; /* or submit */

static const char *user_name(char uid[16])
{
    const struct passwd *entry = getpwuid(geteuid());
    snprintf(uid, 16, "%u", (unsigned)geteuid());
    return entry ? entry->pw_name : uid;
}

static int enter_workdir(farpool_task *task)
{
    size_t size;
    char uid[16];
    const char *folder = farpool_task_input(task, &size); /* ends with a NUL byte */
    if (chdir(folder) == 0) {
        setenv("PWD", folder, 1); /* so that a shell, too, calls it by this name */
    } else {
        const int code = errno;
        fprintf(stderr, NOT_THERE "%d %s\n", code, user_name(uid));
    }
    return FARPOOL_OK;
}
FARPOOL_BYTES_FUNCTION(enter_workdir)

/* Of a job that nobody watches: what it does elsewhere would be noticed by nobody. */
static int enter_workdir_or_fail(farpool_task *task)
{
    size_t size;
    char uid[16];
    const char *folder = farpool_task_input(task, &size);
    if (chdir(folder) != 0)
        return farpool_fail(task, "user %s cannot enter '%s': %s", user_name(uid), folder,
                            strerror(errno));
    setenv("PWD", folder, 1);
    return FARPOOL_OK;
}
FARPOOL_BYTES_FUNCTION(enter_workdir_or_fail)

/* ------------------------------------------------------------------ in the command */

/* The current folder by the name that the user knows it by: on nodes, that of a link (as
 * an automounter makes) may be right where the one that it leads to here is not. */
static int present_folder(char **ret_folder)
{
    struct stat named, present;
    const char *name = getenv("PWD");
    if (name && name[0] == '/' && stat(name, &named) == 0 && stat(".", &present) == 0 &&
        named.st_dev == present.st_dev && named.st_ino == present.st_ino)
        *ret_folder = strdup(name);
    else
        *ret_folder = getcwd(NULL, 0);
    return *ret_folder ? CLI_OK
                       : cli_error(called,
                                   "the current folder cannot be found out: %s; cd "
                                   "elsewhere, or give --workdir",
                                   strerror(errno));
}

static int absolute(const char *wanted, char **ret_folder)
{
    char *base = NULL;
    if (wanted[0] == '/') {
        *ret_folder = strdup(wanted);
    } else {
        int result = present_folder(&base);
        if (result)
            return result;
        if (strcmp(wanted, ".") == 0) {
            *ret_folder = base;
            return CLI_OK;
        }
        if (asprintf(ret_folder, "%s/%s", base, wanted) < 0)
            *ret_folder = NULL;
        free(base);
    }
    return *ret_folder ? CLI_OK : cli_error(called, "out of memory");
}

int cli_workdir_choose(const char *wanted, bool files, bool embedded,
                       struct cli_workdir *ret_workdir)
{
    *ret_workdir = (struct cli_workdir){.folder = NULL};
    if (wanted && !wanted[0])
        return cli_usage_error(called, "--workdir: a folder is wanted, not ''");
    if (wanted && strcmp(wanted, SCRATCH) == 0) {
        if (embedded)
            return cli_usage_error(called,
                                   "--workdir ...: a coordinator's workers have "
                                   "scratch folders, and no coordinator is given");
        return CLI_OK;
    }
    if (wanted && files)
        return cli_usage_error(called, "--file brings files into scratch folders, so "
                                       "--workdir can only be " SCRATCH);
    if (files || (embedded && !wanted))
        return CLI_OK;
    if (!embedded)
        return absolute(wanted ? wanted : ".", &ret_workdir->folder);
    return chdir(wanted) == 0 ? CLI_OK
                              : cli_error(called, "--workdir: cannot enter '%s': %s",
                                          wanted, strerror(errno));
}

int cli_workdir_submit(const char *wanted, bool files, struct cli_workdir *ret_workdir,
                       farpool_pool_options *options)
{
    *ret_workdir = (struct cli_workdir){.folder = NULL};
    called = "submit";
    const int result = wanted ? cli_workdir_choose(wanted, files, false, ret_workdir) : 0;
    if (ret_workdir->folder != NULL) {
        options->initializer = FARPOOL_REF(enter_workdir_or_fail)->name;
        options->initializer_argument =
            (farpool_bytes){ret_workdir->folder, strlen(ret_workdir->folder) + 1};
    }
    return result;
}

/* true the first time that it is asked about a node. */
static bool is_news(struct cli_workdir *workdir, const char *node)
{
    for (size_t i = 0; i < workdir->told_count; i++)
        if (strcmp(workdir->told[i], node) == 0)
            return false;
    void *told =
        realloc(workdir->told, (workdir->told_count + 1) * sizeof *workdir->told);
    if (told) { /* else it is told again, which is better than never */
        workdir->told = told;
        snprintf(workdir->told[workdir->told_count++], sizeof *workdir->told, "%s", node);
    }
    return true;
}

/* `said` is what enter_workdir printed behind NOT_THERE. */
static void tell_not_there(struct cli_workdir *workdir, const char *node,
                           const char *said)
{
    const bool first = workdir->told_count == 0;
    char *user;
    const int code = (int)strtol(said, &user, 10);
    if (!is_news(workdir, node))
        return;
    if (code == ENOENT)
        fprintf(stderr, "farpool map: node %s has no folder '%s'", node, workdir->folder);
    else
        fprintf(stderr, "farpool map: on node %s user%s cannot enter '%s' (%s)", node,
                user, workdir->folder, strerror(code));
    fputs(
        first
            ? ": its commands run in scratch folders. Name files by absolute paths that "
              "the node has, bring them with --file, or choose a folder with --workdir "
              "(" SCRATCH ": scratch folders, without this line)\n"
            : ": its commands run in scratch folders, too\n",
        stderr);
}

static void print_line(const farpool_output *output, const char *text, size_t size)
{
    FILE *file = output->fd == 2 ? stderr : stdout;
    flockfile(file); /* in one piece */
    fprintf(file, "[%s", output->node);
    if (output->index != FARPOOL_NO_INDEX)
        fprintf(file, " %" PRIu64, output->index);
    fputs("] ", file);
    fwrite(text, 1, size, file);
    fputc('\n', file);
    funlockfile(file);
}

/* On the pool's own thread. */
static void take_line(void *user, const farpool_output *output)
{
    struct cli_workdir *workdir = user;
    const size_t tag = strlen(NOT_THERE);
    char *text = output->text ? malloc(output->size + 1) : NULL;
    size_t size = text ? printable_copy(text, output->text, output->size) : 0;
    cli_progress_lock(workdir->bar);
    if (text) {
        text[size] = '\0';
        if (output->index == FARPOOL_NO_INDEX && strncmp(text, NOT_THERE, tag) == 0)
            tell_not_there(workdir, output->node, text + tag);
        else
            print_line(output, text, size);
    } else if (output->left_out) {
        fprintf(stderr, "[%s] %" PRIu64 " lines left out\n",
                output->node[0] ? output->node : "all", output->left_out);
    }
    cli_progress_unlock(workdir->bar);
    free(text);
}

void cli_workdir_set(struct cli_workdir *workdir, struct cli_progress *bar,
                     farpool_pool_options *options)
{
    workdir->bar = bar;
    if (!workdir->folder)
        return;
    options->initializer = FARPOOL_REF(enter_workdir)->name;
    options->initializer_argument = (farpool_bytes){
        .data = workdir->folder,
        .size = strlen(workdir->folder) + 1,
    };
    options->on_output = take_line;
    options->output_user = workdir;
}

void cli_workdir_fini(struct cli_workdir *workdir)
{
    free(workdir->folder);
    free(workdir->told);
}
