/* SPDX-License-Identifier: Apache-2.0
 *
 * submit.c: `farpool submit`: the commands of `farpool map`, left with a coordinator. */
#include "cli/cli.h"
#include "cli/map.h"
#include "cli/workdir.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What the other commands want, for scripts; and how to go on, for people. */
static int tell(const struct map *map)
{
    puts(map->name);
    if (fflush(stdout) != 0)
        return cli_error("submit", "it is submitted, but its name cannot be written: %s",
                         strerror(errno));
    if (isatty(STDERR_FILENO))
        fprintf(stderr,
                "farpool submit: %s is left with the coordinator: farpool wait %s, then "
                "farpool results %s\n",
                map->name, map->name, map->name);
    return CLI_OK;
}

static int submit(struct map *map)
{
    farpool_error error;
    farpool_pool_options options = FARPOOL_POOL_OPTIONS;
    struct cli_workdir workdir;
    map_set_options(map, &options);
    int result =
        cli_workdir_submit(map->workdir, map->files_count > 0, &workdir, &options);
    if (result == CLI_OK &&
        farpool_submit(map->coordinator, map->name, cli_command_function(),
                       map_next_command, map, &options, &error) != FARPOOL_OK)
        result = cli_library_error("submit", &error);
    cli_workdir_fini(&workdir);
    return result == CLI_OK ? tell(map) : result;
}

int cli_submit(int argc, char **argv)
{
    struct map map = {.submit = true};
    int result = map_parse(&map, argc, argv);
    if (result == CLI_OK)
        result = submit(&map);
    map_free(&map);
    return result < 0 ? CLI_OK : result;
}
