/* SPDX-License-Identifier: Apache-2.0
 *
 * map.c: `farpool map`: a command over arguments or lines of standard input. Inputs are
 * read only as fast as commands end, so that endless input works; outputs are written in
 * the order of the inputs or as they finish, each one whole. */
#include "cli/map.h"
#include "cli/cli.h"
#include "cli/workdir.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FAILED_MAX = 100 };
enum { NEXT_MS = 100, WAITS_BEFORE_TOLD = 10 }; /* of NEXT_MS each */

static int print_commands(struct map *map)
{
    farpool_bytes item;
    char message[256];
    int code;
    while ((code = map_next_command(map, &item, message)) == FARPOOL_OK) {
        const char *text = item.data, *end = text + item.size;
        for (const char *at = text; at < end; at += strlen(at) + 1)
            printf("%s%s", at == text ? "" : " ", at);
        putchar('\n');
    }
    return code == FARPOOL_END ? CLI_OK : CLI_ERROR;
}

/* What a user who waits should know, each thing once: that there is no worker, or that
 * one cannot run this. */
static void explain_waiting(struct map *map)
{
    farpool_pool_info info;
    farpool_error warning;
    if (farpool_pool_warning(map->pool, &warning) == FARPOOL_OK &&
        strcmp(warning.text, map->warning) != 0) {
        snprintf(map->warning, sizeof map->warning, "%s", warning.text);
        cli_progress_hide(&map->bar);
        cli_library_error("map", &warning);
    }
    if (map->done == 0 && ++map->waits == WAITS_BEFORE_TOLD &&
        farpool_pool_get_info(map->pool, &info, NULL) == FARPOOL_OK && info.nodes == 0) {
        cli_progress_hide(&map->bar);
        fputs("farpool map: no worker has joined the coordinator yet: waiting for one\n",
              stderr);
    }
}

/* Takes results until the end. 0, or an exit status when the pool itself failed. */
static int collect(struct map *map, farpool_iterator *iterator)
{
    farpool_error error;
    farpool_bytes output;
    farpool_progress progress;
    uint64_t index;
    int code, result = CLI_OK;
    while ((code = farpool_next(iterator, NEXT_MS, &output, &index, &error)) !=
           FARPOOL_END) {
        if (code == FARPOOL_ETIMEDOUT) {
            fflush(stdout);
            explain_waiting(map);
        } else if (code == FARPOOL_OK) {
            if (!cli_outcome_is_silent(&output))
                cli_progress_hide(&map->bar);
            map->failed += cli_print_outcome("map", &output, index, map->quiet);
            map->done++;
        } else if (error.index != FARPOOL_NO_INDEX && code != FARPOOL_EINPUT) {
            cli_progress_hide(&map->bar);
            map->failed++;
            map->done++;
            if (!map->quiet)
                fprintf(stderr, "farpool map: command %" PRIu64 ": %s\n", index + 1,
                        error.text);
        } else {
            cli_progress_hide(&map->bar);
            result = cli_library_error("map", &error);
            break;
        }
        if (farpool_iterator_progress(iterator, &progress) == FARPOOL_OK)
            cli_progress_show(&map->bar, &progress, map->done, map->failed);
    }
    cli_progress_hide(&map->bar);
    return result;
}

static int run_in(struct map *map, struct cli_workdir *workdir)
{
    farpool_error error;
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    int result = CLI_ERROR;
    map_set_options(map, &options);
    cli_workdir_set(workdir, &map->bar, &options);
    farpool_pool *pool = farpool_open(map->coordinator, &options, &error);
    if (!pool)
        return cli_library_error("map", &error);
    map->pool = pool;
    farpool_iterator *iterator = (map->unordered ? farpool_imap_unordered : farpool_imap)(
        pool, cli_command_function(), map_next_command, map, NULL, &error);
    if (iterator)
        result = collect(map, iterator);
    else
        cli_library_error("map", &error);
    farpool_iterator_free(iterator);
    farpool_terminate(pool, NULL);
    farpool_pool_free(pool);
    if (fflush(stdout) != 0)
        return cli_error("map", "cannot write the output: %s", strerror(errno));
    if (map->failed > FAILED_MAX && !map->quiet) /* the status cannot tell how many */
        fprintf(stderr, "farpool map: %" PRIu64 " of %" PRIu64 " commands failed%s\n",
                map->failed, map->done,
                workdir->told_count ? "; nodes without the current folder are named above"
                                    : "");
    if (result == CLI_OK && map->failed)
        result = map->failed > FAILED_MAX ? FAILED_MAX + 1 : (int)map->failed;
    return result;
}

static int run(struct map *map)
{
    const char *address =
        map->coordinator ? map->coordinator : getenv("FARPOOL_COORDINATOR");
    struct cli_workdir workdir;
    int result = cli_workdir_choose(map->workdir, map->files_count > 0,
                                    !address || !address[0], &workdir);
    cli_progress_open(&map->bar, map->progress);
    if (result == CLI_OK)
        result = run_in(map, &workdir);
    cli_progress_close(&map->bar);
    cli_workdir_fini(&workdir);
    return result;
}

int cli_map(int argc, char **argv)
{
    struct map map = {.submit = false};
    int result = map_parse(&map, argc, argv);
    if (result == CLI_OK)
        result = map.dry_run ? print_commands(&map) : run(&map);
    map_free(&map);
    return result < 0 ? CLI_OK : result;
}
